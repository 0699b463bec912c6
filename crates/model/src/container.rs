//! What a container is made with besides its image: the settings that Docker's API, the `runArgs` of a
//! devcontainer.json and a service of a compose.yaml have in common. Absent always means what the engine does by
//! itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::manifest::ByteSize;

/// The settings of a container. Those that do the same thing have one place here, however they were written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// The program that is run instead of the image's; an empty list takes the image's away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// What is run instead of the image's command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// The environment of its first process, over that of the image.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Who its first process runs as: a name or `uid[:gid]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where its first process starts: an absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Its host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The domain of its host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Whether an init process reaps what its first process leaves behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    /// Whether it may do what root of the host may.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
    /// Whether its own file system cannot be written.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Capabilities over the engine's own set, in capital letters and without `CAP_`; `ALL` is all.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub cap_add: BTreeSet<String>,
    /// Capabilities out of the engine's own set, written as in `cap_add`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub cap_drop: BTreeSet<String>,
    /// Options of the security modules: `seccomp=unconfined`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub security_opt: BTreeSet<String>,
    /// Devices of the host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Groups that its first process is in besides its own: names or numbers.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub group_add: BTreeSet<String>,
    /// Names that are added to its `/etc/hosts`, with their addresses (`host-gateway` is the host's).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_hosts: Vec<ExtraHost>,
    /// Servers of names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// Domains that short names are looked for in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_search: Vec<String>,
    /// Options of the resolver.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_opt: Vec<String>,
    /// Kernel parameters of its own namespaces.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Limits of each of its processes, by name: `nofile`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// The size of `/dev/shm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<ByteSize>,
    /// How it shares memory with others: `host`, `private`, `shareable`, `container:NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipc: Option<String>,
    /// Whose processes it sees: `host`, `container:NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<String>,
    /// Whose host name it has: `host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uts: Option<String>,
    /// Whose user ids it has: `host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userns: Option<String>,
    /// Whose control groups it sees: `host`, `private`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroupns: Option<String>,
    /// The platform of its image: `linux/arm64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The low-level runtime that starts it, by the engine's name for it: `runc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Whether it has a terminal.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tty: bool,
    /// Whether its input stays open.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stdin_open: bool,
    /// The signal that asks it to stop: `SIGINT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// How long it may take to stop before it is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_grace: Option<Duration>,
    /// Labels of the user's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What of the host, of volumes and of memory appears inside, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<ContainerMount>,
    /// Ports that are published on the host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PublishedPort>,
    /// The networks that it is in; absent is the engine's own choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkMode>,
    /// What it may use at most.
    pub resources: Resources,
    /// Where the engine keeps its output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logging: Option<Logging>,
    /// How the engine finds out whether it is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

impl Container {
    /// The settings that are made, by name, with their values as a person may see them; each entry of a list or a table
    /// is one. Mounts go by where they appear, ports by their numbers.
    #[must_use]
    pub fn settings(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let Ok(Value::Object(settings)) = serde_json::to_value(self) else { return found };
        for (name, value) in &settings {
            match value {
                Value::Object(entries) => {
                    found.extend(entries.iter().map(|(key, value)| (format!("{name} {key}"), shown(value))));
                }
                Value::Array(entries) if IN_ORDER.contains(&name.as_str()) => {
                    found.push((name.clone(), shown(&Value::Array(entries.clone()))));
                }
                Value::Array(entries) => {
                    found.extend(
                        entries.iter().map(|entry| (format!("{name} {}", key_of(entry)), shown(entry))),
                    );
                }
                value => found.push((name.clone(), shown(value))),
            }
        }
        found.sort();
        found
    }
}

/// The lists whose order is part of what they mean.
const IN_ORDER: [&str; 5] = ["entrypoint", "command", "dns", "dns_search", "dns_opt"];

/// What an entry of a list is found by: where it appears inside, its port, or itself.
fn key_of(entry: &Value) -> String {
    ["target", "container", "name"].iter().find_map(|key| entry.get(key)).map_or_else(|| shown(entry), shown)
}

/// A value as a person may see it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(entries) => {
            // In an order of its own: that of the fields may change.
            let sorted: BTreeMap<_, _> = entries.iter().collect();
            let parts = sorted.into_iter().map(|(key, value)| format!("{key} {}", shown(value)));
            parts.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// A device of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its path on the host.
    pub source: String,
    /// Its path inside.
    pub target: String,
    /// What may be done with it: `rwm` or a part of that.
    pub permissions: String,
}

/// A name in `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExtraHost {
    /// The name.
    pub name: String,
    /// Its address, or `host-gateway`.
    pub address: String,
}

/// A limit of a process; -1 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// What it has at first.
    pub soft: i64,
    /// Up to where it may raise that.
    pub hard: i64,
}

/// What may be used at most, or is kept free for it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Memory at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// Memory and swap together at most; -1 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swap: Option<i64>,
    /// Memory that is kept for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_reservation: Option<ByteSize>,
    /// Processors at most, in parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Its share of the processors beside others; 1024 is the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<i64>,
    /// The processors that it may run on: `0-2,4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset: Option<String>,
    /// Processes and threads at most; -1 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<i64>,
    /// How readily the kernel kills it when memory runs out: -1000 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i64>,
    /// Graphic processors: `all`, or how many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<String>,
}

/// Something that appears inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerMount {
    /// Where: an absolute path.
    pub target: String,
    /// Whether it can only be read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// What.
    #[serde(flatten)]
    pub source: MountSource,
}

