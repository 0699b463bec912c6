//! Asking the user's own shell for the environment that it gives him.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use setpoint_model::import::devcontainer::UserEnvProbe;
use setpoint_model::manifest::EnvValue;

use super::{Applier, ApplyError};
use crate::engine::{Account, EngineError, ExecSpec, Io};
use crate::events::Event;
use crate::observe::Unit;
use crate::session::Session;

/// How long a shell may take to come up.
const PATIENCE: Duration = Duration::from_secs(10);
/// What stands before and after the environment, among whatever else the shell says.
const MARK: &str = "setpoint-environment";
/// What a shell sets for itself.
const OF_SHELL: [&str; 7] = ["_", "PWD", "OLDPWD", "SHLVL", "SETPOINT_EXEC", "TERM", "BASH_ENV"];

impl Unit<'_> {
    /// The environment of the container itself, where something refers to it.
    ///
    /// # Errors
    /// If the engine cannot be asked.
    pub fn environment_inside(&self) -> Result<BTreeMap<String, String>, EngineError> {
        let asks = self.env.devcontainer.is_some() || self.env.env.values().any(EnvValue::asks_inside);
        if asks { self.engine.environment(&self.id) } else { Ok(BTreeMap::new()) }
    }
}

impl Applier<'_, '_> {
    /// Asks the user's shell for his environment, once for an instance, and keeps it for sessions.
    pub(super) fn probe(&mut self, account: &Account) -> Result<(), ApplyError> {
        let kind = self.unit.env.devcontainer.as_ref().map_or(UserEnvProbe::None, |of| of.probe);
        if kind == UserEnvProbe::None || self.probed.is_some() {
            return Ok(());
        }
        let instance = &self.spec.labels.instance;
        let kept = Session::applied(self.unit.roots, &self.unit.id).ok().flatten();
        if let Some(kept) = kept.filter(|kept| kept.probed_in.as_ref() == Some(instance)) {
            self.probed = Some(kept.probed);
            return Ok(());
        }
        let began = Instant::now();
        let probed = match self.ask_shell(kind, account)? {
            Some(probed) => probed,
            None => {
                self.tell(&Event::Failed {
                    phase: "user_env_probe".to_owned(),
                    detail: format!("{} {}", account.shell, flags(kind)),
                    how: format!("no answer within {}s; sessions go without", PATIENCE.as_secs()),
                    took: began.elapsed(),
                });
                BTreeMap::new()
            }
        };
        self.probed = Some(probed);
        self.keep_session()
    }

    /// The environment that the shell tells; nothing if it does not come up in time.
    fn ask_shell(
        &self,
        kind: UserEnvProbe,
        account: &Account,
    ) -> Result<Option<BTreeMap<String, String>>, ApplyError> {
        let script = format!("printf {MARK}; cat /proc/self/environ; printf {MARK}");
        let argv = vec![account.shell.clone(), flags(kind).to_owned(), script];
        let user = Some(account.name.clone());
        let spec = ExecSpec { argv, env: BTreeMap::new(), cwd: None, user, io: Io::Captured };
        let mut process = self.unit.engine.exec(&self.unit.id, &spec)?;
        let Some(mut output) = process.output() else { return Ok(None) };
        let (sender, said) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let read = output.read_to_end(&mut bytes);
            let _ = sender.send(read.map(|_| bytes));
        });
        let ended = process.wait(PATIENCE)?;
        let said = ended.and_then(|_| said.recv_timeout(PATIENCE).ok()).and_then(Result::ok);
        Ok(said.map(|said| environment(&String::from_utf8_lossy(&said))))
    }
}

fn flags(kind: UserEnvProbe) -> &'static str {
    match kind {
        UserEnvProbe::None => "-c",
        UserEnvProbe::InteractiveShell => "-ic",
        UserEnvProbe::LoginShell => "-lc",
        UserEnvProbe::LoginInteractiveShell => "-lic",
    }
}

/// The variables between the marks.
fn environment(said: &str) -> BTreeMap<String, String> {
    let between = said.split(MARK).nth(1).unwrap_or_default();
    between
        .split('\0')
        .filter_map(|entry| entry.split_once('='))
        .filter(|(name, _)| !OF_SHELL.contains(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_says_around_its_environment_is_left_out() {
        let said = format!("welcome\n{MARK}A=1\0PWD=/\0B=x=y\nz\0{MARK}bye");
        let expected = [("A", "1"), ("B", "x=y\nz")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(environment(&said), expected.into());
        assert_eq!(environment("nothing"), BTreeMap::new());
    }
}
