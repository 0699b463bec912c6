//! JUnit's XML, as nextest, pytest, Vitest and many others write it.

use roxmltree::{Document, Node, ParsingOptions};

use super::{Case, Outcome, ReportError};

/// More than any run has tests, with their output: what is larger was made to be.
const NODES: u32 = 4_000_000;

/// The tests of a report.
pub(super) fn cases(text: &str) -> Result<Vec<Case>, ReportError> {
    let options = ParsingOptions { nodes_limit: NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options)
        .map_err(|error| ReportError::Broken(error.to_string()))?;
    let is_suites = |node: Node<'_, '_>| matches!(node.tag_name().name(), "testsuites" | "testsuite");
    if !is_suites(document.root_element()) {
        return Err(ReportError::Unknown);
    }
    let cases = document.descendants().filter(|node| node.has_tag_name("testcase"));
    Ok(cases.filter_map(case).collect())
}

fn case(node: Node<'_, '_>) -> Option<Case> {
    let name = node.attribute("name")?;
    let suite = || node.parent_element().and_then(|suite| suite.attribute("name"));
    let class = node.attribute("classname").or_else(suite).unwrap_or_default();
    let child = |names: &[&str]| node.children().find(|child| names.contains(&child.tag_name().name()));
    let outcome = match (child(&["failure", "error"]), child(&["skipped"])) {
        (Some(failure), _) => Outcome::Failed(said(failure)),
        (None, Some(skipped)) => {
            Outcome::Skipped(skipped.attribute("message").unwrap_or_default().to_owned())
        }
        (None, None) => Outcome::Passed,
    };
    Some(Case { key: format!("{class}::{name}"), outcome })
}

/// What a failure says: its text, where that does not begin with its message the two of them.
fn said(failure: Node<'_, '_>) -> String {
    let text: String =
        failure.descendants().filter_map(|node| node.text().filter(|_| node.is_text())).collect();
    let (message, text) = (failure.attribute("message").unwrap_or_default().trim(), text.trim());
    match (message.is_empty(), text.contains(message)) {
        (true, _) | (_, true) => text.to_owned(),
        _ if text.is_empty() => message.to_owned(),
        _ => format!("{message}\n{text}"),
    }
}
