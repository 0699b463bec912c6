//! The steps of a change, and the steps back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use setpoint_model::manifest::Env;
use setpoint_model::names::UnitName;
use setpoint_model::plan::Options;
use setpoint_model::release::ledger::{ON_HOST, Progress};
use setpoint_model::release::{Active, Holds, Kind, Lane, Part, Put, Step, Undo, Upgrade, needed};

use super::aside::Aside;
use super::health::Says;
use super::{Cause, Change, Place, UpgradeError, active, host, saved};
use crate::apply::{STOP_GRACE, Settings};
use crate::cancel::Cancel;
use crate::engine::{Engine, Seen, UnitId};
use crate::events::{Deaf, Watcher};
use crate::failpoints;
use crate::observe::Unit;
use crate::project::Project;
use crate::reconciler::{self, Rules};
use crate::release::Releases;
use crate::store::{LedgerOf, Store, StoreError, UpgradeOutcome, UpgradeRow};
use crate::tree_copy;

impl<'a> Change<'a> {
    /// Does a step. Each may be done again.
    pub(super) fn act(&mut self, step: &Step) -> Result<(), Cause> {
        let acted = match step {
            Step::Fetch(unit) => self.fetch(unit),
            Step::Fill(volume) => self.fill(volume),
            Step::StandIn(unit) => return self.stand_in(unit),
            Step::Lend(unit) => self.lend(unit),
            Step::Freeze(unit) => self.freeze(unit),
            Step::Copy(volume) => self.copy(volume),
            Step::Save(path) => self.save(path),
            Step::Put(Put { path, generation }) => match self.put(path, *generation, self.place.cancel)? {
                true => Ok(()),
                false => return Err(format!("nothing is saved of it in generation {generation}").into()),
            },
            Step::SetAside(unit) => self.set_aside(unit),
            Step::Revive(unit) => return self.revive(unit),
            Step::Down(id) => return self.take_back(id),
            Step::Retire(unit) => self.retire(unit),
            Step::Start(unit) => self.start(unit),
            Step::Verify(unit) => return self.verify(unit),
            Step::Migrate(id) => return self.migrate(id),
            Step::Load(unit) => self.load(unit),
            Step::Admit(unit) => self.admit(unit),
            Step::Dismiss => self.dismiss(),
            Step::Steady => return self.watch(self.patience.steady, Says::expect_well),
            Step::Commit => self.commit(),
            Step::Publish(unit) => self.publish(unit),
            // What is not well at a moment may be so again.
            Step::Bake => return self.watch(self.patience.bake, Says::expect_possible),
            Step::Clean => self.clean(),
        };
        Ok(acted?)
    }

    /// Takes a step back. Each may be taken again.
    pub(super) fn undo(&mut self, undo: &Undo) -> Result<(), Cause> {
        let undone = match undo {
            Undo::PutBack(unit) => self.put_back(unit),
            Undo::PutPath(path) => {
                host::end_survivors(&self.txid)?;
                // Whoever stopped the change wants this done.
                self.put(path, self.upgrade.from.generation, &Cancel::default()).map(drop)
            }
            Undo::DropSaves => self.drop_saves(),
            Undo::DropVolume(volume) => self.drop_volume(volume),
            Undo::Resume(unit) => self.resume(unit),
            Undo::Relieve(unit) => self.relieve(unit),
            Undo::Dismiss => self.dismiss(),
        };
        Ok(undone?)
    }

    fn part(&self, unit: &UnitName) -> Option<&Part> {
        self.upgrade.part(unit)
    }

