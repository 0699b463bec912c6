//! A long-running sandbox, seen from outside: started, observed, stopped. What is known of it lies in its folder.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::error::SandboxError;
use crate::reexec;
use crate::shim::{Answer, Order, write_whole};
use crate::spec::{Ended, Limits, SandboxSpec};

const RUNNING: &str = "running.json";
const EXIT: &str = "exit.json";
const STOPPING: &str = "stopping.json";
const LOCK: &str = "shim.lock";

/// Which process was asked to end.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stopping {
    pid: i32,
    start_time: u64,
}

/// A sandbox that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its first process, as the host numbers it.
    pub pid: i32,
    /// When that process was started, in clock ticks since boot: tells it from a later one of the same number.
    pub start_time: u64,
    /// Which boot of the machine.
    pub boot_id: String,
    /// Whether it has a user namespace of its own.
    pub rootless: bool,
    /// Its control group.
    pub cgroup: Cgroup,
}

impl Running {
    /// Whether both are one process, whatever its limits are by now.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.pid, self.start_time, &self.boot_id) == (other.pid, other.start_time, &other.boot_id)
    }
}

/// How a sandbox ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The end of its first process.
    pub ended: Ended,
}

/// What is to be seen of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// It runs.
    Running(Running),
    /// It ran and ended so.
    Exited(Exit),
    /// Nothing of it runs, and nobody saw how it ended, or it was never started.
    Gone,
}

/// How long a shim may take to write down what has ended.
const SETTLES: Duration = Duration::from_secs(1);

/// Since when a sandbox is what it was observed to be, where somebody has seen that.
#[must_use]
pub fn since(folder: &Path, observed: &Observed) -> Option<SystemTime> {
    let name = match observed {
        Observed::Running(_) => RUNNING,
        Observed::Exited(_) => EXIT,
        Observed::Gone => return None,
    };
    folder.join(name).metadata().and_then(|metadata| metadata.modified()).ok()
}

/// Starts a sandbox that outlives the caller. `folder` is the unit's own, and exists.
///
/// # Errors
/// What the kernel refused; then nothing of it runs.
pub fn start(spec: &SandboxSpec, folder: &Path) -> Result<Running, SandboxError> {
    let lost = |error: std::io::Error| SandboxError::io("talk to", "the sandbox's parent", error);
    finish(folder)?;
    for old in [RUNNING, EXIT, STOPPING] {
        let _ = fs::remove_file(folder.join(old));
    }
    let quiet = || [Stdio::null(), Stdio::null(), Stdio::null()];
    let (mut shim, channel) = reexec::spawn(reexec::SHIM, &[], quiet()).map_err(lost)?;
    let order = Order { spec: spec.clone(), folder: folder.to_owned(), rootless: crate::ids::is_rootless() };
    channel.send(&order).map_err(lost)?;
    let answer = channel.receive::<Answer>().map_err(lost)?;
    let _ = shim.wait();
    answer.unwrap_or(Err(SandboxError::EndedEarly))
}

/// Looks at a sandbox: a few small files are read, nothing is asked of any process.
#[must_use]
pub fn observe(folder: &Path) -> Observed {
    let known = read::<Running>(&folder.join(RUNNING));
    if known.as_ref().is_some_and(|known| !is_alive(known)) && !folder.join(EXIT).exists() {
        // It has just ended, and its shim is about to write down how.
        shim_ends_within(folder, SETTLES);
    }
    let running = known.filter(is_alive).filter(|running| !is_stopping(folder, running));
    match (running, read::<Exit>(&folder.join(EXIT))) {
        (Some(running), _) => Observed::Running(running),
        (None, Some(exit)) => Observed::Exited(exit),
        (None, None) => Observed::Gone,
    }
}

/// Whether a sandbox was asked to end.
pub(crate) fn is_stopping(folder: &Path, running: &Running) -> bool {
    read(&folder.join(STOPPING)) == Some(Stopping { pid: running.pid, start_time: running.start_time })
}

/// Whether a sandbox that does not run any more is still there: it was asked to end, and whoever asked has gone on.
#[must_use]
pub fn is_ending(folder: &Path) -> bool {
    read::<Running>(&folder.join(RUNNING)).is_some_and(|known| is_alive(&known))
}

/// Stops a sandbox: asks its first process, waits this long, kills it. Nothing to stop is no error. `hurry` is
/// asked now and then whether to kill at once.
///
/// # Errors
/// If it survives being killed.
pub fn stop(folder: &Path, grace: Duration, hurry: &dyn Fn() -> bool) -> Result<(), SandboxError> {
    let Some(running) = read::<Running>(&folder.join(RUNNING)) else { return Ok(()) };
    let Ok(process) = open(&running) else {
        // Its shim may have been killed before it could take the group away.
        running.cgroup.remove();
        return Ok(());
    };
    // Whoever comes after a death of this process has to know that it will not run for long.
    write(&folder.join(STOPPING), &Stopping { pid: running.pid, start_time: running.start_time })?;
    let _ = rustix::process::pidfd_send_signal(&process, Signal::TERM);
    let asked = Instant::now();
    let mut killed = None;
    loop {
        if ended_within(&process, Duration::from_millis(50)) {
            break;
        }
        match killed {
            None if asked.elapsed() > grace || hurry() => {
                let _ = rustix::process::pidfd_send_signal(&process, Signal::KILL);
                killed = Some(Instant::now());
            }
            Some(since) if since.elapsed() > Duration::from_secs(10) => {
                return Err(SandboxError::Survives { pid: running.pid });
            }
            _ => {}
        }
    }
    // Its shim writes down how it ended and takes the group away; a shim that was killed cannot.
    if !shim_ends_within(folder, Duration::from_secs(2)) || folder.join(EXIT).metadata().is_err() {
        running.cgroup.remove();
    }
    Ok(())
}

