//! The commands, one file each; a command's doc comment is its help.

mod adopt;
mod attach;
mod backup;
mod bundle;
mod cache;
mod check;
mod completions;
mod daemon;
mod disown;
mod doctor;
mod down;
mod events;
mod exec;
mod expected;
pub(crate) mod history;
mod import;
mod init;
mod logs;
mod man;
mod migrate;
mod open;
mod pipelines;
mod plan;
mod recover;
#[cfg(test)]
pub(crate) mod reference;
mod release;
mod render;
mod reprovision;
mod restart;
mod restore;
mod rollback;
mod run;
pub(crate) mod runs;
mod shell;
mod spec;
mod status;
mod stop;
mod trust;
mod uninstall;
mod up;
pub(crate) mod upgrade;
mod version;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::output::Output;

/// Keeps what runs equal to what is declared: says what is out of date, why, and does the least work that mends
/// it.
#[derive(Debug, Parser)]
#[command(name = "setpoint", version, disable_help_subcommand = false, infer_subcommands = false)]
pub(crate) struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Globals {
    /// The project's folder, if it is not this one or one above it
    #[arg(long, short = 'C', global = true, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// A value laid over the manifest: `--set env.dev.user=root`
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    assignments: Vec<String>,
    /// Speak JSON
    #[arg(long, global = true)]
    json: bool,
    /// Only results and errors
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Tell more; show the output of hooks as it comes
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Up),
    Plan(plan::Plan),
    Why(why::Why),
    Status(status::Status),
    Shell(shell::Shell),
    Run(run::Run),
    Pipelines(pipelines::Pipelines),
    Render(render::Render),
    Cache(cache::Cache),
    Spec(spec::Spec),
    Init(init::Init),
    Import(import::Import),
    Exec(exec::Exec),
    Logs(logs::Logs),
    Runs(runs::Runs),
    Check(check::Check),
    Stop(stop::Stop),
    Restart(restart::Restart),
    Adopt(adopt::Adopt),
    Disown(disown::Disown),
    Down(down::Down),
    Reprovision(reprovision::Reprovision),
    Release(release::Release),
    Upgrade(upgrade::UpgradeCommand),
    Rollback(rollback::Rollback),
    History(history::History),
    Migrate(migrate::Migrate),
    Recover(recover::Recover),
    Trust(trust::Trust),
    Backup(backup::Backup),
    Restore(restore::Restore),
    Bundle(bundle::BundleCommand),
    Daemon(daemon::Daemon),
    Events(events::Events),
    Open(open::Open),
    Doctor(doctor::Doctor),
    Uninstall(uninstall::Uninstall),
    Completions(completions::Completions),
    Man(man::Man),
    Version(version::Version),
}

/// Reads the command line, runs the command, and says how it ended.
pub(crate) fn run() -> ExitCode {
    let cli = match command_line().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let globals = cli.globals;
    let output = Output { json: globals.json, quiet: globals.quiet, verbose: globals.verbose };
    setpoint_runtime::failpoints::arm();
    let outcome = Context::new(output, globals.directory, globals.assignments)
        .and_then(|context| cli.command.run(&context));
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

impl Command {
    fn run(self, context: &Context) -> Result<u8, Failure> {
        match self {
            Self::Up(command) => command.run(context),
            Self::Plan(command) => command.run(context),
            Self::Why(command) => command.run(context),
            Self::Status(command) => command.run(context),
            Self::Shell(command) => command.run(context),
            Self::Run(command) => command.run(context),
            Self::Pipelines(command) => command.run(context),
            Self::Render(command) => command.run(context),
            Self::Cache(command) => command.run(context),
            Self::Spec(command) => command.run(context),
            Self::Init(command) => command.run(context),
            Self::Import(command) => command.run(context),
            Self::Exec(command) => command.run(context),
            Self::Logs(command) => command.run(context),
            Self::Runs(command) => command.run(context),
            Self::Check(command) => command.run(context),
            Self::Daemon(command) => command.run(context),
            Self::Stop(command) => command.run(context),
            Self::Restart(command) => command.run(context),
            Self::Adopt(command) => command.run(context),
            Self::Disown(command) => command.run(context),
            Self::Events(command) => command.run(context),
            Self::Open(command) => command.run(context),
            Self::Down(command) => command.run(context),
            Self::Reprovision(command) => command.run(context),
            Self::Release(command) => command.run(context),
            Self::Upgrade(command) => command.run(context),
            Self::Rollback(command) => command.run(context),
            Self::History(command) => command.run(context),
            Self::Migrate(command) => command.run(context),
            Self::Recover(command) => command.run(context),
            Self::Trust(command) => command.run(context),
            Self::Backup(command) => command.run(context),
            Self::Restore(command) => command.run(context),
            Self::Bundle(command) => command.run(context),
            Self::Doctor(command) => command.run(context),
            Self::Uninstall(command) => command.run(context),
            Self::Completions(command) => command.run(context),
            Self::Man(command) => command.run(context),
            Self::Version(command) => command.run(context),
        }
    }
}

/// The whole command line, for completions and man pages.
pub(crate) fn command_line() -> clap::Command {
    let codes = Exit::TABLE.map(|(exit, meaning)| format!("  {:>3}  {meaning}", exit as u8)).join("\n");
    Cli::command().after_long_help(format!("Exit codes:\n{codes}"))
}

/// The code of a command that ended well.
pub(crate) const SUCCESS: u8 = Exit::Success as u8;
