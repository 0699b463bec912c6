//! The services of a step: instances of its own, brought up before it and removed after it.
//!
//! They are units like others, brought up by the same road, but of another owner than the project: a folder of the
//! run. Their records lie in a store of that folder, their secrets are that owner's, and what is called after a project
//! is called after it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::Sender;

use setpoint_model::import::compose::Condition;
use setpoint_model::manifest::{Env, EnvValue, SecretSource};
use setpoint_model::names::{SecretName, UnitName};
use setpoint_model::pipeline::ir::Step;
use setpoint_model::pipeline::services::{isolated, needed, network};
use setpoint_model::plan::Options;

use super::Runner;
use super::step::{Job, Shared, StepError, Told, io};
use crate::apply::{ApplyError, Settings};
use crate::engine::{EngineError, UnitId};
use crate::events::{Event, Watcher};
use crate::lines;
use crate::observe::Unit;
use crate::paths::Roots;
use crate::readiness;
use crate::secrets::{Mask, SecretError, Secrets, Values};
use crate::store::Store;
use crate::temporary::{self, take_down};

/// In the folder of a run: the owners of services, by the engines that hold them.
const OWNERS: &str = "services";
/// How many of the last lines of a service are shown that keeps a step from beginning.
const TAIL: usize = 12;

/// The services of one try of a step.
pub(super) struct Services<'a> {
    shared: &'a Shared<'a>,
    job: &'a Job,
    tell: &'a Sender<Told>,
    owner: PathBuf,
    /// Each after what it depends on, as an instance of its own.
    envs: Vec<Env>,
    /// The network that they are in, and the step with them.
    pub(super) network: String,
    /// The secrets of the step, and of its services.
    pub(super) values: Values,
    /// Hides them.
    pub(super) mask: Mask,
}

/// A service that keeps a step from beginning.
pub(super) struct Unwell {
    /// Which, and why.
    pub(super) what: String,
    /// The last lines that it said.
    pub(super) tail: Vec<String>,
}

/// What came of bringing services up.
pub(super) enum Came {
    /// The step may begin.
    Up,
    /// It was stopped before.
    Stopped,
    /// One of them is not well.
    Unwell(Unwell),
}

/// The secrets that are generated or derived are made for each try of a step with services; the others it shares.
pub(super) fn is_own(source: &SecretSource) -> bool {
    matches!(source, SecretSource::Generate { .. } | SecretSource::Derive { .. })
}

impl<'a> Services<'a> {
    /// The services of a step, of which nothing is made yet; nothing if it has none.
    pub(super) fn of(
        shared: &'a Shared<'a>,
        job: &'a Job,
        tell: &'a Sender<Told>,
    ) -> Result<Option<Self>, StepError> {
        if job.step.services.is_empty() {
            return Ok(None);
        }
        let (runner, manifest) = (shared.runner, &shared.runner.project.manifest);
        let engine = runner.engine.capabilities().engine;
        let owner =
            shared.scratch.join(OWNERS).join(engine).join(format!("{}-{}", job.step.name, job.attempt));
        let tag = temporary::owner(&owner, manifest.project.name.as_str()).map_err(io("make", &owner))?;
        let closed = job.step.network == setpoint_model::manifest::Network::None;
        // Whatever is wrong with them was told before the run began.
        let declared = needed(&job.step.services, &manifest.envs).unwrap_or_default();
        let envs: Vec<Env> = declared.into_iter().map(|env| isolated(env, &tag, closed)).collect();
        let (values, mask) = (Values::new(), Mask::default());
        Ok(Some(Self { shared, job, tell, owner, envs, network: network(&tag), values, mask }))
    }

    fn runner(&self) -> &'a Runner<'a> {
        self.shared.runner
    }

    fn secrets(&self) -> Secrets {
        Secrets::new(self.runner().roots, &self.owner)
    }

