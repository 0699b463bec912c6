//! Releases that are on this machine: each in a folder named by its digest, whole, and never changed again.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use setpoint_model::digest::Digest;
use setpoint_model::release::{Bundle, Origin, Repository, Version, versions};

use super::error::ReleaseError;
use super::parcel::{Parcel, write};
use crate::failpoints;
use crate::image::{sha256_hex, sha256_of};
use crate::paths::Roots;
use crate::remove::remove_tree;
use crate::secrets::write_private;

const FOLDER: &str = "releases/v1";
const NAMES: &str = "names";
const MAKING: &str = ".making-";
const DOCUMENT: &str = "document.json";
const CONFIG: &str = "bundle.json";
const ARCHIVE: &str = "files.tar.zst";
const FILES: &str = "files";
const SIGNATURE: &str = "signature.json";

/// Releases that are on this machine.
pub struct Releases {
    folder: PathBuf,
}

/// One of them.
pub struct Kept {
    /// Its digest.
    pub digest: String,
    /// What it holds.
    pub bundle: Bundle,
    folder: PathBuf,
}

/// Which digest a version has.
#[derive(Serialize, Deserialize)]
struct Name {
    repository: Repository,
    version: String,
    digest: String,
}

impl Releases {
    /// Those of a state.
    #[must_use]
    pub fn of(roots: &Roots) -> Self {
        Self { folder: roots.state.join(FOLDER) }
    }

    /// The folder of a release.
    pub(crate) fn place(&self, digest: &str) -> PathBuf {
        self.folder.join(sha256_hex(digest).unwrap_or("none"))
    }

    /// The folder of the files of a release, if it is here.
    #[must_use]
    pub fn files(&self, digest: &str) -> Option<PathBuf> {
        Some(self.place(digest).join(FILES)).filter(|files| files.is_dir())
    }

