//! The only interpreter of plan actions: journal, act, record.
//!
//! Each step is announced in the journal before it acts and recorded with its success in one transaction. A
//! process that dies in between leaves a record that says less than was done, never more: the next plan does the
//! step again, and every step may be repeated.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use setpoint_model::desired::FileDigest;
use setpoint_model::digest::{Digest, Encoder};
use setpoint_model::fingerprint::{Class, FORMAT, Fingerprint, Leaf, LeafKey, Pack};
use setpoint_model::manifest::{EnvValue, Location, Problem};
use setpoint_model::names::{HookName, SecretName};
use setpoint_model::plan::{Cause, Plan, PlannedStep, Step, hook_owner, pack_owner};

use crate::cancel::Cancel;
use crate::engine::{EngineError, LabelledLeaf, Labels, Mount, Pull, Seen, UnitSpec};
use crate::events::{Event, Watcher};
use crate::facts::{FactsError, PACKS, base_source};
use crate::hooks::{Failed, Failure, Runner};
use crate::observe::{Look, Unit};
use crate::paths::expand_home;
use crate::secrets::{Mask, SecretError, Values};
use crate::session::Session;
use crate::store::{self, NewUnit, OperationOutcome, PackRow, PhaseRow, Store, StoreError, TxId, UnitKind};
use crate::{failpoints, host};

/// How long a unit may take to stop before it is killed.
pub const STOP_GRACE: Duration = Duration::from_secs(10);

/// A phase that failed, and all that a person needs to go on.
#[derive(Debug)]
pub struct PhaseFailed {
    /// The unit.
    pub unit: String,
    /// The phase: `post_create`, `pack uv`.
    pub phase: String,
    /// What ran.
    pub detail: String,
    /// How it ended: `exit 1`.
    pub how: String,
    /// Where it is declared.
    pub at: Option<Location>,
    /// The last lines of its output.
    pub tail: Vec<String>,
    /// Whether it was stopped on request.
    pub cancelled: bool,
    /// The state that the unit is left in.
    pub consequence: String,
    /// What to do next.
    pub hint: String,
}

/// Why a plan could not be made or carried out.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A hook or a pack failed.
    #[error("{} failed in {}: {}", .0.phase, .0.unit, .0.how)]
    Phase(Box<PhaseFailed>),
    /// The source of a mount is not there.
    #[error("{}", .0.what)]
    Problem(Box<setpoint_model::manifest::Problem>),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The state failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A secret has no value.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A declared file could not be read.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// What sessions are given could not be kept.
    #[error("cannot keep what sessions are given: {0}")]
    Session(std::io::Error),
}

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// The steps that were done, in order.
    pub done: Vec<Step>,
    /// The phases whose files were edited while they ran; they will run again.
    pub edited: Vec<String>,
    /// How long it took.
    pub took: Duration,
    /// The digest of the record as it is now.
    pub recorded: Option<setpoint_model::digest::Digest>,
}

/// How to apply.
pub struct Settings<'a> {
    /// Hears what happens.
    pub watcher: &'a dyn Watcher,
    /// Stops it.
    pub cancel: &'a Cancel,
    /// What was asked for, for the journal: `up dev`.
    pub command: String,
}

