//! Bringing a change that failed, or was cut off, to one of its two ends.

use setpoint_model::release::{Decision, MigrationId, Step, Undo, recover as decide};

use super::{Cause, Change, Patience, Place, UpgradeError, active, stays_due};
use crate::store::{EntryKind, Store, UpgradeOutcome, UpgradeRow};

/// What became of a change that was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovered {
    /// It had touched nothing.
    Dropped,
    /// The old generation is in effect, as it was.
    RolledBack,
    /// The new one is.
    Committed {
        /// Whether migrations are left that run only after the commit.
        leaves_due: bool,
    },
}

/// Brings a change to its end whose process died, or that needed a person. The caller holds the project's lock.
///
/// # Errors
/// [`UpgradeError::NeedsOperator`] if that fails, too.
pub fn recover(
    place: &Place<'_>,
    store: &mut Store,
    row: UpgradeRow,
    patience: Patience,
) -> Result<Recovered, UpgradeError> {
    let (root, txid) = (row.project_root.clone(), row.txid.clone());
    let mut change = Change::new(place, store, &root, txid, row.upgrade, patience)?;
    let steps = change.store.upgrade_steps(&change.txid)?;
    let outcome = change.go_back()?;
    let is_done = |id: &MigrationId| {
        let label = Step::Migrate(id.clone()).to_string();
        steps.iter().any(|entry| entry.kind == EntryKind::Done && entry.step == label)
    };
    let due = change.upgrade.forward_only().map(|planned| &planned.id).filter(|id| !is_done(id));
    let due = due.filter(|_| outcome == UpgradeOutcome::Committed).cloned().collect::<Vec<_>>();
    let detail = steps.last().map(|last| format!("it was cut off at {}{}", last.step, stays_due(&due)));
    change.finish(outcome, detail.as_deref())?;
    Ok(match outcome {
        UpgradeOutcome::Committed => Recovered::Committed { leaves_due: !due.is_empty() },
        UpgradeOutcome::Dropped => Recovered::Dropped,
        _ => Recovered::RolledBack,
    })
}

impl Change<'_> {
    /// Goes back to the old generation, or, where the change is committed, forward to the new one.
    pub(super) fn go_back(&mut self) -> Result<UpgradeOutcome, UpgradeError> {
        self.reserve = None;
        let entries = self.store.upgrade_steps(&self.txid)?;
        let is_begun = |step: &Step| {
            let label = step.to_string();
            entries.iter().any(|entry| entry.kind == EntryKind::Intent && entry.step == label)
        };
        let begun: Vec<Step> = self.upgrade.steps().into_iter().filter(is_begun).collect();
        let generation = active(self.place.roots, &self.root)?.generation;
        match decide(&self.upgrade, &begun, generation) {
            Decision::Forget(undos) => self.undone(&undos, UpgradeOutcome::Dropped),
            Decision::RollBack(undos) => self.undone(&undos, UpgradeOutcome::RolledBack),
            Decision::RollForward(steps) => {
                for step in steps {
                    let done = self.step(&step)?;
                    // What is watched, or cleaned up, makes no generation whole.
                    if let (Step::Publish(_), Err(why)) = (&step, done) {
                        return self.give_up(step.to_string(), why);
                    }
                }
                Ok(UpgradeOutcome::Committed)
            }
        }
    }

    fn undone(&mut self, undos: &[Undo], outcome: UpgradeOutcome) -> Result<UpgradeOutcome, UpgradeError> {
        for undo in undos {
            let label = undo.to_string();
            if let Err(why) = self.journaled(&label, false, |change| change.undo(undo))? {
                return self.give_up(label, why);
            }
        }
        Ok(outcome)
    }

    pub(super) fn give_up(&mut self, step: String, why: Cause) -> Result<UpgradeOutcome, UpgradeError> {
        self.finish(UpgradeOutcome::NeedsOperator, Some(&format!("{step}: {why}")))?;
        Err(UpgradeError::NeedsOperator { step, why })
    }
}
