//! When each step of a run may begin, and how it ends: one pure state machine. Whoever leads a run tells it what
//! happened, and does what it says.

use std::collections::BTreeSet;
use std::time::Duration;

use super::graph::{Edge, Graph};
use super::outcome::{Because, Outcome};
use crate::names::StepName;

/// How long is waited before the first retry; each wait is twice the one before.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The longest wait before a retry.
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// How a run is to be scheduled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How many steps run side by side.
    pub jobs: usize,
    /// Whether steps that do not depend on one that ended badly go on.
    pub keep_going: bool,
    /// How often each step is tried again.
    pub retries: Vec<u32>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A step was looked up.
    Resolved(usize, Found),
    /// A try of a step ended.
    Ended(usize, Outcome),
    /// The wait before a retry is over.
    Due(usize),
    /// The run is to stop, by request.
    Cancel,
    /// The run is out of time.
    OutOfTime {
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
}

/// What came of looking a step up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// There is a result that can be taken.
    Hit,
    /// There is none: it has to run.
    Miss,
    /// It is no part of this run; with what of its `when` does not hold.
    NotPart(String),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Look a step up: everything that it depends on has ended.
    Resolve(usize),
    /// Run a step.
    Start {
        /// Which.
        step: usize,
        /// The number of the try, counted from 1.
        attempt: u32,
    },
    /// Wait, and then say that it is due.
    Retry {
        /// Which.
        step: usize,
        /// The number of the try that ended.
        attempt: u32,
        /// How it ended.
        outcome: Outcome,
        /// How long to wait.
        delay: Duration,
    },
    /// Ask a step that runs to stop.
    Stop(usize),
    /// A step has ended, for good.
    Ended(usize, Outcome),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// It is no part of the run.
    Unwanted,
    /// Something that it depends on has not ended.
    Waiting,
    /// It is being looked up.
    Resolving,
    /// It has to run, and waits for its turn; with how its last try ended, if it had one.
    Ready {
        attempt: u32,
        last: Option<Outcome>,
    },
    Running {
        attempt: u32,
    },
    /// It waits to be tried again.
    Sleeping {
        attempt: u32,
        last: Outcome,
    },
    Ended(Outcome),
}

impl State {
    /// Whether it has not begun.
    fn is_pending(&self) -> bool {
        matches!(self, Self::Waiting | Self::Resolving | Self::Ready { last: None, .. })
    }
}

/// Why no step begins any more.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ending {
    Cancelled,
    OutOfTime { limit_ms: u64 },
}

/// The schedule of a run.
#[derive(Debug, Clone)]
pub struct Schedule {
    graph: Graph,
    names: Vec<StepName>,
    options: Options,
    states: Vec<State>,
    ending: Option<Ending>,
    /// The first step that ended badly.
    first_bad: Option<usize>,
    /// The length of the longest chain that begins with a step.
    weight: Vec<usize>,
}

/// What a step's parents say about it.
enum Parents {
    Pending,
    Good,
    Bad(StepName),
}

impl Schedule {
    /// The schedule of these steps, which are given by their places. Steps stand after those that they depend on.
    #[must_use]
    pub fn new(graph: Graph, names: Vec<StepName>, wanted: &BTreeSet<usize>, options: Options) -> Self {
        let states = (0..graph.len())
            .map(|step| if wanted.contains(&step) { State::Waiting } else { State::Unwanted })
            .collect();
        let mut weight = vec![0; graph.len()];
        for step in (0..graph.len()).rev() {
            let below = graph.children(step).iter().map(|(child, _)| weight[*child]).max();
            weight[step] = 1 + below.unwrap_or(0);
        }
        let options = Options { jobs: options.jobs.max(1), ..options };
        Self { graph, names, options, states, ending: None, first_bad: None, weight }
    }

    /// What to do first.
    pub fn begin(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        self.advance(&mut actions);
        actions
    }

