//! Secrets: their values by reference, their keyed digests, and the store that keeps what was taken from the
//! environment.
//!
//! The key lies in the configuration folder, apart from the records that hold the digests.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use setpoint_model::digest::Digest;
use setpoint_model::manifest::{EnvValue, Part, Secret, SecretSource};
use setpoint_model::names::SecretName;

use crate::paths::Roots;

/// What went wrong with a secret. No variant ever carries a value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set, and no earlier value is kept.
    #[error("secret `{name}`: the environment variable {variable} is not set")]
    NotSet {
        /// Which secret.
        name: SecretName,
        /// The variable that it is taken from.
        variable: String,
    },
    /// The command failed.
    #[error("secret `{name}`: `{command}` failed: {why}")]
    Command {
        /// Which secret.
        name: SecretName,
        /// The command.
        command: String,
        /// How it ended, and what it said.
        why: String,
    },
    /// A file could not be read or written.
    #[error("secret `{name}`: cannot {what} {}: {source}", path.display())]
    Io {
        /// Which secret.
        name: String,
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The values of secrets as far as they were resolved.
pub type Values = BTreeMap<SecretName, String>;

/// Keeps the values of one project's secrets (0600) and digests them with a key of this machine's.
#[derive(Debug, Clone)]
pub struct Secrets {
    kept: PathBuf,
    key: PathBuf,
}

impl Secrets {
    /// The secrets of the project in this folder.
    #[must_use]
    pub fn new(roots: &Roots, project_root: &Path) -> Self {
        let project = Digest::of_bytes(project_root.as_os_str().as_encoded_bytes()).short();
        Self { kept: roots.state.join("secrets/v1").join(project), key: roots.config.join("fingerprint.key") }
    }

    /// Takes from the environment the values that are set there. Runs nothing and reads no file of the user's,
    /// so that a look at drift never does either.
    pub fn from_environment(
        &self,
        declared: &BTreeMap<SecretName, Secret>,
        environment: &BTreeMap<String, String>,
    ) -> Values {
        let value = |secret: &Secret| match &secret.source {
            SecretSource::Env { name } => environment.get(name).cloned(),
            SecretSource::File { .. } | SecretSource::Command { .. } => None,
        };
        declared.iter().filter_map(|(name, secret)| Some((name.clone(), value(secret)?))).collect()
    }

    /// Resolves secrets: reads files and runs commands where that is how they are declared.
    ///
    /// # Errors
    /// If one has no value.
    pub fn resolve(
        &self,
        declared: &BTreeMap<SecretName, Secret>,
        wanted: &[SecretName],
        environment: &BTreeMap<String, String>,
        home: Option<&Path>,
    ) -> Result<Values, SecretError> {
        let mut values = Values::new();
        for name in wanted {
            let Some(secret) = declared.get(name) else { continue };
            let value = match &secret.source {
                SecretSource::Env { name: variable } => match environment.get(variable) {
                    Some(value) => value.clone(),
                    None => self.kept(name)?.ok_or_else(|| SecretError::NotSet {
                        name: name.clone(),
                        variable: variable.clone(),
                    })?,
                },
                SecretSource::File { path } => {
                    let path = crate::paths::expand_home(path, home);
                    let text = fs::read_to_string(&path).map_err(|source| io(name, "read", &path, source))?;
                    text.trim_end_matches(['\n', '\r']).to_owned()
                }
                SecretSource::Command { argv } => run(name, argv)?,
            };
            values.insert(name.clone(), value);
        }
        Ok(values)
    }

    /// Keeps values for sessions to come.
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn keep(&self, values: &Values) -> Result<(), SecretError> {
        values.iter().try_for_each(|(name, value)| self.keep_one(name, value))
    }

    /// The values that an earlier `up` kept.
    ///
    /// # Errors
    /// If a kept value cannot be read.
    pub fn kept_values<'a>(
        &self,
        names: impl IntoIterator<Item = &'a SecretName>,
    ) -> Result<Values, SecretError> {
        let mut values = Values::new();
        for name in names {
            if let Some(value) = self.kept(name)? {
                values.insert(name.clone(), value);
            }
        }
        Ok(values)
    }

    /// The keyed digest of a value. The key is made the first time.
    ///
    /// # Errors
    /// If the key can be neither read nor made.
    pub fn digest(&self, value: &str) -> Result<Digest, SecretError> {
        let hash = blake3::keyed_hash(&self.key()?, value.as_bytes());
        Ok(Digest::from_bytes(*hash.as_bytes()))
    }

    fn key(&self) -> Result<[u8; 32], SecretError> {
        let of_key = |what, source| SecretError::Io {
            name: "key of fingerprints".to_owned(),
            what,
            path: self.key.clone(),
            source,
        };
        let read = || {
            let bytes = fs::read(&self.key)?;
            <[u8; 32]>::try_from(bytes).map_err(|_| std::io::Error::other("it is not 32 bytes long"))
        };
        match read() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => return other.map_err(|error| of_key("read", error)),
        }
        let mut key = [0_u8; 32];
        fs::File::open("/dev/urandom")
            .and_then(|mut random| std::io::Read::read_exact(&mut random, &mut key))
            .map_err(|error| of_key("make", error))?;
        write_private(&self.key, &key, true).map_err(|error| of_key("write", error))?;
        // Another process may have been first: what lies there now is the key.
        read().map_err(|error| of_key("read", error))
    }

    fn kept(&self, name: &SecretName) -> Result<Option<String>, SecretError> {
        let path = self.kept.join(name.as_str());
        match fs::read_to_string(&path) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(io(name, "read", &path, source)),
        }
    }

    fn keep_one(&self, name: &SecretName, value: &str) -> Result<(), SecretError> {
        if self.kept(name)?.as_deref() == Some(value) {
            return Ok(());
        }
        let path = self.kept.join(name.as_str());
        write_private(&path, value.as_bytes(), false).map_err(|source| io(name, "write", &path, source))
    }
}

