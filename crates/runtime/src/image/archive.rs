//! Images in a tar of OCI's layout: spread out beside the store, then read as a layout.

use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tempfile::TempDir;

use super::error::{Bound, ImageError};
use super::job::{Fetched, Job};
use super::layout;
use super::source::open_regular;
use super::stream::{Meter, Unpacked, sha256_hex};

/// The image of an archive.
pub(super) fn load(job: &Job<'_>, path: &Path) -> Result<Fetched, ImageError> {
    let folder = spread(job, path)?;
    layout::load(job, folder.path(), path)
}

/// The files of a layout that an archive has, in a folder of the store. Its lock is held.
pub(super) fn spread(job: &Job<'_>, path: &Path) -> Result<TempDir, ImageError> {
    let folder = tempfile::Builder::new()
        .prefix(".archive-")
        .tempdir_in(&job.store.blobs)
        .map_err(ImageError::io("make a folder in", &job.store.blobs))?;
    spread_into(job, path, folder.path())?;
    Ok(folder)
}

/// Only the files of a layout, and only by names made here.
fn wanted(name: &[u8]) -> Option<PathBuf> {
    let name = std::str::from_utf8(name).ok()?;
    let name = name.trim_start_matches("./");
    match name {
        layout::MARK | layout::INDEX => Some(PathBuf::from(name)),
        _ => {
            let hex = name.strip_prefix("blobs/sha256/")?;
            sha256_hex(&format!("sha256:{hex}")).map(|hex| Path::new("blobs/sha256").join(hex))
        }
    }
}

pub(super) fn spread_into(job: &Job<'_>, path: &Path, into: &Path) -> Result<(), ImageError> {
    DirBuilder::new()
        .recursive(true)
        .create(into.join("blobs/sha256"))
        .map_err(ImageError::io("make a folder in", into))?;
    let meter = Meter::new(&job.store.limits, job.cancelled);
    let unreadable = |e: &io::Error| unreadable(&meter, path, e);
    let stream = Unpacked::new(open_regular(path)?, Rc::clone(&meter)).map_err(|e| unreadable(&e))?;
    let mut archive = tar::Archive::new(stream);
    meter.expect_headers(true);
    let mut entries = archive.entries().map_err(|e| unreadable(&e))?;
    let mut count = 0;
    loop {
        meter.expect_headers(true);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(|e| unreadable(&e))?;
        count += 1;
        if count > job.store.limits.entries {
            let layer = path.display().to_string();
            return Err(ImageError::TooLarge {
                layer,
                bound: Bound::Entries,
                allowed: job.store.limits.entries,
            });
        }
        meter.expect_headers(false);
        if entry.header().entry_type().is_file()
            && let Some(name) = wanted(&entry.path_bytes())
        {
            let target = into.join(name);
            let mut file = File::create(&target).map_err(ImageError::io("write", &target))?;
            let mut buffer = vec![0; 64 << 10];
            loop {
                let count = entry.read(&mut buffer).map_err(|e| unreadable(&e))?;
                if count == 0 {
                    break;
                }
                file.write_all(&buffer[..count]).map_err(ImageError::io("write", &target))?;
            }
        }
        io::copy(&mut entry, &mut io::sink()).map_err(|e| unreadable(&e))?;
    }
    meter.expect_headers(false);
    Ok(())
}

fn unreadable(meter: &Meter<'_>, path: &Path, error: &io::Error) -> ImageError {
    let layer = path.display().to_string();
    if meter.stopped() {
        ImageError::Cancelled
    } else if let Some(bound) = meter.broken() {
        ImageError::TooLarge { layer, bound, allowed: meter.allowed(bound) }
    } else if meter.ended() || error.kind() == io::ErrorKind::UnexpectedEof {
        ImageError::Truncated { layer, reason: format!("after {} compressed bytes", meter.packed()) }
    } else {
        let reason = format!("no tar could be read: {error}");
        ImageError::NotALayout { path: path.to_owned(), reason }
    }
}
