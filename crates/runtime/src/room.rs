//! The room on disks: how much there is, what is said where there is none, and what is kept free for a way back.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use setpoint_model::manifest::ByteSize;

/// What is left of a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Room {
    /// Where it is mounted.
    pub(crate) mounted: PathBuf,
    /// Bytes that may still be written.
    pub(crate) free: u64,
    /// Files that may still be made; nothing where there is no bound to that.
    pub(crate) files: Option<u64>,
}

impl Room {
    /// The room where a path lies, or would lie.
    ///
    /// # Errors
    /// If the file system cannot be looked at.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let disk = rustix::fs::statvfs(there)?;
        let device = there.metadata()?.dev();
        let is_on_it = |path: &&Path| path.metadata().is_ok_and(|found| found.dev() == device);
        let mounted = there.ancestors().take_while(is_on_it).last().unwrap_or(there).to_owned();
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        // File systems without such a bound say that there are none at all.
        let files = (disk.f_files > 0).then_some(disk.f_favail);
        Ok(Self { mounted, free, files })
    }

    /// What is left, in words.
    fn left(&self) -> String {
        match self.files {
            Some(0) => "no more files can be made".to_owned(),
            _ => format!("{} left", ByteSize(self.free).rounded()),
        }
    }
}

/// Whether the disk is full, by what the system said.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What can be done where a path could not be written because the disk is full; nothing if that is not what is wrong.
pub(crate) fn hint(error: &io::Error, path: &Path) -> Option<String> {
    is_full(error).then(|| format!("{}, and try again", make_room(path)))
}

/// Where room is to be made if the disk of a path is full: `make room at /data (12MiB left)`.
pub(crate) fn make_room(path: &Path) -> String {
    match Room::of(path) {
        Ok(room) => format!("make room at {} ({})", room.mounted.display(), room.left()),
        Err(_) => format!("make room on the disk that holds {}", path.display()),
    }
}

/// There is less room than is needed.
#[derive(Debug, thiserror::Error)]
#[error("{what} needs {}, and the file system at {} has {}", ByteSize(*.needed).rounded(), room.mounted.display(), room.left())]
pub struct NoRoom {
    /// What needs it.
    pub(crate) what: String,
    /// How many bytes.
    pub(crate) needed: u64,
    /// What there is.
    pub(crate) room: Room,
}

impl NoRoom {
    /// What can be done about it.
    #[must_use]
    pub fn hint(&self) -> String {
        let missing = ByteSize(self.needed.saturating_sub(self.room.free)).rounded();
        format!("make room at {}: {missing} more, at least", self.room.mounted.display())
    }
}

/// Room that is kept free for what has to be written on the way back, as long as this is there: a file without a name,
/// which goes with the process.
#[derive(Debug)]
pub(crate) struct Reserve {
    _files: Vec<File>,
}

/// How much is kept free on each file system: journals and records of some dozens of units.
const RESERVE: u64 = 8 << 20;

impl Reserve {
    /// Keeps room free on the file systems of these folders. Those that cannot promise any keep none.
    ///
    /// # Errors
    /// The first on which there is too little.
    pub(crate) fn take(folders: &[&Path], what: &str) -> Result<Self, NoRoom> {
        let mut files = Vec::new();
        for folder in folders {
            // What could be had of it goes at once: it is in nobody's way when the others are asked how much there is.
            let kept = tempfile::tempfile_in(folder).and_then(|file| {
                fallocate(&file, FallocateFlags::KEEP_SIZE, 0, RESERVE)?;
                Ok(file)
            });
            match kept {
                Ok(file) => files.push(file),
                Err(error) if is_full(&error) => {
                    let Ok(room) = Room::of(folder) else { continue };
                    return Err(NoRoom { what: what.to_owned(), needed: RESERVE, room });
                }
                Err(_) => {}
            }
        }
        Ok(Self { _files: files })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_room_of_a_path_that_is_not_there_is_that_of_the_folder_it_would_be_in() {
        let folder = tempfile::tempdir().unwrap();
        let there = Room::of(folder.path()).unwrap();
        let would_be = Room::of(&folder.path().join("a/b")).unwrap();
        assert_eq!(there.mounted, would_be.mounted);
        assert!(folder.path().canonicalize().unwrap().starts_with(&there.mounted));
    }

    #[test]
    fn what_is_missing_is_told_with_where() {
        let room = Room { mounted: "/data".into(), free: 3 << 20, files: Some(10) };
        let none = NoRoom { what: "a copy".to_owned(), needed: 8 << 20, room };
        assert_eq!(none.to_string(), "a copy needs 8.0MiB, and the file system at /data has 3.0MiB left");
        assert_eq!(none.hint(), "make room at /data: 5.0MiB more, at least");
        assert_eq!(Room { files: Some(0), ..none.room }.left(), "no more files can be made");
    }
}
