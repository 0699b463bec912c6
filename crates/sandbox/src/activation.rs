//! A socket that whoever started this process listens on already, as systemd passes it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::syscalls;

/// The first descriptor that is passed.
const FIRST: i32 = 3;

/// The socket that was passed to this process, once; nothing if none was. What is passed to another process, or together
/// with others, is nobody's here.
///
/// # Errors
/// If it was passed and is not open.
pub fn passed_socket() -> io::Result<Option<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let says = |name: &str, wanted: &str| std::env::var(name).is_ok_and(|value| value == wanted);
    let is_mine = says("LISTEN_PID", &std::process::id().to_string()) && says("LISTEN_FDS", "1");
    if !is_mine || TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(None);
    }
    syscalls::inherited(FIRST).map(Some)
}
