//! When a project is looked at: soon after a change, not all the time where something changes all the time, and now and
//! then anyway.

use std::time::{Duration, Instant};

/// How long it has to be quiet after a change.
const QUIET: Duration = Duration::from_millis(100);
/// How much later than the first change a look is at most, for want of quiet.
const LATEST: Duration = Duration::from_secs(1);
/// The longest distance between looks at what changes all the time: twice that long without a change, and the next one
/// is looked at soon again.
const CALM: Duration = Duration::from_secs(5);
/// How often is looked at what is not watched, and at what is: not all that counts is a file of the project.
const UNWATCHED: Duration = Duration::from_secs(30);
const WATCHED: Duration = Duration::from_secs(600);

/// When a project is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// The next look.
    next: Instant,
    last: Option<Instant>,
    /// The first change since the last look.
    changed: Option<Instant>,
    /// The distance that is kept to the last look.
    distance: Duration,
}

impl Pace {
    /// The first look is at once.
    pub(super) fn new(now: Instant) -> Self {
        Self { next: now, last: None, changed: None, distance: QUIET }
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next <= now
    }

    /// A file has changed, or something was recorded.
    pub(super) fn changed(&mut self, now: Instant) {
        // Since the last look nothing has changed until now.
        let was_calm = |last: Instant| now.saturating_duration_since(last) > self.distance * 2;
        if self.changed.is_none() && self.last.is_some_and(was_calm) {
            self.distance = QUIET;
        }
        let first = *self.changed.get_or_insert(now);
        let earliest = self.last.map_or(now, |last| last + self.distance);
        self.next = (now + QUIET).min(first + LATEST).max(earliest);
    }

    /// It was looked at, and is watched or not.
    pub(super) fn looked(&mut self, now: Instant, is_watched: bool) {
        if self.changed.take().is_some() {
            self.distance = (self.distance * 2).min(CALM);
        }
        self.last = Some(now);
        self.next = now + if is_watched { WATCHED } else { UNWATCHED };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often is looked within this time, where a file changes as often as this.
    fn looks(every: Duration, within: Duration) -> u32 {
        let began = Instant::now();
        let (mut pace, mut looks, mut at) = (Pace::new(began), 0, Duration::ZERO);
        while at < within {
            let now = began + at;
            if pace.is_due(now) {
                pace.looked(now, true);
                looks += 1;
            }
            if at.as_millis().is_multiple_of(every.as_millis()) && at > Duration::ZERO {
                pace.changed(now);
            }
            at += Duration::from_millis(10);
        }
        looks
    }

    #[test]
    fn a_change_is_looked_at_soon_and_a_burst_of_them_once() {
        let began = Instant::now();
        let mut pace = Pace::new(began);
        assert!(pace.is_due(began));
        pace.looked(began, true);
        assert_eq!(pace.next(), began + WATCHED);
        let later = began + Duration::from_secs(20);
        (0..5).for_each(|n| pace.changed(later + n * Duration::from_millis(50)));
        assert_eq!(pace.next(), later + Duration::from_millis(300));
        // It is never quiet: looked at anyway.
        (0..100).for_each(|n| pace.changed(later + n * Duration::from_millis(50)));
        assert_eq!(pace.next(), later + LATEST);
        pace.looked(later, false);
        assert_eq!(pace.next(), later + UNWATCHED);
    }

    #[test]
    fn what_changes_all_the_time_is_looked_at_now_and_then() {
        let minute = Duration::from_secs(60);
        let noisy = looks(Duration::from_millis(50), minute);
        assert!((12..25).contains(&noisy), "{noisy}");
        // Who saves every quarter of a minute hears of each at once.
        assert_eq!(looks(Duration::from_secs(15), minute), 4);
    }
}
