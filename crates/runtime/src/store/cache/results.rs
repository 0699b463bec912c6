//! Results and the layers that they lie on.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, params};
use setpoint_model::digest::Digest;
use setpoint_model::names::{PipelineName, StepName};

use super::super::{StoreError, digest_at, milliseconds, nonsense, time_at, took_at};
use super::{CacheDb, CacheWriter};
use crate::snapshot::Size;

/// The layers that a result lies on, by their ids, the lowest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chains {
    /// Of its file system.
    pub system: Vec<Digest>,
    /// Of its workspace.
    pub workspace: Vec<Digest>,
}

/// A result that is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewResult {
    /// Its id.
    pub id: Digest,
    /// The key that leads to it.
    pub key: Digest,
    /// The project, as its runs are kept under.
    pub project: String,
    /// The pipeline that it was made in.
    pub pipeline: PipelineName,
    /// The step that made it.
    pub step: StepName,
    /// The number of the run that made it.
    pub run: u64,
    /// How long that took.
    pub took: Duration,
    /// What it lies on; layers that are not known yet are its own.
    pub chains: Chains,
}

/// A recorded result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultRow {
    /// Its id.
    pub id: Digest,
    /// The key that leads to it, or led.
    pub key: Digest,
    /// Whether the key leads to it still.
    pub current: bool,
    /// The project that made it.
    pub project: String,
    /// The pipeline that it was made in.
    pub pipeline: PipelineName,
    /// The step that made it.
    pub step: StepName,
    /// The number of the run that made it.
    pub run: u64,
    /// When it was made.
    pub made_at: Timestamp,
    /// How long that took.
    pub took: Duration,
    /// When it was used last.
    pub used_at: Timestamp,
}

/// A recorded layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRow {
    /// Its id, which names its folder.
    pub id: Digest,
    /// The bytes of its files, if somebody has counted.
    pub bytes: Option<u64>,
    /// How many files it has, if somebody has counted.
    pub files: Option<u64>,
    /// The digest of their names, sizes and times, if somebody has counted.
    pub shape: Option<Digest>,
}

const COLUMNS: &str = "id, key, current, project, pipeline, step, run, made_at, took, used_at";

