//! What this machine lets this user do. Looking leaves nothing behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use crate::cgroup::Offer;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Features {
    /// The kernel's release.
    pub kernel: String,
    /// Whether sandboxes will be rootless: the caller is not root.
    pub rootless: bool,
    /// Whether a user namespace can be made; why not, if not. Needed where the caller is not root.
    pub user_namespaces: Result<(), String>,
    /// Whether the kernel knows overlays.
    pub overlay: Result<(), String>,
    /// Whether system calls can be filtered.
    pub seccomp: Result<(), String>,
    /// Which limits can be kept.
    pub cgroup: Offer,
    /// Whether a helper is installed that maps further users for rootless sandboxes.
    pub newuidmap: bool,
    /// What sets rules for packets, by the path of its program: `iptables`, else `nft`.
    pub packet_filter: Option<String>,
}

/// Looks.
#[must_use]
pub fn features() -> Features {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let overlay = filesystems.lines().any(|line| line.trim_end().ends_with("overlay"));
    let seccomp = fs::read_to_string("/proc/self/status").unwrap_or_default().contains("Seccomp_filters");
    let missing = |there: bool, what: &str| if there { Ok(()) } else { Err(what.to_owned()) };
    let paths = std::env::var_os("PATH").unwrap_or_default();
    Features {
        kernel: release,
        rootless: crate::ids::is_rootless(),
        user_namespaces: user_namespaces(),
        overlay: missing(overlay, "the kernel has no overlay file system (module `overlay`)"),
        seccomp: missing(seccomp, "the kernel cannot filter system calls"),
        cgroup: Offer::find(),
        newuidmap: std::env::split_paths(&paths).any(|folder| folder.join("newuidmap").is_file()),
        packet_filter: packet_filter().map(|program| program.to_string_lossy().into_owned()),
    }
}

/// Where programs of the administrator's lie, which are not in everybody's `PATH`.
const ALSO: &str = "/usr/sbin:/sbin:/usr/local/sbin";

/// The program that sets rules for packets. Where there are both, `iptables`: what Docker or a firewall refuses by it,
/// no rule of `nft` can allow.
#[must_use]
pub fn packet_filter() -> Option<PathBuf> {
    let paths = std::env::var("PATH").unwrap_or_default();
    let find = |name: &str| {
        let folders = paths.split(':').chain(ALSO.split(':'));
        folders.map(|folder| Path::new(folder).join(name)).find(|file| file.is_file())
    };
    find("iptables").or_else(|| find("nft"))
}

/// Tries it in a process of its own: `unshare` of util-linux, which every Debian has.
fn user_namespaces() -> Result<(), String> {
    match Command::new("unshare").args(["--user", "--map-root-user", "true"]).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("cannot try: unshare: {error}")),
    }
}
