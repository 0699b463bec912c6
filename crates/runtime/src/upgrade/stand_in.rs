//! Instances of the new version beside the old ones, which answer while these are replaced. They are units of another owner
//! than the project: a folder in the state.

use std::path::PathBuf;

use setpoint_model::names::UnitName;
use setpoint_model::plan::Options;
use setpoint_model::release::stand_in::beside;

use super::{Cause, Change, UpgradeError};
use crate::apply::Settings;
use crate::engine::{EngineError, UnitId};
use crate::events::{Deaf, Watcher};
use crate::observe::Unit;
use crate::paths::project_key;
use crate::store::Store;
use crate::{failpoints, temporary};

/// Where the folders of their owners lie.
const FOLDER: &str = "stand-ins/v1";

impl Change<'_> {
    /// The folder of whom they belong to.
    pub(super) fn owner_beside(&self) -> PathBuf {
        self.place.roots.state.join(FOLDER).join(project_key(&self.root, None).to_string())
    }

    fn id_beside(&self, unit: &UnitName) -> UnitId {
        UnitId::new(&self.owner_beside(), unit)
    }

    /// Starts an instance that is to stand in, and waits until it is well.
    pub(super) fn stand_in(&mut self, name: &UnitName) -> Result<(), Cause> {
        let declared = self.declared.ok_or("nothing is known of it any more")?;
        let env = declared.project.manifest.envs.get(name).ok_or("it is not declared")?;
        let (owner, env) = (self.owner_beside(), beside(env));
        let unit = self.unit(declared.project, &owner, name, &env).ok_or("it is not declared")?;
        self.make_beside(&unit, name, false)?;
        failpoints::at("stand-in.made");
        self.wait_until_well(&unit.id, false)
    }

    /// Makes an instance of such a unit, and starts it; nobody from outside reaches it.
    pub(super) fn make_beside(
        &self,
        unit: &Unit<'_>,
        name: &UnitName,
        idles: bool,
    ) -> Result<(), UpgradeError> {
        let (roots, owner, manifest) = (self.place.roots, unit.owner, &unit.project.manifest);
        let noted = temporary::owner(owner, manifest.project.name.as_str())
            .map_err(|error| (owner.to_owned(), error))
            .and_then(|_| temporary::note(owner, name));
        noted.map_err(|(path, error)| EngineError::io("write", &path)(error))?;
        temporary::give_secrets(roots, &self.root, owner, manifest.secrets.keys())?;
        let mut store = Store::open(&temporary::state(roots, owner))?;
        let watcher: &dyn Watcher = if idles { &Deaf } else { self.place.watcher };
        let command = format!("upgrade {name}");
        let settings = Settings { watcher, cancel: self.place.cancel, command, is_withheld: true, idles };
        let look = unit.look(&store, &Options::default())?;
        unit.apply(&mut store, look, &settings)?;
        Ok(())
    }

    /// Leads who comes to a unit to the instance that stands in for it.
    pub(super) fn lend(&mut self, unit: &UnitName) -> Result<(), UpgradeError> {
        self.place.engine.lend(&self.id(unit), &self.id_beside(unit))?;
        self.lent.insert(unit.clone());
        Ok(())
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

    /// The same, once the old instances are well again, or do not get so.
    pub(super) fn dismiss_late(&mut self) -> Result<(), UpgradeError> {
        if self.owner_beside().exists() {
            for part in self.upgrade.parts.iter().filter(|part| part.stands_in) {
                let _ = self.verify(&part.unit);
            }
        }
        self.dismiss()
    }
}
