//! Why a request was refused: what, and what next, as JSON.

use axum::Json;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use setpoint_runtime::store::StoreError;
use utoipa::ToSchema;

use crate::json;

/// Why a request was refused.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Problem {
    #[serde(skip)]
    pub(super) status: u16,
    /// The version of these shapes.
    setpoint: u32,
    /// A stable word for machines: `no-unit`.
    error: &'static str,
    /// What is wrong.
    pub(super) message: String,
    /// What to do next.
    pub(super) hint: Option<String>,
    #[serde(skip)]
    later: bool,
}

impl Problem {
    pub(super) fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Self {
        let status = status.as_u16();
        Self { status, setpoint: json::VERSION, error, message: message.into(), hint: None, later: false }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Too much is asked at once.
    pub(super) fn busy(what: &str, most: usize) -> Self {
        let problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            format!("no more than {most} {what} at the same time"),
        );
        Self { later: true, ..problem }.hint("end one of them, or ask again in a few seconds")
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let problem = Self::internal(error.to_string());
        match error.hint() {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let later = self.later;
        let mut response = (status, Json(self.clone())).into_response();
        // Who asked for a page is told so on one.
        response.extensions_mut().insert(self);
        let headers = response.headers_mut();
        if later {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// What is asked for behind the `?` of an address.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Query::from_request_parts(parts, state).await;
        read.map(|Query(asked)| Self(asked)).map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST, "query", error.body_text())
                .hint("GET /v1/openapi.json says what can be asked for")
        })
    }
}

/// What is answered where there is nothing.
pub(super) async fn no_such_place(uri: Uri) -> Problem {
    let message = format!("there is no {}", uri.path());
    Problem::new(StatusCode::NOT_FOUND, "no-place", message).hint("GET /v1/openapi.json says what there is")
}

/// What is answered where there is something that is asked for in another way.
pub(super) async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let message = format!("{} takes no {method}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "no-method", message)
        .hint("GET reads, POST asks for something to be done; GET /v1/openapi.json says which")
}