/// What appears inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum MountSource {
    /// A folder or file of the host.
    Bind {
        /// Its path: absolute, from the home by `~/`, or from the project's folder.
        source: String,
        /// Whether a folder is made there if nothing is.
        #[serde(default)]
        create: bool,
        /// How mounts below it are passed on: `rslave`; absent is the engine's own choice.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        propagation: Option<String>,
    },
    /// A volume of the engine.
    Volume {
        /// Its name on the engine; absent is one of its own, that goes with the container.
        name: Option<String>,
        /// Whether it stays as empty as it is made, instead of taking what the image has there.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        no_copy: bool,
        /// The folder of it that appears, instead of all of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
    },
    /// Memory, empty at every start.
    Tmpfs {
        /// Its size at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<ByteSize>,
        /// Its access rights, as a number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<u32>,
        /// Other options, as they are written.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        options: Vec<String>,
    },
}

/// A port that is published on the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The port inside.
    pub container: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The address on the host; absent is every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The port on the host; absent is any free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<u16>,
}

/// The networks that a container is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// None at all.
    None,
    /// That of the host.
    Host,
    /// That of another container, by its name on the engine.
    Container(String),
    /// That of another unit of the project, by its name.
    Unit(String),
    /// These, by their names on the engine.
    Networks(BTreeMap<String, Attachment>),
}

/// How a container is in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// Names that it has there besides its own.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub aliases: BTreeSet<String>,
    /// Whether it does not even have its own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_unnamed: bool,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<String>,
    /// Its address of version 6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<String>,
    /// Its hardware address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Which network leads out, the highest number first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
}

/// Where the engine keeps output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logging {
    /// The engine's name for the way: `json-file`; absent is the engine's own choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Options of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// How to find out whether a container is well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// What is run or asked; absent is the image's own check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<HealthTest>,
    /// How long between two checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// How long a check may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How many failures in a row it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// For how long after the start failures do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_period: Option<Duration>,
    /// How long between two checks in that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<Duration>,
}

impl Health {
    /// Whether it asks over a network, instead of running something inside.
    #[must_use]
    pub fn asks(&self) -> bool {
        matches!(self.test, Some(HealthTest::Http { .. } | HealthTest::Tcp { .. }))
    }
}

/// What a check runs, or asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthTest {
    /// Nothing: also the image's own check is off.
    Off,
    /// A program with its arguments.
    Exec(Vec<String>),
    /// A command for the shell.
    Shell(String),
    /// A `GET` by HTTP, made within its network. No redirect is followed.
    Http {
        /// The port that it listens on.
        port: u16,
        /// What is asked for: a path that begins with `/`, and perhaps a query.
        path: String,
        /// The answer that is good; absent is every one of 200 to 399.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
    },
    /// A connection, made within its network.
    Tcp {
        /// The port that it listens on.
        port: u16,
    },
}

/// An image that is built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Build {
    /// The folder that the Dockerfile may copy from: absolute, or from the project's folder; or a URL.
    pub context: String,
    /// The Dockerfile, from the context; absent is `Dockerfile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<String>,
    /// The Dockerfile itself, where it is no file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inline: Option<String>,
    /// Build arguments; without a value the builder's environment gives it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, Option<String>>,
    /// The stage that is built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Images whose layers may be taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache_from: Vec<String>,
    /// The platform that is built for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The network of its steps: `host`, `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Labels of the image.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Names that are added to `/etc/hosts` of its steps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_hosts: Vec<ExtraHost>,
    /// The size of `/dev/shm` of its steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<ByteSize>,
    /// Secrets that its steps may mount, by id, with where each comes from.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, BuildSecret>,
    /// Other contexts by name: a folder, an image (`docker-image://`), a URL.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub additional_contexts: BTreeMap<String, String>,
    /// Whether no earlier layer is taken.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_cache: bool,
    /// Whether base images are asked for anew.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pull: bool,
}

/// Something that is installed over an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Feature {
    /// What it is called: `ghcr.io/devcontainers/features/node:1`, `./hello`.
    pub name: String,
    /// The folder with its `install.sh`: an absolute path.
    pub folder: String,
    /// The digest of what is in the folder.
    pub digest: Digest,
    /// The environment of its `install.sh`.
    pub install_env: BTreeMap<String, String>,
    /// What it adds to the environment of the image, for those after it too.
    pub image_env: BTreeMap<String, String>,
    /// Where it is asked for: the file, its line, and the line itself.
    pub at: (String, u32, String),
}

/// Where a secret of a build comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildSecret {
    /// A file of the host: absolute, from the home by `~/`, or from the project's folder.
    File(String),
    /// A variable of the caller's environment.
    Env(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_that_is_made_is_told_and_no_other() {
        assert_eq!(Container::default().settings(), []);
        let container = Container {
            init: Some(true),
            cap_add: ["SYS_PTRACE".to_owned()].into(),
            env: [("A".to_owned(), "1".to_owned())].into(),
            command: Some(vec!["a".to_owned(), "b".to_owned()]),
            mounts: vec![ContainerMount {
                target: "/data".to_owned(),
                read_only: false,
                source: MountSource::Volume { name: Some("v".to_owned()), no_copy: false, subpath: None },
            }],
            ..Container::default()
        };
        let settings = container.settings();
        let told: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            told,
            [
                ("cap_add SYS_PTRACE", "SYS_PTRACE"),
                ("command", r#"["a","b"]"#),
                ("env A", "1"),
                ("init", "true"),
                ("mounts /data", "kind volume, name v, target /data"),
            ]
        );
    }
}
