//! Instances of the new version beside the old ones, which answer while these are replaced. They are units of another owner
//! than the project: a folder in the state.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use setpoint_model::names::UnitName;
use setpoint_model::release::stand_in::beside;

use super::act::made;
use super::{Cause, Change, UpgradeError};
use crate::engine::{EngineError, UnitId};
use crate::observe::Unit;
use crate::paths::{Roots, project_key};
use crate::store::Store;
use crate::{failpoints, temporary};

/// Where the folders of their owners lie, by engines.
const FOLDER: &str = "stand-ins/v1";
/// How long an old instance may take to be well again.
const RETURNS: Duration = Duration::from_secs(60);

/// Removes all that stand in, of all projects. Nothing to do is no error.
///
/// # Errors
/// If something cannot be removed.
pub fn take_down(roots: &Roots, variables: &BTreeMap<String, String>) -> Result<(), EngineError> {
    temporary::take_down_all(roots, variables, &roots.state.join(FOLDER))
}

impl Change<'_> {
    /// The folder of whom they belong to.
    pub(super) fn owner_beside(&self) -> PathBuf {
        let engine = self.place.engine.capabilities().engine;
        let owners = self.place.roots.state.join(FOLDER).join(engine);
        owners.join(project_key(&self.root, None).to_string())
    }

    fn id_beside(&self, unit: &UnitName) -> UnitId {
        UnitId::new(&self.owner_beside(), unit)
    }

    /// Starts an instance that is to stand in, and waits until it is well.
    pub(super) fn stand_in(&mut self, name: &UnitName) -> Result<(), Cause> {
        let declared = self.declared.ok_or("nothing is known of it any more")?;
        let env = declared.project.manifest.envs.get(name).ok_or("it is not declared")?;
        let (owner, env) = (self.owner_beside(), beside(env));
        let unit = self.unit(declared.project, &owner, &env).ok_or("it is not declared")?;
        self.make_beside(&unit, false)?;
        failpoints::at("stand-in.made");
        self.wait_until_well(&unit.id, false, self.patience.verify, &|| self.place.cancel.asked())
    }

    /// Makes an instance of a unit of this owner.
    pub(super) fn make_beside(&mut self, unit: &Unit<'_>, idles: bool) -> Result<(), UpgradeError> {
        let (roots, owner, project) = (self.place.roots, unit.owner, unit.project);
        let noted = temporary::owner(owner, project.manifest.project.name.as_str())
            .map_err(|error| (owner.to_owned(), error))
            .and_then(|_| temporary::note(owner, &unit.env.name));
        noted.map_err(|(path, error)| EngineError::io("write", &path)(error))?;
        // What the one in the place is going to have.
        if let Some(own) = self.unit(project, &project.root, unit.env) {
            own.generate_secrets(self.store)?;
        }
        temporary::give_secrets(roots, &self.root, owner, project.manifest.secrets.keys())?;
        let mut store = Store::open(&temporary::state(roots, owner))?;
        made(self.place, &mut store, unit, "upgrade", idles)
    }

    /// Leads who comes to a unit to the instance that stands in for it.
    pub(super) fn lend(&mut self, unit: &UnitName) -> Result<(), UpgradeError> {
        self.place.engine.lend(&self.id(unit), &self.id_beside(unit))?;
        self.lent.insert(unit.clone());
        Ok(())
    }

    /// Leads who comes to a unit back to the old instance when it is well, or will not be. Whoever stopped the change wants this
    /// done.
    pub(super) fn relieve(&mut self, unit: &UnitName) -> Result<(), UpgradeError> {
        let (id, cancel) = (self.id(unit), self.place.cancel);
        let _ = self.wait_until_well(&id, false, RETURNS, &|| cancel.insisted());
        Ok(self.place.engine.publish(&id)?)
    }

    /// Ends and removes all that stood in, which may finish what it has taken.
    pub(super) fn dismiss(&mut self) -> Result<(), UpgradeError> {
        let owner = self.owner_beside();
        if !owner.exists() {
            return Ok(());
        }
        let engine = self.place.engine;
        for part in self.upgrade.parts.iter().filter(|part| part.stands_in) {
            engine.stop(&self.id_beside(&part.unit), self.grace(&part.unit), self.place.cancel)?;
        }
        Ok(temporary::take_down(self.place.roots, engine, &owner)?)
    }
}
