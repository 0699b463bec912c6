//! Where the data of services lies, on the engine.

use std::path::{Path, PathBuf};

use setpoint_model::container::MountSource;
use setpoint_model::doctor::{Finding, Kept, SeenVolumes, volumes};

use super::{Patient, engine};
use crate::engine::{EngineError, HeldVolume, Seen, UnitVolumes};
use crate::observe::Unit;

impl Patient<'_> {
    /// The data of services that are there.
    pub(super) fn volumes(&self) -> Vec<Finding> {
        let services = self.declared().into_iter().filter(|unit| unit.env.is_service());
        let look = |unit: Unit<'_>| match self.data_of(&unit) {
            Ok(seen) => seen.map(|seen| volumes(&seen)).unwrap_or_default(),
            Err(error) => vec![engine::silent(self.engine.capabilities().engine, &error)],
        };
        services.flat_map(look).collect()
    }

    fn data_of(&self, unit: &Unit<'_>) -> Result<Option<SeenVolumes>, EngineError> {
        let seen = self.engine.observe(&unit.id)?;
        let Some(labels) = seen.labels().filter(|_| seen != Seen::Absent) else { return Ok(None) };
        let UnitVolumes { held, wanted } = self.engine.volumes_of(&unit.id)?;
        let named = |held: &HeldVolume| Some((held.target.display().to_string(), held.name.clone()?));
        Ok(Some(SeenVolumes {
            unit: unit.env.name.to_string(),
            kept: self.kept(unit, &held, wanted)?,
            named: held.iter().filter_map(named).collect(),
            emptied: self.emptied(unit, &labels.instance)?,
        }))
    }

    /// The paths at which the image of a unit keeps its data.
    fn kept(
        &self,
        unit: &Unit<'_>,
        held: &[HeldVolume],
        paths: Vec<PathBuf>,
    ) -> Result<Vec<Kept>, EngineError> {
        let of_volumes = held.iter().filter(|held| held.name.is_some()).map(|held| held.target.clone());
        let of_others = unit.env.container.mounts.iter().filter_map(|mount| {
            let is_volume = matches!(mount.source, MountSource::Volume { .. });
            (!is_volume).then(|| PathBuf::from(&mount.target))
        });
        let of_host = unit.env.mounts.iter().map(|mount| PathBuf::from(&mount.target));
        let mounts: Vec<PathBuf> = of_volumes.chain(of_others).chain(of_host).collect();
        let one = |path: PathBuf| {
            let is_held = mounts.iter().any(|mount| path.starts_with(mount));
            let is_empty = match is_held {
                true => None,
                false => self.engine.is_empty(&unit.id, &path)?,
            };
            Ok(Kept { path: path.display().to_string(), is_held, is_empty })
        };
        paths.into_iter().map(one).collect()
    }

    /// The named volumes that a unit's first boot was done for, and that are empty.
    fn emptied(&self, unit: &Unit<'_>, instance: &str) -> Result<Vec<String>, EngineError> {
        let done = self
            .store
            .and_then(|store| store.first_boot(unit.owner, &unit.env.name).ok())
            .unwrap_or_default();
        if done.is_empty() {
            return Ok(Vec::new());
        }
        let now = unit.data(instance)?;
        let was_done_for = |name: &String| {
            let id = now.volumes.get(name);
            id.is_some() && done.values().any(|data| data.volumes.get(name) == id)
        };
        let mut emptied = Vec::new();
        for mount in &unit.env.container.mounts {
            let MountSource::Volume { name: Some(name), .. } = &mount.source else { continue };
            if was_done_for(name) && self.engine.is_empty(&unit.id, Path::new(&mount.target))? == Some(true) {
                emptied.push(unit.project.active.volume(name).to_owned());
            }
        }
        Ok(emptied)
    }
}
