//! Running hooks and packs: where they run, as whom, with what; their output, their deadline, their end.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use setpoint_model::manifest::{Act, Before, Command, EnvValue, FirstBootStep, Hook};
use setpoint_model::names::{HookName, PackName};
use setpoint_model::plan::first_boot_owner;

use crate::cancel::Cancel;
use crate::engine::{Account, Ended, Engine, EngineError, ExecSpec, Io, Process, UnitId};
use crate::events::{Event, Watcher};
use crate::host;
use crate::lines;
use crate::logs::Log;
use crate::secrets::{Mask, Values, expand};

/// Asks a process to end.
const SIGTERM: u8 = 15;
/// How long a phase may take to end after it was asked to, before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// How long the output, or the end, of a phase is waited for before cancellation and deadlines are looked at.
const TICK: Duration = Duration::from_millis(20);
/// How many of the last lines of a failed phase are shown.
const TAIL: usize = 12;
/// How long the output of a phase that ended is still waited for; what it left in the background may hold it open.
const DRAIN: Duration = Duration::from_millis(200);

/// Sources the library and the pack, then calls the pack's function where it defines one. Arguments: the
/// library's path (empty if there is none), the pack's path, the pack's name with `_` for `-`.
const PACK_RUNNER: &str = r#"
if [ -z "${SETPOINT_PACK_SHELL:-}" ] && command -v bash >/dev/null 2>&1; then
  SETPOINT_PACK_SHELL=bash exec bash -c "$0" "$0" "$@"
fi
set -e
unset SETPOINT_PACK_SHELL
setpoint_library=$1 setpoint_script=$2 setpoint_function=$3
set --
if [ -n "$setpoint_library" ]; then . "$setpoint_library"; fi
. "$setpoint_script"
for setpoint_candidate in "pack_${setpoint_function}_ensure" "tart_pack_${setpoint_function}_ensure"; do
  if command -v "$setpoint_candidate" >/dev/null 2>&1; then
    "$setpoint_candidate"
    break
  fi
done
"#;

/// Why a phase did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// It ended badly.
    Ended(Ended),
    /// It ran past its deadline and was stopped.
    TimedOut(Duration),
    /// It was stopped on request.
    Cancelled,
    /// The service did not come to what it needs.
    NotReady(String),
    /// It could not be run.
    Engine(EngineError),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ended(ended) => ended.fmt(f),
            Self::TimedOut(limit) => write!(f, "timed out after {}s", limit.as_secs_f64()),
            Self::Cancelled => f.write_str("stopped"),
            Self::NotReady(why) => f.write_str(why),
            Self::Engine(error) => error.fmt(f),
        }
    }
}

/// A phase that did not succeed, with the end of what it said.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub failure: Failure,
    /// Its last lines, masked.
    pub tail: Vec<String>,
}

/// Runs the phases of one unit.
pub struct Runner<'a> {
    /// The engine that holds the unit.
    pub engine: &'a dyn Engine,
    /// The unit.
    pub unit: &'a UnitId,
    /// The folder of the project's files on the host, where what runs there begins.
    pub files: &'a Path,
    /// Where the project appears inside.
    pub workspace: &'a Path,
    /// Who hooks run as.
    pub account: &'a Account,
    /// The environment of sessions, secrets put in.
    pub session: &'a BTreeMap<String, String>,
    /// The environment of the container itself, for what refers to it.
    pub inside: &'a BTreeMap<String, String>,
    /// The values of secrets, for what a hook's own environment refers to.
    pub secrets: &'a Values,
    /// Hides them in output.
    pub mask: Mask,
    /// Hears the output.
    pub watcher: &'a dyn Watcher,
    /// Stops it.
    pub cancel: &'a Cancel,
    /// The folder of the unit's logs.
    pub logs: PathBuf,
}

