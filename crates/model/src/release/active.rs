//! Which generation of a project is in effect.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ledger::ON_HOST;

/// Which generation of a project is in effect: the only truth about that. A project that was never upgraded has the
/// generation 0, and its data where it is declared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// Grows with each change, also with one that goes back.
    pub generation: u64,
    /// The version of the project.
    pub version: Option<String>,
    /// The digest of the release that it is made of; nothing where it is what the project's folder says.
    #[serde(default)]
    pub release: Option<String>,
    /// The data set: volumes as they are declared, each with the one that holds its data.
    #[serde(default)]
    pub volumes: BTreeMap<String, String>,
    /// What the ledger calls the host as migrations have left it; nothing where none has run on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Data of a backup that no upgrade has come by since: volumes as they are declared, each with the version that worked
    /// on it when it was backed up, if that is known. It need not be the one in effect.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub restored: BTreeMap<String, Option<String>>,
}

impl Active {
    /// The volume that holds the data of a declared one; what the ledger calls the host, for [`ON_HOST`].
    #[must_use]
    pub fn volume<'a>(&'a self, declared: &'a str) -> &'a str {
        if declared == ON_HOST {
            return self.host.as_deref().unwrap_or(ON_HOST);
        }
        self.volumes.get(declared).map_or(declared, String::as_str)
    }

    /// The version that has worked on the data of a volume until now, if that is known.
    #[must_use]
    pub fn version_of(&self, declared: &str) -> Option<&str> {
        self.restored.get(declared).unwrap_or(&self.version).as_deref()
    }
}
