//! A run for machines: one event a line. The schema is `docs/reference/events.schema.json`.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use setpoint_model::pipeline::outcome::{Because, How, Outcome, RunOutcome};
use setpoint_runtime::pipeline::events::{Event, Listener, StepReport};

use crate::json::VERSION;
use crate::output::Output;

/// One line of `run --json`.
#[derive(Debug, Serialize, JsonSchema)]
struct Line {
    /// The version of these shapes. Fields may be added within a version.
    setpoint: u32,
    /// When, in UTC.
    at: String,
    #[serde(flatten)]
    event: Wire,
}

/// What happened.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "event")]
enum Wire {
    /// The run began.
    RunBegan {
        /// Its number in the project.
        run: u64,
        /// The pipeline.
        pipeline: String,
        /// How many files the source has.
        files: usize,
        /// The steps that are part of it, each after those that it waits for.
        steps: Vec<WireStep>,
    },
    /// Something to know, and not wrong.
    Note {
        /// The step that it is about.
        step: Option<String>,
        /// What there is to know.
        text: String,
    },
    /// A step began to run.
    StepBegan {
        /// Which.
        step: String,
        /// The number of the try, from 1.
        attempt: u32,
    },
    /// A step waits for another run that makes the same result.
    StepWaits {
        /// Which.
        step: String,
    },
    /// The base of a step is fetched.
    StepFetches {
        /// Which.
        step: String,
        /// Bytes so far.
        done: u64,
        /// Bytes in all, where that is known.
        total: Option<u64>,
    },
    /// A line of output, masked.
    Output {
        /// Which step.
        step: String,
        /// The line.
        line: String,
    },
    /// A try ended badly, and another follows.
    StepRetries {
        /// Which.
        step: String,
        /// The number of the try that ended.
        attempt: u32,
        /// How it ended.
        #[serde(flatten)]
        outcome: WireOutcome,
        /// Seconds until the next.
        delay: f64,
    },
    /// A step ended.
    StepEnded(WireReport),
    /// The run ended.
    RunEnded {
        /// How: `passed`, `cancelled`, `timed_out`, `failed`, `errored`.
        outcome: &'static str,
        /// Seconds.
        seconds: f64,
        /// Its steps.
        steps: Vec<WireReport>,
        /// How many artifacts were handed out.
        artifacts: Option<usize>,
    },
}

/// A step at the beginning.
#[derive(Debug, Serialize, JsonSchema)]
struct WireStep {
    step: String,
    command: String,
    parents: Vec<String>,
    /// Folders that it shares from run to run, outside of its key.
    cache_dirs: Vec<String>,
}

/// How a step ended.
#[derive(Debug, Serialize, JsonSchema)]
struct WireReport {
    step: String,
    #[serde(flatten)]
    outcome: WireOutcome,
    /// Seconds, all tries together.
    seconds: f64,
    /// For a cached step: the seconds that it took when it ran.
    saved: Option<f64>,
    /// For a cached step: the number of the run that made its result.
    made_in: Option<u64>,
    attempts: u32,
    /// The first digits of its key.
    key: Option<String>,
}

/// How it ended, and what there is to know about that.
#[derive(Debug, Serialize, JsonSchema)]
struct WireOutcome {
    /// `passed`, `cached`, `failed`, `timed_out`, `cancelled`, `skipped`, `errored`.
    outcome: &'static str,
    /// For a failure: the exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<i32>,
    /// For a failure: the signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    /// In words: how it failed, why it was skipped, what went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<String>,
}

impl From<&Outcome> for WireOutcome {
    fn from(outcome: &Outcome) -> Self {
        let plain = |outcome| Self { outcome, exit: None, signal: None, because: None };
        match outcome {
            Outcome::Passed => plain("passed"),
            Outcome::Cached => plain("cached"),
            Outcome::Cancelled => plain("cancelled"),
            Outcome::TimedOut { limit_ms } => {
                Self { because: Some(format!("after {limit_ms} ms")), ..plain("timed_out") }
            }
            Outcome::Skipped { because } => Self {
                because: Some(match because {
                    Because::Step(step) => step.to_string(),
                    Because::When(what) => what.clone(),
                }),
                ..plain("skipped")
            },
            Outcome::Errored { what } => Self { because: Some(what.clone()), ..plain("errored") },
            Outcome::Failed { how } => Self {
                exit: if let How::Exit(code) = how { Some(*code) } else { None },
                signal: if let How::Signal(signal) = how { Some(*signal) } else { None },
                because: Some(how.to_string()),
                ..plain("failed")
            },
        }
    }
}

