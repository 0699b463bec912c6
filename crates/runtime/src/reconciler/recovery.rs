//! Upgrades that were cut off: a daemon brings them to their ends, as the next command would.

use std::ops::ControlFlow;
use std::thread::Scope;

use setpoint_model::manifest::Release;
use setpoint_model::reconcile::Alarm;

use super::{Deed, Shared, alert, lock};
use crate::cancel::Cancel;
use crate::events::Deaf;
use crate::lock::ProjectLock;
use crate::store::{Store, UpgradeRow};
use crate::upgrade::{Patience, Place, Recovered, UpgradeError, recover};

/// Begins with those that nobody works on. One that failed waits for a person.
pub(super) fn begin<'scope>(scope: &'scope Scope<'scope, '_>, shared: &'scope Shared<'_>) {
    let Ok(open) = lock(&shared.store).open_upgrades() else { return };
    for row in open.into_iter().filter(|row| row.ended.is_none()) {
        let what = "setpoint daemon";
        let taken = ProjectLock::acquire(shared.roots, &row.project_root, what, |_| ControlFlow::Break(()));
        let Ok(taken) = taken else { continue };
        scope.spawn(move || {
            let (upgrade, root) = (row.upgrade.clone(), row.project_root.clone());
            let unit = upgrade.parts.first().map(|part| part.unit.clone());
            let tell = |what| {
                let Some(unit) = unit.clone() else { return };
                shared.watcher.deed(&Deed { unit, project_root: root.clone(), what });
            };
            // Of what is being changed nobody may know afterwards who is told.
            let before = alert::whom(&lock(&shared.store), &root).unwrap_or_default();
            let (came_of_it, alarm) = bring_to_end(shared, row);
            drop(taken);
            tell(came_of_it);
            let Some(alarm) = alarm else { return };
            let after = alert::whom(&lock(&shared.store), &root).unwrap_or_default();
            let to = if after.is_empty() { before } else { after };
            let units = lock(&shared.store).units(&root).unwrap_or_default();
            let name = units.first().map(|unit| unit.unit.project_name.clone()).unwrap_or_default();
            let sent =
                alert::tell_of_upgrade(shared.roots, (&name, &root), &upgrade, &alarm, &to, alert::TRIES);
            sent.into_iter().for_each(tell);
        });
    }
}

/// What came of it, in words, and what somebody has to be told of it.
fn bring_to_end(shared: &Shared<'_>, row: UpgradeRow) -> (String, Option<Alarm>) {
    let recovered = || -> Result<Option<Result<Recovered, UpgradeError>>, String> {
        let engine = shared.engine(&row.upgrade.engine)?;
        let mut store = Store::open(shared.roots).map_err(|error| error.to_string())?;
        // It may have come to its end since it was looked for.
        let still = store.open_upgrade(&row.project_root).map_err(|error| error.to_string())?;
        let Some(row) = still.filter(|still| still.txid == row.txid && still.ended.is_none()) else {
            return Ok(None);
        };
        let place = Place { roots: shared.roots, engine, watcher: &Deaf, cancel: &Cancel::default() };
        let patience = Patience::of(&Release::default());
        Ok(Some(recover(&place, &mut store, row, patience)))
    };
    match recovered() {
        Ok(None) => ("an upgrade has ended".to_owned(), None),
        Ok(Some(Ok(recovered))) => {
            let text = match recovered {
                Recovered::Dropped => "an upgrade that was cut off had touched nothing",
                Recovered::RolledBack => {
                    "an upgrade that was cut off was rolled back: what ran before runs again"
                }
                Recovered::Committed { leaves_due: false } => {
                    "an upgrade that was cut off was brought to its end"
                }
                Recovered::Committed { leaves_due: true } => {
                    "an upgrade that was cut off was committed; the next one runs what is due (`setpoint migrate status`)"
                }
            };
            (text.to_owned(), alert::alarm_of(recovered))
        }
        Ok(Some(Err(error))) => {
            (format!("an upgrade that was cut off needs a person: {error}"), alert::alarm(&error))
        }
        Err(why) => (format!("an upgrade that was cut off needs a person: {why}"), None),
    }
}
