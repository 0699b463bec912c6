//! What keeps a run from beginning.

use std::path::PathBuf;

use setpoint_model::names::StepName;

use crate::engine::EngineError;
use crate::lock::LockError;
use crate::secrets::SecretError;
use crate::source::SourceError;
use crate::store::StoreError;

/// Why a run did not begin, or could not be led to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no such step.
    #[error("there is no step `{name}` in the pipeline `{pipeline}`; there is: {known}")]
    NoStep {
        /// As it was asked for.
        name: StepName,
        /// The pipeline.
        pipeline: String,
        /// Those that there are.
        known: String,
    },
    /// Patterns of inputs that have to fit something, and do not.
    #[error("{}", unmatched(.0))]
    Unmatched(Vec<(StepName, String)>),
    /// A pattern that cannot be used.
    #[error("step `{step}`: {source}")]
    Pattern {
        /// Which step.
        step: StepName,
        /// What is wrong with it.
        source: crate::cas::InvalidPattern,
    },
    /// Something of the host that a step is to see is not there.
    #[error("step `{step}`: there is no {}", path.display())]
    NoHostPath {
        /// Which step.
        step: StepName,
        /// What is missing.
        path: PathBuf,
    },
    /// A step refers to a secret that is not declared.
    #[error("step `{step}`: the secret `{secret}` is not declared")]
    NoSecret {
        /// Which step.
        step: StepName,
        /// The secret.
        secret: String,
    },
    /// A step cannot have a service, or nobody can say what that service is.
    #[error("step `{step}`: {what}")]
    Service {
        /// Which step.
        step: StepName,
        /// What is wrong.
        what: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The source could not be taken.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The engine could not do its part.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The records could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A secret has no value.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A lock could not be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The run could not be kept.
    #[error(transparent)]
    Runs(#[from] crate::runs::RunsError),
    /// A file could not be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The repository could not be asked.
    #[error("cannot ask git about {what}: {why}")]
    Git {
        /// What was asked.
        what: &'static str,
        /// What it said.
        why: String,
    },
    /// It was stopped on request before anything ran.
    #[error("stopped before anything ran")]
    Cancelled,
}

fn unmatched(patterns: &[(StepName, String)]) -> String {
    let told: Vec<String> = patterns
        .iter()
        .map(|(step, pattern)| format!("step `{step}`: the input `{pattern}` fits no file of the source"))
        .collect();
    told.join("\n")
}

impl RunError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unmatched(_) => Some(
                "files that git ignores are no part of the source; a pattern that may fit nothing is written \
                 { glob = \"...\", optional = true }"
                    .to_owned(),
            ),
            Self::NoHostPath { .. } => Some("take it out of `host_paths`, or make it".to_owned()),
            Self::NoSecret { secret, .. } => {
                Some(format!("declare it as `[secret.{secret}]` with `env`, `file` or `command`"))
            }
            Self::Service { hint, .. } => hint.clone(),
            Self::Source(error) => error.hint(),
            Self::Engine(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Runs(error) => error.hint(),
            Self::Git { .. } => Some("`when` with `branch` or `tag` needs a git repository".to_owned()),
            Self::NoStep { .. }
            | Self::Pattern { .. }
            | Self::Secret(_)
            | Self::Lock(_)
            | Self::Io { .. }
            | Self::Cancelled => None,
        }
    }
}
