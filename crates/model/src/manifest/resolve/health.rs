//! How it is found out whether a service is well.

use super::super::document::Document;
use super::super::env::Network;
use super::super::problem::Problem;
use super::super::shape::HealthSection;
use super::super::tree::Step;
use super::{only_one, service};
use crate::container::{Health, HealthTest};

/// What a check runs or asks: exactly one of these.
const TESTS: [&str; 3] = ["exec", "http", "tcp"];
/// What an answer by HTTP can be.
const STATUSES: std::ops::RangeInclusive<u16> = 100..=599;

/// The check that a section means, of a service in this network.
pub(super) fn check(
    section: HealthSection,
    network: Network,
    place: &[Step],
    document: &mut Document<'_>,
) -> Health {
    let at = |key: &str| [place, &[key.into()]].concat();
    let given = only_one(place, &TESTS, document, |first, second| {
        Problem::new("two-checks", format!("this check does two things: `{first}` and `{second}`"))
    });
    if given == 0 && !document.lacks(place) {
        let problem = Problem::new("missing-key", "this check says nothing of what it runs or asks");
        document.at_key(place, problem.hint("add `exec`, `http` or `tcp`"));
    }
    // What a check by HTTP says besides.
    for key in ["port", "status"] {
        if document.has(place, key) && !document.has(place, "http") && !document.lacks(place) {
            let problem = Problem::new("key-without-http", format!("`{key}` is for a check by `http`"));
            let hint = match document.has(place, "tcp") {
                true => "`tcp` is the port itself: `tcp = 5432`",
                false => "add `http`, with the path that is asked for",
            };
            document.at_key(&at(key), problem.hint(hint));
        }
    }
    if document.has(place, "http") && !document.has(place, "port") && !document.lacks(place) {
        let problem = Problem::new("missing-key", "`http` does not say which port it asks");
        document.at_key(&at("http"), problem.hint("add `port`: the one that the service listens on"));
    }
    if let Some(status) = section.status.filter(|status| !STATUSES.contains(status)) {
        let problem = Problem::new("bad-status", format!("no answer by HTTP has the status {status}"));
        document.at_value(&at("status"), problem.hint("leave it out for any of 200 to 399"));
    }
    for key in ["http", "tcp"].into_iter().filter(|_| network == Network::None) {
        if document.has(place, key) {
            let problem = Problem::new("no-network", "a service without a network cannot be asked over it");
            document.at_key(&at(key), problem.hint("use `exec`, or take `network` out"));
        }
    }
    let test = match (section.exec, section.http, section.port, section.tcp) {
        (Some(run), ..) => Some(HealthTest::Exec(service::argv(run, &at("exec"), document))),
        (_, Some(path), Some(port), _) => {
            Some(HealthTest::Http { port: port.get(), path: path.0, status: section.status })
        }
        (.., Some(port)) => Some(HealthTest::Tcp { port: port.get() }),
        _ => None,
    };
    Health {
        test,
        interval: section.interval.map(|time| time.0),
        timeout: section.timeout.map(|time| time.0),
        retries: section.retries.map(Into::into),
        start_period: section.start_period.map(|time| time.0),
        start_interval: None,
    }
}
