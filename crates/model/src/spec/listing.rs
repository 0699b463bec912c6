//! The tests that there are, as a runner lists them, and which of them a reference means.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Reference, Runner};

/// How alike a test has to be to be suggested: two thirds of what could be alike is plenty, a third is chance.
const ALIKE: f64 = 0.5;

/// The tests of one runner.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    tests: BTreeMap<String, Listed>,
}

/// A test that there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The file, package or binary that it is of.
    pub suite: String,
    /// What else it may be called: by its package, or as another format of its runner's reports has it.
    pub aliases: Vec<String>,
}

/// Why a reference means no test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unresolved {
    /// There is none; maybe this one was meant.
    Missing {
        /// What the runner calls it.
        near: Option<String>,
    },
    /// There are several, which are called so.
    Ambiguous(Vec<String>),
}

impl Listing {
    /// Adds a test.
    pub fn insert(&mut self, target: impl Into<String>, suite: impl Into<String>, aliases: Vec<String>) {
        self.tests.insert(target.into(), Listed { suite: suite.into(), aliases });
    }

    /// All tests, by what their runner calls them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Listed)> {
        self.tests.iter().map(|(target, listed)| (target.as_str(), listed))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tests.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tests.is_empty()
    }

    /// The file, package or binary of a test.
    #[must_use]
    pub fn suite(&self, target: &str) -> Option<&str> {
        self.tests.get(target).map(|listed| listed.suite.as_str())
    }

    /// What else the test is called in reports.
    #[must_use]
    pub fn aliases(&self, target: &str) -> &[String] {
        self.tests.get(target).map_or(&[], |listed| &listed.aliases)
    }

    /// The tests that a reference means: one, or all the cases of one that has parameters.
    ///
    /// # Errors
    /// [`Unresolved`] if there is none, or if another one could be meant as well.
    pub fn resolve(&self, reference: &Reference) -> Result<Vec<String>, Unresolved> {
        let target = &reference.target;
        if reference.runner == Runner::Command || self.tests.contains_key(target) {
            return Ok(vec![target.clone()]);
        }
        let meant: Vec<String> = match reference.runner {
            // Go lists no parts of tests; its report does.
            Runner::Go if self.tests.contains_key(go_test(target)) => vec![target.clone()],
            Runner::Pytest => {
                let cases = |other: &&String| {
                    other.strip_prefix(target.as_str()).is_some_and(|rest| rest.starts_with('['))
                };
                return match self.tests.keys().filter(cases).cloned().collect::<Vec<_>>() {
                    cases if cases.is_empty() => Err(Unresolved::Missing { near: self.nearest(reference) }),
                    cases => Ok(cases),
                };
            }
            _ => {
                let called = |listed: &Listed| listed.aliases.contains(target);
                self.tests
                    .iter()
                    .filter(|(_, listed)| called(listed))
                    .map(|(other, _)| other.clone())
                    .collect()
            }
        };
        match meant.len() {
            0 => Err(Unresolved::Missing { near: self.nearest(reference) }),
            1 => Ok(meant),
            _ => Err(Unresolved::Ambiguous(meant)),
        }
    }

    /// The test that was probably meant: one of the same name elsewhere, or the one that is called most alike, rather
    /// in the same place than in another.
    fn nearest(&self, reference: &Reference) -> Option<String> {
        let parts = |target: &str| -> (String, String) {
            let separator = match reference.runner {
                Runner::Vitest | Runner::Go => target.find(':').map(|at| (at, 1)),
                _ => target.rfind("::").map(|at| (at, 2)),
            };
            separator.map_or((String::new(), target.to_owned()), |(at, length)| {
                (target[..at].to_owned(), target[at + length..].to_owned())
            })
        };
        let (place, name) = parts(&reference.target);
        let likeness = |target: &str| {
            let (other_place, other_name) = parts(target);
            let alike = strsim::sorensen_dice(&name, &other_name);
            (alike, alike + strsim::sorensen_dice(&place, &other_place) / 2.0)
        };
        let mut best: Option<(f64, &String)> = None;
        for target in self.tests.keys() {
            let (alike, score) = likeness(target);
            if alike >= ALIKE && best.is_none_or(|(known, _)| score > known) {
                best = Some((score, target));
            }
        }
        best.map(|(_, target)| target.clone())
    }
}

