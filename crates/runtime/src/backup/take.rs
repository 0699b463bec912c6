//! Making a backup: commands of services write their data; volumes are copied while those who write to them are stopped,
//! and their copies are read once they run again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use setpoint_model::backup::{Contents, FORMAT, OfUnit, Part, What, name, volume_name};
use setpoint_model::names::UnitName;
use setpoint_model::release::Repository;
use setpoint_model::release::ledger::Applied;

use super::command;
use super::copies::{Copied, Copier, Wanted};
use super::document;
use super::error::BackupError;
use super::folder::{self, Folder, New};
use super::part::{self, Written};
use super::passing::Passing;
use super::place::{Address, Listed, Opened, Place, at};
use crate::artifact::DOCUMENT;
use crate::engine::{Engine, Seen};
use crate::events::{Event, Watcher};
use crate::failpoints;
use crate::image::sha256_of;
use crate::observe::{Look, Unit};
use crate::project::Project;
use crate::release::Registry;
use crate::store::LedgerRow;

/// What the copy of a volume is called that is there while a backup is made.
const COPY: &str = "backup";

/// Who backs up what.
pub struct Taking<'a> {
    /// Where state lies, and who hears of it.
    pub registry: Registry<'a>,
    /// The project.
    pub project: &'a Project,
    /// The engine that holds it.
    pub engine: &'a dyn Engine,
    /// All of its services, each after what it depends on.
    pub units: &'a [(Unit<'a>, Look)],
    /// The service whose data it is; nothing is all of them.
    pub of: Option<&'a UnitName>,
    /// What was applied to its volumes.
    pub ledger: &'a [LedgerRow],
}

/// What there is to back up.
pub struct Plan<'a> {
    /// The services whose own commands write their data.
    dumps: Vec<&'a Unit<'a>>,
    volumes: Vec<Volume<'a>>,
    /// What is not in it, in words.
    pub left_out: Vec<String>,
}

/// A volume that is backed up.
struct Volume<'a> {
    /// As it is declared.
    declared: &'a str,
    /// The one that holds its data.
    held: String,
    id: String,
    /// The services that have it.
    units: Vec<&'a Unit<'a>>,
}

/// A part that was taken, of a backup that is not there yet.
struct Taken {
    what: What,
    units: Vec<UnitName>,
    migrations: Vec<Applied>,
    new: New,
}

/// A backup that was made.
pub struct Made {
    /// The backup.
    pub opened: Opened,
    /// How many bytes of it were there already.
    pub shared: u64,
    /// How long services were stopped for it, and which.
    pub pause: Duration,
    /// See `pause`.
    pub stopped: Vec<UnitName>,
}

