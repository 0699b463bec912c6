//! What specs leave open: criteria without tests, tests that prove nothing that was asked for, and criteria that say
//! something else than when they were proven.

use std::collections::{BTreeMap, BTreeSet};

use crate::fingerprint::{Difference, differences};

use super::criterion::fingerprint;
use super::{Criterion, Listing, Proof, Reference, Runner, Spec, Unresolved};

/// What is open.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Coverage<'s> {
    /// How many criteria there are.
    pub criteria: usize,
    /// How many tests there are.
    pub tests: usize,
    /// Criteria without tests, and why they have none.
    pub gaps: Vec<(&'s Criterion, &'s str)>,
    /// Tests that no criterion names, by their runner, and their file, package or binary.
    pub uncited: BTreeMap<(Runner, String), Vec<Reference>>,
    /// Criteria that say something else than when their tests last passed.
    pub changed: Vec<(&'s Criterion, Vec<Difference>)>,
}

/// What is open in specs: `listings` are the tests that there are, `passed` what criteria said, by their names, when
/// their tests last passed.
#[must_use]
pub fn coverage<'s>(
    specs: &'s [Spec],
    listings: &BTreeMap<Runner, Listing>,
    passed: &BTreeMap<String, String>,
) -> Coverage<'s> {
    let mut coverage = Coverage::default();
    let mut cited: BTreeSet<Reference> = BTreeSet::new();
    for criterion in specs.iter().flat_map(|spec| &spec.criteria) {
        coverage.criteria += 1;
        match &criterion.proof {
            Proof::Gap(why) => coverage.gaps.push((criterion, why)),
            Proof::Tests(tests) => {
                for test in tests {
                    let meant = meant(&test.reference, listings).unwrap_or_default();
                    cited.extend(meant.into_iter().map(|meant| whole(&meant, listings)));
                }
            }
        }
        let before = passed.get(&criterion.name());
        let changes = before
            .map(|before| differences(&fingerprint(before), &criterion.fingerprint(), &BTreeSet::new()));
        if let Some(changes) = changes.filter(|changes| !changes.is_empty()) {
            coverage.changed.push((criterion, changes));
        }
    }
    for (runner, listing) in listings {
        coverage.tests += listing.len();
        for (target, listed) in listing.iter() {
            let reference = Reference::new(*runner, target);
            if !cited.contains(&reference) {
                coverage.uncited.entry((*runner, listed.suite.clone())).or_default().push(reference);
            }
        }
    }
    coverage
}

/// The tests that a reference means, as their runner calls them.
///
/// # Errors
/// [`Unresolved`] if it means none, or could mean several.
pub fn meant(
    reference: &Reference,
    listings: &BTreeMap<Runner, Listing>,
) -> Result<Vec<Reference>, Unresolved> {
    let none = Listing::default();
    let listing = listings.get(&reference.runner).unwrap_or(&none);
    let targets = listing.resolve(reference)?;
    Ok(targets.into_iter().map(|target| Reference::new(reference.runner, target)).collect())
}

/// The test that is listed where only a part of it is named.
fn whole(reference: &Reference, listings: &BTreeMap<Runner, Listing>) -> Reference {
    let is_listed =
        listings.get(&reference.runner).is_some_and(|listing| listing.suite(&reference.target).is_some());
    match reference.runner {
        Runner::Go if !is_listed => Reference::new(Runner::Go, super::listing::go_test(&reference.target)),
        _ => reference.clone(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::manifest::Layer;

    #[test]
    fn what_nobody_names_and_what_says_something_else_is_found() {
        let text = r#"
            id = "cart"
            title = "t"
            intent = "i"
            [criterion.1]
            text = "The sum is right."
            tests = ["go:x/cart:TestSum/two", "pytest:t.py::test_a"]
            [criterion.2]
            text = "Refunds are paid."
            gap = "later"
        "#;
        let specs = super::super::parse(&[Layer { name: "specs/cart.toml", text }]).unwrap();
        let (mut go, mut pytest) = (Listing::default(), Listing::default());
        go.insert("x/cart:TestSum", "x/cart", vec![]);
        go.insert("x/cart:TestOther", "x/cart", vec![]);
        pytest.insert("t.py::test_a[1]", "t.py", vec![]);
        let passed = BTreeMap::from([("cart.1".to_owned(), "The sum is near.".to_owned())]);
        let listings = BTreeMap::from([(Runner::Go, go), (Runner::Pytest, pytest)]);
        let found = coverage(&specs, &listings, &passed);
        assert_eq!((found.criteria, found.tests), (2, 3));
        assert_eq!(
            found.gaps.iter().map(|(open, why)| (open.name(), *why)).collect::<Vec<_>>(),
            [("cart.2".to_owned(), "later")]
        );
        let other = vec![Reference::new(Runner::Go, "x/cart:TestOther")];
        assert_eq!(found.uncited, BTreeMap::from([((Runner::Go, "x/cart".to_owned()), other)]));
        let (criterion, changes) = &found.changed[0];
        assert_eq!(
            (criterion.name().as_str(), changes[0].old.as_deref()),
            ("cart.1", Some("The sum is near."))
        );
        let same = BTreeMap::from([("cart.1".to_owned(), specs[0].criteria[0].text.clone())]);
        assert_eq!(coverage(&specs, &listings, &same).changed, []);
    }
}
