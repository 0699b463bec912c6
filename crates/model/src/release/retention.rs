//! Which releases are still needed.

use std::collections::BTreeSet;

use super::active::Active;
use super::upgrade::Upgrade;

/// The releases that a project may still come to: that of the generation in effect, those of the generations that are
/// kept, and those of changes to one of these that did not come about. `changes` are all of the project's, the newest first.
#[must_use]
pub fn needed<'a>(in_effect: &'a Active, changes: &'a [Upgrade]) -> BTreeSet<&'a str> {
    // One that did not come about has not said how much is kept, and may not take anything away.
    let since = changes.iter().filter(|change| change.to.generation >= in_effect.generation);
    let keep = since.map(|change| change.keep).max().unwrap_or(u64::MAX);
    let kept_from = in_effect.generation.saturating_sub(keep);
    let of_changes = changes.iter().flat_map(|change| [&change.from, &change.to]);
    let kept = of_changes.filter(|generation| generation.generation >= kept_from);
    kept.chain([in_effect]).filter_map(|generation| generation.release.as_deref()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Lane};
    use super::*;

    fn at(generation: u64, release: &str) -> Active {
        Active { generation, release: Some(release.to_owned()), ..Active::default() }
    }

    fn change(from: &Active, to: &Active, keep: u64) -> Upgrade {
        Upgrade {
            kind: Kind::Upgrade,
            lane: Lane::Compatible,
            engine: "embedded".to_owned(),
            from: from.clone(),
            to: to.clone(),
            parts: Vec::new(),
            copies: Vec::new(),
            makes: Vec::new(),
            saves: Vec::new(),
            puts: Vec::new(),
            downs: Vec::new(),
            migrations: Vec::new(),
            loads: Vec::new(),
            keep,
        }
    }

    #[test]
    fn as_many_earlier_generations_are_needed_as_are_kept() {
        let [one, two, three, four] = [(0, "1"), (1, "2"), (2, "3"), (3, "4")].map(|(n, name)| at(n, name));
        for (keep, expected) in
            [(0, &["4"][..]), (1, &["3", "4"]), (2, &["2", "3", "4"]), (9, &["1", "2", "3", "4"])]
        {
            let steps = [(&three, &four), (&two, &three), (&one, &two)];
            let changes = steps.map(|(from, to)| change(from, to, keep));
            assert_eq!(needed(&four, &changes), expected.iter().copied().collect(), "{keep}");
        }
        assert_eq!(needed(&one, &[]), BTreeSet::from(["1"]));
        assert_eq!(needed(&Active::default(), &[]), BTreeSet::new());
    }

    #[test]
    fn what_was_gone_back_from_and_what_did_not_come_about_is_needed_as_long_as_what_was_before_it() {
        let [one, two, back] = [(0, "1"), (1, "2"), (2, "1")].map(|(n, name)| at(n, name));
        let changes = [change(&two, &back, 1), change(&one, &two, 1)];
        assert_eq!(needed(&back, &changes), BTreeSet::from(["1", "2"]));
        // It was rolled back, and tried as the next generation.
        let bad = at(3, "bad");
        let tried = [&[change(&back, &bad, 1)][..], &changes].concat();
        assert_eq!(needed(&back, &tried), BTreeSet::from(["1", "2", "bad"]));
        let [good, next] = [(3, "3"), (4, "4")].map(|(n, name)| at(n, name));
        let on = [&[change(&good, &next, 1), change(&back, &good, 1)][..], &tried].concat();
        assert_eq!(needed(&next, &on), BTreeSet::from(["3", "4", "bad"]));
        let last = at(5, "5");
        let on = [&[change(&next, &last, 1)][..], &on].concat();
        assert_eq!(needed(&last, &on), BTreeSet::from(["4", "5"]));
    }
}
