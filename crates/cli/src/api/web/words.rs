//! States and times in words, each state with the look of its dot.

use jiff::Timestamp;
use maud::{Markup, html};

use crate::api::wire::{StateShown, UnitShown};
use crate::output::ago;

/// What a state looks like.
pub(super) fn look(state: &StateShown) -> &'static str {
    match (state.state, state.health) {
        ("running", Some("unhealthy")) | ("held" | "needs_operator" | "removed_outside", _) => "bad",
        ("running", Some("healthy" | "no_check")) => "good",
        ("absent" | "stopped" | "unknown", _) => "idle",
        _ => "busy",
    }
}

/// A state in words.
pub(super) fn state(state: &StateShown) -> String {
    let plain = state.state.replace('_', " ");
    match state.state {
        "running" => match (state.health, state.percent) {
            (Some("syncing"), Some(percent)) => format!("running, syncing {percent}%"),
            (Some(health @ ("healthy" | "unhealthy")), _) => format!("running, {health}"),
            _ => plain,
        },
        "stopped" => match (state.by, state.code) {
            (Some("user"), _) => "stopped by you".to_owned(),
            (_, Some(0)) => "ended well".to_owned(),
            (_, Some(code)) => format!("ended with exit code {code}"),
            _ => plain,
        },
        "back_off" => format!("waits before try {}", state.attempt.unwrap_or_default()),
        "waiting_on" => format!("waits for {}", state.waits_for.as_deref().unwrap_or_default()),
        "pulling" => state.percent.map_or(plain, |percent| format!("pulling, {percent}%")),
        "updating" => format!(
            "updating from {} to {}",
            state.from.as_deref().unwrap_or_default(),
            state.to.as_deref().unwrap_or_default()
        ),
        "held" => "failed, and is left to you".to_owned(),
        "needs_operator" => "needs you".to_owned(),
        "removed_outside" => "removed by somebody else".to_owned(),
        "unknown" => "unknown: its engine gives no answer".to_owned(),
        _ => plain,
    }
}

/// A word with its dot.
pub(super) fn dotted(look: &str, words: &str) -> Markup {
    html! { span class={ "state " (look) } { span.dot aria-hidden="true" {} (words) } }
}

/// The project of a unit, with its version.
pub(super) fn project(unit: &UnitShown) -> String {
    match &unit.version {
        Some(version) => format!("{} {version}", unit.project),
        None => unit.project.clone(),
    }
}

/// How long ago something was, with its time.
pub(super) fn since(at: &str, after: &str) -> Markup {
    let how_long = at.parse().map_or_else(|_| at.to_owned(), |at: Timestamp| ago(at, Timestamp::now()));
    html! { time datetime=(at) title=(at) { (how_long) (after) } }
}

/// How an operation or a run looks that ended so.
pub(super) fn ending(word: &str) -> &'static str {
    match word {
        "succeeded" | "passed" | "cached" => "good",
        "failed" | "errored" | "timed_out" | "timed out" | "interrupted" => "bad",
        "queued" | "running" => "busy",
        _ => "idle",
    }
}
