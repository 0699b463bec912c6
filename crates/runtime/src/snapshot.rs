//! Snapshots: what steps wrote, kept as folders that overlays are mounted over.
//!
//! A state becomes a snapshot by a rename, whatever its size. In it lie `fs`, the changes of the file system, and
//! `workspace`, those of the workspace; what changed nothing is not there.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use setpoint_model::digest::{Digest, Encoder};

use crate::paths::{Roots, make_private_folder};
use crate::remove::remove_tree;

/// What keeps the changes of an overlay.
const UPPER: &str = "upper";
/// The beginning of the names of folders that are on their way out.
const GONE: &str = ".gone-";

/// The folder of all snapshots.
#[derive(Debug, Clone)]
pub struct Snapshots {
    folder: PathBuf,
}

/// What a state holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sealed {
    /// Changes of the file system.
    pub system: bool,
    /// Changes of the workspace.
    pub workspace: bool,
}

/// How large a snapshot is, and what it looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// The bytes of its files.
    pub bytes: u64,
    /// How many files, links and folders.
    pub files: u64,
    /// A digest of all names, kinds, modes, owners, sizes and times: whatever was damaged by hand shows in it.
    pub shape: Digest,
}

impl Snapshots {
    /// The snapshots below a state root. Nothing is made until the first is.
    #[must_use]
    pub fn new(roots: &Roots) -> Self {
        Self { folder: roots.state.join("snapshots/v1") }
    }

    /// Where a snapshot lies.
    #[must_use]
    pub fn path(&self, id: Digest) -> PathBuf {
        self.folder.join(id.to_hex())
    }

    /// The changes of the workspace in a snapshot.
    #[must_use]
    pub fn workspace(&self, id: Digest) -> PathBuf {
        workspace_of(&self.path(id))
    }

    /// Whether a snapshot is there.
    #[must_use]
    pub fn is_there(&self, id: Digest) -> bool {
        self.path(id).is_dir()
    }

    /// Where all snapshots lie that there are.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().filter_map(Result::ok);
        let ids = entries.filter_map(|entry| Digest::parse(entry.file_name().to_str()?).ok());
        ids.map(|id| self.path(id)).collect()
    }

    /// Makes what was sealed a snapshot, by renaming it. It lies on the same file system.
    ///
    /// # Errors
    /// If the folder cannot be made, or what was sealed cannot be moved.
    pub fn keep(&self, sealed: &Path, id: Digest) -> io::Result<()> {
        match fs::rename(sealed, self.path(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_private_folder(&self.folder)?;
                fs::rename(sealed, self.path(id))
            }
            other => other,
        }
    }

    /// Puts aside every snapshot but those that are alive, and gives what was put aside, for [`Snapshots::remove`].
    ///
    /// # Errors
    /// If the folder cannot be read, or a snapshot cannot be moved.
    pub fn put_aside(&self, alive: &BTreeSet<Digest>) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut aside = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            // On their way out, or left by a removal that was killed.
            if name.starts_with('.') {
                aside.push(self.folder.join(name));
            } else if Digest::parse(name).is_ok_and(|id| !alive.contains(&id)) {
                let gone = self.folder.join(format!("{GONE}{name}"));
                fs::rename(self.folder.join(name), &gone)?;
                aside.push(gone);
            }
        }
        Ok(aside)
    }

    /// Removes what was put aside. What somebody else is removing too is left to them.
    pub fn remove(aside: &[PathBuf]) {
        for folder in aside {
            let _ = remove_tree(folder);
        }
    }

    /// How large a snapshot is.
    ///
    /// # Errors
    /// If something of it cannot be read.
    pub fn size(&self, id: Digest) -> io::Result<Size> {
        let mut counter = Counter { bytes: 0, files: 0, shape: Encoder::new("setpoint.snapshot", 1) };
        counter.folder(&self.path(id))?;
        Ok(Size { bytes: counter.bytes, files: counter.files, shape: counter.shape.finish() })
    }

    /// Writes everything on the file system of the snapshots to the disk.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn sync(&self) -> io::Result<()> {
        let folder = fs::File::open(&self.folder)?;
        Ok(rustix::fs::syncfs(folder)?)
    }
}

/// The changes of the workspace in a state.
#[must_use]
pub fn workspace_of(state: &Path) -> PathBuf {
    state.join("workspace").join(UPPER)
}

/// The overlays that snapshots hold changes of, as the paths of these changes in a snapshot.
///
/// # Errors
/// If a snapshot cannot be read.
pub fn overlays(snapshots: &[PathBuf]) -> io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for snapshot in snapshots {
        for top in ["fs", "workspace"] {
            let mut left = vec![PathBuf::from(top)];
            while let Some(path) = left.pop() {
                let upper = path.join(UPPER);
                if snapshot.join(&upper).is_dir() {
                    found.insert(upper);
                } else if let Ok(entries) = fs::read_dir(snapshot.join(&path)) {
                    for entry in entries {
                        left.push(path.join(entry?.file_name()));
                    }
                }
            }
        }
    }
    Ok(found)
}

