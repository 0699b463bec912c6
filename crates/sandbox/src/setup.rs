//! Making a sandbox around the calling process: its control group, its namespaces, its root.

use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::cgroup::Cgroup;
use crate::error::SandboxError;
use crate::network::Outside;
use crate::spec::{Network, SandboxSpec};
use crate::unit::{self, Observed, Running};
use crate::{ids, root, syscalls};

/// In the parent of the first process: makes the control group, and the process namespace for the next child.
pub(crate) fn prepare(spec: &SandboxSpec, rootless: bool) -> Result<Cgroup, SandboxError> {
    let group = Cgroup::make(&spec.cgroup, &spec.limits)?;
    let namespaces = || {
        if rootless {
            ids::become_root_inside()?;
        }
        syscalls::unshare(UnshareFlags::NEWPID)
            .map_err(|error| SandboxError::io("unshare", "/proc/self/ns/pid", error))
    };
    match namespaces() {
        Ok(()) => Ok(group),
        Err(error) => {
            group.remove();
            Err(error)
        }
    }
}

/// In the first process: follows its parent into death, and moves into namespaces and a root of its own.
pub(crate) fn become_first(
    spec: &SandboxSpec,
    scratch: &Path,
    rootless: bool,
    group: &Cgroup,
) -> Result<(), SandboxError> {
    let death = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    death.map_err(|error| SandboxError::io("follow", "the parent", error))?;
    group.join()?;
    let namespaces = UnshareFlags::NEWNS | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC;
    let unshare = |namespaces| {
        syscalls::unshare(namespaces).map_err(|error| SandboxError::io("unshare", "/proc/self/ns", error))
    };
    match &spec.network {
        Network::Host => unshare(namespaces)?,
        Network::None => unshare(namespaces | UnshareFlags::NEWNET)?,
        Network::Own(own) => {
            let outside = Outside::open()?;
            unshare(namespaces | UnshareFlags::NEWNET)?;
            outside.join(own)?;
        }
        Network::Of(folder) => {
            enter_network_of(folder)?;
            unshare(namespaces)?;
        }
    }
    rustix::system::sethostname(spec.hostname.as_bytes())
        .map_err(|error| SandboxError::io("set", "the host name", error))?;
    root::enter(spec, rootless, scratch)
}

/// Moves into the network of another sandbox.
fn enter_network_of(folder: &Path) -> Result<(), SandboxError> {
    let Observed::Running(running) = unit::observe(folder) else { return Err(SandboxError::NotRunning) };
    enter_network(&running)
}

/// Whether the calling thread is in the network of what runs already.
pub(crate) fn is_in_network_of(running: &Running) -> bool {
    let network = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/net")).ok();
    let mine = network("thread-self");
    mine.is_some() && mine == network(&running.pid.to_string())
}

/// Moves into the network of what runs; of a calling process with a single thread, also into one that another user
/// namespace of this user owns.
pub(crate) fn enter_network(running: &Running) -> Result<(), SandboxError> {
    let path = format!("/proc/{}/ns/net", running.pid);
    let network = std::fs::File::open(&path).map_err(|error| SandboxError::io("open", &path, error))?;
    // The number may have been somebody else's by then.
    if !unit::is_alive(running) {
        return Err(SandboxError::NotRunning);
    }
    // That of the caller cannot be entered by an ordinary user, nor need it be.
    let own = std::fs::read_link("/proc/thread-self/ns/net");
    if own.is_ok_and(|own| std::fs::read_link(&path).is_ok_and(|of| of == own)) {
        return Ok(());
    }
    let enter =
        || rustix::thread::move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network));
    let entered = enter().or_else(|refused| {
        let owner = syscalls::owner_of_namespace(network.as_fd()).map_err(|_| refused)?;
        rustix::thread::move_into_link_name_space(owner.as_fd(), Some(LinkNameSpaceType::User))?;
        enter()
    });
    entered.map_err(|error| SandboxError::io("enter", &path, error))
}
