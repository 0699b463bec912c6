//! Records: what was applied to a unit with success. What failed has no record.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};
use setpoint_model::digest::Digest;
use setpoint_model::names::HookName;

use super::units::UnitId;
use super::{Store, StoreError, Writer, digest_at, milliseconds, nonsense, time_at, took_at};

/// A leaf of a fingerprint as it was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedLeaf {
    /// The path that people recognise: `env.dev.limits.memory`.
    pub path: String,
    /// The class that it had: `hot`, `recreate`.
    pub class: String,
    /// The digest of its value.
    pub digest: Digest,
    /// Its value as it may be shown; none for secrets and for what is too long.
    pub shown: Option<String>,
    /// The version of the algorithm that made the digest.
    pub version: u32,
}

/// A recorded leaf, and when it was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafRow {
    /// The leaf.
    pub leaf: RecordedLeaf,
    /// When.
    pub at: Timestamp,
}

/// A pack that succeeded. Its position is its place in [`RecordedRows::packs`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackRow {
    /// The pack's name.
    pub name: String,
    /// The digest of the script that ran.
    pub digest: Digest,
    /// When it succeeded.
    pub at: Timestamp,
    /// How long it took, to the millisecond.
    pub took: Duration,
}

/// What is known of a hook that has a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PhaseOutcome {
    /// It succeeded.
    Succeeded,
    /// The state was lost: nobody knows whether it ever did.
    Unknown,
}

/// A hook's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseRow {
    /// The hook.
    pub hook: HookName,
    /// The digest of what ran; none where that is unknown.
    pub digest: Option<Digest>,
    /// The instance of the unit that it ran for.
    pub instance: String,
    /// Whether it is known to have succeeded.
    pub outcome: PhaseOutcome,
    /// When.
    pub at: Timestamp,
    /// How long it took, to the millisecond.
    pub took: Duration,
}

/// All that is recorded of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedRows {
    /// The leaves, by path.
    pub leaves: Vec<LeafRow>,
    /// The packs, in the order in which they ran.
    pub packs: Vec<PackRow>,
    /// The hooks, in the order in which they run.
    pub phases: Vec<PhaseRow>,
}

impl Store {
    /// All that is recorded of a unit, as of one moment.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn recorded(&self, unit: UnitId) -> Result<RecordedRows, StoreError> {
        self.read(|view| {
            let leaves = view
                .prepare_cached(
                    "SELECT path, class, digest, shown, version, at FROM leaves WHERE unit = ?1 ORDER BY path",
                )?
                .query_map([unit.0], leaf)?
                .collect::<Result<_, _>>()?;
            let packs = view
                .prepare_cached("SELECT name, digest, at, took_ms FROM packs WHERE unit = ?1 ORDER BY position")?
                .query_map([unit.0], pack)?
                .collect::<Result<_, _>>()?;
            let mut phases = view
                .prepare_cached("SELECT hook, digest, instance, outcome, at, took_ms FROM phases WHERE unit = ?1")?
                .query_map([unit.0], phase)?
                .collect::<Result<Vec<_>, _>>()?;
            phases.sort_unstable_by_key(|phase| phase.hook);
            Ok(RecordedRows { leaves, packs, phases })
        })
    }
}

impl Writer<'_> {
    /// Records leaves as applied, in place of earlier records of the same paths.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn record_leaves(
        &self,
        unit: UnitId,
        leaves: &[RecordedLeaf],
        at: Timestamp,
    ) -> Result<(), StoreError> {
        for leaf in leaves {
            self.execute(
                "INSERT OR REPLACE INTO leaves (unit, path, class, digest, shown, version, at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    unit.0,
                    leaf.path,
                    leaf.class,
                    leaf.digest.as_bytes(),
                    leaf.shown,
                    leaf.version,
                    at.as_millisecond()
                ],
            )?;
        }
        Ok(())
    }

    /// Forgets leaves that are no longer declared.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written. A leaf that is not there is no error.
    pub fn remove_leaves<S: AsRef<str>>(&self, unit: UnitId, paths: &[S]) -> Result<(), StoreError> {
        for path in paths {
            self.execute("DELETE FROM leaves WHERE unit = ?1 AND path = ?2", params![unit.0, path.as_ref()])?;
        }
        Ok(())
    }

    /// Forgets the packs from a position to the end: before the one at this position runs.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn cut_packs(&self, unit: UnitId, position: usize) -> Result<(), StoreError> {
        let position = i64::try_from(position).unwrap_or(i64::MAX);
        self.execute("DELETE FROM packs WHERE unit = ?1 AND position >= ?2", [unit.0, position])?;
        Ok(())
    }

    /// Records that the pack at a position succeeded.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn put_pack(&self, unit: UnitId, position: usize, pack: &PackRow) -> Result<(), StoreError> {
        self.execute(
            "INSERT OR REPLACE INTO packs (unit, position, name, digest, at, took_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                unit.0,
                i64::try_from(position).unwrap_or(i64::MAX),
                pack.name,
                pack.digest.as_bytes(),
                pack.at.as_millisecond(),
                milliseconds(pack.took)
            ],
        )?;
        Ok(())
    }

    /// Records what is known of a hook, in place of what was known before.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn record_phase(&self, unit: UnitId, phase: &PhaseRow) -> Result<(), StoreError> {
        let outcome = match phase.outcome {
            PhaseOutcome::Succeeded => "succeeded",
            PhaseOutcome::Unknown => "unknown",
        };
        self.execute(
            "INSERT OR REPLACE INTO phases (unit, hook, digest, instance, outcome, at, took_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                unit.0,
                phase.hook.as_str(),
                phase.digest.as_ref().map(Digest::as_bytes),
                phase.instance,
                outcome,
                phase.at.as_millisecond(),
                milliseconds(phase.took)
            ],
        )?;
        Ok(())
    }

    /// Forgets a hook: it is no longer declared, or is about to run again.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn remove_phase(&self, unit: UnitId, hook: HookName) -> Result<(), StoreError> {
        self.execute("DELETE FROM phases WHERE unit = ?1 AND hook = ?2", params![unit.0, hook.as_str()])?;
        Ok(())
    }
}

fn leaf(row: &Row<'_>) -> rusqlite::Result<LeafRow> {
    Ok(LeafRow {
        leaf: RecordedLeaf {
            path: row.get(0)?,
            class: row.get(1)?,
            digest: digest_at(row, 2)?,
            shown: row.get(3)?,
            version: row.get(4)?,
        },
        at: time_at(row, 5)?,
    })
}

fn pack(row: &Row<'_>) -> rusqlite::Result<PackRow> {
    Ok(PackRow {
        name: row.get(0)?,
        digest: digest_at(row, 1)?,
        at: time_at(row, 2)?,
        took: took_at(row, 3)?,
    })
}

fn phase(row: &Row<'_>) -> rusqlite::Result<PhaseRow> {
    let hook: String = row.get(0)?;
    let outcome: String = row.get(3)?;
    Ok(PhaseRow {
        hook: HookName::parse(&hook).ok_or_else(|| nonsense(0, "hook", hook))?,
        digest: row.get::<_, Option<[u8; 32]>>(1)?.map(Digest::from_bytes),
        instance: row.get(2)?,
        outcome: match outcome.as_str() {
            "succeeded" => PhaseOutcome::Succeeded,
            "unknown" => PhaseOutcome::Unknown,
            _ => return Err(nonsense(3, "phase's outcome", outcome)),
        },
        at: time_at(row, 4)?,
        took: took_at(row, 5)?,
    })
}
