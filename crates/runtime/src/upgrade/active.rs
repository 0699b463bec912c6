//! The one file that says which generation of a project is in effect.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use setpoint_model::release::Active;

use super::saved::Saved;
use crate::paths::{Roots, make_lasting_folder, project_key, sync_folder};

/// Where these files lie: one for each project.
const FOLDER: &str = "active/v1";

/// What is wrong with the file that says which generation is in effect.
#[derive(Debug, thiserror::Error)]
pub enum ActiveError {
    /// It could not be read or written.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what was written there.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

fn path(roots: &Roots, project_root: &Path) -> PathBuf {
    roots.state.join(FOLDER).join(format!("{}.json", project_key(project_root, None)))
}

/// The generation of a project that is in effect.
///
/// # Errors
/// If that cannot be told. It is not guessed: another data set would be taken for the project's.
pub fn read(roots: &Roots, project_root: &Path) -> Result<Active, ActiveError> {
    parsed(path(roots, project_root))
}

fn parsed(path: PathBuf) -> Result<Active, ActiveError> {
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Active::default()),
        Err(source) => Err(ActiveError::Io { what: "read", path, source }),
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| ActiveError::Damaged { path, why: error.to_string() }),
    }
}

/// The generations of all projects that are in effect.
///
/// # Errors
/// If one of them cannot be told.
pub(crate) fn all(roots: &Roots) -> Result<Vec<Active>, ActiveError> {
    let folder = roots.state.join(FOLDER);
    let failed = |source| ActiveError::Io { what: "read", path: folder.clone(), source };
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            all.push(parsed(path)?);
        }
    }
    Ok(all)
}

/// Makes a generation the one in effect: either it is, on the disk, or the one before is still.
pub(crate) fn write(roots: &Roots, project_root: &Path, active: &Active) -> Result<(), ActiveError> {
    let path = path(roots, project_root);
    let failed = |what| {
        let path = path.clone();
        move |source| ActiveError::Io { what, path, source }
    };
    let text = serde_json::to_vec_pretty(active).map_err(|error| failed("write")(error.into()))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    make_lasting_folder(folder).map_err(failed("make the folder of"))?;
    crate::secrets::write_private(&path, &text, false).map_err(failed("write"))?;
    sync_folder(folder).map_err(failed("sync"))
}

/// Notes the version of the generation in effect, if it still is that one. The caller holds the project's lock.
///
/// # Errors
/// If it cannot be read or written.
pub fn note_version(
    roots: &Roots,
    project_root: &Path,
    in_effect: &Active,
    version: Option<&str>,
) -> Result<(), ActiveError> {
    let active = read(roots, project_root)?;
    if active.generation != in_effect.generation {
        return Ok(());
    }
    write(roots, project_root, &Active { version: version.map(str::to_owned), ..active })
}

/// Forgets where the data of a project is that has none any more: it is where it is declared from now on.
///
/// # Errors
/// If it cannot be written.
pub fn reset(roots: &Roots, project_root: &Path) -> Result<(), ActiveError> {
    let active = read(roots, project_root)?;
    // Nothing is left that could be gone back to. What migrations did on the host stays done.
    let saved = Saved { roots, root: project_root };
    saved.forget_all().map_err(|source| ActiveError::Io { what: "remove", path: saved.all(), source })?;
    if active.volumes.is_empty() && active.restored.is_empty() {
        return Ok(());
    }
    write(roots, project_root, &Active { volumes: BTreeMap::new(), restored: BTreeMap::new(), ..active })
}
