use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::pipeline::graph::Graph;
use crate::pipeline::ir::{Run, Step};
use crate::pipeline::outcome::{How, RunOutcome};

fn name(step: usize) -> StepName {
    StepName::new(format!("s{step:03}")).unwrap()
}

/// Steps by their edges: `from 0`, `needs 1 2`, `after 0`, `take 1`.
fn graph(edges: &[&str]) -> Graph {
    let steps: Vec<Step> = edges
        .iter()
        .enumerate()
        .map(|(at, edges)| {
            let mut step = Step::new(name(at), Run::Shell("x".to_owned()));
            let mut kind = "";
            for word in edges.split_whitespace() {
                let Ok(parent) = word.parse::<usize>() else {
                    kind = word;
                    continue;
                };
                match kind {
                    "from" => step.from = Some(name(parent)),
                    "needs" => step.needs.push(name(parent)),
                    "after" => step.after.push(name(parent)),
                    _ => step.take.push(name(parent)),
                }
            }
            step
        })
        .collect();
    Graph::new(&steps)
}

fn schedule(graph: Graph, options: Options) -> Schedule {
    let (names, wanted) = ((0..graph.len()).map(name).collect(), (0..graph.len()).collect());
    Schedule::new(graph, names, &wanted, options)
}

fn options(jobs: usize, keep_going: bool) -> Options {
    Options { jobs, keep_going, retries: Vec::new() }
}

fn failed() -> Outcome {
    Outcome::Failed { how: How::Exit(1) }
}

fn skipped(step: usize) -> Outcome {
    Outcome::Skipped { because: Because::Step(name(step)) }
}

/// Drives a schedule to its end: steps are misses, and end as the table says, else well.
fn outcomes(edges: &[&str], options: Options, ends: &[(usize, Outcome)]) -> Vec<Outcome> {
    let graph = graph(edges);
    let len = graph.len();
    let mut schedule = schedule(graph, options);
    let mut actions: std::collections::VecDeque<Action> = schedule.begin().into();
    while let Some(action) = actions.pop_front() {
        let event = match action {
            Action::Resolve(step) => Event::Resolved(step, Found::Miss),
            Action::Start { step, .. } => {
                let end = ends.iter().find(|(at, _)| *at == step).map(|(_, end)| end.clone());
                Event::Ended(step, end.unwrap_or(Outcome::Passed))
            }
            Action::Retry { step, .. } => Event::Due(step),
            Action::Stop(_) | Action::Ended(..) => continue,
        };
        actions.extend(schedule.handle(event));
    }
    assert!(schedule.is_finished());
    (0..len).map(|step| schedule.outcome(step).unwrap().clone()).collect()
}

#[test]
fn a_failure_skips_what_depends_on_it_and_names_where_it_began() {
    let ends = outcomes(&["", "from 0", "needs 1", "take 2"], options(1, true), &[(0, failed())]);
    assert_eq!(ends, [failed(), skipped(0), skipped(0), skipped(0)]);
}

#[test]
fn keep_going_runs_what_does_not_depend_on_a_failure_and_without_it_nothing_new_begins() {
    let edges = ["", "", "needs 0", "needs 1"];
    let failing = [(0, failed())];
    assert_eq!(
        outcomes(&edges, options(1, true), &failing),
        [failed(), Outcome::Passed, skipped(0), Outcome::Passed]
    );
    assert_eq!(outcomes(&edges, options(1, false), &failing), [failed(), skipped(0), skipped(0), skipped(0)]);
}

#[test]
fn what_runs_when_another_step_fails_goes_on_to_its_end() {
    let ends = outcomes(&["", "", "needs 1"], options(2, false), &[(0, failed())]);
    assert_eq!(ends, [failed(), Outcome::Passed, skipped(0)]);
}

#[test]
fn what_comes_after_runs_whatever_became_of_it_with_all_that_it_waits_for() {
    // 0 and 1 are tests, 2 a report after both, 3 needs the report, 4 has nothing to do with it.
    let edges = ["", "", "after 0 1", "needs 2", ""];
    let ends = outcomes(&edges, options(1, false), &[(0, failed())]);
    let (passed, skip) = (Outcome::Passed, skipped(0));
    assert_eq!(ends, [failed(), passed.clone(), passed.clone(), passed, skip]);
}

#[test]
fn a_barrier_after_one_that_goes_on_still_fails_on_the_earlier_failure() {
    let ends = outcomes(&["", "after 0", "needs 0 1"], options(1, false), &[(0, failed())]);
    assert_eq!(ends, [failed(), Outcome::Passed, skipped(0)]);
}

#[test]
fn a_step_that_is_no_part_of_the_run_is_nothing_to_wait_for_but_leaves_no_files() {
    let mut schedule = schedule(graph(&["", "needs 0", "from 0"]), options(1, false));
    assert_eq!(schedule.begin(), [Action::Resolve(0)]);
    let actions = schedule.handle(Event::Resolved(0, Found::NotPart("branch".to_owned())));
    let because = Because::When("branch".to_owned());
    assert_eq!(
        actions,
        [Action::Ended(0, Outcome::Skipped { because }), Action::Resolve(1), Action::Ended(2, skipped(0)),]
    );
}

