use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use setpoint_model::fingerprint::Class;
use setpoint_model::manifest::Env;
use setpoint_model::plan::Options;
use setpoint_model::reconcile::{State, StoppedBy, Time};
use setpoint_model::release::Repository;
use setpoint_runtime::engine::{Engine, Health, Progress, Seen, UnitId};
use setpoint_runtime::lock::holder_of_project;
use setpoint_runtime::observe::Look;
use setpoint_runtime::project::Project;
use setpoint_runtime::reconciler::{self, control, timestamp};
use setpoint_runtime::store::{Kept, Operation, OperationOutcome, Store};
use setpoint_runtime::tracked::{Names, Tracked};
use setpoint_runtime::upgrade;

use super::SUCCESS;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::json;
use crate::output::{ago, span};

/// How many folders are named as tracked.
const TRACKED: usize = 4096;
/// The width that a table is fitted to.
const WIDTH: usize = 80;

/// Show what runs, since when, and whether it is as declared
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// The environments; all that are declared, if none is named
    units: Vec<String>,
    /// Show it again whenever it changes, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Also name the files and folders whose change may change this, with `--json`
    #[arg(long, conflicts_with = "watch")]
    tracked: bool,
    /// Exit with the drift code if something is to be done
    #[arg(long)]
    exit_code: bool,
}

impl Status {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        if self.watch {
            return self.watch(context);
        }
        let status = self.look(context)?;
        if context.output.json {
            context.output.value(&status);
        } else {
            context.output.line(words(&status, &Surroundings::of(context)));
        }
        let drift = status.units.iter().any(|unit| unit.out_of_date);
        Ok(if self.exit_code && drift { Exit::Drift as u8 } else { SUCCESS })
    }

    /// On a terminal the picture is drawn anew each second, for what it says of time; else a change is told once.
    fn watch(&self, context: &Context) -> Result<u8, Failure> {
        context.stop_on_signals()?;
        let output = context.output;
        let draws = std::io::stdout().is_terminal() && !output.json;
        let mut told = None;
        while !context.cancel.asked() {
            // What is wrong while somebody edits the manifest is shown, and goes away with the next save.
            let (picture, status) = match self.look(context) {
                Ok(status) => (serde_json::to_string(&status).unwrap_or_default(), Ok(status)),
                Err(failure) => (failure.message.clone(), Err(failure)),
            };
            let changed = told.as_ref() != Some(&picture);
            match status {
                Ok(status) if output.json && changed => output.value(&status),
                Ok(status) if draws || (changed && !output.json) => {
                    let clear = if draws { "\x1b[2J\x1b[H" } else { "" };
                    output.line(format!("{clear}{}", words(&status, &Surroundings::of(context))));
                }
                Err(failure) if changed => output.failure(&failure),
                _ => {}
            }
            told = Some(picture);
            let mut slept = Duration::ZERO;
            while slept < Duration::from_secs(1) && !context.cancel.asked() {
                std::thread::sleep(Duration::from_millis(50));
                slept += Duration::from_millis(50);
            }
        }
        Ok(SUCCESS)
    }

    fn look(&self, context: &Context) -> Result<json::Status, Failure> {
        let project = context.project()?;
        let envs: Vec<&Env> = match self.units.as_slice() {
            [] => project.manifest.envs.values().collect(),
            names => names.iter().map(|name| project.env(Some(name))).collect::<Result<_, _>>()?,
        };
        let engine = context.engine(project.manifest.engine);
        let store = context.store()?;
        let (mut units, mut tracked) = (Vec::new(), project.tracked.clone());
        for env in envs {
            let look = context.unit(engine.as_ref(), &project, env).look(&store, &Options::default())?;
            tracked.add(look.tracked.clone());
            units.push(unit_status(context, engine.as_ref(), &store, &project, env, &look)?);
        }
        Ok(json::Status {
            setpoint: json::VERSION,
            units,
            tracked: self.tracked.then(|| shown_tracked(tracked)).flatten(),
            project: project.manifest.project.name.to_string(),
            version: project.manifest.project.version.clone(),
            in_effect: project.active.version.clone(),
            change: change(context, &store, &project)?,
            mode: if project.from.is_some() { "pinned" } else { "dev" },
            from: project.from.as_ref().map(Repository::address),
            release: project.active.release.clone(),
            root: project.root.display().to_string(),
        })
    }
}

