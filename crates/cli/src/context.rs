//! What every command begins with: where it stands, what it may say, and the rooms that it opens.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use setpoint_model::manifest::{Alerts, Base, EngineKind, Env, Release};
use setpoint_model::plan::Options;
use setpoint_model::reconcile::Alarm;
use setpoint_model::release::Upgrade;
use setpoint_runtime::backup;
use setpoint_runtime::cancel::Cancel;
use setpoint_runtime::compose;
use setpoint_runtime::devcontainer::{self, Lock, Surroundings};
use setpoint_runtime::engine::{self, Engine, UnitId};
use setpoint_runtime::events::Watcher;
use setpoint_runtime::lock::{self, LockError, ProjectLock, UnitLock};
use setpoint_runtime::observe::{Look, Unit};
use setpoint_runtime::paths::{Roots, Variables};
use setpoint_runtime::project::Project;
use setpoint_runtime::reconciler::alert;
use setpoint_runtime::store::Store;
use setpoint_runtime::upgrade::{self, Recovered};

use crate::error::{Exit, Failure};
use crate::output::Output;

/// How often somebody is told of an upgrade who does not take it, while a person waits.
const TOLD: u32 = 3;

/// How long is waited before another look at an upgrade that nobody works on, or somebody again.
const AGAIN: Duration = Duration::from_millis(50);

/// What a command works with.
pub(crate) struct Context {
    pub(crate) output: Output,
    pub(crate) folder: PathBuf,
    pub(crate) assignments: Vec<String>,
    pub(crate) roots: Roots,
    pub(crate) home: Option<PathBuf>,
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) cancel: Cancel,
}

impl Context {
    /// Reads the process's surroundings, once.
    pub(crate) fn new(
        output: Output,
        folder: Option<PathBuf>,
        assignments: Vec<String>,
    ) -> Result<Self, Failure> {
        let folder = match folder {
            Some(folder) => folder,
            None => std::env::current_dir().map_err(|error| {
                Failure::new(
                    Exit::NotFound,
                    "no-folder",
                    format!("the present folder cannot be read: {error}"),
                )
            })?,
        };
        let variables: Variables = std::env::vars_os().collect();
        let roots = Roots::from_variables(&variables, rustix::process::geteuid().is_root())
            .map_err(|error| Failure::new(Exit::Usage, "roots", error.to_string()))?;
        let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        let variables = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Ok(Self { output, folder, assignments, roots, home, variables, cancel: Cancel::default() })
    }

    /// The project of the present folder, with what its files of other tools say as far as that is known here.
    pub(crate) fn project(&self) -> Result<Project, Failure> {
        self.completed(None, Lock::Read)
    }

    /// The project of the present folder, completed; what has to be fetched for that is, where somebody hears of it.
    pub(crate) fn completed(&self, fetch: Option<&dyn Watcher>, lock: Lock) -> Result<Project, Failure> {
        let mut project = self.declared()?;
        if project.manifest.envs.values().any(|env| matches!(env.base, Base::DevContainer { .. })) {
            let engine = self.engine(project.manifest.engine);
            let surroundings = Surroundings {
                roots: &self.roots,
                engine: engine.as_ref(),
                variables: &self.variables,
                fetch: fetch.map(|watcher| (watcher, &self.cancel)),
                lock,
            };
            devcontainer::complete(&mut project, &surroundings)?;
        }
        Ok(project)
    }

    /// The project of the present folder, as it is declared.
    pub(crate) fn declared(&self) -> Result<Project, Failure> {
        let mut project = Project::load(&self.roots, &self.folder, &self.assignments)?;
        compose::complete(&mut project, &self.variables, self.home.as_deref())?;
        if self.output.verbose > 0 {
            for note in &project.manifest.notes {
                self.output.progress(format!("note: {note}"));
            }
        }
        Ok(project)
    }

    /// An engine.
    pub(crate) fn engine(&self, kind: EngineKind) -> Box<dyn Engine> {
        engine::open(kind, &self.roots, &self.variables)
    }

    /// All engines. None of them is asked anything yet.
    pub(crate) fn engines(&self) -> Vec<Box<dyn Engine>> {
        EngineKind::ALL.map(|kind| self.engine(kind)).into()
    }

    /// The state.
    pub(crate) fn store(&self) -> Result<Store, Failure> {
        Ok(Store::open(&self.roots)?)
    }

    /// A unit with what is needed to look at it.
    pub(crate) fn unit<'a>(&'a self, engine: &'a dyn Engine, project: &'a Project, env: &'a Env) -> Unit<'a> {
        Unit {
            roots: &self.roots,
            engine,
            project,
            owner: &project.root,
            env,
            id: UnitId::new(&project.root, &env.name),
            variables: &self.variables,
            home: self.home.clone(),
            refresh_secrets: false,
        }
    }