impl Unit<'_> {
    /// Carries out the plan of a look.
    ///
    /// # Errors
    /// At the first step that fails; what was done before it is recorded.
    pub fn apply(
        &self,
        store: &mut Store,
        look: Look,
        settings: &Settings<'_>,
    ) -> Result<Applied, ApplyError> {
        let began = Instant::now();
        if look.plan.is_empty() {
            return Ok(Applied::default());
        }
        let spec = self.spec(&look)?;
        let values = self.resolve_secrets()?;
        let mut look = look;
        for (name, value) in &values {
            look.desired.resolve_secret(name, self.secrets().digest(value)?);
        }
        let row = self.row(store, &look)?;
        let steps = look.plan.steps.clone();
        let operation = TxId::new(new_instance());
        let recover = |store: &mut Store| -> Result<(), ApplyError> {
            // What a process that died left open is settled by this plan, which was made from what is there.
            let open = store.open_operations(row)?;
            Ok(store.write(|writer| {
                for left in &open {
                    let txid = &left.operation.txid;
                    writer.finish(txid, OperationOutcome::Recovered, None, Timestamp::now())?;
                }
                writer.begin(&operation, row, &settings.command, Timestamp::now())
            })?)
        };
        recover(store)?;
        let mut applier = Applier {
            unit: self,
            store: &mut *store,
            operation: operation.clone(),
            row,
            look,
            settings,
            spec,
            values,
            edited: Vec::new(),
            cut: false,
        };
        let outcome = applier.run(&steps);
        let edited = std::mem::take(&mut applier.edited);
        let (ended, detail) = match &outcome {
            Ok(()) => (OperationOutcome::Succeeded, None),
            Err(ApplyError::Phase(failed)) if failed.cancelled => {
                (OperationOutcome::Cancelled, Some(&failed.phase))
            }
            Err(ApplyError::Phase(failed)) => (OperationOutcome::Failed, Some(&failed.phase)),
            Err(_) => (OperationOutcome::Failed, None),
        };
        store
            .write(|writer| writer.finish(&operation, ended, detail.map(String::as_str), Timestamp::now()))?;
        outcome?;
        let recorded = crate::record::recorded(&store.recorded(row)?).fingerprint.digest();
        let done = steps.into_iter().map(|planned| planned.step).collect();
        Ok(Applied { done, edited, took: began.elapsed(), recorded: Some(recorded) })
    }

    /// What the engine is told to make and start. Everything that can be wrong with it is found here, before
    /// anything is touched.
    fn spec(&self, look: &Look) -> Result<UnitSpec, ApplyError> {
        let root = &self.project.root;
        let mut mounts = vec![Mount {
            source: root.clone(),
            target: PathBuf::from(&self.env.workspace),
            read_only: false,
        }];
        for declared in &self.env.mounts {
            let source = root.join(expand_home(&declared.source, self.home.as_deref()));
            if !source.exists() {
                let problem = Problem::new("mount-missing", format!("there is no {}", source.display()))
                    .at(declared.at.clone())
                    .hint("make the folder, or take the mount out");
                return Err(ApplyError::Problem(Box::new(problem)));
            }
            mounts.push(Mount {
                source,
                target: PathBuf::from(&declared.target),
                read_only: declared.read_only,
            });
        }
        for path in &self.env.host_paths {
            let path = expand_home(path, self.home.as_deref());
            if path.exists() {
                mounts.push(Mount { source: path.clone(), target: path, read_only: true });
            }
        }
        let instance = match &look.seen {
            Seen::Stopped(labels) | Seen::Running(labels) if !makes_an_instance(&look.plan) => {
                labels.instance.clone()
            }
            _ => new_instance(),
        };
        let made_of = made_of(&look.desired.fingerprint);
        Ok(UnitSpec {
            labels: Labels {
                project_root: root.clone(),
                project: self.project.manifest.project.name.to_string(),
                unit: self.env.name.clone(),
                instance,
                made_of,
            },
            base: base_source(self.env, root),
            mounts,
            workspace: PathBuf::from(&self.env.workspace),
            user: look.facts.user.clone(),
            network: self.env.network,
            limits: self.env.limits,
        })
    }

    fn resolve_secrets(&self) -> Result<Values, ApplyError> {
        let mut wanted: Vec<SecretName> =
            self.env.env.values().flat_map(EnvValue::secrets).cloned().collect();
        wanted.extend(
            self.env.hooks.values().flat_map(|hook| hook.env.values()).flat_map(EnvValue::secrets).cloned(),
        );
        wanted.sort();
        wanted.dedup();
        let declared = &self.project.manifest.secrets;
        Ok(self.secrets().resolve(declared, &wanted, self.variables, self.home.as_deref())?)
    }

    /// The unit's row; one is made for a unit that is new, or that was found by its labels.
    fn row(&self, store: &mut Store, look: &Look) -> Result<store::UnitId, ApplyError> {
        if let Some(row) = &look.row {
            return Ok(row.id);
        }
        let instance = match &look.seen {
            Seen::Absent => None,
            Seen::Stopped(labels) | Seen::Running(labels) => Some(labels.instance.clone()),
        };
        let new = NewUnit {
            project_root: self.project.root.clone(),
            project_name: self.project.manifest.project.name.to_string(),
            name: self.env.name.clone(),
            kind: UnitKind::Env,
            engine: self.engine.capabilities().engine.to_owned(),
            instance: instance.clone(),
            labels: BTreeMap::new(),
        };
        let known: Vec<_> =
            look.recorded.fingerprint.iter().map(|(key, leaf)| crate::record::leaf(key, leaf)).collect();
        let now = Timestamp::now();
        Ok(store.write(|writer| match instance {
            None => writer.insert_unit(&new, now),
            Some(_) => {
                let id = writer.adopt_unit(&new, now)?;
                writer.record_leaves(id, &known, now)?;
                Ok(id)
            }
        })?)
    }
}

