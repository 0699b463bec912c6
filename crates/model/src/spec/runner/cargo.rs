//! cargo-nextest, and `cargo test` where that is not installed.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::super::Listing;
use super::{ARGUMENT, BadListing};

/// What lists the tests, with nextest.
pub const LIST: &[&str] = &["nextest", "list", "--workspace", "--message-format", "json"];
/// What runs them, with nextest.
pub const RUN: &[&str] = &[
    "nextest",
    "run",
    "--workspace",
    "--no-fail-fast",
    "--no-tests=pass",
    "--ignore-default-filter",
    "--message-format=libtest-json",
];
/// The variable that nextest asks for that format for, and its value.
pub const JSON: (&str, &str) = ("NEXTEST_EXPERIMENTAL_LIBTEST_JSON", "1");
/// What builds the test binaries, and tells of them.
pub const BUILD: &[&str] = &["test", "--no-run", "--message-format", "json"];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Suites {
    rust_suites: BTreeMap<String, Suite>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Suite {
    package_name: String,
    binary_id: String,
    binary_name: String,
    #[serde(default)]
    testcases: BTreeMap<String, serde_json::Value>,
}

/// The tests that nextest lists.
///
/// # Errors
/// [`BadListing`] if that is not what it says elsewhere.
pub fn nextest_listing(json: &str) -> Result<Listing, BadListing> {
    let json = json.lines().find(|line| line.starts_with('{')).unwrap_or_default();
    let suites: Suites = serde_json::from_str(json).map_err(|error| BadListing(error.to_string()))?;
    let mut listing = Listing::default();
    for suite in suites.rust_suites.into_values() {
        let binary = Binary { id: suite.binary_id, package: suite.package_name, name: suite.binary_name };
        suite.testcases.keys().for_each(|name| binary.list(name, &mut listing));
    }
    Ok(listing)
}

/// A test binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    /// What nextest calls it: its package, and its own name where it is not the library's: `shop::checkout`.
    pub id: String,
    /// Its package.
    pub package: String,
    /// The name of its target.
    pub name: String,
}

impl Binary {
    fn list(&self, test: &str, listing: &mut Listing) {
        let target = format!("{}::{test}", self.id);
        let others =
            [format!("{}::{test}", self.package), format!("{}::{}::{test}", self.package, self.name)];
        let aliases = others.into_iter().filter(|other| *other != target).collect();
        listing.insert(target, &self.id, aliases);
    }
}

#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    package_id: String,
    target: Option<Target>,
    executable: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
}

/// The test binaries that cargo built, by the names of their files.
#[must_use]
pub fn binaries(messages: &str) -> BTreeMap<String, Binary> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let built = messages.filter_map(|message| {
        let (target, executable) = (message.target?, message.executable?);
        let package = package(&message.package_id);
        let id = match target.kind.first().map(String::as_str) {
            Some("test") => format!("{package}::{}", target.name),
            Some(kind @ ("bin" | "example" | "bench")) => format!("{package}::{kind}/{}", target.name),
            _ => package.clone(),
        };
        let file = executable.rsplit('/').next()?.to_owned();
        Some((file, Binary { id, package, name: target.name }))
    });
    built.collect()
}

/// The name of a package in its id: `path+file:///p/shop#0.1.0`, `path+file:///p#shop@0.1.0`.
fn package(id: &str) -> String {
    let (url, fragment) = id.rsplit_once('#').unwrap_or((id, ""));
    match fragment.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => url.rsplit('/').next().unwrap_or(url).to_owned(),
    }
}

/// The name of the file in the line that `cargo test` writes above what a binary says:
/// `Running unittests src/lib.rs (target/debug/deps/shop-0123)`.
pub(crate) fn section_file(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("Running ")?;
    let (_, path) = rest.strip_suffix(')')?.rsplit_once('(')?;
    path.rsplit('/').next()
}

/// The tests that `cargo test -- --list --format terse` lists.
#[must_use]
pub fn plain_listing(text: &str, binaries: &BTreeMap<String, Binary>) -> Listing {
    let mut listing = Listing::default();
    let mut current = None;
    for line in text.lines() {
        if let Some(file) = section_file(line) {
            current = binaries.get(file);
        } else if line.trim_start().starts_with("Doc-tests ") {
            current = None;
        } else if let (Some(binary), Some(name)) = (current, line.strip_suffix(": test")) {
            binary.list(name, &mut listing);
        }
    }
    listing
}

/// The arguments that have nextest run these tests: a filter for each binary, or several where one would be too long.
#[must_use]
pub fn nextest_selection<'t>(
    targets: impl IntoIterator<Item = &'t str>,
    listing: &'t Listing,
) -> Vec<String> {
    let mut arguments = Vec::new();
    for (suite, names) in by_suite(targets, listing) {
        let mut filters = vec![String::new()];
        for name in names {
            let test = format!("test(={})", escaped(name));
            match filters.last_mut() {
                Some(last) if last.is_empty() => *last = test,
                Some(last) if last.len() + test.len() < ARGUMENT => {
                    last.push('|');
                    last.push_str(&test);
                }
                _ => filters.push(test),
            }
        }
        for filter in filters {
            arguments.extend(["-E".to_owned(), format!("binary_id(={})&({filter})", escaped(suite))]);
        }
    }
    arguments
}

/// The arguments that have `cargo test` run these tests: their targets, and the names of all others, which are
/// skipped. There may be binaries that take no more than one name to run.
#[must_use]
pub fn plain_selection<'t>(
    targets: impl IntoIterator<Item = &'t str>,
    listing: &'t Listing,
) -> (Vec<String>, Vec<String>) {
    let wanted = by_suite(targets, listing);
    // Features of one package are known only where all are chosen from.
    let mut binaries = BTreeSet::from([vec!["--workspace".to_owned()]]);
    for suite in wanted.keys() {
        let target = suite.split_once("::").map_or("", |(_, target)| target);
        binaries.insert(match target.split_once('/') {
            Some((kind, name)) => vec![format!("--{kind}"), name.to_owned()],
            None if target.is_empty() => vec!["--lib".to_owned()],
            None => vec!["--test".to_owned(), target.to_owned()],
        });
    }
    let all = by_suite(listing.iter().map(|(target, _)| target), listing);
    let names: BTreeSet<&str> = wanted.values().flatten().copied().collect();
    let others: BTreeSet<&str> =
        all.values().flatten().copied().filter(|name| !names.contains(name)).collect();
    let skips = others.into_iter().flat_map(|name| ["--skip".to_owned(), name.to_owned()]);
    (binaries.into_iter().flatten().collect(), skips.collect())
}

/// The tests by their binaries, without their names.
fn by_suite<'t>(
    targets: impl IntoIterator<Item = &'t str>,
    listing: &'t Listing,
) -> BTreeMap<&'t str, BTreeSet<&'t str>> {
    let mut suites: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for target in targets {
        let suite = listing.suite(target).unwrap_or_default();
        let name = target.strip_prefix(suite).and_then(|rest| rest.strip_prefix("::")).unwrap_or(target);
        suites.entry(suite).or_default().insert(name);
    }
    suites
}

/// A name in a filter of nextest, where parentheses, commas and backslashes mean something.
fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, '(' | ')' | ',' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
