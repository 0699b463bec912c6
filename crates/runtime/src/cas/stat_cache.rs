//! The stat cache: which content a file has, as long as it looks the same.
//!
//! A file is known by device and inode, and looks the same as long as size, mtime and ctime do; a change of mode
//! moves ctime, so that the digest may cover the executable bit. The cache is a
//! sorted table in one file, read as a whole. Losing it costs time and nothing else: a file that is not sound is
//! an empty cache.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, Stat, fstat};
use rustix::time::{ClockId, clock_gettime};
use setpoint_model::digest::Digest;

use super::CasError;
use crate::paths::{Roots, make_private_folder, project_key};

const MAGIC: &[u8; 16] = b"setpoint stat v1";
const HEADER: usize = MAGIC.len() + 32;
const ENTRY: usize = 5 * 8 + 32;

/// The kernel stamps files with a clock that moves with its tick, every 10 ms at the slowest.
const TICK: Duration = Duration::from_millis(20);
/// Some file systems keep whole seconds, or even seconds only.
const COARSE_TICK: Duration = Duration::from_secs(2);

/// How many entries that nobody asked for are kept in any case.
const SPARE: usize = 1_000;

/// What a file looks like from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) key: Key,
    pub(crate) size: u64,
    /// Nanoseconds since 1970.
    pub(crate) mtime: i64,
    /// Nanoseconds since 1970.
    pub(crate) ctime: i64,
    pub(crate) mode: u32,
}

/// Which file it is: device and inode.
pub(crate) type Key = (u64, u64);

impl Stamp {
    pub(crate) fn new(stat: &Stat) -> Self {
        let ns = |s: i64, ns: u64| s.saturating_mul(1_000_000_000).saturating_add(ns.cast_signed());
        Self {
            key: (stat.st_dev, stat.st_ino),
            size: stat.st_size.cast_unsigned(),
            mtime: ns(stat.st_mtime, stat.st_mtime_nsec),
            ctime: ns(stat.st_ctime, stat.st_ctime_nsec),
            mode: stat.st_mode,
        }
    }

    /// What an open file looks like, if it is a regular one.
    pub(super) fn of(file: &File, path: &Path) -> Result<Self, CasError> {
        let stamp = Self::new(&fstat(file).map_err(|error| CasError::new(path, error))?);
        match stamp.file_type() {
            FileType::RegularFile => Ok(stamp),
            other => Err(CasError::NotRegular { path: path.to_owned(), what: describe(other) }),
        }
    }

    pub(crate) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Whether anyone may execute it: all of the mode that counts.
    pub(crate) fn executable(&self) -> bool {
        self.mode & 0o111 != 0
    }

    /// Whether a change from `now` on would show. One within the same tick of the file system's clock might not:
    /// the file is "racily clean", and its digest must not be kept.
    pub(crate) fn is_settled(&self, now: i64) -> bool {
        let latest = self.mtime.max(self.ctime);
        let coarse = self.ctime % 1_000_000_000 == 0;
        let tick = if coarse { COARSE_TICK } else { TICK };
        latest.saturating_add(tick.as_nanos() as i64) < now
    }
}

pub(super) fn describe(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a file",
        FileType::Directory => "a folder",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "of an unknown kind",
    }
}

/// The time by which a reading that begins now is judged.
pub(crate) fn now() -> i64 {
    let time = clock_gettime(ClockId::Realtime);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    key: Key,
    size: u64,
    mtime: i64,
    ctime: i64,
    digest: Digest,
}

impl Entry {
    fn is_of(&self, stamp: &Stamp) -> bool {
        (self.key, self.size, self.mtime, self.ctime) == (stamp.key, stamp.size, stamp.mtime, stamp.ctime)
    }
}

/// The digests of a project's files, by what the files look like.
#[derive(Debug, Default)]
pub struct StatCache {
    path: Option<PathBuf>,
    /// As it was read, by key.
    known: Vec<Entry>,
    /// Which of them were asked for.
    used: Vec<bool>,
    /// What was learned since.
    fresh: BTreeMap<Key, Entry>,
}

impl StatCache {
    /// The cache of a project. A missing or damaged file is an empty cache.
    #[must_use]
    pub fn open(roots: &Roots, project_root: &Path) -> Self {
        let path = roots.state.join("stat").join("v1").join(project_key(project_root, None).to_hex());
        let known = std::fs::read(&path).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default();
        Self { used: vec![false; known.len()], path: Some(path), known, fresh: BTreeMap::new() }
    }