impl Runner<'_> {
    /// Runs a hook; a parallel one fails as a whole.
    ///
    /// # Errors
    /// [`Failed`] with the end of its output.
    pub fn hook(&self, name: HookName, hook: &Hook) -> Result<(), Failed> {
        let last = Before {
            run: hook.run.clone(),
            env: hook.env.clone(),
            user: hook.user.clone(),
            folder: hook.folder.clone(),
        };
        // A log that cannot be written is no reason to fail the work that it would tell of.
        let mut log = Log::begin(&self.logs, name.as_str()).ok();
        for one in hook.before.iter().chain([&last]) {
            let mut running = Vec::new();
            for (part, command) in one.run.commands() {
                let spec = self.spec(name, one, command);
                let started = match name {
                    HookName::Initialize => host::spawn(&spec, self.files),
                    _ => self.engine.exec(self.unit, &spec),
                };
                match started {
                    Ok(process) => running.push((part.map(str::to_owned), process)),
                    Err(error) => return Err(not_run(error)),
                }
            }
            log = self.supervise(name.as_str(), log, running, hook.timeout)?;
        }
        Ok(())
    }

    /// Runs the command of a step of a first boot, where it is to run.
    ///
    /// # Errors
    /// [`Failed`] with the end of its output.
    pub fn first_boot(&self, step: &FirstBootStep) -> Result<(), Failed> {
        let user = match &step.act {
            Act::Run { user: Some(user), .. } => user.clone(),
            Act::Owner { .. } => "root".to_owned(),
            _ => self.account.name.clone(),
        };
        let spec = ExecSpec {
            argv: step.act.argv(),
            env: self.session.clone(),
            cwd: None,
            user: Some(user),
            io: Io::Captured,
        };
        let started = match &step.act {
            Act::Host { .. } => host::spawn(&spec, self.files),
            Act::Run { .. } | Act::Wait { .. } | Act::Owner { .. } => self.engine.exec(self.unit, &spec),
        };
        self.alone(&first_boot_owner(&step.name).replace(' ', "-"), started, step.timeout)
    }

    /// Runs a command inside, as the account.
    ///
    /// # Errors
    /// [`Failed`] with the end of its output.
    pub fn inside(&self, phase: &str, argv: Vec<String>, limit: Duration) -> Result<(), Failed> {
        let (env, user) = (self.session.clone(), Some(self.account.name.clone()));
        let spec = ExecSpec { argv, env, cwd: None, user, io: Io::Captured };
        self.alone(phase, self.engine.exec(self.unit, &spec), Some(limit))
    }

    /// Runs a pack as root.
    ///
    /// # Errors
    /// [`Failed`] with the end of its output.
    pub fn pack(&self, name: &PackName, has_library: bool) -> Result<(), Failed> {
        let packs = self.workspace.join(".setpoint/packs");
        let path = |file: &str| packs.join(file).to_string_lossy().into_owned();
        let library = if has_library { path("_lib.sh") } else { String::new() };
        let function = name.as_str().replace('-', "_");
        let mut env = self.session.clone();
        env.insert("HOME".to_owned(), "/root".to_owned());
        env.insert("USER".to_owned(), "root".to_owned());
        env.insert("LOGNAME".to_owned(), "root".to_owned());
        env.insert("SETPOINT_PACK".to_owned(), name.to_string());
        env.insert("SETPOINT_USER".to_owned(), self.account.name.clone());
        let script = path(&format!("{name}.sh"));
        let argv = ["/bin/sh", "-c", PACK_RUNNER, PACK_RUNNER, &library, &script, &function];
        let spec = ExecSpec {
            argv: argv.map(str::to_owned).to_vec(),
            env,
            cwd: None,
            user: Some("root".to_owned()),
            io: Io::Captured,
        };
        self.alone(&format!("pack-{name}"), self.engine.exec(self.unit, &spec), None)
    }

    fn spec(&self, name: HookName, one: &Before, command: &Command) -> ExecSpec {
        let own = one.env.iter().map(|(key, value)| (key.clone(), expand(value, self.secrets, self.inside)));
        ExecSpec {
            argv: self.argv(name, command),
            env: self.session.clone().into_iter().chain(own).collect(),
            cwd: one.folder.as_ref().map(PathBuf::from),
            user: Some(one.user.clone().unwrap_or_else(|| self.account.name.clone())),
            io: Io::Captured,
        }
    }

    fn argv(&self, name: HookName, command: &Command) -> Vec<String> {
        let folder = if name == HookName::Initialize { self.files } else { self.workspace };
        // What a devcontainer.json says of the container's environment is known only now.
        let known = |text: &str| {
            if name == HookName::Initialize {
                return text.to_owned();
            }
            expand(&EnvValue::of_devcontainer(text), &Values::new(), self.inside)
        };
        match command {
            Command::Argv { argv } => argv.iter().map(|word| known(word)).collect(),
            Command::Shell { text } => vec!["/bin/sh".to_owned(), "-c".to_owned(), known(text)],
            Command::Script { path } => {
                let inside = folder.join(path).to_string_lossy().into_owned();
                if host::is_executable(&self.files.join(path)) {
                    vec![inside]
                } else {
                    vec!["/bin/sh".to_owned(), inside]
                }
            }
        }
    }

    /// Waits for the one process of a phase, in a log of its own.
    fn alone(
        &self,
        phase: &str,
        started: Result<Box<dyn Process>, EngineError>,
        limit: Option<Duration>,
    ) -> Result<(), Failed> {
        let process = started.map_err(not_run)?;
        let log = Log::begin(&self.logs, phase).ok();
        self.supervise(phase, log, vec![(None, process)], limit).map(drop)
    }

    /// Waits for processes, and gives back their log for those that follow.
    fn supervise(
        &self,
        phase: &str,
        log: Option<Log>,
        mut running: Vec<(Option<String>, Box<dyn Process>)>,
        limit: Option<Duration>,
    ) -> Result<Option<Log>, Failed> {
        let began = Instant::now();
        let mut output = Output::new(self, phase, log);
        for (part, process) in &mut running {
            output.follow(part.clone(), process.output());
        }
        output.sender = None;
        let mut failure: Option<Failure> = None;
        let mut stopping: Option<Instant> = None;
        while !running.is_empty() {
            // Who writes nothing more has mostly ended: then his end is what to wait for.
            let silent = output.pump(TICK);
            let mut index = 0;
            while index < running.len() {
                match running[index].1.wait(if silent { TICK } else { Duration::ZERO }) {
                    Ok(None) => index += 1,
                    Ok(Some(ended)) => {
                        running.remove(index);
                        if !ended.success() && failure.is_none() {
                            failure = Some(Failure::Ended(ended));
                        }
                    }
                    Err(error) => {
                        running.remove(index);
                        failure.get_or_insert(Failure::Engine(error));
                    }
                }
            }
            if failure.is_none() {
                failure = match limit {
                    _ if self.cancel.asked() => Some(Failure::Cancelled),
                    Some(limit) if began.elapsed() > limit && !running.is_empty() => {
                        Some(Failure::TimedOut(limit))
                    }
                    _ => None,
                };
            }
            if failure.is_some() {
                let since = *stopping.get_or_insert_with(|| {
                    running.iter_mut().for_each(|(_, process)| process.signal(SIGTERM));
                    Instant::now()
                });
                if since.elapsed() > GRACE || self.cancel.insisted() {
                    running.iter_mut().for_each(|(_, process)| process.kill());
                }
            }
        }
        output.finish();
        match failure {
            None => Ok(output.log),
            Some(failure) => Err(Failed { failure, tail: output.tail.into() }),
        }
    }
}

