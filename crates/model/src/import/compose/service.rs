//! One service: its keys are read one by one, and then what several of them say about the same is put together.

use std::collections::{BTreeMap, BTreeSet};

use super::deploy::Deploy;
use super::keys::READERS;
use super::load::{Environment, Loader};
use super::mounts;
use super::node::{Entry, Node};
use super::report::{Pair, Report};
use super::source::Place;
use super::types::{ComposeService, Dependency, Network, RestartPolicy, Stored, Volume};
use crate::container::{Attachment, Container, ContainerMount, NetworkMode};

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
    pub(super) around: &'r Around,
    pub(super) name: &'r str,
    pub(super) out: ComposeService,
    pub(super) env_file: Environment,
    pub(super) environment: Vec<Pair>,
    pub(super) label_file: Environment,
    pub(super) tmpfs: Vec<ContainerMount>,
    pub(super) deploy: Deploy,
    pub(super) network_mode: Option<(NetworkMode, Place)>,
    pub(super) networks_at: Option<Place>,
    pub(super) mac: Option<(String, Place)>,
    pub(super) needs: BTreeMap<String, (Dependency, Place)>,
    pub(super) links: Vec<(String, String)>,
    pub(super) volumes_from: Vec<VolumesFrom>,
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
    pub(super) fn report(&mut self) -> &mut Report {
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
            let attachment = Attachment { aliases, ..Default::default() };
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
}
