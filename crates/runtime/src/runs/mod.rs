//! The kept runs of a project's pipelines: how they ended, and what their steps said.
//!
//! A run is a folder, `<state>/runs/v1/<project>/<number>/`: `run.json` with what began and how it ended,
//! `events.jsonl` with what happened in order, and a `<step>.log` for each step that said something, `<step>.<service>.log` for a service of one. The process
//! that leads the run holds a lock on `events.jsonl`, so that a run whose process died is told apart from one that
//! goes on. Nothing here is synced: what a power cut takes is only history.

mod follow;
mod kept;
mod log;
mod retention;
#[cfg(test)]
mod tests;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use setpoint_model::names::{PipelineName, StepName, UnitName};
use setpoint_model::pipeline::outcome::RunOutcome;

use crate::paths::{Roots, project_key};
use crate::pipeline::events::{StepPlan, StepReport};
use crate::room;

pub use self::follow::Follower;
pub use self::log::RunLog;

/// Why kept runs could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    /// The project has no runs.
    #[error("no run of a pipeline is kept for `{}`", project.display())]
    NoRuns {
        /// The project's folder.
        project: PathBuf,
    },
    /// There is no such run.
    #[error("there is no run {run}; kept are {first} to {last}")]
    NoRun {
        /// The number that was asked for.
        run: u64,
        /// The oldest that is kept.
        first: u64,
        /// The newest that is kept.
        last: u64,
    },
    /// What is kept of a run is not what was written.
    #[error("run {run} cannot be read: `{}` is damaged: {why}", path.display())]
    Damaged {
        /// The run.
        run: u64,
        /// Its record.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// A file or folder could not be used.
    #[error("cannot {what} `{}`: {source}", path.display())]
    Io {
        /// What was tried: `read`, `write`.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl RunsError {
    /// What to do next, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoRuns { .. } => Some("`setpoint run` runs a pipeline".to_owned()),
            Self::NoRun { .. } => Some("`setpoint runs` lists them".to_owned()),
            Self::Damaged { path, .. } => {
                let folder = path.parent().unwrap_or(path);
                Some(format!("only history is lost; `rm -r {}` forgets the run", folder.display()))
            }
            Self::Io { source, path, .. } => room::hint(source, path),
        }
    }
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It goes on.
    Running,
    /// Its process died before it could say how it ended.
    Interrupted,
    /// It ended.
    Ended {
        /// How.
        outcome: RunOutcome,
        /// How long it took.
        took: Duration,
        /// The artifacts that were handed out: how many files, and where.
        artifacts: Option<(usize, PathBuf)>,
    },
}

/// A run that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its number in the project.
    pub number: u64,
    /// The pipeline.
    pub pipeline: PipelineName,
    /// When it began.
    pub began_at: Timestamp,
    /// The process that leads it, or led it.
    pub pid: u32,
    /// What became of it.
    pub state: State,
    /// The steps that it began with; none if it had not come so far.
    pub plan: Vec<StepPlan>,
    /// The steps that ended; of a run that did not end, in the order in which they did. Their last lines are in
    /// their logs only.
    pub steps: Vec<StepReport>,
}

/// The runs of a project.
#[derive(Debug)]
pub struct Listing {
    /// Those that can be read, the newest first.
    pub runs: Vec<Run>,
    /// Those that cannot.
    pub damaged: Vec<RunsError>,
}

/// What the runs of a project are kept under, and their results are said to be of.
#[must_use]
pub fn project_id(project_root: &Path) -> String {
    project_key(project_root, None).to_hex()
}

/// Where the runs of a project are kept.
#[derive(Debug, Clone)]
pub struct Runs {
    project: PathBuf,
    folder: PathBuf,
}

impl Runs {
    /// The runs of the project in this folder. Nothing is read or made.
    #[must_use]
    pub fn of(roots: &Roots, project_root: &Path) -> Self {
        let folder = roots.state.join("runs/v1").join(project_id(project_root));
        Self { project: project_root.to_owned(), folder }
    }

    /// The runs of all projects, each with what they are kept under.
    ///
    /// # Errors
    /// [`RunsError::Io`] if their folder cannot be read; one that is not there holds no runs.
    pub fn all(roots: &Roots) -> Result<Vec<(String, Self)>, RunsError> {
        let folder = roots.state.join("runs/v1");
        let unreadable = |source| RunsError::Io { what: "read", path: folder.clone(), source };
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(unreadable)?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let path = entry.map_err(unreadable)?.path();
            if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
                all.push((name.to_owned(), Self { project: path.clone(), folder: path.clone() }));
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }

