//! Who holds a port of the host. Looked for only when somebody needs to be told.

use std::fs;
use std::path::Path;

use crate::spec::Protocol;

/// States of sockets that hold their port: a stream's that listens, and a datagram's.
const LISTENS: &str = "0A";
const OPEN: &str = "07";

/// A process that holds a port of the host, by its command line and number, if it is to be seen.
pub(crate) fn of(protocol: Protocol, port: u16) -> Option<String> {
    let tables = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
    };
    let sockets: Vec<String> = tables
        .iter()
        .flat_map(|table| {
            sockets(&fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default(), port)
        })
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = numbers.find(|pid| holds(*pid, &sockets))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(format!("{} (process {pid})", name.trim()))
}

/// The numbers of the sockets that hold a port, out of the kernel's table.
fn sockets(table: &str, port: u16) -> Vec<String> {
    let ending = format!(":{port:04X}");
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let held = fields.get(1)?.ends_with(&ending) && [LISTENS, OPEN].contains(fields.get(3)?);
        held.then(|| fields.get(9).map(|&inode| inode.to_owned())).flatten()
    };
    table.lines().filter_map(of_line).collect()
}

fn holds(pid: u32, sockets: &[String]) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
    let mut links = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.any(|link| sockets.iter().any(|socket| link == Path::new(socket)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_found_by_its_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                     \x20  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1\n\
                     \x20  1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 78 1\n";
        assert_eq!(sockets(table, 8080), ["77"]);
        assert!(sockets(table, 80).is_empty());
    }

    #[test]
    fn it_is_told_who_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let by = of(Protocol::Tcp, listener.local_addr().unwrap().port()).unwrap();
        assert!(by.contains(&std::process::id().to_string()), "{by}");
    }
}
