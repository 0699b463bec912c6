//! One service: every key of it has its reader here.

use std::collections::{BTreeMap, BTreeSet};

use super::deploy::Deploy;
use super::load::{Environment, Loader};
use super::node::{Data, Entry, Node};
use super::report::{Pair, Report};
use super::source::Place;
use super::types::{
    ComposeService, Dependency, Network, PullPolicy, RestartPolicy, ServiceHook, Stored, Volume,
};
use super::{build, depends, deploy, devices, files, health, hosts, mounts, networks, ports, quantity};
use crate::container::{Container, Logging, NetworkMode};

/// What a service is read against.
pub(super) struct Around {
    pub(super) env: Environment,
    pub(super) networks: BTreeMap<String, Network>,
    pub(super) volumes: BTreeMap<String, Volume>,
    pub(super) configs: BTreeMap<String, Stored>,
    pub(super) secrets: BTreeMap<String, Stored>,
}

/// A service as it is read.
pub(super) struct Reader<'r, 'f> {
    pub(super) loader: &'r mut Loader<'f>,
    around: &'r Around,
    name: &'r str,
    out: ComposeService,
    env_file: Environment,
    environment: Vec<Pair>,
    label_file: Environment,
    tmpfs: Vec<crate::container::ContainerMount>,
    deploy: Deploy,
    network_mode: Option<(NetworkMode, Place)>,
    networks_at: Option<Place>,
    mac: Option<(String, Place)>,
    needs: BTreeMap<String, (Dependency, Place)>,
    links: Vec<(String, String)>,
    volumes_from: Vec<VolumesFrom>,
}

/// What a service takes of the mounts of another one.
pub(super) struct VolumesFrom {
    pub(super) service: String,
    pub(super) read_only: bool,
    pub(super) at: Place,
}

/// A service with what it says about others.
pub(super) struct Read {
    pub(super) service: ComposeService,
    pub(super) needs: BTreeMap<String, (Dependency, Place)>,
    /// Other names for other services.
    pub(super) links: Vec<(String, String)>,
    pub(super) volumes_from: Vec<VolumesFrom>,
}

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
    ("cpuset", |s, n, k| s.out.container.resources.cpuset = s.filled(n, k)),
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
    ("user", |s, n, k| s.out.container.user = s.filled(n, k)),
    ("userns_mode", |s, n, k| s.out.container.userns = s.filled(n, k)),
    ("uts", |s, n, k| s.out.container.uts = s.filled(n, k)),
    ("volumes", |s, n, _| {
        s.out.container.mounts = mounts::read(&mut s.loader.report, n, &s.around.volumes);
    }),
    ("volumes_from", |s, n, k| s.volumes_from(n, k)),
    ("working_dir", |s, n, k| s.out.container.working_dir = s.filled(n, k)),
];

/// Reads a service.
pub(super) fn read(loader: &mut Loader<'_>, around: &Around, entry: &Entry) -> Option<Read> {
    let node = &entry.value;
    if let Some(text) = node.as_text() {
        let what = format!("the service `{}` must be a map, not text", entry.key);
        let problem = node.at.problem("wrong-type", what);
        loader
            .report
            .problem(problem.hint(format!("if that is its image: `{}: {{ image: {text} }}`", entry.key)));
        return None;
    }
    let fields = loader.report.fields(node, "services.*", &entry.key)?;
    let out = ComposeService {
        at: entry.key_at.location(),
        image: None,
        build: None,
        container: Container::default(),
        depends_on: BTreeMap::new(),
        restart: RestartPolicy::default(),
        pull_policy: None,
        container_name: None,
        profiles: BTreeSet::new(),
        expose: BTreeSet::new(),
        replicas: 1,
        configs: Vec::new(),
        secrets: Vec::new(),
        post_start: Vec::new(),
        pre_stop: Vec::new(),
    };
    let mut reader = Reader {
        loader,
        around,
        name: &entry.key,
        out,
        env_file: Environment::new(),
        environment: Vec::new(),
        label_file: Environment::new(),
        tmpfs: Vec::new(),
        deploy: Deploy::default(),
        network_mode: None,
        networks_at: None,
        mac: None,
        needs: BTreeMap::new(),
        links: Vec::new(),
        volumes_from: Vec::new(),
    };
    for (key, read) in READERS {
        if let Some(value) = fields.get(key) {
            read(&mut reader, value, key);
        }
    }
    Some(reader.finish(entry))
}

