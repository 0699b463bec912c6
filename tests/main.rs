//! Drives the real binary on the real embedded engine, and looks at what it did: what ran, what it said, and what it
//! left behind.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(unreachable_pub, reason = "nobody depends on a test")]

mod architecture;
mod changes;
mod concurrency;
mod crashes;
mod failures;
mod harness;
mod inside;
mod leaks;
mod matrix;
mod mistakes;
mod rootless;
mod session;
