//! Starting this binary again as one of its hidden children.
//!
//! What runs inside a sandbox can reach the file of its first process by `/proc/1/exe`. It is therefore executed
//! through a detached mount of its own that is read-only; where the kernel does not let this user make one, from
//! a sealed copy in memory. (The danger is CVE-2019-5736.) What was started so is protected already, and starts its own
//! children from the same file: also after another binary has taken its place, or none has.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use rustix::fs::{MemfdFlags, SealFlags, StatVfsMountFlags};
use rustix::mount::OpenTreeFlags;

use crate::channel::Channel;
use crate::syscalls;

/// The hidden arguments, the first of this binary's arguments.
pub(crate) const INIT: &str = "__init";
/// As [`INIT`], for the parent of a long-running sandbox.
pub(crate) const SHIM: &str = "__shim";
/// As [`INIT`], for the process that holds the ports of a unit.
pub(crate) const PORTS: &str = "__ports";
/// As [`INIT`], for the process that asks a container of another engine whether it is well.
pub(crate) const CHECK: &str = "__check";

const SELF: &str = "/proc/self/exe";

/// This binary, as a file that nobody can write through it.
fn protected() -> io::Result<OwnedFd> {
    match read_only_mount() {
        Ok(fd) => Ok(fd),
        // Of what was started here nobody can make a mount; and a copy for each child would be dear.
        Err(_) => match already_protected()? {
            Some(fd) => Ok(fd),
            None => sealed_copy(),
        },
    }
}

/// This binary as it runs, if nobody can write through that.
fn already_protected() -> io::Result<Option<OwnedFd>> {
    let file = File::open(SELF)?;
    let is_sealed = rustix::fs::fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
    let is_read_only =
        || rustix::fs::fstatvfs(&file).is_ok_and(|on| on.f_flag.contains(StatVfsMountFlags::RDONLY));
    Ok((is_sealed || is_read_only()).then(|| file.into()))
}

fn read_only_mount() -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(rustix::fs::CWD, SELF, flags)?;
    syscalls::make_read_only(mount.as_fd(), false)?;
    Ok(mount)
}

fn sealed_copy() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = File::from(rustix::fs::memfd_create("setpoint", flags)?);
    io::copy(&mut File::open(SELF)?, &mut &copy)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    // Executing a file that is open for writing is refused: open it anew, for reading.
    Ok(File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()))?.into())
}

/// Starts a hidden child, with a channel to it. `about` is what its command line says besides.
pub(crate) fn spawn(role: &str, about: &[&OsStr], stdio: [Stdio; 3]) -> io::Result<(Child, Channel)> {
    let program = protected()?;
    let (ours, theirs) = Channel::pair()?;
    let [input, output, error] = stdio;
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.arg(role).arg(theirs.as_fd().as_raw_fd().to_string()).args(about);
    command.env_clear().current_dir("/").stdin(input).stdout(output).stderr(error);
    // Another thread's child may inherit this end as well: hidden children close all but their own, and other
    // programs only keep open an end that nobody waits on.
    rustix::io::fcntl_setfd(theirs.as_fd(), rustix::io::FdFlags::empty())?;
    let child = command.spawn()?;
    drop(theirs);
    Ok((child, ours))
}

/// In a hidden child: the channel to the parent. Every other descriptor is closed.
pub(crate) fn parent_channel() -> io::Result<Channel> {
    let number = std::env::args()
        .nth(2)
        .and_then(|text| text.parse::<i32>().ok())
        .filter(|number| *number > 2)
        .ok_or_else(|| io::Error::other("this is a hidden command of setpoint's own"))?;
    let channel = Channel::from_fd(syscalls::inherited(number)?);
    syscalls::close_all_but(number);
    Ok(channel)
}
