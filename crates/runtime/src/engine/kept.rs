//! The files and folders in which an engine keeps what it knows: read, written, listed, and removed as a whole.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use setpoint_sandbox as sandbox;

use crate::engine::EngineError;

/// What a file holds; nothing if there is none.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, EngineError> {
    match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(EngineError::io("read", path)(error)),
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| EngineError::Damaged { path: path.to_owned(), why: error.to_string() }),
    }
}

/// Writes a file that its owner alone may read, whole or not at all.
pub(super) fn write(path: &Path, value: &impl Serialize) -> Result<(), EngineError> {
    let bytes =
        serde_json::to_vec_pretty(value).map_err(|error| EngineError::io("write", path)(error.into()))?;
    crate::secrets::write_private(path, &bytes, false).map_err(EngineError::io("write", path))
}

/// The names of what lies in a folder and is whole, sorted; none if there is no folder.
pub(super) fn entries(folder: &Path) -> Result<Vec<String>, EngineError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(EngineError::io("read", folder))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(EngineError::io("read", folder))?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Removes a folder, all at once for whoever looks for it. One that is not there is no error.
pub(super) fn remove(folder: &Path) -> Result<(), EngineError> {
    sweep(folder)?;
    match fs::rename(folder, gone(folder)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(EngineError::io("remove", folder)(error)),
        Ok(()) => sweep(folder),
    }
}

/// Removes what a removal of this folder left that was killed.
pub(super) fn sweep(folder: &Path) -> Result<(), EngineError> {
    remove_tree(&gone(folder))
}

/// Where a folder goes that is being removed.
fn gone(folder: &Path) -> PathBuf {
    folder.with_file_name(format!(".gone-{}", folder.file_name().unwrap_or_default().to_string_lossy()))
}

/// Removes a folder in its place: killed in the middle, what is left is still where it is looked for.
pub(super) fn remove_tree(path: &Path) -> Result<(), EngineError> {
    // What an overlay keeps in its work folders may not be read even by its owner.
    if sandbox::is_rootless() {
        open_up(path);
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(EngineError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

fn open_up(folder: &Path) {
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .for_each(|entry| open_up(&entry.path()));
}
