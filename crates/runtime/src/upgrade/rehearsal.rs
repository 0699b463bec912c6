//! Trying a version before anything is touched: its services start, and migrate, on copies of the data, where nobody reaches
//! them and they reach nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use setpoint_model::manifest::{Data, Env};
use setpoint_model::names::UnitName;
use setpoint_model::pipeline::services::{self, isolated, needed};
use setpoint_model::release::ledger::{Due, Planned, is_volume};
use setpoint_model::release::{Active, Kind, Lane, Part, Step, Upgrade};

use super::{Cause, Change, Declared, Patience, Place, UpgradeError};
use crate::backup::{BackupError, Copier, Passing, Wanted, drilled};
use crate::engine::{EngineError, Seen};
use crate::observe::{Look, Unit};
use crate::project::Project;
use crate::store::{Store, TxId, UpgradeOutcome};
use crate::{failpoints, random, temporary};

/// A version that may be tried.
pub struct Rehearsal<'a> {
    /// The version, whose data is where the one in effect has it.
    pub project: &'a Project,
    /// All of its services, each after what it depends on.
    pub units: &'a [(Unit<'a>, Look)],
    /// The change that is about to be made.
    pub planned: &'a Upgrade,
}

/// How a version can be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rehearsable {
    /// The services that start for it, each after what it depends on.
    pub starts: Vec<UnitName>,
    /// Those that are stopped while their data is copied.
    pub stops: Vec<UnitName>,
}

/// What came of trying it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rehearsed {
    /// How long services were stopped while their data was copied.
    pub pause: Duration,
    /// How long all of it took.
    pub took: Duration,
    /// The step that failed, and why.
    pub failed: Option<(String, Cause)>,
}

