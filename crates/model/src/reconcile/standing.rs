//! What a unit has come to in the eyes of those that come after it.

use serde::{Deserialize, Serialize};

use super::budget::Jitter;
use super::decision::Cause;
use super::facts::{Health, Seen, Situation, Time, Wish};
use super::history::remember;
use super::outlook::{Outlook, outlook};
use super::state::{State, StoppedBy, displayed};
use crate::import::compose::{Condition, Dependency};

/// What a unit has come to, of what others can wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// It runs as it is wanted now, or has ended well.
    pub started: bool,
    /// It runs as it is wanted now, and its check passes.
    pub healthy: bool,
    /// It has ended well.
    pub completed: bool,
    /// It may yet come to more by itself.
    pub coming: bool,
}

impl Standing {
    /// Whether it has come to this.
    #[must_use]
    pub fn meets(self, condition: Condition) -> bool {
        match condition {
            Condition::Started => self.started,
            Condition::Healthy => self.healthy,
            Condition::Completed => self.completed,
        }
    }

    /// Whether what depends on it in this way has to wait. What can do without waits only as long as there is hope.
    #[must_use]
    pub fn gates(self, dependency: Dependency) -> bool {
        !self.meets(dependency.condition) && (dependency.required || self.coming)
    }
}

/// What a unit has come to. One that the user's last word has not reached yet, or does not want to run, has come to
/// nothing: what depends on it waits for the new one.
#[must_use]
pub fn standing(situation: &Situation, now: Time) -> Standing {
    if situation.intent.wish != Wish::Up {
        return Standing::default();
    }
    let coming = is_coming(situation, now);
    if !situation.is_applied() {
        return Standing { coming, ..Standing::default() };
    }
    let state = displayed(situation, now);
    let is_ending = matches!(state, State::Stopping { .. });
    let completed = state == State::Stopped { by: StoppedBy::Exit(Some(0)) };
    let (runs, passes) = match situation.observed.seen {
        Seen::Running { health, .. } if !is_ending => (true, health == Some(Health::Healthy)),
        _ => (false, false),
    };
    Standing { started: completed || runs, healthy: passes, completed, coming }
}

/// Whether a unit that is wanted may yet come to more by itself.
fn is_coming(situation: &Situation, now: Time) -> bool {
    if situation.operation(now).is_some() {
        return true;
    }
    let history = remember(situation, now, Jitter::NONE);
    match outlook(situation, &history, now) {
        Outlook::Act(..) | Outlook::BackOff { .. } | Outlook::WaitFor(..) => true,
        Outlook::Rest(Cause::Starting | Cause::Stale, _) => true,
        Outlook::Rest(Cause::AsDeclared | Cause::Drift, _) => {
            let health = situation.observed.seen.health();
            situation.rules.completes || matches!(health, Some(Health::Syncing { .. }))
        }
        Outlook::Rest(..) | Outlook::Hold(_) | Outlook::NeedsOperator(_) => false,
    }
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
