//! Situations for tests.

use proptest::prelude::*;

use super::*;
use crate::import::compose::{Condition, Dependency, RestartPolicy};
use crate::names::UnitName;

/// When tests begin.
pub(super) const START: Time = 1_000_000_000;
/// A minute.
pub(super) const MINUTE: Millis = 60_000;

/// A unit that is wanted, has been brought up once, and runs.
pub(super) fn kept() -> Situation {
    Situation {
        intent: Intent { wish: Wish::Up, generation: 1 },
        operation: None,
        observed: observed(running(Health::NoCheck)),
        dependencies: Vec::new(),
        rules: Rules { restart: RestartPolicy::Always, completes: false, stop_grace: 10_000 },
        history: History { generation: 1, applied: Some(1), ..History::default() },
    }
}

/// The same, as something else.
pub(super) fn with(change: impl FnOnce(&mut Situation)) -> Situation {
    let mut situation = kept();
    change(&mut situation);
    situation
}

pub(super) fn observed(seen: Seen) -> Observed {
    Observed { at: START, seen, drift: false }
}

/// Since when nothing counts any more that belongs to its start.
pub(super) fn running(health: Health) -> Seen {
    Seen::Running { instance: "i".to_owned(), since: START - 5000, grace: 0, health: Some(health) }
}

pub(super) fn ended(code: i32) -> Seen {
    Seen::Ended { code: Some(code), at: START }
}

pub(super) fn operation(phase: Phase) -> Operation {
    Operation {
        by: Actor::Reconciler,
        generation: 1,
        since: START,
        phase,
        lease_until: START + MINUTE,
        cancelled: false,
    }
}

pub(super) fn awaited(unit: &str, condition: Condition, standing: Standing) -> Awaited {
    let dependency = Dependency { condition, restart: false, required: true };
    Awaited { unit: UnitName::new(unit).unwrap(), dependency, standing }
}

/// Such failures in a row, the last of them just now.
pub(super) fn failures(fault: Fault, times: u32) -> History {
    let failed = Event::Failed { fault, why: "no".to_owned() };
    let history = kept().history;
    let all = (0..times).fold(history, |history, _| history.record(&failed, START, Jitter::NONE));
    History { acted_at: 0, half_removed: false, ..all }
}

/// One phase of every kind.
pub(super) fn phases() -> Vec<Phase> {
    vec![
        Phase::Queued,
        Phase::Pulling { percent: Some(42) },
        Phase::Pulling { percent: None },
        Phase::Building,
        Phase::Creating,
        Phase::Starting { until: START + 7000 },
        Phase::Stopping { since: START, grace: 10_000 },
        Phase::Updating { from: "1".to_owned(), to: "2".to_owned() },
        Phase::RollingBack,
    ]
}

fn any_health() -> impl Strategy<Value = Option<Health>> {
    prop::option::of(prop_oneof![
        Just(Health::NoCheck),
        Just(Health::Healthy),
        Just(Health::Unhealthy),
        (0..100_u8).prop_map(|percent| Health::Syncing { percent }),
    ])
}

/// Times around the beginning.
fn any_time() -> impl Strategy<Value = Time> {
    (0..20 * MINUTE).prop_map(|after| START - 10 * MINUTE + after)
}

pub(super) fn any_observed() -> impl Strategy<Value = Observed> {
    let seen = prop_oneof![
        Just(Seen::Absent),
        Just(Seen::Unknown),
        (any_time(), prop::option::of(0..3)).prop_map(|(at, code)| Seen::Ended { code, at }),
        (any_time(), 0..2 * MINUTE, any_health()).prop_map(|(since, grace, health)| Seen::Running {
            instance: "i".to_owned(),
            since,
            grace,
            health
        }),
    ];
    (any_time(), seen, any::<bool>()).prop_map(|(at, seen, drift)| Observed { at, seen, drift })
}

pub(super) fn any_restart() -> impl Strategy<Value = RestartPolicy> {
    prop_oneof![
        Just(RestartPolicy::No),
        Just(RestartPolicy::Always),
        Just(RestartPolicy::UnlessStopped),
        prop::option::of(0..4_u32).prop_map(|max| RestartPolicy::OnFailure { max }),
    ]
}

fn any_wish() -> impl Strategy<Value = Wish> {
    prop::sample::select(vec![Wish::Up, Wish::Up, Wish::Stopped, Wish::Gone])
}

pub(super) fn any_operation() -> impl Strategy<Value = Operation> {
    let phase = prop::sample::select(phases());
    (phase, 1..4_u64, any_time(), any::<bool>()).prop_map(|(phase, generation, lease_until, cancelled)| {
        Operation { generation, lease_until, cancelled, ..operation(phase) }
    })
}

fn any_event() -> impl Strategy<Value = Event> {
    let why = || "no".to_owned();
    prop_oneof![
        (1..4_u64).prop_map(|generation| Event::Applied { generation }),
        Just(Event::Started),
        Just(Event::Stopped),
        Just(Event::Removed),
        prop::sample::select(&Fault::ALL[..]).prop_map(move |fault| Event::Failed { fault, why: why() }),
        Just(Event::Broken { why: why() }),
        Just(Event::RollbackFailed { why: why() }),
        any_time().prop_map(|at| Event::Crashed { code: 1, at }),
        any_time().prop_map(|at| Event::Ended { at }),
        (any_time(), any_time()).prop_map(|(run, since)| Event::BecameWell { run, since }),
        any_time().prop_map(|run| Event::BecameUnhealthy { run }),
        Just(Event::Retried),
    ]
}

fn any_history() -> impl Strategy<Value = History> {
    let events = prop::collection::vec((any_event(), any_time(), 0..=1000_u16), 0..30);
    (events, 1..4_u64, prop::option::of(1..4_u64)).prop_map(|(events, generation, applied)| {
        let first = History { generation, ..History::default() };
        let all = events
            .iter()
            .fold(first, |history, (event, at, jitter)| history.record(event, *at, Jitter::new(*jitter)));
        History { applied: applied.or(all.applied), ..all }
    })
}

fn any_awaited() -> impl Strategy<Value = Awaited> {
    let conditions = vec![Condition::Started, Condition::Healthy, Condition::Completed];
    (prop::sample::select(conditions), any::<[bool; 4]>(), any::<bool>()).prop_map(
        |(condition, [started, healthy, completed, coming], required)| {
            let standing = Standing { started, healthy, completed, coming };
            let mut awaited = awaited("db", condition, standing);
            awaited.dependency.required = required;
            awaited
        },
    )
}

/// Any situation, also those that nobody expects.
pub(super) fn any_situation() -> impl Strategy<Value = Situation> {
    (
        (any_wish(), 1..4_u64),
        prop::option::of(any_operation()),
        any_observed(),
        prop::collection::vec(any_awaited(), 0..3),
        (any_restart(), any::<bool>()),
        any_history(),
    )
        .prop_map(
            |((wish, generation), operation, observed, dependencies, (restart, completes), history)| {
                Situation {
                    intent: Intent { wish, generation },
                    operation,
                    observed,
                    dependencies,
                    rules: Rules { restart, completes, stop_grace: 10_000 },
                    history,
                }
            },
        )
}
