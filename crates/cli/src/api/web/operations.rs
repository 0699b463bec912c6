//! What was done to units, and what happened.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::{page, words};
use crate::api::problem::Problem;
use crate::api::wire::OperationShown;
use crate::api::{Api, drift, operations, units};

/// How many events are shown.
const EVENTS: usize = 50;

/// Shows the latest operations on all units, and the latest events.
pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    let (operations, names) = (operations::latest(&api).await?, units::names(&api).await?);
    let found = api.hub.feed.after(0, usize::MAX);
    let events = found.events.iter().rev().filter_map(|event| serde_json::from_str(&event.json).ok());
    let events: Vec<Value> = events.take(EVENTS).collect();
    Ok(page("Operations", "/operations", &content(&operations, &names, &events)))
}

pub(super) fn content(operations: &[OperationShown], names: &[(String, String)], events: &[Value]) -> Markup {
    html! {
        h1 { "Operations" }
        (table(operations, names))
        h2 { "What happened since the daemon began" }
        @if events.is_empty() {
            p.soft { "Nothing yet." }
        } @else {
            div.wide { table.rows {
                thead { tr { th scope="col" { "When" } th scope="col" { "Unit" } th scope="col" { "What" } } }
                tbody { @for event in events {
                    tr {
                        td { (words::since(event["at"].as_str().unwrap_or_default(), " ago")) }
                        td {
                            (event["project"].as_str().unwrap_or_default())
                            @if let Some(name) = event["name"].as_str() { "/" (name) }
                        }
                        td.words { (what(event)) }
                    }
                } }
            } }
        }
    }
}

/// An event in words.
fn what(event: &Value) -> String {
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    match text("type") {
        "state" => format!("is {}", event["state"]["state"].as_str().unwrap_or_default().replace('_', " ")),
        "drift" => drift::words(&event["drift"]),
        "operation" => format!("operation {}", text("outcome")),
        "version" => format!("{} {}", text("what"), text("outcome")),
        "left" => "is not kept any more".to_owned(),
        _ => text("what").to_owned(),
    }
}

/// Operations, each with the name of its unit where names are given.
pub(super) fn table(operations: &[OperationShown], names: &[(String, String)]) -> Markup {
    let name = |operation: &OperationShown| {
        let (id, name) = names.iter().find(|(id, _)| Some(id) == operation.unit.as_ref())?;
        Some(html! { a href={ "/units/" (id) } { (name) } })
    };
    html! {
        @if operations.is_empty() {
            p.soft { "Nothing yet." }
        } @else {
            div.wide { table.rows {
                thead { tr {
                    th scope="col" { "What" }
                    @if !names.is_empty() { th scope="col" { "Unit" } }
                    th scope="col" { "How it went" } th scope="col" { "When" }
                } }
                tbody { @for operation in operations {
                    tr {
                        td.words {
                            (operation.what)
                            @if let Some(detail) = &operation.detail { div.said { (detail) } }
                        }
                        @if !names.is_empty() { td { @if let Some(name) = name(operation) { (name) } } }
                        td { (words::dotted(words::ending(operation.state), operation.state)) }
                        td { (words::since(&operation.began_at, " ago")) }
                    }
                } }
            } }
        }
    }
}
