//! Entering a unit that runs: who goes in, with which environment, and the hook that a session brings with it.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use setpoint_model::manifest::Hook;
use setpoint_model::names::HookName;
use setpoint_runtime::engine::{Ended, ExecSpec, Io, Labels, Process, Seen};
use setpoint_runtime::events::{Event, Watcher};
use setpoint_runtime::guest::Guest;
use setpoint_runtime::observe::Unit;
use setpoint_runtime::supervise::Failed;

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::events::LiveList;

/// Who enters a unit: the user that was applied, or another one.
pub(super) fn guest(context: &Context, unit: &Unit<'_>, user: Option<&str>) -> Result<Guest, Failure> {
    let guest = Guest::new(unit, user)?;
    if let Some(error) = &guest.unread {
        context.output.progress(format!("what was applied for sessions cannot be read: {error}"));
    }
    Ok(guest)
}

/// Runs a hook as a session would.
pub(super) fn run(
    context: &Context,
    unit: &Unit<'_>,
    guest: &Guest,
    (name, hook): (HookName, &Hook),
    watcher: &dyn Watcher,
) -> Result<(), Failed> {
    let (phase, detail) = (name.to_string(), hook.run.to_string());
    watcher.event(&Event::Began { phase: phase.clone(), detail: detail.clone() });
    let began = Instant::now();
    let result = guest.runner(unit, watcher, &context.cancel).hook(name, hook);
    let took = began.elapsed();
    watcher.event(&match &result {
        Ok(()) => Event::Done { phase, detail, took },
        Err(failed) => Event::Failed { phase, detail, how: failed.failure.to_string(), took },
    });
    result
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
    if let Err(failed) = run(context, unit, guest, (name, hook), &list) {
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
