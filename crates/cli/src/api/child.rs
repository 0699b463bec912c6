//! What needs the manifest is done by the command line itself, in a process of its own: the daemon reads no project.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::http::StatusCode;
use jiff::Timestamp;
use setpoint_runtime::reconciler::control;
use setpoint_runtime::store::{OperationOutcome, StoreError, TxId, Unit};

use super::problem::Problem;
use super::wire::{self, EventShown, Open};
use super::{Api, CHILDREN, ask};
use crate::error::Exit;

/// What is kept of what a command says.
const MOST: u64 = 1024 * 1024;
/// The longest line that is told.
const LINE: u64 = 4096;

/// Reads all that somebody writes, up to a bound.
pub(super) fn read_all(from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = from.take(MOST).read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    })
}

/// Whether a project can be worked on.
pub(super) fn is_there(root: &Path) -> Result<(), Problem> {
    if root.is_dir() {
        return Ok(());
    }
    let message = format!("there is no folder {} any more", root.display());
    Err(Problem::new(StatusCode::CONFLICT, "no-project", message)
        .hint("what needs the project's files cannot be done without them"))
}

/// Passes on what a command says, line by line; gives why it failed, if it says so.
fn pass_on(stderr: ChildStderr, tell: &dyn Fn(String)) -> String {
    let mut lines = BufReader::new(stderr);
    let mut why = String::new();
    loop {
        let mut line = Vec::new();
        match lines.by_ref().take(LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return why,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if line.starts_with("error: ") || !why.is_empty() {
            why = format!("{why}{}{line}", if why.is_empty() { "" } else { "\n" });
            why.truncate(why.floor_char_boundary(LINE as usize));
        }
        tell(line);
    }
}

impl Api {
    /// This same binary, in the folder of a project.
    pub(super) fn command(&self, root: &Path) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.current_dir(root).env_clear().envs(&self.variables);
        command
    }

    /// Has a command work on a unit, as an operation of its own.
    pub(super) async fn lead(
        self: &Arc<Self>,
        unit: Unit,
        action: &'static str,
        by: &'static str,
    ) -> Result<TxId, Problem> {
        is_there(&unit.unit.project_root)?;
        let busy = |_| Problem::busy("commands", CHILDREN);
        let place = Arc::clone(&self.children).try_acquire_owned().map_err(busy)?;
        let (row, what) = (unit.id, format!("{action} {} (asked by {by})", unit.unit.name));
        let operation = self.with_store(move |_, store| control::begin_asked(store, row, &what)).await?;
        self.hub.tell_operation(&unit, &operation, None);
        let (api, led) = (Arc::clone(self), operation.clone());
        ask::thread("api-command", move || {
            let mut command = api.command(&unit.unit.project_root);
            command.args([action, unit.unit.name.as_str()]);
            let tell = |line| {
                api.hub.tell(&EventShown {
                    operation: Some(led.to_string()),
                    what: Some(line),
                    ..EventShown::of("output", &unit)
                });
            };
            let (outcome, why) = api.run_command(command, &led, &tell);
            // The next daemon puts in order what cannot be written now.
            let _ = api.end(&unit, &led, outcome, why.as_deref());
            drop(place);
        })?;
        Ok(operation)
    }

    /// Runs a command to its end, which can be interrupted by this name; says how it ended, and why it failed.
    pub(super) fn run_command(
        &self,
        mut command: Command,
        name: &TxId,
        tell: &dyn Fn(String),
    ) -> (OperationOutcome, Option<String>) {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let failed = |error: std::io::Error| (OperationOutcome::Failed, Some(error.to_string()));
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return failed(error),
        };
        let _led = self.led.enter(name, &child);
        let said = child.stderr.take().map(|stderr| pass_on(stderr, tell));
        match child.wait() {
            Ok(status) if status.success() => (OperationOutcome::Succeeded, None),
            Ok(status) if status.code() == Some(i32::from(Exit::Interrupted as u8)) => {
                (OperationOutcome::Cancelled, said)
            }
            Ok(_) => (OperationOutcome::Failed, said),
            Err(error) => failed(error),
        }
    }

    /// Records how an operation ended that this process led.
    pub(super) fn end(
        &self,
        unit: &Unit,
        operation: &TxId,
        outcome: OperationOutcome,
        why: Option<&str>,
    ) -> Result<(), StoreError> {
        let mut store = self.store();
        let before = store.operation(operation)?;
        store.write(|writer| writer.finish(operation, outcome, why, Timestamp::now()))?;
        // The state forgets what was done to a unit that is gone; whoever asked for it wants to know.
        if let (None, Some(before)) = (store.operation(operation)?, before) {
            let mut shown = wire::operation(&before, Some(unit), Open::IsLed);
            shown.state = wire::outcome_word(outcome);
            shown.ended_at = Some(Timestamp::now().to_string());
            shown.detail = why.map(str::to_owned);
            self.hub.remember(shown);
        }
        drop(store);
        self.hub.tell_operation(unit, operation, Some(outcome));
        Ok(())
    }
}
