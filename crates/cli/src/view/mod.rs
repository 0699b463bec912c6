//! Shows a run while it goes on: a live list on a terminal, plain lines elsewhere, events for machines.

mod json;
mod live;
mod plain;
mod text;

use std::io::IsTerminal as _;

use setpoint_runtime::pipeline::events::Listener;

use crate::output::Output;

/// What shows a run on this output.
pub(crate) fn choose(output: Output, plain: bool) -> Box<dyn Listener> {
    if output.json {
        Box::new(json::Json::new(output))
    } else if plain || output.quiet || !std::io::stderr().is_terminal() {
        Box::new(plain::Plain::new(output))
    } else {
        Box::new(live::Live::new(output))
    }
}
