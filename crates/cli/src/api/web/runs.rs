//! The runs of pipelines, and one of them as a picture, with what its steps said.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use setpoint_model::pipeline::outcome::Outcome;
use setpoint_runtime::runs::{self, Follower, Run, Runs, RunsError};

use super::graph::{self, Step};
use super::{page, words};
use crate::api::problem::{Asked, Problem};
use crate::api::{Api, runs as kept};
use crate::commands::runs::{ending, open, took, word};
use crate::output::span;

/// How many runs of each project are listed.
const LISTED: usize = 20;
/// How many of the last lines of a step are shown.
const LINES: usize = 2000;

/// A run in the list.
pub(super) struct Listed {
    pub(super) id: String,
    /// The name of its project, where it has units.
    pub(super) project: Option<String>,
    pub(super) run: Run,
}

/// Which step is looked at.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    step: Option<String>,
    /// What is looked for in what it said.
    #[serde(default)]
    q: String,
}

/// A run, and the step that is looked at.
pub(super) struct Whole {
    pub(super) id: String,
    pub(super) run: Run,
    pub(super) step: Option<(String, VecDeque<String>)>,
    /// What is looked for.
    pub(super) search: String,
}

/// Shows the runs of all projects.
pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    let (runs, damaged) = all(&api).await?;
    Ok(page("Runs", "/runs", &content(&runs, &damaged)))
}

async fn all(api: &Arc<Api>) -> Result<(Vec<Listed>, Vec<String>), Problem> {
    let units = api.with_store(|_, store| store.all_units()).await?;
    let names =
        units.into_iter().map(|unit| (runs::project_id(&unit.unit.project_root), unit.unit.project_name));
    let names: BTreeMap<String, String> = names.collect();
    let listed = api.ask(move |api| {
        let words = |error: RunsError| error.to_string();
        let (mut listed, mut damaged) = (Vec::new(), Vec::new());
        for (key, runs) in Runs::all(&api.roots).map_err(words)? {
            let found = runs.list(LISTED).map_err(words)?;
            damaged.extend(found.damaged.iter().map(ToString::to_string));
            listed.extend(found.runs.into_iter().map(|run| Listed {
                id: format!("{key}-{}", run.number),
                project: names.get(&key).cloned(),
                run,
            }));
        }
        listed.sort_by_key(|listed: &Listed| Reverse(listed.run.began_at));
        Ok((listed, damaged))
    });
    listed.await
}

pub(super) fn content(runs: &[Listed], damaged: &[String]) -> Markup {
    let goes_on = runs.iter().any(|listed| listed.run.state == runs::State::Running);
    html! {
        h1 { "Runs" }
        @if runs.is_empty() {
            div.card {
                p { "No pipeline has run yet." }
                p { "In the folder of a project with a pipeline, type " code { "setpoint run" } ". It shows here while it goes on." }
            }
        } @else {
            div.wide data-ticks[goes_on] { table.rows {
                thead { tr {
                    th scope="col" { "Run" } th scope="col" { "Pipeline" } th scope="col" { "How it went" }
                    th scope="col" { "Took" } th scope="col" { "Began" }
                } }
                tbody { @for Listed { id, project, run } in runs {
                    tr {
                        td {
                            a href={ "/runs/" (id) } { "Run " (run.number) }
                            @if let Some(project) = project { " of " (project) }
                        }
                        td { (run.pipeline) }
                        td { (words::dotted(words::ending(word(run)), word(run))) }
                        td { (took(run).map(span).unwrap_or_default()) }
                        td { (words::since(&run.began_at.to_string(), " ago")) }
                    }
                } }
            } }
        }
        @for text in damaged { p.soft { (text) } }
    }
}

/// Shows one run.
pub(super) async fn one(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Asked(which): Asked<Which>,
) -> Result<Response, Problem> {
    let name = id.clone();
    let found = kept::find(&api, id, move |runs, run| {
        let step =
            which.step.map(|step| Ok((step.clone(), said(runs, &run, &step, &which.q)?))).transpose()?;
        Ok(Whole { id: name, run, step, search: which.q })
    });
    let whole = found.await?;
    Ok(page(&format!("Run {} of {}", whole.run.number, whole.run.pipeline), "", &shown(&whole)))
}

