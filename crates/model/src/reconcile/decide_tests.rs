use super::*;
use crate::import::compose::{Condition, RestartPolicy};
use crate::reconcile::support::*;
use crate::reconcile::{
    Event, Fault, Health, History, Intent, Observed, Reason, Rules, Seen, Standing, Wish,
};

const ON_FAILURE: RestartPolicy = RestartPolicy::OnFailure { max: None };

/// A decision in words: `start (ended)`, `- (back_off) +2000`, `- (dependency) db Healthy`.
fn told(situation: &Situation, now: Time) -> String {
    let decision = decide(situation, now, Jitter::NONE).0;
    let word = |value: serde_json::Value, tag: &str| value[tag].as_str().unwrap_or("-").to_owned();
    let action = word(serde_json::to_value(&decision.action).unwrap(), "action");
    let mut text = format!("{action} ({})", word(serde_json::to_value(&decision.cause).unwrap(), "cause"));
    if let Some(at) = decision.wake_at {
        text.push_str(&format!(" +{}", at - START));
    }
    if let Some((unit, condition)) = decision.waiting_for {
        text.push_str(&format!(" {unit} {condition:?}"));
    }
    text
}

/// A unit that is wanted for the first time, and of which nothing is there.
fn new(change: impl FnOnce(&mut Situation)) -> Situation {
    with(|one| {
        one.observed = observed(Seen::Absent);
        one.history.applied = None;
        change(one);
    })
}

/// A unit that ended while it was to run.
fn fell(code: Option<i32>, restart: RestartPolicy) -> Situation {
    with(|one| {
        one.observed = observed(Seen::Ended { code, at: START });
        one.rules.restart = restart;
    })
}

/// A unit that runs and whose check fails, and counts from 3 seconds on.
fn unwell() -> Situation {
    with(|one| {
        let health = Some(Health::Unhealthy);
        one.observed =
            observed(Seen::Running { instance: "i".to_owned(), since: START, grace: 3000, health });
    })
}

#[test]
fn what_is_as_it_should_be_is_left_alone() {
    let drift = with(|one| one.observed.drift = true);
    let completes = Rules { restart: RestartPolicy::No, completes: true, stop_grace: 0 };
    let done = with(|one| (one.rules, one.observed) = (completes, observed(ended(0))));
    let tidied = with(|one| {
        (one.rules, one.observed) = (completes, observed(Seen::Absent));
        one.history.completed = Some(1);
    });
    let stale = with(|one| (one.observed, one.history.acted_at) = (observed(Seen::Absent), START + 1));
    let cases = [
        (kept(), "- (as_declared)"),
        (drift, "- (drift)"),
        (done, "- (completed)"),
        (tidied, "- (completed)"),
        (with(|one| one.observed = observed(Seen::Unknown)), "- (no_answer)"),
        (with(|one| one.observed = observed(running(Health::Syncing { percent: 1 }))), "- (as_declared)"),
        (stale.clone(), "- (stale)"),
    ];
    for (situation, expected) in cases {
        assert_eq!(told(&situation, START + 1), expected);
    }
    assert_eq!(told(&stale, START), "converge (removed_outside)", "the clock went back");
}

#[test]
fn a_new_generation_is_brought_about_whatever_there_is() {
    for seen in [Seen::Absent, ended(0), ended(1), running(Health::Healthy), running(Health::Unhealthy)] {
        let situation = with(|one| {
            one.observed = observed(seen);
            one.intent.generation = 2;
            one.rules.restart = RestartPolicy::No;
        });
        assert_eq!(told(&situation, START), "converge (new_generation)");
    }
}