/// What is not at its end of a change of versions: somebody is at it, or it was cut off.
fn change(context: &Context, store: &Store, project: &Project) -> Result<Option<String>, Failure> {
    let Some(open) = store.open_upgrade(&project.root)? else { return Ok(None) };
    let told = upgrade::told(&open.upgrade);
    Ok(Some(match holder_of_project(&context.roots, &project.root) {
        Some(holder) => format!("{told} goes on, by {holder}"),
        None if open.ended.is_some() => format!("{told} came to neither end (setpoint recover)"),
        None => format!("{told} was cut off (setpoint recover)"),
    }))
}

fn unit_status(
    context: &Context,
    engine: &dyn Engine,
    store: &Store,
    project: &Project,
    env: &Env,
    look: &Look,
) -> Result<json::UnitStatus, Failure> {
    let exists = look.seen != Seen::Absent;
    let progress = match env.service {
        Some(_) => engine.progress(&UnitId::new(&project.root, &env.name))?,
        None => Progress::default(),
    };
    let last = match &look.row {
        Some(row) => store.last_operation(row.id)?,
        None => None,
    };
    let kept = match &look.row {
        Some(row) if exists && reconciler::is_running(&context.roots) => store.kept(row.id)?,
        _ => None,
    };
    let kept = kept.and_then(|kept| words_of(&shown(context, engine, store, &kept)?));
    let changes =
        look.report.differences.iter().filter(|difference| difference.class != Class::Report).count();
    Ok(json::UnitStatus {
        unit: env.name.to_string(),
        engine: engine.capabilities().engine,
        state: kept.unwrap_or_else(|| state(&look.seen, &progress)),
        created_at: look.row.as_ref().filter(|_| exists).map(|row| row.created_at.to_string()),
        record: exists.then(|| look.recorded.fingerprint.digest().to_hex()),
        out_of_date: look.plan.is_drift(),
        changes,
        pending: look.report.unfinished(),
        unknown: look.report.unknown.iter().map(ToString::to_string).collect(),
        check: progress.said.filter(|_| progress.health == Some(Health::Unhealthy)),
        last: last.as_ref().map(last_operation),
    })
}

/// What is tracked, unless that is too much.
fn shown_tracked(tracked: Tracked) -> Option<Vec<json::TrackedFolder>> {
    let tracked = tracked.with_targets();
    let shown = |(folder, names): (&PathBuf, &Names)| {
        let names = match names {
            Names::All => None,
            Names::These(names) => {
                Some(names.iter().map(|name| name.to_string_lossy().into_owned()).collect())
            }
        };
        json::TrackedFolder { folder: folder.clone(), names }
    };
    (tracked.folders().len() <= TRACKED).then(|| tracked.folders().iter().map(shown).collect())
}

/// What a unit that is kept is shown as, while others may work on it.
fn shown(context: &Context, engine: &dyn Engine, store: &Store, kept: &Kept) -> Option<State> {
    let doing = control::under_way(store, &context.roots, &kept.unit, 0).ok()?;
    reconciler::state(engine, kept, doing).ok()
}

