//! Which addresses networks and units get: values only.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use setpoint_model::digest::Digest;
use setpoint_model::import::compose::Network;
use setpoint_sandbox::Subnet;

/// Where networks get their ranges, the first choice first: private addresses that Docker, Podman and most routers do
/// not begin with.
const POOLS: [(Ipv4Addr, u8); 3] = [
    (Ipv4Addr::new(10, 208, 0, 0), 12),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];
/// How large such a range is: 253 units.
const PREFIX: u8 = 24;

/// How a unit wants to be in a network.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) network: Network,
    /// All addresses of it.
    pub(super) subnet: Option<Subnet>,
    /// The part that units get addresses of.
    pub(super) range: Option<Subnet>,
    /// The host's own address in it.
    pub(super) gateway: Option<Ipv4Addr>,
    /// The largest packet, in bytes.
    pub(super) mtu: Option<u32>,
    /// By what others find the unit.
    pub(super) names: BTreeSet<String>,
    /// The unit's address.
    pub(super) address: Option<Ipv4Addr>,
    /// The unit's hardware address.
    pub(super) hardware: Option<[u8; 6]>,
}

/// A range that overlaps with none of these; the same one for the same name, where it is free.
pub(super) fn free(name: &str, taken: &[Subnet]) -> Option<Subnet> {
    let digest = Digest::of_bytes(name.as_bytes()).to_hex();
    let start = u32::from_str_radix(&digest[..8], 16).unwrap_or(0);
    POOLS.iter().find_map(|(first, prefix)| {
        let (count, size) = (1_u32 << (PREFIX - prefix), 1_u32 << (32 - PREFIX));
        let nth = |index: u32| {
            Subnet::of(
                Ipv4Addr::from_bits(first.to_bits() + (start.wrapping_add(index) % count) * size),
                PREFIX,
            )
        };
        (0..count).map(nth).find(|range| !taken.iter().any(|other| range.overlaps(*other)))
    })
}

/// The first address of a range that somebody may have.
pub(super) fn first(subnet: Subnet) -> Ipv4Addr {
    Ipv4Addr::from_bits(subnet.first.to_bits().saturating_add(1))
}

/// The first address in a part of a network that nobody has.
pub(super) fn free_address(subnet: Subnet, range: Subnet, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let is_usable = |address: &Ipv4Addr| {
        *address != subnet.first && *address != subnet.last() && !taken.contains(address)
    };
    (range.first.to_bits()..=range.last().to_bits()).map(Ipv4Addr::from_bits).find(is_usable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        Subnet::parse(text).unwrap()
    }

    #[test]
    fn a_network_gets_a_range_that_nobody_has() {
        let own = free("app_default", &[]).unwrap();
        assert_eq!(free("app_default", &[]), Some(own));
        assert!(subnet("10.208.0.0/12").contains(own.first) && own.prefix == 24);
        let next = free("app_default", &[own]).unwrap();
        assert!(!next.overlaps(own));
        assert!(
            subnet("172.16.0.0/12").contains(free("app_default", &[subnet("10.0.0.0/8")]).unwrap().first)
        );
        assert_eq!(free("app_default", &[subnet("0.0.0.0/0")]), None);
    }

    #[test]
    fn a_unit_gets_an_address_that_nobody_has() {
        let all = subnet("10.1.2.0/29");
        let mut taken = BTreeSet::from([first(all)]);
        let mut given = Vec::new();
        while let Some(address) = free_address(all, all, &taken) {
            taken.insert(address);
            given.push(address.octets()[3]);
        }
        assert_eq!(given, [2, 3, 4, 5, 6]);
        assert_eq!(
            free_address(all, subnet("10.1.2.6/32"), &BTreeSet::new()),
            Some(Ipv4Addr::new(10, 1, 2, 6))
        );
    }
}
