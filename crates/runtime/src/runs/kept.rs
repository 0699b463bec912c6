//! The forms in which runs are kept. They are the state's own: what a command prints has forms of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use setpoint_model::names::{PipelineName, StepName, UnitName};
use setpoint_model::pipeline::outcome::{Outcome, RunOutcome};

use super::RunsError;
use crate::pipeline::events::{Event, RunReport, StepPlan, StepReport};

/// The record of a run.
pub(super) const RECORD: &str = "run.json";
/// What happened in a run.
pub(super) const EVENTS: &str = "events.jsonl";

/// What the log of a service of a step is called. No step has such a name.
pub(super) fn service_log(step: &StepName, service: &UnitName) -> String {
    format!("{step}.{service}.log")
}

/// What is known of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) pipeline: PipelineName,
    /// The project's folder, for whoever looks at the state by hand: the folder above is called by a digest.
    pub(super) project: String,
    pub(super) began_at: Timestamp,
    pub(super) pid: u32,
    pub(super) plan: Vec<Plan>,
    pub(super) end: Option<End>,
}

/// A step as it was told at the beginning.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    step: StepName,
    command: String,
    parents: Vec<StepName>,
    cache_dirs: Vec<String>,
}

/// How a run ended.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) outcome: RunOutcome,
    pub(super) took_ms: u64,
    pub(super) steps: Vec<Step>,
    pub(super) artifacts: Option<Artifacts>,
}

/// The artifacts that were handed out.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Artifacts {
    pub(super) files: usize,
    pub(super) path: PathBuf,
}

/// How a step ended, without what it said.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Step {
    step: StepName,
    #[serde(flatten)]
    outcome: Outcome,
    took_ms: u64,
    saved_ms: Option<u64>,
    made_in: Option<u64>,
    attempts: u32,
    key: Option<String>,
}

/// A line of `events.jsonl`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) at: Timestamp,
    #[serde(flatten)]
    pub(super) entry: Entry,
}

/// Something that happened.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Entry {
    RunBegan {
        files: usize,
    },
    Note {
        step: Option<StepName>,
        text: String,
    },
    StepBegan {
        step: StepName,
        attempt: u32,
    },
    StepWaits {
        step: StepName,
    },
    StepServices {
        step: StepName,
        services: Vec<UnitName>,
    },
    /// The next so many lines of the step's log: the log has the text, this has the order among the steps.
    Output {
        step: StepName,
        lines: u64,
    },
    StepRetries {
        step: StepName,
        attempt: u32,
        #[serde(flatten)]
        outcome: Outcome,
        delay_ms: u64,
    },
    StepEnded(Step),
    RunEnded {
        outcome: RunOutcome,
        took_ms: u64,
    },
}

impl Entry {
    /// The entry for an event; none for output, which is kept in the logs, and for bytes that are fetched, which
    /// are of use only while they are.
    pub(super) fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::Output { .. } | Event::ServiceOutput { .. } | Event::StepFetches { .. } => return None,
            Event::RunBegan { files, .. } => Self::RunBegan { files: *files },
            Event::Note { step, text } => Self::Note { step: step.clone(), text: text.clone() },
            Event::StepBegan { step, attempt } => Self::StepBegan { step: step.clone(), attempt: *attempt },
            Event::StepWaits { step } => Self::StepWaits { step: step.clone() },
            Event::StepServices { step, services } => {
                Self::StepServices { step: step.clone(), services: services.clone() }
            }
            Event::StepRetries { step, attempt, outcome, delay } => Self::StepRetries {
                step: step.clone(),
                attempt: *attempt,
                outcome: outcome.clone(),
                delay_ms: milliseconds(*delay),
            },
            Event::StepEnded { report } => Self::StepEnded(Step::from(report)),
            Event::RunEnded { report } => {
                Self::RunEnded { outcome: report.outcome, took_ms: milliseconds(report.took) }
            }
        })
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<&StepPlan> for Plan {
    fn from(plan: &StepPlan) -> Self {
        Self {
            step: plan.step.clone(),
            command: plan.command.clone(),
            parents: plan.parents.clone(),
            cache_dirs: plan.cache_dirs.clone(),
        }
    }
}

impl From<Plan> for StepPlan {
    fn from(kept: Plan) -> Self {
        Self { step: kept.step, command: kept.command, parents: kept.parents, cache_dirs: kept.cache_dirs }
    }
}

impl From<&StepReport> for Step {
    fn from(report: &StepReport) -> Self {
        Self {
            step: report.step.clone(),
            outcome: report.outcome.clone(),
            took_ms: milliseconds(report.took),
            saved_ms: report.saved.map(milliseconds),
            made_in: report.made_in,
            attempts: report.attempts,
            key: report.key.clone(),
        }
    }
}

impl From<Step> for StepReport {
    fn from(kept: Step) -> Self {
        Self {
            step: kept.step,
            outcome: kept.outcome,
            took: Duration::from_millis(kept.took_ms),
            saved: kept.saved_ms.map(Duration::from_millis),
            made_in: kept.made_in,
            attempts: kept.attempts,
            key: kept.key,
            tail: Vec::new(),
        }
    }
}

impl From<&RunReport> for End {
    fn from(report: &RunReport) -> Self {
        Self {
            outcome: report.outcome,
            took_ms: milliseconds(report.took),
            steps: report.steps.iter().map(Step::from).collect(),
            artifacts: report
                .artifacts
                .as_ref()
                .map(|(files, path)| Artifacts { files: *files, path: path.clone() }),
        }
    }
}

/// The record of a run.
pub(super) fn read_head(folder: &Path, run: u64) -> Result<Head, RunsError> {
    let path = folder.join(RECORD);
    let text =
        std::fs::read(&path).map_err(|source| RunsError::Io { what: "read", path: path.clone(), source })?;
    serde_json::from_slice(&text).map_err(|error| RunsError::Damaged { run, path, why: error.to_string() })
}

/// The steps of a run that have ended so far, as its events tell. A line that cannot be read is passed over: it is
/// the last one, half written, or the disk's doing.
pub(super) fn steps_that_ended(folder: &Path) -> Vec<Step> {
    let Ok(file) = std::fs::File::open(folder.join(EVENTS)) else { return Vec::new() };
    let lines = BufReader::new(file).split(b'\n').map_while(Result::ok);
    let entries = lines.filter_map(|line| serde_json::from_slice::<Line>(&line).ok());
    entries
        .filter_map(|line| match line.entry {
            Entry::StepEnded(step) => Some(step),
            _ => None,
        })
        .collect()
}
