use clap::Args;
use setpoint_runtime::project::Project;
use setpoint_runtime::upgrade::{self, Patience, Place};

use super::upgrade::{carry_out, done};
use super::{SUCCESS, daemon};
use crate::context::Context;
use crate::error::Failure;
use crate::events::LiveList;

/// Go back to an earlier version, with its data as it was
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The version, or the number of its generation; the one before, if none is named
    version: Option<String>,
    /// Agree that what was written since is not in the data any more; it is kept aside
    #[arg(long)]
    discard_writes: bool,
    /// Have no daemon started that keeps services running
    #[arg(long)]
    no_daemon: bool,
}

impl Rollback {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        context.stop_on_signals()?;
        let root = Project::find(&context.folder)?;
        let list = LiveList::new(context.output);
        let mut store = context.store()?;
        let _lock = context.project_lock(&root, "rollback", &list)?;
        context.recover(&mut store, &root, &list)?;
        let project = context.project()?;
        let engine = context.engine(project.manifest.engine);
        let (roots, cancel) = (&context.roots, &context.cancel);
        let wanted = self.version.as_deref();
        let planned = upgrade::rollback(roots, engine.as_ref(), &store, &root, wanted, self.discard_writes)??;
        let place = Place { roots, engine: engine.as_ref(), watcher: &list, cancel };
        let patience = Patience::of(&project.manifest.release);
        let changed = carry_out(context, &place, &mut store, &project, &planned, None, patience)?;
        done(context, &project, &planned, changed);
        if !self.no_daemon {
            daemon::ensure(context)?;
        }
        Ok(SUCCESS)
    }
}
