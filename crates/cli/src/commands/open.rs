use clap::Args;

use super::SUCCESS;
use crate::api::client::Client;
use crate::context::Context;
use crate::error::Failure;

/// Make a link that lets a browser in to the daemon, once, within a minute
#[derive(Debug, Args)]
pub(crate) struct Open {}

impl Open {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let link = Client::new(&context.roots)?.ask("POST", "/v1/links")?;
        if context.output.json {
            context.output.value(&link);
        } else {
            context.output.line(link["url"].as_str().unwrap_or_default());
        }
        Ok(SUCCESS)
    }
}
