//! What happened to a unit before, as far as it counts for what is done next.

use serde::{Deserialize, Serialize};

use super::alarm::Alarm;
use super::budget::{Budget, Fault, Jitter};
use super::facts::{Health, Millis, Seen, Situation, Time, Wish};

/// For how long a unit has to be well before what it did earlier is forgiven.
const FORGIVEN_AFTER: Millis = 10 * 60 * 1000;

/// What happened to a unit before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// The generation of the intent that the budgets are for: a new one begins with new ones.
    pub generation: u64,
    /// The generation that was last brought about.
    pub applied: Option<u64>,
    /// The generation for which the unit last ended well.
    pub completed: Option<u64>,
    /// When the last operation ended: what was observed before it is out of date.
    pub acted_at: Time,
    /// The end of the unit that was last taken note of.
    pub ended_at: Option<Time>,
    /// The start of the run that was last found unhealthy.
    pub unhealthy_run: Option<Time>,
    /// Since when it has been well: running, and healthy if it has a check.
    pub well_since: Option<Time>,
    /// When it was last well.
    pub last_well: Option<Time>,
    /// Images that could not be had.
    pub pull: Budget,
    /// Units that could not be made.
    pub create: Budget,
    /// Starts that failed.
    pub start: Budget,
    /// Ends that nobody asked for.
    pub crash: Budget,
    /// Runs that became unhealthy.
    pub health: Budget,
    /// Stops that failed.
    pub stop: Budget,
    /// Removals that failed.
    pub remove: Budget,
    /// Whether something may be left of a removal that failed.
    pub half_removed: bool,
    /// Why trying again is no use, if it is not.
    pub permanent: Option<String>,
    /// Why nothing at all may be done before a person has looked at it.
    pub needs_operator: Option<String>,
    /// What a person was told of it last, as long as that lasts.
    pub told: Option<Alarm>,
}

/// What can happen to a unit. What the scanner sees is turned into these by [`remember`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// An operation has brought the unit to where this generation wants it; or the user cancelled it, and wants what
    /// runs to stay as it is until his next word.
    Applied {
        /// Which.
        generation: u64,
    },
    /// An operation has started it.
    Started,
    /// An operation has stopped it.
    Stopped,
    /// An operation has removed it.
    Removed,
    /// An operation failed, in a way that may pass.
    Failed {
        /// At what.
        fault: Fault,
        /// What went wrong.
        why: String,
    },
    /// An operation failed, in a way that does not pass by itself: a bad manifest, a missing device.
    Broken {
        /// What went wrong.
        why: String,
    },
    /// An operation could neither be brought to its end nor be undone.
    RollbackFailed {
        /// What went wrong.
        why: String,
    },
    /// It ended while it should run.
    Crashed {
        /// Its exit code.
        code: i32,
        /// When.
        at: Time,
    },
    /// It has ended, and that is no fault of its own: it was to, or the engine or the host went down with it.
    Ended {
        /// When.
        at: Time,
    },
    /// It is well: it runs, and is healthy if it has a check.
    BecameWell {
        /// Since when it runs.
        run: Time,
        /// Since when it has been seen to be well.
        since: Time,
    },
    /// It runs, and its check fails.
    BecameUnhealthy {
        /// Since when it runs.
        run: Time,
    },
    /// The user wants it to be tried again.
    Retried,
}

impl History {
    /// The budget for a fault.
    #[must_use]
    pub fn budget(&self, fault: Fault) -> &Budget {
        match fault {
            Fault::Pull => &self.pull,
            Fault::Create => &self.create,
            Fault::Start => &self.start,
            Fault::Crash => &self.crash,
            Fault::Health => &self.health,
            Fault::Stop => &self.stop,
            Fault::Remove => &self.remove,
        }
    }

