//! How often something may fail, and how long is waited before it is tried again.

use serde::{Deserialize, Serialize};

use super::facts::{Millis, Time};

/// The first wait; each is twice the one before.
const FIRST_WAIT: Millis = 1_000;
/// The longest wait, before chance lengthens or shortens it.
const LONGEST_WAIT: Millis = 60_000;

/// What can fail on a unit's way up and while it runs. Each has a budget of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Its image could not be pulled or built.
    Pull,
    /// It could not be made.
    Create,
    /// It could not be started.
    Start,
    /// It ended while it should run.
    Crash,
    /// It ran on, and its check failed.
    Health,
    /// It could not be stopped.
    Stop,
    /// It could not be removed.
    Remove,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Pull, Self::Create, Self::Start, Self::Crash, Self::Health, Self::Stop, Self::Remove];

    /// At which failure in a row it is left to the user. A registry may be away for an hour; that a unit cannot be
    /// made, or is never well, hardly mends itself.
    #[must_use]
    pub fn limit(self) -> u32 {
        match self {
            Self::Pull => 60,
            Self::Crash => 20,
            Self::Create | Self::Start | Self::Stop | Self::Remove => 10,
            Self::Health => 5,
        }
    }

    /// Whether the first try after a failure comes at once: what ran has shown that it can.
    fn is_retried_at_once(self) -> bool {
        matches!(self, Self::Crash | Self::Health)
    }

    /// What happened, in words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "its image cannot be had",
            Self::Create => "it cannot be made",
            Self::Start => "it cannot be started",
            Self::Crash => "it ends again and again",
            Self::Health => "its check fails again and again",
            Self::Stop => "it cannot be stopped",
            Self::Remove => "it cannot be removed",
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A number drawn by chance, so that units that fell together do not rise together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jitter(u16);

impl Jitter {
    /// Neither longer nor shorter.
    pub const NONE: Self = Self(500);

    /// From a number of 0 to 1000; more is 1000.
    #[must_use]
    pub fn new(per_mille: u16) -> Self {
        Self(per_mille.min(1000))
    }

    /// A wait of between three and five quarters of this one.
    fn apply(self, wait: Millis) -> Millis {
        wait * (750 + u64::from(self.0) / 2) / 1000
    }
}

/// How often something failed in a row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// How many times.
    pub failures: u32,
    /// When the last one was.
    pub at: Time,
    /// How long is waited after it.
    pub wait: Millis,
    /// What was said of the last one.
    pub why: String,
}

impl Budget {
    /// With one more failure.
    pub(super) fn failed(&self, fault: Fault, why: String, at: Time, jitter: Jitter) -> Self {
        let failures = self.failures.saturating_add(1);
        Self { failures, at, wait: jitter.apply(wait(fault, failures)), why }
    }

    /// Until when nothing is tried, if that is still to come. A clock that went back ends the wait.
    #[must_use]
    pub fn waits_until(&self, now: Time) -> Option<Time> {
        let until = self.at.saturating_add(self.wait);
        (self.failures > 0 && self.at <= now && now < until).then_some(until)
    }
}

/// How long is waited after so many failures in a row, before chance has its say.
#[must_use]
pub fn wait(fault: Fault, failures: u32) -> Millis {
    let doublings = match failures.checked_sub(1 + u32::from(fault.is_retried_at_once())) {
        None => return 0,
        Some(doublings) => doublings,
    };
    FIRST_WAIT.saturating_mul(2_u64.saturating_pow(doublings)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_crash_is_followed_by_a_start_at_once_and_then_by_longer_and_longer_waits() {
        let waits = |fault| (0..10).map(|failures| wait(fault, failures) / 1000).collect::<Vec<_>>();
        assert_eq!(waits(Fault::Crash), [0, 0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(waits(Fault::Health), [0, 0, 1, 2, 4, 8, 16, 32, 60, 60]);
        for fault in [Fault::Pull, Fault::Create, Fault::Start, Fault::Stop, Fault::Remove] {
            assert_eq!(waits(fault), [0, 1, 2, 4, 8, 16, 32, 60, 60, 60], "{fault}");
        }
    }

    #[test]
    fn a_clock_that_goes_back_ends_the_wait() {
        let budget = Budget::default().failed(Fault::Pull, String::new(), 10_000, Jitter::NONE);
        assert_eq!(budget.waits_until(10_000), Some(11_000));
        assert_eq!(budget.waits_until(10_999), Some(11_000));
        assert_eq!(budget.waits_until(11_000), None);
        assert_eq!(budget.waits_until(9_999), None);
    }

    proptest! {
        #[test]
        fn waits_grow_up_to_their_cap_and_chance_moves_them_by_a_quarter(
            failures in 0..u32::MAX, per_mille in 0..=2000_u16, fault in prop::sample::select(&Fault::ALL[..]),
        ) {
            let plain = wait(fault, failures);
            prop_assert!(plain <= wait(fault, failures + 1));
            prop_assert!(plain <= 60_000);
            let jittered = Jitter::new(per_mille).apply(plain);
            prop_assert!(jittered * 4 >= plain * 3 && jittered * 4 <= plain * 5);
            prop_assert_eq!(Jitter::NONE.apply(plain), plain);
        }
    }
}
