//! The daemon's API: HTTP on a socket in the state, and on a loopback address for who has the token.
//!
//! It has one thread of its own, on which nothing waits: what may take its time is asked on other threads, whose number
//! is bounded. It changes nothing itself: it writes down what is wanted and answers with an operation.

mod act;
mod ask;
mod cancel;
mod change;
mod child;
pub(crate) mod client;
mod door;
mod drift;
mod events;
mod feed;
mod guard;
mod hub;
mod logs;
mod metrics;
mod openapi;
mod operations;
mod problem;
mod runs;
mod serve;
mod session;
mod units;
mod versions;
mod web;
mod wire;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use axum::Router;
use axum::routing::{get, post};
use setpoint_runtime::cancel::Cancel;
use setpoint_runtime::paths::Roots;
use setpoint_runtime::store::{Store, StoreError};
use tokio::sync::Semaphore;

use crate::context::Context;
use crate::error::{Exit, Failure};

use self::door::Door;
pub(crate) use self::drift::words as drift_words;
pub(crate) use self::hub::Hub;
use self::problem::Problem;
pub(crate) use self::serve::{SOCKET, Served};

/// How many event streams are served at once; how many logs are followed; how many commands run for requests; how many
/// engines are asked.
const STREAMS: usize = 256;
const FOLLOWED: usize = 64;
const CHILDREN: usize = 8;
const ASKED: usize = 8;

/// Serves the API, on the socket of the state and on an address where one is given, until what is given back is dropped.
pub(crate) fn start(
    context: &Context,
    hub: Arc<Hub>,
    address: Option<TcpListener>,
) -> Result<Served, Failure> {
    let failed = |what: &'static str| {
        move |error: std::io::Error| Failure::new(Exit::State, "api", format!("cannot {what}: {error}"))
    };
    let door = address.as_ref().map(|listener| Door::new(&context.roots, listener.local_addr()?));
    let door = door.transpose().map_err(failed("use the token of the state"))?;
    let socket = serve::socket(&context.roots).map_err(failed("make the socket of the API"))?;
    if let Some(door) = &door {
        context.output.progress(format!("http://{}; `setpoint open` leads in", door.address));
    }
    let api = Api::new(context, hub, context.store()?, door);
    serve::start(Arc::new(api), socket, address).map_err(failed("serve the API"))
}

/// What all requests share.
pub(crate) struct Api {
    roots: Roots,
    variables: BTreeMap<String, String>,
    cancel: Cancel,
    hub: Arc<Hub>,
    store: Mutex<Store>,
    /// Where it is reached by a browser, and by whom; nothing until somebody wants that.
    door: OnceLock<Door>,
    streams: Arc<Semaphore>,
    followed: Arc<Semaphore>,
    children: Arc<Semaphore>,
    asked: Arc<Semaphore>,
    drifts: drift::Drifts,
    wishes: versions::Wishes,
    led: cancel::Led,
}

impl Api {
    fn new(context: &Context, hub: Arc<Hub>, store: Store, door: Option<Door>) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        let (streams, followed) = (places(STREAMS), places(FOLLOWED));
        let (children, asked) = (places(CHILDREN), places(ASKED));
        let store = Mutex::new(store);
        let (roots, variables) = (context.roots.clone(), context.variables.clone());
        let cancel = context.cancel.clone();
        let (drifts, wishes) = (drift::Drifts::default(), versions::Wishes::default());
        let led = cancel::Led::default();
        let door = door.map(OnceLock::from).unwrap_or_default();
        Self {
            roots,
            variables,
            cancel,
            hub,
            store,
            door,
            streams,
            followed,
            children,
            asked,
            drifts,
            wishes,
            led,
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works with the state, on a thread where that may take its time.
    async fn with_store<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self, &mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let api = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&api, &mut api.store())).await;
        Ok(done.map_err(|_| Problem::internal("the state could not be read"))??)
    }
}

/// All that can be asked for.
fn routes(api: Arc<Api>) -> Router {
    Router::new()
        .route("/v1/units", get(units::list))
        .route("/v1/units/{id}", get(units::one))
        .route("/v1/units/{id}/why", get(units::why))
        .route("/v1/units/{id}/logs", get(logs::logs))
        .route("/v1/units/{id}/{action}", post(act::act))
        .route("/v1/projects", get(versions::list))
        .route("/v1/projects/{id}", get(versions::one))
        .route("/v1/projects/{id}/releases", get(versions::releases))
        .route("/v1/projects/{id}/changes/{number}", get(versions::change))
        .route("/v1/projects/{id}/{action}", get(change::plan).post(change::act))
        .route("/v1/operations", get(operations::list))
        .route("/v1/operations/{id}", get(operations::one))
        .route("/v1/operations/{id}/cancel", post(cancel::cancel))
        .route("/v1/events", get(events::events))
        .route("/v1/runs", get(runs::list))
        .route("/v1/runs/{id}", get(runs::one))
        .route("/v1/session", get(session::session))
        .route("/v1/links", post(session::link))
        .route("/v1/openapi.json", get(openapi::document))
        .route("/open", get(session::open))
        .merge(web::routes())
        .route("/metrics", get(metrics::metrics))
        .route("/healthz", get(metrics::healthz))
        .fallback(problem::no_such_place)
        .method_not_allowed_fallback(problem::no_such_method)
        .with_state(api)
}
