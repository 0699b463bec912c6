//! What `--json` gives. Every value carries `setpoint`, the version of these shapes.

pub(crate) mod run;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use setpoint_model::explain::Explained;
use setpoint_model::manifest::Problem;

use crate::error::Failure;

/// The version of the shapes. Fields may be added within a version.
pub(crate) const VERSION: u32 = 1;

/// A failure, on standard error.
#[derive(Debug, Serialize)]
pub(crate) struct Error<'a> {
    setpoint: u32,
    error: &'static str,
    exit: u8,
    message: &'a str,
    problems: &'a [Problem],
    hint: Option<&'a str>,
    /// How long nobody could reach what was stopped, of a change that did not come about.
    #[serde(skip_serializing_if = "Option::is_none")]
    outage_seconds: Option<f64>,
}

impl<'a> From<&'a Failure> for Error<'a> {
    fn from(failure: &'a Failure) -> Self {
        Self {
            setpoint: VERSION,
            error: failure.kind,
            exit: failure.exit as u8,
            message: &failure.message,
            problems: &failure.problems,
            hint: failure.hint.as_deref(),
            outage_seconds: failure.outage.map(|outage| outage.as_secs_f64()),
        }
    }
}

/// `status`.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) setpoint: u32,
    pub(crate) project: String,
    pub(crate) version: Option<String>,
    /// The version in effect, which another one that is declared waits to follow.
    pub(crate) in_effect: Option<String>,
    /// A change of versions that is not at its end, in words.
    pub(crate) change: Option<String>,
    /// `dev` of a project that is made of its own folder, `pinned` of one that comes from a release.
    pub(crate) mode: &'static str,
    /// Where it comes from.
    pub(crate) from: Option<String>,
    /// The digest of the release in effect.
    pub(crate) release: Option<String>,
    pub(crate) root: String,
    pub(crate) units: Vec<UnitStatus>,
    /// With `--tracked`, what it was read from; not there if that is more than anybody would watch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tracked: Option<Vec<TrackedFolder>>,
}

/// A folder of which something is tracked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TrackedFolder {
    pub(crate) folder: PathBuf,
    /// The names in it that count, whether or not they are there; nothing if whatever comes to lie in it does.
    pub(crate) names: Option<Vec<String>>,
}

/// A unit in `status`.
#[derive(Debug, Serialize)]
pub(crate) struct UnitStatus {
    pub(crate) unit: String,
    pub(crate) engine: &'static str,
    /// `absent`, `stopped`, `running`.
    pub(crate) state: String,
    /// When it was made, in UTC.
    pub(crate) created_at: Option<String>,
    /// The digest of the record.
    pub(crate) record: Option<String>,
    /// Whether `up` would do something.
    pub(crate) out_of_date: bool,
    pub(crate) changes: usize,
    /// Hooks that have not succeeded yet.
    pub(crate) pending: Vec<String>,
    /// Hooks of which nobody knows whether they ran.
    pub(crate) unknown: Vec<String>,
    /// What its health check said, where that fails.
    pub(crate) check: Option<String>,
    /// The last operation and how it ended.
    pub(crate) last: Option<LastOperation>,
}

/// The last operation on a unit.
#[derive(Debug, Serialize)]
pub(crate) struct LastOperation {
    pub(crate) what: String,
    /// `succeeded`, `failed`, `interrupted`.
    pub(crate) outcome: String,
    pub(crate) at: String,
}

/// `why`.
#[derive(Debug, Serialize)]
pub(crate) struct Why {
    pub(crate) setpoint: u32,
    pub(crate) unit: String,
    pub(crate) record: Option<String>,
    pub(crate) changes: Vec<Explained>,
    pub(crate) pending: Vec<String>,
}

/// `plan`, and `up` before it acts.
#[derive(Debug, Serialize)]
pub(crate) struct Plans {
    pub(crate) setpoint: u32,
    pub(crate) plans: Vec<UnitPlan>,
}

/// The plan of a unit.
#[derive(Debug, Serialize)]
pub(crate) struct UnitPlan {
    pub(crate) unit: String,
    pub(crate) action: setpoint_model::plan::Action,
    pub(crate) drift: bool,
    pub(crate) steps: Vec<PlanStep>,
}

/// A step of a plan.
#[derive(Debug, Serialize)]
pub(crate) struct PlanStep {
    pub(crate) step: String,
    pub(crate) because: String,
}

/// What `up`, `reprovision`, `stop` and `down` did.
#[derive(Debug, Serialize)]
pub(crate) struct Done {
    pub(crate) setpoint: u32,
    pub(crate) units: Vec<UnitDone>,
}

/// What `adopt` and `disown` did.
#[derive(Debug, Serialize)]
pub(crate) struct Passed {
    pub(crate) setpoint: u32,
    pub(crate) units: Vec<UnitPassed>,
}

/// A unit that was taken over or handed back.
#[derive(Debug, Serialize)]
pub(crate) struct UnitPassed {
    pub(crate) unit: String,
    /// The name of its container; none where there was none any more.
    pub(crate) container: Option<String>,
    /// The archive of its image, of one that was taken over and whose image no registry has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<PathBuf>,
    /// `adopted`, `already`, `disowned`.
    pub(crate) outcome: &'static str,
    /// Whether `up` would do something, of one that was taken over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) out_of_date: Option<bool>,
    /// How much of it differs from what is declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) changes: Option<usize>,
}

/// What was done to a unit.
#[derive(Debug, Serialize)]
pub(crate) struct UnitDone {
    pub(crate) unit: String,
    pub(crate) done: Vec<String>,
    pub(crate) record: Option<String>,
    pub(crate) seconds: f64,
}
