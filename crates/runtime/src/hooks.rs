//! Running hooks and packs: where they run, as whom, with what.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use setpoint_model::manifest::{Act, Before, Command, EnvValue, FirstBootStep, Hook};
use setpoint_model::names::{HookName, PackName};
use setpoint_model::plan::first_boot_owner;

use crate::cancel::Cancel;
use crate::engine::{Account, Engine, ExecSpec, Io, UnitId};
use crate::events::Watcher;
use crate::host;
use crate::logs::Log;
use crate::secrets::{Mask, Values, expand};
use crate::supervise::{Failed, Supervisor, not_run};

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
            log = self.supervisor().supervise(name.as_str(), log, running, hook.timeout)?;
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
        self.supervisor().alone(&first_boot_owner(&step.name).replace(' ', "-"), started, step.timeout)
    }

    /// Runs a command inside, as the account.
    ///
    /// # Errors
    /// [`Failed`] with the end of its output.
    pub fn inside(&self, phase: &str, argv: Vec<String>, limit: Duration) -> Result<(), Failed> {
        let (env, user) = (self.session.clone(), Some(self.account.name.clone()));
        let spec = ExecSpec { argv, env, cwd: None, user, io: Io::Captured };
        self.supervisor().alone(phase, self.engine.exec(self.unit, &spec), Some(limit))
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
        self.supervisor().alone(&format!("pack-{name}"), self.engine.exec(self.unit, &spec), None)
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

    fn supervisor(&self) -> Supervisor<'_> {
        Supervisor { mask: &self.mask, watcher: self.watcher, cancel: self.cancel, logs: &self.logs }
    }
}
