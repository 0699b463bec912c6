//! What is kept of an instance beside the engine while it is set aside: its record, how it is kept running, and the files
//! that it was given.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use setpoint_model::names::UnitName;

use crate::engine::{Engine, EngineError, UnitId};
use crate::failpoints;
use crate::paths::Roots;
use crate::reconciler;
use crate::secrets::Secrets;
use crate::store::{self, Store};

use super::UpgradeError;

/// A unit of which instances are set aside and put back.
pub(super) struct Aside<'a> {
    pub(super) roots: &'a Roots,
    pub(super) engine: &'a dyn Engine,
    pub(super) root: &'a Path,
    pub(super) unit: &'a UnitName,
}

impl Aside<'_> {
    fn id(&self) -> UnitId {
        UnitId::new(self.root, self.unit)
    }

    fn row(&self, store: &Store) -> Result<Option<store::Unit>, UpgradeError> {
        Ok(store.unit(self.root, self.unit)?)
    }

    /// Sets the instance that is there, and does not run, aside.
    pub(super) fn set(&self, store: &mut Store, generation: u64) -> Result<(), UpgradeError> {
        if let Some(row) = self.row(store)? {
            let records = store.recorded(row.id)?;
            let intent = store.kept(row.id)?.map(|kept| kept.intent);
            let what = store::Aside { instance: row.unit.instance, records, intent };
            store.write(|writer| writer.put_aside(row.id, generation, &what))?;
        }
        failpoints::at("set-aside.noted");
        self.engine.set_aside(&self.id(), generation)?;
        failpoints::at("set-aside.moved");
        self.move_files(&self.files(), &self.files_of(generation))
    }

    /// Whether anything was set aside as the one of this generation, or was about to be.
    pub(super) fn is_there(&self, store: &Store, generation: u64) -> Result<bool, UpgradeError> {
        let recorded = match self.row(store)? {
            Some(row) => store.aside(row.id, generation)?.is_some(),
            None => false,
        };
        Ok(recorded || self.is_on_engine(generation)?)
    }

    pub(super) fn is_on_engine(&self, generation: u64) -> Result<bool, UpgradeError> {
        Ok(self.engine.set_aside_of(&self.id())?.contains(&generation))
    }

    /// Puts the instance of a generation in its place, which is free, with all that was kept beside it.
    pub(super) fn put_back(&self, store: &mut Store, generation: u64) -> Result<(), UpgradeError> {
        self.engine.put_back(&self.id(), generation)?;
        failpoints::at("put-back.moved");
        let files = self.files_of(generation);
        if files.exists() {
            remove_folder(&self.files())?;
            self.move_files(&files, &self.files())?;
        }
        failpoints::at("put-back.unnoted");
        let Some(row) = self.row(store)? else { return Ok(()) };
        let Some(aside) = store.aside(row.id, generation)? else { return Ok(()) };
        store.write(|writer| {
            writer.replace_records(row.id, aside.instance.as_deref(), &aside.records, Timestamp::now())?;
            reconciler::put_wish(writer, row.id, aside.intent.as_ref())?;
            writer.forget_aside(row.id, generation)
        })?;
        Ok(())
    }

    /// Removes the instance of a generation, with all that was kept beside it.
    pub(super) fn remove(&self, store: &mut Store, generation: u64) -> Result<(), UpgradeError> {
        self.engine.remove_aside(&self.id(), generation)?;
        remove_folder(&self.files_of(generation))?;
        if let Some(row) = self.row(store)? {
            store.write(|writer| writer.forget_aside(row.id, generation))?;
        }
        Ok(())
    }

    /// The files that the instance in its place was given.
    fn files(&self) -> PathBuf {
        Secrets::new(self.roots, self.root).unit_folder(&self.id())
    }

    fn files_of(&self, generation: u64) -> PathBuf {
        let files = self.files();
        let name = files.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.with_file_name(format!("{name}.{generation}"))
    }

    fn move_files(&self, from: &Path, to: &Path) -> Result<(), UpgradeError> {
        match fs::rename(from, to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(EngineError::io("move", from)(error).into())
            }
            _ => Ok(()),
        }
    }
}

fn remove_folder(path: &Path) -> Result<(), UpgradeError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(EngineError::io("remove", path)(error).into())
        }
        _ => Ok(()),
    }
}

/// Removes all that is set aside of a unit, which is about to go itself.
///
/// # Errors
/// If something of it cannot be removed.
pub fn remove_all(
    roots: &Roots,
    engine: &dyn Engine,
    store: &mut Store,
    root: &Path,
    unit: &UnitName,
) -> Result<(), UpgradeError> {
    let aside = Aside { roots, engine, root, unit };
    for generation in engine.set_aside_of(&aside.id())? {
        aside.remove(store, generation)?;
    }
    Ok(())
}
