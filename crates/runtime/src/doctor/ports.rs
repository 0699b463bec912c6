//! Published ports that somebody else has.

use std::net::{IpAddr, Ipv4Addr};

use setpoint_model::doctor::{Finding, Listener, WantedPort, listeners, ports};
use setpoint_model::manifest::Network;

use super::{Patient, processes};
use crate::engine::{HostFacts, Seen};
use crate::observe::Unit;

/// Where the kernel lists who listens.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// What engines publish ports by.
const PROXIES: [&str; 4] = ["docker-proxy", "rootlessport", "conmon", "pasta"];
/// The hidden command whose process holds the ports of units.
const OURS: &str = "__ports";

impl Patient<'_> {
    /// The ports of units that do not run now, and that somebody else has.
    pub(super) fn ports(&self, host: &HostFacts) -> Vec<Finding> {
        if !host.is_here {
            return Vec::new();
        }
        let stands = |unit: &Unit<'_>| !matches!(self.engine.observe(&unit.id), Ok(Seen::Running(_)));
        let wanted: Vec<WantedPort> =
            self.declared().iter().filter(|unit| stands(unit)).flat_map(published).collect();
        if wanted.is_empty() {
            return Vec::new();
        }
        let tables = TABLES.map(|path| std::fs::read_to_string(path).unwrap_or_default());
        let goes = self.has_undeclared();
        ports(&wanted, &listeners(&tables.concat()), |listener| who(listener, goes))
    }

    /// Whether there are units of this folder that the project declares no more: what they publish is free once they
    /// are gone.
    fn has_undeclared(&self) -> bool {
        let units = self.engine.units().unwrap_or_default();
        let is_declared = |unit| self.project.is_some_and(|project| project.manifest.envs.contains_key(unit));
        units.iter().any(|(_, labels)| labels.project_root == self.root && !is_declared(&labels.unit))
    }
}

/// Who listens; nothing for what holds ports of units, nor for what an engine publishes ports by, where units are going.
fn who(listener: &Listener, goes: bool) -> Option<String> {
    match processes::with_socket(listener.inode) {
        Some(process) if process.arguments.iter().any(|argument| argument == OURS) => None,
        Some(process) if goes && PROXIES.contains(&process.name.as_str()) => None,
        Some(process) => Some(format!("{} (process {})", process.name, process.pid)),
        None => Some("another process".to_owned()),
    }
}

/// The ports of the host that lead to a unit.
fn published(unit: &Unit<'_>) -> Vec<WantedPort> {
    let wanted = |address: Option<IpAddr>, port| WantedPort {
        unit: unit.env.name.to_string(),
        address: address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
        port,
    };
    let own = unit.env.ports.iter().filter(|_| unit.env.network == Network::Private);
    let own = own.map(|port| {
        wanted(port.address.or(Some(Ipv4Addr::LOCALHOST.into())), port.host.unwrap_or(port.port))
    });
    let of_container = unit.env.container.ports.iter().filter(|port| port.protocol == "tcp");
    let of_container = of_container.filter_map(|port| {
        let address = port.address.as_deref().and_then(|address| address.parse().ok());
        Some(wanted(address, port.host?))
    });
    own.chain(of_container).collect()
}
