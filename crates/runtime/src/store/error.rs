//! What can be wrong with the state database, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::room;

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A newer Setpoint made the database.
    #[error("`{}` has schema {found}; this Setpoint knows {known}", path.display())]
    Newer {
        /// The schema of the database.
        found: u32,
        /// The newest schema that this binary knows.
        known: u32,
        /// The database.
        path: PathBuf,
    },
    /// The file is not a sound database of Setpoint's.
    #[error("`{}` is damaged: {what}", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// There is no space left.
    #[error("the disk that holds `{}` is full", path.display())]
    Full {
        /// What was written.
        path: PathBuf,
    },
    /// The file system, or the file, can only be read.
    #[error("`{}` cannot be written: it is read-only", path.display())]
    ReadOnly {
        /// What was written.
        path: PathBuf,
    },
    /// A permission is missing.
    #[error("no permission to use `{}`", path.display())]
    Denied {
        /// The file or folder.
        path: PathBuf,
    },
    /// Another process did not let go of the database.
    #[error("`{}` is in use by another process{}", path.display(), if *for_migration { ", and its schema has to be changed" } else { "" })]
    Busy {
        /// The database, or the lock's file beside it.
        path: PathBuf,
        /// Whether every other process has to end first.
        for_migration: bool,
    },
    /// A unit of this name is already known.
    #[error("`{unit}` of `{}` is already known", project_root.display())]
    Exists {
        /// The unit's name.
        unit: String,
        /// Its project.
        project_root: PathBuf,
    },
    /// Something that was to be changed is not there.
    #[error("{what} is not in the state database")]
    Missing {
        /// What was looked for.
        what: String,
    },
    /// What leads from one schema to another does not fit what is there.
    #[error("`{}` has schema {found}, and cannot be brought to schema {known}: {}", path.display(), reason(source))]
    Unfit {
        /// The database.
        path: PathBuf,
        /// The schema that it says it has.
        found: u32,
        /// The newest schema that this binary knows.
        known: u32,
        /// What the database said.
        source: rusqlite::Error,
    },
    /// The system refused.
    #[error("cannot use `{}`: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The database refused for another reason.
    #[error("cannot use the state database `{}`: {}", path.display(), reason(source))]
    Database {
        /// The database.
        path: PathBuf,
        /// What it said.
        #[source]
        source: rusqlite::Error,
    },
}

impl StoreError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Newer { .. } => Some(
                "run the newer setpoint that made it, or point SETPOINT_STATE at another folder".to_owned(),
            ),
            Self::Unfit { path, .. } => Some(format!(
                "no version that was released has made it so, and nothing was changed; {}",
                moved_away(path)
            )),
            Self::Damaged { path, .. } => Some(moved_away(path)),
            Self::Full { path } => Some(format!("{}, and try again; nothing was lost", room::make_room(path))),
            Self::ReadOnly { .. } | Self::Denied { .. } => {
                Some("make it writable for this user, or point SETPOINT_STATE at another folder".to_owned())
            }
            Self::Busy { for_migration: true, .. } => {
                Some("end the other setpoint processes, the daemon among them, and try again".to_owned())
            }
            Self::Busy { .. } => Some("try again".to_owned()),
            Self::Io { .. } | Self::Database { .. } => Some(
                "mend what it says, and try again; nothing was lost. `setpoint doctor` looks at the machine and the state"
                    .to_owned(),
            ),
            Self::Exists { .. } | Self::Missing { .. } => None,
        }
    }

    /// Names what a file operation met.
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            _ if room::is_full(&source) => Self::Full { path },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            io::ErrorKind::PermissionDenied => Self::Denied { path },
            _ => Self::Io { path, source },
        }
    }

    /// Names what the database met.
    pub(super) fn sql(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match &source {
            rusqlite::Error::FromSqlConversionFailure(_, _, what) => {
                Self::Damaged { path, what: what.to_string() }
            }
            rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::IntegralValueOutOfRange(..) => {
                Self::Damaged { path, what: source.to_string() }
            }
            other => match other.sqlite_error_code() {
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                    Self::Damaged { path, what: source.to_string() }
                }
                Some(ErrorCode::DiskFull) => Self::Full { path },
                // The index beside the database could not grow.
                Some(ErrorCode::SystemIoFailure)
                    if extended(other) == rusqlite::ffi::SQLITE_IOERR_SHMSIZE =>
                {
                    Self::Full { path }
                }
                Some(ErrorCode::ReadOnly) => Self::ReadOnly { path },
                Some(ErrorCode::PermissionDenied) => Self::Denied { path },
                Some(ErrorCode::CannotOpen) => match writable(&path) {
                    Ok(()) => Self::Database { path, source },
                    Err(error) => Self::io(&path, error),
                },
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                    Self::Busy { path, for_migration: false }
                }
                _ => Self::Database { path, source },
            },
        }
    }
}

/// How to begin with a new database, and keep the units.
fn moved_away(path: &Path) -> String {
    let path = path.display();
    format!(
        "move `{path}` away, together with `{path}-wal` and `{path}-shm`; the next `setpoint up` recognises its units by \
         their labels"
    )
}

/// What the database says, without the statements that it says it of.
fn reason(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

fn extended(error: &rusqlite::Error) -> i32 {
    error.sqlite_error().map_or(0, |error| error.extended_code)
}

/// SQLite says only that it cannot open a file; the system says why.
fn writable(path: &Path) -> io::Result<()> {
    std::fs::OpenOptions::new().read(true).write(true).open(path).map(drop)
}
