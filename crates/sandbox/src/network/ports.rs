//! Ports of the host that lead into a sandbox. A process of its own holds them: it listens on the host, and passes on
//! what comes to the sandbox's address, for as long as the sandbox runs.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use caps::CapSet;
use rustix::process::{Pid, Resource, Signal, WaitOptions};

use crate::channel::Channel;
use crate::error::SandboxError;
use crate::spec::{Port, Protocol};
use crate::syscalls::{self, Fork};

/// How long the sandbox may take to accept a connection.
const CONNECTS: Duration = Duration::from_secs(10);
/// How long nothing may come back to somebody who sent datagrams before he is forgotten.
const FORGETS: Duration = Duration::from_secs(90);
/// How many who send datagrams are known at once.
const SENDERS: usize = 1024;
/// How long to wait after an error that may go away: all descriptors are in use.
const PAUSE: Duration = Duration::from_millis(50);
/// The memory that a thread starts with; the kernel gives only what is used.
const STACK: usize = 128 * 1024;
const BUFFER: usize = 32 * 1024;
const DATAGRAM: usize = 65_536;

/// The process that holds the ports of a sandbox; it ends with this value.
pub(crate) struct Relay {
    process: Pid,
    channel: Channel,
}

enum Held {
    Stream(TcpListener),
    Datagram(UdpSocket),
}

impl Relay {
    /// Takes the ports, and starts the process; what comes waits until it is told to begin.
    pub(crate) fn new(ports: &[Port]) -> Result<Self, SandboxError> {
        let held =
            ports.iter().map(|port| Ok((take(port)?, port.to.into()))).collect::<Result<Vec<_>, _>>()?;
        let failed = |error: io::Error| SandboxError::io("start", "the relay of ports", error);
        let (ours, theirs) = Channel::pair().map_err(failed)?;
        match syscalls::fork().map_err(failed)? {
            Fork::Parent(process) => Ok(Self { process, channel: ours }),
            Fork::Child => {
                drop(ours);
                // What holds ports below 1024 needs nothing of that any more.
                for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
                    let _ = caps::clear(None, set);
                }
                let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
                if let Ok(Some(())) = theirs.receive::<()>() {
                    drop(theirs);
                    relay(held);
                }
                std::process::exit(0)
            }
        }
    }

    /// Begins to pass on.
    pub(crate) fn begin(&self) {
        let _ = self.channel.send(&());
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.process, Signal::KILL);
        let _ = rustix::process::waitpid(Some(self.process), WaitOptions::empty());
    }
}

