//! Digests of files, links and folders.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, DirEntry, FileType, Mode, OFlags, openat, readlinkat, statat};
use setpoint_model::digest::{Digest, Encoder};

use super::CasError;
use super::patience::Progress;
use super::read::{content, open};
use super::stat_cache::{Stamp, StatCache, describe, now};
use crate::tracked::Tracked;

/// What has a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// A regular file: its content and whether it is executable.
    File,
    /// A symbolic link: the text of its target.
    Symlink,
    /// A folder: the names in it and the digests of what they name, but for `.git`.
    Dir,
}

/// The digest of a file, a link or a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileDigest {
    /// Covers the kind, the executable bit and the content.
    pub digest: Digest,
    /// Whether anyone may execute it; never for links and folders.
    pub executable: bool,
    /// What it is.
    pub kind: FileKind,
}

impl FileDigest {
    /// From the digest of the content: bytes, target, or list of names.
    pub(super) fn new(kind: FileKind, executable: bool, content: Digest) -> Self {
        let executable = executable && kind == FileKind::File;
        let tag = match kind {
            FileKind::File => "file",
            FileKind::Symlink => "symlink",
            FileKind::Dir => "dir",
        };
        let digest = Encoder::new("file", 1).text(tag).flag(executable).digest(content).finish();
        Self { digest, executable, kind }
    }
}

/// Looks at files, and reads those that the cache does not know.
#[derive(Debug)]
pub struct Files<'a> {
    cache: &'a mut StatCache,
    progress: &'a Progress,
    tracked: Tracked,
}

impl<'a> Files<'a> {
    pub(super) fn new(cache: &'a mut StatCache, progress: &'a Progress) -> Self {
        Self { cache, progress, tracked: Tracked::default() }
    }

    /// What was asked for here, and the folders that were walked for it.
    pub(crate) fn tracked(&mut self) -> &mut Tracked {
        &mut self.tracked
    }

    /// The digest of whatever the path names. A symbolic link is itself, not what it leads to.
    ///
    /// # Errors
    /// [`CasError`] if it is missing, is a pipe, socket or device, may not be read, or keeps changing; for a
    /// folder also if that is so of anything in it, pipes, sockets and devices excepted: those do not count.
    pub fn file_digest(&mut self, path: &Path) -> Result<FileDigest, CasError> {
        self.progress.look_at(path);
        self.tracked.file(path);
        let name = CString::new(path.as_os_str().as_bytes())
            .map_err(|error| CasError::new(path, std::io::Error::from(error)))?;
        let stamp = stamp_at(CWD, &name, path)?;
        match stamp.file_type() {
            FileType::Directory => self.folder(open_folder(CWD, &name, path)?, &mut path.to_owned()),
            _ => self.leaf(CWD, &name, &stamp, path),
        }
    }

    /// The digest that [`super::read_once`] would give, without reading what is known. Links are followed.
    ///
    /// # Errors
    /// [`CasError`] if it is missing, is no regular file, may not be read, or keeps changing.
    pub fn script_digest(&mut self, path: &Path) -> Result<FileDigest, CasError> {
        self.progress.look_at(path);
        self.tracked.file(path);
        let stat = statat(CWD, path, AtFlags::empty()).map_err(|error| CasError::new(path, error))?;
        self.regular(&Stamp::new(&stat), path, || open(path))
    }

    /// Says what is looked at next.
    pub(super) fn look_at(&self, path: &Path) {
        self.progress.look_at(path);
    }

    /// The digest of what is not a folder.
    pub(super) fn leaf(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &CStr,
        stamp: &Stamp,
        path: &Path,
    ) -> Result<FileDigest, CasError> {
        match stamp.file_type() {
            FileType::Symlink => {
                let target =
                    readlinkat(folder, name, Vec::new()).map_err(|error| CasError::new(path, error))?;
                Ok(FileDigest::new(FileKind::Symlink, false, Digest::of_bytes(target.as_bytes())))
            }
            _ => self.regular(stamp, path, || {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let file = openat(folder, name, flags, Mode::empty());
                file.map(File::from).map_err(|error| CasError::new(path, error))
            }),
        }
    }

