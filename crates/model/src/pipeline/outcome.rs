//! How steps and runs end. Each ending is a thing of its own, in words, in JSON and in the exit code.

use serde::{Deserialize, Serialize};

use crate::names::StepName;

/// How a step ended. A step of a run ends in exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It ran, and ended well.
    Passed,
    /// An earlier result was taken, since nothing that it can see has changed.
    Cached,
    /// It ran, and ended badly by its own doing.
    Failed {
        /// In which way.
        how: How,
    },
    /// It ran past its own time limit, or that of the run, and was ended.
    TimedOut {
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
    /// It ran, or waited, when the run was stopped on request.
    Cancelled,
    /// It was not run.
    Skipped {
        /// Because of what.
        because: Because,
    },
    /// It could not be run, or its result could not be kept: the engine, the kernel, a registry or the disk.
    Errored {
        /// What went wrong.
        what: String,
    },
}

/// In which way a step failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// With this exit code, which is not 0.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// The kernel ended it for want of memory.
    Oom,
    /// It could not be begun: there is no such program, working folder or user.
    NotBegun(String),
    /// It ended well, and a pattern of its `outputs` or `artifacts` fits nothing.
    Missing(String),
}

/// Why a step was not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// A step that it depends on did not end well, or, without `--keep-going`, any step did not.
    Step(StepName),
    /// Its own `when` does not hold; with what did not.
    When(String),
}

impl Outcome {
    /// Whether its files may be built on.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Passed | Self::Cached)
    }

    /// Whether it makes the run a bad one.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        !self.is_good() && !matches!(self, Self::Skipped { .. })
    }

    /// The word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Cached => "cached",
            Self::Failed { .. } => "failed",
            Self::TimedOut { .. } => "timed out",
            Self::Cancelled => "cancelled",
            Self::Skipped { .. } => "skipped",
            Self::Errored { .. } => "errored",
        }
    }
}

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::Oom => f.write_str("out of memory"),
            Self::NotBegun(why) => f.write_str(why),
            Self::Missing(pattern) => write!(f, "`{pattern}` fits no file that it left"),
        }
    }
}

impl std::fmt::Display for Because {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Step(step) => write!(f, "because of {step}"),
            Self::When(what) => f.write_str(what),
        }
    }
}

/// How a run ended: the worst of its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// Every step that was to run ended well.
    Passed,
    /// It was stopped on request.
    Cancelled,
    /// A step ran past its time.
    TimedOut,
    /// A step failed.
    Failed,
    /// A step could not be run.
    Errored,
}

impl RunOutcome {
    /// The worst of these steps.
    #[must_use]
    pub fn of<'a>(steps: impl IntoIterator<Item = &'a Outcome>) -> Self {
        let one = |outcome: &Outcome| match outcome {
            Outcome::Passed | Outcome::Cached | Outcome::Skipped { .. } => Self::Passed,
            Outcome::Cancelled => Self::Cancelled,
            Outcome::TimedOut { .. } => Self::TimedOut,
            Outcome::Failed { .. } => Self::Failed,
            Outcome::Errored { .. } => Self::Errored,
        };
        steps.into_iter().map(one).max().unwrap_or(Self::Passed)
    }

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed out",
            Self::Failed => "failed",
            Self::Errored => "errored",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_the_worst_of_its_steps() {
        let failed = Outcome::Failed { how: How::Exit(1) };
        let timed_out = Outcome::TimedOut { limit_ms: 1 };
        let errored = Outcome::Errored { what: "disk".to_owned() };
        let skipped = Outcome::Skipped { because: Because::When("branch".to_owned()) };
        let table = [
            (vec![], RunOutcome::Passed),
            (vec![&Outcome::Passed, &Outcome::Cached, &skipped], RunOutcome::Passed),
            (vec![&Outcome::Cancelled, &Outcome::Passed], RunOutcome::Cancelled),
            (vec![&Outcome::Cancelled, &timed_out], RunOutcome::TimedOut),
            (vec![&failed, &Outcome::Cancelled], RunOutcome::Failed),
            (vec![&failed, &errored, &timed_out], RunOutcome::Errored),
        ];
        for (steps, expected) in table {
            assert_eq!(RunOutcome::of(steps.iter().copied()), expected, "{steps:?}");
        }
    }
}
