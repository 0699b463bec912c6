use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use setpoint_model::manifest::EngineKind;
use setpoint_model::names::SecretName;
use setpoint_runtime::apply::STOP_GRACE;
use setpoint_runtime::backup::{self, BackupError};
use setpoint_runtime::engine::adoption::Adopted;
use setpoint_runtime::engine::{Labels, UnitId};
use setpoint_runtime::lock::{self, UnitLock};
use setpoint_runtime::pipeline;
use setpoint_runtime::remove::remove_all;
use setpoint_runtime::upgrade;

use super::{SUCCESS, daemon};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::events::LiveList;
use crate::json;
use crate::output::{ask, can_ask};

/// What is ours within the root of the state. The database's files all begin with `state.`.
const OF_STATE: [&str; 37] = [
    "adopted",
    "api.sock",
    "api.token",
    "aside",
    "backups",
    "bases",
    "beside",
    "blobs",
    "cache_dirs",
    "cas",
    "daemon.lock",
    "daemon.log",
    "daemon.sock",
    "dsl",
    "engines",
    "features",
    "images",
    "layers",
    "leases",
    "logs",
    "networks",
    "ports",
    "run",
    "releases",
    "runs",
    "saved",
    "scratch",
    "sdk",
    "secrets",
    "sessions",
    "snapshots",
    "source",
    "stand-ins",
    "stat",
    "tmp",
    "units",
    "locks",
];
/// The database of the state.
const DATABASE: &str = "state.db";
/// What services keep, within the root of the state, which of it is in effect, and what was done to it: nobody's to remove but
/// the user's.
const OF_SERVICES: [&str; 3] = ["active", "data.db", "volumes"];
/// The files that are ours within the root of the configuration.
const OF_CONFIG: [&str; 2] = ["fingerprint.key", "trust"];

/// Remove all environments of all projects, the state and the configuration
///
/// Projects stay as they are, with their setpoint.toml, and so does this binary.
#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    /// Agree to the removal
    #[arg(long, short = 'y')]
    yes: bool,
}

/// `uninstall`.
#[derive(Debug, Serialize)]
struct Uninstalled {
    setpoint: u32,
    removed: Vec<String>,
    left: Vec<String>,
}

impl Uninstall {
    pub(crate) fn run(self, context: &Context) -> Result<u8, Failure> {
        let units = units(context)?;
        let (own, mut foreign) = contents(context)?;
        if units.is_empty() && own.is_empty() {
            context.output.note("There is nothing to remove.");
        } else {
            self.consent(context, &units, &own)?;
            context.stop_on_signals()?;
            daemon::remove(context)?;
            let list = LiveList::new(context.output);
            match backup::tidy_all(&context.roots, &context.variables, &list, &context.cancel) {
                Ok(()) => {}
                Err(error @ BackupError::Cancelled) => return Err(error.into()),
                Err(error) => context
                    .output
                    .progress(format!("{error}\nWhat a backup keeps for the time being is left there.")),
            }
            end_upgrades(context, &list)?;
            if let Err(error) = upgrade::take_down_stand_ins(&context.roots, &context.variables) {
                context.output.progress(format!("{error}\nWhat stands in for services is left there."));
            }
            remove_units(context, &units, &list)?;
            let engines = context.engines();
            let steps = engines.iter().filter_map(|engine| engine.sweep_steps(&Vec::new).err());
            for error in steps.chain(pipeline::take_down_services(&context.roots, &context.variables)) {
                context.output.progress(format!("{error}\nWhat it keeps of pipelines is left there."));
            }
            keep_remains(context)?;
            // What the removal of units has made or removed since, such as their locks, is looked at anew.
            let (rest, others) = contents(context)?;
            foreign = others;
            for path in rest {
                remove_all(&path).map_err(|error| kept(&path, &error))?;
            }
            for root in [&context.roots.state, &context.roots.config] {
                // A root that holds something of somebody else's stays.
                let _ = fs::remove_dir(root);
            }
        }
        tell(context, &units, &own, &foreign);
        Ok(SUCCESS)
    }

