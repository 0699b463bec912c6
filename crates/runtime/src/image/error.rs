//! What can go wrong between the name of an image and its folders: one variant a cause.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::credentials::VARIABLES;
use crate::room;

/// Why a tar entry is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The name has a `..` component.
    ParentComponent,
    /// The name begins with `/`.
    AbsoluteName,
    /// The name is empty, holds a zero byte, or has a component over 255 bytes.
    BadName,
    /// A hard link's target has a `..` component.
    HardLinkLeaves,
    /// A hard link's target is not there.
    HardLinkMissing,
    /// A hard link's target is a folder or a device.
    HardLinkKind,
    /// A character or block device.
    Device,
    /// A 0:0 character device: the mark by which overlayfs hides a file.
    FakeWhiteout,
    /// A parent of the name is a symlink that leads nowhere within the layer.
    ThroughLink,
    /// The parents of the name are symlinks in a circle.
    LinkLoop,
    /// A whiteout that names nothing, or one used as a folder.
    BadWhiteout,
    /// A symlink with an empty target or one over 4095 bytes.
    BadLinkTarget,
    /// A kind of entry that is not a file, folder, link or fifo.
    UnknownKind,
    /// A sparse file in the form of pax, which is not put together again.
    Sparse,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::ParentComponent => "its name has a `..` component",
            Rule::AbsoluteName => "its name is absolute",
            Rule::BadName => "its name is not a usable file name",
            Rule::HardLinkLeaves => "it is a hard link whose target leaves the layer",
            Rule::HardLinkMissing => "it is a hard link whose target is not in the layer",
            Rule::HardLinkKind => "it is a hard link to a folder or a device",
            Rule::Device => "it is a device node",
            Rule::FakeWhiteout => "it is a 0:0 character device, a disguised whiteout",
            Rule::ThroughLink => "a parent of it is a symlink that leads nowhere within the layer",
            Rule::LinkLoop => "its parents are symlinks in a circle",
            Rule::BadWhiteout => "it is a whiteout of nothing, or one used as a folder",
            Rule::BadLinkTarget => "it is a symlink whose target is empty or too long",
            Rule::Sparse => "it is a sparse file in the form of pax, which is not read",
            Rule::UnknownKind => "it is of a kind that layers do not hold",
        })
    }
}

/// The bound that a layer broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Bytes unpacked.
    Bytes,
    /// Entries.
    Entries,
    /// Unpacked bytes for each compressed byte.
    Ratio,
    /// Bytes of one path.
    Path,
    /// Bytes of one entry's headers.
    Headers,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Bound::Bytes => "unpacked bytes",
            Bound::Entries => "entries",
            Bound::Ratio => "unpacked bytes for each compressed one",
            Bound::Path => "bytes in one path",
            Bound::Headers => "bytes in the headers of one entry",
        })
    }
}

