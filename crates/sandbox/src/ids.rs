//! How ids inside map to ids on the host.

use std::fs;

use rustix::thread::UnshareFlags;

use crate::error::SandboxError;
use crate::syscalls;

/// Whether sandboxes of this process live in a user namespace of their own, in which the caller is root.
#[must_use]
pub fn is_rootless() -> bool {
    !rustix::process::geteuid().is_root()
}

/// Moves into a user namespace in which the caller is root and there is nobody else.
pub(crate) fn become_root_inside() -> Result<(), SandboxError> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let refused = |why: std::io::Error| SandboxError::UserNamespaceRefused { why: why.to_string() };
    syscalls::unshare(UnshareFlags::NEWUSER).map_err(refused)?;
    // A single id can be mapped without a helper, at the price of never changing groups.
    fs::write("/proc/self/setgroups", "deny").map_err(refused)?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).map_err(refused)?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).map_err(refused)
}
