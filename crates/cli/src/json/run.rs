//! The events of a run as `--json` gives them.

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use setpoint_model::pipeline::outcome::{self, Because, How, RunOutcome};
use setpoint_runtime::pipeline::events;

use super::VERSION;

/// One event of a run, on a line of its own.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "Event of a run")]
pub(crate) struct Line {
    /// The version of these shapes.
    setpoint: u32,
    /// When it happened: RFC 3339 in UTC, to the millisecond.
    #[schemars(extend("format" = "date-time"))]
    at: String,
    #[serde(flatten)]
    event: Event,
}

/// What happened. More kinds may be added; pass over those that you do not know.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    /// The run began.
    RunBegan {
        /// Its number in the project, counted from 1.
        run: u64,
        /// The pipeline.
        pipeline: String,
        /// The steps, each after those that it depends on.
        steps: Vec<Step>,
        /// How many files the source has.
        files: usize,
    },
    /// Something to know that is not wrong.
    Note {
        /// The step that it is about.
        step: Option<String>,
        /// A text for people.
        text: String,
    },
    /// A step began to run. One that is cached never does.
    StepBegan {
        /// Which.
        step: String,
        /// The number of the try, counted from 1.
        attempt: u32,
    },
    /// A step waits for another process that makes the same result.
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
        /// Bytes in all.
        total: Option<u64>,
    },
    /// The services of a step are brought up; it begins when they are well.
    StepServices {
        /// Which step.
        step: String,
        /// Those that it names.
        services: Vec<String>,
    },
    /// A line that a service of a step said. It comes when the service is about to go.
    ServiceOutput {
        /// Which step.
        step: String,
        /// Its service.
        service: String,
        /// The line, without its end; secrets are masked.
        line: String,
    },
    /// A line that a step said.
    Output {
        /// Which step.
        step: String,
        /// The line, without its end; secrets are masked.
        line: String,
    },
    /// A try did not end well, and there is another.
    StepRetries {
        /// Which step.
        step: String,
        /// The number of the try that failed.
        attempt: u32,
        #[serde(flatten)]
        outcome: Outcome,
        /// Seconds until the next.
        delay: f64,
    },
    /// A step ended; it does so once.
    StepEnded(Ended),
    /// The run ended. This is the last event.
    RunEnded {
        /// How: the worst of its steps.
        outcome: RunWord,
        /// Seconds.
        took: f64,
        /// Its steps, each after those that it depends on.
        steps: Vec<Ended>,
        /// The artifacts that were handed out.
        artifacts: Option<Artifacts>,
    },
}

/// A step at the beginning of a run.
#[derive(Debug, Serialize, JsonSchema)]
struct Step {
    /// Its name.
    step: String,
    /// What it runs, on one line; a text for people.
    command: String,
    /// The steps that it waits for.
    parents: Vec<String>,
    /// The folders that it shares from run to run, which no key knows.
    cache_dirs: Vec<String>,
}

/// How a step ended.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Ended {
    /// Which.
    step: String,
    #[serde(flatten)]
    outcome: Outcome,
    /// Seconds, all tries together; 0 if it did not run.
    took: f64,
    /// For a cached step: seconds that it took when it ran.
    saved: Option<f64>,
    /// For a cached step: the run of this project that made its result.
    made_in: Option<u64>,
    /// How many tries it took.
    attempts: u32,
    /// The first digits of its key.
    key: Option<String>,
    /// For what failed: the last lines that it said.
    tail: Vec<String>,
}

/// An ending. The fields that do not belong to it are `null`.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct Outcome {
    outcome: Word,
    /// Of `failed`: in which way.
    how: Option<HowWord>,
    /// Of `failed` by `exit`: the code.
    exit: Option<i32>,
    /// Of `failed` by `signal`: its number.
    signal: Option<i32>,
    /// Of `failed` by `missing`: the pattern of `outputs` or `artifacts` that fits nothing.
    pattern: Option<String>,
    /// Of `timed_out`: the limit in seconds.
    limit: Option<f64>,
    /// Of `skipped`: the step that did not end well; `null` if its own condition does not hold.
    because: Option<String>,
    /// Of `skipped` by its condition, and of `errored`: a text for people.
    what: Option<String>,
}

/// How a step ended.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Word {
    /// It ran, and ended well.
    #[default]
    Passed,
    /// An earlier result was taken.
    Cached,
    /// It ran, and ended badly by its own doing.
    Failed,
    /// It ran past a time limit.
    TimedOut,
    /// The run was stopped on request.
    Cancelled,
    /// It was not run.
    Skipped,
    /// It could not be run, or its result could not be kept.
    Errored,
}

/// In which way a step failed.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum HowWord {
    /// With an exit code.
    Exit,
    /// By a signal.
    Signal,
    /// For want of memory.
    Oom,
    /// It could not be begun; see `what`.
    NotBegun,
    /// It ended well, and left no file that a pattern fits.
    Missing,
}

/// How a run ended.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunWord {
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

/// Artifacts that were handed out.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Artifacts {
    /// How many files.
    pub(crate) files: usize,
    /// The folder that they are in.
    pub(crate) path: String,
}

impl Line {
    pub(crate) fn new(at: Timestamp, event: &events::Event) -> Self {
        Self { setpoint: VERSION, at: format!("{at:.3}"), event: event.into() }
    }
}

