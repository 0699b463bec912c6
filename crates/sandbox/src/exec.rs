//! Running a process in a sandbox that runs, in one of its own, or on the host, such that nothing that it starts
//! outlives its caller.
//!
//! Between the caller and the process stands a supervisor, inside the sandbox's process namespace. Orphans of the
//! process come to it. While the caller holds its end of the channel, it passes on signals; when that end closes,
//! for whatever reason, it kills everything that came of the process. When the process ends by itself, what it
//! left in the background stays: it belongs to the sandbox. In a sandbox of its own the supervisor is the first
//! process, and with it everything ends.

use std::fs;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal, WaitOptions, waitpid};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use rustix::thread::ThreadNameSpaceType;
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::channel::Channel;
use crate::error::SandboxError;
use crate::privileges::{self, Filters};
use crate::spec::{Ended, ExecSpec, Io, SandboxSpec};
use crate::syscalls::{self, Fork};
use crate::unit::{self, Running};
use crate::{ids, reexec, setup};

/// What the supervisor is told.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    place: Place,
    spec: ExecSpec,
}

/// Where a process runs.
#[derive(Debug, Serialize, Deserialize)]
enum Place {
    Host,
    /// In a sandbox that runs.
    Running(Running),
    /// In one that is made for it, and ends with it.
    Own {
        sandbox: Box<SandboxSpec>,
        scratch: PathBuf,
        rootless: bool,
    },
}

/// What the supervisor says.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Started,
    Refused(SandboxError),
    Ended(Ended),
}

/// A process in a sandbox. Dropping it kills it, with all that came of it.
#[derive(Debug)]
pub struct Process {
    channel: Channel,
    supervisor: std::process::Child,
    input: Option<PipeWriter>,
    output: Option<PipeReader>,
    errors: Option<PipeReader>,
    terminal: Option<OwnedFd>,
    ended: Option<Ended>,
}

/// Runs a process in a running sandbox.
///
/// # Errors
/// If the sandbox does not run, or the program cannot be started.
pub fn exec(running: &Running, spec: &ExecSpec) -> Result<Process, SandboxError> {
    if running.rootless && spec.user.uid != 0 {
        return Err(SandboxError::SingleUser { uid: spec.user.uid });
    }
    spawn(Place::Running(running.clone()), spec)
}

/// Runs a process in a sandbox of its own, which ends with it: whatever it left in the background is killed.
/// `scratch` is a folder of the caller's for the time being, which stays empty.
///
/// # Errors
/// If the sandbox cannot be made, or the program cannot be started.
pub fn run(sandbox: &SandboxSpec, scratch: &Path, spec: &ExecSpec) -> Result<Process, SandboxError> {
    let rootless = ids::is_rootless();
    if rootless && spec.user.uid != 0 {
        return Err(SandboxError::SingleUser { uid: spec.user.uid });
    }
    spawn(Place::Own { sandbox: Box::new(sandbox.clone()), scratch: scratch.to_owned(), rootless }, spec)
}

/// Runs a process on the host, as the caller, with the same promise: nothing outlives the caller.
///
/// # Errors
/// If the program cannot be started.
pub fn exec_on_host(spec: &ExecSpec) -> Result<Process, SandboxError> {
    spawn(Place::Host, spec)
}

fn spawn(place: Place, spec: &ExecSpec) -> Result<Process, SandboxError> {
    let lost = |error: io::Error| SandboxError::io("talk to", "the supervisor", error);
    let (mut input, mut output, mut errors) = (None, None, None);
    let stdio = match spec.io {
        Io::Inherit => [Stdio::inherit(), Stdio::inherit(), Stdio::inherit()],
        Io::Terminal { .. } => [Stdio::null(), Stdio::null(), Stdio::null()],
        Io::Captured => {
            let (reader, writer) = io::pipe().map_err(lost)?;
            let errors = writer.try_clone().map_err(lost)?;
            output = Some(reader);
            [Stdio::null(), writer.into(), errors.into()]
        }
        Io::Piped => {
            let (read, write) = io::pipe().map_err(lost)?;
            let (said, says) = io::pipe().map_err(lost)?;
            let (complained, complains) = io::pipe().map_err(lost)?;
            (input, output, errors) = (Some(write), Some(said), Some(complained));
            [read.into(), says.into(), complains.into()]
        }
    };
    let (supervisor, channel) = reexec::spawn(reexec::INIT, &[], stdio).map_err(lost)?;
    let mut process = Process { channel, supervisor, input, output, errors, terminal: None, ended: None };
    process.channel.send(&Order { place, spec: spec.clone() }).map_err(lost)?;
    match process.channel.receive::<Said>().map_err(lost)? {
        Some(Said::Started) => {
            if matches!(spec.io, Io::Terminal { .. }) {
                process.terminal = Some(process.channel.receive_fd().map_err(lost)?);
            }
            Ok(process)
        }
        Some(Said::Refused(error)) => Err(error),
        Some(Said::Ended(_)) | None => Err(SandboxError::EndedEarly),
    }
}

