//! What a service says.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use setpoint_runtime::engine::{self, UnitId};
use setpoint_runtime::store::Unit;
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};

use super::problem::{Asked, Problem};
use super::{Api, FOLLOWED, STREAMS, ask, units};
use crate::json;

/// How many lines are given at most.
const MOST: usize = 10_000;
/// The longest line, in bytes; what is longer comes in pieces.
const LINE: u64 = 16 * 1024;
/// How many lines wait for a slow reader before the log does.
const WAITING: usize = 64;

/// Which lines.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Which {
    /// How many of the last ones: 200 if nothing is said, at most 10000.
    tail: Option<usize>,
    /// Whether to go on with what it will say, as server-sent events `line`.
    #[serde(default)]
    follow: bool,
}

/// What a service said.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Said {
    setpoint: u32,
    unit: String,
    lines: Vec<String>,
}

/// A line, as the data of an event.
#[derive(Debug, Serialize)]
struct Line {
    line: String,
}

/// Gives what a service said last; with `follow`, goes on for as long as it runs.
#[utoipa::path(get, path = "/v1/units/{id}/logs", params(("id" = String, Path), Which),
    responses((status = 200, body = Said), (status = 404, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn logs(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Asked(which): Asked<Which>,
) -> Result<Response, Problem> {
    let unit = units::find(&api, id.clone()).await?.unit;
    let tail = which.tail.unwrap_or(200).min(MOST);
    if which.follow {
        return follow(&api, unit, tail);
    }
    let lines = said(&api, unit, tail).await?;
    Ok(Json(Said { setpoint: json::VERSION, unit: id, lines: lines.into() }).into_response())
}

/// The last lines that a unit said.
pub(super) async fn said(api: &Arc<Api>, unit: Unit, tail: usize) -> Result<VecDeque<String>, Problem> {
    api.ask(move |api| Ok(last(Lines::of(api, &unit, false)?, tail).1)).await
}

/// The lines that a unit says.
struct Lines(BufReader<Box<dyn Read + Send>>);

impl Lines {
    fn of(api: &Api, unit: &Unit, follow: bool) -> Result<Self, String> {
        let id = UnitId::new(&unit.unit.project_root, &unit.unit.name);
        let engine = engine::by_name(&unit.unit.engine, &api.roots, &api.variables)?;
        let output = engine.output(&id, follow).map_err(|error| error.to_string())?;
        Ok(Self(BufReader::new(output)))
    }
}

impl Iterator for Lines {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut line = Vec::new();
        match self.0.by_ref().take(LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                Some(text.trim_end_matches(['\n', '\r']).to_owned())
            }
        }
    }
}

/// The number of lines, and the last of them.
fn last(lines: Lines, tail: usize) -> (usize, VecDeque<String>) {
    let mut count = 0;
    let mut kept = VecDeque::new();
    for line in lines {
        count += 1;
        kept.push_back(line);
        if kept.len() > tail {
            kept.pop_front();
        }
    }
    (count, kept)
}

fn follow(api: &Arc<Api>, unit: Unit, tail: usize) -> Result<Response, Problem> {
    let permit = Arc::clone(&api.streams).try_acquire_owned();
    let permit = permit.map_err(|_| Problem::busy("event streams", STREAMS))?;
    let place = Arc::clone(&api.followed).try_acquire_owned();
    let place = place.map_err(|_| Problem::busy("logs", FOLLOWED))?;
    let (line, lines) = mpsc::channel(WAITING);
    let api = Arc::clone(api);
    ask::thread("api-log", move || {
        // Its end is told by the end of the stream; a reader that went away ends it with the next line.
        if let Ok(said) = Lines::of(&api, &unit, false) {
            let skip = said.count().saturating_sub(tail);
            let followed = Lines::of(&api, &unit, true).into_iter().flatten();
            followed.skip(skip).take_while(|text| line.blocking_send(text.clone()).is_ok()).for_each(drop);
        }
        drop(place);
    })?;
    let lines = stream::unfold((lines, permit), |(mut lines, permit)| async move {
        let line = lines.recv().await?;
        let json = serde_json::to_string(&Line { line }).unwrap_or_default();
        Some((Ok::<_, Infallible>(Event::default().event("line").data(json)), (lines, permit)))
    });
    let alive = KeepAlive::new().interval(Duration::from_secs(15));
    Ok(Sse::new(lines).keep_alive(alive).into_response())
}
