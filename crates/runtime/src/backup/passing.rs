//! What is there of a backup only while it is made, of a drill and of a rehearsal: noted before it is made, so that whoever comes after one
//! that was killed puts it in order.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use setpoint_model::names::UnitName;

use super::error::BackupError;
use crate::cancel::Cancel;
use crate::engine::{self, Engine, UnitId};
use crate::events::Watcher;
use crate::lock::{self, LockError, UnitLock};
use crate::paths::{Roots, make_private_folder, project_key};
use crate::remove::remove_tree;
use crate::secrets::write_private;
use crate::temporary;

const FOLDER: &str = "backups/v1";
const NOTE: &str = "passing.json";

/// What is noted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Note {
    /// The folder of the project.
    root: PathBuf,
    engine: String,
    /// Units that are stopped, in the order in which they start again.
    stopped: Vec<UnitName>,
    /// Volumes that are copies.
    copies: Vec<String>,
}

/// What is there for the time being.
pub(crate) struct Passing {
    folder: PathBuf,
    note: Note,
}

/// The folder of a project's passing things.
fn folder(roots: &Roots, root: &Path) -> PathBuf {
    roots.state.join(FOLDER).join(project_key(root, None).to_string())
}

/// Where parts of backups are put that are fetched.
#[must_use]
pub fn fetched(roots: &Roots, root: &Path) -> PathBuf {
    folder(roots, root).join("parts")
}

/// Whose the units of a drill, or of a rehearsal, are.
pub(crate) fn drilled(roots: &Roots, root: &Path) -> PathBuf {
    folder(roots, root).join("drill")
}

impl Passing {
    /// Begins, with nothing there. The caller holds the project's lock.
    pub(crate) fn begin(roots: &Roots, root: &Path, engine: &dyn Engine) -> Result<Self, BackupError> {
        let folder = folder(roots, root);
        make_private_folder(&folder).map_err(BackupError::io("make the folder", &folder))?;
        let engine = engine.capabilities().engine.to_owned();
        let passing = Self { folder, note: Note { root: root.to_owned(), engine, ..Note::default() } };
        passing.write()?;
        Ok(passing)
    }

    fn write(&self) -> Result<(), BackupError> {
        let path = self.folder.join(NOTE);
        let text = serde_json::to_vec(&self.note).unwrap_or_default();
        write_private(&path, &text, false).map_err(BackupError::io("write", &path))
    }

    /// Notes what is about to be stopped and copied.
    pub(super) fn about_to(&mut self, stop: Vec<UnitName>, copy: Vec<String>) -> Result<(), BackupError> {
        (self.note.stopped, self.note.copies) = (stop, copy);
        self.write()
    }

    /// Notes that what was stopped runs again.
    pub(super) fn resumed(&mut self) -> Result<(), BackupError> {
        self.note.stopped.clear();
        self.write()
    }

    /// Where parts are written that go to a registry.
    pub(super) fn parts(&self) -> Result<PathBuf, BackupError> {
        let parts = self.folder.join("parts");
        make_private_folder(&parts).map_err(BackupError::io("make the folder", &parts))?;
        Ok(parts)
    }

    /// Removes all that is there. What could not be started again stays noted for whoever comes next.
    pub(crate) fn end(mut self, engine: &dyn Engine) -> Result<(), BackupError> {
        for volume in std::mem::take(&mut self.note.copies) {
            engine.remove_volume(&volume)?;
        }
        if self.note.stopped.is_empty() { remove(&self.folder) } else { self.write() }
    }
}

fn remove(folder: &Path) -> Result<(), BackupError> {
    match remove_tree(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(BackupError::io("remove", folder)(error))
        }
        _ => Ok(()),
    }
}

/// Whether something is there of a project's backup or drill.
#[must_use]
pub fn is_left(roots: &Roots, root: &Path) -> bool {
    folder(roots, root).exists()
}

/// Puts in order what a backup or a drill left that was killed: what it stopped runs again, and what was there for the time
/// being is removed. The caller holds the project's lock. Gives whether there was something.
///
/// # Errors
/// If something cannot be started, or removed, or the caller stops it while somebody else has a unit; then it is tried again
/// by whoever comes next.
pub fn tidy(
    roots: &Roots,
    variables: &BTreeMap<String, String>,
    root: &Path,
    watcher: &dyn Watcher,
    cancel: &Cancel,
) -> Result<bool, BackupError> {
    let folder = folder(roots, root);
    if !folder.exists() {
        return Ok(false);
    }
    let path = folder.join(NOTE);
    let note: Option<Note> = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        other => {
            let text = other.map_err(BackupError::io("read", &path))?;
            serde_json::from_slice(&text).map_err(|error| BackupError::io("read", &path)(error.into()))?
        }
    };
    if let Some(note) = note {
        // A newer version may know more engines: what it left is its own.
        let Ok(engine) = engine::by_name(&note.engine, roots, variables) else { return Ok(false) };
        for unit in &note.stopped {
            let wait = lock::until_stopped(watcher, cancel);
            let _lock = match UnitLock::acquire(roots, root, unit, "setpoint recover", wait) {
                Err(LockError::Held { .. }) if cancel.asked() => return Err(BackupError::Cancelled),
                taken => taken?,
            };
            resume(engine.as_ref(), root, unit)?;
        }
        // Who was tried on copies goes before them.
        temporary::take_down(roots, engine.as_ref(), &drilled(roots, root))?;
        for volume in &note.copies {
            engine.remove_volume(volume)?;
        }
    }
    remove(&folder)?;
    Ok(true)
}

/// The same for all projects, where nobody works on any.
///
/// # Errors
/// As [`tidy`].
pub fn tidy_all(
    roots: &Roots,
    variables: &BTreeMap<String, String>,
    watcher: &dyn Watcher,
    cancel: &Cancel,
) -> Result<(), BackupError> {
    for name in temporary::entries(&roots.state.join(FOLDER)) {
        let note = fs::read(roots.state.join(FOLDER).join(name).join(NOTE)).ok();
        if let Some(note) = note.and_then(|text| serde_json::from_slice::<Note>(&text).ok()) {
            tidy(roots, variables, &note.root, watcher, cancel)?;
        }
    }
    Ok(())
}

/// Starts a unit again that was stopped for a backup.
pub(super) fn resume(engine: &dyn Engine, root: &Path, unit: &UnitName) -> Result<(), BackupError> {
    let id = UnitId::new(root, unit);
    let started = engine.start_again(&id).and_then(|()| engine.publish(&id));
    started.map_err(|error| BackupError::NotResumed { unit: unit.clone(), why: error.to_string() })
}
