//! The versions of projects: which is in effect, what led there, what is under way, and what would be done.

use std::sync::Arc;

use axum::extract::{Form, Path, State};
use axum::http::HeaderMap;
use axum::response::{Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use setpoint_model::release::{Active, Offer, Version};

use super::{Frame, page, words};
use crate::api::Api;
use crate::api::change::{self, Wish};
use crate::api::problem::{Asked, Problem};
use crate::api::versions::{self, OfferShown, ProjectShown, ProjectWhole};
use crate::commands::history::Change;
use crate::commands::upgrade::shown;

/// Which change is looked at.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    change: Option<i64>,
}

/// What would be done, of one project.
pub(super) struct Planned {
    pub(super) project: ProjectShown,
    pub(super) offer: Offer,
    /// What was asked for.
    pub(super) wish: Wish,
    /// The answer of the dry run.
    pub(super) answer: Result<serde_json::Value, Problem>,
    /// What else could be asked for: versions, each as it is asked for and as it is shown.
    pub(super) others: Vec<(String, String)>,
}

/// Shows all projects that have versions.
pub(super) async fn list(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Response, Problem> {
    let projects = versions::all(&api).await?;
    Ok(page("Versions", "/versions", &content(&Frame::of(&api, &headers), &projects)))
}

/// Shows one project, and what a change of it did.
pub(super) async fn one(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Asked(which): Asked<Which>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (whole, root) = versions::whole(&api, id).await?;
    let change = match which.change {
        Some(number) => Some(versions::numbered(&api, root, number).await?),
        None => None,
    };
    let content = project(&Frame::of(&api, &headers), &whole, change.as_ref());
    Ok(page(&format!("Versions of {}", whole.project.project), "", &content))
}

/// Shows what an upgrade or a rollback would do.
pub(super) async fn plan(
    State(api): State<Arc<Api>>,
    Path((id, action)): Path<(String, String)>,
    Asked(wish): Asked<Wish>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let answer = change::planned(&api, id.clone(), &action, &wish).await;
    // Where there is nothing of this name, there is no page of it.
    let answer = match answer {
        Err(problem) if problem.status == 404 => return Err(problem),
        answer => answer,
    };
    let (whole, _) = versions::whole(&api, id).await?;
    let offer = if action == Offer::RollBack.as_str() { Offer::RollBack } else { Offer::Upgrade };
    let others = match offer {
        // A registry that gives no answer takes nothing from what is known.
        Offer::Upgrade => {
            let known = versions::versions(&api, whole.project.release.clone()).await.unwrap_or_default();
            later(&known, whole.project.version.as_deref())
        }
        _ => earlier(&whole.changes),
    };
    let planned = Planned { project: whole.project, offer, wish, answer, others };
    let title = format!("{} {}", title(offer), planned.project.project);
    Ok(page(&title, "", &would(&Frame::of(&api, &headers), &planned)))
}

/// Asks for what a button does, and leads to the project.
pub(super) async fn act(
    State(api): State<Arc<Api>>,
    Path((id, action)): Path<(String, String)>,
    Form(wish): Form<Wish>,
) -> Result<Redirect, Problem> {
    change::ask_for(&api, id.clone(), &action, &wish).await?;
    Ok(Redirect::to(&format!("/versions/{id}")))
}

/// The versions that come after one, the latest first.
fn later(known: &[String], now: Option<&str>) -> Vec<(String, String)> {
    let parsed = |text: &str| Version::parse(text).ok();
    let now = now.and_then(parsed);
    let later = known.iter().rev().filter(|version| parsed(version) > now);
    later.map(|version| (version.clone(), version.clone())).collect()
}

/// The generations that were in effect before, the newest first, by their numbers.
fn earlier(changes: &[Change]) -> Vec<(String, String)> {
    let committed = changes.iter().filter(|change| change.outcome == Some("committed"));
    committed.map(|change| (change.from.generation.to_string(), shown(&change.from))).collect()
}

fn title(offer: Offer) -> &'static str {
    if offer == Offer::RollBack { "Roll back" } else { "Upgrade" }
}

pub(super) fn content(frame: &Frame, projects: &[ProjectShown]) -> Markup {
    html! {
        h1 { "Versions" }
        @if projects.is_empty() {
            div.card {
                p { "No project with services is up." }
                p { "What " code { "setpoint up" } " keeps running shows here, with the version in effect." }
            }
        } @else {
            ul.units data-ticks[projects.iter().any(is_under_way)] {
                @for project in projects {
                    li.card.unit id=(project.id) {
                        div {
                            h3 { a href={ "/versions/" (project.id) } { (project.project) } }
                            (about(project))
                            p.soft { (project.root) }
                        }
                        (buttons(frame, project))
                    }
                }
            }
        }
    }
}

fn is_under_way(project: &ProjectShown) -> bool {
    project.state == "under_way"
}

/// A generation in a few words.
fn name(of: &Active) -> String {
    of.version.clone().unwrap_or_else(|| format!("generation {}", of.generation))
}

