//! What a unit is made of, as a tree of named leaves, and how two such trees differ.
//!
//! A leaf carries a path that a person recognises, a class that says what a change of it costs, and a digest.
//! List members are leaves by name and the order of a list is a leaf of its own, so that one insertion is one
//! difference.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Encoder};
use crate::names::{HookName, PackName};

/// The version of the encoding below. Records carry it, and are compared only with digests of the same version.
pub const FORMAT: u32 = 1;

/// What a change of a leaf costs, cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Shown to the user; never a reason to do anything.
    Report,
    /// Applied to the running unit: session environment, limits.
    Hot,
    /// Runs this hook.
    Hook(HookName),
    /// Runs packs from the first position that differs.
    Packs,
    /// Stops the unit, changes it, starts it.
    Restart,
    /// Builds the image anew; only if that gives another one, the unit is replaced.
    Rebuild,
    /// Replaces the unit by a new one.
    Recreate,
}

impl Class {
    /// The class as it is stored and shown in JSON: `hot`, `hook:post_create`.
    #[must_use]
    pub fn to_text(self) -> String {
        match self {
            Self::Report => "report".to_owned(),
            Self::Hot => "hot".to_owned(),
            Self::Hook(hook) => format!("hook:{hook}"),
            Self::Packs => "packs".to_owned(),
            Self::Restart => "restart".to_owned(),
            Self::Rebuild => "rebuild".to_owned(),
            Self::Recreate => "recreate".to_owned(),
        }
    }

    /// Reads what [`Class::to_text`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "report" => Self::Report,
            "hot" => Self::Hot,
            "packs" => Self::Packs,
            "restart" => Self::Restart,
            "rebuild" => Self::Rebuild,
            "recreate" => Self::Recreate,
            other => Self::Hook(HookName::parse(other.strip_prefix("hook:")?)?),
        })
    }
}

/// Which leaf: the same file may be an input of two hooks, so the owner is part of the key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeafKey {
    /// What a person recognises: `env.dev.packs uv`, `package-lock.json`.
    pub path: String,
    /// Whose leaf it is, where a path alone does not say: the hook or pack that reads the file.
    pub owner: Option<String>,
}

impl LeafKey {
    /// A leaf that only one thing can own.
    #[must_use]
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), owner: None }
    }

    /// A file that a hook or a pack reads.
    #[must_use]
    pub fn owned(path: impl Into<String>, owner: impl Into<String>) -> Self {
        Self { path: path.into(), owner: Some(owner.into()) }
    }
}

/// One leaf as it is declared now, or as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// What a change of it costs on the engine at hand.
    pub class: Class,
    /// The digest of its value.
    pub digest: Digest,
    /// The value as a person may see it; absent for files (their digest is shown) and never a secret.
    pub shown: Option<String>,
}

/// All leaves of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprint {
    leaves: BTreeMap<LeafKey, Leaf>,
    /// The packs in their order. In a record: those that succeeded, up to the first that did not.
    pub packs: Vec<Pack>,
}

impl Fingerprint {
    /// Adds a leaf, or replaces it.
    pub fn insert(&mut self, key: LeafKey, leaf: Leaf) {
        self.leaves.insert(key, leaf);
    }

    /// Adds a leaf whose value may be shown, digested by that value.
    pub fn insert_value(&mut self, path: impl Into<String>, class: Class, value: &str) {
        let digest = Encoder::new("setpoint.leaf", FORMAT).text(value).finish();
        self.insert(LeafKey::new(path), Leaf { class, digest, shown: Some(value.to_owned()) });
    }

    /// Takes a leaf away.
    pub fn remove(&mut self, key: &LeafKey) -> Option<Leaf> {
        self.leaves.remove(key)
    }

    /// The leaf of this key.
    #[must_use]
    pub fn get(&self, key: &LeafKey) -> Option<&Leaf> {
        self.leaves.get(key)
    }

    /// All leaves, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&LeafKey, &Leaf)> {
        self.leaves.iter()
    }

    /// The leaves of one class.
    pub fn of_class(&self, class: Class) -> impl Iterator<Item = (&LeafKey, &Leaf)> {
        self.leaves.iter().filter(move |(_, leaf)| leaf.class == class)
    }

    /// How many leaves there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leaves.len()
    }

    /// Whether there is no leaf.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// One digest over all leaves that can lead to an action. The class is left out: it belongs to the engine,
    /// not to what is declared.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut encoder = Encoder::new("setpoint.fingerprint", FORMAT);
        for (key, leaf) in self.iter().filter(|(_, leaf)| leaf.class != Class::Report) {
            encoder.text(&key.path).option(key.owner.as_deref()).digest(leaf.digest);
        }
        encoder.list(self.packs.len());
        for pack in &self.packs {
            encoder.text(pack.name.as_str());
        }
        encoder.finish()
    }
}

