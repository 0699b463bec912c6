//! Versions: which generation of a project is in effect, how another takes its place, and what is done about a change of
//! them that was cut off.

mod active;
mod recover;
#[cfg(test)]
mod recover_tests;
mod upgrade;

pub use active::Active;
pub use recover::{Decision, Undo, recover};
pub use upgrade::{Copy, Kind, Lane, Part, Step, Upgrade};