fn makes_an_instance(plan: &Plan) -> bool {
    plan.find(&Step::Create).is_some()
}

fn new_instance() -> String {
    let mut bytes = [0_u8; 8];
    // A name that two instances share would only make an old success count for a new unit; the time alone
    // tells them apart if there is no randomness.
    let filled = std::fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes));
    if filled.is_err() {
        bytes = Timestamp::now().as_nanosecond().to_le_bytes()[..8].try_into().unwrap_or_default();
    }
    format!("{:016x}", u64::from_le_bytes(bytes))
}

/// One apply, step by step.
struct Applier<'a, 'u> {
    unit: &'a Unit<'u>,
    store: &'a mut Store,
    operation: TxId,
    row: store::UnitId,
    look: Look,
    settings: &'a Settings<'a>,
    spec: UnitSpec,
    values: Values,
    edited: Vec<String>,
    /// Whether the records were cut of the phases that come with what this plan does.
    cut: bool,
}

impl Applier<'_, '_> {
    fn run(&mut self, steps: &[PlannedStep]) -> Result<(), ApplyError> {
        for (index, planned) in steps.iter().enumerate() {
            if self.settings.cancel.asked() {
                return Err(self.stopped(&steps[index..]));
            }
            let phase = self.phase(&planned.step);
            let detail = self.detail(&planned.step);
            self.tell(&Event::Began { phase: phase.clone(), detail: detail.clone() });
            self.announce(planned, &steps[index + 1..])?;
            failpoints::reached(&planned.step, "announced");
            let began = Instant::now();
            let result = self.act(&planned.step);
            failpoints::reached(&planned.step, "acted");
            let took = began.elapsed();
            if let Err(error) = result {
                let how = match &error {
                    ApplyError::Phase(failed) => failed.how.clone(),
                    other => other.to_string(),
                };
                self.tell(&Event::Failed { phase, detail, how, took });
                let not_run: Vec<_> =
                    steps[index + 1..].iter().map(|later| self.phase(&later.step)).collect();
                if !not_run.is_empty() {
                    self.tell(&Event::NotRun { phases: not_run });
                }
                return Err(error);
            }
            self.record(&planned.step, took)?;
            failpoints::reached(&planned.step, "recorded");
            self.tell(&Event::Done { phase, detail, took });
        }
        Ok(())
    }

    fn tell(&self, event: &Event) {
        self.settings.watcher.event(event);
    }

