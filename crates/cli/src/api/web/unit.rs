//! One unit: its state and buttons, why it is out of date, what was done to it, and what it says.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use setpoint_runtime::store::NewUnit;

use super::units::{Seen, about, buttons, form};
use super::{Frame, operations, page, words};
use crate::api::problem::{Asked, Problem};
use crate::api::wire::{OperationShown, StateShown};
use crate::api::{Api, logs, units};

/// How many of its last lines are shown.
const LINES: usize = 200;

/// What is looked for in what it says.
#[derive(Debug, Deserialize)]
pub(super) struct Search {
    #[serde(default)]
    q: String,
}

/// All that is shown of a unit.
pub(super) struct Whole {
    pub(super) seen: Seen,
    /// Each change of what is declared.
    pub(super) changes: Vec<String>,
    pub(super) operations: Vec<OperationShown>,
    pub(super) lines: Result<VecDeque<String>, String>,
    /// What is looked for.
    pub(super) search: String,
}

/// Shows one unit.
pub(super) async fn one(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Asked(search): Asked<Search>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let whole = whole(&api, id, search.q).await?;
    Ok(page(&whole.seen.unit.name, "", &content(&Frame::of(&api, &headers), &whole)))
}

async fn whole(api: &Arc<Api>, id: String, search: String) -> Result<Whole, Problem> {
    let row = units::find(api, id).await?;
    let situation = units::situation(api, &row).await;
    let operations = units::operations(api, &row).await?;
    let lines = logs::said(api, row.unit.clone(), LINES).await.map_err(|problem| problem.message);
    let lines = lines.map(|mut lines| {
        lines.retain(|line| line.to_lowercase().contains(&search.to_lowercase()));
        lines
    });
    let (unit, known) = (row.unit.clone(), [(row, situation)]);
    let check = units::checks(api, &known).await.remove(&unit.id);
    let [(row, situation)] = known;
    let seen = Seen::new(row, &situation, check);
    let changes = if seen.is_out_of_date() { changes(api, &unit.unit).await } else { Vec::new() };
    Ok(Whole { seen, changes, operations, lines, search })
}

/// Each change of what is declared, in words.
async fn changes(api: &Arc<Api>, unit: &NewUnit) -> Vec<String> {
    let unit = unit.clone();
    let answer =
        api.ask(move |api| api.asked(&unit.project_root, &["--json", "why", unit.name.as_str()])).await;
    let Ok(Ok(why)) = answer else { return Vec::new() };
    let texts = |list: &serde_json::Value, of: fn(&serde_json::Value) -> Option<String>| {
        list.as_array().into_iter().flatten().filter_map(of).collect::<Vec<_>>()
    };
    let mut changes = texts(&why["changes"], |change| {
        let text = |name: &str| change[name].as_str();
        let value = match (text("old"), text("new")) {
            (Some(old), Some(new)) => format!(" from {old} to {new}"),
            (None, Some(new)) => format!(" {new}"),
            (Some(old), None) => format!(" {old}"),
            (None, None) => String::new(),
        };
        let is_work = change["informs_only"] == false;
        is_work
            .then(|| Some(format!("{} {}{value}: {}", text("path")?, text("change")?, text("leads_to")?)))?
    });
    changes.extend(texts(&why["pending"], |hook| Some(format!("{} has not succeeded yet", hook.as_str()?))));
    changes
}

pub(super) fn content(frame: &Frame, whole: &Whole) -> Markup {
    let unit = &whole.seen.unit;
    html! {
        h1 { (unit.name) }
        div.card.unit id=(unit.id) {
            div { (about(&whole.seen)) }
            (buttons(frame, unit, "unit"))
        }
        (why(frame, whole))
        h2 #says { "What it says" }
        (said(whole))
        h2 { "What was done to it" }
        (operations::table(&whole.operations, &[]))
        h2 { "About it" }
        dl {
            dt { "Project" }
            dd { @if unit.kept { a href={ "/versions/" (unit.project_id) } { (words::project(unit)) } } @else { (words::project(unit)) } }
            dt { "Folder" } dd { (unit.project_root) }
            dt { "Engine" } dd { (unit.engine) }
            dt { "Made" } dd { (words::since(&unit.created_at, " ago")) }
            @if let Some(failed) = &whole.seen.failed { dt { "Failed lately" } dd { (failed.shown()) } }
            dt { "Kept as it is wanted" }
            dd { @match unit.wanted {
                Some(wanted) => { "yes: wanted " (wanted) }
                None => { "no, nothing restarts it" }
            } }
        }
    }
}

/// Why the unit is out of date, or is left to the user.
fn why(frame: &Frame, whole: &Whole) -> Markup {
    let unit = &whole.seen.unit;
    let failed = matches!(unit.state.state, "held" | "needs_operator");
    html! {
        @if failed {
            section.card #why aria-label="Why it failed" {
                h2 { "Why it failed" }
                p.bad { (unit.state.why.as_deref().unwrap_or("no reason was given")) }
                p { "What it said last is below. When what was wrong is mended, try again: what it failed at is forgiven." }
                (form(frame, &format!("/units/{}/retry", unit.id), "unit", "", "Try again", &format!("Try again: {}", unit.name)))
            }
        } @else if whole.seen.is_out_of_date() {
            details.card #why open {
                summary { "Why it is out of date" }
                @if whole.changes.is_empty() {
                    p { "The project gives no answer now; " code { "setpoint why " (unit.name) } " says more." }
                }
                ul { @for change in &whole.changes { li { (change) } } }
            }
        }
    }
}

/// What the unit says; a script goes on with it for as long as it runs.
fn said(whole: &Whole) -> Markup {
    let unit = &whole.seen.unit;
    html! {
        form.search method="get" role="search" {
            label for="search" { "Search" }
            input #search type="search" name="q" value=(whole.search) autocomplete="off";
            span.soft #found role="status" {}
        }
        @match &whole.lines {
            Ok(lines) => {
                ol #log tabindex="0" aria-label={ "What " (unit.name) " says" }
                    data-from={ "/v1/units/" (unit.id) "/logs?follow=true&tail=" (LINES) } data-run=(run(&unit.state)) {
                    @for line in lines { li { (line) } }
                }
                @if lines.is_empty() {
                    p.soft #silent { (if whole.search.is_empty() { "It has said nothing yet." } else { "No line has these words." }) }
                }
            }
            Err(why) => { p.soft { "There is nothing to show: " (why) "." } }
        }
    }
}

/// What differs from one run of a unit to the next.
fn run(state: &StateShown) -> String {
    let runs = if state.state == "running" { "runs" } else { state.state };
    format!("{runs} {}", state.since.as_deref().unwrap_or_default())
}