/// Moves what was changed out of a state, into a folder of the same shape that is made if there is anything. What
/// stays behind is what its overlays worked in, and folders that hold nothing.
///
/// # Errors
/// If something cannot be read or moved.
pub fn seal(state: &Path, into: &Path) -> io::Result<Sealed> {
    Ok(Sealed {
        system: move_changes(&state.join("fs"), &into.join("fs"))?,
        workspace: move_changes(&state.join("workspace"), &into.join("workspace"))?,
    })
}

/// Says whether there was anything.
fn move_changes(folder: &Path, into: &Path) -> io::Result<bool> {
    let upper = folder.join(UPPER);
    match fs::read_dir(&upper) {
        Ok(mut entries) => {
            if entries.next().transpose()?.is_none() {
                return Ok(false);
            }
            make_private_folder(into)?;
            fs::rename(upper, into.join(UPPER))?;
            return Ok(true);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut is_any = false;
    let entries = match fs::read_dir(folder) {
        // Nothing was mounted over it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        is_any |= move_changes(&entry.path(), &into.join(entry.file_name()))?;
    }
    Ok(is_any)
}

struct Counter {
    bytes: u64,
    files: u64,
    shape: Encoder,
}

impl Counter {
    fn folder(&mut self, folder: &Path) -> io::Result<()> {
        let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_unstable_by_key(fs::DirEntry::file_name);
        self.shape.list(entries.len());
        for entry in entries {
            let metadata = entry.metadata()?;
            self.files += 1;
            self.shape.bytes(entry.file_name().as_bytes()).number(u64::from(metadata.mode()));
            self.shape.number(u64::from(metadata.uid())).number(u64::from(metadata.gid()));
            if metadata.is_dir() {
                self.folder(&entry.path())?;
            } else {
                // What is allocated counts: a sparse file takes no room.
                self.bytes += metadata.blocks() * 512;
                self.shape.number(metadata.size()).number(metadata.mtime().cast_unsigned());
                self.shape.number(metadata.mtime_nsec().cast_unsigned());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Snapshots) {
        let folder = tempfile::tempdir().unwrap();
        let snapshots = Snapshots { folder: folder.path().join("snapshots/v1") };
        (folder, snapshots)
    }

    /// A state with these files, and the folders that overlays leave.
    fn state(folder: &Path, files: &[&str]) -> PathBuf {
        let state = folder.join("state");
        for overlay in ["fs/usr", "fs/etc", "workspace"] {
            fs::create_dir_all(state.join(overlay).join("upper")).unwrap();
            fs::create_dir_all(state.join(overlay).join("work/incompat/volatile")).unwrap();
        }
        for file in files {
            fs::create_dir_all(state.join(file).parent().unwrap()).unwrap();
            fs::write(state.join(file), "0123456789").unwrap();
        }
        state
    }

    #[test]
    fn sealing_leaves_what_was_changed_and_nothing_else() {
        for (files, system, workspace) in [
            (vec![], false, false),
            (vec!["fs/usr/upper/bin/tool"], true, false),
            (vec!["workspace/upper/out"], false, true),
            (vec!["fs/etc/upper/x", "workspace/upper/a/b"], true, true),
        ] {
            let (folder, snapshots) = place();
            let (state, sealed) = (state(folder.path(), &files), folder.path().join("sealed"));
            assert_eq!(seal(&state, &sealed).unwrap(), Sealed { system, workspace }, "{files:?}");
            assert_eq!(sealed.exists(), system || workspace);
            let id = Digest::of_bytes(b"x");
            if sealed.exists() {
                snapshots.keep(&sealed, id).unwrap();
                assert!(snapshots.is_there(id));
            }
            let kept = snapshots.path(id);
            assert_eq!(kept.join("fs").exists(), system);
            assert_eq!(kept.join("workspace").exists(), workspace);
            assert!(!kept.join("fs/usr/work").exists());
            assert!(files.iter().all(|file| kept.join(file).exists()), "{files:?}");
        }
    }

    #[test]
    fn what_is_not_alive_goes() {
        let (folder, snapshots) = place();
        let ids = [Digest::of_bytes(b"a"), Digest::of_bytes(b"b")];
        for id in ids {
            snapshots.keep(&state(folder.path(), &["workspace/upper/out"]), id).unwrap();
        }
        let aside = snapshots.put_aside(&BTreeSet::from([ids[0]])).unwrap();
        assert!(snapshots.is_there(ids[0]) && !snapshots.is_there(ids[1]));
        assert_eq!(aside.len(), 1);
        Snapshots::remove(&aside);
        assert!(!aside[0].exists());
        assert_eq!(snapshots.put_aside(&BTreeSet::from([ids[0]])).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_size_counts_what_is_allocated() {
        let (folder, snapshots) = place();
        let id = Digest::of_bytes(b"a");
        let state = state(folder.path(), &["workspace/upper/out"]);
        fs::File::create(state.join("workspace/upper/sparse")).unwrap().set_len(1 << 30).unwrap();
        let sealed = folder.path().join("sealed");
        seal(&state, &sealed).unwrap();
        snapshots.keep(&sealed, id).unwrap();
        let size = snapshots.size(id).unwrap();
        assert!(size.files == 4 && size.bytes <= 1 << 20, "{size:?}");
    }
}
