//! The words in which runs are told, on a terminal and elsewhere.

use std::time::Duration;

use setpoint_model::names::StepName;
use setpoint_model::pipeline::outcome::{Outcome, RunOutcome};
use setpoint_runtime::pipeline::events::{RunReport, StepPlan, StepReport};
use unicode_width::UnicodeWidthChar as _;

use crate::output::{ERROR, GOOD, RESET, span};

/// What is known of a run while it goes on.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) run: u64,
    pub(super) pipeline: String,
    pub(super) steps: Vec<StepPlan>,
    /// The columns of the longest name.
    pub(super) width: usize,
}

impl Told {
    pub(super) fn new(run: u64, pipeline: &str, steps: &[StepPlan]) -> Self {
        let width = steps.iter().map(|step| step.step.as_str().len()).max().unwrap_or(0).min(24);
        Self { run, pipeline: pipeline.to_owned(), steps: steps.to_vec(), width }
    }

    /// The line that a run begins with.
    pub(super) fn header(&self, files: usize) -> String {
        let steps = counted(self.steps.len(), "step");
        format!("{}  run {}  {steps}, {}", self.pipeline, self.run, counted(files, "file"))
    }

    fn command(&self, step: &StepName) -> &str {
        let plan = self.steps.iter().find(|plan| plan.step == *step);
        plan.map_or("", |plan| plan.command.lines().next().unwrap_or_default())
    }

    /// The line of a step that ended, in this many columns.
    pub(super) fn ended(&self, report: &StepReport, columns: usize) -> String {
        let (mark, word) = match &report.outcome {
            Outcome::Passed => (GOOD, "ok"),
            Outcome::Cached => (GOOD, "cached"),
            Outcome::Failed { .. } => (ERROR, "FAILED"),
            Outcome::TimedOut { .. } => (ERROR, "TIMED OUT"),
            Outcome::Cancelled => ("", "cancelled"),
            Outcome::Skipped { .. } => ("", "skipped"),
            Outcome::Errored { .. } => (ERROR, "ERRORED"),
        };
        let (detail, figure) = match &report.outcome {
            Outcome::Failed { how } => (how.to_string(), span(report.took)),
            Outcome::Errored { what } => (what.clone(), span(report.took)),
            Outcome::TimedOut { limit_ms } => {
                (format!("after {}", span(Duration::from_millis(*limit_ms))), span(report.took))
            }
            Outcome::Skipped { because } => (because.to_string(), String::new()),
            Outcome::Cached => (
                self.command(&report.step).to_owned(),
                report.saved.map_or_else(String::new, |saved| format!("{} saved", span(saved))),
            ),
            Outcome::Passed | Outcome::Cancelled => {
                (self.command(&report.step).to_owned(), span(report.took))
            }
        };
        let reset = if mark.is_empty() { "" } else { RESET };
        let begin = format!("  {mark}{word:<9}{reset} {:<1$} ", report.step.as_str(), self.width);
        let used = 2 + 9 + 1 + self.width.max(report.step.as_str().len()) + 1;
        let room = columns.saturating_sub(used + figure.len() + 1);
        let tries = if report.attempts > 1 { format!(" (try {})", report.attempts) } else { String::new() };
        // Why something could not be run is told whole.
        let detail = match report.outcome {
            Outcome::Errored { .. } | Outcome::Failed { .. } => clean(&detail),
            _ => cut(&clean(&detail), room.saturating_sub(tries.len())),
        };
        let text = format!("{detail}{tries}");
        if figure.is_empty() {
            return format!("{begin}{text}").trim_end().to_owned();
        }
        let gap = room.saturating_sub(columns_of(&text));
        format!("{begin}{text}{}{figure}", " ".repeat(gap + 1))
    }

    /// What is said below a step that did not end well.
    pub(super) fn tail(&self, report: &StepReport) -> Vec<String> {
        let is_failure = matches!(report.outcome, Outcome::Failed { .. } | Outcome::TimedOut { .. });
        if !is_failure || report.tail.is_empty() {
            return Vec::new();
        }
        let mut lines: Vec<String> = report.tail.iter().map(|line| format!("  | {}", clean(line))).collect();
        lines.push(format!("  all output: setpoint runs logs {} {}", self.run, report.step));
        lines
    }

    /// The summary at the end.
    pub(super) fn summary(&self, report: &RunReport) -> Vec<String> {
        let count = |is: &dyn Fn(&Outcome) -> bool| report.steps.iter().filter(|s| is(&s.outcome)).count();
        let ran = count(&|outcome| !matches!(outcome, Outcome::Cached | Outcome::Skipped { .. }));
        let cached = count(&|outcome| *outcome == Outcome::Cached);
        let skipped = count(&|outcome| matches!(outcome, Outcome::Skipped { .. }));
        let saved: Duration = report.steps.iter().filter_map(|step| step.saved).sum();
        let mut parts = vec![format!("{ran} ran")];
        if cached > 0 {
            parts.push(format!("{cached} cached ({} saved)", span(saved)));
        }
        if skipped > 0 {
            parts.push(format!("{skipped} skipped"));
        }
        let word = report.outcome.word();
        let mut lines =
            vec![format!("{} {word} in {}: {}", self.pipeline, span(report.took), parts.join(", "))];
        let shared: Vec<String> = self
            .steps
            .iter()
            .filter(|step| !step.cache_dirs.is_empty())
            .map(|step| format!("{} ({})", step.step, step.cache_dirs.join(", ")))
            .collect();
        if !shared.is_empty() {
            lines.push(format!("Shared from run to run, outside of the keys: {}", shared.join(", ")));
        }
        if let Some((files, folder)) = &report.artifacts {
            lines.push(format!("Artifacts: {} in {}", counted(*files, "file"), folder.display()));
        }
        let culprit = report
            .steps
            .iter()
            .find(|step| matches!(step.outcome, Outcome::Failed { .. } | Outcome::TimedOut { .. }));
        if let (Some(step), false) = (culprit, report.outcome == RunOutcome::Passed) {
            lines.push(format!("Next: setpoint runs logs {} {}", self.run, step.step));
        }
        lines
    }
}