#[test]
fn what_the_user_wants_stopped_or_gone_is_and_stays_so() {
    let cases = [
        (Wish::Stopped, running(Health::Healthy), "stop (stopped_by_user)"),
        (Wish::Stopped, ended(1), "- (stopped_by_user)"),
        (Wish::Stopped, Seen::Ended { code: None, at: START }, "- (stopped_by_user)"),
        (Wish::Stopped, Seen::Absent, "- (stopped_by_user)"),
        (Wish::Stopped, Seen::Unknown, "- (no_answer)"),
        (Wish::Gone, running(Health::Healthy), "remove (unwanted)"),
        (Wish::Gone, ended(1), "remove (unwanted)"),
        (Wish::Gone, Seen::Absent, "- (as_declared)"),
        (Wish::Gone, Seen::Unknown, "- (no_answer)"),
    ];
    for (wish, seen, expected) in cases {
        let situation = with(|one| {
            one.intent = Intent { wish, generation: 2 };
            one.observed = observed(seen.clone());
        });
        assert_eq!(told(&situation, START), expected, "{wish:?} {seen:?}");
    }
}

#[test]
fn what_ended_is_started_as_its_restart_policy_says() {
    use RestartPolicy::{Always, No, UnlessStopped};
    let cases = [
        (Some(1), No, "- (restart_policy)"),
        (Some(0), No, "- (restart_policy)"),
        (None, No, "- (restart_policy)"),
        (Some(1), Always, "start (ended)"),
        (Some(0), Always, "start (ended)"),
        (None, Always, "start (ended)"),
        (Some(1), ON_FAILURE, "start (ended)"),
        (Some(0), ON_FAILURE, "- (restart_policy)"),
        (None, ON_FAILURE, "start (ended)"),
        (Some(1), UnlessStopped, "start (ended)"),
        (Some(0), UnlessStopped, "start (ended)"),
        (None, UnlessStopped, "start (ended)"),
    ];
    for (code, restart, expected) in cases {
        assert_eq!(told(&fell(code, restart), START), expected, "{code:?} {restart:?}");
    }
}

#[test]
fn what_somebody_else_removed_is_made_again_unless_it_is_not_kept() {
    let removed = |restart| with(|one| (one.observed, one.rules.restart) = (observed(Seen::Absent), restart));
    assert_eq!(told(&removed(RestartPolicy::Always), START), "converge (removed_outside)");
    assert_eq!(told(&removed(ON_FAILURE), START), "converge (removed_outside)");
    assert_eq!(told(&removed(RestartPolicy::No), START), "- (removed_outside)");
}

#[test]
fn an_unhealthy_unit_is_restarted_past_its_grace() {
    assert_eq!(told(&unwell(), START), "- (starting) +3000");
    assert_eq!(told(&unwell(), START + 3000), "restart (unhealthy)");
    let unkept = Situation { rules: Rules { restart: RestartPolicy::No, ..kept().rules }, ..unwell() };
    assert_eq!(told(&unkept, START + 3000), "- (restart_policy)");
    let again = Situation { history: failures(Fault::Health, 2), ..unwell() };
    assert_eq!(told(&again, START + 3000), "- (back_off) +5000", "the third time waits 2 seconds");
    let often = Situation { history: failures(Fault::Health, 4), ..unwell() };
    assert_eq!(told(&often, START + 3000), "- (held)");
}

#[test]
fn a_unit_that_falls_again_and_again_waits_longer_each_time_until_it_is_held() {
    let mut situation = fell(Some(1), RestartPolicy::Always);
    let mut now = START;
    let mut waits = Vec::new();
    let held = loop {
        situation.observed = Observed { at: now, ..observed(Seen::Ended { code: Some(1), at: now }) };
        let (decision, history) = decide(&situation, now, Jitter::NONE);
        situation.history = history;
        let until = match decision {
            Decision { cause: Cause::Held { reason }, .. } => break reason,
            Decision { wake_at, .. } => wake_at.unwrap_or(now),
        };
        assert_eq!(decide(&situation, until, Jitter::NONE).0.action, Some(Action::Start));
        waits.push((until - now) / 1000);
        situation.history = situation.history.record(&Event::Started, until, Jitter::NONE);
        now = until + 500;
    };
    assert_eq!(waits, [vec![0, 1, 2, 4, 8, 16, 32], vec![60; 12]].concat());
    assert_eq!(held, Reason::Spent { fault: Fault::Crash, times: 20, why: "exit 1".to_owned() });
    assert_eq!(held.to_string(), "it ends again and again (20 times, the last: exit 1)");
    situation.history = situation.history.record(&Event::Retried, now, Jitter::NONE);
    assert_eq!(told(&situation, now), "start (ended)");
}

