//! What a sandbox is made of, and what runs in it: values that cross a pipe to a process of our own.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::WaitStatus;
use serde::{Deserialize, Serialize};

/// A sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Where its file system comes from.
    pub root: Root,
    /// Its host name.
    pub hostname: String,
    /// Folders and files of the host that appear inside, in this order.
    pub mounts: Vec<Mount>,
    /// Overlays that appear inside, before the mounts.
    pub overlays: Vec<Overlay>,
    /// Folders in memory that appear inside, before the mounts.
    pub memory: Vec<Memory>,
    /// Whether what is written may be lost when the machine goes down: nothing is written back when it ends.
    pub volatile: bool,
    /// The home of whoever works inside; made if it is not there.
    pub home: Option<Home>,
    /// Which network it has.
    pub network: Network,
    /// By what it resolves names.
    pub names: Names,
    /// What it may use.
    pub limits: Limits,
    /// The name of its control group; unique on this machine.
    pub cgroup: String,
    /// The process that a long-running sandbox is there for, and ends with; without one it waits until it is stopped.
    pub main: Option<Main>,
}

/// The process that a long-running sandbox is there for. What it writes is kept, see [`crate::output`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Main {
    /// What runs, as [`Io::Captured`].
    pub process: ExecSpec,
    /// The signal that asks it to end.
    pub stop_signal: i32,
    /// How it is found out whether it is well.
    pub check: Option<Check>,
}

/// What is done now and then to find out whether all is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is done.
    pub test: Test,
    /// How long between two of them.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// How many failures in a row it takes.
    pub retries: u32,
    /// For how long after the start failures do not count.
    pub start_period: Duration,
    /// How long between two of them in that time.
    pub start_interval: Duration,
}

/// What a check does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Test {
    /// It runs a command inside, as [`Io::Captured`], which says by its end whether all is well.
    Run(ExecSpec),
    /// It asks somebody who listens inside.
    Ask(Ask),
}

/// Somebody who listens inside: on the loopback, or on an address of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// On which port.
    pub port: u16,
    /// What is asked for; without it a connection is answer enough.
    pub get: Option<Get>,
}

/// A request by HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Get {
    /// The path, and perhaps a query: of visible characters.
    pub path: String,
    /// The answer that is good; any of 200 to 399 if absent.
    pub status: Option<u16>,
}

/// Where a sandbox's file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// A copy-on-write view of the host's own system folders, with homes of its own. See [`crate::prepare_host_view`].
    HostView {
        /// Keeps what is written, from one start to the next.
        state: PathBuf,
    },
    /// A copy-on-write view of the host's own system folders, over what others like it left. See
    /// [`crate::prepare_host_base`].
    HostLayers {
        /// What others left: their states, the lowest first. The first is that of the base.
        below: Vec<PathBuf>,
        /// Keeps what is written. See [`crate::prepare_host_layer`].
        state: PathBuf,
    },
    /// An overlay of folders.
    Layers {
        /// The read-only folders, the lowest first.
        layers: Vec<PathBuf>,
        /// Keeps what is written, from one start to the next.
        state: PathBuf,
    },
}

/// A folder or file of the host that appears inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// On the host.
    pub source: PathBuf,
    /// Inside; made if it is not there, and never outside of the sandbox's root, whatever links lie on the way.
    pub target: PathBuf,
    /// Whether it may not be written.
    pub read_only: bool,
    /// Whether an empty folder first takes what lies inside where it is going to appear. The folder above it is then
    /// its own alone.
    pub takes_what_is_there: bool,
}

/// A folder in memory, empty at every start, from which nothing is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Inside; made if it is not there.
    pub target: PathBuf,
    /// Bytes at most; half of the machine's memory if absent.
    pub size: Option<u64>,
    /// Its access rights.
    pub mode: u32,
}

/// An overlay that appears inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Inside; made if it is not there.
    pub target: PathBuf,
    /// The read-only folders, the lowest first; at least one.
    pub layers: Vec<PathBuf>,
    /// Keeps what is written. See [`crate::prepare_overlay`].
    pub state: PathBuf,
}

/// A home folder inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    /// Inside.
    pub path: PathBuf,
    /// Its owner's user id.
    pub uid: u32,
    /// Its owner's group id.
    pub gid: u32,
}

/// Which network a sandbox has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The host's.
    Host,
    /// None: not even a loopback that is up.
    None,
    /// One of its own. Only root of the host can make it.
    Own(OwnNetwork),
    /// That of another long-running sandbox, which runs, by its folder.
    Of(PathBuf),
}

/// A network of a sandbox's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnNetwork {
    /// What leads into networks, besides a loopback.
    pub interfaces: Vec<Interface>,
}

/// What leads a sandbox into a network: a pair of devices, one inside, and one on a bridge of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The name of the device inside.
    pub name: String,
    /// The name of the device outside: unique on this machine, 15 bytes at most.
    pub outside: String,
    /// The bridge, which is there.
    pub bridge: String,
    /// Its hardware address.
    pub hardware: [u8; 6],
    /// Its address.
    pub address: Ipv4Addr,
    /// How many leading bits the addresses in the network share.
    pub prefix: u8,
    /// What leads everywhere else; of one interface at most.
    pub gateway: Option<Ipv4Addr>,
}

/// A port of the host that leads into a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Of which kind.
    pub protocol: Protocol,
    /// The host's address that it is taken on; every one if absent.
    pub address: Option<IpAddr>,
    /// Its number on the host.
    pub host: u16,
    /// Where it leads to.
    pub to: SocketAddrV4,
    /// Whether HTTP is spoken there: then each request is led by itself.
    pub is_http: bool,
}

impl Port {
    /// Whether both are the same port of the host.
    pub(crate) fn is_same_socket(&self, other: &Self) -> bool {
        (self.protocol, self.address, self.host) == (other.protocol, other.address, other.host)
    }
}

/// A kind of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// Of connections.
    Tcp,
    /// Of datagrams.
    Udp,
}

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Files of the host that stand in place of its own, by which names are resolved; read-only inside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// `/etc/hosts`.
    pub hosts: Option<PathBuf>,
    /// `/etc/resolv.conf`.
    pub resolver: Option<PathBuf>,
}

/// What a sandbox may use. Nothing is unlimited unless it is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory. The kernel rounds to pages.
    pub memory: Option<u64>,
    /// Processors' worth of time.
    pub cpus: Option<f64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// A process to run in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// The program, looked up in the `PATH` of `env`, and its arguments.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// Where it starts.
    pub cwd: PathBuf,
    /// Who it runs as.
    pub user: User,
    /// What it is connected to.
    pub io: Io,
}

/// A user inside, by numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// What a process's input and output are connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Io {
    /// The caller's own.
    Inherit,
    /// Nothing to read; output and errors into one pipe.
    Captured,
    /// Input, output and errors each a pipe of its own.
    Piped,
    /// A terminal of its own, of this many rows and columns.
    Terminal {
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Ended {
    /// The end that a parent was told of, if it is one.
    pub(crate) fn of(status: WaitStatus) -> Option<Self> {
        status.exit_status().map(Self::Code).or_else(|| status.terminating_signal().map(Self::Signal))
    }

    /// The exit code that a shell would give: 128 + n for a signal.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}
