//! What the user wants of units that are kept running, and what became of keeping them so.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};

use super::units::{Unit, UnitId, unit};
use super::{Store, StoreError, Writer, nonsense, time_at};

/// What the user wants of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    /// That it runs.
    Up,
    /// That it does not.
    Stopped,
}

impl Wanted {
    fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Stopped => "stopped",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Up, Self::Stopped].into_iter().find(|wanted| wanted.as_str() == text)
    }
}

/// What the user wants of a unit, as it was said last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentRow {
    /// What is wanted.
    pub wanted: Wanted,
    /// How often it was said: grows with each time.
    pub generation: u64,
    /// How the unit is kept, as JSON.
    pub rules: String,
    /// When it was said.
    pub at: Timestamp,
}

/// A unit that is kept as somebody wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The unit.
    pub unit: Unit,
    /// What is wanted of it.
    pub intent: IntentRow,
    /// What became of keeping it so, as JSON.
    pub history: Option<String>,
}

const COLUMNS: &str =
    "units.id, project_root, project_name, name, kind, engine, instance, labels, created_at,
    wanted, generation, rules, at, history";
const TABLES: &str = "intents JOIN units ON units.id = intents.unit LEFT JOIN histories USING (unit)";

impl Store {
    /// All units that are kept as somebody wants them, by project and name.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn all_kept(&self) -> Result<Vec<Kept>, StoreError> {
        self.read(|view| {
            view.prepare_cached(&format!("SELECT {COLUMNS} FROM {TABLES} ORDER BY project_root, name"))?
                .query_map([], kept)?
                .collect()
        })
    }

    /// A unit, if it is kept as somebody wants it.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn kept(&self, id: UnitId) -> Result<Option<Kept>, StoreError> {
        self.read(|view| {
            view.prepare_cached(&format!("SELECT {COLUMNS} FROM {TABLES} WHERE units.id = ?1"))?
                .query_row([id.0], kept)
                .optional()
        })
    }
}

impl Writer<'_> {
    /// Records what the user wants of a unit from now on, and gives the generation; what became of earlier efforts is
    /// forgotten.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn put_intent(
        &self,
        id: UnitId,
        wanted: Wanted,
        rules: &str,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        self.execute(
            "INSERT INTO intents (unit, wanted, generation, rules, at) VALUES (?1, ?2, 1, ?3, ?4)
             ON CONFLICT DO UPDATE SET
                 wanted = excluded.wanted, generation = generation + 1, rules = excluded.rules, at = excluded.at",
            params![id.0, wanted.as_str(), rules, at.as_millisecond()],
        )?;
        self.execute("DELETE FROM histories WHERE unit = ?1", [id.0])?;
        self.generation(id)
    }

    /// Forgets that anything is wanted of a unit, which is left alone then.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn remove_intent(&self, id: UnitId) -> Result<(), StoreError> {
        self.execute("DELETE FROM histories WHERE unit = ?1", [id.0])?;
        self.execute("DELETE FROM intents WHERE unit = ?1", [id.0])?;
        Ok(())
    }

    /// Records what is wanted of a unit that is kept, by the rules that it has, and gives the generation; 0 for one that
    /// is not kept.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn set_wanted(&self, id: UnitId, wanted: Wanted, at: Timestamp) -> Result<u64, StoreError> {
        self.execute(
            "UPDATE intents SET wanted = ?2, generation = generation + 1, at = ?3 WHERE unit = ?1",
            params![id.0, wanted.as_str(), at.as_millisecond()],
        )?;
        self.generation(id)
    }

    fn generation(&self, id: UnitId) -> Result<u64, StoreError> {
        let sql = "SELECT generation FROM intents WHERE unit = ?1";
        let generation: Option<i64> = self
            .transaction
            .query_row(sql, [id.0], |row| row.get(0))
            .optional()
            .map_err(|error| StoreError::sql(self.path, error))?;
        Ok(generation.and_then(|generation| u64::try_from(generation).ok()).unwrap_or_default())
    }

    /// Records what became of keeping a unit, as long as nothing else is wanted of it than at this generation.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn put_history(&self, id: UnitId, generation: u64, history: &str) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO histories (unit, history)
             SELECT unit, ?3 FROM intents WHERE unit = ?1 AND generation = ?2
             ON CONFLICT DO UPDATE SET history = excluded.history",
            params![id.0, i64::try_from(generation).unwrap_or(i64::MAX), history],
        )?;
        Ok(())
    }
}

fn kept(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let wanted: String = row.get(9)?;
    let generation: i64 = row.get(10)?;
    Ok(Kept {
        unit: unit(row)?,
        intent: IntentRow {
            wanted: Wanted::parse(&wanted).ok_or_else(|| nonsense(9, "wish", &wanted))?,
            generation: u64::try_from(generation).unwrap_or_default(),
            rules: row.get(11)?,
            at: time_at(row, 12)?,
        },
        history: row.get(13)?,
    })
}
