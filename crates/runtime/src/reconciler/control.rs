//! What a user asks of a unit while a daemon keeps it: the wish is written down and answered at once, and the unit's
//! actor brings it about. What is under way is read from the journal, whoever does it.
//!
//! Each request is an operation whose first entry, [`ASKED`], says what was asked and the generation of the wish. It
//! outlives the daemon: the next one's actor brings it about, or says why not.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use setpoint_model::reconcile::{self, Action, Cause, Decision, Phase, Time};

use super::look::millis;
use super::{history, put_applied, put_history};
use crate::cancel::Cancel;
use crate::engine::{self, EngineError, UnitId};
use crate::lock;
use crate::paths::Roots;
use crate::store::{
    self, JournalEntry, Kept, OpenOperation, Operation, OperationOutcome, Store, StoreError, TxId, Unit,
    Wanted, Writer,
};

/// The first entry of an operation that somebody asked for.
pub const ASKED: &str = "asked";
/// The entry of an operation that waits for a unit's end.
const STOP: &str = "stop";
/// The entry of an operation that was asked to end before its end.
const CANCEL: &str = "cancel";
/// What is said of it.
pub(super) const CANCELLED: &str = "it was cancelled";
/// What is said of what was asked for earlier.
pub(super) const REPLACED: &str = "something else was asked for since";
/// How often is looked whether a stop that has to be hurried is under way.
const LOOK: Duration = Duration::from_millis(50);

/// What can be asked of a unit that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// That it runs.
    Start,
    /// That it does not, until somebody starts it.
    Stop,
    /// That it ends and runs again.
    Restart,
    /// That what it failed at is forgiven, and tried again without waiting any longer.
    Retry,
    /// That it does not run, at once.
    Kill,
}

impl Asked {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Start, Self::Stop, Self::Restart, Self::Retry, Self::Kill];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Retry => "retry",
            Self::Kill => "kill",
        }
    }
}

/// What was asked, and by which word of the user's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) asked: Asked,
    generation: u64,
    /// What was wanted before; earlier versions did not write that down.
    #[serde(default)]
    before: Option<Wanted>,
}

/// What came of asking an operation to end before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelling {
    /// It had ended.
    Over,
    /// What it was to bring about is not wanted any more. What is being stopped comes to its end first.
    Withdrawn,
    /// This process leads it, and is to be asked: it has this number.
    Led(u32),
    /// Nobody can: nobody asked for it, or whoever led it is gone.
    Cannot,
}

/// Writes down what a user wants of a unit that is kept, and gives the operation that brings it about. `by` is who
/// asks. Nothing is done yet: [`tell`](super::tell) wakes who does it.
///
/// # Errors
/// [`StoreError`] if the state cannot be read or written.
pub fn ask(store: &mut Store, kept: &Kept, asked: Asked, by: &str) -> Result<TxId, StoreError> {
    let operation = TxId::new(crate::random::hex());
    let (unit, name) = (kept.unit.id, &kept.unit.unit.name);
    let wanted = match asked {
        Asked::Start | Asked::Restart | Asked::Retry => Wanted::Up,
        Asked::Stop | Asked::Kill => Wanted::Stopped,
    };
    store.write(|writer| {
        // A stop that is wanted already is the same wish; whatever starts something is a new one.
        let is_new = wanted == Wanted::Up || kept.intent.wanted != wanted;
        let now = Timestamp::now();
        let generation = if is_new { writer.set_wanted(unit, wanted, now)? } else { kept.intent.generation };
        if asked == Asked::Retry {
            let mut history = history(kept);
            history.needs_operator = None;
            put_history(writer, unit, generation, &history)?;
        }
        writer.begin(&operation, unit, &format!("{} {name} (asked by {by})", asked.as_str()), now)?;
        let request = Request { asked, generation, before: Some(kept.intent.wanted) };
        writer.intent(&operation, ASKED, &serde_json::to_value(&request).unwrap_or_default(), now)
    })?;
    Ok(operation)
}

