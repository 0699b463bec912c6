//! Containers that are set aside: under another name, and stopped, until they are put back or removed.

use std::collections::HashMap;

use bollard::query_parameters::{RemoveContainerOptionsBuilder, RenameContainerOptionsBuilder};

use super::client::Connected;
use super::{Docker, is_running, labels, resources, state};
use crate::engine::{EngineError, UnitId};

const WHAT: &str = "set a container aside";

/// What the container of a generation is called for as long as it is set aside.
fn name(unit: &UnitId, generation: u64) -> String {
    format!("{}.{generation}", labels::container_name(unit.as_str()))
}

/// Sets a unit's container aside.
pub(super) fn set(engine: &Docker, unit: &UnitId, generation: u64) -> Result<(), EngineError> {
    let Some(found) = engine.inspect(unit)? else { return Ok(()) };
    if is_running(&found) {
        return Err(state(unit, "is running"));
    }
    engine.move_beside(unit, &beside(unit, generation))?;
    rename(engine.connected()?, &labels::container_name(unit.as_str()), &name(unit, generation))
}

/// What is kept beside it is called as if it were of another unit.
fn beside(unit: &UnitId, generation: u64) -> UnitId {
    UnitId(format!("{}.{generation}", unit.as_str()))
}

/// Puts one back.
pub(super) fn put_back(engine: &Docker, unit: &UnitId, generation: u64) -> Result<(), EngineError> {
    let connected = engine.connected()?;
    let aside = name(unit, generation);
    if connected.container(WHAT, &aside)?.is_none() {
        return Ok(());
    }
    if engine.inspect(unit)?.is_some() {
        return Err(state(unit, "exists already"));
    }
    engine.move_beside(&beside(unit, generation), unit)?;
    rename(connected, &aside, &labels::container_name(unit.as_str()))
}

fn rename(connected: &Connected, from: &str, to: &str) -> Result<(), EngineError> {
    let options = RenameContainerOptionsBuilder::default().name(to).build();
    Ok(connected.quick(WHAT, connected.api.rename_container(from, options))?)
}

/// The generations of those of a unit.
pub(super) fn of(connected: &Connected, unit: &UnitId) -> Result<Vec<u64>, EngineError> {
    let label = format!("{}={}", labels::UNIT, unit.as_str());
    let found = connected.containers(WHAT, &HashMap::from([("label", vec![label.as_str()])]))?;
    let place = format!("{}.", labels::container_name(unit.as_str()));
    let names = found.into_iter().flat_map(|one| one.names.unwrap_or_default());
    let mut generations: Vec<u64> =
        names.filter_map(|name| name.trim_start_matches('/').strip_prefix(&place)?.parse().ok()).collect();
    generations.sort_unstable();
    Ok(generations)
}

/// Removes one.
pub(super) fn remove(engine: &Docker, unit: &UnitId, generation: u64) -> Result<(), EngineError> {
    let (connected, name) = (engine.connected()?, name(unit, generation));
    let found = connected.container(WHAT, &name)?;
    let options = RemoveContainerOptionsBuilder::default().v(true).build();
    connected.find("remove a container", connected.api.remove_container(&name, Some(options)))?;
    let networks = found.and_then(|found| found.network_settings?.networks).unwrap_or_default();
    resources::remove_networks(connected, &networks.into_keys().collect::<Vec<_>>())?;
    engine.forget_kept_beside(&beside(unit, generation))
}
