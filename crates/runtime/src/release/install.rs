//! Making a folder a project that comes from a release.
//!
//! Every file appears whole or not at all, the manifest last: until it is there nothing is in effect, and whoever is cut
//! off does the same again.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use setpoint_model::manifest::{self, Layer};
use setpoint_model::release::{Active, Origin, Repository};

use super::error::ReleaseError;
use super::kept::{Kept, Releases};
use crate::failpoints;
use crate::paths::Roots;
use crate::project::{LOCAL, MANIFEST};
use crate::store::{Store, StoreError};
use crate::upgrade::{self, ActiveError};

/// Why a folder is not made a project.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// It is something else already.
    #[error("{} is there already, and does not say that it comes from {wanted}", path.display())]
    Exists {
        /// The manifest.
        path: PathBuf,
        /// Where it should come from.
        wanted: String,
    },
    /// Another version is in effect.
    #[error("{version} is in effect here")]
    InEffect {
        /// Which.
        version: String,
    },
    /// There are settings already, and others are given.
    #[error("{} is there already, and is not what is given", .0.display())]
    Settings(PathBuf),
    /// The release cannot be used.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// What is in effect cannot be told or written.
    #[error(transparent)]
    Active(#[from] ActiveError),
    /// The state failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A folder that is to become a project.
pub struct Install<'a> {
    /// Where state lies.
    pub roots: &'a Roots,
    /// The folder, without links in its path.
    pub root: &'a Path,
    /// What it comes from.
    pub origin: &'a Origin,
    /// What is laid over the manifest of the release, where it is given.
    pub config: Option<&'a str>,
    /// Whether what is there of other content is overwritten.
    pub force: bool,
}

fn read(path: &Path) -> Result<Option<String>, ReleaseError> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).map_err(ReleaseError::io("read", path)),
    }
}

/// The manifest of a folder whose project comes from releases in a repository.
pub(crate) fn manifest_of(repository: &Repository) -> String {
    let address = toml_text(&repository.address());
    format!(
        "# What this project is made of comes from a release; `setpoint upgrade` takes another one into use.\n\
         # What is this machine's own stands in {LOCAL}.\n\
         setpoint = 1\n\n[release]\nfrom = {address}\n"
    )
}

impl Install<'_> {
    /// Sees to it that nothing of somebody else's would be overwritten. Nothing is written.
    ///
    /// # Errors
    /// [`InstallError`] names what is in the way.
    pub fn check(&self, store: &Store) -> Result<(), InstallError> {
        let path = self.root.join(MANIFEST);
        let own = read(&path)?;
        let origin = own.as_deref().map(|text| manifest::origin(Layer { name: MANIFEST, text }));
        let is_ours = match &origin {
            None => true,
            Some(found) => found.as_ref().ok().and_then(Option::as_ref) == Some(&self.origin.repository),
        };
        if !is_ours && !self.force {
            return Err(InstallError::Exists { path, wanted: self.origin.to_string() });
        }
        let active = upgrade::active(self.roots, self.root)?;
        let version = self.origin.version.to_string();
        let is_another = active.release.is_some() && active.version.as_deref() != Some(&version);
        // What nobody has brought up yet may still become another.
        if is_another && !store.units(self.root)?.is_empty() {
            return Err(InstallError::InEffect { version: active.version.unwrap_or_default() });
        }
        let path = self.root.join(LOCAL);
        match (self.config, read(&path)?) {
            (Some(given), Some(there)) if given != there && !self.force => Err(InstallError::Settings(path)),
            _ => Ok(()),
        }
    }

    /// Makes the folder a project of this release, which is in effect from then on.
    ///
    /// # Errors
    /// If a file cannot be written; then it is as before, or the same can be done again.
    pub fn install(&self, kept: &Kept) -> Result<(), InstallError> {
        if let Some(config) = self.config {
            write(&self.root.join(LOCAL), config)?;
        }
        failpoints::at("install.configured");
        let active = upgrade::active(self.roots, self.root)?;
        let (version, release) = (Some(kept.bundle.version.clone()), Some(kept.digest.clone()));
        upgrade::set_active(self.roots, self.root, &Active { version, release, ..active })?;
        // From here on it is needed. What is no more was no other project's, and was removed after it was looked for.
        if !Releases::of(self.roots).holds(&kept.digest)? {
            return Err(kept.missing().into());
        }
        failpoints::at("install.active");
        write(&self.root.join(MANIFEST), &manifest_of(&self.origin.repository))?;
        failpoints::at("install.written");
        Ok(())
    }
}

/// A text as TOML writes it.
fn toml_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Writes a file of the project, whole or not at all.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), ReleaseError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let written = tempfile::Builder::new().prefix(".setpoint-").tempfile_in(folder).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map(drop).map_err(|error| error.error)
    });
    written.map_err(ReleaseError::io("write", path))
}
