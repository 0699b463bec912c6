mod logs;

use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use setpoint_model::names::StepName;
use setpoint_model::pipeline::outcome::Outcome;
use setpoint_runtime::pipeline::events::StepReport;
use setpoint_runtime::project::Project;
use setpoint_runtime::runs::{self, Run, RunsError, State};

use super::SUCCESS;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::json;
use crate::output::{Output, ago, span};
use crate::run_view::text::{bare, columns, fit};

/// Look at runs of pipelines: how they ended, and what their steps said
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Runs {
    #[command(subcommand)]
    what: Option<What>,
    /// How many to list, the latest first
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

#[derive(Debug, Subcommand)]
enum What {
    Logs(logs::Logs),
    Show(Show),
}

/// Show how each step of a run ended, what it cost, and its key
#[derive(Debug, Args)]
struct Show {
    /// The number of the run; the last, if none is named
    run: Option<u64>,
}

/// `runs`.
#[derive(Debug, Serialize)]
struct Listed {
    setpoint: u32,
    runs: Vec<Row>,
    /// Runs that cannot be read; texts for people.
    damaged: Vec<String>,
}

/// A run in `runs`.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    run: u64,
    pipeline: String,
    /// As in `run_ended`, or `running`, or `interrupted`.
    outcome: &'static str,
    pub(crate) began_at: String,
    took: Option<f64>,
    #[serde(flatten)]
    counts: Counts,
}

/// How many steps ended how.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Counts {
    cached: usize,
    /// Those that ran, however they ended.
    ran: usize,
    /// Of those that ran: failed, timed out, errored.
    failed: usize,
    skipped: usize,
}

/// `runs show`.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    setpoint: u32,
    #[serde(flatten)]
    row: Row,
    pid: u32,
    steps: Vec<json::run::Ended>,
    /// Steps of the run that have not ended.
    open: Vec<String>,
    artifacts: Option<json::run::Artifacts>,
}

impl From<RunsError> for Failure {
    fn from(error: RunsError) -> Self {
        let message = error.to_string();
        let failure = match &error {
            RunsError::NoRuns { .. } | RunsError::NoRun { .. } => {
                Self::new(Exit::NotFound, "no-run", message)
            }
            RunsError::Damaged { .. } | RunsError::Io { .. } => Self::new(Exit::State, "runs", message),
        };
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl Runs {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        // The manifest itself is not read: what ran can be looked at while it is wrong.
        let runs = runs::Runs::of(&context.roots, &Project::find(&context.folder)?);
        match self.what {
            None => list(context.output, &runs, self.limit),
            Some(What::Logs(logs)) => logs.run(context, &runs),
            Some(What::Show(show)) => show.run(context.output, &runs),
        }
    }
}

fn list(output: Output, runs: &runs::Runs, limit: usize) -> Result<u8, Failure> {
    let listing = runs.list(limit)?;
    let damaged = listing.damaged.iter().map(ToString::to_string);
    if output.json {
        let runs = listing.runs.iter().map(row).collect();
        output.value(&Listed { setpoint: json::VERSION, runs, damaged: damaged.collect() });
        return Ok(SUCCESS);
    }
    if listing.runs.is_empty() && listing.damaged.is_empty() {
        output.progress("no runs yet; `setpoint run` runs a pipeline");
        return Ok(SUCCESS);
    }
    table(&listed(&listing.runs, Timestamp::now())).iter().for_each(|line| output.line(line));
    damaged.for_each(|text| output.progress(format!("note: {text}")));
    Ok(SUCCESS)
}

/// The rows of the list, with its heads.
fn listed(runs: &[Run], now: Timestamp) -> Vec<Vec<String>> {
    let mut rows = vec![["RUN", "PIPELINE", "OUTCOME", "BEGAN", "TOOK", "STEPS"].map(str::to_owned).to_vec()];
    rows.extend(runs.iter().map(|run| {
        let began = format!("{} ago", ago(run.began_at, now));
        let took = took(run).map_or_else(|| "-".to_owned(), span);
        let counts = counts(&run.steps).words();
        vec![run.number.to_string(), run.pipeline.to_string(), word(run).to_owned(), began, took, counts]
    }));
    rows
}

/// Rows in columns, two spaces apart.
fn table(rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| columns(cell)).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| fit(cell, *width));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

pub(crate) fn word(run: &Run) -> &'static str {
    match &run.state {
        State::Running => "running",
        State::Interrupted => "interrupted",
        State::Ended { outcome, .. } => outcome.word(),
    }
}

pub(crate) fn took(run: &Run) -> Option<Duration> {
    match run.state {
        State::Ended { took, .. } => Some(took),
        State::Running | State::Interrupted => None,
    }
}

