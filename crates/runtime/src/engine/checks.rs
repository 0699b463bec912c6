//! Health checks as they are made by us.

use std::time::Duration;

use setpoint_model::container::{Health, HealthTest};
use setpoint_sandbox as sandbox;

/// The usual times of a health check, which are Docker's.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

/// A check that does this, at the times that are declared.
pub(super) fn check(test: sandbox::Test, declared: &Health) -> sandbox::Check {
    // As on Docker, nothing at all is the usual.
    let some = |time: Option<Duration>| time.filter(|time| !time.is_zero());
    sandbox::Check {
        test,
        interval: some(declared.interval).unwrap_or(INTERVAL),
        timeout: some(declared.timeout).unwrap_or(TIMEOUT),
        retries: declared.retries.filter(|retries| *retries > 0).unwrap_or(RETRIES),
        start_period: declared.start_period.unwrap_or_default(),
        start_interval: some(declared.start_interval).unwrap_or(START_INTERVAL),
    }
}

/// Whom a check asks, if it asks.
pub(super) fn asks(test: &HealthTest) -> Option<sandbox::Ask> {
    match test {
        HealthTest::Tcp { port } => Some(sandbox::Ask { port: *port, get: None }),
        HealthTest::Http { port, path, status } => {
            let get = sandbox::Get { path: path.clone(), status: *status };
            Some(sandbox::Ask { port: *port, get: Some(get) })
        }
        HealthTest::Off | HealthTest::Exec(_) | HealthTest::Shell(_) => None,
    }
}

/// What a check says, as the process tells it that makes it.
pub(super) fn says(status: sandbox::Status) -> super::Health {
    match status {
        sandbox::Status::Starting => super::Health::Starting,
        sandbox::Status::Healthy => super::Health::Healthy,
        sandbox::Status::Unhealthy => super::Health::Unhealthy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_declared_or_nothing_is_the_usual() {
        let test = || sandbox::Test::Ask(sandbox::Ask { port: 80, get: None });
        let none = Some(Duration::ZERO);
        let zeros = Health { interval: none, timeout: none, retries: Some(0), ..Health::default() };
        let usual = check(test(), &Health::default());
        assert_eq!(check(test(), &zeros), usual);
        assert_eq!((usual.interval, usual.timeout, usual.retries), (INTERVAL, TIMEOUT, RETRIES));
        let second = Duration::from_secs(1);
        let declared = Health { interval: Some(second), retries: Some(7), ..Health::default() };
        let declared = check(test(), &declared);
        assert_eq!((declared.interval, declared.timeout, declared.retries), (second, TIMEOUT, 7));
    }
}
