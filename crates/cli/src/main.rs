//! The `setpoint` binary: the hidden children first, then the command line.

mod api;
mod commands;
mod context;
mod error;
mod events;
mod json;
mod output;
mod run_view;
mod spec_view;

use std::process::ExitCode;

fn main() -> ExitCode {
    // A sandbox's first process and its shim are this same binary: they must be themselves before a thread,
    // a signal handler or an argument parser exists.
    match std::env::args_os().nth(1).as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("__init") => setpoint_sandbox::main_init(),
        Some("__shim") => setpoint_sandbox::main_shim(),
        Some("__ports") => setpoint_sandbox::main_ports(),
        Some("__check") => setpoint_sandbox::main_check(),
        _ => commands::run(),
    }
}
