use std::collections::BTreeSet;

use clap::Args;
use setpoint_model::explain::explain;
use setpoint_model::manifest::Env;
use setpoint_model::plan::{Action, Options};
use setpoint_runtime::engine::{Engine, Seen};
use setpoint_runtime::project::Project;

use super::{SUCCESS, plan};
use crate::context::Context;
use crate::error::Failure;
use crate::events::LiveList;
use crate::json;

/// Name each change since the last success, and the work that it leads to
#[derive(Debug, Args)]
pub(crate) struct Why {
    /// The environment; may be left out where there is only one
    unit: Option<String>,
    /// Ask the registry whether the image's tag has moved
    #[arg(long)]
    pull: bool,
    /// Also look whether secrets from files and commands have changed
    #[arg(long)]
    refresh_secrets: bool,
}

impl Why {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let project = context.project()?;
        let engine = context.engine(project.manifest.engine);
        // Of several services, which one is out of date is part of the question; in JSON an answer is about one.
        let all = self.unit.is_none()
            && !context.output.json
            && project.manifest.envs.values().any(Env::is_service);
        let envs = if all { plan::chosen(&project, &[])? } else { vec![project.env(self.unit.as_deref())?] };
        for env in envs {
            self.explain(context, engine.as_ref(), &project, env)?;
        }
        Ok(SUCCESS)
    }

    fn explain(
        &self,
        context: &Context,
        engine: &dyn Engine,
        project: &Project,
        env: &Env,
    ) -> Result<(), Failure> {
        let mut unit = context.unit(engine, project, env);
        unit.refresh_secrets = self.refresh_secrets;
        let store = context.store()?;
        if self.pull {
            unit.ask_registry(&LiveList::new(context.output), &context.cancel)?;
        }
        let look = unit.look(&store, &Options::default())?;
        let explained = explain(&look.desired, &look.plan, &look.report);
        let exists = look.seen != Seen::Absent;
        let record = look.recorded.fingerprint.digest();
        let output = context.output;
        let name = &env.name;
        let pending = look.report.unfinished();
        if output.json {
            let record = exists.then(|| record.to_hex());
            output.value(&json::Why {
                setpoint: json::VERSION,
                unit: name.to_string(),
                record,
                changes: explained,
                pending,
            });
            return Ok(());
        }
        if !exists {
            output.line(format!("{name}: there is none yet; everything is new"));
            output.line("Next: setpoint up");
            return Ok(());
        }
        let counted = explained.iter().filter(|change| !change.informs_only).count();
        output.line(match counted {
            0 if look.plan.is_drift() => {
                format!("{name}: no change since {}, but not everything is done", record.short())
            }
            0 => format!("{name}: no change since {}", record.short()),
            1 => format!("{name}: 1 change since {}", record.short()),
            many => format!("{name}: {many} changes since {}", record.short()),
        });
        for change in &explained {
            let old = change.old.as_deref().unwrap_or("(absent)");
            let new = change.new.as_deref().unwrap_or("(absent)");
            output.line(format!("  {:<8} {}  {old} -> {new}", change.change, change.path));
            let role = change.role.as_deref().map_or_else(String::new, |role| format!("{role} "));
            output.line(format!("           {role}-> {}", change.leads_to));
        }
        let told: BTreeSet<String> = explained.iter().map(|change| change.leads_to.clone()).collect();
        for hook in pending.iter().filter(|hook| !told.contains(&format!("run {hook}"))) {
            output.line(format!("  pending  {hook} has not succeeded yet -> run {hook}"));
        }
        if look.plan.action == Action::Nothing && look.plan.is_drift() {
            output.line("No restart and no recreate.");
        }
        if look.plan.is_drift() {
            output.line("Next: setpoint up");
        }
        Ok(())
    }
}
