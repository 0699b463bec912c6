//! Secrets: their values by reference, their keyed digests, and the store that keeps what was generated, and what was
//! taken from the environment.
//!
//! The key lies in the configuration folder, apart from the records that hold the digests.

mod mask;
mod resolve;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use setpoint_model::digest::Digest;
use setpoint_model::manifest::{EnvValue, Part};
use setpoint_model::names::SecretName;

use crate::engine::UnitId;
use crate::paths::Roots;
use crate::random;
pub use mask::Mask;
pub use resolve::Sources;
pub(crate) use resolve::given;

/// What went wrong with a secret. No variant ever carries a value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set, and no earlier value is kept.
    #[error("secret `{name}`: the environment variable {variable} is not set")]
    NotSet {
        /// Which secret.
        name: SecretName,
        /// The variable that it is taken from.
        variable: String,
    },
    /// The command failed.
    #[error("secret `{name}`: `{command}` failed: {why}")]
    Command {
        /// Which secret.
        name: SecretName,
        /// The command.
        command: String,
        /// How it ended, and what it said.
        why: String,
    },
    /// A value that was generated, or kept for a unit, is not there any more.
    #[error("secret `{name}`: its value is lost: there is no {}", path.display())]
    Lost {
        /// Which secret.
        name: SecretName,
        /// Where it was kept.
        path: PathBuf,
    },
    /// It is made by the first `up` that needs it, and none did yet.
    #[error("secret `{name}` has not been generated yet")]
    NotGenerated {
        /// Which secret.
        name: SecretName,
    },
    /// It cannot be derived from others.
    #[error("secret `{name}` cannot be derived: {what}")]
    Derive {
        /// Which secret.
        name: SecretName,
        /// What is wrong.
        what: String,
    },
    /// A file could not be read or written.
    #[error("secret `{name}`: cannot {what} {}: {source}", path.display())]
    Io {
        /// Which secret.
        name: String,
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The values of secrets as far as they were resolved.
pub type Values = BTreeMap<SecretName, String>;

/// Keeps the values of one project's secrets (0600) and digests them with a key of this machine's.
#[derive(Debug, Clone)]
pub struct Secrets {
    kept: PathBuf,
    key: PathBuf,
}

impl SecretError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotSet { variable, .. } => Some(format!("{variable}=... setpoint up")),
            Self::Lost { .. } => Some(
                "put the file back, or write another value into it: what uses it still has the old one"
                    .to_owned(),
            ),
            Self::NotGenerated { .. } => Some("`setpoint up` of a unit that has it generates it".to_owned()),
            Self::Command { .. } | Self::Derive { .. } | Self::Io { .. } => None,
        }
    }
}

impl Secrets {
    /// The secrets of the project in this folder.
    #[must_use]
    pub fn new(roots: &Roots, project_root: &Path) -> Self {
        let project = Digest::of_bytes(project_root.as_os_str().as_encoded_bytes()).short();
        Self { kept: roots.state.join("secrets/v1").join(project), key: roots.config.join("fingerprint.key") }
    }

    /// The folder for what a unit is given as files. No secret has such a name.
    #[must_use]
    pub fn unit_folder(&self, unit: &UnitId) -> PathBuf {
        self.kept.join(".units").join(unit.as_str())
    }

