//! What the steps of a run see, and so their keys.

mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use jiff::Timestamp;
use setpoint_model::digest::Digest;
use setpoint_model::fingerprint::Fingerprint;
use setpoint_model::names::{StepName, UnitName};
use setpoint_model::pipeline::graph::{Edge, Graph};
use setpoint_model::pipeline::ir::{Pipeline, Sees, Step};
use setpoint_model::pipeline::key::{self, Base, Surroundings};
use setpoint_model::pipeline::when::Occasion;

use super::error::RunError;
use super::occasion::occasion;
use super::step::is_whole;
use super::{Options, Planned, PlannedStep, Runner};
use crate::cas::Globs;
use crate::engine::{BaseSource, Mount, Pull};
use crate::events::{Event, Watcher};
use crate::facts::image_source;
use crate::paths::expand_home;
use crate::snapshot::Snapshots;
use crate::source::{Source, SourceStore, TakeOptions, Tree};
use crate::store::cache::CacheDb;

/// Is told of which step's sake how many bytes have come, of how many.
type Fetch<'f> = &'f mut dyn FnMut(&StepName, u64, Option<u64>);

/// How long a file system may not answer before it is given up.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// A pipeline as it is run now, and all that its keys are made of besides the results of steps.
pub(super) struct Keys<'a> {
    runner: &'a Runner<'a>,
    /// With what is laid over it.
    pub(super) pipeline: Pipeline,
    pub(super) graph: Graph,
    /// The steps that are part of the run, by their places.
    pub(super) wanted: BTreeSet<usize>,
    occasion: Occasion,
    source: Option<Source>,
    with_git: Option<Source>,
    /// The base of each step that has no parent's.
    bases: BTreeMap<Option<String>, Option<Base>>,
    host_paths: BTreeMap<String, Digest>,
    /// What the services of steps are; nothing of one whose image is not here.
    services: BTreeMap<UnitName, Option<Fingerprint>>,
}

impl<'a> Keys<'a> {
    /// Looks at all that steps see. With `fetch`, images that are not here yet are fetched, and it is told how that
    /// goes.
    pub(super) fn new(
        runner: &'a Runner<'a>,
        pipeline: &Pipeline,
        options: &Options,
        mut fetch: Option<Fetch<'_>>,
    ) -> Result<Self, RunError> {
        let mut pipeline = pipeline.clone();
        pipeline.steps.iter_mut().for_each(|step| step.env.extend(options.env.clone()));
        let graph = Graph::new(&pipeline.steps);
        let wanted = wanted(&pipeline, &graph, &options.steps)?;
        let steps = || wanted.iter().map(|at| &pipeline.steps[*at]);
        check(runner, steps())?;
        let occasion = occasion(runner, options, steps().any(|step| step.when.asks_git()))?;
        let (mut source, mut with_git) = (None, None);
        let store = SourceStore::new(runner.roots);
        for git in [false, true] {
            if steps().any(|step| step.git == git && step.sees() != Sees::Nothing) {
                let take = TakeOptions { git, patience: PATIENCE };
                let taken = store.take(&runner.project.root, take, &|| runner.cancel.asked())?;
                *(if git { &mut with_git } else { &mut source }) = Some(taken);
            }
        }
        let mut keys = Self {
            runner,
            graph,
            occasion,
            source,
            with_git,
            bases: BTreeMap::new(),
            host_paths: BTreeMap::new(),
            services: BTreeMap::new(),
            wanted: wanted.clone(),
            pipeline: pipeline.clone(),
        };
        keys.check_inputs()?;
        keys.look_at_bases(&mut fetch, options.pull)?;
        keys.look_at_services(&mut fetch, options.pull)?;
        keys.look_at_host_paths()?;
        Ok(keys)
    }

    fn steps(&self) -> impl Iterator<Item = &Step> {
        self.wanted.iter().map(|at| &self.pipeline.steps[*at])
    }

    /// How many files the source has.
    pub(super) fn files(&self) -> usize {
        self.source.as_ref().or(self.with_git.as_ref()).map_or(0, Source::files)
    }

    fn source_of(&self, step: &Step) -> Option<&Source> {
        if step.git { self.with_git.as_ref() } else { self.source.as_ref() }
    }

    fn check_inputs(&self) -> Result<(), RunError> {
        let mut unmatched = Vec::new();
        for step in self.steps() {
            if let (Sees::Inputs(inputs), Some(source)) = (step.sees(), self.source_of(step)) {
                let missing = source.inputs(inputs)?.unmatched;
                unmatched.extend(missing.into_iter().map(|pattern| (step.name.clone(), pattern)));
            }
        }
        if unmatched.is_empty() { Ok(()) } else { Err(RunError::Unmatched(unmatched)) }
    }

