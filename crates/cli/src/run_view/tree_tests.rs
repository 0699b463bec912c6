#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::cell::RefCell;

use indicatif::{InMemoryTerm, TermLike as _};
use setpoint_model::pipeline::outcome::Outcome;

use super::super::tests::{began, begins, cached, ends, eventful, name, report, run_ends, said};
use super::super::text::columns;
use super::*;

thread_local! {
    /// The terminal of the test that runs in this thread.
    static TERMINAL: RefCell<Option<InMemoryTerm>> = const { RefCell::new(None) };
}

fn terminal() -> InMemoryTerm {
    TERMINAL.with_borrow(|terminal| terminal.clone().unwrap())
}

/// A tree on a terminal of this size.
fn tree(size: fn() -> (usize, usize)) -> Tree {
    let (columns, rows) = size();
    let terminal = InMemoryTerm::new(rows.try_into().unwrap(), columns.try_into().unwrap());
    TERMINAL.set(Some(terminal.clone()));
    let sink: Sink = Box::new(move |text| {
        terminal.write_str(&text.replace('\n', "\r\n")).unwrap();
        terminal.flush().unwrap();
    });
    Tree::new(sink, Screen { size, target: || ProgressDrawTarget::term_like(Box::new(self::terminal())) })
}

/// What is on the screen, drawn anew; of steps that run without the time, which passes.
fn screen(tree: &Tree) -> Vec<String> {
    if let Some(bar) = &tree.bar {
        bar.force_draw();
    }
    let contents = terminal().contents();
    let still = |line: &str| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        [turns, name, _, rest @ ..] if SPINNER.contains(turns) && !rest.starts_with(&["run"]) => {
            [&["*", name], rest].concat().join(" ")
        }
        _ => line.to_owned(),
    };
    contents.lines().map(still).collect()
}

#[test]
fn what_ended_scrolls_up_and_what_runs_stands_below() {
    let mut tree = tree(|| (60, 24));
    for event in eventful().iter().take(10) {
        tree.hear(event);
    }
    assert_eq!(
        screen(&tree),
        [
            "ci  run 14  4 steps",
            "  note    lint: runs each time: its parent is uncached",
            "  cached  fetch   cargo fetch                   12.0s saved",
            "  retry   lint    try 1 failed: exit 1; the next in 3.0s",
            "* test running 3 tests",
            "* lint try 2",
        ]
    );
    for event in eventful().iter().skip(10) {
        tree.hear(event);
    }
    assert_eq!(
        screen(&tree)[4..],
        [
            "  FAILED  lint    cargo clippy --all-targe...  exit 1  2.1s",
            "  | error: unused variable",
            "  | no such file",
            "  all output: setpoint runs logs 14 lint",
            "  skipped report  because of lint",
            "  ok      test    cargo nextest run                   31.4s",
            "",
            "  ran     test 31.4s, lint 2.1s",
            "  cached  fetch 12.0s",
            "  outside warm equals cold: fetch (/root/.cargo/registry)",
            "ci failed in 33.5s:",
            "  1 passed, 1 cached (12.0s saved), 1 failed, 1 skipped",
            "Next: setpoint runs logs 14 lint",
        ]
    );
}

#[test]
fn sixty_steps_do_not_run_off_the_screen() {
    let mut tree = tree(|| (40, 10));
    let names: Vec<_> = (0..60).map(|n| format!("step-{n}")).collect();
    let steps: Vec<_> = names.iter().map(|name| (name.as_str(), "true")).collect();
    tree.hear(&began(&steps));
    names.iter().for_each(|name| tree.hear(&begins(name, 1)));
    let shown = screen(&tree);
    assert_eq!(shown.first().map(String::as_str), Some("ci  run 14  60 steps"));
    assert_eq!(shown.last().map(String::as_str), Some("  ⠋ 53 more run"));
    assert_eq!(shown.len(), 9, "{shown:#?}");
    for done in 0..58 {
        tree.hear(&ends(&report(&format!("step-{done}"), Outcome::Passed, 1_000)));
    }
    let shown = screen(&tree);
    let below: Vec<_> = shown.iter().filter(|line| line.starts_with('*')).collect();
    assert_eq!(below, ["* step-58", "* step-59"], "{shown:#?}");
    assert!(shown.iter().any(|line| line.starts_with("  ok      step-57")), "{shown:#?}");
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let long = "漢字 wide and long ".repeat(30);
    let steps: Vec<_> = ["a", "a-step-with-a-rather-long-name-for-such-a-terminal"]
        .map(|step| Running { step: name(step), since: Instant::now(), attempt: 12, doing: long.clone() })
        .to_vec();
    for width in [1, 8, 20, 40, 80, 300] {
        for line in below(&steps, 50, (width, 24), Instant::now()) {
            assert!(columns(&line) < width.max(1) || line.is_empty(), "{width}: {line}");
        }
    }
    assert_eq!(below(&steps, 50, (80, 1), Instant::now()), ["  ⠋ 2 run"]);
}

#[test]
fn times_are_those_since_a_step_began() {
    let since = Instant::now();
    let step = Running { step: name("test"), since, attempt: 1, doing: "compiles".to_owned() };
    let at = |seconds| below(std::slice::from_ref(&step), 6, (40, 24), since + Duration::from_secs(seconds));
    assert_eq!(at(0), ["  ⠋ test        0ms  compiles"]);
    assert_eq!(at(12), ["  ⠋ test      12.0s  compiles"]);
    assert_eq!(at(125), ["  ⠹ test     2m 05s  compiles"]);
}

#[test]
fn a_step_gives_no_orders_to_the_terminal() {
    let mut tree = tree(|| (60, 8));
    tree.hear(&began(&[("test", "true")]));
    tree.hear(&begins("test", 1));
    tree.hear(&said("test", "seen\x1b[2J\x1b[1;1H\x1b]0;title\x07 and kept\u{202e}"));
    assert_eq!(screen(&tree), ["ci  run 14  1 step", "* test seen and kept"]);
    tree.hear(&said("test", "10%\r55%\r"));
    tree.hear(&said("test", "  "));
    assert_eq!(screen(&tree)[1], "* test 55%");
}

#[test]
fn what_is_waited_for_is_told() {
    let mut tree = tree(|| (80, 8));
    tree.hear(&began(&[("test", "true")]));
    tree.hear(&Event::StepFetches { step: name("test"), done: 12_400_000, total: Some(40_000_000) });
    assert_eq!(screen(&tree)[1], "* test fetches 12 of 40 MB");
    tree.hear(&Event::StepWaits { step: name("test") });
    assert_eq!(screen(&tree)[1], "* test waits for another process that makes the same result");
}

#[test]
fn when_all_is_cached_nothing_is_drawn_below() {
    let mut tree = tree(|| (60, 24));
    tree.hear(&began(&[("fetch", "cargo fetch")]));
    tree.hear(&ends(&cached("fetch", 12_000)));
    assert!(tree.bar.is_none());
    tree.hear(&run_ends(vec![cached("fetch", 12_000)]));
    assert_eq!(
        screen(&tree),
        [
            "ci  run 14  1 step",
            "  cached  fetch  cargo fetch                    12.0s saved",
            "",
            "  cached  fetch 12.0s",
            "  outside warm equals cold: fetch (/root/.cargo/registry)",
            "ci passed in 33.5s: 1 cached (12.0s saved)",
        ]
    );
}
