use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use setpoint_model::doctor::Row;
use setpoint_model::names::UnitName;
use setpoint_model::release::ledger::{self, Due, Planned, Progress, Standing, is_volume};
use setpoint_model::release::migration::{HOST, Stage};
use setpoint_model::release::{Migration, MigrationError};
use setpoint_runtime::project::Project;
use setpoint_runtime::upgrade::Migrations;

use super::SUCCESS;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::json;
use crate::output::ago;

/// Show which migrations were applied to the data, and which an upgrade would carry out
///
/// Migrations are the files `migrations/VERSION/NUMBER-NAME.*`. They are carried out by `upgrade`, and by the first `up`; each
/// once, in order, on the copy of the data that the new version works on.
#[derive(Debug, Args)]
pub(crate) struct Migrate {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// How each migration stands on the data that is there
    Status,
    /// What an upgrade would carry out, in order
    Plan,
}

/// `migrate status` and `migrate plan`.
#[derive(Debug, Serialize)]
struct Report {
    setpoint: u32,
    migrations: Vec<Line>,
}

/// A migration.
#[derive(Debug, Serialize)]
struct Line {
    id: String,
    /// `done`, `covered`, `due`, `asked` (it runs if its check says that it was not applied), `to-cover`, `unknown` (it is not
    /// in this version), `wrong`.
    standing: &'static str,
    /// The service that it runs in, or `host`; nothing of one that is unknown.
    #[serde(rename = "in")]
    place: Option<String>,
    /// `pre`, `post`, `forward_only`.
    stage: Option<Stage>,
    /// The volumes that it touches, as they are declared.
    touches: Vec<String>,
    /// The paths of the host that it changes.
    paths: Vec<String>,
    /// When it was applied.
    at: Option<String>,
    /// What is wrong.
    why: Option<String>,
}

impl Migrate {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let project = context.project()?;
        let all = migrations(context, &project)?;
        let lines = match self.what {
            What::Status => status(&all, &project),
            What::Plan => {
                let due = all.due(project.manifest.release.lane)?;
                due.iter().map(planned).collect()
            }
        };
        if context.output.json {
            context.output.value(&Report { setpoint: json::VERSION, migrations: lines });
            return Ok(SUCCESS);
        }
        match (&self.what, lines.is_empty()) {
            (What::Status, true) => context.output.note("This project has no migrations."),
            (What::Plan, true) => context.output.note("No migration is due."),
            _ => lines.iter().for_each(|line| context.output.line(words(line))),
        }
        Ok(SUCCESS)
    }
}

/// The migrations of a project, and how they stand on its data as it is.
pub(super) fn migrations(context: &Context, project: &Project) -> Result<Migrations, Failure> {
    let engine = context.engine(project.manifest.engine);
    Ok(Migrations::of(&context.roots, project, &project.active, engine.as_ref(), &context.store()?)?)
}

