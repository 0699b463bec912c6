use super::*;
use crate::import::compose::RestartPolicy;
use crate::reconcile::support::*;
use crate::reconcile::{Fault, Observed, Operation, Phase};

/// What a unit has come to, in words.
fn told(situation: &Situation) -> String {
    let standing = standing(situation, START);
    let words = [
        (standing.started, "started"),
        (standing.healthy, "healthy"),
        (standing.completed, "completed"),
        (standing.coming, "coming"),
    ];
    words.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect::<Vec<_>>().join(" ")
}

fn seen(seen: Seen) -> Situation {
    with(|one| one.observed = observed(seen))
}

#[test]
fn a_unit_has_come_to_what_it_is_observed_to_be() {
    let unjudged = Seen::Running { instance: "i".to_owned(), since: START, grace: 0, health: None };
    let cases = [
        (seen(running(Health::NoCheck)), "started"),
        (seen(running(Health::Healthy)), "started healthy"),
        (seen(running(Health::Unhealthy)), "started coming"),
        (seen(running(Health::Syncing { percent: 1 })), "started coming"),
        (seen(unjudged), "started coming"),
        (seen(ended(1)), "coming"),
        (seen(Seen::Absent), "coming"),
        (seen(Seen::Unknown), ""),
        (with(|one| (one.observed, one.rules.restart) = (observed(ended(1)), RestartPolicy::No)), ""),
        (
            with(|one| (one.observed, one.rules.restart) = (observed(ended(0)), RestartPolicy::No)),
            "started completed",
        ),
        (with(|one| one.history = failures(Fault::Crash, 20)), "started"),
        (with(|one| (one.observed, one.history) = (observed(ended(1)), failures(Fault::Crash, 20))), ""),
    ];
    for (situation, expected) in cases {
        assert_eq!(told(&situation), expected, "{:?}", situation.observed);
    }
}

#[test]
fn one_that_is_wanted_otherwise_has_come_to_nothing_yet() {
    let newer = with(|one| {
        one.intent.generation = 2;
        one.observed = observed(running(Health::Healthy));
    });
    assert_eq!(told(&newer), "coming");
    let stopped = with(|one| one.intent.wish = Wish::Stopped);
    assert_eq!(told(&stopped), "");
}

#[test]
fn one_that_is_being_stopped_is_not_built_upon() {
    let stopping = Phase::Stopping { since: START, grace: 1000 };
    let under = |phase| with(|one| one.operation = Some(Operation { ..operation(phase) }));
    assert_eq!(told(&under(stopping)), "coming");
    assert_eq!(told(&under(Phase::Starting { until: START })), "started coming");
}

#[test]
fn one_that_completes_is_waited_for_while_it_runs() {
    let completes = with(|one| one.rules.completes = true);
    assert_eq!(told(&completes), "started coming");
    let tidied = with(|one| {
        one.rules.completes = true;
        one.history.completed = Some(1);
        one.observed = Observed { at: START, seen: Seen::Absent, drift: false };
    });
    assert_eq!(told(&tidied), "started completed");
}
