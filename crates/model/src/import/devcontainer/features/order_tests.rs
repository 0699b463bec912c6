//! The order of features, in examples and for all that can be made up.

use proptest::prelude::*;

use super::*;
use crate::import::devcontainer::features::OptionValue;
use crate::manifest::Location;

fn at() -> Location {
    Location { file: "x".into(), line: 1, column: 1, source_line: String::new(), length: 1 }
}

fn asked(reference: &str, options: &[(&str, &str)]) -> FeatureUse {
    FeatureUse {
        text: reference.to_owned(),
        reference: Reference::parse(reference).unwrap(),
        options: options
            .iter()
            .map(|(name, value)| ((*name).to_owned(), OptionValue::Text((*value).to_owned())))
            .collect(),
        at: at(),
    }
}

/// A feature of a registry, by its own name.
fn feature(id: &str) -> ResolvedFeature {
    let reference = format!("ghcr.io/x/{id}");
    let digest = Some(format!("digest of {reference}"));
    ResolvedFeature {
        asked: asked(&reference, &[]),
        digest,
        depends_on: vec![],
        installs_after: vec![],
        legacy_ids: vec![],
    }
}

impl ResolvedFeature {
    fn needs(mut self, ids: &[&str]) -> Self {
        self.depends_on = ids.iter().map(|id| asked(&format!("ghcr.io/x/{id}"), &[])).collect();
        self
    }

    fn after(mut self, ids: &[&str]) -> Self {
        self.installs_after = ids.iter().map(|id| format!("ghcr.io/x/{id}")).collect();
        self
    }

    fn with(mut self, options: &[(&str, &str)]) -> Self {
        self.asked.options = asked("./x", options).options;
        self
    }
}

fn first(ids: &[&str]) -> Vec<Placed<String>> {
    ids.iter().map(|id| Placed { value: format!("ghcr.io/x/{id}"), at: at() }).collect()
}

/// The order, by the features' own names.
fn ordered(features: &[ResolvedFeature], early: &[&str]) -> Vec<String> {
    let order = install_order(features, &first(early)).unwrap();
    order
        .features
        .iter()
        .map(|feature| feature.asked.reference.resource().replace("ghcr.io/x/", ""))
        .collect()
}

#[test]
fn without_any_wishes_it_is_by_name() {
    assert_eq!(ordered(&[feature("c"), feature("a"), feature("b")], &[]), ["a", "b", "c"]);
}

#[test]
fn what_is_needed_comes_before() {
    let features = [feature("a").needs(&["b"]), feature("b").needs(&["c"]), feature("c"), feature("d")];
    assert_eq!(ordered(&features, &[]), ["c", "d", "b", "a"]);
}

#[test]
fn what_it_comes_after_does_so_only_if_it_is_there() {
    assert_eq!(ordered(&[feature("a").after(&["b", "gone"]), feature("b")], &[]), ["b", "a"]);
    let mut by_version = feature("a");
    by_version.installs_after = vec!["ghcr.io/X/b:1".to_owned()];
    assert_eq!(ordered(&[by_version, feature("b")], &[]), ["b", "a"]);
}

#[test]
fn a_name_from_before_still_counts() {
    let mut renamed = feature("new");
    renamed.legacy_ids = vec!["old".to_owned()];
    assert_eq!(ordered(&[feature("a").after(&["old"]), renamed], &[]), ["new", "a"]);
}

#[test]
fn a_priority_pulls_forward_but_not_past_what_is_needed() {
    let features = [feature("a"), feature("b"), feature("c"), feature("d").needs(&["c"])];
    assert_eq!(ordered(&features, &["c", "b"]), ["c", "b", "a", "d"]);
    assert_eq!(ordered(&features, &["d"]), ["a", "b", "c", "d"]);
}

#[test]
fn a_wish_for_what_is_not_installed_is_told() {
    let features = [feature("a")];
    let order = install_order(&features, &first(&["z"])).unwrap();
    assert_eq!(order.notes[0].text, "`ghcr.io/x/z` is not installed, and so not early either");
}

