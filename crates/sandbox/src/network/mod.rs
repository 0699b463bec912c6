//! Networks of sandboxes: bridges of the host, and the interfaces that lead a sandbox into them.

pub(crate) mod holder;
mod netlink;

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;

use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use serde::{Deserialize, Serialize};

use crate::error::SandboxError;
use crate::spec::{Interface, OwnNetwork};
use netlink::Netlink;

/// A range of addresses of version 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Its first address.
    pub first: Ipv4Addr,
    /// How many leading bits its addresses share.
    pub prefix: u8,
}

impl Subnet {
    /// The range that an address lies in.
    #[must_use]
    pub fn of(address: Ipv4Addr, prefix: u8) -> Self {
        Self { first: Ipv4Addr::from_bits(address.to_bits() & mask(prefix)), prefix: prefix.min(32) }
    }

    /// Reads a range as it is written: an address in it, and its prefix.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        Some(Self::of(address.parse().ok()?, prefix.parse().ok().filter(|prefix| *prefix <= 32)?))
    }

    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.first.to_bits()
    }

    /// Whether some address lies in both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// Its last address.
    #[must_use]
    pub fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first.to_bits() | !mask(self.prefix))
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

/// The hardware address that goes with an address: whoever knew the one from before a restart still knows the other.
#[must_use]
pub fn hardware_address(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    // The second lowest bit of the first byte says that nobody registered it.
    [0x02, 0x53, a, b, c, d]
}

/// A bridge of the host, which is a network of sandboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// The name of its device: 15 bytes at most.
    pub name: String,
    /// The host's own address in it.
    pub address: Ipv4Addr,
    /// How many leading bits the addresses in it share.
    pub prefix: u8,
    /// The largest packet, in bytes; the kernel's choice if absent.
    pub mtu: Option<u32>,
}

/// Makes a bridge, which is ready when it is up.
///
/// # Errors
/// If the caller may not, or there is a device of the name.
pub fn make_bridge(bridge: &Bridge) -> Result<(), SandboxError> {
    let failed = |error| SandboxError::io("make the network device", &bridge.name, error);
    let make = || {
        let kernel = Netlink::open()?;
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::IfName(bridge.name.clone()),
            LinkAttribute::Address(hardware_address(bridge.address).to_vec()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ];
        link.attributes.extend(bridge.mtu.map(LinkAttribute::Mtu));
        kernel.make(RouteNetlinkMessage::NewLink(link))?;
        let index = index(&kernel, &bridge.name)?;
        add_address(&kernel, index, bridge.address, bridge.prefix)?;
        set_up(&kernel, index)
    };
    make().map_err(failed)
}

/// Removes a device of the host; with one end of a pair goes the other. None of the name is no error.
///
/// # Errors
/// If the caller may not.
pub fn remove_device(name: &str) -> Result<(), SandboxError> {
    let remove = || remove(&Netlink::open()?, name);
    remove().map_err(|error| SandboxError::io("remove the network device", name, error))
}

/// Whether the host has a device of this name, and it is up.
#[must_use]
pub fn is_up(name: &str) -> bool {
    let link = Netlink::open().and_then(|kernel| link(&kernel, name));
    link.is_ok_and(|link| link.header.flags.contains(LinkFlags::Up))
}

/// All ranges of addresses that the host has an address in or a way to; not the way to everywhere else.
///
/// # Errors
/// If the kernel does not tell.
pub fn known_subnets() -> Result<Vec<Subnet>, SandboxError> {
    let list = || {
        let kernel = Netlink::open()?;
        let mut found = Vec::new();
        let mut address = AddressMessage::default();
        address.header.family = AddressFamily::Inet;
        for answer in kernel.list(RouteNetlinkMessage::GetAddress(address))? {
            let RouteNetlinkMessage::NewAddress(address) = answer else { continue };
            found.extend(address.attributes.iter().filter_map(|attribute| match attribute {
                AddressAttribute::Address(IpAddr::V4(of)) => Some(Subnet::of(*of, address.header.prefix_len)),
                _ => None,
            }));
        }
        let mut route = RouteMessage::default();
        route.header.address_family = AddressFamily::Inet;
        for answer in kernel.list(RouteNetlinkMessage::GetRoute(route))? {
            let RouteNetlinkMessage::NewRoute(route) = answer else { continue };
            found.extend(route.attributes.iter().filter_map(|attribute| match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(to)) => {
                    Some(Subnet::of(*to, route.header.destination_prefix_length))
                }
                _ => None,
            }));
        }
        Ok(found)
    };
    list().map_err(|error: io::Error| SandboxError::io("list", "the host's addresses", error))
}

/// A line to the host's network, for whoever is about to leave it.
pub(crate) struct Outside(Netlink);

