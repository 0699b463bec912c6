//! The state database: units, what was applied to them, and the journal of what is being done.
//!
//! SQL is written in this room and nowhere else. Reading never writes; all writes go through [`Store::write`],
//! in one transaction each, which is on the disk when it returns.

pub mod cache;
mod error;
mod first_boot;
mod generated;
mod intents;
mod journal;
mod ledger;
mod migrate;
mod open;
mod records;
mod remains;
mod specs;
mod units;
mod upgrades;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use setpoint_model::digest::Digest;

pub use error::StoreError;
pub use intents::{IntentRow, Kept, Wanted};
pub use journal::{EntryKind, JournalEntry, OpenOperation, Operation, OperationOutcome, TxId};
pub use ledger::{LedgerOf, LedgerRow};
pub use records::{LeafRow, PackRow, PhaseOutcome, PhaseRow, RecordedLeaf, RecordedRows};
pub use specs::VerdictRow;
pub use units::{NewUnit, Unit, UnitId, UnitKind};
pub use upgrades::{Aside, UpgradeOutcome, UpgradeRow, UpgradeStep};

use crate::paths::Roots;

/// An open state database. Times are kept to the millisecond.
///
/// It holds a shared lock beside the database, so that no other process changes the schema under it.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
    wrote: bool,
    // Dropped last: the database is closed before others may change its schema.
    _presence: File,
}

impl Store {
    /// Opens the database, making or migrating it if that is due.
    ///
    /// Where nothing is due, nothing is written (but SQLite's index of the log, which is memory in a file).
    ///
    /// # Errors
    /// [`StoreError`] names what is wrong: a newer schema, damage, a full or read-only disk, a missing
    /// permission, or another process that keeps a due migration waiting.
    pub fn open(roots: &Roots) -> Result<Self, StoreError> {
        open::open(&roots.state, migrate::MIGRATIONS)
    }

    /// Whether there is a database, so that opening it makes none.
    #[must_use]
    pub fn is_there(roots: &Roots) -> bool {
        roots.state.join(open::LINK).symlink_metadata().is_ok()
    }

    /// The database's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does all the writing of `work` in one transaction: either all of it is kept or, after an error, none.
    ///
    /// # Errors
    /// What `work` gives, and [`StoreError`] if the transaction cannot begin or end.
    pub fn write<T>(
        &mut self,
        work: impl FnOnce(&Writer<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.wrote = true;
        let path = &self.path;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| StoreError::sql(path, error))?;
        let writer = Writer { transaction, path };
        let result = work(&writer)?;
        writer.transaction.commit().map_err(|error| StoreError::sql(path, error))?;
        Ok(result)
    }

    /// Reads every page of the database and checks it. Takes time in proportion to its size: for the doctor.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] says what was found first.
    pub fn check(&self) -> Result<(), StoreError> {
        let verdict: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|error| StoreError::sql(&self.path, error))?;
        if verdict == "ok" {
            Ok(())
        } else {
            Err(StoreError::Damaged { path: self.path.clone(), what: verdict })
        }
    }

    /// One consistent view for several reads.
    fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        Transaction::new_unchecked(&self.connection, TransactionBehavior::Deferred)
            .and_then(|view| work(&view))
            .map_err(|error| StoreError::sql(&self.path, error))
    }
}

impl Drop for Store {
    /// After writing, moves the write-ahead log into the database, so that the next process has none to read.
    /// The log's file stays: a process that only reads has nothing to make or remove.
    fn drop(&mut self) {
        if self.wrote {
            // Best effort: while others use the database it is left to them.
            let _ = self.connection.busy_timeout(Duration::ZERO);
            let _ = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
    }
}

/// What may be written within one transaction of [`Store::write`].
#[derive(Debug)]
pub struct Writer<'a> {
    transaction: Transaction<'a>,
    path: &'a Path,
}

impl Writer<'_> {
    /// Runs one statement; gives the number of rows that it changed.
    fn execute(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<usize, StoreError> {
        self.transaction
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(parameters))
            .map_err(|error| StoreError::sql(self.path, error))
    }

    /// As [`Writer::execute`], for a row that must be there.
    fn execute_one(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        missing: impl FnOnce() -> String,
    ) -> Result<(), StoreError> {
        match self.execute(sql, parameters)? {
            0 => Err(StoreError::Missing { what: missing() }),
            _ => Ok(()),
        }
    }
}

/// A text or number in the database that is none of the values it can have.
#[derive(Debug, thiserror::Error)]
#[error("`{value}` is not a {what}")]
struct Nonsense {
    what: &'static str,
    value: String,
}

/// Turns a value that cannot be into an error that names its column.
fn nonsense(column: usize, what: &'static str, value: impl ToString) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(
        column,
        rusqlite::types::Type::Text,
        Box::new(Nonsense { what, value: value.to_string() }),
    )
}

fn digest_at(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    row.get(column).map(Digest::from_bytes)
}

/// Times are kept as milliseconds since 1970.
fn time_at(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    let ms: i64 = row.get(column)?;
    Timestamp::from_millisecond(ms).map_err(|_| nonsense(column, "time", ms))
}

fn took_at(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Duration> {
    let ms: i64 = row.get(column)?;
    u64::try_from(ms).map(Duration::from_millis).map_err(|_| nonsense(column, "duration", ms))
}

fn milliseconds(took: Duration) -> i64 {
    i64::try_from(took.as_millis()).unwrap_or(i64::MAX)
}
