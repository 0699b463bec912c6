use super::*;
use crate::reconcile::support::*;
use crate::reconcile::{Intent, Observed, Phase};

fn after(history: &History, events: &[(Event, Time)]) -> History {
    events.iter().fold(history.clone(), |history, (event, at)| history.record(event, *at, Jitter::NONE))
}

fn failed(fault: Fault) -> Event {
    Event::Failed { fault, why: "no".to_owned() }
}

fn crashed(at: Time) -> Event {
    Event::Crashed { code: 1, at }
}

/// How often each fault has happened, of those that have.
fn counts(history: &History) -> Vec<(Fault, u32)> {
    Fault::ALL
        .map(|fault| (fault, history.budget(fault).failures))
        .into_iter()
        .filter(|(_, n)| *n > 0)
        .collect()
}

#[test]
fn each_fault_counts_for_itself() {
    for fault in Fault::ALL {
        let history = after(&History::default(), &[(failed(fault), 5), (failed(fault), 6)]);
        assert_eq!(counts(&history), [(fault, 2)]);
        assert_eq!((history.budget(fault).at, history.acted_at), (6, 6));
        assert_eq!(history.half_removed, fault == Fault::Remove);
    }
}

#[test]
fn what_succeeds_clears_what_it_shows_to_be_past() {
    let all = Fault::ALL.map(|fault| (failed(fault), 1));
    let history = after(&History::default(), &all);
    let left = |event| {
        counts(&after(&history, &[(event, 2)])).into_iter().map(|(fault, _)| fault).collect::<Vec<_>>()
    };
    use Fault::{Crash, Create, Health, Pull, Remove, Start};
    assert_eq!(left(Event::Applied { generation: 1 }), [Crash, Health]);
    assert_eq!(left(Event::Started), [Pull, Create, Crash, Health, Remove]);
    assert_eq!(left(Event::Stopped), [Pull, Create, Start, Crash, Health, Remove]);
    assert_eq!(left(Event::Removed), [Pull, Create, Start, Crash, Health]);
    assert_eq!(left(Event::Retried), []);
}

#[test]
fn what_is_left_of_a_removal_is_so_until_it_is_removed() {
    let history = after(&History::default(), &[(failed(Fault::Remove), 1)]);
    assert!(after(&history, &[(Event::Retried, 2)]).half_removed);
    assert!(!after(&history, &[(Event::Removed, 2)]).half_removed);
    assert!(!after(&history, &[(Event::Applied { generation: 1 }, 2)]).half_removed);
}

#[test]
fn an_end_and_an_unhealthy_run_count_once() {
    let ends = [(crashed(5), 6), (crashed(5), 7), (Event::Ended { at: 5 }, 8)];
    assert_eq!(counts(&after(&History::default(), &ends)), [(Fault::Crash, 1)]);
    let ends = [(crashed(5), 6), (crashed(9), 10), (crashed(2), 11)];
    assert_eq!(counts(&after(&History::default(), &ends)), [(Fault::Crash, 3)], "clocks may go back");
    let asked_for = [(Event::Ended { at: 5 }, 6), (crashed(5), 7)];
    assert_eq!(counts(&after(&History::default(), &asked_for)), []);
    let run = |run| Event::BecameUnhealthy { run };
    let runs = [(run(1), 2), (run(1), 3), (run(4), 5)];
    assert_eq!(counts(&after(&History::default(), &runs)), [(Fault::Health, 2)]);
}

#[test]
fn ten_minutes_of_being_well_forgive_what_a_unit_did() {
    let did = after(&History::default(), &[(crashed(1), 1), (failed(Fault::Health), 2)]);
    let well = |since| Event::BecameWell { run: 10, since };
    let long = 10 * MINUTE;
    let cases = [
        (vec![(well(10), 10 + long - 1)], 2),
        (vec![(well(10), 10 + long)], 0),
        (vec![(well(500), 500), (well(10 + long), 10 + long)], 2),
        (vec![(well(500), 500), (well(500 + long), 500 + long)], 0),
        // Being unwell in between begins it anew.
        (vec![(well(500), 500), (Event::BecameUnhealthy { run: 10 }, 600), (well(700), 500 + long)], 2),
        // What it was before it was started again does not count for it now.
        (vec![(well(500), 500), (Event::BecameWell { run: long, since: long }, 500 + long)], 2),
    ];
    for (events, left) in cases {
        let history = after(&did, &events);
        assert_eq!(counts(&history).len(), left, "{events:?}");
    }
    // It is also forgiven when it is found only at its next end.
    let later = [(well(500), 500), (crashed(500 + long), 501 + long)];
    assert_eq!(counts(&after(&did, &later)), [(Fault::Crash, 1)]);
}

