//! The one thread that leads a run: it does what the schedule says, and tells of everything in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use setpoint_model::digest::Digest;
use setpoint_model::manifest::{EnvValue, needed_secrets};
use setpoint_model::names::{SecretName, StepName};
use setpoint_model::pipeline::graph::Edge;
use setpoint_model::pipeline::ir::{Pipeline, Step};
use setpoint_model::pipeline::outcome::{Outcome, RunOutcome};
use setpoint_model::pipeline::schedule::{self, Action, Found, Schedule};
use setpoint_model::pipeline::services::needed;

use super::error::RunError;
use super::events::{Event, Listener, RunReport, StepPlan, StepReport};
use super::keys::Keys;
use super::result::Built;
use super::services::{is_own, secrets_of};
use super::step::{Finish, Job, Shared, Told, is_whole, work};
use super::tidy::{self, Scratch};
use super::{Finished, Options, Runner, artifacts};
use crate::cancel::Cancel;
use crate::engine::StepSpec;
use crate::runs::{RunLog, project_id};
use crate::secrets::{Mask, Secrets};
use crate::snapshot::Snapshots;
use crate::source::Tree;
use crate::store::StoreError;
use crate::store::cache::{CacheDb, CacheWriter, ResultRow};

/// How often a request to stop is looked for.
const TICK: Duration = Duration::from_millis(20);
/// How many of the last lines of a failed step are shown.
const TAIL: usize = 12;

/// What is known of a step that was looked up, or ran.
#[derive(Default)]
struct Known {
    key: Option<Digest>,
    built: Option<Built>,
    row: Option<ResultRow>,
    began: Option<Instant>,
    took: Duration,
    attempts: u32,
    tail: VecDeque<String>,
    /// Held while the step runs and others may build on what it sees.
    view: Option<Tree>,
    cancel: Option<Cancel>,
}

/// Hears of a run: whoever shows it, and the log that keeps it.
struct Heard<'a> {
    listener: &'a mut dyn Listener,
    log: RunLog,
}

impl Heard<'_> {
    fn tell(&mut self, event: &Event) {
        self.log.hear(event);
        self.listener.hear(event);
    }

    fn settle(&mut self) {
        self.log.settle();
        self.listener.settle();
    }
}

pub(super) fn run(
    runner: &Runner<'_>,
    pipeline: &Pipeline,
    options: &Options,
    listener: &mut dyn Listener,
) -> Result<Finished, RunError> {
    let began = Instant::now();
    let snapshots = Snapshots::new(runner.roots);
    let mut cache = CacheDb::open(runner.roots)?;
    tidy::sweep(runner.roots, runner.engine, runner.variables, &mut cache, &snapshots)?;
    let keys = {
        let mut fetching = |step: &StepName, done, total| {
            listener.hear(&Event::StepFetches { step: step.clone(), done, total });
        };
        Keys::new(runner, pipeline, options, Some(&mut fetching))?
    };
    if runner.cancel.asked() {
        return Err(RunError::Cancelled);
    }
    let scratch = Scratch::new(runner.roots)?;
    let log = RunLog::begin(runner.roots, &runner.project.root, &pipeline.name)?;
    let cache = Mutex::new(cache);
    let (tell, told) = channel();
    let schedule = Schedule::new(
        keys.graph.clone(),
        keys.pipeline.steps.iter().map(|step| step.name.clone()).collect(),
        &keys.wanted,
        schedule::Options {
            jobs: options.jobs,
            keep_going: options.keep_going,
            retries: keys.pipeline.steps.iter().map(|step| step.retries).collect(),
        },
    );
    let known = keys.pipeline.steps.iter().map(|_| Known::default()).collect();
    let shared = OnceLock::new();
    let mut lead = Lead {
        runner,
        options,
        keys: &keys,
        cache: &cache,
        snapshots: &snapshots,
        scratch: &scratch,
        shared: &shared,
        heard: Heard { listener, log },
        schedule,
        known,
        due: Vec::new(),
        project: project_id(&runner.project.root),
        failed: None,
        told,
        tell,
        began,
        leased: false,
        stored: false,
    };
    let result = lead.run();
    let Lead { failed, stored, leased, .. } = lead;
    let has_run = shared.get().is_some();
    let mut records = cache.into_inner().unwrap_or_else(PoisonError::into_inner);
    if stored {
        tidy::settle(runner, &mut records, &snapshots, &scratch.name)?;
    } else if leased {
        records.write(|writer| writer.end_lease(&scratch.name))?;
    }
    let scratch = failed.is_some().then_some(scratch);
    if has_run {
        // What nobody needs any more. What stays behind is swept by the next run.
        let _ = tidy::sweep_engine(runner.roots, runner.engine, &snapshots);
    }
    Ok(Finished { report: result?, failed, scratch })
}