/// Sees to its end what an earlier process began: a stop, or a start that it did not live to hear of.
fn finish(folder: &Path) -> Result<(), SandboxError> {
    let began = Instant::now();
    while !shim_ends_within(folder, Duration::from_millis(20)) {
        stop(folder, Duration::from_millis(200), &|| false)?;
        if began.elapsed() > Duration::from_secs(20) {
            return Err(SandboxError::io("start in", folder, "an earlier sandbox in it does not end"));
        }
    }
    Ok(())
}

/// Whether no shim holds this folder any more, or ceases to within this time.
fn shim_ends_within(folder: &Path, at_most: Duration) -> bool {
    let began = Instant::now();
    loop {
        match fs::File::open(folder.join(LOCK)) {
            Err(_) => return true,
            Ok(file) if file.try_lock().is_ok() => return true,
            Ok(_) if began.elapsed() > at_most => return false,
            Ok(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Takes the folder for the shim that calls this, for as long as the file is open.
pub(crate) fn hold(folder: &Path) -> Result<fs::File, SandboxError> {
    let path = folder.join(LOCK);
    let open = || {
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
        file.try_lock().map_err(|_| std::io::Error::other("another sandbox runs in it"))?;
        Ok::<_, std::io::Error>(file)
    };
    open().map_err(|error| SandboxError::io("take", &path, error))
}

/// Changes the limits of a running sandbox. `group` is the name of its control group.
///
/// # Errors
/// If it does not run, or a limit cannot be kept; then the old ones may hold in part.
pub fn set_limits(folder: &Path, group: &str, limits: &Limits) -> Result<Limits, SandboxError> {
    let Observed::Running(mut running) = observe(folder) else { return Err(SandboxError::NotRunning) };
    let inside = fs::read_link(format!("/proc/{}/ns/pid", running.pid)).ok();
    let processes = || {
        let all = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
        all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| inside.is_some() && fs::read_link(format!("/proc/{pid}/ns/pid")).ok() == inside)
            .collect()
    };
    running.cgroup = running.cgroup.change(group, limits, &processes)?;
    write_running(folder, &running)?;
    Ok(running.cgroup.effective())
}

/// Takes away the control group of a sandbox that ended, as it was at last.
pub(crate) fn remove_group(folder: &Path) {
    if let Some(running) = read::<Running>(&folder.join(RUNNING)) {
        running.cgroup.remove();
    }
}

/// Whether a process ends within this time.
pub(crate) fn ended_within(process: &rustix::fd::OwnedFd, at_most: Duration) -> bool {
    let began = Instant::now();
    let mut poll = [rustix::event::PollFd::new(process, rustix::event::PollFlags::IN)];
    loop {
        let left = at_most.saturating_sub(began.elapsed());
        match rustix::event::poll(&mut poll, rustix::time::Timespec::try_from(left).ok().as_ref()) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(_) if left.is_zero() => return false,
            Err(_) => {}
        }
    }
}

/// What becomes readable when a sandbox's first process ends.
///
/// # Errors
/// If it does not run any more.
pub fn watch(running: &Running) -> Result<rustix::fd::OwnedFd, SandboxError> {
    open(running)
}

/// Opens the first process, if it is still the one that was started.
pub(crate) fn open(running: &Running) -> Result<rustix::fd::OwnedFd, SandboxError> {
    let pid = Pid::from_raw(running.pid).ok_or(SandboxError::NotRunning)?;
    let process =
        rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|_| SandboxError::NotRunning)?;
    // The number may have been given anew between the look and the opening; the start time tells.
    if is_alive(running) { Ok(process) } else { Err(SandboxError::NotRunning) }
}

pub(crate) fn is_alive(running: &Running) -> bool {
    start_time(running.pid) == Some(running.start_time)
        && boot_id().is_some_and(|boot| boot == running.boot_id)
}

/// What a first process is known by from now on.
pub(crate) fn running_now(first: Pid, rootless: bool, cgroup: Cgroup) -> Result<Running, SandboxError> {
    let pid = first.as_raw_nonzero().get();
    // What it is there for may have ended by now.
    let (_, start_time) = state_and_start(pid).ok_or(SandboxError::EndedEarly)?;
    let boot_id = boot_id().ok_or_else(|| SandboxError::io("read", BOOT_ID, "it is empty"))?;
    Ok(Running { pid, start_time, boot_id, rootless, cgroup })
}

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

fn boot_id() -> Option<String> {
    fs::read_to_string(BOOT_ID).ok().map(|id| id.trim().to_owned())
}

/// The start time of a living process; a zombie is dead.
fn start_time(pid: i32) -> Option<u64> {
    state_and_start(pid).filter(|(is_alive, _)| *is_alive).map(|(_, start)| start)
}

/// Whether a process lives, and when it was started.
fn state_and_start(pid: i32) -> Option<(bool, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; what follows the last of them does not.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    Some((state != "Z" && state != "X", fields.nth(18)?.parse().ok()?))
}

pub(crate) fn write_running(folder: &Path, running: &Running) -> Result<(), SandboxError> {
    write(&folder.join(RUNNING), running)
}

pub(crate) fn write_exit(folder: &Path, exit: &Exit) -> Result<(), SandboxError> {
    write(&folder.join(EXIT), exit)
}

pub(crate) fn write(path: &Path, value: &impl Serialize) -> Result<(), SandboxError> {
    let bytes = serde_json::to_vec(value).map_err(|error| SandboxError::io("write", path, error))?;
    write_whole(path, &bytes).map_err(|error| SandboxError::io("write", path, error))
}

pub(crate) fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
