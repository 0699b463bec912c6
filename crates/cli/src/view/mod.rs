//! Shows a run while it goes on.

use setpoint_runtime::pipeline::events::{Event, Listener};

use crate::output::{Output, span};

/// What shows a run on this output.
pub(crate) fn choose(output: Output, _plain: bool) -> Box<dyn Listener> {
    Box::new(Plain(output))
}

struct Plain(Output);

impl Listener for Plain {
    fn hear(&mut self, event: &Event) {
        match event {
            Event::Output { step, line } => self.0.progress(format!("{step} | {line}")),
            Event::StepEnded { report } => {
                self.0.progress(format!("{} {} {}", report.step, report.outcome.word(), span(report.took)))
            }
            Event::RunEnded { report } => {
                self.0.note(format!("{} in {}", report.outcome.word(), span(report.took)));
            }
            Event::Note { text, .. } => self.0.progress(format!("note: {text}")),
            _ => {}
        }
    }
}
