use clap::Args;

use super::{SUCCESS, pipelines};
use crate::context::Context;
use crate::error::Failure;

/// Print a pipeline in the one form that all have, as JSON
#[derive(Debug, Args)]
pub(crate) struct Render {
    /// The pipeline; may be left out where there is only one
    pipeline: Option<String>,
}

impl Render {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let (_, pipeline) = pipelines::chosen(context, self.pipeline.as_deref(), None)?;
        context.output.raw(pipeline.to_json().as_bytes());
        Ok(SUCCESS)
    }
}
