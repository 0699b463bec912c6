//! What every request goes through: who may come in, how much he may say, and what is said to his browser.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::problem::Problem;
use super::web;

/// The largest body, in bytes.
const BODY: usize = 64 * 1024;
/// How long a body may take to come.
const SLOW: Duration = Duration::from_secs(10);

/// What is said to browsers: nothing of this is a page, and nobody keeps it.
const SAID: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

/// Lets in by a loopback address who may.
pub(super) async fn at_door(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    web::take_token(&mut request).await;
    let admitted = match api.door.get() {
        Some(door) => door.admit(request.method(), request.uri().path(), request.headers()),
        None => Err(Problem::new(StatusCode::FORBIDDEN, "no-address", "nobody comes in here")),
    };
    match admitted {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Takes what a request carries, within bounds: no request needs more than its address.
pub(super) async fn bounds(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let is_page = web::is_page(head.uri.path(), &head.headers);
    let length = head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let is_large = length.is_some_and(|length| !length.parse::<usize>().is_ok_and(|length| length <= BODY));
    let mut response = if is_large {
        too_large().into_response()
    } else {
        match tokio::time::timeout(SLOW, to_bytes(body, BODY)).await {
            Ok(Ok(body)) => next.run(Request::from_parts(head, Body::from(body))).await,
            Ok(Err(_)) => too_large().into_response(),
            Err(_) => Problem::new(StatusCode::REQUEST_TIMEOUT, "slow", "the body takes too long to come")
                .into_response(),
        }
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>().filter(|_| is_page) {
        response = web::refusal(&problem);
    }
    for (name, value) in SAID {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

fn too_large() -> Problem {
    let message = format!("a request may carry {BODY} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message).hint("no request needs a body at all")
}
