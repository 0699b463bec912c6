//! The ledger of migrations: what was applied to the data of which volume.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use jiff::Timestamp;
use rusqlite::params;
use setpoint_model::release::MigrationId;
use setpoint_model::release::ledger::{Applied, Progress};

use super::{Store, StoreError, Writer, nonsense, time_at};

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// The volume, by its name on the engine.
    pub volume: String,
    /// What told it from others of its name.
    pub volume_id: String,
    /// What was applied.
    pub applied: Applied,
    /// When it was noted.
    pub at: Timestamp,
}

/// The ledger of a project's volumes on an engine.
#[derive(Debug, Clone, Copy)]
pub struct LedgerOf<'a> {
    /// The project's folder.
    pub project_root: &'a Path,
    /// The engine's name.
    pub engine: &'a str,
}

impl Store {
    /// All lines of a ledger.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn ledger(&self, of: LedgerOf<'_>) -> Result<Vec<LedgerRow>, StoreError> {
        self.read(|view| {
            view.prepare_cached(
                "SELECT volume, volume_id, migration, sha256, progress, at FROM ledger
                 WHERE project_root = ?1 AND engine = ?2",
            )?
            .query_map(params![of.project_root.as_os_str().as_bytes(), of.engine], |row| {
                let (id, progress): (String, String) = (row.get(2)?, row.get(4)?);
                Ok(LedgerRow {
                    volume: row.get(0)?,
                    volume_id: row.get(1)?,
                    applied: Applied {
                        id: MigrationId::try_from(id.clone()).map_err(|_| nonsense(2, "migration", &id))?,
                        sha256: row.get(3)?,
                        progress: parsed(&progress)
                            .ok_or_else(|| nonsense(4, "progress of a migration", &progress))?,
                    },
                    at: time_at(row, 5)?,
                })
            })?
            .collect()
        })
    }
}

impl Writer<'_> {
    /// Writes down what was applied to a volume.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn note_migration(&self, of: LedgerOf<'_>, row: &LedgerRow) -> Result<(), StoreError> {
        self.execute(
            "INSERT OR REPLACE INTO ledger
             (project_root, engine, volume, volume_id, migration, sha256, progress, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                of.project_root.as_os_str().as_bytes(),
                of.engine,
                row.volume,
                row.volume_id,
                row.applied.id.to_string(),
                row.applied.sha256,
                shown(row.applied.progress),
                row.at.as_millisecond()
            ],
        )?;
        Ok(())
    }

    /// What was applied to a volume, was to its copy, too, and nothing else.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn copy_ledger(&self, of: LedgerOf<'_>, from: &str, to: &str) -> Result<(), StoreError> {
        self.forget_ledger(of, to)?;
        self.execute(
            "INSERT INTO ledger (project_root, engine, volume, volume_id, migration, sha256, progress, at)
             SELECT project_root, engine, ?4, volume_id, migration, sha256, progress, at FROM ledger
             WHERE project_root = ?1 AND engine = ?2 AND volume = ?3",
            params![of.project_root.as_os_str().as_bytes(), of.engine, from, to],
        )?;
        Ok(())
    }

    /// Strikes a migration of a volume that was taken back.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn strike_migration(
        &self,
        of: LedgerOf<'_>,
        volume: &str,
        id: &MigrationId,
    ) -> Result<(), StoreError> {
        self.execute(
            "DELETE FROM ledger WHERE project_root = ?1 AND engine = ?2 AND volume = ?3 AND migration = ?4",
            params![of.project_root.as_os_str().as_bytes(), of.engine, volume, id.to_string()],
        )?;
        Ok(())
    }

    /// Forgets what was applied to a volume that is not there any more.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn forget_ledger(&self, of: LedgerOf<'_>, volume: &str) -> Result<(), StoreError> {
        self.execute(
            "DELETE FROM ledger WHERE project_root = ?1 AND engine = ?2 AND volume = ?3",
            params![of.project_root.as_os_str().as_bytes(), of.engine, volume],
        )?;
        Ok(())
    }
}

const PROGRESSES: [Progress; 4] = [Progress::Awaited, Progress::Begun, Progress::Done, Progress::Covered];

fn shown(progress: Progress) -> &'static str {
    match progress {
        Progress::Awaited => "awaited",
        Progress::Begun => "begun",
        Progress::Done => "done",
        Progress::Covered => "covered",
    }
}

fn parsed(text: &str) -> Option<Progress> {
    PROGRESSES.into_iter().find(|progress| shown(*progress) == text)
}