/// Takes a port of the host. Without an address it is every one, of both versions where the host has both.
fn take(port: &Port) -> Result<Held, SandboxError> {
    let everywhere = [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
    let addresses = port.address.map_or(everywhere.to_vec(), |address| vec![address]);
    let mut refused = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        let at = SocketAddr::new(address, port.host);
        let taken = match port.protocol {
            Protocol::Tcp => TcpListener::bind(at).map(Held::Stream),
            Protocol::Udp => UdpSocket::bind(at).map(Held::Datagram),
        };
        match taken {
            Ok(taken) => return Ok(taken),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let by = crate::network::holder::of(port.protocol, port.host);
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

/// Passes on, for ever.
fn relay(held: Vec<(Held, SocketAddr)>) {
    // Each connection takes four descriptors.
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let _ = rustix::process::setrlimit(
        Resource::Nofile,
        rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum },
    );
    let threads: Vec<_> = held
        .into_iter()
        .filter_map(|(held, to)| {
            spawn(move || match held {
                Held::Stream(listener) => streams(&listener, to),
                Held::Datagram(socket) => datagrams(&Arc::new(socket), to),
            })
            .ok()
        })
        .collect();
    threads.into_iter().for_each(|thread| drop(thread.join()));
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().stack_size(STACK).spawn(work)
}

fn streams(listener: &TcpListener, to: SocketAddr) {
    loop {
        match listener.accept() {
            // Without a thread for it, it is closed again.
            Ok((stream, _)) => drop(spawn(move || drop(connection(stream, to)))),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// Passes on a connection, until both sides have said all.
fn connection(outer: TcpStream, to: SocketAddr) -> io::Result<()> {
    let inner = TcpStream::connect_timeout(&to, CONNECTS)?;
    for stream in [&outer, &inner] {
        stream.set_nodelay(true)?;
        // Somebody who vanished without a word is noticed in the end.
        rustix::net::sockopt::set_socket_keepalive(stream, true)?;
    }
    let (outer, inner) = (Arc::new(outer), Arc::new(inner));
    let (from, back) = (Arc::clone(&inner), Arc::clone(&outer));
    let answers = spawn(move || pass(&from, &back))?;
    pass(&outer, &inner);
    let _ = answers.join();
    Ok(())
}

/// Passes on what one side says until it has said all; the other one may still answer.
fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = vec![0; BUFFER];
    let ended = loop {
        match from.read(&mut buffer) {
            Ok(0) => break Shutdown::Write,
            Ok(read) if to.write_all(&buffer[..read]).is_ok() => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // One of them is gone: so is the reason to listen to the other.
            _ => break Shutdown::Both,
        }
    };
    let _ = to.shutdown(ended);
    if ended == Shutdown::Both {
        let _ = from.shutdown(ended);
    }
}

type Senders = Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>>;

/// Passes on datagrams; answers go to whom they are meant for, since each sender has a socket of his own inside.
fn datagrams(outer: &Arc<UdpSocket>, to: SocketAddr) {
    let senders = Senders::default();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let Ok((read, sender)) = outer.recv_from(&mut buffer) else {
            std::thread::sleep(PAUSE);
            continue;
        };
        // What cannot be passed on is lost, as datagrams are.
        if let Ok(inner) = socket_of(&senders, sender, outer, to) {
            let _ = inner.send(&buffer[..read]);
        }
    }
}

fn socket_of(
    senders: &Senders,
    sender: SocketAddr,
    outer: &Arc<UdpSocket>,
    to: SocketAddr,
) -> io::Result<Arc<UdpSocket>> {
    let mut known = senders.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(inner) = known.get(&sender) {
        return Ok(Arc::clone(inner));
    }
    if known.len() >= SENDERS {
        return Err(io::ErrorKind::QuotaExceeded.into());
    }
    let inner = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    inner.connect(to)?;
    inner.set_read_timeout(Some(FORGETS))?;
    let inner = Arc::new(inner);
    let (answers, outer, all) = (Arc::clone(&inner), Arc::clone(outer), Arc::clone(senders));
    spawn(move || {
        answer(&answers, &outer, sender);
        all.lock().unwrap_or_else(PoisonError::into_inner).remove(&sender);
    })?;
    known.insert(sender, Arc::clone(&inner));
    Ok(inner)
}

/// Passes answers back to a sender until none has come for long.
fn answer(inner: &UdpSocket, outer: &UdpSocket, sender: SocketAddr) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        match inner.recv(&mut buffer) {
            Ok(read) => drop(outer.send_to(&buffer[..read], sender)),
            // Nobody listens inside yet.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn somewhere() -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)
    }

    /// A relay to this address, which ends with the test.
    fn relayed(to: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind(somewhere()).unwrap();
        let at = listener.local_addr().unwrap();
        spawn(move || streams(&listener, to)).unwrap();
        at
    }

    /// Answers with the number of bytes, once all of them have come.
    fn counts() -> SocketAddr {
        let listener = TcpListener::bind(somewhere()).unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let read = io::copy(&mut stream, &mut io::sink()).unwrap();
                    write!(stream, "{read}").unwrap();
                });
            }
        });
        at
    }

    fn sends(at: SocketAddr, bytes: usize) -> String {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(&vec![7; bytes]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    }

    #[test]
    fn whoever_has_said_all_still_hears_the_answer() {
        let at = relayed(counts());
        assert_eq!(sends(at, 3_000_000), "3000000");
        assert_eq!(sends(at, 0), "0");
    }

    #[test]
    fn many_connections_are_open_at_once() {
        let at = relayed(counts());
        let open: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(at).unwrap()).collect();
        for (index, mut stream) in open.into_iter().enumerate() {
            stream.write_all(&vec![1; index]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            assert_eq!(said, index.to_string());
        }
    }

    #[test]
    fn a_connection_ends_when_nobody_listens_inside() {
        let nobody = TcpListener::bind(somewhere()).unwrap().local_addr().unwrap();
        let mut stream = TcpStream::connect(relayed(nobody)).unwrap();
        let read = stream.read(&mut [0]);
        assert!(matches!(read, Ok(0)) || read.is_err());
    }

    #[test]
    fn each_sender_of_datagrams_gets_his_own_answers() {
        let (inside, outside) =
            (UdpSocket::bind(somewhere()).unwrap(), UdpSocket::bind(somewhere()).unwrap());
        let (to, at) = (inside.local_addr().unwrap(), outside.local_addr().unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((read, from)) = inside.recv_from(&mut buffer) {
                inside.send_to(&[b"got ", &buffer[..read]].concat(), from).unwrap();
            }
        });
        spawn(move || datagrams(&Arc::new(outside), to)).unwrap();
        let senders: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind(somewhere()).unwrap()).collect();
        for (index, sender) in senders.iter().enumerate() {
            sender.set_read_timeout(Some(CONNECTS)).unwrap();
            sender.send_to(format!("{index}").as_bytes(), at).unwrap();
        }
        for (index, sender) in senders.iter().enumerate() {
            let mut buffer = [0; 64];
            let (read, _) = sender.recv_from(&mut buffer).unwrap();
            assert_eq!(buffer[..read], format!("got {index}").into_bytes());
        }
    }

    #[test]
    fn a_port_that_somebody_has_is_named_with_who_has_it() {
        let listener = TcpListener::bind(somewhere()).unwrap();
        let host = listener.local_addr().unwrap().port();
        let to = std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
        let port = Port { protocol: Protocol::Tcp, address: Some(Ipv4Addr::LOCALHOST.into()), host, to };
        let refused = take(&port).err().unwrap().to_string();
        assert!(refused.contains(&format!("127.0.0.1:{host}/tcp is in use by ")), "{refused}");
        // One address of all is enough.
        assert!(take(&Port { address: None, ..port }).is_err());
    }
}
