//! What the API can do, as OpenAPI: made from the code, checked in as `docs/reference/openapi.json`.

use axum::http::header;
use axum::response::IntoResponse;
use utoipa::OpenApi;

use super::{
    act, cancel, change, events, logs, metrics, operations, problem, runs, session, units, versions,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Setpoint",
        version = "1",
        description = "Units, what is done to them, and what happens. On a socket in the state, and on a loopback \
                       address with `Authorization: Bearer` or a session of `setpoint open`."
    ),
    paths(
        units::list,
        units::one,
        units::why,
        logs::logs,
        act::act,
        versions::list,
        versions::one,
        versions::change,
        versions::releases,
        change::plan,
        change::act,
        operations::list,
        operations::one,
        cancel::cancel,
        events::events,
        runs::list,
        runs::one,
        session::session,
        session::link,
        session::open,
        metrics::metrics,
        metrics::healthz,
    ),
    components(schemas(super::wire::EventShown, problem::Problem))
)]
struct Document;

/// The document, indented, as it is checked in.
pub(super) fn text() -> String {
    let mut document = Document::openapi();
    // What is true of the crate is not what is true of the API.
    document.info.license = None;
    document.info.contact = None;
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

/// Says what the API can do, as OpenAPI.
pub(super) async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], text())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_api_is_what_its_document_says() {
        crate::commands::reference::golden("docs/reference/openapi.json", &super::text());
    }
}
