use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use setpoint_model::manifest::EnvValue;
use setpoint_model::names::StepName;
use setpoint_model::pipeline::ir::Pipeline;
use setpoint_model::pipeline::outcome::RunOutcome;
use setpoint_runtime::engine::Engine;
use setpoint_runtime::pipeline::{Finished, Options, Planned, Runner, shell};

use super::{SUCCESS, attach, pipelines};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::json;
use crate::output::{can_ask, span};
use crate::run_view::RunView;

/// Run a pipeline: the steps that something has changed for, and no others
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The pipeline; may be left out where there is only one
    pipeline: Option<String>,
    /// Only this step, and all that it depends on; may be given several times
    #[arg(long = "step", value_name = "STEP")]
    steps: Vec<String>,
    /// How many steps run side by side; as many as there are processors, if nothing is said
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Go on with the steps that do not depend on one that failed
    #[arg(long, short)]
    keep_going: bool,
    /// Take no earlier result; what is made is kept
    #[arg(long)]
    no_cache: bool,
    /// Ask registries what the images of steps mean now
    #[arg(long)]
    pull: bool,
    /// How long the run may take, such as `10m`
    #[arg(long, value_name = "DURATION", value_parser = pipelines::duration)]
    timeout: Option<Duration>,
    /// Hand the artifacts out to this folder, each step's in one of its name
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// A variable laid over those of every step; may be given several times
    #[arg(long = "env", short, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// What led to the run, for steps with `when`
    #[arg(long, value_name = "NAME", default_value = "manual")]
    event: String,
    /// A pipeline from a file, as `render` prints it
    #[arg(long, value_name = "FILE")]
    ir: Option<PathBuf>,
    /// Only say which steps would run
    #[arg(long)]
    dry_run: bool,
    /// After a failure, open a shell in the step that failed, as it left everything
    #[arg(long)]
    shell_on_fail: bool,
    /// Plain lines, also on a terminal
    #[arg(long)]
    plain: bool,
}

/// `run --dry-run`.
#[derive(Debug, Serialize)]
struct Plans {
    setpoint: u32,
    pipeline: String,
    steps: Vec<StepPlan>,
}

/// A step in `run --dry-run`.
#[derive(Debug, Serialize)]
struct StepPlan {
    step: String,
    /// `cached`, `run`, `follows`, `skipped`.
    planned: &'static str,
    /// The step that it follows, or what of its `when` does not hold.
    because: Option<String>,
    /// Its key, if all that it builds on is there.
    key: Option<String>,
    /// How long it took when it ran last, in seconds.
    saved: Option<f64>,
}

impl Run {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        if self.shell_on_fail && !can_ask() {
            let failure = Failure::new(
                Exit::Usage,
                "no-terminal",
                "`--shell-on-fail` needs a terminal, and this is none",
            );
            return Err(failure.hint("leave it out; `setpoint runs logs` has all output"));
        }
        context.stop_on_signals()?;
        let (project, pipeline) = pipelines::chosen(context, self.pipeline.as_deref(), self.ir.as_deref())?;
        let engine = context.engine(project.manifest.engine);
        let runner = pipelines::runner(context, engine.as_ref(), &project);
        let options = self.options(context)?;
        if self.dry_run {
            return plan(context, &runner, &pipeline, &options);
        }
        self.check_output(&options, &pipeline, &project.root)?;
        let mut view = RunView::choose(context.output, self.plain);
        let finished = runner.run(&pipeline, &options, view.as_mut())?;
        drop(view);
        let outcome = finished.report.outcome;
        if self.shell_on_fail {
            let looked = look_inside(context, engine.as_ref(), &finished);
            runner.end(finished)?;
            looked?;
        }
        Ok(match outcome {
            RunOutcome::Passed => SUCCESS,
            RunOutcome::Failed => Exit::Failed as u8,
            RunOutcome::TimedOut => Exit::TimedOut as u8,
            RunOutcome::Cancelled => Exit::Interrupted as u8,
            RunOutcome::Errored => Exit::Engine as u8,
        })
    }

    /// What can be said of the folder of artifacts before anything runs.
    fn check_output(&self, options: &Options, pipeline: &Pipeline, project: &Path) -> Result<(), Failure> {
        let Some(output) = &options.output else { return Ok(()) };
        let usage = |message: String| Failure::new(Exit::Usage, "output", message);
        if output.exists() && !output.is_dir() {
            return Err(usage(format!("`--output {}` is not a folder", output.display())));
        }
        if pipeline.steps.iter().all(|step| step.artifacts.is_empty()) {
            let message =
                format!("`--output` is for artifacts, and no step of {} declares any", pipeline.name);
            return Err(usage(message).hint("declare some: `artifacts = [\"dist/**\"]`"));
        }
        if *output == *project {
            return Err(usage("artifacts cannot go to the project's own folder".to_owned())
                .hint("a folder that git ignores, such as `--output out`"));
        }
        Ok(())
    }

    fn options(&self, context: &Context) -> Result<Options, Failure> {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let usage = |message: String| Failure::new(Exit::Usage, "usage", message);
        let step = |name: &String| StepName::new(name.clone()).map_err(|error| usage(error.to_string()));
        Ok(Options {
            steps: self.steps.iter().map(step).collect::<Result<_, _>>()?,
            jobs: self.jobs.map_or(processors, usize::from),
            keep_going: self.keep_going,
            no_cache: self.no_cache,
            pull: self.pull,
            timeout: self.timeout,
            output: self.output.as_ref().map(|folder| context.folder.join(folder)),
            env: variables(&self.env).map_err(usage)?,
            event: self.event.clone(),
            keep_failed: self.shell_on_fail,
        })
    }
}