impl FromIterator<(LeafKey, Leaf)> for Fingerprint {
    fn from_iter<I: IntoIterator<Item = (LeafKey, Leaf)>>(leaves: I) -> Self {
        Self { leaves: leaves.into_iter().collect(), packs: Vec::new() }
    }
}

/// How a leaf differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Declared now, not recorded.
    Added,
    /// Recorded, no longer declared.
    Removed,
    /// Both, with different digests.
    Changed,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        })
    }
}

/// One leaf that differs between what is recorded and what is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which leaf.
    pub key: LeafKey,
    /// Its class: of the declared leaf, else of the recorded one.
    pub class: Class,
    /// How it differs.
    pub change: Change,
    /// The recorded value, or the first digits of its digest.
    pub old: Option<String>,
    /// The declared value, or the first digits of its digest.
    pub new: Option<String>,
}

fn shown(leaf: &Leaf) -> String {
    leaf.shown.clone().unwrap_or_else(|| leaf.digest.short())
}

/// What differs, sorted by key. Leaves in `unresolved` have a value that is not known before it is applied (the
/// digest of an image that was not pulled yet); they are left out.
#[must_use]
pub fn differences(
    recorded: &Fingerprint,
    declared: &Fingerprint,
    unresolved: &BTreeSet<LeafKey>,
) -> Vec<Difference> {
    let keys: BTreeSet<&LeafKey> = recorded.leaves.keys().chain(declared.leaves.keys()).collect();
    let mut found = Vec::new();
    for key in keys.into_iter().filter(|key| !unresolved.contains(key)) {
        let (old, new) = (recorded.get(key), declared.get(key));
        let (class, change) = match (old, new) {
            (Some(old), Some(new)) if old.digest == new.digest => continue,
            (Some(_), Some(new)) => (new.class, Change::Changed),
            (None, Some(new)) => (new.class, Change::Added),
            (Some(old), None) => (old.class, Change::Removed),
            (None, None) => continue,
        };
        found.push(Difference { key: key.clone(), class, change, old: old.map(shown), new: new.map(shown) });
    }
    leave_out_what_came_along(recorded, declared, &mut found);
    if order_changed(&recorded.packs, &declared.packs) {
        found.push(Difference {
            key: LeafKey::new("order of packs"),
            class: Class::Packs,
            change: Change::Changed,
            old: Some(in_order(&recorded.packs)),
            new: Some(in_order(&declared.packs)),
        });
    }
    found
}

/// A pack or a hook that is new, or gone, is one difference: the files that it reads come and go with it.
fn leave_out_what_came_along(recorded: &Fingerprint, declared: &Fingerprint, found: &mut Vec<Difference>) {
    let is_file = |key: &LeafKey| {
        [declared, recorded]
            .into_iter()
            .find_map(|print| print.get(key))
            .is_some_and(|leaf| leaf.shown.is_none())
    };
    let came_or_went: BTreeSet<String> = found
        .iter()
        .filter(|difference| difference.change != Change::Changed && !is_file(&difference.key))
        .filter_map(|difference| difference.key.owner.clone())
        .collect();
    found.retain(|difference| {
        !is_file(&difference.key)
            || difference.key.owner.as_ref().is_none_or(|owner| !came_or_went.contains(owner))
    });
}