impl From<&StepReport> for WireReport {
    fn from(report: &StepReport) -> Self {
        Self {
            step: report.step.to_string(),
            outcome: (&report.outcome).into(),
            seconds: report.took.as_secs_f64(),
            saved: report.saved.map(|saved| saved.as_secs_f64()),
            made_in: report.made_in,
            attempts: report.attempts,
            key: report.key.clone(),
        }
    }
}

/// The word of a run's outcome.
pub(crate) fn run_outcome(outcome: RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Passed => "passed",
        RunOutcome::Cancelled => "cancelled",
        RunOutcome::TimedOut => "timed_out",
        RunOutcome::Failed => "failed",
        RunOutcome::Errored => "errored",
    }
}

fn wire(event: &Event) -> Wire {
    match event {
        Event::RunBegan { run, pipeline, steps, files } => Wire::RunBegan {
            run: *run,
            pipeline: pipeline.to_string(),
            files: *files,
            steps: steps
                .iter()
                .map(|step| WireStep {
                    step: step.step.to_string(),
                    command: step.command.clone(),
                    parents: step.parents.iter().map(ToString::to_string).collect(),
                    cache_dirs: step.cache_dirs.clone(),
                })
                .collect(),
        },
        Event::Note { step, text } => {
            Wire::Note { step: step.as_ref().map(ToString::to_string), text: text.clone() }
        }
        Event::StepBegan { step, attempt } => Wire::StepBegan { step: step.to_string(), attempt: *attempt },
        Event::StepWaits { step } => Wire::StepWaits { step: step.to_string() },
        Event::StepFetches { step, done, total } => {
            Wire::StepFetches { step: step.to_string(), done: *done, total: *total }
        }
        Event::Output { step, line } => Wire::Output { step: step.to_string(), line: line.clone() },
        Event::StepRetries { step, attempt, outcome, delay } => Wire::StepRetries {
            step: step.to_string(),
            attempt: *attempt,
            outcome: outcome.into(),
            delay: delay.as_secs_f64(),
        },
        Event::StepEnded { report } => Wire::StepEnded(report.into()),
        Event::RunEnded { report } => Wire::RunEnded {
            outcome: run_outcome(report.outcome),
            seconds: report.took.as_secs_f64(),
            steps: report.steps.iter().map(WireReport::from).collect(),
            artifacts: report.artifacts.as_ref().map(|(files, _)| *files),
        },
    }
}

pub(super) struct Json(Output);

impl Json {
    pub(super) fn new(output: Output) -> Self {
        Self(output)
    }
}

impl Listener for Json {
    fn hear(&mut self, event: &Event) {
        let line = Line { setpoint: VERSION, at: format!("{:.3}", Timestamp::now()), event: wire(event) };
        self.0.event(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_that_of_the_types() {
        let settings = schemars::generate::SchemaSettings::draft2020_12();
        let schema = settings.into_generator().into_root_schema_for::<Line>();
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        crate::commands::golden("docs/reference/events.schema.json", &text);
    }

    #[test]
    fn an_event_is_one_line_with_what_there_is_to_know() {
        let failed = Outcome::Failed { how: How::Signal(9) };
        let report = StepReport {
            step: setpoint_model::names::StepName::new("test").unwrap(),
            outcome: failed,
            took: std::time::Duration::from_millis(1500),
            saved: None,
            made_in: None,
            attempts: 2,
            key: Some("abcd".to_owned()),
            tail: Vec::new(),
        };
        let text = serde_json::to_string(&wire(&Event::StepEnded { report })).unwrap();
        assert_eq!(
            text,
            "{\"event\":\"step_ended\",\"step\":\"test\",\"outcome\":\"failed\",\"signal\":9,\"because\":\"killed by signal 9\",\
             \"seconds\":1.5,\"saved\":null,\"made_in\":null,\"attempts\":2,\"key\":\"abcd\"}"
        );
    }
}