    fn consent(&self, context: &Context, units: &[Found], own: &[PathBuf]) -> Result<(), Failure> {
        let mut text = String::from("This removes");
        for Found { labels, adopted, .. } in units {
            let what = if adopted.is_some() { ", which is handed back as it runs" } else { "" };
            text.push_str(&format!("\n  {} of {}{what}", labels.unit, labels.project_root.display()));
        }
        for (root, name) in generated(context) {
            text.push_str(&format!("\n  the generated secret `{name}` of {}, for good", root.display()));
        }
        for root in [&context.roots.state, &context.roots.config] {
            if own.iter().any(|path| path.starts_with(root)) {
                text.push_str(&format!("\n  what is in {}", root.display()));
            }
        }
        if self.yes {
            context.output.progress(text);
            return Ok(());
        }
        if can_ask() && !context.output.json && !context.output.quiet {
            context.output.progress(&text);
            if ask("Remove all of it?") {
                return Ok(());
            }
        }
        Err(Failure::new(Exit::Consent, "consent", format!("{text}\nNothing was done."))
            .hint("`setpoint uninstall --yes` agrees to it"))
    }
}

/// Keeps what is known of data, which stays. A state that cannot be read is in nobody's way.
fn keep_remains(context: &Context) -> Result<(), Failure> {
    if !context.roots.state.join(DATABASE).exists() {
        return Ok(());
    }
    match context.store() {
        Ok(store) => Ok(store.keep_remains().map(drop)?),
        Err(failure) => {
            context.output.progress(format!(
                "{}\nWhich migrations and first boots the data of services has is not known any more.",
                failure.message
            ));
            Ok(())
        }
    }
}

/// Brings upgrades to their end that were cut off: what they have saved of the host is nowhere else. A state that cannot be read
/// tells of none.
fn end_upgrades(context: &Context, list: &LiveList) -> Result<(), Failure> {
    if !context.roots.state.join(DATABASE).exists() {
        return Ok(());
    }
    let Ok(mut store) = context.store() else { return Ok(()) };
    for row in store.open_upgrades()? {
        let _lock = context.project_lock(&row.project_root, "uninstall", list)?;
        match context.recover(&mut store, &row.project_root, list) {
            Err(failure) if !row.upgrade.saves.is_empty() => return Err(failure),
            Err(failure) => context.output.progress(failure.message),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// The secrets that nobody else has. A state that cannot be read is in nobody's way: it is removed.
fn generated(context: &Context) -> Vec<(PathBuf, SecretName)> {
    if !context.roots.state.join(DATABASE).exists() {
        return Vec::new();
    }
    context.store().and_then(|store| Ok(store.all_generated()?)).unwrap_or_default()
}

/// What of the roots is ours, the locks last, and what is not.
fn contents(context: &Context) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Failure> {
    let roots = &context.roots;
    let (mut own, mut foreign) = sorted(&roots.state, is_of_state)?;
    own.sort_by_key(|path| path.ends_with("locks"));
    // Both roots may be the same folder, or lie one in the other.
    let (config, others) = sorted(&roots.config, |name| OF_CONFIG.contains(&name))?;
    foreign.extend(others);
    own.extend(config);
    let is_ours = |path: &PathBuf| own.iter().any(|ours| ours.starts_with(path));
    foreign.retain(|path| !is_ours(path) && *path != roots.state && *path != roots.config);
    foreign.sort();
    foreign.dedup();
    Ok((own, foreign))
}

fn is_of_state(name: &str) -> bool {
    name.starts_with("state.") || name.starts_with("cache.") || OF_STATE.contains(&name)
}

fn sorted(root: &Path, is_own: impl Fn(&str) -> bool) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Failure> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        Err(error) => {
            return Err(Failure::new(
                Exit::State,
                "state",
                format!("cannot read {}: {error}", root.display()),
            ));
        }
    };
    let mut paths: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths
        .into_iter()
        .partition(|path| path.file_name().is_some_and(|name| name.to_str().is_some_and(&is_own))))
}

/// A unit that an engine holds for us.
struct Found {
    engine: EngineKind,
    id: UnitId,
    labels: Labels,
    /// What is kept of it, if somebody else made it.
    adopted: Option<Adopted>,
}