    /// What is needed to set instances of a unit aside, beside the state.
    fn aside<'u>(&'u mut self, unit: &'u UnitName) -> (Aside<'u>, &'u mut Store) {
        let (roots, engine) = (self.place.roots, self.place.engine);
        (Aside { roots, engine, root: &self.root, unit }, self.store)
    }

    /// A unit as it is declared.
    fn declared(&self, unit: &UnitName) -> Option<Unit<'a>> {
        let project = self.declared?.project;
        self.unit(project, &project.root, project.manifest.envs.get(unit)?)
    }

    /// A unit as the version that is left declares it.
    fn left(&self, unit: &UnitName) -> Option<Unit<'a>> {
        let project = self.declared?.leaves?;
        self.unit(project, &project.root, project.manifest.envs.get(unit)?)
    }

    /// A unit of a project, or of another owner, that is made of this.
    pub(super) fn unit<'u>(&self, project: &'u Project, owner: &'u Path, env: &'u Env) -> Option<Unit<'u>>
    where
        'a: 'u,
    {
        let declared = self.declared?;
        Some(Unit {
            roots: self.place.roots,
            engine: self.place.engine,
            project,
            owner,
            env,
            id: UnitId::new(owner, &env.name),
            variables: declared.variables,
            home: declared.home.clone(),
            refresh_secrets: false,
        })
    }

    fn fetch(&self, unit: &UnitName) -> Result<(), UpgradeError> {
        match self.declared(unit) {
            Some(unit) => Ok(unit.fetch_base(self.place.watcher, self.place.cancel)?),
            None => Ok(()),
        }
    }

    fn freeze(&mut self, unit: &UnitName) -> Result<(), UpgradeError> {
        let (id, engine) = (self.id(unit), self.place.engine);
        if !self.lent.contains(unit) {
            self.frozen.get_or_insert_with(Instant::now);
        }
        if let Some(held) = engine.hold(&id)? {
            self.held.insert(unit.clone(), held);
        }
        Ok(engine.stop(&id, self.grace(unit), self.place.cancel)?)
    }

    pub(super) fn grace(&self, unit: &UnitName) -> Duration {
        self.part(unit).map_or(STOP_GRACE, |part| Duration::from_millis(part.grace))
    }

    fn copy(&mut self, volume: &str) -> Result<(), UpgradeError> {
        let copy = self.upgrade.copies.iter().find(|copy| copy.to == volume);
        let Some(copy) = copy else { return Ok(()) };
        let unit = self.declared(&copy.of).or_else(|| self.left(&copy.of));
        let unit = unit.ok_or_else(|| UpgradeError::Changed { what: format!("the service {}", copy.of) })?;
        let (engine, cancel) = (self.place.engine, self.place.cancel);
        engine.copy_volume(&unit.id, &unit.base()?, &copy.from, &copy.to, cancel)?;
        failpoints::at("copy.copied");
        let of = LedgerOf { project_root: &self.root, engine: engine.capabilities().engine };
        Ok(self.store.write(|writer| writer.copy_ledger(of, &copy.from, &copy.to))?)
    }

    /// What was applied to the host is noted anew from here on, as it is for a volume that is copied.
    fn save(&mut self, path: &str) -> Result<(), UpgradeError> {
        self.saved().save(self.upgrade.from.generation, path, self.place.cancel)?;
        let of = LedgerOf { project_root: &self.root, engine: self.place.engine.capabilities().engine };
        match self.upgrade.makes_host() {
            Some(host) => {
                let from = self.upgrade.from.volume(ON_HOST);
                Ok(self.store.write(|writer| writer.copy_ledger(of, from, host))?)
            }
            None => Ok(()),
        }
    }

    fn put(&self, path: &str, generation: u64, cancel: &Cancel) -> Result<bool, UpgradeError> {
        Ok(self.saved().put(generation, path, cancel)?)
    }

    /// Removes what was saved of the generation that stays in effect.
    fn drop_saves(&mut self) -> Result<(), UpgradeError> {
        self.saved().forget(self.upgrade.from.generation)?;
        match self.upgrade.makes_host() {
            Some(host) => Ok(forget_ledger(self.store, self.place.engine, &self.root, host)?),
            None => Ok(()),
        }
    }

    fn fill(&self, volume: &str) -> Result<(), UpgradeError> {
        let copy = self.upgrade.copies.iter().find(|copy| copy.to == volume);
        let backup = self.declared.and_then(|declared| declared.backup);
        if let (Some(backup), Some(copy)) = (backup, copy)
            && let (Holds::Filled(layer), Some(unit)) = (&copy.holds, self.declared(&copy.of))
        {
            backup.fill(&unit, copy, layer, self.place.cancel).map_err(Box::new)?;
        }
        Ok(())
    }

    fn load(&self, unit: &UnitName) -> Result<(), UpgradeError> {
        let load = self.upgrade.loads.iter().find(|load| load.unit == *unit);
        let backup = self.declared.and_then(|declared| declared.backup);
        if let (Some(backup), Some(load), Some(unit)) = (backup, load, self.declared(unit)) {
            backup.load(&unit, &load.layer, self.place.cancel).map_err(Box::new)?;
        }
        Ok(())
    }

    fn set_aside(&mut self, unit: &UnitName) -> Result<(), UpgradeError> {
        let generation = self.upgrade.from.generation;
        let (aside, store) = self.aside(unit);
        aside.set(store, generation)
    }

    fn start(&mut self, unit: &UnitName) -> Result<(), UpgradeError> {
        if let Some(generation) = self.part(unit).and_then(|part| part.restores) {
            let (aside, store) = self.aside(unit);
            aside.put_back(store, generation)?;
            if !self.has_completed(unit)? {
                self.place.engine.start_withheld(&self.id(unit))?;
            }
            return Ok(());
        }
        let Some(unit) = self.declared(unit) else { return Ok(()) };
        self.make(&unit)?;
        if let Some(row) = self.store.unit(&self.root, &unit.env.name)? {
            let rules = Rules::of(unit.env, unit.stop_grace(), &unit.project.manifest.alerts);
            reconciler::want_up(self.store, row.id, rules.as_ref())?;
        }
        Ok(())
    }

    /// Makes an instance as it is declared, and starts it; nobody from outside reaches it yet.
    fn make(&mut self, unit: &Unit<'_>) -> Result<(), UpgradeError> {
        let kind = match self.upgrade.kind {
            Kind::Upgrade => "upgrade",
            Kind::Rollback => "rollback",
            Kind::Restore => "restore",
        };
        made(self.place, self.store, unit, kind, false)
    }

    fn revive(&mut self, unit: &UnitName) -> Result<(), Cause> {
        let left = self.left(unit).ok_or("nothing is known of it any more")?;
        self.make(&left)?;
        self.verify(unit)
    }

    /// In order: what it has in hand is in the data.
    fn retire(&mut self, unit: &UnitName) -> Result<(), UpgradeError> {
        let id = self.id(unit);
        self.place.engine.stop(&id, self.grace(unit), self.place.cancel)?;
        Ok(self.place.engine.remove(&id)?)
    }

    /// What was applied is noted of volumes, too, that came about only after it; and what is to run from now on.
    fn note_migrations(&mut self) -> Result<(), UpgradeError> {
        let awaited: Vec<_> = self.upgrade.forward_only().cloned().collect();
        for planned in awaited {
            // What was begun earlier stays so.
            if !self.is_entered(&planned)? {
                self.enter(&planned, Progress::Awaited)?;
            }
        }
        let ran: Vec<_> =
            self.upgrade.migrations.iter().filter(|planned| planned.leads_there()).cloned().collect();
        ran.iter().try_for_each(|planned| self.enter(planned, Progress::Done))
    }

    /// What the generation is made of is on the disk before the file that says that it is in effect.
    fn commit(&mut self) -> Result<(), UpgradeError> {
        self.note_migrations()?;
        let state = &self.place.roots.state;
        tree_copy::sync(state)?;
        // An engine of its own may keep volumes on another file system. One that cannot be seen from here is on
        // another machine, or another user's.
        if let Some(data) = self.place.engine.host()?.data.filter(|data| data != state && data.is_dir()) {
            tree_copy::sync(&data)?;
        }
        self.upgrade.saves.iter().try_for_each(|path| saved::sync_near(Path::new(path)))?;
        Ok(active::write(self.place.roots, &self.root, &self.upgrade.to)?)
    }

    /// Lets in who comes from outside. After a crash, what was about to begin may not run any more.
    fn publish(&mut self, unit: &UnitName) -> Result<(), UpgradeError> {
        let (id, engine) = (self.id(unit), self.place.engine);
        if let Seen::Stopped(_) = engine.observe(&id)?
            && !self.has_completed(unit)?
        {
            engine.start_again(&id)?;
        }
        self.admit(unit)
    }

    fn admit(&mut self, unit: &UnitName) -> Result<(), UpgradeError> {
        self.place.engine.publish(&self.id(unit))?;
        self.held.remove(unit);
        self.lent.remove(unit);
        self.thaw();
        Ok(())
    }

    fn thaw(&mut self) {
        if self.held.is_empty()
            && let Some(frozen) = self.frozen.take()
        {
            self.outage += frozen.elapsed();
        }
    }

    /// Ends the new instance, if the old one was set aside or there was none, and puts the old one in its place.
    fn put_back(&mut self, unit: &UnitName) -> Result<(), UpgradeError> {
        let Some((is_there, restores)) = self.part(unit).map(|part| (part.is_there, part.restores)) else {
            return Ok(());
        };
        let from = self.upgrade.from.generation;
        let (id, engine) = (self.id(unit), self.place.engine);
        let (aside, store) = self.aside(unit);
        if is_there && !aside.is_there(store, from)? {
            return Ok(());
        }
        if !is_there || aside.is_on_engine(from)? {
            if self.upgrade.admits(unit) && !self.held.contains_key(unit) {
                self.freeze(unit)?;
            } else {
                // Nobody from outside has reached it: nothing that it has done to a copy counts.
                let shares = self.upgrade.lane == Lane::Compatible;
                let grace = if shares { self.grace(unit) } else { Duration::ZERO };
                engine.stop(&id, grace, self.place.cancel)?;
            }
            let (aside, store) = self.aside(unit);
            match restores {
                Some(generation) if engine.observe(&id)? != Seen::Absent => aside.set(store, generation)?,
                Some(_) => {}
                None => engine.remove(&id)?,
            }
        }
        if is_there {
            let (aside, store) = self.aside(unit);
            aside.put_back(store, from)?;
        }
        Ok(())
    }

    fn drop_volume(&mut self, volume: &str) -> Result<(), UpgradeError> {
        self.place.engine.remove_volume(volume)?;
        Ok(forget_ledger(self.store, self.place.engine, &self.root, volume)?)
    }

    fn resume(&mut self, unit: &UnitName) -> Result<(), UpgradeError> {
        let (id, engine) = (self.id(unit), self.place.engine);
        engine.start_again(&id)?;
        self.admit(unit)
    }

    /// Removes what is kept of generations that are too old, and forgets who is not declared any more.
    fn clean(&mut self) -> Result<(), UpgradeError> {
        let kept_from = self.upgrade.to.generation.saturating_sub(self.upgrade.keep);
        for row in self.store.units(&self.root)? {
            let unit = row.unit.name;
            let generations = self.place.engine.set_aside_of(&self.id(&unit))?;
            for generation in generations.into_iter().filter(|generation| *generation < kept_from) {
                let (aside, store) = self.aside(&unit);
                aside.remove(store, generation)?;
            }
        }
        for volume in self.outdated_volumes(kept_from)? {
            self.drop_volume(&volume)?;
        }
        self.saved().forget_before(kept_from)?;
        for host in self.outdated_hosts(kept_from)? {
            forget_ledger(self.store, self.place.engine, &self.root, &host)?;
        }
        let gone = self.upgrade.parts.iter().filter(|part| !part.stays);
        for part in gone {
            if let Some(row) = self.store.unit(&self.root, &part.unit)? {
                reconciler::want_up(self.store, row.id, None)?;
            }
        }
        // Last: it looks at what other projects have, too, and what is wrong with that is none of this one's.
        self.drop_releases()
    }

    /// Removes releases that the project was made of once, and that neither it nor another one comes to any more.
    fn drop_releases(&self) -> Result<(), UpgradeError> {
        let once: BTreeSet<String> =
            self.store.upgrades(&self.root)?.iter().flat_map(|row| releases_of(&row.upgrade)).collect();
        if once.is_empty() {
            return Ok(());
        }
        let (roots, engine) = (self.place.roots, self.place.engine);
        let releases = Releases::of(roots);
        releases.remove(|| {
            let mut of_projects: BTreeMap<PathBuf, Vec<Upgrade>> = BTreeMap::new();
            for row in self.store.all_upgrades()? {
                of_projects.entry(row.project_root).or_default().push(row.upgrade);
            }
            let in_effect = active::all(roots)?.into_iter().filter_map(|active| active.release);
            let mut kept: BTreeSet<String> = in_effect.collect();
            for (root, changes) in &of_projects {
                kept.extend(needed(&active::read(roots, root)?, changes).into_iter().map(str::to_owned));
                // What another engine has mounted of it is not known here.
                let elsewhere = changes.iter().filter(|change| change.engine != self.upgrade.engine);
                kept.extend(elsewhere.flat_map(releases_of));
            }
            let mut unneeded = BTreeSet::new();
            for digest in once.into_iter().filter(|digest| !kept.contains(digest)) {
                // An instance that later versions left alone has the files of the one that it was made by.
                if !engine.mounts_from(&releases.place(&digest))? {
                    unneeded.insert(digest);
                }
            }
            Ok(unneeded)
        })
    }

    /// Volumes of the project's own that once held its data, and do in no generation that is kept.
    fn outdated_volumes(&self, kept_from: u64) -> Result<Vec<String>, UpgradeError> {
        let all = self.store.upgrades(&self.root)?;
        let kept = generations(&all).filter(|generation| generation.generation >= kept_from);
        let copied: Vec<_> = all.iter().flat_map(|row| &row.upgrade.copies).collect();
        let held: BTreeSet<String> = kept
            .flat_map(|generation| copied.iter().map(|copy| generation.volume(&copy.declared).to_owned()))
            .collect();
        let own = self.place.engine.volumes(&self.root)?;
        let once = copied.iter().flat_map(|copy| [&copy.from, &copy.to]).cloned();
        Ok(once
            .collect::<BTreeSet<_>>()
            .into_iter()
            .filter(|name| own.contains(name) && !held.contains(name))
            .collect())
    }

    /// What the ledger calls the host in no generation that is kept.
    fn outdated_hosts(&self, kept_from: u64) -> Result<Vec<String>, UpgradeError> {
        let all = self.store.upgrades(&self.root)?;
        let (kept, old): (Vec<_>, Vec<_>) =
            generations(&all).partition(|generation| generation.generation >= kept_from);
        let is_old = |host: &&String| kept.iter().all(|generation| generation.host.as_ref() != Some(host));
        Ok(old.iter().filter_map(|generation| generation.host.as_ref()).filter(is_old).cloned().collect())
    }
}

