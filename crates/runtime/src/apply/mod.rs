//! The only interpreter of plan actions: journal, act, record.
//!
//! Each step is announced in the journal before it acts and recorded with its success in one transaction. A
//! process that dies in between leaves a record that says less than was done, never more: the next plan does the
//! step again, and every step may be repeated.

mod files;
mod first_boot;
mod prepare;
mod probe;
mod recording;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use setpoint_model::manifest::{Act, Location};
use setpoint_model::names::HookName;
use setpoint_model::plan::{Cause, PlannedStep, Step, first_boot_owner, pack_owner};

use crate::cancel::Cancel;
use crate::engine::{EngineError, FirstProcess, Hold, Pull, Seen, UnitSpec};
use crate::events::{Event, Watcher};
use crate::facts::{FactsError, PACKS};
use crate::hooks::Runner;
use crate::logs::Logged;
use crate::observe::{Look, Unit};
use crate::reconciler::control::is_asked;
use crate::secrets::{Mask, SecretError, Values};
use crate::session::Session;
use crate::store::{self, OperationOutcome, Store, StoreError, TxId};
use crate::supervise::{Failed, Failure};
use crate::{failpoints, host, random};
use prepare::made_of;

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
    /// Whether nobody from outside reaches what is started, until its ports are published.
    pub is_withheld: bool,
    /// Whether its first process is to do nothing, whatever is declared: it is there for others to run in it.
    pub idles: bool,
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
        let mut spec = UnitSpec { is_withheld: settings.is_withheld, ..self.spec(&look)? };
        if settings.idles {
            spec.first = FirstProcess::Idle;
        }
        self.engine.check(&spec)?;
        let values = self.resolve_secrets(store, &look.facts)?;
        let made = self.made_files(&look, &values)?;
        let mut look = look;
        for (name, digest) in self.secrets().digests(&self.project.manifest.secrets, &values)? {
            look.desired.resolve_secret(&name, digest);
        }
        let row = self.row(store, &look)?;
        let steps = look.plan.steps.clone();
        let operation = TxId::new(random::hex());
        let recover = |store: &mut Store| -> Result<(), ApplyError> {
            // What a process that died left open is settled by this plan, which was made from what is there.
            let open = store.open_operations(row)?;
            Ok(store.write(|writer| {
                // What somebody asked of a daemon is that one's to settle.
                for left in open.iter().filter(|left| !is_asked(left)) {
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
            made,
            edited: Vec::new(),
            cut: false,
            probed: None,
            held: None,
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
    /// The files that are made for a service.
    made: Vec<files::Made>,
    edited: Vec<String>,
    /// What the user's own shell gives him, once it was asked.
    probed: Option<BTreeMap<String, String>>,
    /// What keeps the published ports while the unit is replaced.
    held: Option<Hold>,
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
                if self.settings.cancel.asked() && !matches!(error, ApplyError::Phase(_)) {
                    // What the engine says of work that was cut short is no failure of its own.
                    self.tell(&Event::Failed { phase, detail, how: "stopped".to_owned(), took });
                    return Err(self.stopped(&steps[index..]));
                }
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
                let logs = self.unit.logs();
                let watcher = Logged::new(&logs, "image", self.settings.watcher);
                let prepared = engine.prepare(&self.spec.base, Pull::Missing, &watcher, cancel);
                let digest = prepared.map_err(|error| self.not_prepared(error))?;
                if let Some(digest) = digest {
                    self.look.desired.resolve_base(&digest);
                    self.spec.labels.made_of = made_of(&self.look.desired.fingerprint);
                }
            }
            Step::Stop => {
                // A plan that stops a unit starts it again.
                self.held = engine.hold(id)?;
                engine.stop(id, self.unit.stop_grace(), cancel)?;
            }
            Step::Remove => engine.remove(id)?,
            Step::Create => {
                self.write_files()?;
                engine.create(id, &self.spec)?;
            }
            Step::Start => {
                self.write_files()?;
                self.give_files()?;
                engine.start(id, &self.spec)?;
                self.held = None;
                self.keep_session()?;
            }
            Step::ApplyHot => {
                engine.set_limits(id, &self.spec.limits)?;
                engine.set_ports(id, &self.spec)?;
                self.keep_session()?;
            }
            Step::Pack(index) => self.run_phase(step, Some(*index))?,
            Step::Hook(_) | Step::FirstBoot(_) => self.run_phase(step, None)?,
            Step::Record => {}
        }
        Ok(())
    }

    fn keep_session(&self) -> Result<(), ApplyError> {
        self.session().keep(self.unit.roots, &self.unit.id).map_err(ApplyError::Session)
    }

    fn session(&self) -> Session {
        let project = self.unit.project.manifest.project.name.as_str();
        let session = Session::declared(self.unit.env, project, &self.look.facts.user);
        let probed_in = self.probed.as_ref().map(|_| self.spec.labels.instance.clone());
        Session { probed: self.probed.clone().unwrap_or_default(), probed_in, ..session }
    }

    fn run_phase(&mut self, step: &Step, pack: Option<usize>) -> Result<(), ApplyError> {
        let unit = self.unit;
        let on_host = self.is_on_host(step);
        let account = if on_host {
            host::account(unit.home.as_deref())
        } else {
            unit.engine.account(&unit.id, &self.look.facts.user)?
        };
        let (session, inside) = if on_host {
            (BTreeMap::new(), BTreeMap::new())
        } else {
            self.probe(&account)?;
            let (name, workspace) = (unit.env.name.as_str(), &self.spec.workspace);
            let inside = unit.environment_inside()?;
            (self.session().variables(name, &account, workspace, &self.values, &inside), inside)
        };
        let runner = Runner {
            engine: unit.engine,
            unit: &unit.id,
            files: &unit.project.files,
            workspace: &self.spec.workspace,
            account: &account,
            session: &session,
            inside: &inside,
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
            (Step::FirstBoot(index), None) => match self.first_boot(*index) {
                Some(declared) => self.boot(&runner, declared),
                None => Ok(()),
            },
            (Step::Hook(hook), None) => match unit.env.hooks.get(hook) {
                Some(declared) => runner.hook(*hook, declared),
                None => Ok(()),
            },
            _ => Ok(()),
        };
        result.map_err(|failed| self.failed(step, failed))
    }

    /// Whether a step runs on the host, and not in the unit.
    fn is_on_host(&self, step: &Step) -> bool {
        match step {
            Step::Hook(hook) => *hook == HookName::Initialize,
            Step::FirstBoot(index) => {
                self.first_boot(*index).is_some_and(|step| matches!(step.act, Act::Host { .. }))
            }
            _ => false,
        }
    }

    fn failed(&self, step: &Step, failed: Failed) -> ApplyError {
        let unit = self.unit.env.name.to_string();
        let phase = self.phase(step);
        let at = match step {
            Step::Hook(hook) => self.unit.env.hooks.get(hook).map(|hook| hook.at.clone()),
            Step::Pack(index) => self.unit.env.packs.get(*index).map(|pack| pack.at.clone()),
            Step::FirstBoot(index) => self.first_boot(*index).map(|step| step.at.clone()),
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

    /// A build that failed is a phase that failed: with its output, and its place in the Dockerfile.
    fn not_prepared(&self, error: EngineError) -> ApplyError {
        let EngineError::Build(failed) = error else { return error.into() };
        let hint = failed.hint();
        let unit = self.unit.env.name.to_string();
        let at = failed.line.map(|(file, line, source_line)| Location {
            file,
            line,
            column: 1,
            length: u32::try_from(source_line.chars().count()).unwrap_or(0),
            source_line,
        });
        ApplyError::Phase(Box::new(PhaseFailed {
            consequence: match self.look.seen {
                Seen::Absent => "Nothing else was made.".to_owned(),
                _ => format!("{unit} is as it was."),
            },
            hint,
            unit,
            phase: label(&Step::Image),
            detail: self.detail(&Step::Image),
            how: format!("{}: {}", failed.what, failed.why),
            at,
            tail: failed.tail,
            cancelled: self.settings.cancel.asked(),
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
            how: "stopped".to_owned(),
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
            Step::FirstBoot(index) => first_boot_owner(&self.look.desired.first_boot[*index].0),
            step => label(step),
        }
    }

    /// What the step does, in a few words.
    fn detail(&self, step: &Step) -> String {
        let id = &self.spec.labels;
        match step {
            Step::Image => self.spec.base.to_string(),
            Step::Stop | Step::Remove | Step::Create | Step::Start => format!("{}/{}", id.project, id.unit),
            Step::ApplyHot => "environment, limits and ports".to_owned(),
            Step::Pack(index) => {
                format!("{}/{}.sh", PACKS, self.look.desired.fingerprint.packs[*index].name)
            }
            Step::Hook(hook) => {
                self.unit.env.hooks.get(hook).map(|hook| hook.run.to_string()).unwrap_or_default()
            }
            Step::FirstBoot(index) => {
                self.first_boot(*index).map(|step| step.act.shown()).unwrap_or_default()
            }
            Step::Record => "what asks for no work".to_owned(),
        }
    }
}
fn later_packs(later: &[PlannedStep]) -> bool {
    later.iter().any(|planned| matches!(planned.step, Step::Pack(_)))
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
        Step::FirstBoot(index) => format!("first_boot-{index}"),
        Step::Hook(hook) => hook.to_string(),
        Step::Record => "record".to_owned(),
    }
}
