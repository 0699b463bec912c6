//! One step, run: its sandbox, its output, its time, and what becomes of what it wrote.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use setpoint_model::digest::{Digest, Encoder};
use setpoint_model::manifest::EnvValue;
use setpoint_model::names::{PipelineName, UnitName};
use setpoint_model::pipeline::ir::Step;
use setpoint_model::pipeline::key;
use setpoint_model::pipeline::outcome::{How, Outcome};
use setpoint_sandbox::SandboxError;

use super::Runner;
use super::result::Built;
use super::services::{Came, Services, Unwell};
use crate::cancel::Cancel;
use crate::cas::Globs;
use crate::engine::{BaseSource, Ended, Engine, EngineError, Io, Mount, Process, StepSpec};
use crate::flatten::flatten;
use crate::lines;
use crate::lock::KeyLock;
use crate::paths::{Roots, make_private_folder};
use crate::remove::remove_tree;
use crate::secrets::{Mask, SecretError, Values, expand};
use crate::snapshot::{self, Snapshots};
use crate::store::StoreError;
use crate::store::cache::{CacheDb, Chains, NewResult, ResultRow};
use crate::workspace;

/// Asks a process to end.
const SIGTERM: u8 = 15;
/// How long a step may take to end after it was asked to, before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// How many layers lie below a step at most. Kernels before 6.5 take no more than a page of their paths.
const LONGEST_CHAIN: usize = 20;
/// How often a step that runs is looked after: whether it was cancelled, or is out of time.
const TICK: Duration = Duration::from_millis(50);

/// What all steps of a run share.
pub(super) struct Shared<'a> {
    pub(super) runner: &'a Runner<'a>,
    pub(super) snapshots: &'a Snapshots,
    pub(super) cache: &'a Mutex<CacheDb>,
    /// The folder of the run, for the time being.
    pub(super) scratch: &'a Path,
    /// The secrets of steps.
    pub(super) values: Values,
    /// Hides them.
    pub(super) mask: Mask,
    pub(super) project: String,
    pub(super) pipeline: &'a PipelineName,
    pub(super) run: u64,
}

/// A step that is to run.
pub(super) struct Job {
    /// Its place in the pipeline.
    pub(super) at: usize,
    pub(super) step: Step,
    pub(super) attempt: u32,
    /// Its key, if its result may be kept for other runs.
    pub(super) key: Option<Digest>,
    /// Whether an earlier result may be taken, should somebody make one meanwhile.
    pub(super) may_take: bool,
    /// Since when it has to be, to be good still.
    pub(super) not_before: Option<Timestamp>,
    pub(super) base: BaseSource,
    /// What it builds on.
    pub(super) below: Built,
    /// The layers of its source, the lowest first.
    pub(super) source: Vec<PathBuf>,
    /// What it takes from others.
    pub(super) take: Vec<Built>,
    /// Whether any step builds on it, or takes from it.
    pub(super) has_children: bool,
    pub(super) mounts: Vec<Mount>,
    pub(super) cancel: Cancel,
    /// Whether to keep what it left when it fails.
    pub(super) keep_failed: bool,
}

/// What a step tells while it runs.
pub(super) enum Told {
    /// It waits for another process that makes the same result.
    Waits(usize),
    /// It began.
    Began(usize),
    /// Its services are brought up.
    Services(usize, Vec<UnitName>),
    /// A line of its output.
    Line(usize, String),
    /// A line of the output of one of its services.
    ServiceLine(usize, UnitName, String),
    /// Something that a user should know of it.
    Note(usize, String),
    /// It ended.
    Ended(usize, Box<Finish>),
}

/// How a step ended, and what it left.
pub(super) struct Finish {
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
    /// What others may build on.
    pub(super) built: Option<Built>,
    /// The result that another process made meanwhile.
    pub(super) taken: Option<ResultRow>,
    /// What it left when it failed, if that is kept.
    pub(super) failed: Option<StepSpec>,
    /// The last lines of whatever kept it from beginning.
    pub(super) tail: Vec<String>,
}

/// Why a step could not be run.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Lock(#[from] crate::lock::LockError),
    #[error("cannot {what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Pattern(#[from] crate::cas::InvalidPattern),
    #[error(transparent)]
    Secret(#[from] SecretError),
}

pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StepError {
    move |source| StepError::Io { what, path: path.to_owned(), source }
}

