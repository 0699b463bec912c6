#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use setpoint_model::names::{PipelineName, StepName};
use setpoint_model::pipeline::outcome::{Because, How, Outcome, RunOutcome};
use setpoint_runtime::pipeline::events::{Event, RunReport, StepPlan, StepReport};

use super::words::{Known, step_line, summary};
use super::{Sink, json, plain};
use setpoint_runtime::pipeline::events::Listener;

pub(super) fn name(step: &str) -> StepName {
    StepName::new(step).unwrap()
}

pub(super) fn began(steps: &[(&str, &str)]) -> Event {
    let steps = steps.iter().map(|(step, command)| StepPlan {
        step: name(step),
        command: (*command).to_owned(),
        parents: Vec::new(),
        cache_dirs: if *step == "fetch" { vec!["/root/.cargo/registry".to_owned()] } else { Vec::new() },
    });
    let pipeline = PipelineName::new("ci").unwrap();
    Event::RunBegan { run: 14, pipeline, steps: steps.collect(), files: 214 }
}

pub(super) fn report(step: &str, outcome: Outcome, took_ms: u64) -> StepReport {
    StepReport {
        step: name(step),
        outcome,
        took: Duration::from_millis(took_ms),
        saved: None,
        made_in: None,
        attempts: 1,
        key: None,
        tail: Vec::new(),
    }
}

pub(super) fn cached(step: &str, saved_ms: u64) -> StepReport {
    let saved = Some(Duration::from_millis(saved_ms));
    StepReport { saved, made_in: Some(9), ..report(step, Outcome::Cached, 0) }
}

fn failed(step: &str, how: How) -> StepReport {
    let tail = vec!["error: unused variable".to_owned(), "\x1b[1mno\x1b[0m such \x1b]0;x\x07file".to_owned()];
    StepReport { tail, ..report(step, Outcome::Failed { how }, 2_100) }
}

pub(super) fn begins(step: &str, attempt: u32) -> Event {
    Event::StepBegan { step: name(step), attempt }
}

pub(super) fn said(step: &str, line: &str) -> Event {
    Event::Output { step: name(step), line: line.to_owned() }
}

pub(super) fn ends(report: &StepReport) -> Event {
    Event::StepEnded { report: report.clone() }
}

pub(super) fn run_ends(steps: Vec<StepReport>) -> Event {
    let outcome = RunOutcome::of(steps.iter().map(|step| &step.outcome));
    Event::RunEnded {
        report: RunReport { outcome, took: Duration::from_millis(33_500), steps, artifacts: None },
    }
}

/// A run in which much happens.
pub(super) fn eventful() -> Vec<Event> {
    let steps = vec![
        cached("fetch", 12_000),
        report("test", Outcome::Passed, 31_400),
        failed("lint", How::Exit(1)),
        report("report", Outcome::Skipped { because: Because::Step(name("lint")) }, 0),
    ];
    let mut events = vec![
        began(&[
            ("fetch", "cargo fetch"),
            ("test", "cargo nextest run"),
            ("lint", "cargo clippy --all-targets -- -D warnings"),
            ("report", "./report.sh"),
        ]),
        Event::Note { step: Some(name("lint")), text: "runs each time: its parent is uncached".to_owned() },
        ends(&steps[0]),
        begins("test", 1),
        begins("lint", 1),
        said("test", "running 3 tests"),
        said("lint", "\x1b[31merror\x1b[0m: unused variable"),
        said("test", ""),
        Event::StepRetries {
            step: name("lint"),
            attempt: 1,
            outcome: Outcome::Failed { how: How::Exit(1) },
            delay: Duration::from_secs(3),
        },
        begins("lint", 2),
    ];
    events.extend([ends(&steps[2]), ends(&steps[3]), ends(&steps[1]), run_ends(steps)]);
    events
}

/// What a view prints of these events, without colours.
fn printed(view: impl FnOnce(Sink) -> Box<dyn Listener>, events: &[Event]) -> String {
    let text = Rc::new(RefCell::new(String::new()));
    let sink: Sink = {
        let text = Rc::clone(&text);
        Box::new(move |more| text.borrow_mut().push_str(more))
    };
    let mut view = view(sink);
    events.iter().for_each(|event| view.hear(event));
    drop(view);
    let text = text.take();
    anstream::adapter::strip_str(&text).to_string()
}