fn io(name: &SecretName, what: &'static str, path: &Path, source: std::io::Error) -> SecretError {
    SecretError::Io { name: name.to_string(), what, path: path.to_owned(), source }
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

/// Writes a file that only its owner may read, whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8], keep_existing: bool) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut temporary = tempfile::Builder::new().permissions(private()).tempfile_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    if keep_existing {
        match temporary.persist_noclobber(path) {
            Err(error) if error.error.kind() != std::io::ErrorKind::AlreadyExists => Err(error.error),
            _ => Ok(()),
        }
    } else {
        temporary.persist(path).map(drop).map_err(|error| error.error)
    }
}

fn private() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o600)
}

/// The text of a value with its secrets put in, and the variables of the container that it refers to. A secret without
/// a value is left out.
#[must_use]
pub fn expand(value: &EnvValue, values: &Values, inside: &BTreeMap<String, String>) -> String {
    value
        .parts()
        .iter()
        .map(|part| match part {
            Part::Literal(text) => text.as_str(),
            Part::Secret(name) => values.get(name).map_or("", String::as_str),
            Part::Inside { name, default } => inside.get(name).unwrap_or(default),
        })
        .collect()
}

/// Hides the values of secrets in text that is shown or kept: as they are, in base64 wherever they stand in what
/// was encoded, and percent-encoded. Values shorter than four characters stay: hiding them would tear every text
/// apart and hide nothing.
#[derive(Debug, Clone, Default)]
pub struct Mask(Vec<String>);

/// The shortest part of a base64 text that is taken for a secret's.
const SHORTEST_ENCODED: usize = 6;

impl Mask {
    /// A mask of these values.
    #[must_use]
    pub fn new(values: &Values) -> Self {
        Self::of(values.values().map(String::as_str))
    }

    /// A mask of these texts: each line of each.
    #[must_use]
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hidden: Vec<String> = texts
            .into_iter()
            .flat_map(str::lines)
            .map(str::to_owned)
            .filter(|v| v.len() >= 4)
            .flat_map(|value| forms(&value))
            .collect();
        hidden.sort_by_key(|value| std::cmp::Reverse(value.len()));
        hidden.dedup();
        Self(hidden)
    }

    /// The bytes of the longest text that is hidden.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.0.first().map_or(0, String::len)
    }

    /// The text with each value replaced by `***`.
    #[must_use]
    pub fn apply(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, value| text.replace(value, "***"))
    }
}

/// The ways in which a value may stand in a text.
fn forms(value: &str) -> Vec<String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    let mut forms = vec![value.to_owned()];
    // A value within something longer begins at one of three offsets; what does not depend on its neighbours is
    // the middle.
    for (offset, skipped) in [(0, 0), (1, 2), (2, 3)] {
        let padded = [vec![0; offset], value.as_bytes().to_vec()].concat();
        let whole = padded.len() / 3 * 4;
        for encoded in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            let middle = encoded.get(skipped..whole).unwrap_or_default();
            if middle.len() >= SHORTEST_ENCODED {
                forms.push(middle.to_owned());
            }
        }
    }
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    for upper in [true, false] {
        let encoded = value.bytes().map(|byte| match byte {
            byte if kept(byte) => char::from(byte).to_string(),
            byte if upper => format!("%{byte:02X}"),
            byte => format!("%{byte:02x}"),
        });
        forms.push(encoded.collect());
    }
    forms
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    #[test]
    fn a_secret_is_hidden_in_whatever_form() {
        let secret = "p@ss/w0rd~~??>>";
        let mask = Mask::new(&Values::from([(SecretName::new("s").unwrap(), secret.to_owned())]));
        assert_eq!(mask.apply(&format!("a {secret} b")), "a *** b");
        assert_eq!(mask.apply("p%40ss%2Fw0rd~~%3F%3F%3E%3E"), "***");
        assert_eq!(mask.apply("p%40ss%2fw0rd~~%3f%3f%3e%3e"), "***");
        for before in ["", "u", "us", "user:", "user1:"] {
            for after in ["", "x", "xy"] {
                let text = format!("{before}{secret}{after}");
                for encoded in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                    let hidden = mask.apply(&encoded);
                    // A few characters at the edges also hold bits of what stands beside.
                    assert!(
                        hidden.contains("***") && hidden.len() <= encoded.len() - 12,
                        "{encoded} {hidden}"
                    );
                }
            }
        }
        assert_eq!(mask.apply("nothing of it"), "nothing of it");
    }
}