impl<'a> Taking<'a> {
    /// What there is to back up.
    ///
    /// # Errors
    /// If there is nothing, or a service that has to run does not.
    pub fn plan(&self) -> Result<Plan<'a>, BackupError> {
        let mut plan = Plan { dumps: Vec::new(), volumes: Vec::new(), left_out: Vec::new() };
        let mut met = BTreeSet::new();
        for (unit, look) in self.units {
            let Some(of) = &unit.env.service else { continue };
            if self.of.is_some_and(|name| *name != unit.env.name) {
                continue;
            }
            let name = &unit.env.name;
            if of.backup.is_some() {
                if !matches!(look.seen, Seen::Running(_)) {
                    return Err(BackupError::NotRunning { unit: name.clone() });
                }
                plan.dumps.push(unit);
                continue;
            }
            for volume in &of.volumes {
                if !met.insert(&volume.name) {
                    continue;
                }
                if volume.external {
                    plan.left_out.push(format!("the volume {}, which is external", volume.name));
                    continue;
                }
                let held = self.project.active.volume(&volume.name).to_owned();
                let Some(id) = self.engine.volume_ids(std::slice::from_ref(&held))?.remove(&held) else {
                    plan.left_out.push(format!("the volume {}, which is not there yet", volume.name));
                    continue;
                };
                let has = |unit: &Unit<'_>| unit.env.volumes().any(|other| other.name == volume.name);
                let units = self.units.iter().map(|(unit, _)| unit).filter(|unit| has(unit)).collect();
                plan.volumes.push(Volume { declared: &volume.name, held, id, units });
            }
        }
        if plan.dumps.is_empty() && plan.volumes.is_empty() {
            let project = &self.project.manifest.project.name;
            let of = self.of.map_or_else(|| project.to_string(), ToString::to_string);
            return Err(BackupError::NoData { of });
        }
        Ok(plan)
    }

    /// Makes the backup. The caller holds the project's lock, and has put in order what an earlier one left.
    ///
    /// # Errors
    /// [`BackupError`]; then nothing of it is listed anywhere, and what was stopped runs again.
    pub fn take(&self, plan: &Plan<'a>, to: &Address) -> Result<Made, BackupError> {
        let mut passing = Passing::begin(self.registry.roots, &self.project.root, self.engine)?;
        let made = self.taken(plan, to, &mut passing);
        // What cannot be removed now is removed by the next command; why the backup failed says more.
        let ended = passing.end(self.engine);
        let made = made?;
        ended?;
        Ok(made)
    }

    fn taken(&self, plan: &Plan<'a>, to: &Address, passing: &mut Passing) -> Result<Made, BackupError> {
        // What can be wrong with the place is found before anything is stopped.
        let target = Target::open(self, to, passing)?;
        let blobs = target.blobs();
        let mut parts = Vec::new();
        for unit in &plan.dumps {
            let file = folder::unfinished(&blobs)?;
            let commands = unit.env.service.as_ref().and_then(|of| of.backup.as_ref());
            let Some(commands) = commands else { continue };
            let written = self.told("run", &format!("the backup of {}", unit.env.name), |heard| {
                command::dump(unit, commands, &file, heard, self.registry.cancel)
            })?;
            let volumes = unit.env.volumes();
            let held = volumes.map(|volume| self.project.active.volume(&volume.name));
            let (units, migrations) = (vec![unit.env.name.clone()], self.migrations(held));
            parts.push(Taken { what: What::Dump, units, migrations, new: New { file, written } });
        }
        let wanted = plan.volumes.iter().map(|volume| Wanted {
            held: volume.held.clone(),
            to: copy_of(&volume.held),
            units: volume.units.clone(),
        });
        let Copied { pause, stopped } = self.copier().copy(&wanted.collect::<Vec<_>>(), passing)?;
        failpoints::at("backup.started");
        for volume in &plan.volumes {
            let file = folder::unfinished(&blobs)?;
            let called = volume_name(self.project.manifest.project.name.as_str(), volume.declared).to_owned();
            let written = self.told("read", &volume.held, |heard| {
                let unit = volume.units[0];
                let mut archive = self.engine.read_volume(&unit.id, &unit.base()?, &copy_of(&volume.held))?;
                let to = (file.as_file(), file.path());
                part::store(&mut archive, Some(&called), to, heard, self.registry.cancel)
            })?;
            let Some(tree) = &written.tree else { continue };
            let what = What::Volume {
                volume: called,
                id: volume.id.clone(),
                tree: tree.digest.clone(),
                files: tree.files,
            };
            let units = volume.units.iter().map(|unit| unit.env.name.clone()).collect();
            let migrations = self.migrations([volume.held.as_str()]);
            parts.push(Taken { what, units, migrations, new: New { file, written } });
        }
        failpoints::at("backup.read");
        if self.registry.cancel.asked() {
            return Err(BackupError::Cancelled);
        }
        let (opened, shared) = target.add(self, to, parts)?;
        Ok(Made { opened, shared, pause, stopped })
    }

    fn copier(&self) -> Copier<'_> {
        let Registry { roots, watcher, cancel, .. } = self.registry;
        let place = crate::upgrade::Place { roots, engine: self.engine, watcher, cancel };
        Copier { place, root: &self.project.root, units: self.units, what: "setpoint backup" }
    }

    fn told<T>(
        &self,
        phase: &str,
        detail: &str,
        act: impl FnOnce(&dyn Fn(u64)) -> Result<T, BackupError>,
    ) -> Result<T, BackupError> {
        tell(self.registry.watcher, phase, detail, act)
    }

    /// The migrations that the data of volumes has.
    fn migrations<'v>(&self, held: impl IntoIterator<Item = &'v str>) -> Vec<Applied> {
        let held: BTreeSet<&str> = held.into_iter().collect();
        let rows = self.ledger.iter().filter(|row| held.contains(row.volume.as_str()));
        let ended = rows.map(|row| &row.applied).filter(|of| of.progress.is_over());
        let by_id: BTreeMap<_, _> = ended.map(|applied| (&applied.id, applied)).collect();
        by_id.into_values().cloned().collect()
    }

    /// What is told of the services whose data it is.
    fn of_units(&self, parts: &[Part]) -> BTreeMap<UnitName, OfUnit> {
        let names: BTreeSet<&UnitName> = parts.iter().flat_map(|part| &part.units).collect();
        let units = self.units.iter().filter(|(unit, _)| names.contains(&unit.env.name));
        let told = |(unit, look): &(Unit<'_>, Look)| {
            let of = OfUnit {
                image: look.made_of(),
                first_boot: look.recorded.first_boot.keys().cloned().collect(),
            };
            (unit.env.name.clone(), of)
        };
        units.map(told).collect()
    }
}

