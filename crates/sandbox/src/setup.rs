//! Making a sandbox around the calling process: its control group, its namespaces, its root.

use std::path::Path;

use rustix::process::Signal;
use rustix::thread::UnshareFlags;

use crate::cgroup::Cgroup;
use crate::error::SandboxError;
use crate::spec::{Network, SandboxSpec};
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
    let mut namespaces = UnshareFlags::NEWNS | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC;
    if spec.network == Network::None {
        namespaces |= UnshareFlags::NEWNET;
    }
    syscalls::unshare(namespaces).map_err(|error| SandboxError::io("unshare", "/proc/self/ns", error))?;
    rustix::system::sethostname(spec.hostname.as_bytes())
        .map_err(|error| SandboxError::io("set", "the host name", error))?;
    root::enter(spec, rootless, scratch)
}
