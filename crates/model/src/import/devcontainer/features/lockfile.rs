//! `devcontainer-lock.json`: which feature was meant exactly, when it was last decided.

use std::collections::BTreeMap;

use jsonc_parser::ast::Value;
use serde::Serialize;

use crate::import::Text;
use crate::import::devcontainer::reader::{Reader, below};
use crate::manifest::{Note, Problem};

/// A lock file. The features of the project's own folders are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Lockfile {
    /// What is locked, by how it is called in devcontainer.json, in small letters.
    pub features: BTreeMap<String, Locked>,
}

/// A feature that is locked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Locked {
    /// Its whole version: `1.6.3`.
    pub version: String,
    /// Where just this one is: the name in the registry with the digest, or the address of the archive.
    pub resolved: String,
    /// The digest of what is fetched: `sha256:...`.
    pub integrity: String,
    /// The features that it depends on, called as its metadata calls them, in small letters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
}

/// How what is installed differs from what is locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// It is not locked.
    Missing {
        /// How it is called.
        feature: String,
    },
    /// Something else is locked.
    Changed {
        /// How it is called.
        feature: String,
        /// What of it differs: `version`, `resolved`, `integrity` or `dependsOn`.
        field: &'static str,
        /// What is locked.
        locked: String,
        /// What would be installed.
        wanted: String,
    },
    /// It is locked, and not installed.
    Unused {
        /// How it is called.
        feature: String,
    },
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing { feature } => write!(f, "`{feature}` is not locked"),
            Self::Changed { feature, field, locked, wanted } => {
                write!(f, "the {field} of `{feature}` is locked as `{locked}`, and would be `{wanted}`")
            }
            Self::Unused { feature } => write!(f, "`{feature}` is locked, and not used"),
        }
    }
}

impl Lockfile {
    /// What the lock file beside a file of this name is called.
    #[must_use]
    pub fn file_name(of: &str) -> &'static str {
        if of.starts_with('.') { ".devcontainer-lock.json" } else { "devcontainer-lock.json" }
    }

    /// Reads a lock file, with notes on what of it is not known. An empty file is one in which nothing is locked yet:
    /// it asks for a lock file to be kept.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &Text<'_>) -> Result<(Self, Vec<Note>), Vec<Problem>> {
        if text.text().trim().is_empty() {
            return Ok((Self::default(), Vec::new()));
        }
        let mut reader = Reader::new(text);
        let read = reader.json().map(|value| whole(&mut reader, &value));
        reader.finish(read)
    }

    /// Its text: the same for the same features. There is no end of the last line, as the reference implementation
    /// writes none and compares whole files.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Maps of texts and lists of texts are always JSON.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// How what would be installed differs from what is locked; nothing is what a frozen lock file asks for.
    #[must_use]
    pub fn frozen(&self, wanted: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (feature, wanted) in &wanted.features {
            match self.features.get(feature) {
                None => differences.push(Difference::Missing { feature: feature.clone() }),
                Some(locked) => differences.extend(locked.differences(feature, wanted)),
            }
        }
        let unused = self.features.keys().filter(|feature| !wanted.features.contains_key(*feature));
        differences.extend(unused.map(|feature| Difference::Unused { feature: feature.clone() }));
        differences
    }
}

impl Locked {
    fn differences(&self, feature: &str, wanted: &Self) -> Vec<Difference> {
        let names = |locked: &Self| {
            let mut names = locked.depends_on.clone();
            names.sort();
            names.join(", ")
        };
        [
            ("version", self.version.clone(), wanted.version.clone()),
            ("resolved", self.resolved.clone(), wanted.resolved.clone()),
            ("integrity", self.integrity.clone(), wanted.integrity.clone()),
            ("dependsOn", names(self), names(wanted)),
        ]
        .into_iter()
        .filter(|(_, locked, wanted)| locked != wanted)
        .map(|(field, locked, wanted)| Difference::Changed {
            feature: feature.to_owned(),
            field,
            locked,
            wanted,
        })
        .collect()
    }
}

fn whole(reader: &mut Reader<'_>, value: &Value<'_>) -> Lockfile {
    let mut lockfile = Lockfile::default();
    for member in reader.known_members("", &["features"], value) {
        for feature in reader.members(member.key, member.value) {
            let path = below(member.key, feature.key);
            if let Some(locked) = locked(reader, &path, feature.value) {
                lockfile.features.insert(feature.key.to_lowercase(), locked);
            }
        }
    }
    lockfile
}

