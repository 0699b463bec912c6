//! How each key of a service is read.

use std::collections::{BTreeMap, BTreeSet};

use super::node::{Data, Node};
use super::service::{Reader, VolumesFrom};
use super::source::Place;
use super::types::{PullPolicy, ServiceHook};
use super::{build, depends, deploy, devices, files, health, hosts, mounts, networks, ports, quantity};
use crate::container::{Logging, NetworkMode};

type ReadKey = fn(&mut Reader<'_, '_>, &Node, &'static str);

/// How each key is read.
pub(super) const READERS: &[(&str, ReadKey)] = &[
    ("build", |s, n, _| s.out.build = build::read(&mut s.loader.report, n, &s.around.secrets, &s.around.env)),
    ("cap_add", |s, n, k| s.out.container.cap_add = s.capabilities(n, k)),
    ("cap_drop", |s, n, k| s.out.container.cap_drop = s.capabilities(n, k)),
    ("cgroup", |s, n, k| s.out.container.cgroupns = s.filled(n, k)),
    ("command", |s, n, k| s.out.container.command = s.report().command(n, k)),
    ("configs", |s, n, _| {
        s.out.configs = files::used(&mut s.loader.report, n, &s.around.configs, files::Kind::Config);
    }),
    ("container_name", |s, n, k| s.out.container_name = s.filled(n, k)),
    ("cpu_shares", |s, n, k| s.out.container.resources.cpu_shares = s.report().whole(n, k)),
    ("cpus", |s, n, k| s.out.container.resources.cpus = s.report().decimal(n, k)),
    ("cpuset", |s, n, k| s.out.container.resources.cpuset = s.word(n, k)),
    ("depends_on", |s, n, _| s.needs = depends::read(s.report(), n)),
    ("deploy", |s, n, _| s.deploy = deploy::read(s.report(), n).unwrap_or_default()),
    ("devices", |s, n, _| s.out.container.devices = devices::read(s.report(), n)),
    ("dns", |s, n, k| s.out.container.dns = s.report().one_or_more(n, k)),
    ("dns_opt", |s, n, k| s.out.container.dns_opt = s.report().one_or_more(n, k)),
    ("dns_search", |s, n, k| s.out.container.dns_search = s.report().one_or_more(n, k)),
    ("domainname", |s, n, k| s.out.container.domainname = s.filled(n, k)),
    ("entrypoint", |s, n, k| s.out.container.entrypoint = s.report().command(n, k)),
    ("env_file", |s, n, k| s.env_file = files::variables(s.loader, n, k, &s.around.env)),
    ("environment", |s, n, k| s.environment = s.report().pairs(n, k)),
    ("expose", |s, n, _| s.out.expose = ports::exposed(s.report(), n)),
    // What is extended is in the service already.
    ("extends", |_, _, _| {}),
    ("extra_hosts", |s, n, _| s.out.container.extra_hosts = hosts::read(s.report(), n)),
    ("gpus", |s, n, _| s.out.container.resources.gpus = deploy::graphics(s.report(), n, "services.*.gpus.*")),
    ("group_add", |s, n, k| {
        s.out.container.group_add = s.report().scalars(n, k).into_iter().map(|(group, _)| group).collect();
    }),
    ("healthcheck", |s, n, _| s.out.container.health = health::read(s.report(), n)),
    ("hostname", |s, n, k| s.out.container.hostname = s.filled(n, k)),
    ("image", |s, n, k| s.out.image = s.filled(n, k)),
    ("init", |s, n, k| s.out.container.init = s.report().truth(n, k)),
    ("ipc", |s, n, k| s.out.container.ipc = s.namespace(n, k)),
    ("label_file", |s, n, k| s.label_file = files::variables(s.loader, n, k, &s.around.env)),
    ("labels", |s, n, k| s.out.container.labels = s.report().named(n, k)),
    ("links", |s, n, k| s.links(n, k)),
    ("logging", |s, n, k| s.logging(n, k)),
    ("mac_address", |s, n, k| s.mac = s.report().text(n, k).map(|mac| (mac, n.at.clone()))),
    ("mem_limit", |s, n, k| s.out.container.resources.memory = s.report().size(n, k)),
    ("mem_reservation", |s, n, k| s.out.container.resources.memory_reservation = s.report().size(n, k)),
    ("memswap_limit", |s, n, k| s.out.container.resources.memory_swap = s.swap(n, k)),
    ("network_mode", |s, n, k| s.network_mode(n, k)),
    ("networks", |s, n, _| {
        s.networks_at = Some(n.at.clone());
        let known = &s.around.networks;
        let attachments = networks::attachments(&mut s.loader.report, n, s.name, known);
        s.out.container.network = Some(NetworkMode::Networks(attachments));
    }),
    ("oom_score_adj", |s, n, k| s.out.container.resources.oom_score_adj = s.report().whole(n, k)),
    ("pid", |s, n, k| s.out.container.pid = s.namespace(n, k)),
    ("pids_limit", |s, n, k| s.out.container.resources.pids = s.report().whole(n, k)),
    ("platform", |s, n, k| s.out.container.platform = s.filled(n, k)),
    ("ports", |s, n, _| s.out.container.ports = ports::read(s.report(), n)),
    ("post_start", |s, n, k| s.out.post_start = s.hooks(n, k, "services.*.post_start.*")),
    ("pre_stop", |s, n, k| s.out.pre_stop = s.hooks(n, k, "services.*.pre_stop.*")),
    ("privileged", |s, n, k| s.out.container.privileged = s.report().truth(n, k) == Some(true)),
    ("profiles", |s, n, k| {
        s.out.profiles = s.report().texts(n, k).into_iter().map(|(profile, _)| profile).collect();
    }),
    ("pull_policy", |s, n, k| s.out.pull_policy = s.pull_policy(n, k)),
    ("read_only", |s, n, k| s.out.container.read_only = s.report().truth(n, k) == Some(true)),
    ("restart", |s, n, _| s.out.restart = deploy::policy(s.report(), n).unwrap_or_default()),
    ("runtime", |s, n, k| s.out.container.runtime = s.filled(n, k)),
    ("scale", |s, n, k| s.out.replicas = s.report().whole(n, k).unwrap_or(1)),
    ("secrets", |s, n, _| {
        s.out.secrets = files::used(&mut s.loader.report, n, &s.around.secrets, files::Kind::Secret);
    }),
    ("security_opt", |s, n, k| s.out.container.security_opt = s.set(n, k)),
    ("shm_size", |s, n, k| s.out.container.shm_size = s.report().size(n, k)),
    ("stdin_open", |s, n, k| s.out.container.stdin_open = s.report().truth(n, k) == Some(true)),
    ("stop_grace_period", |s, n, k| s.out.container.stop_grace = s.report().duration(n, k)),
    ("stop_signal", |s, n, k| s.out.container.stop_signal = s.filled(n, k)),
    ("sysctls", |s, n, k| s.out.container.sysctls = s.report().named(n, k)),
    ("tmpfs", |s, n, _| s.tmpfs = mounts::tmpfs(s.report(), n)),
    ("tty", |s, n, k| s.out.container.tty = s.report().truth(n, k) == Some(true)),
    ("ulimits", |s, n, _| s.out.container.ulimits = devices::ulimits(s.report(), n)),
    ("user", |s, n, k| s.out.container.user = s.word(n, k)),
    ("userns_mode", |s, n, k| s.out.container.userns = s.filled(n, k)),
    ("uts", |s, n, k| s.out.container.uts = s.filled(n, k)),
    ("volumes", |s, n, _| {
        s.out.container.mounts = mounts::read(&mut s.loader.report, n, &s.around.volumes);
    }),
    ("volumes_from", |s, n, k| s.volumes_from(n, k)),
    ("working_dir", |s, n, k| s.out.container.working_dir = s.filled(n, k)),
];

impl Reader<'_, '_> {
    /// A text; an empty one, as a variable without a value leaves it, is as good as none.
    fn filled(&mut self, node: &Node, key: &str) -> Option<String> {
        self.report().text(node, key).filter(|text| !text.is_empty())
    }

    /// A text or a number, as it is written.
    fn word(&mut self, node: &Node, key: &str) -> Option<String> {
        match &node.data {
            Data::Number(text) => Some(text.clone()),
            _ => self.filled(node, key),
        }
    }

    fn set(&mut self, node: &Node, key: &str) -> BTreeSet<String> {
        self.report().texts(node, key).into_iter().map(|(text, _)| text).collect()
    }

    fn capabilities(&mut self, node: &Node, key: &str) -> BTreeSet<String> {
        let plain = |text: String| {
            let text = text.to_ascii_uppercase();
            text.strip_prefix("CAP_").map_or(text.clone(), str::to_owned)
        };
        self.set(node, key).into_iter().map(plain).collect()
    }

    /// Whose namespace is shared; that of another service makes it a dependency.
    fn namespace(&mut self, node: &Node, key: &str) -> Option<String> {
        let text = self.filled(node, key)?;
        if let Some(service) = text.strip_prefix("service:") {
            self.need(service, &node.at);
        }
        Some(text)
    }

    /// Another service must have been started, if nothing else is said about it.
    fn need(&mut self, service: &str, at: &Place) {
        self.needs.entry(service.to_owned()).or_insert_with(|| (depends::STARTED, at.clone()));
    }

    fn network_mode(&mut self, node: &Node, key: &str) {
        let Some(text) = self.filled(node, key) else { return };
        let mode = networks::mode(&text);
        if let NetworkMode::Unit(service) = &mode {
            self.need(&service.clone(), &node.at);
        }
        self.network_mode = Some((mode, node.at.clone()));
    }

    fn links(&mut self, node: &Node, key: &str) {
        for (text, at) in self.report().texts(node, key) {
            let (service, alias) = text.split_once(':').unwrap_or((&text, ""));
            self.need(service, at);
            if !alias.is_empty() && alias != service {
                self.links.push((service.to_owned(), alias.to_owned()));
            }
        }
    }

    fn volumes_from(&mut self, node: &Node, key: &str) {
        for (text, at) in self.report().texts(node, key) {
            if text.starts_with("container:") {
                self.report().note(
                    at,
                    format!("`{text}` is left out: only services of the project have mounts to give"),
                );
                continue;
            }
            let (service, mode) = text.split_once(':').unwrap_or((&text, "rw"));
            self.need(service, at);
            self.volumes_from.push(VolumesFrom {
                service: service.to_owned(),
                read_only: mode == "ro",
                at: at.clone(),
            });
        }
    }

    fn logging(&mut self, node: &Node, key: &str) {
        let Some(fields) = self.report().fields(node, "services.*.logging", key) else { return };
        let driver = fields.get("driver").and_then(|node| self.report().text(node, "driver"));
        let options =
            fields.get("options").map(|node| self.report().named(node, "options")).unwrap_or_default();
        self.out.container.logging = Some(Logging { driver, options });
    }

    /// Memory and swap together; -1 is no limit.
    fn swap(&mut self, node: &Node, key: &str) -> Option<i64> {
        if node.scalar().as_deref() == Some("-1") {
            return Some(-1);
        }
        self.report().size(node, key).and_then(|size| i64::try_from(size.0).ok())
    }

    fn pull_policy(&mut self, node: &Node, key: &str) -> Option<PullPolicy> {
        let text = self.filled(node, key)?;
        let day = std::time::Duration::from_secs(86_400);
        match text.as_str() {
            "always" | "refresh" => Some(PullPolicy::Always),
            "never" => Some(PullPolicy::Never),
            "missing" | "if_not_present" => Some(PullPolicy::Missing),
            "build" => Some(PullPolicy::Build),
            "daily" => Some(PullPolicy::Every(day)),
            "weekly" => Some(PullPolicy::Every(day * 7)),
            _ => {
                let every = text.strip_prefix("every_").and_then(quantity::duration).map(PullPolicy::Every);
                if every.is_none() {
                    let problem =
                        node.at.problem("bad-pull-policy", format!("`{text}` does not say when to pull"));
                    self.report().problem(problem.hint(
                        "there are `always`, `missing`, `never`, `build`, `daily`, `weekly` and `every_12h`",
                    ));
                }
                every
            }
        }
    }

    fn hooks(&mut self, node: &Node, key: &str, path: &str) -> Vec<ServiceHook> {
        let Data::List(items) = &node.data else {
            self.report().wrong(node, key, "a list");
            return Vec::new();
        };
        let mut hooks = Vec::new();
        for item in items {
            let around = self.around;
            let report = &mut self.loader.report;
            let Some(fields) = report.fields(item, path, key) else { continue };
            let Some(command) = fields.get("command") else {
                report.problem(item.at.problem("wrong-type", format!("this `{key}` has no `command`")));
                continue;
            };
            let Some(command) = report.command(command, "command") else { continue };
            let mut env = BTreeMap::new();
            for pair in
                fields.get("environment").map(|node| report.pairs(node, "environment")).unwrap_or_default()
            {
                let Some(value) = pair.value.or_else(|| around.env.get(&pair.key).cloned()) else { continue };
                if report.is_variable(&pair.at, &pair.key, &value) {
                    env.insert(pair.key, value);
                }
            }
            hooks.push(ServiceHook {
                command,
                user: fields.get("user").and_then(|node| report.text(node, "user")),
                privileged: fields.get("privileged").and_then(|node| report.truth(node, "privileged"))
                    == Some(true),
                working_dir: fields.get("working_dir").and_then(|node| report.text(node, "working_dir")),
                env,
            });
        }
        hooks
    }
}