/// What a unit has come to, in words.
fn state(seen: &Seen, progress: &Progress) -> String {
    match (seen, progress.health, progress.ended) {
        (Seen::Absent, ..) => "absent".to_owned(),
        (Seen::Running(_), Some(Health::Healthy), _) => "running, healthy".to_owned(),
        (Seen::Running(_), Some(Health::Unhealthy), _) => "running, unhealthy".to_owned(),
        (Seen::Running(_), Some(Health::Starting), _) => "starting".to_owned(),
        (Seen::Running(_), None, _) => "running".to_owned(),
        (Seen::Stopped(_), ..) if progress.ending => "stopping".to_owned(),
        (Seen::Stopped(_), _, Some(0)) => "completed".to_owned(),
        // Above that, a signal ended it: it was told to stop.
        (Seen::Stopped(_), _, Some(code)) if code <= 128 => format!("ended (exit {code})"),
        (Seen::Stopped(_), ..) => "stopped".to_owned(),
    }
}

/// How long it is until then; nothing is left of what is over.
fn until_then(at: Time) -> Option<Duration> {
    Some(Duration::try_from(timestamp(at)?.duration_since(Timestamp::now())).unwrap_or_default())
}

/// What a unit is waited for to come to, in words, where it is.
fn words_of(state: &State) -> Option<String> {
    Some(match state {
        State::BackOff { attempt, until } => {
            format!("back-off (try {attempt} in {})", span(until_then(*until)?))
        }
        State::Stopping { since, grace } => {
            format!("stopping (killed in {})", span(until_then(since.saturating_add(*grace))?))
        }
        State::WaitingOn { unit } => format!("waiting on {unit}"),
        State::Held { reason } => format!("held: {reason}"),
        State::NeedsOperator { why } => format!("needs you: {why}"),
        State::RemovedOutside => "removed outside".to_owned(),
        // However its process ended then.
        State::Stopped { by: StoppedBy::User } => "stopped".to_owned(),
        _ => return None,
    })
}

fn last_operation(operation: &Operation) -> json::LastOperation {
    let (outcome, at) = match operation.ended {
        Some((OperationOutcome::Succeeded, at)) => ("succeeded", at),
        Some((OperationOutcome::Failed, at)) => ("failed", at),
        Some((OperationOutcome::Cancelled | OperationOutcome::Recovered, at)) => ("interrupted", at),
        None if is_alive(operation.pid) => ("running", operation.began_at),
        None => ("interrupted", operation.began_at),
    };
    json::LastOperation { what: operation.what.clone(), outcome: outcome.to_owned(), at: at.to_string() }
}

fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    // One that belongs to somebody else is alive too.
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// What the words depend on beside the status itself.
struct Surroundings<'a> {
    now: Timestamp,
    zone: TimeZone,
    home: Option<&'a Path>,
}

impl<'a> Surroundings<'a> {
    fn of(context: &'a Context) -> Self {
        Self { now: Timestamp::now(), zone: TimeZone::system(), home: context.home.as_deref() }
    }
}

/// A status in words.
fn words(status: &json::Status, surroundings: &Surroundings<'_>) -> String {
    let mut lines = vec![header(status, surroundings.home)];
    lines.extend(status.change.clone());
    let since = |unit: &json::UnitStatus| {
        let since = unit.created_at.as_deref().and_then(|at| at.parse::<Timestamp>().ok());
        since.map_or_else(|| "-".to_owned(), |since| ago(since, surroundings.now))
    };
    let mut rows = vec![["UNIT", "STATE", "SINCE", "RECORD", "NOTE"].map(str::to_owned)];
    rows.extend(status.units.iter().map(|unit| {
        let record = unit.record.as_deref().map_or("-", |record| record.get(..8).unwrap_or(record));
        [unit.unit.clone(), unit.state.clone(), since(unit), record.to_owned(), note(unit)]
    }));
    lines.extend(table(&rows));
    let last = status.units.iter().filter_map(|unit| Some((unit, unit.last.as_ref()?)));
    if let Some((unit, last)) = last.max_by_key(|(_, last)| last.at.parse::<Timestamp>().ok()) {
        lines.push(last_line(unit, last, surroundings));
    }
    lines.join("\n")
}

