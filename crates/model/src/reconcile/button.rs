//! What the main button of a unit says, and does: a function of what is shown and of drift alone.

use serde::{Deserialize, Serialize};

use super::facts::{Health, Millis, Time};
use super::state::State;
use crate::names::UnitName;

/// A button.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Button {
    /// What it says.
    pub label: String,
    /// What it does.
    pub does: Does,
}

/// What a button does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "does")]
pub enum Does {
    /// Starts the unit.
    Start,
    /// Cancels the operation.
    Cancel,
    /// Stops the unit.
    Stop,
    /// Opens its page.
    Open,
    /// Brings it to what is declared.
    Up,
    /// Stops it and starts it again.
    Restart,
    /// Shows another unit.
    GoTo {
        /// Which.
        unit: UnitName,
    },
    /// Kills what has not ended in its time.
    Kill,
    /// Tries again without waiting any longer.
    SkipWait,
    /// Cancels the update and brings back what was.
    RollBack,
    /// Shows why: its output, a way to try again, the runbook.
    Explain,
    /// Brings it to what is declared again, whatever happened to it.
    Converge,
    /// Nothing: it only tells.
    Nothing,
}

/// The main button of a unit that is shown like this. Where several things could be said of one that runs, that it is
/// unhealthy comes first, then drift, then that it is not up to date with others.
#[must_use]
pub fn button(state: &State, drift: bool, now: Time) -> Button {
    let (label, does) = match state {
        State::Absent | State::Stopped { .. } => ("Start".to_owned(), Does::Start),
        State::Pulling { percent: Some(percent) } => (format!("Cancel ({percent}%)"), Does::Cancel),
        State::Queued | State::Pulling { percent: None } | State::Building | State::Creating => {
            ("Cancel".to_owned(), Does::Cancel)
        }
        State::Starting { .. } => ("Starting...".to_owned(), Does::Stop),
        State::Running { health: Health::Unhealthy } => ("Restart".to_owned(), Does::Restart),
        State::Running { .. } if drift => ("Update".to_owned(), Does::Up),
        State::Running { health: Health::Syncing { percent } } => (format!("Syncing {percent}%"), Does::Open),
        State::Running { health: Health::NoCheck | Health::Healthy } => ("Stop".to_owned(), Does::Stop),
        State::WaitingOn { unit } => (format!("Waiting for {unit}"), Does::GoTo { unit: unit.clone() }),
        State::Stopping { since, grace } => stopping(since.saturating_add(*grace).saturating_sub(now)),
        State::BackOff { until, .. } => {
            let seconds = until.saturating_sub(now).div_ceil(1000);
            (format!("Retry now ({seconds} s)"), Does::SkipWait)
        }
        State::Updating { .. } => ("Roll back".to_owned(), Does::RollBack),
        State::RollingBack => ("Rolling back...".to_owned(), Does::Nothing),
        State::Held { .. } | State::NeedsOperator { .. } => ("Failed: see why".to_owned(), Does::Explain),
        State::RemovedOutside | State::Unknown => ("Repair".to_owned(), Does::Converge),
    };
    Button { label, does }
}

/// While a unit has time to end by itself, that is told; then it can be killed.
fn stopping(left: Millis) -> (String, Does) {
    if left == 0 {
        return ("Kill now".to_owned(), Does::Kill);
    }
    let seconds = left.div_ceil(1000);
    (format!("Stopping... {}:{:02} of grace", seconds / 60, seconds % 60), Does::Nothing)
}

/// The button beside the main one: Stop, where the main one does not do that and there is something to stop; else Open,
/// where the unit runs and has a page.
#[must_use]
pub fn second(state: &State, drift: bool, has_page: bool) -> Option<Button> {
    let stop = Button { label: "Stop".to_owned(), does: Does::Stop };
    let open = Button { label: "Open".to_owned(), does: Does::Open };
    match state {
        State::Running { health: Health::NoCheck | Health::Healthy } if !drift => has_page.then_some(open),
        // There is nothing to stop, or it is being stopped, or the main button does it, or nothing may be done.
        State::Absent
        | State::Stopped { .. }
        | State::Stopping { .. }
        | State::Starting { .. }
        | State::NeedsOperator { .. } => None,
        _ => Some(stop),
    }
}

#[cfg(test)]
#[path = "button_tests.rs"]
mod tests;