/// The secrets of a step that are the project's: with services, none that is made for it alone.
fn shared_secrets<'a>(runner: &'a Runner<'_>, step: &'a Step) -> Vec<&'a SecretName> {
    let declared = &runner.project.manifest.secrets;
    if step.services.is_empty() {
        return secrets_of(step).collect();
    }
    let services = needed(&step.services, &runner.project.manifest.envs).unwrap_or_default();
    let of_services = services.into_iter().flat_map(|env| env.env.values()).flat_map(EnvValue::secrets);
    let all = needed_secrets(declared, secrets_of(step).chain(of_services));
    all.into_iter().filter(|name| declared.get(*name).is_some_and(|one| !is_own(&one.source))).collect()
}

struct Lead<'a> {
    runner: &'a Runner<'a>,
    options: &'a Options,
    keys: &'a Keys<'a>,
    cache: &'a Mutex<CacheDb>,
    snapshots: &'a Snapshots,
    scratch: &'a Scratch,
    /// What all steps that run share; made when the first begins.
    shared: &'a OnceLock<Shared<'a>>,
    heard: Heard<'a>,
    schedule: Schedule,
    known: Vec<Known>,
    /// The steps that wait for their next try, and until when.
    due: Vec<(Instant, usize)>,
    /// What the project's runs and results are kept under.
    project: String,
    failed: Option<(StepName, StepSpec)>,
    told: Receiver<Told>,
    tell: Sender<Told>,
    began: Instant,
    leased: bool,
    stored: bool,
}

impl<'a> Lead<'a> {
    fn run(&mut self) -> Result<RunReport, RunError> {
        let begun = Event::RunBegan {
            run: self.heard.log.number(),
            pipeline: self.keys.pipeline.name.clone(),
            steps: self.keys.wanted.iter().map(|at| self.step_plan(*at)).collect(),
            files: self.keys.files(),
        };
        self.heard.tell(&begun);
        self.say_what_cannot_be_found_again();
        let outcome = std::thread::scope(|scope| self.follow(scope));
        let artifacts = outcome.as_ref().ok().map(|()| self.hand_out()).transpose();
        outcome?;
        let report = self.report(artifacts?.flatten());
        if let Some(trouble) = self.heard.log.trouble().map(ToString::to_string) {
            let text = format!("not all of this run is kept: {trouble}");
            self.heard.listener.hear(&Event::Note { step: None, text });
        }
        self.heard.tell(&Event::RunEnded { report: report.clone() });
        Ok(report)
    }