/// The test of Go that a part is of.
pub(super) fn go_test(target: &str) -> &str {
    let name = target.find(':').map_or(0, |at| at + 1);
    target[name..].find('/').map_or(target, |slash| &target[..name + slash])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::manifest::format::Format as _;

    fn listing(tests: &[(&str, &[&str])]) -> Listing {
        let mut listing = Listing::default();
        for (target, aliases) in tests {
            listing.insert(*target, "", aliases.iter().map(|alias| (*alias).to_owned()).collect());
        }
        listing
    }

    fn resolved(listing: &Listing, reference: &str) -> Result<Vec<String>, Unresolved> {
        listing.resolve(&Reference::parse(reference).unwrap())
    }

    fn near(test: &str) -> Result<Vec<String>, Unresolved> {
        Err(Unresolved::Missing { near: Some(test.to_owned()) })
    }

    #[test]
    fn a_test_is_found_by_its_package_where_that_is_plain() {
        let known = listing(&[
            ("shop::checkout::a_cart_is_paid", &["shop::a_cart_is_paid"]),
            ("shop::one::twice", &["shop::twice"]),
            ("shop::two::twice", &["shop::twice"]),
        ]);
        let paid = vec!["shop::checkout::a_cart_is_paid".to_owned()];
        assert_eq!(resolved(&known, "cargo:shop::checkout::a_cart_is_paid"), Ok(paid.clone()));
        assert_eq!(resolved(&known, "cargo:shop::a_cart_is_paid"), Ok(paid));
        let both = vec!["shop::one::twice".to_owned(), "shop::two::twice".to_owned()];
        assert_eq!(resolved(&known, "cargo:shop::twice"), Err(Unresolved::Ambiguous(both)));
    }

    #[test]
    fn a_test_with_parameters_is_all_of_its_cases() {
        let known = listing(&[("t.py::test_a[1]", &[]), ("t.py::test_a[2]", &[]), ("t.py::test_ab", &[])]);
        assert_eq!(resolved(&known, "pytest:t.py::test_a").map(|cases| cases.len()), Ok(2));
        assert_eq!(resolved(&known, "pytest:t.py::test_a[2]").map(|cases| cases.len()), Ok(1));
        assert_eq!(resolved(&known, "pytest:t.py::test_a[3]"), near("t.py::test_a[1]"));
    }

    #[test]
    fn a_part_of_a_test_of_go_is_there_when_the_test_is() {
        let known = listing(&[("x/cart:TestSum", &[])]);
        assert!(resolved(&known, "go:x/cart:TestSum/two").is_ok());
        assert_eq!(resolved(&known, "go:x/cart:TestSums/two"), near("x/cart:TestSum"));
    }

    #[test]
    fn a_renamed_test_and_one_that_moved_are_suggested_and_a_stranger_is_not() {
        let known = listing(&[
            ("shop::checkout::a_cart_is_paid_once", &[]),
            ("shop::checkout::an_empty_cart_is_free", &[]),
            ("shop::stock::what_is_sold_is_gone", &[]),
        ]);
        for (reference, suggested) in [
            ("cargo:shop::checkout::a_cart_is_paid", "shop::checkout::a_cart_is_paid_once"),
            ("cargo:shop::checkout::paid_once_is_a_cart", "shop::checkout::a_cart_is_paid_once"),
            ("cargo:shop::checkout::what_is_sold_is_gone", "shop::stock::what_is_sold_is_gone"),
            ("cargo:sohp::checkout::an_emty_cart_is_free", "shop::checkout::an_empty_cart_is_free"),
        ] {
            assert_eq!(resolved(&known, reference), near(suggested), "{reference}");
        }
        let none = Err(Unresolved::Missing { near: None });
        assert_eq!(resolved(&known, "cargo:shop::checkout::zzz"), none);
    }
}
