//! Backups in a folder: a layout of OCI, in which equal parts lie once, and to whose list each backup is added when all of
//! it is on the disk.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use setpoint_model::backup::{ARTIFACT, Contents};
use tempfile::NamedTempFile;

use super::document;
use super::error::BackupError;
use super::part::{self, Written};
use crate::artifact::{BLOBS, DOCUMENT, Entry, INDEX, Index, MARK, MARK_TEXT, NAME};
use crate::cancel::Cancel;
use crate::failpoints;
use crate::image::{sha256_hex, sha256_of};
use crate::secrets::write_private;

/// What is locked while somebody adds to the folder.
const LOCK: &str = ".setpoint-lock";
/// What the files begin with that are not whole yet.
const UNFINISHED: &str = ".part-";
/// How many bytes a list or a document may have.
const MOST_JSON: u64 = 16 << 20;
/// How long a waiter sleeps before it tries again.
const RETRY: Duration = Duration::from_millis(50);

/// A folder that backups are added to, by one command at a time.
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

/// A part that is written, and not among the others yet.
pub(super) struct New {
    pub(super) file: NamedTempFile,
    pub(super) written: Written,
}

impl Folder {
    /// Opens a folder to add to it, and makes it where it is not there. What a command left there that was killed is
    /// removed.
    pub(super) fn take(path: &Path, cancel: &Cancel) -> Result<Self, BackupError> {
        check(path)?;
        let blobs = path.join(BLOBS);
        let make = DirBuilder::new().recursive(true).mode(0o700).create(&blobs);
        make.map_err(BackupError::io("make the folder", &blobs))?;
        let place = path.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(&place);
        let lock = lock.map_err(BackupError::io("open", &place))?;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if cancel.asked() => return Err(BackupError::Cancelled),
                Err(TryLockError::WouldBlock) => std::thread::sleep(RETRY),
                Err(TryLockError::Error(error)) => return Err(BackupError::io("lock", &place)(error)),
            }
        }
        let folder = Self { path: path.to_owned(), _lock: lock };
        for entry in fs::read_dir(&blobs).map_err(BackupError::io("read", &blobs))? {
            let entry = entry.map_err(BackupError::io("read", &blobs))?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_file(entry.path()).map_err(BackupError::io("remove", &entry.path()))?;
            }
        }
        Ok(folder)
    }

    /// Whether there is something of this name.
    pub(super) fn has(&self, name: &str) -> Result<bool, BackupError> {
        Ok(index(&self.path)?
            .manifests
            .iter()
            .any(|entry| entry.annotations.get(NAME).is_some_and(|it| it == name)))
    }

    /// Adds a backup: it is listed when all of it is on the disk. Gives how many bytes of it were there already.
    pub(super) fn add(&self, name: &str, contents: &Contents, parts: Vec<New>) -> Result<u64, BackupError> {
        let blobs = self.path.join(BLOBS);
        let mut shared = 0;
        for New { file, written } in parts {
            let place = blobs.join(sha256_hex(&written.layer).unwrap_or_default());
            // One that was damaged since is put right by the way.
            if digest(&place).is_some_and(|found| found == written.layer) {
                shared += written.stored;
                continue;
            }
            file.persist(&place).map_err(|error| BackupError::io("write", &place)(error.error))?;
        }
        failpoints::at("backup.parts");
        let (config, text) = document::written(contents);
        for bytes in [&config, &text] {
            let place = blobs.join(sha256_hex(&sha256_of(bytes)).unwrap_or_default());
            write_private(&place, bytes, false).map_err(BackupError::io("write", &place))?;
        }
        sync(&blobs)?;
        let mark = self.path.join(MARK);
        write_private(&mark, MARK_TEXT.as_bytes(), true).map_err(BackupError::io("write", &mark))?;
        let mut index = index(&self.path)?;
        let mut entry = Entry::new(DOCUMENT, Some(ARTIFACT), name, &text);
        entry.annotations.extend(document::annotations(contents));
        index.manifests.push(entry);
        failpoints::at("backup.listing");
        let place = self.path.join(INDEX);
        write_private(&place, &index.written(), false).map_err(BackupError::io("write", &place))?;
        sync(&self.path)?;
        failpoints::at("backup.listed");
        Ok(shared)
    }
}

/// A file for a part that is to be written, next to where it will lie.
pub(super) fn unfinished(blobs: &Path) -> Result<NamedTempFile, BackupError> {
    let made = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(blobs);
    made.map_err(BackupError::io("write in", blobs))
}

fn sync(folder: &Path) -> Result<(), BackupError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(BackupError::io("sync", folder))
}

/// Whether a folder is one for backups: not there yet, empty, or a layout.
fn check(path: &Path) -> Result<(), BackupError> {
    let not = |why| BackupError::NotAFolder { path: path.to_owned(), why };
    let mut entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(not("is a file, and no folder"));
        }
        other => other.map_err(BackupError::io("read", path))?,
    };
    let is_ours = path.join(MARK).exists() || path.join(LOCK).exists();
    if !is_ours && entries.next().is_some() {
        return Err(not("has files in it, and is no folder of backups"));
    }
    Ok(())
}

/// The list of a folder; an empty one where there is none.
fn index(path: &Path) -> Result<Index, BackupError> {
    let place = path.join(INDEX);
    let file = match File::open(&place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Index::of(Vec::new())),
        other => other.map_err(BackupError::io("read", &place))?,
    };
    let mut text = Vec::new();
    file.take(MOST_JSON).read_to_end(&mut text).map_err(BackupError::io("read", &place))?;
    serde_json::from_slice(&text).map_err(|error| {
        BackupError::refused(&path.display().to_string(), format!("its list is damaged: {error}"))
    })
}

/// The backups of a folder, in the order in which they were added: their names, and the digests of their documents.
pub(super) fn list(path: &Path) -> Result<Vec<(String, String)>, BackupError> {
    check(path)?;
    let entries = index(path)?.manifests.into_iter();
    let ours = entries.filter(|entry| entry.artifact_type.as_deref() == Some(ARTIFACT));
    Ok(ours.filter_map(|entry| Some((entry.annotations.get(NAME)?.clone(), entry.digest))).collect())
}

/// What a backup of a folder holds, by its name and the digest of its document.
pub(super) fn contents(path: &Path, name: &str, document: &str) -> Result<Contents, BackupError> {
    let blob = |digest: &str| {
        let lacks = || BackupError::refused(name, format!("it lacks {digest}"));
        let place = path.join(BLOBS).join(sha256_hex(digest).ok_or_else(lacks)?);
        let mut bytes = Vec::new();
        let read = File::open(&place).and_then(|file| file.take(MOST_JSON).read_to_end(&mut bytes));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(lacks()),
            Err(error) => Err(BackupError::io("read", &place)(error)),
            Ok(_) => Ok(bytes),
        }
    };
    document::read(name, document, blob)
}

/// The digest of a file; nothing if it cannot be read.
fn digest(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    part::digest(&mut file).ok()
}

/// Where the parts of a folder's backups lie.
pub(super) fn blobs(path: &Path) -> PathBuf {
    path.join(BLOBS)
}
