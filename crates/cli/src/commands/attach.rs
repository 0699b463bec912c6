//! Entering a unit that runs: who goes in, with which environment, and the hook that a session brings with it.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use setpoint_model::manifest::{EnvValue, Hook};
use setpoint_model::names::HookName;
use setpoint_runtime::engine::{Account, Ended, ExecSpec, Io, Labels, Process, Seen};
use setpoint_runtime::events::{Event, Watcher};
use setpoint_runtime::hooks::{Failed, Runner};
use setpoint_runtime::observe::Unit;
use setpoint_runtime::secrets::{Mask, Values};
use setpoint_runtime::session::Session;

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::events::LiveList;

/// Who enters a unit, and what is given to him.
pub(super) struct Guest {
    pub(super) account: Account,
    pub(super) variables: BTreeMap<String, String>,
    values: Values,
    inside: BTreeMap<String, String>,
}

impl Guest {
    /// The user that was applied, or another one, with the environment that was applied. Reads neither the
    /// state database nor any of the project's files, so that entering is fast.
    pub(super) fn new(context: &Context, unit: &Unit<'_>, user: Option<&str>) -> Result<Self, Failure> {
        let session = match Session::applied(&context.roots, &unit.id) {
            Ok(Some(session)) => session,
            Ok(None) => declared(unit),
            Err(error) => {
                context.output.progress(format!("what was applied for sessions cannot be read: {error}"));
                declared(unit)
            }
        };
        let account = unit.engine.account(&unit.id, user.unwrap_or(&session.user))?;
        let of_session = session.secrets();
        let of_hooks = unit.env.hooks.values().flat_map(|hook| hook.env.values()).flat_map(EnvValue::secrets);
        let values = unit.secrets().kept_values(of_session.iter().chain(of_hooks))?;
        let workspace = Path::new(&unit.env.workspace);
        let inside = unit.environment_inside()?;
        let variables = session.variables(unit.env.name.as_str(), &account, workspace, &values, &inside);
        Ok(Self { account, variables, values, inside })
    }

    /// Runs a hook as a session would.
    pub(super) fn run(
        &self,
        context: &Context,
        unit: &Unit<'_>,
        name: HookName,
        hook: &Hook,
        watcher: &dyn Watcher,
    ) -> Result<(), Failed> {
        let (phase, detail) = (name.to_string(), hook.run.to_string());
        watcher.event(&Event::Began { phase: phase.clone(), detail: detail.clone() });
        let began = Instant::now();
        let runner = Runner {
            engine: unit.engine,
            unit: &unit.id,
            files: &unit.project.files,
            workspace: Path::new(&unit.env.workspace),
            account: &self.account,
            session: &self.variables,
            inside: &self.inside,
            secrets: &self.values,
            mask: Mask::new(&self.values),
            watcher,
            cancel: &context.cancel,
            logs: unit.logs(),
        };
        let result = runner.hook(name, hook);
        let took = began.elapsed();
        watcher.event(&match &result {
            Ok(()) => Event::Done { phase, detail, took },
            Err(failed) => Event::Failed { phase, detail, how: failed.failure.to_string(), took },
        });
        result
    }
}

fn declared(unit: &Unit<'_>) -> Session {
    let owner = || unit.engine.default_user(&unit.project.root);
    let user = unit.env.user.clone().unwrap_or_else(owner);
    Session::declared(unit.env, unit.project.manifest.project.name.as_str(), &user)
}

/// What a unit carries, if it runs.
pub(super) fn running(unit: &Unit<'_>) -> Result<Labels, Failure> {
    let name = &unit.env.name;
    let (message, hint) = match unit.engine.observe(&unit.id)? {
        Seen::Running(labels) => return Ok(labels),
        Seen::Stopped(_) => (format!("{name} is not running"), format!("`setpoint up {name}` starts it")),
        Seen::Absent => (format!("there is no {name} yet"), format!("`setpoint up {name}` makes it")),
    };
    Err(Failure::new(Exit::NotFound, "unit-state", message).hint(hint))
}

/// Runs the `post_attach` hook before a session. If it fails, that is told, and the session opens all the same.
pub(super) fn attach(context: &Context, unit: &Unit<'_>, guest: &Guest) {
    let name = HookName::PostAttach;
    let Some(hook) = unit.env.hooks.get(&name) else { return };
    let list = LiveList::new(context.output);
    if let Err(failed) = guest.run(context, unit, name, hook, &list) {
        drop(list);
        tell(context, unit, name, &failed);
    }
}

/// Shows the end of what a hook said that failed.
pub(super) fn tell(context: &Context, unit: &Unit<'_>, name: HookName, failed: &Failed) {
    let output = context.output;
    output.progress("");
    for line in &failed.tail {
        output.progress(format!("  | {line}"));
    }
    output.progress(format!("  all output: setpoint logs {} {name}\n", unit.env.name));
}

/// Runs a process to its end and gives its exit code.
pub(super) fn enter(unit: &Unit<'_>, spec: &ExecSpec) -> Result<u8, Failure> {
    let mut process = unit.engine.exec(&unit.id, spec)?;
    let ended = if spec.io == Io::Terminal {
        join(process.as_mut())?
    } else {
        let mut signals = passed_on()?;
        loop {
            if let Some(ended) = process.wait(Duration::from_millis(50))? {
                break ended;
            }
            signals
                .pending()
                .filter_map(|signal| u8::try_from(signal).ok())
                .for_each(|signal| process.signal(signal));
        }
    };
    Ok(u8::try_from(ended.code()).unwrap_or(Exit::Failed as u8))
}

/// Joins this terminal to a process's own, until it ends.
pub(super) fn join(process: &mut dyn Process) -> Result<Ended, Failure> {
    let resized = Arc::default();
    signal_hook::flag::register(signal_hook::consts::SIGWINCH, Arc::clone(&resized))
        .map_err(|error| Failure::new(Exit::Engine, "signals", error.to_string()))?;
    Ok(process.attach(&resized)?)
}

/// The signals that are for the command rather than for this process. A Ctrl-C on a terminal reaches the command
/// by itself; then this process only has to outlive it.
fn passed_on() -> Result<signal_hook::iterator::Signals, Failure> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
    let failed = |error: std::io::Error| Failure::new(Exit::Engine, "signals", error.to_string());
    let signals = signal_hook::iterator::Signals::new([SIGHUP, SIGTERM, SIGUSR1, SIGUSR2]).map_err(failed)?;
    if std::io::stdin().is_terminal() {
        signal_hook::flag::register(SIGINT, Arc::default()).map_err(failed)?;
    } else {
        signals.add_signal(SIGINT).map_err(failed)?;
    }
    Ok(signals)
}

/// Gives a terminal's kind to what runs on it.
pub(super) fn add_terminal(context: &Context, variables: &mut BTreeMap<String, String>) {
    for name in ["TERM", "COLORTERM"] {
        if let (false, Some(value)) = (variables.contains_key(name), context.variables.get(name)) {
            variables.insert(name.to_owned(), value.clone());
        }
    }
}
