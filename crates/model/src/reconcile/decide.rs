//! What is to be done with a unit now, why, and when to ask again.

use super::budget::Jitter;
use super::decision::{Action, Cause, Decision};
use super::facts::{Operation, Situation, Time};
use super::history::{History, remember};
use super::outlook::{Outlook, outlook};

/// Decides what is to be done with a unit, and gives its history with what was observed, which is to be stored before
/// anything is done: it holds until when a wait lasts.
///
/// While an operation runs, nothing is done; but one that works for an earlier word of the user's is asked to end, if
/// it [gives way](super::Phase::gives_way). What he wants instead is decided once it has ended.
#[must_use]
pub fn decide(situation: &Situation, now: Time, jitter: Jitter) -> (Decision, History) {
    let history = remember(situation, now, jitter);
    let decision = match situation.operation(now) {
        Some(operation) => under(operation, situation.intent.generation),
        None => from_outlook(outlook(situation, &history, now)),
    };
    (decision, history)
}

/// What is to be done while an operation runs.
fn under(operation: &Operation, generation: u64) -> Decision {
    let is_superseded = operation.generation != generation;
    if is_superseded && operation.phase.gives_way() && !operation.cancelled {
        return Decision::act(Action::Cancel, Cause::Superseded { generation });
    }
    Decision::rest(Cause::Operation, Some(operation.lease_until))
}

fn from_outlook(outlook: Outlook) -> Decision {
    match outlook {
        Outlook::Rest(cause, wake_at) => Decision::rest(cause, wake_at),
        Outlook::Act(action, cause) => Decision::act(action, cause),
        Outlook::BackOff { fault, attempt, until } => {
            Decision::rest(Cause::BackOff { fault, attempt }, Some(until))
        }
        Outlook::WaitFor(unit, condition) => {
            Decision { waiting_for: Some((unit, condition)), ..Decision::rest(Cause::Dependency, None) }
        }
        Outlook::Hold(reason) => Decision::rest(Cause::Held { reason }, None),
        Outlook::NeedsOperator(why) => Decision::rest(Cause::NeedsOperator { why }, None),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
