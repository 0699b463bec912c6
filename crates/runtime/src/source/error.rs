//! What can go wrong with the source.

use std::io;
use std::path::{Path, PathBuf};

use crate::cas::CasError;
use crate::lock::LockError;

/// Why the source could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file of the project could not be read.
    #[error("cannot take the source: {}", with_cause(.0))]
    Read(CasError),
    /// A file of the copy could not be written.
    #[error("cannot keep a copy of the source in {}: {source}", path.display())]
    Write {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Files changed again and again while they were copied.
    #[error("the source keeps changing while it is copied: `{}`", .0.display())]
    Changing(PathBuf),
    /// The history of a repository that lies elsewhere.
    #[error("`git = true` needs a repository of its own: {} is a file", .0.display())]
    NoRepository(PathBuf),
    /// Git could not say what it tracks.
    #[error("git cannot say which files it tracks: {0}")]
    Git(String),
    /// A lease could not be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A pattern cannot be used.
    #[error(transparent)]
    Pattern(#[from] crate::cas::InvalidPattern),
    /// It was stopped on request.
    #[error("stopped while the source was taken")]
    Cancelled,
}

fn with_cause(error: &CasError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

impl SourceError {
    pub(super) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Write { path: path.to_owned(), source }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read(CasError::Denied { .. }) => {
                Some("make it readable, or name it in a `.setpointignore`".to_owned())
            }
            Self::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some space, such as by `setpoint cache clean`; nothing was lost".to_owned())
            }
            Self::Changing(_) => {
                Some("wait until what writes it has ended, or name it in a `.setpointignore`".to_owned())
            }
            Self::Git(_) => {
                Some("`git ls-files` in the project's folder should work; `git fsck` tells more".to_owned())
            }
            Self::NoRepository(_) => {
                Some("run it in the repository itself, not in a linked worktree or submodule".to_owned())
            }
            _ => None,
        }
    }
}
