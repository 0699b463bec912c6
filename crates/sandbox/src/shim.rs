//! The parent of a long-running sandbox. It makes the sandbox, waits for its end, writes down how it ended, and
//! takes the control group away. It outlives the command that started it, and the sandbox does not outlive it.

use std::fs;
use std::io::{PipeReader, PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, waitpid};
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::channel::Channel;
use crate::error::SandboxError;
use crate::health::Checker;
use crate::privileges::{self, Filters};
use crate::reexec;
use crate::spec::{Ended, SandboxSpec};
use crate::syscalls::{self, Fork};
use crate::unit::{self, Exit, Running};
use crate::{exec, output, setup};

/// What the shim is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) spec: SandboxSpec,
    /// The folder of the unit: keeps what runs and how it ended.
    pub(crate) folder: PathBuf,
    pub(crate) rootless: bool,
}

/// What the shim answers, once.
pub(crate) type Answer = Result<Running, SandboxError>;

/// How long processes inside may take to end in order when the sandbox is asked to stop.
const GRACE_INSIDE: Duration = Duration::from_secs(8);

/// What the first process inside hears of.
const HEARD: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGCHLD];

/// What the hidden command `__shim` runs. Never returns.
pub fn main_shim() -> ! {
    let code = match reexec::parent_channel() {
        Ok(channel) => run(&channel),
        Err(_) => 2,
    };
    std::process::exit(code)
}

fn run(channel: &Channel) -> i32 {
    let Ok(Some(order)) = channel.receive::<Order>() else { return 2 };
    // The command that asked waits for the answer only: the shim lives on without a terminal and without a
    // parent that would have to reap it.
    let _ = rustix::process::setsid();
    match syscalls::fork() {
        Ok(Fork::Parent(_)) => return 0,
        Ok(Fork::Child) => {}
        Err(error) => return answer(channel, &Err(SandboxError::io("fork in", "/proc/self", error))),
    }
    // Held until this process ends: nobody else starts anything in the folder meanwhile.
    let _held = match unit::hold(&order.folder) {
        Ok(held) => held,
        Err(error) => return answer(channel, &Err(error)),
    };
    // Before the namespaces are made that only children of this process are to be in.
    let check = order.spec.main.as_ref().and_then(|main| main.check.as_ref());
    let checker = match check.map(|check| Checker::new(check, &order.spec.network)) {
        None => None,
        Some(Ok(checker)) => Some(checker),
        Some(Err(error)) => return answer(channel, &Err(error)),
    };
    let group = match setup::prepare(&order.spec, order.rootless) {
        Ok(group) => group,
        Err(error) => return answer(channel, &Err(error)),
    };
    let (first, output) = match start_first(&order, &group) {
        Ok(started) => started,
        Err(error) => {
            group.remove();
            return answer(channel, &Err(error));
        }
    };
    let answered = unit::running_now(first, order.rootless, group.clone()).and_then(|running| {
        unit::write_running(&order.folder, &running)?;
        Ok(running)
    });
    let failed = answered.is_err();
    answer(channel, &answered);
    if failed {
        let _ = rustix::process::kill_process(first, Signal::KILL);
    }
    if let (Some(checker), Ok(running)) = (&checker, &answered) {
        checker.begin(running, &order.folder);
    }
    if let Some(output) = output {
        output::keep(output, &order.folder);
    }
    let ended = wait(first);
    drop(checker);
    group.remove();
    unit::remove_group(&order.folder);
    let _ = unit::write_exit(&order.folder, &Exit { ended });
    0
}

fn answer(channel: &Channel, answer: &Answer) -> i32 {
    let _ = channel.send(answer);
    channel.hang_up();
    i32::from(answer.is_err())
}

