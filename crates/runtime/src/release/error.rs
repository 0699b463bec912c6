//! What can go wrong with releases.

use std::io;
use std::path::{Path, PathBuf};

use setpoint_model::manifest::Problem;
use setpoint_model::release::{BadBundle, Origin, Version};

use crate::apply::ApplyError;
use crate::engine::EngineError;
use crate::image::ImageError;
use crate::upgrade::MigrationsError;

/// Why a release was not made, fetched or taken into use.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Git was asked and did not answer.
    #[error("git cannot tell {what}: {why}")]
    Git {
        /// What it was asked for.
        what: &'static str,
        /// What it said.
        why: String,
    },
    /// The folder holds what is in no commit.
    #[error("there are changes that are in no commit: {}", list(.0))]
    Dirty(Vec<String>),
    /// The tag of the version stands elsewhere.
    #[error("the tag {tag} is on commit {on}, and the present one is {head}")]
    Tag {
        /// The tag.
        tag: String,
        /// Where it stands.
        on: String,
        /// What is released.
        head: String,
    },
    /// The manifest has another version.
    #[error("setpoint.toml says that this is version {declared}, and {wanted} is to be released")]
    Version {
        /// What it says.
        declared: String,
        /// What was asked for.
        wanted: Version,
    },
    /// A migration is wrong.
    #[error(transparent)]
    Migrations(#[from] MigrationsError),
    /// Something of the manifest cannot be released.
    #[error("{}", .0.what)]
    Problem(Box<Problem>),
    /// A file cannot be carried.
    #[error("{path} cannot be part of a release: {why}")]
    File {
        /// Which, from the project's folder.
        path: String,
        /// Why not.
        why: String,
    },
    /// The version was released before, and was something else.
    #[error("{origin} was released before with other content: {}", list(differs))]
    Different {
        /// Which.
        origin: Origin,
        /// What differs.
        differs: Vec<String>,
    },
    /// There is no such version.
    #[error("there is no version {} in {}", .origin.version, .origin.repository)]
    Unknown {
        /// Which.
        origin: Origin,
        /// Those that are next to it.
        near: Vec<String>,
    },
    /// There is no version at all.
    #[error("there is no release in {0}")]
    Empty(String),
    /// What lies there is something else.
    #[error("{0} is no release of a project")]
    NotARelease(String),
    /// What lies there is not whole, or not what it should be.
    #[error("the release {origin} is refused: {why}")]
    Refused {
        /// Which.
        origin: String,
        /// What is wrong with it.
        why: String,
    },
    /// It has no signature that counts.
    #[error("the release {origin} is refused: {why}")]
    Signature {
        /// Which.
        origin: String,
        /// What is wrong with its signature.
        why: String,
    },
    /// A key cannot be used.
    #[error("the key {} cannot be used: {why}", path.display())]
    Key {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It would run something on this machine itself.
    #[error("the release {origin} would run this on this machine, outside of every sandbox:\n  {}", .what.join("\n  "))]
    Untrusted {
        /// Which.
        origin: String,
        /// Its digest.
        digest: String,
        /// What it would run.
        what: Vec<String>,
    },
    /// What is in effect is not here any more.
    #[error("the release {digest} is in effect and is not in {}", folder.display())]
    Missing {
        /// Which.
        digest: String,
        /// Where it should be.
        folder: PathBuf,
    },
    /// An image could not be had or pushed.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// An engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What is declared could not be looked at.
    #[error(transparent)]
    Apply(#[from] ApplyError),
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

/// The first few, and how many there are more.
fn list(items: &[String]) -> String {
    const FEW: usize = 5;
    let shown = items.iter().take(FEW).cloned().collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(FEW) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

impl ReleaseError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path: path.to_owned(), source }
    }

    pub(super) fn refused(origin: &impl ToString) -> impl Fn(BadBundle) -> Self {
        let origin = origin.to_string();
        move |bad| Self::Refused { origin: origin.clone(), why: bad.to_string() }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Git { .. } => "a release is made of a commit: the folder has to be a repository of git".to_owned(),
            Self::Dirty(_) => "commit them, or put them aside by `git stash -u`: a release is made of a commit".to_owned(),
            Self::Tag { tag, .. } => {
                format!("release another version, or move the tag: `git tag -f {tag}`, if nobody has it yet")
            }
            Self::Version { wanted, .. } => format!("set `version = \"{wanted}\"` in [project], and commit that"),
            Self::File { .. } => "put it into git, or take it out of the manifest".to_owned(),
            Self::Different { .. } => "a version is released once: choose the next".to_owned(),
            Self::Unknown { near, .. } if !near.is_empty() => format!("there is: {}", near.join(", ")),
            Self::Unknown { .. } | Self::Empty(_) => {
                "check the repository's name; `setpoint release` makes a release".to_owned()
            }
            Self::NotARelease(_) => "releases are made by `setpoint release`; images of it have other tags".to_owned(),
            Self::Refused { .. } => {
                "nothing of it was kept; if it happens again, what lies there is damaged, or was tampered with".to_owned()
            }
            Self::Signature { .. } => {
                "keys that count lie in the folder `keys` of the configuration; `setpoint release --key` signs".to_owned()
            }
            Self::Key { .. } => {
                "`openssl genpkey -algorithm ed25519` makes one, and `openssl pkey -pubout` its public half".to_owned()
            }
            Self::Untrusted { digest, .. } => {
                format!("if you want that: `setpoint trust {digest}`; a release that is signed by a key of yours needs no such word")
            }
            Self::Missing { .. } => "`setpoint init oci://...` with its version fetches it again".to_owned(),
            Self::Image(error) => return error.hint(),
            Self::Engine(error) => return error.hint(),
            Self::Problem(_) | Self::Migrations(_) | Self::Apply(_) | Self::Io { .. } => return None,
        })
    }
}
