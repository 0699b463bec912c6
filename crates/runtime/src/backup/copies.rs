//! Copies of volumes that are made while nobody writes to them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use setpoint_model::names::UnitName;

use super::error::BackupError;
use super::passing::{Passing, resume};
use super::take::tell;
use crate::engine::{Hold, Seen};
use crate::failpoints;
use crate::lock::{self, UnitLock};
use crate::observe::{Look, Unit};
use crate::upgrade::Place;

/// A copy that is wanted.
pub(crate) struct Wanted<'a> {
    /// The volume that holds the data.
    pub(crate) held: String,
    /// What the copy is called.
    pub(crate) to: String,
    /// The services that have it.
    pub(crate) units: Vec<&'a Unit<'a>>,
}

/// What making them took.
pub(crate) struct Copied {
    /// How long services were stopped for it.
    pub(crate) pause: Duration,
    /// Which, in the order in which they start.
    pub(crate) stopped: Vec<UnitName>,
}

/// Who copies volumes.
pub(crate) struct Copier<'a> {
    pub(crate) place: Place<'a>,
    /// The project's folder.
    pub(crate) root: &'a Path,
    /// All of its services, each after what it depends on.
    pub(crate) units: &'a [(Unit<'a>, Look)],
    /// Who has the units meanwhile, for others that wait.
    pub(crate) what: &'static str,
}

impl Copier<'_> {
    /// Copies volumes while nobody writes to them: who has one is stopped, and runs again whatever comes of it.
    pub(crate) fn copy(&self, wanted: &[Wanted<'_>], passing: &mut Passing) -> Result<Copied, BackupError> {
        let (engine, cancel) = (self.place.engine, self.place.cancel);
        let names: BTreeSet<&UnitName> =
            wanted.iter().flat_map(|copy| &copy.units).map(|unit| &unit.env.name).collect();
        // In the order of their names, as everybody takes several of them.
        let locks = names.iter().map(|name| self.lock(name)).collect::<Result<Vec<_>, _>>()?;
        // Each after what it depends on.
        let there = |unit: &&Unit<'_>| names.contains(&unit.env.name);
        let mut running = Vec::new();
        for unit in self.units.iter().map(|(unit, _)| unit).filter(there) {
            if let Seen::Running(_) = engine.observe(&unit.id)? {
                running.push(unit);
            }
        }
        let copies: Vec<String> = wanted.iter().map(|copy| copy.to.clone()).collect();
        if let Some(there) = engine.volume_ids(&copies)?.into_keys().next() {
            let why = format!("there is a volume {there}, which a copy would be written over");
            return Err(BackupError::NotHere(why));
        }
        let stopped: Vec<UnitName> = running.iter().map(|unit| unit.env.name.clone()).collect();
        passing.about_to(stopped.clone(), copies)?;
        let began = Instant::now();
        let mut held: BTreeMap<&UnitName, Hold> = BTreeMap::new();
        let copied = (|| {
            for unit in running.iter().rev() {
                if let Some(hold) = engine.hold(&unit.id)? {
                    held.insert(&unit.env.name, hold);
                }
                self.told("stop", unit.env.name.as_str(), || {
                    Ok(engine.stop(&unit.id, unit.stop_grace(), cancel)?)
                })?;
            }
            failpoints::at("backup.stopped");
            for copy in wanted {
                let Some(unit) = copy.units.first() else { continue };
                self.told("copy", &copy.held, || {
                    Ok(engine.copy_volume(&unit.id, &unit.base()?, &copy.held, &copy.to, cancel)?)
                })?;
            }
            failpoints::at("backup.copied");
            Ok(())
        })();
        // Whatever came of it, what ran runs again.
        let mut resumed = Ok(());
        for name in &stopped {
            let again = self.told("start", name.as_str(), || resume(engine, self.root, name));
            held.remove(name);
            resumed = resumed.and(again);
        }
        let pause = if stopped.is_empty() { Duration::ZERO } else { began.elapsed() };
        drop(locks);
        let noted = if resumed.is_ok() { passing.resumed() } else { Ok(()) };
        match copied {
            Err(_) if cancel.asked() && resumed.is_ok() => Err(BackupError::Cancelled),
            // Why a copy failed, as over a full disk, is why the rest does.
            copied => resumed.and(copied).and(noted).map(|()| Copied { pause, stopped }),
        }
    }

    fn lock(&self, name: &UnitName) -> Result<UnitLock, BackupError> {
        let Place { roots, watcher, cancel, .. } = self.place;
        let wait = lock::until_stopped(watcher, cancel);
        Ok(UnitLock::acquire(roots, self.root, name, self.what, wait)?)
    }

    fn told<T>(
        &self,
        phase: &str,
        detail: &str,
        act: impl FnOnce() -> Result<T, BackupError>,
    ) -> Result<T, BackupError> {
        tell(self.place.watcher, phase, detail, |_| act())
    }
}
