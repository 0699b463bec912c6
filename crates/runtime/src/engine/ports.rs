//! Published ports of units. A process for each unit holds them, from its start to its end for good, also while one
//! instance of it takes the place of another.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use setpoint_model::container::{Health, HealthTest, PublishedPort};
use setpoint_sandbox as sandbox;

use super::{EngineError, Labels, UnitId};
use crate::paths::{Roots, make_private_folder};

/// Where the sockets lie of the processes that hold ports: not with the unit, which goes when it is made anew.
const PORTS: &str = "ports/v1";

/// What holds the published ports of a unit.
pub(super) fn holder(roots: &Roots, unit: &UnitId) -> sandbox::PortHolder {
    sandbox::PortHolder::at(roots.state.join(PORTS).join(unit.as_str()))
}

/// Has these ports of a unit held, and no others. One that has none has nobody who holds them.
pub(super) fn take(
    roots: &Roots,
    unit: &UnitId,
    ports: &[sandbox::Port],
) -> Result<Option<sandbox::Claim>, EngineError> {
    let holder = holder(roots, unit);
    if ports.is_empty() {
        holder.end()?;
        return Ok(None);
    }
    let folder = roots.state.join(PORTS);
    make_private_folder(&folder).map_err(EngineError::io("make", &folder))?;
    Ok(Some(holder.take(ports)?))
}

/// Says which unit has a port that is in use, where `owner` knows one that has it.
pub(super) fn with_owner(error: EngineError, owner: impl FnOnce(u16) -> Option<Labels>) -> EngineError {
    use sandbox::SandboxError::PortTaken;
    let EngineError::Sandbox(PortTaken { port, number, by }) = error else { return error };
    let owner = owner(number).map(|labels| format!("`{}` of {}", labels.unit, labels.project_root.display()));
    EngineError::Sandbox(PortTaken { port, number, by: owner.or(by) })
}

/// The published ports of a unit that were checked, which lead to this address.
pub(super) fn leading_to(
    to: Ipv4Addr,
    ports: &[PublishedPort],
    health: Option<&Health>,
) -> Vec<sandbox::Port> {
    // What is asked by HTTP whether it is well speaks it.
    let of_http = match health.and_then(|health| health.test.as_ref()) {
        Some(HealthTest::Http { port, .. }) => Some(*port),
        _ => None,
    };
    let is_http = |port: &PublishedPort| of_http == Some(port.container);
    ports.iter().filter_map(|port| held(port, to, is_http(port)).ok()).collect()
}

/// That ports lead to what is well, and answers in place of their unit.
pub(super) fn standing_in(lead: sandbox::Lead) -> sandbox::Lead {
    sandbox::Lead { is_checked: false, comes_back: true, stands_in: true, ..lead }
}

/// Whether a port can be held.
///
/// # Errors
/// What cannot be, and what to do instead.
pub(super) fn check(port: &PublishedPort) -> Result<(), (String, String)> {
    held(port, Ipv4Addr::UNSPECIFIED, false).map(drop)
}

fn held(port: &PublishedPort, to: Ipv4Addr, is_http: bool) -> Result<sandbox::Port, (String, String)> {
    let number = port.container;
    let refused = |what: String| {
        (
            format!("publishing the port {number}: {what}"),
            "publish it by tcp or udp, on an address of this machine".to_owned(),
        )
    };
    let protocol = match port.protocol.as_str() {
        "tcp" => sandbox::Protocol::Tcp,
        "udp" => sandbox::Protocol::Udp,
        other => return Err(refused(format!("the protocol `{other}`"))),
    };
    let host = port.host.filter(|host| *host != 0).ok_or_else(|| {
        (
            format!("publishing the port {number} on any free port of the host"),
            format!("say which one: `\"{number}:{number}\"`"),
        )
    })?;
    let address = |text: &String| {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().map_err(|_| refused(format!("the address `{text}`")))
    };
    let address = port.address.as_ref().filter(|text| !text.is_empty()).map(address).transpose()?;
    let is_http = is_http && protocol == sandbox::Protocol::Tcp;
    Ok(sandbox::Port { protocol, address, host, to: SocketAddrV4::new(to, number), is_http })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_say_where_they_are_on_the_host() {
        let of = |protocol: &str, address: Option<&str>, host| PublishedPort {
            container: 80,
            protocol: protocol.to_owned(),
            address: address.map(str::to_owned),
            host,
        };
        let read = |of: PublishedPort| held(&of, Ipv4Addr::LOCALHOST, false);
        let taken = read(of("udp", Some("[::1]"), Some(8080))).unwrap();
        assert_eq!((taken.protocol, taken.host, taken.to.port()), (sandbox::Protocol::Udp, 8080, 80));
        assert!(taken.address.is_some_and(|address| address.is_ipv6()));
        assert!(read(of("tcp", None, None)).unwrap_err().0.contains("any free port"));
        assert!(read(of("sctp", None, Some(1))).unwrap_err().0.contains("sctp"));
    }
}
