//! What can go wrong with specs.

use std::path::PathBuf;

use setpoint_model::manifest::Problem;
use setpoint_model::spec::{ReportError, Runner};

use crate::project::ProjectError;
use crate::source::SourceError;
use crate::store::StoreError;

/// Why specs could not be read, or their tests not be run.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The project cannot be read.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// No folder of specs here, nor in any folder above.
    #[error("there are no specs in {} nor in any folder above it", .0.display())]
    None(PathBuf),
    /// The specs say things that cannot be.
    #[error("{} in the specs", count(.0))]
    Problems(Vec<Problem>),
    /// There is no spec and no criterion of this name.
    #[error("there is no spec and no criterion `{name}`")]
    Unknown {
        /// As it was asked for.
        name: String,
        /// What was probably meant.
        near: Option<String>,
        /// The specs that there are.
        known: Vec<String>,
    },
    /// A file could not be read or written.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A report cannot be used.
    #[error("{}: {error}", path.display())]
    Report {
        /// Its file.
        path: PathBuf,
        /// Why.
        error: ReportError,
    },
    /// A runner is not there.
    #[error("{runner}: cannot start `{command}`: {why}")]
    NoRunner {
        /// Which one.
        runner: Runner,
        /// What was to be started.
        command: String,
        /// What the system said.
        why: String,
    },
    /// A runner did not do what was asked of it.
    #[error("{runner}: `{command}`: {how}{}", quoted(.said))]
    Runner {
        /// Which one.
        runner: Runner,
        /// What was started.
        command: String,
        /// How it ended.
        how: String,
        /// The end of what it said.
        said: String,
    },
    /// There are specs where some were to be written.
    #[error("there are specs in {} already", .0.display())]
    Exist(PathBuf),
    /// There are no tests to begin with.
    #[error("no tests were found in {}", .0.display())]
    NoTests(PathBuf),
    /// The source cannot be told.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The state cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was stopped on request.
    #[error("stopped; what had ended by then is not recorded")]
    Cancelled,
}

fn count(problems: &[Problem]) -> String {
    match problems.len() {
        1 => "1 problem".to_owned(),
        many => format!("{many} problems"),
    }
}

/// What a runner said, as lines below the error.
fn quoted(said: &str) -> String {
    said.lines().map(|line| format!("\n  {line}")).collect()
}

impl SpecError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::None(_) => Some("`setpoint spec init` writes them from the tests that there are".to_owned()),
            Self::Unknown { near: Some(near), .. } => Some(format!("did you mean `{near}`?")),
            Self::Unknown { known, .. } => Some(format!("there is: {}", known.join(", "))),
            Self::Report { error: ReportError::NoSuite, .. } => {
                Some("say which before its file: `--from shop::checkout=output.txt`".to_owned())
            }
            Self::NoRunner { runner: Runner::Command, .. } => None,
            Self::NoRunner { runner, .. } => {
                Some(format!("install it, or say in setpoint.toml how it is started: [spec.{runner}] command = [\"...\"]"))
            }
            Self::Runner { .. } => Some("the same command by hand tells more; `--verbose` shows what it says".to_owned()),
            Self::Exist(_) => Some("`setpoint spec coverage` tells which tests none of them names".to_owned()),
            Self::NoTests(_) => Some(
                "cargo is asked where there is a Cargo.toml, pytest where there are files test_*.py, go where there is \
                 a go.mod, Vitest where a package.json names it"
                    .to_owned(),
            ),
            Self::Source(error) => error.hint(),
            Self::Store(error) => error.hint(),
            _ => None,
        }
    }
}
