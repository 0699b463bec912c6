//! Secrets as they are declared: where a value comes from, never the value.

use serde::Serialize;

use super::problem::Location;

/// A secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Where its value comes from.
    pub source: SecretSource,
    /// Where it is declared.
    pub at: Location,
}

/// Where the value of a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
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
}
