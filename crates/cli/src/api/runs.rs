//! The kept runs of pipelines, of all projects.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use setpoint_runtime::runs::{Run, Runs, RunsError};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::problem::{Asked, Problem};
use crate::commands::runs::{Row, Shown, row, shown};
use crate::json;

/// Which runs.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Which {
    /// How many of each project, the newest first: 20 if nothing is said, at most 100.
    limit: Option<usize>,
}

/// Runs, as `setpoint runs --json` tells them.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Listed {
    setpoint: u32,
    #[schema(value_type = Vec<Object>)]
    runs: Vec<RunShown>,
    /// Runs that cannot be read; texts for people.
    damaged: Vec<String>,
}

/// A run in the list.
#[derive(Debug, Serialize)]
struct RunShown {
    /// Its name among the runs of all projects.
    id: String,
    #[serde(flatten)]
    run: Row,
}

/// Lists the runs that are kept of all projects.
#[utoipa::path(get, path = "/v1/runs", params(Which), responses((status = 200, body = Listed)))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Asked(which): Asked<Which>,
) -> Result<Json<Listed>, Problem> {
    let limit = which.limit.unwrap_or(20).min(100);
    let listed = api.ask(move |api| {
        let words = |error: RunsError| error.to_string();
        let mut listed = Listed { setpoint: json::VERSION, runs: Vec::new(), damaged: Vec::new() };
        for (project, runs) in Runs::all(&api.roots).map_err(words)? {
            let found = runs.list(limit).map_err(words)?;
            listed.damaged.extend(found.damaged.iter().map(ToString::to_string));
            let shown = |run: &Run| RunShown { id: format!("{project}-{}", run.number), run: row(run) };
            listed.runs.extend(found.runs.iter().map(shown));
        }
        listed.runs.sort_by(|a, b| b.run.began_at.cmp(&a.run.began_at));
        Ok(listed)
    });
    Ok(Json(listed.await?))
}

/// Tells all of one run, with its steps.
#[utoipa::path(get, path = "/v1/runs/{id}", params(("id" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = Problem)))]
pub(super) async fn one(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Result<Json<Shown>, Problem> {
    find(&api, id, |_, run| Ok(shown(&run))).await.map(Json)
}

/// What `look` finds in the run of this name.
pub(super) async fn find<T: Send + 'static>(
    api: &Arc<Api>,
    id: String,
    look: impl FnOnce(&Runs, Run) -> Result<T, RunsError> + Send + 'static,
) -> Result<T, Problem> {
    let missing = || {
        Problem::new(StatusCode::NOT_FOUND, "no-run", format!("there is no run `{id}`"))
            .hint("GET /v1/runs lists those that are kept")
    };
    let (project, number) = id.rsplit_once('-').ok_or_else(missing)?;
    let (project, number) = (project.to_owned(), number.parse::<u64>().map_err(|_| missing())?);
    let found = api.ask(move |api| {
        let all = Runs::all(&api.roots).map_err(|error| error.to_string())?;
        let Some((_, runs)) = all.into_iter().find(|(known, _)| *known == project) else { return Ok(None) };
        match runs.read(Some(number)) {
            Ok(run) => look(&runs, run).map(Some).map_err(|error| error.to_string()),
            Err(RunsError::NoRun { .. } | RunsError::NoRuns { .. }) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    });
    found.await?.ok_or_else(missing)
}
