//! Specs of tests that there are already: a beginning, which somebody puts into his own words.

use std::collections::{BTreeMap, BTreeSet};

use crate::manifest::format::Format as _;

use super::{Listing, Reference, Runner, SpecId};

/// A spec for each file, package or binary with tests: its id, and its text.
#[must_use]
pub fn scaffold(listings: &BTreeMap<Runner, Listing>) -> Vec<(SpecId, String)> {
    let mut suites: BTreeMap<(Runner, &str), BTreeSet<&str>> = BTreeMap::new();
    for (runner, listing) in listings {
        for (target, listed) in listing.iter() {
            // The cases of a test with parameters are one.
            let whole =
                if *runner == Runner::Pytest { target.split('[').next().unwrap_or(target) } else { target };
            suites.entry((*runner, &listed.suite)).or_default().insert(whole);
        }
    }
    let mut taken = BTreeSet::new();
    let spec = |((runner, suite), targets): ((Runner, &str), BTreeSet<&str>)| {
        let id = id(suite, &mut taken);
        let (title, intent) = (quoted(suite), quoted(&format!("What the tests of {suite} show.")));
        let mut text = format!("id = \"{id}\"\ntitle = {title}\nintent = {intent}\n");
        for (index, target) in targets.into_iter().enumerate() {
            let reference = Reference::new(runner, target);
            let name = target.strip_prefix(suite).unwrap_or(target);
            text.push_str(&format!(
                "\n[criterion.{}]\ntext = {}\ntests = [{}]\n",
                index + 1,
                quoted(&sentence(name)),
                quoted(&reference.to_string())
            ));
        }
        (id, text)
    };
    suites.into_iter().map(spec).collect()
}

/// An id of the words of a suite's name, which nobody else has.
fn id(suite: &str, taken: &mut BTreeSet<SpecId>) -> SpecId {
    let mut words: Vec<&str> =
        suite.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    if words.len() > 1 && ["py", "js", "ts", "jsx", "tsx", "mjs"].contains(words.last().unwrap_or(&"")) {
        words.pop();
    }
    let plain = words.join("-");
    let plain = plain.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
    let plain = if plain.is_empty() { "tests" } else { &plain[..plain.len().min(56)] };
    let candidates = std::iter::once(plain.to_owned()).chain((2..).map(|number| format!("{plain}-{number}")));
    for candidate in candidates {
        if let Some(id) = SpecId::parse(&candidate).ok().filter(|id| !taken.contains(id)) {
            taken.insert(id.clone());
            return id;
        }
    }
    unreachable!("there is always another number")
}

/// The name of a test as a sentence: `::tests::a_cart_is_paid` is "A cart is paid."
fn sentence(name: &str) -> String {
    let parts =
        name.split("::").flat_map(|part| part.split(':')).filter(|part| !part.is_empty() && *part != "tests");
    let mut words = Vec::new();
    for part in parts {
        let part = ["test_", "Test", "Example", "Fuzz"]
            .iter()
            .find_map(|kind| part.strip_prefix(kind))
            .unwrap_or(part);
        let mut spaced = String::new();
        let mut is_after_lower = false;
        for c in part.trim_start_matches('_').chars() {
            match c {
                '_' => spaced.push(' '),
                c if c.is_uppercase() && is_after_lower => {
                    spaced.extend([' '].into_iter().chain(c.to_lowercase()))
                }
                c => spaced.push(c),
            }
            is_after_lower = c.is_lowercase();
        }
        words.push(spaced.trim().to_owned());
    }
    let text = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(": ");
    let mut rest = text.chars();
    match rest.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), rest.as_str().trim_end_matches('.')),
        None => "Its test passes.".to_owned(),
    }
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Layer;

    #[test]
    fn what_is_written_reads_back_and_says_what_the_tests_are_called() {
        let (mut cargo, mut pytest, mut go) = (Listing::default(), Listing::default(), Listing::default());
        cargo.insert("shop::tests::a_cart_is_paid", "shop", vec![]);
        pytest.insert("tests/test_a.py::TestCart::test_sum[1]", "tests/test_a.py", vec![]);
        pytest.insert("tests/test_a.py::TestCart::test_sum[2]", "tests/test_a.py", vec![]);
        go.insert("x/shop:TestEmptyCart", "x/shop", vec![]);
        go.insert("x-shop:TestA", "x-shop", vec![]);
        let listings = BTreeMap::from([(Runner::Cargo, cargo), (Runner::Pytest, pytest), (Runner::Go, go)]);
        let made = scaffold(&listings);
        let files: Vec<Layer<'_>> = made.iter().map(|(id, text)| Layer { name: id.as_str(), text }).collect();
        let specs = super::super::parse(&files).expect("what is written reads back");
        let told: Vec<_> =
            specs.iter().map(|spec| (spec.id.as_str(), spec.criteria[0].text.as_str())).collect();
        assert_eq!(
            told,
            [
                ("shop", "A cart is paid."),
                ("tests-test-a", "Cart: sum."),
                ("x-shop", "A."),
                ("x-shop-2", "Empty cart."),
            ]
        );
        assert_eq!(specs[1].criteria[0].tests()[0].reference.target, "tests/test_a.py::TestCart::test_sum");
    }
}
