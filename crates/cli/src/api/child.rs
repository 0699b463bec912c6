//! What needs the manifest is done by the command line itself, in a process of its own: the daemon reads no project.

use std::io::{BufRead, BufReader, Read};
use std::process::{ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::http::StatusCode;
use jiff::Timestamp;
use setpoint_runtime::reconciler::control;
use setpoint_runtime::store::{NewUnit, OperationOutcome, StoreError, TxId, Unit};

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

impl Api {
    /// This same binary, in the folder of a unit's project.
    pub(super) fn command(&self, unit: &NewUnit) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.current_dir(&unit.project_root).env_clear().envs(&self.variables);
        command
    }

    /// Has a command work on a unit, as an operation of its own.
    pub(super) async fn lead(
        self: &Arc<Self>,
        unit: Unit,
        action: &'static str,
        by: &'static str,
    ) -> Result<TxId, Problem> {
        if !unit.unit.project_root.is_dir() {
            let message = format!("there is no folder {} any more", unit.unit.project_root.display());
            return Err(Problem::new(StatusCode::CONFLICT, "no-project", message)
                .hint("what needs the project's files cannot be done without them"));
        }
        let busy = |_| Problem::busy("commands", CHILDREN);
        let place = Arc::clone(&self.children).try_acquire_owned().map_err(busy)?;
        let (row, what) = (unit.id, format!("{action} {} (asked by {by})", unit.unit.name));
        let operation = self.with_store(move |_, store| control::begin_asked(store, row, &what)).await?;
        self.hub.tell_operation(&unit, &operation, None);
        let (api, led) = (Arc::clone(self), operation.clone());
        ask::thread("api-command", move || {
            let (outcome, why) = api.run_command(&unit, action, &led);
            // The next daemon puts in order what cannot be written now.
            let _ = api.end(&unit, &led, outcome, why.as_deref());
            drop(place);
        })?;
        Ok(operation)
    }

    fn run_command(&self, unit: &Unit, action: &str, operation: &TxId) -> (OperationOutcome, Option<String>) {
        let mut command = self.command(&unit.unit);
        command.args([action, unit.unit.name.as_str()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let failed = |error: std::io::Error| (OperationOutcome::Failed, Some(error.to_string()));
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return failed(error),
        };
        let _led = self.led.enter(operation, &child);
        let said = child.stderr.take().map(|stderr| self.pass_on(unit, operation, stderr));
        match child.wait() {
            Ok(status) if status.success() => (OperationOutcome::Succeeded, None),
            Ok(status) if status.code() == Some(i32::from(Exit::Interrupted as u8)) => {
                (OperationOutcome::Cancelled, said)
            }
            Ok(_) => (OperationOutcome::Failed, said),
            Err(error) => failed(error),
        }
    }

    /// Passes on what a command says, line by line; gives why it failed, if it says so.
    fn pass_on(&self, unit: &Unit, operation: &TxId, stderr: ChildStderr) -> String {
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
            self.hub.tell(&EventShown {
                operation: Some(operation.to_string()),
                what: Some(line),
                ..EventShown::of("output", unit)
            });
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
