use std::time::Instant;

use clap::Args;
use setpoint_model::manifest::Env;
use setpoint_runtime::engine::{Engine, Seen};
use setpoint_runtime::observe::Unit;
use setpoint_runtime::project::Project;
use setpoint_runtime::reconciler::{self, control};
use setpoint_runtime::store::Store;

use super::{SUCCESS, daemon, plan, stop};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::events::LiveList;
use crate::json;
use crate::output::span;

/// Stop what runs and start it again, as it was last brought up
#[derive(Debug, Args)]
pub(crate) struct Restart {
    /// The units; all that the project brings up, if none is named
    units: Vec<String>,
}

impl Restart {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let project = context.project()?;
        let envs = plan::chosen(&project, &self.units)?;
        context.stop_on_signals()?;
        let engine = context.engine(project.manifest.engine);
        let mut store = context.store()?;
        let mut units = Vec::new();
        for env in envs {
            units.push(restart(context, engine.as_ref(), &project, env, &mut store)?);
        }
        if context.output.json {
            context.output.value(&json::Done { setpoint: json::VERSION, units });
        }
        Ok(SUCCESS)
    }
}

fn restart(
    context: &Context,
    engine: &dyn Engine,
    project: &Project,
    env: &Env,
    store: &mut Store,
) -> Result<json::UnitDone, Failure> {
    let unit = context.unit(engine, project, env);
    let name = env.name.to_string();
    let list = LiveList::new(context.output);
    let _lock = context.lock(store, &unit, &format!("restart {name}"), &list)?;
    let began = Instant::now();
    let mut done = Vec::new();
    // What comes to its ports waits until it is back.
    let _held = engine.hold(&unit.id)?;
    match engine.observe(&unit.id)? {
        Seen::Absent => {
            return Err(Failure::new(Exit::NotFound, "unit-state", format!("{name} does not exist"))
                .hint(format!("`setpoint up {name}` makes it")));
        }
        Seen::Running(_) => {
            stop::stop(context, &unit, store, "restart")?;
            done.push("stop".to_owned());
        }
        Seen::Stopped(_) => {}
    }
    let is_kept = start(&unit, store)?;
    done.push("start".to_owned());
    reconciler::tell(&context.roots);
    if is_kept {
        daemon::ensure(context)?;
    }
    let seconds = began.elapsed();
    context.output.note(format!("{name} runs again, after {}", span(seconds)));
    Ok(json::UnitDone { unit: name, done, record: None, seconds: seconds.as_secs_f64() })
}

/// Starts a unit as it was last brought up; where it is kept, it is wanted to run from now on. Gives whether it is kept.
fn start(unit: &Unit<'_>, store: &mut Store) -> Result<bool, Failure> {
    unit.engine.start_again(&unit.id)?;
    let Some(row) = store.unit(&unit.project.root, &unit.env.name)? else { return Ok(false) };
    Ok(control::want_running(store, row.id)?)
}
