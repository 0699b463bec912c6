//! From what is declared, recorded and observed to the least work that makes them equal.
//!
//! [`plan`] is a pure function; the [`Plan`] that it gives is so specific that carrying it out makes no choices.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::fingerprint::{Change, Class, Difference, Fingerprint, LeafKey, differences, first_stale_pack};
use crate::manifest::HoldsFor;
use crate::names::{HookName, PackName, UnitName};

/// What is declared of one unit, with the digests of all files that it is made of.
#[derive(Debug, Clone)]
pub struct Desired {
    /// Which unit.
    pub unit: UnitName,
    /// Its leaves and packs.
    pub fingerprint: Fingerprint,
    /// Leaves whose value is known only once applied, such as the digest of an image not pulled yet.
    pub unresolved: BTreeSet<LeafKey>,
    /// The leaf that holds the digest of its base.
    pub base_digest: LeafKey,
    /// The hooks that are declared, and what they ask for.
    pub hooks: BTreeMap<HookName, DesiredHook>,
    /// The steps of its first boot, in order: their names, and what those of the host run there.
    pub first_boot: Vec<(String, Option<String>)>,
    /// Whether packs run at every start, or only when they are stale.
    pub packs_at_start: bool,
    /// What a change of a secret's value costs.
    pub secrets_class: Class,
    /// Whether some of the declaration is known only once the base is there: an image may bring settings of its own.
    pub incomplete: bool,
}

/// What the plan needs to know of a declared hook.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DesiredHook {
    /// Runs at every `up`, even when nothing changed.
    pub always: bool,
}

/// What was recorded at success.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// The leaves that were applied, and the packs that succeeded, in order.
    pub fingerprint: Fingerprint,
    /// The hooks that succeeded, or of which nobody knows.
    pub phases: BTreeMap<HookName, RecordedPhase>,
    /// The steps of its first boot that were done for the data that is there.
    pub first_boot: BTreeMap<String, HoldsFor>,
}

/// A hook's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedPhase {
    /// For which instance of the unit it ran.
    pub instance: String,
    /// Whether it is known to have succeeded.
    pub outcome: PhaseOutcome,
}

/// What is known of a hook that has a record. A hook that failed has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhaseOutcome {
    /// It ended well.
    Succeeded,
    /// The state was lost: nobody knows. It is shown as such and not run by itself.
    Unknown,
}

/// What the engine says of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// There is none.
    Absent,
    /// It exists and nothing of it runs.
    Stopped {
        /// Which instance.
        instance: String,
    },
    /// It runs.
    Running {
        /// Which instance.
        instance: String,
    },
}

impl Observed {
    /// The instance, if there is one.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        match self {
            Self::Absent => None,
            Self::Stopped { instance } | Self::Running { instance } => Some(instance),
        }
    }
}

/// What the user asked for beyond "make it so".
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which phases are wanted.
    pub provision: Provision,
    /// Replace the unit even if nothing asks for it.
    pub recreate: bool,
    /// What runs at every `up` before the base is made available has run: this is the rest of the same `up`.
    pub begun: bool,
}

/// Which phases are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Provision {
    /// Those that have to run.
    #[default]
    Needed,
    /// None: engine actions only; drift stays.
    Skip,
    /// All packs and `post_attach`, now.
    Packs,
    /// Every phase as after CREATE, now.
    Full,
    /// One pack, now.
    Pack(PackName),
    /// One hook, now.
    Hook(HookName),
}

