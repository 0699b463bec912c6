//! How each runner is asked for its tests, and what it answers: command lines and texts, as values.

pub mod cargo;
pub mod go;
pub mod pytest;
pub mod vitest;

/// The bytes that one argument of a command may have, with room to spare: the kernel takes 128 KiB.
const ARGUMENT: usize = 100_000;

/// An answer that is not what the runner says elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the list of tests cannot be read: {0}")]
pub struct BadListing(pub String);
