//! Reports and lists as the tools themselves wrote them, of projects with a test that fails and one that is skipped.

use std::collections::BTreeMap;

use super::super::runner::{cargo, go, pytest, vitest};
use super::super::{Listing, Reference};
use super::*;

macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!("../../tests/spec/", $name))
    };
}

/// How a test that a reference means ended.
fn outcome<'r>(report: &'r Report, reference: &str) -> Option<&'r Outcome> {
    report.get(&Reference::try_from(reference.to_owned()).unwrap().key())
}

#[track_caller]
fn failed(report: &Report, reference: &str, why: &str) {
    match outcome(report, reference) {
        Some(Outcome::Failed(said)) => assert!(said.contains(why), "{said}"),
        other => panic!("{reference}: {other:?}"),
    }
}

#[track_caller]
fn skipped(report: &Report, reference: &str, why: &str) {
    assert_eq!(outcome(report, reference), Some(&Outcome::Skipped(why.to_owned())), "{reference}");
}

#[track_caller]
fn passed(report: &Report, reference: &str) {
    assert_eq!(outcome(report, reference), Some(&Outcome::Passed), "{reference}");
}

fn targets(listing: &Listing) -> Vec<&str> {
    listing.iter().map(|(target, _)| target).collect()
}

#[test]
fn nextest_is_understood_in_each_of_its_formats() {
    let listing = cargo::nextest_listing(recorded!("nextest-list.json")).unwrap();
    let all = [
        "shop::checkout::a_cart_is_paid",
        "shop::tests::an_empty_cart_costs_nothing",
        "shop::tests::it_is_sold",
        "shop::tests::prices_are_added",
    ];
    assert_eq!(targets(&listing), all);
    let xml = Report::parse(recorded!("nextest.xml"), None, "").unwrap();
    passed(&xml, "cargo:shop::checkout::a_cart_is_paid");
    failed(&xml, "cargo:shop::tests::prices_are_added", "assertion `left == right` failed: prices are added");
    // Nextest's own JSON calls a binary by its target, where JUnit has its id.
    let json = Report::parse(recorded!("nextest.jsonl"), None, "").unwrap();
    let aliases = listing.aliases("shop::tests::prices_are_added");
    assert_eq!(aliases, ["shop::shop::tests::prices_are_added"]);
    failed(&json, &format!("cargo:{}", aliases[0]), "prices are added");
    skipped(&json, "cargo:shop::shop::tests::it_is_sold", "");
    passed(&json, "cargo:shop::checkout::a_cart_is_paid");
}

#[test]
fn what_cargo_test_prints_is_understood_by_its_sections() {
    let binaries = cargo::binaries(recorded!("cargo-build.jsonl"));
    let ids: BTreeMap<String, String> =
        binaries.iter().map(|(file, binary)| (file.clone(), binary.id.clone())).collect();
    let plain = cargo::plain_listing(recorded!("cargo-list.txt"), &binaries);
    assert_eq!(plain, cargo::nextest_listing(recorded!("nextest-list.json")).unwrap());
    let report = Report::of_cargo_test(recorded!("cargo-test.txt"), &ids).unwrap();
    passed(&report, "cargo:shop::tests::an_empty_cart_costs_nothing");
    passed(&report, "cargo:shop::checkout::a_cart_is_paid");
    failed(&report, "cargo:shop::tests::prices_are_added", "prices are added");
    skipped(&report, "cargo:shop::tests::it_is_sold", "needs the shop's server");
}

#[test]
fn what_one_binary_prints_is_understood_where_somebody_says_which_it_is() {
    let text = "\nrunning 2 tests\ntest docker::a_stop     ... ok\ntest podman::a_start_that_is_long ... FAILED\n\n\
                failures:\n\n---- podman::a_start_that_is_long ----\ntoo long\n\n\nfailures:\n    podman::a_start\n\n\
                test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";
    assert_eq!(Report::parse(text, None, ""), Err(ReportError::NoSuite));
    let report = Report::parse(text, Some("shop::engines"), "").unwrap();
    passed(&report, "cargo:shop::engines::docker::a_stop");
    failed(&report, "cargo:shop::engines::podman::a_start_that_is_long", "too long");
    let cut = text.split("\n\nfailures").next().unwrap();
    assert!(matches!(Report::parse(cut, Some("shop::engines"), ""), Err(ReportError::Broken(_))));
}

#[test]
fn pytest_is_understood() {
    let listing = pytest::listing(recorded!("pytest-collect.txt"));
    assert_eq!(listing.len(), 5);
    assert_eq!(listing.suite("tests/test_cart.py::test_db"), Some("tests/test_cart.py"));
    let report = Report::parse(recorded!("pytest.xml"), None, "").unwrap();
    passed(&report, "pytest:tests/test_cart.py::TestCart::test_sum[prices0-3]");
    failed(&report, "pytest:tests/test_cart.py::TestCart::test_sum[prices1-4]", "assert 3 == 4");
    failed(&report, "pytest:tests/test_cart.py::test_db", "no database");
    skipped(&report, "pytest:tests/test_cart.py::test_sold", "needs the shop's server");
}

