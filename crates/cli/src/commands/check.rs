use std::time::Instant;

use clap::Args;
use serde::Serialize;
use setpoint_model::names::HookName;
use setpoint_runtime::supervise;

use super::SUCCESS;
use super::attach::{self, guest, running, tell};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::events::LiveList;
use crate::json;
use crate::output::span;

/// Run the `verify` hook now, and say whether the environment is fit for work
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The environment; may be left out where there is only one
    #[arg(value_name = "ENV")]
    unit: Option<String>,
}

/// `check`. A check that failed is a failure, on standard error.
#[derive(Debug, Serialize)]
struct Checked {
    setpoint: u32,
    unit: String,
    passed: bool,
    seconds: f64,
}

impl Check {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let project = context.project()?;
        let env = project.env(self.unit.as_deref())?;
        let name = &env.name;
        let verify = HookName::Verify;
        let Some(hook) = env.hooks.get(&verify) else {
            return Err(Failure::new(Exit::Usage, "no-verify", format!("{name} declares no `verify` hook"))
                .hint(format!("say under [env.{name}.hooks] what shows that it works: verify = \"...\"")));
        };
        let engine = context.engine(project.manifest.engine);
        let unit = context.unit(engine.as_ref(), &project, env);
        running(&unit)?;
        context.stop_on_signals()?;
        let guest = guest(context, &unit, None)?;
        let list = LiveList::new(context.output);
        let began = Instant::now();
        let result = attach::run(context, &unit, &guest, (verify, hook), &list);
        let took = began.elapsed();
        drop(list);
        match result {
            Ok(()) if context.output.json => context.output.value(&Checked {
                setpoint: json::VERSION,
                unit: name.to_string(),
                passed: true,
                seconds: took.as_secs_f64(),
            }),
            Ok(()) => context.output.note(format!("{name} passed its check in {}", span(took))),
            Err(failed) => {
                tell(context, &unit, verify, &failed);
                let (exit, kind) = match failed.failure {
                    supervise::Failure::Cancelled => (Exit::Interrupted, "interrupted"),
                    _ => (Exit::Failed, "phase-failed"),
                };
                let message = format!(
                    "{verify} failed in {name}: {}\n  at {}:{}:{}\nNothing was changed.",
                    failed.failure, hook.at.file, hook.at.line, hook.at.column
                );
                return Err(Failure::new(exit, kind, message)
                    .hint(format!("look inside with `setpoint shell {name}`")));
            }
        }
        Ok(SUCCESS)
    }
}
