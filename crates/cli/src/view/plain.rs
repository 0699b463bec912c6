//! Plain lines, for pipes, logs and `--plain`: every line whole, in order, and none left out.

use setpoint_model::pipeline::outcome::Outcome;
use setpoint_runtime::pipeline::events::{Event, Listener};

use super::text::{Told, clean};
use crate::output::{Output, span};

/// The columns of a line; nobody looks at a pipe's width.
const COLUMNS: usize = 80;

pub(super) struct Plain {
    output: Output,
    told: Told,
}

impl Plain {
    pub(super) fn new(output: Output) -> Self {
        Self { output, told: Told::default() }
    }

    fn step(&self, step: &str, text: &str) {
        self.output.progress(format!("{step:<0$} | {text}", self.told.width));
    }
}

impl Listener for Plain {
    fn hear(&mut self, event: &Event) {
        match event {
            Event::RunBegan { run, pipeline, steps, files } => {
                self.told = Told::new(*run, pipeline.as_str(), steps);
                self.output.progress(self.told.header(*files));
            }
            Event::Note { step: Some(step), text } => self.output.progress(format!("note: {step}: {text}")),
            Event::Note { step: None, text } => self.output.progress(format!("note: {text}")),
            Event::StepBegan { step, attempt } => {
                let plan = self.told.steps.iter().find(|plan| plan.step == *step);
                let command = plan.map(|plan| plan.command.lines().next().unwrap_or_default());
                let tries = if *attempt > 1 { format!(" (try {attempt})") } else { String::new() };
                self.step(step.as_str(), &format!("$ {}{tries}", clean(command.unwrap_or_default())));
            }
            Event::StepWaits { step } => {
                self.step(step.as_str(), "waits for another run that makes the same")
            }
            Event::StepFetches { step, done, total } => {
                if Some(*done) == *total {
                    self.step(step.as_str(), &format!("fetched {} MB", done / 1_000_000));
                }
            }
            Event::Output { step, line } => self.step(step.as_str(), &clean(line)),
            Event::StepRetries { step, outcome, delay, .. } => {
                let how = match outcome {
                    Outcome::Failed { how } => how.to_string(),
                    other => other.word().to_owned(),
                };
                self.step(step.as_str(), &format!("{how}; tried again in {}", span(*delay)));
            }
            Event::StepEnded { report } => {
                let is_bad = report.outcome.is_bad();
                if self.output.quiet && !is_bad {
                    return;
                }
                let lines = std::iter::once(self.told.ended(report, COLUMNS)).chain(self.told.tail(report));
                for line in lines {
                    if self.output.quiet { self.output.problem(line) } else { self.output.progress(line) }
                }
            }
            Event::RunEnded { report } => {
                let lines = self.told.summary(report);
                if self.output.quiet {
                    self.output.line(&lines[0]);
                } else {
                    lines.iter().for_each(|line| self.output.note(line));
                }
            }
        }
    }
}
