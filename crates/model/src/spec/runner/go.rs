//! `go test`: what it lists, and the pattern that runs what is wanted.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::super::Listing;

/// What lists the tests of all packages.
pub const LIST: &[&str] = &["test", "-list", ".", "-json"];
/// What runs tests, and does not take an earlier result for one.
pub const RUN: &[&str] = &["test", "-json", "-count=1"];
/// All packages of the module.
pub const ALL: &str = "./...";

/// What `go test -json` says, in a list and in a report.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::spec) struct Event {
    /// What happened: `output`, `pass`, `fail`, `skip`...
    pub(in crate::spec) action: String,
    #[serde(default)]
    pub(in crate::spec) package: String,
    /// The test that it happened to; nothing where it is the package as a whole.
    pub(in crate::spec) test: Option<String>,
    #[serde(default)]
    pub(in crate::spec) output: String,
}

/// The events, one a line. Lines that are none are what the tool says beside them.
pub(in crate::spec) fn events(text: &str) -> impl Iterator<Item = Event> + '_ {
    text.lines().filter_map(|line| serde_json::from_str(line).ok())
}

/// The tests that it lists.
#[must_use]
pub fn listing(text: &str) -> Listing {
    let mut listing = Listing::default();
    for event in events(text) {
        let name = event.output.trim_end();
        let is_test = ["Test", "Example", "Fuzz"].iter().any(|kind| name.starts_with(kind));
        if event.action == "output" && is_test && !name.contains(char::is_whitespace) {
            listing.insert(format!("{}:{name}", event.package), event.package, Vec::new());
        }
    }
    listing
}

/// The arguments that run these tests, and no others of their packages but those of the same names: parts of tests run
/// with the whole.
#[must_use]
pub fn selection<'t>(targets: impl IntoIterator<Item = &'t str>) -> Vec<String> {
    let (mut packages, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (package, name) in targets.into_iter().filter_map(|target| target.split_once(':')) {
        packages.insert(package);
        names.insert(name.split('/').next().unwrap_or(name));
    }
    let pattern = names.into_iter().collect::<Vec<_>>().join("|");
    let mut arguments = vec!["-run".to_owned(), format!("^({pattern})$")];
    arguments.extend(packages.into_iter().map(str::to_owned));
    arguments
}
