use std::path::Path;

use clap::Args;
use setpoint_model::release::Upgrade;
use setpoint_runtime::engine::Engine;
use setpoint_runtime::project::Project;
use setpoint_runtime::store::Store;
use setpoint_runtime::upgrade::{Back, Declared, Migrations, Patience, Place, Refused};

use super::expected::{Expected, fitting};
use super::upgrade::{carry_out, done, services, shown, title, would};
use super::{SUCCESS, daemon};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::events::LiveList;

/// Go back to an earlier version, with its data as it was
///
/// Where both can work with the same data, that stays as it is. Where migrations of a release say how they are taken back, today's
/// data is taken along. Else what was written since is lost to what runs then, which has to be said.
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
        let leaves = leaves(context, &project, engine.as_ref(), &store);
        let back = self.back(context, engine.as_ref(), &root, self.discard_writes, leaves.as_ref());
        let mut planned = back.plan(&store)??;
        undivided(&project, &planned)?;
        fitting(engine.as_ref(), &mut planned)?;
        let place = Place { roots, engine: engine.as_ref(), watcher: &list, cancel };
        let patience = Patience::of(&project.manifest.release);
        // What takes migrations back is of the version that is left; what is made then is of the one before.
        let both = match (&project.from, planned.downs.is_empty()) {
            (Some(from), false) => {
                let (from, active) = (from.clone(), planned.to.clone());
                let own = (root.clone(), &context.assignments);
                let to = Project::of_release(roots, own.0, from, active.clone(), None, own.1)?;
                Some((to, Project { active, ..project.clone() }))
            }
            _ => None,
        };
        let declared = both.as_ref().map(|(to, left)| Declared {
            project: to,
            leaves: Some(left),
            variables: &context.variables,
            home: context.home.clone(),
            backup: None,
        });
        let changed =
            carry_out(context, &place, &mut store, &project, &planned, declared.as_ref(), patience)?;
        done(context, &project, &planned, changed);
        if !self.no_daemon {
            daemon::ensure(context)?;
        }
        Ok(SUCCESS)
    }

    /// The way back that is asked for.
    fn back<'a>(
        &'a self,
        context: &'a Context,
        engine: &'a dyn Engine,
        root: &'a Path,
        discards_writes: bool,
        leaves: Option<&'a Migrations>,
    ) -> Back<'a> {
        let (roots, wanted) = (&context.roots, self.version.as_deref());
        Back { roots, engine, root, wanted, discards_writes, leaves }
    }

    /// Says what would be done, and what would be lost.
    fn dry(&self, context: &Context, store: &Store, project: &Project) -> Result<u8, Failure> {
        let engine = context.engine(project.manifest.engine);
        let leaves = leaves(context, project, engine.as_ref(), store);
        let plan = |discards| {
            self.back(context, engine.as_ref(), &project.root, discards, leaves.as_ref()).plan(store)
        };
        let (loses, mut planned) = match plan(false)? {
            Err(refused @ Refused::LosesWrites { .. }) => {
                let words = match &refused {
                    Refused::LosesWrites { why: Some(why), .. } => format!("{refused}: {why}"),
                    _ => refused.to_string(),
                };
                (Some(words), plan(true)??)
            }
            planned => (None, planned?),
        };
        let (mut next, agrees) = ("setpoint rollback".to_owned(), loses.is_some());
        self.version.iter().for_each(|version| next.push_str(&format!(" {version}")));
        if agrees {
            next.push_str(" --discard-writes");
        }
        undivided(project, &planned)?;
        let cost = fitting(engine.as_ref(), &mut planned)?;
        let expected = Expected::of(store, project, &planned, cost)?;
        let words = words(&title(project), &planned, &expected, loses.as_deref());
        would(context, &planned, &words, &expected, &next);
        Ok(SUCCESS)
    }
}

/// Whether whoever has data that is copied goes back with it: who came to have it since would go on writing to what is left.
fn undivided(project: &Project, planned: &Upgrade) -> Result<(), Failure> {
    let others = services(project).into_iter().filter(|env| planned.part(&env.name).is_none());
    let is_copied = |name: &str| planned.copies.iter().any(|copy| copy.declared == name);
    for env in others {
        if let Some(volume) = env.volumes().find(|volume| is_copied(&volume.name)) {
            let message = format!(
                "{} has the volume {}, too, and was no part of the upgrades that are gone back over: it would go on with today's data alone\nNothing was done.",
                env.name, volume.name
            );
            return Err(Failure::new(Exit::Consent, "shared-volume", message)
                .hint("the same with `--discard-writes` goes back to the data of before"));
        }
    }
    Ok(())
}

/// The migrations of the version that is left. Where they cannot be read, nothing is taken back, and the way to the data of
/// before stays open.
fn leaves(context: &Context, project: &Project, engine: &dyn Engine, store: &Store) -> Option<Migrations> {
    Migrations::of(&context.roots, project, &project.active, engine, store).ok()
}

/// What would be done.
fn words(title: &str, planned: &Upgrade, expected: &Expected, loses: Option<&str>) -> String {
    let (from, to) = (shown(&planned.from), shown(&planned.to));
    let mut lines = vec![format!("Roll back {title} {from} -> {to}. Nothing has been changed.")];
    let mut head = "then";
    for (of, what) in expected.words(planned) {
        lines.push(format!("  {of:<7} {what}"));
        head = "";
    }
    for put in &planned.puts {
        lines.push(format!("  {head:<7} put back {}, as it was in generation {}", put.path, put.generation));
        head = "";
    }
    for down in &planned.downs {
        let place =
            down.unit.as_ref().map_or_else(|| "on this machine".to_owned(), |unit| format!("in {unit}"));
        lines.push(format!("  {head:<7} take back {} {place}", down.id));
        head = "";
    }
    for part in &planned.parts {
        let what = match (part.stays, part.restores) {
            (true, Some(_)) => "put back",
            (true, None) => "make again",
            (false, _) => "set aside",
        };
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
        None if planned.downs.is_empty() => lines.push("Nothing that was written is lost.".to_owned()),
        None => lines
            .push("What was written since stays, as far as what takes migrations back leaves it.".to_owned()),
    }
    lines.join("\n")
}
