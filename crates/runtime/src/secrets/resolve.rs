//! From where secrets are declared to come from to their values and digests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use setpoint_model::desired::derived_digest;
use setpoint_model::digest::Digest;
use setpoint_model::manifest::{Form, Secret, SecretSource, needed_secrets};
use setpoint_model::names::SecretName;
use setpoint_model::template::{Given, Template};

use super::{SecretError, Secrets, Values, io, write_private};
use crate::random;

/// What values come from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// What is declared.
    pub declared: &'a BTreeMap<SecretName, Secret>,
    /// The caller's environment.
    pub variables: &'a BTreeMap<String, String>,
    /// The caller's home, for paths that begin with `~/`.
    pub home: Option<&'a Path>,
}

impl Secrets {
    /// The values that can be had without running anything or reading a file of the user's, so that a look at drift
    /// never does either: those that the environment has, and those that were generated.
    ///
    /// # Errors
    /// If a kept value cannot be read.
    pub fn at_hand(&self, sources: &Sources<'_>) -> Result<Values, SecretError> {
        let mut values = Values::new();
        for (name, secret) in sources.declared {
            let value = match &secret.source {
                SecretSource::Env { name } => sources.variables.get(name).cloned(),
                SecretSource::Generate { .. } => self.kept(name)?,
                SecretSource::File { .. } | SecretSource::Command { .. } | SecretSource::Derive { .. } => {
                    None
                }
            };
            values.extend(value.map(|value| (name.clone(), value)));
        }
        Ok(values)
    }

    /// The values of secrets, and of those that they are derived from: reads files and runs commands where that is how
    /// they are declared.
    ///
    /// # Errors
    /// If one has no value.
    pub fn resolve<'a>(
        &self,
        sources: &Sources<'a>,
        wanted: impl IntoIterator<Item = &'a SecretName>,
    ) -> Result<Values, SecretError> {
        let mut values = Values::new();
        let needed = needed_secrets(sources.declared, wanted);
        let declared = || needed.iter().filter_map(|name| Some((*name, sources.declared.get(*name)?)));
        for (name, secret) in declared() {
            if let Some(value) = self.value(name, secret, sources)? {
                values.insert(name.clone(), value);
            }
        }
        for (name, _) in declared() {
            derive(name, sources.declared, &mut values)?;
        }
        Ok(values)
    }

    /// The value of a secret that is not derived.
    fn value(
        &self,
        name: &SecretName,
        secret: &Secret,
        sources: &Sources<'_>,
    ) -> Result<Option<String>, SecretError> {
        Ok(Some(match &secret.source {
            SecretSource::Env { name: variable } => match sources.variables.get(variable) {
                Some(value) => value.clone(),
                None => self
                    .kept(name)?
                    .ok_or_else(|| SecretError::NotSet { name: name.clone(), variable: variable.clone() })?,
            },
            SecretSource::File { path } => {
                let path = crate::paths::expand_home(path, sources.home);
                let text = fs::read_to_string(&path).map_err(|source| io(name, "read", &path, source))?;
                text.trim_end_matches(['\n', '\r']).to_owned()
            }
            SecretSource::Command { argv } => run(name, argv)?,
            SecretSource::Generate { .. } => {
                self.kept(name)?.ok_or_else(|| SecretError::NotGenerated { name: name.clone() })?
            }
            SecretSource::Derive { .. } => return Ok(None),
        }))
    }

    /// What is missing of the secrets that are needed for these. Nothing is generated, and no command is run: whether one
    /// gives a value is not known. `before` are those that were generated once.
    #[must_use]
    pub fn missing<'a>(
        &self,
        sources: &Sources<'a>,
        wanted: impl IntoIterator<Item = &'a SecretName>,
        before: &BTreeSet<SecretName>,
    ) -> Vec<SecretError> {
        let of = |name: &SecretName| {
            let secret = sources.declared.get(name)?;
            match &secret.source {
                SecretSource::Command { .. } | SecretSource::Derive { .. } => None,
                SecretSource::Generate { .. } => match self.kept(name) {
                    Ok(None) if before.contains(name) => {
                        Some(SecretError::Lost { name: name.clone(), path: self.kept.join(name.as_str()) })
                    }
                    kept => kept.err(),
                },
                SecretSource::Env { .. } | SecretSource::File { .. } => {
                    self.value(name, secret, sources).err()
                }
            }
        };
        needed_secrets(sources.declared, wanted).into_iter().filter_map(of).collect()
    }

    /// Generates those of the secrets that are needed for these and have no value yet, and gives the names of all that
    /// are generated, with the digests of their values. `before` are those that were generated once.
    ///
    /// # Errors
    /// If one of those is lost, or a value cannot be kept.
    pub fn generate<'a>(
        &self,
        declared: &'a BTreeMap<SecretName, Secret>,
        wanted: impl IntoIterator<Item = &'a SecretName>,
        before: &BTreeSet<SecretName>,
    ) -> Result<BTreeMap<SecretName, Digest>, SecretError> {
        let mut generated = BTreeMap::new();
        for name in needed_secrets(declared, wanted) {
            let Some(SecretSource::Generate { form }) = declared.get(name).map(|secret| &secret.source)
            else {
                continue;
            };
            let path = self.kept.join(name.as_str());
            if self.kept(name)?.is_none() {
                if before.contains(name) {
                    return Err(SecretError::Lost { name: name.clone(), path });
                }
                let value = made(*form).map_err(|source| io(name, "generate", &path, source))?;
                // Whoever is first at it has made it: what lies there then is the secret.
                write_private(&path, value.as_bytes(), true)
                    .map_err(|source| io(name, "write", &path, source))?;
            }
            let value = self.kept(name)?.unwrap_or_default();
            generated.insert(name.clone(), self.digest(&value)?);
        }
        Ok(generated)
    }

    /// Keyed digests of values, and of all that can be derived from them. That of a derived one is made of its text and
    /// its inputs.
    ///
    /// # Errors
    /// If the key can be neither read nor made.
    pub fn digests(
        &self,
        declared: &BTreeMap<SecretName, Secret>,
        values: &Values,
    ) -> Result<BTreeMap<SecretName, Digest>, SecretError> {
        let is_derived = |name: &SecretName| {
            declared.get(name).is_some_and(|one| matches!(one.source, SecretSource::Derive { .. }))
        };
        let mut digests = BTreeMap::new();
        for (name, value) in values.iter().filter(|(name, _)| !is_derived(name)) {
            digests.insert(name.clone(), self.digest(value)?);
        }
        loop {
            let known = digests.len();
            for (name, secret) in declared {
                if let SecretSource::Derive { text, template } = &secret.source {
                    let inputs = template.secrets().iter().map(|input| Some((input, *digests.get(input)?)));
                    if let Some(inputs) = inputs.collect::<Option<Vec<_>>>() {
                        digests.insert(name.clone(), derived_digest(text, &inputs));
                    }
                }
            }
            if digests.len() == known {
                return Ok(digests);
            }
        }
    }
}