    /// A cache that is never written.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// How many files it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len() + self.fresh.keys().filter(|key| self.position(**key).is_none()).count()
    }

    /// Whether it knows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.fresh.is_empty()
    }

    /// Writes the cache, if anything was learned; says whether it was written.
    ///
    /// # Errors
    /// [`CasError::Io`] names the file or folder that could not be written. Nothing is lost by it but time.
    pub fn save(&mut self) -> Result<bool, CasError> {
        let Some(path) = self.path.as_deref().filter(|_| !self.fresh.is_empty()) else { return Ok(false) };
        let entries = self.merged();
        write(path, &encode(&entries)).map_err(|source| CasError::Io { path: path.to_owned(), source })?;
        self.used = vec![true; entries.len()];
        self.known = entries;
        self.fresh.clear();
        Ok(true)
    }

    /// The digest of a file that looks like this.
    pub(super) fn get(&mut self, stamp: &Stamp) -> Option<Digest> {
        if let Some(entry) = self.fresh.get(&stamp.key) {
            return entry.is_of(stamp).then_some(entry.digest);
        }
        let position = self.position(stamp.key)?;
        let entry = self.known.get(position)?;
        *self.used.get_mut(position)? = true;
        entry.is_of(stamp).then_some(entry.digest)
    }

    /// Keeps the digest of a file that looked like this while it was read, from `now` on, unless a change could
    /// go unseen.
    pub(super) fn put(&mut self, stamp: &Stamp, digest: Digest, now: i64) {
        if stamp.is_settled(now) {
            let Stamp { key, size, mtime, ctime, .. } = *stamp;
            self.fresh.insert(key, Entry { key, size, mtime, ctime, digest });
        }
    }

    fn position(&self, key: Key) -> Option<usize> {
        self.known.binary_search_by_key(&key, |entry| entry.key).ok()
    }

    /// All entries, by key. Those that nobody asked for stay as long as they are not the greater part: they may
    /// be of files that other units use.
    fn merged(&self) -> Vec<Entry> {
        let in_use = self.used.iter().filter(|used| **used).count() + self.fresh.len();
        let keep_unused = self.known.len().saturating_sub(in_use) <= in_use + SPARE;
        let mut all: BTreeMap<Key, Entry> = self
            .known
            .iter()
            .zip(&self.used)
            .filter(|(_, used)| **used || keep_unused)
            .map(|(entry, _)| (entry.key, *entry))
            .collect();
        all.extend(&self.fresh);
        all.into_values().collect()
    }
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes.reserve(entries.len() * ENTRY);
    for entry in entries {
        for number in
            [entry.key.0, entry.key.1, entry.size, entry.mtime.cast_unsigned(), entry.ctime.cast_unsigned()]
        {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(entry.digest.as_bytes());
    }
    let (header, table) = bytes.split_at_mut(HEADER);
    let (magic, checksum) = header.split_at_mut(MAGIC.len());
    magic.copy_from_slice(MAGIC);
    checksum.copy_from_slice(Digest::of_bytes(table).as_bytes());
    bytes
}

/// The entries of a sound file; nothing of any other.
fn decode(bytes: &[u8]) -> Option<Vec<Entry>> {
    let (header, table) = bytes.split_at_checked(HEADER)?;
    let checksum = header.strip_prefix(MAGIC)?;
    if checksum != Digest::of_bytes(table).as_bytes() || !table.len().is_multiple_of(ENTRY) {
        return None;
    }
    table.chunks_exact(ENTRY).map(decode_entry).collect()
}

fn decode_entry(bytes: &[u8]) -> Option<Entry> {
    let (numbers, digest) = bytes.split_at_checked(5 * 8)?;
    let number = |index: usize| Some(u64::from_le_bytes(*numbers.get(index * 8..)?.first_chunk()?));
    Some(Entry {
        key: (number(0)?, number(1)?),
        size: number(2)?,
        mtime: number(3)?.cast_signed(),
        ctime: number(4)?.cast_signed(),
        digest: Digest::from_bytes(*digest.first_chunk()?),
    })
}

/// Replaces the file as a whole. It need not survive a crash: the checksum tells.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    make_private_folder(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
#[path = "stat_cache_tests.rs"]
mod tests;
