//! The JSON of Vitest, which is that of Jest.

use serde::Deserialize;

use super::{Case, Outcome, ReportError};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Whole {
    test_results: Vec<File>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    name: String,
    assertion_results: Vec<Test>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Test {
    ancestor_titles: Vec<String>,
    title: String,
    status: String,
    #[serde(default)]
    failure_messages: Vec<String>,
}

/// The tests of a report, by their files from `root`.
pub(super) fn cases(text: &str, root: &str) -> Result<Vec<Case>, ReportError> {
    let whole: Whole = match serde_json::from_str(text) {
        Ok(whole) => whole,
        Err(error) if error.is_data() => return Err(ReportError::Unknown),
        Err(error) => return Err(ReportError::Broken(error.to_string())),
    };
    let mut cases = Vec::new();
    for file in whole.test_results {
        let name =
            file.name.strip_prefix(root).map_or(file.name.as_str(), |name| name.trim_start_matches('/'));
        for test in file.assertion_results {
            let titles: Vec<&str> =
                test.ancestor_titles.iter().chain([&test.title]).map(String::as_str).collect();
            let titles = titles.into_iter().filter(|title| !title.is_empty()).collect::<Vec<_>>().join(" > ");
            let outcome = match test.status.as_str() {
                "passed" => Outcome::Passed,
                "failed" => Outcome::Failed(test.failure_messages.join("\n")),
                "todo" => Outcome::Skipped("it is still to be written".to_owned()),
                _ => Outcome::Skipped(String::new()),
            };
            cases.push(Case { key: format!("{name}::{titles}"), outcome });
        }
    }
    Ok(cases)
}
