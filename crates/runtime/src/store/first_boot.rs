//! Steps of first boots that were done.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use jiff::Timestamp;
use rusqlite::params;
use setpoint_model::manifest::Data;
use setpoint_model::names::UnitName;

use super::{Store, StoreError, Writer, nonsense};

impl Store {
    /// The steps of a unit's first boot that were done, with the data that they were done for.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn first_boot(
        &self,
        project_root: &Path,
        unit: &UnitName,
    ) -> Result<BTreeMap<String, Data>, StoreError> {
        let of = params![project_root.as_os_str().as_bytes(), unit.as_str()];
        self.read(|view| {
            view.prepare_cached("SELECT step, data FROM first_boot WHERE project_root = ?1 AND unit = ?2")?
                .query_map(of, |row| {
                    let data: String = row.get(1)?;
                    let data = serde_json::from_str(&data).map_err(|_| nonsense(1, "set of data", data))?;
                    Ok((row.get(0)?, data))
                })?
                .collect()
        })
    }
}

impl Writer<'_> {
    /// Records that a step of a unit's first boot was done.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn record_first_boot(
        &self,
        project_root: &Path,
        unit: &UnitName,
        step: &str,
        data: &Data,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute(
            "INSERT OR REPLACE INTO first_boot (project_root, unit, step, data, at) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                project_root.as_os_str().as_bytes(),
                unit.as_str(),
                step,
                serde_json::json!(data).to_string(),
                at.as_millisecond()
            ],
        )?;
        Ok(())
    }
}