#[test]
fn the_same_thing_with_the_same_options_is_installed_once() {
    let mut other_tag = feature("a");
    other_tag.asked.reference = Reference::parse("ghcr.io/x/a:1.2").unwrap();
    assert_eq!(ordered(&[feature("a"), other_tag], &[]), ["a"]);
    let options = feature("a").with(&[("version", "2")]);
    assert_eq!(ordered(&[feature("a"), options.clone()], &[]), ["a", "a"]);
    let features = [feature("a"), options];
    let order = install_order(&features, &[]).unwrap();
    assert_eq!(order.features[0].asked.options.len(), 1, "more options come first");
}

#[test]
fn older_versions_come_first_and_the_latest_last() {
    let versions = ["ghcr.io/x/a", "ghcr.io/x/a:10", "ghcr.io/x/a:9.1", "ghcr.io/x/a:9", "ghcr.io/x/a:edge"];
    let features: Vec<_> = versions
        .iter()
        .map(|version| ResolvedFeature {
            asked: asked(version, &[]),
            digest: Some((*version).to_owned()),
            ..feature("a")
        })
        .collect();
    let order = install_order(&features, &[]).unwrap();
    let shown: Vec<_> = order.features.iter().map(|feature| feature.asked.reference.to_string()).collect();
    let tags: Vec<_> = shown.iter().map(|name| name.rsplit(':').next().unwrap()).collect();
    assert_eq!(tags, ["9", "9.1", "10", "edge", "latest"]);
}

#[test]
fn features_that_wait_for_each_other_are_named() {
    let features = [feature("a").needs(&["b"]), feature("b").after(&["c"]), feature("c").needs(&["b"])];
    let problem = install_order(&features, &[]).unwrap_err();
    assert_eq!(
        problem.what,
        "features wait for each other: `ghcr.io/x/b:latest` after `ghcr.io/x/c:latest` after `ghcr.io/x/b:latest`"
    );
}

#[test]
fn what_is_needed_and_not_there_is_named() {
    let features = [feature("a").needs(&["b"])];
    assert_eq!(unresolved(&features).len(), 1);
    let problem = install_order(&features, &[]).unwrap_err();
    assert_eq!(problem.what, "the feature `ghcr.io/x/b:latest` is needed, and is not there");
}

#[test]
fn a_feature_that_needs_itself_is_a_cycle() {
    assert_eq!(install_order(&[feature("a").needs(&["a"])], &[]).unwrap_err().code, "feature-cycle");
}

/// Features whose needs point only to those before them, so that there is no cycle.
fn features() -> impl Strategy<Value = Vec<ResolvedFeature>> {
    prop::collection::vec((any::<u16>(), any::<u16>()), 1..10).prop_map(|edges| {
        let name = |index: usize| format!("f{}", (index * 7) % 10);
        let chosen = |bits: u16, index: usize| -> Vec<String> {
            (0..index).filter(|other| bits & (1 << other) != 0).map(name).collect()
        };
        edges
            .iter()
            .enumerate()
            .map(|(index, (hard, soft))| {
                let (hard, soft) = (chosen(*hard, index), chosen(*soft, index));
                let refs =
                    |names: &[String]| names.iter().map(|n| format!("ghcr.io/x/{n}")).collect::<Vec<_>>();
                ResolvedFeature {
                    depends_on: refs(&hard).iter().map(|name| asked(name, &[])).collect(),
                    installs_after: refs(&soft),
                    ..feature(&name(index))
                }
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn each_comes_once_and_after_all_that_it_waits_for(features in features(), early in prop::collection::vec(0..12_usize, 0..4)) {
        let early: Vec<String> = early.iter().map(|index| format!("f{index}")).collect();
        let early: Vec<&str> = early.iter().map(String::as_str).collect();
        let names = ordered(&features, &early);
        prop_assert_eq!(names.len(), features.len());
        for (position, name) in names.iter().enumerate() {
            let feature = features.iter().find(|f| f.asked.reference.resource().ends_with(name)).unwrap();
            let hard = feature.depends_on.iter().map(|needed| needed.reference.resource());
            for needed in hard.chain(feature.installs_after.clone()) {
                let needed = needed.replace("ghcr.io/x/", "");
                prop_assert!(names[..position].contains(&needed), "{} before {}", needed, name);
            }
        }
    }

    #[test]
    fn the_order_of_the_list_makes_no_difference(features in features(), turn in 0..10_usize) {
        let mut turned = features.clone();
        turned.rotate_left(turn % features.len());
        prop_assert_eq!(ordered(&features, &[]), ordered(&turned, &[]));
    }
}
