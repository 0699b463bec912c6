//! Joining the caller's terminal to a process's own.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags};
use rustix::termios::{OptionalActions, Termios};

use crate::error::SandboxError;
use crate::exec::Process;
use crate::spec::Ended;

/// A terminal that passes on every key as it is, until this is dropped.
pub struct RawTerminal(Option<Termios>);

impl RawTerminal {
    /// Sets this process's terminal so; where input comes from something else, there is nothing to change.
    ///
    /// # Errors
    /// If the terminal cannot be set.
    pub fn new() -> Result<Self, SandboxError> {
        let failed = |error: rustix::io::Errno| SandboxError::io("set", "the terminal", error);
        let input = rustix::stdio::stdin();
        if !rustix::termios::isatty(input) {
            return Ok(Self(None));
        }
        let before = rustix::termios::tcgetattr(input).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(input, OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}

/// The size of the caller's window, as rows and columns; 24 by 80 where there is none.
#[must_use]
pub fn window() -> (u16, u16) {
    rustix::termios::tcgetwinsize(rustix::stdio::stdout()).map_or((24, 80), |size| (size.ws_row, size.ws_col))
}

/// Passes keys, output and the window's size between the caller's terminal and the process's, until it ends.
/// `resized` is set by the caller whenever the window changed.
///
/// # Errors
/// If the process has no terminal of its own, or the caller's cannot be used.
pub fn attach(process: &mut Process, resized: &Arc<AtomicBool>) -> Result<Ended, SandboxError> {
    let failed = |error: io::Error| SandboxError::io("use", "the terminal", error);
    let inside = process.terminal().ok_or_else(|| failed(io::Error::other("the process has none")))?;
    let inside = inside.try_clone().map_err(failed)?;
    let raw = RawTerminal::new()?;
    let (stdin, stdout) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    let mut buffer = [0_u8; 8192];
    let mut keys_end = false;
    loop {
        if resized.swap(false, Ordering::SeqCst) {
            let (rows, columns) = window();
            process.resize(rows, columns);
        }
        let mut poll = [PollFd::new(&inside, PollFlags::IN), PollFd::new(&stdin, PollFlags::IN)];
        let heard = if keys_end { &mut poll[..1] } else { &mut poll[..] };
        match rustix::event::poll(heard, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.map_err(|error| failed(error.into()))?,
        };
        let (shown, typed) = (poll[0].revents(), poll[1].revents());
        if !shown.is_empty() {
            // The terminal reports an error when its last user is gone.
            match rustix::io::read(&inside, &mut buffer) {
                Ok(0) | Err(rustix::io::Errno::IO) => break,
                Ok(read) => write_all(stdout, &buffer[..read]).map_err(failed)?,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
        if !keys_end && !typed.is_empty() {
            match rustix::io::read(stdin, &mut buffer) {
                Ok(0) | Err(_) => keys_end = true,
                Ok(read) => write_all(inside.as_fd(), &buffer[..read]).map_err(failed)?,
            }
        }
    }
    drop(raw);
    loop {
        if let Some(ended) = process.wait(None)? {
            return Ok(ended);
        }
    }
}

fn write_all(to: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&to, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
