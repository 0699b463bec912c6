//! Showing a run: a live tree, plain lines, JSON, or only what went wrong.
//!
//! What people read goes to standard error in one stream, so that it stays in order wherever it is sent; events as
//! JSON go to standard output.

mod json;
mod plain;
#[cfg(test)]
mod tests;
pub(crate) mod text;
mod tree;
pub(crate) mod words;

use std::io::IsTerminal as _;

use indicatif::ProgressDrawTarget;
use setpoint_model::pipeline::outcome::Outcome;
use setpoint_runtime::pipeline::events::Listener;

use crate::output::{Output, terminal_size};

/// Where a view puts its text, which is always whole lines.
type Sink = Box<dyn FnMut(&str)>;

/// The view of a run.
pub(crate) struct RunView;

impl RunView {
    /// The view for how the command is to speak: `plain` asks for lines even on a terminal, and so does `-v`, for
    /// all that steps say does not fit below a live tree.
    pub(crate) fn choose(output: Output, plain: bool) -> Box<dyn Listener> {
        if output.json {
            return Box::new(json::Json::new(Box::new(move |text| output.event(text)), jiff::Timestamp::now));
        }
        let sink: Sink = Box::new(move |text| output.told(text));
        let live =
            std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        if output.quiet {
            Box::new(plain::Quiet::new(sink))
        } else if plain || output.verbose > 0 || !live {
            Box::new(plain::Plain::new(sink))
        } else {
            let screen = tree::Screen { size: terminal_size, target: ProgressDrawTarget::stderr };
            Box::new(tree::Tree::new(sink, screen))
        }
    }
}

/// How a try ended, in a few words.
fn how(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Failed { how } => format!("failed: {}", text::bare(&how.to_string())),
        Outcome::Errored { what } => {
            format!("errored: {}", text::bare(what.lines().next().unwrap_or_default()))
        }
        other => other.word().to_owned(),
    }
}