#[test]
fn go_is_understood() {
    let listing = go::listing(recorded!("go-list.jsonl"));
    let all = [
        "example.com/shop/cart:TestEmpty",
        "example.com/shop/cart:TestSold",
        "example.com/shop/cart:TestSum",
    ];
    assert_eq!(targets(&listing), all);
    let report = Report::parse(recorded!("go-test.jsonl"), None, "").unwrap();
    passed(&report, "go:example.com/shop/cart:TestSum/two");
    failed(&report, "go:example.com/shop/cart:TestSum/wrong", "1 + 2 is not 4");
    skipped(&report, "go:example.com/shop/cart:TestSold", "needs the shop's server");
    let selection = go::selection(["a/b:TestA", "a/b:TestB/two", "a/c:TestA"]);
    assert_eq!(selection, ["-run", "^(TestA|TestB)$", "a/b", "a/c"]);
}

#[test]
fn vitest_is_understood_and_lists_what_it_skips() {
    let listing = vitest::listing(recorded!("vitest-list.json"), "/shop/vitest").unwrap();
    let all = ["a price (in euros) is $1.00", "cart > adds prices", "cart > is empty", "cart > is sold"];
    assert_eq!(targets(&listing), all.map(|name| format!("src/cart.test.js:{name}")));
    let report = Report::parse(recorded!("vitest.json"), None, "/shop/vitest/").unwrap();
    passed(&report, "vitest:src/cart.test.js:a price (in euros) is $1.00");
    failed(&report, "vitest:src/cart.test.js:cart > adds prices", "expected 3 to be 4");
    skipped(&report, "vitest:src/cart.test.js:cart > is sold", "");
    let selection = vitest::selection(["a.js:cart > costs $1.00"]);
    assert_eq!(selection, ["-t", "^(cart costs \\$1\\.00)$", "a.js"]);
}

#[test]
fn a_selection_that_is_long_is_parted_and_names_are_taken_as_they_are() {
    let mut listing = Listing::default();
    let names: Vec<String> =
        (0..4000).map(|n| format!("shop::m{n}::a_test_with_a_name_of_some_length")).collect();
    names.iter().for_each(|name| listing.insert(name, "shop", vec![]));
    let arguments = cargo::nextest_selection(names.iter().map(String::as_str), &listing);
    assert!(arguments.len() > 2 && arguments.iter().all(|argument| argument.len() < 128 * 1024));
    listing.insert("shop::bin/tool::case(1,2)", "shop::bin/tool", vec![]);
    let arguments = cargo::nextest_selection(["shop::bin/tool::case(1,2)"], &listing);
    assert_eq!(arguments, ["-E", "binary_id(=shop::bin/tool)&(test(=case\\(1\\,2\\)))"]);
    listing.insert("shop::bin/tool::other", "shop::bin/tool", vec![]);
    let plain = cargo::plain_selection(["shop::bin/tool::case(1,2)"], &listing);
    assert_eq!(plain.0, ["--bin", "tool", "--workspace"]);
    assert_eq!((plain.1.len(), plain.1.contains(&"other".to_owned())), (2 * 4001, true));
}

#[test]
fn a_test_that_was_tried_twice_ended_as_it_did_at_worst() {
    let case = |outcome| Case { key: "a::b".to_owned(), outcome };
    let (pass, skip) = (Outcome::Passed, Outcome::Skipped(String::new()));
    let fail = || Outcome::Failed("no".to_owned());
    for (first, second, worst) in
        [(pass.clone(), fail(), fail()), (fail(), pass.clone(), fail()), (skip, pass.clone(), pass)]
    {
        let report = Report::of(vec![case(first), case(second)]);
        assert_eq!(report.get("a::b"), Some(&worst));
    }
}

#[test]
fn what_is_no_report_is_refused() {
    for text in ["", "hello\n", "<html/>", "{}", "[1]", "{\"testResults\": 3}"] {
        assert_eq!(Report::parse(text, None, ""), Err(ReportError::Unknown), "{text}");
    }
    for text in ["<testsuite><testcase name=\"a\">", "{\"testResults\": [", "{\"a\":"] {
        assert!(matches!(Report::parse(text, None, ""), Err(ReportError::Broken(_))), "{text}");
    }
    let bomb = "<!DOCTYPE a [<!ENTITY b \"bb\">]><testsuite name=\"&b;\"/>";
    assert!(matches!(Report::parse(bomb, None, ""), Err(ReportError::Broken(_))));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(<testcase|\\{\"|test |Running |::|\\[|\\$|\\PC){0,40}", suite in "\\PC{0,9}") {
        let _ = Report::parse(&text, Some(&suite), &suite);
        let _ = Report::of_cargo_test(&text, &BTreeMap::from([(suite.clone(), suite)]));
        let (listing, _) = (pytest::listing(&text), cargo::nextest_listing(&text));
        if let Ok(reference) = Reference::try_from(text) {
            let _ = (reference.key(), listing.resolve(&reference));
        }
    }
}