    fn step(&self, at: usize) -> &'a Step {
        &self.keys.pipeline.steps[at]
    }

    fn records(&self) -> MutexGuard<'a, CacheDb> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step_plan(&self, at: usize) -> StepPlan {
        let step = self.step(at);
        let mut parents: Vec<StepName> = Vec::new();
        for (parent, _) in self.keys.graph.parents(at) {
            let name = &self.step(*parent).name;
            if !parents.contains(name) {
                parents.push(name.clone());
            }
        }
        let command = step.run.to_string();
        StepPlan { step: step.name.clone(), command, parents, cache_dirs: step.cache_dirs.clone() }
    }

    /// A step that could be cached, were it not for one that is not: nobody should wonder why it never is.
    fn say_what_cannot_be_found_again(&mut self) {
        for at in self.keys.wanted.iter().copied() {
            let step = self.step(at);
            let uncached =
                step.builds_on().find(|name| self.keys.pipeline.step(name).is_some_and(Step::is_uncached));
            if let (false, Some(parent)) = (step.is_uncached(), uncached) {
                let text = format!(
                    "it builds on {parent}, which is never cached: declare {parent} cacheable if you want hits"
                );
                self.heard.tell(&Event::Note { step: Some(step.name.clone()), text });
            }
        }
    }

    /// Leads the run until every step has ended.
    fn follow<'s>(&mut self, scope: &'s Scope<'s, '_>) -> Result<(), RunError>
    where
        'a: 's,
    {
        let limit = self.options.timeout.or(self.keys.pipeline.timeout_ms.map(Duration::from_millis));
        let mut actions: VecDeque<Action> = self.schedule.begin().into();
        let (mut stopped, mut insisted, mut out_of_time) = (false, false, false);
        loop {
            self.act(&mut actions, scope).inspect_err(|_| self.stop_all())?;
            if self.schedule.is_finished() {
                return Ok(());
            }
            if self.runner.cancel.asked() && !std::mem::replace(&mut stopped, true) {
                actions.extend(self.schedule.handle(schedule::Event::Cancel));
            }
            if self.runner.cancel.insisted() && !std::mem::replace(&mut insisted, true) {
                self.stop_all();
                self.stop_all();
            }
            if let Some(limit) = limit
                && self.began.elapsed() > limit
                && !std::mem::replace(&mut out_of_time, true)
            {
                let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                actions.extend(self.schedule.handle(schedule::Event::OutOfTime { limit_ms }));
            }
            let now = Instant::now();
            let due: Vec<usize> =
                self.due.extract_if(.., |(when, _)| *when <= now).map(|(_, step)| step).collect();
            for step in due {
                actions.extend(self.schedule.handle(schedule::Event::Due(step)));
            }
            if !actions.is_empty() {
                continue;
            }
            let told = match self.told.try_recv() {
                Ok(told) => Ok(told),
                Err(_) => {
                    self.heard.settle();
                    self.told.recv_timeout(TICK)
                }
            };
            match told {
                Ok(told) => actions.extend(self.hear(told)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            while let Ok(told) = self.told.try_recv() {
                actions.extend(self.hear(told));
            }
        }
    }

    /// Asks every step that runs to stop.
    fn stop_all(&self) {
        self.known.iter().filter_map(|known| known.cancel.as_ref()).for_each(Cancel::ask);
    }

    /// Does what the schedule says, until it says nothing more.
    fn act<'s>(&mut self, actions: &mut VecDeque<Action>, scope: &'s Scope<'s, '_>) -> Result<(), RunError>
    where
        'a: 's,
    {
        while !actions.is_empty() {
            if actions.iter().any(|action| matches!(action, Action::Resolve(_))) {
                self.look_up(actions)?;
                continue;
            }
            let Some(action) = actions.pop_front() else { break };
            match action {
                Action::Resolve(_) => {}
                Action::Start { step, attempt } => self.start(step, attempt, scope)?,
                Action::Retry { step, attempt, outcome, delay } => {
                    self.due.push((Instant::now() + delay, step));
                    let step = self.step(step).name.clone();
                    self.heard.tell(&Event::StepRetries { step, attempt, outcome, delay });
                }
                Action::Stop(step) => {
                    if let Some(cancel) = &self.known[step].cancel {
                        cancel.ask();
                    }
                }
                Action::Ended(step, outcome) => {
                    let report = self.step_report(step, &outcome);
                    self.heard.tell(&Event::StepEnded { report });
                }
            }
        }
        Ok(())
    }

    /// Looks up all that is to be looked up, and what follows from that, in one transaction.
    fn look_up(&mut self, actions: &mut VecDeque<Action>) -> Result<(), RunError> {
        let cache = self.cache;
        let mut records = cache.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failed = None;
        let done = records.write(|writer| {
            if !std::mem::replace(&mut self.leased, true) {
                writer.begin_lease(&self.scratch.name)?;
            }
            let mut others = VecDeque::new();
            while let Some(action) = actions.pop_front() {
                let Action::Resolve(step) = action else {
                    others.push_back(action);
                    continue;
                };
                match self.resolve(step, writer) {
                    Ok(found) => actions.extend(self.schedule.handle(schedule::Event::Resolved(step, found))),
                    Err(Unresolved::Store(error)) => return Err(error),
                    Err(Unresolved::Other(error)) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            *actions = others;
            Ok(())
        });
        done?;
        failed.map_or(Ok(()), |error| Err(*error))
    }

    fn resolve(&mut self, at: usize, writer: &CacheWriter<'_>) -> Result<Found, Unresolved> {
        if let Some(why) = self.keys.not_wanted(at) {
            return Ok(Found::NotPart(why));
        }
        let step = self.step(at);
        let result_of = |name: &StepName| {
            let place = self.keys.pipeline.steps.iter().position(|step| step.name == *name)?;
            self.known[place].built.as_ref().map(Built::id)
        };
        let key = self.keys.key(at, result_of).map_err(|error| Unresolved::Other(Box::new(error)))?;
        let Some(key) = key else { return Ok(Found::Miss) };
        writer.remember_key(&self.project, &self.keys.pipeline.name, &step.name, &key)?;
        let digest = key.digest();
        self.known[at].key = Some(digest);
        let builds_on_unkept = self
            .keys
            .graph
            .parents(at)
            .iter()
            .filter(|(_, edge)| matches!(edge, Edge::From | Edge::Take))
            .any(|(parent, _)| self.known[*parent].built.as_ref().is_some_and(Built::is_unkept));
        if step.is_uncached() || builds_on_unkept || self.options.no_cache {
            return Ok(Found::Miss);
        }
        let limit = self.keys.not_before(at);
        let Some(row) =
            writer.take_whole(digest, limit, |id| is_whole(self.runner.engine, self.snapshots, id))?
        else {
            return Ok(Found::Miss);
        };
        self.known[at].built = Some(Built::Stored(row.id));
        self.known[at].row = Some(row);
        Ok(Found::Hit)
    }

    fn start<'s>(&mut self, at: usize, attempt: u32, scope: &'s Scope<'s, '_>) -> Result<(), RunError>
    where
        'a: 's,
    {
        let shared = self.shared()?;
        let step = self.step(at);
        let cancel = Cancel::default();
        if self.runner.cancel.asked() {
            cancel.ask();
        }
        let built = |name: &StepName| {
            let place = self.keys.pipeline.steps.iter().position(|step| step.name == *name)?;
            self.known[place].built.clone()
        };
        let take: Vec<Built> = step.take.iter().filter_map(built).collect();
        let below = step.from.as_ref().and_then(built);
        let is_kept = !step.is_uncached() && !take.iter().chain(&below).any(Built::is_unkept);
        let view = self.keys.view(step)?;
        let has_children =
            self.keys.graph.children(at).iter().any(|(child, edge)| {
                self.keys.wanted.contains(child) && matches!(edge, Edge::From | Edge::Take)
            });
        let job = Job {
            at,
            attempt,
            key: self.known[at].key.filter(|_| is_kept),
            may_take: !self.options.no_cache,
            not_before: self.keys.not_before(at),
            base: self.keys.base_of(at),
            below: below.unwrap_or(Built::Nothing(Tree::empty_digest())),
            source: view.as_ref().map(|tree| tree.layers.clone()).unwrap_or_default(),
            take,
            has_children,
            mounts: self.keys.mounts(step),
            cancel: cancel.clone(),
            keep_failed: self.options.keep_failed && self.failed.is_none(),
            step: step.clone(),
        };
        let known = &mut self.known[at];
        known.view = view;
        known.cancel = Some(cancel);
        known.attempts = attempt;
        known.tail.clear();
        known.began.get_or_insert_with(Instant::now);
        let tell = self.tell.clone();
        scope.spawn(move || work(shared, &job, &tell));
        Ok(())
    }

    /// What steps share that run. Made when the first of them begins: a run of hits needs no secret.
    fn shared(&mut self) -> Result<&'a Shared<'a>, RunError> {
        if let Some(shared) = self.shared.get() {
            return Ok(shared);
        }
        let has_ended = |at: &usize| self.schedule.outcome(*at).is_some();
        let to_run = self.keys.wanted.iter().filter(|at| !has_ended(at)).map(|at| self.step(*at));
        let runner = self.runner;
        let names: BTreeSet<&SecretName> = to_run.flat_map(|step| shared_secrets(runner, step)).collect();
        let secrets = Secrets::new(runner.roots, &runner.project.root);
        let values = secrets.resolve(&runner.sources(), names)?;
        let shared = Shared {
            runner,
            snapshots: self.snapshots,
            cache: self.cache,
            scratch: &self.scratch.folder,
            mask: Mask::new(&values),
            values,
            project: self.project.clone(),
            pipeline: &self.keys.pipeline.name,
            run: self.heard.log.number(),
        };
        Ok(self.shared.get_or_init(|| shared))
    }

    fn hear(&mut self, told: Told) -> Vec<Action> {
        match told {
            Told::Waits(at) => {
                self.heard.tell(&Event::StepWaits { step: self.keys.pipeline.steps[at].name.clone() })
            }
            Told::Began(at) => {
                let (step, attempt) = (self.step(at).name.clone(), self.known[at].attempts);
                self.heard.tell(&Event::StepBegan { step, attempt });
            }
            Told::Line(at, line) => {
                let tail = &mut self.known[at].tail;
                if tail.len() == TAIL {
                    tail.pop_front();
                }
                tail.push_back(line.clone());
                self.heard.tell(&Event::Output { step: self.keys.pipeline.steps[at].name.clone(), line });
            }
            Told::Services(at, services) => {
                let step = self.step(at).name.clone();
                self.heard.tell(&Event::StepServices { step, services });
            }
            Told::ServiceLine(at, service, line) => {
                self.heard.tell(&Event::ServiceOutput { step: self.step(at).name.clone(), service, line });
            }
            Told::Note(at, text) => {
                self.heard.tell(&Event::Note { step: Some(self.step(at).name.clone()), text });
            }
            Told::Ended(at, finish) => return self.ended(at, *finish),
        }
        Vec::new()
    }

    fn ended(&mut self, at: usize, finish: Finish) -> Vec<Action> {
        let name = self.step(at).name.clone();
        let known = &mut self.known[at];
        known.cancel = None;
        known.view = None;
        known.took = known.began.map_or(finish.took, |began| began.elapsed());
        self.stored |= matches!(finish.built, Some(Built::Stored(_))) && finish.taken.is_none();
        if !finish.tail.is_empty() {
            known.tail = finish.tail.into();
        }
        known.built = finish.built;
        known.row = finish.taken;
        if self.failed.is_none() {
            self.failed = finish.failed.map(|spec| (name, spec));
        }
        self.schedule.handle(schedule::Event::Ended(at, finish.outcome))
    }

    fn step_report(&self, at: usize, outcome: &Outcome) -> StepReport {
        let known = &self.known[at];
        let row = known.row.as_ref().filter(|_| *outcome == Outcome::Cached);
        StepReport {
            step: self.step(at).name.clone(),
            outcome: outcome.clone(),
            took: if known.attempts == 0 { Duration::ZERO } else { known.took },
            saved: row.map(|row| row.took),
            made_in: row.filter(|row| row.project == self.project).map(|row| row.run),
            attempts: known.attempts,
            key: known.key.map(Digest::short),
            tail: if outcome.is_bad() { known.tail.iter().cloned().collect() } else { Vec::new() },
        }
    }

    /// Hands out the artifacts of steps that ended well.
    fn hand_out(&self) -> Result<Option<(usize, std::path::PathBuf)>, RunError> {
        let Some(output) = &self.options.output else { return Ok(None) };
        let mut count = 0;
        for at in self.keys.wanted.iter().copied() {
            let step = self.step(at);
            let (Some(built), false) = (&self.known[at].built, step.artifacts.is_empty()) else { continue };
            let view = self.keys.view(step)?;
            let mut layers = view.map(|tree| tree.layers).unwrap_or_default();
            layers.extend(built.workspace(&self.records(), self.snapshots)?);
            count += artifacts::hand_out(step, &layers, output)?;
        }
        Ok(Some((count, output.clone())))
    }

    fn report(&self, artifacts: Option<(usize, std::path::PathBuf)>) -> RunReport {
        let reports: BTreeMap<usize, StepReport> = self
            .keys
            .wanted
            .iter()
            .filter_map(|at| Some((*at, self.step_report(*at, self.schedule.outcome(*at)?))))
            .collect();
        let steps: Vec<StepReport> = reports.into_values().collect();
        RunReport {
            outcome: RunOutcome::of(steps.iter().map(|step| &step.outcome)),
            took: self.began.elapsed(),
            steps,
            artifacts,
        }
    }
}

/// Why a step could not be looked up.
enum Unresolved {
    Store(StoreError),
    Other(Box<RunError>),
}

impl From<StoreError> for Unresolved {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
