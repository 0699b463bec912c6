//! The units, and one of them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Path as Of, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use setpoint_model::import::compose::RestartPolicy;
use setpoint_model::reconcile::{Health, History, Intent, Observed, Rules, Seen, Situation, Wish};
use setpoint_runtime::store::{Store, StoreError, Unit, UnitId};
use setpoint_runtime::{engine, record, upgrade};
use utoipa::ToSchema;

use super::drift::Drift;
use super::problem::Problem;
use super::wire::{self, OperationShown, UnitShown, Units};
use super::{Api, operations};
use crate::json;

/// How many operations are shown with a unit.
const OPERATIONS: usize = 20;
/// How long `why` may take: it reads the project.
const WHY: Duration = Duration::from_secs(4);

/// One unit, with what happened to it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct One {
    pub(super) setpoint: u32,
    #[serde(flatten)]
    pub(super) unit: UnitShown,
    /// What became of keeping it as it is wanted: budgets of failures, and since when it is well.
    #[schema(value_type = Object)]
    pub(super) history: Option<serde_json::Value>,
    /// What was done to it last, the newest first.
    pub(super) operations: Vec<OperationShown>,
}

/// A unit of the state, and whether it is kept.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) unit: Unit,
    pub(super) kept: bool,
    record: Option<String>,
    drift: Option<Drift>,
    version: Option<String>,
}

impl Row {
    /// It, with what is known of it.
    pub(super) fn shown(self, situation: &Situation) -> UnitShown {
        let version = self.version;
        UnitShown { version, ..wire::unit(&self.unit, situation, self.kept, self.record, self.drift) }
    }
}

fn row(api: &Api, store: &Store, unit: Unit) -> Result<Row, StoreError> {
    let kept = store.kept(unit.id)?.is_some();
    let rows = store.recorded(unit.id)?;
    let record = unit.unit.instance.is_some();
    let record = record.then(|| record::recorded(&rows).fingerprint.digest().to_hex());
    let drift = api.drifts.of(&unit.unit);
    // What cannot be told is not shown here; whoever changes something is told of it.
    let version = upgrade::active(&api.roots, &unit.unit.project_root).ok().and_then(|active| active.version);
    Ok(Row { unit, kept, record, drift, version })
}

/// The unit of this id.
pub(super) async fn find(api: &Arc<Api>, id: String) -> Result<Row, Problem> {
    let wanted = id.clone();
    let found = api.with_store(move |api, store| {
        let found = store.all_units()?.into_iter().find(|unit| wire::id(unit) == wanted);
        found.map(|unit| row(api, store, unit)).transpose()
    });
    found.await?.ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "no-unit", format!("there is no unit `{id}`"))
            .hint("GET /v1/units lists them, each with its id; `setpoint up` makes one")
    })
}

/// Lists the units of all projects of this state.
#[utoipa::path(get, path = "/v1/units", responses((status = 200, body = Units)))]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Json<Units>, Problem> {
    let units = all(&api).await?.into_iter().map(|(row, situation)| row.shown(&situation));
    Ok(Json(Units { setpoint: json::VERSION, units: units.collect() }))
}

/// All units, each with what is known of it.
pub(super) async fn all(api: &Arc<Api>) -> Result<Vec<(Row, Situation)>, Problem> {
    let rows = api.with_store(|api, store| {
        let units = store.all_units()?;
        units.into_iter().map(|unit| row(api, store, unit)).collect::<Result<Vec<_>, _>>()
    });
    let rows = rows.await?;
    let mut situations = situations(api, &rows).await;
    let known = rows.into_iter().map(|row| {
        let situation = situations.remove(&row.unit.id).unwrap_or_else(unknown);
        (row, situation)
    });
    Ok(known.collect())
}

/// All units by their ids, each with its project and its name.
pub(super) async fn names(api: &Arc<Api>) -> Result<Vec<(String, String)>, Problem> {
    let name = |unit: Unit| (wire::id(&unit), format!("{}/{}", unit.unit.project_name, unit.unit.name));
    api.with_store(move |_, store| Ok(store.all_units()?.into_iter().map(name).collect())).await
}

/// What is known of a unit.
pub(super) async fn situation(api: &Arc<Api>, row: &Row) -> Situation {
    let found = situations(api, std::slice::from_ref(row)).await.remove(&row.unit.id);
    found.unwrap_or_else(unknown)
}