/// The engine action of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The unit is absent: make it.
    Create,
    /// It is stopped, and mounted as declared: start it.
    Start,
    /// It is stopped, and mounts or other `restart` leaves differ: start it with the new ones.
    AttachMountAndStart,
    /// It runs, and mounts or other `restart` leaves differ: stop it, start it with the new ones.
    UpdateMountAndRestart,
    /// Make its base available first. What comes of that is not known before, and what follows is planned then: an
    /// image that is built anew may be another one or not.
    Prepare,
    /// Replace it.
    Recreate,
    /// Leave it as it runs (or, for [`Provision::Skip`] and friends, as it is).
    Nothing,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make the base's file system available: pull, verify, unpack.
    Image,
    /// Stop the running unit.
    Stop,
    /// Remove the old instance.
    Remove,
    /// Make a new instance.
    Create,
    /// Start it.
    Start,
    /// Apply `hot` leaves to the running unit.
    ApplyHot,
    /// Run a pack, by its position in the declared list.
    Pack(usize),
    /// Do a step of the first boot, by its position in the declared list.
    FirstBoot(usize),
    /// Run a hook.
    Hook(HookName),
    /// Change the record only: take over leaves that ask for no work, and forget what is no longer declared.
    Record,
}

/// Why a step is in the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// These leaves differ.
    Drift(Vec<LeafKey>),
    /// It never succeeded for this instance of the unit.
    NeverSucceeded,
    /// A pack before it runs.
    AfterPack(PackName),
    /// The action brings it with it.
    Cadence(Action),
    /// It is declared to run at every `up`.
    Always,
    /// The user asked for it.
    Requested,
}

/// A step and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStep {
    /// What to do.
    pub step: Step,
    /// Why.
    pub cause: Cause,
}

/// What will be done, in order. An empty plan has no steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The engine action.
    pub action: Action,
    /// All steps, in the order in which they run.
    pub steps: Vec<PlannedStep>,
}

impl Plan {
    /// Whether something is to be done because something differs or is not done yet. Hooks that run `always` are
    /// no drift.
    #[must_use]
    pub fn is_drift(&self) -> bool {
        self.steps.iter().any(|planned| planned.cause != Cause::Always)
    }

    /// Whether there is nothing to do at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The planned step of this kind.
    #[must_use]
    pub fn find(&self, step: &Step) -> Option<&PlannedStep> {
        self.steps.iter().find(|planned| planned.step == *step)
    }
}

/// What was found on the way to a plan: what differs, and what has not been done yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The leaves that differ.
    pub differences: Vec<Difference>,
    /// Hooks without a success for this instance.
    pub pending: Vec<HookName>,
    /// Hooks of which nobody knows whether they ran.
    pub unknown: Vec<HookName>,
    /// Steps of the first boot that were not done for the data that is there, by name.
    pub first_boot: Vec<String>,
    /// Packs that have to run, by position.
    pub stale_packs: std::ops::Range<usize>,
}

impl Report {
    /// What has not succeeded yet, as people are told.
    #[must_use]
    pub fn unfinished(&self) -> Vec<String> {
        let first_boot = self.first_boot.iter().map(|name| first_boot_owner(name));
        self.pending.iter().map(ToString::to_string).chain(first_boot).collect()
    }
}

/// Plans the least work. See the table in `docs/reference/plan.md`, which is made from this function.
#[must_use]
pub fn plan(
    desired: &Desired,
    recorded: &Recorded,
    observed: &Observed,
    options: &Options,
) -> (Plan, Report) {
    let planner = Planner::new(desired, recorded, observed, options);
    let mut steps = Vec::new();
    steps.extend(planner.hook(HookName::Initialize));
    steps.extend(planner.engine_steps());
    if planner.action == Action::Prepare {
        return (Plan { action: planner.action, steps }, planner.report());
    }
    steps.extend(planner.hot_step());
    steps.extend(planner.first_boot_steps());
    steps.extend(planner.pack_steps());
    for hook in [HookName::OnCreate, HookName::UpdateContent, HookName::PostCreate, HookName::PostStart] {
        steps.extend(planner.hook(hook));
    }
    steps.extend(planner.attach_step(&steps));
    steps.extend(planner.hook(HookName::Verify));
    steps.extend(planner.record_step(&steps));
    (Plan { action: planner.action, steps }, planner.report())
}

struct Planner<'a> {
    desired: &'a Desired,
    recorded: &'a Recorded,
    observed: &'a Observed,
    options: &'a Options,
    differences: Vec<Difference>,
    action: Action,
}