fn plain(events: &[Event]) -> String {
    printed(|sink| Box::new(plain::Plain::new(sink)), events)
}

fn quiet(events: &[Event]) -> String {
    printed(|sink| Box::new(plain::Quiet::new(sink)), events)
}

/// The events as JSON, of which the time is made the same.
fn as_json(events: &[Event]) -> String {
    let now = || jiff::Timestamp::from_millisecond(1_700_000_000_120).unwrap();
    printed(|sink| Box::new(json::Json::new(sink, now)), events)
}

fn known(steps: &[(&str, &str)]) -> Known {
    let mut known = Known::default();
    known.learn(&began(steps));
    known
}

fn ended(steps: Vec<StepReport>) -> RunReport {
    match run_ends(steps) {
        Event::RunEnded { report } => report,
        other => panic!("{other:?}"),
    }
}

fn lines(lines: &[String]) -> String {
    anstream::adapter::strip_str(&lines.join("\n")).to_string()
}

#[test]
fn plain_lines_tell_everything_in_order() {
    let expected = "\
ci  run 14  4 steps
lint: note: runs each time: its parent is uncached
fetch: cached  12.0s saved
test: begins  cargo nextest run
lint: begins  cargo clippy --all-targets -- -D warnings
test | running 3 tests
lint | error: unused variable
test |
lint: try 1 failed: exit 1; the next in 3.0s
lint: begins try 2
lint: FAILED  exit 1  2.1s
report: skipped  because of lint
test: ok  31.4s

  FAILED  lint    cargo clippy --all-targets -- -D warnings         exit 1  2.1s
  | error: unused variable
  | no such file
  all output: setpoint runs logs 14 lint
  ran     test 31.4s, lint 2.1s
  cached  fetch 12.0s
  outside warm equals cold: fetch (/root/.cargo/registry)
ci failed in 33.5s: 1 passed, 1 cached (12.0s saved), 1 failed, 1 skipped
Next: setpoint runs logs 14 lint
";
    assert_eq!(plain(&eventful()), expected);
}

#[test]
fn quiet_tells_what_failed_and_how_it_ended() {
    let expected = "  FAILED  lint    cargo clippy --all-targets -- -D warnings         exit 1  2.1s
  | error: unused variable
  | no such file
  all output: setpoint runs logs 14 lint
ci failed in 33.5s: 1 passed, 1 cached (12.0s saved), 1 failed, 1 skipped
Next: setpoint runs logs 14 lint
";
    assert_eq!(quiet(&eventful()), expected);
    let good = [began(&[("test", "true")]), begins("test", 1), said("test", "x")];
    assert_eq!(quiet(&good), "");
}

#[test]
fn plain_lines_give_no_orders_to_a_terminal() {
    let events = [
        began(&[("test", "printf '\x1b]0;title\x07'")]),
        begins("test", 1),
        said("test", "a\x1b[2Jb\x1b]52;c;AAAA\x07c\x1b[1;1Hd"),
        said("test", "10%\r100%\r"),
        said("test", "\u{9b}31mx\u{202e}y"),
        Event::Note { step: None, text: "see \x1b[31mhere\x07".to_owned() },
    ];
    // Colours are for the terminal to show or not; here they are looked at as they are.
    let text = Rc::new(RefCell::new(String::new()));
    let held = Rc::clone(&text);
    let mut view = plain::Plain::new(Box::new(move |more| held.borrow_mut().push_str(more)));
    events.iter().for_each(|event| view.hear(event));
    view.settle();
    let text = text.take();
    let said: Vec<_> = text.lines().skip(1).collect();
    let expected = [
        "test: begins  printf ''",
        "test | abcd",
        "test | 10%",
        "test | 100%",
        "test | 31mxy",
        "note: see here",
    ];
    assert_eq!(said, expected);
}

