//! Why: each difference, and the step that it leads to, in words.

use serde::Serialize;

use crate::fingerprint::{Change, Class, Difference};
use crate::names::HookName;
use crate::plan::{Action, Cause, Desired, Plan, PlannedStep, Report, Step, first_boot_owner, pack_owner};

/// A difference with the work that it leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// How the leaf differs.
    pub change: Change,
    /// The leaf: a setting or a file.
    pub path: String,
    /// The recorded value, or the first digits of its digest.
    pub old: Option<String>,
    /// The declared value, or the first digits of its digest.
    pub new: Option<String>,
    /// Its class, as `hot` or `hook:post_create`.
    pub class: String,
    /// What the leaf is to the unit, where its path does not say: `input of update_content`.
    pub role: Option<String>,
    /// What will be done about it.
    pub leads_to: String,
    /// Whether it is for information only and makes nothing out of date.
    pub informs_only: bool,
}

/// Explains every difference of a report by the plan that came with it.
#[must_use]
pub fn explain(desired: &Desired, plan: &Plan, report: &Report) -> Vec<Explained> {
    report
        .differences
        .iter()
        .map(|difference| Explained {
            change: difference.change,
            path: difference.key.path.clone(),
            old: difference.old.clone(),
            new: difference.new.clone(),
            class: difference.class.to_text(),
            role: role(difference),
            leads_to: leads_to(desired, plan, difference),
            informs_only: difference.class == Class::Report,
        })
        .collect()
}

fn role(difference: &Difference) -> Option<String> {
    let owner = difference.key.owner.as_deref()?;
    let path = &difference.key.path;
    let speaks_for_itself = path.starts_with("env.") || path.starts_with(".setpoint/packs/");
    (!speaks_for_itself).then(|| format!("input of {owner}"))
}

fn leads_to(desired: &Desired, plan: &Plan, difference: &Difference) -> String {
    let runs_hook = |hook| plan.find(&Step::Hook(hook)).is_some();
    match difference.class {
        Class::Report => "told only".to_owned(),
        Class::Hot if plan.action == Action::Nothing => {
            "apply to the running unit (new shells see it)".to_owned()
        }
        Class::Rebuild => match plan.action {
            Action::Create => "create".to_owned(),
            Action::Prepare => "rebuild; recreate only if the image differs".to_owned(),
            Action::Recreate => "rebuild, recreate".to_owned(),
            _ => "record it; the image is the same".to_owned(),
        },
        Class::Hot | Class::Restart | Class::Recreate => match plan.action {
            Action::Create => "create".to_owned(),
            Action::Recreate => "recreate".to_owned(),
            Action::UpdateMountAndRestart => "restart".to_owned(),
            Action::Start | Action::AttachMountAndStart => "start".to_owned(),
            Action::Nothing | Action::Prepare => "nothing now".to_owned(),
        },
        Class::Hook(hook) if runs_hook(hook) => format!("run {hook}"),
        Class::Packs => packs_led_to(desired, plan),
        Class::Hook(HookName::Verify) if difference.change != Change::Removed => {
            "record it (`setpoint check` runs it)".to_owned()
        }
        Class::Hook(_) => only_recorded(plan),
    }
}

fn only_recorded(plan: &Plan) -> String {
    if plan.find(&Step::Record).is_some() { "record it; nothing to run" } else { "nothing now" }.to_owned()
}

fn packs_led_to(desired: &Desired, plan: &Plan) -> String {
    let run: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|planned| match planned.step {
            Step::Pack(index) => Some(desired.fingerprint.packs[index].name.as_str()),
            _ => None,
        })
        .collect();
    match run.as_slice() {
        [] => only_recorded(plan),
        [one] => format!("run pack {one}"),
        many => format!("run packs {}", many.join(", ")),
    }
}

/// A step in words: `run pack uv`, `restart`.
#[must_use]
pub fn describe(desired: &Desired, step: &Step) -> String {
    match step {
        Step::Image => "make the base available".to_owned(),
        Step::Stop => "stop".to_owned(),
        Step::Remove => "remove the old instance".to_owned(),
        Step::Create => "create".to_owned(),
        Step::Start => "start".to_owned(),
        Step::ApplyHot => "apply settings to the running unit".to_owned(),
        Step::Pack(index) => format!("run {}", pack_owner(&desired.fingerprint.packs[*index].name)),
        Step::FirstBoot(index) => match &desired.first_boot[*index] {
            (name, Some(command)) => format!("run {} on the host: {command}", first_boot_owner(name)),
            (name, None) => format!("run {}", first_boot_owner(name)),
        },
        Step::Hook(hook) => format!("run {hook}"),
        Step::Record => "bring the record up to date".to_owned(),
    }
}

/// Why a step is in the plan, in words.
#[must_use]
pub fn because(planned: &PlannedStep) -> String {
    match &planned.cause {
        Cause::Drift(keys) => match keys.as_slice() {
            [one] => format!("{} differs", one.path),
            [one, rest @ ..] => format!("{} and {} more differ", one.path, rest.len()),
            [] => "it differs".to_owned(),
        },
        Cause::NeverSucceeded => "it has not succeeded yet".to_owned(),
        Cause::AfterPack(name) => format!("comes after pack {name}"),
        Cause::Cadence(Action::Create) => "the unit is new".to_owned(),
        Cause::Cadence(Action::Recreate) => "the unit is made anew".to_owned(),
        Cause::Cadence(Action::Nothing) => "runs after every change".to_owned(),
        Cause::Cadence(_) => "the unit starts".to_owned(),
        Cause::Always => "runs at every up".to_owned(),
        Cause::Requested => "as asked for".to_owned(),
    }
}
