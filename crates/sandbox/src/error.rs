//! What a sandbox refuses, and why.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Why a sandbox could not be made, entered, changed or ended. It crosses the pipe from the first process inside,
/// hence it carries texts and numbers only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum SandboxError {
    /// The kernel refuses user namespaces to this user.
    #[error("the kernel refuses a user namespace: {why}")]
    UserNamespaceRefused {
        /// What it said.
        why: String,
    },
    /// An overlay could not be mounted.
    #[error("cannot mount an overlay on {target}: {why}")]
    OverlayRefused {
        /// The mount point, as it is inside.
        target: PathBuf,
        /// What the kernel said.
        why: String,
    },
    /// A limit is asked for, and no controller for it can be used here.
    #[error("no cgroup controller for `{controller}` can be used here: {why}")]
    NoCgroup {
        /// `memory`, `cpu`, `pids`.
        controller: String,
        /// What was looked for.
        why: String,
    },
    /// A program could not be started inside.
    #[error("cannot run `{program}`: {}", std::io::Error::from_raw_os_error(*errno))]
    Exec {
        /// The program.
        program: String,
        /// What the kernel said.
        errno: i32,
    },
    /// The sandbox has one user only.
    #[error("cannot become user {uid}: this sandbox has a single user")]
    SingleUser {
        /// Who was asked for.
        uid: u32,
    },
    /// Somebody else has a port of the host.
    #[error("the port {port} is in use{}", by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default())]
    PortTaken {
        /// With its address, if one was asked for, and its kind: `127.0.0.1:80/tcp`.
        port: String,
        /// Its number.
        number: u16,
        /// Who has it, if that is to be seen.
        by: Option<String>,
    },
    /// There is nothing to enter.
    #[error("it is not running")]
    NotRunning,
    /// The first process ended before the sandbox was ready.
    #[error("the sandbox ended while it was set up")]
    EndedEarly,
    /// A process survived being killed.
    #[error("process {pid} does not end")]
    Survives {
        /// Which process.
        pid: i32,
    },
    /// A file or a mount could not be used.
    #[error("cannot {what} {path}: {why}")]
    Io {
        /// What was tried.
        what: String,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
}

impl SandboxError {
    /// An error of a file or a mount.
    pub(crate) fn io(what: &str, path: impl AsRef<Path>, why: impl std::fmt::Display) -> Self {
        Self::Io { what: what.to_owned(), path: path.as_ref().to_owned(), why: why.to_string() }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::UserNamespaceRefused { .. } => Some(
                "as root: `sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000` \
                 (Ubuntu also: `kernel.apparmor_restrict_unprivileged_userns=0`); or run setpoint as root",
            ),
            Self::OverlayRefused { .. } => {
                Some("the state folder must lie on a file system that overlays can use")
            }
            Self::NoCgroup { .. } => {
                Some("take the limit out, run as root, or delegate the controller to your user session")
            }
            Self::SingleUser { .. } => Some("take `user` out of the manifest, or run setpoint as root"),
            Self::PortTaken { .. } => Some("stop what has it, or publish another port of the host"),
            Self::Exec { .. }
            | Self::NotRunning
            | Self::EndedEarly
            | Self::Survives { .. }
            | Self::Io { .. } => None,
        }
    }
}
