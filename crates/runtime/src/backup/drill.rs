//! Whether a backup can be restored: its data is put into volumes of its own, compared with what was read, and the service's
//! own image is started on it, where nobody reaches it and it reaches nobody. All of it is removed again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use setpoint_model::backup::{Part, What, volume_name};
use setpoint_model::import::compose::{Condition, Volume};
use setpoint_model::manifest::{Data, Env};
use setpoint_model::names::UnitName;
use setpoint_model::pipeline::services::{self, isolated, needed};
use setpoint_model::plan::Options;

use super::command;
use super::error::BackupError;
use super::passing::{Passing, drilled};
use super::place::Opened;
use super::take::tell;
use super::tree::{self, Fault};
use crate::apply::Settings;
use crate::engine::{Engine, NewVolume, UnitId};
use crate::failpoints;
use crate::observe::{Look, Unit};
use crate::project::Project;
use crate::readiness;
use crate::release::Registry;
use crate::store::Store;
use crate::temporary;
use crate::upgrade::Patience;

/// How long between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// Who tries what.
pub struct Drill<'a> {
    /// Where state lies, and who hears of it.
    pub registry: Registry<'a>,
    /// The project.
    pub project: &'a Project,
    /// The engine that holds it.
    pub engine: &'a dyn Engine,
    /// All of its services.
    pub units: &'a [(Unit<'a>, Look)],
    /// How long instances may take until they are well, and have to stay so.
    pub patience: Patience,
}

/// What a drill has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drilled {
    /// The services of which an instance was well on the restored data.
    pub well: Vec<UnitName>,
    /// Those of which none was started, and why: only their files were restored and compared.
    pub compared: Vec<(UnitName, String)>,
    /// How long it took.
    pub took: Duration,
}

