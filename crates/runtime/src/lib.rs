//! All of Setpoint's effects but the terminal.

pub mod cas;
pub mod lock;
pub mod paths;
pub mod store;
