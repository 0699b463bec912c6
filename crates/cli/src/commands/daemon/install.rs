//! A daemon that systemd starts: with the machine for root, with the machine too for a user who may linger.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use setpoint_runtime::image::Credentials;

use crate::api;
use crate::context::Context;
use crate::error::{Exit, Failure};

/// The names of the units: the daemon, and the socket by which it is asked, which starts it where it does not run.
const UNIT: &str = "setpoint.service";
const SOCKET: &str = "setpoint.socket";
/// The longest path of a socket that systemd listens on.
const LONGEST: usize = 107;
/// Where systemd says that it is what runs this machine.
const BOOTED: &str = "/run/systemd/system";
/// What of the caller's environment decides where a daemon looks, and which engines it speaks to.
/// So do logins for registries, but for passwords that would lie open there.
const PASSED_ON: [&str; 8] = [
    "CONTAINER_HOST",
    "DOCKER_CERT_PATH",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "PATH",
];

/// Whose systemd it is.
struct Manager {
    is_user: bool,
    folder: PathBuf,
}

impl Manager {
    fn of(context: &Context) -> Result<Self, Failure> {
        if rustix::process::geteuid().is_root() {
            return Ok(Self { is_user: false, folder: PathBuf::from("/etc/systemd/system") });
        }
        let own =
            context.variables.get("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let config = own.or_else(|| Some(context.home.as_ref()?.join(".config")));
        let config =
            config.ok_or_else(|| Failure::new(Exit::Usage, "no-home", "there is no home folder ($HOME)"))?;
        Ok(Self { is_user: true, folder: config.join("systemd/user") })
    }

    fn path(&self, unit: &str) -> PathBuf {
        self.folder.join(unit)
    }

    fn systemctl(&self, arguments: &[&str]) -> Result<(), Failure> {
        let own: &[&str] = if self.is_user { &["--user"] } else { &[] };
        run("systemctl", &[own, arguments].concat())
    }
}

/// The units, each with where it belongs.
pub(super) fn units(context: &Context) -> Result<Vec<(PathBuf, String)>, Failure> {
    let manager = Manager::of(context)?;
    let mut units = vec![(manager.path(UNIT), unit(context)?)];
    units.extend(socket(context).map(|text| (manager.path(SOCKET), text)));
    Ok(units)
}

/// The socket of the API, as systemd reads it; nothing where its path is too long for one.
fn socket(context: &Context) -> Option<String> {
    let path = context.roots.state.join(api::SOCKET);
    (path.as_os_str().len() <= LONGEST).then(|| {
        // A path has no quotes there; what means something else is written twice.
        let path = path.to_string_lossy().replace('%', "%%");
        format!(
            "[Unit]\nDescription=Where Setpoint is asked\n\n\
             [Socket]\nListenStream={path}\nSocketMode=0600\nDirectoryMode=0700\n\n\
             [Install]\nWantedBy=sockets.target\n"
        )
    })
}

/// The unit of the daemon, as systemd reads it.
fn unit(context: &Context) -> Result<String, Failure> {
    let failed = |why: String| Failure::new(Exit::Engine, "binary", why);
    let binary = std::env::current_exe()
        .map_err(|error| failed(format!("where this binary lies cannot be found out: {error}")))?;
    let mut environment = format!(
        "{}\nEnvironment={}\n",
        of_state(context),
        quoted(&format!("SETPOINT_CONFIG={}", context.roots.config.display()))
    );
    let is_passed_on = |name: &str| PASSED_ON.contains(&name) || Credentials::is_open(name);
    for (name, value) in context.variables.iter().filter(|(name, _)| is_passed_on(name)) {
        let _ = writeln!(environment, "Environment={}", quoted(&format!("{name}={value}")));
    }
    let is_root = rustix::process::geteuid().is_root();
    let (after, target) = match is_root {
        true => (
            "After=network-online.target docker.service podman.socket\nWants=network-online.target\n",
            "multi-user",
        ),
        false => ("", "default"),
    };
    let binary = quoted(&binary.to_string_lossy());
    Ok(format!(
        "[Unit]\nDescription=Setpoint keeps services as they are declared\n{after}\n\
         [Service]\nExecStart={binary} daemon run\n{environment}Restart=on-failure\nDelegate=yes\n\
         # What it keeps runs on when it ends.\nKillMode=process\n\n\
         [Install]\nWantedBy={target}.target\n"
    ))
}

/// Writes the unit, and has systemd start it now and with the machine. What was done, in words.
pub(super) fn install(context: &Context) -> Result<Vec<String>, Failure> {
    let manager = Manager::of(context)?;
    if !Path::new(BOOTED).exists() {
        return Err(Failure::new(Exit::Engine, "no-systemd", "systemd does not run on this machine")
            .hint("have whatever starts things here start `setpoint daemon run`; `setpoint daemon install --print` shows with what"));
    }
    let (units, path) = (units(context)?, manager.path(UNIT));
    let before = fs::read_to_string(&path).unwrap_or_default();
    if !before.is_empty() && !before.lines().any(|line| line == of_state(context)) {
        let message = format!("{} starts a daemon for another state already", path.display());
        return Err(Failure::new(Exit::State, "other-daemon", message)
            .hint("`setpoint daemon uninstall` with that state's SETPOINT_STATE takes it out"));
    }
    fs::create_dir_all(&manager.folder).map_err(|error| unusable(&manager.folder, &error))?;
    let mut done = Vec::new();
    for (path, text) in &units {
        fs::write(path, text).map_err(|error| unusable(path, &error))?;
        done.push(format!("wrote {}", path.display()));
    }
    if super::end(context)? {
        done.push("ended the daemon that ran in the background".to_owned());
    }
    manager.systemctl(&["daemon-reload"])?;
    // The socket first, so that the daemon is given it.
    if units.len() > 1 {
        manager.systemctl(&["enable", "--now", SOCKET])?;
    }
    manager.systemctl(&["enable", "--now", UNIT])?;
    done.push("systemd has started it, and does so with the machine".to_owned());
    if manager.is_user && run("loginctl", &["enable-linger"]).is_err() {
        done.push("only while you are logged in: `loginctl enable-linger` was refused".to_owned());
    }
    Ok(done)
}

/// The line of the unit that says whose state it keeps.
fn of_state(context: &Context) -> String {
    format!("Environment={}", quoted(&format!("SETPOINT_STATE={}", context.roots.state.display())))
}

/// Takes the unit out again, if there is one that keeps this state; says where it was.
pub(super) fn uninstall(context: &Context) -> Result<Option<PathBuf>, Failure> {
    let manager = Manager::of(context)?;
    let (path, socket) = (manager.path(UNIT), manager.path(SOCKET));
    let text = fs::read_to_string(&path).unwrap_or_default();
    if !text.lines().any(|line| line == of_state(context)) {
        return Ok(None);
    }
    if Path::new(BOOTED).exists() {
        if socket.exists() {
            manager.systemctl(&["disable", "--now", SOCKET])?;
        }
        manager.systemctl(&["disable", "--now", UNIT])?;
    }
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(&socket, &error)),
        _ => {}
    }
    fs::remove_file(&path).map_err(|error| unusable(&path, &error))?;
    if Path::new(BOOTED).exists() {
        manager.systemctl(&["daemon-reload"])?;
    }
    Ok(Some(path))
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Engine, "unit-file", format!("cannot use {}: {error}", path.display()))
}

fn run(program: &str, arguments: &[&str]) -> Result<(), Failure> {
    let said = format!("{program} {}", arguments.join(" "));
    let failed = |why: String| Failure::new(Exit::Engine, "systemd", format!("`{said}` failed: {why}"));
    let output = Command::new(program).args(arguments).output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// A word as systemd reads it: in quotes, and nothing in it means anything else.
fn quoted(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_word_means_anything_else() {
        assert_eq!(quoted("/a b/setpoint"), "\"/a b/setpoint\"");
        assert_eq!(quoted("A=\"1\" %h \\"), "\"A=\\\"1\\\" %%h \\\\\"");
    }
}
