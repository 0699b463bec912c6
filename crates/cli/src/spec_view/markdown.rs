//! A sheet of specs as a page of Markdown.

use std::fmt::Write as _;

use super::Sheet;
use super::text::{one_line, total};

/// The page.
pub(crate) fn page(sheet: &Sheet<'_>) -> String {
    let mut page = format!("# Specs\n\n{}.\n", total(&sheet.counts()));
    for part in sheet.parts() {
        // A text cannot fail to be written to.
        let _ = write!(
            page,
            "\n## {}: {}\n\n{}\n\n",
            part.spec.id,
            cell(&part.spec.title),
            part.spec.intent.trim()
        );
        page.push_str("| criterion | | what has to hold | shown by |\n|---|---|---|---|\n");
        for row in &part.criteria {
            let causes = row.verdict.causes.iter().map(|cause| {
                let why = cell(cause.why.lines().find(|line| !line.trim().is_empty()).unwrap_or_default());
                cause.test.as_ref().map_or(why.clone(), |test| format!("`{}` {why}", cell(&test.to_string())))
            });
            let tests = row.tests().into_iter().map(|test| format!("`{}`", cell(&test)));
            let shown: Vec<String> = match row.verdict.causes.is_empty() {
                true => tests.collect(),
                false => causes.collect(),
            };
            let (name, state, text) =
                (row.criterion.name(), row.verdict.state.word(), cell(&row.criterion.text));
            let _ = writeln!(page, "| {name} | {state} | {text} | {} |", shown.join("<br>"));
        }
    }
    page
}

/// A text in a cell of a table, in which it means nothing but itself.
fn cell(text: &str) -> String {
    one_line(text).replace('|', "\\|").replace('<', "&lt;")
}