impl Process {
    /// What it writes, if it was started as [`Io::Captured`] or [`Io::Piped`]. Gives it once.
    pub fn output(&mut self) -> Option<PipeReader> {
        self.output.take()
    }

    /// What it writes as errors, if it was started as [`Io::Piped`]. Gives it once.
    pub fn errors(&mut self) -> Option<PipeReader> {
        self.errors.take()
    }

    /// What it reads, if it was started as [`Io::Piped`], until this is dropped. Gives it once.
    pub fn input(&mut self) -> Option<PipeWriter> {
        self.input.take()
    }

    /// Its terminal, if it was started as [`Io::Terminal`].
    #[must_use]
    pub fn terminal(&self) -> Option<&OwnedFd> {
        self.terminal.as_ref()
    }

    /// Waits for its end for this long at most; without a time, as long as it takes.
    ///
    /// # Errors
    /// If the supervisor is lost.
    pub fn wait(&mut self, at_most: Option<Duration>) -> Result<Option<Ended>, SandboxError> {
        if self.ended.is_some() {
            return Ok(self.ended);
        }
        let mut poll = [PollFd::new(&self.channel, PollFlags::IN)];
        let timeout = at_most.map(|time| rustix::time::Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()),
        });
        match rustix::event::poll(&mut poll, timeout.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(SandboxError::io("wait for", "the supervisor", error)),
        }
        let said = self.channel.receive::<Said>();
        let _ = self.supervisor.wait();
        self.ended = match said {
            Ok(Some(Said::Ended(ended))) => Some(ended),
            // The supervisor was killed: then so was the process.
            _ => Some(Ended::Signal(libc::SIGKILL)),
        };
        Ok(self.ended)
    }

    /// Becomes readable when the process has ended.
    #[must_use]
    pub fn end(&self) -> impl AsFd + '_ {
        self.channel.as_fd()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: u8) {
        let _ = self.channel.send_signal(signal);
    }

    /// Kills it, and everything that came of it.
    pub fn kill(&self) {
        self.channel.hang_up();
    }

    /// Tells its terminal the size of the window.
    pub fn resize(&self, rows: u16, columns: u16) {
        if let Some(terminal) = &self.terminal {
            let _ = rustix::termios::tcsetwinsize(terminal, window(rows, columns));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.kill();
            let _ = self.supervisor.wait();
        }
    }
}

