use std::time::Instant;

use clap::Args;
use setpoint_runtime::engine::Seen;
use setpoint_runtime::observe::Unit;
use setpoint_runtime::project::Project;
use setpoint_runtime::reconciler::{self, control};
use setpoint_runtime::store::Store;

use super::{SUCCESS, plan};
use crate::context::Context;
use crate::error::Failure;
use crate::events::LiveList;
use crate::json;

/// Stop environments; all that is in them stays
#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// The environments; all that the project brings up, if none is named
    units: Vec<String>,
}

impl Stop {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let project = context.project()?;
        let units = each(context, &project, &self.units, "stop", |unit, store| {
            let name = &unit.env.name;
            // Before it stops: nobody is to start it again.
            if let Some(row) = store.unit(&project.root, name)? {
                reconciler::want_stopped(store, row.id)?;
            }
            if matches!(unit.engine.observe(&unit.id)?, Seen::Running(_)) {
                stop(context, unit, store, "stop")?;
                context.output.note(format!("{name} stopped"));
                return Ok(vec!["stop".to_owned()]);
            }
            // Something may still wait for it to come back.
            unit.engine.stop(&unit.id, unit.stop_grace(), &context.cancel)?;
            context.output.note(format!("{name} is not running"));
            Ok(Vec::new())
        })?;
        if context.output.json {
            context.output.value(&json::Done { setpoint: json::VERSION, units });
        }
        Ok(SUCCESS)
    }
}

/// Does something that ends units, to each under its lock; what others depend on goes last. `act` gives what was done.
pub(super) fn each(
    context: &Context,
    project: &Project,
    units: &[String],
    command: &str,
    mut act: impl FnMut(&Unit<'_>, &mut Store) -> Result<Vec<String>, Failure>,
) -> Result<Vec<json::UnitDone>, Failure> {
    let mut envs = plan::chosen(project, units)?;
    envs.reverse();
    context.stop_on_signals()?;
    let engine = context.engine(project.manifest.engine);
    let mut store = context.store()?;
    let mut units = Vec::new();
    for env in envs {
        let unit = context.unit(engine.as_ref(), project, env);
        let name = env.name.to_string();
        let list = LiveList::new(context.output);
        let _lock = context.lock(&mut store, &unit, &format!("{command} {name}"), &list)?;
        let began = Instant::now();
        let done = act(&unit, &mut store)?;
        let seconds = began.elapsed().as_secs_f64();
        units.push(json::UnitDone { unit: name, done, record: None, seconds });
    }
    Ok(units)
}

/// Stops a unit, and lets whoever looks meanwhile know of it. `command` is what does it.
pub(super) fn stop(
    context: &Context,
    unit: &Unit<'_>,
    store: &mut Store,
    command: &str,
) -> Result<(), Failure> {
    let (grace, name) = (unit.stop_grace(), &unit.env.name);
    let stop = || unit.engine.stop(&unit.id, grace, &context.cancel);
    let Some(row) = store.unit(&unit.project.root, name)? else { return Ok(stop()?) };
    Ok(control::stop_journaled(store, row.id, &format!("{command} {name}"), grace, stop)??)
}
