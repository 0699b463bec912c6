//! What happens while a plan is applied, told to whoever shows it.

use std::time::Duration;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The unit is busy; this is who holds it.
    Waiting {
        /// The holder, as it named itself.
        holder: String,
    },
    /// A step began.
    Began {
        /// The phase: `create`, `pack uv`, `post_create`.
        phase: String,
        /// What it does, in a few words: the command, the base.
        detail: String,
    },
    /// A line of output of the step under way.
    Output {
        /// The phase that it belongs to.
        phase: String,
        /// The line, without its end; secrets are masked.
        line: String,
    },
    /// Bytes of a download arrived.
    Bytes {
        /// How many so far.
        done: u64,
        /// How many there will be, where it is known.
        total: Option<u64>,
    },
    /// A step ended well.
    Done {
        /// The phase.
        phase: String,
        /// What it did, in a few words.
        detail: String,
        /// How long it took.
        took: Duration,
    },
    /// A step failed.
    Failed {
        /// The phase.
        phase: String,
        /// What it did, in a few words.
        detail: String,
        /// How it ended: `exit 1`.
        how: String,
        /// How long it took.
        took: Duration,
    },
    /// These phases were not reached.
    NotRun {
        /// The phases, in order.
        phases: Vec<String>,
    },
}

/// Hears events, from several threads.
pub trait Watcher: Sync {
    /// An event happened.
    fn event(&self, event: &Event);
}

/// Hears nothing.
pub struct Deaf;

impl Watcher for Deaf {
    fn event(&self, _: &Event) {}
}
