#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::os::unix::fs::PermissionsExt as _;
use std::time::SystemTime;

use setpoint_model::names::StepName;
use setpoint_model::pipeline::outcome::{Because, How, Outcome};

use super::*;
use crate::pipeline::events::{Event, Listener as _, RunReport};

/// A state of its own, with one project.
struct State {
    folder: tempfile::TempDir,
}

impl State {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn roots(&self) -> Roots {
        Roots { state: self.folder.path().to_owned(), config: self.folder.path().to_owned() }
    }

    fn runs(&self) -> Runs {
        Runs::of(&self.roots(), Path::new("/shop"))
    }

    fn begin(&self) -> RunLog {
        RunLog::begin(&self.roots(), Path::new("/shop"), &PipelineName::new("ci").unwrap()).unwrap()
    }

    /// A run that has ended.
    fn ended(&self) -> u64 {
        let mut log = self.begin();
        log.hear(&run_ended(Vec::new()));
        log.number()
    }

    fn numbers(&self) -> Vec<u64> {
        self.runs().numbers().unwrap()
    }

    fn folder_of(&self, number: u64) -> PathBuf {
        self.runs().folder_of(number)
    }

    /// All lines of a run, with their steps.
    fn lines(&self, number: u64) -> Vec<String> {
        let mut follower = Follower::new(&self.runs(), number, None);
        let (lines, more) = poll(&mut follower);
        assert!(!more, "the run goes on");
        lines
    }
}

fn poll(follower: &mut Follower) -> (Vec<String>, bool) {
    let mut lines = Vec::new();
    let more = follower.poll(&mut |step, line| lines.push(format!("{step} | {line}"))).unwrap();
    (lines, more)
}

fn name(step: &str) -> StepName {
    StepName::new(step).unwrap()
}

fn said(step: &str, line: &str) -> Event {
    Event::Output { step: name(step), line: line.to_owned() }
}

fn report(step: &str, outcome: Outcome) -> StepReport {
    StepReport {
        step: name(step),
        outcome,
        took: Duration::from_millis(2_100),
        saved: None,
        made_in: None,
        attempts: 1,
        key: Some("a1b2c3d4".to_owned()),
        tail: Vec::new(),
    }
}

fn step_ended(report: &StepReport) -> Event {
    Event::StepEnded { report: report.clone() }
}

fn run_ended(steps: Vec<StepReport>) -> Event {
    let outcome = RunOutcome::of(steps.iter().map(|step| &step.outcome));
    Event::RunEnded { report: RunReport { outcome, took: Duration::from_secs(3), steps, artifacts: None } }
}

#[test]
fn what_is_kept_is_what_is_read() {
    let state = State::new();
    let mut log = state.begin();
    let plan = vec![StepPlan {
        step: name("lint"),
        command: "cargo clippy".to_owned(),
        parents: vec![name("fetch")],
        cache_dirs: vec!["/root/.cargo".to_owned()],
    }];
    let cached = StepReport {
        saved: Some(Duration::from_secs(12)),
        made_in: Some(3),
        ..report("fetch", Outcome::Cached)
    };
    let steps = vec![
        cached,
        report("lint", Outcome::Failed { how: How::Exit(1) }),
        report("missing", Outcome::Failed { how: How::Missing("dist/*".to_owned()) }),
        report("slow", Outcome::TimedOut { limit_ms: 50 }),
        report("tell", Outcome::Skipped { because: Because::Step(name("lint")) }),
        report("odd", Outcome::Errored { what: "no space".to_owned() }),
    ];
    log.hear(&Event::RunBegan {
        run: 1,
        pipeline: PipelineName::new("ci").unwrap(),
        steps: plan.clone(),
        files: 3,
    });
    for step in &steps {
        log.hear(&step_ended(step));
    }
    log.hear(&Event::RunEnded {
        report: RunReport {
            outcome: RunOutcome::Errored,
            took: Duration::from_millis(4_500),
            steps: steps.clone(),
            artifacts: Some((3, "/shop/out".into())),
        },
    });
    assert!(log.trouble().is_none());
    drop(log);

    let run = state.runs().read(None).unwrap();
    assert_eq!((run.number, run.pipeline.as_str(), run.pid), (1, "ci", std::process::id()));
    assert_eq!(run.plan, plan);
    assert_eq!(run.steps, steps);
    let artifacts = Some((3, "/shop/out".into()));
    let took = Duration::from_millis(4_500);
    assert_eq!(run.state, super::State::Ended { outcome: RunOutcome::Errored, took, artifacts });
}

