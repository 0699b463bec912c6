//! Changes of generations, and the records of instances that are set aside.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};
use setpoint_model::names::HookName;
use setpoint_model::release::Upgrade;

use super::intents::IntentRow;
use super::journal::{EntryKind, TxId};
use super::records::RecordedRows;
use super::units::UnitId;
use super::{Store, StoreError, Writer, nonsense, time_at};

/// How a change of generations ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeOutcome {
    /// The new one is in effect.
    Committed,
    /// The old one is, as it was.
    RolledBack,
    /// Nothing had been touched.
    Dropped,
    /// Neither could be brought about: nothing may be done before a person has looked at it.
    NeedsOperator,
}

impl UpgradeOutcome {
    const ALL: [Self; 4] = [Self::Committed, Self::RolledBack, Self::Dropped, Self::NeedsOperator];

    /// As it is kept and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::RolledBack => "rolled-back",
            Self::Dropped => "dropped",
            Self::NeedsOperator => "needs-operator",
        }
    }
}

/// A change of generations as the journal has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeRow {
    /// Its place in the order of all.
    pub seq: i64,
    /// Its name.
    pub txid: TxId,
    /// The folder of its project.
    pub project_root: PathBuf,
    /// What it changes.
    pub upgrade: Upgrade,
    /// Who asked for it.
    pub who: String,
    /// When it began.
    pub began_at: Timestamp,
    /// How and when it ended; nothing while it goes on, and after its process died.
    pub ended: Option<(UpgradeOutcome, Timestamp)>,
    /// What failed, or whatever else is to be said of its end.
    pub detail: Option<String>,
}

impl UpgradeRow {
    /// Whether something is still to be done about it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.ended, None | Some((UpgradeOutcome::NeedsOperator, _)))
    }
}

/// A line of the journal of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeStep {
    /// The step, as [`setpoint_model::release::Step`] and [`setpoint_model::release::Undo`] show themselves.
    pub step: String,
    /// What is said of it.
    pub kind: EntryKind,
    /// What else there is to say: why it failed.
    pub note: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// What is recorded of a unit, for as long as its instance is set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    /// Which instance.
    pub instance: Option<String>,
    /// What was applied to it.
    pub records: RecordedRows,
    /// What was wanted of it, if it is one that is kept running.
    pub intent: Option<IntentRow>,
}

const COLUMNS: &str = "seq, txid, project_root, what, who, began_at, outcome, ended_at, detail";
const OPEN: &str = "(outcome IS NULL OR outcome = 'needs-operator')";

impl Store {
    /// The change of a project's generations about which something is still to be done, if there is one.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn open_upgrade(&self, project_root: &Path) -> Result<Option<UpgradeRow>, StoreError> {
        self.read(|view| {
            view.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM upgrades WHERE project_root = ?1 AND {OPEN} ORDER BY seq DESC LIMIT 1"
            ))?
            .query_row([project_root.as_os_str().as_bytes()], upgrade)
            .optional()
        })
    }

    /// All changes of generations about which something is still to be done.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn open_upgrades(&self) -> Result<Vec<UpgradeRow>, StoreError> {
        self.read(|view| {
            view.prepare_cached(&format!("SELECT {COLUMNS} FROM upgrades WHERE {OPEN} ORDER BY seq"))?
                .query_map([], upgrade)?
                .collect()
        })
    }

    /// All changes of a project's generations, the newest first.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn upgrades(&self, project_root: &Path) -> Result<Vec<UpgradeRow>, StoreError> {
        self.read(|view| {
            view.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM upgrades WHERE project_root = ?1 ORDER BY seq DESC"
            ))?
            .query_map([project_root.as_os_str().as_bytes()], upgrade)?
            .collect()
        })
    }

    /// All changes of all projects' generations, the newest first.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn all_upgrades(&self) -> Result<Vec<UpgradeRow>, StoreError> {
        self.read(|view| {
            view.prepare_cached(&format!("SELECT {COLUMNS} FROM upgrades ORDER BY seq DESC"))?
                .query_map([], upgrade)?
                .collect()
        })
    }

    /// What the journal has of a change, in order.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn upgrade_steps(&self, txid: &TxId) -> Result<Vec<UpgradeStep>, StoreError> {
        self.read(|view| {
            view.prepare_cached(
                "SELECT step, kind, note, at FROM upgrade_steps WHERE txid = ?1 ORDER BY seq",
            )?
            .query_map([txid.as_str()], step)?
            .collect()
        })
    }

    /// What was recorded of the instance of a unit that was set aside.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn aside(&self, unit: UnitId, generation: u64) -> Result<Option<Aside>, StoreError> {
        self.read(|view| {
            view.prepare_cached("SELECT what FROM aside WHERE unit = ?1 AND generation = ?2")?
                .query_row(params![unit.0, signed(generation)], |row| {
                    let what: String = row.get(0)?;
                    serde_json::from_str(&what).map_err(|_| nonsense(0, "record", &what))
                })
                .optional()
        })
    }
}

