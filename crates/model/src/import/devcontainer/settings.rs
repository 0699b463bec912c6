//! What a devcontainer.json, a feature and the metadata of an image may all say about the container. It is read in
//! one place, and merged in one.

use std::collections::BTreeMap;

use jsonc_parser::ast::Value;

use super::hooks::{self, Phase};
use super::mount;
use super::ports::{self, ForwardedPort, PortAttributes};
use super::reader::{Member, Placed, Reader, below, opaque};
use super::requirements::{self, HostRequirements};
use crate::container::{ContainerMount, MountSource};
use crate::manifest::{Command, Location, Problem, Run};

/// What one of several sources says about the container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// Whether an init process reaps what the first process leaves behind.
    pub init: Option<bool>,
    /// Whether it may do what root of the host may.
    pub privileged: Option<bool>,
    /// Capabilities over the engine's own set, in capital letters and without `CAP_`.
    pub cap_add: Vec<String>,
    /// Options of the security modules.
    pub security_opt: Vec<Placed<String>>,
    /// A script that is run before the container's own command; only features have one.
    pub entrypoint: Option<Placed<String>>,
    /// What appears inside.
    pub mounts: Vec<Placed<ContainerMount>>,
    /// The commands of its life.
    pub hooks: BTreeMap<Phase, Placed<Run>>,
    /// Up to which command a tool waits before it attaches.
    pub wait_for: Option<Phase>,
    /// What is meant for editors, as it is.
    pub customizations: Option<serde_json::Value>,
    /// Who the container's first process runs as.
    pub container_user: Option<Placed<String>>,
    /// Who commands and tools run as.
    pub remote_user: Option<Placed<String>>,
    /// Which shell is asked for the user's environment.
    pub user_env_probe: Option<UserEnvProbe>,
    /// The environment of the container.
    pub container_env: BTreeMap<String, Placed<String>>,
    /// The environment of commands and tools, over that of the container; nothing takes a variable away.
    pub remote_env: BTreeMap<String, Placed<Option<String>>>,
    /// Whether a command that waits is run instead of the image's own.
    pub override_command: Option<bool>,
    /// Ports that are forwarded to the host.
    pub forward_ports: Vec<Placed<ForwardedPort>>,
    /// What is said about ports: by number, range, `host:port` or expression.
    pub ports_attributes: BTreeMap<String, PortAttributes>,
    /// What is said about all other ports.
    pub other_ports_attributes: Option<PortAttributes>,
    /// What happens when the editor is closed.
    pub shutdown_action: Option<ShutdownAction>,
    /// Whether the user inside gets the ids of the user on the host.
    pub update_remote_user_uid: Option<bool>,
    /// What is asked of the host.
    pub host_requirements: Option<HostRequirements>,
}

/// Which shell is asked for the environment of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserEnvProbe {
    /// None.
    None,
    /// An interactive one.
    InteractiveShell,
    /// A login shell.
    LoginShell,
    /// An interactive login shell.
    LoginInteractiveShell,
}

/// What happens when the editor is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownAction {
    /// Nothing.
    None,
    /// The container is stopped.
    StopContainer,
    /// All containers of the compose file are stopped.
    StopCompose,
}

/// The keys that are read here.
pub(super) const KEYS: [&str; 26] = [
    "init",
    "privileged",
    "capAdd",
    "securityOpt",
    "entrypoint",
    "mounts",
    "initializeCommand",
    "onCreateCommand",
    "updateContentCommand",
    "postCreateCommand",
    "postStartCommand",
    "postAttachCommand",
    "waitFor",
    "customizations",
    "containerUser",
    "remoteUser",
    "userEnvProbe",
    "containerEnv",
    "remoteEnv",
    "overrideCommand",
    "forwardPorts",
    "portsAttributes",
    "otherPortsAttributes",
    "shutdownAction",
    "updateRemoteUserUID",
    "hostRequirements",
];

