//! Units: what Setpoint made, for which project, and what its engine calls it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, params};
use setpoint_model::names::{HookName, UnitName};

use super::records::{PhaseOutcome, PhaseRow};
use super::{Store, StoreError, Writer, nonsense, time_at};

/// A unit's row. Never used again for another unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId(pub(super) i64);

/// What kind of unit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitKind {
    /// An environment: `[env.<name>]`.
    Env,
}

impl UnitKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Env => "env",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "env" => Some(Self::Env),
            _ => None,
        }
    }
}

/// What is said of a unit when it is entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUnit {
    /// The folder of its project, absolute.
    pub project_root: PathBuf,
    /// The project's name.
    pub project_name: String,
    /// The unit's name.
    pub name: UnitName,
    /// What it is.
    pub kind: UnitKind,
    /// The engine that holds it.
    pub engine: String,
    /// What the engine calls it; none before it was made.
    pub instance: Option<String>,
    /// The labels that it carries in its engine.
    pub labels: BTreeMap<String, String>,
}

/// A unit that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its row.
    pub id: UnitId,
    /// What is said of it.
    pub unit: NewUnit,
    /// Since when it has the instance that it has; without one, when it was entered.
    pub created_at: Timestamp,
}

const COLUMNS: &str = "id, project_root, project_name, name, kind, engine, instance, labels, created_at";

impl Store {
    /// The unit of this name in a project.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn unit(&self, project_root: &Path, name: &UnitName) -> Result<Option<Unit>, StoreError> {
        self.read(|view| {
            view.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM units WHERE project_root = ?1 AND name = ?2"
            ))?
            .query_row(params![project_root.as_os_str().as_bytes(), name.as_str()], unit)
            .optional()
        })
    }

    /// All units of all projects, each with the number of the last of its operations that has ended: as long as that is
    /// the same, nothing was recorded of it.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn units_with_ends(&self) -> Result<Vec<(Unit, Option<i64>)>, StoreError> {
        self.read(|view| {
            view.prepare_cached(&format!(
                "SELECT {COLUMNS}, (SELECT max(seq) FROM operations WHERE unit = units.id AND outcome IS NOT NULL) \
                 FROM units ORDER BY project_root, name"
            ))?
            .query_map([], |row| Ok((unit(row)?, row.get(9)?)))?
            .collect()
        })
    }

    /// The units of a project, by name.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn units(&self, project_root: &Path) -> Result<Vec<Unit>, StoreError> {
        self.read(|view| {
            view.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM units WHERE project_root = ?1 ORDER BY name"
            ))?
            .query_map([project_root.as_os_str().as_bytes()], unit)?
            .collect()
        })
    }

    /// All units of all projects, by project and name.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn all_units(&self) -> Result<Vec<Unit>, StoreError> {
        self.read(|view| {
            view.prepare_cached(&format!("SELECT {COLUMNS} FROM units ORDER BY project_root, name"))?
                .query_map([], unit)?
                .collect()
        })
    }
}

impl Writer<'_> {
    /// Enters a unit.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if the project has one of this name; otherwise, if it cannot be written.
    pub fn insert_unit(&self, new: &NewUnit, at: Timestamp) -> Result<UnitId, StoreError> {
        let inserted = self.execute(
            "INSERT INTO units (project_root, project_name, name, kind, engine, instance, labels, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
            params![
                new.project_root.as_os_str().as_bytes(),
                new.project_name,
                new.name.as_str(),
                new.kind.as_str(),
                new.engine,
                new.instance,
                labels_text(&new.labels),
                at.as_millisecond()
            ],
        )?;
        if inserted == 0 {
            let (unit, project_root) = (new.name.to_string(), new.project_root.clone());
            return Err(StoreError::Exists { unit, project_root });
        }
        Ok(UnitId(self.transaction.last_insert_rowid()))
    }

    /// Enters a unit that was found by its labels after the state was lost. Whether its hooks `on_create` and
    /// `post_create` ever succeeded is unknown, and recorded as that; all else runs again.
    ///
    /// # Errors
    /// As [`Writer::insert_unit`].
    pub fn adopt_unit(&self, found: &NewUnit, at: Timestamp) -> Result<UnitId, StoreError> {
        let id = self.insert_unit(found, at)?;
        for hook in [HookName::OnCreate, HookName::PostCreate] {
            self.record_phase(
                id,
                &PhaseRow {
                    hook,
                    digest: None,
                    instance: found.instance.clone().unwrap_or_default(),
                    outcome: PhaseOutcome::Unknown,
                    at,
                    took: std::time::Duration::ZERO,
                },
            )?;
        }
        Ok(id)
    }

    /// Records what the engine calls the unit since then; none if it has no instance any more.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if there is no such unit; otherwise, if it cannot be written.
    pub fn set_instance(&self, id: UnitId, instance: Option<&str>, at: Timestamp) -> Result<(), StoreError> {
        self.execute_one(
            "UPDATE units SET instance = ?2,
             created_at = CASE WHEN ?2 IS NULL OR instance IS ?2 THEN created_at ELSE ?3 END WHERE id = ?1",
            params![id.0, instance, at.as_millisecond()],
            || format!("unit {}", id.0),
        )
    }

    /// Removes a unit with its records and the operations that are over.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written. A unit that is not there is no error.
    pub fn remove_unit(&self, id: UnitId) -> Result<(), StoreError> {
        self.execute("DELETE FROM operations WHERE unit = ?1 AND outcome IS NOT NULL", [id.0])?;
        self.execute("DELETE FROM units WHERE id = ?1", [id.0])?;
        Ok(())
    }
}

fn labels_text(labels: &BTreeMap<String, String>) -> String {
    serde_json::Value::from_iter(labels.clone()).to_string()
}

pub(super) fn unit(row: &Row<'_>) -> rusqlite::Result<Unit> {
    let name: String = row.get(3)?;
    let kind: String = row.get(4)?;
    let labels: String = row.get(7)?;
    Ok(Unit {
        id: UnitId(row.get(0)?),
        unit: NewUnit {
            project_root: OsString::from_vec(row.get(1)?).into(),
            project_name: row.get(2)?,
            name: UnitName::new(name).map_err(|error| nonsense(3, "unit's name", error.text))?,
            kind: UnitKind::parse(&kind).ok_or_else(|| nonsense(4, "kind of unit", kind))?,
            engine: row.get(5)?,
            instance: row.get(6)?,
            labels: serde_json::from_str(&labels).map_err(|_| nonsense(7, "list of labels", labels))?,
        },
        created_at: time_at(row, 8)?,
    })
}