/// Starts the first process of the sandbox, and waits until its root stands and what it is there for has begun. Gives
/// what that writes.
fn start_first(order: &Order, group: &Cgroup) -> Result<(Pid, Option<PipeReader>), SandboxError> {
    let io = |error: std::io::Error| SandboxError::io("start", "the first process", error);
    let filters = Filters::compile()?;
    let (ours, theirs) = Channel::pair().map_err(io)?;
    let (output, written) = match order.spec.main {
        Some(_) => std::io::pipe().map(|(reader, writer)| (Some(reader), Some(writer))).map_err(io)?,
        None => (None, None),
    };
    match syscalls::fork().map_err(io)? {
        Fork::Parent(first) => {
            drop(theirs);
            drop(written);
            match ours.receive::<Result<(), SandboxError>>().map_err(io)? {
                Some(Ok(())) => Ok((first, output)),
                refused => {
                    let _ = rustix::process::kill_process(first, Signal::KILL);
                    wait(first);
                    Err(match refused {
                        Some(Err(error)) => error,
                        _ => SandboxError::EndedEarly,
                    })
                }
            }
        }
        Fork::Child => {
            drop(ours);
            drop(output);
            let started = become_first(order, group, &filters, written);
            // From here on nothing that it is asked is lost.
            let signals = syscalls::block_signals(&HEARD).and_then(|()| syscalls::signal_descriptor(&HEARD));
            let ready = started.as_ref().map(|_| ()).map_err(Clone::clone);
            // If the shim is gone, so is the reason to live.
            let (Ok(()), Ok(main), Ok(signals)) = (theirs.send(&ready), started, signals) else {
                std::process::exit(1)
            };
            drop(theirs);
            reap(&signals, main)
        }
    }
}

/// Gives the process that the sandbox is there for, and the signal that asks it to end.
fn become_first(
    order: &Order,
    group: &Cgroup,
    filters: &Filters,
    written: Option<PipeWriter>,
) -> Result<Option<(Pid, Signal)>, SandboxError> {
    let scratch = order.folder.join("root");
    fs::create_dir_all(&scratch).map_err(|error| SandboxError::io("make", &scratch, error))?;
    setup::become_first(&order.spec, &scratch, order.rootless, group)?;
    let main = match (&order.spec.main, written) {
        (Some(main), Some(written)) => {
            let process = exec::start_writing(&main.process, filters, order.rootless, written)?;
            Some((process, Signal::from_named_raw(main.stop_signal).unwrap_or(Signal::TERM)))
        }
        _ => None,
    };
    privileges::bound_capabilities()?;
    privileges::drop_capabilities()?;
    if order.rootless {
        // A process that gained a user namespace is closed to its own user outside, who has to enter it.
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)
            .map_err(|error| SandboxError::io("open to its user", "/proc/self", error))?;
    }
    filters.install()?;
    Ok(main)
}

/// The first process inside: reaps what is left to it. Asked to end, it asks the main process, and ends with that; or
/// without one, it asks everything inside, waits, and ends. With it the kernel ends what is still there.
fn reap(signals: &OwnedFd, main: Option<(Pid, Signal)>) -> ! {
    let mut deadline = None;
    loop {
        let mut ready = [rustix::event::PollFd::new(signals, rustix::event::PollFlags::IN)];
        let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        let _ = rustix::event::poll(&mut ready, deadline.map(|_| &timeout));
        let mut buffer = [0_u8; 128 * 4];
        while let Ok(read @ 128..) = rustix::io::read(signals, &mut buffer) {
            let asked = buffer[..read].chunks(128).any(|info| info[0] != libc::SIGCHLD.unsigned_abs() as u8);
            if asked && deadline.is_none() {
                // Whoever asked decides how long a main process may take.
                match main {
                    Some((main, signal)) => {
                        let _ = rustix::process::kill_process(main, signal);
                    }
                    None => {
                        deadline = Some(std::time::Instant::now() + GRACE_INSIDE);
                        let _ = rustix::process::kill_process_group(everybody(), Signal::TERM);
                    }
                }
            }
        }
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if main.is_some_and(|(main, _)| main == pid)
                && let Some(ended) = Ended::of(status)
            {
                // A first process cannot end by a signal.
                std::process::exit(ended.code());
            }
        }
        if deadline.is_some_and(|deadline| alone() || std::time::Instant::now() > deadline) {
            std::process::exit(0);
        }
    }
}

/// The "group" of process 1: as a target of kill, every process but the first.
fn everybody() -> Pid {
    Pid::INIT
}

/// Whether no other process is left inside.
fn alone() -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    !processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()).any(|pid| pid != 1)
}

fn wait(pid: Pid) -> Ended {
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => {
                if let Some(ended) = Ended::of(status) {
                    return ended;
                }
            }
            Err(rustix::io::Errno::INTR) | Ok(None) => {}
            Err(_) => return Ended::Code(-1),
        }
    }
}

/// Writes a file whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    drop(file);
    fs::rename(&new, path)
}
