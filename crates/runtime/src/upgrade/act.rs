//! The steps of a change, and the steps back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use setpoint_model::manifest::Env;
use setpoint_model::names::UnitName;
use setpoint_model::plan::Options;
use setpoint_model::release::ledger::{Due, Progress};
use setpoint_model::release::{Holds, Kind, Part, Step, Undo};

use super::aside::Aside;
use super::health::Says;
use super::{Cause, Change, UpgradeError, active};
use crate::apply::{STOP_GRACE, Settings};
use crate::engine::Seen;
use crate::failpoints;
use crate::observe::Unit;
use crate::reconciler::{self, Rules};
use crate::store::{LedgerOf, Store, UpgradeOutcome, UpgradeRow};
use crate::tree_copy;

impl<'a> Change<'a> {
    /// Does a step. Each may be done again.
    pub(super) fn act(&mut self, step: &Step) -> Result<(), Cause> {
        let acted = match step {
            Step::Fetch(unit) => self.fetch(unit),
            Step::Fill(volume) => self.fill(volume),
            Step::Freeze(unit) => self.freeze(unit),
            Step::Copy(volume) => self.copy(volume),
            Step::SetAside(unit) => self.set_aside(unit),
            Step::Start(unit) => self.start(unit),
            Step::Verify(unit) => return self.verify(unit),
            Step::Migrate(id) => return self.migrate(id),
            Step::Load(unit) => self.load(unit),
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
        Ok(match undo {
            Undo::PutBack(unit) => self.put_back(unit),
            Undo::DropVolume(volume) => self.drop_volume(volume),
            Undo::Resume(unit) => self.resume(unit),
        }?)
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
        self.unit(self.declared?.project.manifest.envs.get(unit)?)
    }

    /// A unit that is made of this.
    pub(super) fn unit<'u>(&self, env: &'u Env) -> Option<Unit<'u>>
    where
        'a: 'u,
    {
        let declared = self.declared?;
        Some(Unit {
            roots: self.place.roots,
            engine: self.place.engine,
            project: declared.project,
            owner: &declared.project.root,
            env,
            id: self.id(&env.name),
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
        self.frozen.get_or_insert_with(Instant::now);
        if let Some(held) = engine.hold(&id)? {
            self.held.insert(unit.clone(), held);
        }
        let grace = self.part(unit).map_or(STOP_GRACE, |part| Duration::from_millis(part.grace));
        Ok(engine.stop(&id, grace, self.place.cancel)?)
    }

    fn copy(&mut self, volume: &str) -> Result<(), UpgradeError> {
        let copy = self.upgrade.copies.iter().find(|copy| copy.to == volume);
        let Some(copy) = copy else { return Ok(()) };
        let Some(unit) = self.declared(&copy.of) else { return Ok(()) };
        let (engine, cancel) = (self.place.engine, self.place.cancel);
        engine.copy_volume(&unit.id, &unit.base()?, &copy.from, &copy.to, cancel)?;
        failpoints::at("copy.copied");
        let of = LedgerOf { project_root: &self.root, engine: engine.capabilities().engine };
        Ok(self.store.write(|writer| writer.copy_ledger(of, &copy.from, &copy.to))?)
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
        let settings = Settings {
            watcher: self.place.watcher,
            cancel: self.place.cancel,
            command: match self.upgrade.kind {
                Kind::Restore => format!("restore {unit}"),
                Kind::Upgrade | Kind::Rollback => format!("upgrade {unit}"),
            },
            is_withheld: true,
            idles: false,
        };
        let Some(unit) = self.declared(unit) else { return Ok(()) };
        let look = unit.look(self.store, &Options::default())?;
        unit.apply(self.store, look, &settings)?;
        if let Some(row) = self.store.unit(&self.root, &unit.env.name)? {
            let rules = Rules::of(unit.env, unit.stop_grace(), &unit.project.manifest.alerts);
            reconciler::want_up(self.store, row.id, rules.as_ref())?;
        }
        Ok(())
    }

    /// What was applied is noted of volumes, too, that came about only after it.
    fn note_migrations(&mut self) -> Result<(), UpgradeError> {
        let ran: Vec<_> =
            self.upgrade.migrations.iter().filter(|planned| planned.due != Due::Cover).cloned().collect();
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
        engine.publish(&id)?;
        self.held.remove(unit);
        self.thaw();
        Ok(())
    }

    fn thaw(&mut self) {
        if self.held.is_empty()
            && let Some(frozen) = self.frozen.take()
        {
            self.outage = frozen.elapsed();
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
            // Nobody from outside has reached it: nothing that it has done counts.
            engine.stop(&id, Duration::ZERO, self.place.cancel)?;
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
        let engine = self.place.engine;
        engine.remove_volume(volume)?;
        let of = LedgerOf { project_root: &self.root, engine: engine.capabilities().engine };
        Ok(self.store.write(|writer| writer.forget_ledger(of, volume))?)
    }

    fn resume(&mut self, unit: &UnitName) -> Result<(), UpgradeError> {
        let (id, engine) = (self.id(unit), self.place.engine);
        engine.start_again(&id)?;
        engine.publish(&id)?;
        self.held.remove(unit);
        self.thaw();
        Ok(())
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
        let gone = self.upgrade.parts.iter().filter(|part| !part.stays);
        for part in gone {
            if let Some(row) = self.store.unit(&self.root, &part.unit)? {
                reconciler::want_up(self.store, row.id, None)?;
            }
        }
        Ok(())
    }

    /// Volumes of the project's own that once held its data, and do in no generation that is kept.
    fn outdated_volumes(&self, kept_from: u64) -> Result<Vec<String>, UpgradeError> {
        let all = self.store.upgrades(&self.root)?;
        // This one has not ended yet, or not well: its volumes hold the data all the same.
        let came_about = |row: &&UpgradeRow| {
            row.is_open() || row.ended.is_some_and(|(how, _)| how == UpgradeOutcome::Committed)
        };
        let kept = all
            .iter()
            .filter(came_about)
            .flat_map(|row| [&row.upgrade.from, &row.upgrade.to])
            .filter(|generation| generation.generation >= kept_from);
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
}
