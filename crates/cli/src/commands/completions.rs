use clap::Args;

use super::{SUCCESS, command_line};
use crate::context::Context;
use crate::error::Failure;

/// Write a completion script for a shell
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

impl Completions {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command_line(), "setpoint", &mut script);
        context.output.raw(&script);
        Ok(SUCCESS)
    }
}
