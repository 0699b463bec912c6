//! Taking ports of the host.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use crate::error::SandboxError;
use crate::network::holder;
use crate::spec::{Port, Protocol};

/// Takes a port of the host. Without an address it is every one, of both versions where the host has both.
pub(super) fn take(port: &Port) -> Result<OwnedFd, SandboxError> {
    let everywhere = [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
    let addresses = port.address.map_or(everywhere.to_vec(), |address| vec![address]);
    let mut refused = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        let at = SocketAddr::new(address, port.host);
        let taken = match port.protocol {
            Protocol::Tcp => TcpListener::bind(at).map(OwnedFd::from),
            Protocol::Udp => UdpSocket::bind(at).map(OwnedFd::from),
        };
        match taken {
            Ok(taken) => return Ok(taken),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let by = holder::of(port.protocol, port.host);
                return Err(SandboxError::PortTaken { port: name(port), number: port.host, by });
            }
            Err(error) => refused = error,
        }
    }
    Err(SandboxError::io("publish the port", name(port), refused))
}

fn name(port: &Port) -> String {
    let protocol = port.protocol.name();
    match port.address {
        Some(address) => format!("{}/{protocol}", SocketAddr::new(address, port.host)),
        None => format!("{}/{protocol}", port.host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_somebody_has_is_named_with_who_has_it() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let host = listener.local_addr().unwrap().port();
        let to = std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
        let address = Some(Ipv4Addr::LOCALHOST.into());
        let port = Port { protocol: Protocol::Tcp, address, host, to, is_http: false };
        let refused = take(&port).err().unwrap().to_string();
        assert!(refused.contains(&format!("127.0.0.1:{host}/tcp is in use by ")), "{refused}");
        // One address of all is enough.
        assert!(take(&Port { address: None, ..port }).is_err());
    }
}