#[test]
fn a_failed_try_is_tried_again_and_waits_longer_each_time() {
    let mut schedule = schedule(graph(&["", ""]), Options { retries: vec![7, 0], ..options(1, true) });
    schedule.begin();
    schedule.handle(Event::Resolved(0, Found::Miss));
    let mut delays = Vec::new();
    for attempt in 1..=7 {
        let actions = schedule.handle(Event::Ended(0, failed()));
        let Some(Action::Retry { attempt: told, delay, .. }) = actions.first() else { panic!("{actions:?}") };
        assert_eq!(*told, attempt);
        delays.push(delay.as_secs());
        assert_eq!(schedule.handle(Event::Due(0)), [Action::Start { step: 0, attempt: attempt + 1 }]);
    }
    assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(schedule.handle(Event::Ended(0, failed()))[0], Action::Ended(0, failed()));
}

#[test]
fn a_step_that_waits_for_its_next_try_gives_its_place_to_others() {
    let mut schedule = schedule(graph(&["", ""]), Options { retries: vec![1, 0], ..options(1, true) });
    schedule.begin();
    schedule.handle(Event::Resolved(0, Found::Miss));
    schedule.handle(Event::Resolved(1, Found::Miss));
    let actions = schedule.handle(Event::Ended(0, failed()));
    assert_eq!(actions[1], Action::Start { step: 1, attempt: 1 });
}

#[test]
fn what_could_not_be_run_is_not_tried_again() {
    let errored = Outcome::Errored { what: "disk".to_owned() };
    let options = Options { retries: vec![3], ..options(1, true) };
    assert_eq!(outcomes(&[""], options, &[(0, errored.clone())]), [errored]);
}

#[test]
fn a_failure_is_never_reported_as_a_cancel() {
    let mut schedule = schedule(graph(&["", "", ""]), Options { retries: vec![1, 0, 0], ..options(2, true) });
    schedule.begin();
    (0..3).for_each(|step| {
        schedule.handle(Event::Resolved(step, Found::Miss));
    });
    // 0 failed and waits to be tried again; 1 and 2 run.
    schedule.handle(Event::Ended(0, failed()));
    let actions = schedule.handle(Event::Cancel);
    assert_eq!(actions, [Action::Ended(0, failed()), Action::Stop(1), Action::Stop(2)]);
    schedule.handle(Event::Ended(1, failed()));
    schedule.handle(Event::Ended(2, Outcome::Cancelled));
    let ends: Vec<_> = (0..3).map(|step| schedule.outcome(step).unwrap().clone()).collect();
    assert_eq!(ends, [failed(), failed(), Outcome::Cancelled]);
    assert_eq!(RunOutcome::of(&ends), RunOutcome::Failed);
}

#[test]
fn a_run_out_of_time_is_told_apart_from_one_that_was_stopped() {
    let timed_out = Outcome::TimedOut { limit_ms: 5 };
    let mut busy = schedule(graph(&["", "needs 0"]), options(1, true));
    busy.begin();
    busy.handle(Event::Resolved(0, Found::Miss));
    let actions = busy.handle(Event::OutOfTime { limit_ms: 5 });
    assert_eq!(actions, [Action::Stop(0), Action::Ended(1, Outcome::Cancelled)]);
    busy.handle(Event::Ended(0, Outcome::Cancelled));
    assert_eq!(busy.outcome(0), Some(&timed_out));
    let mut idle = schedule(graph(&[""]), options(1, true));
    idle.begin();
    assert_eq!(idle.handle(Event::OutOfTime { limit_ms: 5 }), [Action::Ended(0, timed_out)]);
}

#[test]
fn the_longest_chain_goes_first() {
    let mut schedule = schedule(graph(&["", "", "", "needs 2"]), options(1, true));
    schedule.begin();
    (0..3).for_each(|step| {
        schedule.handle(Event::Resolved(step, Found::Miss));
    });
    let actions = schedule.handle(Event::Ended(0, Outcome::Passed));
    assert_eq!(actions[1], Action::Start { step: 2, attempt: 1 });
}

#[test]
fn what_is_not_wanted_does_not_exist() {
    let graph = graph(&["", "", "needs 0"]);
    let names = (0..3).map(name).collect();
    let mut schedule = Schedule::new(graph, names, &BTreeSet::from([0, 2]), options(1, true));
    assert_eq!(schedule.begin(), [Action::Resolve(0)]);
    schedule.handle(Event::Resolved(0, Found::Hit));
    schedule.handle(Event::Resolved(2, Found::Hit));
    assert!(schedule.is_finished());
    assert_eq!(schedule.outcome(1), None);
}

