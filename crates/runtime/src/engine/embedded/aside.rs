//! Instances that are set aside: whole, and in nobody's way, until they are put back or removed. All that an instance
//! knows of where it lies is true again when it is back in its place; meanwhile nothing of it runs.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use setpoint_sandbox as sandbox;

use super::networks::{self, Memberships};
use super::{Embedded, state};
use crate::engine::{EngineError, UnitId, kept};
use crate::paths::make_private_folder;

/// Where they lie: by unit, and then by generation.
const ASIDE: &str = "aside/v1";
/// In an instance's folder: what it had of its networks.
const NETWORKS: &str = "networks.json";

fn folder(engine: &Embedded, unit: &UnitId) -> PathBuf {
    engine.roots.state.join(ASIDE).join(unit.as_str())
}

/// Sets a unit aside.
pub(super) fn set(engine: &Embedded, unit: &UnitId, generation: u64) -> Result<(), EngineError> {
    let (place, aside) = (engine.folder(unit), folder(engine, unit));
    if !place.exists() {
        return Ok(());
    }
    if engine.running(unit).is_ok() {
        return Err(state(unit, "is running"));
    }
    // A stop that nobody saw to its end may still be under way.
    sandbox::stop(&place, Duration::ZERO, &|| true)?;
    kept::write(&place.join(NETWORKS), &networks::memberships(engine, unit)?)?;
    make_private_folder(&aside).map_err(EngineError::io("make", &aside))?;
    fs::rename(&place, aside.join(generation.to_string())).map_err(EngineError::io("set aside", &place))
}

/// Puts one back.
pub(super) fn put_back(engine: &Embedded, unit: &UnitId, generation: u64) -> Result<(), EngineError> {
    let (place, aside) = (engine.folder(unit), folder(engine, unit).join(generation.to_string()));
    if !aside.exists() {
        return Ok(());
    }
    if place.exists() {
        return Err(state(unit, "exists already"));
    }
    // Before it is back: whoever finds it in its place may start it.
    let had = kept::read::<Memberships>(&aside.join(NETWORKS))?.unwrap_or_default();
    networks::give_back(engine, unit, had)?;
    fs::rename(&aside, &place).map_err(EngineError::io("put back", &place))
}

/// The folders of all that are.
pub(super) fn all(engine: &Embedded) -> Result<Vec<PathBuf>, EngineError> {
    let mut all = Vec::new();
    let root = engine.roots.state.join(ASIDE);
    for unit in kept::entries(&root)? {
        let folder = root.join(unit);
        all.extend(kept::entries(&folder)?.into_iter().map(|generation| folder.join(generation)));
    }
    Ok(all)
}

/// The generations of those of a unit.
pub(super) fn of(engine: &Embedded, unit: &UnitId) -> Result<Vec<u64>, EngineError> {
    let names = kept::entries(&folder(engine, unit))?;
    let mut generations: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
    generations.sort_unstable();
    Ok(generations)
}

/// Removes one.
pub(super) fn remove(engine: &Embedded, unit: &UnitId, generation: u64) -> Result<(), EngineError> {
    let folder = folder(engine, unit);
    kept::remove(&folder.join(generation.to_string()))?;
    // The last one takes the folder along.
    let _ = fs::remove_dir(&folder);
    Ok(())
}