/// Runs a step to its end, and tells of it.
pub(super) fn work(shared: &Shared<'_>, job: &Job, tell: &Sender<Told>) {
    let began = Instant::now();
    let mut folder = None;
    let finish = attempt(shared, job, tell, began, &mut folder).unwrap_or_else(|error| {
        let outcome = if job.cancel.asked() { Outcome::Cancelled } else { errored(&error) };
        Finish { outcome, took: began.elapsed(), built: None, taken: None, failed: None, tail: Vec::new() }
    });
    // Whoever leads the run listens until every step has ended. What is left of this one is removed while others
    // begin already.
    let _ = tell.send(Told::Ended(job.at, Box::new(finish)));
    drop(folder);
}

/// What could not be begun by the step's own fault is its failure; everything else is not its doing.
fn errored(error: &StepError) -> Outcome {
    let not_begun = match error {
        StepError::Engine(EngineError::Sandbox(SandboxError::Exec { .. })) => true,
        StepError::Engine(EngineError::Sandbox(SandboxError::Io { what, .. })) => what == "enter",
        StepError::Engine(EngineError::NoAccount { .. }) => true,
        _ => false,
    };
    if not_begun {
        return Outcome::Failed { how: How::NotBegun(error.to_string()) };
    }
    let mut what = error.to_string();
    if let StepError::Engine(error) = error
        && let Some(hint) = error.hint()
    {
        what.push_str(&format!("; {hint}"));
    }
    if let StepError::Store(error) = error
        && let Some(hint) = error.hint()
    {
        what.push_str(&format!("; {hint}"));
    }
    Outcome::Errored { what }
}

fn attempt(
    shared: &Shared<'_>,
    job: &Job,
    tell: &Sender<Told>,
    began: Instant,
    held: &mut Option<Folder>,
) -> Result<Finish, StepError> {
    let ended = |outcome, built, taken| Finish {
        outcome,
        took: began.elapsed(),
        built,
        taken,
        failed: None,
        tail: Vec::new(),
    };
    let mut told = false;
    let _lock = match job.key {
        None => None,
        Some(key) => {
            let lock = KeyLock::acquire(shared.runner.roots, key, || {
                if !std::mem::replace(&mut told, true) {
                    let _ = tell.send(Told::Waits(job.at));
                }
                !job.cancel.asked()
            })?;
            let Some(lock) = lock else { return Ok(ended(Outcome::Cancelled, None, None)) };
            // Somebody may have made it since it was looked up: another process, or an equal step of this run.
            if job.may_take
                && let Some(row) = take(shared, key, job.not_before)?
            {
                return Ok(ended(Outcome::Cached, Some(Built::Stored(row.id)), Some(row)));
            }
            Some(lock)
        }
    };
    let folder = held.insert(Folder::new(shared, job)?);
    let _ = tell.send(Told::Began(job.at));
    let Some(mut services) = Services::of(shared, job, tell)? else {
        return run(shared, job, tell, began, folder, None);
    };
    let brought = services.bring_up(&|| !job.cancel.asked() && !is_late(job, began));
    let finish = match brought {
        Ok(Came::Up) => run(shared, job, tell, began, folder, Some(&services)),
        Ok(Came::Stopped) if job.cancel.asked() => Ok(ended(Outcome::Cancelled, None, None)),
        Ok(Came::Stopped) => Ok(ended(timed_out(job), None, None)),
        Ok(Came::Unwell(Unwell { what, tail })) => {
            Ok(Finish { tail, ..ended(Outcome::Errored { what }, None, None) })
        }
        Err(error) => Err(error),
    };
    services.tell_output();
    // Those of a step that is to be looked at are part of what it left.
    let stay = matches!(&finish, Ok(Finish { failed: Some(_), .. }));
    if !stay && let Err(error) = services.end() {
        let text = format!("its services are not all gone: {error}; the next run removes what is left");
        let _ = tell.send(Told::Note(job.at, text));
    }
    finish
}

/// Runs a step whose services, if it has any, are there.
fn run(
    shared: &Shared<'_>,
    job: &Job,
    tell: &Sender<Told>,
    began: Instant,
    folder: &mut Folder,
    services: Option<&Services<'_>>,
) -> Result<Finish, StepError> {
    let spec = spec(shared, job, folder, services)?;
    let mask = services.map_or(&shared.mask, |services| &services.mask);
    let mut process = shared.runner.engine.start_step(&spec)?;
    let mut outcome = watch(job, tell, mask, process.as_mut(), began)?;
    if !matches!(outcome, Outcome::Passed | Outcome::Cancelled) {
        for what in services.iter().flat_map(|services| services.ended()) {
            let _ = tell.send(Told::Note(job.at, what));
        }
    }
    if outcome == Outcome::Passed
        && let Some(pattern) = missing(shared, job, &spec)?
    {
        outcome = Outcome::Failed { how: How::Missing(pattern) };
    }
    let has_passed = outcome == Outcome::Passed;
    let kept = job.keep_failed && matches!(outcome, Outcome::Failed { .. } | Outcome::TimedOut { .. });
    if kept || (has_passed && is_needed(job)) {
        shared.runner.engine.seal_step(&spec)?;
    }
    drop(process);
    let built = has_passed.then(|| keep(shared, job, &spec, began.elapsed())).transpose()?;
    let failed = kept.then_some(spec);
    if failed.is_some() {
        folder.leave();
    }
    Ok(Finish { outcome, took: began.elapsed(), built, taken: None, failed, tail: Vec::new() })
}

