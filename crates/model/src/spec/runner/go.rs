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

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    action: String,
    #[serde(default)]
    package: String,
    #[serde(default)]
    output: String,
}

/// The tests that it lists.
#[must_use]
pub fn listing(text: &str) -> Listing {
    let mut listing = Listing::default();
    for event in text.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok()) {
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