/// Tells of something that takes its time.
pub(super) fn tell<T>(
    watcher: &dyn Watcher,
    phase: &str,
    detail: &str,
    act: impl FnOnce(&dyn Fn(u64)) -> Result<T, BackupError>,
) -> Result<T, BackupError> {
    let (phase, detail, began) = (phase.to_owned(), detail.to_owned(), Instant::now());
    watcher.event(&Event::Began { phase: phase.clone(), detail: detail.clone() });
    let done = act(&|done| watcher.event(&Event::Bytes { done, total: None }));
    let took = began.elapsed();
    watcher.event(&match &done {
        Ok(_) => Event::Done { phase, detail, took },
        Err(error) => Event::Failed { phase, detail, how: error.to_string(), took },
    });
    done
}

fn copy_of(held: &str) -> String {
    format!("{held}.{COPY}")
}

/// Where a backup goes to.
enum Target<'t> {
    /// A folder, to which nobody else adds meanwhile.
    Folder(Folder, &'t Path),
    /// A repository, with a folder for what is to be pushed.
    Registry(&'t Repository, PathBuf),
}

impl<'t> Target<'t> {
    /// Opens the place, and finds what can be wrong with it.
    fn open(taking: &Taking<'_>, to: &'t Address, passing: &Passing) -> Result<Self, BackupError> {
        let taken = |name: &String| Err(BackupError::Taken(name.clone()));
        match &to.place {
            Place::Folder(path) => {
                let folder = Folder::take(path, taking.registry.cancel)?;
                match &to.name {
                    Some(name) if folder.has(name)? => taken(name),
                    _ => Ok(Self::Folder(folder, path)),
                }
            }
            Place::Registry(repository) => at(&taking.registry, repository, |remote| {
                remote.to_write()?;
                // A registry that is only asked to be let in later says of any login that it is one.
                let tags = remote.tags()?;
                match &to.name {
                    Some(name) if tags.contains(name) => taken(name),
                    _ => Ok(Self::Registry(repository, passing.parts()?)),
                }
            }),
        }
    }

    /// Where its parts are written.
    fn blobs(&self) -> PathBuf {
        match self {
            Self::Folder(_, path) => folder::blobs(path),
            Self::Registry(_, parts) => parts.clone(),
        }
    }

    /// The names that are there already.
    fn names(&self, taking: &Taking<'_>) -> Result<Vec<String>, BackupError> {
        match self {
            Self::Folder(_, path) => Ok(folder::list(path)?.into_iter().map(|(name, _)| name).collect()),
            Self::Registry(repository, _) => at(&taking.registry, repository, |remote| Ok(remote.tags()?)),
        }
    }

    /// Adds the backup to its place: from then on it is there. Gives it, and how many bytes of it were there already.
    fn add(
        &self,
        taking: &Taking<'_>,
        to: &Address,
        parts: Vec<Taken>,
    ) -> Result<(Opened, u64), BackupError> {
        let (project, now) = (taking.project, Timestamp::now());
        let (mut listed, mut files) = (Vec::new(), Vec::new());
        for Taken { what, units, migrations, new } in parts {
            let Written { bytes, digest, stored, layer, .. } = &new.written;
            let (digest, layer) = (digest.clone(), layer.clone());
            listed.push(Part { what, units, migrations, bytes: *bytes, digest, stored: *stored, layer });
            files.push(new);
        }
        let contents = Contents {
            format: FORMAT,
            project: project.manifest.project.name.to_string(),
            version: project.version_in_effect().map(str::to_owned),
            generation: project.active.generation,
            at: format!("{now:.0}"),
            engine: taking.engine.capabilities().engine.to_owned(),
            units: taking.of_units(&listed),
            parts: listed,
        };
        let name = match &to.name {
            Some(name) => name.clone(),
            None => {
                let (there, time) = (self.names(taking)?, now.strftime("%Y%m%d-%H%M%S").to_string());
                name(&contents.project, taking.of, &time, |name| there.iter().any(|known| known == name))
            }
        };
        let shared = match self {
            Self::Folder(folder, _) => folder.add(&name, &contents, files)?,
            Self::Registry(repository, _) => {
                let address = format!("{repository}:{name}");
                taking.told("push", &address, |_| push(taking, repository, &name, &contents, &files))?;
                0
            }
        };
        let (_, text) = document::written(&contents);
        let listed = Listed { name, digest: sha256_of(&text), contents };
        Ok((Opened::made(to.place.clone(), self.blobs(), listed), shared))
    }
}

/// Pushes what is missing; the tag comes last: what has one is whole.
fn push(
    taking: &Taking<'_>,
    repository: &Repository,
    name: &str,
    contents: &Contents,
    files: &[New],
) -> Result<(), BackupError> {
    at(&taking.registry, repository, |remote| {
        remote.to_write()?;
        for New { file, written } in files {
            remote.push_file(&written.layer, file.path())?;
        }
        failpoints::at("backup.parts");
        let (config, text) = document::written(contents);
        remote.push_blob(&config)?;
        failpoints::at("backup.listing");
        remote.push_document(name, DOCUMENT, &text)?;
        failpoints::at("backup.listed");
        Ok(())
    })
}
