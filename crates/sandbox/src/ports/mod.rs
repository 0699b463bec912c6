//! Ports of the host that lead into a sandbox. A process of its own holds them, one for each unit: it outlives the
//! sandboxes that it leads to and whoever starts them, so that what comes while one takes the place of another waits
//! instead of being refused.
//!
//! The process has no rights of root: whoever wants a port takes it himself, and hands it over.

mod bind;
mod datagrams;
mod http;
mod process;
mod route;
mod streams;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

use crate::channel::Channel;
use crate::error::SandboxError;
use crate::reexec;
use crate::spec::Port;
use crate::unit::{Running, ended_within};

pub use process::main_ports;

/// How long the process may take to answer. What is under way may take some seconds to end.
const ANSWERS: Duration = Duration::from_secs(10);
/// How long it may take to end.
const ENDS: Duration = Duration::from_secs(2);

/// What the process is asked, over its socket.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// Which ports it holds.
    List,
    /// To let go of all but these.
    Keep(Vec<Port>),
    /// To hold these and no others. The sockets of those at these positions follow, which it has not yet.
    Take { ports: Vec<Port>, new: Vec<usize> },
    /// To lead to this sandbox from now on. Its folder follows. The answer comes when what is under way in one that another
    /// took turns with has ended, or has had its time.
    Lead(Lead),
    /// To keep waiting whoever comes from now on, for as long as the asker stays; the answer comes when what is under
    /// way has ended, or has had its time. Nobody waits while another sandbox stands in.
    Hold,
    /// To take nothing new, since the sandbox is about to end; unless somebody holds, or another one stands in.
    Close,
    /// To end; unless somebody holds, or another sandbox stands in.
    End,
}

/// What the process answers.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Ports(Vec<Port>),
    Done,
}

/// Which sandbox ports lead to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lead {
    /// What runs.
    pub running: Running,
    /// Whether something in it listens from its start on, so that it is waited for; else nobody may.
    pub listens: bool,
    /// Whether it takes what comes only once its check says that it is well.
    pub is_checked: bool,
    /// Whether somebody starts it again when it ends: what comes then waits for a while.
    pub comes_back: bool,
    /// Whether it answers in place of the unit's own, whatever becomes of that, until ports are led to another one. The one
    /// before may finish what it has taken, and so may this one.
    #[serde(default)]
    pub stands_in: bool,
}

/// The process that holds the published ports of a unit, known by its socket. There may be none.
#[derive(Debug)]
pub struct PortHolder {
    socket: PathBuf,
}

/// A say in what a [`PortHolder`]'s process does: it does not end by itself for as long as this is there.
#[derive(Debug)]
pub struct Claim {
    channel: Channel,
}

impl PortHolder {
    /// The one with this socket, in a folder that exists.
    #[must_use]
    pub fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Has these ports held, and no others; the process is started if there is none. They lead nowhere new yet: what
    /// comes waits.
    ///
    /// # Errors
    /// [`SandboxError::PortTaken`] if somebody else has one.
    pub fn take(&self, ports: &[Port]) -> Result<Claim, SandboxError> {
        let (claim, mut held) = match self.listed() {
            Some(known) => known,
            None => (Claim { channel: self.start()? }, Vec::new()),
        };
        let new: Vec<usize> =
            (0..ports.len()).filter(|&at| !held.iter().any(|of| of.is_same_socket(&ports[at]))).collect();
        // One address of a number is in the way of all of them.
        let is_in_the_way =
            |of: &Port| new.iter().any(|&at| (ports[at].protocol, ports[at].host) == (of.protocol, of.host));
        let all = held.len();
        held.retain(|of| !is_in_the_way(of) || ports.iter().any(|port| port.is_same_socket(of)));
        if held.len() < all {
            claim.ask(&Order::Keep(held))?;
        }
        let sockets = new.iter().map(|&at| bind::take(&ports[at])).collect::<Result<Vec<_>, _>>()?;
        claim.send(&Order::Take { ports: ports.to_vec(), new })?;
        sockets.iter().try_for_each(|socket| claim.channel.send_fd(socket.as_fd())).map_err(lost)?;
        claim.answer()?;
        Ok(claim)
    }

    /// Keeps waiting whoever comes, until the ports lead to another sandbox, or what this gives is dropped. Comes back
    /// when what is under way has ended, or has had its time. Nothing if there is no process.
    ///
    /// # Errors
    /// If the process does not answer.
    pub fn hold(&self) -> Result<Option<Claim>, SandboxError> {
        let Some((claim, _)) = self.listed() else { return Ok(None) };
        claim.ask(&Order::Hold)?;
        Ok(Some(claim))
    }

