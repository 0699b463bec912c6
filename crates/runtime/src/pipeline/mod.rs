//! Running pipelines: steps in sandboxes, on this run's source, and not again what cannot have changed.
//!
//! [`Runner::run`] asks the pure schedule what to do, looks steps up by their keys, runs those that have no result
//! yet, a thread each, and tells of everything in order.

mod artifacts;
mod error;
pub mod events;
mod keys;
mod lead;
mod occasion;
mod result;
mod services;
mod step;
mod tidy;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use setpoint_model::fingerprint::Fingerprint;
use setpoint_model::manifest::EnvValue;
use setpoint_model::names::StepName;
use setpoint_model::pipeline::ir::Pipeline;

pub use error::RunError;
pub use step::shell;
pub use tidy::take_down_services;
pub(crate) use tidy::{sweep_engine, sweep_snapshots};

use crate::cancel::Cancel;
use crate::engine::{Engine, StepSpec};
use crate::paths::Roots;
use crate::project::Project;
use crate::secrets::Sources;
use crate::snapshot::Snapshots;
use crate::store::cache::{Bounds, ResultRow};
use events::RunReport;

/// Runs pipelines of one project.
pub struct Runner<'a> {
    /// Where state lies.
    pub roots: &'a Roots,
    /// What runs steps.
    pub engine: &'a dyn Engine,
    /// The project, with the services of files of other tools.
    pub project: &'a Project,
    /// The caller's variables.
    pub variables: &'a BTreeMap<String, String>,
    /// The caller's home.
    pub home: Option<&'a Path>,
    /// How much the cache may hold.
    pub bounds: Bounds,
    /// Stops a run.
    pub cancel: &'a Cancel,
}

/// How a pipeline is to be run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The steps that are wanted, with all that they depend on; none is all of them.
    pub steps: Vec<StepName>,
    /// How many steps run side by side, at least 1.
    pub jobs: usize,
    /// Whether steps that do not depend on one that failed go on.
    pub keep_going: bool,
    /// Whether no earlier result is taken.
    pub no_cache: bool,
    /// Whether registries are asked what the images of steps mean now.
    pub pull: bool,
    /// How long the run may take, instead of what the pipeline says.
    pub timeout: Option<Duration>,
    /// Where artifacts go.
    pub output: Option<PathBuf>,
    /// Laid over the environment of every step.
    pub env: BTreeMap<String, EnvValue>,
    /// What led to the run.
    pub event: String,
    /// Whether what a failed step left is kept, for a shell.
    pub keep_failed: bool,
}

/// A run that ended. What a failed step left is there as long as this value; see [`Runner::end`].
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub report: RunReport,
    /// The first step that failed, as it left everything, if that was to be kept.
    pub failed: Option<(StepName, StepSpec)>,
    scratch: Option<tidy::Scratch>,
}

/// What a run would do with a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Planned {
    /// Take this result.
    Cached(ResultRow),
    /// Run it.
    Run,
    /// Run it, or not: that depends on the result of this step, which would run.
    Follows(StepName),
    /// Leave it out; with what of its `when` does not hold.
    Skipped(String),
}

/// A step as a run would meet it now.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedStep {
    /// Which.
    pub step: StepName,
    /// What would be done.
    pub planned: Planned,
    /// Its key, if everything that it builds on is there.
    pub key: Option<Fingerprint>,
}

impl Runner<'_> {
    /// Runs a pipeline.
    ///
    /// # Errors
    /// What keeps it from beginning; then nothing has run. How steps end is no error, but told in the report.
    pub fn run(
        &self,
        pipeline: &Pipeline,
        options: &Options,
        listener: &mut dyn events::Listener,
    ) -> Result<Finished, RunError> {
        lead::run(self, pipeline, options, listener)
    }

    /// Where values of secrets come from.
    pub(crate) fn sources(&self) -> Sources<'_> {
        let declared = &self.project.manifest.secrets;
        Sources { declared, variables: self.variables, home: self.home }
    }

    /// Removes what a failed step left, wherever it is kept.
    ///
    /// # Errors
    /// If the engine cannot remove its part; the next run does.
    pub fn end(&self, finished: Finished) -> Result<(), RunError> {
        if let Some(scratch) = &finished.scratch {
            services::take_down_left(self.roots, self.variables, &scratch.folder)?;
        }
        drop(finished);
        Ok(sweep_engine(self.roots, self.engine, &Snapshots::new(self.roots))?)
    }

    /// What a run would do, without running anything.
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub fn plan(&self, pipeline: &Pipeline, options: &Options) -> Result<Vec<PlannedStep>, RunError> {
        keys::plan(self, pipeline, options)
    }
}
