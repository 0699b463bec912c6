//! Locks and leases: open files with `flock`, so that the kernel frees them when their holder dies.
//!
//! The files are opened close-on-exec, as all files of the standard library are: nothing that Setpoint starts
//! inherits a lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use setpoint_model::digest::{Digest, Encoder};
use setpoint_model::names::UnitName;

use crate::cancel::Cancel;
use crate::events::{Event, Watcher};
use crate::paths::{Roots, make_private_folder, project_key};
use crate::room;

/// How long a waiter sleeps before it tries again.
const RETRY: Duration = Duration::from_millis(20);

/// Who holds a unit, as they wrote it into the lock's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// What they are doing: `up dev`.
    pub what: String,
    /// Their process.
    pub pid: u32,
    /// Since when.
    pub since: Timestamp,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` (process {})", self.what, self.pid)
    }
}

/// Why a lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The caller would not wait any longer.
    #[error("`{unit}` is being worked on by {}", name(holder.as_ref()))]
    Held {
        /// The unit, or the project.
        unit: String,
        /// Who holds it; none if they had not written it yet.
        holder: Option<Holder>,
    },
    /// The lock's file could not be used.
    #[error("cannot lock `{}`: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl LockError {
    /// What the user can do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Held { .. } => None,
            Self::Io { path, source } => room::hint(source, path),
        }
    }
}

fn name(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "another process".to_owned(), Holder::to_string)
}

/// The right to change one unit. One operation at a time per unit.
#[derive(Debug)]
pub struct UnitLock {
    _file: File,
}

impl UnitLock {
    /// Takes the lock of a unit, waiting for whoever holds it.
    ///
    /// `what` says to others what the holder is doing. While another process holds the lock, `wait` is called
    /// every 20 ms with the holder, where they are known; it says whether to go on waiting.
    ///
    /// # Errors
    /// [`LockError::Held`] if `wait` breaks; [`LockError::Io`] if the file cannot be made, written or locked.
    pub fn acquire(
        roots: &Roots,
        project_root: &Path,
        unit: &UnitName,
        what: &str,
        wait: impl FnMut(Option<&Holder>) -> ControlFlow<()>,
    ) -> Result<Self, LockError> {
        let path = lock_path(roots, project_root, Some(unit));
        Ok(Self { _file: take(path, unit.as_str(), what, wait)? })
    }
}

/// The right to change which generation of a project is in effect. One change at a time per project. Whoever has it may
/// wait for units; whoever has a unit does not wait for it.
#[derive(Debug)]
pub struct ProjectLock {
    _file: File,
}

impl ProjectLock {
    /// Takes the lock of a project, as [`UnitLock::acquire`] does that of a unit.
    ///
    /// # Errors
    /// [`LockError::Held`] if `wait` breaks; [`LockError::Io`] if the file cannot be made, written or locked.
    pub fn acquire(
        roots: &Roots,
        project_root: &Path,
        what: &str,
        wait: impl FnMut(Option<&Holder>) -> ControlFlow<()>,
    ) -> Result<Self, LockError> {
        let path = lock_path(roots, project_root, None);
        Ok(Self { _file: take(path, &project_root.display().to_string(), what, wait)? })
    }
}

/// What to do while another process holds a lock: says once for whom is waited, and goes on until it is to stop.
pub fn until_stopped(
    watcher: &dyn Watcher,
    cancel: &Cancel,
) -> impl FnMut(Option<&Holder>) -> ControlFlow<()> {
    let mut told = false;
    move |holder| {
        if let (false, Some(holder)) = (told, holder) {
            told = true;
            watcher.event(&Event::Waiting { holder: holder.to_string() });
        }
        if cancel.asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Locks a file, waiting for whoever has it, and writes into it who has it now.
fn take(
    path: PathBuf,
    name: &str,
    what: &str,
    mut wait: impl FnMut(Option<&Holder>) -> ControlFlow<()>,
) -> Result<File, LockError> {
    let file = open(&path)?;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {
                let holder = read_holder(&file);
                if wait(holder.as_ref()).is_break() {
                    return Err(LockError::Held { unit: name.to_owned(), holder });
                }
                std::thread::sleep(RETRY);
            }
            Err(TryLockError::Error(source)) => return Err(LockError::Io { path, source }),
        }
    }
    let holder = Holder { what: what.to_owned(), pid: std::process::id(), since: Timestamp::now() };
    match write_holder(&file, &holder) {
        // It is held all the same: others are only not told by whom.
        Err(error) if room::is_full(&error) => Ok(file),
        written => written.map(|()| file).map_err(|source| LockError::Io { path, source }),
    }
}

/// Who holds a unit's lock now; nothing if nobody does, or they have not written who they are yet. Asking leaves
/// nothing behind.
#[must_use]
pub fn holder(roots: &Roots, project_root: &Path, unit: &UnitName) -> Option<Holder> {
    held(&lock_path(roots, project_root, Some(unit)))
}

/// Who holds a project's lock now, as [`holder`] tells it of a unit.
#[must_use]
pub fn holder_of_project(roots: &Roots, project_root: &Path) -> Option<Holder> {
    held(&lock_path(roots, project_root, None))
}

fn held(path: &Path) -> Option<Holder> {
    let file = File::open(path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => read_holder(&file),
        _ => None,
    }
}

fn lock_path(roots: &Roots, project_root: &Path, unit: Option<&UnitName>) -> PathBuf {
    let key = project_key(project_root, unit.map(UnitName::as_str));
    roots.state.join("locks").join(format!("{key}.lock"))
}

/// A reader may meet a half-written text; it does not parse then, and the holder is unknown for that moment.
fn write_holder(file: &File, holder: &Holder) -> io::Result<()> {
    let text = serde_json::to_vec(holder)?;
    file.set_len(0)?;
    file.write_all_at(&text, 0)
}

fn read_holder(file: &File) -> Option<Holder> {
    let mut text = [0; 4096];
    let len = file.read_at(&mut text, 0).ok()?;
    serde_json::from_slice(text.get(..len)?).ok()
}

/// The right to make the result of one key. Whoever else wants it waits, and takes what was made.
#[derive(Debug)]
pub struct KeyLock {
    path: PathBuf,
    _file: File,
}

impl KeyLock {
    /// Takes the lock of a key. While another holds it, `go_on` is asked every 20 ms whether to wait; nothing if it
    /// says no.
    ///
    /// # Errors
    /// [`LockError::Io`] if the lock's file cannot be made or locked.
    pub fn acquire(
        roots: &Roots,
        key: Digest,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<Option<Self>, LockError> {
        let path = roots.state.join("locks/keys").join(key.to_hex());
        loop {
            let file = open(&path)?;
            match file.try_lock() {
                Ok(()) if is_still_at(&file, &path) => return Ok(Some(Self { path, _file: file })),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if go_on() => std::thread::sleep(RETRY),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(source)) => return Err(LockError::Io { path, source }),
            }
        }
    }
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        // Still locked: whoever waits finds that it is gone, and makes it anew.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A promise that a named thing is in use: nothing that is leased is evicted, pruned or collected. Many may
/// hold a lease of the same thing.
#[derive(Debug)]
pub struct Lease {
    _file: File,
}

impl Lease {
    /// Takes a lease. Waits while the thing is being retired, which is short.
    ///
    /// # Errors
    /// [`LockError::Io`] if the lease's file cannot be made or locked.
    pub fn take(roots: &Roots, thing: &str) -> Result<Self, LockError> {
        let path = lease_path(roots, thing);
        loop {
            let file = open(&path)?;
            file.lock_shared().map_err(|source| LockError::Io { path: path.clone(), source })?;
            if is_still_at(&file, &path) {
                return Ok(Self { _file: file });
            }
        }
    }
}

/// The right to remove a thing that nobody has leased. Whoever wants a lease of it waits until this is dropped.
#[derive(Debug)]
pub struct Retirement {
    path: PathBuf,
    _file: File,
}

impl Retirement {
    /// Gives the right to remove a thing, unless it is leased.
    ///
    /// # Errors
    /// [`LockError::Io`] if the lease's file cannot be made or locked.
    pub fn begin(roots: &Roots, thing: &str) -> Result<Option<Self>, LockError> {
        let path = lease_path(roots, thing);
        loop {
            let file = open(&path)?;
            match file.try_lock() {
                Ok(()) if is_still_at(&file, &path) => return Ok(Some(Self { path, _file: file })),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(source)) => return Err(LockError::Io { path, source }),
            }
        }
    }
}

impl Drop for Retirement {
    fn drop(&mut self) {
        // A file that stays behind is harmless: it is only a name to lock.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn lease_path(roots: &Roots, thing: &str) -> PathBuf {
    let key = Encoder::new("lease", 1).text(thing).finish();
    roots.state.join("leases").join(format!("{key}.lease"))
}

/// Whether the name still leads to the locked file; if not, the lock is of a file that was removed.
fn is_still_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(held), Ok(named)) => (held.dev(), held.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn open(path: &Path) -> Result<File, LockError> {
    open_at(path).map_err(|source| LockError::Io { path: path.to_owned(), source })
}

/// Opens a file to lock, making it and its folder if they are not there.
pub(crate) fn open_at(path: &Path) -> io::Result<File> {
    let try_open =
        || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    match (try_open(), path.parent()) {
        (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
            make_private_folder(folder)?;
            try_open()
        }
        (result, _) => result,
    }
}
