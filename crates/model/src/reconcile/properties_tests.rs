//! What holds of decisions in any situation.

use proptest::prelude::*;

use super::support::*;
use super::*;

/// The situation when an action has begun, and when it has come to a good end.
fn effects(situation: &Situation, action: &Action, now: Time) -> (Situation, Situation) {
    let mut begun = situation.clone();
    if let (Action::Cancel, Some(operation)) = (action, &mut begun.operation) {
        operation.cancelled = true;
        return (begun.clone(), begun);
    }
    let generation = situation.intent.generation;
    begun.operation = Some(Operation { generation, lease_until: now + MINUTE, ..operation(Phase::Creating) });
    let runs = Seen::Running { instance: "j".to_owned(), since: now, grace: 0, health: None };
    let (seen, event) = match action {
        Action::Converge => (runs, Event::Applied { generation }),
        Action::Start | Action::Restart { .. } => (runs, Event::Started),
        Action::Stop { .. } => (Seen::Ended { code: Some(0), at: now }, Event::Stopped),
        Action::Remove { .. } | Action::Cancel => (Seen::Absent, Event::Removed),
    };
    let mut done = situation.clone();
    done.operation = None;
    done.history = done.history.record(&event, now, Jitter::NONE);
    done.observed = Observed { at: now, seen, drift: false };
    (begun, done)
}

/// Whether this is a reason for that.
fn is_reason(action: &Action, cause: &Cause) -> bool {
    match action {
        Action::Converge => matches!(cause, Cause::NewGeneration { .. } | Cause::RemovedOutside),
        Action::Start => matches!(cause, Cause::Ended { .. }),
        Action::Restart { .. } => *cause == Cause::Unhealthy,
        Action::Stop { .. } => *cause == Cause::StoppedByUser,
        Action::Remove { .. } => matches!(cause, Cause::Unwanted | Cause::HalfRemoved),
        Action::Cancel => matches!(cause, Cause::Superseded { .. }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_decision_is_a_function_and_what_was_decided_is_not_decided_again(
        situation in any_situation(), per_mille in 0..=1000_u16,
    ) {
        let now = START + MINUTE / 2;
        let jitter = Jitter::new(per_mille);
        let (decision, history) = decide(&situation, now, jitter);
        prop_assert_eq!(&decide(&situation, now, jitter).0, &decision);
        // What was remembered changes neither the decision nor itself.
        let mut remembered = Situation { history: history.clone(), ..situation };
        let again = decide(&remembered, now, Jitter::NONE);
        prop_assert_eq!(&again.0, &decision);
        prop_assert_eq!(&again.1, &history);
        prop_assert!(decision.wake_at.is_none_or(|at| at > now));
        if let Some(action) = &decision.action {
            prop_assert!(is_reason(action, &decision.cause), "{:?}", decision);
            prop_assert!(!decision.cause.to_string().is_empty());
            remembered.history = history;
            let (begun, done) = effects(&remembered, action, now);
            prop_assert_eq!(decide(&begun, now, jitter).0.action, None);
            let after = decide(&done, now, jitter).0;
            prop_assert_ne!(after.action.as_ref(), Some(action), "{:?}", after);
        }
    }

    #[test]
    fn nothing_is_started_that_the_user_does_not_want_or_that_waits(situation in any_situation()) {
        let (decision, _) = decide(&situation, START, Jitter::NONE);
        let starts = matches!(
            decision.action,
            Some(Action::Converge | Action::Start | Action::Restart { .. })
        );
        if starts {
            prop_assert_eq!(situation.intent.wish, Wish::Up);
            prop_assert!(situation.dependencies.iter().all(|one| !one.standing.gates(one.dependency)));
            prop_assert!(situation.history.needs_operator.is_none());
            prop_assert!(situation.operation(START).is_none());
            let is_left = matches!(situation.observed.seen, Seen::Ended { .. });
            prop_assert!(!(situation.history.half_removed && is_left));
        }
    }
}