/// Whether a try has taken longer than it may.
fn is_late(job: &Job, began: Instant) -> bool {
    job.step.timeout_ms.is_some_and(|limit| began.elapsed() > Duration::from_millis(limit))
}

fn timed_out(job: &Job) -> Outcome {
    Outcome::TimedOut { limit_ms: job.step.timeout_ms.unwrap_or_default() }
}

/// The result of a key that is there by now, if its snapshot is.
fn take(
    shared: &Shared<'_>,
    key: Digest,
    not_before: Option<Timestamp>,
) -> Result<Option<ResultRow>, StepError> {
    let mut cache = shared.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(cache.write(|writer| {
        writer.take_whole(key, not_before, |id| is_whole(shared.runner.engine, shared.snapshots, id))
    })?)
}

/// Whether all of a snapshot is there, what the engine keeps elsewhere included. What cannot be looked at now is not
/// given up.
pub(super) fn is_whole(engine: &dyn Engine, snapshots: &Snapshots, id: Digest) -> bool {
    snapshots.is_there(id)
        && !engine.kept_elsewhere(&snapshots.path(id)).is_ok_and(|elsewhere| elsewhere.is_none())
}

/// The folder of a step, for the time being: removed when it is dropped.
struct Folder {
    path: PathBuf,
    leave: bool,
}

impl Folder {
    fn new(shared: &Shared<'_>, job: &Job) -> Result<Self, StepError> {
        let path = shared.scratch.join(format!("{}-{}", job.step.name, job.attempt));
        let folder = Self { path, leave: false };
        for (name, mode) in [("state", 0o755), ("root", 0o700), ("tmp", 0o1777)] {
            let path = folder.path.join(name);
            fs::create_dir_all(&path).map_err(io("make", &path))?;
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode))
                .map_err(io("make", &path))?;
        }
        Ok(folder)
    }

    fn leave(&mut self) {
        self.leave = true;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.leave {
            // What stays behind goes with the folder of the run. Only root, who may remove all, makes what others
            // may not.
            if std::fs::remove_dir_all(&self.path).is_err() {
                let _ = remove_tree(&self.path);
            }
        }
    }
}

fn spec(
    shared: &Shared<'_>,
    job: &Job,
    folder: &Folder,
    services: Option<&Services<'_>>,
) -> Result<StepSpec, StepError> {
    let (system, mut workspace) = {
        let cache = shared.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let system = job.below.system(&cache, shared.snapshots)?;
        let mut layers = job.source.clone();
        layers.extend(job.below.workspace(&cache, shared.snapshots)?);
        for taken in &job.take {
            layers.extend(taken.own_workspace(&cache, shared.snapshots)?);
        }
        (system, layers)
    };
    // A layer that comes twice, by two ways, is where it comes last.
    let mut seen = std::collections::BTreeSet::new();
    workspace.reverse();
    workspace.retain(|layer| seen.insert(layer.clone()));
    workspace.reverse();
    let mut mounts =
        vec![Mount { source: folder.path.join("tmp"), target: PathBuf::from("/tmp"), read_only: false }];
    for shared_folder in &job.step.cache_dirs {
        let source = cache_dir(shared.runner.roots, shared_folder);
        make_private_folder(source.parent().unwrap_or(&source)).map_err(io("make", &source))?;
        fs::create_dir_all(&source).map_err(io("make", &source))?;
        let target = Path::new(setpoint_model::pipeline::ir::WORKSPACE).join(shared_folder);
        mounts.push(Mount { source, target, read_only: false });
    }
    mounts.extend(job.mounts.iter().cloned());
    let values = services.map_or(&shared.values, |services| &services.values);
    let variable =
        |(name, value): (&String, &EnvValue)| (name.clone(), expand(value, values, &BTreeMap::new()));
    let env = job.step.env.iter().map(variable).collect();
    Ok(StepSpec {
        base: job.base.clone(),
        below: system,
        state: folder.path.join("state"),
        scratch: folder.path.join("root"),
        workspace,
        mounts,
        argv: job.step.run.argv(),
        env,
        cwd: PathBuf::from(key::workdir(&job.step)),
        user: job.step.user.clone(),
        network: job.step.network,
        joins: services.map(|services| services.network.clone()),
        io: Io::Captured,
    })
}

