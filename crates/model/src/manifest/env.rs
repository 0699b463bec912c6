//! Environments as they are declared.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::byte_size::ByteSize;
use super::env_value::EnvValue;
use super::first_boot::FirstBootStep;
use super::hook::Hook;
use super::problem::Location;
use crate::container::{Build, Container, Feature};
use crate::import::compose::{Dependency, Network as DeclaredNetwork, RestartPolicy, Stored, Volume};
use crate::import::devcontainer::UserEnvProbe;
use crate::names::{HookName, PackName, SecretName, UnitName};

/// What runs environments.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// Setpoint's own.
    #[default]
    Embedded,
    /// Docker.
    Docker,
    /// Podman.
    Podman,
}

impl EngineKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Embedded, Self::Docker, Self::Podman];

    /// The engine as the manifest writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    /// The engine that the manifest writes like this.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether its builder asks for secrets while it builds.
    #[must_use]
    pub fn has_build_secrets(self) -> bool {
        self == Self::Docker
    }
}

/// An environment.
#[derive(Debug, Clone, PartialEq)]
pub struct Env {
    /// Its name.
    pub name: UnitName,
    /// Where it is declared.
    pub at: Location,
    /// What it is built on.
    pub base: Base,
    /// Where the base is declared; the environment's own place if nothing is said.
    pub base_at: Location,
    /// What is installed, in this order.
    pub packs: Vec<PackUse>,
    /// Whether packs run at every start.
    pub packs_on_start: PacksOnStart,
    /// Where the project appears inside: an absolute path.
    pub workspace: String,
    /// Who runs hooks and shells; nothing is the owner of the project's folder.
    pub user: Option<String>,
    /// Environment variables.
    pub env: BTreeMap<String, EnvValue>,
    /// Folders and files of the host that appear inside.
    pub mounts: Vec<MountDecl>,
    /// What of the homes of the host is visible inside: absolute, or from the home by `~/`.
    pub host_paths: Vec<String>,
    /// Ports that something inside listens on.
    pub ports: Vec<PortDecl>,
    /// What it may use at most.
    pub limits: Limits,
    /// The network that it sees.
    pub network: Network,
    /// What runs in the course of its life.
    pub hooks: BTreeMap<HookName, Hook>,
    /// What else its container is made with, where it is one.
    pub container: Container,
    /// What it has of a devcontainer.json beyond what a manifest can say.
    pub devcontainer: Option<OfDevContainer>,
    /// What makes it a service, if it is one.
    pub service: Option<OfService>,
}

/// What makes a unit a service: it runs a command of its own, for others.
#[derive(Debug, Clone, PartialEq)]
pub struct OfService {
    /// What its file calls it.
    pub called: String,
    /// Whether that is a compose file, which other tools may read as well.
    pub of_compose: bool,
    /// The units that come before it, and what they must have come to.
    pub depends_on: BTreeMap<UnitName, Dependency>,
    /// When the engine starts it again.
    pub restart: RestartPolicy,
    /// The networks that it is in.
    pub networks: Vec<DeclaredNetwork>,
    /// The named volumes that it has.
    pub volumes: Vec<Volume>,
    /// Files that are put into it.
    pub files: Vec<ServiceFile>,
    /// What is done once for its data, in this order.
    pub first_boot: Vec<FirstBootStep>,
    /// Whether others wait for its end: then it is done when it has ended well.
    pub completes: bool,
    /// The commands that back its data up and restore it, where it has its own.
    pub backup: Option<BackupCommands>,
}

/// Commands in a service by which its data is backed up and restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupCommands {
    /// What writes the data to its standard output.
    pub run: Vec<String>,
    /// What reads it from its standard input.
    pub restore: Vec<String>,
    /// Who runs them; nobody said is who runs the service.
    pub user: Option<String>,
}

/// A file that is put into a service: a config, a secret, or what is made of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFile {
    /// What it is called: `config app`, `secret db-password`, `file /etc/app.conf`.
    pub name: String,
    /// Where it appears: an absolute path.
    pub target: String,
    /// Where it comes from.
    pub source: FileSource,
    /// Its access rights.
    pub mode: Option<u32>,
    /// Whose it is: a name or `uid[:gid]`; nobody said is who runs the service.
    pub owner: Option<String>,
}

