//! Between the rows of the store and the values that a plan is made of.

use std::collections::BTreeMap;

use setpoint_model::fingerprint::{Class, FORMAT, Fingerprint, Leaf, LeafKey, Pack};
use setpoint_model::names::PackName;
use setpoint_model::plan::{PhaseOutcome, Recorded, RecordedPhase};

use crate::store::{self, RecordedLeaf, RecordedRows};

/// What was recorded, as the plan takes it. Leaves of a class that this version does not know are left out: they
/// then differ, and are told.
#[must_use]
pub fn recorded(rows: &RecordedRows) -> Recorded {
    let mut fingerprint: Fingerprint = rows
        .leaves
        .iter()
        .filter_map(|row| {
            let leaf = &row.leaf;
            let class = Class::parse(&leaf.class)?;
            Some((key(&leaf.path), Leaf { class, digest: leaf.digest, shown: leaf.shown.clone() }))
        })
        .collect();
    fingerprint.packs = rows
        .packs
        .iter()
        .filter_map(|row| Some(Pack { name: PackName::new(row.name.clone()).ok()?, digest: row.digest }))
        .collect();
    let phases = rows
        .phases
        .iter()
        .map(|row| {
            let outcome = match row.outcome {
                store::PhaseOutcome::Succeeded => PhaseOutcome::Succeeded,
                store::PhaseOutcome::Unknown => PhaseOutcome::Unknown,
            };
            (row.hook, RecordedPhase { instance: row.instance.clone(), outcome })
        })
        .collect();
    // What was done for the data of a unit outlives its record.
    Recorded { fingerprint, phases, first_boot: BTreeMap::new() }
}

/// A leaf as the store keeps it.
#[must_use]
pub fn leaf(key: &LeafKey, leaf: &Leaf) -> RecordedLeaf {
    RecordedLeaf {
        path: text(key),
        class: leaf.class.to_text(),
        digest: leaf.digest,
        shown: leaf.shown.clone(),
        version: FORMAT,
    }
}

/// A key as one text: the owner, a tab, the path. No owner holds a tab.
#[must_use]
pub fn text(key: &LeafKey) -> String {
    format!("{}\t{}", key.owner.as_deref().unwrap_or_default(), key.path)
}

fn key(text: &str) -> LeafKey {
    match text.split_once('\t') {
        None => LeafKey::new(text),
        Some(("", path)) => LeafKey::new(path),
        Some((owner, path)) => LeafKey::owned(path, owner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back() {
        for of in [LeafKey::new("a b"), LeafKey::owned("x\ty", "pack uv"), LeafKey::owned("f", "post_create")]
        {
            assert_eq!(key(&text(&of)), of);
        }
    }
}
