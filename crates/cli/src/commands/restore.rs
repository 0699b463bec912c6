use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use setpoint_model::backup::{Contents, Part};
use setpoint_model::doctor::Purpose;
use setpoint_model::names::UnitName;
use setpoint_model::release::ledger::Planned;
use setpoint_model::release::{Holds, MigrationError, Upgrade};
use setpoint_runtime::backup::{
    Address, BackupError, Listed, Opened, change, fetched, list as list_all, open, record_first_boots,
};
use setpoint_runtime::project::Project;
use setpoint_runtime::upgrade::{Declared, Patience, Place};

use super::backup::{NO_DATA, part_words, service};
use super::migrate::migrations;
use super::release::registry;
use super::upgrade::{carry_out, done, looked_at, refuse_adopted, shown, tell, title};
use super::{SUCCESS, daemon, doctor};
use crate::context::Context;
use crate::error::Failure;
use crate::events::LiveList;
use crate::json;
use crate::output::{ago, size};

/// Put data of a backup in the place of what services have
///
/// What they have is set aside with their instances: `setpoint rollback --discard-writes` leads back to it. Until the end,
/// whatever fails, or is cut off, ends at the data before.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The service; all that the backup has, if none is named
    unit: Option<String>,
    /// Where it comes from: a folder or `oci://HOST/REPO`, perhaps with `:NAME`; else the last of this project
    #[arg(long, value_name = "ADDRESS")]
    from: String,
    /// Only show which backups there are
    #[arg(long, conflicts_with_all = ["unit", "of", "dry_run"])]
    list: bool,
    /// Agree to a backup of the project of this name
    #[arg(long, value_name = "PROJECT")]
    of: Option<String>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Have no daemon started that keeps services running
    #[arg(long)]
    no_daemon: bool,
}

/// `restore --list`.
#[derive(Debug, Serialize)]
struct Backups<'a> {
    setpoint: u32,
    place: String,
    /// The oldest first.
    backups: Vec<OneBackup<'a>>,
}

#[derive(Debug, Serialize)]
struct OneBackup<'a> {
    name: &'a str,
    digest: &'a str,
    #[serde(flatten)]
    contents: &'a Contents,
}

impl Restore {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        context.stop_on_signals()?;
        let address = Address::parse(&self.from, &context.folder)?;
        let list = LiveList::new(context.output);
        let registry = registry(context, &list);
        if self.list {
            let found = list_all(&registry, &address.place)?;
            show(context, &address, &found);
            return Ok(SUCCESS);
        }
        let root = Project::find(&context.folder)?;
        let mut store = context.store()?;
        let _lock = context.project_lock(&root, "restore", &list)?;
        context.recover(&mut store, &root, &list)?;
        let project = context.project()?;
        let unit = self.unit.as_deref().map(|name| service(&project, name)).transpose()?;
        let own = project.manifest.project.name.to_string();
        let parts_at = fetched(&context.roots, &project.root);
        let opened = open(&registry, &address, self.of.as_deref().unwrap_or(&own), &parts_at)?;
        let contents = &opened.listed.contents;
        let version = project.version_in_effect();
        contents.fits(&own, version, self.of.as_deref()).map_err(BackupError::Unfit)?;
        let parts = contents.chosen(unit.as_ref()).map_err(BackupError::Unfit)?;
        let engine = context.engine(project.manifest.engine);
        let units = looked_at(context, engine.as_ref(), &project, &store, NO_DATA)?;
        let release = &project.manifest.release;
        let planned = change(&units, contents, &parts, &project.active, release.keep)?;
        refuse_adopted(context, engine.as_ref(), &project, &planned)?;
        doctor::refuse(context, Purpose::Restore, engine.as_ref(), &root, &project, Some(&store))?;
        let migrations = migrations(context, &project)?.after(&planned);
        let then = match migrations.due(release.lane) {
            // The data of a later version, as those say that were carried out on it.
            Err(unknown @ MigrationError::Unknown { .. }) => return Err(unknown.into()),
            due => then(due, if self.dry_run { "After that" } else { "Next" }),
        };
        if self.dry_run {
            context.output.note(words(&project, &opened, &parts, &planned));
            then.iter().for_each(|then| context.output.note(then));
            context.output.note(format!("Next: setpoint restore{}", self.same(unit.as_ref())));
            tell(context, false, Some(&planned), None, None);
            return Ok(SUCCESS);
        }
        opened.verify(&registry, &parts)?;
        record_first_boots(&mut store, &units, contents, &planned)?;
        drop(units);
        let patience = Patience::of(release);
        // From here on its data is where the new generation has it.
        let project = Project { active: planned.to.clone(), ..project.clone() };
        let home = context.home.clone();
        let declared = Declared {
            project: &project,
            leaves: None,
            variables: &context.variables,
            home,
            backup: Some(&opened),
        };
        let (roots, cancel) = (&context.roots, &context.cancel);
        let place = Place { roots, engine: engine.as_ref(), watcher: &list, cancel };
        let changed = carry_out(context, &place, &mut store, &project, &planned, Some(&declared), patience);
        opened.forget_fetched();
        done(context, &project, &planned, changed?);
        context.output.note(format!(
            "Its data is that of {}; what was there is set aside: setpoint rollback --discard-writes",
            opened.listed.name
        ));
        then.iter().for_each(|then| context.output.note(then));
        if !self.no_daemon {
            daemon::ensure(context)?;
        }
        Ok(SUCCESS)
    }

    /// The arguments of the same again, that does it.
    fn same(&self, unit: Option<&UnitName>) -> String {
        let unit = unit.map(|unit| format!(" {unit}")).unwrap_or_default();
        let of = self.of.iter().map(|of| format!(" --of {of}")).collect::<String>();
        format!("{unit} --from {}{of}", self.from)
    }
}

