use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use setpoint_model::manifest::EnvValue;
use setpoint_model::names::StepName;
use setpoint_model::pipeline::ir::Pipeline;
use setpoint_model::pipeline::outcome::RunOutcome;
use setpoint_runtime::pipeline::events::{Event, Listener};
use setpoint_runtime::pipeline::{Options, Runner};
use setpoint_runtime::store::cache::Bounds;

use crate::context::Context;
use crate::error::{Exit, Failure};

/// Run a pipeline: the steps that something has changed for, and not the others
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The pipeline; may be left out where there is only one
    pipeline: Option<String>,
    /// Only this step, and all that it depends on; may be repeated
    #[arg(long = "step", value_name = "STEP")]
    steps: Vec<String>,
    /// How many steps run side by side
    #[arg(long, short, default_value_t = 2)]
    jobs: usize,
    /// Go on with the steps that do not depend on one that failed
    #[arg(long, short)]
    keep_going: bool,
    /// Take no earlier result
    #[arg(long)]
    no_cache: bool,
    /// A pipeline from a file, as `render` prints it
    #[arg(long, value_name = "FILE")]
    ir: Option<PathBuf>,
}

struct Plain;

impl Listener for Plain {
    fn hear(&mut self, event: &Event) {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{event:?}\n").as_bytes());
    }
}

impl Run {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let text = std::fs::read_to_string(self.ir.clone().unwrap_or_default()).unwrap_or_default();
        let pipeline = Pipeline::parse(&text)
            .map_err(|problems| Failure { problems, ..Failure::new(Exit::Manifest, "ir", "bad pipeline") })?;
        context.stop_on_signals()?;
        let engine = context.engine();
        let runner = Runner {
            roots: &context.roots,
            engine: &engine,
            project_root: &context.folder,
            secrets: &BTreeMap::new(),
            variables: &context.variables,
            home: context.home.as_deref(),
            bounds: Bounds { bytes: 20 << 30, age: Duration::from_secs(30 * 86_400) },
            cancel: &context.cancel,
        };
        let options = Options {
            steps: self.steps.iter().filter_map(|name| StepName::new(name.clone()).ok()).collect(),
            jobs: self.jobs,
            keep_going: self.keep_going,
            no_cache: self.no_cache,
            env: BTreeMap::<String, EnvValue>::new(),
            ..Options::default()
        };
        let finished = runner
            .run(&pipeline, &options, &mut Plain)
            .map_err(|error| Failure::new(Exit::Engine, "run", error.to_string()))?;
        Ok(match finished.report.outcome {
            RunOutcome::Passed => 0,
            RunOutcome::Cancelled => 130,
            _ => 1,
        })
    }
}
