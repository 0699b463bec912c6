//! Whether new instances are well, and stay so.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use setpoint_model::names::UnitName;

use super::{Cause, Change};
use crate::engine::{EngineError, Health, Progress, UnitId};
use crate::readiness;

/// How often is looked whether one is well for which others wait.
const SOON: Duration = Duration::from_millis(10);
/// How often is looked whether all stay so.
const LOOK: Duration = Duration::from_millis(100);

/// What a look says.
pub(super) enum Says {
    /// It is well, or has ended as it should.
    Well,
    /// It may come to that.
    NotYet(String),
    /// It will not.
    Never(String),
}

impl Says {
    /// An error where it is not well.
    pub(super) fn expect_well(self) -> Result<(), String> {
        match self {
            Self::Well => Ok(()),
            Self::NotYet(why) | Self::Never(why) => Err(why),
        }
    }

    /// An error where it will not be well.
    pub(super) fn expect_possible(self) -> Result<(), String> {
        match self {
            Self::Well | Self::NotYet(_) => Ok(()),
            Self::Never(why) => Err(why),
        }
    }
}

impl Change<'_> {
    /// Waits until a new instance is well.
    pub(super) fn verify(&self, unit: &UnitName) -> Result<(), Cause> {
        let (id, completes) = (self.id(unit), self.completes(unit));
        self.wait_until_well(&id, completes, self.patience.verify, &|| self.place.cancel.asked())
    }

    /// Waits until an instance is well, or has ended, if it is there for that; this long at most, and until somebody stops it.
    pub(super) fn wait_until_well(
        &self,
        id: &UnitId,
        completes: bool,
        at_most: Duration,
        stops: &dyn Fn() -> bool,
    ) -> Result<(), Cause> {
        let until = Instant::now() + at_most;
        loop {
            if stops() {
                return Err("stopped".into());
            }
            match says(&self.place.engine.progress(id)?, completes) {
                Says::Well => return Ok(()),
                Says::NotYet(why) if Instant::now() >= until => {
                    return Err(format!("{why} (after {} s)", at_most.as_secs()).into());
                }
                Says::NotYet(_) => std::thread::sleep(SOON),
                Says::Never(why) => return Err(why.into()),
            }
        }
    }

    /// Waits until all new instances are well: whoever is not may have to be gone back from.
    pub(super) fn expect_well(&self) -> Result<(), Cause> {
        let mut new = self.upgrade.parts.iter().filter(|part| part.stays).map(|part| &part.unit);
        new.try_for_each(|unit| {
            self.verify(unit).map_err(|why| Cause { what: format!("{unit}: {}", why.what), ..why })
        })
    }

    /// Watches all new instances for a while; where there are none, those that migrations are to run in after the commit.
    pub(super) fn watch(&self, time: Duration, judge: fn(Says) -> Result<(), String>) -> Result<(), Cause> {
        let until = Instant::now() + time;
        let new = self.upgrade.parts.iter().filter(|part| part.stays).map(|part| &part.unit);
        let migrated = self.upgrade.forward_only().filter_map(|planned| planned.unit.as_ref());
        let migrated = migrated.filter(|_| self.upgrade.parts.is_empty());
        let watched: BTreeSet<&UnitName> = new.chain(migrated).collect();
        loop {
            for &unit in &watched {
                judge(self.says(unit)?).map_err(|why| format!("{unit}: {why}"))?;
            }
            if Instant::now() >= until || self.place.cancel.asked() {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
    }

    fn says(&self, unit: &UnitName) -> Result<Says, EngineError> {
        let progress = self.place.engine.progress(&self.id(unit))?;
        Ok(says(&progress, self.completes(unit)))
    }

    /// Whether a unit is there to end.
    fn completes(&self, unit: &UnitName) -> bool {
        self.upgrade.part(unit).is_some_and(|part| part.completes)
    }

    /// Whether a unit that is there to end has done what it is there for.
    pub(super) fn has_completed(&self, unit: &UnitName) -> Result<bool, EngineError> {
        Ok(self.completes(unit) && self.place.engine.progress(&self.id(unit))?.ended == Some(0))
    }
}

fn says(progress: &Progress, completes: bool) -> Says {
    match (progress.running, progress.health) {
        (false, _) if completes && progress.ended == Some(0) => Says::Well,
        (true, None) if completes => Says::NotYet("it has not ended".to_owned()),
        (true, None | Some(Health::Healthy)) => Says::Well,
        (true, Some(Health::Starting)) => Says::NotYet("its health check has not passed".to_owned()),
        (running, _) => match readiness::healthy(progress) {
            Some(Err(why)) if running => Says::NotYet(why),
            Some(Err(why)) => Says::Never(why),
            _ => Says::NotYet("nothing is known of it".to_owned()),
        },
    }
}
