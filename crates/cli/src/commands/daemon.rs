use clap::{Args, Subcommand};
use serde::Serialize;
use setpoint_runtime::reconciler::{self, Deed};

use super::SUCCESS;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::json;

/// Keep services running: start again what ends, as its restart policy says
#[derive(Debug, Args)]
pub(crate) struct Daemon {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Keep all services of this state, until Ctrl-C; they run on after that
    Run,
    /// Say whether a daemon runs
    Status,
}

/// `daemon status`.
#[derive(Debug, Serialize)]
struct Running {
    setpoint: u32,
    running: bool,
}

impl Daemon {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        match self.what {
            What::Run => keep(context),
            What::Status => {
                let running = reconciler::is_running(&context.roots);
                if context.output.json {
                    context.output.value(&Running { setpoint: json::VERSION, running });
                } else {
                    context.output.line(if running { "a daemon runs" } else { "no daemon runs" });
                }
                Ok(if running { SUCCESS } else { Exit::NotFound as u8 })
            }
        }
    }
}

fn keep(context: &Context) -> Result<u8, Failure> {
    context.stop_on_signals()?;
    let tell = |deed: &Deed| {
        let project = deed.project_root.file_name().unwrap_or_default().to_string_lossy();
        context.output.progress(format!("{project}/{}: {}", deed.unit, deed.what));
    };
    context.output.progress("keeping the services of this state; Ctrl-C ends that, and they run on");
    reconciler::run(&context.roots, &context.variables, &context.cancel, &tell)?;
    Ok(SUCCESS)
}
