//! The journal: every operation on a unit, and what it was about to do, did, or failed to do.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::Value;

use super::units::UnitId;
use super::{Store, StoreError, Writer, nonsense, time_at};

/// How many operations are kept of each unit.
const KEPT: i64 = 50;

/// The name of one operation, unique among all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TxId(String);

impl TxId {
    /// Takes a text that the caller made unique.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for TxId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// What a journal entry says of its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// It is about to be done.
    Intent,
    /// It was done.
    Done,
    /// It was tried and failed.
    Failed,
}

impl EntryKind {
    /// As it is kept and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Intent, Self::Done, Self::Failed].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// Its place in the order of all entries.
    pub seq: i64,
    /// The step.
    pub step: String,
    /// What is said of it.
    pub kind: EntryKind,
    /// What undoing or repeating the step needs to know.
    pub payload: Value,
    /// When.
    pub at: Timestamp,
    /// By which process.
    pub pid: u32,
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationOutcome {
    /// All of it was done.
    Succeeded,
    /// A step failed.
    Failed,
    /// The user stopped it.
    Cancelled,
    /// Its process died in the middle, and a later one put it in order.
    Recovered,
}

impl OperationOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Recovered => "recovered",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Succeeded, Self::Failed, Self::Cancelled, Self::Recovered]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
    }
}

/// An operation on a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its name.
    pub txid: TxId,
    /// The unit.
    pub unit: UnitId,
    /// What it does: `up dev`.
    pub what: String,
    /// When it began.
    pub began_at: Timestamp,
    /// The process that began it.
    pub pid: u32,
    /// How and when it ended; none while it runs, and after its process died.
    pub ended: Option<(OperationOutcome, Timestamp)>,
    /// What failed, or whatever else is to be said of the end.
    pub detail: Option<String>,
}

/// An operation that never ended, with all that it wrote down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOperation {
    /// The operation.
    pub operation: Operation,
    /// Its entries, in order.
    pub entries: Vec<JournalEntry>,
}

const COLUMNS: &str = "txid, unit, what, began_at, pid, outcome, ended_at, detail";

impl Store {
    /// The operations on a unit that never ended. For a caller that holds the unit's lock, they are what
    /// processes left that died.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn open_operations(&self, unit: UnitId) -> Result<Vec<OpenOperation>, StoreError> {
        self.read(|view| {
            let operations: Vec<Operation> = view
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM operations WHERE unit = ?1 AND outcome IS NULL ORDER BY seq"
                ))?
                .query_map([unit.0], operation)?
                .collect::<Result<_, _>>()?;
            operations
                .into_iter()
                .map(|operation| Ok(OpenOperation { entries: entries(view, &operation.txid)?, operation }))
                .collect()
        })
    }

    /// The latest operation on a unit, whether it ended or not.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn last_operation(&self, unit: UnitId) -> Result<Option<Operation>, StoreError> {
        self.read(|view| {
            view.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM operations WHERE unit = ?1 ORDER BY seq DESC LIMIT 1"
            ))?
            .query_row([unit.0], operation)
            .optional()
        })
    }

    /// The latest operations on all units, the newest first, at most so many.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn operations(&self, at_most: usize) -> Result<Vec<Operation>, StoreError> {
        let at_most = i64::try_from(at_most).unwrap_or(i64::MAX);
        self.read(|view| {
            view.prepare_cached(&format!("SELECT {COLUMNS} FROM operations ORDER BY seq DESC LIMIT ?1"))?
                .query_map([at_most], operation)?
                .collect()
        })
    }

    /// The latest operations on a unit, the newest first, at most so many.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn operations_of(&self, unit: UnitId, at_most: usize) -> Result<Vec<Operation>, StoreError> {
        let at_most = i64::try_from(at_most).unwrap_or(i64::MAX);
        self.read(|view| {
            view.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM operations WHERE unit = ?1 ORDER BY seq DESC LIMIT ?2"
            ))?
            .query_map(params![unit.0, at_most], operation)?
            .collect()
        })
    }

    /// The operation of this name.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn operation(&self, txid: &TxId) -> Result<Option<Operation>, StoreError> {
        self.read(|view| {
            view.prepare_cached(&format!("SELECT {COLUMNS} FROM operations WHERE txid = ?1"))?
                .query_row([txid.as_str()], operation)
                .optional()
        })
    }

    /// What an operation wrote down, in order.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn journal(&self, txid: &TxId) -> Result<Vec<JournalEntry>, StoreError> {
        self.read(|view| entries(view, txid))
    }
}