fn locked(reader: &mut Reader<'_>, path: &str, value: &Value<'_>) -> Option<Locked> {
    let (mut version, mut resolved, mut integrity, mut depends_on) = (None, None, None, Vec::new());
    let problems = reader.problems.len();
    for member in reader.known_members(path, &["version", "resolved", "integrity", "dependsOn"], value) {
        let path = below(path, member.key);
        match member.key {
            "version" => version = reader.filled(&path, member.value),
            "resolved" => resolved = reader.filled(&path, member.value),
            "integrity" => integrity = reader.filled(&path, member.value),
            _ => depends_on = reader.strings(&path, member.value),
        }
    }
    if reader.problems.len() > problems {
        return None;
    }
    let given = [("version", &version), ("resolved", &resolved), ("integrity", &integrity)];
    if let Some((missing, _)) = given.iter().find(|(_, value)| value.is_none()) {
        let problem = Problem::new("lock-incomplete", format!("`{path}` has no `{missing}`"));
        reader.problem(value, problem.hint("remove the feature from the lock file, and it is locked anew"));
        return None;
    }
    Some(Locked {
        version: version?.value,
        resolved: resolved?.value,
        integrity: integrity?.value,
        depends_on: depends_on.into_iter().map(|name| name.value.to_lowercase()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked(version: &str) -> Locked {
        Locked {
            version: version.to_owned(),
            resolved: "ghcr.io/a/b@sha256:00".to_owned(),
            integrity: "sha256:00".to_owned(),
            depends_on: vec![],
        }
    }

    fn lockfile(features: &[(&str, Locked)]) -> Lockfile {
        Lockfile {
            features: features.iter().map(|(name, locked)| ((*name).to_owned(), locked.clone())).collect(),
        }
    }

    #[test]
    fn what_is_written_reads_back_and_is_in_order() {
        let mut needs = locked("2.0.0");
        needs.depends_on = vec!["ghcr.io/a/b:1".to_owned()];
        let file = lockfile(&[("ghcr.io/a/c:2", needs), ("ghcr.io/a/b:1", locked("1.0.0"))]);
        let text = file.to_json();
        assert_eq!(
            text,
            r#"{
  "features": {
    "ghcr.io/a/b:1": {
      "version": "1.0.0",
      "resolved": "ghcr.io/a/b@sha256:00",
      "integrity": "sha256:00"
    },
    "ghcr.io/a/c:2": {
      "version": "2.0.0",
      "resolved": "ghcr.io/a/b@sha256:00",
      "integrity": "sha256:00",
      "dependsOn": [
        "ghcr.io/a/b:1"
      ]
    }
  }
}"#
        );
        assert_eq!(Lockfile::parse(&Text::new("devcontainer-lock.json", &text)), Ok((file, vec![])));
    }

    #[test]
    fn frozen_says_what_is_missing_changed_and_unused() {
        let file = lockfile(&[("a", locked("1.0.0")), ("old", locked("1.0.0"))]);
        let wanted = lockfile(&[("a", locked("1.0.1")), ("new", locked("1.0.0"))]);
        let told: Vec<String> = file.frozen(&wanted).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "the version of `a` is locked as `1.0.0`, and would be `1.0.1`",
                "`new` is not locked",
                "`old` is locked, and not used",
            ]
        );
        assert_eq!(file.frozen(&file), []);
    }

    #[test]
    fn an_empty_file_locks_nothing_yet() {
        let read = |text| Lockfile::parse(&Text::new("devcontainer-lock.json", text));
        assert_eq!(read("\n"), Ok((Lockfile::default(), vec![])));
        assert_eq!(read("{}"), Ok((Lockfile::default(), vec![])));
        assert!(read("[").is_err());
    }

    #[test]
    fn it_is_called_after_the_file_beside_it() {
        assert_eq!(Lockfile::file_name("devcontainer.json"), "devcontainer-lock.json");
        assert_eq!(Lockfile::file_name(".devcontainer.json"), ".devcontainer-lock.json");
    }

    #[test]
    fn a_lock_that_says_too_little_is_refused() {
        let text = r#"{ "features": { "GHCR.io/a/b": { "version": "1", "resolved": "x" }, "c": 1 } }"#;
        let problems = Lockfile::parse(&Text::new("devcontainer-lock.json", text)).unwrap_err();
        let what: Vec<&str> = problems.iter().map(|problem| problem.what.as_str()).collect();
        assert_eq!(
            what,
            ["`features[\"GHCR.io/a/b\"]` has no `integrity`", "`features.c` is a number, and not an object"]
        );
    }
}