#[test]
fn plain_lines_lose_nothing() {
    let long = "x".repeat(300_000);
    let mut events = vec![began(&[("test", "true")])];
    events.extend((0..5_000).map(|line| said("test", &format!("line {line}"))));
    events.push(said("test", &long));
    let text = plain(&events);
    let mut all = text.lines().skip(1);
    for line in 0..5_000 {
        assert_eq!(all.next(), Some(format!("test | line {line}").as_str()));
    }
    assert_eq!(all.next().map(str::len), Some(long.len() + "test | ".len()));
    assert_eq!(all.next(), None);
}

#[test]
fn every_ending_has_a_line_of_its_own() {
    let known = known(&[("fetch", "cargo fetch"), ("a-step-with-a-long-name-indeed", "./漢字/run.sh --all")]);
    let long = "a-step-with-a-long-name-indeed";
    let retried = StepReport { attempts: 3, ..report(long, Outcome::Passed, 1_500) };
    let endings = [
        cached("fetch", 12_000),
        report("fetch", Outcome::Passed, 40),
        retried,
        report(long, Outcome::Failed { how: How::Oom }, 61_000),
        report(long, Outcome::Failed { how: How::Signal(9) }, 1_000),
        report(long, Outcome::Failed { how: How::Missing("dist/*.whl".to_owned()) }, 1_000),
        report(long, Outcome::TimedOut { limit_ms: 600_000 }, 600_100),
        report(long, Outcome::Cancelled, 5_000),
        report(long, Outcome::Cancelled, 0),
        report(long, Outcome::Errored { what: "the disk is full".to_owned() }, 1_000),
        report(long, Outcome::Skipped { because: Because::When("branch = \"main\"".to_owned()) }, 0),
    ];
    let at = |width| lines(&endings.each_ref().map(|report| step_line(&known, report, width)));
    assert_eq!(
        at(79),
        [
            "  cached  fetch                cargo fetch                          12.0s saved",
            "  ok      fetch                cargo fetch                                 40ms",
            "  ok      a-step-with-a-lo...  ./漢字/run.sh --all                3 tries  1.5s",
            "  FAILED  a-step-with-a-lo...  ./漢字/run.sh --all        out of memory  1m 01s",
            "  FAILED  a-step-with-a-lo...  ./漢字/run.sh --all     killed by signal 9  1.0s",
            "  FAILED  a-step-with-a-lo...  ./漢字/run.sh --all           no such file  1.0s",
            "  TIMEOUT a-step-with-a-lo...  ./漢字/run.sh --all       limit 10m 00s  10m 00s",
            "  stopped a-step-with-a-lo...  ./漢字/run.sh --all                   after 5.0s",
            "  stopped a-step-with-a-lo...  ./漢字/run.sh --all",
            "  ERROR   a-step-with-a-lo...  ./漢字/run.sh --all                         1.0s",
            "  skipped a-step-with-a-lo...  branch = \"main\"",
        ]
        .join("\n")
    );
    for width in [20, 39, 60, 79, 200] {
        for line in at(width).lines() {
            assert!(super::text::columns(line) <= width, "{width}: {line}");
        }
    }
}