#[test]
fn lines_come_back_in_the_order_in_which_they_were_said() {
    let state = State::new();
    let mut log = state.begin();
    let all = ["a | 1", "a | 2", "b | x", "a | 3", "b | ", "b | end\\r", "c | \u{1f980} {\"event\":1}"];
    for line in all {
        let (step, line) = line.split_once(" | ").unwrap();
        log.hear(&said(step, line));
    }
    log.hear(&step_ended(&report("a", Outcome::Passed)));
    log.hear(&said("b", "two\nlines"));
    log.hear(&run_ended(Vec::new()));
    drop(log);
    let mut expected: Vec<String> = all.map(str::to_owned).to_vec();
    expected.push("b | two lines".to_owned());
    assert_eq!(state.lines(1), expected);

    let mut only = Follower::new(&state.runs(), 1, Some(name("b")));
    assert_eq!(poll(&mut only).0, ["b | x", "b | ", "b | end\\r", "b | two lines"]);
}

#[test]
fn a_run_is_followed_while_it_goes_on() {
    let state = State::new();
    let mut log = state.begin();
    let mut follower = Follower::new(&state.runs(), 1, None);
    log.hear(&Event::StepBegan { step: name("a"), attempt: 1 });
    assert_eq!(poll(&mut follower), (vec![], true));
    log.hear(&said("a", "one"));
    log.hear(&said("a", "two"));
    log.settle();
    assert_eq!(poll(&mut follower), (vec!["a | one".to_owned(), "a | two".to_owned()], true));
    log.hear(&said("b", "three"));
    log.hear(&step_ended(&report("b", Outcome::Passed)));
    assert_eq!(poll(&mut follower).0, ["b | three"]);
    log.hear(&said("a", "last"));
    log.hear(&run_ended(Vec::new()));
    drop(log);
    assert_eq!(poll(&mut follower), (vec!["a | last".to_owned()], false));
    assert_eq!(poll(&mut follower), (vec![], false));
}

#[test]
fn a_line_after_a_silence_is_not_held_back() {
    let state = State::new();
    let mut log = state.begin();
    std::thread::sleep(Duration::from_millis(120));
    log.hear(&said("a", "at last"));
    assert_eq!(poll(&mut Follower::new(&state.runs(), 1, None)).0, ["a | at last"]);
}

#[test]
fn a_run_whose_process_died_is_interrupted() {
    let state = State::new();
    let mut log = state.begin();
    log.hear(&said("a", "so far"));
    log.hear(&step_ended(&report("a", Outcome::Passed)));
    assert_eq!(state.runs().read(None).unwrap().state, super::State::Running);
    drop(log);
    let run = state.runs().read(None).unwrap();
    assert_eq!(run.state, super::State::Interrupted);
    assert_eq!(run.steps, [report("a", Outcome::Passed)]);
}

#[test]
fn runs_that_begin_at_once_have_numbers_of_their_own() {
    let state = State::new();
    let mut numbers: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| state.begin().number())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=8).collect::<Vec<_>>());
}

#[test]
fn other_projects_and_other_users_see_nothing() {
    let state = State::new();
    state.ended();
    let other = Runs::of(&state.roots(), Path::new("/other"));
    assert!(matches!(other.read(None), Err(RunsError::NoRuns { .. })));
    assert!(other.list(9).unwrap().runs.is_empty());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state.folder_of(1)), 0o700);
    assert_eq!(mode(&state.folder_of(1).join(kept::RECORD)), 0o600);
}