impl Outside {
    /// Opens it, before the namespace is left.
    pub(crate) fn open() -> Result<Self, SandboxError> {
        Netlink::open().map(Self).map_err(|error| SandboxError::io("reach", "the host's network", error))
    }

    /// Sets up the new network namespace that the caller is in.
    pub(crate) fn join(&self, network: &OwnNetwork) -> Result<(), SandboxError> {
        let io = |error| SandboxError::io("set up", "a network", error);
        let inside = Netlink::open().map_err(io)?;
        index(&inside, "lo").and_then(|loopback| set_up(&inside, loopback)).map_err(io)?;
        for interface in &network.interfaces {
            self.lead_in(&inside, interface)
                .map_err(|error| SandboxError::io("join the network of", &interface.bridge, error))?;
        }
        tune();
        Ok(())
    }

    /// Makes a pair of devices, one end on the bridge, the other one here.
    fn lead_in(&self, inside: &Netlink, interface: &Interface) -> io::Result<()> {
        let here = fs::File::open("/proc/thread-self/ns/net")?;
        let bridge = link(&self.0, &interface.bridge)?;
        // An earlier sandbox's, whose namespace the kernel has not cleared away yet.
        remove(&self.0, &interface.outside)?;
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName(interface.name.clone()),
            LinkAttribute::Address(interface.hardware.to_vec()),
            LinkAttribute::NetNsFd(here.as_raw_fd()),
        ];
        let mtu = bridge.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(LinkAttribute::Mtu(*mtu)),
            _ => None,
        });
        peer.attributes.extend(mtu.clone());
        let mut outside = LinkMessage::default();
        outside.header.flags = LinkFlags::Up;
        outside.header.change_mask = LinkFlags::Up;
        outside.attributes = vec![
            LinkAttribute::IfName(interface.outside.clone()),
            LinkAttribute::Controller(bridge.header.index),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        outside.attributes.extend(mtu);
        self.0.make(RouteNetlinkMessage::NewLink(outside))?;
        let index = index(inside, &interface.name)?;
        add_address(inside, index, interface.address, interface.prefix)?;
        set_up(inside, index)?;
        interface.gateway.map_or(Ok(()), |gateway| add_default_route(inside, gateway))
    }
}

/// What processes inside may expect of a network that is theirs alone. A kernel that refuses keeps its own choice.
fn tune() {
    const SETTINGS: [(&str, &str); 3] = [
        // Whoever is not root inside may take any port: none of them is the host's.
        ("ip_unprivileged_port_start", "0"),
        ("ping_group_range", "0 2147483647"),
        // Nobody is led from one of its networks into another.
        ("ip_forward", "0"),
    ];
    for (name, value) in SETTINGS {
        let _ = fs::write(format!("/proc/sys/net/ipv4/{name}"), value);
    }
}

fn link(kernel: &Netlink, name: &str) -> io::Result<LinkMessage> {
    let mut link = LinkMessage::default();
    link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    let answers = kernel.ask(RouteNetlinkMessage::GetLink(link))?;
    answers
        .into_iter()
        .find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        })
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn index(kernel: &Netlink, name: &str) -> io::Result<u32> {
    Ok(link(kernel, name)?.header.index)
}

fn set_up(kernel: &Netlink, index: u32) -> io::Result<()> {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    kernel.ask(RouteNetlinkMessage::SetLink(link)).map(drop)
}

fn remove(kernel: &Netlink, name: &str) -> io::Result<()> {
    let mut link = LinkMessage::default();
    link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    match kernel.ask(RouteNetlinkMessage::DelLink(link)) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other.map(drop),
    }
}

fn add_address(kernel: &Netlink, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(address.into()),
        AddressAttribute::Address(address.into()),
        AddressAttribute::Broadcast(Subnet::of(address, prefix).last()),
    ];
    kernel.make(RouteNetlinkMessage::NewAddress(message))
}

fn add_default_route(kernel: &Netlink, gateway: Ipv4Addr) -> io::Result<()> {
    let mut route = RouteMessage::default();
    route.header = RouteHeader {
        address_family: AddressFamily::Inet,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Static,
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    route.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway))];
    kernel.make(RouteNetlinkMessage::NewRoute(route))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        Subnet::parse(text).unwrap()
    }

    #[test]
    fn ranges_begin_end_and_overlap() {
        let small = subnet("10.1.2.77/24");
        assert_eq!((small.to_string().as_str(), small.last()), ("10.1.2.0/24", Ipv4Addr::new(10, 1, 2, 255)));
        assert!(small.overlaps(subnet("10.0.0.0/8")) && subnet("10.0.0.0/8").overlaps(small));
        assert!(!small.overlaps(subnet("10.1.3.0/24")));
        assert!(subnet("0.0.0.0/0").contains(Ipv4Addr::BROADCAST));
        assert_eq!(subnet("1.2.3.4/32").last(), Ipv4Addr::new(1, 2, 3, 4));
    }
}
