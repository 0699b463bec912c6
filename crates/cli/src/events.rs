//! The live list of steps.

use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use setpoint_runtime::events::{Event, Watcher};

use crate::output::{ERROR, GOOD, Output, RESET, span};

/// Shows the steps of an apply: a line each when it ended, and on a terminal what is under way below them.
pub(crate) struct LiveList {
    output: Output,
    /// What is under way.
    bar: Mutex<Option<ProgressBar>>,
}

impl LiveList {
    pub(crate) fn new(output: Output) -> Self {
        Self { output, bar: Mutex::new(None) }
    }

    fn begin(&self, phase: &str, detail: &str) {
        if self.output.quiet || self.output.json {
            return;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("  {spinner} {prefix} {wide_msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(format!("{phase:<15}"));
        bar.set_message(shorten(detail, 40));
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        if let Some(before) = self.bar.lock().ok().and_then(|mut slot| slot.replace(bar)) {
            before.finish_and_clear();
        }
    }

    /// Takes away what is shown of the step under way.
    fn end(&self) {
        if let Some(bar) = self.bar.lock().ok().and_then(|mut slot| slot.take()) {
            bar.finish_and_clear();
        }
    }

    fn message(&self, text: String) {
        if let Some(bar) = self.bar.lock().ok().as_deref().and_then(Option::as_ref) {
            bar.set_message(text);
        }
    }

    fn line(&self, text: &str) {
        match self.bar.lock().ok().as_deref().and_then(Option::as_ref) {
            Some(bar) => bar.suspend(|| self.output.progress(text)),
            None => self.output.progress(text),
        }
    }
}

impl Watcher for LiveList {
    fn event(&self, event: &Event) {
        match event {
            Event::Waiting { holder } => self.line(&format!("waiting for {holder}")),
            Event::Began { phase, detail } => self.begin(phase, detail),
            Event::Output { line, .. } if self.output.verbose > 0 => self.line(&format!("  | {line}")),
            Event::Output { line, .. } => self.message(shorten(line, 60)),
            Event::Bytes { done, total } => {
                let total = total.map_or_else(String::new, |total| format!(" of {} MB", total / 1_000_000));
                self.message(format!("{} MB{total}", done / 1_000_000));
            }
            Event::Done { phase, detail, took } => {
                self.end();
                let detail = shorten(detail, 44);
                self.line(&format!("  {GOOD}ok{RESET}      {phase:<15} {detail:<44} {:>7}", span(*took)));
            }
            Event::Failed { phase, detail, how, took } => {
                self.end();
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
        self.end();
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
