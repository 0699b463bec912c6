//! A project in a folder of its own, with a state of its own, and the binary to run on it.
//!
//! Scripts tell that they ran by appending their name to the file `log` of the project: [`Project::effects`] takes what
//! they wrote. When a project is dropped, its units are taken down, and nothing of them may be left.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::leaks;

/// What a run of the binary ended with.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The exit code, or 128 and the signal.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    fn new(output: &Output) -> Self {
        let status = output.status;
        Self {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// All that it said.
    pub fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    #[track_caller]
    pub fn says(&self, words: &str) -> &Self {
        assert!(self.said().contains(words), "it does not say `{words}`:\n{self}");
        self
    }

    #[track_caller]
    pub fn says_not(&self, words: &str) -> &Self {
        assert!(!self.said().contains(words), "it says `{words}`:\n{self}");
        self
    }

    /// Its standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON, {error}:\n{self}"))
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {}\n--- stdout\n{}--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

/// A project, and the surroundings of whoever works on it.
pub struct Project {
    place: tempfile::TempDir,
    /// The folder of the project.
    pub root: PathBuf,
    /// Who runs the binary, if not this process's user.
    user: Option<u32>,
    variables: Vec<(String, String)>,
    /// The units that there were at any time.
    units: RefCell<BTreeSet<String>>,
}

impl Project {
    /// A project with this manifest.
    pub fn new(manifest: &str) -> Self {
        Self::of(None, "shop", manifest)
    }

    /// A project of another user, who also runs the binary.
    pub fn of_user(user: u32, manifest: &str) -> Self {
        Self::of(Some(user), "shop", manifest)
    }

    /// A project in a folder of this name.
    pub fn of(user: Option<u32>, name: &str, manifest: &str) -> Self {
        leaks::adopt_orphans();
        // Not below /tmp: that may be a tmpfs, where an overlay's upper folder behaves differently.
        let place = tempfile::Builder::new().prefix("setpoint-test-").tempdir_in("/var/tmp").unwrap();
        let root = place.path().join(name);
        let project = Self { root, user, variables: Vec::new(), units: RefCell::default(), place };
        for folder in [project.place.path().to_owned(), project.root.clone(), project.at("home")] {
            fs::create_dir_all(&folder).unwrap();
            project.give(&folder);
        }
        fs::set_permissions(project.place.path(), Permissions::from_mode(0o755)).unwrap();
        project.write("log", "");
        fs::set_permissions(project.root.join("log"), Permissions::from_mode(0o666)).unwrap();
        if !manifest.is_empty() {
            project.write("setpoint.toml", manifest);
        }
        project
    }

    /// A project with two packs and every hook, each of which tells that it ran.
    pub fn full() -> Self {
        let project = Self::new(FULL);
        project.pack("alpha").pack("beta");
        project
    }

    /// A place beside the project.
    pub fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// The folder of the state.
    pub fn state(&self) -> PathBuf {
        self.at("state")
    }

    fn give(&self, path: &Path) {
        if let Some(user) = self.user {
            chown(path, Some(user), Some(user)).unwrap();
        }
    }

    /// Sets a variable for the commands to come.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Writes a file of the project.
    pub fn write(&self, path: &str, text: &str) -> &Self {
        let file = self.root.join(path);
        let folders: Vec<_> = file
            .ancestors()
            .skip(1)
            .take_while(|folder| *folder != self.root)
            .filter(|folder| !folder.exists())
            .collect();
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        folders.iter().for_each(|folder| self.give(folder));
        fs::write(&file, text).unwrap();
        self.give(&file);
        self
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap()
    }

    /// Writes a pack that tells that it ran.
    pub fn pack(&self, name: &str) -> &Self {
        self.write(&format!(".setpoint/packs/{name}.sh"), &tells(name))
    }

    /// Replaces a part of a file of the project that has to be there.
    #[track_caller]
    pub fn edit(&self, path: &str, from: &str, to: &str) -> &Self {
        let text = self.read(path);
        assert!(text.contains(from), "{path} has no `{from}`");
        self.write(path, &text.replacen(from, to, 1))
    }

    /// Replaces a part of the manifest.
    #[track_caller]
    pub fn declare(&self, from: &str, to: &str) -> &Self {
        self.edit("setpoint.toml", from, to)
    }

    /// The binary on this project, in an environment that holds nothing else.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match self.user {
            None => Command::new(env!("CARGO_BIN_EXE_setpoint")),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args([
                    &format!("--reuid={user}"),
                    &format!("--regid={user}"),
                    "--clear-groups",
                    "--",
                ]);
                command.arg(env!("CARGO_BIN_EXE_setpoint"));
                command
            }
        };
        command
            .args(arguments)
            .current_dir(&self.root)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.at("home"))
            .env("SETPOINT_STATE", self.state())
            .env("SETPOINT_CONFIG", self.at("config"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        let outcome = finish(self.start(&mut self.command(arguments)));
        self.units.borrow_mut().extend(leaks::units(&self.state()));
        outcome
    }

    /// Runs the binary with this on its standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        let mut command = self.command(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        finish(child)
    }

    /// Starts the binary in a process group of its own.
    pub fn start(&self, command: &mut Command) -> Child {
        command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Starts the binary, and gives it when it waits at a point of its work: [`go_on`] lets it go on.
    #[track_caller]
    pub fn held_at(&self, point: &str, arguments: &[&str]) -> Child {
        let held = self.start(self.command(arguments).env("SETPOINT_HOLD_AT", point));
        let stat = format!("/proc/{}/stat", held.id());
        let state = || {
            let stat = fs::read_to_string(&stat).unwrap_or_default();
            stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('Z')
        };
        until(&format!("it waits at {point}"), || matches!(state(), 'T' | 'Z'));
        if state() == 'Z' {
            panic!("it ended before {point}: {}", finish(held));
        }
        held
    }

    /// Runs `up`, which has to succeed.
    #[track_caller]
    pub fn up(&self) -> Outcome {
        let outcome = self.run(&["up"]);
        outcome.exits(0);
        outcome
    }

    /// Takes what the scripts have told since the last call.
    pub fn effects(&self) -> Vec<String> {
        let log = self.root.join("log");
        let told = fs::read_to_string(&log).unwrap();
        File::options().write(true).truncate(true).open(&log).unwrap();
        told.lines().map(str::to_owned).collect()
    }

    /// Runs `up`, and says which scripts ran.
    #[track_caller]
    pub fn up_effects(&self) -> Vec<String> {
        self.effects();
        self.up();
        self.effects()
    }

    /// What a command prints inside.
    #[track_caller]
    pub fn inside(&self, script: &str) -> String {
        let outcome = self.run(&["exec", "--", "sh", "-c", script]);
        outcome.exits(0);
        outcome.stdout.trim_end().to_owned()
    }

    /// The status of the first unit.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        let outcome = self.run(&["status", "--json"]);
        outcome.exits(0);
        outcome.json()["units"][0].clone()
    }

    /// The unit is as declared, and the next `up` runs nothing.
    #[track_caller]
    pub fn is_settled(&self) {
        let status = self.status();
        assert_eq!(status["state"], "running", "{status}");
        assert_eq!(status["out_of_date"], false, "{status}");
        self.effects();
        self.up().says("nothing to do");
        assert_eq!(self.effects(), NOTHING);
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        self.units.borrow_mut().extend(leaks::units(&self.state()));
        let gone = self.run(&["uninstall", "--yes"]);
        let is_last = leaks::is_last_project();
        let units: Vec<_> = self.units.borrow().iter().cloned().collect();
        let left = wait_until(Duration::from_secs(if std::thread::panicking() { 0 } else { 20 }), || {
            let mut left = leaks::left(self.place.path(), &units);
            if is_last {
                left.extend(
                    leaks::descendants().into_iter().map(|(pid, line)| format!("orphan {pid}: {line}")),
                );
            }
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
        let Err(left) = left else { return };
        leaks::kill(self.place.path(), is_last);
        // A failure that is under way is what counts; the surroundings are only kept clean for the other tests.
        assert!(std::thread::panicking(), "left behind: {left:#?}\nafter {gone}");
    }
}

/// Tries again until it is so, or until so long; gives the last answer.
pub fn wait_until<T, E>(at_most: Duration, mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let began = Instant::now();
    loop {
        match attempt() {
            Err(_) if began.elapsed() < at_most => std::thread::sleep(Duration::from_millis(20)),
            answer => return answer,
        }
    }
}

/// Waits until it is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waited = wait_until(Duration::from_secs(20), || if is_so() { Ok(()) } else { Err(()) });
    assert!(waited.is_ok(), "it never came to this: {what}");
}

/// Waits for a process that was started, and collects what it said.
#[track_caller]
pub fn finish(child: Child) -> Outcome {
    Outcome::new(&child.wait_with_output().unwrap())
}

/// Lets a process go on that waits.
pub fn go_on(held: &Child) {
    kill_process(Pid::from_child(held), Signal::CONT).unwrap();
}

/// A script that tells that it ran.
pub fn tells(name: &str) -> String {
    format!("echo {name} >> \"${{SETPOINT_WORKSPACE:-.}}/log\"\n")
}

/// No effects.
pub const NOTHING: [&str; 0] = [];

/// Two packs and every hook.
pub const FULL: &str = r#"setpoint = 1

[env.dev]
packs = ["alpha", "beta"]

[env.dev.hooks]
initialize = "echo initialize >> log"
on_create = "echo on_create >> log"
update_content = "echo update_content >> log"
post_create = "echo post_create >> log"
post_start = "echo post_start >> log"
post_attach = "echo post_attach >> log"
verify = "echo verify >> log"
"#;
