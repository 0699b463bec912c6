use clap::Args;
use serde::Serialize;
use setpoint_runtime::spec;

use super::{surroundings, tell};
use crate::commands::SUCCESS;
use crate::context::Context;
use crate::error::Failure;
use crate::json;

/// Write specs of the tests that there are in this folder, to be put into your own words
#[derive(Debug, Args)]
pub(crate) struct Init {}

/// `spec init`.
#[derive(Debug, Serialize)]
struct Written {
    setpoint: u32,
    files: Vec<String>,
}

impl Init {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        context.stop_on_signals()?;
        let mut store = context.store()?;
        let told = tell(context.output);
        let around = surroundings(context, &told);
        let files = spec::init(&context.folder, &context.assignments, around, &mut store)?;
        let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        if context.output.json {
            context.output.value(&Written { setpoint: json::VERSION, files });
        } else {
            files.iter().for_each(|file| context.output.note(format!("written: {file}")));
            context.output.note(
                "Say in your own words what has to hold; `setpoint spec verify` shows whether it does.",
            );
        }
        Ok(SUCCESS)
    }
}
