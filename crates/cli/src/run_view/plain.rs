//! Whole lines, each with its step: for logs of CI, pipes, and whoever wants all that is said.

use std::time::{Duration, Instant};

use setpoint_runtime::pipeline::events::{Event, Listener, StepReport};

use super::Sink;
use super::text::{bare, prefixed, shown};
use super::words::{Known, detail, failure, last_line, listed, mark, next, step_line, summary};
use crate::output::{RESET, span};

/// The width of the summary: where lines go to a file, nobody knows one.
const WIDTH: usize = 80;
/// The bytes that are held back at most.
const BUFFER: usize = 64 * 1024;
/// How long a line is held back at most when others follow it.
const HOLD: Duration = Duration::from_millis(100);

/// Prints every line of every step, in the order in which they came.
pub(super) struct Plain {
    sink: Sink,
    known: Known,
    held: String,
    shown: Instant,
    /// The steps that did not end well: among the lines of many steps, theirs are told once more at the end.
    bad: Vec<StepReport>,
}

impl Plain {
    pub(super) fn new(sink: Sink) -> Self {
        Self { sink, known: Known::default(), held: String::new(), shown: Instant::now(), bad: Vec::new() }
    }

    fn line(&mut self, line: &str) {
        self.held.push_str(line);
        self.held.push('\n');
    }

    fn show(&mut self) {
        if !self.held.is_empty() {
            (self.sink)(&std::mem::take(&mut self.held));
        }
        self.shown = Instant::now();
    }

    fn step_ended(&mut self, report: &StepReport) {
        let (word, colour) = mark(&report.outcome);
        let reset = if colour.is_empty() { "" } else { RESET };
        let line = format!("{}: {colour}{word}{reset}  {}", report.step, detail(report));
        self.line(line.trim_end());
        if report.outcome.is_bad() {
            self.bad.push(report.clone());
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::RunBegan { .. } => self.line(&self.known.header()),
            Event::Note { step: Some(step), text } => self.line(&format!("{step}: note: {}", bare(text))),
            Event::Note { step: None, text } => self.line(&format!("note: {}", bare(text))),
            Event::StepBegan { step, attempt: 1 } => {
                let line = format!("{step}: begins  {}", self.known.command(step));
                self.line(line.trim_end());
            }
            Event::StepBegan { step, attempt } => self.line(&format!("{step}: begins try {attempt}")),
            Event::StepWaits { step } => {
                self.line(&format!("{step}: waits for another process that makes the same result"));
            }
            Event::StepServices { step, services } => {
                self.line(&format!("{step}: brings up {}", listed(services)));
            }
            Event::StepFetches { .. } | Event::ServiceOutput { .. } => {}
            Event::Output { step, line } => {
                shown(line).for_each(|line| self.line(&prefixed(step.as_str(), &line)));
            }
            Event::StepRetries { step, attempt, outcome, delay } => {
                let (how, delay) = (super::how(outcome), span(*delay));
                self.line(&format!("{step}: try {attempt} {how}; the next in {delay}"));
            }
            Event::StepEnded { report } => self.step_ended(report),
            Event::RunEnded { report } => {
                self.line("");
                for bad in std::mem::take(&mut self.bad) {
                    self.line(&step_line(&self.known, &bad, WIDTH));
                    failure(&self.known, &bad, WIDTH).iter().for_each(|line| self.line(line));
                }
                summary(&self.known, report, WIDTH).iter().for_each(|line| self.line(line));
            }
        }
    }
}

impl Listener for Plain {
    fn hear(&mut self, event: &Event) {
        self.known.learn(event);
        self.event(event);
        let may_wait = matches!(event, Event::Output { .. } | Event::ServiceOutput { .. });
        if !may_wait || self.held.len() >= BUFFER || self.shown.elapsed() >= HOLD {
            self.show();
        }
    }

    fn settle(&mut self) {
        self.show();
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.show();
    }
}

/// Tells of a run only what went wrong, and how it ended.
pub(super) struct Quiet {
    sink: Sink,
    known: Known,
}

impl Quiet {
    pub(super) fn new(sink: Sink) -> Self {
        Self { sink, known: Known::default() }
    }
}

impl Listener for Quiet {
    fn hear(&mut self, event: &Event) {
        self.known.learn(event);
        let lines = match event {
            Event::StepEnded { report } if report.outcome.is_bad() => {
                let mut lines = vec![step_line(&self.known, report, WIDTH)];
                lines.extend(failure(&self.known, report, WIDTH));
                lines
            }
            Event::RunEnded { report } => {
                let next = next(&self.known, report).map(|next| format!("Next: {next}"));
                last_line(&self.known, report, WIDTH).into_iter().chain(next).collect()
            }
            _ => return,
        };
        (self.sink)(&(lines.join("\n") + "\n"));
    }
}