fn window(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// What the hidden command `__init` runs. Never returns.
pub fn main_init() -> ! {
    let code = match reexec::parent_channel() {
        Ok(channel) => match channel.receive::<Order>() {
            Ok(Some(order)) => enter(&channel, &order),
            _ => 2,
        },
        Err(_) => 2,
    };
    std::process::exit(code)
}

/// Enters the sandbox and leaves the supervisor in it; waits, so that the caller has a child to wait for.
fn enter(channel: &Channel, order: &Order) -> i32 {
    let refuse = |error: SandboxError| {
        let _ = channel.send(&Said::Refused(error));
        1
    };
    let (group, rootless) = match &order.place {
        Place::Host => return supervise(channel, &order.spec, None, false),
        Place::Running(running) => (join(running).map(|()| Cgroup::default()), running.rootless),
        Place::Own { sandbox, rootless, .. } => (setup::prepare(sandbox, *rootless), *rootless),
    };
    let (group, filters) = match (group, Filters::compile()) {
        (Ok(group), Ok(filters)) => (group, filters),
        (Err(error), _) | (_, Err(error)) => return refuse(error),
    };
    // The process namespace is entered by children only.
    match syscalls::fork() {
        Ok(Fork::Child) => {
            if let Place::Own { sandbox, scratch, rootless } = &order.place
                && let Err(error) = setup::become_first(sandbox, scratch, *rootless, &group)
            {
                return refuse(error);
            }
            supervise(channel, &order.spec, Some(&filters), rootless)
        }
        Ok(Fork::Parent(supervisor)) => {
            while matches!(waitpid(Some(supervisor), WaitOptions::empty()), Err(rustix::io::Errno::INTR)) {}
            group.remove();
            0
        }
        Err(error) => {
            group.remove();
            refuse(SandboxError::io("fork in", "the sandbox", error))
        }
    }
}

fn join(running: &Running) -> Result<(), SandboxError> {
    let process = unit::open(running)?;
    running.cgroup.join()?;
    let mut namespaces = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::PROCESS_ID;
    // The host's own network cannot be "entered" by an ordinary user, nor need it be.
    let network = |of: &str| fs::read_link(format!("/proc/{of}/ns/net")).ok();
    if network("self") != network(&running.pid.to_string()) {
        namespaces |= ThreadNameSpaceType::NETWORK;
    }
    if running.rootless {
        namespaces |= ThreadNameSpaceType::USER;
    }
    rustix::thread::move_into_thread_name_spaces(process.as_fd(), namespaces)
        .map_err(|error| SandboxError::io("enter", format!("/proc/{}/ns", running.pid), error))
}

fn supervise(channel: &Channel, spec: &ExecSpec, filters: Option<&Filters>, rootless: bool) -> i32 {
    match start(spec, filters, rootless) {
        Err(error) => {
            let _ = channel.send(&Said::Refused(error));
            1
        }
        Ok((process, terminal)) => {
            let mut told = channel.send(&Said::Started);
            if let (Ok(()), Some(terminal)) = (&told, &terminal) {
                told = channel.send_fd(terminal.as_fd());
            }
            drop(terminal);
            if spec.io != Io::Inherit {
                // Nothing but the process itself may hold its output open.
                release_stdio();
            }
            let ended = watch(channel, process, told.is_err(), spec.io == Io::Inherit);
            let _ = channel.send(&Said::Ended(ended));
            0
        }
    }
}

fn release_stdio() {
    if let Ok(null) = fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

/// Starts a process as a child of this one, which writes to this pipe.
pub(crate) fn start_writing(
    spec: &ExecSpec,
    filters: &Filters,
    rootless: bool,
    written: PipeWriter,
) -> Result<Pid, SandboxError> {
    let io = |error: rustix::io::Errno| SandboxError::io("start", "the process", error);
    rustix::stdio::dup2_stdout(&written).map_err(io)?;
    rustix::stdio::dup2_stderr(&written).map_err(io)?;
    drop(written);
    let started = start(spec, Some(filters), rootless);
    release_stdio();
    started.map(|(process, _)| process)
}

/// Starts the process as a child; gives the terminal's outer side, if it has one.
fn start(
    spec: &ExecSpec,
    filters: Option<&Filters>,
    rootless: bool,
) -> Result<(Pid, Option<OwnedFd>), SandboxError> {
    let io = |error: io::Error| SandboxError::io("start", "the process", error);
    let _ = rustix::process::set_child_subreaper(Some(Pid::INIT));
    syscalls::block_signals(&[libc::SIGCHLD]).map_err(io)?;
    let terminal = match spec.io {
        Io::Terminal { rows, columns } => Some(open_terminal(rows, columns).map_err(io)?),
        Io::Inherit | Io::Captured | Io::Piped => None,
    };
    let (failure, tell) = io::pipe().map_err(io)?;
    match syscalls::fork().map_err(io)? {
        Fork::Parent(process) => {
            drop(tell);
            // The pipe closes by itself when the program begins.
            let told: Option<SandboxError> = serde_json::from_reader(failure).ok();
            match told {
                None => Ok((process, terminal.map(|(outer, _)| outer))),
                Some(error) => {
                    let _ = waitpid(Some(process), WaitOptions::empty());
                    Err(error)
                }
            }
        }
        Fork::Child => {
            drop(failure);
            let error = become_process(spec, filters, rootless, terminal.map(|(_, inner)| inner));
            let _ = serde_json::to_writer(tell, &error);
            std::process::exit(127)
        }
    }
}

fn open_terminal(rows: u16, columns: u16) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let outer = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&outer)?;
    let inner = rustix::pty::ioctl_tiocgptpeer(&outer, flags)?;
    rustix::termios::tcsetwinsize(&outer, window(rows, columns))?;
    Ok((outer, inner))
}

