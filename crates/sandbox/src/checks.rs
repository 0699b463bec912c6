//! Health checks of what another engine runs: a process of its own asks for as long as the first process runs that it
//! asks about. What came of it lies in a folder, as with our own sandboxes.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::ask;
use crate::cgroup::Cgroup;
use crate::channel::Channel;
use crate::error::SandboxError;
use crate::spec::Check;
use crate::syscalls::{self, Fork};
use crate::unit::{self, Running, ended_within};
use crate::{health, privileges, reexec, setup};

const CHECKER: &str = "checker.json";
/// How long the process may take to begin, and one that is not wanted any more to end.
const BEGINS: Duration = Duration::from_secs(10);

/// From where is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AskFrom {
    /// From the network that the process is in: its loopback first, and then these addresses of it.
    Inside(Vec<IpAddr>),
    /// From the caller's network, on these addresses.
    Here(Vec<IpAddr>),
}

/// What the process is told, once; its folder follows.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    check: Check,
    from: AskFrom,
    running: Running,
}

/// Which process asks, and about which.
#[derive(Debug, Serialize, Deserialize)]
struct Checker {
    process: Running,
    of: Running,
}

/// Begins to check what runs, and ends the check of what ran before it. [`crate::health`] tells what came of it. The
/// process that checks outlives the caller.
///
/// # Errors
/// If it cannot be started, or may not enter the network that it is to ask from.
pub fn begin_checks(
    check: &Check,
    from: &AskFrom,
    running: &Running,
    folder: &Path,
) -> Result<(), SandboxError> {
    end_earlier(folder)?;
    let lost = |error: io::Error| SandboxError::io("start", "the health check", error);
    let opened = File::open(folder).map_err(|error| SandboxError::io("open", folder, error))?;
    let quiet = [Stdio::null(), Stdio::null(), Stdio::null()];
    let (mut child, channel) = reexec::spawn(reexec::CHECK, &[folder.as_os_str()], quiet).map_err(lost)?;
    let order = Order { check: check.clone(), from: from.clone(), running: running.clone() };
    channel.wait_at_most(BEGINS).map_err(lost)?;
    let told = channel.send(&order).and_then(|()| channel.send_fd(opened.as_fd()));
    let answer = told.and_then(|()| channel.receive::<Result<(), SandboxError>>());
    let _ = child.wait();
    answer.map_err(lost)?.unwrap_or(Err(SandboxError::EndedEarly))
}

/// What becomes readable when the checks of what runs have ended; nothing if nobody checks it.
#[must_use]
pub fn checker(folder: &Path, running: &Running) -> Option<OwnedFd> {
    let known = unit::read::<Checker>(&folder.join(CHECKER)).filter(|known| known.of.is_same(running))?;
    unit::open(&known.process).ok()
}

fn end_earlier(folder: &Path) -> Result<(), SandboxError> {
    let Some(known) = unit::read::<Checker>(&folder.join(CHECKER)) else { return Ok(()) };
    let Ok(process) = unit::open(&known.process) else { return Ok(()) };
    let _ = rustix::process::pidfd_send_signal(&process, Signal::KILL);
    match ended_within(&process, BEGINS) {
        true => Ok(()),
        false => Err(SandboxError::Survives { pid: known.process.pid }),
    }
}

/// What the hidden command `__check` runs. Never returns.
pub fn main_check() -> ! {
    let code = match reexec::parent_channel() {
        Ok(channel) => run(&channel),
        Err(_) => 2,
    };
    std::process::exit(code)
}

fn run(channel: &Channel) -> i32 {
    let (Ok(Some(order)), Ok(folder)) = (channel.receive::<Order>(), channel.receive_fd()) else { return 2 };
    // It lives on without a terminal, and without a parent that would have to reap it.
    let _ = rustix::process::setsid();
    match syscalls::fork() {
        Ok(Fork::Child) => {}
        Ok(Fork::Parent(_)) => return 0,
        Err(_) => return 1,
    }
    let begun = begin(&order, &folder);
    let _ = channel.send(&begun.as_ref().map(drop));
    channel.hang_up();
    match begun {
        Ok(addresses) => {
            health::watch(&order.check, &addresses, &order.running, Path::new("."));
            0
        }
        Err(_) => 1,
    }
}

/// Goes to where is asked from. Gives the addresses that are asked.
fn begin(order: &Order, folder: &OwnedFd) -> Result<Vec<IpAddr>, SandboxError> {
    // It may have no way there without its rights.
    rustix::process::fchdir(folder).map_err(|error| SandboxError::io("enter", "its folder", error))?;
    let addresses = match &order.from {
        AskFrom::Inside(addresses) => {
            setup::enter_network(&order.running)?;
            ask::LOOPBACK.iter().chain(addresses).copied().collect()
        }
        AskFrom::Here(addresses) => addresses.clone(),
    };
    privileges::give_up();
    let process = unit::running_now(rustix::process::getpid(), false, Cgroup::default())?;
    unit::write(Path::new(CHECKER), &Checker { process, of: order.running.clone() })?;
    Ok(addresses)
}