/// Asks an operation on a unit to end before its end. What a unit that is kept was asked to do is withdrawn here; a process
/// that leads another one is asked by whoever calls this, once: asked again, it is [`Cancelling::Withdrawn`].
///
/// # Errors
/// [`StoreError`] if the state cannot be read or written.
pub fn cancel(
    store: &mut Store,
    roots: &Roots,
    unit: &Unit,
    operation: &TxId,
) -> Result<Cancelling, StoreError> {
    let Some(found) = store.operation(operation)? else { return Ok(Cancelling::Over) };
    if found.ended.is_some() {
        return Ok(Cancelling::Over);
    }
    let entries = store.journal(operation)?;
    if is_cancelled(&entries) {
        return Ok(Cancelling::Withdrawn);
    }
    let note = |writer: &Writer<'_>| writer.intent(operation, CANCEL, &json!({}), Timestamp::now());
    if let Some(Request { generation, before, .. }) = request(&entries) {
        let Some(before) = before else { return Ok(Cancelling::Cannot) };
        let is_begun = entries.iter().any(|entry| entry.step != ASKED);
        let is_current = store.kept(unit.id)?.is_some_and(|kept| kept.intent.generation == generation);
        store.write(|writer| {
            note(writer)?;
            if is_current {
                writer.set_wanted(unit.id, before, Timestamp::now())?;
            }
            match is_begun {
                true => Ok(()),
                false => {
                    let now = Timestamp::now();
                    writer.finish(operation, OperationOutcome::Cancelled, Some(CANCELLED), now)
                }
            }
        })?;
        return Ok(Cancelling::Withdrawn);
    }
    let holder = lock::holder(roots, &unit.unit.project_root, &unit.unit.name);
    let mine = std::process::id();
    // What an actor does by itself is this process's too, and nobody asked for it.
    let is_led = match found.pid == mine {
        true => entries.first().is_some_and(|entry| entry.step == ASKED),
        false => holder.is_some_and(|holder| holder.pid == found.pid),
    };
    if !is_led {
        return Ok(Cancelling::Cannot);
    }
    store.write(note)?;
    Ok(Cancelling::Led(found.pid))
}

/// Whether an operation was asked to end before its end.
pub(super) fn is_cancelled(entries: &[JournalEntry]) -> bool {
    entries.iter().any(|entry| entry.step == CANCEL)
}

/// Writes down an operation that this process leads to its end by itself: one that needs what is declared.
///
/// # Errors
/// [`StoreError`] if it cannot be written.
pub fn begin_asked(store: &mut Store, unit: store::UnitId, what: &str) -> Result<TxId, StoreError> {
    let operation = TxId::new(crate::random::hex());
    let now = Timestamp::now();
    store.write(|writer| {
        writer.begin(&operation, unit, what, now)?;
        writer.intent(&operation, ASKED, &json!({}), now)
    })?;
    Ok(operation)
}

/// Whether an operation is one that somebody asked for: it may be open without anybody working on it.
#[must_use]
pub fn is_asked(open: &OpenOperation) -> bool {
    open.entries.first().is_some_and(|entry| entry.step == ASKED)
}

/// Whether what an operation wrote down is a wish, which the actor of its unit brings about.
#[must_use]
pub fn is_wish(entries: &[JournalEntry]) -> bool {
    request(entries).is_some()
}

