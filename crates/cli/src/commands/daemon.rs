mod install;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use setpoint_runtime::cancel::Cancel;
use setpoint_runtime::reconciler::{self, Post, Stay};
use setpoint_sandbox::with_short_path;

use super::SUCCESS;
use crate::api::client::Client;
use crate::api::{self, Hub};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::json;

/// What a daemon in the background says, within the root of the state.
const LOG: &str = "daemon.log";
/// How long that may be in bytes before it begins anew.
const LOG_MOST: u64 = 1024 * 1024;
/// How often is looked whether to end; four times that is given to what is under way.
const LEAVES: Duration = Duration::from_millis(500);
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
        /// Also speak HTTP on this address of this machine, with who has the token of the state
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<SocketAddr>,
    },
    /// Say whether a daemon runs
    Status,
    /// Have systemd start the daemon with this machine, and now
    Install {
        /// Only show the units that would be written
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
    /// Where it is spoken to.
    socket: Option<String>,
    /// Units by what they are shown as.
    units: BTreeMap<String, usize>,
}

impl Daemon {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        match self.what {
            What::Run { while_needed: false, listen } => keep(context, Stay::UntilAsked, listen),
            What::Run { while_needed: true, listen } => {
                // It outlives the terminal that it was started in; where it has no such thing, nothing is lost.
                let _ = rustix::process::setsid();
                keep(context, Stay::WhileNeeded, listen)
            }
            What::Install { print: true } => {
                let units = install::units(context)?.into_iter();
                let shown = units.map(|(path, text)| format!("# {}\n{}", path.display(), text.trim_end()));
                context.output.line(shown.collect::<Vec<_>>().join("\n\n"));
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
                let status = status(context);
                if context.output.json {
                    context.output.value(&status);
                } else {
                    context.output.line(words(&status));
                }
                Ok(if status.running { SUCCESS } else { Exit::NotFound as u8 })
            }
        }
    }
}

/// Ends this process a while after it was asked to, whatever it waits for: a service that takes minutes to stop is the
/// next daemon's, which goes on from what it finds, as after a power cut.
fn leave_when_asked(cancel: Cancel) {
    std::thread::spawn(move || {
        while !cancel.asked() {
            std::thread::sleep(LEAVES);
        }
        std::thread::sleep(LEAVES * 4);
        std::process::exit(i32::from(SUCCESS));
    });
}

/// Has a daemon run, in the background where none does yet.
pub(super) fn ensure(context: &Context) -> Result<(), Failure> {
    if reconciler::is_running(&context.roots) {
        return Ok(());
    }
    if is_started_by_systemd(context) {
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

/// Whether somebody listens for the daemon that does not run, and starts it now that it is asked.
fn is_started_by_systemd(context: &Context) -> bool {
    let socket = context.roots.state.join(api::SOCKET);
    let Ok(_asked) = with_short_path(&socket, UnixStream::connect) else { return false };
    let began = Instant::now();
    while !reconciler::is_running(&context.roots) && began.elapsed() < BEGINS {
        std::thread::sleep(Duration::from_millis(2));
    }
    reconciler::is_running(&context.roots)
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

/// Whether a daemon runs, and what it says of its units, if it says something.
fn status(context: &Context) -> Running {
    let running = reconciler::is_running(&context.roots);
    let socket = running.then(|| context.roots.state.join(api::SOCKET));
    let socket = socket.filter(|socket| socket.exists()).map(|socket| socket.display().to_string());
    let mut units = BTreeMap::new();
    if socket.is_some() {
        let said = Client::new(&context.roots).and_then(|client| client.ask("GET", "/v1/units"));
        let said = said.unwrap_or_default();
        let states = said["units"].as_array().into_iter().flatten();
        for state in states.filter_map(|unit| unit["state"]["state"].as_str()) {
            *units.entry(state.to_owned()).or_default() += 1;
        }
    }
    Running { setpoint: json::VERSION, running, socket, units }
}

fn words(status: &Running) -> String {
    if !status.running {
        return "no daemon runs".to_owned();
    }
    let socket = status.socket.as_ref().map(|socket| format!("\n  socket  {socket}")).unwrap_or_default();
    let counts = status.units.iter().map(|(state, count)| format!("{count} {}", state.replace('_', "-")));
    let counts = counts.collect::<Vec<_>>().join(", ");
    format!("a daemon runs{socket}\n  units   {}", if counts.is_empty() { "none" } else { &counts })
}

fn keep(context: &Context, stay: Stay, listen: Option<SocketAddr>) -> Result<u8, Failure> {
    let address = listen.map(listen_on).transpose()?;
    context.stop_on_signals()?;
    let post = Post::take(&context.roots)?;
    let hub = Arc::new(Hub::new(context.output, Timestamp::now().as_millisecond().to_string()));
    let api = api::start(context, Arc::clone(&hub), address)?;
    if stay == Stay::UntilAsked {
        context.output.progress("keeping the services of this state; Ctrl-C ends that, and they run on");
    }
    leave_when_asked(context.cancel.clone());
    reconciler::run(post, &context.roots, &context.variables, stay, &context.cancel, hub.as_ref())?;
    api.end(&context.cancel);
    Ok(SUCCESS)
}

/// Listens on an address that only this machine reaches.
fn listen_on(address: SocketAddr) -> Result<TcpListener, Failure> {
    if !address.ip().is_loopback() {
        let message =
            format!("{address} can be reached from outside, and what is said there is not encrypted");
        return Err(Failure::new(Exit::Usage, "listen", message).hint(
            "`--listen 127.0.0.1:7070`; from elsewhere, come by ssh: `ssh -L 7070:127.0.0.1:7070 HOST`",
        ));
    }
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Engine, "listen", format!("cannot listen on {address}: {error}"))
            .hint("choose another port, or end what listens there")
    };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}
