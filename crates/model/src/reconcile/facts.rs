//! What is known of a unit, in three parts that never overwrite each other: what the user wants, what is being done,
//! and what the engine said.

use serde::{Deserialize, Serialize};

use super::history::History;
use super::standing::Standing;
use crate::import::compose::{Dependency, RestartPolicy};
use crate::names::UnitName;

/// A point in time: milliseconds since 1970, by the clock of whoever asks.
pub type Time = u64;

/// A span of time in milliseconds.
pub type Millis = u64;

/// What the user wants of a unit. It is stored, and so outlives a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// What the unit is to be.
    pub wish: Wish,
    /// Grows with every word of the user's on this unit: an `up`, a stop, a start, a `down`. What was done for an
    /// earlier one is not what is wanted now.
    pub generation: u64,
}

/// What a unit is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// As it is declared, and running.
    Up,
    /// Stopped, until the user says otherwise.
    Stopped,
    /// Not there. Its volumes stay.
    Gone,
}

/// What is being done to a unit. There is one operation at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Who asked for it.
    pub by: Actor,
    /// The generation of the intent that it works for.
    pub generation: u64,
    /// When it began.
    pub since: Time,
    /// How far it is.
    pub phase: Phase,
    /// When whoever leads it is given up for dead, unless he renews this.
    pub lease_until: Time,
    /// Whether it has been asked to end, and is on its way to a place where it can.
    pub cancelled: bool,
}

/// Who asks for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The user.
    User,
    /// The reconciler, by itself.
    Reconciler,
}

/// How far an operation is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum Phase {
    /// It waits for its turn.
    Queued,
    /// It fetches the image.
    Pulling {
        /// How much of it is here, where that is known.
        percent: Option<u8>,
    },
    /// It builds the image.
    Building,
    /// It makes the unit.
    Creating,
    /// The unit comes up.
    Starting {
        /// Until when failures of its check do not count.
        until: Time,
    },
    /// The unit has been asked to end, or is being removed.
    Stopping {
        /// When it was asked.
        since: Time,
        /// How long it may take before it is killed.
        grace: Millis,
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
}

impl Phase {
    /// Whether a new word of the user's ends it before its end. A stop takes its time, and updates and their undoing
    /// have a journal of their own: these come to their end first.
    #[must_use]
    pub fn gives_way(&self) -> bool {
        match self {
            Self::Queued | Self::Pulling { .. } | Self::Building | Self::Creating | Self::Starting { .. } => {
                true
            }
            Self::Stopping { .. } | Self::Updating { .. } | Self::RollingBack => false,
        }
    }
}

/// What the engine said of a unit. Only the scanner writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// When it was asked.
    pub at: Time,
    /// What it said.
    pub seen: Seen,
    /// Whether what there is differs from what is declared.
    pub drift: bool,
}

/// What an engine says of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Seen {
    /// There is none.
    Absent,
    /// It runs.
    Running {
        /// Which instance.
        instance: String,
        /// Since when.
        since: Time,
        /// For how long after its start failures of its check do not count; 0 without a check.
        grace: Millis,
        /// What its check says; nothing while it has said nothing yet.
        #[serde(flatten)]
        health: Option<Health>,
    },
    /// It is there and does not run.
    Ended {
        /// Its exit code; nothing if nobody saw its end: the engine or the host went down with it.
        code: Option<i32>,
        /// When it ended, or was first found to have: the same at every look at the same end.
        at: Time,
    },
    /// The engine gave no answer.
    Unknown,
}

impl Seen {
    /// What the check of a unit that runs says, if it says something.
    #[must_use]
    pub fn health(&self) -> Option<Health> {
        match self {
            Self::Running { health, .. } => *health,
            Self::Absent | Self::Ended { .. } | Self::Unknown => None,
        }
    }
}

/// What is known of the health of a unit that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "health")]
pub enum Health {
    /// It has no check: that it runs is all there is to know.
    NoCheck,
    /// Its check passes.
    Healthy,
    /// Its check fails.
    Unhealthy,
    /// It works, and is not up to date with others of its kind yet.
    Syncing {
        /// How far it is.
        percent: u8,
    },
}

/// What of a unit's declaration counts for how it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// When it is started again.
    pub restart: RestartPolicy,
    /// Whether others wait for its end: then it is done when it has ended well.
    pub completes: bool,
    /// How long it may take to stop before it is killed.
    pub stop_grace: Millis,
}

/// A unit that comes before another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaited {
    /// Which.
    pub unit: UnitName,
    /// How it is needed.
    pub dependency: Dependency,
    /// What it has come to: see [`standing`](super::standing()).
    pub standing: Standing,
}

/// All that a decision on one unit is a function of, apart from the time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Situation {
    /// What the user wants.
    pub intent: Intent,
    /// What is being done, if something is.
    pub operation: Option<Operation>,
    /// What the engine said.
    pub observed: Observed,
    /// The units that come before it.
    pub dependencies: Vec<Awaited>,
    /// How it is declared to be kept.
    pub rules: Rules,
    /// What happened to it before.
    pub history: History,
}

impl Situation {
    /// The operation, as long as its lease holds.
    #[must_use]
    pub fn operation(&self, now: Time) -> Option<&Operation> {
        self.operation.as_ref().filter(|operation| now < operation.lease_until)
    }

    /// Whether it was observed before the last operation ended, and so may not show what came of that.
    pub(super) fn is_stale(&self, now: Time) -> bool {
        let acted_at = self.history.acted_at;
        // After a clock that went back, every observation looks old.
        self.observed.at < acted_at && acted_at <= now
    }

    /// Whether what the user wants now has been brought about once.
    pub(super) fn is_applied(&self) -> bool {
        self.history.applied == Some(self.intent.generation)
    }
}
