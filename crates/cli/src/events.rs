//! The live list of steps.

use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use setpoint_runtime::events::{Event, Watcher};

use crate::output::{ERROR, GOOD, Output, RESET, span};

/// Shows the steps of an apply: a line each when it ended, and on a terminal what is under way below them.
pub(crate) struct LiveList {
    output: Output,
    bar: Mutex<ProgressBar>,
}

impl LiveList {
    pub(crate) fn new(output: Output) -> Self {
        let hidden = output.quiet || output.json;
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("  {spinner} {prefix} {wide_msg}") {
            bar.set_style(style);
        }
        Self { output, bar: Mutex::new(bar) }
    }

    fn with_bar(&self, work: impl FnOnce(&ProgressBar)) {
        if let Ok(bar) = self.bar.lock() {
            work(&bar);
        }
    }

    fn line(&self, text: &str) {
        self.with_bar(|bar| bar.suspend(|| self.output.progress(text)));
    }
}

impl Watcher for LiveList {
    fn event(&self, event: &Event) {
        match event {
            Event::Waiting { holder } => self.line(&format!("waiting for {holder}")),
            Event::Began { phase, detail } => self.with_bar(|bar| {
                bar.set_prefix(format!("{phase:<15}"));
                bar.set_message(shorten(detail, 40));
                bar.enable_steady_tick(std::time::Duration::from_millis(120));
            }),
            Event::Output { line, .. } => {
                if self.output.verbose > 0 {
                    self.line(&format!("  | {line}"));
                } else {
                    self.with_bar(|bar| bar.set_message(shorten(line, 60)));
                }
            }
            Event::Bytes { done, total } => self.with_bar(|bar| {
                let total = total.map_or_else(String::new, |total| format!(" of {} MB", total / 1_000_000));
                bar.set_message(format!("{} MB{total}", done / 1_000_000));
            }),
            Event::Done { phase, detail, took } => {
                let detail = shorten(detail, 44);
                self.line(&format!("  {GOOD}ok{RESET}      {phase:<15} {detail:<44} {:>7}", span(*took)));
            }
            Event::Failed { phase, detail, how, took } => {
                let detail = shorten(detail, 30);
                let how = shorten(how.lines().next().unwrap_or_default(), 40);
                self.line(&format!(
                    "  {ERROR}FAILED{RESET}  {phase:<15} {detail:<30} {how:>13} {:>7}",
                    span(*took)
                ));
            }
            Event::NotRun { phases } => self.line(&format!("  not run {}", phases.join(", "))),
        }
    }
}

impl Drop for LiveList {
    fn drop(&mut self) {
        self.with_bar(ProgressBar::finish_and_clear);
    }
}

/// A text on one line, cut to this many characters.
fn shorten(text: &str, at_most: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= at_most && text.lines().count() <= 1 {
        return line.to_owned();
    }
    let kept: String = line.chars().take(at_most.saturating_sub(3)).collect();
    format!("{kept}...")
}

#[cfg(test)]
mod tests {
    use super::shorten;

    #[test]
    fn long_texts_are_cut_by_characters_and_to_one_line() {
        assert_eq!(shorten("short", 10), "short");
        assert_eq!(shorten("äöüäöüäöü", 6), "äöü...");
        assert_eq!(shorten("a\nb", 10), "a...");
    }
}
