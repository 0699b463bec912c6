//! `devcontainer-feature.json`: what a feature says about itself.

use std::collections::BTreeMap;

use jsonc_parser::ast::Value;

use super::{FeatureUse, OptionValue, uses};
use crate::import::Text;
use crate::import::devcontainer::reader::{Member, Placed, Reader, below};
use crate::import::devcontainer::settings::{self, Settings};
use crate::manifest::{Note, Problem};

/// What a feature says about itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FeatureMetadata {
    /// Its own name: `node`.
    pub id: String,
    /// Its version: `1.6.3`.
    pub version: Option<String>,
    /// What it is called in a user interface.
    pub name: Option<String>,
    /// The options that it has.
    pub options: BTreeMap<String, OptionDecl>,
    /// Features that must be installed before it, and are installed for it.
    pub depends_on: Vec<FeatureUse>,
    /// Features that are installed before it, if they are at all: names without a version.
    pub installs_after: Vec<String>,
    /// Names that it had before.
    pub legacy_ids: Vec<String>,
    /// Whether it is no longer kept up.
    pub deprecated: bool,
    /// Variables that are set in the image before it is installed, in the way of a Dockerfile: `${PATH}` is what the
    /// variable was before.
    pub container_env: BTreeMap<String, String>,
    /// What is merged with what others say about the container.
    pub settings: Settings,
    /// What a user should know about how it was read.
    pub notes: Vec<Note>,
}

/// An option that a feature has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionDecl {
    /// Whether it is a yes or a no, and not a text.
    pub boolean: bool,
    /// What it is if nothing is said.
    pub default: Option<OptionValue>,
    /// All that it can be; absent is anything.
    pub one_of: Option<Vec<String>>,
    /// What it may well be.
    pub proposals: Vec<String>,
}

/// The keys besides those that are merged.
const OWN_KEYS: [&str; 14] = [
    "$schema",
    "containerEnv",
    "id",
    "version",
    "name",
    "description",
    "documentationURL",
    "licenseURL",
    "keywords",
    "options",
    "dependsOn",
    "installsAfter",
    "legacyIds",
    "deprecated",
];

/// Keys that are merged, and that a feature does not have, or not in that way.
const NOT_OF_FEATURES: [&str; 14] = [
    "containerEnv",
    "initializeCommand",
    "waitFor",
    "containerUser",
    "remoteUser",
    "userEnvProbe",
    "remoteEnv",
    "overrideCommand",
    "forwardPorts",
    "portsAttributes",
    "otherPortsAttributes",
    "shutdownAction",
    "updateRemoteUserUID",
    "hostRequirements",
];

impl FeatureMetadata {
    /// Reads a `devcontainer-feature.json`. What is not known is told in its notes.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &Text<'_>) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader::new(text);
        let read = reader.json().and_then(|value| whole(&mut reader, &value));
        let (metadata, notes) = reader.finish(read)?;
        Ok(Self { notes, ..metadata })
    }
}