/// A random graph: each step may depend on earlier ones.
fn graphs() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(proptest::collection::vec((0..4_u8, any::<prop::sample::Index>()), 0..4), 1..24)
        .prop_map(|steps| {
            steps
                .iter()
                .enumerate()
                .map(|(at, edges)| {
                    let mut told = String::new();
                    for (kind, parent) in edges.iter().filter(|_| at > 0) {
                        let kind = ["from", "needs", "after", "take"][usize::from(*kind)];
                        told.push_str(&format!("{kind} {} ", parent.index(at)));
                    }
                    told
                })
                .collect()
        })
}

/// What happens next in a random run.
#[derive(Debug, Clone)]
struct Luck {
    pick: prop::sample::Index,
    how: u8,
}

fn luck() -> impl Strategy<Value = Luck> {
    (any::<prop::sample::Index>(), 0..20_u8).prop_map(|(pick, how)| Luck { pick, how })
}

proptest! {
    #[test]
    fn whatever_happens_the_rules_hold(
        edges in graphs(),
        jobs in 1..4_usize,
        keep_going: bool,
        stop_at in proptest::option::of((0..40_usize, any::<bool>())),
        luck in proptest::collection::vec(luck(), 200),
    ) {
        let texts: Vec<&str> = edges.iter().map(String::as_str).collect();
        let graph = graph(&texts);
        let len = graph.len();
        let retries: Vec<u32> = (0..len).map(|step| u32::from(step % 3 == 0)).collect();
        let mut schedule = schedule(graph.clone(), Options { jobs, keep_going, retries });
        let (mut resolving, mut running, mut sleeping) = (Vec::new(), Vec::new(), Vec::new());
        let mut ended: BTreeMap<usize, Outcome> = BTreeMap::new();
        let mut real_failures: BTreeSet<usize> = BTreeSet::new();
        let mut stopped = false;
        let mut actions = schedule.begin();
        for turn in 0.. {
            for action in std::mem::take(&mut actions) {
                match action {
                    Action::Resolve(step) => {
                        for (parent, _) in graph.parents(step) {
                            prop_assert!(ended.contains_key(parent), "{step} was looked up before {parent} ended");
                        }
                        resolving.push(step);
                    }
                    Action::Start { step, .. } => {
                        prop_assert!(!stopped, "{step} began in a run that stops");
                        for (parent, edge) in graph.parents(step) {
                            let outcome = &ended[parent];
                            let is_good = outcome.is_good() || *edge == Edge::After
                                || (*edge == Edge::Needs && matches!(outcome, Outcome::Skipped { because: Because::When(_) }));
                            prop_assert!(is_good, "{step} began though {parent} ended {outcome:?}");
                        }
                        running.push(step);
                        prop_assert!(running.len() <= jobs);
                    }
                    Action::Retry { step, .. } => sleeping.push(step),
                    Action::Stop(step) => prop_assert!(running.contains(&step)),
                    Action::Ended(step, outcome) => {
                        sleeping.retain(|asleep| *asleep != step);
                        prop_assert!(ended.insert(step, outcome).is_none(), "{step} ended twice");
                    }
                }
            }
            if schedule.is_finished() {
                break;
            }
            prop_assert!(turn < 1000, "it never ends");
            let chance = &luck[turn % luck.len()];
            let event = match stop_at {
                Some((when, by_hand)) if when == turn => {
                    stopped = true;
                    if by_hand { Event::Cancel } else { Event::OutOfTime { limit_ms: 1 } }
                }
                _ if !resolving.is_empty() => {
                    let step = resolving.swap_remove(chance.pick.index(resolving.len()));
                    Event::Resolved(step, match chance.how {
                        0..=5 => Found::Hit,
                        6 => Found::NotPart("x".to_owned()),
                        _ => Found::Miss,
                    })
                }
                _ if !running.is_empty() => {
                    let step = running.swap_remove(chance.pick.index(running.len()));
                    let outcome = match chance.how {
                        0..=3 => failed(),
                        4 => Outcome::TimedOut { limit_ms: 1 },
                        5 => Outcome::Errored { what: "x".to_owned() },
                        _ if stopped => Outcome::Cancelled,
                        _ => Outcome::Passed,
                    };
                    if outcome == failed() {
                        real_failures.insert(step);
                    } else {
                        real_failures.remove(&step);
                    }
                    Event::Ended(step, outcome)
                }
                _ if !sleeping.is_empty() => Event::Due(sleeping.remove(chance.pick.index(sleeping.len()))),
                _ => {
                    prop_assert!(false, "nothing is under way, and {schedule:?} has not ended");
                    break;
                }
            };
            actions = schedule.handle(event);
        }
        prop_assert_eq!(ended.len(), len, "every step ends");
        for step in real_failures {
            prop_assert_eq!(&ended[&step], &failed(), "{} failed", step);
        }
        if keep_going && !stopped {
            for (step, outcome) in &ended {
                if let Outcome::Skipped { because: Because::Step(_) } = outcome {
                    let is_blocked = graph.parents(*step).iter().any(|(parent, edge)| {
                        *edge != Edge::After && !ended[parent].is_good()
                    });
                    prop_assert!(is_blocked, "{step} was skipped for nothing");
                }
                prop_assert!(*outcome != Outcome::Cancelled);
            }
        }
    }
}