    /// Announces a step, and takes out of the record, in the same transaction, what it is about to make untrue.
    fn announce(&mut self, planned: &PlannedStep, later: &[PlannedStep]) -> Result<(), ApplyError> {
        let mut cut_hooks = Vec::new();
        let mut cut_packs = None;
        match &planned.step {
            Step::Hook(hook) => cut_hooks.push(*hook),
            Step::Pack(index) if planned.cause != Cause::Requested || later_packs(later) => {
                cut_packs = Some(*index)
            }
            _ => {}
        }
        // What comes with the action as a whole has to run from here on, even if this run ends before it.
        let prepares = matches!(planned.step, Step::Image | Step::Hook(HookName::Initialize));
        if !prepares && !self.cut {
            self.cut = true;
            for planned in later.iter().filter(|planned| matches!(planned.cause, Cause::Cadence(_))) {
                match planned.step {
                    Step::Hook(hook) => cut_hooks.push(hook),
                    Step::Pack(index) => {
                        cut_packs = Some(cut_packs.map_or(index, |cut: usize| cut.min(index)))
                    }
                    _ => {}
                }
            }
        }
        let (row, step) = (self.row, label(&planned.step));
        let operation = &self.operation;
        self.store.write(|writer| {
            for hook in &cut_hooks {
                writer.remove_phase(row, *hook)?;
            }
            if let Some(position) = cut_packs {
                writer.cut_packs(row, position)?;
            }
            writer.intent(operation, &step, &serde_json::Value::Null, Timestamp::now())
        })?;
        Ok(())
    }

    fn act(&mut self, step: &Step) -> Result<(), ApplyError> {
        let (engine, id) = (self.unit.engine, &self.unit.id);
        let cancel = self.settings.cancel;
        match step {
            Step::Image => {
                let digest = engine.prepare(&self.spec.base, Pull::Missing, self.settings.watcher, cancel)?;
                if let Some(digest) = digest {
                    self.look.desired.resolve_base(&digest);
                    self.spec.labels.made_of = made_of(&self.look.desired.fingerprint);
                }
            }
            Step::Stop => engine.stop(id, STOP_GRACE, cancel)?,
            Step::Remove => engine.remove(id)?,
            Step::Create => engine.create(id, &self.spec)?,
            Step::Start => {
                engine.start(id, &self.spec)?;
                self.keep_session()?;
            }
            Step::ApplyHot => {
                engine.set_limits(id, &self.spec.limits)?;
                self.keep_session()?;
            }
            Step::Pack(index) => self.run_phase(step, Some(*index))?,
            Step::Hook(_) => self.run_phase(step, None)?,
            Step::Record => {}
        }
        Ok(())
    }

