//! The migrations that a project declares, and how they stand on its data.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use setpoint_model::manifest::Env;
use setpoint_model::names::UnitName;
use setpoint_model::release::ledger::{
    self, Applied, Data, NO_VOLUME, ON_HOST, Planned, Progress, Touched, is_volume,
};
use setpoint_model::release::migration::{self, Defaults, FOLDER, HOST, Place};
use setpoint_model::release::{Active, Lane, Migration, MigrationError, MigrationId, Upgrade, Version};
use sha2::{Digest as _, Sha256};

use super::host;
use crate::engine::{Engine, EngineError};
use crate::paths::Roots;
use crate::project::Project;
use crate::store::{LedgerOf, LedgerRow, Store, StoreError};

/// Why it cannot be told which migrations there are.
#[derive(Debug, thiserror::Error)]
pub enum MigrationsError {
    /// One is wrong, or does not belong to the data.
    #[error(transparent)]
    Bad(#[from] MigrationError),
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The state failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// The migrations that a project declares, and how they stand on its data.
#[derive(Debug, Clone, Default)]
pub struct Migrations {
    /// Each with the volumes that it touches, as they are declared, in order.
    pub declared: Vec<(Migration, Vec<String>)>,
    /// What is known of those volumes.
    pub touched: BTreeMap<String, Touched>,
    /// The ledger of the volumes that hold the data.
    pub ledger: Vec<LedgerRow>,
    baseline: Option<Version>,
}

impl Migrations {
    /// Reads them. Data lies where a generation has it; paths of the host are told as they lie there.
    ///
    /// # Errors
    /// [`MigrationsError`] if one is wrong, or it cannot be told.
    pub fn of(
        roots: &Roots,
        project: &Project,
        active: &Active,
        engine: &dyn Engine,
        store: &Store,
    ) -> Result<Self, MigrationsError> {
        let mut declared = declared(project)?;
        resolve(roots, project, engine, &mut declared)?;
        let of = LedgerOf { project_root: &project.root, engine: engine.capabilities().engine };
        let ledger = store.ledger(of)?;
        if declared.is_empty() && ledger.is_empty() {
            return Ok(Self::default());
        }
        // A version that has no migration of a volume may find that an other has.
        let volumes = project.manifest.envs.values().flat_map(Env::volumes).map(|volume| &volume.name);
        let names: BTreeSet<&String> =
            declared.iter().flat_map(|(_, touches)| touches).chain(volumes).collect();
        let host = ON_HOST.to_owned();
        let names: BTreeSet<&String> = names.into_iter().chain(active.host.as_ref().map(|_| &host)).collect();
        let held = names.iter().map(|name| active.volume(name)).filter(|name| is_volume(name));
        let ids = engine.volume_ids(&held.map(str::to_owned).collect::<Vec<_>>())?;
        let is_of = |row: &LedgerRow| match is_volume(&row.volume) {
            true => ids.get(&row.volume) == Some(&row.volume_id),
            false => row.volume == NO_VOLUME || row.volume == active.volume(ON_HOST),
        };
        let ledger: Vec<LedgerRow> = ledger.into_iter().filter(is_of).collect();
        let touched = |name: &String| {
            let held = active.volume(name);
            let rows = ledger.iter().filter(|row| row.volume == held);
            let is_there = !is_volume(name) || ids.contains_key(held);
            let version = active.version_of(name).and_then(|version| Version::parse(version).ok());
            let applied = rows.map(|row| row.applied.clone()).collect();
            (name.clone(), Touched { is_there, applied, version })
        };
        let touched = names.into_iter().map(touched).collect();
        let baseline = project.manifest.release.migrations.baseline.clone();
        Ok(Self { declared, touched, ledger, baseline })
    }

    /// The data as these migrations find it.
    #[must_use]
    pub fn data(&self, lane: Option<Lane>) -> Data<'_> {
        Data {
            volumes: self.touched.clone(),
            lane: lane.unwrap_or(Lane::Breaking),
            baseline: self.baseline.as_ref(),
        }
    }

    /// The same where a change has put data of a backup in the place of what is there.
    #[must_use]
    pub fn after(mut self, restored: &Upgrade) -> Self {
        for copy in &restored.copies {
            let has = |planned: &&Planned| planned.touches.contains(&copy.declared);
            let noted = restored.migrations.iter().filter(has).map(|planned| Applied {
                id: planned.id.clone(),
                sha256: planned.sha256.clone(),
                progress: Progress::Covered,
            });
            let version = restored.to.version_of(&copy.declared);
            let version = version.and_then(|version| Version::parse(version).ok());
            let touched = Touched { is_there: true, applied: noted.collect(), version };
            self.touched.insert(copy.declared.clone(), touched);
        }
        self
    }

    /// Whether a volume is there that is declared by this name, as far as one of them touches it.
    pub(super) fn is_there(&self, volume: &str) -> bool {
        self.touched.get(volume).is_some_and(|of| of.is_there)
    }

    /// What is to be done, in order.
    ///
    /// # Errors
    /// Why what was applied and what is declared do not belong together.
    pub fn due(&self, lane: Option<Lane>) -> Result<Vec<Planned>, MigrationError> {
        ledger::due(&self.declared, &self.data(lane))
    }
}

/// Whether a project may have migrations: none is read.
#[must_use]
pub fn may_migrate(project: &Project) -> bool {
    project.files.join(FOLDER).is_dir()
}

/// The migrations of a project, in order, each with the volumes that it touches, as they are declared.
pub(crate) fn declared(project: &Project) -> Result<Vec<(Migration, Vec<String>)>, MigrationsError> {
    let all = all(&project.files, &project.manifest.release.migrations)?.into_iter();
    all.map(|migration| touches(project, &migration).map(|touches| (migration, touches)).map_err(Into::into))
        .collect()
}

/// What the migrations below a folder would run on the host, in words.
pub(crate) fn on_host(folder: &Path, defaults: &Defaults) -> Result<Vec<String>, MigrationsError> {
    let words = |migration: &Migration| match &migration.r#in {
        Place::Service(_) => None,
        Place::Host { paths } => {
            let texts = [Some(&migration.path), migration.down.as_ref().map(|down| &down.path)];
            let texts: Vec<&str> = texts.into_iter().flatten().map(String::as_str).collect();
            let (id, texts, paths) = (&migration.id, texts.join(" and "), paths.join(", "));
            Some(format!("migration {id}: {texts}, which change {paths}"))
        }
    };
    Ok(all(folder, defaults)?.iter().filter_map(words).collect())
}

