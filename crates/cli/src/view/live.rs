//! A live list on a terminal: what ended scrolls up, what runs stands below with its time and its last line.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use setpoint_model::names::StepName;
use setpoint_runtime::pipeline::events::{Event, Listener};

use super::text::{Told, clean, cut};
use crate::output::Output;

/// How many steps that run are shown, each on its own line.
const SHOWN: usize = 12;

pub(super) struct Live {
    output: Output,
    told: Told,
    bars: MultiProgress,
    running: BTreeMap<StepName, ProgressBar>,
    /// Those that run and are not shown.
    more: ProgressBar,
    hidden: Vec<StepName>,
}

impl Live {
    pub(super) fn new(output: Output) -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self {
            output,
            told: Told::default(),
            bars,
            running: BTreeMap::new(),
            more: ProgressBar::hidden(),
            hidden: Vec::new(),
        }
    }

    fn columns() -> usize {
        usize::from(rustix::termios::tcgetwinsize(rustix::stdio::stderr()).map_or(80, |size| size.ws_col))
            .max(30)
    }

    fn print(&self, line: &str) {
        self.bars.suspend(|| self.output.progress(line));
    }

    fn begin(&mut self, step: &StepName, attempt: u32) {
        if self.running.len() >= SHOWN {
            self.hidden.push(step.clone());
            return self.tell_hidden();
        }
        let bar = self.bars.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("  {spinner} {prefix} {elapsed:>4} {wide_msg}") {
            bar.set_style(style);
        }
        let tries = if attempt > 1 { format!(" (try {attempt})") } else { String::new() };
        bar.set_prefix(format!("{:<1$}{tries}", step.as_str(), self.told.width));
        bar.enable_steady_tick(Duration::from_millis(120));
        self.running.insert(step.clone(), bar);
    }

    fn end(&mut self, step: &StepName) {
        self.hidden.retain(|hidden| hidden != step);
        if let Some(bar) = self.running.remove(step) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
            if let Some(next) = self.hidden.pop() {
                self.begin(&next, 1);
            }
        }
        self.tell_hidden();
    }

    fn tell_hidden(&mut self) {
        if self.hidden.is_empty() {
            self.more.finish_and_clear();
            self.bars.remove(&self.more);
            self.more = ProgressBar::hidden();
            return;
        }
        if self.more.is_hidden() {
            self.more = self.bars.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("    {msg}") {
                self.more.set_style(style);
            }
        }
        self.more.set_message(format!("+{} more", self.hidden.len()));
    }

    fn message(&self, step: &StepName, text: &str) {
        if let Some(bar) = self.running.get(step) {
            bar.set_message(cut(&clean(text), Self::columns()));
        }
    }
}

impl Listener for Live {
    fn hear(&mut self, event: &Event) {
        match event {
            Event::RunBegan { run, pipeline, steps, files } => {
                self.told = Told::new(*run, pipeline.as_str(), steps);
                self.print(&self.told.header(*files));
            }
            Event::Note { step: Some(step), text } => self.print(&format!("  note      {step}: {text}")),
            Event::Note { step: None, text } => self.print(&format!("  note      {text}")),
            Event::StepBegan { step, attempt } => {
                self.end(step);
                self.begin(step, *attempt);
            }
            Event::StepWaits { step } => {
                self.begin(step, 1);
                self.message(step, "waits for another run that makes the same");
            }
            Event::StepFetches { step, done, total } => {
                if !self.running.contains_key(step) {
                    self.begin(step, 1);
                }
                let total = total.map_or_else(String::new, |total| format!(" of {}", total / 1_000_000));
                self.message(step, &format!("fetches {}{total} MB", done / 1_000_000));
                if self.told.pipeline.is_empty() && event_is_whole(event) {
                    self.end(step);
                }
            }
            Event::Output { step, line } => {
                if self.output.verbose > 0 {
                    self.print(&format!("  | {:<1$} {2}", step.as_str(), self.told.width, clean(line)));
                }
                self.message(step, line);
            }
            Event::StepRetries { step, delay, .. } => {
                self.message(step, &format!("failed; tried again in {} s", delay.as_secs()));
            }
            Event::StepEnded { report } => {
                self.end(&report.step);
                self.print(&self.told.ended(report, Self::columns()));
                self.told.tail(report).iter().for_each(|line| self.print(line));
            }
            Event::RunEnded { report } => {
                let _ = self.bars.clear();
                self.told.summary(report).iter().for_each(|line| self.output.note(line));
            }
        }
    }
}

/// Whether all of what is fetched has arrived.
fn event_is_whole(event: &Event) -> bool {
    matches!(event, Event::StepFetches { done, total: Some(total), .. } if done == total)
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.bars.clear();
    }
}
