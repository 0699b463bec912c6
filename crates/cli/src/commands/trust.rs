use clap::Args;
use serde::Serialize;
use setpoint_runtime::release;

use super::SUCCESS;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::json;

/// Let a release run on this machine what it would run there, outside of every sandbox
///
/// `init` and `upgrade` name what that is, and the digest. A release that is signed by a key of the configuration needs no
/// such word.
#[derive(Debug, Args)]
pub(crate) struct Trust {
    /// The digest of the release: `sha256:` and 64 hex digits
    digest: String,
}

/// `trust`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    setpoint: u32,
    trusted: &'a str,
}

impl Trust {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        if !release::trust(&context.roots, &self.digest)? {
            let what = format!("`{}` is no digest of a release", self.digest);
            return Err(Failure::new(Exit::Usage, "no-digest", what)
                .hint("`init` and `upgrade` name it: `sha256:` and 64 hex digits"));
        }
        context.output.note(format!("{} may run on this machine what it has to.", self.digest));
        if context.output.json {
            context.output.value(&Report { setpoint: json::VERSION, trusted: &self.digest });
        }
        Ok(SUCCESS)
    }
}
