//! A run as JSON: one event a line, as it happens.

use jiff::Timestamp;
use setpoint_runtime::pipeline::events::{Event, Listener};

use super::Sink;
use crate::json::run::Line;

/// Prints every event.
pub(super) struct Json {
    sink: Sink,
    now: fn() -> Timestamp,
}

impl Json {
    pub(super) fn new(sink: Sink, now: fn() -> Timestamp) -> Self {
        Self { sink, now }
    }
}

impl Listener for Json {
    fn hear(&mut self, event: &Event) {
        if let Ok(line) = serde_json::to_string(&Line::new((self.now)(), event)) {
            (self.sink)(&(line + "\n"));
        }
    }
}
