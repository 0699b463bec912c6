//! What was recorded, against what is there.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Finding;
use super::row::Row;
use crate::release::Active;

/// An upgrade that is not at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// What it leads from, and to, in words.
    pub what: String,
    /// Why it could be brought to neither end, if it could not.
    pub needs_person: Option<String>,
    /// Whether a process is at it.
    pub goes_on: bool,
}

/// An upgrade that is not at its end, if nobody is at it.
#[must_use]
pub fn cut(seen: &Cut) -> Option<Finding> {
    match &seen.needs_person {
        _ if seen.goes_on => None,
        Some(why) => {
            let what = format!("{} failed, and so did the way back: {why}\nAll data is kept.", seen.what);
            let fix = "mend what is in the way, and `setpoint recover`";
            Some(Finding::of(Row::NeedsOperator, "upgrade", what, fix))
        }
        None => {
            let what = format!("{} was cut off, and nobody is at it", seen.what);
            Some(Finding::of(Row::OpenTransaction, "upgrade", what, "`setpoint recover`"))
        }
    }
}

/// An operation on a unit whose process is gone.
#[must_use]
pub fn unfinished(unit: &str, what: &str) -> Finding {
    let found = format!("`{what}` was cut off");
    Finding::of(
        Row::UnfinishedOperation,
        unit,
        found,
        format!("`setpoint up {unit}` finishes what was begun"),
    )
}

/// A lock of a process that does not go on: `state` is the letter that the kernel has for it. Others are waited for.
#[must_use]
pub fn stuck(of: &str, holder: &str, pid: u32, state: char) -> Option<Finding> {
    let (why, fix) = match state {
        'T' | 't' => {
            ("has been stopped", format!("`kill -CONT {pid}` lets it go on, `kill -9 {pid}` ends it"))
        }
        'D' => (
            "hangs in the kernel",
            "look for a dead disk or network mount: it goes on, or ends, with that".to_owned(),
        ),
        _ => return None,
    };
    Some(Finding::of(Row::StuckLock, of, format!("{of} is locked by {holder}, which {why}"), fix))
}

/// A unit on the engine that nothing declares: of another folder, or of the one that is looked at.
#[must_use]
pub fn orphan(unit: &str, root: &str, is_here: bool) -> Finding {
    if is_here {
        let what = format!("`{unit}` is on the engine as one of {root}, and nothing declares it there");
        let fix = format!(
            "declare it again, and `setpoint down {unit}` removes it with its own files; its volumes stay"
        );
        return Finding::of(Row::UndeclaredUnit, "units", what, fix);
    }
    let what = format!("`{unit}` belongs to {root}, where no project is");
    let fix = format!(
        "bring the project back, and `setpoint -C {root} down {unit}` removes it; `setpoint uninstall` removes all that \
         there are"
    );
    Finding::of(Row::OrphanUnit, "units", what, fix)
}

/// What is in effect, and what speaks for or against that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenActive {
    /// What the file says.
    pub active: Active,
    /// What the journal says was committed last.
    pub committed: Option<Active>,
    /// The volumes of the data set that are on the engine.
    pub there: BTreeSet<String>,
    /// What units have, by unit: the volume as it is declared, and the one that the unit has in its place.
    pub held: BTreeMap<String, Vec<(String, String)>>,
}

/// Whether what is in effect is what was committed, and what runs.
#[must_use]
pub fn active(seen: &SeenActive) -> Vec<Finding> {
    let (active, subject) = (&seen.active, "in effect");
    let ahead = seen.committed.as_ref().filter(|committed| committed.generation > active.generation);
    if let Some(committed) = ahead {
        let what = format!(
            "the journal says that generation {} was committed, and the file of what is in effect says {}",
            committed.generation, active.generation
        );
        let fix = "put the file back from a backup, or `setpoint doctor --fix active-missing`";
        // What runs has the volumes of that one; there is nothing to compare it with until then.
        return vec![Finding::of(Row::ActiveMissing, subject, what, fix)];
    }
    let lost =
        active.volumes.iter().filter(|(_, held)| !seen.there.contains(*held)).map(|(declared, held)| {
            let what =
                format!("the data of {declared} is in the volume {held}, and there is none of that name");
            Finding::of(Row::ActiveContradicts, subject, what, "put that volume back from a backup")
        });
    let others = seen.held.iter().flat_map(|(unit, held)| held.iter().map(move |of| (unit, of)));
    let others = others.filter(|(_, (declared, has))| active.volume(declared) != has).map(
        |(unit, (declared, has))| {
            let what = format!(
                "`{unit}` has the volume {has}, and the data of {declared} is in {}",
                active.volume(declared)
            );
            let fix = "look at both before anything else is done: which of them has the data that counts?";
            Finding::of(Row::ActiveContradicts, unit, what, fix)
        },
    );
    lost.chain(others).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_that_nobody_is_at_is_told() {
        let row = |needs_person: Option<&str>, goes_on| {
            let needs_person = needs_person.map(str::to_owned);
            cut(&Cut { what: "1.0 -> 2.0".to_owned(), needs_person, goes_on })
                .map(|found| found.row.unwrap().id())
        };
        assert_eq!(row(None, true), None);
        assert_eq!(row(None, false), Some("open-transaction"));
        assert_eq!(row(Some("put-back web: no"), false), Some("needs-operator"));
        assert_eq!(row(Some("put-back web: no"), true), None);
    }

    #[test]
    fn a_lock_is_stuck_whose_process_does_not_go_on() {
        for (state, is_stuck) in
            [('R', false), ('S', false), ('T', true), ('t', true), ('D', true), ('Z', false)]
        {
            assert_eq!(
                stuck("web", "`setpoint up web` (process 7)", 7, state).is_some(),
                is_stuck,
                "{state}"
            );
        }
    }

    fn generation(generation: u64, volumes: &[(&str, &str)]) -> Active {
        let volumes = volumes.iter().map(|(name, held)| ((*name).to_owned(), (*held).to_owned())).collect();
        Active { generation, volumes, ..Active::default() }
    }

    #[test]
    fn what_is_in_effect_is_what_was_committed_and_what_runs() {
        let rows =
            |seen: &SeenActive| active(seen).iter().map(|found| found.row.unwrap().id()).collect::<Vec<_>>();
        let held = |has: &str| BTreeMap::from([("db".to_owned(), vec![("data".to_owned(), has.to_owned())])]);
        let two = generation(2, &[("data", "data.2")]);
        let good = SeenActive {
            active: two.clone(),
            committed: Some(two.clone()),
            there: BTreeSet::from(["data.2".to_owned()]),
            held: held("data.2"),
        };
        assert_eq!(rows(&SeenActive::default()), [""; 0]);
        assert_eq!(rows(&good), [""; 0]);
        // A generation after the last that was committed: the journal was lost, and the file counts.
        assert_eq!(rows(&SeenActive { committed: Some(generation(1, &[])), ..good.clone() }), [""; 0]);
        assert_eq!(rows(&SeenActive { active: generation(0, &[]), ..good.clone() }), ["active-missing"]);
        assert_eq!(rows(&SeenActive { active: generation(1, &[]), ..good.clone() }), ["active-missing"]);
        assert_eq!(rows(&SeenActive { there: BTreeSet::new(), ..good.clone() }), ["active-contradicts"]);
        assert_eq!(rows(&SeenActive { held: held("data"), ..good }), ["active-contradicts"]);
    }
}