/// Makes an instance of a unit, and starts it, so that its first process `idles`, or as it is declared; nobody from outside reaches
/// it yet.
pub(super) fn made(
    place: &Place<'_>,
    store: &mut Store,
    unit: &Unit<'_>,
    kind: &str,
    idles: bool,
) -> Result<(), UpgradeError> {
    let watcher: &dyn Watcher = if idles { &Deaf } else { place.watcher };
    let command = format!("{kind} {}", unit.env.name);
    let settings = Settings { watcher, cancel: place.cancel, command, is_withheld: true, idles };
    let look = unit.look(store, &Options::default())?;
    unit.apply(store, look, &settings)?;
    Ok(())
}

/// The generations that came about, and the one that is about to.
fn generations(all: &[UpgradeRow]) -> impl Iterator<Item = &Active> {
    // One that has not ended yet, or not well, has brought about what it has all the same.
    let came_about = |row: &&UpgradeRow| {
        row.is_open() || row.ended.is_some_and(|(how, _)| how == UpgradeOutcome::Committed)
    };
    all.iter().filter(came_about).flat_map(|row| [&row.upgrade.from, &row.upgrade.to])
}

fn forget_ledger(store: &mut Store, engine: &dyn Engine, root: &Path, of: &str) -> Result<(), StoreError> {
    let ledger = LedgerOf { project_root: root, engine: engine.capabilities().engine };
    store.write(|writer| writer.forget_ledger(ledger, of))
}

/// The releases that a change leads from and to.
fn releases_of(change: &Upgrade) -> impl Iterator<Item = String> {
    [&change.from, &change.to].into_iter().filter_map(|generation| generation.release.clone())
}