    /// Brings them up, each when what it depends on has come to what it needs. `goes_on` says whether they are still
    /// to be waited for.
    pub(super) fn bring_up(&mut self, goes_on: &dyn Fn() -> bool) -> Result<Came, StepError> {
        let names = self.job.step.services.clone();
        let _ = self.tell.send(Told::Services(self.job.at, names.clone()));
        self.give_secrets()?;
        let mut store = Store::open(&temporary::state(self.runner().roots, &self.owner))?;
        let mut came = Came::Up;
        for env in &self.envs {
            if !goes_on() {
                came = Came::Stopped;
                break;
            }
            came = self.bring_one(env, &mut store, goes_on)?;
            if !matches!(came, Came::Up) {
                break;
            }
        }
        // Also what was only made on the way.
        let declared = &self.runner().project.manifest.secrets;
        self.values.extend(self.secrets().kept_values(declared.keys())?);
        self.mask = Mask::new(&self.values);
        for name in &names {
            if matches!(came, Came::Up) {
                came = self.wait_for(name, goes_on)?;
            }
        }
        if let Came::Unwell(unwell) = &mut came {
            unwell.what = self.mask.apply(&unwell.what);
        }
        Ok(came)
    }

    /// Keeps what they and the step need of secrets where they look for them.
    fn give_secrets(&mut self) -> Result<(), SecretError> {
        let (runner, secrets) = (self.runner(), self.secrets());
        let declared = &runner.project.manifest.secrets;
        let is_own = |name: &SecretName| declared.get(name).is_some_and(|secret| is_own(&secret.source));
        let others = self.shared.values.iter().filter(|(name, _)| !is_own(name));
        self.values = others.map(|(name, value)| (name.clone(), value.clone())).collect();
        secrets.keep(&self.values)?;
        let of_step: BTreeSet<&SecretName> = secrets_of(&self.job.step).collect();
        secrets.generate(declared, of_step.iter().copied(), &BTreeSet::new())?;
        let values = secrets.resolve(&runner.sources(), of_step)?;
        secrets.keep(&values)
    }

    fn unit<'e>(&'e self, env: &'e Env) -> Unit<'e> {
        let runner = self.runner();
        Unit {
            roots: runner.roots,
            engine: runner.engine,
            project: runner.project,
            owner: &self.owner,
            env,
            id: UnitId::new(&self.owner, &env.name),
            variables: runner.variables,
            home: runner.home.map(Path::to_owned),
            refresh_secrets: false,
        }
    }

    fn bring_one(&self, env: &Env, store: &mut Store, goes_on: &dyn Fn() -> bool) -> Result<Came, StepError> {
        for (name, dependency) in env.service.iter().flat_map(|of| &of.depends_on) {
            let id = UnitId::new(&self.owner, name);
            match readiness::until(self.runner().engine, &id, dependency.condition, goes_on)? {
                None => return Ok(Came::Stopped),
                Some(Err(why)) if dependency.required => return Ok(self.unwell(name, &why)),
                Some(_) => {}
            }
        }
        temporary::note(&self.owner, &env.name).map_err(|(note, error)| io("write", &note)(error))?;
        let unit = self.unit(env);
        let heard = Heard { at: self.job.at, service: &env.name, tell: Mutex::new(self.tell.clone()) };
        let command = format!("run {} {}", self.shared.pipeline, self.job.step.name);
        let settings =
            Settings { watcher: &heard, cancel: &self.job.cancel, command, is_withheld: false, idles: false };
        let applied =
            unit.look(store, &Options::default()).and_then(|look| unit.apply(store, look, &settings));
        Ok(match applied {
            Ok(_) => Came::Up,
            Err(_) if self.job.cancel.asked() => Came::Stopped,
            Err(ApplyError::Phase(failed)) => {
                let what = format!("the service {}: {} failed: {}", env.name, failed.phase, failed.how);
                Came::Unwell(Unwell { what, tail: told_by(&env.name, failed.tail) })
            }
            Err(error) => {
                let hint = match &error {
                    ApplyError::Engine(error) => error.hint(),
                    ApplyError::Secret(error) => error.hint(),
                    ApplyError::Problem(problem) => problem.hint.clone(),
                    _ => None,
                };
                let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                let what = format!("the service {}: {error}{hint}", env.name);
                Came::Unwell(Unwell { what, tail: self.last_words(&env.name) })
            }
        })
    }

