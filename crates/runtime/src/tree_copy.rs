//! Copies of folders with everything that is told of their files, sharing blocks where the file system can.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Seek as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::cancel::Cancel;
use crate::engine::EngineError;

/// How often is looked whether it is done, or to be stopped, at most. What there is little of is done sooner.
const LOOK: Duration = Duration::from_millis(50);
/// What `cp` says of a disk that is full.
const FULL: [&str; 2] = ["No space left on device", "Disk quota exceeded"];
/// What the system counts the room of files in, in bytes.
const BLOCK: u64 = 512;

/// Copies a folder to a path where nothing is: owners, rights, times, links of both kinds, holes and extended attributes.
///
/// # Errors
/// If a file cannot be read or written, or the caller stops it; what there is by then stays.
pub(crate) fn copy(from: &Path, to: &Path, cancel: &Cancel) -> Result<(), EngineError> {
    let mut complaints = tempfile::tempfile().map_err(EngineError::io("copy", from))?;
    let said = complaints.try_clone().map_err(EngineError::io("copy", from))?;
    let mut child = Command::new("cp")
        .args(["--archive", "--reflink=auto", "--sparse=auto", "--no-target-directory", "--"])
        .args([from, to])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said)
        .spawn()
        .map_err(EngineError::io("start `cp` for", from))?;
    let mut look = Duration::from_millis(1);
    let ended = loop {
        if let Some(status) = child.try_wait().map_err(EngineError::io("copy", from))? {
            break status;
        }
        if cancel.asked() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(EngineError::io("copy", from)(std::io::ErrorKind::Interrupted.into()));
        }
        std::thread::sleep(look);
        look = (look * 2).min(LOOK);
    };
    if ended.success() {
        return Ok(());
    }
    let said = complaints.rewind().and_then(|()| std::io::read_to_string(complaints)).unwrap_or_default();
    if FULL.iter().any(|words| said.contains(words)) {
        return Err(EngineError::io("write", to)(std::io::ErrorKind::StorageFull.into()));
    }
    let first = said.lines().next().unwrap_or("`cp` failed").to_owned();
    Err(EngineError::io("copy", from)(std::io::Error::other(first)))
}

/// How many bytes a folder takes of a disk with all that is in it, each file once, as far as it can be looked at.
pub(crate) fn size(folder: &Path) -> u64 {
    size_of_new(folder, &mut BTreeSet::new())
}

/// The same, of what has not been met by another name.
fn size_of_new(folder: &Path, met: &mut BTreeSet<(u64, u64)>) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => size_of_new(&entry.path(), met) + about.blocks() * BLOCK,
        Ok(about) if about.nlink() > 1 && !met.insert((about.dev(), about.ino())) => 0,
        Ok(about) => about.blocks() * BLOCK,
        Err(_) => 0,
    };
    entries.map(of).sum()
}

/// Waits until all that was written to the file system of a path is on the disk.
///
/// # Errors
/// If the disk fails.
pub(crate) fn sync(path: &Path) -> Result<(), EngineError> {
    let opened = File::open(path).map_err(EngineError::io("open", path))?;
    rustix::fs::syncfs(&opened).map_err(|error| EngineError::io("sync", path)(error.into()))
}
