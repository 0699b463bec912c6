//! Published ports of units. A process for each unit holds them, from its start to its end for good, also while one
//! instance of it takes the place of another.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};
use setpoint_model::container::{Container, HealthTest};
use setpoint_sandbox as sandbox;

use super::kept;
use super::{Embedded, networks};
use crate::engine::{EngineError, UnitId};
use crate::paths::make_private_folder;

/// What a unit was started as last.
pub(super) const STARTED_AS: &str = "started-as.json";
/// Where the sockets lie of the processes that hold ports: not with the unit, which goes when it is made anew.
const PORTS: &str = "ports/v1";

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
        }
    }
}

impl Embedded {
    /// What holds the published ports of a unit.
    pub(super) fn port_holder(&self, unit: &UnitId) -> sandbox::PortHolder {
        sandbox::PortHolder::at(self.roots.state.join(PORTS).join(unit.as_str()))
    }
}

/// The published ports of a container, which lead to this address.
pub(super) fn of(container: &Container, to: Ipv4Addr) -> Result<Vec<sandbox::Port>, EngineError> {
    // What is asked by HTTP whether it is well speaks it.
    let of_http = match container.health.as_ref().and_then(|health| health.test.as_ref()) {
        Some(HealthTest::Http { port, .. }) => Some(*port),
        _ => None,
    };
    container.ports.iter().map(|port| networks::port(port, to, of_http == Some(port.container))).collect()
}

/// Has the ports of a unit held that is about to start. One that has none any more has nobody who holds them.
pub(super) fn take(
    engine: &Embedded,
    unit: &UnitId,
    wanted: &StartedAs,
) -> Result<Option<sandbox::Claim>, EngineError> {
    let holder = engine.port_holder(unit);
    if wanted.ports.is_empty() {
        holder.end()?;
        return Ok(None);
    }
    let folder = engine.roots.state.join(PORTS);
    make_private_folder(&folder).map_err(EngineError::io("make", &folder))?;
    Ok(Some(holder.take(&wanted.ports)?))
}

/// Publishes the ports that are declared now of a unit that runs.
pub(super) fn set(engine: &Embedded, unit: &UnitId, declared: &Container) -> Result<(), EngineError> {
    let path = engine.folder(unit).join(STARTED_AS);
    let Some(mut known) = kept::read::<StartedAs>(&path)? else { return Ok(()) };
    let Some(to) = known.address else { return Ok(()) };
    let ports = of(declared, to)?;
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

/// Sees to it that the ports of a unit that runs are held. Gives what becomes readable when they are not any more.
pub(super) fn tend(engine: &Embedded, unit: &UnitId) -> Result<Option<OwnedFd>, EngineError> {
    let Some(known) = kept::read::<StartedAs>(&engine.folder(unit).join(STARTED_AS))? else {
        return Ok(None);
    };
    if known.ports.is_empty() || engine.running(unit).is_err() {
        return Ok(None);
    }
    let holder = engine.port_holder(unit);
    if let Some(watch) = holder.watch() {
        return Ok(Some(watch));
    }
    lead(engine, unit, &known)?;
    Ok(holder.watch())
}

/// Has the ports of a unit that runs held, and leads them there.
fn lead(engine: &Embedded, unit: &UnitId, known: &StartedAs) -> Result<(), EngineError> {
    let running = engine.running(unit)?;
    let claim = take(engine, unit, known)?;
    Ok(claim.map_or(Ok(()), |claim| claim.lead(&known.lead(running), &engine.folder(unit)))?)
}
