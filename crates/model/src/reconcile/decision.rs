//! What a decision says.

use serde::{Deserialize, Serialize};

use super::budget::Fault;
use super::facts::{Millis, Time};
use crate::import::compose::Condition;
use crate::names::UnitName;

/// What is to be done with a unit. How, the plan says. Nothing here, and nothing that follows from it, removes a
/// volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum Action {
    /// Bring it to what is declared, by a plan, and to running.
    Converge,
    /// Start what is there, as it was made.
    Start,
    /// Stop what runs and start it again, as it was made.
    Restart {
        /// How long it may take to stop before it is killed.
        grace: Millis,
    },
    /// Stop it.
    Stop {
        /// How long it may take before it is killed.
        grace: Millis,
    },
    /// Stop it if it runs, and remove it. Its volumes stay.
    Remove {
        /// How long it may take to stop before it is killed.
        grace: Millis,
    },
    /// Ask the operation that runs to end where it can: the user wants something else now.
    Cancel,
}

/// Why something is done, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "cause")]
pub enum Cause {
    /// The user's last word has not been brought about.
    NewGeneration {
        /// Its generation.
        generation: u64,
    },
    /// The user's last word is another than the one that the operation works for.
    Superseded {
        /// The generation that is wanted now.
        generation: u64,
    },
    /// It ended, and is to run.
    Ended {
        /// Its exit code, if anybody saw it.
        code: Option<i32>,
    },
    /// It runs, and its check fails.
    Unhealthy,
    /// Somebody else removed it.
    RemovedOutside,
    /// Its removal failed half-way, and nothing is started over what is left.
    HalfRemoved,
    /// The user wants it gone.
    Unwanted,
    /// The user wants it stopped.
    StoppedByUser,
    /// It is as it should be.
    AsDeclared,
    /// It has ended well, which is what others wait for.
    Completed,
    /// It runs, and differs from what is declared: the next `up` changes that.
    Drift,
    /// It runs, and its check does not count yet.
    Starting,
    /// Its restart policy leaves it as it is.
    RestartPolicy,
    /// An operation works on it.
    Operation,
    /// What was observed is older than what was done last.
    Stale,
    /// The engine gave no answer.
    NoAnswer,
    /// It failed a short while ago.
    BackOff {
        /// In which way.
        fault: Fault,
        /// The number of the try that is waited for.
        attempt: u32,
    },
    /// Another unit has not come to what this one needs.
    Dependency,
    /// It is left to the user.
    Held {
        /// Why.
        reason: Reason,
    },
    /// Nothing may be done before a person has looked at it.
    NeedsOperator {
        /// Why.
        why: String,
    },
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NewGeneration { generation } => write!(f, "generation {generation} is wanted"),
            Self::Superseded { generation } => write!(f, "generation {generation} is wanted instead"),
            Self::Ended { code: Some(code) } => write!(f, "it ended with exit {code}"),
            Self::Ended { code: None } => f.write_str("it ended, and nobody saw how"),
            Self::Unhealthy => f.write_str("its check fails"),
            Self::RemovedOutside => f.write_str("somebody else removed it"),
            Self::HalfRemoved => f.write_str("its removal failed half-way"),
            Self::Unwanted => f.write_str("it is not wanted any more"),
            Self::StoppedByUser => f.write_str("the user stopped it"),
            Self::AsDeclared => f.write_str("it is as it should be"),
            Self::Completed => f.write_str("it has ended well"),
            Self::Drift => f.write_str("it differs from what is declared, until the next `up`"),
            Self::Starting => f.write_str("its check does not count yet"),
            Self::RestartPolicy => f.write_str("its restart policy leaves it as it is"),
            Self::Operation => f.write_str("an operation works on it"),
            Self::Stale => f.write_str("it has not been looked at since the last operation"),
            Self::NoAnswer => f.write_str("the engine gives no answer"),
            Self::BackOff { fault, attempt } => write!(f, "{fault}: before try {attempt}"),
            Self::Dependency => f.write_str("it waits for another unit"),
            Self::Held { reason } => write!(f, "{reason}"),
            Self::NeedsOperator { why } => f.write_str(why),
        }
    }
}

/// Why a unit is left to the user until he wants it to be tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Reason {
    /// It failed too often.
    Spent {
        /// In which way.
        fault: Fault,
        /// How often.
        times: u32,
        /// What was said of the last time.
        why: String,
    },
    /// It failed in a way that does not pass by itself.
    Permanent {
        /// What went wrong.
        why: String,
    },
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Spent { fault, times: 1, why } => write!(f, "{fault} ({why})"),
            Self::Spent { fault, times, why } => write!(f, "{fault} ({times} times, the last: {why})"),
            Self::Permanent { why } => f.write_str(why),
        }
    }
}

/// What is to be done with a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What to do now, if anything.
    pub action: Option<Action>,
    /// Why that, or why nothing.
    pub cause: Cause,
    /// When to decide again, if nothing is observed before.
    pub wake_at: Option<Time>,
    /// The unit that is waited for, and what it has to come to.
    pub waiting_for: Option<(UnitName, Condition)>,
}

impl Decision {
    pub(super) fn rest(cause: Cause, wake_at: Option<Time>) -> Self {
        Self { action: None, cause, wake_at, waiting_for: None }
    }

    pub(super) fn act(action: Action, cause: Cause) -> Self {
        Self { action: Some(action), cause, wake_at: None, waiting_for: None }
    }
}
