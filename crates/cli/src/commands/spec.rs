mod coverage;
mod init;
mod status;
mod verify;

use clap::{Args, Subcommand};
use setpoint_runtime::spec::{Event, SpecError, Specs, Surroundings};

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::output::Output;
use crate::run_view::text::clean;

/// Verify what has to hold, by the tests that show it: `specs/*.toml`
#[derive(Debug, Args)]
pub(crate) struct Spec {
    #[command(subcommand)]
    command: SpecCommand,
}

#[derive(Debug, Subcommand)]
enum SpecCommand {
    Verify(verify::Verify),
    Coverage(coverage::Coverage),
    Status(status::Status),
    Init(init::Init),
}

impl Spec {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        match self.command {
            SpecCommand::Verify(verify) => verify.run(context),
            SpecCommand::Coverage(coverage) => coverage.run(context),
            SpecCommand::Status(status) => status.run(context),
            SpecCommand::Init(init) => init.run(context),
        }
    }
}

impl From<SpecError> for Failure {
    fn from(error: SpecError) -> Self {
        let (message, hint) = (error.to_string(), error.hint());
        let failure = match error {
            SpecError::Project(error) => return error.into(),
            SpecError::Store(error) => return error.into(),
            SpecError::Problems(problems) => Self { problems, ..Self::new(Exit::Manifest, "specs", message) },
            SpecError::None(_) => Self::new(Exit::NotFound, "no-specs", message),
            SpecError::Unknown { .. } => Self::new(Exit::NotFound, "no-spec", message),
            SpecError::NoTests(_) => Self::new(Exit::NotFound, "no-tests", message),
            SpecError::Exist(_) => Self::new(Exit::Usage, "specs-exist", message),
            SpecError::Report { .. } => Self::new(Exit::Usage, "report", message),
            SpecError::Io { .. } => Self::new(Exit::Engine, "file", message),
            SpecError::NoRunner { .. } => Self::new(Exit::Engine, "no-runner", message),
            SpecError::Runner { .. } => Self::new(Exit::Failed, "runner", message),
            SpecError::Source(_) => Self::new(Exit::Engine, "source", message),
            SpecError::Cancelled => Self::new(Exit::Interrupted, "interrupted", message),
        };
        Self { hint, ..failure }
    }
}

/// The specs of the present folder.
fn specs(context: &Context) -> Result<Specs, Failure> {
    Ok(Specs::load(&context.roots, &context.folder, &context.assignments)?)
}

/// What specs are worked on with.
fn surroundings<'a>(context: &'a Context, told: &'a dyn Fn(Event<'_>)) -> Surroundings<'a> {
    Surroundings { roots: &context.roots, variables: &context.variables, cancel: &context.cancel, told }
}

/// Says what is going on, for whoever waits for it.
fn tell(output: Output) -> impl Fn(Event<'_>) {
    move |event| match event {
        Event::Listing(runner) => output.progress(format!("{runner}: looking which tests there are")),
        Event::Running(runner, 1) => output.progress(format!("{runner}: running 1 test")),
        Event::Running(runner, tests) => output.progress(format!("{runner}: running {tests} tests")),
        Event::Said(line) if output.verbose > 0 => output.progress(clean(line)),
        Event::Said(_) => {}
    }
}