    /// A unit, and what it has come to.
    pub(crate) fn look<'a>(
        &'a self,
        engine: &'a dyn Engine,
        project: &'a Project,
        env: &'a Env,
        store: &Store,
    ) -> Result<(Unit<'a>, Look), Failure> {
        let unit = self.unit(engine, project, env);
        let look = unit.look(store, &Options::default())?;
        Ok((unit, look))
    }

    /// Takes a unit for this command alone, waiting for whoever has it and saying for whom.
    pub(crate) fn lock(
        &self,
        store: &mut Store,
        unit: &Unit<'_>,
        what: &str,
        watcher: &dyn Watcher,
    ) -> Result<UnitLock, Failure> {
        let (project, name, what) = (unit.project, &unit.env.name, format!("setpoint {what}"));
        let lock = loop {
            self.settle(store, &project.root, watcher)?;
            let lock = UnitLock::acquire(
                &self.roots,
                &project.root,
                name,
                &what,
                lock::until_stopped(watcher, &self.cancel),
            )
            .map_err(|error| self.not_locked(&error))?;
            // Whoever had it may have died with it in the middle of an upgrade.
            let open = store.open_upgrade(&project.root)?;
            if open.is_none_or(|row| row.upgrade.part(name).is_none()) {
                break lock;
            }
            drop(lock);
            std::thread::sleep(AGAIN);
            if self.cancel.asked() {
                return Err(Failure::new(Exit::Interrupted, "lock", "stopped"));
            }
        };
        if upgrade::active(&self.roots, &project.root)?.generation != project.active.generation {
            let message = format!("another version of {name} came into effect while this waited for it");
            return Err(Failure::new(Exit::State, "lock", message).hint("run it again"));
        }
        Ok(lock)
    }

    fn not_locked(&self, error: &LockError) -> Failure {
        let exit = if self.cancel.asked() { Exit::Interrupted } else { Exit::State };
        Failure { hint: error.hint(), ..Failure::new(exit, "lock", error.to_string()) }
    }

    /// Brings an upgrade to its end whose process died, and puts in order what such a backup left. One that goes on is
    /// left to itself.
    fn settle(&self, store: &mut Store, root: &Path, watcher: &dyn Watcher) -> Result<(), Failure> {
        if store.open_upgrade(root)?.is_none() && !backup::is_left(&self.roots, root) {
            return Ok(());
        }
        let taken = ProjectLock::acquire(&self.roots, root, "setpoint recover", |_| ControlFlow::Break(()));
        match taken {
            Ok(_lock) => self.recover(store, root, watcher).map(drop),
            Err(LockError::Held { .. }) => Ok(()),
            Err(error) => Err(self.not_locked(&error)),
        }
    }

    /// Brings an upgrade to its end whose process died, if there is one, and puts in order what such a backup left. The
    /// caller has the project's lock.
    pub(crate) fn recover(
        &self,
        store: &mut Store,
        root: &Path,
        watcher: &dyn Watcher,
    ) -> Result<Option<Recovered>, Failure> {
        if backup::tidy(&self.roots, &self.variables, root, watcher, &self.cancel)? {
            self.output
                .progress(format!("A backup of {} was cut off; what it stopped runs again", root.display()));
        }
        let Some(row) = store.open_upgrade(root)? else { return Ok(None) };
        let engine = engine::by_name(&row.upgrade.engine, &self.roots, &self.variables)
            .map_err(|why| Failure::new(Exit::State, "state", why))?;
        let (roots, cancel) = (&self.roots, &self.cancel);
        let place = upgrade::Place { roots, engine: engine.as_ref(), watcher, cancel };
        self.output
            .progress(format!("An upgrade of {} was cut off; it is put in order first", root.display()));
        let (what, to) = (row.upgrade.clone(), alert::whom(store, root)?);
        let recovered = upgrade::recover(&place, store, row, upgrade::Patience::of(&Release::default()));
        let alarm = match &recovered {
            Ok(recovered) => alert::alarm_of(*recovered),
            Err(error) => alert::alarm(error),
        };
        let name = store.units(root)?.first().map(|unit| unit.unit.project_name.clone());
        self.tell_of_upgrade((&name.unwrap_or_default(), root), &what, alarm, &to);
        Ok(Some(recovered?))
    }

    /// Tells whoever is to know of how an upgrade ended, if somebody is.
    pub(crate) fn tell_of_upgrade(
        &self,
        project: (&str, &Path),
        upgrade: &Upgrade,
        alarm: Option<Alarm>,
        to: &Alerts,
    ) {
        let Some(alarm) = alarm.filter(|_| !to.is_empty()) else { return };
        let said = alert::tell_of_upgrade(&self.roots, project, upgrade, &alarm, to, TOLD);
        said.into_iter().for_each(|said| self.output.progress(said));
    }

    /// Takes a project for a change of what is in effect, waiting for whoever has it and saying for whom.
    pub(crate) fn project_lock(
        &self,
        root: &Path,
        what: &str,
        watcher: &dyn Watcher,
    ) -> Result<ProjectLock, Failure> {
        let what = format!("setpoint {what}");
        ProjectLock::acquire(&self.roots, root, &what, lock::until_stopped(watcher, &self.cancel))
            .map_err(|error| self.not_locked(&error))
    }

    /// From here on Ctrl-C and SIGTERM stop the work in order; a second one stops it now.
    pub(crate) fn stop_on_signals(&self) -> Result<(), Failure> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let cancel = self.cancel.clone();
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])
            .map_err(|error| Failure::new(Exit::Engine, "signals", error.to_string()))?;
        std::thread::spawn(move || signals.forever().for_each(|_| cancel.ask()));
        Ok(())
    }
}
