//! What happens in a run, told to whoever shows it or keeps it. Nothing is ever dropped: a listener is called, in
//! order, by the one thread that leads the run.

use std::time::Duration;

use setpoint_model::names::{PipelineName, StepName, UnitName};
use setpoint_model::pipeline::outcome::{Outcome, RunOutcome};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The run began.
    RunBegan {
        /// Its number in the project, counted from 1.
        run: u64,
        /// The pipeline.
        pipeline: PipelineName,
        /// The steps that are part of it, each after those that it depends on, with what they run.
        steps: Vec<StepPlan>,
        /// How many files the source has.
        files: usize,
    },
    /// Something that a user should know, and that is not wrong.
    Note {
        /// Which step it is about, if it is about one.
        step: Option<StepName>,
        /// What there is to know.
        text: String,
    },
    /// A step began to run. A step that is taken from the cache never does.
    StepBegan {
        /// Which.
        step: StepName,
        /// The number of the try, counted from 1.
        attempt: u32,
    },
    /// A step waits for another process that makes the same result.
    StepWaits {
        /// Which.
        step: StepName,
    },
    /// The base of a step is fetched.
    StepFetches {
        /// Which.
        step: StepName,
        /// Bytes so far.
        done: u64,
        /// Bytes in all, where that is known.
        total: Option<u64>,
    },
    /// The services of a step are brought up; it begins when they are well.
    StepServices {
        /// Which step.
        step: StepName,
        /// Those that it names.
        services: Vec<UnitName>,
    },
    /// A line of the output of a service that a step has. It comes when the service is about to go.
    ServiceOutput {
        /// Which step.
        step: StepName,
        /// Its service.
        service: UnitName,
        /// The line, without its end: valid UTF-8, secrets masked.
        line: String,
    },
    /// A line of a step's output.
    Output {
        /// Which step.
        step: StepName,
        /// The line, without its end: valid UTF-8, secrets masked.
        line: String,
    },
    /// A try of a step did not end well, and it is tried again.
    StepRetries {
        /// Which.
        step: StepName,
        /// The number of the try that failed.
        attempt: u32,
        /// How it ended.
        outcome: Outcome,
        /// How long is waited before the next.
        delay: Duration,
    },
    /// A step ended; it does so once.
    StepEnded {
        /// How.
        report: StepReport,
    },
    /// The run ended.
    RunEnded {
        /// How.
        report: RunReport,
    },
}

/// A step as it is told at the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepPlan {
    /// Its name.
    pub step: StepName,
    /// What it runs, on one line.
    pub command: String,
    /// The steps that it waits for.
    pub parents: Vec<StepName>,
    /// The folders that it shares from run to run.
    pub cache_dirs: Vec<String>,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepReport {
    /// Which.
    pub step: StepName,
    /// How.
    pub outcome: Outcome,
    /// How long it took, all tries together; nothing if it did not run.
    pub took: Duration,
    /// For a cached step: how long it took when it ran.
    pub saved: Option<Duration>,
    /// The number of the run that made its result, for a cached step whose run is of this project.
    pub made_in: Option<u64>,
    /// How many tries it took.
    pub attempts: u32,
    /// The first digits of its key, where it has one.
    pub key: Option<String>,
    /// For what failed: the last lines that it said.
    pub tail: Vec<String>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunReport {
    /// How.
    pub outcome: RunOutcome,
    /// How long it took.
    pub took: Duration,
    /// Its steps, each after those that it depends on.
    pub steps: Vec<StepReport>,
    /// The artifacts that were handed out: how many files, and where.
    pub artifacts: Option<(usize, std::path::PathBuf)>,
}

/// Hears what happens in a run.
pub trait Listener {
    /// Something happened.
    fn hear(&mut self, event: &Event);

    /// Nothing more happens for a while: what is held back for the sake of speed is to be shown or kept now. Whoever
    /// leads the run calls it before they wait.
    fn settle(&mut self) {}
}
