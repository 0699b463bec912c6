//! Where backups lie: a folder, or a repository of a registry.

use std::fs::DirBuilder;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use setpoint_model::backup::{ARTIFACT, Contents, Part, is_of_project, when};
use setpoint_model::release::{BadAddress, Repository, SCHEME};

use super::error::BackupError;
use super::{document, folder, part};
use crate::artifact::Document;
use crate::image::{Credentials, ImageStore, Remote, sha256_hex, sha256_of};
use crate::release::Registry;
use crate::remove::remove_tree;

/// Where backups lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a folder.
    Folder(PathBuf),
    /// In a repository of a registry.
    Registry(Repository),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Registry(repository) => f.write_str(&repository.address()),
        }
    }
}

/// A place, and the name of a backup in it where one is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Where.
    pub place: Place,
    /// Which.
    pub name: Option<String>,
}

impl Address {
    /// Reads an address, from this folder: `DIR`, `DIR:NAME`, `oci://HOST/REPO`, `oci://HOST/REPO:NAME`. What is there as
    /// a folder is one, whatever is in its name.
    ///
    /// # Errors
    /// [`BadAddress`] if it is no repository.
    pub fn parse(text: &str, from: &Path) -> Result<Self, BadAddress> {
        let named = |text: &str| match text.rsplit_once(':') {
            Some((before, name)) if !name.is_empty() && !name.contains('/') => {
                (before.to_owned(), Some(name.to_owned()))
            }
            _ => (text.to_owned(), None),
        };
        if let Some(plain) = text.strip_prefix(SCHEME) {
            let (repository, name) = named(plain);
            return Ok(Self { place: Place::Registry(Repository::parse(&repository)?), name });
        }
        let whole = from.join(text);
        let (before, name) = named(text);
        match name {
            Some(name) if !whole.exists() => {
                Ok(Self { place: Place::Folder(from.join(before)), name: Some(name) })
            }
            _ => Ok(Self { place: Place::Folder(whole), name: None }),
        }
    }
}

/// Works with a repository.
pub(super) fn at<T>(
    registry: &Registry<'_>,
    repository: &Repository,
    work: impl FnOnce(&Remote<'_, '_>) -> Result<T, BackupError>,
) -> Result<T, BackupError> {
    let heard = |done, total| registry.watcher.event(&crate::events::Event::Bytes { done, total });
    let credentials = Credentials::from_env(registry.variables);
    let store = ImageStore::new(&registry.roots.state);
    store.at_registry(repository.as_str(), &credentials, &heard, &|| registry.cancel.asked(), work)
}

/// A backup, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// The digest of its document.
    pub digest: String,
    /// What it holds.
    pub contents: Contents,
}

/// A backup that can be read.
pub struct Opened {
    /// What it is, and what it holds.
    pub listed: Listed,
    place: Place,
    /// Where its parts lie, or will.
    blobs: PathBuf,
}

/// The backups of a place, the oldest first.
///
/// # Errors
/// If it cannot be looked at.
pub fn list(registry: &Registry<'_>, place: &Place) -> Result<Vec<Listed>, BackupError> {
    let mut found = match place {
        Place::Folder(path) => folder::list(path)?
            .into_iter()
            .map(|(name, digest)| {
                Ok(Listed { contents: folder::contents(path, &name, &digest)?, name, digest })
            })
            .collect::<Result<Vec<_>, BackupError>>()?,
        Place::Registry(repository) => at(registry, repository, |remote| {
            let mut found = Vec::new();
            for tag in remote.tags()?.into_iter().filter(|tag| when(tag).is_some()) {
                found.extend(of_tag(remote, &tag)?);
            }
            Ok(found)
        })?,
    };
    found.sort_by(|one, other| one.contents.at.cmp(&other.contents.at));
    Ok(found)
}

/// The backup of a tag; nothing if there is none, or it is something else.
fn of_tag(remote: &Remote<'_, '_>, tag: &str) -> Result<Option<Listed>, BackupError> {
    let Some(text) = remote.document(tag)? else { return Ok(None) };
    let Ok(read) = serde_json::from_slice::<Document>(&text) else { return Ok(None) };
    if read.artifact_type != ARTIFACT {
        return Ok(None);
    }
    let digest = sha256_of(&text);
    let blob = |wanted: &str| match wanted == digest {
        true => Ok(text.clone()),
        false => Ok(remote.blob(wanted, read.config.size)?),
    };
    let contents = document::read(tag, &digest, blob)?;
    Ok(Some(Listed { name: tag.to_owned(), digest, contents }))
}

