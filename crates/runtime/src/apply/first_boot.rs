//! The steps of a service's first boot.

use std::time::{Duration, Instant};

use setpoint_model::manifest::{Act, After, FirstBootStep};

use super::Applier;
use crate::engine::Progress;
use crate::hooks::{Failed, Failure, Runner};
use crate::readiness;

/// How long something is waited for that says nothing of it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long between two looks.
const PAUSE: Duration = Duration::from_millis(200);

impl Applier<'_, '_> {
    /// The declared step.
    pub(super) fn first_boot(&self, index: usize) -> Option<&FirstBootStep> {
        self.unit.env.service.as_ref()?.first_boot.get(index)
    }

    /// Does a step, once the service has come to what it needs.
    pub(super) fn boot(&self, runner: &Runner<'_>, step: &FirstBootStep) -> Result<(), Failed> {
        if step.after == After::Healthy {
            self.until_healthy().map_err(|failure| Failed { failure, tail: Vec::new() })?;
        }
        let Act::Wait { .. } = &step.act else { return runner.first_boot(step) };
        let (began, limit) = (Instant::now(), step.timeout.unwrap_or(PATIENCE));
        loop {
            match runner.first_boot(step) {
                Err(Failed { failure: Failure::Ended(_), tail }) if began.elapsed() > limit => {
                    return Err(Failed { failure: Failure::TimedOut(limit), tail });
                }
                Err(Failed { failure: Failure::Ended(_), .. }) if !self.settings.cancel.asked() => {
                    std::thread::sleep(PAUSE);
                }
                ended => return ended,
            }
        }
    }

    fn until_healthy(&self) -> Result<(), Failure> {
        loop {
            let progress: Progress = self.unit.engine.progress(&self.unit.id).map_err(Failure::Engine)?;
            match readiness::healthy(&progress) {
                Some(Ok(())) => return Ok(()),
                Some(Err(why)) => return Err(Failure::NotReady(why)),
                None if self.settings.cancel.asked() => return Err(Failure::Cancelled),
                None => std::thread::sleep(PAUSE),
            }
        }
    }
}
