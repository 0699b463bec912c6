//! Sandboxes on Linux namespaces, overlays and control groups.
//!
//! This crate knows nothing of Setpoint's model: it is given folders, numbers and commands. A sandbox is made and
//! held by a small parent of its own (the shim), so that it survives the command that started it; a process in it
//! never survives the command that asked for it.
//!
//! The binary that uses this crate must hand its hidden commands over before it starts any thread: `__shim` to
//! [`main_shim`], `__init` to [`main_init`], `__ports` to [`main_ports`], `__check` to [`main_check`].
//!
//! `unsafe` stands in `syscalls.rs` only.

mod activation;
mod ask;
mod cgroup;
mod channel;
mod checks;
mod error;
mod exec;
mod health;
mod host_view;
mod ids;
mod network;
mod others;
mod output;
mod ports;
mod privileges;
pub mod probe;
mod reexec;
mod root;
mod setup;
mod shim;
mod spec;
mod syscalls;
mod terminal;
mod unit;

pub use activation::passed_socket;
pub use ask::{LOOPBACK, ask_from_here, ask_inside};
pub use cgroup::{Cgroup, Offer, check_limits};
pub use checks::{AskFrom, begin_checks, checker, main_check};
pub use error::SandboxError;
pub use exec::{Process, exec, exec_on_host, main_init, run};
pub use health::{Health, Status, health, tell_health};
pub use host_view::{prepare_host_base, prepare_host_layer, prepare_host_view, prepare_overlay};
pub use ids::is_rootless;
pub use network::{Bridge, Subnet, hardware_address, is_up, known_subnets, make_bridge, remove_device};
pub use others::{is_here, process_of, shares_network};
pub use output::{Output, output};
pub use ports::{Claim, Lead, PortHolder, main_ports, with_short_path};
pub use shim::main_shim;
pub use spec::{
    Ask, Check, Ended, ExecSpec, Get, Home, Interface, Io, Limits, Main, Memory, Mount, Names, Network,
    Overlay, OwnNetwork, Port, Protocol, Root, SandboxSpec, Test, User,
};
pub use terminal::{RawTerminal, attach, window};
pub use unit::{Exit, Observed, Running, is_ending, observe, set_limits, since, start, stop, watch};