    /// Waits until a service that the step names is what a step needs: well, where it can tell, and at its end where
    /// it has one.
    fn wait_for(&self, name: &UnitName, goes_on: &dyn Fn() -> bool) -> Result<Came, StepError> {
        let (engine, id) = (self.runner().engine, UnitId::new(&self.owner, name));
        let completes = |env: &Env| env.service.as_ref().is_some_and(|of| of.completes);
        let condition = if self.envs.iter().any(|env| env.name == *name && completes(env)) {
            Condition::Completed
        } else if engine.progress(&id)?.health.is_some() {
            Condition::Healthy
        } else {
            Condition::Started
        };
        Ok(match readiness::until(engine, &id, condition, goes_on)? {
            None => Came::Stopped,
            Some(Ok(())) => Came::Up,
            Some(Err(why)) => self.unwell(name, &why),
        })
    }

    fn unwell(&self, name: &UnitName, why: &str) -> Came {
        Came::Unwell(Unwell { what: format!("the service {name}: {why}"), tail: self.last_words(name) })
    }

    /// The services that have ended, and were to be there for the step, in words.
    pub(super) fn ended(&self) -> Vec<String> {
        let ended = |env: &Env| {
            let progress = self.runner().engine.progress(&UnitId::new(&self.owner, &env.name)).ok()?;
            let why = readiness::come_to(Condition::Started, &progress)?.err()?;
            Some(format!("the service {}: {why} before the step did", env.name))
        };
        self.envs.iter().filter_map(ended).collect()
    }

    fn said(&self, name: &UnitName, each: impl FnMut(String)) {
        if let Ok(output) = self.runner().engine.output(&UnitId::new(&self.owner, name), false) {
            let kept = self.secrets().kept_values(self.runner().project.manifest.secrets.keys());
            let mut values = self.values.clone();
            values.extend(kept.unwrap_or_default());
            lines::read(output, &Mask::new(&values), each);
        }
    }

    fn last_words(&self, name: &UnitName) -> Vec<String> {
        let mut said = std::collections::VecDeque::new();
        self.said(name, |line| {
            if said.len() == TAIL {
                said.pop_front();
            }
            said.push_back(line);
        });
        told_by(name, said.into())
    }

    /// Tells all that they said.
    pub(super) fn tell_output(&self) {
        for env in &self.envs {
            self.said(&env.name, |line| {
                let _ = self.tell.send(Told::ServiceLine(self.job.at, env.name.clone(), line));
            });
        }
    }

    /// Removes them.
    pub(super) fn end(self) -> Result<(), EngineError> {
        let runner = self.runner();
        take_down(runner.roots, runner.engine, &self.owner)
    }
}

fn told_by(name: &UnitName, lines: Vec<String>) -> Vec<String> {
    lines.into_iter().map(|line| format!("{name}: {line}")).collect()
}

/// The secrets that the variables of a step hold.
pub(super) fn secrets_of(step: &Step) -> impl Iterator<Item = &SecretName> {
    step.env.values().flat_map(EnvValue::secrets)
}

/// Hears what is done to a service: what its hooks and the steps of its first boot say is its own output.
struct Heard<'a> {
    at: usize,
    service: &'a UnitName,
    tell: Mutex<Sender<Told>>,
}

impl Watcher for Heard<'_> {
    fn event(&self, event: &Event) {
        if let (Event::Output { phase, line }, Ok(tell)) = (event, self.tell.lock()) {
            let _ = tell.send(Told::ServiceLine(self.at, self.service.clone(), format!("{phase}: {line}")));
        }
    }
}

/// The owners of services in the folder of a run, each with the name of the engine that holds them.
pub(super) fn left(run: &Path) -> Vec<(String, PathBuf)> {
    temporary::owners(&run.join(OWNERS))
}

/// Removes the services that are left in the folder of a run, wherever they are.
pub(super) fn take_down_left(
    roots: &Roots,
    variables: &BTreeMap<String, String>,
    run: &Path,
) -> Result<(), EngineError> {
    temporary::take_down_all(roots, variables, &run.join(OWNERS))
}
