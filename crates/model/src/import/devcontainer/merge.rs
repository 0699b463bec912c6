//! What the image, the features and the devcontainer.json say about the container, made into one.

use std::collections::BTreeMap;

use super::hooks::Phase;
use super::ports::{ForwardedPort, PortAttributes};
use super::reader::Placed;
use super::requirements::HostRequirements;
use super::settings::{Settings, ShutdownAction, UserEnvProbe};
use crate::container::ContainerMount;
use crate::manifest::Run;

/// Who says something about the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The image, in an entry of its label that is no feature's.
    Image,
    /// A feature, by how it was asked for.
    Feature(String),
    /// The devcontainer.json.
    File,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Image => f.write_str("the image"),
            Self::Feature(id) => f.write_str(id),
            Self::File => f.write_str("devcontainer.json"),
        }
    }
}

/// What one of them says.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Who.
    pub origin: Origin,
    /// What.
    pub settings: Settings,
}

/// Something together with who said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said<T> {
    /// Who.
    pub origin: Origin,
    /// What.
    pub value: T,
}

/// What all of them say together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Merged {
    /// Whether an init process reaps what the first process leaves behind: one asks for it.
    pub init: bool,
    /// Whether it may do what root of the host may: one asks for it.
    pub privileged: bool,
    /// Capabilities over the engine's own set, each once.
    pub cap_add: Vec<String>,
    /// Options of the security modules, each once.
    pub security_opt: Vec<String>,
    /// Scripts that are run before the container's own command, in order.
    pub entrypoints: Vec<Said<String>>,
    /// What appears inside; at each place what was said last.
    pub mounts: Vec<ContainerMount>,
    /// The commands of its life, in order.
    pub hooks: BTreeMap<Phase, Vec<Said<Run>>>,
    /// What is meant for editors, as it is, in order.
    pub customizations: Vec<Said<serde_json::Value>>,
    /// Up to which command a tool waits before it attaches.
    pub wait_for: Option<Phase>,
    /// Who the container's first process runs as.
    pub container_user: Option<String>,
    /// Who commands and tools run as.
    pub remote_user: Option<String>,
    /// Which shell is asked for the user's environment.
    pub user_env_probe: Option<UserEnvProbe>,
    /// The environment of the container.
    pub container_env: BTreeMap<String, String>,
    /// The environment of commands and tools, over that of the container; nothing takes a variable away.
    pub remote_env: BTreeMap<String, Option<String>>,
    /// Whether a command that waits is run instead of the image's own.
    pub override_command: Option<bool>,
    /// Ports that are forwarded to the host, each once.
    pub forward_ports: Vec<ForwardedPort>,
    /// What is said about ports: by number, range, `host:port` or expression.
    pub ports_attributes: BTreeMap<String, PortAttributes>,
    /// What is said about all other ports.
    pub other_ports_attributes: Option<PortAttributes>,
    /// What happens when the editor is closed.
    pub shutdown_action: Option<ShutdownAction>,
    /// Whether the user inside gets the ids of the user on the host.
    pub update_remote_user_uid: Option<bool>,
    /// What is asked of the host: the most of each.
    pub host_requirements: HostRequirements,
}

/// Makes one of them all. Later ones weigh more: the entries of the image first, then the features in the order of
/// their installation, then the devcontainer.json.
#[must_use]
pub fn merge(entries: Vec<Entry>) -> Merged {
    let mut merged = Merged::default();
    for Entry { origin, settings } in entries {
        merged.add(&origin, settings);
    }
    merged
}

/// The last one that says something.
fn last<T>(place: &mut Option<T>, said: Option<T>) {
    if said.is_some() {
        *place = said;
    }
}

/// Each one once, in the order in which they were first said.
fn once<T: PartialEq>(place: &mut Vec<T>, said: impl IntoIterator<Item = T>) {
    for item in said {
        if !place.contains(&item) {
            place.push(item);
        }
    }
}

fn value<T>(placed: Placed<T>) -> T {
    placed.value
}

