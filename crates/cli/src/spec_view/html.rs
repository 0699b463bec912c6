//! A sheet of specs as a page of its own: one file, that needs nothing else.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use setpoint_model::spec::{Cause, State};

use super::{Counts, Part, Row, Sheet};

/// The page.
pub(crate) fn page(sheet: &Sheet<'_>) -> String {
    let counts = sheet.counts();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Specs" }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body {
                main {
                    header {
                        h1 { "What has to hold, and what shows it" }
                        (bar(&counts))
                        (legend(&counts))
                        (failures(sheet))
                    }
                    nav aria-label="Specs" {
                        @for part in sheet.parts() {
                            (card(part))
                        }
                    }
                    @for part in sheet.parts() { (spec(part)) }
                }
            }
        }
    };
    page.into_string() + "\n"
}

/// The states, in the order of their weight on the page.
fn shares(counts: &Counts) -> [(State, usize); 4] {
    [
        (State::Passed, counts.passed),
        (State::Failed, counts.failed),
        (State::Skipped, counts.skipped),
        (State::Gap, counts.gaps),
    ]
}

/// A bar of as many parts as there are states.
fn bar(counts: &Counts) -> Markup {
    html! {
        span.bar aria-hidden="true" {
            @for (state, number) in shares(counts).into_iter().filter(|(_, number)| *number > 0) {
                span class=(state.word()) style={ "flex-grow:" (number) } {}
            }
        }
    }
}

fn legend(counts: &Counts) -> Markup {
    html! {
        ul.legend {
            @for (state, number) in shares(counts) {
                @if number > 0 || matches!(state, State::Passed | State::Failed) {
                    li { (dot(state)) b { (number) } " " (plural(state, number)) }
                }
            }
            li.soft { "of " (counts.all()) " criteria" }
        }
    }
}

/// Where to look first.
fn failures(sheet: &Sheet<'_>) -> Markup {
    let rows = sheet.parts().flat_map(|part| &part.criteria);
    let failed = rows.filter(|row| row.verdict.state == State::Failed).map(|row| row.criterion.name());
    let failed: Vec<String> = failed.collect();
    html! {
        @if !failed.is_empty() {
            p.failures { "Failed:" @for name in failed { " " a href={ "#" (name) } { (name) } } }
        }
    }
}

fn card(part: &Part<'_>) -> Markup {
    let counts = part.counts();
    html! {
        a href={ "#" (part.spec.id) } {
            span { b { (part.spec.id) } " " (part.spec.title) }
            span.soft { (counts.passed) " of " (counts.all()) }
            (bar(&counts))
        }
    }
}

/// A text in which what stands between backticks is code.
fn words(text: &str) -> Markup {
    html! {
        @for (index, part) in text.split('`').enumerate() {
            @if index % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

fn plural(state: State, number: usize) -> &'static str {
    match state {
        State::Gap if number != 1 => "gaps",
        _ => state.word(),
    }
}

fn dot(state: State) -> Markup {
    html! { span.dot.(state.word()) aria-hidden="true" {} }
}

fn spec(part: &Part<'_>) -> Markup {
    html! {
        section id=(part.spec.id) aria-labelledby={ (part.spec.id) "-title" } {
            h2 id={ (part.spec.id) "-title" } { span.id { (part.spec.id) } " " (part.spec.title) }
            p.soft { (words(&part.spec.intent)) }
            ol { @for row in &part.criteria { (criterion(row)) } }
        }
    }
}

fn criterion(row: &Row<'_>) -> Markup {
    let (name, state) = (row.criterion.name(), row.verdict.state);
    let tests = row.tests();
    html! {
        li id=(name) class=(state.word()) {
            p.head {
                a.name href={ "#" (name) } { (name) }
                span.state { (dot(state)) (state.word()) }
            }
            p.what { (words(&row.criterion.text)) }
            @for (why, tests) in reasons(&row.verdict.causes) { (reason(why, &tests)) }
            @if let Some(remark) = &row.remark { p.soft { (remark) } }
            @if !tests.is_empty() {
                details {
                    summary { (tests.len()) @if tests.len() == 1 { " test" } @else { " tests" } }
                    ul { @for test in tests { li { code { (test) } } } }
                }
            }
        }
    }
}

/// The reasons of a verdict, each with all tests that give it.
fn reasons(causes: &[Cause]) -> Vec<(&str, Vec<String>)> {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for cause in causes {
        let test = cause.test.as_ref().map(ToString::to_string);
        match reasons.iter_mut().find(|(why, _)| *why == cause.why) {
            Some((_, tests)) => tests.extend(test),
            None => reasons.push((&cause.why, test.into_iter().collect())),
        }
    }
    reasons
}

fn reason(why: &str, tests: &[String]) -> Markup {
    let is_long = why.trim().lines().count() > 1;
    html! {
        div.why {
            @for test in tests { p { code { (test) } } }
            @if is_long { pre tabindex="0" { (why) } } @else if !why.is_empty() { p { (words(why)) } }
        }
    }
}
