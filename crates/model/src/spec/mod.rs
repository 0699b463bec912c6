//! Specs: acceptance criteria, each tied to the tests that prove it, or said to be a gap.
//!
//! Everything here is a function of values: the text of a spec, what a runner printed, what is remembered. Who runs what
//! is another room's.

pub mod coverage;
mod criterion;
mod file;
mod listing;
mod names;
mod reference;
mod report;
mod requirement;
pub mod runner;
mod scaffold;
mod verdict;

pub use criterion::{Cited, Criterion, Proof, Spec};
pub use file::{json_schema, parse};
pub use listing::{Listed, Listing, Unresolved};
pub use names::{CriterionNumber, SpecId};
pub use reference::{Reference, Runner};
pub use report::{Outcome, Report, ReportError};
pub use requirement::Requirement;
pub use scaffold::scaffold;
pub use verdict::{Cause, Known, State, Verdict, judge};

/// The folder of a project's specs.
pub const FOLDER: &str = "specs";
