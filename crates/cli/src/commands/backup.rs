use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use setpoint_model::backup::{Contents, Part, What};
use setpoint_model::names::UnitName;
use setpoint_runtime::backup::{Address, BackupError, Drill, Drilled, Made, Opened, Taking, fetched, open};
use setpoint_runtime::project::Project;
use setpoint_runtime::reconciler;
use setpoint_runtime::store::LedgerOf;
use setpoint_runtime::upgrade::Patience;

use super::SUCCESS;
use super::release::registry;
use super::upgrade::{looked_at, title};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::events::LiveList;
use crate::json;
use crate::output::{size, span};

/// What to do without a service.
pub(super) const NO_DATA: &str = "a backup is of the volumes of services; declare one as `[service.NAME]`";

/// Back up what services keep, to a folder or a registry
///
/// Services that write to a volume are stopped while it is copied, and only that long; one that declares a `backup` of its
/// own goes on. A backup is added to those that are there, and is listed when all of it is. Secrets are in none.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The service; all of the project's, if none is named
    unit: Option<String>,
    /// Where it goes: a folder, or `oci://HOST/REPO`, perhaps with `:NAME`
    #[arg(long, value_name = "ADDRESS", required_unless_present = "from")]
    to: Option<String>,
    /// Try to restore it: into volumes of its own, with an instance on it that nobody reaches; all of that is removed again
    #[arg(long)]
    drill: bool,
    /// Make none, and try one that is there: a folder or `oci://HOST/REPO`, perhaps with `:NAME`; else the last
    #[arg(long, value_name = "ADDRESS", conflicts_with = "to", requires = "drill")]
    from: Option<String>,
}

/// `backup`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    setpoint: u32,
    /// The folder or the repository.
    place: String,
    name: &'a str,
    digest: &'a str,
    #[serde(flatten)]
    contents: &'a Contents,
    #[serde(flatten)]
    made: Option<MadeReport<'a>>,
    drill: Option<DrillReport<'a>>,
    seconds: f64,
}

/// What is told of a backup that was made just now.
#[derive(Debug, Serialize)]
struct MadeReport<'a> {
    /// How many bytes of it were there already.
    shared_bytes: u64,
    /// For how long services were stopped, and which.
    pause_seconds: f64,
    stopped: &'a [UnitName],
    /// What is not in it, in words.
    left_out: &'a [String],
}

/// What a drill has shown.
#[derive(Debug, Serialize)]
struct DrillReport<'a> {
    /// Services of which an instance was well on the restored data.
    well: &'a [UnitName],
    /// Services of which none was started, and why; their files were restored and compared.
    compared: Vec<Compared<'a>>,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Compared<'a> {
    unit: &'a UnitName,
    why: &'a str,
}

impl Backup {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        context.stop_on_signals()?;
        let began = Instant::now();
        let address = self.to.as_ref().or(self.from.as_ref()).map(String::as_str).unwrap_or_default();
        let address = Address::parse(address, &context.folder)?;
        let root = Project::find(&context.folder)?;
        let list = LiveList::new(context.output);
        let mut store = context.store()?;
        let _lock = context.project_lock(&root, "backup", &list)?;
        context.recover(&mut store, &root, &list)?;
        let project = context.project()?;
        let of = self.unit.as_deref().map(|name| service(&project, name)).transpose()?;
        let engine = context.engine(project.manifest.engine);
        let units = looked_at(context, engine.as_ref(), &project, &store, NO_DATA)?;
        let registry = || registry(context, &list);
        let made = match &self.to {
            None => None,
            Some(_) => {
                let (project, engine) = (&project, engine.as_ref());
                let whose = LedgerOf { project_root: &project.root, engine: engine.capabilities().engine };
                let ledger = &store.ledger(whose)?;
                let (registry, units, of) = (registry(), &units, of.as_ref());
                let taking = Taking { registry, project, engine, units, of, ledger };
                let plan = taking.plan()?;
                let made = taking.take(&plan, &address);
                reconciler::tell(&context.roots);
                Some((made?, plan.left_out))
            }
        };
        if let (false, Some((made, left_out))) = (context.output.json, &made) {
            say(context, &project, &address, made, left_out);
        }
        let there;
        let opened = match &made {
            Some((made, _)) => &made.opened,
            None => {
                let name = project.manifest.project.name.as_str();
                there = open(&registry(), &address, name, &fetched(&context.roots, &project.root))?;
                of_this(&there, name)?;
                &there
            }
        };
        let drilled = match self.drill {
            false => None,
            true => {
                let parts = opened.listed.contents.chosen(of.as_ref()).map_err(BackupError::Unfit)?;
                let patience = Patience::of(&project.manifest.release);
                let (project, engine) = (&project, engine.as_ref());
                let drill = Drill { registry: registry(), project, engine, units: &units, patience };
                Some(drill.run(opened, &parts)?)
            }
        };
        if context.output.json {
            report(context, &address, opened, made.as_ref(), drilled.as_ref(), began.elapsed());
        } else {
            if let Some(drilled) = &drilled {
                say_drilled(context, opened, drilled);
            }
            let next = format!("setpoint restore --from {}:{}", address.place, opened.listed.name);
            context.output.note(format!("Next: {next}"));
        }
        Ok(SUCCESS)
    }
}

