//! Processes that another engine has started, as they are seen from here.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::Pid;

use crate::cgroup::Cgroup;
use crate::error::SandboxError;
use crate::unit::{self, Running};

/// Whether there is such a process here. One of another machine, or above this process's own namespace, is not.
#[must_use]
pub fn is_here(process: i32) -> bool {
    process > 0 && Path::new("/proc").join(process.to_string()).exists()
}

/// Whether a process is in the calling thread's network. Of one that this user may not look at, it is assumed.
#[must_use]
pub fn shares_network(process: i32) -> bool {
    let own = fs::read_link("/proc/thread-self/ns/net");
    namespace(process, "net").is_none_or(|of| own.is_ok_and(|own| own == of))
}

/// The process that an engine knows by this number, the engine being a process here.
///
/// # Errors
/// If it is gone.
pub fn process_of(engine: i32, number: i32) -> Result<Running, SandboxError> {
    let here = match namespace(engine, "pid") {
        Some(of_engine) if fs::read_link("/proc/self/ns/pid").is_ok_and(|own| own != of_engine) => {
            seen_from(engine, &of_engine, number)
        }
        _ => Some(number),
    };
    let pid = here.and_then(Pid::from_raw).ok_or(SandboxError::NotRunning)?;
    let running = unit::running_now(pid, false, Cgroup::default()).map_err(|_| SandboxError::NotRunning)?;
    // What has ended is nobody's any more.
    unit::open(&running).map(|_| running)
}

/// The number here of what an engine in a namespace of its own, below this one, knows by a number.
fn seen_from(engine: i32, of_engine: &Path, number: i32) -> Option<i32> {
    let depth = numbers(engine)?.len();
    let all = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let mut all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_there = |pid: i32| namespace(pid, "pid").is_some_and(|of| of == of_engine);
    // A first process has a namespace of its own, and a parent in the engine's.
    all.find(|&pid| {
        numbers(pid).is_some_and(|of| of.get(depth - 1) == Some(&number))
            && (is_there(pid) || parent(pid).is_some_and(is_there))
    })
}

/// The numbers of a process, from this namespace inwards.
fn numbers(pid: i32) -> Option<Vec<i32>> {
    let line = status(pid, "NSpid:")?;
    line.split_whitespace().map(|number| number.parse().ok()).collect()
}

fn parent(pid: i32) -> Option<i32> {
    status(pid, "PPid:")?.trim().parse().ok()
}

fn status(pid: i32, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned)
}

/// What a namespace of a process is known by; nothing if this user may not look.
fn namespace(pid: i32, kind: &str) -> Option<PathBuf> {
    match fs::read_link(format!("/proc/{pid}/ns/{kind}")) {
        Ok(link) => Some(link),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::ACCESS) => None,
        Err(_) => Some(PathBuf::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_number_for_as_long_as_it_runs() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(is_here(own) && shares_network(own));
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let number = i32::try_from(child.id()).unwrap();
        let running = process_of(own, number).unwrap();
        assert_eq!(running.pid, number);
        child.kill().unwrap();
        // Also while nobody has heard of its end.
        unit::watch(&running).map(|fd| unit::ended_within(&fd, std::time::Duration::from_secs(60))).ok();
        assert_eq!(process_of(own, number), Err(SandboxError::NotRunning));
        child.wait().unwrap();
        assert!(!is_here(0));
    }

    #[test]
    fn the_numbers_of_a_process_are_read() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(numbers(own).and_then(|numbers| numbers.first().copied()), Some(own));
        assert!(parent(own).is_some());
    }
}
