//! A sheet of specs on a terminal.

use setpoint_model::spec::{Cause, State};

use super::{Counts, Sheet};
use crate::output::{ERROR, GOOD, HINT, Output, RESET};
use crate::run_view::text::bare;

/// The lines of what a test says that are shown; the report has the rest.
const LINES: usize = 6;

/// Prints a sheet; when quiet, only what failed.
pub(crate) fn sheet(output: Output, sheet: &Sheet<'_>) {
    for part in sheet.parts() {
        if !output.quiet {
            output.line(format!("{}  {}", part.spec.id, part.spec.title));
        }
        for row in &part.criteria {
            let state = row.verdict.state;
            if output.quiet && state != State::Failed {
                continue;
            }
            let colour = match state {
                State::Passed => GOOD,
                State::Failed => ERROR,
                State::Skipped | State::Gap => HINT,
            };
            let name = row.criterion.name();
            output.line(format!(
                "  {colour}{:<8}{RESET} {name:<8} {}",
                state.word(),
                bare(&one_line(&row.criterion.text))
            ));
            row.verdict.causes.iter().for_each(|cause| tell(output, cause));
            if let Some(remark) = &row.remark {
                output.line(format!("{:20}{remark}", ""));
            }
        }
    }
}

fn tell(output: Output, cause: &Cause) {
    let lines: Vec<&str> = cause.why.lines().filter(|line| !line.trim().is_empty()).collect();
    match (&cause.test, lines.as_slice()) {
        (Some(test), []) => output.line(format!("{:20}{test}", "")),
        (Some(test), [one]) => output.line(format!("{:20}{test}: {}", "", bare(one))),
        (Some(test), _) => output.line(format!("{:20}{test}:", "")),
        (None, _) => {}
    }
    if lines.len() > 1 || cause.test.is_none() {
        lines.iter().take(LINES).for_each(|line| output.line(format!("{:20}  {}", "", bare(line))));
    }
    if lines.len() > LINES {
        output.line(format!("{:20}  ({} more lines)", "", lines.len() - LINES));
    }
}

/// How many criteria stand how, in words.
pub(crate) fn total(counts: &Counts) -> String {
    let parts = [
        (counts.passed, "passed"),
        (counts.failed, "failed"),
        (counts.skipped, "skipped"),
        (counts.gaps, if counts.gaps == 1 { "gap" } else { "gaps" }),
    ];
    let words: Vec<String> = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{number} {word}"))
        .collect();
    format!("{} of {} criteria", words.join(", "), counts.all())
}

/// A text of several lines on one.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