#[test]
fn a_retry_clears_all_that_held_a_unit() {
    let held = [
        (Event::Broken { why: "x".to_owned() }, 1),
        (Event::RollbackFailed { why: "y".to_owned() }, 2),
        (failed(Fault::Pull), 3),
    ];
    let history = after(&History::default(), &[&held[..], &[(Event::Retried, 4)]].concat());
    assert_eq!(history, History { acted_at: 3, ..History::default() });
}

#[test]
fn a_new_generation_begins_with_new_budgets() {
    let mut situation = with(|one| one.history = failures(Fault::Pull, 5));
    situation.history.permanent = Some("x".to_owned());
    situation.history.needs_operator = Some("y".to_owned());
    situation.intent.generation = 2;
    let history = remember(&situation, START, Jitter::NONE);
    assert_eq!((history.generation, counts(&history)), (2, vec![]));
    assert_eq!((history.permanent, history.needs_operator), (None, Some("y".to_owned())));
}

#[test]
fn an_end_is_a_crash_only_of_what_was_to_run() {
    let told = |intent, code, applied| {
        let situation = with(|one| {
            one.intent = intent;
            one.observed = observed(Seen::Ended { code, at: START });
            one.history.applied = applied;
            one.history.generation = intent.generation;
        });
        let history = remember(&situation, START, Jitter::NONE);
        assert_eq!(history.ended_at, Some(START));
        counts(&history)
    };
    let up = Intent { wish: Wish::Up, generation: 1 };
    let crash = [(Fault::Crash, 1)];
    assert_eq!(told(up, Some(1), Some(1)), crash);
    assert_eq!(told(up, Some(0), Some(1)), crash, "what is to run for ever has no good end");
    assert_eq!(told(up, None, Some(1)), [], "the host went down");
    assert_eq!(told(up, Some(1), None), [], "its first start failed, which the operation tells");
    assert_eq!(told(Intent { wish: Wish::Stopped, ..up }, Some(137), Some(1)), []);
    assert_eq!(told(Intent { wish: Wish::Gone, ..up }, Some(137), Some(1)), []);
}

#[test]
fn under_an_operation_and_from_before_its_end_nothing_is_remembered() {
    let fell = with(|one| one.observed = observed(ended(1)));
    let during = Situation { operation: Some(operation(Phase::Creating)), ..fell.clone() };
    assert_eq!(remember(&during, START, Jitter::NONE), fell.history);
    let history = History { acted_at: START + 1, ..fell.history.clone() };
    let old = Situation { history: history.clone(), ..fell };
    assert_eq!(remember(&old, START + 1, Jitter::NONE), history);
}

#[test]
fn what_is_seen_of_health_is_remembered() {
    let seen = |at, seen| {
        let situation = with(|one| one.observed = Observed { at, ..observed(seen) });
        remember(&situation, at, Jitter::NONE)
    };
    let plain = seen(START, running(Health::NoCheck));
    assert_eq!((plain.well_since, plain.last_well), (Some(START - 5000), Some(START)));
    let healthy = seen(START, running(Health::Healthy));
    assert_eq!((healthy.well_since, healthy.last_well), (Some(START), Some(START)));
    let syncing = seen(START, running(Health::Syncing { percent: 1 }));
    assert_eq!((syncing.well_since, counts(&syncing)), (None, vec![]));
    let unwell = seen(START, running(Health::Unhealthy));
    assert_eq!((unwell.unhealthy_run, counts(&unwell)), (Some(START - 5000), vec![(Fault::Health, 1)]));
    let good_end = seen(START, ended(0));
    assert_eq!(good_end.completed, Some(1));
}