pub(crate) fn row(run: &Run) -> Row {
    Row {
        run: run.number,
        pipeline: run.pipeline.to_string(),
        outcome: match word(run) {
            "timed out" => "timed_out",
            word => word,
        },
        began_at: run.began_at.to_string(),
        took: took(run).map(json::run::seconds),
        counts: counts(&run.steps),
    }
}

fn counts(steps: &[StepReport]) -> Counts {
    let mut counts = Counts::default();
    for step in steps {
        match step.outcome {
            Outcome::Cached => counts.cached += 1,
            Outcome::Skipped { .. } => counts.skipped += 1,
            Outcome::Passed | Outcome::Cancelled => counts.ran += 1,
            Outcome::Failed { .. } | Outcome::TimedOut { .. } | Outcome::Errored { .. } => {
                counts.ran += 1;
                counts.failed += 1;
            }
        }
    }
    counts
}

impl Counts {
    /// `3 cached, 2 ran, 1 failed`
    fn words(&self) -> String {
        let parts = [(self.cached, "cached"), (self.ran, "ran"), (self.failed, "failed")];
        let told = parts.iter().filter(|(count, _)| *count > 0);
        match told.map(|(count, word)| format!("{count} {word}")).collect::<Vec<_>>().join(", ") {
            words if words.is_empty() => "-".to_owned(),
            words => words,
        }
    }
}

impl Show {
    fn run(self, output: Output, runs: &runs::Runs) -> Result<u8, Failure> {
        let run = runs.read(self.run)?;
        if output.json {
            output.value(&shown(&run));
            return Ok(SUCCESS);
        }
        picture(&run, Timestamp::now()).iter().for_each(|line| output.line(line));
        Ok(SUCCESS)
    }
}

/// All that is kept of a run.
pub(crate) fn shown(run: &Run) -> Shown {
    let artifacts = match &run.state {
        State::Ended { artifacts, .. } => artifacts.as_ref().map(json::run::Artifacts::from),
        State::Running | State::Interrupted => None,
    };
    Shown {
        setpoint: json::VERSION,
        row: row(run),
        pid: run.pid,
        steps: run.steps.iter().map(json::run::Ended::from).collect(),
        open: open(run).map(ToString::to_string).collect(),
        artifacts,
    }
}

/// The steps of a run that have not ended.
pub(crate) fn open(run: &Run) -> impl Iterator<Item = &StepName> {
    let ended = |step: &StepName| run.steps.iter().any(|report| report.step == *step);
    run.plan.iter().map(|plan| &plan.step).filter(move |step| !ended(step))
}

/// A run with its steps, in words.
fn picture(run: &Run, now: Timestamp) -> Vec<String> {
    let took = took(run).map_or_else(String::new, |took| format!(", took {}", span(took)));
    let mut lines = vec![format!(
        "{}  run {}  {}, began {} ago{took}",
        run.pipeline,
        run.number,
        word(run),
        ago(run.began_at, now)
    )];
    let mut rows = vec![["STEP", "OUTCOME", "TOOK", "KEY"].map(str::to_owned).to_vec()];
    rows.extend(run.steps.iter().map(|report| {
        let took = match report.saved {
            Some(saved) => format!("{} saved", span(saved)),
            None if report.took > Duration::ZERO => span(report.took),
            None => "-".to_owned(),
        };
        let key = report.key.as_deref().unwrap_or("-").to_owned();
        vec![report.step.to_string(), ending(report), took, key]
    }));
    let unended = if run.state == State::Running { "not ended yet" } else { "not ended" };
    rows.extend(
        open(run).map(|step| vec![step.to_string(), unended.to_owned(), "-".to_owned(), "-".to_owned()]),
    );
    lines.extend(table(&rows));
    if let State::Ended { artifacts: Some((files, path)), .. } = &run.state {
        lines.push(format!("artifacts: {files} files in {}", path.display()));
    }
    if let Some(bad) = run.steps.iter().find(|step| step.outcome.is_bad()) {
        lines.push(format!("Next: setpoint runs logs {} {}", run.number, bad.step));
    }
    lines
}

/// How a step ended, with what there is to say of it.
pub(crate) fn ending(report: &StepReport) -> String {
    let word = report.outcome.word();
    match &report.outcome {
        Outcome::Cached => {
            report.made_in.map_or_else(|| word.to_owned(), |run| format!("{word} (run {run})"))
        }
        Outcome::Failed { how } => bare(&format!("{word}: {how}")),
        Outcome::Errored { what } => bare(&format!("{word}: {}", what.lines().next().unwrap_or_default())),
        Outcome::Skipped { because } => bare(&format!("{word}, {because}")),
        Outcome::Passed | Outcome::TimedOut { .. } | Outcome::Cancelled => word.to_owned(),
    }
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;
