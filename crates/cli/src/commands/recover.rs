use clap::Args;
use serde::Serialize;
use setpoint_runtime::project::Project;
use setpoint_runtime::reconciler;
use setpoint_runtime::upgrade::Recovered;

use super::SUCCESS;
use crate::context::Context;
use crate::error::Failure;
use crate::events::LiveList;
use crate::json;

/// Bring an upgrade to its end that was cut off, or that needed a person
///
/// The next command that changes something does so by itself.
#[derive(Debug, Args)]
pub(crate) struct Recover {}

/// `recover`.
#[derive(Debug, Serialize)]
struct Report {
    setpoint: u32,
    /// `nothing`, `dropped`, `rolled-back`, `committed`.
    recovered: &'static str,
}

/// What became of it.
pub(super) fn words(recovered: Recovered) -> &'static str {
    match recovered {
        Recovered::Dropped => "It had touched nothing.",
        Recovered::RolledBack => "What ran before runs again, with its own data.",
        Recovered::Committed { leaves_due: false } => "The new version is in effect.",
        Recovered::Committed { leaves_due: true } => {
            "The new version is in effect, and the next `setpoint upgrade` runs what is due (`setpoint migrate status`)."
        }
    }
}

impl Recover {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        context.stop_on_signals()?;
        let root = Project::find(&context.folder)?;
        let list = LiveList::new(context.output);
        let mut store = context.store()?;
        let _lock = context.project_lock(&root, "recover", &list)?;
        let recovered = context.recover(&mut store, &root, &list)?;
        reconciler::tell(&context.roots);
        let word = match recovered {
            None => "nothing",
            Some(Recovered::Dropped) => "dropped",
            Some(Recovered::RolledBack) => "rolled-back",
            Some(Recovered::Committed { .. }) => "committed",
        };
        context.output.note(recovered.map_or("There is nothing to recover.", words));
        if context.output.json {
            context.output.value(&Report { setpoint: json::VERSION, recovered: word });
        }
        Ok(SUCCESS)
    }
}
