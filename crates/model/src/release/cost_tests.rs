//! What a change is expected to cost.

use std::time::Duration;

use super::fixtures::{self, copy, part};
use super::*;

fn change(lane: Lane, units: &[&str], bytes: u64) -> Upgrade {
    let copy = Copy { bytes, ..copy("data", units[0], 1) };
    Upgrade {
        lane,
        parts: units.iter().map(|name| part(name)).collect(),
        copies: if lane == Lane::Breaking { vec![copy] } else { Vec::new() },
        ..fixtures::change()
    }
}

fn cost(bytes: u64) -> Cost {
    Cost { copied_bytes: bytes, needed_bytes: bytes, free_bytes: Some(1 << 40) }
}

/// The steps of a change that took a second each from its stop on, but for the copying.
fn timed(upgrade: &Upgrade, copying: u64) -> Vec<Timed> {
    let mut now = Duration::ZERO;
    let mut steps = Vec::new();
    for step in upgrade.steps() {
        let took = if matches!(step, Step::Copy(_)) { copying } else { 1 };
        let began = now;
        now += Duration::from_secs(took);
        steps.push(Timed { step, began, ended: now });
    }
    steps
}

const GIB: u64 = 1 << 30;
const STEADY: Duration = Duration::from_secs(2);

#[test]
fn nobody_waits_for_what_nobody_reaches() {
    let mut planned = change(Lane::Breaking, &["db"], GIB);
    planned.parts[0].runs = false;
    assert_eq!(cost(GIB).outage(&planned, STEADY, None), None);
}

#[test]
fn without_a_history_it_is_a_second_for_each_and_the_copying() {
    let outage = |lane, bytes| {
        cost(bytes).outage(&change(lane, &["db", "web"], bytes), STEADY, None).unwrap().as_secs_f64()
    };
    assert_eq!(outage(Lane::Compatible, 0), 2.0);
    assert_eq!(outage(Lane::Breaking, 0), 4.0);
    assert_eq!(outage(Lane::Breaking, 10 * (200 << 20)), 14.0);
    // What shares its blocks takes no time.
    let shared = Cost { needed_bytes: 0, ..cost(10 * GIB) };
    let planned = change(Lane::Breaking, &["db"], 10 * GIB);
    assert_eq!(shared.outage(&planned, STEADY, None), Some(Duration::from_secs(3)));
}

#[test]
fn what_the_last_one_took_is_what_is_expected() {
    let earlier = change(Lane::Breaking, &["db"], GIB);
    let steps = timed(&earlier, 10);
    let planned = change(Lane::Breaking, &["db"], 3 * GIB);
    let expected = cost(3 * GIB).outage(&planned, STEADY, Some((&earlier, &steps))).unwrap();
    // Freeze, set aside, start, verify, steady, commit, publish; and three times the copying.
    assert_eq!(expected.as_secs(), 7 + 30);
    // Another one tells how fast is copied, and nothing else.
    let other = change(Lane::Breaking, &["db", "web"], 3 * GIB);
    let expected = cost(3 * GIB).outage(&other, STEADY, Some((&earlier, &steps))).unwrap();
    assert_eq!(expected.as_secs(), 4 + 30);
}

#[test]
fn who_is_admitted_waits_no_longer() {
    let earlier = change(Lane::Compatible, &["web"], 0);
    let steps = timed(&earlier, 0);
    let expected = cost(0).outage(&earlier, STEADY, Some((&earlier, &steps))).unwrap();
    // Freeze, set aside, start, verify, admit.
    assert_eq!(expected.as_secs(), 5);
}

#[test]
fn nobody_waits_for_whom_another_one_stands_in() {
    let mut planned = change(Lane::Compatible, &["web", "worker"], 0);
    planned.parts[0].stands_in = true;
    assert_eq!(cost(0).outage(&planned, STEADY, None), Some(Duration::from_secs(1)));
    planned.parts[1].runs = false;
    assert_eq!(cost(0).outage(&planned, STEADY, None), Some(Duration::ZERO));
}

#[test]
fn what_does_not_fit_is_told_by_how_much() {
    let cost = |needed_bytes, free_bytes| Cost { copied_bytes: 5, needed_bytes, free_bytes };
    assert_eq!(cost(5, Some(3)).lacks(), Some(2));
    assert_eq!(cost(5, Some(5)).lacks(), None);
    assert_eq!(cost(0, Some(0)).lacks(), None);
    assert_eq!(cost(5, None).lacks(), None);
}
