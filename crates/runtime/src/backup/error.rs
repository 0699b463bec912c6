//! Why a backup was not made or not restored.

use std::io;
use std::path::{Path, PathBuf};

use setpoint_model::backup::Unfit;
use setpoint_model::names::UnitName;

use crate::apply::ApplyError;
use crate::engine::EngineError;
use crate::image::{ImageError, Rule};
use crate::lock::LockError;
use crate::room;
use crate::store::StoreError;

/// Why a backup was not made or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is no data to back up.
    #[error("{of} has no data of its own: no volume of it is there")]
    NoData {
        /// The service, or the project.
        of: String,
    },
    /// The folder is something else than one of backups.
    #[error("{} {why}", path.display())]
    NotAFolder {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is no backup of this name, or none at all.
    #[error("there is no backup {what}")]
    NoBackup {
        /// `in DIR`, `of the name NAME in DIR`.
        what: String,
        /// Those that there are.
        there: Vec<String>,
    },
    /// There is one of this name already.
    #[error("there is something of the name {0} already")]
    Taken(String),
    /// What lies there is not whole, or not what it should be.
    #[error("the backup {name} is refused: {why}")]
    Refused {
        /// Which.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is not for this project.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// This project does not have what it is of.
    #[error("{0}")]
    NotHere(String),
    /// An entry of a volume's archive that no volume may have.
    #[error("the volume {volume} is refused for its entry `{entry}`: {rule}")]
    Unlawful {
        /// Which volume.
        volume: String,
        /// The entry's name.
        entry: String,
        /// The rule that it breaks.
        rule: Rule,
    },
    /// A service has to run for this, and does not.
    #[error("{unit} does not run, and its data is backed up by a command in it")]
    NotRunning {
        /// Which.
        unit: UnitName,
    },
    /// A command of a service failed.
    #[error("the command `{what}` of {unit} failed: {how}")]
    Command {
        /// Which service.
        unit: UnitName,
        /// `backup`, `restore`.
        what: &'static str,
        /// How it ended.
        how: String,
        /// The last lines of its errors.
        tail: Vec<String>,
    },
    /// A drill found it wanting.
    #[error("{unit}: {why}")]
    Drill {
        /// Which service.
        unit: UnitName,
        /// What is not as it should be.
        why: String,
    },
    /// The services that were stopped for it could not be started again.
    #[error("{unit} was stopped for the backup and could not be started again: {why}")]
    NotResumed {
        /// Which.
        unit: UnitName,
        /// Why.
        why: String,
    },
    /// Somebody asked for it to be stopped.
    #[error("stopped; nothing of it was kept")]
    Cancelled,
    /// A registry, or what it gave.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What is declared could not be looked at, or brought up.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The state failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A unit could not be had.
    #[error(transparent)]
    Lock(#[from] LockError),
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

impl BackupError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path: path.to_owned(), source }
    }

    pub(super) fn refused(name: &str, why: impl ToString) -> Self {
        Self::Refused { name: name.to_owned(), why: why.to_string() }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoData { .. } => {
                "volumes are made by `setpoint up`; folders of the host are not backed up".to_owned()
            }
            Self::NotAFolder { .. } => {
                "name an empty folder, one that is not there yet, or one of backups".to_owned()
            }
            Self::NoBackup { there, .. } if there.is_empty() => "`setpoint backup --to` makes one".to_owned(),
            Self::NoBackup { there, .. } => format!("there is: {}", there.join(", ")),
            Self::Taken(_) => "a backup is never written over: choose another name, or none".to_owned(),
            Self::Refused { .. } | Self::Unlawful { .. } => {
                "nothing was touched; what lies there is damaged, or was tampered with: try another"
                    .to_owned()
            }
            Self::Unfit(Unfit::OtherProject { theirs, .. }) => format!("if you want that: `--of {theirs}`"),
            Self::Unfit(Unfit::Newer { theirs, .. }) => {
                format!("bring the project to version {theirs} first")
            }
            Self::Unfit(Unfit::NoUnit { has, .. }) => {
                format!("it has data of {}", has.iter().map(UnitName::as_str).collect::<Vec<_>>().join(", "))
            }
            Self::NotRunning { unit } => format!("`setpoint up {unit}` starts it"),
            Self::Command { .. } => {
                "nothing was kept; its `backup` in setpoint.toml says what runs".to_owned()
            }
            Self::Drill { .. } => "the backup is kept; what is in it does not do what it should".to_owned(),
            Self::NotResumed { unit, .. } => format!("`setpoint up {unit}` starts it"),
            Self::Image(error) => return error.hint(),
            Self::Engine(error) => return error.hint(),
            Self::Lock(error) => return error.hint(),
            Self::Io { source, path, .. } if room::is_full(source) => {
                format!("{}, or name another place; nothing of this backup was left", room::make_room(path))
            }
            Self::NotHere(_) | Self::Cancelled | Self::Apply(_) | Self::Store(_) | Self::Io { .. } => {
                return None;
            }
        })
    }
}