#[test]
fn a_run_ends_with_what_it_cost_and_what_to_do() {
    let steps = known(&[("test", "true"), ("slow", "true"), ("odd", "true")]);
    let told = |known: &Known, steps: Vec<StepReport>| lines(&summary(known, &ended(steps), 79));
    assert_eq!(told(&known(&[]), vec![]), "ci passed in 33.5s: no steps");
    assert_eq!(
        told(&steps, (0..100).map(|n| cached(&format!("s{n}"), 1_000 + n)).collect()),
        "  cached  s99 1.1s, s98 1.1s, s97 1.1s, s96 1.1s, s95 1.1s, s94 1.1s, s93 1.1s,
          s92 1.1s, and 92 more
ci passed in 33.5s: 100 cached (1m 44s saved)"
    );
    assert_eq!(
        told(&steps, vec![report("test", Outcome::Passed, 2_000), report("slow", Outcome::Cancelled, 500)]),
        "  ran     test 2.0s, slow 0.5s
ci cancelled in 33.5s: 1 passed, 1 cancelled
Next: setpoint run ci (what passed is kept)"
    );
    assert_eq!(
        told(&steps, vec![report("slow", Outcome::TimedOut { limit_ms: 1_000 }, 1_010)]),
        "  ran     slow 1.0s\nci timed out in 33.5s: 1 timed out\nNext: setpoint runs logs 14 slow"
    );
    let errored = report("odd", Outcome::Errored { what: "no space".to_owned() }, 10);
    assert_eq!(
        told(&steps, vec![failed("test", How::Exit(1)), errored]),
        "  ran     test 2.1s, odd 10ms\nci errored in 33.5s: 1 failed, 1 errored\nNext: setpoint doctor"
    );
    let handed_out = RunReport {
        artifacts: Some((1, "/shop/out\x1b[2J".into())),
        ..ended(vec![report("test", Outcome::Passed, 2_000)])
    };
    assert_eq!(
        lines(&summary(&steps, &handed_out, 79)),
        "  ran     test 2.0s\n  artifacts: 1 file in /shop/out\nci passed in 33.5s: 1 passed"
    );
}

#[test]
fn what_could_not_be_run_is_told_in_full() {
    let what = "cannot pull `debian:12`\nthe registry \x1b[31msays no".to_owned();
    let events = [
        began(&[("odd", "true"), ("out", "true")]),
        ends(&report("odd", Outcome::Errored { what }, 0)),
        ends(&report("out", Outcome::Failed { how: How::Missing("dist/*".to_owned()) }, 1_000)),
    ];
    let expected = "  ERROR   odd  true
  cannot pull `debian:12`
  the registry says no
  FAILED  out  true                                           no such file  1.0s
  `dist/*` fits no file that it left
";
    assert_eq!(quiet(&events), expected);
}

#[test]
fn a_long_last_line_does_not_push_the_others_away() {
    let long = StepReport { tail: vec!["x".repeat(100_000)], ..failed("test", How::Exit(1)) };
    let text = quiet(&[began(&[("test", "true")]), ends(&long)]);
    let widest = text.lines().map(str::len).max();
    assert_eq!(widest, Some(80 * 4 + "  | ".len()));
}

#[test]
fn every_event_is_a_line_of_json() {
    let mut events = eventful();
    events.extend([
        Event::StepWaits { step: name("test") },
        Event::StepFetches { step: name("test"), done: 5, total: None },
        ends(&report("slow", Outcome::TimedOut { limit_ms: 1_500 }, 1_510)),
    ]);
    let text = as_json(&events);
    assert_eq!(text.lines().count(), events.len());
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["setpoint"], 1);
        assert_eq!(value["at"], "2023-11-14T22:13:20.120Z");
        assert!(value["event"].is_string(), "{line}");
    }
    let ended: Vec<_> = text.lines().filter(|line| line.contains("\"step_ended\"")).collect();
    assert_eq!(
        ended[0],
        "{\"setpoint\":1,\"at\":\"2023-11-14T22:13:20.120Z\",\"event\":\"step_ended\",\"step\":\"fetch\",\
         \"outcome\":\"cached\",\"how\":null,\"exit\":null,\"signal\":null,\"pattern\":null,\"limit\":null,\
         \"because\":null,\"what\":null,\"took\":0.0,\"saved\":12.0,\"made_in\":9,\"attempts\":1,\"key\":null,\
         \"tail\":[]}"
    );
    assert!(ended[1].contains("\"outcome\":\"failed\",\"how\":\"exit\",\"exit\":1"), "{}", ended[1]);
    assert!(ended[2].contains("\"because\":\"lint\""), "{}", ended[2]);
    assert!(
        ended[4].contains("\"outcome\":\"timed_out\"") && ended[4].contains("\"limit\":1.5"),
        "{}",
        ended[4]
    );
    let output = text.lines().find(|line| line.contains("unused")).unwrap();
    assert!(output.contains("\"line\":\"\\u001b[31merror\\u001b[0m: unused variable\""), "{output}");
}