/// Why an image was not had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The system refused a file operation.
    #[error("cannot {what} `{}`: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is not an image reference.
    #[error("`{text}` is not an image reference: {reason}")]
    BadReference {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The path of an image is not there.
    #[error("there is no `{}`", path.display())]
    NoSuchPath {
        /// The path.
        path: PathBuf,
    },
    /// The folder or archive is not an OCI layout.
    #[error("`{}` is not an OCI image layout: {reason}", path.display())]
    NotALayout {
        /// The folder or archive.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// What is there is not the image of a file system.
    #[error("`{origin}` is not an image that can be unpacked: {reason}")]
    NotAnImage {
        /// Where it is from.
        origin: String,
        /// Why not.
        reason: String,
    },
    /// No manifest of the index fits this machine.
    #[error("`{origin}` has no image for {wanted}; it has {}", list(available))]
    NoPlatform {
        /// Where it is from.
        origin: String,
        /// This machine's platform.
        wanted: String,
        /// Those of the index.
        available: Vec<String>,
    },
    /// A digest by another algorithm than SHA-256, or not a digest at all.
    #[error("`{origin}` names `{digest}`, and only `sha256:` digests are known")]
    UnsupportedDigest {
        /// Where it is from.
        origin: String,
        /// The digest.
        digest: String,
    },
    /// The bytes are not those that the digest promised.
    #[error("the {what} should have digest {expected}, but its bytes have {found}")]
    DigestMismatch {
        /// Manifest, configuration or layer, and where from.
        what: String,
        /// As promised.
        expected: String,
        /// As computed.
        found: String,
    },
    /// There are more or fewer bytes than promised.
    #[error("the {what} should have {expected} bytes, but has {found}")]
    SizeMismatch {
        /// Manifest, configuration or layer, and where from.
        what: String,
        /// As promised.
        expected: u64,
        /// As counted; when there are more than promised, how many were read.
        found: u64,
    },
    /// The unpacked layer is not the one that the configuration promised.
    #[error("layer {layer} unpacks to {found}, but the image's configuration says {expected}")]
    DiffIdMismatch {
        /// The layer's digest.
        layer: String,
        /// As promised.
        expected: String,
        /// As computed.
        found: String,
    },
    /// A tar or its compression ends too early.
    #[error("layer {layer} ends too early: {reason}")]
    Truncated {
        /// The layer's digest or path.
        layer: String,
        /// Where it ended.
        reason: String,
    },
    /// A tar or its compression cannot be read.
    #[error("layer {layer} cannot be read: {reason}")]
    Damaged {
        /// The layer's digest or path.
        layer: String,
        /// What the reader said.
        reason: String,
    },
    /// An entry that no honest image has.
    #[error("layer {layer} is refused for its entry `{entry}`: {rule}")]
    Refused {
        /// The layer's digest or path.
        layer: String,
        /// The entry's name.
        entry: String,
        /// The rule that it broke.
        rule: Rule,
    },
    /// A layer larger than the bounds.
    #[error("layer {layer} is refused: it has more than {allowed} {bound}")]
    TooLarge {
        /// The layer's digest or path.
        layer: String,
        /// Which bound.
        bound: Bound,
        /// The bound.
        allowed: u64,
    },
    /// The registry wants a login and none is known.
    #[error("registry {registry} wants a login for `{reference}`")]
    LoginNeeded {
        /// The registry.
        registry: String,
        /// The image.
        reference: String,
    },
    /// The registry does not accept the login.
    #[error("registry {registry} refused the login for `{reference}`")]
    LoginRefused {
        /// The registry.
        registry: String,
        /// The image.
        reference: String,
    },
    /// The login is fine and may not do this.
    #[error("registry {registry} does not allow this with `{reference}`")]
    Forbidden {
        /// The registry.
        registry: String,
        /// The image.
        reference: String,
    },
    /// The registry has no such image, tag or blob.
    #[error("registry {registry} has no `{reference}`")]
    NotFound {
        /// The registry.
        registry: String,
        /// The image.
        reference: String,
    },
    /// Too many requests.
    #[error("registry {registry} refuses more requests for now")]
    RateLimited {
        /// The registry.
        registry: String,
    },
    /// No connection to the registry.
    #[error("registry {registry} cannot be reached: {reason}")]
    Unreachable {
        /// The registry.
        registry: String,
        /// What the network said.
        reason: String,
    },
    /// The registry did not answer in time.
    #[error("registry {registry} did not answer in {seconds} seconds")]
    Timeout {
        /// The registry.
        registry: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Any other answer of the registry.
    #[error("registry {registry} failed on `{reference}`: {reason}")]
    Registry {
        /// The registry.
        registry: String,
        /// The image.
        reference: String,
        /// What it said.
        reason: String,
    },
    /// The saved login could not be read.
    #[error("the saved login for registry {registry} cannot be used: {reason}")]
    SavedLogin {
        /// The registry.
        registry: String,
        /// Why not; never the login itself.
        reason: String,
    },
    /// The file with the password for registries gives none.
    #[error("the password for registries cannot be taken from `{}`: {reason}", path.display())]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// Why not; never what is in it.
        reason: String,
        /// The variable that names it.
        variable: String,
    },
    /// The environment gives a password and a file with one.
    #[error("{one} and {other} are both set")]
    TwoPasswords {
        /// The variable of the one.
        one: String,
        /// The variable of the other.
        other: String,
    },
    /// The environment gives a password without its user.
    #[error("a password for registries is set, and {user} is not")]
    PasswordOfNobody {
        /// The variable of the user.
        user: String,
    },
    /// The environment gives a login without its registry.
    #[error("a login with {login} is set, and {host} is not: nobody knows which registry may have it")]
    LoginForNobody {
        /// The variable of the user.
        login: String,
        /// The variable of the registry.
        host: String,
    },
    /// What the environment gives as a registry is none.
    #[error("{variable} is `{value}`, and a registry is a host, perhaps with a port")]
    NoHost {
        /// The variable.
        variable: String,
        /// What it says.
        value: String,
    },
    /// The environment gives two logins for one registry.
    #[error("{one} and {other} both give a login for {registry}")]
    TwoLogins {
        /// The registry.
        registry: String,
        /// The variable of the one.
        one: String,
        /// The variable of the other.
        other: String,
    },
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "none at all".to_owned() } else { items.join(", ") }
}

