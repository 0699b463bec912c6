//! What can go wrong with an evaluation.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use setpoint_model::manifest::{Problem, nearest};

use crate::engine::EngineError;
use crate::lock::LockError;
use crate::secrets::SecretError;

/// Why a pipeline could not be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum DslError {
    /// There is no interpreter.
    #[error(
        "pipelines in Python need Python 3.9 or newer, and there is no python3 in /usr/local/bin or /usr/bin"
    )]
    NoPython,
    /// The interpreter is too old.
    #[error("pipelines in Python need Python 3.9 or newer, and {} is older", python.display())]
    OldPython {
        /// The interpreter.
        python: PathBuf,
    },
    /// There is no such pipeline.
    #[error("there is no pipeline `{name}`; there is: {}", known.join(", "))]
    Unknown {
        /// As it was asked for.
        name: String,
        /// Those that are declared.
        known: Vec<String>,
    },
    /// The user's code failed, or declares what cannot be.
    #[error("{} cannot be evaluated\n{trace}", pipeline.as_ref().map_or("what declares the pipelines".to_owned(), |name| format!("the pipeline `{name}`")))]
    Failed {
        /// Which pipeline; none if it was about all of them.
        pipeline: Option<String>,
        /// What went wrong, and where in the project's own files.
        trace: String,
    },
    /// What it gave is no pipeline that can run.
    #[error("the pipeline `{pipeline}` cannot run")]
    Problems {
        /// Which.
        pipeline: String,
        /// What is wrong with it.
        problems: Vec<Problem>,
    },
    /// It took too long.
    #[error("the pipeline was not evaluated within {} s", .0.as_secs())]
    Slow(Duration),
    /// The interpreter did not do as it should.
    #[error("the pipeline could not be evaluated: {0}")]
    Protocol(String),
    /// It was stopped on request.
    #[error("stopped while the pipeline was evaluated")]
    Cancelled,
    /// Another process's evaluation could not be told from one that was killed.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The engine could not do its part.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A variable's digest could not be made.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A file could not be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DslError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path: path.to_owned(), source }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoPython | Self::OldPython { .. } => {
                Some("apt-get install python3; or declare the pipeline in setpoint.toml".to_owned())
            }
            Self::Slow(_) => {
                Some("what takes long belongs into a step, not into the code that declares it".to_owned())
            }
            Self::Unknown { name, known } => {
                let near = nearest(name, known.iter().map(String::as_str));
                near.map(|near| format!("did you mean `{near}`?"))
            }
            Self::Protocol(_) => Some("`setpoint render` shows what the code prints".to_owned()),
            Self::Engine(error) => error.hint(),
            _ => None,
        }
    }
}
