//! Secrets as they are declared: where a value comes from, never the value.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problem::Location;
use crate::names::SecretName;
use crate::template::Template;

/// A secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Where its value comes from.
    pub source: SecretSource,
    /// Where it is declared.
    pub at: Location,
}

/// Where the value of a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A variable of the user's environment.
    Env {
        /// Its name.
        name: String,
    },
    /// A file.
    File {
        /// Its path: absolute, from the home by `~/`, or from the project's folder.
        path: String,
    },
    /// What a command prints.
    Command {
        /// The program, and its arguments; never empty.
        argv: Vec<String>,
    },
    /// Chance, once.
    Generate {
        /// In which form.
        form: Form,
    },
    /// Other secrets.
    Derive {
        /// The text that they are put into, as it is written.
        text: String,
        /// The same, read.
        template: Template,
    },
}

/// The form of a generated secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// 16 bytes, as 32 hexadecimal digits.
    Hex16,
    /// 32 bytes, as 64 hexadecimal digits.
    Hex32,
    /// 32 bytes, in base64.
    Base64,
    /// A password of 32 letters and digits, whose hash is `bcrypt(secret.NAME)` in what is derived.
    Bcrypt,
}

/// The secrets that are needed for these: they themselves, and what they are derived from.
#[must_use]
pub fn needed<'a>(
    secrets: &'a BTreeMap<SecretName, Secret>,
    wanted: impl IntoIterator<Item = &'a SecretName>,
) -> BTreeSet<&'a SecretName> {
    let mut open: Vec<&SecretName> = wanted.into_iter().collect();
    let mut needed = BTreeSet::new();
    while let Some(name) = open.pop() {
        if !needed.insert(name) {
            continue;
        }
        if let Some(Secret { source: SecretSource::Derive { template, .. }, .. }) = secrets.get(name) {
            open.extend(template.secrets());
        }
    }
    needed
}