/// Gives up what the process may not have, and becomes the program. Returns only if that failed.
fn become_process(
    spec: &ExecSpec,
    filters: Option<&Filters>,
    rootless: bool,
    terminal: Option<OwnedFd>,
) -> SandboxError {
    let prepare = || -> Result<(), SandboxError> {
        let io = |error: io::Error| SandboxError::io("give a terminal to", &spec.argv[0], error);
        if spec.io != Io::Inherit {
            let _ = rustix::process::setsid();
        }
        if let Some(terminal) = &terminal {
            syscalls::control_terminal(terminal.as_fd()).map_err(io)?;
            let dup = |result: rustix::io::Result<()>| result.map_err(|error| io(error.into()));
            dup(rustix::stdio::dup2_stdin(terminal))?;
            dup(rustix::stdio::dup2_stdout(terminal))?;
            dup(rustix::stdio::dup2_stderr(terminal))?;
            let _ = std::os::unix::fs::fchown(terminal, Some(spec.user.uid), None);
        }
        if let Some(filters) = filters {
            privileges::bound_capabilities()?;
            become_user(spec, rootless)?;
            filters.install()?;
        }
        rustix::process::chdir(&spec.cwd).map_err(|error| SandboxError::io("enter", &spec.cwd, error))
    };
    if spec.argv.is_empty() {
        return SandboxError::Exec { program: String::new(), errno: libc::ENOENT };
    }
    if let Err(error) = prepare() {
        return error;
    }
    syscalls::unblock_signals();
    let mut command = Command::new(&spec.argv[0]);
    command.args(&spec.argv[1..]).env_clear().envs(spec.env.iter().map(|(key, value)| (key, value)));
    let error = command.exec();
    SandboxError::Exec { program: spec.argv[0].clone(), errno: error.raw_os_error().unwrap_or(libc::EIO) }
}

fn become_user(spec: &ExecSpec, rootless: bool) -> Result<(), SandboxError> {
    use rustix::process::{Gid, Uid};
    let user = &spec.user;
    let error = |error: rustix::io::Errno| SandboxError::io("become", format!("user {}", user.uid), error);
    if user.uid != 0 || user.gid != 0 || !user.groups.is_empty() || !rootless {
        let groups: Vec<_> = user.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        if !rootless {
            rustix::thread::set_thread_groups(&groups).map_err(error)?;
        }
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(error)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(error)?;
    }
    privileges::drop_capabilities()
}

/// Waits for the process, passing on signals; kills everything when the caller is gone. Gives how it ended.
fn watch(channel: &Channel, process: Pid, mut orphaned: bool, in_group: bool) -> Ended {
    let Ok(children) = syscalls::signal_descriptor(&[libc::SIGCHLD]) else { return Ended::Code(-1) };
    let mut ended = None;
    loop {
        if orphaned {
            kill_tree();
        } else {
            let mut poll =
                [PollFd::new(&children, PollFlags::IN), PollFd::new(channel, PollFlags::IN | PollFlags::HUP)];
            let _ = rustix::event::poll(&mut poll, None);
            let heard = !poll[1].revents().is_empty();
            if heard {
                match channel.receive_signal() {
                    Ok(Some(signal)) => pass_on(process, signal, in_group),
                    Ok(None) | Err(_) => orphaned = true,
                }
            }
            let mut infos = [0_u8; 128 * 4];
            while rustix::io::read(&children, &mut infos).is_ok_and(|read| read > 0) {}
        }
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == process => ended = Ended::of(status).or(ended),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return ended.unwrap_or(Ended::Code(-1)),
            }
        }
        if let (Some(ended), false) = (ended, orphaned) {
            return ended;
        }
    }
}

fn pass_on(process: Pid, signal: u8, in_group: bool) {
    let Some(signal) = Signal::from_named_raw(i32::from(signal)) else { return };
    let _ = if in_group {
        rustix::process::kill_process(process, signal)
    } else {
        rustix::process::kill_process_group(process, signal)
    };
}

/// Kills every child, and, as their orphans come to this process, the children of those, until none is left.
fn kill_tree() {
    let own = std::process::id();
    let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
        let _ = rustix::process::kill_process(child, Signal::KILL);
    }
    std::thread::sleep(Duration::from_millis(1));
}