    /// The history with what happened just now. An end, or a run found unhealthy, counts once however often it is
    /// told.
    #[must_use]
    pub fn record(&self, event: &Event, now: Time, jitter: Jitter) -> Self {
        let mut next = self.clone();
        match event {
            Event::Applied { generation } => {
                next.applied = Some(*generation);
                next.clear(&[Fault::Pull, Fault::Create, Fault::Start, Fault::Stop, Fault::Remove]);
                next.half_removed = false;
                next.acted_at = now;
            }
            Event::Started => {
                next.clear(&[Fault::Start, Fault::Stop]);
                next.acted_at = now;
            }
            Event::Stopped => {
                next.clear(&[Fault::Stop]);
                next.acted_at = now;
                next.well_since = None;
            }
            Event::Removed => {
                next.clear(&[Fault::Stop, Fault::Remove]);
                next.half_removed = false;
                next.acted_at = now;
                next.well_since = None;
            }
            Event::Failed { fault, why } => {
                next.fail(*fault, why.clone(), now, jitter);
                next.half_removed |= *fault == Fault::Remove;
                next.acted_at = now;
            }
            Event::Broken { why } => {
                next.permanent = Some(why.clone());
                next.acted_at = now;
            }
            Event::RollbackFailed { why } => {
                next.needs_operator = Some(why.clone());
                next.acted_at = now;
            }
            Event::Crashed { at, .. } | Event::Ended { at } if next.ended_at == Some(*at) => {}
            Event::Crashed { code, at } => {
                next.end(*at);
                next.fail(Fault::Crash, format!("exit {code}"), now, jitter);
            }
            Event::Ended { at } => next.end(*at),
            Event::BecameWell { run, since } => {
                let before = next.well_since.filter(|well| well >= run);
                next.well_since = Some(before.unwrap_or(*since));
                next.last_well = Some(now);
                next.forgive(now);
            }
            Event::BecameUnhealthy { run } => {
                next.forgive(now);
                next.well_since = None;
                if next.unhealthy_run != Some(*run) {
                    next.unhealthy_run = Some(*run);
                    next.fail(Fault::Health, "its check fails".to_owned(), now, jitter);
                }
            }
            Event::Retried => {
                next.clear(&Fault::ALL);
                next.permanent = None;
                next.needs_operator = None;
            }
        }
        next
    }

    fn end(&mut self, at: Time) {
        self.forgive(at);
        self.well_since = None;
        self.ended_at = Some(at);
    }

    /// Forgets what a unit did before it was well for long.
    fn forgive(&mut self, now: Time) {
        if self.well_since.is_some_and(|since| now.saturating_sub(since) >= FORGIVEN_AFTER) {
            self.clear(&[Fault::Crash, Fault::Health]);
        }
    }

    fn fail(&mut self, fault: Fault, why: String, at: Time, jitter: Jitter) {
        *self.budget_mut(fault) = self.budget(fault).failed(fault, why, at, jitter);
    }

    fn clear(&mut self, faults: &[Fault]) {
        for fault in faults {
            *self.budget_mut(*fault) = Budget::default();
        }
    }

    fn budget_mut(&mut self, fault: Fault) -> &mut Budget {
        match fault {
            Fault::Pull => &mut self.pull,
            Fault::Create => &mut self.create,
            Fault::Start => &mut self.start,
            Fault::Crash => &mut self.crash,
            Fault::Health => &mut self.health,
            Fault::Stop => &mut self.stop,
            Fault::Remove => &mut self.remove,
        }
    }

    /// The history for a generation: a new word of the user's is a wish to try again.
    fn for_generation(&self, generation: u64) -> Self {
        if self.generation == generation {
            return self.clone();
        }
        let mut next = self.clone();
        next.generation = generation;
        next.clear(&Fault::ALL);
        next.permanent = None;
        next
    }
}

/// The unit's history with what was observed of it. Telling the same thing twice changes nothing, and what happens
/// under an operation is that one's to tell.
///
#[must_use]
pub fn remember(situation: &Situation, now: Time, jitter: Jitter) -> History {
    let mut next = situation.history.for_generation(situation.intent.generation);
    if situation.operation(now).is_some() || situation.is_stale(now) {
        return next;
    }
    if situation.observed.seen == Seen::Absent {
        next.half_removed = false;
    }
    if let Seen::Ended { code: Some(0), .. } = situation.observed.seen {
        next.completed = next.applied;
    }
    match event(situation, now) {
        Some(event) => next.record(&event, now, jitter),
        None => next,
    }
}

/// What an observation tells.
fn event(situation: &Situation, now: Time) -> Option<Event> {
    let should_run = situation.intent.wish == Wish::Up && situation.is_applied();
    match situation.observed.seen {
        Seen::Ended { code: Some(code), at } if should_run => Some(Event::Crashed { code, at }),
        Seen::Ended { at, .. } => Some(Event::Ended { at }),
        Seen::Running { since, grace, health: Some(Health::Unhealthy), .. } => {
            (now >= since.saturating_add(grace)).then_some(Event::BecameUnhealthy { run: since })
        }
        Seen::Running { since, health: Some(Health::NoCheck), .. } => {
            Some(Event::BecameWell { run: since, since })
        }
        Seen::Running { since, health: Some(Health::Healthy), .. } => {
            Some(Event::BecameWell { run: since, since: situation.observed.at })
        }
        Seen::Absent | Seen::Running { .. } | Seen::Unknown => None,
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
