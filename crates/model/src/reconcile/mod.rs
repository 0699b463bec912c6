//! What keeps a unit as it is declared: from what is wanted, what is being done and what was observed to what is to be
//! done next, and to what is shown.
//!
//! Whoever keeps a unit observes it, asks [`decide`], stores the [`History`] that it gives, and does what it says
//! through the plan. How an operation ended is told by [`History::record`]. Nothing here has a clock: time comes in.

mod alarm;
mod budget;
mod button;
mod decide;
mod decision;
mod facts;
mod history;
mod outlook;
mod standing;
mod state;

pub use alarm::{Alarm, Plight};
pub use budget::{Budget, Fault, Jitter, wait};
pub use button::{Button, Does, button, second};
pub use decide::decide;
pub use decision::{Action, Cause, Decision, Reason};
pub use facts::{
    Actor, Awaited, Health, Intent, Millis, Observed, Operation, Phase, Rules, Seen, Situation, Time, Wish,
};
pub use history::{Event, History, remember};
pub use standing::{Standing, standing};
pub use state::{State, StoppedBy, displayed};

#[cfg(test)]
mod properties_tests;
#[cfg(test)]
mod support;
#[cfg(test)]
mod world_tests;
