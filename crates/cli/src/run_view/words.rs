//! A run in words: pure functions from what was told to lines.

use std::time::Duration;

use setpoint_model::names::{StepName, UnitName};
use setpoint_model::pipeline::outcome::{How, Outcome, RunOutcome};
use setpoint_runtime::pipeline::events::{Event, RunReport, StepPlan, StepReport};

use super::text::{bare, columns, cut, fit, list};
use crate::output::{ERROR, GOOD, RESET, span};

/// How many steps are named in a line of the summary; the others are counted.
const NAMED: usize = 8;
/// The columns of the word for how a step ended.
const WORD: usize = 7;

/// What was told of a run when it began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Its number.
    pub(crate) run: u64,
    /// Its pipeline.
    pub(crate) pipeline: String,
    /// Its steps.
    pub(crate) plan: Vec<StepPlan>,
}

impl Known {
    /// Takes note of how a run begins; says whether it did.
    pub(super) fn learn(&mut self, event: &Event) -> bool {
        let Event::RunBegan { run, pipeline, steps, .. } = event else { return false };
        *self = Self { run: *run, pipeline: pipeline.to_string(), plan: steps.clone() };
        true
    }

    /// What a step runs, on one line.
    pub(super) fn command(&self, step: &StepName) -> String {
        let plan = self.plan.iter().find(|plan| plan.step == *step);
        plan.map_or_else(String::new, |plan| bare(&plan.command.replace('\n', " ")))
    }

    /// The columns that names take on a line of this width.
    pub(super) fn names(&self, width: usize) -> usize {
        let longest = self.plan.iter().map(|plan| columns(plan.step.as_str())).max().unwrap_or(0);
        longest.min((width / 4).max(8))
    }

    /// `ci  run 14  12 steps`
    pub(super) fn header(&self) -> String {
        format!("{}  run {}  {}", self.pipeline, self.run, counted(self.plan.len(), "step"))
    }
}

/// The services of a step, in a row.
pub(super) fn listed(services: &[UnitName]) -> String {
    services.iter().map(UnitName::as_str).collect::<Vec<_>>().join(", ")
}

/// `1 step`, `12 steps`
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The word at the beginning of a step's line, and its colour.
pub(super) fn mark(outcome: &Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Passed => ("ok", GOOD),
        Outcome::Cached => ("cached", ""),
        Outcome::Failed { .. } => ("FAILED", ERROR),
        Outcome::TimedOut { .. } => ("TIMEOUT", ERROR),
        Outcome::Errored { .. } => ("ERROR", ERROR),
        Outcome::Cancelled => ("stopped", ""),
        Outcome::Skipped { .. } => ("skipped", ""),
    }
}

/// How a step ended and what it cost: `exit 1  2.1s`.
pub(super) fn detail(report: &StepReport) -> String {
    let took = (report.took > Duration::ZERO).then(|| span(report.took));
    let mut parts = Vec::new();
    match &report.outcome {
        Outcome::Passed | Outcome::Errored { .. } => parts.extend(took),
        Outcome::Cached => parts.extend(report.saved.map(|saved| format!("{} saved", span(saved)))),
        Outcome::Failed { how: How::Missing(_) } => {
            parts.push("no such file".to_owned());
            parts.extend(took);
        }
        Outcome::Failed { how } => {
            parts.push(how.to_string());
            parts.extend(took);
        }
        Outcome::TimedOut { limit_ms } => {
            parts.push(format!("limit {}", span(Duration::from_millis(*limit_ms))));
            parts.extend(took);
        }
        Outcome::Cancelled => parts.extend(took.map(|took| format!("after {took}"))),
        Outcome::Skipped { because } => parts.push(bare(&because.to_string())),
    }
    if report.attempts > 1 {
        parts.insert(0, format!("{} tries", report.attempts));
    }
    parts.join("  ")
}

/// The line of a step that ended: `  ok      test   cargo nextest run      31.4s`.
pub(super) fn step_line(known: &Known, report: &StepReport, width: usize) -> String {
    let (word, colour) = mark(&report.outcome);
    let reset = if colour.is_empty() { "" } else { RESET };
    let names = known.names(width);
    let name = fit(report.step.as_str(), names);
    let room = width.saturating_sub(2 + WORD + 1 + names + 2);
    let detail = cut(&detail(report), room);
    let rest = match &report.outcome {
        Outcome::Skipped { .. } => detail,
        _ => {
            let command = known.command(&report.step);
            match room.saturating_sub(columns(&detail) + 2) {
                // What would be no more than a few letters says nothing.
                left if left < 8 => " ".repeat(room - columns(&detail)) + &detail,
                left => format!("{}  {detail}", fit(&command, left)),
            }
        }
    };
    let line = format!("  {colour}{}{reset} {name}  {rest}", fit(word, WORD));
    line.trim_end().to_owned()
}

/// What there is to know of a step that did not end well: its last lines, and where the others are.
pub(super) fn failure(known: &Known, report: &StepReport, width: usize) -> Vec<String> {
    if !report.outcome.is_bad() || report.outcome == Outcome::Cancelled {
        return Vec::new();
    }
    // A line may be wrapped, but one line must not push everything else away.
    let widest = width.saturating_mul(4);
    let mut lines: Vec<String> = match &report.outcome {
        Outcome::Errored { what } => what.lines().map(|line| format!("  {}", bare(line))).collect(),
        Outcome::Failed { how: how @ How::Missing(_) } => vec![format!("  {}", bare(&how.to_string()))],
        _ => Vec::new(),
    };
    lines.extend(report.tail.iter().map(|line| format!("  | {}", cut(&bare(line), widest))));
    if !report.tail.is_empty() {
        lines.push(format!("  all output: {}", logs(known, report)));
    }
    lines
}

