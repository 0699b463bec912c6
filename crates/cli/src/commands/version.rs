use clap::Args;
use serde::Serialize;

use super::SUCCESS;
use crate::context::Context;
use crate::error::Failure;
use crate::json;

/// Say which version this is
#[derive(Debug, Args)]
pub(crate) struct Version {}

/// `version`.
#[derive(Debug, Serialize)]
struct Told {
    setpoint: u32,
    version: &'static str,
}

impl Version {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let version = env!("CARGO_PKG_VERSION");
        if context.output.json {
            context.output.value(&Told { setpoint: json::VERSION, version });
        } else {
            context.output.line(format!("setpoint {version}"));
        }
        Ok(SUCCESS)
    }
}
