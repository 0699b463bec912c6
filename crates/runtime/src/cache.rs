//! The cache as a whole: what it holds, what of it may go, what of it is damaged.

use std::collections::BTreeMap;
use std::path::PathBuf;

use setpoint_model::digest::Digest;

use crate::engine::{Engine, EngineError};
use crate::paths::Roots;
use crate::pipeline::{sweep_engine, sweep_snapshots};
use crate::remove::remove_tree;
use crate::snapshot::Snapshots;
use crate::source::SourceStore;
use crate::store::StoreError;
use crate::store::cache::{Bounds, CacheDb, Evicted, ResultRow};

/// The cache of a state root.
pub struct Cache {
    roots: Roots,
    engines: Vec<Box<dyn Engine>>,
    records: CacheDb,
    snapshots: Snapshots,
}

/// A result, with the room that it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its record.
    pub row: ResultRow,
    /// The bytes of its own layer, if somebody has counted; those that it lies on are others' own.
    pub bytes: Option<u64>,
    /// How many files its own layer has.
    pub files: Option<u64>,
}

/// A folder that steps share from run to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedFolder {
    /// Its name among the others, by which its path inside can be told.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
}

/// A snapshot that is not what it was, or not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Its id.
    pub layer: Digest,
    /// What is wrong with it.
    pub what: String,
    /// How many results lay on it, which were forgotten.
    pub results: usize,
}

/// What keeps the cache from being looked at.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The records or the snapshots could not be read or changed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An engine that keeps a part of the snapshots could not be asked.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Cache {
    /// Opens the cache, of which these engines may keep a part.
    ///
    /// # Errors
    /// [`StoreError`] if its records cannot be opened.
    pub fn open(roots: &Roots, engines: Vec<Box<dyn Engine>>) -> Result<Self, StoreError> {
        let (records, snapshots) = (CacheDb::open(roots)?, Snapshots::new(roots));
        Ok(Self { roots: roots.clone(), engines, records, snapshots })
    }

    /// Removes what engines keep for snapshots that are no more, and gives what kept one of them from it: an engine that
    /// is not there now is asked again the next time.
    pub fn sweep_engines(&self) -> Vec<EngineError> {
        let swept = self.engines.iter().map(|one| sweep_engine(&self.roots, one.as_ref(), &self.snapshots));
        swept.filter_map(Result::err).collect()
    }

    /// The records, to look up what steps had as keys.
    #[must_use]
    pub fn records(&self) -> &CacheDb {
        &self.records
    }

    /// All results, the one used last first.
    ///
    /// # Errors
    /// [`StoreError`] if the records cannot be read.
    pub fn kept(&self) -> Result<Vec<Kept>, StoreError> {
        let layers: BTreeMap<Digest, _> =
            self.records.layers()?.into_iter().map(|layer| (layer.id, layer)).collect();
        let kept = |row: ResultRow| match layers.get(&row.id) {
            Some(layer) => Kept { row, bytes: layer.bytes, files: layer.files },
            None => Kept { row, bytes: Some(0), files: Some(0) },
        };
        Ok(self.records.results()?.into_iter().map(kept).collect())
    }

    /// The folders that steps share from run to run.
    #[must_use]
    pub fn shared_folders(&self) -> Vec<SharedFolder> {
        let entries = std::fs::read_dir(self.roots.state.join("cache_dirs/v1"));
        let mut folders: Vec<_> = entries
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .map(|entry| SharedFolder {
                name: entry.file_name().to_string_lossy().into_owned(),
                path: entry.path(),
            })
            .collect();
        folders.sort_by(|a, b| a.name.cmp(&b.name));
        folders
    }

    /// Forgets what is out of bounds and not in use, and removes it.
    ///
    /// # Errors
    /// [`StoreError`] if the records or the snapshots cannot be changed.
    pub fn prune(&mut self, bounds: Bounds) -> Result<Evicted, StoreError> {
        let evicted = self.records.write(|writer| writer.evict(bounds))?;
        sweep_snapshots(&mut self.records, &self.snapshots)?;
        Ok(evicted)
    }

    /// Forgets everything that is not in use, and removes it, copies of sources included.
    ///
    /// # Errors
    /// [`StoreError`] if the records or the snapshots cannot be changed.
    pub fn clean(&mut self) -> Result<Evicted, StoreError> {
        let evicted = self.records.write(|writer| writer.evict_all())?;
        sweep_snapshots(&mut self.records, &self.snapshots)?;
        // What cannot be removed now is in use.
        let _ = SourceStore::new(&self.roots).collect(0, std::time::Duration::ZERO);
        Ok(evicted)
    }

    /// The copies of sources that are kept, and the bytes that they were made of.
    #[must_use]
    pub fn sources(&self) -> (usize, u64) {
        let usage = SourceStore::new(&self.roots).usage();
        (usage.len(), usage.iter().map(|tree| tree.bytes).max().unwrap_or(0))
    }

    /// Empties the folders that steps share from run to run. Whoever uses one now loses what is in it.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub fn clean_shared_folders(&self) -> std::io::Result<usize> {
        let folders = self.shared_folders();
        folders.iter().try_for_each(|folder| remove_tree(&folder.path))?;
        Ok(folders.len())
    }

    /// Whether every engine still has what it keeps of a snapshot.
    fn is_whole(&self, id: Digest) -> Result<bool, EngineError> {
        let path = self.snapshots.path(id);
        for engine in &self.engines {
            if engine.kept_elsewhere(&path)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Looks at every snapshot, and forgets those that are damaged with all that lies on them.
    ///
    /// # Errors
    /// [`CacheError`] if the records or the snapshots cannot be changed, or what engines keep of them not be looked at.
    pub fn verify(&mut self) -> Result<(usize, Vec<Damage>), CacheError> {
        let layers = self.records.layers()?;
        let mut damages = Vec::new();
        for layer in &layers {
            let what = match self.snapshots.size(layer.id) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => "it is not there".to_owned(),
                Err(error) => format!("it cannot be read: {error}"),
                Ok(size) if layer.shape.is_some_and(|shape| shape != size.shape) => {
                    "its files are not those that it had".to_owned()
                }
                Ok(_) if !self.is_whole(layer.id)? => "what an engine kept of it is not there".to_owned(),
                Ok(_) => continue,
            };
            let results = self.records.write(|writer| writer.forget_layer(layer.id))?;
            damages.push(Damage { layer: layer.id, what, results });
        }
        sweep_snapshots(&mut self.records, &self.snapshots)?;
        Ok((layers.len(), damages))
    }
}
