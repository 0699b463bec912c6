//! The container of a step, and its workspace.

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions,
    VolumeCreateRequest,
};
use bollard::query_parameters::CreateContainerOptionsBuilder;
use setpoint_model::manifest::Network;
use setpoint_model::pipeline::ir::WORKSPACE;
use setpoint_sandbox as sandbox;

use super::super::client::Client;
use super::super::error::{DockerError, says};
use super::super::{Docker, files, labels};
use super::process::Run;
use super::rights::Rights;
use super::{NAME, sweep};
use crate::accounts;
use crate::engine::{Account, EngineError, Io, StepSpec};
use crate::remove::remove_tree;

/// The longest text of options that every kernel takes, with some room.
const LONGEST: usize = 4000;
/// In a state: what keeps the changes of the workspace.
const WORKSPACE_STATE: &str = "workspace";

/// A container and its workspace, which go when this is dropped.
#[derive(Debug)]
pub(super) struct Made {
    client: Arc<Client>,
    /// What both are called.
    pub(super) name: String,
    identity: String,
    image: String,
    /// Where the step writes, until that is the caller's.
    folder: Option<PathBuf>,
    rights: Rights,
    /// The home of whom the step runs as.
    pub(super) home: PathBuf,
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Ok(connected) = self.client.get() {
            // What stays behind is swept by the next run.
            let _ = sweep::container(connected, &self.name);
            let _ = sweep::volume(connected, &self.name);
            let _ = self.give();
        }
    }
}

impl Made {
    /// Gives the caller what the step wrote, which has ended.
    pub(super) fn give(&mut self) -> Result<(), EngineError> {
        match self.folder.take() {
            Some(folder) => self.rights.give(&self.client, &self.identity, &self.image, &folder),
            None => Ok(()),
        }
    }
}

/// Makes the container of a step, and its workspace. Nothing runs yet.
pub(super) fn make(docker: &Docker, step: &StepSpec, image: &str) -> Result<Made, EngineError> {
    let connected = docker.connected()?;
    let rights = docker.rights(connected)?;
    let user = match (rights, step.user.as_deref()) {
        (Rights::Given { .. }, Some(user)) if matches!(user.split(':').next(), Some("root" | "0")) => None,
        (Rights::Given { .. }, Some(user)) => return Err(EngineError::SingleUser { user: user.to_owned() }),
        (_, user) => user,
    };
    let workspace = step.state.join(WORKSPACE_STATE);
    sandbox::prepare_overlay(&workspace, None)?;
    let identity = docker.steps.identity.get()?;
    let name = format!("{NAME}-{identity}-{}", crate::random::hex());
    let folder = Some(step.state.parent().unwrap_or(&step.state).to_owned());
    let (client, home) = (Arc::clone(&docker.client), PathBuf::from("/root"));
    let mut made = Made { client, name, identity, image: image.to_owned(), folder, rights, home };
    let volume = VolumeCreateRequest {
        name: Some(made.name.clone()),
        driver: Some("local".to_owned()),
        driver_opts: Some(overlay(step, &workspace)?),
        labels: Some(labelled(step)),
        ..VolumeCreateRequest::default()
    };
    connected.quick("make a volume", connected.api.create_volume(volume))?;
    let create = |user: &str| {
        let options = CreateContainerOptionsBuilder::default().name(&made.name).build();
        let body = container(step, image, &made.name, user);
        connected.quick("make a container", connected.api.create_container(Some(options), body))
    };
    let Some(user) = user else {
        create("0:0")?;
        return Ok(made);
    };
    let nobody = |why: String| EngineError::NoAccount {
        user: user.to_owned(),
        unit: "the step's system".to_owned(),
        why,
    };
    // Some engines look for him already here.
    let unknown = |error: DockerError| match error {
        DockerError::Refused { why, .. } if says(&why, &["unable to find user", "unknown user"]) => {
            nobody(why)
        }
        error => error.into(),
    };
    create(user).map_err(unknown)?;
    let read = |path: &str| {
        let text = files::text(connected, &made.name, path).map_err(unknown)?;
        // The engine mounted the workspace for that, and will do so again.
        renew_work(&step.state)?;
        Ok::<_, EngineError>(text)
    };
    let passwd = read("/etc/passwd")?;
    let group = if user.contains(':') { read("/etc/group")? } else { String::new() };
    let account = accounts::find(&passwd, &group, user).map_err(nobody)?;
    let known = known_as(&account, user);
    if known != user {
        sweep::container(connected, &made.name)?;
        create(&known)?;
    }
    // So that he can write there at all; what others made stays theirs.
    let upper = workspace.join("upper");
    std::os::unix::fs::chown(&upper, Some(account.uid), Some(account.gid))
        .map_err(EngineError::io("give away", &upper))?;
    made.home = account.home;
    Ok(made)
}

/// Makes the workspace fit to be mounted again: also who only reads a file of the container mounts it, and no kernel
/// mounts a volatile overlay twice with one work folder.
pub(super) fn renew_work(state: &Path) -> Result<(), EngineError> {
    let workspace = state.join(WORKSPACE_STATE);
    let work = workspace.join("work");
    remove_tree(&work).map_err(EngineError::io("remove", &work))?;
    Ok(sandbox::prepare_overlay(&workspace, None)?)
}

