//! What happened, in order: a bounded ring that readers go through at their own pace.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// How many events are kept.
const KEPT: usize = 1024;

/// An event that is kept.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) seq: u64,
    pub(super) kind: &'static str,
    pub(super) json: Arc<str>,
}

/// What a reader finds after a place.
#[derive(Debug)]
pub(super) struct Found {
    /// Whether events before them are not there any more.
    pub(super) gap: bool,
    pub(super) events: Vec<Kept>,
}

/// What happened.
pub(crate) struct Feed {
    /// Tells this daemon's numbers from an earlier one's.
    boot: String,
    ring: Mutex<VecDeque<Kept>>,
    /// The number of the last event.
    last: watch::Sender<u64>,
}

impl Feed {
    pub(crate) fn new(boot: String) -> Self {
        Self { boot, ring: Mutex::default(), last: watch::Sender::new(0) }
    }

    /// Adds an event. `json` is one line.
    pub(super) fn add(&self, kind: &'static str, json: &str) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let seq = ring.back().map_or(1, |last| last.seq + 1);
        ring.push_back(Kept { seq, kind, json: json.into() });
        if ring.len() > KEPT {
            ring.pop_front();
        }
        drop(ring);
        self.last.send_replace(seq);
    }

    /// The name of an event.
    pub(super) fn id(&self, seq: u64) -> String {
        format!("{}-{seq}", self.boot)
    }

    /// The number of the last event, as it changes.
    pub(super) fn last(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// The place that a reader was at by this name; nothing if it is another daemon's, or no name at all.
    pub(super) fn place(&self, id: &str) -> Option<u64> {
        let (boot, seq) = id.rsplit_once('-')?;
        let seq = seq.parse().ok()?;
        (boot == self.boot && seq <= *self.last.borrow()).then_some(seq)
    }

    /// The events after a place, at most so many.
    pub(super) fn after(&self, place: u64, at_most: usize) -> Found {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let first = ring.front().map_or(place + 1, |event| event.seq);
        let events = ring.iter().filter(|event| event.seq > place).take(at_most).cloned().collect();
        Found { gap: place + 1 < first, events }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seqs(feed: &Feed, place: u64) -> (bool, Vec<u64>) {
        let found = feed.after(place, 3);
        (found.gap, found.events.iter().map(|event| event.seq).collect())
    }

    #[test]
    fn a_reader_goes_on_where_it_was_and_hears_of_what_it_missed() {
        let feed = Feed::new("b".to_owned());
        assert_eq!(seqs(&feed, 0), (false, vec![]));
        (0..5).for_each(|_| feed.add("deed", "{}"));
        assert_eq!(seqs(&feed, 0), (false, vec![1, 2, 3]));
        assert_eq!(seqs(&feed, 4), (false, vec![5]));
        (0..KEPT).for_each(|_| feed.add("deed", "{}"));
        assert_eq!(seqs(&feed, 4), (true, vec![6, 7, 8]));
        assert_eq!(seqs(&feed, 5), (false, vec![6, 7, 8]));
    }

    #[test]
    fn a_place_of_another_daemon_is_none() {
        let feed = Feed::new("b".to_owned());
        feed.add("deed", "{}");
        assert_eq!(feed.place(&feed.id(1)), Some(1));
        for id in ["a-1", "b-2", "b", "b-", "", "b-x", "1"] {
            assert_eq!(feed.place(id), None, "{id}");
        }
    }
}
