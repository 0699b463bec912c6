//! What a unit was started as, and that its published ports lead there.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};
use setpoint_model::container::Container;
use setpoint_sandbox as sandbox;

use super::Embedded;
use crate::engine::{EngineError, UnitId, kept, ports};

/// What a unit was started as last.
pub(super) const STARTED_AS: &str = "started-as.json";

/// What a unit was started as.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StartedAs {
    #[serde(flatten)]
    pub(super) sandbox: sandbox::SandboxSpec,
    /// The address that its published ports lead to, if it has one of its own.
    #[serde(default)]
    pub(super) address: Option<Ipv4Addr>,
    /// The ports of the host that lead to it.
    #[serde(default)]
    pub(super) ports: Vec<sandbox::Port>,
    /// Whether it takes what comes only once its check says that it is well.
    #[serde(default)]
    pub(super) is_checked: bool,
    /// Whether somebody starts it again when it ends.
    #[serde(default)]
    pub(super) comes_back: bool,
}

impl StartedAs {
    /// That its ports lead to this.
    pub(super) fn lead(&self, running: sandbox::Running) -> sandbox::Lead {
        sandbox::Lead {
            running,
            listens: self.sandbox.main.is_some(),
            is_checked: self.is_checked,
            comes_back: self.comes_back,
            stands_in: false,
        }
    }
}

/// Publishes the ports that are declared now of a unit that runs.
pub(super) fn set(engine: &Embedded, unit: &UnitId, declared: &Container) -> Result<(), EngineError> {
    let path = engine.folder(unit).join(STARTED_AS);
    let Some(mut known) = kept::read::<StartedAs>(&path)? else { return Ok(()) };
    let Some(to) = known.address else { return Ok(()) };
    let ports = ports::leading_to(to, &declared.ports, declared.health.as_ref());
    if known.ports == ports {
        return Ok(());
    }
    known.ports = ports;
    lead(engine, unit, &known)?;
    kept::write(&path, &known)
}

/// Leads the ports of a unit to it, if it runs.
pub(super) fn publish(engine: &Embedded, unit: &UnitId) -> Result<(), EngineError> {
    match kept::read::<StartedAs>(&engine.folder(unit).join(STARTED_AS))? {
        Some(known) if engine.running(unit).is_ok() => lead(engine, unit, &known),
        _ => Ok(()),
    }
}

/// Leads the ports of a unit to another one, which has the same.
pub(super) fn lend(engine: &Embedded, unit: &UnitId, to: &UnitId) -> Result<(), EngineError> {
    let (running, folder) = (engine.running(to)?, engine.folder(to));
    let known = kept::read::<StartedAs>(&folder.join(STARTED_AS))?;
    let known = known.ok_or_else(|| super::state(to, "was never started"))?;
    let claim = ports::take(&engine.roots, unit, &known.ports)?;
    let claim = claim.ok_or_else(|| super::state(to, "publishes no ports"))?;
    Ok(claim.lead(&ports::standing_in(known.lead(running)), &folder)?)
}

/// Sees to it that the ports of a unit that runs are held. Gives what becomes readable when they are not any more.
pub(super) fn tend(engine: &Embedded, unit: &UnitId) -> Result<Vec<OwnedFd>, EngineError> {
    let Some(known) = kept::read::<StartedAs>(&engine.folder(unit).join(STARTED_AS))? else {
        return Ok(Vec::new());
    };
    if known.ports.is_empty() || engine.running(unit).is_err() {
        return Ok(Vec::new());
    }
    let holder = ports::holder(&engine.roots, unit);
    if let Some(watch) = holder.watch() {
        return Ok(vec![watch]);
    }
    lead(engine, unit, &known)?;
    Ok(holder.watch().into_iter().collect())
}

/// Has the ports of a unit that runs held, and leads them there.
fn lead(engine: &Embedded, unit: &UnitId, known: &StartedAs) -> Result<(), EngineError> {
    let running = engine.running(unit)?;
    let claim = ports::take(&engine.roots, unit, &known.ports)?;
    Ok(claim.map_or(Ok(()), |claim| claim.lead(&known.lead(running), &engine.folder(unit)))?)
}
