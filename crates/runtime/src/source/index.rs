//! What is known of a project's source: each file with how it looked and what it held. With it a look at a project
//! that has not changed is one `lstat` a file, and nothing is read.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use setpoint_model::digest::{Digest, Encoder};

use crate::cas::Stamp;
use crate::paths::make_private_folder;

const MAGIC: &[u8; 16] = b"setpoint src  v2";

/// What a file of the source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    File,
    Executable,
    Symlink,
    Folder,
}

/// A file, link or folder of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// From the top, as bytes.
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    /// Of its content; of the text of a link; zeros for a folder.
    pub(super) digest: Digest,
    /// How it looked when it was read.
    pub(super) stamp: Stamp,
    /// Whether a change after that would show.
    pub(super) settled: bool,
}

/// The index of a project.
#[derive(Debug)]
pub(super) struct Index {
    /// In the order of a walk.
    pub(super) entries: Vec<Entry>,
    /// The digests of the trees that they make: what steps see, and what describes the project.
    pub(super) trees: [Digest; 2],
    /// What git was asked under, and the tracked files that its rules ignore.
    pub(super) asked_git: Option<Digest>,
    pub(super) tracked: Vec<PathBuf>,
}

/// The digest of a tree, whatever it lies in.
pub(super) fn digest<'a>(entries: impl Iterator<Item = &'a Entry>) -> Digest {
    let mut encoder = Encoder::new("setpoint.tree", 1);
    for entry in entries {
        encoder.bytes(&entry.path).number(entry.kind as u64).digest(entry.digest);
    }
    encoder.finish()
}

/// Nothing, as the content of a folder.
pub(super) const NOTHING: Digest = Digest::from_bytes([0; 32]);

impl Default for Index {
    fn default() -> Self {
        Self { entries: Vec::new(), trees: [NOTHING; 2], asked_git: None, tracked: Vec::new() }
    }
}

impl Index {
    /// The index in a file; a missing, damaged or foreign one is empty.
    pub(super) fn read(path: &Path) -> Self {
        std::fs::read(path).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default()
    }

    /// Replaces the file as a whole. It need not survive a crash: the checksum tells.
    pub(super) fn write(&self, path: &Path) -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        make_private_folder(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&self.encode())?;
        file.persist(path)?;
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        use std::os::unix::ffi::OsStrExt as _;
        let mut body = Vec::with_capacity(self.entries.len() * 128);
        let text = |body: &mut Vec<u8>, bytes: &[u8]| {
            body.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes());
            body.extend_from_slice(bytes);
        };
        self.trees.iter().for_each(|tree| body.extend_from_slice(tree.as_bytes()));
        body.extend_from_slice(self.asked_git.unwrap_or(NOTHING).as_bytes());
        body.extend_from_slice(&u32::try_from(self.tracked.len()).unwrap_or(0).to_le_bytes());
        self.tracked.iter().for_each(|path| text(&mut body, path.as_os_str().as_bytes()));
        for entry in &self.entries {
            text(&mut body, &entry.path);
            body.push(entry.kind as u8);
            body.push(u8::from(entry.settled));
            body.extend_from_slice(entry.digest.as_bytes());
            let stamp = &entry.stamp;
            let numbers = [
                stamp.key.0,
                stamp.key.1,
                stamp.size,
                stamp.mtime.cast_unsigned(),
                stamp.ctime.cast_unsigned(),
            ];
            numbers.iter().for_each(|number| body.extend_from_slice(&number.to_le_bytes()));
            body.extend_from_slice(&stamp.mode.to_le_bytes());
        }
        [MAGIC.as_slice(), Digest::of_bytes(&body).as_bytes(), &body].concat()
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(*self.take(8)?.first_chunk()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(*self.take(4)?.first_chunk()?))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(usize::try_from(length).ok()?)
    }

    fn digest(&mut self) -> Option<Digest> {
        Some(Digest::from_bytes(*self.take(32)?.first_chunk()?))
    }
}

fn decode(bytes: &[u8]) -> Option<Index> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut header = Reader(bytes);
    if header.take(MAGIC.len())? != MAGIC || header.digest()? != Digest::of_bytes(header.0) {
        return None;
    }
    let mut reader = header;
    let mut index = Index { trees: [reader.digest()?, reader.digest()?], ..Index::default() };
    index.asked_git = Some(reader.digest()?).filter(|digest| *digest != NOTHING);
    for _ in 0..reader.u32()? {
        index.tracked.push(std::ffi::OsStr::from_bytes(reader.text()?).into());
    }
    while !reader.0.is_empty() {
        let path = reader.text()?.to_vec();
        let kind = match reader.take(1)? {
            [0] => Kind::File,
            [1] => Kind::Executable,
            [2] => Kind::Symlink,
            [3] => Kind::Folder,
            _ => return None,
        };
        let settled = reader.take(1)? == [1];
        let digest = reader.digest()?;
        let key = (reader.u64()?, reader.u64()?);
        let (size, mtime, ctime) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let mode = reader.u32()?;
        let stamp = Stamp { key, size, mtime: mtime.cast_signed(), ctime: ctime.cast_signed(), mode };
        index.entries.push(Entry { path, kind, digest, stamp, settled });
    }
    Some(index)
}
