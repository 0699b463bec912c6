//! One daemon for a state, and how others tell it that something has changed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use setpoint_sandbox::with_short_path;

use super::ReconcilerError;
use crate::paths::Roots;

const LOCK: &str = "daemon.lock";
const SOCKET: &str = "daemon.sock";
const CHANGED: &[u8] = b"changed";
const END: &[u8] = b"end";
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
        // For people who look for the process.
        let mut file = &lock;
        let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(failed)?;
        // What a daemon left that was killed.
        match std::fs::remove_file(roots.state.join(SOCKET)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let socket = with_short_path(&roots.state.join(SOCKET), UnixDatagram::bind).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        Ok(Self { socket, _lock: lock })
    }

    /// Waits until somebody tells something, for this time at most.
    pub(super) fn wait(&self, at_most: Duration) -> Heard {
        let mut polled = [PollFd::new(&self.socket, PollFlags::IN)];
        let _ = poll(&mut polled, Timespec::try_from(at_most).ok().as_ref());
        let (mut heard, mut text) = (Heard::Nothing, [0; 16]);
        while let Ok(length) = self.socket.recv(&mut text) {
            match &text[..length] {
                text if text == END => heard = Heard::End,
                _ if heard == Heard::Nothing => heard = Heard::Change,
                _ => {}
            }
        }
        heard
    }
}

/// What a daemon was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing.
    Nothing,
    /// That something has changed.
    Change,
    /// That it is to end.
    End,
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
    let began = Instant::now();
    while is_running(roots) {
        if began.elapsed() > ENDS {
            return Err(io::Error::other("it does not end"));
        }
        // One that has only just begun does not listen yet.
        say(roots, END);
        std::thread::sleep(ASKED / 10);
    }
    Ok(true)
}

/// Tells the daemon of a state that something has changed, if one runs.
pub fn tell(roots: &Roots) {
    say(roots, CHANGED);
}

fn say(roots: &Roots, what: &[u8]) {
    // It looks by itself now and then; nobody is kept waiting for it.
    let _ = with_short_path(&roots.state.join(SOCKET), |path| {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to(what, path)
    });
}

fn lock_file(roots: &Roots) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(roots.state.join(LOCK))
}
