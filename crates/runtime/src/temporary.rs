//! Units of another owner than a project: instances that are there for something, and go with it.
//!
//! Which there are is noted in the owner's folder before anything is made, so that whoever finds it can remove all of it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use setpoint_model::digest::Digest;
use setpoint_model::names::{SecretName, UnitName};

use crate::cancel::Cancel;
use crate::engine::{self, Engine, EngineError, UnitId};
use crate::logs;
use crate::paths::{Roots, make_private_folder};
use crate::remove::remove_tree;
use crate::secrets::Secrets;
use crate::session::Session;

/// In the folder of an owner: a file for each unit, of its name.
const UNITS: &str = "units";

/// Makes the folder of an owner, and gives what its volumes and its network are called after.
pub(crate) fn owner(folder: &Path, project: &str) -> io::Result<String> {
    make_private_folder(&folder.join(UNITS))?;
    let digest = Digest::of_bytes(folder.as_os_str().as_encoded_bytes()).to_hex();
    Ok(format!("{project}-{}", &digest[..12]))
}

/// Where its units record what was done to them.
pub(crate) fn state(roots: &Roots, owner: &Path) -> Roots {
    Roots { state: owner.join("state"), ..roots.clone() }
}

/// Notes that a unit is about to be made. Gives the note's path with the error.
pub(crate) fn note(owner: &Path, unit: &UnitName) -> Result<(), (PathBuf, io::Error)> {
    let note = owner.join(UNITS).join(unit.as_str());
    fs::write(&note, "").map_err(|error| (note, error))
}

/// The data was made with a project's secrets: instances on copies of it are given the same.
pub(crate) fn give_secrets<'n>(
    roots: &Roots,
    project: &Path,
    owner: &Path,
    declared: impl IntoIterator<Item = &'n SecretName>,
) -> Result<(), EngineError> {
    let values = Secrets::new(roots, project).kept_values(declared)?;
    Ok(Secrets::new(roots, owner).keep(&values)?)
}

/// Removes all units of an owner, with all that they had. Nothing to do is no error.
pub(crate) fn take_down(roots: &Roots, engine: &dyn Engine, owner: &Path) -> Result<(), EngineError> {
    let refused = |what| EngineError::io(what, owner);
    for name in entries(&owner.join(UNITS)) {
        let Ok(name) = UnitName::new(name) else { continue };
        let id = UnitId::new(owner, &name);
        // What they have goes with them: there is nothing to be asked for.
        engine.stop(&id, Duration::ZERO, &Cancel::default())?;
        engine.remove(&id)?;
        Session::forget(roots, &id).map_err(refused("forget the sessions of"))?;
        remove(&logs::folder(roots, id.as_str())).map_err(refused("remove the logs of"))?;
    }
    for volume in engine.volumes(owner)? {
        engine.remove_volume(&volume)?;
    }
    Secrets::new(roots, owner).forget().map_err(refused("forget the secrets of"))?;
    remove(owner).map_err(refused("remove"))
}

/// The owners in a folder that has one for each engine, each with the name of the engine that holds its units.
pub(crate) fn owners(folder: &Path) -> Vec<(String, PathBuf)> {
    let of_engine = |engine: String| {
        let folder = folder.join(&engine);
        entries(&folder).into_iter().map(|owner| (engine.clone(), folder.join(owner))).collect::<Vec<_>>()
    };
    entries(folder).into_iter().flat_map(of_engine).collect()
}

/// Removes all units of all owners in such a folder.
pub(crate) fn take_down_all(
    roots: &Roots,
    variables: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<(), EngineError> {
    for (engine, owner) in owners(folder) {
        // A newer version may know more engines.
        if let Ok(engine) = engine::by_name(&engine, roots, variables) {
            take_down(roots, engine.as_ref(), &owner)?;
        }
    }
    Ok(())
}

fn remove(folder: &Path) -> io::Result<()> {
    match remove_tree(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The names of what lies in a folder; none if there is no folder.
pub(crate) fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