/// What the checks of these units said, of those whose checks fail.
pub(super) async fn checks(api: &Arc<Api>, known: &[(Row, Situation)]) -> BTreeMap<UnitId, String> {
    let fails = |situation: &Situation| situation.observed.seen.health() == Some(Health::Unhealthy);
    let failing: Vec<Unit> =
        known.iter().filter(|(_, situation)| fails(situation)).map(|(row, _)| row.unit.clone()).collect();
    if failing.is_empty() {
        return BTreeMap::new();
    }
    let said = api.ask(move |api| {
        let said = failing.into_iter().filter_map(|unit| {
            let engine = engine::by_name(&unit.unit.engine, &api.roots, &api.variables).ok()?;
            let id = engine::UnitId::new(&unit.unit.project_root, &unit.unit.name);
            Some((unit.id, engine.progress(&id).ok()?.said?))
        });
        Ok(said.collect())
    });
    said.await.unwrap_or_default()
}

/// What was done to a unit last.
pub(super) async fn operations(api: &Arc<Api>, row: &Row) -> Result<Vec<OperationShown>, Problem> {
    let of = row.unit.clone();
    api.with_store(move |api, store| operations::of_unit(api, store, &of, OPERATIONS)).await
}

/// What is known of these units: of those that are kept, what their actors last told; the others are looked at, all of
/// them in one go.
async fn situations(api: &Arc<Api>, rows: &[Row]) -> BTreeMap<UnitId, Situation> {
    let known = api.hub.known().clone();
    let mut found = BTreeMap::new();
    let mut others = Vec::new();
    for row in rows {
        match known.get(&row.unit.id).filter(|_| row.kept) {
            Some(known) => drop(found.insert(row.unit.id, known.situation.clone())),
            None => others.push(row.unit.clone()),
        }
    }
    if !others.is_empty() {
        let looked = api.ask(move |api| {
            Ok(others
                .into_iter()
                .filter_map(|unit| Some((unit.id, api.look(&unit).ok()?)))
                .collect::<Vec<_>>())
        });
        // Those that give no answer are unknown.
        found.extend(looked.await.unwrap_or_default());
    }
    found
}

fn unknown() -> Situation {
    Situation {
        intent: Intent { wish: Wish::Up, generation: 0 },
        operation: None,
        observed: Observed { at: 0, seen: Seen::Unknown, drift: false },
        dependencies: Vec::new(),
        rules: Rules { restart: RestartPolicy::No, completes: false, stop_grace: 0 },
        history: History::default(),
    }
}

/// Tells all of one unit.
#[utoipa::path(get, path = "/v1/units/{id}", params(("id" = String, Path)),
    responses((status = 200, body = One), (status = 404, body = Problem)))]
pub(super) async fn one(State(api): State<Arc<Api>>, Of(id): Of<String>) -> Result<Json<One>, Problem> {
    let row = find(&api, id).await?;
    let situation = situation(&api, &row).await;
    let operations = operations(&api, &row).await?;
    let history = row.kept.then(|| serde_json::to_value(&situation.history).unwrap_or_default());
    let unit = row.shown(&situation);
    Ok(Json(One { setpoint: json::VERSION, unit, history, operations }))
}

/// Names each change of what is declared since the last success, as `setpoint why --json` does.
#[utoipa::path(get, path = "/v1/units/{id}/why", params(("id" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn why(
    State(api): State<Arc<Api>>,
    Of(id): Of<String>,
) -> Result<Json<serde_json::Value>, Problem> {
    let unit = find(&api, id).await?.unit;
    let answer =
        api.ask(move |api| api.asked(&unit.unit.project_root, &["--json", "why", unit.unit.name.as_str()]));
    let answer = answer.await?;
    answer.map(Json).map_err(|why| Problem::new(StatusCode::CONFLICT, "why", why))
}

impl Api {
    /// Has the command line look at the project: what it takes for that is given back with its end.
    pub(super) fn asked(
        &self,
        root: &Path,
        arguments: &[&str],
    ) -> Result<Result<serde_json::Value, String>, String> {
        Ok(self.answer(root, arguments, WHY)?.map_err(|refusal| refusal.message))
    }

    /// As [`Api::asked`], with what to do next where it is refused, and with another patience.
    pub(super) fn answer(
        &self,
        root: &Path,
        arguments: &[impl AsRef<OsStr>],
        patience: Duration,
    ) -> Result<Result<serde_json::Value, Refusal>, String> {
        let mut command = self.command(root);
        command.args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let words = |error: std::io::Error| error.to_string();
        let mut child = command.spawn().map_err(words)?;
        let outputs = [
            child.stdout.take().map(super::child::read_all),
            child.stderr.take().map(super::child::read_all),
        ];
        let began = Instant::now();
        while child.try_wait().map_err(words)?.is_none() {
            if began.elapsed() > patience {
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let [said, errors] =
            outputs.map(|output| output.and_then(|read| read.join().ok()).unwrap_or_default());
        Ok(serde_json::from_str(&said).map_err(|_| {
            let none = Refusal { message: "the project gives no answer".to_owned(), hint: None };
            serde_json::from_str(&errors).unwrap_or(none)
        }))
    }
}

/// Why the command line gives no answer.
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}