impl Rehearsal<'_> {
    /// How the version can be tried.
    ///
    /// # Errors
    /// The inner one says in words why it cannot.
    pub fn plan(&self) -> Result<Result<Rehearsable, String>, UpgradeError> {
        let envs = match self.envs() {
            Ok(envs) => envs,
            Err(why) => return Ok(Err(why)),
        };
        let mut stops = BTreeSet::new();
        for copy in self.copies(&envs, "")? {
            for unit in copy.units {
                if matches!(unit.engine.observe(&unit.id)?, Seen::Running(_)) {
                    stops.insert(unit.env.name.clone());
                }
            }
        }
        let starts = envs.iter().map(|env| env.name.clone()).collect();
        Ok(Ok(Rehearsable { starts, stops: stops.into_iter().collect() }))
    }

    /// The migrations that can be tried on copies.
    fn migrations(&self) -> impl Iterator<Item = &Planned> {
        let runs = self.planned.migrations.iter().filter(|planned| planned.due != Due::Cover);
        runs.filter(|planned| planned.touches.iter().all(|name| is_volume(name)))
    }

    /// The services that have to start for it, each after what it depends on.
    fn envs(&self) -> Result<Vec<&Env>, String> {
        let new = self.planned.parts.iter().filter(|part| part.stays);
        let migrated = self.migrations().filter_map(|planned| planned.unit.as_ref());
        let names: BTreeSet<UnitName> = new.map(|part| &part.unit).chain(migrated).cloned().collect();
        let names: Vec<UnitName> = names.into_iter().collect();
        let all = &self.project.manifest.envs;
        let envs = needed(&names, all).map_err(|(_, problem)| match problem.why {
            Some(why) => format!("{}: {why}", problem.what),
            None => problem.what,
        })?;
        let engine = self.units.first().map(|(unit, _)| unit.engine.capabilities());
        if let Some(engine) = engine.filter(|engine| !engine.private_network) {
            return Err(format!(
                "the {} engine has no networks of their own for services here",
                engine.engine
            ));
        }
        for env in &envs {
            if env.mounts.iter().any(|mount| !mount.read_only) {
                return Err(format!("{} writes to what it has of this machine (`mounts`)", env.name));
            }
            if let Some(volume) = env.volumes().find(|volume| volume.external) {
                return Err(format!("the volume {} of {} is external", volume.name, env.name));
            }
        }
        Ok(envs)
    }

    /// The volumes of these services that are there, each with a copy that is called after a tag.
    fn copies(&self, envs: &[&Env], tag: &str) -> Result<Vec<Wanted<'_>>, UpgradeError> {
        let Some((unit, _)) = self.units.first() else { return Ok(Vec::new()) };
        let declared: BTreeSet<&String> =
            envs.iter().flat_map(|env| env.volumes()).map(|volume| &volume.name).collect();
        let active = &self.project.active;
        let held: Vec<String> = declared.iter().map(|name| active.volume(name).to_owned()).collect();
        let there = unit.engine.volume_ids(&held)?;
        let is_there = |name: &String| there.contains_key(active.volume(name));
        let copy = |name: &String| Wanted {
            held: active.volume(name).to_owned(),
            to: services::volume(tag, name),
            units: self
                .units
                .iter()
                .map(|(unit, _)| unit)
                .filter(|unit| unit.env.volumes().any(|volume| volume.name == *name))
                .collect(),
        };
        Ok(declared.into_iter().filter(|name| is_there(name)).map(copy).collect())
    }

    /// Writes into the history that the change was not made, since it failed here.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn note_failed(
        &self,
        store: &mut Store,
        who: &str,
        (step, why): (&str, &Cause),
    ) -> Result<(), UpgradeError> {
        let (txid, now) = (TxId::new(random::hex()), Timestamp::now());
        let detail = format!("rehearsal: {step}: {why}");
        store.write(|writer| {
            writer.begin_upgrade(&txid, &self.project.root, self.planned, who, now)?;
            writer.finish_upgrade(&txid, UpgradeOutcome::Dropped, Some(&detail), now)
        })?;
        Ok(())
    }

    /// Tries it, and removes all that it made. The caller holds the project's lock.
    ///
    /// # Errors
    /// If it could not be tried, or something of it could not be removed: the next command does that.
    pub fn run(
        &self,
        place: &Place<'_>,
        store: &Store,
        declared: &Declared<'_>,
        patience: Patience,
    ) -> Result<Rehearsed, UpgradeError> {
        let began = Instant::now();
        let envs = self.envs().map_err(|why| Box::new(BackupError::NotHere(why)))?;
        let owner = drilled(place.roots, &self.project.root);
        let mut passing = Passing::begin(place.roots, &self.project.root, place.engine).map_err(Box::new)?;
        let mut pause = Duration::ZERO;
        let tried = (|| {
            let project = self.project.manifest.project.name.as_str();
            let tag =
                temporary::owner(&owner, project).map_err(EngineError::io("make the folder", &owner))?;
            let copies = self.copies(&envs, &tag)?;
            if !copies.is_empty() {
                let (root, units, what) = (&*self.project.root, self.units, "setpoint upgrade");
                let copier = Copier { place: *place, root, units, what };
                pause = copier.copy(&copies, &mut passing).map_err(Box::new)?.pause;
            }
            failpoints::at("rehearsal.copied");
            self.tried(place, store, declared, patience, (&envs, &tag, &owner))
        })();
        let removed = temporary::take_down(place.roots, place.engine, &owner);
        let ended = passing.end(place.engine).map_err(Box::new);
        let failed = tried?;
        removed?;
        ended?;
        Ok(Rehearsed { pause, took: began.elapsed(), failed })
    }

    /// Starts the services on their copies. Gives the step that failed, and why.
    fn tried(
        &self,
        place: &Place<'_>,
        store: &Store,
        declared: &Declared<'_>,
        patience: Patience,
        (envs, tag, owner): (&[&Env], &str, &Path),
    ) -> Result<Option<(String, Cause)>, UpgradeError> {
        let mut manifest = self.project.manifest.clone();
        manifest.envs = envs.iter().map(|env| (env.name.clone(), isolated(env, tag, true))).collect();
        let project =
            Project { root: owner.to_owned(), active: Active::default(), manifest, ..self.project.clone() };
        let mut own = Store::open(&temporary::state(place.roots, owner))?;
        self.give_first_boots(store, &mut own, envs, tag, owner)?;
        let secrets = project.manifest.secrets.keys();
        temporary::give_secrets(place.roots, &self.project.root, owner, secrets)?;
        for env in envs {
            let noted = temporary::note(owner, &env.name);
            noted.map_err(|(note, error)| EngineError::io("write", &note)(error))?;
        }
        let declared = Declared {
            project: &project,
            leaves: None,
            variables: declared.variables,
            home: declared.home.clone(),
            backup: None,
        };
        let upgrade = self.upgrade(envs, tag);
        let steps = upgrade.steps();
        let txid = TxId::new(random::hex());
        own.write(|writer| writer.begin_upgrade(&txid, owner, &upgrade, "rehearsal", Timestamp::now()))?;
        let mut change = Change::new(place, &mut own, owner, txid, upgrade, patience)?;
        change.declared = Some(&declared);
        for step in steps.into_iter().take_while(|step| *step != Step::Commit) {
            if place.cancel.asked() {
                return Ok(Some((step.to_string(), "stopped".into())));
            }
            if let Err(why) = change.step(&step)? {
                return Ok(Some((step.to_string(), why)));
            }
        }
        Ok(None)
    }

    /// The change as it is where there is nothing but copies of the data.
    fn upgrade(&self, envs: &[&Env], tag: &str) -> Upgrade {
        let part = |env: &&Env| Part {
            unit: env.name.clone(),
            is_there: false,
            runs: false,
            stays: true,
            from: None,
            to: None,
            completes: env.service.as_ref().is_some_and(|of| of.completes),
            grace: self.grace(&env.name),
            restores: None,
            stands_in: false,
        };
        Upgrade {
            kind: Kind::Upgrade,
            lane: Lane::Breaking,
            engine: self.planned.engine.clone(),
            from: Active::default(),
            to: Active { generation: 1, ..Active::default() },
            parts: envs.iter().map(part).collect(),
            copies: Vec::new(),
            loads: Vec::new(),
            makes: Vec::new(),
            saves: Vec::new(),
            puts: Vec::new(),
            downs: Vec::new(),
            migrations: self.migrations().map(|planned| on_copies(planned, tag)).collect(),
            keep: 0,
        }
    }

    /// How long a service may take to end, in milliseconds.
    fn grace(&self, name: &UnitName) -> u64 {
        let own = self.units.iter().find(|(unit, _)| unit.env.name == *name);
        own.map_or(0, |(unit, _)| u64::try_from(unit.stop_grace().as_millis()).unwrap_or(u64::MAX))
    }

    /// What was once done for the data is done for its copies.
    fn give_first_boots(
        &self,
        store: &Store,
        own: &mut Store,
        envs: &[&Env],
        tag: &str,
        owner: &Path,
    ) -> Result<(), UpgradeError> {
        let now = Timestamp::now();
        for env in envs {
            for (step, data) in store.first_boot(&self.project.root, &env.name)? {
                let volumes: BTreeMap<String, String> =
                    data.volumes.into_iter().map(|(name, id)| (services::volume(tag, &name), id)).collect();
                let data = Data { volumes, instance: String::new() };
                own.write(|writer| writer.record_first_boot(owner, &env.name, &step, &data, now))?;
            }
        }
        Ok(())
    }
}

/// A migration as it is where there is nothing but copies of the data, and no commit that it could wait for.
fn on_copies(planned: &Planned, tag: &str) -> Planned {
    let touches = planned.touches.iter().map(|name| services::volume(tag, name)).collect();
    let mut planned = Planned { touches, ..planned.clone() };
    planned.run_before_the_commit();
    planned
}
