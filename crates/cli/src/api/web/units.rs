//! All units, each with its buttons.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};
use setpoint_model::names::UnitName;
use setpoint_model::reconcile::{History, Situation};
use setpoint_runtime::engine::UnitId;
use setpoint_runtime::reconciler;

use super::{Frame, page, words};
use crate::api::drift::Drift;
use crate::api::problem::Problem;
use crate::api::wire::{ButtonShown, UnitShown};
use crate::api::{Api, units};

/// A unit as it is shown.
pub(super) struct Seen {
    pub(super) unit: UnitShown,
    /// What its check said, where that fails.
    pub(super) check: Option<String>,
    pub(super) failed: Option<Failed>,
}

/// What a unit failed at since that last was forgiven.
pub(super) struct Failed {
    pub(super) times: u32,
    /// What was said of the last time, and when that was.
    pub(super) why: String,
    pub(super) at: Option<Timestamp>,
}

impl Failed {
    fn of(history: &History) -> Option<Self> {
        let History { pull, create, start, crash, health, stop, remove, .. } = history;
        let budgets = [pull, create, start, crash, health, stop, remove];
        let last = budgets.into_iter().filter(|budget| budget.failures > 0).max_by_key(|budget| budget.at)?;
        let times = budgets.iter().map(|budget| budget.failures).sum();
        Some(Self { times, why: last.why.clone(), at: reconciler::timestamp(last.at) })
    }

    fn times(&self) -> String {
        match self.times {
            1 => "once".to_owned(),
            2 => "twice".to_owned(),
            times => format!("{times} times"),
        }
    }

    /// In words, for the unit's own page.
    pub(super) fn shown(&self) -> Markup {
        html! {
            (self.times())
            @if let Some(at) = self.at { ", last " (words::since(&at.to_string(), " ago")) }
            @if !self.why.is_empty() { ": " (self.why) }
        }
    }
}

/// Shows all units.
pub(super) async fn list(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Response, Problem> {
    let known = units::all(&api).await?;
    let mut checks = units::checks(&api, &known).await;
    let seen = known.into_iter().map(|(row, situation)| {
        let check = checks.remove(&row.unit.id);
        Seen::new(row, &situation, check)
    });
    let seen: Vec<_> = seen.collect();
    Ok(page("Units", "/", &content(&Frame::of(&api, &headers), &seen)))
}

impl Seen {
    pub(super) fn new(row: units::Row, situation: &Situation, check: Option<String>) -> Self {
        let failed = Failed::of(&situation.history);
        Self { unit: row.shown(situation), check, failed }
    }

    pub(super) fn is_out_of_date(&self) -> bool {
        self.unit.drift.as_ref().is_some_and(|drift| drift.out_of_date)
    }
}

pub(super) fn content(frame: &Frame, seen: &[Seen]) -> Markup {
    html! {
        h1 { "Units" }
        @if seen.is_empty() {
            div.card {
                p { "There is no unit yet." }
                p { "In the folder of a project, type " code { "setpoint init" } " to begin a manifest, and "
                    code { "setpoint up" } " to make what it declares. It shows here by itself." }
            }
        } @else {
            ul.units {
                @for seen in seen {
                    li.card.unit id=(seen.unit.id) {
                        div {
                            h3 { a href={ "/units/" (seen.unit.id) } { (seen.unit.name) } }
                            p.soft { (words::project(&seen.unit)) ", on " (engine(&seen.unit.engine)) }
                            (about(seen))
                        }
                        (buttons(frame, &seen.unit, "list"))
                    }
                }
            }
        }
    }
}

fn engine(name: &str) -> String {
    match name {
        "embedded" => "the embedded engine".to_owned(),
        other => other.to_owned(),
    }
}

/// What is to be said of a unit: its state, and how it differs from what is declared.
pub(super) fn about(seen: &Seen) -> Markup {
    let (unit, state) = (&seen.unit, &seen.unit.state);
    html! {
        p {
            (words::dotted(words::look(state), &words::state(state)))
            @if let Some(since) = &state.since {
                span.soft { ", " @if state.state == "running" { (words::since(since, "")) } @else { (words::since(since, " ago")) } }
            }
            @if let Some(failed) = &seen.failed { span.soft { ", failed " (failed.times()) " lately" } }
        }
        @if let Some(why) = &state.why { p.bad { (why) } }
        @if let Some(check) = &seen.check {
            p { "Its check said:" }
            div.said { (check) }
        }
        @match &unit.drift {
            Some(Drift { out_of_date: true, changes: number, pending, .. }) => {
                p.busy {
                    "Out of date: " (changes(*number, pending.len())) ". "
                    a href={ "/units/" (unit.id) "#why" } aria-label={ "Why " (unit.name) " is out of date" } { "Why" }
                }
            }
            Some(Drift { unreadable: Some(why), .. }) => { p.soft { "What is declared cannot be read: " (why) } }
            Some(Drift { declared: false, .. }) => { p.soft { "Its project does not declare it any more." } }
            Some(_) | None => {}
        }
    }
}

fn changes(changes: usize, pending: usize) -> String {
    match (changes, pending) {
        (0, 1) => "1 step has not succeeded yet".to_owned(),
        (0, pending) => format!("{pending} steps have not succeeded yet"),
        (1, _) => "1 change".to_owned(),
        (changes, _) => format!("{changes} changes"),
    }
}

/// The buttons of a unit, on the page of this name.
pub(super) fn buttons(frame: &Frame, unit: &UnitShown, on: &str) -> Markup {
    // These go on by themselves.
    let ticks = matches!(unit.state.state, "back_off" | "stopping");
    // Where all is well, nothing calls for being pressed.
    let main = if unit.button.does == "stop" { "" } else { "main" };
    html! {
        div.buttons data-ticks[ticks] {
            @if let Some(second) = &unit.second { (button(frame, unit, second, on, "")) }
            (button(frame, unit, &unit.button, on, main))
        }
    }
}

fn button(frame: &Frame, unit: &UnitShown, button: &ButtonShown, on: &str, class: &str) -> Markup {
    let named = format!("{}: {}", button.label, unit.name);
    let leads = match button.does {
        "explain" => Some(format!("/units/{}#why", unit.id)),
        "go_to" => button.unit.as_ref().and_then(|name| {
            let name = UnitName::new(name.as_str()).ok()?;
            Some(format!("/units/{}", UnitId::new(unit.project_root.as_ref(), &name).as_str()))
        }),
        _ => None,
    };
    match (&button.post, leads) {
        (Some(post), _) => form(frame, post.trim_start_matches("/v1"), on, class, &button.label, &named),
        (None, Some(address)) => {
            html! { a.button.(class) href=(address) aria-label=(named) { (button.label) } }
        }
        (None, None) => html! { button.(class) disabled { (button.label) } },
    }
}

/// A button that asks for something.
pub(super) fn form(frame: &Frame, to: &str, on: &str, class: &str, label: &str, named: &str) -> Markup {
    html! {
        form method="post" action=(to) {
            input type="hidden" name="csrf" value=(frame.csrf);
            input type="hidden" name="on" value=(on);
            button.(class) aria-label=(named) { (label) }
        }
    }
}