/// What a template may be filled in with, of secrets.
pub(crate) fn given<'a>(
    template: &'a Template,
    declared: &BTreeMap<SecretName, Secret>,
    values: &'a Values,
) -> Given<'a> {
    let is_generated = |name: &&SecretName| {
        declared.get(*name).is_some_and(|one| matches!(one.source, SecretSource::Generate { .. }))
    };
    let of = |name: &'a SecretName| Some((name, values.get(name)?.as_str()));
    Given {
        secrets: template.secrets().iter().filter_map(of).collect(),
        generated: template.secrets().iter().filter(is_generated).collect(),
        ..Given::default()
    }
}

/// Derives a secret, and before it those that it is derived from. None is derived from itself: the manifest says so.
fn derive(
    name: &SecretName,
    declared: &BTreeMap<SecretName, Secret>,
    values: &mut Values,
) -> Result<(), SecretError> {
    let Some(SecretSource::Derive { template, .. }) = declared.get(name).map(|secret| &secret.source) else {
        return Ok(());
    };
    if values.contains_key(name) {
        return Ok(());
    }
    for input in template.secrets() {
        derive(input, declared, values)?;
    }
    let rendered = template.render(&given(template, declared, values));
    let value = rendered.map_err(|error| {
        let what = super::Mask::new(values).apply(&error.what);
        SecretError::Derive { name: name.clone(), what }
    })?;
    values.insert(name.clone(), value);
    Ok(())
}

/// A new value.
fn made(form: Form) -> std::io::Result<String> {
    const PASSWORD: usize = 32;
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    Ok(match form {
        Form::Hex16 => random::bytes::<16>()?.iter().map(|byte| format!("{byte:02x}")).collect(),
        Form::Hex32 => random::bytes::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect(),
        Form::Base64 => STANDARD.encode(random::bytes::<32>()?),
        Form::Bcrypt => {
            let mut password = String::new();
            while password.len() < PASSWORD {
                // Those past the last whole round would make some letters more likely.
                let even = random::bytes::<64>()?.into_iter().filter(|byte| *byte < 248);
                let letters = even.map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
                password.extend(letters.take(PASSWORD - password.len()));
            }
            password
        }
    })
}