    /// Takes the success of a step into the record, in one transaction with the journal.
    fn record(&mut self, step: &Step, took: Duration) -> Result<(), ApplyError> {
        let declared = self.look.desired.fingerprint.clone();
        let changes = match step {
            Step::Image | Step::Stop => Changes::default(),
            Step::Remove => Changes { forget_instance: true, ..Changes::default() },
            Step::Create => {
                let mut changes =
                    self.synchronised(|_, class| matches!(class, Class::Recreate | Class::Report));
                changes.forget_instance = true;
                changes
            }
            Step::Start => self.synchronised(|_, class| matches!(class, Class::Restart | Class::Hot)),
            Step::ApplyHot => self.synchronised(|_, class| class == Class::Hot),
            Step::Pack(index) => self.pack_changes(*index)?,
            Step::Hook(hook) => self.hook_changes(*hook)?,
            Step::Record => {
                let planned: Vec<Step> = self.look.plan.steps.iter().map(|p| p.step.clone()).collect();
                self.synchronised(|_, class| match class {
                    Class::Hook(hook) => !planned.contains(&Step::Hook(hook)),
                    Class::Packs => !planned.iter().any(|step| matches!(step, Step::Pack(_))),
                    _ => false,
                })
            }
        };
        let trim = matches!(step, Step::Record).then_some(declared.packs.len());
        let forget: Vec<_> = self
            .look
            .recorded
            .fingerprint
            .iter()
            .filter(|(key, _)| key.owner.as_deref() != Some(HookName::Initialize.as_str()))
            .filter(|(_, leaf)| leaf.class != Class::Hook(HookName::Initialize))
            .map(|(key, _)| crate::record::text(key))
            .collect();
        let remove: Vec<_> = changes.remove.iter().map(crate::record::text).collect();
        let put: Vec<_> = changes.put.iter().map(|(key, leaf)| crate::record::leaf(key, leaf)).collect();
        let instance = self.spec.labels.instance.clone();
        let (row, operation, creates, step) = (self.row, &self.operation, *step == Step::Create, label(step));
        let at = Timestamp::now();
        self.store.write(|writer| {
            if changes.forget_instance {
                writer.remove_leaves(row, &forget)?;
                writer.cut_packs(row, 0)?;
                for hook in HookName::ALL.into_iter().filter(|hook| *hook != HookName::Initialize) {
                    writer.remove_phase(row, hook)?;
                }
                writer.set_instance(row, creates.then_some(instance.as_str()))?;
            }
            writer.record_leaves(row, &put, at)?;
            writer.remove_leaves(row, &remove)?;
            if let Some((position, pack)) = &changes.pack {
                let (name, digest) = (pack.name.to_string(), pack.digest);
                writer.put_pack(row, *position, &PackRow { name, digest, at, took })?;
            }
            if let Some(len) = trim {
                writer.cut_packs(row, len)?;
            }
            if let Some((hook, digest)) = changes.phase {
                let outcome = store::PhaseOutcome::Succeeded;
                let digest = Some(digest);
                writer.record_phase(
                    row,
                    &PhaseRow { hook, digest, instance: instance.clone(), outcome, at, took },
                )?;
            }
            writer.done(operation, &step, &serde_json::Value::Null, at)
        })?;
        Ok(())
    }

    /// The changes that make the record equal to what is declared, for the leaves that are meant.
    fn synchronised(&self, meant: impl Fn(&LeafKey, Class) -> bool) -> Changes {
        let declared = &self.look.desired.fingerprint;
        let recorded = &self.look.recorded.fingerprint;
        Changes {
            put: declared
                .iter()
                .filter(|(key, leaf)| meant(key, leaf.class))
                .map(|(key, leaf)| (key.clone(), leaf.clone()))
                .collect(),
            remove: recorded
                .iter()
                .filter(|(key, leaf)| declared.get(key).is_none() && meant(key, leaf.class))
                .filter(|(key, _)| !self.look.desired.unresolved.contains(key))
                .map(|(key, _)| key.clone())
                .collect(),
            ..Changes::default()
        }
    }

    fn pack_changes(&mut self, index: usize) -> Result<Changes, ApplyError> {
        let pack = self.look.desired.fingerprint.packs[index].clone();
        let owner = pack_owner(&pack.name);
        let script = format!("{PACKS}/{}.sh", pack.name);
        let files = self.look.facts.packs.get(&pack.name).into_iter().flatten();
        let scripts = files.filter(|file| file.path == script).chain(&self.look.facts.pack_library).cloned();
        if self.was_edited(&owner, &scripts.collect::<Vec<_>>())? {
            return Ok(Changes::default());
        }
        let recorded = &self.look.recorded.fingerprint.packs;
        let alone = self.look.plan.steps.iter().filter(|p| matches!(p.step, Step::Pack(_))).count() == 1;
        let in_place =
            recorded.get(index).is_some_and(|old| old.name == pack.name) || index == recorded.len();
        // A pack that was asked for out of its turn changes no record of the order.
        let counts = in_place || !alone;
        let last = index + 1 == self.look.desired.fingerprint.packs.len();
        let mut changes = if last && self.edited.is_empty() && counts {
            self.synchronised(|_, class| class == Class::Packs)
        } else {
            self.synchronised(|key, class| class == Class::Packs && key.owner.as_deref() == Some(&owner))
        };
        let before_edited = self.edited.iter().any(|edited| edited.starts_with("pack "));
        changes.pack = (counts && !before_edited).then_some((index, pack));
        Ok(changes)
    }

