//! What a source was when it was last fetched.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::ImageError;
use super::source::missing;
use super::stream::sha256_of;
use super::{Config, Source};

/// By what a file is known to be unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stat {
    size: u64,
    seconds: i64,
    nanos: i64,
    inode: u64,
}

impl Stat {
    /// Of the file that a source stands on; none for a reference.
    pub(super) fn of(source: &Source) -> Result<Option<Stat>, ImageError> {
        let path = match source {
            Source::Reference(_) | Source::RootfsDir(_) => return Ok(None),
            Source::Layout(path) => path.join("index.json"),
            Source::Archive(path) | Source::RootfsTar(path) => path.clone(),
        };
        match path.metadata() {
            Ok(meta) => Ok(Some(Stat {
                size: meta.size(),
                seconds: meta.mtime(),
                nanos: meta.mtime_nsec(),
                inode: meta.ino(),
            })),
            // A folder without an index is no layout; loading it says so.
            Err(_) if matches!(source, Source::Layout(folder) if folder.is_dir()) => Ok(None),
            Err(e) => Err(missing(&path, e)),
        }
    }
}

/// What a source was when it was last fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) source: String,
    pub(super) stat: Option<Stat>,
    pub(super) digest: String,
    /// The digest of what the source named.
    #[serde(default)]
    pub(super) named: String,
    pub(super) diff_ids: Vec<String>,
    pub(super) config: Config,
}

fn path(folder: &Path, key: &str) -> PathBuf {
    folder.join(sha256_of(key.as_bytes()).replace("sha256:", "")).with_extension("json")
}

impl Record {
    /// Reads a record. One that cannot be read is none: it is written anew.
    pub(super) fn read(folder: &Path, key: &str) -> Option<Record> {
        let text = std::fs::read(path(folder, key)).ok()?;
        serde_json::from_slice(&text).ok().filter(|record: &Record| record.source == key)
    }

    /// Writes it in one step.
    pub(super) fn write(&self, folder: &Path) -> Result<(), ImageError> {
        let path = path(folder, &self.source);
        let write = || {
            let mut file = tempfile::Builder::new().prefix(".record-").tempfile_in(folder)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(ImageError::io("write", &path))
    }
}