fn in_order(packs: &[Pack]) -> String {
    packs.iter().map(|pack| pack.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// A pack and the digest of all that its run depends on: its script, the shared library, its declared inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// Its name.
    pub name: PackName,
    /// The digest of what it runs.
    pub digest: Digest,
}

/// The first position from which packs have to run: everything before it ran in this order, as it is now.
/// `None` if nothing has to run; a removed tail changes the record only.
#[must_use]
pub fn first_stale_pack(recorded: &[Pack], declared: &[Pack]) -> Option<usize> {
    let same = recorded.iter().zip(declared).take_while(|(old, new)| old == new).count();
    (same < declared.len()).then_some(same)
}

/// Whether the packs that both lists have stand in another order. An insertion or a removal alone is no change
/// of order.
fn order_changed(recorded: &[Pack], declared: &[Pack]) -> bool {
    let names = |of: &[Pack], also_in: &[Pack]| -> Vec<PackName> {
        of.iter()
            .map(|pack| &pack.name)
            .filter(|name| also_in.iter().any(|p| p.name == **name))
            .cloned()
            .collect()
    };
    names(recorded, declared) != names(declared, recorded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn print(leaves: &[(&str, Class, &str)]) -> Fingerprint {
        let mut print = Fingerprint::default();
        for (path, class, value) in leaves {
            print.insert_value(*path, *class, value);
        }
        print
    }

    #[test]
    fn a_class_reads_back() {
        let hooks = HookName::ALL.map(Class::Hook);
        for class in
            [Class::Report, Class::Hot, Class::Packs, Class::Restart, Class::Rebuild, Class::Recreate]
                .iter()
                .chain(&hooks)
        {
            assert_eq!(Class::parse(&class.to_text()), Some(*class));
        }
        assert_eq!(Class::parse("hook:nope"), None);
    }

    #[test]
    fn a_difference_names_the_leaf_and_both_values() {
        let old = print(&[("env.dev.user", Class::Recreate, "a"), ("env.dev.env.GONE", Class::Hot, "1")]);
        let new = print(&[("env.dev.user", Class::Recreate, "b"), ("env.dev.env.NEW", Class::Hot, "2")]);
        let found = differences(&old, &new, &BTreeSet::new());
        let told: Vec<_> = found
            .iter()
            .map(|d| (d.key.path.as_str(), d.change, d.old.as_deref(), d.new.as_deref()))
            .collect();
        assert_eq!(
            told,
            [
                ("env.dev.env.GONE", Change::Removed, Some("1"), None),
                ("env.dev.env.NEW", Change::Added, None, Some("2")),
                ("env.dev.user", Change::Changed, Some("a"), Some("b")),
            ]
        );
    }

    #[test]
    fn the_class_is_no_part_of_the_digest_but_report_leaves_are_left_out() {
        let hot = print(&[("p", Class::Hot, "1")]);
        assert_eq!(hot.digest(), print(&[("p", Class::Recreate, "1")]).digest());
        assert_eq!(hot.digest(), print(&[("p", Class::Hot, "1"), ("host", Class::Report, "x")]).digest());
    }

    fn packs(names: &str) -> Vec<Pack> {
        names
            .split_whitespace()
            .map(|word| {
                let (name, version) = word.split_once(':').unwrap_or((word, ""));
                Pack { name: PackName::new(name).unwrap(), digest: Digest::of_bytes(version.as_bytes()) }
            })
            .collect()
    }

    #[test]
    fn packs_run_from_the_first_position_that_differs() {
        let table = [
            ("", "", None),
            ("a b", "a b", None),
            ("a b", "a", None),
            ("a", "a b", Some(1)),
            ("a b", "b a", Some(0)),
            ("a b c", "a b:2 c", Some(1)),
            ("a c", "a b c", Some(1)),
            ("a b c", "a c", Some(1)),
            ("", "a", Some(0)),
        ];
        for (old, new, expected) in table {
            assert_eq!(first_stale_pack(&packs(old), &packs(new)), expected, "{old} => {new}");
        }
    }

    #[test]
    fn an_insertion_is_no_change_of_order() {
        assert!(!order_changed(&packs("a c"), &packs("a b c")));
        assert!(!order_changed(&packs("a b c"), &packs("a c")));
        assert!(order_changed(&packs("a b"), &packs("b a")));
        assert!(order_changed(&packs("a b c"), &packs("c d a")));
    }

    proptest! {
        #[test]
        fn differences_name_exactly_what_changed(
            old in proptest::collection::btree_map("[a-d]{1,2}", "[xy]", 0..8),
            new in proptest::collection::btree_map("[a-d]{1,2}", "[xy]", 0..8),
        ) {
            let build = |map: &BTreeMap<String, String>| {
                let mut print = Fingerprint::default();
                for (path, value) in map {
                    print.insert_value(path.clone(), Class::Hot, value);
                }
                print
            };
            let (a, b) = (build(&old), build(&new));
            let found: BTreeSet<String> =
                differences(&a, &b, &BTreeSet::new()).into_iter().map(|d| d.key.path).collect();
            let expected: BTreeSet<String> = old.keys().chain(new.keys())
                .filter(|key| old.get(*key) != new.get(*key)).cloned().collect();
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(a.digest() == b.digest(), found.is_empty());
        }

        #[test]
        fn the_order_of_insertion_does_not_count(mut values in proptest::collection::vec(("[a-z]{1,3}", "[a-z]{0,3}"), 0..8)) {
            values.sort();
            values.dedup_by(|a, b| a.0 == b.0);
            let build = |values: &[(String, String)]| {
                let mut print = Fingerprint::default();
                for (path, value) in values {
                    print.insert_value(path.clone(), Class::Hot, value);
                }
                print.digest()
            };
            let forward = build(&values);
            values.reverse();
            prop_assert_eq!(forward, build(&values));
        }
    }
}
