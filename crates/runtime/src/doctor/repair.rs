//! The repairs that are safe: nothing is lost by them, and what is in effect stays in effect.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;

use setpoint_model::doctor::{Row, readable};

use super::{Patient, state};
use crate::engine::EngineError;
use crate::project::MANIFEST;
use crate::release::{ReleaseError, manifest_of, write_file};
use crate::store::StoreError;
use crate::upgrade::{self, ActiveError};

/// What a repair did, in words; nothing where nothing was left to do.
pub type Repaired = Vec<String>;

/// Why a repair was not done.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// It would not be safe.
    #[error("{0}")]
    Unsafe(String),
    /// A file could not be changed.
    #[error("cannot change {path}: {source}")]
    Io {
        /// Which.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The state cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is in effect cannot be told or written.
    #[error(transparent)]
    Active(#[from] ActiveError),
    /// The engine could not be asked.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The manifest could not be written.
    #[error(transparent)]
    Release(#[from] ReleaseError),
}

/// Does what the table says is the repair of a row, as far as that is to be done by files: what the row does not find any
/// more is left alone. The caller holds the project's lock.
///
/// # Errors
/// [`RepairError`] says what is in the way; then nothing was changed, or what was is told by the next look.
pub fn repair(patient: &Patient<'_>, row: Row) -> Result<Repaired, RepairError> {
    match row {
        Row::ActiveMissing => active(patient),
        Row::EditedFile => manifest(patient),
        Row::SecretReadable => secrets(patient),
        // The others are a person's, or an upgrade's own.
        _ => Ok(Vec::new()),
    }
}

/// Writes what was committed last, if all that it names is there.
fn active(patient: &Patient<'_>) -> Result<Repaired, RepairError> {
    let Some(store) = patient.store else { return Ok(Vec::new()) };
    let now = upgrade::active(patient.roots, patient.root)?;
    let committed = state::committed(store, patient)?;
    let Some(committed) = committed.filter(|committed| committed.generation > now.generation) else {
        return Ok(Vec::new());
    };
    let names: Vec<String> = committed.volumes.values().cloned().collect();
    let there = patient.engine.volume_ids(&names)?;
    let lost: Vec<&str> =
        names.iter().filter(|name| !there.contains_key(*name)).map(String::as_str).collect();
    if !lost.is_empty() {
        let what = format!(
            "generation {} has its data in {}, and there is no such volume",
            committed.generation,
            lost.join(", ")
        );
        return Err(RepairError::Unsafe(what));
    }
    upgrade::set_active(patient.roots, patient.root, &committed)?;
    Ok(vec![format!("generation {} is in effect again, as the journal has it", committed.generation)])
}

/// Writes the manifest of a pinned project as it was made.
fn manifest(patient: &Patient<'_>) -> Result<Repaired, RepairError> {
    let Some(from) = patient.project.and_then(|project| project.from.as_ref()) else { return Ok(Vec::new()) };
    let path = patient.root.join(MANIFEST);
    let failed = |source| RepairError::Io { path: path.display().to_string(), source };
    let (found, made) = (fs::read_to_string(&path).map_err(failed)?, manifest_of(from));
    if found == made {
        return Ok(Vec::new());
    }
    let kept = (0_u32..)
        .map(|number| match number {
            0 => patient.root.join(format!("{MANIFEST}.edited")),
            number => patient.root.join(format!("{MANIFEST}.edited.{number}")),
        })
        .find(|path| path.symlink_metadata().is_err());
    let Some(kept) = kept else { return Ok(Vec::new()) };
    write_file(&kept, &found)?;
    write_file(&path, &made)?;
    Ok(vec![format!("{} is as it was made; what was there is in {}", path.display(), kept.display())])
}

/// Takes the right to read secrets from everybody else.
fn secrets(patient: &Patient<'_>) -> Result<Repaired, RepairError> {
    let mut done = Vec::new();
    for path in patient.secret_files() {
        let shown = path.display().to_string();
        let failed = |source| RepairError::Io { path: shown.clone(), source };
        let mode = path.metadata().map_err(failed)?.permissions().mode();
        if readable(&shown, mode).is_none() {
            continue;
        }
        let mode = mode & 0o7770;
        fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(failed)?;
        done.push(format!("{shown} has the rights {:03o} now", mode & 0o777));
    }
    Ok(done)
}
