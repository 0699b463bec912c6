//! What became of tests, as their runners report it: in JUnit's XML, in the JSON of Go, of Vitest and of Rust's test
//! binaries, or in the words that those print.

mod go;
mod junit;
mod libtest;
mod vitest;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Reference, Runner};

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "why")]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It did not, and this is why as far as it says; empty where it says nothing.
    Failed(String),
    /// It did not run, and this is why as far as it says; empty where it says nothing.
    Skipped(String),
}

/// A test in a report.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Case {
    /// What the report calls it: its class or binary, `::`, and its name.
    key: String,
    /// How it ended.
    outcome: Outcome,
}

/// What became of tests, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report(BTreeMap<String, Outcome>);

/// A report that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// It is none of the known forms.
    #[error(
        "this is no report of tests: neither JUnit XML, nor the JSON of `go test`, Vitest or Rust's tests, nor their output"
    )]
    Unknown,
    /// It is broken off, or not what it begins as.
    #[error("this report cannot be read: {0}")]
    Broken(String),
    /// Its tests are of a binary that it does not name.
    #[error("this report does not say of which test binary it is")]
    NoSuite,
}

/// What of a long message is kept, in bytes: its beginning says what, the rest is the test's own report.
const MESSAGE: usize = 4000;

impl Report {
    /// Reads a report of any known form. `suite` is the binary whose output it is, where it cannot say so; `root` the
    /// folder that names of files are told from, as the runner told it.
    ///
    /// # Errors
    /// [`ReportError`] if it is no report, or broken.
    pub fn parse(text: &str, suite: Option<&str>, root: &str) -> Result<Self, ReportError> {
        let text = text.trim_start_matches('\u{feff}');
        let first = text.trim_start().lines().next().unwrap_or_default();
        let cases = if first.starts_with('<') {
            junit::cases(text)
        } else if text.trim_start().starts_with('{') {
            let is_lines = serde_json::from_str::<serde_json::Value>(first)
                .is_ok_and(|line| line.get("Action").is_some() || line.get("type").is_some());
            match (is_lines, first.contains("\"Action\"")) {
                (true, true) => go::cases(text),
                (true, false) => libtest::json_cases(text, suite),
                (false, _) => vitest::cases(text, root),
            }
        } else {
            libtest::text_cases(text, suite)
        };
        cases.map(Self::of)
    }

    /// The report of a run of `cargo test` over several binaries: `suites` says of each file which one it is.
    ///
    /// # Errors
    /// [`ReportError`] if it holds no tests.
    pub fn of_cargo_test(text: &str, suites: &BTreeMap<String, String>) -> Result<Self, ReportError> {
        libtest::sections(text, suites).map(Self::of)
    }

    /// A test that is there twice, such as one that was tried again, ended as it did at worst.
    fn of(cases: Vec<Case>) -> Self {
        let mut report = Self::default();
        for case in cases {
            let worst = match (report.0.remove(&case.key), bounded(case.outcome)) {
                (Some(failed @ Outcome::Failed(_)), _) => failed,
                (_, failed @ Outcome::Failed(_)) => failed,
                (Some(Outcome::Passed), _) | (_, Outcome::Passed) => Outcome::Passed,
                (_, skipped) => skipped,
            };
            report.0.insert(case.key, worst);
        }
        report
    }

    /// How a test ended, by what reports call it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Outcome> {
        self.0.get(key)
    }

    /// What it tells of a test: of the test itself, or of all the cases of one that has parameters.
    #[must_use]
    pub fn find(&self, reference: &Reference) -> Vec<(Reference, Outcome)> {
        let key = reference.key();
        if let Some(outcome) = self.get(&key) {
            return vec![(reference.clone(), outcome.clone())];
        }
        if reference.runner != Runner::Pytest {
            return Vec::new();
        }
        let cases = self.0.range(format!("{key}[")..).map_while(|(other, outcome)| {
            let parameters = other.strip_prefix(&key).filter(|rest| rest.starts_with('['))?;
            Some((
                Reference::new(Runner::Pytest, format!("{}{parameters}", reference.target)),
                outcome.clone(),
            ))
        });
        cases.collect()
    }

    /// Adds what another report tells; where both tell of a test, it counts.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// What it calls the tests that it tells of.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

fn bounded(outcome: Outcome) -> Outcome {
    let bound = |text: String| {
        let text = text.trim();
        match text.len() > MESSAGE {
            true => format!("{}...", &text[..text.floor_char_boundary(MESSAGE)]),
            false => text.to_owned(),
        }
    };
    match outcome {
        Outcome::Passed => Outcome::Passed,
        Outcome::Failed(why) => Outcome::Failed(bound(why)),
        Outcome::Skipped(why) => Outcome::Skipped(bound(why)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
#[path = "report_tests.rs"]
mod tests;
