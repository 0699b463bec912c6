//! What was done to units, and what is being done.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use setpoint_runtime::lock;
use setpoint_runtime::reconciler::control::{self, ASKED};
use setpoint_runtime::store::{Operation, Store, StoreError, TxId, Unit};

use super::Api;
use super::problem::Problem;
use super::wire::{self, Open, OperationShown, Operations};
use crate::json;

/// How many are listed.
const LISTED: usize = 100;

/// Lists the latest operations on all units, the newest first.
#[utoipa::path(get, path = "/v1/operations", responses((status = 200, body = Operations)))]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Json<Operations>, Problem> {
    Ok(Json(Operations { setpoint: json::VERSION, operations: latest(&api).await? }))
}

/// The latest operations on all units.
pub(super) async fn latest(api: &Arc<Api>) -> Result<Vec<OperationShown>, Problem> {
    let operations = api.with_store(|api, store| {
        let units = store.all_units()?;
        let shown = store.operations(LISTED)?.into_iter().map(|operation| {
            let unit = units.iter().find(|unit| unit.id == operation.unit);
            show(api, store, &operation, unit)
        });
        shown.collect::<Result<Vec<_>, _>>()
    });
    operations.await
}

/// Tells how an operation goes, or went. Of each unit the latest 50 are kept.
#[utoipa::path(get, path = "/v1/operations/{id}", params(("id" = String, Path)),
    responses((status = 200, body = OperationShown), (status = 404, body = Problem)))]
pub(super) async fn one(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Json<OperationShown>, Problem> {
    let txid = TxId::new(id.clone());
    let found = api.with_store(move |api, store| {
        let Some(operation) = store.operation(&txid)? else { return Ok(None) };
        let unit = store.all_units()?.into_iter().find(|unit| unit.id == operation.unit);
        show(api, store, &operation, unit.as_ref()).map(Some)
    });
    found.await?.or_else(|| api.hub.gone(&id)).map(Json).ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "no-operation", format!("there is no operation `{id}`"))
            .hint("GET /v1/operations lists those that are kept")
    })
}

/// The latest operations on a unit.
pub(super) fn of_unit(
    api: &Api,
    store: &Store,
    unit: &Unit,
    at_most: usize,
) -> Result<Vec<OperationShown>, StoreError> {
    let of_unit = store.operations_of(unit.id, at_most)?;
    of_unit.iter().map(|operation| show(api, store, operation, Some(unit))).collect()
}

fn show(
    api: &Api,
    store: &Store,
    operation: &Operation,
    unit: Option<&Unit>,
) -> Result<OperationShown, StoreError> {
    let open = match operation.ended {
        Some(_) => Open::Left,
        None => still(api, store, operation, unit)?,
    };
    Ok(wire::operation(operation, unit, open))
}

/// What is known of an operation that has not ended: whoever works on a unit has its lock.
fn still(api: &Api, store: &Store, operation: &Operation, unit: Option<&Unit>) -> Result<Open, StoreError> {
    let entries = store.journal(&operation.txid)?;
    let holder = unit.and_then(|unit| lock::holder(&api.roots, &unit.unit.project_root, &unit.unit.name));
    let holds = |pid: u32| holder.as_ref().is_some_and(|holder| holder.pid == pid);
    let worker = entries.iter().rev().find(|entry| entry.step != ASKED).map(|entry| entry.pid);
    Ok(match worker {
        Some(pid) if holds(pid) => Open::IsLed,
        Some(_) => Open::Left,
        None if control::is_wish(&entries) => Open::Waits,
        // A command of this process works for it.
        None if !entries.is_empty() && operation.pid == std::process::id() => Open::IsLed,
        None if entries.is_empty() && holds(operation.pid) => Open::IsLed,
        None => Open::Left,
    })
}
