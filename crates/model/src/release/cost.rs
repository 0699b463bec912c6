//! What a change is expected to cost whoever uses what is replaced.

use std::time::Duration;

use serde::Serialize;

use super::upgrade::{Holds, Lane, Step, Upgrade};

/// How many bytes a second are copied, where no upgrade of the project has shown it.
const RATE: u64 = 200 << 20;
/// How long an instance takes to end and the next one to get well, where no upgrade has shown it.
const REPLACED: Duration = Duration::from_secs(1);

/// A step of an earlier change that was done, with how long it took, and when it was over since the change began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed {
    /// Which.
    pub step: Step,
    /// When it began, from the beginning of the change.
    pub began: Duration,
    /// When it was done.
    pub ended: Duration,
}

/// What a change is expected to take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// How many bytes of data are copied, as far as that can be seen.
    pub copied_bytes: u64,
    /// How many of them take room of their own; none where copies share blocks.
    pub needed_bytes: u64,
    /// How many bytes are free where they go, if that can be seen.
    pub free_bytes: Option<u64>,
}

impl Cost {
    /// By how many bytes the copies do not fit.
    #[must_use]
    pub fn lacks(&self) -> Option<u64> {
        self.needed_bytes.checked_sub(self.free_bytes?).filter(|lacks| *lacks > 0)
    }

    /// How long whoever comes from outside is expected to wait; nothing where nobody is reached now. `earlier` is the last
    /// upgrade of the project that was committed, with its steps, as far as there is one.
    #[must_use]
    pub fn outage(
        &self,
        planned: &Upgrade,
        steady: Duration,
        earlier: Option<(&Upgrade, &[Timed])>,
    ) -> Option<Duration> {
        planned.parts.iter().find(|part| part.is_there && part.runs)?;
        // Nobody waits for those for whom another instance answers.
        let waited_for: Vec<_> = planned.parts.iter().filter(|part| !part.stands_in).collect();
        if !waited_for.iter().any(|part| part.is_there && part.runs) {
            return Some(Duration::ZERO);
        }
        let rate = earlier.and_then(|(upgrade, steps)| rate(upgrade, steps)).unwrap_or(RATE).max(1);
        let copying = Duration::from_secs_f64(self.needed_bytes as f64 / rate as f64);
        let usual = || {
            let parts = u32::try_from(waited_for.len()).unwrap_or(u32::MAX);
            let held = if planned.lane == Lane::Breaking { steady } else { Duration::ZERO };
            REPLACED.saturating_mul(parts).saturating_add(held)
        };
        let shown = earlier.filter(|(upgrade, _)| is_alike(upgrade, planned));
        let rest = shown.and_then(|(_, steps)| rest(steps)).unwrap_or_else(usual);
        Some(copying.saturating_add(rest))
    }
}

/// Whether what a change took tells what another will take.
fn is_alike(earlier: &Upgrade, planned: &Upgrade) -> bool {
    let units = |upgrade: &Upgrade| {
        upgrade.parts.iter().map(|part| (part.unit.clone(), part.stands_in)).collect::<Vec<_>>()
    };
    earlier.lane == planned.lane && units(earlier) == units(planned)
}

/// How many bytes a second were copied.
fn rate(upgrade: &Upgrade, steps: &[Timed]) -> Option<u64> {
    let bytes: u64 =
        upgrade.copies.iter().filter(|copy| copy.holds == Holds::Copied).map(|copy| copy.bytes).sum();
    let took = copying(steps).as_secs_f64();
    // What is done in a moment tells of the moment.
    (bytes >= RATE && took > 0.0).then(|| (bytes as f64 / took) as u64)
}

fn copying(steps: &[Timed]) -> Duration {
    let copies = steps.iter().filter(|timed| matches!(timed.step, Step::Copy(_)));
    copies.map(|timed| timed.ended.saturating_sub(timed.began)).sum()
}

/// How long all but the copying took, from the stop of the first to the port of the last.
fn rest(steps: &[Timed]) -> Option<Duration> {
    let began = steps.iter().find(|timed| matches!(timed.step, Step::Freeze(_)))?.began;
    let admitted = steps.iter().rev().find(|timed| matches!(timed.step, Step::Admit(_)));
    let last =
        admitted.or_else(|| steps.iter().rev().find(|timed| matches!(timed.step, Step::Publish(_))))?;
    Some(last.ended.saturating_sub(began).saturating_sub(copying(steps)))
}
