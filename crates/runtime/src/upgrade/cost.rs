//! What a change is expected to cost, by what its data takes and by what the last one took.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use setpoint_model::release::{Cost, Holds, Step, Timed, Upgrade};

use super::{Patience, UpgradeError};
use crate::engine::Engine;
use crate::room::Room;
use crate::store::{EntryKind, Store, UpgradeOutcome, UpgradeRow};
use crate::tree_copy;

/// Looks at the data that a change copies: how much there is of it, which is noted in the change, and how much room.
///
/// # Errors
/// If the engine cannot be asked.
pub fn measure(engine: &dyn Engine, planned: &mut Upgrade) -> Result<Cost, UpgradeError> {
    let is_copied = |holds: &Holds| *holds == Holds::Copied;
    let copied = planned.copies.iter_mut().filter(|copy| is_copied(&copy.holds));
    let mut copied: Vec<_> = copied.collect();
    let names: Vec<String> = copied.iter().map(|copy| copy.from.clone()).collect();
    let folders = engine.volume_folders(&names)?;
    for copy in &mut copied {
        copy.bytes = folders.get(&copy.from).map_or(0, |folder| tree_copy::size(folder));
    }
    let copied_bytes = copied.iter().map(|copy| copy.bytes).sum();
    let Some(folder) = folders.values().next() else { return Ok(Cost { copied_bytes, ..Cost::default() }) };
    // Copies come to lie beside the volume, where nobody else looks.
    let beside = folder.parent().unwrap_or(folder);
    let shares = engine.capabilities().copies_share_blocks && shares_blocks(beside);
    let free = Room::of(folder).ok().map(|room| room.free);
    Ok(Cost { copied_bytes, needed_bytes: if shares { 0 } else { copied_bytes }, free_bytes: free })
}

/// How long whoever comes from outside is expected to wait; nothing where nobody is reached now.
///
/// # Errors
/// If the history cannot be read.
pub fn outage(
    store: &Store,
    root: &Path,
    planned: &Upgrade,
    cost: &Cost,
    patience: Patience,
) -> Result<Option<Duration>, UpgradeError> {
    let is_committed = |row: &&UpgradeRow| matches!(row.ended, Some((UpgradeOutcome::Committed, _)));
    let rows = store.upgrades(root)?;
    let last = rows.iter().filter(is_committed).find(|row| row.upgrade.kind == planned.kind);
    let steps = last.map(|row| timed(store, row)).transpose()?;
    let earlier = last.zip(steps.as_deref()).map(|(row, steps)| (&row.upgrade, steps));
    Ok(cost.outage(planned, patience.steady, earlier))
}

/// The steps of a change that were done, by the journal.
fn timed(store: &Store, row: &UpgradeRow) -> Result<Vec<Timed>, UpgradeError> {
    let entries = store.upgrade_steps(&row.txid)?;
    let since = |at: Timestamp| Duration::try_from(at.duration_since(row.began_at)).unwrap_or_default();
    let at = |step: &Step, kind: EntryKind| {
        let label = step.to_string();
        entries
            .iter()
            .rev()
            .find(|entry| entry.kind == kind && entry.step == label)
            .map(|entry| since(entry.at))
    };
    let timed = |step: Step| {
        let (began, ended) = (at(&step, EntryKind::Intent)?, at(&step, EntryKind::Done)?);
        Some(Timed { step, began, ended })
    };
    Ok(row.upgrade.steps().into_iter().filter_map(timed).collect())
}

/// Whether a copy of a file in a folder takes no room of its own.
fn shares_blocks(folder: &Path) -> bool {
    let tried = || {
        let mut from = tempfile::tempfile_in(folder)?;
        from.write_all(&[1; 4096])?;
        from.sync_all()?;
        rustix::fs::ioctl_ficlone(tempfile::tempfile_in(folder)?, &from)?;
        std::io::Result::Ok(())
    };
    tried().is_ok()
}
