//! What is asked to be done: written down, answered at once, and brought about by others.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use setpoint_runtime::engine::{self, UnitId};
use setpoint_runtime::reconciler;
use setpoint_runtime::reconciler::control::{self, Asked};
use setpoint_runtime::store::{OperationOutcome, Store, TxId, Unit};

use super::problem::Problem;
use super::wire::Accepted;
use super::{Api, ask, units};
use crate::json;

/// Who asks, in the journal.
const BY: &str = "the API";

/// Asks for something to be done to a unit: `start`, `stop`, `restart`, `retry` (forgives what it failed at), `kill`
/// (ends it at once), `up` (what is declared), `down` (removes it; its volumes stay), `cancel` (the latest operation on it that
/// can be). Answers at once with an operation.
#[utoipa::path(post, path = "/v1/units/{id}/{action}",
    params(("id" = String, Path), ("action" = String, Path)),
    responses((status = 202, body = Accepted, headers(("Location" = String, description = "the operation"))),
        (status = 404, body = Problem), (status = 409, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn act(
    State(api): State<Arc<Api>>,
    Path((id, action)): Path<(String, String)>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Accepted>), Problem> {
    let operation = ask_for(&api, id, &action).await?.to_string();
    let location = [(header::LOCATION, format!("/v1/operations/{operation}"))];
    Ok((StatusCode::ACCEPTED, location, Json(Accepted { setpoint: json::VERSION, operation })))
}

/// Asks for something to be done to the unit of this id.
pub(super) async fn ask_for(api: &Arc<Api>, id: String, action: &str) -> Result<TxId, Problem> {
    let row = units::find(api, id).await?;
    let asked = Asked::ALL.into_iter().find(|asked| asked.as_str() == action);
    match (asked, action) {
        (Some(asked), _) if row.kept => api.wish(row.unit, asked).await,
        (Some(Asked::Kill), _) => api.kill(row.unit).await,
        (Some(Asked::Stop), _) => api.lead(row.unit, "stop", BY).await,
        (Some(Asked::Restart), _) => api.lead(row.unit, "restart", BY).await,
        (Some(Asked::Start | Asked::Retry), _) | (None, "up") => api.lead(row.unit, "up", BY).await,
        (None, "down") => api.lead(row.unit, "down", BY).await,
        (None, "cancel") => api.cancel_of(row.unit).await,
        _ => {
            let message = format!("nothing is called `{action}` that could be done to a unit");
            Err(Problem::new(StatusCode::NOT_FOUND, "no-action", message)
                .hint("there is start, stop, restart, retry, kill, up, down and cancel"))
        }
    }
}

impl Api {
    /// Writes down what is wanted of a unit that is kept, and wakes who brings it about.
    async fn wish(self: &Arc<Self>, unit: Unit, asked: Asked) -> Result<TxId, Problem> {
        let row = unit.id;
        let operation = self.with_store(move |_, store| match store.kept(row)? {
            Some(kept) => control::ask(store, &kept, asked, BY).map(Some),
            None => Ok(None),
        });
        let operation = operation.await?.ok_or_else(|| {
            Problem::new(StatusCode::CONFLICT, "not-kept", "nobody keeps it any more").hint("ask again")
        })?;
        self.hub.tell_operation(&unit, &operation, None);
        reconciler::tell(&self.roots);
        if asked == Asked::Kill {
            let (api, asked) = (Arc::clone(self), operation.clone());
            ask::thread("api-kill", move || api.hasten(&unit, &asked))?;
        }
        Ok(operation)
    }

    /// Ends the grace of a stop that is under way.
    fn hasten(&self, unit: &Unit, asked: &TxId) {
        let hastened = Store::open(&self.roots).map_err(|error| error.to_string()).and_then(|mut store| {
            control::hasten(&self.roots, &self.variables, &mut store, unit, asked, &self.cancel)
        });
        if let Err(why) = hastened {
            let _ = self.end(unit, asked, OperationOutcome::Failed, Some(&why));
        }
    }

    /// Kills a unit that nobody keeps.
    async fn kill(self: &Arc<Self>, unit: Unit) -> Result<TxId, Problem> {
        let (row, what) = (unit.id, format!("kill {} (asked by {BY})", unit.unit.name));
        let operation = self.with_store(move |_, store| control::begin_asked(store, row, &what)).await?;
        self.hub.tell_operation(&unit, &operation, None);
        let (api, led) = (Arc::clone(self), operation.clone());
        ask::thread("api-kill", move || {
            let id = UnitId::new(&unit.unit.project_root, &unit.unit.name);
            let killed = engine::by_name(&unit.unit.engine, &api.roots, &api.variables).and_then(|engine| {
                engine.stop(&id, Duration::ZERO, &api.cancel).map_err(|error| error.to_string())
            });
            let (outcome, why) = match killed {
                Ok(()) => (OperationOutcome::Succeeded, None),
                Err(why) => (OperationOutcome::Failed, Some(why)),
            };
            let _ = api.end(&unit, &led, outcome, why.as_deref());
        })?;
        Ok(operation)
    }
}