fn logs(known: &Known, report: &StepReport) -> String {
    format!("setpoint runs logs {} {}", known.run, report.step)
}

/// The end of a run: what ran and what it cost, what did not have to, and what to do next.
pub(super) fn summary(known: &Known, report: &RunReport, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let ran = |step: &StepReport| !matches!(step.outcome, Outcome::Cached | Outcome::Skipped { .. });
    let cost = |step: &StepReport| format!("{} {}", step.step, span(step.took));
    let saved = |step: &StepReport| match step.saved {
        Some(saved) => format!("{} {}", step.step, span(saved)),
        None => step.step.to_string(),
    };
    lines.extend(costliest(
        "  ran     ",
        report.steps.iter().filter(|step| ran(step)),
        |step| step.took,
        cost,
        width,
    ));
    let cached = report.steps.iter().filter(|step| step.outcome == Outcome::Cached);
    lines.extend(costliest("  cached  ", cached, |step| step.saved.unwrap_or_default(), saved, width));
    lines.extend(outside(known, report, width));
    if let Some((files, path)) = &report.artifacts {
        lines.push(format!("  artifacts: {} in {}", counted(*files, "file"), bare(&path.to_string_lossy())));
    }
    lines.extend(last_line(known, report, width));
    lines.extend(next(known, report).map(|next| format!("Next: {next}")));
    lines
}

/// A line of steps, those that cost most first.
fn costliest<'a>(
    lead: &str,
    steps: impl Iterator<Item = &'a StepReport>,
    cost: impl Fn(&StepReport) -> Duration,
    word: impl Fn(&StepReport) -> String,
    width: usize,
) -> Vec<String> {
    let mut steps: Vec<_> = steps.collect();
    steps.sort_by_key(|step| std::cmp::Reverse(cost(step)));
    let mut words: Vec<_> = steps.iter().take(NAMED).map(|step| word(step)).collect();
    if steps.len() > NAMED {
        words.push(format!("and {} more", steps.len() - NAMED));
    }
    list(lead, &words, width)
}

/// Which steps used folders that are shared from run to run: what they hold is in no key.
fn outside(known: &Known, report: &RunReport, width: usize) -> Vec<String> {
    let took_part = |step: &StepName| {
        let found = report.steps.iter().find(|report| report.step == *step);
        found.is_some_and(|step| !matches!(step.outcome, Outcome::Skipped { .. }))
    };
    let steps = known.plan.iter().filter(|plan| !plan.cache_dirs.is_empty() && took_part(&plan.step));
    let words: Vec<_> =
        steps.map(|plan| format!("{} ({})", plan.step, bare(&plan.cache_dirs.join(" ")))).collect();
    if words.is_empty() {
        return Vec::new();
    }
    let one_line = list("  outside warm equals cold: ", &words, width);
    if one_line.len() == 1 && one_line.iter().all(|line| columns(line) <= width) {
        return one_line;
    }
    let mut lines = vec!["  outside warm equals cold:".to_owned()];
    lines.extend(list("    ", &words, width));
    lines
}

/// `ci passed in 33.5s: 2 passed, 3 cached (15.0s saved)`; the counts stand below where there is no room.
pub(super) fn last_line(known: &Known, report: &RunReport, width: usize) -> Vec<String> {
    let colour = match report.outcome {
        RunOutcome::Passed => GOOD,
        RunOutcome::Cancelled => "",
        RunOutcome::TimedOut | RunOutcome::Failed | RunOutcome::Errored => ERROR,
    };
    let reset = if colour.is_empty() { "" } else { RESET };
    let (pipeline, word, took) = (&known.pipeline, report.outcome.word(), span(report.took));
    let counts = counts(&report.steps);
    let lead = format!("{pipeline} {colour}{word}{reset} in {took}:");
    let seen = columns(pipeline) + columns(word) + columns(&took) + " in : ".len() + 1;
    match list("", &counts, width.saturating_sub(seen)).as_slice() {
        [line] if seen + columns(line) <= width => vec![format!("{lead} {line}")],
        _ => std::iter::once(lead).chain(list("  ", &counts, width)).collect(),
    }
}

/// `2 passed`, `3 cached (15.0s saved)`, `1 failed`; or `no steps`.
fn counts(steps: &[StepReport]) -> Vec<String> {
    let words = ["passed", "cached", "failed", "timed out", "errored", "cancelled", "skipped"];
    let saved: Duration = steps.iter().filter_map(|step| step.saved).sum();
    let part = |word: &&str| {
        let count = steps.iter().filter(|step| step.outcome.word() == *word).count();
        let saved = if *word == "cached" && saved > Duration::ZERO {
            format!(" ({} saved)", span(saved))
        } else {
            String::new()
        };
        (count > 0).then(|| format!("{count} {word}{saved}"))
    };
    let counts: Vec<_> = words.iter().filter_map(part).collect();
    if counts.is_empty() { vec!["no steps".to_owned()] } else { counts }
}

/// What to do next, where there is something.
pub(super) fn next(known: &Known, report: &RunReport) -> Option<String> {
    let worst = report.steps.iter().find(|step| RunOutcome::of([&step.outcome]) == report.outcome);
    match report.outcome {
        RunOutcome::Passed => None,
        RunOutcome::Cancelled => Some(format!("setpoint run {} (what passed is kept)", known.pipeline)),
        RunOutcome::Failed | RunOutcome::TimedOut => worst.map(|step| logs(known, step)),
        RunOutcome::Errored => Some("setpoint doctor".to_owned()),
    }
}
