//! What can be wrong with a file that is to be digested.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a file has no digest.
#[derive(Debug, thiserror::Error)]
pub enum CasError {
    /// There is no such file.
    #[error("`{}` does not exist", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It is something else than what can be digested.
    #[error("`{}` is {what}, not a regular file", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
        /// What it is: `a socket`.
        what: &'static str,
    },
    /// A permission is missing.
    #[error("no permission to read `{}`", path.display())]
    Denied {
        /// The file or folder.
        path: PathBuf,
    },
    /// It was read several times, and changed each time.
    #[error("`{}` keeps changing while it is read", path.display())]
    Changing {
        /// The file.
        path: PathBuf,
    },
    /// The file system did not answer.
    #[error("`{}` did not answer within {after:?}: its file system may be gone", path.display())]
    Hung {
        /// What was being looked at.
        path: PathBuf,
        /// How long was waited.
        after: Duration,
    },
    /// The system refused.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl CasError {
    pub(crate) fn new(path: &Path, error: impl Into<io::Error>) -> Self {
        let (path, source) = (path.to_owned(), error.into());
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing { path },
            io::ErrorKind::PermissionDenied => Self::Denied { path },
            _ => Self::Io { path, source },
        }
    }

    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }
}
