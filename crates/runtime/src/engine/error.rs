//! What went wrong in an engine, and what to do about it.

use std::path::{Path, PathBuf};

use crate::room::{self, NoRoom};

impl EngineError {
    /// An error of the system, with what was tried on which path.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, path: path.to_owned(), source }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Sandbox(error) => error.hint().map(str::to_owned),
            Self::Image(error) => error.hint(),
            Self::SingleUser { .. } => Some("set `user` to `root`, or run setpoint as root".to_owned()),
            Self::NoAccount { .. } => Some("name a user that its /etc/passwd has, or a number".to_owned()),
            Self::Damaged { .. } => {
                Some("`setpoint down` removes it, and `setpoint up` makes it anew".to_owned())
            }
            Self::Docker(error) => error.hint(),
            Self::Secret(error) => error.hint(),
            Self::Unsupported { hint, .. } => Some(hint.clone()),
            Self::Build(failed) => Some(failed.hint()),
            Self::VolumeInUse { unit, .. } => Some(format!("`setpoint down {unit}` removes the unit")),
            Self::Network { .. } => {
                Some("change what is declared of it, or share the host's network instead".to_owned())
            }
            Self::Taken { .. } => Some("`setpoint disown` in its project hands it back".to_owned()),
            Self::Io { source, path, .. } => room::hint(source, path),
            Self::NoRoom(no_room) => Some(no_room.hint()),
            Self::State { .. } => None,
        }
    }
}

/// A build that did not come to its end.
#[derive(Debug, thiserror::Error)]
#[error("{what} failed: {why}")]
pub struct BuildFailed {
    /// What was built: the Dockerfile, the feature.
    pub what: String,
    /// What failed, where that is known: the file, the number of the line, and its text.
    pub line: Option<(String, u32, String)>,
    /// What the builder said.
    pub why: String,
    /// The last lines of output.
    pub tail: Vec<String>,
}

impl BuildFailed {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> String {
        match &self.line {
            Some((file, line, _)) => format!("mend line {line} of {file}; what was built before it is kept"),
            None => "the next `up` builds again; what was built is kept".to_owned(),
        }
    }
}

/// What went wrong in an engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The unit is not there or does not run.
    #[error("{unit} {state}")]
    State {
        /// Which unit.
        unit: String,
        /// `is not running`, `exists already`.
        state: &'static str,
    },
    /// There is no such account in the unit.
    #[error("there is no user `{user}` in {unit}: {why}")]
    NoAccount {
        /// As it was asked for.
        user: String,
        /// Which unit.
        unit: String,
        /// What was looked at.
        why: String,
    },
    /// A rootless sandbox has its caller as root, and nobody else.
    #[error("cannot become user `{user}`: a sandbox without privileges has a single user")]
    SingleUser {
        /// As it was asked for.
        user: String,
    },
    /// A sandbox refused.
    #[error(transparent)]
    Sandbox(#[from] setpoint_sandbox::SandboxError),
    /// Docker, or what speaks its language, refused.
    #[error(transparent)]
    Docker(#[from] super::docker::DockerError),
    /// What a unit is to be given cannot be had.
    #[error(transparent)]
    Secret(#[from] crate::secrets::SecretError),
    /// An image could not be built.
    #[error(transparent)]
    Build(#[from] Box<BuildFailed>),
    /// The engine cannot do this at all.
    #[error("the {engine} engine cannot do this: {what}")]
    Unsupported {
        /// The engine, as in the manifest.
        engine: &'static str,
        /// What it cannot.
        what: String,
        /// What to do instead.
        hint: String,
    },
    /// A volume that is to be removed is still somebody's.
    #[error("the volume {volume} belongs to {unit}")]
    VolumeInUse {
        /// Its name.
        volume: String,
        /// The unit that has it.
        unit: String,
    },
    /// A container is another unit's already.
    #[error("the container {container} is the unit {unit}")]
    Taken {
        /// Its id.
        container: String,
        /// The unit that it is.
        unit: String,
    },
    /// A network of units cannot be had as it is declared.
    #[error("the network {network} cannot be used: {why}")]
    Network {
        /// Its name.
        network: String,
        /// What is in the way.
        why: String,
    },
    /// An image could not be had.
    #[error(transparent)]
    Image(#[from] crate::image::ImageError),
    /// A file of the unit could not be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The disk has no room for it.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// A file of the unit's own is not what was written there.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}