/// The requests of a unit that are still to be brought about, for an actor that has its lock. What is out of date, or
/// was left by a process that died, is put in order.
pub(super) fn requests(store: &mut Store, kept: &Kept) -> Result<Vec<(TxId, Request)>, StoreError> {
    let open = store.open_operations(kept.unit.id)?;
    let mut current = Vec::new();
    let mut over = Vec::new();
    for left in open {
        let txid = left.operation.txid.clone();
        match (request(&left.entries), is_asked(&left)) {
            (Some(request), _) if request.generation == kept.intent.generation => {
                current.push((txid, request));
            }
            // Asked for since this was read.
            (Some(request), _) if request.generation > kept.intent.generation => {}
            (Some(_), _) => {
                over.push((txid, OperationOutcome::Cancelled, REPLACED));
            }
            // A child of this process works for it.
            (None, true) if left.operation.pid == std::process::id() => {}
            // Nobody else works on a unit whose lock is held.
            (None, _) => over.push((txid, OperationOutcome::Recovered, "who led it died")),
        }
    }
    if !over.is_empty() {
        store.write(|writer| {
            over.iter().try_for_each(|(txid, outcome, why)| {
                writer.finish(txid, *outcome, Some(why), Timestamp::now())
            })
        })?;
    }
    Ok(current)
}

fn request(entries: &[JournalEntry]) -> Option<Request> {
    let first = entries.first().filter(|entry| entry.step == ASKED)?;
    serde_json::from_value(first.payload.clone()).ok()
}

/// How requests end for which there is nothing to do; nothing while they are waited for.
pub(super) fn ending(decision: &Decision) -> Option<OperationOutcome> {
    match &decision.cause {
        Cause::Held { .. } | Cause::NeedsOperator { .. } | Cause::BackOff { .. } => {
            Some(OperationOutcome::Failed)
        }
        Cause::NoAnswer | Cause::Stale | Cause::Dependency | Cause::Operation => None,
        _ => Some(OperationOutcome::Succeeded),
    }
}

/// Writes down that a unit has been asked to end, and how long it may take, so that whoever looks knows.
///
/// # Errors
/// [`StoreError`] if it cannot be written.
pub fn note_stop(writer: &Writer<'_>, operation: &TxId, grace: Duration) -> Result<(), StoreError> {
    let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
    writer.intent(operation, STOP, &json!({ "grace": grace }), Timestamp::now())
}

/// Stops a unit under an operation of its own, so that whoever looks meanwhile knows what is going on. The caller has
/// the unit's lock.
///
/// # Errors
/// [`StoreError`] if it cannot be written down; within, what `stop` gives.
pub fn stop_journaled(
    store: &mut Store,
    unit: store::UnitId,
    what: &str,
    grace: Duration,
    stop: impl FnOnce() -> Result<(), EngineError>,
) -> Result<Result<(), EngineError>, StoreError> {
    let operation = TxId::new(crate::random::hex());
    store.write(|writer| {
        writer.begin(&operation, unit, what, Timestamp::now())?;
        note_stop(writer, &operation, grace)
    })?;
    let stopped = stop();
    let (outcome, why) = match &stopped {
        Ok(()) => (OperationOutcome::Succeeded, None),
        Err(error) => (OperationOutcome::Failed, Some(error.to_string())),
    };
    store.write(|writer| writer.finish(&operation, outcome, why.as_deref(), Timestamp::now()))?;
    Ok(stopped)
}

/// Records that a unit that is kept is wanted to run, and does, as it was last brought up. Gives whether it is kept.
///
/// # Errors
/// [`StoreError`] if the state cannot be read or written.
pub fn want_running(store: &mut Store, unit: store::UnitId) -> Result<bool, StoreError> {
    if store.kept(unit)?.is_none() {
        return Ok(false);
    }
    store.write(|writer| {
        let generation = writer.set_wanted(unit, Wanted::Up, Timestamp::now())?;
        put_applied(writer, unit, generation)
    })?;
    Ok(true)
}

/// What is being done to a unit by whoever has its lock, as the journal says. `grace` is how long it may take to stop.
///
/// # Errors
/// [`StoreError`] if the journal cannot be read.
pub fn under_way(
    store: &Store,
    roots: &Roots,
    unit: &Unit,
    grace: reconcile::Millis,
) -> Result<Option<reconcile::Operation>, StoreError> {
    let Some(holder) = lock::holder(roots, &unit.unit.project_root, &unit.unit.name) else {
        return Ok(None);
    };
    let open = store.open_operations(unit.id)?;
    let phase = open.iter().rev().find_map(|open| doing(&open.entries, holder.pid, grace));
    Ok(phase.map(|phase| operation(phase, 0)))
}

