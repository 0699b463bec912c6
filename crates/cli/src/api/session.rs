//! How a browser comes in: by a link that leads in once and gives it a session.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::door::{COOKIE, Door, LINK};
use super::problem::{Asked, Problem};
use super::{Api, serve};
use crate::json;

/// A session.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionShown {
    setpoint: u32,
    /// What a page sends as `X-CSRF-Token` with what changes something; nothing without a session.
    csrf: Option<String>,
}

/// A link that leads in once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LinkShown {
    setpoint: u32,
    /// Where it leads.
    url: String,
    /// For how many seconds.
    seconds: u64,
}

/// Which link.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Given {
    #[serde(default)]
    link: String,
}

impl Api {
    fn door(&self) -> Result<&Door, Problem> {
        self.door.get().ok_or_else(|| {
            Problem::new(StatusCode::CONFLICT, "no-address", "this daemon listens on no address of its own")
                .hint("`setpoint open` gives it one")
        })
    }
}

/// Tells a page about its session.
#[utoipa::path(get, path = "/v1/session", responses((status = 200, body = SessionShown)))]
pub(super) async fn session(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Json<SessionShown>, Problem> {
    let session = match api.door.get() {
        Some(door) => door.session(&headers)?,
        None => None,
    };
    Ok(Json(SessionShown { setpoint: json::VERSION, csrf: session.map(|session| session.csrf) }))
}

/// Makes a link that leads a browser in once, within a minute. A daemon without an address takes one of this machine.
#[utoipa::path(post, path = "/v1/links",
    responses((status = 201, body = LinkShown), (status = 500, body = Problem)))]
pub(super) async fn link(State(api): State<Arc<Api>>) -> Result<(StatusCode, Json<LinkShown>), Problem> {
    let door = serve::door(&api)
        .map_err(|error| Problem::internal(format!("no address of this machine can be taken: {error}")))?;
    let url = door.link().map_err(|_| Problem::internal("there is no randomness"))?;
    let link = LinkShown { setpoint: json::VERSION, url, seconds: LINK.as_secs() };
    Ok((StatusCode::CREATED, Json(link)))
}

/// Lets a browser in by a link, and leads it on.
#[utoipa::path(get, path = "/open", params(Given),
    responses((status = 303, description = "with the cookie of a session"), (status = 403, body = Problem)))]
pub(super) async fn open(
    State(api): State<Arc<Api>>,
    Asked(given): Asked<Given>,
) -> Result<(StatusCode, [(HeaderName, String); 2]), Problem> {
    let session = api.door()?.enter(&given.link)?;
    let cookie = format!("{COOKIE}={}; Path=/; HttpOnly; SameSite=Strict", session.cookie);
    Ok((StatusCode::SEE_OTHER, [(header::SET_COOKIE, cookie), (header::LOCATION, "/".to_owned())]))
}
