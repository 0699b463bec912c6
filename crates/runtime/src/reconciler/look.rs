//! What is known of a unit that is kept, as the pure core wants it.

use jiff::Timestamp;
use setpoint_model::import::compose::RestartPolicy;
use setpoint_model::reconcile::{
    self, Awaited, Health, History, Intent, Observed, Operation, Seen, Situation, Standing, State, Time,
    Wish, displayed,
};

use super::{Rules, history};
use crate::engine::{self, Engine, EngineError, UnitId};
use crate::store::{Kept, Unit, Wanted};

/// What a unit that is kept has come to, for people.
///
/// # Errors
/// In words, if how it is kept cannot be read.
pub fn state(engine: &dyn Engine, kept: &Kept, operation: Option<Operation>) -> Result<State, String> {
    let now = now();
    Ok(displayed(&Situation { operation, ..situation(engine, kept, rules(kept)?, now, &mut None) }, now))
}

/// What is known of a unit that nobody keeps, as if it were wanted to stay as it is.
#[must_use]
pub fn unkept(engine: &dyn Engine, unit: &Unit, operation: Option<Operation>) -> Situation {
    let now = now();
    let mine = UnitId::new(&unit.unit.project_root, &unit.unit.name);
    let seen = seen(engine, &mine, Wish::Up, now, &mut None).unwrap_or(Seen::Unknown);
    let wish = if seen == Seen::Absent { Wish::Stopped } else { Wish::Up };
    Situation {
        intent: Intent { wish, generation: 0 },
        operation,
        observed: Observed { at: now, seen, drift: false },
        dependencies: Vec::new(),
        rules: reconcile::Rules { restart: RestartPolicy::No, completes: false, stop_grace: 0 },
        history: History { applied: Some(0), ..History::default() },
    }
}

/// How a unit is kept.
pub(super) fn rules(kept: &Kept) -> Result<Rules, String> {
    serde_json::from_str(&kept.intent.rules)
        .map_err(|error| format!("how it is kept cannot be read ({error}); `setpoint up` writes it anew"))
}

/// All that a decision on a unit is a function of. `ended_unseen` is when it was first found ended, where nobody saw
/// the end.
pub(super) fn situation(
    engine: &dyn Engine,
    kept: &Kept,
    rules: Rules,
    now: Time,
    ended_unseen: &mut Option<Time>,
) -> Situation {
    let unit = &kept.unit.unit;
    let mine = UnitId::new(&unit.project_root, &unit.name);
    let intent = intent(kept);
    let seen = seen(engine, &mine, intent.wish, now, ended_unseen).unwrap_or(Seen::Unknown);
    let awaited = rules.depends_on.iter().map(|(name, dependency)| Awaited {
        unit: name.clone(),
        dependency: *dependency,
        standing: standing(engine, &UnitId::new(&unit.project_root, name)),
    });
    Situation {
        intent,
        operation: None,
        observed: Observed { at: now, seen, drift: false },
        dependencies: awaited.collect(),
        rules: rules.kept,
        history: history(kept),
    }
}

/// What the user wants of a unit that is kept.
pub(super) fn intent(kept: &Kept) -> Intent {
    let wish = match kept.intent.wanted {
        Wanted::Up => Wish::Up,
        Wanted::Stopped => Wish::Stopped,
    };
    Intent { wish, generation: kept.intent.generation }
}

/// What the engine says of a unit.
fn seen(
    engine: &dyn Engine,
    unit: &UnitId,
    wish: Wish,
    now: Time,
    ended_unseen: &mut Option<Time>,
) -> Result<Seen, EngineError> {
    let seen = engine.observe(unit)?;
    let Some(labels) = seen.labels() else { return Ok(Seen::Absent) };
    let progress = engine.progress(unit)?;
    let since = progress.since.map(millis);
    // A stop that was cut off is to be ended by whoever wants it stopped; any start does that by itself.
    if progress.running || (progress.ending && wish == Wish::Stopped) {
        *ended_unseen = None;
        let health = match progress.health {
            None => Some(Health::NoCheck),
            Some(engine::Health::Starting) => None,
            Some(engine::Health::Healthy) => Some(Health::Healthy),
            Some(engine::Health::Unhealthy) => Some(Health::Unhealthy),
        };
        // Failures that do not count are not told by the engine.
        let (instance, since) = (labels.instance.clone(), since.unwrap_or(now));
        return Ok(Seen::Running { instance, since, grace: 0, health });
    }
    let unseen = *ended_unseen.get_or_insert(now);
    Ok(Seen::Ended { code: progress.ended, at: since.unwrap_or(unseen) })
}

/// What another unit has come to, as far as its engine tells.
fn standing(engine: &dyn Engine, unit: &UnitId) -> Standing {
    let progress = engine.progress(unit).unwrap_or_default();
    let completed = progress.ended == Some(0);
    Standing {
        started: progress.running || completed,
        healthy: progress.health == Some(engine::Health::Healthy),
        completed,
        coming: true,
    }
}

/// The time, as the pure core has it.
#[must_use]
pub fn now() -> Time {
    millis(Timestamp::now())
}

pub(super) fn millis(at: Timestamp) -> Time {
    u64::try_from(at.as_millisecond()).unwrap_or_default()
}

/// A time of the pure core's; nothing where it is beyond what a calendar has.
#[must_use]
pub fn timestamp(at: Time) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(at).ok()?).ok()
}
