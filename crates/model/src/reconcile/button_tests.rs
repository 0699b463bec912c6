use super::*;
use crate::reconcile::{Fault, Reason, StoppedBy};

const NOW: Time = 1_000_000;

fn db() -> UnitName {
    UnitName::new("db").unwrap()
}

/// Every state, once or more.
fn states() -> Vec<(&'static str, State)> {
    let running = |health| State::Running { health };
    let stopping = |left: Millis| State::Stopping { since: NOW - 1000, grace: 1000 + left };
    let why = || "no".to_owned();
    vec![
        ("absent", State::Absent),
        ("stopped by the user", State::Stopped { by: StoppedBy::User }),
        ("stopped by its end", State::Stopped { by: StoppedBy::Exit(Some(3)) }),
        ("queued", State::Queued),
        ("pulling", State::Pulling { percent: None }),
        ("pulling 42", State::Pulling { percent: Some(42) }),
        ("building", State::Building),
        ("creating", State::Creating),
        ("starting", State::Starting { until: NOW + 5000 }),
        ("running", running(Health::NoCheck)),
        ("healthy", running(Health::Healthy)),
        ("syncing", running(Health::Syncing { percent: 7 })),
        ("unhealthy", running(Health::Unhealthy)),
        ("waiting_on", State::WaitingOn { unit: db() }),
        ("stopping, 5 minutes left", stopping(300_000)),
        ("stopping, 1.2 seconds left", stopping(1200)),
        ("stopping, none left", stopping(0)),
        ("back_off", State::BackOff { attempt: 7, until: NOW + 41_001 }),
        ("back_off, over", State::BackOff { attempt: 7, until: NOW - 1 }),
        ("updating", State::Updating { from: "1".to_owned(), to: "2".to_owned() }),
        ("rolling_back", State::RollingBack),
        ("held", State::Held { reason: Reason::Spent { fault: Fault::Crash, times: 20, why: why() } }),
        ("needs_operator", State::NeedsOperator { why: why() }),
        ("removed_outside", State::RemovedOutside),
        ("unknown", State::Unknown),
    ]
}

fn does(does: &Does) -> String {
    match does {
        Does::GoTo { unit } => format!("goes to {unit}"),
        other => format!("{other:?}"),
    }
}

/// The whole table as text: what is shown, the button without and with drift, the one beside it with a page.
fn table() -> String {
    let mut text = String::new();
    for (name, state) in states() {
        let cell = |button: Button| format!("{} ({})", button.label, does(&button.does));
        let second = second(&state, false, true).map_or("-".to_owned(), cell);
        let (plain, drifted) = (cell(button(&state, false, NOW)), cell(button(&state, true, NOW)));
        let drifted = if drifted == plain { "same".to_owned() } else { drifted };
        text.push_str(&format!("{name} | {plain} | {drifted} | {second}\n"));
    }
    text
}

#[test]
fn the_button_is_a_function_of_state_and_drift() {
    let expected = "\
absent | Start (Start) | same | -
stopped by the user | Start (Start) | same | -
stopped by its end | Start (Start) | same | -
queued | Cancel (Cancel) | same | Stop (Stop)
pulling | Cancel (Cancel) | same | Stop (Stop)
pulling 42 | Cancel (42%) (Cancel) | same | Stop (Stop)
building | Cancel (Cancel) | same | Stop (Stop)
creating | Cancel (Cancel) | same | Stop (Stop)
starting | Starting... (Stop) | same | -
running | Stop (Stop) | Update (Up) | Open (Open)
healthy | Stop (Stop) | Update (Up) | Open (Open)
syncing | Syncing 7% (Open) | Update (Up) | Stop (Stop)
unhealthy | Restart (Restart) | same | Stop (Stop)
waiting_on | Waiting for db (goes to db) | same | Stop (Stop)
stopping, 5 minutes left | Stopping... 5:00 of grace (Nothing) | same | -
stopping, 1.2 seconds left | Stopping... 0:02 of grace (Nothing) | same | -
stopping, none left | Kill now (Kill) | same | -
back_off | Retry now (42 s) (SkipWait) | same | Stop (Stop)
back_off, over | Retry now (0 s) (SkipWait) | same | Stop (Stop)
updating | Roll back (RollBack) | same | Stop (Stop)
rolling_back | Rolling back... (Nothing) | same | Stop (Stop)
held | Failed: see why (Explain) | same | Stop (Stop)
needs_operator | Failed: see why (Explain) | same | -
removed_outside | Repair (Converge) | same | Stop (Stop)
unknown | Repair (Converge) | same | Stop (Stop)
";
    assert_eq!(table(), expected);
}

#[test]
fn stop_is_within_reach_of_whatever_runs() {
    for (name, state) in states().into_iter().filter(|(_, state)| matches!(state, State::Running { .. })) {
        for (drift, has_page) in [(false, false), (false, true), (true, false), (true, true)] {
            let main = button(&state, drift, NOW).does;
            let beside = second(&state, drift, has_page).map(|button| button.does);
            let stops = main == Does::Stop || beside == Some(Does::Stop);
            assert!(stops, "{name}, drift {drift}");
        }
    }
}

#[test]
fn without_a_page_there_is_nothing_to_open() {
    let running = State::Running { health: Health::Healthy };
    assert_eq!(second(&running, false, false), None);
}