/// What comes after it, where the data is of a version before the one in effect.
fn then(due: Result<Vec<Planned>, MigrationError>, next: &str) -> Option<String> {
    match due {
        Ok(due) if due.is_empty() => None,
        Ok(due) => {
            let ids: Vec<String> = due.iter().map(|planned| planned.id.to_string()).collect();
            Some(format!("Due on that data: {}\n{next}: setpoint upgrade", ids.join(", ")))
        }
        Err(error) => Some(format!("On that data: {error}\n{next}: {}", error.hint())),
    }
}

/// What would be done.
fn words(project: &Project, opened: &Opened, parts: &[&Part], planned: &Upgrade) -> String {
    let listed = &opened.listed;
    let mut lines = vec![format!(
        "Restore {} to {} ({}). Nothing has been changed.",
        title(project),
        listed.name,
        since(&listed.contents)
    )];
    lines.extend(parts.iter().map(|part| part_words(part)));
    let mut say = |head: &str, what: String| lines.push(format!("  {head:<7} {what}"));
    for copy in &planned.copies {
        match copy.holds {
            Holds::Nothing => say("before", format!("make {} anew", copy.to)),
            Holds::Filled(_) | Holds::Copied => say("before", format!("fill {}", copy.to)),
        }
    }
    for part in &planned.parts {
        let what = if part.is_there { "replace" } else { "make" };
        say("outage", format!("{what} {}", part.unit));
    }
    for load in &planned.loads {
        say("outage", format!("{} takes in what its own backup has", load.unit));
    }
    for copy in &planned.copies {
        say("keep", format!("{} is set aside", copy.from));
    }
    lines.push(format!(
        "Until commit, any failure or power cut ends at {} with its data.",
        shown(&planned.from)
    ));
    lines.push("After commit, `setpoint rollback --discard-writes` leads back to it.".to_owned());
    lines.join("\n")
}

/// When a backup was made, as people are told.
fn since(contents: &Contents) -> String {
    match contents.at.parse::<Timestamp>() {
        Ok(at) => format!("{} ago", ago(at, Timestamp::now())),
        Err(_) => contents.at.clone(),
    }
}

fn show(context: &Context, address: &Address, found: &[Listed]) {
    let output = context.output;
    if output.json {
        let backups = found
            .iter()
            .map(|Listed { name, digest, contents }| OneBackup { name, digest, contents })
            .collect();
        output.value(&Backups { setpoint: json::VERSION, place: address.place.to_string(), backups });
        return;
    }
    if found.is_empty() {
        output.note(format!("There is no backup in {}.", address.place));
    }
    for Listed { name, contents, .. } in found {
        let units = contents.units.keys().map(UnitName::as_str).collect::<Vec<_>>().join(", ");
        let stored = contents.parts.iter().map(|part| part.stored).sum();
        let version = contents.version.as_deref().unwrap_or("-");
        output.line(format!("{name:<32} {version:<10} {:>8}  {:<9} {units}", size(stored), since(contents)));
    }
}
