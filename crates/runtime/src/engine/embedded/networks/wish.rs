//! What a unit asks of its networks and ports, checked before anything of it is made.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use setpoint_model::container::{Attachment, NetworkMode};
use setpoint_model::import::compose::Network;
use setpoint_model::manifest;
use setpoint_sandbox as sandbox;
use setpoint_sandbox::Subnet;

use super::pool::Wish;
use crate::engine::embedded::{settings::HINT, unsupported, volumes};
use crate::engine::{EngineError, UnitId, UnitSpec, ports};

/// The option of a network that every engine knows: the largest packet.
const MTU: &str = "com.docker.network.driver.mtu";

/// Says by name what of a unit's own networks this engine does not have.
pub(in crate::engine::embedded) fn check(spec: &UnitSpec) -> Result<(), EngineError> {
    if sandbox::is_rootless() {
        return Err(unsupported(
            "a network of its own, with names and published ports, without the rights of root",
            "run setpoint as root, share the host's network (`network_mode: host` in a compose.yaml, \
             `network = \"host\"` in a manifest), or set `engine.default = \"docker\"`",
        ));
    }
    // Any unit will do: its id is only the name of a network that nobody declared.
    of(&UnitId::new(&spec.labels.project_root, &spec.labels.unit), spec)?;
    spec.container
        .ports
        .iter()
        .try_for_each(|of| ports::check(of).map_err(|(what, hint)| unsupported(&what, &hint)))
}

/// The networks that a unit is in, the one that leads out first.
pub(super) fn of(unit: &UnitId, spec: &UnitSpec) -> Result<Vec<Wish>, EngineError> {
    let alone = BTreeMap::from([(unit.as_str().to_owned(), Attachment::default())]);
    let attachments = match &spec.container.network {
        Some(NetworkMode::Networks(networks)) => networks,
        _ => &alone,
    };
    let mut all: Vec<(&String, &Attachment)> = attachments.iter().collect();
    // Of equals, the first by name.
    all.sort_by_key(|(_, attachment)| std::cmp::Reverse(attachment.priority.unwrap_or(0)));
    all.into_iter().map(|(name, attachment)| wish(name, attachment, spec)).collect()
}

fn wish(name: &str, attachment: &Attachment, spec: &UnitSpec) -> Result<Wish, EngineError> {
    let declared = spec.networks.iter().find(|network| network.name == name).cloned();
    let is_declared_by_others = matches!(spec.container.network, Some(NetworkMode::Networks(_)));
    let network = declared.unwrap_or_else(|| Network {
        name: name.to_owned(),
        external: is_declared_by_others,
        ..Network::default()
    });
    let refuse = |what: String| unsupported(&format!("the network {name}: {what}"), HINT);
    if !volumes::is_name(name) {
        return Err(refuse("it is no name of a network".to_owned()));
    }
    if let Some(driver) =
        network.driver.as_ref().filter(|driver| !["bridge", "default"].contains(&driver.as_str()))
    {
        return Err(refuse(format!("the driver `{driver}`")));
    }
    if network.enable_ipv6 || attachment.ipv6.is_some() {
        return Err(refuse("addresses of version 6".to_owned()));
    }
    let option = network.driver_opts.keys().find(|option| *option != MTU);
    if let Some(option) = option {
        return Err(refuse(format!("the option `{option}` of its driver")));
    }
    if network.pools.len() > 1 {
        return Err(refuse("more than one range of addresses".to_owned()));
    }
    let pool = network.pools.first().cloned().unwrap_or_default();
    let range = |text: Option<&String>| {
        text.map(|text| Subnet::parse(text).ok_or_else(|| refuse(not_v4(text)))).transpose()
    };
    let address = |text: Option<&String>| {
        text.map(|text| text.parse::<Ipv4Addr>().map_err(|_| refuse(not_v4(text)))).transpose()
    };
    let (all, part) = (range(pool.subnet.as_ref())?, range(pool.ip_range.as_ref())?);
    let gateway = address(pool.gateway.as_ref())?;
    let lies_in = |first: Ipv4Addr| all.is_some_and(|all| all.contains(first));
    if let Some(outside) =
        part.map(|part| part.first).into_iter().chain(gateway).find(|first| !lies_in(*first))
    {
        return Err(refuse(format!("{outside} is not in its `subnet`")));
    }
    if all.is_some_and(|all| all.prefix > 30) {
        return Err(refuse("its `subnet` has no room for a unit".to_owned()));
    }
    let mtu = network
        .driver_opts
        .get(MTU)
        .map(|text| text.parse().map_err(|_| refuse(format!("the MTU `{text}`"))));
    let hardware = attachment.mac.as_ref();
    let mut names = attachment.aliases.clone();
    if !attachment.is_unnamed {
        names.insert(spec.labels.unit.to_string());
    }
    Ok(Wish {
        subnet: all,
        range: part,
        gateway,
        mtu: mtu.transpose()?,
        names: names.into_iter().filter(|name| is_host_name(name)).collect::<BTreeSet<_>>(),
        address: address(attachment.ipv4.as_ref())?,
        hardware: hardware
            .map(|text| mac(text).ok_or_else(|| refuse(format!("the hardware address `{text}`"))))
            .transpose()?,
        network,
    })
}

fn not_v4(text: &str) -> String {
    format!("`{text}`, which is no address of version 4")
}

/// Six pairs of digits.
fn mac(text: &str) -> Option<[u8; 6]> {
    let parts = text.split([':', '-']).map(|part| u8::from_str_radix(part, 16));
    parts.collect::<Result<Vec<_>, _>>().ok()?.try_into().ok()
}

/// Whether a name may stand in a file of hosts, where spaces and lines have a meaning.
fn is_host_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// Whether a unit has networks of its own.
pub(in crate::engine::embedded) fn has_own(spec: &UnitSpec) -> bool {
    match &spec.container.network {
        Some(NetworkMode::Networks(_)) => true,
        Some(_) => false,
        None => spec.network == manifest::Network::Private,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_declared_is_read() {
        assert_eq!(Subnet::parse("10.1.2.3/16").unwrap().to_string(), "10.1.0.0/16");
        assert!(
            Subnet::parse("fd00::/64").is_none()
                && Subnet::parse("10.1.2.3").is_none()
                && Subnet::parse("10.0.0.0/33").is_none()
        );
        assert_eq!(mac("02:42:ac:11:00:ff"), Some([2, 0x42, 0xac, 0x11, 0, 0xff]));
        assert_eq!(mac("02:42"), None);
        assert!(is_host_name("db-1.local") && !is_host_name("a b") && !is_host_name("a\n"));
    }
}