impl<'a> Planner<'a> {
    fn new(
        desired: &'a Desired,
        recorded: &'a Recorded,
        observed: &'a Observed,
        options: &'a Options,
    ) -> Self {
        let mut differences = differences(&recorded.fingerprint, &desired.fingerprint, &desired.unresolved);
        if desired.incomplete {
            // What the image would say is missing: only what comes before it can be compared.
            differences.retain(|d| {
                matches!(d.class, Class::Rebuild | Class::Packs | Class::Hook(HookName::Initialize))
            });
        }
        let mut planner = Self { desired, recorded, observed, options, differences, action: Action::Nothing };
        planner.action = planner.choose_action();
        planner
    }

    fn choose_action(&self) -> Action {
        // A reprovision works on what runs: it never restarts and never recreates.
        if !matches!(self.options.provision, Provision::Needed | Provision::Skip) {
            return Action::Nothing;
        }
        let recreate = self.options.recreate || self.drift(Class::Recreate).is_some();
        let restart = self.drift(Class::Restart).is_some();
        match self.observed {
            _ if self.desired.incomplete => Action::Prepare,
            Observed::Absent => Action::Create,
            _ if recreate => Action::Recreate,
            _ if self.has_to_build() => Action::Prepare,
            Observed::Stopped { .. } if restart => Action::AttachMountAndStart,
            Observed::Stopped { .. } => Action::Start,
            Observed::Running { .. } if restart => Action::UpdateMountAndRestart,
            Observed::Running { .. } => Action::Nothing,
        }
    }

    /// Whether what the image is built from differs, and what came of it is not known yet.
    fn has_to_build(&self) -> bool {
        self.desired.unresolved.contains(&self.desired.base_digest) && self.drift(Class::Rebuild).is_some()
    }

    /// The differences of a class, as a cause.
    fn drift(&self, class: Class) -> Option<Cause> {
        self.drift_where(|difference| difference.class == class)
    }

    fn drift_where(&self, wanted: impl Fn(&Difference) -> bool) -> Option<Cause> {
        let keys: Vec<_> = self.differences.iter().filter(|d| wanted(d)).map(|d| d.key.clone()).collect();
        (!keys.is_empty()).then_some(Cause::Drift(keys))
    }

    fn makes_an_instance(&self) -> bool {
        matches!(self.action, Action::Create | Action::Recreate)
    }

    fn engine_steps(&self) -> Vec<PlannedStep> {
        let order: &[Step] = match self.action {
            Action::Create => &[Step::Image, Step::Create, Step::Start],
            Action::Recreate => &[Step::Image, Step::Stop, Step::Remove, Step::Create, Step::Start],
            Action::Start | Action::AttachMountAndStart => &[Step::Start],
            Action::UpdateMountAndRestart => &[Step::Stop, Step::Start],
            Action::Prepare => &[Step::Image],
            Action::Nothing => &[],
        };
        let cause = match self.action {
            Action::Recreate => self.drift(Class::Recreate).unwrap_or(Cause::Requested),
            Action::Prepare => self.drift(Class::Rebuild).unwrap_or(Cause::NeverSucceeded),
            Action::UpdateMountAndRestart | Action::AttachMountAndStart => {
                self.drift(Class::Restart).unwrap_or(Cause::Requested)
            }
            action => Cause::Cadence(action),
        };
        let running = matches!(self.observed, Observed::Running { .. });
        order
            .iter()
            .filter(|step| running || **step != Step::Stop)
            .map(|step| PlannedStep { step: step.clone(), cause: cause.clone() })
            .collect()
    }

    fn hot_step(&self) -> Option<PlannedStep> {
        let applies = self.action == Action::Nothing
            && matches!(self.options.provision, Provision::Needed | Provision::Skip);
        let cause = applies.then(|| self.drift(Class::Hot)).flatten()?;
        Some(PlannedStep { step: Step::ApplyHot, cause })
    }