impl From<&events::Event> for Event {
    fn from(event: &events::Event) -> Self {
        match event {
            events::Event::RunBegan { run, pipeline, steps, files } => Self::RunBegan {
                run: *run,
                pipeline: pipeline.to_string(),
                steps: steps.iter().map(Step::from).collect(),
                files: *files,
            },
            events::Event::Note { step, text } => {
                Self::Note { step: step.as_ref().map(ToString::to_string), text: text.clone() }
            }
            events::Event::StepBegan { step, attempt } => {
                Self::StepBegan { step: step.to_string(), attempt: *attempt }
            }
            events::Event::StepWaits { step } => Self::StepWaits { step: step.to_string() },
            events::Event::StepFetches { step, done, total } => {
                Self::StepFetches { step: step.to_string(), done: *done, total: *total }
            }
            events::Event::StepServices { step, services } => Self::StepServices {
                step: step.to_string(),
                services: services.iter().map(ToString::to_string).collect(),
            },
            events::Event::ServiceOutput { step, service, line } => Self::ServiceOutput {
                step: step.to_string(),
                service: service.to_string(),
                line: line.clone(),
            },
            events::Event::Output { step, line } => {
                Self::Output { step: step.to_string(), line: line.clone() }
            }
            events::Event::StepRetries { step, attempt, outcome, delay } => Self::StepRetries {
                step: step.to_string(),
                attempt: *attempt,
                outcome: outcome.into(),
                delay: seconds(*delay),
            },
            events::Event::StepEnded { report } => Self::StepEnded(report.into()),
            events::Event::RunEnded { report } => Self::RunEnded {
                outcome: report.outcome.into(),
                took: seconds(report.took),
                steps: report.steps.iter().map(Ended::from).collect(),
                artifacts: report.artifacts.as_ref().map(Artifacts::from),
            },
        }
    }
}

impl From<&events::StepPlan> for Step {
    fn from(plan: &events::StepPlan) -> Self {
        Self {
            step: plan.step.to_string(),
            command: plan.command.clone(),
            parents: plan.parents.iter().map(ToString::to_string).collect(),
            cache_dirs: plan.cache_dirs.clone(),
        }
    }
}

impl From<&events::StepReport> for Ended {
    fn from(report: &events::StepReport) -> Self {
        Self {
            step: report.step.to_string(),
            outcome: (&report.outcome).into(),
            took: seconds(report.took),
            saved: report.saved.map(seconds),
            made_in: report.made_in,
            attempts: report.attempts,
            key: report.key.clone(),
            tail: report.tail.clone(),
        }
    }
}

impl From<&(usize, std::path::PathBuf)> for Artifacts {
    fn from((files, path): &(usize, std::path::PathBuf)) -> Self {
        Self { files: *files, path: path.display().to_string() }
    }
}

impl From<&outcome::Outcome> for Outcome {
    fn from(outcome: &outcome::Outcome) -> Self {
        let of = |outcome| Self { outcome, ..Self::default() };
        match outcome {
            outcome::Outcome::Passed => of(Word::Passed),
            outcome::Outcome::Cached => of(Word::Cached),
            outcome::Outcome::Cancelled => of(Word::Cancelled),
            outcome::Outcome::Failed { how } => {
                let failed = |how| Self { how: Some(how), ..of(Word::Failed) };
                match how {
                    How::Exit(code) => Self { exit: Some(*code), ..failed(HowWord::Exit) },
                    How::Signal(signal) => Self { signal: Some(*signal), ..failed(HowWord::Signal) },
                    How::Oom => failed(HowWord::Oom),
                    How::NotBegun(why) => Self { what: Some(why.clone()), ..failed(HowWord::NotBegun) },
                    How::Missing(pattern) => {
                        Self { pattern: Some(pattern.clone()), ..failed(HowWord::Missing) }
                    }
                }
            }
            outcome::Outcome::TimedOut { limit_ms } => {
                Self { limit: Some(seconds(Duration::from_millis(*limit_ms))), ..of(Word::TimedOut) }
            }
            outcome::Outcome::Skipped { because: Because::Step(step) } => {
                Self { because: Some(step.to_string()), ..of(Word::Skipped) }
            }
            outcome::Outcome::Skipped { because: Because::When(what) } => {
                Self { what: Some(what.clone()), ..of(Word::Skipped) }
            }
            outcome::Outcome::Errored { what } => Self { what: Some(what.clone()), ..of(Word::Errored) },
        }
    }
}

impl From<RunOutcome> for RunWord {
    fn from(outcome: RunOutcome) -> Self {
        match outcome {
            RunOutcome::Passed => Self::Passed,
            RunOutcome::Cancelled => Self::Cancelled,
            RunOutcome::TimedOut => Self::TimedOut,
            RunOutcome::Failed => Self::Failed,
            RunOutcome::Errored => Self::Errored,
        }
    }
}

/// Seconds, to the millisecond.
pub(crate) fn seconds(duration: Duration) -> f64 {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)).as_secs_f64()
}

/// The JSON Schema of an event, for `docs/reference/events.schema.json`.
#[cfg(test)]
pub(crate) fn schema() -> serde_json::Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<Line>().to_value()
}