impl Merged {
    fn add(&mut self, origin: &Origin, settings: Settings) {
        self.init |= settings.init.unwrap_or_default();
        self.privileged |= settings.privileged.unwrap_or_default();
        once(&mut self.cap_add, settings.cap_add);
        once(&mut self.security_opt, settings.security_opt.into_iter().map(value));
        once(&mut self.forward_ports, settings.forward_ports.into_iter().map(value));
        self.entrypoints
            .extend(settings.entrypoint.map(|script| Said { origin: origin.clone(), value: script.value }));
        self.customizations
            .extend(settings.customizations.map(|value| Said { origin: origin.clone(), value }));
        for (phase, run) in settings.hooks {
            self.hooks.entry(phase).or_default().push(Said { origin: origin.clone(), value: run.value });
        }
        for mount in settings.mounts.into_iter().map(value) {
            self.mounts.retain(|other| other.target != mount.target);
            self.mounts.push(mount);
        }
        self.container_env.extend(settings.container_env.into_iter().map(|(name, text)| (name, text.value)));
        self.remote_env.extend(settings.remote_env.into_iter().map(|(name, text)| (name, text.value)));
        self.ports_attributes.extend(settings.ports_attributes);
        last(&mut self.other_ports_attributes, settings.other_ports_attributes);
        last(&mut self.wait_for, settings.wait_for);
        last(&mut self.container_user, settings.container_user.map(value));
        last(&mut self.remote_user, settings.remote_user.map(value));
        last(&mut self.user_env_probe, settings.user_env_probe);
        last(&mut self.override_command, settings.override_command);
        last(&mut self.shutdown_action, settings.shutdown_action);
        last(&mut self.update_remote_user_uid, settings.update_remote_user_uid);
        let asked = settings.host_requirements.unwrap_or_default();
        self.host_requirements = std::mem::take(&mut self.host_requirements).max(asked);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::container::MountSource;
    use crate::import::Text;
    use crate::import::devcontainer::{image_metadata, parse};

    fn label(text: &str) -> Vec<Entry> {
        image_metadata(&Text::new("label", text)).unwrap().0
    }

    fn file(text: &str) -> Entry {
        let file = parse(&Text::new("devcontainer.json", text)).unwrap();
        Entry { origin: Origin::File, settings: file.settings }
    }

    fn all() -> Merged {
        let mut entries = label(
            r#"[
            { "id": "a", "init": true, "capAdd": ["SYS_PTRACE"], "entrypoint": "/a.sh", "postCreateCommand": "one",
              "mounts": [{ "type": "volume", "source": "a", "target": "/x" }, { "type": "volume", "source": "k", "target": "/k" }] },
            { "remoteUser": "vscode", "containerEnv": { "A": "1", "B": "1" }, "remoteEnv": { "P": "1" },
              "forwardPorts": [80, "db:1"], "portsAttributes": { "80": { "label": "x", "protocol": "http" } },
              "hostRequirements": { "cpus": 4, "memory": "4gb" }, "waitFor": "onCreateCommand" }
            ]"#,
        );
        entries.push(file(
            r#"{ "image": "x", "init": false, "capAdd": ["cap_sys_ptrace", "NET_ADMIN"], "postCreateCommand": { "a": "b" },
            "mounts": ["type=bind,source=/y,target=/x"], "remoteUser": "me", "containerEnv": { "B": "2" },
            "remoteEnv": { "P": null }, "forwardPorts": ["localhost:80", 90], "portsAttributes": { "80": { "label": "y" } },
            "hostRequirements": { "cpus": 2, "memory": "8gb" }, "overrideCommand": false }"#,
        ));
        merge(entries)
    }

    #[test]
    fn what_one_asks_for_is_so_and_lists_are_joined() {
        let merged = all();
        assert!(merged.init && !merged.privileged);
        assert_eq!(merged.cap_add, ["SYS_PTRACE", "NET_ADMIN"]);
        let ports: Vec<String> = merged.forward_ports.iter().map(ToString::to_string).collect();
        assert_eq!(ports, ["80", "db:1", "90"]);
    }

    #[test]
    fn scripts_and_commands_are_collected_with_who_said_them() {
        let merged = all();
        assert_eq!(merged.entrypoints[0].value, "/a.sh");
        let hooks: Vec<String> = merged.hooks[&Phase::PostCreate]
            .iter()
            .map(|hook| format!("{} says {}", hook.origin, hook.value))
            .collect();
        assert_eq!(hooks, ["a says one", "devcontainer.json says a: b"]);
    }

    #[test]
    fn the_last_one_wins_where_only_one_can() {
        let merged = all();
        assert_eq!(merged.remote_user.as_deref(), Some("me"));
        assert_eq!(merged.wait_for, Some(Phase::OnCreate));
        assert_eq!(merged.override_command, Some(false));
        assert_eq!(merged.container_env["A"], "1");
        assert_eq!(merged.container_env["B"], "2");
        assert_eq!(merged.remote_env["P"], None);
        assert_eq!(merged.ports_attributes["80"].label.as_deref(), Some("y"));
        assert_eq!(merged.ports_attributes["80"].protocol, None);
        let targets: Vec<&str> = merged.mounts.iter().map(|mount| mount.target.as_str()).collect();
        assert_eq!(targets, ["/k", "/x"]);
        assert!(matches!(&merged.mounts[1].source, MountSource::Bind { source, .. } if source == "/y"));
    }

    #[test]
    fn of_the_host_the_most_is_asked() {
        let asked = all().host_requirements;
        assert_eq!((asked.cpus, asked.memory.map(|size| size.0)), (Some(4), Some(8 << 30)));
    }

    #[test]
    fn the_environment_inside_is_put_in_last() {
        let merged = merge(vec![file(
            r#"{ "image": "x", "remoteEnv": { "PATH": "${containerEnv:PATH}:/x" },
            "initializeCommand": "echo ${containerEnv:PATH}", "postStartCommand": ["echo", "${containerEnv:PATH}"] }"#,
        )]);
        let merged = merged.inside(&BTreeMap::from([("PATH".to_owned(), "/bin".to_owned())]));
        assert_eq!(merged.remote_env["PATH"].as_deref(), Some("/bin:/x"));
        assert_eq!(merged.hooks[&Phase::PostStart][0].value.to_string(), "echo /bin");
        assert_eq!(merged.hooks[&Phase::Initialize][0].value.to_string(), "echo ${containerEnv:PATH}");
    }

    #[test]
    fn nothing_said_is_nothing() {
        assert_eq!(merge(vec![]), Merged::default());
    }

    /// Some entry of a label.
    fn entry() -> impl Strategy<Value = String> {
        prop::sample::subsequence(
            vec![
                r#""init": true"#,
                r#""privileged": true"#,
                r#""capAdd": ["A", "B"]"#,
                r#""mounts": ["type=volume,source=a,target=/a"]"#,
                r#""remoteUser": "a""#,
                r#""containerEnv": { "A": "a" }"#,
                r#""forwardPorts": [1, 2]"#,
                r#""hostRequirements": { "cpus": 2, "gpu": "optional" }"#,
            ],
            0..8,
        )
        .prop_map(|members| format!("{{ {} }}", members.join(", ")))
    }

    proptest! {
        #[test]
        fn saying_the_same_twice_changes_nothing_but_lists_of_commands(text in entry()) {
            let once = label(&text);
            let twice = [once.clone(), once.clone()].concat();
            prop_assert_eq!(merge(twice), merge(once));
        }
    }
}