impl Reader<'_, '_> {
    fn report(&mut self) -> &mut Report {
        &mut self.loader.report
    }

    /// Puts together what several keys say about the same.
    fn finish(mut self, entry: &Entry) -> Read {
        let node = &entry.value;
        // What is there and wrong has been told, and so has what could not be extended.
        let image = node.get("image").is_some_and(|image| image.scalar().is_none_or(|text| !text.is_empty()));
        let other = ["build", "provider", "extends"].iter().any(|key| node.get(key).is_some());
        if !image && !other {
            let what = format!("nothing says what `{}` runs", entry.key);
            let problem = entry.key_at.problem("no-image", what);
            self.report().problem(problem.hint("give it an `image`, or say how one is built with `build`"));
        }
        self.finish_env();
        self.finish_network();
        self.finish_deploy(node);
        let container = &mut self.out.container;
        for (name, value) in std::mem::take(&mut self.label_file) {
            container.labels.entry(name).or_insert(value);
        }
        for mount in std::mem::take(&mut self.tmpfs) {
            mounts::place(&mut container.mounts, mount);
        }
        if let (Some(build), Some(platform)) = (&mut self.out.build, &container.platform) {
            build.platform = Some(platform.clone());
        }
        Read { service: self.out, needs: self.needs, links: self.links, volumes_from: self.volumes_from }
    }

    fn finish_env(&mut self) {
        self.out.container.env = std::mem::take(&mut self.env_file);
        for pair in std::mem::take(&mut self.environment) {
            let env = self.around.env.get(&pair.key);
            let value = match pair.value {
                Some(value) => value,
                // A bare name is given from outside, if it has a value there and in no file.
                None if self.out.container.env.contains_key(&pair.key) => continue,
                None => match env {
                    Some(value) => value.clone(),
                    None => continue,
                },
            };
            if self.loader.report.is_variable(&pair.at, &pair.key, &value) {
                self.out.container.env.insert(pair.key, value);
            }
        }
    }

    fn finish_network(&mut self) {
        if let Some((mode, at)) = self.network_mode.take() {
            if self.networks_at.is_some() {
                let problem = at.problem("two-networks", "`network_mode` and `networks` are both given");
                let problem = problem.why("`network_mode` says that no network of the project is joined");
                self.loader.report.problem(problem.hint("remove one of them"));
            }
            self.out.container.network = Some(mode);
        } else if self.out.container.network.is_none() {
            let known = &self.around.networks["default"];
            let aliases = BTreeSet::from([self.name.to_owned()]);
            let attachment = crate::container::Attachment { aliases, ..Default::default() };
            let networks = BTreeMap::from([(known.name.clone(), attachment)]);
            self.out.container.network = Some(NetworkMode::Networks(networks));
        }
        let Some((mac, at)) = self.mac.take() else { return };
        let first = match &mut self.out.container.network {
            Some(NetworkMode::Networks(networks)) => {
                networks.values_mut().max_by_key(|attachment| attachment.priority.unwrap_or(0))
            }
            _ => None,
        };
        match first {
            Some(attachment) => attachment.mac = attachment.mac.take().or(Some(mac)),
            None => self.loader.report.note(&at, "`mac_address` is left out: there is no network of its own"),
        }
    }

    fn finish_deploy(&mut self, node: &Node) {
        let deploy = std::mem::take(&mut self.deploy);
        let own = &mut self.out.container.resources;
        own.memory = deploy.resources.memory.or(own.memory);
        own.memory_reservation = deploy.resources.memory_reservation.or(own.memory_reservation);
        own.cpus = deploy.resources.cpus.or(own.cpus);
        own.pids = deploy.resources.pids.or(own.pids);
        own.gpus = deploy.resources.gpus.or(own.gpus.take());
        self.out.restart = deploy.restart.unwrap_or(self.out.restart);
        self.out.replicas = deploy.replicas.unwrap_or(self.out.replicas);
        if self.out.replicas > 1 {
            let at =
                node.get("deploy").and_then(|deploy| deploy.get("replicas")).or_else(|| node.get("scale"));
            let text = format!("there is one container of each service, not {}", self.out.replicas);
            let at = at.map_or_else(|| node.at.clone(), |node| node.at.clone());
            self.loader.report.note(&at, text);
        }
    }

    /// A text; an empty one, as a variable without a value leaves it, is as good as none.
    fn filled(&mut self, node: &Node, key: &str) -> Option<String> {
        self.report().text(node, key).filter(|text| !text.is_empty())
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