/// What is in effect, and what is under way.
fn about(project: &ProjectShown) -> Markup {
    let now =
        Active { generation: project.generation, version: project.version.clone(), ..Active::default() };
    let (look, doing) = match (project.state, &project.change) {
        ("under_way", Some(change)) if change.outcome.is_none() => {
            let what = if change.what == "rollback" { "going back to" } else { "upgrading to" };
            ("busy", Some(format!("{what} {}", name(&change.to))))
        }
        ("under_way", _) => ("busy", Some("getting ready".to_owned())),
        ("cut_off", _) => ("bad", Some("a change was cut off".to_owned())),
        ("needs_operator", _) => ("bad", Some("needs you".to_owned())),
        ("unreadable", _) => ("bad", Some("cannot be told".to_owned())),
        _ => ("good", None),
    };
    let failed = project.asked.as_ref().filter(|asked| matches!(asked.outcome, "failed" | "cancelled"));
    html! {
        p {
            @match &doing {
                Some(doing) => { (words::dotted(look, doing)) span.soft { ", in effect: " (shown(&now)) } }
                None => { (words::dotted(look, &shown(&now))) }
            }
            @if let Some(since) = &project.since {
                span.soft { ", since " (words::since(since, "")) @if let Some(by) = &project.by { ", by " (by) } }
            }
        }
        @if is_under_way(project) {
            @if let Some(step) = project.change.as_ref().and_then(|change| change.steps.last()) {
                p { "Now: " (step.step) }
            }
            @if let Some(holder) = &project.holder { p.soft { (holder.replace('`', "")) } }
        }
        @if let Some(why) = &project.unreadable { p.bad { (why) } }
        @if let Some(detail) = project.change.as_ref().and_then(|change| change.detail.as_ref()) { p.bad { (detail) } }
        @if let Some(asked) = failed {
            p.(if asked.outcome == "failed" { "bad" } else { "soft" }) {
                "The " (asked.what) " that was asked for " (words::since(&asked.began_at, " ago"))
                @if asked.outcome == "failed" { " failed:" } @else { " was cancelled." }
            }
            @if let Some(detail) = &asked.detail { div.said { (detail.trim_start_matches("error: ")) } }
        }
    }
}

fn buttons(frame: &Frame, project: &ProjectShown) -> Markup {
    html! {
        div.buttons { @for offer in &project.offers { (button(frame, project, offer)) } }
    }
}

fn button(frame: &Frame, project: &ProjectShown, offer: &OfferShown) -> Markup {
    let named = format!("{}: {}", offer.label, project.project);
    let address = format!("/versions/{}/{}", project.id, offer.does);
    match &offer.plan {
        Some(_) => html! { a.button href=(address) aria-label=(named) { (offer.label) } },
        None => form(frame, &address, offer.label, &named, &[], offer.does == Offer::Recover.as_str()),
    }
}

/// A button that asks for something, with what it says of it.
fn form(frame: &Frame, to: &str, label: &str, named: &str, fields: &[(&str, &str)], is_main: bool) -> Markup {
    html! {
        form method="post" action=(to) data-leads {
            input type="hidden" name="csrf" value=(frame.csrf);
            @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
            button.(if is_main { "main" } else { "" }) aria-label=(named) { (label) }
        }
    }
}

pub(super) fn project(frame: &Frame, whole: &ProjectWhole, looked_at: Option<&Change>) -> Markup {
    let project = &whole.project;
    let under_way = project.change.as_ref().filter(|_| is_under_way(project));
    html! {
        h1 { (project.project) }
        div.card.unit id=(project.id) data-ticks[is_under_way(project)] {
            div { (about(project)) }
            (buttons(frame, project))
        }
        @if let Some(change) = under_way.filter(|change| Some(change.number) != looked_at.map(|at| at.number)) {
            h2 { "What is being done" }
            (steps(change, true))
        }
        @if let Some(change) = looked_at {
            h2 #steps { "What change " (change.number) " did" }
            p { a href={ "/versions/" (project.id) } { "All changes" } }
            (steps(change, under_way.is_some_and(|open| open.number == change.number)))
        }
        h2 { "History" }
        (history(whole))
        h2 { "About it" }
        dl {
            dt { "Folder" } dd { (project.root) }
            dt { "Made of" }
            dd { @match &project.release {
                Some(release) => { "the release " code { (release) } }
                None => { "its own folder" }
            } }
            dt { "Generation" } dd { (project.generation) }
        }
    }
}

