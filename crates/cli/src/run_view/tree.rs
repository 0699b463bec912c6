//! The live view on a terminal: what ended scrolls up, what runs stands below.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use setpoint_model::names::StepName;
use setpoint_runtime::pipeline::events::{Event, Listener};

use super::Sink;
use super::text::{bare, cut, fit};
use super::words::{Known, failure, listed, step_line, summary};
use crate::output::span;

/// How often what runs is drawn anew.
const TICK: Duration = Duration::from_millis(100);
/// What turns before a step that runs.
const SPINNER: [&str; 8] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧"];

/// The terminal: its columns and rows at present, and what is drawn to.
#[derive(Clone, Copy)]
pub(super) struct Screen {
    pub(super) size: fn() -> (usize, usize),
    pub(super) target: fn() -> ProgressDrawTarget,
}

/// A step that runs.
#[derive(Debug, Clone)]
struct Running {
    step: StepName,
    since: Instant,
    attempt: u32,
    /// The last that it said, or what it waits for.
    doing: String,
}

/// Shows the steps of a run.
pub(super) struct Tree {
    sink: Sink,
    screen: Screen,
    known: Known,
    running: Arc<Mutex<Vec<Running>>>,
    bar: Option<ProgressBar>,
}

impl Tree {
    pub(super) fn new(sink: Sink, screen: Screen) -> Self {
        Self { sink, screen, known: Known::default(), running: Arc::default(), bar: None }
    }

    fn width(&self) -> usize {
        // The last column is left free: some terminals wrap when it is filled.
        (self.screen.size)().0.saturating_sub(1)
    }

    /// Lines that stay, above what runs.
    fn lines(&mut self, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        let text = lines.join("\n") + "\n";
        match &self.bar {
            Some(bar) => bar.suspend(|| (self.sink)(&text)),
            None => (self.sink)(&text),
        }
    }

    /// What a step does now; one that is not among those that run is from now on.
    fn doing(&mut self, step: &StepName, change: impl FnOnce(&mut Running)) {
        if let Ok(mut running) = self.running.lock() {
            match running.iter_mut().find(|running| running.step == *step) {
                Some(running) => change(running),
                None => {
                    let mut new = Running {
                        step: step.clone(),
                        since: Instant::now(),
                        attempt: 1,
                        doing: String::new(),
                    };
                    change(&mut new);
                    running.push(new);
                }
            }
        }
        if self.bar.is_none() {
            self.bar = self.draw();
        }
    }

    /// Begins to draw what runs. The lines are made at each drawing, for the size that the terminal has then.
    fn draw(&self) -> Option<ProgressBar> {
        let (running, screen, names) =
            (Arc::clone(&self.running), self.screen, self.known.names(self.width()));
        let style = ProgressStyle::with_template("{steps}").ok()?.with_key(
            "steps",
            move |_: &ProgressState, to: &mut dyn std::fmt::Write| {
                let running = running.lock().map(|running| running.clone()).unwrap_or_default();
                let _ = to.write_str(&below(&running, names, (screen.size)(), Instant::now()).join("\n"));
            },
        );
        let bar = ProgressBar::with_draw_target(None, (self.screen.target)()).with_style(style);
        bar.enable_steady_tick(TICK);
        Some(bar)
    }

    /// Takes a step from among those that run; with the last, the drawing ends.
    fn end(&mut self, step: &StepName) {
        let none_left = self.running.lock().is_ok_and(|mut running| {
            running.retain(|running| running.step != *step);
            running.is_empty()
        });
        if none_left {
            self.clear();
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Listener for Tree {
    fn hear(&mut self, event: &Event) {
        match event {
            Event::RunBegan { .. } => {
                self.known.learn(event);
                let header = self.known.header();
                self.lines(&[cut(&header, self.width())]);
            }
            Event::Note { step, text } => {
                let about = step.as_ref().map_or_else(String::new, |step| format!("{step}: "));
                self.lines(&[format!("  note    {about}{}", bare(text))]);
            }
            Event::StepBegan { step, attempt } => self.doing(step, |running| {
                running.attempt = *attempt;
                running.doing.clear();
            }),
            Event::StepWaits { step } => self.doing(step, |running| {
                "waits for another process that makes the same result".clone_into(&mut running.doing);
            }),
            Event::StepServices { step, services } => self.doing(step, |running| {
                running.doing = format!("brings up {}", listed(services));
            }),
            // It is kept, and there is a step to be shown.
            Event::ServiceOutput { .. } => {}
            Event::StepFetches { step, done, total } => self.doing(step, |running| {
                let total = total.map_or_else(String::new, |total| format!(" of {}", total / 1_000_000));
                running.doing = format!("fetches {}{total} MB", done / 1_000_000);
            }),
            Event::Output { step, line } => {
                let line = bare(line);
                if !line.trim().is_empty() {
                    self.doing(step, |running| running.doing = line);
                }
            }
            Event::StepRetries { step, attempt, outcome, delay } => {
                let (how, delay) = (super::how(outcome), span(*delay));
                let name = fit(step.as_str(), self.known.names(self.width()));
                let line = format!("  retry   {name}  try {attempt} {how}; the next in {delay}");
                self.lines(&[cut(&line, self.width())]);
                self.doing(step, |running| running.doing = format!("waits {delay} for the next try"));
            }
            Event::StepEnded { report } => {
                self.end(&report.step);
                let width = self.width();
                let mut lines = vec![step_line(&self.known, report, width)];
                lines.extend(failure(&self.known, report, width));
                self.lines(&lines);
            }
            Event::RunEnded { report } => {
                self.clear();
                let mut lines = vec![String::new()];
                lines.extend(summary(&self.known, report, self.width()));
                self.lines(&lines);
            }
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The steps that run, a line each, and no more lines than the terminal has rows for; the others are counted.
fn below(running: &[Running], names: usize, (columns, rows): (usize, usize), now: Instant) -> Vec<String> {
    let width = columns.saturating_sub(1);
    let names = names.min((width / 3).max(8));
    // A row is for the cursor, and one for the line that came last.
    let room = rows.saturating_sub(2).max(1);
    let shown = if running.len() > room { room - 1 } else { running.len() };
    let line = |running: &Running| {
        let time = now.saturating_duration_since(running.since);
        let turn = usize::try_from(time.as_millis() / TICK.as_millis()).unwrap_or(0) % SPINNER.len();
        let attempt = match running.attempt {
            1 => String::new(),
            attempt => format!("try {attempt}  "),
        };
        let name = fit(running.step.as_str(), names);
        let time = span(time);
        let line = format!("  {} {name}  {time:>7}  {attempt}{}", SPINNER[turn], running.doing);
        cut(line.trim_end(), width)
    };
    let mut lines: Vec<_> = running.iter().take(shown).map(line).collect();
    if running.len() > shown {
        let more = running.len() - shown;
        lines.push(cut(
            &format!("  {} {more} {}", SPINNER[0], if shown == 0 { "run" } else { "more run" }),
            width,
        ));
    }
    lines
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
