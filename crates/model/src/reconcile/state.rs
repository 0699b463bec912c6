//! What a unit is shown as.

use serde::{Deserialize, Serialize};

use super::budget::Jitter;
use super::decision::Reason;
use super::facts::{Health, Millis, Phase, Seen, Situation, Time, Wish};
use super::history::{History, remember};
use super::outlook::{Outlook, outlook};
use crate::names::UnitName;

/// What a unit is shown as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// There is none.
    Absent,
    /// An operation waits for its turn.
    Queued,
    /// Its image is being fetched.
    Pulling {
        /// How much of it is here, where that is known.
        percent: Option<u8>,
    },
    /// Its image is being built.
    Building,
    /// It is being made.
    Creating,
    /// It comes up.
    Starting {
        /// Until when failures of its check do not count.
        until: Time,
    },
    /// It runs.
    Running {
        /// What its check says.
        #[serde(flatten)]
        health: Health,
    },
    /// It has been asked to end.
    Stopping {
        /// When.
        since: Time,
        /// How long it may take before it is killed.
        grace: Millis,
    },
    /// It is there and does not run.
    Stopped {
        /// What ended it.
        by: StoppedBy,
    },
    /// It failed, and is tried again after a while.
    BackOff {
        /// The number of the try.
        attempt: u32,
        /// When.
        until: Time,
    },
    /// Another unit has to come to something first.
    WaitingOn {
        /// Which.
        unit: UnitName,
    },
    /// One version replaces another.
    Updating {
        /// The version that was.
        from: String,
        /// The version that comes.
        to: String,
    },
    /// The version that was comes back.
    RollingBack,
    /// It is left to the user.
    Held {
        /// Why.
        #[serde(flatten)]
        reason: Reason,
    },
    /// Nothing may be done before a person has looked at it.
    NeedsOperator {
        /// Why.
        why: String,
    },
    /// It was here, and somebody else removed it.
    RemovedOutside,
    /// The engine gave no answer.
    Unknown,
}

/// What ended a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoppedBy {
    /// The user, who wants it to stay so.
    User,
    /// Its own end, with this exit code; nothing if nobody saw it.
    Exit(Option<i32>),
}

/// What a unit is shown as. As long as the lease of an operation holds, that is what the operation says, whatever is
/// observed. After it, what the engine said counts, unless something keeps the unit from what is wanted.
#[must_use]
pub fn displayed(situation: &Situation, now: Time) -> State {
    if let Some(operation) = situation.operation(now) {
        return transitional(&operation.phase);
    }
    let history = remember(situation, now, Jitter::NONE);
    let runs = matches!(situation.observed.seen, Seen::Running { .. });
    match outlook(situation, &history, now) {
        Outlook::NeedsOperator(why) => State::NeedsOperator { why },
        Outlook::Hold(reason) => State::Held { reason },
        // What runs is shown as running, also while a change of it waits.
        Outlook::BackOff { attempt, until, .. } if !runs => State::BackOff { attempt, until },
        Outlook::WaitFor(unit, _) if !runs => State::WaitingOn { unit },
        _ => seen(situation, &history, now),
    }
}

fn transitional(phase: &Phase) -> State {
    match phase {
        Phase::Queued => State::Queued,
        Phase::Pulling { percent } => State::Pulling { percent: *percent },
        Phase::Building => State::Building,
        Phase::Creating => State::Creating,
        Phase::Starting { until } => State::Starting { until: *until },
        Phase::Stopping { since, grace } => State::Stopping { since: *since, grace: *grace },
        Phase::Updating { from, to } => State::Updating { from: from.clone(), to: to.clone() },
        Phase::RollingBack => State::RollingBack,
    }
}

/// What the engine said, in the light of what is wanted.
fn seen(situation: &Situation, history: &History, now: Time) -> State {
    let wish = situation.intent.wish;
    match &situation.observed.seen {
        Seen::Unknown => State::Unknown,
        Seen::Absent if wish != Wish::Up || !situation.is_applied() => State::Absent,
        Seen::Absent if situation.rules.completes && history.completed == history.applied => {
            State::Stopped { by: StoppedBy::Exit(Some(0)) }
        }
        Seen::Absent => State::RemovedOutside,
        Seen::Ended { .. } if wish == Wish::Stopped => State::Stopped { by: StoppedBy::User },
        Seen::Ended { code, .. } => State::Stopped { by: StoppedBy::Exit(*code) },
        Seen::Running { since, grace, health, .. } => {
            let until = since.saturating_add(*grace);
            match health {
                None => State::Starting { until },
                Some(Health::Unhealthy) if now < until => State::Starting { until },
                Some(health) => State::Running { health: *health },
            }
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