    /// Forgets all that is kept. Nothing to do is no error.
    ///
    /// # Errors
    /// If it is there and cannot be removed.
    pub fn forget(&self) -> std::io::Result<()> {
        match fs::remove_dir_all(&self.kept) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Forgets what a unit was given as files.
    ///
    /// # Errors
    /// If it is there and cannot be removed.
    pub fn forget_unit(&self, unit: &UnitId) -> std::io::Result<()> {
        match fs::remove_dir_all(self.unit_folder(unit)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Variables with the values of their secrets, as they are kept.
    ///
    /// # Errors
    /// The first secret that has no value here.
    pub fn variables(
        &self,
        declared: &BTreeMap<String, EnvValue>,
    ) -> Result<BTreeMap<String, String>, SecretError> {
        let values = self.kept_values(declared.values().flat_map(EnvValue::secrets))?;
        let of = |(name, value): (&String, &EnvValue)| {
            let whole = value.resolve(|name| values.get(name).map(String::as_str), &BTreeMap::new());
            let whole = whole.map_err(|name| SecretError::Lost {
                name: name.clone(),
                path: self.kept.join(name.as_str()),
            })?;
            Ok((name.clone(), whole))
        };
        declared.iter().map(of).collect()
    }

    /// Keeps values for sessions to come.
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn keep(&self, values: &Values) -> Result<(), SecretError> {
        values.iter().try_for_each(|(name, value)| self.keep_one(name, value))
    }

    /// The values that an earlier `up` kept.
    ///
    /// # Errors
    /// If a kept value cannot be read.
    pub fn kept_values<'a>(
        &self,
        names: impl IntoIterator<Item = &'a SecretName>,
    ) -> Result<Values, SecretError> {
        let mut values = Values::new();
        for name in names {
            if let Some(value) = self.kept(name)? {
                values.insert(name.clone(), value);
            }
        }
        Ok(values)
    }

    /// The keyed digest of a value. The key is made the first time.
    ///
    /// # Errors
    /// If the key can be neither read nor made.
    pub(crate) fn digest(&self, value: &str) -> Result<Digest, SecretError> {
        let hash = blake3::keyed_hash(&self.key()?, value.as_bytes());
        Ok(Digest::from_bytes(*hash.as_bytes()))
    }

    fn key(&self) -> Result<[u8; 32], SecretError> {
        let of_key = |what, source| SecretError::Io {
            name: "key of fingerprints".to_owned(),
            what,
            path: self.key.clone(),
            source,
        };
        let read = || {
            let bytes = fs::read(&self.key)?;
            <[u8; 32]>::try_from(bytes).map_err(|_| std::io::Error::other("it is not 32 bytes long"))
        };
        match read() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => return other.map_err(|error| of_key("read", error)),
        }
        let key: [u8; 32] = random::bytes().map_err(|error| of_key("make", error))?;
        write_private(&self.key, &key, true).map_err(|error| of_key("write", error))?;
        // Another process may have been first: what lies there now is the key.
        read().map_err(|error| of_key("read", error))
    }

    fn kept(&self, name: &SecretName) -> Result<Option<String>, SecretError> {
        let path = self.kept.join(name.as_str());
        match fs::read_to_string(&path) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(io(name, "read", &path, source)),
        }
    }

    fn keep_one(&self, name: &SecretName, value: &str) -> Result<(), SecretError> {
        if self.kept(name)?.as_deref() == Some(value) {
            return Ok(());
        }
        let path = self.kept.join(name.as_str());
        write_private(&path, value.as_bytes(), false).map_err(|source| io(name, "write", &path, source))
    }
}

fn io(name: &SecretName, what: &'static str, path: &Path, source: std::io::Error) -> SecretError {
    SecretError::Io { name: name.to_string(), what, path: path.to_owned(), source }
}

/// Writes a file that only its owner may read, whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8], keep_existing: bool) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut temporary = tempfile::Builder::new().permissions(private()).tempfile_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    if keep_existing {
        match temporary.persist_noclobber(path) {
            Err(error) if error.error.kind() != std::io::ErrorKind::AlreadyExists => Err(error.error),
            _ => Ok(()),
        }
    } else {
        temporary.persist(path).map(drop).map_err(|error| error.error)
    }
}

/// Gives a file to whoever reads it. Who may not give files away lets others read it instead, by these rights; the folder
/// that it is in lets nobody in but through a mount.
pub(crate) fn give(path: &Path, uid: u32, gid: u32, otherwise: u32) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
    let metadata = fs::metadata(path)?;
    if (metadata.uid(), metadata.gid()) == (uid, gid) {
        return Ok(());
    }
    match chown(path, Some(uid), Some(gid)) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            fs::set_permissions(path, fs::Permissions::from_mode(otherwise))
        }
        other => other,
    }
}

fn private() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o600)
}

/// The text of a value with its secrets put in, and the variables of the container that it refers to. A secret without
/// a value is left out.
#[must_use]
pub fn expand(value: &EnvValue, values: &Values, inside: &BTreeMap<String, String>) -> String {
    value
        .parts()
        .iter()
        .map(|part| match part {
            Part::Literal(text) => text.as_str(),
            Part::Secret(name) => values.get(name).map_or("", String::as_str),
            Part::Inside { name, default } => inside.get(name).unwrap_or(default),
        })
        .collect()
}
