use std::io::ErrorKind;

use clap::Args;
use setpoint_runtime::adopt::KeptImages;
use setpoint_runtime::engine::{Engine, EngineError, Seen};
use setpoint_runtime::observe::Unit;
use setpoint_runtime::project::Project;
use setpoint_runtime::reconciler;
use setpoint_runtime::session::Session;
use setpoint_runtime::store::Store;
use setpoint_runtime::upgrade;

use super::{SUCCESS, stop};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::events::LiveList;
use crate::json;
use crate::output::{ask, can_ask};

/// Remove environments with all files of their own; the project's folder stays as it is
#[derive(Debug, Args)]
pub(crate) struct Down {
    /// The environments; all that the project brings up, if none is named
    units: Vec<String>,
    /// Their volumes too
    #[arg(long)]
    volumes: bool,
    /// Agree to the removal of volumes
    #[arg(long, short = 'y')]
    yes: bool,
}

impl Down {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let project = context.project()?;
        let units = stop::each(context, &project, &self.units, "down", |unit, store| {
            let name = &unit.env.name;
            let removed = remove(context, unit, store)?;
            context.output.note(match removed.as_slice() {
                [] => format!("{name}: there is nothing to remove"),
                [one] => format!("{name}: removed {one}"),
                [first @ .., last] => format!("{name}: removed {} and {last}", first.join(", ")),
            });
            Ok(removed.iter().map(|what| format!("remove {what}")).collect())
        })?;
        reconciler::tell(&context.roots);
        if self.volumes {
            self.remove_volumes(context, context.engine(project.manifest.engine).as_ref(), &project)?;
        }
        if context.output.json {
            context.output.value(&json::Done { setpoint: json::VERSION, units });
        }
        Ok(SUCCESS)
    }
}

impl Down {
    /// Removes the volumes that were made for the project, if somebody agrees.
    fn remove_volumes(
        &self,
        context: &Context,
        engine: &dyn Engine,
        project: &Project,
    ) -> Result<(), Failure> {
        let volumes = engine.volumes(&project.root)?;
        let text = format!("This removes, with all that is in them:\n  {}", volumes.join("\n  "));
        if !volumes.is_empty() && !self.yes {
            let may_ask = can_ask() && !context.output.json && !context.output.quiet;
            if may_ask {
                context.output.progress(&text);
            }
            if !may_ask || !ask("Remove them?") {
                let message = format!("{text}\nThe volumes are as they were.");
                return Err(Failure::new(Exit::Consent, "consent", message)
                    .hint("`setpoint down --volumes --yes` agrees to it"));
            }
        }
        // What is known of data is for one to change at a time.
        let list = LiveList::new(context.output);
        let _lock = context.project_lock(&project.root, "down", &list)?;
        context.recover(&mut context.store()?, &project.root, &list)?;
        if volumes.is_empty() {
            context.output.note("There are no volumes.");
        }
        for volume in &volumes {
            engine.remove_volume(volume)?;
            context.output.note(format!("removed the volume {volume}"));
        }
        upgrade::forget_data(&context.roots, &project.root)?;
        Ok(())
    }
}

/// Removes all that there is of a unit, its record after the unit itself: whatever this ends at, the next `down`
/// or `up` goes on from there.
fn remove(context: &Context, unit: &Unit<'_>, store: &mut Store) -> Result<Vec<&'static str>, Failure> {
    let mut removed = Vec::new();
    let exists = match unit.engine.observe(&unit.id) {
        Ok(seen) => seen != Seen::Absent,
        // Removing is the way out of damage.
        Err(EngineError::Damaged { .. }) => true,
        Err(error) => return Err(error.into()),
    };
    if exists {
        stop::stop(context, unit, store, "down")?;
        unit.engine.remove(&unit.id)?;
        let is_service = unit.env.is_service();
        removed.push(if is_service { "the container" } else { "the environment with its own files" });
    }
    upgrade::remove_asides(&context.roots, unit.engine, store, &unit.project.root, &unit.env.name)?;
    let unit_row = store.unit(&unit.project.root, &unit.env.name)?;
    if let Some(row) = unit_row {
        store.write(|writer| writer.remove_unit(row.id))?;
        removed.push("its record");
    }
    let kept = |what: &str, error: std::io::Error| {
        let message = format!("cannot remove {what} of {}: {error}", unit.env.name);
        Failure::new(Exit::State, "state", message)
    };
    Session::forget(&context.roots, &unit.id).map_err(|error| kept("what sessions are given", error))?;
    KeptImages::of(&context.roots).forget(&unit.id, &unit.env.base)?;
    let forgotten = unit.secrets().forget_unit(&unit.id);
    forgotten.map_err(|error| kept("the files that were made", error))?;
    match std::fs::remove_dir_all(unit.logs()) {
        Ok(()) => removed.push("its logs"),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(kept("the logs", error)),
    }
    Ok(removed)
}