    /// What the data of the unit still lacks. What was done for a volume is not done again for a new instance.
    fn first_boot_steps(&self) -> Vec<PlannedStep> {
        if !matches!(self.options.provision, Provision::Needed | Provision::Full) {
            return Vec::new();
        }
        let steps = self.missing_first_boot();
        steps.map(|at| PlannedStep { step: Step::FirstBoot(at), cause: Cause::NeverSucceeded }).collect()
    }

    fn missing_first_boot(&self) -> impl Iterator<Item = usize> {
        let is_done = |name: &str| match self.recorded.first_boot.get(name) {
            Some(HoldsFor::Volumes) => true,
            Some(HoldsFor::Instance) => !self.makes_an_instance(),
            None => false,
        };
        let all = self.desired.first_boot.iter().enumerate();
        all.filter(move |(_, (name, _))| !is_done(name)).map(|(at, _)| at)
    }

    fn pack_steps(&self) -> Vec<PlannedStep> {
        let packs = &self.desired.fingerprint.packs;
        let step = |index: usize, cause: Cause| PlannedStep { step: Step::Pack(index), cause };
        let all = |cause: Cause| (0..packs.len()).map(|index| step(index, cause.clone())).collect();
        match &self.options.provision {
            Provision::Skip | Provision::Hook(_) => Vec::new(),
            Provision::Packs | Provision::Full => all(Cause::Requested),
            Provision::Pack(name) => packs
                .iter()
                .position(|pack| pack.name == *name)
                .map(|index| step(index, Cause::Requested))
                .into_iter()
                .collect(),
            Provision::Needed if self.makes_an_instance() => all(Cause::Cadence(self.action)),
            Provision::Needed if self.action != Action::Nothing && self.desired.packs_at_start => {
                all(Cause::Cadence(self.action))
            }
            Provision::Needed => self.stale_packs().map(|index| step(index, self.why_pack(index))).collect(),
        }
    }

    fn stale_packs(&self) -> std::ops::Range<usize> {
        let declared = &self.desired.fingerprint.packs;
        let first = first_stale_pack(&self.recorded.fingerprint.packs, declared).unwrap_or(declared.len());
        first..declared.len()
    }

    fn why_pack(&self, index: usize) -> Cause {
        let owner = pack_owner(&self.desired.fingerprint.packs[index].name);
        let own = self
            .drift_where(|d| d.class == Class::Packs && d.key.owner.as_deref().is_none_or(|of| of == owner));
        let before = || &self.desired.fingerprint.packs[index - 1].name;
        match own {
            Some(cause) => cause,
            None if self.stale_packs().start < index => Cause::AfterPack(before().clone()),
            None => Cause::NeverSucceeded,
        }
    }

    /// A hook other than `post_attach`, if it has to run.
    fn hook(&self, hook: HookName) -> Option<PlannedStep> {
        let declared = self.desired.hooks.get(&hook)?;
        let cause = match &self.options.provision {
            Provision::Skip | Provision::Packs | Provision::Pack(_) => None,
            Provision::Hook(name) => (*name == hook).then_some(Cause::Requested),
            Provision::Full if hook == HookName::Initialize => self.unfinished(hook),
            Provision::Full => Some(Cause::Requested),
            Provision::Needed => {
                let fires = match hook {
                    HookName::Initialize => false,
                    HookName::PostStart => self.action != Action::Nothing,
                    _ => self.makes_an_instance(),
                };
                let fires = fires.then_some(Cause::Cadence(self.action));
                let ran = hook == HookName::Initialize && self.options.begun;
                let always = (declared.always && !ran).then_some(Cause::Always);
                fires.or_else(|| self.unfinished(hook)).or(always)
            }
        };
        cause.map(|cause| PlannedStep { step: Step::Hook(hook), cause })
    }

