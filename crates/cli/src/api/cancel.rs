//! Ending an operation before its end: what was asked for is withdrawn, and a process that leads one is asked to stop, as by
//! Ctrl-C.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use setpoint_runtime::reconciler;
use setpoint_runtime::reconciler::control::{self, Cancelling};
use setpoint_runtime::store::{TxId, Unit};

use super::problem::Problem;
use super::wire::Accepted;
use super::{Api, ask};
use crate::json;

/// How long a command may take to stop in order, and then to stop at once.
const ENDS: Duration = Duration::from_secs(10);

/// The commands that work for the API, by their operations.
#[derive(Default)]
pub(super) struct Led(Arc<Mutex<BTreeMap<String, (u32, Arc<OwnedFd>)>>>);

/// A command while it works. Dropping it forgets it.
pub(super) struct Entry<'a>(&'a Led, String);

impl Led {
    /// Remembers a command, where the kernel lets it be named for sure.
    pub(super) fn enter(&self, operation: &TxId, child: &Child) -> Option<Entry<'_>> {
        let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).ok()?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(operation.to_string(), (child.id(), Arc::new(process)));
        Some(Entry(self, operation.to_string()))
    }

    /// The command that leads this operation, also where it journals one of its own.
    fn find(&self, operation: &TxId, pid: u32) -> Option<Arc<OwnedFd>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = known.iter().find(|(id, (known, _))| *id == operation.as_str() || *known == pid);
        mine.map(|(_, (_, process))| Arc::clone(process))
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// Asks an operation to end before its end. What was to be brought about is not wanted any more: the unit is to be what it
/// was to be before; what is being stopped ends first. A command is asked to stop as by Ctrl-C, ten seconds later to stop at
/// once, and is killed ten seconds after that. To ask again changes nothing, and what has ended stays as it ended.
#[utoipa::path(post, path = "/v1/operations/{id}/cancel", params(("id" = String, Path)),
    responses((status = 202, body = Accepted), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let operation = TxId::new(id.clone());
    let of = operation.clone();
    let unit = api.with_store(move |_, store| {
        let Some(operation) = store.operation(&of)? else { return Ok(None) };
        let units = store.all_units()?;
        Ok(Some(units.into_iter().find(|unit| unit.id == operation.unit)))
    });
    let unknown = || {
        let message = format!("there is no operation `{id}`");
        Problem::new(StatusCode::NOT_FOUND, "no-operation", message)
            .hint("GET /v1/operations lists those that are kept")
    };
    match unit.await? {
        Some(Some(unit)) => {
            if !api.cancel_one(unit, operation).await? {
                return Err(cannot(format!("nobody can cancel the operation `{id}`")));
            }
        }
        // With its unit it has ended.
        Some(None) => {}
        None => drop(api.hub.gone(&id).ok_or_else(unknown)?),
    }
    Ok((StatusCode::ACCEPTED, Json(Accepted { setpoint: json::VERSION, operation: id })))
}

fn cannot(message: String) -> Problem {
    Problem::new(StatusCode::CONFLICT, "not-cancelled", message)
        .hint("what the daemon does by itself is ended by `stop`; who led an interrupted operation is gone")
}

impl Api {
    /// Cancels the latest operation on a unit that can be.
    pub(super) async fn cancel_of(self: &Arc<Self>, unit: Unit) -> Result<TxId, Problem> {
        let row = unit.id;
        let open = self.with_store(move |_, store| store.open_operations(row)).await?;
        for open in open.into_iter().rev() {
            let operation = open.operation.txid;
            if self.cancel_one(unit.clone(), operation.clone()).await? {
                return Ok(operation);
            }
        }
        Err(cannot(format!("nothing is being done to {} that could be cancelled", unit.unit.name)))
    }

    /// Cancels an operation; says whether that can be.
    async fn cancel_one(self: &Arc<Self>, unit: Unit, operation: TxId) -> Result<bool, Problem> {
        let (of, on) = (operation.clone(), unit.clone());
        let came_of_it =
            self.with_store(move |api, store| control::cancel(store, &api.roots, &on, &of)).await?;
        match came_of_it {
            Cancelling::Over => Ok(true),
            Cancelling::Cannot => Ok(false),
            Cancelling::Withdrawn => {
                reconciler::tell(&self.roots);
                Ok(true)
            }
            Cancelling::Led(pid) => self.interrupt(&operation, pid),
        }
    }

    /// Interrupts a command of this daemon's, by its name, or whoever has this process id, once; says whether that could be.
    pub(super) fn interrupt_once(&self, name: &TxId, pid: Option<u32>) -> bool {
        match self.led.find(name, pid.unwrap_or_default()) {
            Some(process) => pidfd_send_signal(process, Signal::INT).is_ok(),
            None => pid.is_some_and(ask_once),
        }
    }

    /// Interrupts the process that leads an operation: a command of this daemon's until it has ended, somebody else's once.
    fn interrupt(&self, operation: &TxId, pid: u32) -> Result<bool, Problem> {
        if let Some(process) = self.led.find(operation, pid) {
            ask::thread("api-cancel", move || end(&process))?;
            return Ok(true);
        }
        Ok(ask_once(pid))
    }
}

/// Interrupts somebody else's process; says whether that could be.
fn ask_once(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    if pid == rustix::process::getpid() {
        return false;
    }
    let process = pidfd_open(pid, PidfdFlags::empty());
    process.is_ok_and(|process| pidfd_send_signal(process, Signal::INT).is_ok())
}

/// Asks a process to stop, then to stop at once, and kills it if it does neither.
fn end(process: &OwnedFd) {
    for signal in [Signal::INT, Signal::INT, Signal::KILL] {
        // One that has ended cannot be asked any more.
        if pidfd_send_signal(process, signal).is_err() {
            return;
        }
        let mut ended = [PollFd::new(process, PollFlags::IN)];
        if matches!(poll(&mut ended, Timespec::try_from(ENDS).ok().as_ref()), Ok(1..)) {
            return;
        }
    }
}