fn whole(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<FeatureMetadata> {
    if !matches!(value, Value::Object(_)) {
        reader.not_an_object(value);
        return None;
    }
    let mut known = OWN_KEYS.to_vec();
    known.extend(settings::KEYS.iter().filter(|key| !NOT_OF_FEATURES.contains(key)));
    let mut metadata = FeatureMetadata::default();
    let mut id = None;
    for member in reader.known_members("", &known, value) {
        let (key, value) = (member.key, member.value);
        match key {
            "id" => id = reader.filled(key, value),
            "version" => metadata.version = reader.string(key, value).map(|text| text.value),
            "name" => metadata.name = reader.string(key, value).map(|text| text.value),
            "options" => metadata.options = options(reader, value),
            "dependsOn" => metadata.depends_on = uses(reader, key, value),
            "installsAfter" => metadata.installs_after = plain(reader.strings(key, value)),
            "legacyIds" => metadata.legacy_ids = plain(reader.strings(key, value)),
            "containerEnv" => {
                let texts = settings::texts(reader, key, value);
                metadata.container_env = texts.into_iter().map(|(name, text)| (name, text.value)).collect();
            }
            "deprecated" => deprecated(reader, &mut metadata, &member),
            "$schema" | "description" | "documentationURL" | "licenseURL" | "keywords" => {}
            _ => metadata.settings.take(reader, &member),
        }
    }
    match id {
        Some(id) => metadata.id = id.value,
        None if reader.problems.is_empty() => {
            let at = reader.place(value);
            let problem = Problem::new("no-id", "the feature has no `id`").at(at);
            reader.problems.push(problem.hint("add the `id`, which is also the name of its folder"));
        }
        None => {}
    }
    Some(metadata)
}

fn plain(texts: Vec<Placed<String>>) -> Vec<String> {
    texts.into_iter().map(|text| text.value).collect()
}

fn deprecated(reader: &mut Reader<'_>, metadata: &mut FeatureMetadata, member: &Member<'_, '_>) {
    metadata.deprecated = reader.boolean(member.key, member.value).unwrap_or_default();
    if metadata.deprecated {
        let at = reader.at(member.at.clone());
        reader.note(at, "this feature is deprecated: it is no longer kept up");
    }
}

fn options(reader: &mut Reader<'_>, value: &Value<'_>) -> BTreeMap<String, OptionDecl> {
    reader
        .members("options", value)
        .into_iter()
        .filter_map(|member| {
            let path = below("options", member.key);
            Some((member.key.to_owned(), option(reader, &path, member.value)?))
        })
        .collect()
}

fn option(reader: &mut Reader<'_>, path: &str, value: &Value<'_>) -> Option<OptionDecl> {
    let mut boolean = None;
    let mut decl = OptionDecl { boolean: false, default: None, one_of: None, proposals: Vec::new() };
    let known = ["type", "description", "default", "enum", "proposals"];
    for member in reader.known_members(path, &known, value) {
        let path = below(path, member.key);
        match member.key {
            "type" => {
                boolean = reader.word(&path, member.value, &[("boolean", true), ("string", false)]);
            }
            "default" => decl.default = super::option(reader, &path, member.value),
            "enum" => decl.one_of = Some(plain(reader.strings(&path, member.value))),
            "proposals" => decl.proposals = plain(reader.strings(&path, member.value)),
            _ => {}
        }
    }
    // Without a type, the default shows which it is.
    decl.boolean = boolean.unwrap_or(matches!(decl.default, Some(OptionValue::Boolean(_))));
    Some(decl)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::devcontainer::Phase;

    fn parse(text: &str) -> Result<FeatureMetadata, Vec<Problem>> {
        FeatureMetadata::parse(&Text::new("devcontainer-feature.json", text))
    }

    #[test]
    fn a_feature_says_what_it_is_and_what_it_adds() {
        let feature = parse(
            r#"{
                "id": "node", "version": "1.2.3", "name": "Node", "description": "x", "keywords": ["a"],
                "options": {
                    "version": { "type": "string", "proposals": ["lts"], "default": "lts" },
                    "pnpm": { "type": "boolean", "default": false },
                    "manager": { "type": "string", "enum": ["n", "nvm"], "default": "nvm" }
                },
                "dependsOn": { "ghcr.io/devcontainers/features/common-utils:2": { "zsh": true } },
                "installsAfter": ["ghcr.io/devcontainers/features/git"],
                "legacyIds": ["nodejs"],
                "containerEnv": { "PATH": "/usr/local/nvm:${PATH}" },
                "capAdd": ["SYS_PTRACE"],
                "entrypoint": "/usr/local/share/init.sh",
                "mounts": [{ "type": "volume", "source": "n-${devcontainerId}", "target": "/n" }],
                "postStartCommand": "true"
            }"#,
        )
        .unwrap();
        assert_eq!((feature.id.as_str(), feature.version.as_deref()), ("node", Some("1.2.3")));
        assert!(feature.options["pnpm"].boolean);
        assert_eq!(feature.options["manager"].one_of.as_ref().unwrap().len(), 2);
        assert_eq!(feature.depends_on[0].options["zsh"], OptionValue::Boolean(true));
        assert_eq!(feature.installs_after, ["ghcr.io/devcontainers/features/git"]);
        assert_eq!(feature.container_env["PATH"], "/usr/local/nvm:${PATH}");
        assert_eq!(feature.settings.mounts.len(), 1);
        assert!(feature.settings.hooks.contains_key(&Phase::PostStart));
        assert_eq!(feature.notes, []);
    }

    #[test]
    fn every_key_that_is_known_is_read() {
        let told = ["$schema", "description", "documentationURL", "licenseURL", "keywords", "customizations"];
        let of_others = settings::KEYS.iter().filter(|key| !NOT_OF_FEATURES.contains(key));
        for key in OWN_KEYS.iter().chain(of_others).filter(|key| !told.contains(key)) {
            let problems = parse(&format!(r#"{{ "{key}": [[[]]] }}"#)).expect_err(key);
            assert!(problems[0].what.starts_with(&format!("`{key}")), "{key}: {problems:?}");
        }
    }

    #[test]
    fn what_a_feature_may_not_say_is_told() {
        let feature =
            parse(r#"{ "id": "x", "version": "1", "remoteUser": "me", "deprecated": true }"#).unwrap();
        let notes: Vec<&str> = feature.notes.iter().map(|note| note.text.as_str()).collect();
        assert_eq!(
            notes,
            [
                "`remoteUser` is not known, and nothing is done with it",
                "this feature is deprecated: it is no longer kept up"
            ]
        );
        assert_eq!(feature.settings.remote_user, None);
    }

    #[test]
    fn what_is_wrong_is_told_at_once() {
        let problems = parse(r#"{ "options": { "a": { "type": "int" } }, "init": 1 }"#).unwrap_err();
        assert_eq!(problems.len(), 2);
        assert_eq!(parse("{}").unwrap_err()[0].code, "no-id");
        assert_eq!(parse("[]").unwrap_err()[0].code, "wrong-type");
    }
}
