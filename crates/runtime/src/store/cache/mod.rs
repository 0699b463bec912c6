//! The records of the cache: what steps made, by key, and the layers that it lies on.
//!
//! They have a database of their own. Losing it loses only time: so it is not synchronised at every write, and a
//! database that is damaged, or of another version, is begun anew.

mod evict;
mod keys;
mod open;
mod results;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use evict::{Bounds, Evicted};
pub use keys::KeyRow;
pub use results::{Chains, LayerRow, NewResult, ResultRow};

use super::StoreError;
use crate::paths::Roots;

/// The open records of the cache.
#[derive(Debug)]
pub struct CacheDb {
    connection: Connection,
    path: PathBuf,
    boot: String,
}

impl CacheDb {
    /// Opens the records, and makes them if there are none that can be read. What was not durable when the machine
    /// went down is forgotten.
    ///
    /// # Errors
    /// [`StoreError`] if the folder cannot be written, the disk is full, or another process does not let go.
    pub fn open(roots: &Roots) -> Result<Self, StoreError> {
        open::open(&roots.state)
    }

    /// The database's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks up and records in one transaction, in which no other process changes anything.
    ///
    /// # Errors
    /// What `work` gives, and [`StoreError`] if the transaction cannot begin or end.
    pub fn write<T>(
        &mut self,
        work: impl FnOnce(&CacheWriter<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let path = &self.path;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| StoreError::sql(path, error))?;
        let writer = CacheWriter { transaction, path, boot: &self.boot, now: Timestamp::now() };
        let result = work(&writer)?;
        writer.transaction.commit().map_err(|error| StoreError::sql(path, error))?;
        Ok(result)
    }
}

/// What may be looked up and changed within one transaction of [`CacheDb::write`].
pub struct CacheWriter<'a> {
    transaction: Transaction<'a>,
    path: &'a Path,
    boot: &'a str,
    now: Timestamp,
}

impl CacheWriter<'_> {
    fn sql<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        work(&self.transaction).map_err(|error| StoreError::sql(self.path, error))
    }

    /// The next place in the order of all uses.
    fn next_use(&self) -> Result<i64, StoreError> {
        self.sql(|sql| {
            sql.prepare_cached(
                "SELECT 1 + max(ifnull((SELECT max(used) FROM results), 0), ifnull((SELECT max(began) FROM leases), 0))",
            )?
            .query_row([], |row| row.get(0))
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
