use clap::Args;
use setpoint_model::release::Upgrade;
use setpoint_runtime::project::Project;
use setpoint_runtime::store::Store;
use setpoint_runtime::upgrade::{self, Patience, Place, Refused};

use super::upgrade::{carry_out, done, shown, title, would};
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
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
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
        if self.dry_run {
            return self.dry(context, &store, &context.project()?);
        }
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

    /// Says what would be done, and what would be lost.
    fn dry(&self, context: &Context, store: &Store, project: &Project) -> Result<u8, Failure> {
        let engine = context.engine(project.manifest.engine);
        let plan = |discards| {
            let wanted = self.version.as_deref();
            upgrade::rollback(&context.roots, engine.as_ref(), store, &project.root, wanted, discards)
        };
        let (loses, planned) = match plan(false)? {
            Err(refused @ Refused::LosesWrites { .. }) => (Some(refused.to_string()), plan(true)??),
            planned => (None, planned?),
        };
        let (mut next, agrees) = ("setpoint rollback".to_owned(), loses.is_some());
        self.version.iter().for_each(|version| next.push_str(&format!(" {version}")));
        if agrees {
            next.push_str(" --discard-writes");
        }
        would(context, &planned, &words(&title(project), &planned, loses.as_deref()), &next);
        Ok(SUCCESS)
    }
}

/// What would be done.
fn words(title: &str, planned: &Upgrade, loses: Option<&str>) -> String {
    let (from, to) = (shown(&planned.from), shown(&planned.to));
    let mut lines = vec![format!("Roll back {title} {from} -> {to}. Nothing has been changed.")];
    let mut head = "outage";
    for put in &planned.puts {
        lines.push(format!("  {head:<7} put back {}, as it was in generation {}", put.path, put.generation));
        head = "";
    }
    for part in &planned.parts {
        let what = if part.stays { "put back" } else { "set aside" };
        lines.push(format!("  {head:<7} {what} {}", part.unit));
        head = "";
    }
    lines.push(format!("Until commit, any failure or power cut ends at {from} with its data."));
    match loses {
        Some(loses) => {
            let mut letters = loses.chars();
            let first = letters.next().map(|first| first.to_uppercase().to_string());
            lines.push(format!(
                "{}{}. It is kept aside, and a rollback of this one brings it back.",
                first.unwrap_or_default(),
                letters.as_str()
            ));
        }
        None => lines.push("Nothing that was written is lost.".to_owned()),
    }
    lines.join("\n")
}
