//! Leases, and what may go.

use std::time::Duration;

use rusqlite::params;
use setpoint_model::digest::Digest;

use super::super::{StoreError, digest_at, milliseconds};
use super::CacheWriter;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all layers together.
    pub bytes: u64,
    /// How long after its last use a result is kept.
    pub age: Duration,
}

/// What was forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evicted {
    /// How many results.
    pub results: usize,
    /// How many bytes of layers nothing lies on any more.
    pub bytes: u64,
}

impl CacheWriter<'_> {
    /// From now on, what is used is leased, until [`CacheWriter::end_lease`].
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be written.
    pub fn begin_lease(&self, lease: &str) -> Result<(), StoreError> {
        let began = self.next_use()?;
        self.sql(|sql| {
            sql.execute("INSERT INTO leases (lease, began) VALUES (?1, ?2)", params![lease, began])
        })?;
        Ok(())
    }

    /// Ends a lease.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be written.
    pub fn end_lease(&self, lease: &str) -> Result<(), StoreError> {
        self.sql(|sql| sql.execute("DELETE FROM leases WHERE lease = ?1", [lease]))?;
        Ok(())
    }

    /// All leases; some of their holders may be dead.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be read.
    pub fn leases(&self) -> Result<Vec<String>, StoreError> {
        self.sql(|sql| sql.prepare("SELECT lease FROM leases")?.query_map([], |row| row.get(0))?.collect())
    }

    /// Forgets what is out of bounds: what was not used for too long, then what was used the longest ago. A result
    /// that others are built on goes after them. What is leased stays.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be read or written.
    pub fn evict(&self, bounds: Bounds) -> Result<Evicted, StoreError> {
        let before = self.total_bytes()?;
        let mut evicted = Evicted::default();
        let oldest = self.now.as_millisecond().saturating_sub(milliseconds(bounds.age));
        for result in self.not_leased("used_at < ?1", oldest)? {
            self.forget(&[result])?;
            evicted.results += 1;
        }
        let mut bytes = self.total_bytes()?;
        while bytes > bounds.bytes {
            // What goes makes room only if it has a layer that nothing else lies on, or keeps others from going.
            let top = "?1 AND EXISTS (SELECT 1 FROM chains WHERE result = id)
                       AND NOT EXISTS (SELECT 1 FROM chains WHERE layer = id AND result <> id)";
            let Some(result) = self.not_leased(top, 1)?.into_iter().next() else { break };
            self.forget(&[result])?;
            evicted.results += 1;
            bytes = self.total_bytes()?;
        }
        evicted.bytes = before.saturating_sub(self.total_bytes()?);
        Ok(evicted)
    }

    /// Forgets all that is not leased.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be read or written.
    pub fn evict_all(&self) -> Result<Evicted, StoreError> {
        let before = self.total_bytes()?;
        let results = self.not_leased("?1", 1)?;
        self.forget(&results)?;
        Ok(Evicted { results: results.len(), bytes: before.saturating_sub(self.total_bytes()?) })
    }

    /// The results that no run leases and of which this holds, those first that are to go first.
    fn not_leased(&self, condition: &str, parameter: i64) -> Result<Vec<Digest>, StoreError> {
        self.sql(|sql| {
            sql.prepare_cached(&format!(
                "SELECT id FROM results
                 WHERE used < ifnull((SELECT min(began) FROM leases), used + 1) AND {condition}
                 ORDER BY current, used_at, made_at DESC"
            ))?
            .query_map([parameter], |row| digest_at(row, 0))?
            .collect()
        })
    }

    /// The bytes of all layers that something lies on.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be read.
    pub fn total_bytes(&self) -> Result<u64, StoreError> {
        self.sql(|sql| {
            sql.prepare_cached(
                "SELECT ifnull(sum(bytes), 0) FROM layers WHERE id IN (SELECT layer FROM chains)",
            )?
            .query_row([], |row| row.get::<_, i64>(0))
        })
        .map(i64::cast_unsigned)
    }
}