    fn look_at_bases(&mut self, fetch: &mut Option<Fetch<'_>>, pull: bool) -> Result<(), RunError> {
        let mut bases = BTreeMap::new();
        for step in self.steps().filter(|step| step.from.is_none()) {
            if bases.contains_key(&step.image) {
                continue;
            }
            let source = base_of(step.image.as_deref(), &self.runner.project.root);
            let mut base = self.runner.engine.step_base(&source)?;
            if (base.is_none() || (pull && source != BaseSource::Host))
                && let Some(tell) = fetch.as_deref_mut()
            {
                self.fetch(&source, pull, &mut |done, total| tell(&step.name, done, total))?;
                base = self.runner.engine.step_base(&source)?;
            }
            bases.insert(step.image.clone(), base);
        }
        self.bases = bases;
        Ok(())
    }

    fn fetch(
        &self,
        source: &BaseSource,
        pull: bool,
        tell: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<(), RunError> {
        let pull = if pull { Pull::Always } else { Pull::Missing };
        let (sender, arrived) = channel();
        let watcher = Bytes(Mutex::new(sender));
        let runner = self.runner;
        std::thread::scope(|scope| {
            let fetching = scope.spawn(move || {
                let watcher = watcher;
                runner.engine.prepare(source, pull, &watcher, runner.cancel).map(drop)
            });
            arrived.iter().for_each(|(done, total)| tell(done, total));
            match fetching.join() {
                Ok(Err(_)) if runner.cancel.asked() => Err(RunError::Cancelled),
                Ok(result) => Ok(result?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    fn look_at_host_paths(&mut self) -> Result<(), RunError> {
        let mut seen = BTreeMap::new();
        for step in self.steps() {
            for path in &step.host_paths {
                let on_host = expand_home(path, self.runner.home);
                if !on_host.exists() {
                    return Err(RunError::NoHostPath { step: step.name.clone(), path: on_host });
                }
                if !seen.contains_key(path) {
                    seen.insert(path.clone(), self.runner.engine.seen_on_host(&on_host)?);
                }
            }
        }
        self.host_paths = seen;
        Ok(())
    }

    /// What does not hold of a step's `when`.
    pub(super) fn not_wanted(&self, at: usize) -> Option<String> {
        self.pipeline.steps[at].when.holds(&self.occasion).err()
    }

    /// The base that a step's file system lies on, which may be that of an ancestor.
    pub(super) fn base_of(&self, at: usize) -> BaseSource {
        let mut step = &self.pipeline.steps[at];
        while let Some(parent) = step.from.as_ref().and_then(|name| self.pipeline.step(name)) {
            step = parent;
        }
        base_of(step.image.as_deref(), &self.runner.project.root)
    }

    /// The key of a step whose parents have these results; nothing if its base is not here.
    pub(super) fn key(
        &self,
        at: usize,
        result_of: impl Fn(&StepName) -> Option<Digest>,
    ) -> Result<Option<Fingerprint>, RunError> {
        let step = &self.pipeline.steps[at];
        let base = match &step.from {
            Some(parent) => result_of(parent).map(|id| Base::Result { step: parent.clone(), id }),
            None => self.bases.get(&step.image).cloned().flatten(),
        };
        let Some(base) = base else { return Ok(None) };
        let take = step.take.iter().filter_map(|name| Some((name.clone(), result_of(name)?))).collect();
        let host_paths = step
            .host_paths
            .iter()
            .filter_map(|path| Some((path.clone(), *self.host_paths.get(path)?)))
            .collect();
        let Some(services) = self.services_seen(step)? else { return Ok(None) };
        let surroundings = Surroundings {
            engine: self.runner.engine.step_behaviour().to_owned(),
            platform: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
            base,
            take,
            source: self.seen(step)?,
            host_paths,
            services,
        };
        Ok(Some(key::key(step, &surroundings)))
    }

    fn seen(&self, step: &Step) -> Result<Digest, RunError> {
        Ok(match (step.sees(), self.source_of(step)) {
            (Sees::All, Some(source)) => source.digest(),
            (Sees::Inputs(inputs), Some(source)) => source.inputs(inputs)?.digest,
            _ => Tree::empty_digest(),
        })
    }

    /// The files of the source that a step sees, made where they are not there yet.
    pub(super) fn view(&self, step: &Step) -> Result<Option<Tree>, RunError> {
        Ok(match (step.sees(), self.source_of(step)) {
            (Sees::All, Some(source)) => Some(source.all().clone()),
            (Sees::Inputs(inputs), Some(source)) => Some(source.view(inputs)?),
            _ => None,
        })
    }

    /// What of the host's homes a step sees.
    pub(super) fn mounts(&self, step: &Step) -> Vec<Mount> {
        let visible = step.host_paths.iter().map(|path| expand_home(path, self.runner.home));
        visible.map(|path| Mount { source: path.clone(), target: path, read_only: true }).collect()
    }

    /// Since when a step's result has to be, to be good still.
    pub(super) fn not_before(&self, at: usize) -> Option<Timestamp> {
        let ttl = self.pipeline.steps[at].ttl_ms()?;
        let limit = std::time::Duration::from_millis(ttl);
        Some(Timestamp::now().checked_sub(limit).unwrap_or(Timestamp::MIN))
    }
}

/// Hears how much of an image has arrived.
struct Bytes(Mutex<Sender<(u64, Option<u64>)>>);

impl Watcher for Bytes {
    fn event(&self, event: &Event) {
        if let (Event::Bytes { done, total }, Ok(sender)) = (event, self.0.lock()) {
            let _ = sender.send((*done, *total));
        }
    }
}

fn base_of(image: Option<&str>, root: &Path) -> BaseSource {
    image.map_or(BaseSource::Host, |reference| image_source(reference, root))
}

/// The places of the steps that are wanted, and of all that they depend on.
fn wanted(pipeline: &Pipeline, graph: &Graph, names: &[StepName]) -> Result<BTreeSet<usize>, RunError> {
    if names.is_empty() {
        return Ok((0..graph.len()).collect());
    }
    let mut places = Vec::new();
    for name in names {
        let place = pipeline.steps.iter().position(|step| step.name == *name);
        places.push(place.ok_or_else(|| RunError::NoStep {
            name: name.clone(),
            pipeline: pipeline.name.to_string(),
            known: pipeline.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>().join(", "),
        })?);
    }
    Ok(graph.needed_for(&places))
}

/// What can be said of steps before anything is looked at.
fn check<'s>(runner: &Runner<'_>, steps: impl Iterator<Item = &'s Step>) -> Result<(), RunError> {
    for step in steps {
        let patterns: Vec<&str> =
            step.outputs.iter().flatten().chain(&step.artifacts).map(String::as_str).collect();
        let inputs: Vec<&str> = step.inputs.iter().flatten().map(|input| input.glob()).collect();
        for patterns in [patterns, inputs] {
            Globs::new(&patterns).map_err(|source| RunError::Pattern { step: step.name.clone(), source })?;
        }
        let secrets = step.env.values().flat_map(|value| value.secrets());
        if let Some(unknown) =
            secrets.into_iter().find(|name| !runner.project.manifest.secrets.contains_key(*name))
        {
            return Err(RunError::NoSecret { step: step.name.clone(), secret: unknown.to_string() });
        }
    }
    Ok(())
}

/// What a run would do.
pub(super) fn plan(
    runner: &Runner<'_>,
    pipeline: &Pipeline,
    options: &Options,
) -> Result<Vec<PlannedStep>, RunError> {
    let keys = Keys::new(runner, pipeline, options, None)?;
    let mut cache = CacheDb::open(runner.roots)?;
    let snapshots = Snapshots::new(runner.roots);
    let mut planned: BTreeMap<StepName, Planned> = BTreeMap::new();
    let mut steps = Vec::new();
    for at in keys.wanted.iter().copied() {
        let step = &keys.pipeline.steps[at];
        let result_of = |name: &StepName| match planned.get(name) {
            Some(Planned::Cached(row)) => Some(row.id),
            _ => None,
        };
        let files_from =
            keys.graph.parents(at).iter().filter(|(_, edge)| matches!(edge, Edge::From | Edge::Take));
        let waits_for = files_from
            .map(|(parent, _)| &keys.pipeline.steps[*parent].name)
            .find(|name| result_of(name).is_none());
        let (now, key) = match (keys.not_wanted(at), waits_for) {
            (Some(why), _) => (Planned::Skipped(why), None),
            (None, Some(parent)) => (Planned::Follows(parent.clone()), None),
            (None, None) => {
                let key = keys.key(at, result_of)?;
                let found = match &key {
                    Some(key) if !step.is_uncached() && !options.no_cache => {
                        let digest = key.digest();
                        cache.write(|writer| {
                            writer.find_whole(digest, |id| is_whole(runner.engine, &snapshots, id))
                        })?
                    }
                    _ => None,
                };
                let limit = keys.not_before(at);
                let found = found.filter(|row| limit.is_none_or(|limit| row.made_at >= limit));
                (found.map_or(Planned::Run, Planned::Cached), key)
            }
        };
        planned.insert(step.name.clone(), now.clone());
        steps.push(PlannedStep { step: step.name.clone(), planned: now, key });
    }
    Ok(steps)
}