/// `shop 0.3.0   ~/shop   embedded   from oci://ghcr.io/acme/shop`
fn header(status: &json::Status, home: Option<&Path>) -> String {
    let name = match (&status.version, &status.in_effect) {
        (Some(declared), Some(now)) if declared != now => {
            format!("{} {now} ({declared} is declared)", status.project)
        }
        (Some(version), _) => format!("{} {version}", status.project),
        (None, _) => status.project.clone(),
    };
    let below_home = home.and_then(|home| Path::new(&status.root).strip_prefix(home).ok());
    let root = match below_home {
        Some(below) if below.as_os_str().is_empty() => "~".to_owned(),
        Some(below) => format!("~/{}", below.display()),
        None => status.root.clone(),
    };
    let engine = status.units.first().map_or("", |unit| unit.engine);
    let from = status.from.as_ref().map(|from| format!("   from {from}")).unwrap_or_default();
    format!("{name}   {root}   {engine}{from}").trim_end().to_owned()
}

/// Whether a unit is about to be what it is declared to be, with nothing to be done about it.
fn is_on_its_way(state: &str) -> bool {
    state.starts_with("stopping") || state.starts_with("waiting on")
}

/// What there is to say of a unit, with the next step.
fn note(unit: &json::UnitStatus) -> String {
    let mut parts = Vec::new();
    if unit.state == "absent" {
        parts.push("not made yet (setpoint up)".to_owned());
    } else if !unit.pending.is_empty() {
        let have = if unit.pending.len() == 1 { "has" } else { "have" };
        parts.push(format!("not ready: {} {have} not succeeded (setpoint up)", unit.pending.join(", ")));
    } else if unit.out_of_date && !(unit.changes == 0 && is_on_its_way(&unit.state)) {
        let begins = |words: &[&str]| words.iter().any(|word| unit.state.starts_with(word));
        parts.push(match unit.changes {
            0 if begins(&["stopped", "ended", "completed"]) => {
                "as declared; setpoint up starts it".to_owned()
            }
            0 if begins(&["back-off", "held", "needs you"]) => {
                format!("as declared (setpoint logs {})", unit.unit)
            }
            0 => "out of date (setpoint why)".to_owned(),
            1 => "out of date: 1 change (setpoint why)".to_owned(),
            many => format!("out of date: {many} changes (setpoint why)"),
        });
    }
    if let Some(said) = unit.check.as_ref().and_then(|said| said.lines().last()) {
        parts.push(format!("its check said: {said}"));
    }
    if !unit.unknown.is_empty() {
        parts.push(format!("unknown whether {} ran (setpoint up says more)", unit.unknown.join(", ")));
    }
    parts.join("; ")
}

/// `Last: up dev, failed 11:04 (setpoint logs dev)`
fn last_line(unit: &json::UnitStatus, last: &json::LastOperation, surroundings: &Surroundings<'_>) -> String {
    let at = last.at.parse::<Timestamp>().map_or_else(
        |_| last.at.clone(),
        |at| {
            let local = |time: Timestamp| time.to_zoned(surroundings.zone.clone());
            let today = local(at).date() == local(surroundings.now).date();
            local(at).strftime(if today { "%H:%M" } else { "%Y-%m-%d %H:%M" }).to_string()
        },
    );
    match last.outcome.as_str() {
        "failed" => format!("Last: {}, failed {at} (setpoint logs {})", last.what, unit.unit),
        "running" => format!("Now: {}, since {at}", last.what),
        outcome => format!("Last: {}, {outcome} {at}", last.what),
    }
}

/// Rows in columns; the last column is wrapped where it would not fit.
fn table(rows: &[[String; 5]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 4] = std::array::from_fn(width);
    let indent: usize = widths.iter().map(|width| width + 2).sum();
    let room = WIDTH.saturating_sub(indent).max(24);
    let mut lines = Vec::new();
    for row in rows {
        let cells: String = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        let mut notes = wrap(&row[4], room).into_iter();
        lines.push(format!("{cells}{}", notes.next().unwrap_or_default()).trim_end().to_owned());
        lines.extend(notes.map(|note| format!("{:indent$}{note}", "")));
    }
    lines
}

