//! Who enters a unit that runs, and what is given to him.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use setpoint_model::manifest::EnvValue;

use crate::apply::ApplyError;
use crate::cancel::Cancel;
use crate::engine::Account;
use crate::events::Watcher;
use crate::hooks::Runner;
use crate::observe::Unit;
use crate::secrets::{Mask, Values};
use crate::session::Session;

/// Who enters a unit, and what is given to him.
#[derive(Debug)]
pub struct Guest {
    /// As whom.
    pub account: Account,
    /// The environment of a session.
    pub variables: BTreeMap<String, String>,
    /// Why what was applied for sessions could not be read: then it is what is declared.
    pub unread: Option<io::Error>,
    values: Values,
    inside: BTreeMap<String, String>,
}

impl Guest {
    /// The user that was applied, or another one, with the environment that was applied. Reads neither the
    /// state database nor any of the project's files, so that entering is fast.
    ///
    /// # Errors
    /// If there is no such user, a secret cannot be read, or the engine cannot be asked.
    pub fn new(unit: &Unit<'_>, user: Option<&str>) -> Result<Self, ApplyError> {
        let (session, unread) = match Session::applied(unit.roots, &unit.id) {
            Ok(Some(session)) => (session, None),
            Ok(None) => (declared(unit), None),
            Err(error) => (declared(unit), Some(error)),
        };
        let account = unit.engine.account(&unit.id, user.unwrap_or(&session.user))?;
        let of_session = session.secrets();
        let of_hooks = unit.env.hooks.values().flat_map(|hook| hook.env.values()).flat_map(EnvValue::secrets);
        let values = unit.secrets().kept_values(of_session.iter().chain(of_hooks))?;
        let workspace = Path::new(&unit.env.workspace);
        let inside = unit.environment_inside()?;
        let variables = session.variables(unit.env.name.as_str(), &account, workspace, &values, &inside);
        Ok(Self { account, variables, unread, values, inside })
    }

    /// Hides the secrets that he knows.
    #[must_use]
    pub fn mask(&self) -> Mask {
        Mask::new(&self.values)
    }

    /// What runs phases as he would.
    #[must_use]
    pub fn runner<'a>(
        &'a self,
        unit: &'a Unit<'a>,
        watcher: &'a dyn Watcher,
        cancel: &'a Cancel,
    ) -> Runner<'a> {
        Runner {
            engine: unit.engine,
            unit: &unit.id,
            files: &unit.project.files,
            workspace: Path::new(&unit.env.workspace),
            account: &self.account,
            session: &self.variables,
            inside: &self.inside,
            secrets: &self.values,
            mask: Mask::new(&self.values),
            watcher,
            cancel,
            logs: unit.logs(),
        }
    }
}

fn declared(unit: &Unit<'_>) -> Session {
    let owner = || unit.engine.default_user(&unit.project.root);
    let user = unit.env.user.clone().unwrap_or_else(owner);
    Session::declared(unit.env, unit.project.manifest.project.name.as_str(), &user)
}