    /// Why a hook has work left, whatever the action: it never succeeded for this instance, or it drifted.
    fn unfinished(&self, hook: HookName) -> Option<Cause> {
        let drift = self.drift(Class::Hook(hook));
        match self.phase(hook) {
            // `verify` runs after CREATE and by `check`; an edit of it is recorded, not run.
            Some(_) if hook == HookName::Verify => None,
            // Its leaves come into the record for the first time: that is no change of it.
            Some(phase) if phase.outcome == PhaseOutcome::Unknown => {
                self.drift_where(|d| d.class == Class::Hook(hook) && d.change != Change::Added)
            }
            Some(_) => drift,
            None => self
                .drift_where(|d| d.class == Class::Hook(hook) && d.change != Change::Added)
                .or(Some(Cause::NeverSucceeded)),
        }
    }

    /// The record of a hook, if it holds for the present instance. `initialize` runs on the host and belongs to
    /// no instance.
    fn phase(&self, hook: HookName) -> Option<&RecordedPhase> {
        let instance = self.observed.instance();
        self.recorded
            .phases
            .get(&hook)
            .filter(|phase| hook == HookName::Initialize || Some(phase.instance.as_str()) == instance)
    }

    /// `post_attach` comes with everything that an `up` does.
    fn attach_step(&self, before: &[PlannedStep]) -> Option<PlannedStep> {
        let hook = HookName::PostAttach;
        let declared = self.desired.hooks.get(&hook)?;
        let did_something = before.iter().any(|planned| planned.cause != Cause::Always);
        let cause = match &self.options.provision {
            Provision::Skip | Provision::Pack(_) => None,
            Provision::Hook(name) => (*name == hook).then_some(Cause::Requested),
            Provision::Packs | Provision::Full => Some(Cause::Requested),
            Provision::Needed if self.action != Action::Nothing => Some(Cause::Cadence(self.action)),
            Provision::Needed => self
                .unfinished(hook)
                .or(did_something.then_some(Cause::Cadence(self.action)))
                .or(declared.always.then_some(Cause::Always)),
        };
        cause.map(|cause| PlannedStep { step: Step::Hook(hook), cause })
    }

    /// What no other step takes into the record: removed hooks and packs, an edited `verify`.
    fn record_step(&self, steps: &[PlannedStep]) -> Option<PlannedStep> {
        if self.options.provision != Provision::Needed {
            return None;
        }
        let runs = |wanted: &dyn Fn(&Step) -> bool| steps.iter().any(|planned| wanted(&planned.step));
        let packs_run = runs(&|step| matches!(step, Step::Pack(_)));
        let cause = self.drift_where(|difference| match difference.class {
            Class::Hook(hook) => !runs(&|step| *step == Step::Hook(hook)),
            Class::Packs => !packs_run,
            // What it is built from now gives the image that it has.
            Class::Rebuild => !self.makes_an_instance(),
            Class::Report | Class::Hot | Class::Restart | Class::Recreate => false,
        })?;
        Some(PlannedStep { step: Step::Record, cause })
    }

    fn report(&self) -> Report {
        let known = |hook: HookName| self.phase(hook).map(|phase| phase.outcome);
        let with = |wanted: Option<PhaseOutcome>| {
            self.desired.hooks.keys().copied().filter(|hook| known(*hook) == wanted).collect()
        };
        Report {
            pending: with(None),
            unknown: with(Some(PhaseOutcome::Unknown)),
            first_boot: self.missing_first_boot().map(|at| self.desired.first_boot[at].0.clone()).collect(),
            stale_packs: self.stale_packs(),
            differences: self.differences.clone(),
        }
    }
}

/// The owner of a pack's leaves.
#[must_use]
pub fn pack_owner(name: &PackName) -> String {
    format!("pack {name}")
}

/// What a step of a first boot is called.
#[must_use]
pub fn first_boot_owner(name: &str) -> String {
    format!("first_boot {name}")
}

/// The owner of a hook's leaves.
#[must_use]
pub fn hook_owner(hook: HookName) -> String {
    hook.as_str().to_owned()
}

#[cfg(test)]
mod tests;
