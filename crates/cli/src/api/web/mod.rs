//! The page: what the API knows, for people. It is rendered for each request, and all of it can be read without a script;
//! the script asks for it again when something happens.

mod graph;
mod operations;
mod runs;
mod unit;
mod units;
mod versions;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Form, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;

use super::door::CSRF;
use super::problem::Problem;
use super::{Api, act};

/// What a browser may do with a page: nothing but what comes from here.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// The largest form, in bytes.
const FORM: usize = 4096;

/// What can be seen.
pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/", get(units::list))
        .route("/units/{id}", get(unit::one))
        .route("/units/{id}/{action}", post(act))
        .route("/versions", get(versions::list))
        .route("/versions/{id}", get(versions::one))
        .route("/versions/{id}/{action}", get(versions::plan).post(versions::act))
        .route("/runs", get(runs::list))
        .route("/runs/{id}", get(runs::one))
        .route("/operations", get(operations::list))
        .route("/page.css", get(style))
        .route("/page.js", get(script))
}

async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("page.css"))
}

async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("page.js"))
}

/// Whether somebody asks for a page, and not for the API. A script that sends a form does not say that it takes pages.
pub(super) fn is_page(path: &str, headers: &HeaderMap) -> bool {
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    !path.starts_with("/v1/")
        && (["/units/", "/versions/"].iter().any(|place| path.starts_with(place))
            || accepts.contains("text/html"))
}

/// Takes the token that a form carries where a script would send a header.
pub(super) async fn take_token(request: &mut Request) {
    let is_form = request.headers().get(header::CONTENT_TYPE).and_then(|form| form.to_str().ok());
    let is_form = is_form.is_some_and(|form| form.starts_with("application/x-www-form-urlencoded"));
    if *request.method() != Method::POST || !is_form || request.headers().contains_key(CSRF) {
        return;
    }
    // Its size is bounded before; what is too large for a form carries no token.
    let body = std::mem::take(request.body_mut());
    let Ok(body) = to_bytes(body, FORM).await else { return };
    let fields = body.split(|byte| *byte == b'&');
    let token = fields.filter_map(|field| field.strip_prefix(b"csrf=")).next();
    if let Some(token) = token.and_then(|token| HeaderValue::from_bytes(token).ok()) {
        request.headers_mut().insert(CSRF, token);
    }
    *request.body_mut() = Body::from(body);
}

/// What a button sends.
#[derive(Debug, Deserialize)]
struct Pressed {
    /// The page that it stands on: that of its unit, or the list.
    #[serde(default)]
    on: String,
}

/// Asks for what a button does, and leads back to where it stands.
async fn act(
    State(api): State<Arc<Api>>,
    Path((id, action)): Path<(String, String)>,
    Form(pressed): Form<Pressed>,
) -> Result<Redirect, Problem> {
    let back = if pressed.on == "unit" { format!("/units/{id}") } else { format!("/#{id}") };
    act::ask_for(&api, id, &action).await?;
    Ok(Redirect::to(&back))
}

/// What stands around all pages.
struct Frame {
    /// What forms carry.
    csrf: String,
}

impl Frame {
    fn of(api: &Api, headers: &HeaderMap) -> Self {
        let session = api.door.get().and_then(|door| door.session(headers).ok().flatten());
        Self { csrf: session.map(|session| session.csrf).unwrap_or_default() }
    }
}

/// A page, in which the address `here` is the one that is shown.
fn page(title: &str, here: &str, content: &Markup) -> Response {
    let places =
        [("/", "Units"), ("/versions", "Versions"), ("/runs", "Runs"), ("/operations", "Operations")];
    let text = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                (head(&format!("{title} - Setpoint")))
                script src="/page.js" defer {}
            }
            body {
                a.skip href="#main" { "Skip to what is shown" }
                header {
                    nav aria-label="Pages" {
                        a.name href="/" { "Setpoint" }
                        @for (address, name) in places {
                            a href=(address) aria-current=[(address == here).then_some("page")] { (name) }
                        }
                    }
                }
                div.told {
                    p #lost role="status" {}
                    p #said role="alert" {}
                    p #heard.heard role="status" {}
                }
                main #main tabindex="-1" { (content) }
            }
        }
    };
    framed(text)
}

/// What the head of every page has.
fn head(title: &str) -> Markup {
    html! {
        meta charset="utf-8";
        meta name="viewport" content="width=device-width, initial-scale=1";
        title { (title) }
        link rel="icon" href="data:,";
        link rel="stylesheet" href="/page.css";
    }
}

fn framed(text: Markup) -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        // Without it a form would not say where it comes from.
        (header::REFERRER_POLICY, "same-origin"),
    ];
    (headers, Html(text.into_string())).into_response()
}

/// Why there is no page, in words.
pub(super) fn refusal(problem: &Problem) -> Response {
    let shut = problem.status == StatusCode::UNAUTHORIZED.as_u16();
    let text = html! {
        (DOCTYPE)
        html lang="en" {
            head { (head("Setpoint")) }
            body {
                main #main {
                    h1 { (if shut { "You are not let in" } else { "This cannot be done" }) }
                    @if shut {
                        p { "Type " code { "setpoint open" } " in a terminal of this machine, and follow the link that it prints." }
                    } @else {
                        p { (sentence(&problem.message)) }
                        // What a program may ask next is no hint for people.
                        @if let Some(hint) = problem.hint.as_ref().filter(|hint| !hint.starts_with("GET ")) {
                            p { (sentence(hint)) }
                        }
                    }
                    p { a href="/" { (if shut { "Try again" } else { "All units" }) } }
                }
            }
        }
    };
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, framed(text)).into_response()
}

/// A line of a refusal as a sentence.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
