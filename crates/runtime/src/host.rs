//! The host itself: which boot it is, who calls, and processes on it, which only `initialize` starts.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use setpoint_sandbox as sandbox;

use crate::engine::embedded::Running;
use crate::engine::{Account, EngineError, ExecSpec, Process};

/// Whether a file may be executed by somebody.
pub(crate) fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Which boot of the machine this is.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Runs a process on the host as the caller, with the caller's environment. It dies with this process.
pub(crate) fn spawn(spec: &ExecSpec, cwd: &Path) -> Result<Box<dyn Process>, EngineError> {
    // What is not UTF-8 is nothing that could be passed on.
    let own = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut env: Vec<(String, String)> = own.collect();
    env.extend(spec.env.clone());
    let spec = sandbox::ExecSpec {
        argv: spec.argv.clone(),
        env,
        cwd: cwd.to_owned(),
        user: sandbox::User { uid: 0, gid: 0, groups: Vec::new() },
        io: sandbox::Io::Captured,
    };
    Ok(Box::new(Running::new(sandbox::exec_on_host(&spec)?)))
}

/// The caller's own account.
pub(crate) fn account(home: Option<&Path>) -> Account {
    let uid = rustix::process::getuid().as_raw();
    Account {
        name: uid.to_string(),
        uid,
        gid: rustix::process::getgid().as_raw(),
        home: home.map_or_else(|| PathBuf::from("/"), Path::to_owned),
        shell: "/bin/sh".to_owned(),
    }
}