#[test]
fn a_limit_of_the_users_own_goes_over_the_usual_one() {
    let after = |max, crashes: u32| {
        let restart = RestartPolicy::OnFailure { max: Some(max) };
        let history = failures(Fault::Crash, crashes - 1);
        told(&Situation { history, ..fell(Some(1), restart) }, START + 2 * MINUTE)
    };
    // The last crash was just now: that it waits is that it is not given up.
    assert_eq!(after(3, 3), format!("- (back_off) +{}", 2 * MINUTE + 2000));
    assert_eq!(after(3, 4), "- (held)");
    assert_eq!(after(50, 50), format!("- (back_off) +{}", 3 * MINUTE));
    assert_eq!(after(50, 51), "- (held)");
    assert_eq!(after(0, 19), format!("- (back_off) +{}", 3 * MINUTE), "0 is no limit of its own");
    assert_eq!(after(0, 20), "- (held)");
}

#[test]
fn budgets_are_apart() {
    for fault in [Fault::Pull, Fault::Create, Fault::Start, Fault::Stop, Fault::Remove] {
        let after = |times, later| {
            let history = History { applied: None, ..failures(fault, times) };
            told(&new(|one| one.history = history), START + later)
        };
        assert_eq!(after(1, 999), "- (back_off) +1000", "{fault}");
        assert_eq!(after(1, 1000), "converge (new_generation)", "{fault}");
        assert_eq!(after(fault.limit() - 1, MINUTE), "converge (new_generation)", "{fault}");
        assert_eq!(after(fault.limit(), MINUTE), "- (held)", "{fault}");
        // What runs, and is as it should be, is none the worse for it.
        assert_eq!(told(&with(|one| one.history = failures(fault, 60)), START), "- (as_declared)");
    }
    let crashed = with(|one| one.history = failures(Fault::Crash, 60));
    assert_eq!(told(&crashed, START), "- (as_declared)", "somebody started it");
}

#[test]
fn a_permanent_error_holds_at_once_and_a_new_word_of_the_users_lets_go() {
    let broken = Event::Broken { why: "no such device".to_owned() };
    let mut situation = new(|_| {});
    situation.history = situation.history.record(&broken, START, Jitter::NONE);
    assert_eq!(told(&situation, START), "- (held)");
    let retried = situation.history.record(&Event::Retried, START, Jitter::NONE);
    assert_eq!(
        told(&Situation { history: retried, ..situation.clone() }, START),
        "converge (new_generation)"
    );
    situation.intent.generation = 2;
    assert_eq!(told(&situation, START), "converge (new_generation)");
    situation.intent = Intent { wish: Wish::Gone, generation: 1 };
    situation.observed = observed(ended(1));
    assert_eq!(told(&situation, START), "remove (unwanted)", "to remove it is still possible");
}

#[test]
fn where_an_operator_is_needed_nothing_is_done_before_he_says_so() {
    let failed = Event::RollbackFailed { why: "disk full".to_owned() };
    for (wish, seen) in
        [(Wish::Up, ended(1)), (Wish::Stopped, running(Health::Healthy)), (Wish::Gone, ended(0))]
    {
        let mut situation = with(|one| one.observed = Observed { at: START + 1, ..observed(seen) });
        situation.history = situation.history.record(&failed, START, Jitter::NONE);
        situation.intent = Intent { wish, generation: 2 };
        assert_eq!(told(&situation, START + 1), "- (needs_operator)");
        situation.history = situation.history.record(&Event::Retried, START, Jitter::NONE);
        assert_ne!(told(&situation, START + 1), "- (needs_operator)");
    }
}