/// Variables as they are given on the command line. They are taken as they are: no secret is put into them.
fn variables(given: &[String]) -> Result<BTreeMap<String, EnvValue>, String> {
    let variable = |text: &String| {
        let (name, value) = text.split_once('=').ok_or_else(|| format!("`--env {text}` has no `=`"))?;
        if name.is_empty() || name.contains(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            return Err(format!("`{name}` cannot be the name of a variable"));
        }
        let value = EnvValue::try_from(value.replace("${", "$${")).map_err(|error| error.to_string())?;
        Ok((name.to_owned(), value))
    };
    given.iter().map(variable).collect()
}

fn plan(
    context: &Context,
    runner: &Runner<'_>,
    pipeline: &Pipeline,
    options: &Options,
) -> Result<u8, Failure> {
    let steps = runner.plan(pipeline, options)?;
    if context.output.json {
        let steps = steps.iter().map(|step| {
            let (planned, because, saved) = match &step.planned {
                Planned::Cached(row) => ("cached", None, Some(row.took.as_secs_f64())),
                Planned::Run => ("run", None, None),
                Planned::Follows(parent) => ("follows", Some(parent.to_string()), None),
                Planned::Skipped(why) => ("skipped", Some(why.clone()), None),
            };
            let key = step.key.as_ref().map(|key| key.digest().to_hex());
            StepPlan { step: step.step.to_string(), planned, because, key, saved }
        });
        let steps = steps.collect();
        let pipeline = pipeline.name.to_string();
        context.output.value(&Plans { setpoint: json::VERSION, pipeline, steps });
        return Ok(SUCCESS);
    }
    let width = steps.iter().map(|step| step.step.as_str().len()).max().unwrap_or(0);
    for step in &steps {
        let name = step.step.as_str();
        context.output.line(match &step.planned {
            Planned::Cached(row) => format!("  cached   {name:<width$}  saves {}", span(row.took)),
            Planned::Run => format!("  run      {name}"),
            Planned::Follows(parent) => format!("  run      {name:<width$}  because {parent} runs"),
            Planned::Skipped(why) => format!("  skip     {name:<width$}  {why}"),
        });
    }
    context.output.note(format!("Next: setpoint run {}", pipeline.name));
    Ok(SUCCESS)
}

/// A shell in the step that failed, as it left everything.
fn look_inside(context: &Context, engine: &dyn Engine, finished: &Finished) -> Result<(), Failure> {
    let Some((step, failed)) = &finished.failed else { return Ok(()) };
    context
        .output
        .progress(format!("A shell in {step}, as it ended; `exit` leaves it, and nothing of it is kept."));
    let mut failed = failed.clone();
    attach::add_terminal(context, &mut failed.env);
    let argv = ["/bin/sh", "-c", "if command -v bash >/dev/null; then exec bash; fi; exec sh"];
    let argv: Vec<String> = argv.map(str::to_owned).to_vec();
    let mut process = shell(engine, &failed, &argv)?;
    attach::join(process.as_mut())?;
    Ok(())
}
