//! The pure core of Setpoint: what is declared, what differs, what to do, and why.
//!
//! This crate never reads a file, a clock, an environment variable or a random number: time, ids and
//! digests of files come in as arguments. So every rule here is a function of values, and is tested as one.

pub mod adoption;
pub mod backup;
pub mod capabilities;
mod circle;
pub mod container;
pub mod desired;
pub mod digest;
pub mod dockerfile;
pub mod dockerignore;
pub mod doctor;
pub mod explain;
pub mod fingerprint;
pub mod import;
pub mod manifest;
pub mod names;
pub mod pipeline;
pub mod plan;
pub mod reconcile;
pub mod release;
pub mod spec;
pub mod template;