/// The last lines that a step said; of one that was cached, in the run that made its result.
fn said(runs: &Runs, run: &Run, name: &str, search: &str) -> Result<VecDeque<String>, RunsError> {
    let Some(step) = run.plan.iter().map(|plan| &plan.step).find(|step| step.as_str() == name) else {
        return Ok(VecDeque::new());
    };
    let made_in = run.steps.iter().find(|report| report.step == *step).and_then(|report| report.made_in);
    let mut lines = VecDeque::new();
    Follower::new(runs, made_in.unwrap_or(run.number), Some(step.clone())).poll(&mut |_, line| {
        if line.to_lowercase().contains(&search.to_lowercase()) {
            lines.push_back(line.to_owned());
        }
        if lines.len() > LINES {
            lines.pop_front();
        }
    })?;
    Ok(lines)
}

/// The steps of a run, as the picture has them.
pub(super) fn steps(id: &str, run: &Run) -> Vec<Step> {
    let goes_on = run.state == runs::State::Running;
    let step = |plan: &setpoint_runtime::pipeline::events::StepPlan| {
        let report = run.steps.iter().find(|report| report.step == plan.step);
        let waits = open(run).any(|open| plan.parents.contains(open));
        let (look, how) = match report {
            Some(report) if matches!(report.outcome, Outcome::Cached | Outcome::Skipped { .. }) => {
                (words::ending(report.outcome.word()), ending(report))
            }
            Some(report) => {
                (words::ending(report.outcome.word()), format!("{}, {}", ending(report), span(report.took)))
            }
            None if !goes_on => ("bad", "not ended".to_owned()),
            None if waits => ("idle", "waits".to_owned()),
            None => ("busy", "under way".to_owned()),
        };
        Step {
            name: plan.step.to_string(),
            parents: plan.parents.iter().map(ToString::to_string).collect(),
            look,
            how,
            address: format!("/runs/{id}?step={}#says", plan.step),
        }
    };
    run.plan.iter().map(step).collect()
}

pub(super) fn shown(whole: &Whole) -> Markup {
    let run = &whole.run;
    let steps = steps(&whole.id, run);
    let took = took(run).map(|took| format!(", took {}", span(took))).unwrap_or_default();
    html! {
        h1 { "Run " (run.number) " of " (run.pipeline) }
        p data-ticks[run.state == runs::State::Running] {
            (words::dotted(words::ending(word(run)), word(run)))
            span.soft { ", began " (words::since(&run.began_at.to_string(), " ago")) (took) }
        }
        @if steps.is_empty() { p.soft { "It has not come as far as its steps." } } @else { (graph::picture(&steps)) }
        @if let runs::State::Ended { artifacts: Some((files, path)), .. } = &run.state {
            p { "Artifacts: " (files) " files in " code { (path.display()) } }
        }
        h2 #says { @match &whole.step { Some((step, _)) => { "What " (step) " said" } None => { "What its steps did" } } }
        @if let Some((step, lines)) = &whole.step {
            p { a href={ "/runs/" (whole.id) } { "All steps" } }
            @if lines.is_empty() && whole.search.is_empty() {
                p.soft { (step) " has said nothing that is kept." }
            } @else {
                form.search method="get" role="search" {
                    input type="hidden" name="step" value=(step);
                    label for="search" { "Search" }
                    input #search type="search" name="q" value=(whole.search) autocomplete="off";
                    span.soft #found role="status" {}
                }
                ol #log tabindex="0" aria-label={ "What " (step) " said" } { @for line in lines { li { (line) } } }
            }
        } @else {
            div.wide { table.rows {
                thead { tr { th scope="col" { "Step" } th scope="col" { "After" } th scope="col" { "How it went" } } }
                tbody { @for step in &steps {
                    tr {
                        td { a href=(step.address) { (step.name) } }
                        td data-name="after" { (step.parents.join(", ")) }
                        td.words { (words::dotted(step.look, &step.how)) }
                    }
                } }
            } }
        }
    }
}
