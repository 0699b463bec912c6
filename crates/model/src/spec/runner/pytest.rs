//! pytest: what it collects, and what it calls its tests in JUnit's XML.

use super::super::Listing;

/// What lists the tests.
pub const LIST: &[&str] = &["--collect-only", "-q", "--rootdir=.", "-p", "no:cacheprovider"];
/// What runs those that are named behind it, and changes nothing in the project by that.
pub const RUN: &[&str] = &["-q", "--rootdir=.", "-p", "no:cacheprovider"];
/// Collected nothing.
pub const NO_TESTS: i32 = 5;

/// The tests that it collected: a node id a line, up to the first line that is none.
#[must_use]
pub fn listing(text: &str) -> Listing {
    let mut listing = Listing::default();
    for line in text.lines() {
        let Some((file, _)) = line.split_once("::").filter(|(file, _)| file.ends_with(".py")) else {
            continue;
        };
        listing.insert(line, file, Vec::new());
    }
    listing
}

/// `tests/test_a.py::TestX::test_y[1]` is `tests.test_a.TestX::test_y[1]` in a report.
pub(crate) fn key(target: &str) -> String {
    // What stands in brackets is a parameter's own text.
    let (path, parameters) = target.split_at(target.find('[').unwrap_or(target.len()));
    let Some((file, rest)) = path.split_once("::") else { return target.to_owned() };
    let file = file.strip_suffix(".py").unwrap_or(file).replace('/', ".");
    let (classes, name) = rest
        .rsplit_once("::")
        .map_or((String::new(), rest), |(classes, name)| (format!(".{}", classes.replace("::", ".")), name));
    format!("{file}{classes}::{name}{parameters}")
}