fn status(all: &Migrations, project: &Project) -> Vec<Line> {
    let at = |migration: &Migration| {
        let rows = all.ledger.iter().filter(|row| row.applied.id == migration.id);
        rows.map(|row| row.at).max().map(|at| at.to_string())
    };
    let data = all.data(project.manifest.release.lane);
    let line = |(migration, touches): &(Migration, Vec<String>)| {
        let found = ledger::standing(migration, touches, &data);
        let (standing, why) = match found {
            Ok(Standing::Applied(Progress::Covered)) => ("covered", None),
            Ok(Standing::Applied(_)) => ("done", None),
            Ok(Standing::Due(due)) => (due_word(due), None),
            Err(error) => ("wrong", Some(error.to_string())),
        };
        Line {
            id: migration.id.to_string(),
            standing,
            place: Some(shown(migration.r#in.service())),
            stage: Some(migration.stage),
            touches: volumes(touches),
            paths: migration.r#in.paths().to_vec(),
            at: at(migration).filter(|_| matches!(standing, "done" | "covered")),
            why,
        }
    };
    let mut lines: Vec<Line> = all.declared.iter().map(line).collect();
    let is_known = |row: &&setpoint_runtime::store::LedgerRow| {
        all.declared.iter().any(|(migration, _)| migration.id == row.applied.id)
    };
    let applied = all.ledger.iter().filter(|row| row.applied.progress.is_over());
    lines.extend(applied.filter(|row| !is_known(row)).map(|row| Line {
        id: row.applied.id.to_string(),
        standing: "unknown",
        place: None,
        stage: None,
        touches: volumes(std::slice::from_ref(&row.volume)),
        paths: Vec::new(),
        at: Some(row.at.to_string()),
        why: Some("it was applied to the data and is not in this version".to_owned()),
    }));
    lines
}

fn planned(planned: &Planned) -> Line {
    Line {
        id: planned.id.to_string(),
        standing: due_word(planned.due),
        place: Some(shown(planned.unit.as_ref())),
        stage: Some(planned.stage),
        touches: volumes(&planned.touches),
        paths: planned.paths.clone(),
        at: None,
        why: None,
    }
}

/// Where a migration runs.
fn shown(unit: Option<&UnitName>) -> String {
    unit.map_or(HOST.to_owned(), ToString::to_string)
}

fn volumes(touches: &[String]) -> Vec<String> {
    touches.iter().filter(|name| is_volume(name)).cloned().collect()
}

fn due_word(due: Due) -> &'static str {
    match due {
        Due::Run => "due",
        Due::Ask => "asked",
        Due::Cover => "to-cover",
    }
}

/// `  0.4.0/1-orders   done      2h ago`, `  0.4.0/2-index    due       in db, before it starts; on shop_data`
fn words(line: &Line) -> String {
    let when = line.at.as_ref().and_then(|at| at.parse().ok()).map(|at| ago(at, Timestamp::now()));
    let place = line.place.as_ref().map(|unit| match (line.stage, line.paths.is_empty()) {
        (Some(Stage::Post), false) => "on this machine, when all services are well".to_owned(),
        (_, false) => "on this machine, before services start".to_owned(),
        (Some(Stage::Post), true) => format!("in {unit}, when it is well"),
        (Some(Stage::ForwardOnly), true) => format!("in {unit}, after the commit"),
        (_, true) => format!("in {unit}, before it starts"),
    });
    let of: Vec<&str> = line.touches.iter().chain(&line.paths).map(String::as_str).collect();
    let on = (!of.is_empty()).then(|| format!("; on {}", of.join(", ")));
    let rest = match when {
        Some(when) => when,
        None => format!("{}{}", place.unwrap_or_default(), on.unwrap_or_default()),
    };
    let why = line.why.as_ref().map(|why| format!("\n      {why}")).unwrap_or_default();
    format!("  {:<28}  {:<8}  {rest}{why}", line.id, line.standing)
}

/// What is due, in the words of a plan.
pub(super) fn plan_words(planned: &Planned) -> String {
    let id = &planned.id;
    let Some(unit) = &planned.unit else {
        let asked = if planned.due == Due::Ask { ", if its check says that it was not" } else { "" };
        return format!("migrate {id} on this machine{asked}: it changes {}", planned.paths.join(", "));
    };
    let after = if planned.is_forward_only() { " after the commit" } else { "" };
    match (planned.due, planned.stage) {
        (Due::Cover, _) => format!("note that the data has {id}"),
        (Due::Ask, _) => format!("migrate {id} in {unit}{after}, if its check says that it was not"),
        (Due::Run, Stage::Pre) => format!("migrate {id} in the place of {unit}"),
        (Due::Run, Stage::Post | Stage::ForwardOnly) => format!("migrate {id} in {unit}{after}"),
    }
}

impl From<MigrationError> for Failure {
    fn from(error: MigrationError) -> Self {
        let at = error.row();
        // What is wrong with the files themselves needs no more than their places.
        let more = match at {
            Row::Manifest => String::new(),
            _ => at.runbook().map(|at| format!("; {at}")).unwrap_or_default(),
        };
        Self::new(Exit::Manifest, "migrations", error.to_string()).hint(format!("{}{more}", error.hint()))
    }
}