fn run(name: &SecretName, argv: &[String]) -> Result<String, SecretError> {
    let failed =
        |why: String| SecretError::Command { name: name.clone(), command: shell_words::join(argv), why };
    let [program, arguments @ ..] = argv else { return Err(failed("it is empty".to_owned())) };
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("{}; {}", output.status, said.trim().lines().last().unwrap_or_default())));
    }
    let value = String::from_utf8(output.stdout).map_err(|_| failed("its output is not UTF-8".to_owned()))?;
    Ok(value.trim_end_matches(['\n', '\r']).to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::paths::Roots;
    use setpoint_model::manifest::{Layer, parse};

    fn declared(text: &str) -> BTreeMap<SecretName, Secret> {
        let text = format!("setpoint = 1\n[env.dev]\n{text}");
        parse(&[Layer { name: "setpoint.toml", text: &text }], "shop").unwrap().secrets
    }

    fn name(text: &str) -> SecretName {
        SecretName::new(text).unwrap()
    }

    const SECRETS: &str = r#"
        [secret.pw]
        generate = "bcrypt"
        [secret.key]
        env = "KEY"
        [secret.line]
        derive = "admin:{{ bcrypt(secret.pw) }}"
        [secret.both]
        derive = "{{ secret.line }} {{ hmac(secret.key, secret.pw) }}"
    "#;

    #[test]
    fn what_is_generated_is_generated_once_and_its_loss_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots { state: folder.path().join("state"), config: folder.path().join("config") };
        let secrets = Secrets::new(&roots, Path::new("/p"));
        let declared = declared(SECRETS);
        let pw = name("pw");
        let none = BTreeSet::new();
        let sources = Sources { declared: &declared, variables: &BTreeMap::new(), home: None };
        assert!(matches!(secrets.resolve(&sources, [&pw]), Err(SecretError::NotGenerated { .. })));
        let first = secrets.generate(&declared, [&name("line")], &none).unwrap();
        assert_eq!(first.keys().collect::<Vec<_>>(), [&pw]);
        let value = secrets.resolve(&sources, [&pw]).unwrap()[&pw].clone();
        assert!(value.len() == 32 && value.chars().all(|c| c.is_ascii_alphanumeric()), "{value}");
        let before = BTreeSet::from([pw.clone()]);
        assert_eq!(secrets.generate(&declared, [&pw], &before).unwrap(), first);
        assert_eq!(secrets.at_hand(&sources).unwrap()[&pw], value);
        fs::remove_file(secrets.kept.join("pw")).unwrap();
        let lost = secrets.generate(&declared, [&pw], &before);
        assert!(matches!(lost, Err(SecretError::Lost { .. })), "{lost:?}");
        // Whoever writes another value there has a secret again.
        fs::write(secrets.kept.join("pw"), "another").unwrap();
        assert_ne!(secrets.generate(&declared, [&pw], &before).unwrap(), first);
    }

    #[test]
    fn what_is_derived_changes_with_what_it_is_derived_from() {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots { state: folder.path().join("state"), config: folder.path().join("config") };
        let secrets = Secrets::new(&roots, Path::new("/p"));
        let declared = declared(SECRETS);
        let both = name("both");
        secrets.generate(&declared, [&both], &BTreeSet::new()).unwrap();
        let with = |key: &str| {
            let variables = BTreeMap::from([("KEY".to_owned(), key.to_owned())]);
            let sources = Sources { declared: &declared, variables: &variables, home: None };
            let values = secrets.resolve(&sources, [&both]).unwrap();
            let digests = secrets.digests(&declared, &values).unwrap();
            assert_eq!(digests, secrets.digests(&declared, &secrets.at_hand(&sources).unwrap()).unwrap());
            (values[&both].clone(), digests[&both], digests[&name("line")])
        };
        let (value, both_before, line) = with("a");
        assert!(value.starts_with("admin:$2b$10$"), "{value}");
        assert_eq!(with("a"), (value.clone(), both_before, line));
        let (other, both_after, same) = with("b");
        assert!(other != value && both_after != both_before && same == line);
    }
}