/// Where a folder lies that steps share from run to run, by its path inside.
fn cache_dir(roots: &Roots, path: &str) -> PathBuf {
    let name = Encoder::new("setpoint.cache_dir", 1).text(path).finish().short();
    let readable: String = path
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .collect::<String>()
        .trim_matches('-')
        .chars()
        .take(60)
        .collect();
    roots.state.join("cache_dirs/v1").join(format!("{readable}-{name}"))
}

/// Follows the process to its end.
fn watch(
    job: &Job,
    tell: &Sender<Told>,
    mask: &Mask,
    process: &mut dyn Process,
    began: Instant,
) -> Result<Outcome, StepError> {
    let output = process.output();
    std::thread::scope(|scope| {
        let reader = output.map(|output| {
            let tell = tell.clone();
            scope.spawn(move || {
                lines::read(output, mask, |line| {
                    let _ = tell.send(Told::Line(job.at, line));
                });
            })
        });
        let mut stopping: Option<(Instant, Outcome)> = None;
        let ended = loop {
            if let Some(ended) = process.wait(TICK)? {
                break ended;
            }
            if stopping.is_none() {
                let why = match job.cancel.asked() {
                    true => Some(Outcome::Cancelled),
                    false => is_late(job, began).then(|| timed_out(job)),
                };
                if let Some(why) = why {
                    process.signal(SIGTERM);
                    stopping = Some((Instant::now(), why));
                }
            }
            if let Some((since, _)) = &stopping
                && (since.elapsed() > GRACE || job.cancel.insisted())
            {
                process.kill();
            }
        };
        // With its first process everything in the sandbox has ended: the output ends too.
        if let Some(reader) = reader {
            let _ = reader.join();
        }
        Ok(match (stopping, ended) {
            (Some((_, why)), _) => why,
            (None, Ended::Code(0)) => Outcome::Passed,
            (None, Ended::Code(code)) => Outcome::Failed { how: How::Exit(code) },
            (None, Ended::Signal(signal)) => Outcome::Failed { how: How::Signal(signal) },
            (None, Ended::OutOfMemory) => Outcome::Failed { how: How::Oom },
        })
    })
}

/// The first pattern of its outputs or artifacts that fits nothing.
fn missing(shared: &Shared<'_>, job: &Job, spec: &StepSpec) -> Result<Option<String>, StepError> {
    let declared: Vec<&String> = job.step.outputs.iter().flatten().chain(&job.step.artifacts).collect();
    if declared.is_empty() {
        return Ok(None);
    }
    let globs = Globs::new(&declared)?;
    let mut layers = spec.workspace.clone();
    layers.push(snapshot::workspace_of(&spec.state));
    let found = workspace::find(&layers, &globs).map_err(io("read", shared.scratch))?;
    Ok(found.unmatched.first().map(|at| declared[*at].clone()))
}

/// Whether anybody can need what the step wrote.
fn is_needed(job: &Job) -> bool {
    job.key.is_some() || job.has_children || !job.step.artifacts.is_empty()
}