impl Settings {
    /// Takes a member up, if its key is one of these.
    pub(super) fn take(&mut self, reader: &mut Reader<'_>, member: &Member<'_, '_>) {
        let (key, value) = (member.key, member.value);
        if let Some(phase) = Phase::of_key(key) {
            self.hooks.extend(hooks::run(reader, key, value).map(|run| (phase, run)));
            return;
        }
        match key {
            "init" => self.init = reader.boolean(key, value),
            "privileged" => self.privileged = reader.boolean(key, value),
            "overrideCommand" => self.override_command = reader.boolean(key, value),
            "updateRemoteUserUID" => self.update_remote_user_uid = reader.boolean(key, value),
            "capAdd" => {
                self.cap_add = reader.strings(key, value).iter().map(|cap| capability(&cap.value)).collect();
            }
            "securityOpt" => self.security_opt = reader.strings(key, value),
            "entrypoint" => self.entrypoint = text_or_nothing(reader, key, value),
            "mounts" => self.mounts = reader.list(key, value, mount::mount),
            "containerUser" => self.container_user = text_or_nothing(reader, key, value),
            "remoteUser" => self.remote_user = text_or_nothing(reader, key, value),
            "containerEnv" => self.container_env = texts(reader, key, value),
            "remoteEnv" => self.remote_env = texts_or_null(reader, key, value),
            "forwardPorts" => self.forward_ports = forwarded(reader, key, value),
            "portsAttributes" => self.ports_attributes = ports::attributes_by_port(reader, key, value),
            "otherPortsAttributes" => {
                self.other_ports_attributes = Some(ports::attributes(reader, key, key, value));
            }
            "hostRequirements" => {
                self.host_requirements = Some(requirements::requirements(reader, key, value));
            }
            "customizations" => self.customizations = Some(opaque(value)),
            "waitFor" => {
                let words = Phase::ALL.map(|phase| (phase.key(), phase));
                self.wait_for = reader.word(key, value, &words[..5]);
            }
            "userEnvProbe" => self.user_env_probe = reader.word(key, value, &USER_ENV_PROBE),
            "shutdownAction" => self.shutdown_action = reader.word(key, value, &SHUTDOWN_ACTION),
            _ => {}
        }
    }
}

const USER_ENV_PROBE: [(&str, UserEnvProbe); 4] = [
    ("none", UserEnvProbe::None),
    ("interactiveShell", UserEnvProbe::InteractiveShell),
    ("loginShell", UserEnvProbe::LoginShell),
    ("loginInteractiveShell", UserEnvProbe::LoginInteractiveShell),
];

const SHUTDOWN_ACTION: [(&str, ShutdownAction); 3] = [
    ("none", ShutdownAction::None),
    ("stopContainer", ShutdownAction::StopContainer),
    ("stopCompose", ShutdownAction::StopCompose),
];

/// A text; an empty one is as if it were not there.
fn text_or_nothing(reader: &mut Reader<'_>, key: &str, value: &Value<'_>) -> Option<Placed<String>> {
    let text = reader.string(key, value)?;
    if text.value.trim().is_empty() {
        reader.note(text.at, format!("`{key}` is empty, which is as if it were not there"));
        return None;
    }
    Some(text)
}

/// A capability in capital letters and without `CAP_`.
pub(super) fn capability(text: &str) -> String {
    let capital = text.trim().to_uppercase();
    capital.strip_prefix("CAP_").map_or_else(|| capital.clone(), str::to_owned)
}

/// The ports that are forwarded, each once.
fn forwarded(reader: &mut Reader<'_>, key: &str, value: &Value<'_>) -> Vec<Placed<ForwardedPort>> {
    let mut ports: Vec<Placed<ForwardedPort>> = Vec::new();
    let read = reader.list(key, value, |reader, path, value| {
        let at = reader.place(value);
        ports::forwarded(reader, path, value).map(|port| Placed { value: port, at })
    });
    for port in read {
        if !ports.iter().any(|other| other.value == port.value) {
            ports.push(port);
        }
    }
    ports
}

/// An object of texts.
pub(super) fn texts(
    reader: &mut Reader<'_>,
    path: &str,
    value: &Value<'_>,
) -> BTreeMap<String, Placed<String>> {
    reader
        .members(path, value)
        .into_iter()
        .filter_map(|member| {
            let text = variable(reader, path, &member)?;
            Some((member.key.to_owned(), text))
        })
        .collect()
}

