//! A folder for what is only needed while a command runs. What one that was killed left there is removed by the next.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::error::ReleaseError;
use crate::paths::Roots;
use crate::remove::remove_tree;

const FOLDER: &str = "releases/scratch";

/// A folder that is empty at first, for one command at a time.
pub(super) struct Scratch {
    folder: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Takes the folder, waiting for whoever has it.
    pub(super) fn take(roots: &Roots) -> Result<Self, ReleaseError> {
        let above = roots.state.join(FOLDER);
        let failed = |what| ReleaseError::io(what, &above);
        let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        make(&above).map_err(failed("make the folder"))?;
        let lock = File::create(above.join("lock")).map_err(failed("lock"))?;
        lock.lock().map_err(failed("lock"))?;
        let folder = above.join("now");
        if folder.symlink_metadata().is_ok() {
            remove_tree(&folder).map_err(failed("tidy"))?;
        }
        fs::create_dir(&folder).map_err(failed("make a folder in"))?;
        Ok(Self { folder, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is removed by whoever comes next.
        let _ = remove_tree(&self.folder);
    }
}
