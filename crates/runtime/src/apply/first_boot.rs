//! The steps of a service's first boot.

use std::time::{Duration, Instant};

use setpoint_model::container::HealthTest;
use setpoint_model::manifest::{Act, After, FirstBootStep};

use super::Applier;
use crate::engine::Progress;
use crate::hooks::Runner;
use crate::readiness;
use crate::supervise::{Failed, Failure};

/// How long something is waited for that says nothing of it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(10);
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
        let Act::Wait { test } = &step.act else { return runner.first_boot(step) };
        let (began, limit) = (Instant::now(), step.timeout.unwrap_or(PATIENCE));
        loop {
            let tail = match test {
                HealthTest::Http { .. } | HealthTest::Tcp { .. } => {
                    let asked = self.unit.engine.ask(&self.unit.id, test, ANSWER);
                    let failed = |error| Failed { failure: Failure::Engine(error), tail: Vec::new() };
                    match asked.map_err(failed)? {
                        Ok(()) => return Ok(()),
                        Err(said) => vec![said],
                    }
                }
                HealthTest::Exec(_) | HealthTest::Shell(_) | HealthTest::Off => match runner.first_boot(step)
                {
                    Err(Failed { failure: Failure::Ended(_), tail }) => tail,
                    ended => return ended,
                },
            };
            if self.settings.cancel.asked() {
                return Err(Failed { failure: Failure::Cancelled, tail });
            }
            if began.elapsed() > limit {
                return Err(Failed { failure: Failure::TimedOut(limit), tail });
            }
            std::thread::sleep(PAUSE);
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