    fn hook_changes(&mut self, hook: HookName) -> Result<Changes, ApplyError> {
        let owner = hook_owner(hook);
        let paths: Vec<_> =
            self.unit.env.hooks.get(&hook).into_iter().flat_map(|hook| hook.run.scripts()).collect();
        let files = self.look.facts.hooks.get(&hook).into_iter().flatten();
        let scripts = files.take(paths.len()).filter(|file| paths.contains(&file.path.as_str())).cloned();
        if self.was_edited(&owner, &scripts.collect::<Vec<_>>())? {
            return Ok(Changes::default());
        }
        let mut changes = self
            .synchronised(|key, class| class == Class::Hook(hook) || key.owner.as_deref() == Some(&owner));
        let mut encoder = Encoder::new("setpoint.phase", FORMAT);
        for (key, leaf) in &changes.put {
            encoder.text(&key.path).digest(leaf.digest);
        }
        changes.phase = Some((hook, encoder.finish()));
        Ok(changes)
    }

    /// Whether a script changed since it was digested: then nobody knows which bytes ran, and nothing is
    /// recorded of it.
    fn was_edited(&mut self, phase: &str, files: &[FileDigest]) -> Result<bool, ApplyError> {
        if files.is_empty() {
            return Ok(false);
        }
        let paths = files.iter().map(|file| file.path.clone()).collect();
        let now = self.unit.digests_now(paths)?;
        let edited = files.iter().zip(now).any(|(file, now)| file.digest != now);
        if edited {
            self.edited.push(phase.to_owned());
        }
        Ok(edited)
    }

    fn keep_session(&self) -> Result<(), ApplyError> {
        self.session().keep(self.unit.roots, &self.unit.id).map_err(ApplyError::Session)
    }

    fn session(&self) -> Session {
        Session::declared(
            self.unit.env,
            self.unit.project.manifest.project.name.as_str(),
            &self.look.facts.user,
        )
    }

    fn run_phase(&mut self, step: &Step, pack: Option<usize>) -> Result<(), ApplyError> {
        let unit = self.unit;
        let on_host = *step == Step::Hook(HookName::Initialize);
        let account = if on_host {
            host::account(unit.home.as_deref())
        } else {
            unit.engine.account(&unit.id, &self.look.facts.user)?
        };
        let session = if on_host {
            BTreeMap::new()
        } else {
            self.session().variables(unit.env.name.as_str(), &account, &self.spec.workspace, &self.values)
        };
        let runner = Runner {
            engine: unit.engine,
            unit: &unit.id,
            project_root: &unit.project.root,
            workspace: &self.spec.workspace,
            account: &account,
            session: &session,
            secrets: &self.values,
            mask: Mask::new(&self.values),
            watcher: self.settings.watcher,
            cancel: self.settings.cancel,
            logs: unit.logs(),
        };
        let result = match (step, pack) {
            (_, Some(index)) => {
                let name = &self.look.desired.fingerprint.packs[index].name;
                runner.pack(name, self.look.facts.pack_library.is_some())
            }
            (Step::Hook(hook), None) => match unit.env.hooks.get(hook) {
                Some(declared) => runner.hook(*hook, declared),
                None => Ok(()),
            },
            _ => Ok(()),
        };
        result.map_err(|failed| self.failed(step, failed))
    }

