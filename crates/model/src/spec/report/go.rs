//! The events of `go test -json`, one a line.

use std::collections::BTreeMap;

use super::super::runner::go::events;
use super::{Case, Outcome, ReportError};

/// The tests of a report.
pub(super) fn cases(text: &str) -> Result<Vec<Case>, ReportError> {
    let mut said: BTreeMap<String, String> = BTreeMap::new();
    let mut cases = Vec::new();
    for event in events(text) {
        let Some(test) = event.test else { continue };
        let key = format!("{}::{test}", event.package);
        match event.action.as_str() {
            "output" if !is_frame(&event.output) => said.entry(key).or_default().push_str(&event.output),
            "pass" => cases.push(Case { key, outcome: Outcome::Passed }),
            "fail" => {
                let why = said.remove(&key).unwrap_or_default();
                cases.push(Case { key, outcome: Outcome::Failed(why) });
            }
            "skip" => {
                let why = said.remove(&key).unwrap_or_default();
                let why = why.trim().split_once(": ").map_or(why.trim(), |(_, reason)| reason).to_owned();
                cases.push(Case { key, outcome: Outcome::Skipped(why) });
            }
            _ => {}
        }
    }
    Ok(cases)
}

/// Whether a line says only that a test begins or how it ended.
fn is_frame(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("=== ") || line.starts_with("--- ")
}