    /// A release, by its digest.
    ///
    /// # Errors
    /// If it is not here, or cannot be read.
    pub fn open(&self, digest: &str) -> Result<Kept, ReleaseError> {
        let folder = self.place(digest);
        let config = folder.join(CONFIG);
        let missing = || ReleaseError::Missing { digest: digest.to_owned(), folder: self.folder.clone() };
        let json = match fs::read(&config) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
            other => other.map_err(ReleaseError::io("read", &config))?,
        };
        let bundle = Bundle::parse(&json).map_err(ReleaseError::refused(&config.display()))?;
        Ok(Kept { digest: digest.to_owned(), bundle, folder })
    }

    /// The digest of a version, as it came here.
    ///
    /// # Errors
    /// If what is kept of it cannot be read.
    pub fn named(&self, origin: &Origin) -> Result<Option<String>, ReleaseError> {
        let path = self.name_of(origin);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ReleaseError::io("read", &path)(error)),
            Ok(json) => {
                // One that is damaged is as good as none: the release is fetched again.
                let name: Option<Name> = serde_json::from_slice(&json).ok();
                let is_it = |name: &Name| {
                    name.repository == origin.repository && name.version == origin.version.to_string()
                };
                Ok(name.filter(is_it).map(|name| name.digest).filter(|digest| self.files(digest).is_some()))
            }
        }
    }

    /// The versions of a repository that are here, in order.
    #[must_use]
    pub fn versions(&self, repository: &Repository) -> Vec<Version> {
        let names = self.names();
        let of_it = names.iter().filter(|(_, name)| name.repository == *repository);
        versions(of_it.map(|(_, name)| name.version.as_str()))
    }

    /// What versions are called that are here, each with its file.
    fn names(&self) -> Vec<(PathBuf, Name)> {
        let entries = fs::read_dir(self.folder.join(NAMES)).into_iter().flatten().filter_map(Result::ok);
        let read = |path: PathBuf| Some((path.clone(), serde_json::from_slice(&fs::read(path).ok()?).ok()?));
        entries.filter_map(|entry| read(entry.path())).collect()
    }

    fn name_of(&self, origin: &Origin) -> PathBuf {
        let digest = Digest::of_bytes(origin.to_string().as_bytes()).to_hex();
        self.folder.join(NAMES).join(format!("{digest}.json"))
    }

    /// Keeps a release, with its signature. It appears whole or not at all, and is never written to again.
    ///
    /// # Errors
    /// If something of it is not what it should be, or it cannot be written.
    pub fn keep(&self, parcel: &Parcel, signature: Option<&[u8]>) -> Result<Kept, ReleaseError> {
        let origin = format!("{}:{}", parcel.bundle.repository, parcel.bundle.version);
        let _lock = self.lock()?;
        let place = self.place(&parcel.digest);
        if self.files(&parcel.digest).is_none() {
            let making = tempfile::Builder::new()
                .prefix(MAKING)
                .tempdir_in(&self.folder)
                .map_err(ReleaseError::io("make a folder in", &self.folder))?;
            let made = making.path();
            for (name, bytes) in
                [(DOCUMENT, &parcel.document), (CONFIG, &parcel.config), (ARCHIVE, &parcel.files)]
            {
                write(&made.join(name), bytes, 0o400)?;
            }
            parcel.unpack(&origin, &made.join(FILES))?;
            seal(&made.join(FILES))?;
            failpoints::at("release.unpacked");
            // What is read-only cannot be moved by everybody: the folder itself stays its owner's.
            let making = making.keep();
            let moved = fs::rename(&making, &place).and_then(|()| File::open(&self.folder)?.sync_all());
            moved.map_err(ReleaseError::io("move a release to", &place))?;
        }
        if let Some(signature) = signature {
            let path = place.join(SIGNATURE);
            write_private(&path, signature, false).map_err(ReleaseError::io("write", &path))?;
        }
        let bundle = parcel.bundle.clone();
        if let Ok(version) = Version::parse(&bundle.version) {
            let origin = Origin { repository: bundle.repository.clone(), version };
            let (repository, version) = (bundle.repository.clone(), bundle.version.clone());
            let name = Name { repository, version, digest: parcel.digest.clone() };
            let path = self.name_of(&origin);
            let json = serde_json::to_vec(&name).unwrap_or_default();
            write_private(&path, &json, false).map_err(ReleaseError::io("write", &path))?;
        }
        failpoints::at("release.kept");
        Ok(Kept { digest: parcel.digest.clone(), bundle, folder: place })
    }

    /// Whether a release is here. Whoever wrote down before that he needs it can rely on it: who removes releases looks for that
    /// and removes them in one go.
    ///
    /// # Errors
    /// If it cannot be found out.
    pub(crate) fn holds(&self, digest: &str) -> Result<bool, ReleaseError> {
        let _lock = self.lock()?;
        Ok(self.files(digest).is_some())
    }

    /// Removes those that are unneeded, which is asked when nobody else can.
    ///
    /// # Errors
    /// If that cannot be told, or one cannot be removed; the next removal goes on.
    pub(crate) fn remove<E: From<ReleaseError>>(
        &self,
        unneeded: impl FnOnce() -> Result<BTreeSet<String>, E>,
    ) -> Result<(), E> {
        let _lock = self.lock()?;
        let unneeded = unneeded()?;
        for digest in &unneeded {
            let place = self.place(digest);
            let gone = self.folder.join(format!("{MAKING}{}", sha256_hex(digest).unwrap_or_default()));
            match fs::rename(&place, &gone) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => {
                    other.and_then(|()| remove_tree(&gone)).map_err(ReleaseError::io("remove", &place))?
                }
            }
        }
        for (path, _) in self.names().iter().filter(|(_, name)| unneeded.contains(&name.digest)) {
            fs::remove_file(path).map_err(ReleaseError::io("remove", path))?;
        }
        Ok(())
    }

    /// One process at a time adds or removes releases; what one that died was at is removed.
    fn lock(&self) -> Result<File, ReleaseError> {
        let failed = |what| ReleaseError::io(what, &self.folder);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(failed("make the folder"))?;
        let file = File::create(self.folder.join(".lock")).map_err(failed("lock"))?;
        file.lock().map_err(failed("lock"))?;
        for entry in fs::read_dir(&self.folder).map_err(failed("read"))? {
            let entry = entry.map_err(failed("read"))?;
            if entry.file_name().as_encoded_bytes().starts_with(MAKING.as_bytes()) {
                remove_tree(&entry.path()).map_err(failed("tidy"))?;
            }
        }
        Ok(file)
    }
}

/// Makes all folders below one read-only, and syncs them. Files are so already.
fn seal(folder: &Path) -> Result<(), ReleaseError> {
    for entry in fs::read_dir(folder).map_err(ReleaseError::io("read", folder))? {
        let path = entry.map_err(ReleaseError::io("read", folder))?.path();
        if path.is_dir() {
            seal(&path)?;
        }
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o555))
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(ReleaseError::io("seal", folder))
}

impl Kept {
    /// That it is not here any more.
    pub(super) fn missing(&self) -> ReleaseError {
        let folder = self.folder.parent().unwrap_or(&self.folder).to_owned();
        ReleaseError::Missing { digest: self.digest.clone(), folder }
    }

    /// How it is called: its repository and version.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}:{}", self.bundle.repository, self.bundle.version)
    }

    /// The folder of its files.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.folder.join(FILES)
    }

    /// Its signature, if it has one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn signature(&self) -> Result<Option<Vec<u8>>, ReleaseError> {
        let path = self.folder.join(SIGNATURE);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some).map_err(ReleaseError::io("read", &path)),
        }
    }

    /// The whole of it, as it lies in a registry.
    ///
    /// # Errors
    /// If something of it is not what it was any more.
    pub fn parcel(&self) -> Result<Parcel, ReleaseError> {
        let read = |name: &str| {
            let path = self.folder.join(name);
            fs::read(&path).map_err(ReleaseError::io("read", &path))
        };
        let (config, archive) = (read(CONFIG)?, read(ARCHIVE)?);
        let parts = [config, archive];
        let blob = |digest: &str, _| {
            Ok(parts.iter().find(|part| sha256_of(part) == digest).cloned().unwrap_or_default())
        };
        Parcel::read(&self.origin(), read(DOCUMENT)?, blob)
    }
}
