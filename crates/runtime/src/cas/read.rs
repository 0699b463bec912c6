//! Reading a file as a whole, as it was at one moment.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use setpoint_model::digest::Digest;

use super::CasError;
use super::patience::Progress;
use super::stat_cache::Stamp;
use super::tree::{FileDigest, FileKind};

/// How often a file is read that changes under the reader.
const ATTEMPTS: usize = 5;

/// A script: the bytes to execute, and their digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The digest of the file with these bytes.
    pub file: FileDigest,
}

/// Reads a file once, to run what was digested and nothing else. Symbolic links are followed.
///
/// # Errors
/// [`CasError`] if it is missing, is no regular file, may not be read, or keeps changing.
pub fn read_once(path: &Path) -> Result<Script, CasError> {
    let mut bytes = Vec::new();
    let (stamp, content) = read_stable(open(path)?, path, |chunk| bytes.extend_from_slice(chunk), || ())?;
    // A repeated attempt appends: keep what the last one read.
    let start = usize::try_from(stamp.size).map_or(0, |size| bytes.len().saturating_sub(size));
    bytes.drain(..start);
    Ok(Script { bytes, file: FileDigest::new(FileKind::File, stamp.executable(), content) })
}

/// The digest of an open file's content, and what it looked like while it had it.
pub(crate) fn content(file: File, path: &Path, progress: &Progress) -> Result<(Stamp, Digest), CasError> {
    read_stable(file, path, |_| (), || progress.alive())
}

/// Opens what has to be a regular file, following links. A pipe does not make it wait.
pub(super) fn open(path: &Path) -> Result<File, CasError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    openat(CWD, path, flags, Mode::empty()).map(File::from).map_err(|error| CasError::new(path, error))
}

fn read_stable(
    mut file: File,
    path: &Path,
    mut each: impl FnMut(&[u8]),
    alive: impl Fn(),
) -> Result<(Stamp, Digest), CasError> {
    let failed = |error| CasError::new(path, error);
    let mut buffer = vec![0; 64 * 1024];
    for _ in 0..ATTEMPTS {
        let before = Stamp::of(&file, path)?;
        let mut hasher = blake3::Hasher::new();
        let mut size = 0;
        loop {
            let read = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            let chunk = buffer.get(..read).unwrap_or_default();
            hasher.update(chunk);
            each(chunk);
            size += read as u64;
            alive();
        }
        if before == Stamp::of(&file, path)? && size == before.size {
            return Ok((before, Digest::from_bytes(*hasher.finalize().as_bytes())));
        }
        file.rewind().map_err(failed)?;
    }
    Err(CasError::Changing { path: PathBuf::from(path) })
}
