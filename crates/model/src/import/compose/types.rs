//! What a compose project declares.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::container::{Build, Container};
use crate::manifest::{Location, Note};

/// A file that a project is read from.
#[derive(Debug, Clone, Copy)]
pub struct ComposeFile<'a> {
    /// Its path from the project's folder: `compose.yaml`.
    pub path: &'a str,
    /// Its text, which is YAML.
    pub text: &'a str,
}

/// What a project is read with besides its files.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The name of the project's folder, which names a project that has no other name.
    pub project_dir_name: String,
    /// The caller's environment; it goes over `.env`.
    pub environment: BTreeMap<String, String>,
    /// The profiles that are active besides those of `COMPOSE_PROFILES`; `*` is all.
    pub profiles: BTreeSet<String>,
    /// The name of the project, over every other.
    pub project_name: Option<String>,
}

/// What a compose project declares. All paths are from the project's folder, unless they are absolute or begin with
/// `~/`.
#[derive(Debug, Clone, PartialEq)]
pub struct ComposeProject {
    /// Its name, which the names of its networks and volumes begin with.
    pub name: String,
    /// Its services, without those whose profiles are not active.
    pub services: BTreeMap<String, ComposeService>,
    /// Its networks by their names in the file, with `default` where a service is in it.
    pub networks: BTreeMap<String, Network>,
    /// Its named volumes by their names in the file.
    pub volumes: BTreeMap<String, Volume>,
    /// Its configs.
    pub configs: BTreeMap<String, Stored>,
    /// Its secrets.
    pub secrets: BTreeMap<String, Stored>,
    /// The paths of all files that were asked for, also of those that were not there: if nothing changes about them
    /// and the options, neither does the project.
    pub files: BTreeSet<String>,
    /// What a user should know about how it was read.
    pub notes: Vec<Note>,
}

/// A service.
#[derive(Debug, Clone, PartialEq)]
pub struct ComposeService {
    /// Where it is declared.
    pub at: Location,
    /// Its image: where it comes from, or what the built one is called.
    pub image: Option<String>,
    /// How its image is built. Without it and without an image, something else provides the service.
    pub build: Option<Build>,
    /// What its container is made with. `ipc` and `pid` may be `service:NAME`, which is the container of that
    /// service.
    pub container: Container,
    /// The services that come before it.
    pub depends_on: BTreeMap<String, Dependency>,
    /// When it is started again.
    pub restart: RestartPolicy,
    /// When its image is pulled; absent is when it is missing.
    pub pull_policy: Option<PullPolicy>,
    /// The name of its container on the engine, where the file gives one.
    pub container_name: Option<String>,
    /// The profiles that it belongs to; none is all.
    pub profiles: BTreeSet<String>,
    /// Ports that it says it listens on: `80`, `53/udp`, `8000-8010`.
    pub expose: BTreeSet<String>,
    /// How many of it there are to be.
    pub replicas: u32,
    /// Configs that appear as files.
    pub configs: Vec<FileUse>,
    /// Secrets that appear as files.
    pub secrets: Vec<FileUse>,
    /// What runs in it after each start.
    pub post_start: Vec<ServiceHook>,
    /// What runs in it before it is stopped.
    pub pre_stop: Vec<ServiceHook>,
}

/// How a service needs another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// What the other one must have come to.
    pub condition: Condition,
    /// Whether it is started again when the other one is.
    pub restart: bool,
    /// Whether it cannot do without.
    pub required: bool,
}

/// What a service must have come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It has been started.
    Started,
    /// Its health check has passed.
    Healthy,
    /// It has ended, and with success.
    Completed,
}

/// When a service is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// Whenever it ends.
    Always,
    /// When it fails.
    OnFailure {
        /// How often at most; absent is without end.
        max: Option<u32>,
    },
    /// Whenever it ends, unless it was stopped on purpose.
    UnlessStopped,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// Before each start.
    Always,
    /// Never.
    Never,
    /// When it is not there.
    Missing,
    /// Never: it is built.
    Build,
    /// When the last pull is this long ago.
    Every(Duration),
}

/// A config or secret that appears as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileUse {
    /// Its name in the project.
    pub source: String,
    /// Where it appears: an absolute path.
    pub target: String,
    /// Who owns it: a number.
    pub uid: Option<String>,
    /// The group that owns it: a number.
    pub gid: Option<String>,
    /// Its access rights.
    pub mode: Option<u32>,
}

/// Something that runs in a container that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceHook {
    /// The program with its arguments.
    pub command: Vec<String>,
    /// Who it runs as; absent is as whom the container does.
    pub user: Option<String>,
    /// Whether it may do what root of the host may.
    pub privileged: bool,
    /// Where it starts.
    pub working_dir: Option<String>,
    /// Its environment, over that of the container.
    pub env: BTreeMap<String, String>,
}

/// A network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Its name on the engine.
    pub name: String,
    /// Whether it is there already, and made by someone else.
    pub external: bool,
    /// What makes it; absent is the engine's own choice.
    pub driver: Option<String>,
    /// Options of that.
    pub driver_opts: BTreeMap<String, String>,
    /// Whether nothing leads out of it.
    pub internal: bool,
    /// Whether containers of others may join it.
    pub attachable: bool,
    /// Whether it has addresses of version 6.
    pub enable_ipv6: bool,
    /// Its addresses.
    pub pools: Vec<AddressPool>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A range of addresses of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressPool {
    /// All of it: `172.28.0.0/16`.
    pub subnet: Option<String>,
    /// The part that containers get addresses of.
    pub ip_range: Option<String>,
    /// The address that leads out.
    pub gateway: Option<String>,
}

/// A named volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// Its name on the engine.
    pub name: String,
    /// Whether it is there already, and made by someone else.
    pub external: bool,
    /// What makes it; absent is the engine's own choice.
    pub driver: Option<String>,
    /// Options of that. The `device` of one that is bound to a folder is as it is written.
    pub driver_opts: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// Where a config or secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// A file of the host.
    File(String),
    /// A variable of the caller's environment.
    Environment(String),
    /// This text.
    Content(String),
    /// Something of the engine, by its name there.
    External(String),
}
