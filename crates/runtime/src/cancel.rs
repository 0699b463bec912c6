//! Stopping what is under way: once asks, twice insists.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A request to stop, shared between whoever hears the user and whoever does the work.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicU8>);

impl Cancel {
    /// Asks once more: the first time to stop in order, from the second time on to stop now.
    pub fn ask(&self) {
        let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |asked| asked.checked_add(1));
    }

    /// Whether stopping was asked for.
    #[must_use]
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }

    /// Whether it was asked for a second time.
    #[must_use]
    pub fn insisted(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_time_insists() {
        let cancel = Cancel::default();
        assert!(!cancel.asked());
        cancel.clone().ask();
        assert!(cancel.asked() && !cancel.insisted());
        cancel.ask();
        assert!(cancel.insisted());
    }
}
