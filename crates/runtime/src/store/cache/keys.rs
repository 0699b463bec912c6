//! The keys that steps had, leaf by leaf, so that a later one can be compared with them.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};
use setpoint_model::fingerprint::Fingerprint;
use setpoint_model::names::{PipelineName, StepName};

use super::super::{StoreError, nonsense, time_at};
use super::{CacheDb, CacheWriter};
use crate::engine::LabelledLeaf;

/// The key of a step as it was last looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// When.
    pub looked_at: Timestamp,
    /// Its leaves.
    pub leaves: Fingerprint,
    /// Its leaves before they last changed.
    pub before: Option<Fingerprint>,
}

impl CacheWriter<'_> {
    /// Keeps the key that a step has now; what it was before a change is kept beside it.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be written.
    pub fn remember_key(
        &self,
        project: &str,
        pipeline: &PipelineName,
        step: &StepName,
        key: &Fingerprint,
    ) -> Result<(), StoreError> {
        let leaves = to_text(key);
        let at = params![project, pipeline.as_str(), step.as_str(), self.now.as_millisecond(), leaves];
        self.sql(|sql| {
            sql.prepare_cached(
                "INSERT INTO keys (project, pipeline, step, looked_at, leaves) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET looked_at = ?4, before = leaves, leaves = ?5 WHERE leaves <> ?5",
            )?
            .execute(at)
        })?;
        Ok(())
    }
}

impl CacheDb {
    /// The key that a step had when it was last looked up.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be read.
    pub fn key(
        &self,
        project: &str,
        pipeline: &PipelineName,
        step: &StepName,
    ) -> Result<Option<KeyRow>, StoreError> {
        self.connection
            .query_row(
                "SELECT looked_at, leaves, before FROM keys WHERE project = ?1 AND pipeline = ?2 AND step = ?3",
                params![project, pipeline.as_str(), step.as_str()],
                |row| {
                    let before = row.get::<_, Option<String>>(2)?.map(|text| from_text(2, &text)).transpose()?;
                    Ok(KeyRow {
                        looked_at: time_at(row, 0)?,
                        leaves: from_text(1, &row.get::<_, String>(1)?)?,
                        before,
                    })
                },
            )
            .optional()
            .map_err(|error| StoreError::sql(&self.path, error))
    }
}

fn to_text(key: &Fingerprint) -> String {
    let leaves: Vec<LabelledLeaf> = key.iter().map(|(key, leaf)| LabelledLeaf::new(key, leaf)).collect();
    // Texts and digests: there is nothing in it that JSON has not.
    serde_json::to_string(&leaves).unwrap_or_default()
}

fn from_text(column: usize, text: &str) -> rusqlite::Result<Fingerprint> {
    let leaves: Vec<LabelledLeaf> =
        serde_json::from_str(text).map_err(|error| nonsense(column, "list of leaves", error))?;
    Ok(leaves.iter().filter_map(LabelledLeaf::to_leaf).collect())
}