/// Where a file comes from that is put into a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSource {
    /// A compose file says it.
    Stored(Stored),
    /// It is the value of a secret.
    Secret(SecretName),
    /// It is made of a template.
    Template {
        /// The template, from the project's folder.
        path: String,
        /// Where it is declared.
        at: Location,
    },
}

impl OfService {
    /// The templates of its files.
    pub fn templates(&self) -> impl Iterator<Item = (&str, &Location)> {
        self.files.iter().filter_map(|file| match &file.source {
            FileSource::Template { path, at } => Some((path.as_str(), at)),
            FileSource::Stored(_) | FileSource::Secret(_) => None,
        })
    }

    /// The secrets that are files of it.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        self.files.iter().filter_map(|file| match &file.source {
            FileSource::Secret(name) => Some(name),
            FileSource::Stored(_) | FileSource::Template { .. } => None,
        })
    }
}

/// What an environment has of its devcontainer.json, beyond what a manifest can say.
#[derive(Debug, Clone, PartialEq)]
pub struct OfDevContainer {
    /// The file, from the project's folder.
    pub file: String,
    /// Whether all that it depends on is known: what its image says, and its features.
    pub complete: bool,
    /// Which shell is asked for the user's environment.
    pub probe: UserEnvProbe,
    /// Whether the image's own command runs, instead of one that waits.
    pub keeps_command: bool,
    /// Scripts that are run before the first process.
    pub entrypoints: Vec<String>,
    /// Variables that sessions do not have.
    pub unset: BTreeSet<String>,
}

/// What an environment is built on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Base {
    /// The host's own system.
    Host,
    /// An image.
    Image {
        /// Its reference, as it is written.
        reference: String,
    },
    /// An image that is built from a Dockerfile.
    Build {
        /// What is built, and how.
        build: Box<Build>,
    },
    /// What is installed over another base.
    Features {
        /// What they are installed over.
        on: Box<Base>,
        /// What is installed, in this order.
        features: Vec<Feature>,
        /// The user who gets the ids of the project's owner.
        user: Option<String>,
    },
    /// A devcontainer.json says it.
    DevContainer {
        /// The file, from the project's folder.
        file: String,
    },
    /// A root file system.
    Rootfs {
        /// A folder or an archive on the host.
        path: String,
    },
}

impl Base {
    /// Whether it is made of the project itself, so that it is of the project's version: what others have made is not.
    #[must_use]
    pub fn is_of_project(&self) -> bool {
        match self {
            Self::Host | Self::Build { .. } | Self::Rootfs { .. } => true,
            Self::Image { reference } => reference.starts_with(['.', '/']),
            Self::Features { on, .. } => on.is_of_project(),
            Self::DevContainer { .. } => false,
        }
    }
}

/// A pack in an environment's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackUse {
    /// Its name.
    pub name: PackName,
    /// Where it is listed.
    pub at: Location,
}

impl PackUse {
    /// The path of its script, from the project's folder.
    #[must_use]
    pub fn script(&self) -> String {
        format!("{PACKS}/{}.sh", self.name)
    }
}

/// Where the scripts of packs lie, from the project's folder.
const PACKS: &str = ".setpoint/packs";

/// Whether packs run at every start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PacksOnStart {
    /// At every start: they make sure of what they install.
    #[default]
    Always,
    /// Only those that differ from what was applied, or have failed.
    Drift,
}

/// A folder or file of the host that appears inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountDecl {
    /// What of the host: absolute, from the home by `~/`, or from the project's folder.
    pub source: String,
    /// Where it appears inside: an absolute path.
    pub target: String,
    /// Whether it can only be read.
    pub read_only: bool,
    /// Where it is declared.
    pub at: Location,
}

/// A port that something inside listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortDecl {
    /// Its number, never 0.
    pub port: u16,
    /// The port of the host that leads to it; the same number where nothing is said.
    pub host: Option<u16>,
    /// The address of the host that leads to it; 127.0.0.1 where nothing is said.
    pub address: Option<IpAddr>,
    /// Where it is declared.
    pub at: Location,
}

/// What an environment may use at most; nothing is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Memory, never 0.
    pub memory: Option<ByteSize>,
    /// Processors, in parts; finite and above 0.
    pub cpus: Option<f64>,
    /// Processes and threads, never 0.
    pub pids: Option<u64>,
}

