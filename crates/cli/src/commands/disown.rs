use clap::Args;
use setpoint_model::manifest::Env;
use setpoint_runtime::adopt::Unfit;
use setpoint_runtime::engine::Engine;
use setpoint_runtime::project::Project;
use setpoint_runtime::reconciler;

use super::{SUCCESS, adopt, plan};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::events::LiveList;
use crate::json;

/// Forget units and leave their containers to the engine, as they run
#[derive(Debug, Args)]
pub(crate) struct Disown {
    /// The environments and services; all that the project brings up, if none is named
    units: Vec<String>,
}

impl Disown {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let project = context.project()?;
        for name in &self.units {
            adopt::declared(&project, name)?;
        }
        let mut envs = plan::chosen(&project, &self.units)?;
        // What others depend on goes last.
        envs.reverse();
        context.stop_on_signals()?;
        let engine = context.engine(project.manifest.engine);
        if engine.adoption().is_none() {
            return Err(Unfit::NobodyElse { engine: engine.capabilities().engine }.into());
        }
        let mut units = Vec::new();
        for env in envs {
            units.extend(disown(context, engine.as_ref(), &project, env)?);
        }
        reconciler::tell(&context.roots);
        if units.is_empty() {
            let message = "there is nothing to hand back: none of these units is there";
            return Err(Failure::new(Exit::NotFound, "unit-state", message)
                .hint("`setpoint status` shows what there is"));
        }
        if context.output.json {
            context.output.value(&json::Passed { setpoint: json::VERSION, units });
        }
        Ok(SUCCESS)
    }
}

/// Nothing, if there was no such unit.
fn disown(
    context: &Context,
    engine: &dyn Engine,
    project: &Project,
    env: &Env,
) -> Result<Option<json::UnitPassed>, Failure> {
    let unit = context.unit(engine, project, env);
    let name = &env.name;
    let list = LiveList::new(context.output);
    let mut store = context.store()?;
    let _lock = context.lock(&mut store, &unit, &format!("disown {name}"), &list)?;
    let was_known = store.unit(&project.root, name)?.is_some();
    let handed = unit.disown(&mut store)?;
    let output = context.output;
    let Some(handed) = handed else {
        if was_known {
            output.note(format!("{name}: there was no container any more; its record is gone"));
        }
        return Ok(was_known.then(|| passed(name.as_str(), None)));
    };
    let container = handed.container;
    let restarts = match handed.restarts {
        Some(true) => ", which starts it again by itself",
        _ => "",
    };
    output.note(format!("{name} is the engine's own from now on{restarts}: the container {container}"));
    if handed.restarts == Some(false) {
        let engine = engine.capabilities().engine;
        output.progress(format!(
            "note: this {engine} cannot change when a container is started again: nobody starts {container} when it ends"
        ));
    }
    if unit.reads_our_files() {
        let folder = unit.secrets().unit_folder(&unit.id);
        output.progress(format!("note: {container} goes on reading what lies in {}", folder.display()));
    }
    Ok(Some(passed(name.as_str(), Some(container))))
}

fn passed(unit: &str, container: Option<String>) -> json::UnitPassed {
    let unit = unit.to_owned();
    json::UnitPassed { unit, container, image: None, outcome: "disowned", out_of_date: None, changes: None }
}
