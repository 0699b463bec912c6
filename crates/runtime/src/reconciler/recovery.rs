//! Upgrades that were cut off: a daemon brings them to their ends, as the next command would.

use std::ops::ControlFlow;
use std::thread::Scope;

use setpoint_model::manifest::Release;

use super::{Deed, Shared, lock};
use crate::cancel::Cancel;
use crate::events::{Event, Watcher};
use crate::lock::ProjectLock;
use crate::store::{Store, UpgradeRow};
use crate::upgrade::{Patience, Place, Recovered, UpgradeError, recover};

/// Hears nothing of the single steps.
struct Deaf;

impl Watcher for Deaf {
    fn event(&self, _: &Event) {}
}

/// Begins with those that nobody works on. One that failed waits for a person.
pub(super) fn begin<'scope>(scope: &'scope Scope<'scope, '_>, shared: &'scope Shared<'_>) {
    let Ok(open) = lock(&shared.store).open_upgrades() else { return };
    for row in open.into_iter().filter(|row| row.ended.is_none()) {
        let what = "setpoint daemon";
        let taken = ProjectLock::acquire(shared.roots, &row.project_root, what, |_| ControlFlow::Break(()));
        let Ok(taken) = taken else { continue };
        scope.spawn(move || {
            let (unit, project_root) =
                (row.upgrade.parts.first().map(|part| part.unit.clone()), row.project_root.clone());
            let came_of_it = bring_to_end(shared, row);
            drop(taken);
            if let Some(unit) = unit {
                shared.watcher.deed(&Deed { unit, project_root, what: came_of_it });
            }
        });
    }
}

/// What came of it, in words.
fn bring_to_end(shared: &Shared<'_>, row: UpgradeRow) -> String {
    let recovered = || {
        let engine = shared.engine(&row.upgrade.engine)?;
        let mut store = Store::open(shared.roots).map_err(|error| error.to_string())?;
        // It may have come to its end since it was looked for.
        let still = store.open_upgrade(&row.project_root).map_err(|error| error.to_string())?;
        let Some(row) = still.filter(|still| still.txid == row.txid && still.ended.is_none()) else {
            return Ok(None);
        };
        let place = Place { roots: shared.roots, engine, watcher: &Deaf, cancel: &Cancel::default() };
        let patience = Patience::of(&Release::default());
        recover(&place, &mut store, row, patience).map(Some).map_err(|error: UpgradeError| error.to_string())
    };
    match recovered() {
        Ok(None) => "an upgrade has ended".to_owned(),
        Ok(Some(Recovered::Dropped)) => "an upgrade that was cut off had touched nothing".to_owned(),
        Ok(Some(Recovered::RolledBack)) => {
            "an upgrade that was cut off was rolled back: what ran before runs again".to_owned()
        }
        Ok(Some(Recovered::Committed)) => "an upgrade that was cut off was brought to its end".to_owned(),
        Err(why) => format!("an upgrade that was cut off needs a person: {why}"),
    }
}
