//! What goes wrong with Docker and Podman, in words that say what to do.

use std::path::PathBuf;
use std::time::Duration;

use super::build_secrets::BuildSecretError;
use crate::image::VARIABLES;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// Nothing answers there.
    #[error("nothing answers at {host}, {said_by}: {why}")]
    Unreachable {
        /// Where.
        host: String,
        /// Who named it.
        said_by: String,
        /// What the system said.
        why: String,
    },
    /// The socket is there, and not for this user.
    #[error("this user may not use {}", socket.display())]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
    /// It is older than what we speak.
    #[error("the engine at {host} is too old: its API is {version}, and at least {floor} is needed")]
    TooOld {
        /// Where.
        host: String,
        /// What it speaks.
        version: String,
        /// What we need.
        floor: &'static str,
    },
    /// It answered nothing in time.
    #[error("the engine did not answer within {}s ({what})", after.as_secs())]
    Silent {
        /// What was asked.
        what: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The client's settings cannot be read.
    #[error("{} cannot be read: {why}", path.display())]
    Config {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The chosen context cannot be used.
    #[error("the docker context `{context}` cannot be used: {why}")]
    Context {
        /// Its name.
        context: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such image, or it is not for us.
    #[error("the image {reference} cannot be had: {why}")]
    Image {
        /// As it is declared.
        reference: String,
        /// What the engine said.
        why: String,
    },
    /// A published port is taken.
    #[error("a port is in use: {why}")]
    PortInUse {
        /// What the engine said.
        why: String,
    },
    /// The container ended right after it was started.
    #[error("it ended right after its start (exit {code}){}", last(.said))]
    Ended {
        /// Its exit code.
        code: i64,
        /// The end of what it said.
        said: String,
    },
    /// The engine refused.
    #[error("cannot {what}: {why}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// What the engine said.
        why: String,
    },
    /// A secret of a build cannot be had.
    #[error(transparent)]
    BuildSecret(#[from] BuildSecretError),
    /// The threads that talk to it could not be started.
    #[error("cannot talk to the engine: {0}")]
    Runtime(std::io::Error),
}

/// What an engine says whose disk is full.
const FULL: &[&str] = &["no space left on device", "disk quota exceeded"];

fn last(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

impl DockerError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { host, .. } if host.contains("podman") => {
                "start its socket (`systemctl --user start podman.socket`, or `podman system service -t 0`), or \
                 say in CONTAINER_HOST where it is"
                    .to_owned()
            }
            Self::Unreachable { .. } => {
                "start Docker (`systemctl start docker`), say in DOCKER_HOST where it is, or take \
                 `engine.default` out to use the embedded engine"
                    .to_owned()
            }
            Self::Denied { socket } => format!(
                "join the group that owns it (`sudo usermod -aG docker $USER`, then log in again), or run as the \
                 owner of {}",
                socket.display()
            ),
            Self::TooOld { .. } => "update the engine".to_owned(),
            Self::Config { .. } => "mend it, or set DOCKER_HOST".to_owned(),
            Self::Context { .. } => "`docker context ls` lists those that there are".to_owned(),
            Self::Image { why, .. } if says(why, &["unauthorized", "denied", "authentication"]) => {
                format!("log in (`docker login`), or set {VARIABLES}; a name that does not exist is answered the same way")
            }
            Self::Image { why, .. } if says(why, &["not found", "manifest unknown", "no such image"]) => {
                "check its name and tag".to_owned()
            }
            Self::Image { why, .. } | Self::Refused { why, .. } if says(why, FULL) => {
                "make room on the engine's disk (`docker info -f '{{.DockerRootDir}}'` says where its files are), and try again"
                    .to_owned()
            }
            Self::Image { .. } => "check its name, and the way to its registry".to_owned(),
            Self::PortInUse { .. } => "stop what uses it, or declare another port".to_owned(),
            Self::BuildSecret(error) => error.hint(),
            Self::Ended { .. } => "its command has to stay, or `overrideCommand` has to be on".to_owned(),
            Self::Refused { why, .. } if says(why, &["\"/bin/sh\": stat"]) => {
                "an environment needs a shell: use an image that has /bin/sh".to_owned()
            }
            Self::Refused { why, .. } if says(why, &["container-init binary not found"]) => {
                "install `catatonit`, which Podman runs as the first process of services, and where `init` is on".to_owned()
            }
            Self::Silent { .. } | Self::Refused { .. } | Self::Runtime(_) => return None,
        })
    }
}

/// Whether a message of the engine says one of these.
pub(super) fn says(message: &str, words: &[&str]) -> bool {
    let message = message.to_lowercase();
    words.iter().any(|word| message.contains(word))
}