    fn failed(&self, step: &Step, failed: Failed) -> ApplyError {
        let unit = self.unit.env.name.to_string();
        let phase = self.phase(step);
        let at = match step {
            Step::Hook(hook) => self.unit.env.hooks.get(hook).map(|hook| hook.at.clone()),
            Step::Pack(index) => self.unit.env.packs.get(*index).map(|pack| pack.at.clone()),
            _ => None,
        };
        let cancelled = matches!(failed.failure, Failure::Cancelled);
        let consequence = if *step == Step::Hook(HookName::Initialize) {
            "Nothing else was touched.".to_owned()
        } else {
            format!("{unit} runs but is not ready. Done work is kept; nothing was undone.")
        };
        let hint = match (&failed.failure, step) {
            (Failure::Engine(error), _) if error.hint().is_some() => error.hint().unwrap_or_default(),
            (_, Step::Hook(HookName::Initialize)) => format!("the next `up` begins at {phase}"),
            _ => format!("look inside with `setpoint shell {unit}`; the next `up` begins at {phase}"),
        };
        ApplyError::Phase(Box::new(PhaseFailed {
            unit,
            phase,
            detail: self.detail(step),
            how: failed.failure.to_string(),
            at,
            tail: failed.tail,
            cancelled,
            consequence,
            hint,
        }))
    }

    fn stopped(&self, rest: &[PlannedStep]) -> ApplyError {
        let unit = self.unit.env.name.to_string();
        let phase = rest.first().map_or_else(String::new, |planned| self.phase(&planned.step));
        self.tell(&Event::NotRun { phases: rest.iter().map(|planned| self.phase(&planned.step)).collect() });
        ApplyError::Phase(Box::new(PhaseFailed {
            hint: format!("the next `up` begins at {phase}"),
            unit,
            detail: String::new(),
            phase,
            how: "stopped before it began".to_owned(),
            at: None,
            tail: Vec::new(),
            cancelled: true,
            consequence: "Done work is kept; nothing was undone.".to_owned(),
        }))
    }

    /// The step as it is named in output, logs and the journal.
    fn phase(&self, step: &Step) -> String {
        match step {
            Step::Pack(index) => pack_owner(&self.look.desired.fingerprint.packs[*index].name),
            step => label(step),
        }
    }

    /// What the step does, in a few words.
    fn detail(&self, step: &Step) -> String {
        let id = &self.spec.labels;
        match step {
            Step::Image => self.spec.base.to_string(),
            Step::Stop | Step::Remove | Step::Create | Step::Start => format!("{}/{}", id.project, id.unit),
            Step::ApplyHot => "environment and limits".to_owned(),
            Step::Pack(index) => {
                format!("{}/{}.sh", PACKS, self.look.desired.fingerprint.packs[*index].name)
            }
            Step::Hook(hook) => {
                self.unit.env.hooks.get(hook).map(|hook| hook.run.to_string()).unwrap_or_default()
            }
            Step::Record => "what asks for no work".to_owned(),
        }
    }
}

/// What a step changes in the record.
#[derive(Debug, Default)]
struct Changes {
    put: Vec<(LeafKey, Leaf)>,
    remove: Vec<LeafKey>,
    pack: Option<(usize, Pack)>,
    phase: Option<(HookName, Digest)>,
    /// The instance is gone or new: nothing that was recorded of it holds, but for `initialize`, which is the
    /// host's.
    forget_instance: bool,
}

fn later_packs(later: &[PlannedStep]) -> bool {
    later.iter().any(|planned| matches!(planned.step, Step::Pack(_)))
}

fn made_of(fingerprint: &Fingerprint) -> Vec<LabelledLeaf> {
    fingerprint
        .iter()
        .filter(|(_, leaf)| matches!(leaf.class, Class::Recreate | Class::Restart))
        .map(|(key, leaf)| LabelledLeaf::new(key, leaf))
        .collect()
}

/// A step as the journal and the failpoints name it.
pub(crate) fn label(step: &Step) -> String {
    match step {
        Step::Image => "image".to_owned(),
        Step::Stop => "stop".to_owned(),
        Step::Remove => "remove".to_owned(),
        Step::Create => "create".to_owned(),
        Step::Start => "start".to_owned(),
        Step::ApplyHot => "apply".to_owned(),
        Step::Pack(index) => format!("pack-{index}"),
        Step::Hook(hook) => hook.to_string(),
        Step::Record => "record".to_owned(),
    }
}
