//! What Rust's test binaries print: for people, or as JSON, one event a line.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::{Case, Outcome, ReportError};

/// Something that happened to a test.
#[derive(Debug, Deserialize)]
struct Event {
    r#type: String,
    event: String,
    #[serde(default)]
    name: String,
    stdout: Option<String>,
    message: Option<String>,
}

/// The tests of a report as JSON. Nextest's names say of which binary they are; a binary's own do not.
pub(super) fn json_cases(text: &str, suite: Option<&str>) -> Result<Vec<Case>, ReportError> {
    let mut cases = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let Ok(event) = serde_json::from_str::<Event>(line) else { continue };
        if event.r#type != "test" {
            continue;
        }
        let said = || event.stdout.clone().or_else(|| event.message.clone()).unwrap_or_default();
        let outcome = match event.event.as_str() {
            "ok" => Outcome::Passed,
            "failed" | "timeout" => Outcome::Failed(said()),
            "ignored" => Outcome::Skipped(event.message.clone().unwrap_or_default()),
            _ => continue,
        };
        let key = match event.name.split_once('$') {
            // A test that is tried again carries the number of its attempt.
            Some((binary, name)) => format!("{binary}::{}", name.split('#').next().unwrap_or(name)),
            None => format!("{}::{}", suite.ok_or(ReportError::NoSuite)?, event.name),
        };
        cases.push(Case { key, outcome });
    }
    Ok(cases)
}

/// The tests of what one binary printed.
pub(super) fn text_cases(text: &str, suite: Option<&str>) -> Result<Vec<Case>, ReportError> {
    let lines: Vec<&str> = text.lines().collect();
    if !lines.iter().any(|line| line.starts_with("test result: ")) {
        let has_begun = lines.iter().any(|line| is_count(line));
        return Err(if has_begun { ReportError::Broken(CUT.to_owned()) } else { ReportError::Unknown });
    }
    let suite = suite.ok_or(ReportError::NoSuite)?;
    Ok(section(&lines, suite))
}

const CUT: &str = "it ends before the tests do";

/// The tests of what `cargo test` printed: a section for each binary, which names its file.
pub(super) fn sections(text: &str, suites: &BTreeMap<String, String>) -> Result<Vec<Case>, ReportError> {
    let mut cases = Vec::new();
    let mut current: Option<(&str, Vec<&str>)> = None;
    let mut end = |current: &mut Option<(&str, Vec<&str>)>| {
        if let Some((suite, lines)) = current.take() {
            cases.extend(section(&lines, suite));
        }
    };
    for line in text.lines() {
        if let Some(file) = super::super::runner::cargo::section_file(line) {
            end(&mut current);
            current = suites.get(file).map(|suite| (suite.as_str(), Vec::new()));
        } else if line.trim_start().starts_with("Doc-tests ") {
            end(&mut current);
        } else if let Some((_, lines)) = &mut current {
            lines.push(line);
        }
    }
    end(&mut current);
    Ok(cases)
}

/// `running 3 tests`.
fn is_count(line: &str) -> bool {
    line.strip_prefix("running ").is_some_and(|rest| rest.ends_with(" tests") || rest.ends_with(" test"))
}

fn section(lines: &[&str], suite: &str) -> Vec<Case> {
    let said = said(lines);
    let mut cases = Vec::new();
    for line in lines {
        let Some((name, end)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) else {
            continue;
        };
        let name = name.trim_end().trim_end_matches(" - should panic");
        let outcome = match end {
            "ok" => Outcome::Passed,
            "FAILED" => Outcome::Failed(said.get(name).cloned().unwrap_or_default()),
            ended => match ended.strip_prefix("ignored") {
                Some(why) => Outcome::Skipped(why.trim_start_matches([',', ' ']).to_owned()),
                None => continue,
            },
        };
        cases.push(Case { key: format!("{suite}::{name}"), outcome });
    }
    cases
}

/// What the tests that failed said, by their names: it stands behind all of them, each under a line of its own.
fn said(lines: &[&str]) -> HashMap<String, String> {
    let mut said: HashMap<String, String> = HashMap::new();
    let mut current: Option<String> = None;
    for line in lines {
        let heading = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" ----"));
        if let Some(heading) = heading {
            current = Some(heading.trim_end_matches(" stdout").to_owned());
        } else if *line == "failures:" {
            current = None;
        } else if let Some(name) = &current {
            let text = said.entry(name.clone()).or_default();
            text.push_str(line);
            text.push('\n');
        }
    }
    said
}
