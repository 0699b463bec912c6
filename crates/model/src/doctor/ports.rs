//! Ports of the host: who listens there, and who is to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::finding::Finding;
use super::row::Row;

/// Somebody who listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// On which address.
    pub address: IpAddr,
    /// On which port.
    pub port: u16,
    /// The socket's number, by which its process is found.
    pub inode: u64,
}

/// A port that a unit is to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedPort {
    /// The unit.
    pub unit: String,
    /// The address of the host.
    pub address: IpAddr,
    /// The port of the host.
    pub port: u16,
}

/// Who listens, by the kernel's own list (`/proc/net/tcp`, `/proc/net/tcp6`). Lines that are none are left out.
#[must_use]
pub fn listeners(table: &str) -> Vec<Listener> {
    const LISTENS: &str = "0A";
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (address, port) = fields.get(1)?.split_once(':')?;
        if *fields.get(3)? != LISTENS {
            return None;
        }
        let (address, port) = (address_of(address)?, u16::from_str_radix(port, 16).ok()?);
        Some(Listener { address, port, inode: fields.get(9)?.parse().ok()? })
    };
    table.lines().filter_map(line).collect()
}

/// An address as the kernel writes it: words of four bytes, each in the order of a little-endian machine.
fn address_of(hex: &str) -> Option<IpAddr> {
    let words = hex.as_bytes().chunks(8).map(|word| {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        Some(word.to_le_bytes())
    });
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(bytes) => Some(Ipv4Addr::from(bytes).into()),
        Err(_) => {
            let whole = Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?);
            Some(whole.to_ipv4_mapped().map_or(whole.into(), IpAddr::from))
        }
    }
}

/// The ports that units want and somebody has. `who` names a listener's process; nothing for one of our own.
#[must_use]
pub fn ports(
    wanted: &[WantedPort],
    listeners: &[Listener],
    who: impl Fn(&Listener) -> Option<String>,
) -> Vec<Finding> {
    let in_the_way = |port: &WantedPort| {
        let same = listeners.iter().filter(|one| one.port == port.port && meet(one.address, port.address));
        let (listener, who) = same.filter_map(|one| Some((one, who(one)?))).next()?;
        let what = format!(
            "{}:{} is published by `{}`, and {who} listens on {}:{}",
            shown(port.address),
            port.port,
            port.unit,
            shown(listener.address),
            port.port
        );
        let fix = format!("end that, or give `{}` another port of the host", port.unit);
        Some(Finding::of(Row::PortTaken, &port.unit, what, fix))
    };
    wanted.iter().filter_map(in_the_way).collect()
}

/// Whether one who listens on one of these addresses keeps others from the other.
fn meet(a: IpAddr, b: IpAddr) -> bool {
    a == b || a.is_unspecified() || b.is_unspecified()
}

fn shown(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const V4: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0
   2: 0100007F:1F91 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0
   nonsense
";
    const V6: &str = "   0: 00000000000000000000000001000000:1F92 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 4714 1
   1: 0000000000000000FFFF00000100007F:1F93 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 4715 1
";

    fn listener(address: &str, port: u16, inode: u64) -> Listener {
        Listener { address: address.parse().unwrap(), port, inode }
    }

    #[test]
    fn the_kernels_list_is_read() {
        assert_eq!(listeners(V4), [listener("127.0.0.1", 8080, 4711), listener("0.0.0.0", 80, 4712)]);
        assert_eq!(listeners(V6), [listener("::1", 8082, 4714), listener("127.0.0.1", 8083, 4715)]);
    }

    #[test]
    fn a_port_is_taken_where_the_addresses_meet() {
        let all = listeners(V4);
        let told = |address: &str, port: u16| {
            let wanted = WantedPort { unit: "web".to_owned(), address: address.parse().unwrap(), port };
            ports(&[wanted], &all, |_| Some("nginx (process 7)".to_owned())).pop().map(|finding| finding.what)
        };
        assert_eq!(
            told("0.0.0.0", 8080).unwrap(),
            "0.0.0.0:8080 is published by `web`, and nginx (process 7) listens on 127.0.0.1:8080"
        );
        assert!(told("127.0.0.1", 80).is_some());
        assert_eq!(told("127.0.0.2", 8080), None);
        assert_eq!(told("127.0.0.1", 8081), None, "a connection is not somebody who listens");
        let wanted = WantedPort { unit: "web".to_owned(), address: "::".parse().unwrap(), port: 80 };
        assert_eq!(ports(&[wanted], &all, |_| None), [], "what is our own is in nobody's way");
    }
}