/// Refuses a backup of another project: a drill is made where the data belongs.
fn of_this(opened: &Opened, name: &str) -> Result<(), Failure> {
    let theirs = &opened.listed.contents.project;
    if theirs == name {
        return Ok(());
    }
    let what =
        format!("{} is a backup of the project `{theirs}`, and this one is `{name}`", opened.listed.name);
    Err(Failure::new(Exit::Usage, "other-backup", what).hint("a drill is made in the project of the backup"))
}

/// The service of this name.
pub(super) fn service(project: &Project, name: &str) -> Result<UnitName, Failure> {
    let env = project.env(Some(name))?;
    if env.is_service() {
        return Ok(env.name.clone());
    }
    let what = format!("`{name}` is an environment, and no service");
    Err(Failure::new(Exit::NotFound, "no-service", what)
        .hint("services have volumes that outlive them; what an environment has is in the project's folder"))
}

/// A part of a backup, as people are told: `db  data  4.2GiB in 812 files, 1.1GiB stored`.
pub(super) fn part_words(part: &Part) -> String {
    let units = part.units.iter().map(UnitName::as_str).collect::<Vec<_>>().join(", ");
    let (what, files) = match &part.what {
        What::Volume { volume, files, .. } => (volume.as_str(), format!(" in {files} files")),
        What::Dump => ("its own backup", String::new()),
    };
    format!("  {units:<12} {what:<16} {}{files}, {} stored", size(part.bytes), size(part.stored))
}

fn say(context: &Context, project: &Project, address: &Address, made: &Made, left_out: &[String]) {
    let (output, listed) = (context.output, &made.opened.listed);
    output.note(format!("Backed up {} to {} as {}", title(project), address.place, listed.name));
    for part in &listed.contents.parts {
        output.note(part_words(part));
    }
    if made.shared > 0 {
        output.note(format!("  {} of it were there already", size(made.shared)));
    }
    match made.stopped.as_slice() {
        [] => output.note("  nothing was stopped for it"),
        stopped => {
            let names = stopped.iter().map(UnitName::as_str).collect::<Vec<_>>().join(", ");
            output.note(format!("  {names} stood still for {}", span(made.pause)));
        }
    }
    for left_out in left_out {
        output.note(format!("  not in it: {left_out}"));
    }
}

fn say_drilled(context: &Context, opened: &Opened, drilled: &Drilled) {
    let output = context.output;
    output.note(format!(
        "{} can be restored: every byte is as it was read, after {}",
        opened.listed.name,
        span(drilled.took)
    ));
    for unit in &drilled.well {
        output.note(format!("  {unit} was well on it"));
    }
    for (unit, why) in &drilled.compared {
        output.note(format!("  {unit} was not started on it: {why}"));
    }
}

fn report(
    context: &Context,
    address: &Address,
    opened: &Opened,
    made: Option<&(Made, Vec<String>)>,
    drilled: Option<&Drilled>,
    took: Duration,
) {
    let made = made.map(|(made, left_out)| MadeReport {
        shared_bytes: made.shared,
        pause_seconds: made.pause.as_secs_f64(),
        stopped: &made.stopped,
        left_out,
    });
    let drill = drilled.map(|drilled| DrillReport {
        well: &drilled.well,
        compared: drilled.compared.iter().map(|(unit, why)| Compared { unit, why }).collect(),
        seconds: drilled.took.as_secs_f64(),
    });
    context.output.value(&Report {
        setpoint: json::VERSION,
        place: address.place.to_string(),
        name: &opened.listed.name,
        digest: &opened.listed.digest,
        contents: &opened.listed.contents,
        made,
        drill,
        seconds: took.as_secs_f64(),
    });
}