/// A text in lines of at most so many characters, broken between words.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-03-01T12:00:00Z";

    fn unit(name: &str, state: &'static str) -> json::UnitStatus {
        json::UnitStatus {
            unit: name.to_owned(),
            engine: "embedded",
            state: state.to_owned(),
            created_at: (state != "absent").then(|| "2026-03-01T10:00:00Z".to_owned()),
            record: (state != "absent").then(|| "a1b2c3d4e5f6".to_owned()),
            out_of_date: false,
            changes: 0,
            pending: Vec::new(),
            unknown: Vec::new(),
            check: None,
            last: None,
        }
    }

    fn told(units: Vec<json::UnitStatus>) -> String {
        let status = json::Status {
            tracked: None,
            setpoint: json::VERSION,
            project: "shop".to_owned(),
            mode: "dev",
            from: None,
            release: None,
            version: Some("0.3.0".to_owned()),
            in_effect: Some("0.3.0".to_owned()),
            change: None,
            root: "/home/a/shop".to_owned(),
            units,
        };
        let home = Some(Path::new("/home/a"));
        words(&status, &Surroundings { now: NOW.parse().unwrap(), zone: TimeZone::UTC, home })
    }

    #[test]
    fn what_is_as_declared_has_no_note() {
        assert_eq!(
            told(vec![unit("dev", "running")]),
            "shop 0.3.0   ~/shop   embedded\n\
             UNIT  STATE    SINCE  RECORD    NOTE\n\
             dev   running  2h     a1b2c3d4"
        );
    }

    #[test]
    fn what_a_check_said_last_is_told() {
        let mut unwell = unit("web", "running, unhealthy");
        unwell.check = Some("asked\nGET /: 404".to_owned());
        assert_eq!(note(&unwell), "its check said: GET /: 404");
    }

    #[test]
    fn drift_and_what_never_succeeded_name_the_next_step() {
        let mut drifted = unit("dev", "running");
        (drifted.out_of_date, drifted.changes) = (true, 2);
        let last = |outcome: &str, at: &str| json::LastOperation {
            what: "up dev".to_owned(),
            outcome: outcome.to_owned(),
            at: at.to_owned(),
        };
        drifted.last = Some(last("failed", "2026-03-01T11:04:00Z"));
        let mut failed = unit("ci", "running");
        (failed.out_of_date, failed.changes) = (true, 3);
        failed.pending = vec!["post_create".to_owned()];
        failed.last = Some(last("succeeded", "2026-02-01T11:04:00Z"));
        assert_eq!(
            told(vec![drifted, failed, unit("old", "absent")]),
            "shop 0.3.0   ~/shop   embedded\n\
             UNIT  STATE    SINCE  RECORD    NOTE\n\
             dev   running  2h     a1b2c3d4  out of date: 2 changes (setpoint why)\n\
             ci    running  2h     a1b2c3d4  not ready: post_create has not succeeded\n\
             \x20                               (setpoint up)\n\
             old   absent   -      -         not made yet (setpoint up)\n\
             Last: up dev, failed 11:04 (setpoint logs dev)"
        );
    }

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        let mut lost = unit("dev", "running");
        lost.pending = vec!["update_content".to_owned(), "post_start".to_owned()];
        lost.unknown = vec!["on_create".to_owned(), "post_create".to_owned()];
        let text = told(vec![lost]);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }

    #[test]
    fn a_time_that_is_not_today_has_its_date() {
        let mut old = unit("dev", "stopped");
        old.out_of_date = true;
        old.last = Some(json::LastOperation {
            what: "up dev".to_owned(),
            outcome: "succeeded".to_owned(),
            at: "2026-02-01T11:04:00Z".to_owned(),
        });
        assert!(told(vec![old]).ends_with("Last: up dev, succeeded 2026-02-01 11:04"));
    }
}
