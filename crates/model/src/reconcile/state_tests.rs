use proptest::prelude::*;

use super::*;
use crate::import::compose::{Condition, RestartPolicy};
use crate::reconcile::support::*;
use crate::reconcile::{Fault, History, Intent, Observed, Standing};

fn exit(code: i32) -> State {
    State::Stopped { by: StoppedBy::Exit(Some(code)) }
}

#[test]
fn an_operation_is_shown_as_its_phase() {
    let expected = [
        State::Queued,
        State::Pulling { percent: Some(42) },
        State::Pulling { percent: None },
        State::Building,
        State::Creating,
        State::Starting { until: START + 7000 },
        State::Stopping { since: START, grace: 10_000 },
        State::Updating { from: "1".to_owned(), to: "2".to_owned() },
        State::RollingBack,
    ];
    for (phase, expected) in phases().into_iter().zip(expected) {
        let situation = with(|one| one.operation = Some(operation(phase)));
        assert_eq!(displayed(&situation, START), expected);
        assert_eq!(displayed(&situation, START + MINUTE - 1), expected);
        let after = displayed(&situation, START + MINUTE);
        assert_eq!(after, State::Running { health: Health::NoCheck }, "the lease is over");
    }
}

#[test]
fn without_an_operation_it_is_what_the_engine_said_in_the_light_of_what_is_wanted() {
    let not_applied = Intent { wish: Wish::Up, generation: 2 };
    let up = Intent { wish: Wish::Up, generation: 1 };
    let stopped = Intent { wish: Wish::Stopped, generation: 1 };
    let gone = Intent { wish: Wish::Gone, generation: 1 };
    let running_now = |health| State::Running { health };
    let cases = [
        (up, running(Health::NoCheck), running_now(Health::NoCheck)),
        (up, running(Health::Healthy), running_now(Health::Healthy)),
        (up, running(Health::Unhealthy), running_now(Health::Unhealthy)),
        (up, running(Health::Syncing { percent: 3 }), running_now(Health::Syncing { percent: 3 })),
        (up, Seen::Absent, State::RemovedOutside),
        (up, Seen::Unknown, State::Unknown),
        (up, ended(3), exit(3)),
        (up, Seen::Ended { code: None, at: START }, State::Stopped { by: StoppedBy::Exit(None) }),
        (not_applied, Seen::Absent, State::Absent),
        (not_applied, running(Health::Healthy), running_now(Health::Healthy)),
        (stopped, Seen::Absent, State::Absent),
        (stopped, ended(3), State::Stopped { by: StoppedBy::User }),
        (stopped, running(Health::Healthy), running_now(Health::Healthy)),
        (stopped, Seen::Unknown, State::Unknown),
        (gone, Seen::Absent, State::Absent),
        (gone, ended(3), exit(3)),
        (gone, running(Health::Healthy), running_now(Health::Healthy)),
    ];
    for (intent, seen, expected) in cases {
        let situation = with(|one| {
            one.intent = intent;
            one.observed = observed(seen.clone());
        });
        assert_eq!(displayed(&situation, START), expected, "{intent:?} {seen:?}");
    }
}

#[test]
fn a_check_that_does_not_count_yet_is_a_start() {
    for health in [None, Some(Health::Unhealthy)] {
        let seen = Seen::Running { instance: "i".to_owned(), since: START, grace: 5000, health };
        let situation = with(|one| one.observed = observed(seen));
        assert_eq!(displayed(&situation, START + 4999), State::Starting { until: START + 5000 });
    }
}