/// Opens a backup: the one that is named, or the last of a project. Parts that have to be fetched are put into `fetched`.
///
/// # Errors
/// If there is none, or it is not what it should be.
pub fn open(
    registry: &Registry<'_>,
    address: &Address,
    project: &str,
    fetched: &Path,
) -> Result<Opened, BackupError> {
    let place = address.place.clone();
    let choose = |names: Vec<String>| match &address.name {
        Some(wanted) => match names.contains(wanted) {
            true => Ok(wanted.clone()),
            false => Err(none(&format!("of the name {wanted} in {place}"), names)),
        },
        None => {
            let ours = names.iter().filter(|name| is_of_project(name, project));
            match ours.max_by_key(|name| when(name).map(str::to_owned)) {
                Some(last) => Ok(last.clone()),
                None if names.is_empty() => Err(none(&format!("in {place}"), names)),
                None => Err(none(&format!("of {project} in {place}"), names)),
            }
        }
    };
    let (listed, blobs) = match &place {
        Place::Folder(path) => {
            let all = folder::list(path)?;
            let name = choose(all.iter().map(|(name, _)| name.clone()).collect())?;
            let digest = all.into_iter().rev().find(|(known, _)| *known == name).map(|(_, digest)| digest);
            let digest = digest.unwrap_or_default();
            let contents = folder::contents(path, &name, &digest)?;
            (Listed { name, digest, contents }, folder::blobs(path))
        }
        Place::Registry(repository) => {
            let listed = at(registry, repository, |remote| {
                // A tag that somebody chose need not tell when.
                if let Some(wanted) = &address.name
                    && let Some(listed) = of_tag(remote, wanted)?
                {
                    return Ok(listed);
                }
                let tags = remote.tags()?.into_iter().filter(|tag| when(tag).is_some());
                let name = choose(tags.collect())?;
                of_tag(remote, &name)?
                    .ok_or_else(|| none(&format!("of the name {name} in {place}"), Vec::new()))
            })?;
            (listed, fetched.to_owned())
        }
    };
    Ok(Opened { listed, place, blobs })
}

fn none(what: &str, there: Vec<String>) -> BackupError {
    BackupError::NoBackup { what: what.to_owned(), there }
}

impl Opened {
    /// A backup of a folder that was just made there.
    pub(super) fn made(place: Place, blobs: PathBuf, listed: Listed) -> Self {
        Self { listed, place, blobs }
    }

    /// Makes parts available, and looks at every byte of them.
    ///
    /// # Errors
    /// If one cannot be had, or is not what it should be.
    pub fn verify(&self, registry: &Registry<'_>, parts: &[&Part]) -> Result<(), BackupError> {
        let name = &self.listed.name;
        if let Place::Registry(repository) = &self.place {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.blobs);
            made.map_err(BackupError::io("make the folder", &self.blobs))?;
            at(registry, repository, |remote| {
                let is_there = remote.document(&self.listed.digest)?.is_some();
                if !is_there {
                    return Err(BackupError::refused(name, "it is not there any more"));
                }
                for part in parts {
                    let place = self.file(part);
                    if !place.exists() {
                        remote.blob_to(&part.layer, part.stored, &place)?;
                    }
                }
                Ok(())
            })?;
        }
        parts.iter().try_for_each(|part| part::verify(name, &self.file(part), part, registry.cancel))
    }

    /// Removes what was fetched of it, which is needed no more. What stays is removed by the next command.
    pub fn forget_fetched(&self) {
        if let (Place::Registry(_), Some(folder)) = (&self.place, self.blobs.parent()) {
            let _ = remove_tree(folder);
        }
    }

    fn file(&self, part: &Part) -> PathBuf {
        self.blobs.join(sha256_hex(&part.layer).unwrap_or_default())
    }

    /// The part with this layer.
    pub(crate) fn part(&self, layer: &str) -> Option<&Part> {
        self.listed.contents.parts.iter().find(|part| part.layer == layer)
    }

    /// The bytes of a part: the archive of a volume, or what a command wrote.
    pub(crate) fn read(&self, part: &Part) -> Result<Box<dyn Read + Send>, BackupError> {
        part::open(&self.file(part), part)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_place_and_perhaps_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path();
        std::fs::create_dir(from.join("a:b")).unwrap();
        let read = |text: &str| Address::parse(text, from).unwrap();
        let folder = |name: &str| Place::Folder(from.join(name));
        for (text, place, name) in [
            ("b", folder("b"), None),
            ("b:one", folder("b"), Some("one")),
            ("a:b", folder("a:b"), None),
            ("a:b:one", folder("a:b"), Some("one")),
            ("/srv/b", Place::Folder("/srv/b".into()), None),
        ] {
            assert_eq!(read(text), Address { place, name: name.map(str::to_owned) }, "{text}");
        }
        let repository = |text: &str| Place::Registry(Repository::parse(text).unwrap());
        let plain = read("oci://localhost:5000/acme/shop");
        assert_eq!(plain, Address { place: repository("localhost:5000/acme/shop"), name: None });
        let named = read("oci://localhost:5000/acme/shop:one");
        assert_eq!(named.name.as_deref(), Some("one"));
        assert!(Address::parse("oci://shop", from).is_err());
    }
}
