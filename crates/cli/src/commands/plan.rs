use clap::Args;
use setpoint_model::explain::{because, describe};
use setpoint_model::manifest::Env;
use setpoint_model::names::UnitName;
use setpoint_model::plan::{Action, Options, Provision};
use setpoint_runtime::compose;
use setpoint_runtime::observe::Look;
use setpoint_runtime::project::{Project, ProjectError};

use super::SUCCESS;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::events::LiveList;
use crate::json;

/// Say what `up` would do, and why; do nothing
#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// The environments; all that the project brings up, if none is named
    units: Vec<String>,
    /// Exit with the drift code if something is to be done
    #[arg(long)]
    exit_code: bool,
    /// Engine actions only: no packs, no hooks
    #[arg(long)]
    no_provision: bool,
    /// As if the unit were to be replaced
    #[arg(long)]
    recreate: bool,
    /// Ask the registry whether the image's tag has moved
    #[arg(long)]
    pull: bool,
    /// Also look whether secrets from files and commands have changed
    #[arg(long)]
    refresh_secrets: bool,
}

/// How to look before printing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looking {
    pub(super) exit_code: bool,
    pub(super) pull: bool,
    pub(super) refresh_secrets: bool,
}

impl Plan {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let project = context.project()?;
        let envs = chosen(&project, &self.units)?;
        let provision = if self.no_provision { Provision::Skip } else { Provision::Needed };
        let options = Options { provision, recreate: self.recreate, begun: false };
        let (exit_code, pull, refresh_secrets) = (self.exit_code, self.pull, self.refresh_secrets);
        print(context, &project, &envs, &options, Looking { exit_code, pull, refresh_secrets })
    }
}

/// The environments that were named, else those that the project brings up.
pub(super) fn chosen<'a>(project: &'a Project, names: &[String]) -> Result<Vec<&'a Env>, Failure> {
    if !names.is_empty() {
        let named = names.iter().map(|name| Ok(project.env(Some(name))?));
        let named = named.collect::<Result<Vec<_>, Failure>>()?;
        return Ok(compose::in_order(&named));
    }
    if project.manifest.envs.is_empty() {
        return Err(ProjectError::NoUnits.into());
    }
    let all = || project.manifest.envs.values().collect();
    let listed = |up: &Vec<UnitName>| up.iter().filter_map(|name| project.manifest.envs.get(name)).collect();
    let chosen: Vec<&Env> = project.manifest.project.up.as_ref().map_or_else(all, listed);
    Ok(compose::in_order(&chosen))
}

/// These units, and those that they depend on, each after what it depends on.
pub(super) fn with_dependencies<'a>(project: &'a Project, envs: Vec<&'a Env>) -> Vec<&'a Env> {
    let mut whole = envs;
    let mut index = 0;
    while let Some(env) = whole.get(index) {
        let needed = env.service.iter().flat_map(|of| of.depends_on.keys());
        let needed: Vec<&Env> = needed.filter_map(|name| project.manifest.envs.get(name)).collect();
        for env in needed {
            if !whole.iter().any(|known| known.name == env.name) {
                whole.push(env);
            }
        }
        index += 1;
    }
    compose::in_order(&whole)
}

/// Prints the plans of these environments.
pub(super) fn print(
    context: &Context,
    project: &Project,
    envs: &[&Env],
    options: &Options,
    how: Looking,
) -> Result<u8, Failure> {
    let engine = context.engine(project.manifest.engine);
    let store = context.store()?;
    let mut plans = Vec::new();
    for env in envs {
        let mut unit = context.unit(engine.as_ref(), project, env);
        unit.refresh_secrets = how.refresh_secrets;
        if how.pull {
            unit.ask_registry(&LiveList::new(context.output), &context.cancel)?;
        }
        let look = unit.look(&store, options)?;
        context.output.note(words(&look, &env.name));
        plans.push(json::UnitPlan {
            unit: env.name.to_string(),
            action: look.plan.action,
            drift: look.plan.is_drift(),
            steps: look
                .plan
                .steps
                .iter()
                .map(|planned| json::PlanStep {
                    step: describe(&look.desired, &planned.step),
                    because: because(planned),
                })
                .collect(),
        });
    }
    let drift = plans.iter().any(|plan| plan.drift);
    if context.output.json {
        context.output.value(&json::Plans { setpoint: json::VERSION, plans });
    } else if drift {
        context.output.note("Next: setpoint up");
    }
    Ok(if how.exit_code && drift { Exit::Drift as u8 } else { SUCCESS })
}

/// A plan in words.
pub(super) fn words(look: &Look, name: &UnitName) -> String {
    let plan = &look.plan;
    if plan.is_empty() {
        return format!("{name}: nothing to do ({})", look.recorded.fingerprint.digest().short());
    }
    let action = match plan.action {
        Action::Create => "create",
        Action::Start => "start",
        Action::AttachMountAndStart => "start with other mounts",
        Action::UpdateMountAndRestart => "restart",
        Action::Prepare => "make the base available; the rest is planned then",
        Action::Recreate => "recreate",
        Action::Nothing => "no restart, no recreate",
    };
    let mut text = format!("{name}: {action}");
    for planned in &plan.steps {
        text.push_str(&format!("\n  {:<36} {}", describe(&look.desired, &planned.step), because(planned)));
    }
    text
}
