//! Pipelines: what a step is, what it depends on, what its result is a function of, and when it may run.
//!
//! Whatever a pipeline is written in, it comes here as one [`ir::Pipeline`].

pub mod graph;
pub mod ir;
pub mod key;
pub mod outcome;
pub mod schedule;
pub mod services;
pub mod when;