impl Drill<'_> {
    /// Tries parts of a backup, and removes all that it made. The caller holds the project's lock, and has put in order
    /// what an earlier one left.
    ///
    /// # Errors
    /// [`BackupError::Drill`] says what is not as it should be.
    pub fn run(&self, opened: &Opened, parts: &[&Part]) -> Result<Drilled, BackupError> {
        let began = Instant::now();
        let passing = Passing::begin(self.registry.roots, &self.project.root, self.engine)?;
        let owner = drilled(self.registry.roots, &self.project.root);
        let tried = self.tried(opened, parts, &owner);
        // What cannot be removed now is removed by the next command.
        let removed = temporary::take_down(self.registry.roots, self.engine, &owner);
        let ended = removed.map_err(BackupError::from).and_then(|()| passing.end(self.engine));
        let (well, compared) = tried?;
        ended?;
        Ok(Drilled { well, compared, took: began.elapsed() })
    }

    fn tried(
        &self,
        opened: &Opened,
        parts: &[&Part],
        owner: &Path,
    ) -> Result<(Vec<UnitName>, Vec<(UnitName, String)>), BackupError> {
        tell(self.registry.watcher, "verify", &opened.listed.name, |_| opened.verify(&self.registry, parts))?;
        let envs = &self.project.manifest.envs;
        let tag = temporary::owner(owner, self.project.manifest.project.name.as_str())
            .map_err(BackupError::io("make the folder", owner))?;
        let (mut well, mut compared) = (Vec::new(), Vec::new());
        for name in parts.iter().flat_map(|part| &part.units).collect::<BTreeSet<_>>() {
            match needed(std::slice::from_ref(name), envs) {
                Ok(_) => well.push(name.clone()),
                Err((_, problem)) => {
                    compared.push((name.clone(), problem.why.unwrap_or(problem.what)));
                }
            }
        }
        let mut ids = BTreeMap::new();
        for part in parts {
            if let What::Volume { volume, id, tree, .. } = &part.what {
                let name = self.fill(opened, part, volume, (id, tree), &tag, owner)?;
                ids.insert(name, id.clone());
            }
        }
        failpoints::at("drill.filled");
        // Which are needed was looked at above, one by one.
        let all: Vec<Env> = needed(&well, envs)
            .unwrap_or_default()
            .into_iter()
            .map(|env| isolated(env, &tag, true))
            .collect();
        let declared = &self.project.manifest.secrets;
        temporary::give_secrets(self.registry.roots, &self.project.root, owner, declared.keys())?;
        let mut store = Store::open(&temporary::state(self.registry.roots, owner))?;
        for env in &all {
            let part = parts.iter().find(|part| part.units.contains(&env.name)).copied();
            self.record_first_boot(opened, env, &ids, owner, &mut store)?;
            tell(self.registry.watcher, "try", env.name.as_str(), |_| {
                self.bring_up(env, owner, &mut store)?;
                if let Some(part) = part {
                    self.until_well(env, owner)?;
                    self.load(opened, part, env, owner)?;
                    self.stays_well(env, owner)?;
                }
                Ok(())
            })?;
            failpoints::at("drill.up");
        }
        Ok((well, compared))
    }

    /// Restores a volume, and compares what is in it with what was read once. Gives its name.
    fn fill(
        &self,
        opened: &Opened,
        part: &Part,
        volume: &str,
        (id, tree): (&str, &str),
        tag: &str,
        owner: &Path,
    ) -> Result<String, BackupError> {
        let project = self.project.manifest.project.name.as_str();
        let found = self.units.iter().map(|(unit, _)| unit).find_map(|unit| {
            let of = unit.env.service.as_ref().filter(|_| part.units.contains(&unit.env.name))?;
            let declared =
                of.volumes.iter().find(|declared| volume_name(project, &declared.name) == volume)?;
            Some((unit, declared))
        });
        let Some((unit, declared)) = found else {
            return Err(BackupError::NotHere(format!("this project has no volume `{volume}` any more")));
        };
        unit.fetch_base(self.registry.watcher, self.registry.cancel)?;
        let name = services::volume(tag, &declared.name);
        let declared = Volume { name: name.clone(), ..declared.clone() };
        let base = unit.base()?;
        let new = NewVolume { declared: &declared, owner, id, base: &base };
        tell(self.registry.watcher, "fill", volume, |_| {
            Ok(self.engine.fill_volume(&new, opened.read(part)?, self.registry.cancel)?)
        })?;
        tell(self.registry.watcher, "compare", volume, |_| {
            let none = UnitId::new(owner, &unit.env.name);
            let mut archive = self.engine.read_volume(&none, &base, &name)?;
            let found = tree::look(volume, &mut archive).map_err(|fault| match fault {
                Fault::Wrong(error) => error,
                Fault::Io(error) => BackupError::io("read", Path::new(volume))(error),
            })?;
            match found.digest == tree {
                true => Ok(()),
                false => Err(self
                    .wrong(&unit.env.name, &format!("the files of {volume} are not those that were read"))),
            }
        })?;
        Ok(name)
    }

    fn wrong(&self, unit: &UnitName, why: &str) -> BackupError {
        BackupError::Drill { unit: unit.clone(), why: why.to_owned() }
    }

    fn unit<'u>(&'u self, env: &'u Env, owner: &'u Path) -> Unit<'u> {
        Unit {
            roots: self.registry.roots,
            engine: self.engine,
            project: self.project,
            owner,
            env,
            id: UnitId::new(owner, &env.name),
            variables: self.registry.variables,
            home: self.home(),
            refresh_secrets: false,
        }
    }

    fn home(&self) -> Option<PathBuf> {
        self.units.first().and_then(|(unit, _)| unit.home.clone())
    }

    /// What was once done for the data is done.
    fn record_first_boot(
        &self,
        opened: &Opened,
        env: &Env,
        ids: &BTreeMap<String, String>,
        owner: &Path,
        store: &mut Store,
    ) -> Result<(), BackupError> {
        let Some(of) = opened.listed.contents.units.get(&env.name) else { return Ok(()) };
        let id = |volume: &Volume| Some((volume.name.clone(), ids.get(&volume.name)?.clone()));
        let volumes: BTreeMap<String, String> = env.volumes().filter_map(id).collect();
        if volumes.is_empty() {
            return Ok(());
        }
        let data = Data { volumes, instance: String::new() };
        let now = Timestamp::now();
        Ok(store.write(|writer| {
            let mut steps = of.first_boot.iter();
            steps.try_for_each(|step| writer.record_first_boot(owner, &env.name, step, &data, now))
        })?)
    }

    fn bring_up(&self, env: &Env, owner: &Path, store: &mut Store) -> Result<(), BackupError> {
        let until = Instant::now() + self.patience.verify;
        for (name, dependency) in env.service.iter().flat_map(|of| &of.depends_on) {
            let id = UnitId::new(owner, name);
            let goes_on = || !self.registry.cancel.asked() && Instant::now() < until;
            match readiness::until(self.engine, &id, dependency.condition, &goes_on)? {
                None if self.registry.cancel.asked() => return Err(BackupError::Cancelled),
                None => return Err(self.wrong(name, "it is not well in time")),
                Some(Err(why)) if dependency.required => return Err(self.wrong(name, &why)),
                Some(_) => {}
            }
        }
        let written = temporary::note(owner, &env.name);
        written.map_err(|(note, error)| BackupError::io("write", &note)(error))?;
        let unit = self.unit(env, owner);
        unit.fetch_base(self.registry.watcher, self.registry.cancel)?;
        let (watcher, cancel) = (self.registry.watcher, self.registry.cancel);
        let settings = Settings {
            watcher,
            cancel,
            command: format!("drill {}", env.name),
            is_withheld: false,
            idles: false,
        };
        let look = unit.look(store, &Options::default())?;
        unit.apply(store, look, &settings)?;
        Ok(())
    }

    /// Waits until an instance is well, as far as it can tell.
    fn until_well(&self, env: &Env, owner: &Path) -> Result<(), BackupError> {
        let id = UnitId::new(owner, &env.name);
        let condition = if env.service.as_ref().is_some_and(|of| of.completes) {
            Condition::Completed
        } else if self.engine.progress(&id)?.health.is_some() {
            Condition::Healthy
        } else {
            Condition::Started
        };
        let until = Instant::now() + self.patience.verify;
        let goes_on = || !self.registry.cancel.asked() && Instant::now() < until;
        match readiness::until(self.engine, &id, condition, &goes_on)? {
            Some(Ok(())) => Ok(()),
            Some(Err(why)) => {
                Err(self.wrong(&env.name, &format!("it does not come up on what was restored: {why}")))
            }
            None if self.registry.cancel.asked() => Err(BackupError::Cancelled),
            None => {
                Err(self
                    .wrong(&env.name, &format!("it was not well after {} s", self.patience.verify.as_secs())))
            }
        }
    }

    fn load(&self, opened: &Opened, part: &Part, env: &Env, owner: &Path) -> Result<(), BackupError> {
        let commands = env.service.as_ref().and_then(|of| of.backup.as_ref());
        match (&part.what, commands) {
            (What::Dump, Some(commands)) => {
                let unit = self.unit(env, owner);
                command::load(&unit, commands, opened.read(part)?, self.registry.cancel)
            }
            _ => Ok(()),
        }
    }

    /// Watches it for a while.
    fn stays_well(&self, env: &Env, owner: &Path) -> Result<(), BackupError> {
        let id = UnitId::new(owner, &env.name);
        let completes = env.service.as_ref().is_some_and(|of| of.completes);
        let until = Instant::now() + self.patience.steady;
        while !completes && Instant::now() < until && !self.registry.cancel.asked() {
            let progress = self.engine.progress(&id)?;
            if let Some(Err(why)) = readiness::come_to(Condition::Started, &progress) {
                return Err(
                    self.wrong(&env.name, &format!("it does not stay well on what was restored: {why}"))
                );
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}