/// The network that an environment sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// That of the host.
    #[default]
    Host,
    /// None at all.
    None,
    /// One of its own, with a way out.
    Private,
}

impl Network {
    /// The network as the manifest writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::None => "none",
            Self::Private => "private",
        }
    }
}

/// A file of which the manifest says that it is there. Whether it is, the caller finds out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeededFile {
    /// Its path: from the project's folder, unless it begins with `/` or `~/`.
    pub path: String,
    /// Where the manifest says so.
    pub at: Location,
    /// What it is for.
    pub purpose: Purpose,
}

/// What a file is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// The script of a pack.
    Pack(PackName),
    /// A script that a hook runs.
    Hook(HookName),
    /// The root file system of an environment.
    Rootfs(UnitName),
    /// The image of an environment, where it is a layout or an archive on this machine.
    Image(UnitName),
    /// The template of a service's file.
    Template(UnitName),
}

impl std::fmt::Display for Purpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pack(name) => write!(f, "the script of the pack `{name}`"),
            Self::Hook(name) => write!(f, "the script of the hook `{name}`"),
            Self::Image(name) => write!(f, "the image of `{name}`"),
            Self::Template(name) => write!(f, "a template of `{name}`"),
            Self::Rootfs(name) => write!(f, "the root file system of `{name}`"),
        }
    }
}

impl Env {
    /// The named volumes that it has: a service's.
    pub fn volumes(&self) -> impl Iterator<Item = &Volume> {
        self.service.iter().flat_map(|of| &of.volumes)
    }

    /// A service, as it is where nothing else is said: in a network of its own, with nothing of the host. `base` is what
    /// it is built on, and where that is said.
    #[must_use]
    pub fn of_service(
        name: UnitName,
        at: Location,
        base: (Base, Location),
        container: Container,
        of: OfService,
    ) -> Self {
        let (base, base_at) = base;
        Self {
            name,
            at,
            base,
            base_at,
            packs: Vec::new(),
            packs_on_start: PacksOnStart::default(),
            workspace: String::new(),
            user: Some(container.user.clone().unwrap_or_default()),
            env: BTreeMap::new(),
            mounts: Vec::new(),
            host_paths: Vec::new(),
            ports: Vec::new(),
            limits: Limits::default(),
            network: Network::Private,
            hooks: BTreeMap::new(),
            container,
            devcontainer: None,
            service: Some(of),
        }
    }

    /// Whether it is there for others, and nobody works inside it.
    #[must_use]
    pub fn is_service(&self) -> bool {
        self.service.is_some() && self.devcontainer.is_none()
    }

    /// The files that must be there for this environment: scripts of packs and hooks, and its root file system.
    #[must_use]
    pub fn files_that_must_exist(&self) -> Vec<NeededFile> {
        let packs = self.packs.iter().map(|pack| NeededFile {
            path: pack.script(),
            at: pack.at.clone(),
            purpose: Purpose::Pack(pack.name.clone()),
        });
        let hooks = self.hooks.iter().flat_map(|(name, hook)| {
            hook.run.scripts().map(|path| NeededFile {
                path: path.to_owned(),
                at: hook.at.clone(),
                purpose: Purpose::Hook(*name),
            })
        });
        let rootfs = match &self.base {
            Base::Rootfs { path } => Some(NeededFile {
                path: path.clone(),
                at: self.base_at.clone(),
                purpose: Purpose::Rootfs(self.name.clone()),
            }),
            Base::Image { reference } if reference.starts_with(['.', '/']) => Some(NeededFile {
                path: reference.clone(),
                at: self.base_at.clone(),
                purpose: Purpose::Image(self.name.clone()),
            }),
            Base::Host
            | Base::Image { .. }
            | Base::Build { .. }
            | Base::Features { .. }
            | Base::DevContainer { .. } => None,
        };
        let templates = self.service.iter().flat_map(OfService::templates).map(|(path, at)| NeededFile {
            path: path.to_owned(),
            at: at.clone(),
            purpose: Purpose::Template(self.name.clone()),
        });
        rootfs.into_iter().chain(packs).chain(hooks).chain(templates).collect()
    }
}
