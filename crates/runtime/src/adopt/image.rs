//! The images of containers that were taken over, where no registry has them: the tag may be built anew and the image
//! removed, and nothing would lead back to what ran. Each is kept in an archive that can be declared as an image.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use setpoint_model::manifest::Base;

use crate::cancel::Cancel;
use crate::engine::{BaseSource, Engine, EngineError, UnitId};
use crate::events::{Event, Watcher};
use crate::failpoints;
use crate::paths::{Roots, sync_folder};

const FOLDER: &str = "adopted/images/v1";
/// How the names begin of what is not whole.
const MAKING: &str = ".making-";
/// How long a waiter sleeps before it tries again.
const RETRY: Duration = Duration::from_millis(20);

/// The images of containers that were taken over: an archive for each image, by its id, and for each unit that ran on it
/// a link there.
pub struct KeptImages {
    folder: PathBuf,
}

impl KeptImages {
    /// Those of a state.
    #[must_use]
    pub fn of(roots: &Roots) -> Self {
        Self { folder: roots.state.join(FOLDER) }
    }

    /// The archive of the image that a unit ran on when it was taken over; nothing if none is kept.
    #[must_use]
    pub fn archive(&self, unit: &UnitId) -> Option<PathBuf> {
        let archive = self.folder.join(fs::read_link(self.link(unit)).ok()?);
        archive.is_file().then_some(archive)
    }

    /// Keeps the image of a unit, by its id on the engine, if no registry has it. Gives the archive.
    ///
    /// # Errors
    /// If it cannot be saved; then nothing is kept.
    pub(super) fn keep(
        &self,
        engine: &dyn Engine,
        unit: &UnitId,
        image: &str,
        watcher: &dyn Watcher,
        cancel: &Cancel,
    ) -> Result<Option<PathBuf>, EngineError> {
        let base = BaseSource::Image { reference: image.to_owned() };
        // What a registry has is found by its digest again.
        if engine.image(&base)?.is_none_or(|facts| !facts.digests.is_empty()) {
            self.remove(unit)?;
            return Ok(None);
        }
        let _lock = self.lock(cancel)?;
        let name = format!("{}.tar", image.rsplit(':').next().unwrap_or(image));
        let (archive, link) = (self.folder.join(&name), self.link(unit));
        if !archive.is_file() {
            let file = tempfile::Builder::new()
                .prefix(MAKING)
                .tempfile_in(&self.folder)
                .map_err(EngineError::io("write in", &self.folder))?;
            let (phase, detail, began) = ("image".to_owned(), format!("save {image}"), Instant::now());
            watcher.event(&Event::Began { phase: phase.clone(), detail: detail.clone() });
            if let Err(error) = engine.save(&base, file.path(), cancel) {
                let (how, took) = (error.to_string(), began.elapsed());
                watcher.event(&Event::Failed { phase, detail, how, took });
                return Err(error);
            }
            failpoints::at("adopt.image-saved");
            let kept = file.as_file().sync_all().and_then(|()| Ok(file.persist(&archive)?));
            kept.map_err(EngineError::io("write", &archive))?;
            watcher.event(&Event::Done { phase, detail, took: began.elapsed() });
        }
        let making = self.folder.join(format!("{MAKING}link"));
        symlink(name, &making)
            .and_then(|()| fs::rename(&making, &link))
            .and_then(|()| sync_folder(&self.folder))
            .map_err(EngineError::io("write", &link))?;
        self.tidy()?;
        Ok(Some(archive))
    }

    /// Forgets what a unit ran on, unless it is declared on that by now. The archive goes, too, if nobody else ran on it.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn forget(&self, unit: &UnitId, declared: &Base) -> Result<(), EngineError> {
        match (declared, self.archive(unit)) {
            (Base::Image { reference }, Some(archive)) if Path::new(reference) == archive => Ok(()),
            _ => self.remove(unit),
        }
    }

    fn remove(&self, unit: &UnitId) -> Result<(), EngineError> {
        let link = self.link(unit);
        if link.symlink_metadata().is_err() {
            return Ok(());
        }
        let _lock = self.lock(&Cancel::default())?;
        fs::remove_file(&link).map_err(EngineError::io("remove", &link))?;
        self.tidy()
    }

    fn link(&self, unit: &UnitId) -> PathBuf {
        self.folder.join(unit.as_str())
    }

    /// One process at a time adds or removes; what one that died was at is removed. Whoever waits can be stopped.
    fn lock(&self, cancel: &Cancel) -> Result<File, EngineError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        let locked = made.and_then(|()| {
            let file = File::create(self.folder.join(".lock"))?;
            loop {
                match file.try_lock() {
                    Ok(()) => return Ok(file),
                    Err(TryLockError::WouldBlock) if cancel.asked() => {
                        return Err(io::ErrorKind::Interrupted.into());
                    }
                    Err(TryLockError::WouldBlock) => std::thread::sleep(RETRY),
                    Err(TryLockError::Error(error)) => return Err(error),
                }
            }
        });
        let lock = locked.map_err(EngineError::io("lock", &self.folder))?;
        self.tidy()?;
        Ok(lock)
    }

    /// Removes what is not whole, and archives that no unit's link leads to. The lock is held.
    fn tidy(&self) -> Result<(), EngineError> {
        let entries = fs::read_dir(&self.folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.map_err(EngineError::io("read", &self.folder))?;
        let paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
        let needed: Vec<PathBuf> = paths
            .iter()
            .filter_map(|path| fs::read_link(path).ok())
            .map(|name| self.folder.join(name))
            .collect();
        let is_left = |path: &&PathBuf| {
            let is_making = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(MAKING.as_bytes());
            let is_archive = path.extension().is_some_and(|ending| ending == "tar");
            path.file_name().is_some_and(is_making) || (is_archive && !needed.contains(path))
        };
        let remove = |path: &Path| fs::remove_file(path).map_err(EngineError::io("remove", path));
        paths.iter().filter(is_left).try_for_each(|path| remove(path))
    }
}