/// The migrations below a folder, in order, each with what takes it back.
fn all(folder: &Path, defaults: &Defaults) -> Result<Vec<Migration>, MigrationsError> {
    let mut found: Vec<Migration> = Vec::new();
    // What takes one back comes after it.
    let mut files = files(folder)?;
    files.sort_by_key(|(_, file)| file.is_down);
    for (path, file) in &files {
        let (text, sha256) = read(&file.at)?;
        if !file.is_down {
            found.extend(Migration::parse(path, &text, sha256, defaults)?);
            continue;
        }
        let own = found.iter_mut().find(|migration| migration.id == file.id);
        let own = own.ok_or_else(|| MigrationError::Path {
            path: path.clone(),
            why: "there is no migration beside it that it takes back".to_owned(),
        })?;
        own.add_down(path, &text, sha256, defaults)?;
    }
    found.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(found)
}

/// Says of paths of the host where they lie.
fn resolve(
    roots: &Roots,
    project: &Project,
    engine: &dyn Engine,
    declared: &mut [(Migration, Vec<String>)],
) -> Result<(), MigrationsError> {
    let mut kept_out: Option<Vec<PathBuf>> = None;
    for (migration, _) in declared {
        let id = migration.id.to_string();
        let Place::Host { paths } = &mut migration.r#in else { continue };
        let kept_out = match &kept_out {
            Some(known) => known,
            None => {
                let own = [Some(roots.state.clone()), Some(roots.config.clone()), engine.host()?.data];
                let real = |own: PathBuf| own.canonicalize().unwrap_or(own);
                kept_out.insert(own.into_iter().flatten().map(real).collect())
            }
        };
        for path in paths {
            let wrong = |why| MigrationError::HostPath { id: id.clone(), path: path.clone(), why };
            *path = host::resolved(path, &project.root, kept_out).map_err(wrong)?;
        }
    }
    Ok(())
}

/// A file of a migration.
struct File {
    id: MigrationId,
    is_down: bool,
    at: PathBuf,
}

