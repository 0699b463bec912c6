//! What a session in a unit is given: the environment that was last applied, not the one that is declared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use setpoint_model::manifest::{Env, EnvValue};
use setpoint_model::names::SecretName;

use crate::engine::{Account, UnitId};
use crate::paths::Roots;
use crate::secrets::{Values, expand};

/// What was applied for sessions. Secrets are in it by reference only.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session {
    /// Who sessions run as.
    pub user: String,
    /// The project's name.
    pub project: String,
    /// The declared environment.
    pub env: BTreeMap<String, EnvValue>,
    /// The environment that the user's own shell gives him, where it was asked for.
    #[serde(default)]
    pub probed: BTreeMap<String, String>,
    /// The instance that it was asked for in.
    #[serde(default)]
    pub probed_in: Option<String>,
    /// Variables that sessions do not have.
    #[serde(default)]
    pub unset: BTreeSet<String>,
}

impl Session {
    /// What is declared now.
    #[must_use]
    pub fn declared(env: &Env, project: &str, user: &str) -> Self {
        Self {
            user: user.to_owned(),
            project: project.to_owned(),
            env: env.env.clone(),
            probed: BTreeMap::new(),
            probed_in: None,
            unset: env.devcontainer.as_ref().map(|of| of.unset.clone()).unwrap_or_default(),
        }
    }

    fn path(roots: &Roots, unit: &UnitId) -> PathBuf {
        roots.state.join("sessions/v1").join(format!("{}.json", unit.as_str()))
    }

    /// What was applied last, if anything was.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn applied(roots: &Roots, unit: &UnitId) -> std::io::Result<Option<Self>> {
        match std::fs::read(Self::path(roots, unit)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(std::io::Error::other),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps this as what was applied.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep(&self, roots: &Roots, unit: &UnitId) -> std::io::Result<()> {
        crate::secrets::write_private(&Self::path(roots, unit), &serde_json::to_vec(self)?, false)
    }

    /// Forgets what was applied.
    ///
    /// # Errors
    /// If it is there and cannot be removed.
    pub fn forget(roots: &Roots, unit: &UnitId) -> std::io::Result<()> {
        match std::fs::remove_file(Self::path(roots, unit)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The secrets that the environment refers to.
    #[must_use]
    pub fn secrets(&self) -> Vec<SecretName> {
        let mut names: Vec<_> = self.env.values().flat_map(EnvValue::secrets).cloned().collect();
        names.sort();
        names.dedup();
        names
    }

    /// Whether something refers to the environment of the container itself.
    #[must_use]
    pub fn asks_inside(&self) -> bool {
        self.env.values().any(EnvValue::asks_inside)
    }

    /// The variables that a session adds to those of the unit's base; `inside` is what the container itself has.
    #[must_use]
    pub fn variables(
        &self,
        unit: &str,
        account: &Account,
        workspace: &Path,
        values: &Values,
        inside: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::from([
            ("HOME".to_owned(), account.home.to_string_lossy().into_owned()),
            ("USER".to_owned(), account.name.clone()),
            ("LOGNAME".to_owned(), account.name.clone()),
            ("SHELL".to_owned(), account.shell.clone()),
            ("SETPOINT_PROJECT".to_owned(), self.project.clone()),
            ("SETPOINT_UNIT".to_owned(), unit.to_owned()),
            ("SETPOINT_WORKSPACE".to_owned(), workspace.to_string_lossy().into_owned()),
        ]);
        variables.extend(self.probed.clone());
        variables.extend(self.env.iter().map(|(name, value)| (name.clone(), expand(value, values, inside))));
        variables.retain(|name, _| !self.unset.contains(name));
        variables
    }
}