/// The phase that the last entry of a process in an operation tells of.
fn doing(entries: &[JournalEntry], pid: u32, usual: reconcile::Millis) -> Option<Phase> {
    let is_work = |entry: &&JournalEntry| entry.step != ASKED && entry.step != CANCEL && entry.pid == pid;
    let last = entries.iter().rev().find(is_work)?;
    Some(match last.step.as_str() {
        "image" => Phase::Pulling { percent: None },
        "create" => Phase::Creating,
        "start" => Phase::Starting { until: millis(last.at) },
        STOP | "remove" => {
            let grace = last.payload["grace"].as_u64().unwrap_or(usual);
            Phase::Stopping { since: millis(last.at), grace }
        }
        _ => return None,
    })
}

/// An operation in this phase, by whoever has the unit's lock: that holds it, and no lease.
pub(super) fn operation(phase: Phase, generation: u64) -> reconcile::Operation {
    let since = super::look::now();
    let by = reconcile::Actor::Reconciler;
    reconcile::Operation { by, generation, since, phase, lease_until: Time::MAX, cancelled: false }
}

/// The phase that an action begins with.
pub(super) fn phase(action: &Action, now: Time) -> Option<Phase> {
    match action {
        Action::Start | Action::Converge => Some(Phase::Starting { until: now }),
        Action::Stop { grace } | Action::Restart { grace } | Action::Remove { grace } => {
            Some(Phase::Stopping { since: now, grace: *grace })
        }
        Action::Cancel => None,
    }
}

/// Ends the grace of a stop that is under way, whoever leads it, until the operation that asks for that has ended or
/// `cancel` is asked.
///
/// # Errors
/// In words, if the unit survives or the state cannot be read.
pub fn hasten(
    roots: &Roots,
    variables: &BTreeMap<String, String>,
    store: &mut Store,
    unit: &Unit,
    asked: &TxId,
    cancel: &Cancel,
) -> Result<(), String> {
    let id = UnitId::new(&unit.unit.project_root, &unit.unit.name);
    let engine = engine::by_name(&unit.unit.engine, roots, variables)?;
    let words = |error: StoreError| error.to_string();
    while !cancel.asked() {
        let open = store.open_operations(unit.id).map_err(words)?;
        if !open.iter().any(|open| open.operation.txid == *asked) {
            return Ok(());
        }
        // What is being started or made is let be until its end: killing it is the actor's then.
        let doing = under_way(store, roots, unit, 0).map_err(words)?;
        if matches!(doing.map(|operation| operation.phase), Some(Phase::Stopping { .. })) {
            engine.stop(&id, Duration::ZERO, &Cancel::default()).map_err(|error| error.to_string())?;
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Puts in order what requests were left open by processes that died, of which nobody takes care: those on units that
/// are not kept, and those that a process led to their end by itself. For a daemon that begins.
///
/// # Errors
/// [`StoreError`] if the state cannot be read or written.
pub fn close_abandoned(store: &mut Store) -> Result<(), StoreError> {
    let mine = std::process::id();
    for unit in store.all_units()? {
        let is_kept = store.kept(unit.id)?.is_some();
        let open = store.open_operations(unit.id)?;
        let abandoned = |open: &OpenOperation| {
            is_asked(open) && open.operation.pid != mine && !(is_kept && request(&open.entries).is_some())
        };
        for Operation { txid, .. } in
            open.into_iter().filter(|open| abandoned(open)).map(|open| open.operation)
        {
            store.write(|writer| {
                writer.finish(
                    &txid,
                    OperationOutcome::Recovered,
                    Some("the daemon that led it died"),
                    Timestamp::now(),
                )
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
#[path = "control_tests.rs"]
mod tests;