/// By what the engine knows an account: its name, so that it has all its groups, or numbers.
fn known_as(account: &Account, user: &str) -> String {
    let has_name = account.name.parse::<u32>().is_err();
    if has_name && !user.contains(':') {
        account.name.clone()
    } else {
        format!("{}:{}", account.uid, account.gid)
    }
}

fn labelled(step: &StepSpec) -> HashMap<String, String> {
    HashMap::from([(labels::STEP.to_owned(), step.state.to_string_lossy().into_owned())])
}

fn container(step: &StepSpec, image: &str, name: &str, user: &str) -> ContainerCreateBody {
    let run = Run::new(step);
    let workspace = Mount {
        typ: Some(MountType::VOLUME),
        source: Some(name.to_owned()),
        target: Some(WORKSPACE.to_owned()),
        volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
        ..Mount::default()
    };
    let binds = step.mounts.iter().map(|mount| Mount {
        typ: Some(MountType::BIND),
        source: Some(mount.source.to_string_lossy().into_owned()),
        target: Some(mount.target.to_string_lossy().into_owned()),
        read_only: Some(mount.read_only),
        ..Mount::default()
    });
    let network = match (&step.joins, step.network) {
        (Some(joined), _) => joined,
        (None, Network::Host) => "host",
        (None, Network::None) => "none",
        (None, Network::Private) => "bridge",
    };
    ContainerCreateBody {
        hostname: Some("setpoint".to_owned()),
        user: Some(user.to_owned()),
        image: Some(image.to_owned()),
        tty: Some(step.io == Io::Terminal),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(true),
        // When its caller is gone, its input ends.
        stdin_once: Some(true),
        // The engine would make a folder that is not there.
        working_dir: Some("/".to_owned()),
        entrypoint: Some(run.entrypoint),
        cmd: Some(run.arguments),
        env: Some(run.env),
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        labels: Some(labelled(step)),
        host_config: Some(HostConfig {
            mounts: Some(std::iter::once(workspace).chain(binds).collect()),
            network_mode: Some(network.to_owned()),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// The options of a volume that is the workspace: the same overlay that other engines mount.
fn overlay(step: &StepSpec, state: &Path) -> Result<HashMap<String, String>, EngineError> {
    let mut lower: Vec<PathBuf> = step.workspace.iter().rev().cloned().collect();
    if lower.is_empty() {
        // An overlay needs something to lie on.
        let empty = step.scratch.join("empty");
        fs::create_dir_all(&empty).map_err(EngineError::io("make", &empty))?;
        lower.push(empty);
    }
    let (upper, work) = (state.join("upper"), state.join("work"));
    let mut options = options(&lower, &upper, &work);
    if options.len() > LONGEST {
        for (index, layer) in lower.iter_mut().enumerate() {
            let link = step.scratch.join(index.to_string());
            symlink(&*layer, &link).map_err(EngineError::io("make", &link))?;
            *layer = link;
        }
        options = self::options(&lower, &upper, &work);
    }
    let pairs = [("type", "overlay".to_owned()), ("device", "overlay".to_owned()), ("o", options)];
    Ok(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn options(lower: &[PathBuf], upper: &Path, work: &Path) -> String {
    let lower: Vec<String> = lower.iter().map(|layer| escaped(layer)).collect();
    // Who is not root can read only marks of his own kind.
    let marks =
        if rustix::process::geteuid().is_root() { "redirect_dir=nofollow,metacopy=off" } else { "userxattr" };
    let (lower, upper, work) = (lower.join(":"), escaped(upper), escaped(work));
    format!("lowerdir={lower},upperdir={upper},workdir={work},{marks},index=off,volatile")
}

/// A path among options, where `,` and `:` part one from the next.
fn escaped(path: &Path) -> String {
    let text = String::from_utf8_lossy(path.as_os_str().as_bytes());
    text.chars().flat_map(|c| matches!(c, '\\' | ',' | ':').then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn many_long_paths_become_short_ones() {
        let folder = tempfile::tempdir().unwrap();
        let spec = |workspace: Vec<PathBuf>| StepSpec {
            base: crate::engine::BaseSource::Host,
            below: Vec::new(),
            state: folder.path().join("state"),
            scratch: folder.path().to_owned(),
            workspace,
            mounts: Vec::new(),
            argv: Vec::new(),
            env: std::collections::BTreeMap::new(),
            cwd: "/".into(),
            user: None,
            network: Network::None,
            joins: None,
            io: Io::Captured,
        };
        let state = folder.path().join("state");
        let few = overlay(&spec(vec!["/low".into(), "/a,b:c".into()]), &state).unwrap();
        assert!(few["o"].starts_with(r"lowerdir=/a\,b\:c:/low,upperdir="), "{few:?}");
        let many: Vec<PathBuf> =
            (0..40).map(|n| PathBuf::from(format!("/{}/{n}", "long".repeat(40)))).collect();
        let options = overlay(&spec(many.clone()), &state).unwrap();
        assert!(options["o"].len() < LONGEST);
        let top = fs::read_link(folder.path().join("0")).unwrap();
        assert_eq!(Some(&top), many.last());
        assert!(overlay(&spec(Vec::new()), &state).unwrap()["o"].contains("empty"));
    }
}