/// The files of migrations below a folder, by their paths from it.
fn files(of: &Path) -> Result<Vec<(String, File)>, MigrationsError> {
    let mut found = Vec::new();
    for (version, folder) in entries(&of.join(FOLDER))? {
        if Version::parse(&version).is_err() || !folder.is_dir() {
            continue;
        }
        for (name, at) in entries(&folder)? {
            let path = format!("{FOLDER}/{version}/{name}");
            let said = migration::File::of(&path)?.map(|said| (said.id, said.is_down));
            found.extend(said.map(|(id, is_down)| (path, File { id, is_down, at })));
        }
    }
    Ok(found)
}

/// What is in a folder, by name; nothing if it is not there.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, MigrationsError> {
    let failed = |source| MigrationsError::Io { path: folder.to_owned(), source };
    let read = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        read => read.map_err(failed)?,
    };
    let named = |entry: io::Result<fs::DirEntry>| {
        entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
    };
    read.map(named).collect::<io::Result<_>>().map_err(failed)
}

/// A text, and its SHA-256 in hex.
fn read(file: &Path) -> Result<(String, String), MigrationsError> {
    let bytes = fs::read(file).map_err(|source| MigrationsError::Io { path: file.to_owned(), source })?;
    let sha256 = format!("{:x}", Sha256::digest(&bytes));
    let text = String::from_utf8(bytes).map_err(|error| {
        let source = io::Error::new(io::ErrorKind::InvalidData, error.utf8_error());
        MigrationsError::Io { path: file.to_owned(), source }
    })?;
    Ok((text, sha256))
}

/// A migration as it was planned, and the text that is run: its own, or that of what takes it back.
pub(super) fn planned(
    project: &Project,
    planned: &Planned,
    is_down: bool,
) -> Result<(Migration, String), String> {
    let words = |error: MigrationsError| error.to_string();
    let migrations = all(&project.files, &project.manifest.release.migrations).map_err(words)?;
    let found = migrations.into_iter().find(|migration| migration.id == planned.id);
    let file = files(&project.files).map_err(words)?.into_iter();
    let mut file = file.filter(|(_, file)| file.id == planned.id && file.is_down == is_down);
    let (Some(migration), Some((path, file))) = (found, file.next()) else {
        return Err("it is not there any more".to_owned());
    };
    let (text, sha256) = read(&file.at).map_err(words)?;
    match sha256 == planned.sha256 {
        true => Ok((migration, text)),
        false => Err(format!("{path} was edited meanwhile")),
    }
}

/// The volumes that a migration touches, as they are declared.
fn touches(project: &Project, migration: &Migration) -> Result<Vec<String>, MigrationError> {
    let envs = &project.manifest.envs;
    let nameless = |what: String, known: Vec<String>| MigrationError::Nameless {
        id: migration.id.to_string(),
        what,
        known: known.join(", "),
    };
    let services = || envs.values().filter(|env| env.is_service()).map(|env| env.name.to_string()).collect();
    let is_service = |name: &str| envs.values().any(|env| env.is_service() && env.name.as_str() == name);
    let unit = match &migration.r#in {
        Place::Host { .. } if is_service(HOST) => {
            return Err(MigrationError::HostIsService { id: migration.id.to_string() });
        }
        Place::Host { .. } => return Ok(vec![ON_HOST.to_owned()]),
        Place::Service(unit) => unit,
    };
    if !is_service(unit.as_str()) {
        return Err(nameless(format!("the service {unit}"), services()));
    }
    let of = |name: &UnitName| envs.get(name).and_then(|env| env.service.as_ref());
    let mut found = BTreeSet::new();
    match &migration.touches {
        Some(named) => {
            let known: BTreeSet<&String> =
                envs.values().flat_map(Env::volumes).map(|volume| &volume.name).collect();
            let prefix = format!("{}_", project.manifest.project.name);
            for name in named {
                let full = format!("{prefix}{name}");
                let is = known.iter().find(|volume| **volume == name || **volume == &full);
                let shown = || known.iter().map(|name| name.trim_start_matches(&prefix).to_owned()).collect();
                found.insert((**is.ok_or_else(|| nameless(format!("the volume {name}"), shown()))?).clone());
            }
        }
        None => {
            let mut left = vec![unit];
            let mut met = BTreeSet::new();
            while let Some(name) = left.pop() {
                if let (true, Some(service)) = (met.insert(name), of(name)) {
                    found.extend(service.volumes.iter().map(|volume| volume.name.clone()));
                    left.extend(service.depends_on.keys());
                }
            }
        }
    }
    if found.is_empty() {
        found.insert(NO_VOLUME.to_owned());
    }
    Ok(found.into_iter().collect())
}
