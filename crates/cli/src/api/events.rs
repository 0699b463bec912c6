//! What happens, as it happens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, watch};
use utoipa::{IntoParams, ToSchema};

use super::problem::{Asked, Problem};
use super::wire::EventShown;
use super::{Api, STREAMS};
use crate::json;

/// How often something is said where nothing happens.
const ALIVE: Duration = Duration::from_secs(15);
/// How many events are taken at once.
const AT_ONCE: usize = 64;

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Which {
    /// Those after this one; `Last-Event-ID` says the same, and `0` means all that are kept.
    after: Option<String>,
    /// Whether to go on with what will happen, as server-sent events; true if nothing is said.
    #[serde(default = "yes")]
    follow: bool,
}

fn yes() -> bool {
    true
}

/// What has happened.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Happened {
    setpoint: u32,
    /// The name of the last event, to go on after.
    last: String,
    #[schema(value_type = Vec<EventShown>)]
    events: Vec<serde_json::Value>,
}

/// Tells what happens: server-sent events, each with an id. After `Last-Event-ID` it goes on there; if that is not kept
/// any more, an event `gap` comes first.
#[utoipa::path(get, path = "/v1/events", params(Which),
    responses((status = 200, body = Happened, description = "without `follow`; else `text/event-stream` of events"),
        (status = 503, body = Problem)))]
pub(super) async fn events(
    State(api): State<Arc<Api>>,
    Asked(which): Asked<Which>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = which.after.or_else(|| Some(headers.get("last-event-id")?.to_str().ok()?.to_owned()));
    let feed = &api.hub.feed;
    let changed = feed.last();
    // Without a place, what is kept is told from its beginning where nothing follows, else what happens from now on.
    let (place, lost) = match after.as_deref().map(|id| (id, feed.place(id))) {
        Some((_, Some(place))) => (place, false),
        Some(("0", None)) => (0, false),
        Some(_) => (0, true),
        None if which.follow => (*changed.borrow(), false),
        None => (0, false),
    };
    if !which.follow {
        let found = feed.after(place, usize::MAX);
        let last = found.events.last().map_or(place, |event| event.seq);
        let events = found.events.iter().filter_map(|event| serde_json::from_str(&event.json).ok());
        let happened = Happened { setpoint: json::VERSION, last: feed.id(last), events: events.collect() };
        return Ok(Json(happened).into_response());
    }
    let permit = Arc::clone(&api.streams).try_acquire_owned();
    let permit = permit.map_err(|_| Problem::busy("event streams", STREAMS))?;
    let reader = Reader { api, place, lost, changed, next: VecDeque::new(), _permit: permit };
    Ok(Sse::new(reader.stream()).keep_alive(KeepAlive::new().interval(ALIVE)).into_response())
}

/// Somebody who reads the feed at his own pace.
struct Reader {
    api: Arc<Api>,
    place: u64,
    /// Whether what he read last is not kept any more.
    lost: bool,
    changed: watch::Receiver<u64>,
    next: VecDeque<Event>,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    fn stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut reader| async move {
            loop {
                if let Some(event) = reader.next.pop_front() {
                    return Some((Ok(event), reader));
                }
                reader.changed.mark_unchanged();
                reader.take();
                if reader.next.is_empty() && reader.changed.changed().await.is_err() {
                    return None;
                }
            }
        })
    }

    fn take(&mut self) {
        let feed = &self.api.hub.feed;
        let found = feed.after(self.place, AT_ONCE);
        if std::mem::take(&mut self.lost) || (found.gap && self.place > 0) {
            let gap = serde_json::to_string(&EventShown::bare("gap")).unwrap_or_default();
            self.next.push_back(Event::default().event("gap").data(gap));
        }
        for event in found.events {
            self.place = event.seq;
            let id = feed.id(event.seq);
            self.next.push_back(Event::default().id(id).event(event.kind).data(&*event.json));
        }
    }
}