impl CacheWriter<'_> {
    /// The current result of a key, if it is not older than that. It counts as used now, and so is leased by every
    /// run that goes on.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be read or written.
    pub fn take(&self, key: Digest, not_before: Option<Timestamp>) -> Result<Option<ResultRow>, StoreError> {
        let found = self.find(key)?;
        let Some(found) = found.filter(|row| not_before.is_none_or(|limit| row.made_at >= limit)) else {
            return Ok(None);
        };
        let used = self.next_use()?;
        self.sql(|sql| {
            sql.prepare_cached("UPDATE results SET used_at = ?2, used = ?3 WHERE id = ?1")?.execute(params![
                found.id.as_bytes(),
                self.now.as_millisecond(),
                used
            ])
        })?;
        Ok(Some(found))
    }

    /// As [`CacheWriter::take`], if every layer of its own is there. Where one has vanished, all that lies on it is
    /// forgotten.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be read or written.
    pub fn take_whole(
        &self,
        key: Digest,
        not_before: Option<Timestamp>,
        is_there: impl Fn(Digest) -> bool,
    ) -> Result<Option<ResultRow>, StoreError> {
        let Some(found) = self.take(key, not_before)? else { return Ok(None) };
        let mut vanished = self.own_layers(found.id)?;
        vanished.retain(|layer| !is_there(*layer));
        for layer in &vanished {
            self.forget_layer(*layer)?;
        }
        Ok(vanished.is_empty().then_some(found))
    }

    /// As [`CacheWriter::find`], if every layer of its own is there.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be read.
    pub fn find_whole(
        &self,
        key: Digest,
        is_there: impl Fn(Digest) -> bool,
    ) -> Result<Option<ResultRow>, StoreError> {
        let Some(found) = self.find(key)? else { return Ok(None) };
        Ok(self.own_layers(found.id)?.into_iter().all(is_there).then_some(found))
    }

    /// The layers of a result that no other one answers for: its own, those that were made of several, and those of
    /// results that are no more.
    fn own_layers(&self, result: Digest) -> Result<Vec<Digest>, StoreError> {
        self.sql(|sql| {
            sql.prepare_cached(
                "SELECT DISTINCT layer FROM chains WHERE result = ?1
                 AND (layer = ?1 OR layer NOT IN (SELECT id FROM results))",
            )?
            .query_map([result.as_bytes()], |row| digest_at(row, 0))?
            .collect()
        })
    }

    /// Why a layer could not be moved to its place.
    #[must_use]
    pub fn not_kept(&self, path: &std::path::Path, error: std::io::Error) -> StoreError {
        StoreError::io(path, error)
    }

    /// The current result of a key, only looked at.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be read.
    pub fn find(&self, key: Digest) -> Result<Option<ResultRow>, StoreError> {
        self.sql(|sql| {
            sql.prepare_cached(&format!("SELECT {COLUMNS} FROM results WHERE key = ?1 AND current = 1"))?
                .query_row([key.as_bytes()], result_row)
                .optional()
        })
    }

    /// Records a result; its key leads to it from now on. Where it has a layer of its own, the caller moves it to
    /// its place within the same transaction.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be written.
    pub fn record(&self, new: &NewResult) -> Result<(), StoreError> {
        let used = self.next_use()?;
        let now = self.now.as_millisecond();
        self.sql(|sql| {
            sql.prepare_cached("UPDATE results SET current = 0 WHERE key = ?1 AND current = 1")?
                .execute([new.key.as_bytes()])?;
            sql.prepare_cached(
                "INSERT INTO results (id, key, current, project, pipeline, step, run, made_at, took, used_at, used)
                 VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?7, ?9)",
            )?
            .execute(params![
                new.id.as_bytes(),
                new.key.as_bytes(),
                new.project,
                new.pipeline.as_str(),
                new.step.as_str(),
                new.run.cast_signed(),
                now,
                milliseconds(new.took),
                used
            ])?;
            for (kind, layers) in [(SYSTEM, &new.chains.system), (WORKSPACE, &new.chains.workspace)] {
                for (position, layer) in layers.iter().enumerate() {
                    sql.prepare_cached("INSERT OR IGNORE INTO layers (id, boot, durable) VALUES (?1, ?2, 0)")?
                        .execute(params![layer.as_bytes(), self.boot])?;
                    sql.prepare_cached("INSERT INTO chains (result, kind, position, layer) VALUES (?1, ?2, ?3, ?4)")?
                        .execute(params![
                            new.id.as_bytes(),
                            kind,
                            i64::try_from(position).unwrap_or(i64::MAX),
                            layer.as_bytes()
                        ])?;
                }
            }
            Ok(())
        })
    }

    /// Forgets results, with everything that lies on a layer of theirs that is theirs alone to give.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be written.
    pub fn forget(&self, results: &[Digest]) -> Result<(), StoreError> {
        self.sql(|sql| {
            for result in results {
                sql.prepare_cached("DELETE FROM results WHERE id = ?1")?.execute([result.as_bytes()])?;
            }
            Ok(())
        })
    }

    /// Forgets everything that lies on a layer.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be written.
    pub fn forget_layer(&self, layer: Digest) -> Result<usize, StoreError> {
        self.sql(|sql| {
            sql.prepare_cached(
                "DELETE FROM results WHERE id IN (SELECT result FROM chains WHERE layer = ?1)",
            )?
            .execute([layer.as_bytes()])
        })
    }

    /// Says how large a layer is.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be written.
    pub fn counted(&self, layer: Digest, size: &Size) -> Result<(), StoreError> {
        self.sql(|sql| {
            sql.prepare_cached("UPDATE layers SET bytes = ?2, files = ?3, shape = ?4 WHERE id = ?1")?.execute(
                params![
                    layer.as_bytes(),
                    size.bytes.cast_signed(),
                    size.files.cast_signed(),
                    size.shape.as_bytes()
                ],
            )
        })?;
        Ok(())
    }

    /// The layers of which nobody has said that they are on the disk.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be read.
    pub fn not_durable(&self) -> Result<Vec<Digest>, StoreError> {
        self.sql(|sql| {
            sql.prepare("SELECT id FROM layers WHERE durable = 0")?
                .query_map([], |row| digest_at(row, 0))?
                .collect()
        })
    }

    /// Says that layers are on the disk.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be written.
    pub fn durable(&self, layers: &[Digest]) -> Result<(), StoreError> {
        self.sql(|sql| {
            let mut update = sql.prepare_cached("UPDATE layers SET durable = 1 WHERE id = ?1")?;
            layers.iter().try_for_each(|layer| update.execute([layer.as_bytes()]).map(drop))
        })
    }

    /// The layers that nobody has counted.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be read.
    pub fn uncounted(&self) -> Result<Vec<Digest>, StoreError> {
        self.sql(|sql| {
            sql.prepare("SELECT id FROM layers WHERE bytes IS NULL")?
                .query_map([], |row| digest_at(row, 0))?
                .collect()
        })
    }

    /// All layers that something lies on; the others are forgotten.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be written.
    pub fn live_layers(&self) -> Result<Vec<Digest>, StoreError> {
        self.sql(|sql| {
            sql.execute("DELETE FROM layers WHERE id NOT IN (SELECT layer FROM chains)", [])?;
            sql.prepare("SELECT id FROM layers")?.query_map([], |row| digest_at(row, 0))?.collect()
        })
    }
}