impl Writer<'_> {
    /// Writes down that a change begins.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn begin_upgrade(
        &self,
        txid: &TxId,
        project_root: &Path,
        what: &Upgrade,
        who: &str,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO upgrades (txid, project_root, what, who, began_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                txid.as_str(),
                project_root.as_os_str().as_bytes(),
                serde_json::json!(what).to_string(),
                who,
                at.as_millisecond()
            ],
        )?;
        Ok(())
    }

    /// Writes down what is about to be done in a change, or came of it.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn upgrade_step(
        &self,
        txid: &TxId,
        step: &str,
        kind: EntryKind,
        note: Option<&str>,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO upgrade_steps (txid, step, kind, note, at, pid) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![txid.as_str(), step, kind.as_str(), note, at.as_millisecond(), std::process::id()],
        )?;
        Ok(())
    }

    /// Writes down how a change ended.
    ///
    /// # Errors
    /// [`StoreError`] if there is no such change, or it cannot be written.
    pub fn finish_upgrade(
        &self,
        txid: &TxId,
        outcome: UpgradeOutcome,
        detail: Option<&str>,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            "UPDATE upgrades SET outcome = ?2, detail = coalesce(?3, detail), ended_at = ?4 WHERE txid = ?1",
            params![txid.as_str(), outcome.as_str(), detail, at.as_millisecond()],
            || format!("the upgrade {txid}"),
        )
    }

    /// Keeps what is recorded of a unit beside its instance, which is set aside as the one of this generation.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn put_aside(&self, unit: UnitId, generation: u64, what: &Aside) -> Result<(), StoreError> {
        self.execute(
            "INSERT OR REPLACE INTO aside (unit, generation, what) VALUES (?1, ?2, ?3)",
            params![unit.0, signed(generation), serde_json::json!(what).to_string()],
        )?;
        Ok(())
    }

    /// Forgets what was recorded of an instance that is not set aside any more.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn forget_aside(&self, unit: UnitId, generation: u64) -> Result<(), StoreError> {
        self.execute(
            "DELETE FROM aside WHERE unit = ?1 AND generation = ?2",
            params![unit.0, signed(generation)],
        )?;
        Ok(())
    }

    /// Puts a whole record in the place of what is recorded of a unit.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn replace_records(
        &self,
        unit: UnitId,
        instance: Option<&str>,
        records: &RecordedRows,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute("DELETE FROM leaves WHERE unit = ?1", [unit.0])?;
        self.cut_packs(unit, 0)?;
        HookName::ALL.into_iter().try_for_each(|hook| self.remove_phase(unit, hook))?;
        for row in &records.leaves {
            self.record_leaves(unit, std::slice::from_ref(&row.leaf), row.at)?;
        }
        for (position, pack) in records.packs.iter().enumerate() {
            self.put_pack(unit, position, pack)?;
        }
        records.phases.iter().try_for_each(|phase| self.record_phase(unit, phase))?;
        self.set_instance(unit, instance, at)
    }
}

fn signed(generation: u64) -> i64 {
    i64::try_from(generation).unwrap_or(i64::MAX)
}

fn upgrade(row: &Row<'_>) -> rusqlite::Result<UpgradeRow> {
    let root: Vec<u8> = row.get(2)?;
    let what: String = row.get(3)?;
    let ended = match row.get::<_, Option<String>>(6)? {
        None => None,
        Some(text) => {
            let outcome = UpgradeOutcome::ALL.into_iter().find(|outcome| outcome.as_str() == text);
            Some((outcome.ok_or_else(|| nonsense(6, "outcome of an upgrade", &text))?, time_at(row, 7)?))
        }
    };
    Ok(UpgradeRow {
        seq: row.get(0)?,
        txid: TxId::new(row.get::<_, String>(1)?),
        project_root: PathBuf::from(OsStr::from_bytes(&root)),
        upgrade: serde_json::from_str(&what).map_err(|_| nonsense(3, "change of generations", &what))?,
        who: row.get(4)?,
        began_at: time_at(row, 5)?,
        ended,
        detail: row.get(8)?,
    })
}

fn step(row: &Row<'_>) -> rusqlite::Result<UpgradeStep> {
    let kind: String = row.get(1)?;
    Ok(UpgradeStep {
        step: row.get(0)?,
        kind: EntryKind::parse(&kind).ok_or_else(|| nonsense(1, "kind of journal entry", kind))?,
        note: row.get(2)?,
        at: time_at(row, 3)?,
    })
}