fn history(whole: &ProjectWhole) -> Markup {
    let open = whole.project.change.as_ref().map(|change| change.number);
    html! {
        @if whole.changes.is_empty() {
            p.soft { "Nothing was upgraded yet." }
        } @else {
            div.wide { table.rows {
                thead { tr {
                    th scope="col" { "Change" } th scope="col" { "From, to" } th scope="col" { "How it went" }
                    th scope="col" { "Who" } th scope="col" { "When" }
                } }
                tbody { @for change in &whole.changes {
                    tr {
                        td { a href={ "/versions/" (whole.project.id) "?change=" (change.number) "#steps" } {
                            (if change.what == "rollback" { "Rollback" } else { "Upgrade" }) " " (change.number)
                        } }
                        td { (name(&change.from)) " \u{2192} " (name(&change.to)) }
                        td.words {
                            (ending(change, is_under_way(&whole.project) && open == Some(change.number)))
                            @if let Some(detail) = &change.detail { div.said { (detail) } }
                        }
                        td data-name="by" { (change.who) }
                        td { (words::since(&change.began_at, " ago")) }
                    }
                } }
            } }
        }
    }
}

fn ending(change: &Change, is_led: bool) -> Markup {
    match change.outcome {
        _ if is_led => words::dotted("busy", "under way"),
        Some("committed") => words::dotted("good", "committed"),
        Some("dropped") => words::dotted("idle", "dropped, nothing was touched"),
        Some(other) => words::dotted("bad", &other.replace('-', " ")),
        None => words::dotted("bad", "cut off"),
    }
}

/// The steps of a change, each with what came of it.
fn steps(change: &Change, is_led: bool) -> Markup {
    let mut lines: Vec<(&str, &str, String, &str)> = Vec::new();
    for entry in &change.steps {
        let last = lines.last_mut().filter(|last| last.0 == entry.step && entry.kind != "intent");
        let (look, how) = match entry.kind {
            "intent" if is_led => ("busy", "under way".to_owned()),
            "intent" => ("bad", "cut off".to_owned()),
            "done" => ("good", "done".to_owned()),
            _ => ("bad", format!("failed: {}", entry.note.as_deref().unwrap_or("no reason was given"))),
        };
        match last {
            Some(last) => (last.1, last.2) = (look, how),
            None => lines.push((&entry.step, look, how, &entry.at)),
        }
    }
    // Only the last one can be under way.
    let number = lines.len();
    for (index, line) in lines.iter_mut().enumerate() {
        if line.1 == "busy" && index + 1 < number {
            (line.1, line.2) = ("bad", "cut off".to_owned());
        }
    }
    html! {
        @if lines.is_empty() {
            p.soft { "It has not come as far as its steps." }
        } @else {
            div.wide { table.rows {
                thead { tr { th scope="col" { "Step" } th scope="col" { "How it went" } th scope="col" { "When" } } }
                tbody { @for (step, look, how, at) in lines {
                    tr {
                        td { (step) }
                        td.words { (words::dotted(look, &how)) }
                        td { (words::since(at, " ago")) }
                    }
                } }
            } }
        }
    }
}

/// What would be done, with the button that does it.
pub(super) fn would(frame: &Frame, planned: &Planned) -> Markup {
    let project = &planned.project;
    let address = format!("/versions/{}/{}", project.id, planned.offer.as_str());
    html! {
        h1 { (title(planned.offer)) " " (project.project) }
        // It is asked for once: to look is work for the project, and for its registry.
        div data-once {
            @match &planned.answer {
                Err(problem) => {
                    p.bad { (problem.message) }
                    @if let Some(hint) = problem.hint.as_ref().filter(|hint| !hint.starts_with("GET ")) { p { (hint) } }
                    div.buttons { (back(project)) }
                }
                Ok(answer) => { (answered(frame, planned, answer, &address)) }
            }
        }
        @if planned.others.len() > 1 {
            h2 { (if planned.offer == Offer::RollBack { "Earlier versions" } else { "Later versions" }) }
            ul { @for (asked, shown) in &planned.others {
                li { a href={ (address) "?version=" (asked) } { (shown) } }
            } }
        }
    }
}

fn answered(frame: &Frame, planned: &Planned, answer: &serde_json::Value, address: &str) -> Markup {
    let project = &planned.project;
    let Some(words) = answer["words"].as_str() else {
        return html! {
            p { "There is nothing to do: what is declared is in effect." }
            div.buttons { (back(project)) }
        };
    };
    let to: Active = serde_json::from_value(answer["to"].clone()).unwrap_or_default();
    let takes_back = answer["downs"].as_array().is_some_and(|downs| !downs.is_empty());
    let loses = planned.offer == Offer::RollBack && answer["lane"] == "breaking" && !takes_back;
    // What is shown is what is done: of several releases the one that was looked at.
    let version = match (planned.offer, project.release.is_some(), &to.version) {
        (Offer::Upgrade, true, Some(version)) => version.clone(),
        _ => planned.wish.version.clone(),
    };
    let label = planned.offer.confirmed(to.version.as_deref(), loses);
    let named = format!("{label}: {}", project.project);
    let mut fields = vec![("version", version.as_str())];
    if loses {
        fields.push(("discard_writes", "true"));
    }
    html! {
        div.said.plan { (words) }
        div.buttons {
            (back(project))
            (form(frame, address, &label, &named, &fields, true))
        }
    }
}

fn back(project: &ProjectShown) -> Markup {
    html! { a.button href={ "/versions/" (project.id) } { "Back" } }
}