impl CacheDb {
    /// What a result lies on.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be read.
    pub fn chains(&self, result: Digest) -> Result<Chains, StoreError> {
        let read = || -> rusqlite::Result<Vec<(i64, Digest)>> {
            self.connection
                .prepare_cached("SELECT kind, layer FROM chains WHERE result = ?1 ORDER BY kind, position")?
                .query_map([result.as_bytes()], |row| Ok((row.get::<_, i64>(0)?, digest_at(row, 1)?)))?
                .collect()
        };
        let rows = read().map_err(|error| StoreError::sql(&self.path, error))?;
        let of = |wanted| rows.iter().filter(|(kind, _)| *kind == wanted).map(|(_, layer)| *layer).collect();
        Ok(Chains { system: of(SYSTEM), workspace: of(WORKSPACE) })
    }

    /// All results, the one used last first.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be read.
    pub fn results(&self) -> Result<Vec<ResultRow>, StoreError> {
        let read = || -> rusqlite::Result<Vec<ResultRow>> {
            self.connection
                .prepare(&format!("SELECT {COLUMNS} FROM results ORDER BY used DESC"))?
                .query_map([], result_row)?
                .collect()
        };
        read().map_err(|error| StoreError::sql(&self.path, error))
    }

    /// All layers.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be read.
    pub fn layers(&self) -> Result<Vec<LayerRow>, StoreError> {
        let read = || -> rusqlite::Result<Vec<LayerRow>> {
            self.connection
                .prepare("SELECT id, bytes, files, shape FROM layers")?
                .query_map([], |row| {
                    let number =
                        |at| row.get::<_, Option<i64>>(at).map(|number| number.map(i64::cast_unsigned));
                    let shape = row.get::<_, Option<[u8; 32]>>(3)?.map(Digest::from_bytes);
                    Ok(LayerRow { id: digest_at(row, 0)?, bytes: number(1)?, files: number(2)?, shape })
                })?
                .collect()
        };
        read().map_err(|error| StoreError::sql(&self.path, error))
    }
}

const SYSTEM: i64 = 0;
const WORKSPACE: i64 = 1;

fn result_row(row: &Row<'_>) -> rusqlite::Result<ResultRow> {
    let name = |at: usize| row.get::<_, String>(at);
    Ok(ResultRow {
        id: digest_at(row, 0)?,
        key: digest_at(row, 1)?,
        current: row.get(2)?,
        project: name(3)?,
        pipeline: PipelineName::new(name(4)?).map_err(|error| nonsense(4, "pipeline", error.text))?,
        step: StepName::new(name(5)?).map_err(|error| nonsense(5, "step", error.text))?,
        run: row.get::<_, i64>(6)?.cast_unsigned(),
        made_at: time_at(row, 7)?,
        took: took_at(row, 8)?,
        used_at: time_at(row, 9)?,
    })
}