#[test]
fn what_keeps_a_unit_from_coming_up_is_shown() {
    let down = |change: &dyn Fn(&mut Situation)| {
        with(|one| {
            one.observed = observed(Seen::Absent);
            one.history.applied = None;
            change(one);
        })
    };
    let fails = |times| History { applied: None, ..failures(Fault::Pull, times) };
    let spent = Reason::Spent { fault: Fault::Pull, times: 60, why: "no".to_owned() };
    let broken = |one: &mut Situation| one.history.permanent = Some("no such device".to_owned());
    let waits = |one: &mut Situation| {
        one.dependencies = vec![awaited("db", Condition::Healthy, Standing::default())];
    };
    let db = UnitName::new("db").unwrap();
    let cases = [
        (down(&|one| one.history = fails(2)), State::BackOff { attempt: 2, until: START + 2000 }),
        (down(&|one| one.history = fails(60)), State::Held { reason: spent }),
        (down(&broken), State::Held { reason: Reason::Permanent { why: "no such device".to_owned() } }),
        (down(&waits), State::WaitingOn { unit: db }),
        (
            down(&|one| one.history.needs_operator = Some("half".to_owned())),
            State::NeedsOperator { why: "half".to_owned() },
        ),
    ];
    for (situation, expected) in cases {
        assert_eq!(displayed(&situation, START), expected);
    }
}

#[test]
fn what_runs_is_shown_as_running_while_its_update_waits() {
    let situation = with(|one| {
        one.intent.generation = 2;
        one.history = History { generation: 2, ..failures(Fault::Pull, 3) };
    });
    assert_eq!(displayed(&situation, START), State::Running { health: Health::NoCheck });
    let waits = with(|one| {
        one.intent.generation = 2;
        one.dependencies = vec![awaited("db", Condition::Healthy, Standing::default())];
    });
    assert_eq!(displayed(&waits, START), State::Running { health: Health::NoCheck });
}

#[test]
fn one_that_completed_and_was_tidied_away_has_ended_well() {
    let situation = with(|one| {
        one.rules.completes = true;
        one.rules.restart = RestartPolicy::No;
        one.history.completed = Some(1);
        one.observed = observed(Seen::Absent);
    });
    assert_eq!(displayed(&situation, START), exit(0));
}

#[test]
fn states_are_told_in_plain_json() {
    let json = |state: &State| serde_json::to_string(state).unwrap();
    let held = State::Held { reason: Reason::Permanent { why: "x".to_owned() } };
    assert_eq!(json(&State::RemovedOutside), r#"{"state":"removed_outside"}"#);
    assert_eq!(
        json(&State::Running { health: Health::NoCheck }),
        r#"{"state":"running","health":"no_check"}"#
    );
    assert_eq!(json(&held), r#"{"state":"held","reason":"permanent","why":"x"}"#);
    assert_eq!(json(&exit(3)), r#"{"state":"stopped","by":{"exit":3}}"#);
    let seen = Seen::Running { instance: "i".to_owned(), since: 1, grace: 2, health: Some(Health::Healthy) };
    let told = r#"{"is":"running","instance":"i","since":1,"grace":2,"health":"healthy"}"#;
    assert_eq!(serde_json::to_string(&seen).unwrap(), told);
}

proptest! {
    #[test]
    fn a_scan_changes_nothing_of_what_an_operation_shows(
        situation in any_situation(), operation in any_operation(), scan in any_observed(), later in 0..2 * MINUTE,
    ) {
        let mut situation = Situation { operation: Some(operation.clone()), ..situation };
        let now = START + later;
        let before = displayed(&situation, now);
        situation.observed = scan;
        if now < operation.lease_until {
            prop_assert_eq!(displayed(&situation, now), before);
        }
    }

    #[test]
    fn what_is_stored_and_told_comes_back_as_it_was(situation in any_situation()) {
        let text = serde_json::to_string(&situation).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Situation>(&text).unwrap(), &situation);
        let state = displayed(&situation, START);
        let text = serde_json::to_string(&state).unwrap();
        prop_assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
        let text = serde_json::to_string(&situation.observed).unwrap();
        prop_assert_eq!(serde_json::from_str::<Observed>(&text).unwrap(), situation.observed);
    }
}
