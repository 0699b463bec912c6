mod install;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde::Serialize;
use setpoint_runtime::reconciler::{self, Deed, Stay};

use super::SUCCESS;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::json;

/// What a daemon in the background says, within the root of the state.
const LOG: &str = "daemon.log";
/// How long that may be in bytes before it begins anew.
const LOG_MOST: u64 = 1024 * 1024;
/// How long a daemon may take to begin.
const BEGINS: Duration = Duration::from_secs(10);

/// Keep services running: start again what ends, as its restart policy says
#[derive(Debug, Args)]
pub(crate) struct Daemon {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Keep all services of this state, until Ctrl-C; they run on after that
    Run {
        /// End by itself when there is nothing left to be kept: how `up` starts it
        #[arg(long)]
        while_needed: bool,
    },
    /// Say whether a daemon runs
    Status,
    /// Have systemd start the daemon with this machine, and now
    Install {
        /// Only show the unit that would be written
        #[arg(long)]
        print: bool,
    },
    /// Have systemd start it no more, and end it
    Uninstall,
    /// End the daemon; what it keeps runs on, and is not started again until there is one
    Stop,
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
            What::Run { while_needed: false } => keep(context, Stay::UntilAsked),
            What::Run { while_needed: true } => {
                // It outlives the terminal that it was started in; where it has no such thing, nothing is lost.
                let _ = rustix::process::setsid();
                keep(context, Stay::WhileNeeded)
            }
            What::Install { print: true } => {
                context.output.line(install::unit(context)?.trim_end());
                Ok(SUCCESS)
            }
            What::Install { print: false } => {
                install::install(context)?.iter().for_each(|done| context.output.note(done));
                Ok(SUCCESS)
            }
            What::Uninstall => {
                context.output.note(match install::uninstall(context)? {
                    Some(path) => format!("removed {}", path.display()),
                    None => "systemd knows of no daemon for this state".to_owned(),
                });
                Ok(SUCCESS)
            }
            What::Stop => {
                let ended = end(context)?;
                context.output.note(if ended { "the daemon has ended" } else { "no daemon runs" });
                Ok(SUCCESS)
            }
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

/// Has a daemon run, in the background where none does yet.
pub(super) fn ensure(context: &Context) -> Result<(), Failure> {
    if reconciler::is_running(&context.roots) {
        return Ok(());
    }
    let log = context.roots.state.join(LOG);
    let failed = |why: String| {
        Failure::new(Exit::Engine, "daemon", format!("there is no daemon to keep what runs: {why}"))
            .hint("`setpoint daemon run` says more; `setpoint up --no-daemon` does without one")
    };
    let unusable = |error: io::Error| failed(format!("{}: {error}", log.display()));
    let is_long = fs::metadata(&log).is_ok_and(|metadata| metadata.len() > LOG_MOST);
    let mut options = File::options();
    let options = options.create(true).write(true).append(!is_long).truncate(is_long).mode(0o600);
    let output = options.open(&log).map_err(unusable)?;
    let errors = output.try_clone().map_err(unusable)?;
    let mut command = Command::new("/proc/self/exe");
    command.args(["daemon", "run", "--while-needed"]).current_dir("/");
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    let mut child = command.spawn().map_err(|error| failed(format!("it cannot be started: {error}")))?;
    let began = Instant::now();
    // Another one may have been quicker, and is as good.
    while !reconciler::is_running(&context.roots) {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(failed(format!("it ended at once ({status}), see {}", log.display())));
        }
        if began.elapsed() > BEGINS {
            return Err(failed(format!("it does not begin, see {}", log.display())));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Ends the daemon for good.
pub(super) fn remove(context: &Context) -> Result<(), Failure> {
    install::uninstall(context)?;
    end(context).map(drop)
}

/// Ends the daemon, if one runs; says whether one did.
pub(super) fn end(context: &Context) -> Result<bool, Failure> {
    reconciler::end(&context.roots).map_err(|error| {
        Failure::new(Exit::State, "daemon", format!("the daemon of this state cannot be ended: {error}"))
            .hint("end its process `setpoint daemon run`")
    })
}

fn keep(context: &Context, stay: Stay) -> Result<u8, Failure> {
    context.stop_on_signals()?;
    let tell = |deed: &Deed| {
        let project = deed.project_root.file_name().unwrap_or_default().to_string_lossy();
        context.output.progress(format!("{project}/{}: {}", deed.unit, deed.what));
    };
    if stay == Stay::UntilAsked {
        context.output.progress("keeping the services of this state; Ctrl-C ends that, and they run on");
    }
    reconciler::run(&context.roots, &context.variables, stay, &context.cancel, &tell)?;
    Ok(SUCCESS)
}