#[test]
fn nothing_is_started_over_a_removal_that_failed() {
    let failed = Event::Failed { fault: Fault::Remove, why: "busy".to_owned() };
    let mut situation = fell(Some(1), RestartPolicy::Always);
    situation.intent = Intent { wish: Wish::Gone, generation: 2 };
    situation.history.generation = 2;
    situation.history = situation.history.record(&failed, START, Jitter::NONE);
    assert_eq!(told(&situation, START), "- (back_off) +1000");
    assert_eq!(told(&situation, START + 1000), "remove (unwanted)");
    situation.intent = Intent { wish: Wish::Up, generation: 3 };
    assert_eq!(told(&situation, START), "remove (half_removed)", "his new word begins anew");
    situation.history = failures(Fault::Remove, 10);
    situation.history.half_removed = true;
    assert_eq!(told(&Situation { intent: kept().intent, ..situation.clone() }, START + MINUTE), "- (held)");
    situation.observed = Observed { at: START + 1, ..observed(Seen::Absent) };
    assert_eq!(told(&situation, START + 1), "converge (new_generation)", "nothing is left of it");
}

#[test]
fn dependencies_gate_whatever_starts() {
    let met = |condition| match condition {
        Condition::Started => Standing { started: true, ..Standing::default() },
        Condition::Healthy => Standing { healthy: true, ..Standing::default() },
        Condition::Completed => Standing { completed: true, ..Standing::default() },
    };
    let late = |mut one: Situation| {
        one.observed.at = START + 3000;
        one
    };
    let starts = [
        (new(|_| {}), "converge (new_generation)"),
        (fell(Some(1), RestartPolicy::Always), "start (ended)"),
        (late(unwell()), "restart (unhealthy)"),
    ];
    for (situation, act) in starts {
        for condition in [Condition::Started, Condition::Healthy, Condition::Completed] {
            let after = |standing, required| {
                let mut db = awaited("db", condition, standing);
                db.dependency.required = required;
                let first = awaited("cache", Condition::Started, met(Condition::Started));
                told(&Situation { dependencies: vec![first, db], ..situation.clone() }, START + 3000)
            };
            assert_eq!(after(met(condition), true), act);
            assert_eq!(after(Standing::default(), true), format!("- (dependency) db {condition:?}"));
            // What can do without waits as long as there is hope.
            assert_eq!(after(Standing::default(), false), act);
            let coming = Standing { coming: true, ..Standing::default() };
            assert_eq!(after(coming, false), format!("- (dependency) db {condition:?}"));
        }
    }
    let stop = with(|one| {
        one.intent.wish = Wish::Stopped;
        one.dependencies = vec![awaited("db", Condition::Started, Standing::default())];
    });
    assert_eq!(told(&stop, START), "stop (stopped_by_user)", "stops wait for nobody");
}

#[test]
fn an_operation_goes_on_unless_the_user_wants_something_else() {
    for phase in phases() {
        let gives_way = phase.gives_way();
        let during = |generation, cancelled, now| {
            let situation = fell(Some(1), RestartPolicy::Always);
            let operation = Operation { cancelled, ..operation(phase.clone()) };
            let intent = Intent { wish: Wish::Stopped, generation };
            told(&Situation { operation: Some(operation), intent, ..situation }, now)
        };
        let goes_on = format!("- (operation) +{MINUTE}");
        assert_eq!(during(1, false, START), goes_on);
        let superseded = if gives_way { "cancel (superseded)".to_owned() } else { goes_on.clone() };
        assert_eq!(during(2, false, START), superseded, "{phase:?}");
        assert_eq!(during(2, true, START), goes_on, "it was asked already");
        assert_eq!(during(2, false, START + MINUTE), "- (stopped_by_user)", "its lease is over");
    }
}