/// A number of things.
pub(super) fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// A line as it can be shown: what would move the cursor or change colours is taken out.
pub(super) fn clean(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => match rest.peek() {
                // `ESC [` up to a letter, `ESC ]` up to its end.
                Some('[') => {
                    rest.next();
                    while rest.next_if(|c| !('\u{40}'..='\u{7e}').contains(c)).is_some() {}
                    rest.next();
                }
                Some(']') => {
                    while rest.next_if(|c| *c != '\u{7}' && *c != '\u{1b}').is_some() {}
                    rest.next();
                }
                _ => {
                    rest.next();
                }
            },
            '\t' => clean.push_str("    "),
            // What a program writes over itself: the last of it counts.
            '\r' => {
                if rest.peek().is_some() {
                    clean.clear();
                }
            }
            c if c.is_control() => clean.push(char::REPLACEMENT_CHARACTER),
            c => clean.push(c),
        }
    }
    clean
}

/// How many columns a text takes.
pub(super) fn columns_of(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// A text in this many columns.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if columns_of(text) <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used + 3 > columns {
            break;
        }
        kept.push(c);
    }
    if columns >= 3 { format!("{kept}...") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use setpoint_model::pipeline::outcome::{Because, How};

    fn report(step: &str, outcome: Outcome) -> StepReport {
        StepReport {
            step: StepName::new(step).unwrap(),
            outcome,
            took: Duration::from_millis(2100),
            saved: None,
            made_in: None,
            attempts: 1,
            key: None,
            tail: vec!["boom".to_owned()],
        }
    }

    fn told() -> Told {
        let step = |name: &str, command: &str| StepPlan {
            step: StepName::new(name).unwrap(),
            command: command.to_owned(),
            parents: Vec::new(),
            cache_dirs: if name == "fetch" { vec!["/reg".to_owned()] } else { Vec::new() },
        };
        Told::new(14, "ci", &[step("fetch", "cargo fetch"), step("lint", "cargo clippy --all-targets\nmore")])
    }

    #[test]
    fn every_outcome_has_its_line() {
        let lint = |outcome| clean(&told().ended(&report("lint", outcome), 60));
        assert_eq!(lint(Outcome::Passed), "  ok        lint  cargo clippy --all-targets            2.1s");
        assert_eq!(
            lint(Outcome::Failed { how: How::Exit(3) }),
            "  FAILED    lint  exit 3                                2.1s"
        );
        let because = Because::Step(StepName::new("fetch").unwrap());
        assert_eq!(lint(Outcome::Skipped { because }), "  skipped   lint  because of fetch");
        let mut cached = report("fetch", Outcome::Cached);
        cached.saved = Some(Duration::from_secs(12));
        assert_eq!(
            clean(&told().ended(&cached, 60)),
            "  cached    fetch cargo fetch                    12.0s saved"
        );
        assert_eq!(clean(&told().ended(&cached, 40)), "  cached    fetch cargo f... 12.0s saved");
    }

    #[test]
    fn a_summary_tells_what_it_cost_and_what_is_next() {
        let mut cached = report("fetch", Outcome::Cached);
        cached.saved = Some(Duration::from_secs(12));
        let steps = vec![cached, report("lint", Outcome::Failed { how: How::Exit(1) })];
        let took = Duration::from_secs(3);
        let report =
            RunReport { outcome: RunOutcome::Failed, took, steps, artifacts: Some((2, "out".into())) };
        assert_eq!(
            told().summary(&report),
            [
                "ci failed in 3.0s: 1 ran, 1 cached (12.0s saved)",
                "Shared from run to run, outside of the keys: fetch (/reg)",
                "Artifacts: 2 files in out",
                "Next: setpoint runs logs 14 lint",
            ]
        );
    }

    #[test]
    fn output_cannot_move_the_cursor() {
        for (line, shown) in [
            ("plain ümläut", "plain ümläut"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}text", "text"),
            ("10%\r20%\r30%", "30%"),
            ("end\r", "end"),
            ("a\u{8}b\u{0}", "a\u{fffd}b\u{fffd}"),
            ("a\tb", "a    b"),
            ("\u{1b}", ""),
        ] {
            assert_eq!(clean(line), shown, "{line:?}");
        }
    }

    #[test]
    fn texts_are_cut_by_columns() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("日本語日本語", 9), "日本語...");
        assert_eq!(cut("longer text", 8), "longe...");
        assert_eq!(cut("longer", 2), "");
    }
}