/// All units of the embedded engine, and those on others that our own state knows: another engine may hold what was
/// made from another state.
fn units(context: &Context) -> Result<Vec<Found>, Failure> {
    let read = || Ok::<_, Failure>(context.store()?.all_units()?);
    let known = if context.roots.state.exists() { read() } else { Ok(Vec::new()) };
    // Removing is the way out of damage: what the embedded engine holds is known without the state.
    let known = known.unwrap_or_else(|failure| {
        let message = failure.message;
        context.output.progress(format!(
            "{message}\nContainers on Docker or Podman, if there are any, are not removed."
        ));
        Vec::new()
    });
    let mut found = Vec::new();
    for kind in EngineKind::ALL {
        let is_known = |labels: &Labels| {
            kind == EngineKind::Embedded
                || known.iter().any(|row| {
                    row.unit.engine == kind.as_str()
                        && row.unit.project_root == labels.project_root
                        && row.unit.name == labels.unit
                })
        };
        if kind == EngineKind::Embedded || known.iter().any(|row| row.unit.engine == kind.as_str()) {
            let engine = context.engine(kind);
            for (id, labels) in engine.units()?.into_iter().filter(|(_, labels)| is_known(labels)) {
                let adopted = engine.adoption().map(|adoption| adoption.adopted(&id)).transpose()?.flatten();
                found.push(Found { engine: kind, id, labels, adopted });
            }
        }
    }
    Ok(found)
}

/// Stops and removes units, each under its lock.
fn remove_units(context: &Context, units: &[Found], list: &LiveList) -> Result<(), Failure> {
    for Found { engine, id, labels, adopted } in units {
        let wait = lock::until_stopped(list, &context.cancel);
        let what = "setpoint uninstall";
        let lock = UnitLock::acquire(&context.roots, &labels.project_root, &labels.unit, what, wait);
        let _lock = lock.map_err(|error| {
            let exit = if context.cancel.asked() { Exit::Interrupted } else { Exit::State };
            Failure::new(exit, "lock", error.to_string())
        })?;
        let engine = context.engine(*engine);
        if let (Some(adoption), Some(adopted)) = (engine.adoption(), adopted) {
            // What somebody else made is his again, as he made it.
            adoption.hand_back(id, adopted.restart, labels.unit.as_str())?;
            context.output.progress(format!("handed {} back, as it runs", labels.unit));
            continue;
        }
        engine.stop(id, STOP_GRACE, &context.cancel)?;
        engine.remove(id)?;
        for generation in engine.set_aside_of(id)? {
            engine.remove_aside(id, generation)?;
        }
        context.output.progress(format!("removed {} of {}", labels.unit, labels.project_root.display()));
    }
    Ok(())
}

fn kept(path: &Path, error: &std::io::Error) -> Failure {
    let message = format!("cannot remove {}: {error}\nWhat was removed before it is gone.", path.display());
    Failure::new(Exit::State, "state", message).hint("`setpoint uninstall` goes on from here")
}

fn tell(context: &Context, units: &[Found], own: &[PathBuf], foreign: &[PathBuf]) {
    let binary =
        std::env::current_exe().map_or_else(|_| "setpoint".to_owned(), |path| path.display().to_string());
    if context.output.json {
        let units = units
            .iter()
            .filter(|unit| unit.adopted.is_none())
            .map(|Found { labels, .. }| format!("{}#{}", labels.project_root.display(), labels.unit));
        context.output.value(&Uninstalled {
            setpoint: json::VERSION,
            removed: units.chain(own.iter().map(|path| path.display().to_string())).collect(),
            left: std::iter::once(binary)
                .chain(foreign.iter().map(|path| path.display().to_string()))
                .collect(),
        });
        return;
    }
    let output = context.output;
    match units.iter().filter(|unit| unit.adopted.is_none()).count() {
        0 => {}
        1 => output.note("Removed 1 environment."),
        many => output.note(format!("Removed {many} environments.")),
    }
    for root in [&context.roots.state, &context.roots.config] {
        if own.iter().any(|path| path.starts_with(root)) {
            output.note(format!("Removed what was in {}.", root.display()));
        }
    }
    output.note("Left as they are:");
    output.note(format!("  this binary; remove it with `rm {binary}`"));
    output.note("  the setpoint.toml and .setpoint of each project");
    for path in foreign {
        match OF_SERVICES.iter().any(|name| *path == context.roots.state.join(name)) {
            true => output.note(format!("  {}, with what services keep", path.display())),
            false => output.note(format!("  {}, which is not Setpoint's", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_is_ours() {
        for ours in ["state.db", "state.v1.db-wal", "state.lock", "locks", "logs", "units"] {
            assert!(is_of_state(ours), "{ours}");
        }
        for theirs in ["state", "src", "photos", "setpoint.toml", ".git"] {
            assert!(!is_of_state(theirs), "{theirs}");
        }
    }
}