    /// The newest runs, at most so many. What is damaged is told beside them, and does not hide the others.
    ///
    /// # Errors
    /// [`RunsError::Io`] if the folder cannot be read; one that is not there holds no runs.
    pub fn list(&self, at_most: usize) -> Result<Listing, RunsError> {
        let mut listing = Listing { runs: Vec::new(), damaged: Vec::new() };
        for number in self.numbers()?.into_iter().rev().take(at_most) {
            match self.load(number) {
                Ok(run) => listing.runs.push(run),
                // Removed since the folder was read.
                Err(RunsError::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && !self.folder_of(number).exists() => {}
                Err(error) => listing.damaged.push(error),
            }
        }
        Ok(listing)
    }

    /// The run of this number, or the newest.
    ///
    /// # Errors
    /// [`RunsError::NoRuns`], [`RunsError::NoRun`]; [`RunsError::Damaged`] and [`RunsError::Io`] if it is there and
    /// cannot be read.
    pub fn read(&self, number: Option<u64>) -> Result<Run, RunsError> {
        let numbers = self.numbers()?;
        let (Some(first), Some(last)) = (numbers.first().copied(), numbers.last().copied()) else {
            return Err(RunsError::NoRuns { project: self.project.clone() });
        };
        let number = number.unwrap_or(last);
        if !numbers.contains(&number) {
            return Err(RunsError::NoRun { run: number, first, last });
        }
        self.load(number)
    }

    /// The services that a step had in a run and that said something, by their names.
    ///
    /// # Errors
    /// [`RunsError::Io`] if the run's folder cannot be read.
    pub fn services(&self, run: u64, step: &StepName) -> Result<Vec<UnitName>, RunsError> {
        let folder = self.folder_of(run);
        let unreadable = |source| RunsError::Io { what: "read", path: folder.clone(), source };
        let mut services = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            let service = name
                .to_str()
                .and_then(|name| name.strip_prefix(step.as_str())?.strip_prefix('.')?.strip_suffix(".log"));
            services.extend(service.and_then(|service| UnitName::new(service).ok()));
        }
        services.sort();
        Ok(services)
    }

    /// What a service of a step said in a run, line by line.
    ///
    /// # Errors
    /// [`RunsError::Io`] if it said nothing, or that cannot be read.
    pub fn said_by(&self, run: u64, step: &StepName, service: &UnitName) -> Result<Vec<String>, RunsError> {
        let path = self.folder_of(run).join(kept::service_log(step, service));
        let bytes = std::fs::read(&path).map_err(|source| RunsError::Io { what: "read", path, source })?;
        Ok(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect())
    }

    fn folder_of(&self, number: u64) -> PathBuf {
        self.folder.join(number.to_string())
    }

    /// The numbers that are there, in order.
    fn numbers(&self) -> Result<Vec<u64>, RunsError> {
        let unreadable = |source| RunsError::Io { what: "read", path: self.folder.clone(), source };
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(unreadable)?,
        };
        let mut numbers = Vec::new();
        for entry in entries {
            let name = entry.map_err(unreadable)?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn load(&self, number: u64) -> Result<Run, RunsError> {
        let folder = self.folder_of(number);
        // Asked before the record is read: a run that ends in between has its end in the record.
        let running = is_running(&folder);
        let head = kept::read_head(&folder, number)?;
        let (state, steps) = match head.end {
            Some(end) => (
                State::Ended {
                    outcome: end.outcome,
                    took: Duration::from_millis(end.took_ms),
                    artifacts: end.artifacts.map(|kept| (kept.files, kept.path)),
                },
                end.steps,
            ),
            None if running => (State::Running, kept::steps_that_ended(&folder)),
            None => (State::Interrupted, kept::steps_that_ended(&folder)),
        };
        Ok(Run {
            number,
            pipeline: head.pipeline,
            began_at: head.began_at,
            pid: head.pid,
            state,
            plan: head.plan.into_iter().map(StepPlan::from).collect(),
            steps: steps.into_iter().map(StepReport::from).collect(),
        })
    }
}

/// Whether the process that leads the run in this folder lives.
fn is_running(folder: &Path) -> bool {
    let Ok(events) = File::open(folder.join(kept::EVENTS)) else { return false };
    matches!(events.try_lock_shared(), Err(TryLockError::WouldBlock))
}
