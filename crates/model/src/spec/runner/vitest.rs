//! Vitest: what it would run, and the pattern that runs what is wanted.

use std::collections::BTreeSet;

use super::super::{Listing, Report, ReportError};

/// A pattern that fits no name: what is asked for so is told, and nothing of it runs.
const NOTHING: &str = "$.^";

/// What tells of all tests and runs none of them. Its own list leaves out those that are skipped.
pub const LIST: &[&str] = &["run", "--reporter=json", "--passWithNoTests", "-t", NOTHING];
/// What runs tests.
pub const RUN: &[&str] = &["run", "--reporter=json", "--passWithNoTests"];

/// The tests that it tells of.
///
/// # Errors
/// [`ReportError`] if that is not what it says elsewhere.
pub fn listing(text: &str, root: &str) -> Result<Listing, ReportError> {
    let report = Report::parse(text, None, root)?;
    let mut listing = Listing::default();
    for (file, name) in report.keys().filter_map(|key| key.split_once("::")) {
        listing.insert(format!("{file}:{name}"), file, Vec::new());
    }
    Ok(listing)
}

/// The arguments that run these tests: their files, and a pattern of their full names.
#[must_use]
pub fn selection<'t>(targets: impl IntoIterator<Item = &'t str>) -> Vec<String> {
    let (mut files, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (file, name) in targets.into_iter().filter_map(|target| target.split_once(':')) {
        files.insert(file);
        names.insert(escaped(&name.replace(" > ", " ")));
    }
    let pattern = names.into_iter().collect::<Vec<_>>().join("|");
    let mut arguments = vec!["-t".to_owned(), format!("^({pattern})$")];
    arguments.extend(files.into_iter().map(str::to_owned));
    arguments
}

/// A text as a pattern of JavaScript that fits it.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\^$.*+?()[]{}|/".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}