    /// Takes note of what happened, and says what to do. What comes too late, or of a step that does not run, is
    /// ignored.
    pub fn handle(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Resolved(step, found) => {
                if self.states[step] == State::Resolving {
                    match found {
                        Found::Hit => self.end(step, Outcome::Cached, &mut actions),
                        Found::Miss => self.states[step] = State::Ready { attempt: 1, last: None },
                        Found::NotPart(why) => {
                            let outcome = Outcome::Skipped { because: Because::When(why) };
                            self.end(step, outcome, &mut actions);
                        }
                    }
                }
            }
            Event::Ended(step, outcome) => {
                if let State::Running { attempt } = self.states[step] {
                    self.ended(step, attempt, outcome, &mut actions);
                }
            }
            Event::Due(step) => {
                if let State::Sleeping { attempt, last } = self.states[step].clone() {
                    self.states[step] = State::Ready { attempt: attempt + 1, last: Some(last) };
                }
            }
            Event::Cancel => self.stop(Ending::Cancelled, &mut actions),
            Event::OutOfTime { limit_ms } => self.stop(Ending::OutOfTime { limit_ms }, &mut actions),
        }
        self.advance(&mut actions);
        actions
    }

    /// Whether every step has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.states.iter().all(|state| matches!(state, State::Ended(_) | State::Unwanted))
    }

    /// How a step ended, if it has.
    #[must_use]
    pub fn outcome(&self, step: usize) -> Option<&Outcome> {
        match &self.states[step] {
            State::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    fn end(&mut self, step: usize, outcome: Outcome, actions: &mut Vec<Action>) {
        if outcome.is_bad() && outcome != Outcome::Cancelled {
            self.first_bad.get_or_insert(step);
        }
        self.states[step] = State::Ended(outcome.clone());
        actions.push(Action::Ended(step, outcome));
    }

    fn ended(&mut self, step: usize, attempt: u32, outcome: Outcome, actions: &mut Vec<Action>) {
        let outcome = match (&self.ending, outcome) {
            (Some(Ending::OutOfTime { limit_ms }), Outcome::Cancelled) => {
                Outcome::TimedOut { limit_ms: *limit_ms }
            }
            (_, outcome) => outcome,
        };
        let may_retry = matches!(outcome, Outcome::Failed { .. } | Outcome::TimedOut { .. })
            && attempt <= self.options.retries.get(step).copied().unwrap_or(0)
            && self.ending.is_none();
        if !may_retry {
            return self.end(step, outcome, actions);
        }
        let delay = FIRST_DELAY.saturating_mul(2_u32.saturating_pow(attempt - 1)).min(LONGEST_DELAY);
        self.states[step] = State::Sleeping { attempt, last: outcome.clone() };
        actions.push(Action::Retry { step, attempt, outcome, delay });
    }

    fn stop(&mut self, ending: Ending, actions: &mut Vec<Action>) {
        if self.ending.is_some() {
            return;
        }
        for step in 0..self.states.len() {
            match &self.states[step] {
                State::Running { .. } => actions.push(Action::Stop(step)),
                // It failed before anybody asked: that it would have been tried again changes nothing.
                State::Sleeping { last, .. } | State::Ready { last: Some(last), .. } => {
                    let last = last.clone();
                    self.end(step, last, actions);
                }
                _ => {}
            }
        }
        self.ending = Some(ending);
    }

    /// Lets every step go as far as it can.
    fn advance(&mut self, actions: &mut Vec<Action>) {
        if self.ending.is_some() {
            return self.end_pending(actions);
        }
        // Steps stand after their parents: one pass is enough.
        for step in 0..self.states.len() {
            if self.states[step] != State::Waiting {
                continue;
            }
            match self.parents(step) {
                Parents::Bad(culprit) => {
                    let because = Because::Step(culprit);
                    self.end(step, Outcome::Skipped { because }, actions);
                }
                Parents::Good if self.survives(step) => {
                    self.states[step] = State::Resolving;
                    actions.push(Action::Resolve(step));
                }
                Parents::Good | Parents::Pending => {}
            }
        }
        self.give_up(actions);
        self.start(actions);
    }

    /// Ends what has not begun when the run is to stop.
    fn end_pending(&mut self, actions: &mut Vec<Action>) {
        let runs = self.states.iter().any(|state| matches!(state, State::Running { .. }));
        for step in 0..self.states.len() {
            if !self.states[step].is_pending() {
                continue;
            }
            let outcome = match self.ending {
                // That of a run out of time has to show somewhere.
                Some(Ending::OutOfTime { limit_ms }) if !runs => Outcome::TimedOut { limit_ms },
                _ => Outcome::Cancelled,
            };
            self.end(step, outcome, actions);
        }
    }

    fn parents(&self, step: usize) -> Parents {
        let mut all_ended = true;
        for (parent, edge) in self.graph.parents(step) {
            let outcome = match &self.states[*parent] {
                State::Ended(outcome) => outcome,
                State::Unwanted => continue,
                _ => {
                    all_ended = false;
                    continue;
                }
            };
            let is_blocked = match (edge, outcome) {
                (Edge::After, _) => false,
                // What is no part of the run is nothing to wait for, but there are no files of it either.
                (Edge::Needs, Outcome::Skipped { because: Because::When(_) }) => false,
                (Edge::From | Edge::Take | Edge::Needs, outcome) => !outcome.is_good(),
            };
            if is_blocked {
                return Parents::Bad(self.culprit(*parent, outcome));
            }
        }
        if all_ended { Parents::Good } else { Parents::Pending }
    }

    /// The step that a skip goes back to.
    fn culprit(&self, step: usize, outcome: &Outcome) -> StepName {
        match outcome {
            Outcome::Skipped { because: Because::Step(culprit) } => culprit.clone(),
            _ => self.names[step].clone(),
        }
    }

    fn survives(&self, step: usize) -> bool {
        self.options.keep_going || self.first_bad.is_none() || self.survivors().contains(&step)
    }

    /// Without `keep_going`, ends what has not begun and nobody waits for once a step has ended badly.
    fn give_up(&mut self, actions: &mut Vec<Action>) {
        let (Some(first_bad), false) = (self.first_bad, self.options.keep_going) else { return };
        let survivors = self.survivors();
        for step in 0..self.states.len() {
            if self.states[step].is_pending() && !survivors.contains(&step) {
                let because = Because::Step(self.names[first_bad].clone());
                self.end(step, Outcome::Skipped { because }, actions);
            }
        }
    }

    /// The steps that go on after one has ended badly: those that come `after` it whatever became of it, what
    /// depends on those, and all that these wait for.
    fn survivors(&self) -> BTreeSet<usize> {
        // Also those that have survived to their end: what depends on them goes on too.
        let mut survivors = BTreeSet::new();
        // What can no longer run, because of what it depends on.
        let mut doomed = BTreeSet::new();
        let is_lost = |step: &usize, doomed: &BTreeSet<usize>| {
            doomed.contains(step)
                || matches!(&self.states[*step], State::Ended(outcome) if !outcome.is_good()
                    && !matches!(outcome, Outcome::Skipped { because: Because::When(_) }))
        };
        for step in 0..self.states.len() {
            if is_lost(&step, &doomed) {
                continue;
            }
            let parents = self.graph.parents(step);
            if parents.iter().any(|(parent, edge)| *edge != Edge::After && is_lost(parent, &doomed)) {
                doomed.insert(step);
            } else if parents.iter().any(|(parent, _)| is_lost(parent, &doomed) || survivors.contains(parent))
            {
                survivors.insert(step);
            }
        }
        let found: Vec<usize> = survivors.iter().copied().collect();
        let awaited = self.graph.needed_for(&found);
        survivors.extend(awaited.into_iter().filter(|step| !doomed.contains(step)));
        survivors
    }

    /// Starts steps while there is room, those first that the longest chain waits for.
    fn start(&mut self, actions: &mut Vec<Action>) {
        let running = self.states.iter().filter(|state| matches!(state, State::Running { .. })).count();
        let mut ready: Vec<(usize, u32)> = self
            .states
            .iter()
            .enumerate()
            .filter_map(|(step, state)| match state {
                State::Ready { attempt, .. } => Some((step, *attempt)),
                _ => None,
            })
            .collect();
        ready.sort_by_key(|(step, _)| (std::cmp::Reverse(self.weight[*step]), *step));
        for (step, attempt) in ready.into_iter().take(self.options.jobs.saturating_sub(running)) {
            self.states[step] = State::Running { attempt };
            actions.push(Action::Start { step, attempt });
        }
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