/// An object of texts, where null takes a variable away.
fn texts_or_null(
    reader: &mut Reader<'_>,
    path: &str,
    value: &Value<'_>,
) -> BTreeMap<String, Placed<Option<String>>> {
    let Value::Object(object) = value else {
        reader.wrong_type(path, value, "an object");
        return BTreeMap::new();
    };
    reader
        .all_members(path, object)
        .into_iter()
        .filter_map(|member| {
            let at = reader.place(member.value);
            let value = match member.value {
                Value::NullKeyword(_) => None,
                _ => Some(variable(reader, path, &member)?.value),
            };
            Some((member.key.to_owned(), Placed { value, at }))
        })
        .collect()
}

/// A variable and its value. Numbers and the like are often written without quotes, and mean their text.
fn variable(reader: &mut Reader<'_>, parent: &str, member: &Member<'_, '_>) -> Option<Placed<String>> {
    let path = &below(parent, member.key);
    if member.key.is_empty() || member.key.contains(['=', '\0']) {
        let problem = match member.key {
            "" => Problem::new("bad-variable", format!("a variable of `{parent}` has no name")),
            name => Problem::new("bad-variable", format!("`{name}` is not the name of a variable"))
                .why("a name holds no `=` and no NUL character"),
        };
        let at = reader.at(member.at.clone());
        reader.problems.push(problem.at(at));
        return None;
    }
    if let Value::NumberLit(_) | Value::BooleanLit(_) = member.value {
        let placed = Placed { value: opaque(member.value).to_string(), at: reader.place(member.value) };
        reader.note(placed.at.clone(), format!("`{path}` is no text, and taken as `\"{}\"`", placed.value));
        return Some(placed);
    }
    reader.string(path, member.value)
}

impl Settings {
    /// Every text that may hold variables, with its place and what of the file it is.
    pub(super) fn each_text(&mut self, visit: &mut impl FnMut(Spot, &mut String, &Location)) {
        for text in self.security_opt.iter_mut().chain(&mut self.entrypoint) {
            visit(Spot::Container, &mut text.value, &text.at);
        }
        for text in self.container_user.iter_mut().chain(&mut self.remote_user) {
            visit(Spot::Container, &mut text.value, &text.at);
        }
        for text in self.container_env.values_mut() {
            visit(Spot::Container, &mut text.value, &text.at);
        }
        for text in self.remote_env.values_mut() {
            if let Some(value) = &mut text.value {
                visit(Spot::Inside, value, &text.at);
            }
        }
        for mount in &mut self.mounts {
            each_text_of_mount(&mut mount.value, &mount.at, visit);
        }
        for (phase, run) in &mut self.hooks {
            let spot = if *phase == Phase::Initialize { Spot::Host } else { Spot::Inside };
            each_text_of_run(&mut run.value, &mut |text| visit(spot, text, &run.at));
        }
    }
}

/// What a text is for, which says what can be known when it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    /// It is needed on the host.
    Host,
    /// It is needed to make the container.
    Container,
    /// It is needed inside, once the container runs.
    Inside,
}

/// Every text of a mount.
pub(super) fn each_text_of_mount(
    mount: &mut ContainerMount,
    at: &Location,
    visit: &mut impl FnMut(Spot, &mut String, &Location),
) {
    visit(Spot::Container, &mut mount.target, at);
    match &mut mount.source {
        MountSource::Bind { source, .. } => visit(Spot::Container, source, at),
        MountSource::Volume { name, subpath, .. } => {
            name.iter_mut().chain(subpath).for_each(|text| visit(Spot::Container, text, at));
        }
        MountSource::Tmpfs { .. } => {}
    }
}

/// Every text of a command.
pub(super) fn each_text_of_run(run: &mut Run, visit: &mut impl FnMut(&mut String)) {
    let commands: Vec<&mut Command> = match run {
        Run::One(command) => vec![command],
        Run::Parallel(parts) => parts.values_mut().collect(),
    };
    for command in commands {
        match command {
            Command::Script { path: text } | Command::Shell { text } => visit(text),
            Command::Argv { argv } => argv.iter_mut().for_each(&mut *visit),
        }
    }
}