/// Makes what the step wrote something that others can build on, as far as anybody can need it.
fn keep(shared: &Shared<'_>, job: &Job, spec: &StepSpec, took: Duration) -> Result<Built, StepError> {
    let state = &spec.state;
    let id = result_id(shared, job);
    if !is_needed(job) {
        return Ok(Built::Nothing(id));
    }
    if let Some(outputs) = &job.step.outputs {
        let kept: Vec<&String> = outputs.iter().chain(&job.step.artifacts).collect();
        let upper = snapshot::workspace_of(state);
        workspace::narrow(&upper, &Globs::new(&kept)?).map_err(io("read", &upper))?;
    }
    let own = shared.scratch.join(format!("sealed-{}", id.short()));
    let sealed = snapshot::seal(state, &own).map_err(io("seal", state))?;
    let Some(key) = job.key else {
        let mut workspace = spec.workspace[job.source.len().min(spec.workspace.len())..].to_vec();
        let mut system = spec.below.clone();
        let own_workspace = sealed.workspace.then(|| snapshot::workspace_of(&own));
        workspace.extend(own_workspace.clone());
        if sealed.system {
            system.push(own);
        }
        return Ok(Built::Unkept { id, system, workspace, own_workspace });
    };
    let mut cache = shared.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut chains = Chains::default();
    let below = job.below.chains(&cache)?;
    let mut made = Vec::new();
    chains.system = shorter(shared, below.system, id, "system", &mut made)?;
    chains.workspace = shorter(shared, below.workspace, id, "workspace", &mut made)?;
    for taken in &job.take {
        let own = taken.id();
        if taken.own_workspace(&cache, shared.snapshots)?.is_some() {
            chains.workspace.retain(|layer| *layer != own);
            chains.workspace.push(own);
        }
    }
    if sealed.system {
        chains.system.push(id);
    }
    if sealed.workspace {
        chains.workspace.push(id);
    }
    let new = NewResult {
        id,
        key,
        project: shared.project.clone(),
        pipeline: shared.pipeline.clone(),
        step: job.step.name.clone(),
        run: shared.run,
        took,
        chains,
    };
    cache.write(|writer| {
        writer.record(&new)?;
        // Within the transaction nobody sweeps what is not recorded yet.
        for (folder, id) in &made {
            shared.snapshots.keep(folder, *id).map_err(|error| writer.not_kept(folder, error))?;
        }
        if sealed != snapshot::Sealed::default() {
            shared.snapshots.keep(&own, id).map_err(|error| writer.not_kept(&own, error))?;
        }
        Ok(())
    })?;
    Ok(Built::Stored(id))
}

/// A chain of layers that is not too long for an overlay: a long one is made one layer, which becomes a snapshot too.
fn shorter(
    shared: &Shared<'_>,
    chain: Vec<Digest>,
    of: Digest,
    kind: &str,
    made: &mut Vec<(PathBuf, Digest)>,
) -> Result<Vec<Digest>, StepError> {
    if chain.len() < LONGEST_CHAIN {
        return Ok(chain);
    }
    let id = Encoder::new("setpoint.flat", 1).digest(of).text(kind).finish();
    let flat = shared.scratch.join(format!("flat-{}", id.short()));
    let failed = |error| io("flatten layers in", &flat)(error);
    let snapshots: Vec<PathBuf> = chain.iter().map(|layer| shared.snapshots.path(*layer)).collect();
    for folder in snapshot::overlays(&snapshots).map_err(failed)? {
        // Of the workspace or of the file system, as the chain is.
        if folder.starts_with("workspace") != (kind == "workspace") {
            continue;
        }
        let layers: Vec<PathBuf> = snapshots.iter().map(|snapshot| snapshot.join(&folder)).collect();
        let layers: Vec<PathBuf> = layers.into_iter().filter(|layer| layer.is_dir()).collect();
        let into = flat.join(&folder);
        make_private_folder(into.parent().unwrap_or(&flat)).map_err(failed)?;
        flatten(&layers, &into).map_err(failed)?;
    }
    made.push((flat, id));
    Ok(vec![id])
}

/// The id of a result: of this very run of the step, for nobody has looked at what it wrote.
fn result_id(shared: &Shared<'_>, job: &Job) -> Digest {
    let mut encoder = Encoder::new("setpoint.result", 1);
    encoder.bytes(shared.scratch.as_os_str().as_encoded_bytes()).text(&shared.project).number(shared.run);
    encoder.text(job.step.name.as_str()).number(u64::from(job.attempt));
    encoder.number(u64::from(std::process::id()));
    encoder.number(Timestamp::now().as_nanosecond().cast_unsigned() as u64);
    encoder.finish()
}

/// Runs a program in the place of a step that failed, as the step left it, on this terminal.
///
/// # Errors
/// If it cannot be started.
pub fn shell(
    engine: &dyn Engine,
    failed: &StepSpec,
    argv: &[String],
) -> Result<Box<dyn Process>, EngineError> {
    let refused = |source| EngineError::Io { what: "look into", path: failed.state.clone(), source };
    // An overlay that was volatile is not mounted again with the work folder that it had: what the step wrote is
    // laid below a new one.
    let sealed = failed.scratch.with_file_name("sealed");
    snapshot::seal(&failed.state, &sealed).map_err(refused)?;
    let mut spec = StepSpec { argv: argv.to_vec(), io: Io::Terminal, ..failed.clone() };
    spec.state = failed.scratch.with_file_name("shell");
    spec.below.push(sealed.clone());
    spec.workspace.extend(Some(snapshot::workspace_of(&sealed)).filter(|upper| upper.is_dir()));
    engine.start_step(&spec)
}