impl Writer<'_> {
    /// Begins an operation.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn begin(&self, txid: &TxId, unit: UnitId, what: &str, at: Timestamp) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO operations (txid, unit, what, began_at, pid) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![txid.as_str(), unit.0, what, at.as_millisecond(), std::process::id()],
        )?;
        Ok(())
    }

    /// Writes down that a step is about to be done.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written, or the operation never began.
    pub fn intent(&self, txid: &TxId, step: &str, payload: &Value, at: Timestamp) -> Result<(), StoreError> {
        self.enter(txid, step, EntryKind::Intent, payload, at)
    }

    /// Writes down that a step was done.
    ///
    /// # Errors
    /// As [`Writer::intent`].
    pub fn done(&self, txid: &TxId, step: &str, payload: &Value, at: Timestamp) -> Result<(), StoreError> {
        self.enter(txid, step, EntryKind::Done, payload, at)
    }

    /// Writes down that a step failed.
    ///
    /// # Errors
    /// As [`Writer::intent`].
    pub fn failed(&self, txid: &TxId, step: &str, payload: &Value, at: Timestamp) -> Result<(), StoreError> {
        self.enter(txid, step, EntryKind::Failed, payload, at)
    }

    /// Ends an operation. Of each unit the latest 50 operations are kept.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if the operation never began; otherwise, if it cannot be written.
    pub fn finish(
        &self,
        txid: &TxId,
        outcome: OperationOutcome,
        detail: Option<&str>,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "UPDATE operations SET outcome = ?2, detail = ?3, ended_at = ?4 WHERE txid = ?1",
            params![txid.as_str(), outcome.as_str(), detail, at.as_millisecond()],
            || format!("the operation `{txid}`"),
        )?;
        // Nobody asks for operations on a unit that is gone.
        self.execute(
            "DELETE FROM operations WHERE outcome IS NOT NULL
               AND unit = (SELECT unit FROM operations WHERE txid = ?1)
               AND (unit NOT IN (SELECT id FROM units)
                    OR seq <= (SELECT seq FROM operations AS newer WHERE newer.unit = operations.unit
                               ORDER BY seq DESC LIMIT 1 OFFSET ?2))",
            params![txid.as_str(), KEPT],
        )?;
        Ok(())
    }

    fn enter(
        &self,
        txid: &TxId,
        step: &str,
        kind: EntryKind,
        payload: &Value,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO journal (txid, step, kind, payload, at, pid) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                txid.as_str(),
                step,
                kind.as_str(),
                payload.to_string(),
                at.as_millisecond(),
                std::process::id()
            ],
        )?;
        Ok(())
    }
}

fn operation(row: &Row<'_>) -> rusqlite::Result<Operation> {
    let ended = match row.get::<_, Option<String>>(5)? {
        Some(outcome) => Some((
            OperationOutcome::parse(&outcome).ok_or_else(|| nonsense(5, "operation's outcome", outcome))?,
            time_at(row, 6)?,
        )),
        None => None,
    };
    Ok(Operation {
        txid: TxId(row.get(0)?),
        unit: UnitId(row.get(1)?),
        what: row.get(2)?,
        began_at: time_at(row, 3)?,
        pid: row.get(4)?,
        ended,
        detail: row.get(7)?,
    })
}

fn entries(view: &Connection, txid: &TxId) -> rusqlite::Result<Vec<JournalEntry>> {
    view.prepare_cached("SELECT seq, step, kind, payload, at, pid FROM journal WHERE txid = ?1 ORDER BY seq")?
        .query_map([txid.as_str()], entry)?
        .collect()
}

fn entry(row: &Row<'_>) -> rusqlite::Result<JournalEntry> {
    let kind: String = row.get(2)?;
    let payload: String = row.get(3)?;
    Ok(JournalEntry {
        seq: row.get(0)?,
        step: row.get(1)?,
        kind: EntryKind::parse(&kind).ok_or_else(|| nonsense(2, "kind of journal entry", kind))?,
        payload: serde_json::from_str(&payload).map_err(|_| nonsense(3, "payload", payload))?,
        at: time_at(row, 4)?,
        pid: row.get(5)?,
    })
}