    /// The process, and which ports it holds. One that does not answer as it should is none, and is ended.
    fn listed(&self) -> Option<(Claim, Vec<Port>)> {
        let claim = Claim { channel: self.known()? };
        match claim.ask(&Order::List) {
            Ok(Answer::Ports(held)) => Some((claim, held)),
            _ => {
                let _ = self.end();
                None
            }
        }
    }

    /// Takes nothing new, since the sandbox is about to end for good; what is under way may come to its end. Nothing
    /// happens while somebody holds.
    pub fn close(&self) {
        if let Some(channel) = self.known() {
            // One that does not answer is ended when the sandbox has ended.
            let _ = Claim { channel }.ask(&Order::Close);
        }
    }

    /// Ends the process, and with it all connections; the ports are free then. Nothing happens while somebody holds.
    ///
    /// # Errors
    /// If it survives being killed.
    pub fn end(&self) -> Result<(), SandboxError> {
        let Some(channel) = self.known() else { return self.forget() };
        let process = rustix::net::sockopt::socket_peercred(&channel)
            .and_then(|peer| rustix::process::pidfd_open(peer.pid, PidfdFlags::empty()));
        let claim = Claim { channel };
        if matches!(claim.ask(&Order::End), Ok(Answer::Done)) {
            return Ok(());
        }
        // It has hung up, because it ends, or it does not listen.
        let Ok(process) = process else { return self.forget() };
        if !ended_within(&process, ENDS) {
            let _ = rustix::process::pidfd_send_signal(&process, Signal::KILL);
            if !ended_within(&process, ENDS) {
                return Err(lost("it does not end"));
            }
        }
        self.forget()
    }

    /// What becomes readable when the process ends; nothing if there is none.
    #[must_use]
    pub fn watch(&self) -> Option<OwnedFd> {
        self.known().map(|channel| channel.into_fd())
    }

    /// A line to the process, if there is one.
    fn known(&self) -> Option<Channel> {
        let stream = with_short_path(&self.socket, UnixStream::connect).ok()?;
        stream.set_read_timeout(Some(ANSWERS)).ok()?;
        Some(Channel::from_fd(stream.into()))
    }

    /// Starts the process, which outlives the caller.
    fn start(&self) -> Result<Channel, SandboxError> {
        self.forget()?;
        let quiet = [Stdio::null(), Stdio::null(), Stdio::null()];
        let about = [self.socket.as_os_str()];
        let (mut child, channel) = reexec::spawn(reexec::PORTS, &about, quiet).map_err(lost)?;
        let _ = child.wait();
        channel.wait_at_most(ANSWERS).map_err(lost)?;
        Ok(channel)
    }

    /// Removes the socket of a process that is gone.
    fn forget(&self) -> Result<(), SandboxError> {
        match fs::remove_file(&self.socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(SandboxError::io("remove", &self.socket, error))
            }
            _ => Ok(()),
        }
    }
}

impl Claim {
    /// Leads the ports to this sandbox, whose folder this is.
    ///
    /// # Errors
    /// If the process is lost, or the sandbox is.
    pub fn lead(self, to: &Lead, folder: &Path) -> Result<(), SandboxError> {
        let opened = File::open(folder).map_err(|error| SandboxError::io("open", folder, error))?;
        self.send(&Order::Lead(to.clone()))?;
        self.channel.send_fd(opened.as_fd()).map_err(lost)?;
        self.answer().map(drop)
    }

    fn ask(&self, order: &Order) -> Result<Answer, SandboxError> {
        self.send(order)?;
        self.answer()
    }

    fn send(&self, order: &Order) -> Result<(), SandboxError> {
        self.channel.send(order).map_err(lost)
    }

    fn answer(&self) -> Result<Answer, SandboxError> {
        let answer = self.channel.receive::<Answer>().map_err(lost)?;
        answer.ok_or_else(|| lost("it has ended"))
    }
}

fn lost(why: impl std::fmt::Display) -> SandboxError {
    SandboxError::io("talk to", "the process that holds ports", why)
}

/// A socket by a path that is short enough to be a socket's, wherever it lies.
///
/// # Errors
/// What `act` gives, or if the socket's folder cannot be opened.
pub fn with_short_path<T>(socket: &Path, act: impl FnOnce(PathBuf) -> io::Result<T>) -> io::Result<T> {
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = File::open(folder)?;
    act(PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))
}