impl ImageError {
    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            ImageError::LoginNeeded { registry, .. } => format!(
                "Check the image's name: some registries ask this of images that do not exist. Otherwise run \
                 `docker login {registry}`, or set {VARIABLES}."
            ),
            ImageError::LoginRefused { registry, .. } => format!(
                "Run `docker login {registry}` again, or correct {VARIABLES}."
            ),
            ImageError::Forbidden { registry, .. } => {
                format!("Ask an owner at {registry} for access, or log in as somebody who has it.")
            }
            ImageError::NotFound { .. } => "Check the image's name and its tag or digest.".to_owned(),
            ImageError::RateLimited { .. } => "Wait a while, or log in: logged in users may ask more.".to_owned(),
            ImageError::Unreachable { .. } | ImageError::Timeout { .. } => {
                "Check the registry's name, the network and HTTPS_PROXY, then try again. Images already fetched \
                 need no network."
                    .to_owned()
            }
            ImageError::SavedLogin { .. } => {
                format!("Log in again with `docker login`, or set {VARIABLES}.")
            }
            ImageError::PasswordFile { variable, .. } => {
                format!("Name a file with the password and nothing else in {variable}, or unset it.")
            }
            ImageError::TwoPasswords { .. } | ImageError::TwoLogins { .. } => {
                "Unset one of them: only one can be meant.".to_owned()
            }
            ImageError::PasswordOfNobody { user } => {
                format!("Set {user} to the user that it belongs to, or unset the password.")
            }
            ImageError::LoginForNobody { host, .. } => {
                format!("Say for which one it is: `{host}=ghcr.io`.")
            }
            ImageError::NoHost { variable, .. } => {
                format!("`{variable}=ghcr.io`, or with its port: `localhost:5000`.")
            }
            ImageError::NoPlatform { .. } => "Choose an image that is built for this machine.".to_owned(),
            ImageError::BadReference { .. } => {
                "Write it as `debian:13`, `registry.example.org/team/app:1.2` or `name@sha256:...`; a path begins \
                 with `.` or `/`."
                    .to_owned()
            }
            ImageError::NoSuchPath { .. } => "Check the path.".to_owned(),
            ImageError::NotALayout { .. } => {
                "Make one with `skopeo copy docker://NAME oci:FOLDER`, or `docker save` of Docker 25 or later."
                    .to_owned()
            }
            ImageError::Refused { rule: Rule::Device | Rule::FakeWhiteout, .. } => {
                "Leave /dev out when making the archive: the sandbox has its own.".to_owned()
            }
            ImageError::Refused { .. } | ImageError::TooLarge { .. } => {
                "If the image is trusted, build it again without this.".to_owned()
            }
            ImageError::DigestMismatch { .. }
            | ImageError::SizeMismatch { .. }
            | ImageError::DiffIdMismatch { .. }
            | ImageError::Truncated { .. }
            | ImageError::Damaged { .. } => {
                "Nothing of it was kept. Try again; if it happens again, the image was damaged where it is stored."
                    .to_owned()
            }
            ImageError::Io { source, path, .. } => return room::hint(source, path),
            _ => return None,
        })
    }

    /// Whether the disk is full.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if room::is_full(source))
    }

    pub(super) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> ImageError {
        let path = path.into();
        move |source| ImageError::Io { what, path, source }
    }
}