    fn regular(
        &mut self,
        stamp: &Stamp,
        path: &Path,
        open: impl FnOnce() -> Result<File, CasError>,
    ) -> Result<FileDigest, CasError> {
        let kind = stamp.file_type();
        if kind != FileType::RegularFile {
            return Err(CasError::NotRegular { path: path.to_owned(), what: describe(kind) });
        }
        if let Some(known) = self.cache.get(stamp) {
            return Ok(FileDigest { digest: known, executable: stamp.executable(), kind: FileKind::File });
        }
        let begin = now();
        let (stamp, content) = content(open()?, path, self.progress)?;
        let file = FileDigest::new(FileKind::File, stamp.executable(), content);
        self.cache.put(&stamp, file.digest, begin);
        Ok(file)
    }

    fn folder(&mut self, mut folder: Dir, path: &mut PathBuf) -> Result<FileDigest, CasError> {
        self.tracked.folder(path);
        let mut children: Vec<(CString, Digest)> = Vec::new();
        while let Some(entry) = next_entry(&mut folder, path)? {
            let name = entry.file_name();
            path.push(OsStr::from_bytes(name.to_bytes()));
            self.progress.look_at(path);
            let here = folder.fd().map_err(|error| CasError::new(path, error))?;
            if let Some(digest) = present(self.child(here, &entry, path))?.flatten() {
                children.push((name.to_owned(), digest));
            }
            path.pop();
        }
        children.sort_unstable();
        let mut encoder = Encoder::new("names", 1);
        encoder.list(children.len());
        for (name, digest) in &children {
            encoder.bytes(name.to_bytes()).digest(*digest);
        }
        Ok(FileDigest::new(FileKind::Dir, false, encoder.finish()))
    }

    fn child(
        &mut self,
        folder: BorrowedFd<'_>,
        entry: &DirEntry,
        path: &mut PathBuf,
    ) -> Result<Option<Digest>, CasError> {
        let name = entry.file_name();
        let digest = match kind_of(folder, entry, path)? {
            FileType::Directory => self.folder(open_folder(folder, name, path)?, path)?,
            FileType::RegularFile | FileType::Symlink => {
                let stamp = stamp_at(folder, name, path)?;
                self.leaf(folder, name, &stamp, path)?
            }
            _ => return Ok(None),
        };
        Ok(Some(digest.digest))
    }
}

/// What vanished since it was listed is not there.
pub(super) fn present<T>(result: Result<T, CasError>) -> Result<Option<T>, CasError> {
    match result {
        Err(error) if error.is_missing() => Ok(None),
        other => other.map(Some),
    }
}

/// The next entry of a folder that counts: all but itself, its parent and `.git`.
pub(super) fn next_entry(folder: &mut Dir, path: &Path) -> Result<Option<DirEntry>, CasError> {
    loop {
        match folder.read().transpose().map_err(|error| CasError::new(path, error))? {
            Some(entry) if matches!(entry.file_name().to_bytes(), b"." | b".." | b".git") => {}
            other => return Ok(other),
        }
    }
}

/// What an entry is; only some file systems do not say so in the listing.
pub(super) fn kind_of(folder: BorrowedFd<'_>, entry: &DirEntry, path: &Path) -> Result<FileType, CasError> {
    match entry.file_type() {
        FileType::Unknown => stamp_at(folder, entry.file_name(), path).map(|stamp| stamp.file_type()),
        known => Ok(known),
    }
}

pub(super) fn stamp_at(folder: BorrowedFd<'_>, name: &CStr, path: &Path) -> Result<Stamp, CasError> {
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .map(|stat| Stamp::new(&stat))
        .map_err(|error| CasError::new(path, error))
}

/// Opens a folder, and never what a link leads to.
pub(super) fn open_folder(folder: BorrowedFd<'_>, name: &CStr, path: &Path) -> Result<Dir, CasError> {
    open_dir(folder, name, path, OFlags::NOFOLLOW)
}

/// Opens the folder where a walk begins, which may be named by a link.
pub(super) fn open_root(path: &Path) -> Result<Dir, CasError> {
    open_dir(CWD, path, path, OFlags::empty())
}

fn open_dir(
    folder: impl AsFd,
    name: impl rustix::path::Arg,
    path: &Path,
    more: OFlags,
) -> Result<Dir, CasError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | more;
    openat(folder, name, flags, Mode::empty())
        .and_then(|fd: OwnedFd| Dir::new(fd))
        .map_err(|error| CasError::new(path, error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
#[path = "tree_tests.rs"]
mod tests;