#[test]
fn a_number_that_is_not_there_is_told_with_those_that_are() {
    let state = State::new();
    state.ended();
    state.ended();
    let error = state.runs().read(Some(7)).unwrap_err();
    assert_eq!(error.to_string(), "there is no run 7; kept are 1 to 2");
    assert!(error.hint().is_some());
}

#[test]
fn what_is_damaged_hides_nothing_else() {
    let state = State::new();
    for _ in 0..3 {
        state.ended();
    }
    std::fs::write(state.folder_of(2).join(kept::RECORD), "{\"pipeline\":").unwrap();
    std::fs::create_dir(state.runs().folder.join("notes")).unwrap();
    let listing = state.runs().list(9).unwrap();
    assert_eq!(listing.runs.iter().map(|run| run.number).collect::<Vec<_>>(), [3, 1]);
    assert!(matches!(listing.damaged[..], [RunsError::Damaged { run: 2, .. }]), "{:?}", listing.damaged);
    assert_eq!(state.ended(), 4);
}

#[test]
fn lines_are_found_without_the_record_of_their_order() {
    let state = State::new();
    let mut log = state.begin();
    log.hear(&said("b", "1"));
    log.hear(&said("a", "2"));
    log.hear(&said("b", "3"));
    log.hear(&run_ended(Vec::new()));
    drop(log);
    let events = state.folder_of(1).join(kept::EVENTS);
    let text = std::fs::read_to_string(&events).unwrap();
    let half = &text[..text.find('\n').unwrap() + 20];
    std::fs::write(&events, half).unwrap();
    assert_eq!(state.lines(1), ["b | 1", "a | 2", "b | 3"]);
    std::fs::write(&events, b"\xff\xfe\n\n{}\n").unwrap();
    assert_eq!(state.lines(1), ["a | 2", "b | 1", "b | 3"]);
}

#[test]
fn the_log_of_a_step_does_not_grow_without_end() {
    let state = State::new();
    let mut log = state.begin();
    let line = "x".repeat(1 << 20);
    for _ in 0..20 {
        log.hear(&said("loud", &line));
    }
    log.hear(&said("calm", "still kept"));
    log.hear(&run_ended(Vec::new()));
    drop(log);
    let lines = state.lines(1);
    assert_eq!(lines.len(), 17, "15 lines, the note and the other step's");
    assert_eq!(lines[15], "loud | [more than 16777216 bytes; the rest is not kept]");
    assert_eq!(lines[16], "calm | still kept");
}

#[test]
fn the_last_runs_are_kept_and_those_that_go_on() {
    let state = State::new();
    let running = state.begin();
    for _ in 0..retention::KEPT + 4 {
        state.ended();
    }
    let newest = 1 + retention::KEPT as u64 + 4;
    let mut expected = vec![running.number()];
    expected.extend(newest - retention::KEPT as u64 + 1..=newest);
    assert_eq!(state.numbers(), expected);
    drop(running);
    state.ended();
    assert_eq!(state.numbers().len(), retention::KEPT);
}

#[test]
fn old_runs_are_removed() {
    let state = State::new();
    for _ in 0..3 {
        state.ended();
    }
    let long_ago = SystemTime::now() - retention::AGE - Duration::from_secs(60);
    for number in [1, 2] {
        File::open(state.folder_of(number)).unwrap().set_modified(long_ago).unwrap();
    }
    state.ended();
    assert_eq!(state.numbers(), [3, 4]);
}

#[test]
fn what_cannot_be_written_is_told_at_the_end() {
    let state = State::new();
    let mut log = state.begin();
    std::fs::remove_dir_all(state.folder_of(1)).unwrap();
    log.hear(&said("a", "lost"));
    log.hear(&run_ended(Vec::new()));
    let path = state.folder_of(1).join("a.log").display().to_string();
    assert!(log.trouble().unwrap().to_string().starts_with(&format!("cannot write `{path}`")));
}
