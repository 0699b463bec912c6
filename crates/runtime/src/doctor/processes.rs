//! Processes of this machine, as the kernel tells of them.

use std::fs;
use std::path::Path;

/// The letter that the kernel has for what a process does: `S`, `T`; nothing if it is gone.
pub(super) fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // What comes before is its name in brackets, which may hold anything.
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// A process.
pub(super) struct Process {
    /// Its number.
    pub(super) pid: u32,
    /// What it is called.
    pub(super) name: String,
    /// What it was started with, beside its name.
    pub(super) arguments: Vec<String>,
}

/// The process that has a socket, by the socket's number, as far as this user may see.
pub(super) fn with_socket(inode: u64) -> Option<Process> {
    let wanted = format!("socket:[{inode}]");
    let all = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has = |pid: &u32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
        open.into_iter()
            .any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == Path::new(&wanted)))
    };
    let pid = pids.into_iter().find(has)?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments =
        line.split(|byte| *byte == 0).skip(1).map(|word| String::from_utf8_lossy(word).into_owned());
    Some(Process { pid, name, arguments: arguments.collect() })
}