fn not_run(error: EngineError) -> Failed {
    Failed { failure: Failure::Engine(error), tail: Vec::new() }
}

/// Collects the lines of one or several processes: to the log, to the watcher, and the last few for an error.
struct Output<'a> {
    runner: &'a Runner<'a>,
    phase: String,
    log: Option<Log>,
    tail: VecDeque<String>,
    sender: Option<mpsc::Sender<(Option<String>, String)>>,
    lines: mpsc::Receiver<(Option<String>, String)>,
}

impl<'a> Output<'a> {
    fn new(runner: &'a Runner<'a>, phase: &str, log: Option<Log>) -> Self {
        let (sender, lines) = mpsc::channel();
        Self { runner, phase: phase.to_owned(), log, tail: VecDeque::new(), sender: Some(sender), lines }
    }

    fn follow(&self, part: Option<String>, output: Option<Box<dyn Read + Send>>) {
        let (Some(output), Some(sender)) = (output, self.sender.clone()) else { return };
        let mask = self.runner.mask.clone();
        std::thread::spawn(move || {
            lines::read(output, &mask, |line| {
                // Nobody listens any more once the phase has ended.
                let _ = sender.send((part.clone(), line));
            });
        });
    }

    fn line(&mut self, part: Option<String>, line: String) {
        let line = part.map_or_else(|| line.clone(), |part| format!("[{part}] {line}"));
        if let Some(log) = &mut self.log {
            log.line(&line);
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.clone());
        self.runner.watcher.event(&Event::Output { phase: self.phase.clone(), line });
    }

    /// Takes lines for this long at most; returns early when one came and no more wait. Tells whether nothing
    /// more can come.
    fn pump(&mut self, at_most: Duration) -> bool {
        match self.lines.recv_timeout(at_most) {
            Err(error) => return error == RecvTimeoutError::Disconnected,
            Ok((part, line)) => self.line(part, line),
        }
        while let Ok((part, line)) = self.lines.try_recv() {
            self.line(part, line);
        }
        false
    }

    fn finish(&mut self) {
        let until = Instant::now() + DRAIN;
        let left = || until.saturating_duration_since(Instant::now());
        while let Ok((part, line)) = self.lines.recv_timeout(left()) {
            self.line(part, line);
        }
    }
}
