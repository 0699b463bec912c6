#![allow(clippy::unwrap_used, reason = "a test may panic")]

use setpoint_model::names::PipelineName;
use setpoint_model::pipeline::outcome::{Because, How, RunOutcome};
use setpoint_runtime::pipeline::events::StepPlan;

use super::logs::{meant, named, remark, said_in};
use super::*;

fn name(step: &str) -> StepName {
    StepName::new(step).unwrap()
}

fn report(step: &str, outcome: Outcome, took_ms: u64) -> StepReport {
    StepReport {
        step: name(step),
        outcome,
        took: Duration::from_millis(took_ms),
        saved: None,
        made_in: None,
        attempts: 1,
        key: Some("a1b2c3d4".to_owned()),
        tail: Vec::new(),
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn run(number: u64, state: State, steps: Vec<StepReport>) -> Run {
    let plan = ["fetch", "test", "lint", "report"].map(|step| StepPlan {
        step: name(step),
        command: "true".to_owned(),
        parents: Vec::new(),
        cache_dirs: Vec::new(),
    });
    let pipeline = PipelineName::new("ci").unwrap();
    Run { number, pipeline, began_at: at(0), pid: 7, state, plan: plan.to_vec(), steps }
}

fn failed() -> Run {
    let saved = Some(Duration::from_secs(12));
    let steps = vec![
        StepReport { saved, made_in: Some(9), ..report("fetch", Outcome::Cached, 0) },
        report("test", Outcome::Passed, 31_400),
        report("lint", Outcome::Failed { how: How::Exit(1) }, 2_100),
        StepReport {
            key: None,
            ..report("report", Outcome::Skipped { because: Because::Step(name("lint")) }, 0)
        },
    ];
    let artifacts = Some((3, "/shop/out".into()));
    let took = Duration::from_millis(33_500);
    run(14, State::Ended { outcome: RunOutcome::Failed, took, artifacts }, steps)
}

#[test]
fn runs_are_listed_with_how_they_ended() {
    let ended = State::Ended { outcome: RunOutcome::TimedOut, took: Duration::from_secs(1), artifacts: None };
    let slow = report("test", Outcome::TimedOut { limit_ms: 1_000 }, 1_000);
    let runs = [
        run(15, State::Running, vec![report("fetch", Outcome::Passed, 100)]),
        failed(),
        run(13, State::Interrupted, vec![]),
        run(9, ended, vec![slow]),
    ];
    assert_eq!(
        table(&listed(&runs, at(125))),
        [
            "RUN  PIPELINE  OUTCOME      BEGAN   TOOK   STEPS",
            "15   ci        running      2m ago  -      1 ran",
            "14   ci        failed       2m ago  33.5s  1 cached, 2 ran, 1 failed",
            "13   ci        interrupted  2m ago  -      -",
            "9    ci        timed out    2m ago  1.0s   1 ran, 1 failed",
        ]
    );
    assert_eq!(row(&runs[3]).outcome, "timed_out");
    assert_eq!(row(&runs[1]).counts, Counts { cached: 1, ran: 2, failed: 1, skipped: 1 });
}

#[test]
fn a_run_is_shown_step_by_step() {
    assert_eq!(
        picture(&failed(), at(125)),
        [
            "ci  run 14  failed, began 2m ago, took 33.5s",
            "STEP    OUTCOME                   TOOK         KEY",
            "fetch   cached (run 9)            12.0s saved  a1b2c3d4",
            "test    passed                    31.4s        a1b2c3d4",
            "lint    failed: exit 1            2.1s         a1b2c3d4",
            "report  skipped, because of lint  -            -",
            "artifacts: 3 files in /shop/out",
            "Next: setpoint runs logs 14 lint",
        ]
    );
    let cut_off = run(13, State::Interrupted, vec![report("fetch", Outcome::Passed, 100)]);
    assert_eq!(
        picture(&cut_off, at(3))[..3],
        [
            "ci  run 13  interrupted, began 3s ago",
            "STEP    OUTCOME    TOOK  KEY",
            "fetch   passed     0.1s  a1b2c3d4"
        ]
    );
    assert_eq!(picture(&cut_off, at(3))[3], "test    not ended  -     -");
}

#[test]
fn words_name_a_run_a_step_or_both() {
    let text = |text: &str| Some(text.to_owned());
    for (words, expected) in [
        ((None, None), (None, None)),
        ((text("14"), None), (Some(14), None)),
        ((text("lint"), None), (None, text("lint"))),
        ((text("14"), text("lint")), (Some(14), text("lint"))),
    ] {
        assert_eq!(meant(words.0.clone(), words.1.clone()).unwrap(), expected, "{words:?}");
    }
    let failure = meant(text("lint"), text("test")).unwrap_err();
    assert_eq!((failure.exit, failure.kind), (Exit::Usage, "which-run"));
}

#[test]
fn a_step_that_is_not_there_is_told_with_the_nearest() {
    assert_eq!(named(&failed(), "lint").unwrap(), name("lint"));
    let failure = named(&failed(), "lnit").unwrap_err();
    assert_eq!((failure.exit, failure.kind), (Exit::NotFound, "no-step"));
    assert_eq!(failure.message, "run 14 has no step `lnit`");
    assert_eq!(failure.hint.as_deref(), Some("did you mean `lint`?"));
    let far = named(&failed(), "../../secrets").unwrap_err();
    assert_eq!(far.hint.as_deref(), Some("`setpoint runs show 14` lists its steps"));
    let empty = Run { plan: vec![], ..run(1, State::Interrupted, vec![]) };
    assert!(named(&empty, "lint").unwrap_err().hint.unwrap().contains("not come so far"));
}

#[test]
fn a_silence_is_told_from_a_death() {
    let said = |run: &Run, step: &str| remark(run, Some(&name(step)));
    assert_eq!(said(&failed(), "lint").as_deref(), Some("lint said nothing in run 14"));
    assert_eq!(said(&failed(), "report"), None);
    assert_eq!(
        said(&run(3, State::Running, vec![]), "lint").as_deref(),
        Some("lint has said nothing yet in run 3")
    );
    assert_eq!(remark(&failed(), None), None);
    let died = remark(&run(3, State::Interrupted, vec![]), None).unwrap();
    assert!(died.starts_with("run 3 was interrupted"), "{died}");
}

/// The logs of a project whose later runs took the results of the first.
mod kept {
    use super::*;
    use setpoint_runtime::paths::Roots;
    use setpoint_runtime::pipeline::events::{Event, Listener as _, RunReport};
    use setpoint_runtime::runs::RunLog;

    const QUIET: Output = Output { json: false, quiet: true, verbose: 0 };

    fn keep(roots: &Roots, report: &StepReport, lines: &[&str]) {
        let pipeline = PipelineName::new("ci").unwrap();
        let mut log = RunLog::begin(roots, std::path::Path::new("/shop"), &pipeline).unwrap();
        for line in lines {
            log.hear(&Event::Output { step: report.step.clone(), line: (*line).to_owned() });
        }
        let took = Duration::from_secs(1);
        let steps = vec![report.clone()];
        log.hear(&Event::StepEnded { report: report.clone() });
        log.hear(&Event::RunEnded {
            report: RunReport { outcome: RunOutcome::Passed, took, steps, artifacts: None },
        });
    }

    #[test]
    fn a_cached_step_is_looked_up_in_the_run_that_made_it() {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots { state: folder.path().to_owned(), config: folder.path().to_owned() };
        keep(&roots, &report("test", Outcome::Passed, 1), &["said in run 1"]);
        let cached = StepReport { made_in: Some(1), ..report("test", Outcome::Cached, 0) };
        keep(&roots, &cached, &[]);
        let lost = StepReport { made_in: Some(77), ..cached.clone() };
        keep(&roots, &lost, &[]);
        keep(&roots, &StepReport { made_in: None, ..cached }, &[]);

        let runs = runs::Runs::of(&roots, std::path::Path::new("/shop"));
        let said = |run| said_in(QUIET, &runs, &runs.read(Some(run)).unwrap(), &name("test"));
        assert_eq!(said(1).unwrap(), 1);
        assert_eq!(said(2).unwrap(), 1);
        let failure = said(3).unwrap_err();
        assert_eq!((failure.exit, failure.kind), (Exit::NotFound, "no-log"));
        assert!(failure.message.contains("ran in run 77: there is no run 77"), "{}", failure.message);
        assert!(said(4).unwrap_err().message.contains("did not run in this project"));
    }
}
