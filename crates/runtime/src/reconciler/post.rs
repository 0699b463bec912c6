//! One daemon for a state, and how others tell it that something has changed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

use super::ReconcilerError;
use crate::paths::Roots;

const LOCK: &str = "daemon.lock";
const SOCKET: &str = "daemon.sock";
/// How long it may take to ask whether there is a daemon.
const ASKED: Duration = Duration::from_millis(100);
/// How long a daemon may take to end.
const ENDS: Duration = Duration::from_secs(30);

/// The right to be the daemon of a state, and what wakes it.
#[derive(Debug)]
pub struct Post {
    socket: UnixDatagram,
    // Let go last: whoever takes it next makes a socket of his own.
    _lock: File,
}

impl Post {
    /// Takes the place of the daemon.
    ///
    /// # Errors
    /// [`ReconcilerError::Running`] if somebody has it; [`ReconcilerError::Io`] if a file of its own cannot be used.
    pub fn take(roots: &Roots) -> Result<Self, ReconcilerError> {
        let failed = |source: io::Error| ReconcilerError::Io { path: roots.state.join(SOCKET), source };
        crate::paths::make_private_folder(&roots.state).map_err(failed)?;
        let lock = lock_file(roots).map_err(failed)?;
        let began = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                // Somebody may just be asking whether there is one.
                Err(TryLockError::WouldBlock) if began.elapsed() < ASKED => std::thread::sleep(ASKED / 10),
                Err(TryLockError::WouldBlock) => return Err(ReconcilerError::Running),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        let mut file = &lock;
        let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(failed)?;
        // What a daemon left that was killed.
        match std::fs::remove_file(roots.state.join(SOCKET)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let socket = with_short_path(roots, SOCKET, UnixDatagram::bind).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        Ok(Self { socket, _lock: lock })
    }

    /// Waits until somebody tells of a change, for this time at most; says whether somebody did.
    pub(super) fn wait(&self, at_most: Duration) -> bool {
        let mut polled = [PollFd::new(&self.socket, PollFlags::IN)];
        let _ = poll(&mut polled, Timespec::try_from(at_most).ok().as_ref());
        let mut heard = false;
        while self.socket.recv(&mut [0; 16]).is_ok() {
            heard = true;
        }
        heard
    }
}

/// Whether a daemon runs on a state.
#[must_use]
pub fn is_running(roots: &Roots) -> bool {
    // Asking leaves nothing behind.
    let lock = File::open(roots.state.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Asks the daemon of a state to end, if one runs, and waits until it has; says whether one ran. What it keeps runs on.
///
/// # Errors
/// If it cannot be asked, or does not end.
pub fn end(roots: &Roots) -> io::Result<bool> {
    if !is_running(roots) {
        return Ok(false);
    }
    let text = std::fs::read_to_string(roots.state.join(LOCK))?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("it has not said which process it is"))?;
    match kill_process(pid, Signal::TERM) {
        Err(error) if error != rustix::io::Errno::SRCH => return Err(error.into()),
        _ => {}
    }
    let began = Instant::now();
    while is_running(roots) {
        if began.elapsed() > ENDS {
            return Err(io::Error::other(format!("process {} does not end", text.trim())));
        }
        std::thread::sleep(ASKED / 10);
    }
    Ok(true)
}

/// Tells the daemon of a state that something has changed, if one runs.
pub fn tell(roots: &Roots) {
    // It looks by itself now and then; nobody is kept waiting for it.
    let _ = with_short_path(roots, SOCKET, |path| UnixDatagram::unbound()?.send_to(b"changed", path));
}

fn lock_file(roots: &Roots) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(roots.state.join(LOCK))
}

/// A socket of the state by a path that is short enough to be a socket's, wherever the state lies.
///
/// # Errors
/// What `act` gives, or if the folder of the state cannot be opened.
pub fn with_short_path<T>(
    roots: &Roots,
    socket: &str,
    act: impl FnOnce(PathBuf) -> io::Result<T>,
) -> io::Result<T> {
    let folder = File::open(&roots.state)?;
    act(PathBuf::from(format!("/proc/self/fd/{}/{socket}", folder.as_raw_fd())))
}
