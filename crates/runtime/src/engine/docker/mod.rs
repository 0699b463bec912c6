//! Docker, and Podman through the API that it shares with Docker. All that is known of a unit lies in its
//! container's labels, or in a file of ours where somebody else made the container.

mod adoption;
mod aside;
mod asking;
mod beside;
mod build;
mod build_secrets;
mod changes;
mod client;
mod copies;
mod endpoint;
mod error;
mod exec;
mod features;
mod files;
mod happenings;
mod images;
mod labels;
mod pipes;
mod resources;
mod secrets;
mod session;
mod spec;
mod steps;
mod told;
mod upload;

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::models::{
    ContainerInspectResponse, ContainerSummary, HealthStatusEnum, HostConfig, NetworkConnectRequest,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    StopContainerOptionsBuilder,
};
use futures_util::StreamExt;
use setpoint_model::capabilities::Capabilities;
use setpoint_model::container::HealthTest;
use setpoint_model::digest::Digest;
use setpoint_model::fingerprint::Class;
use setpoint_model::manifest::Limits;
use setpoint_model::pipeline::key;

use super::adoption::Adoption;
use super::{
    Account, BaseSource, Engine, EngineError, ExecSpec, FirstProcess, Health, Hold, HostFacts, ImageFacts,
    Labels, NewVolume, OwnChanges, PATH, Process, Progress, Pull, Seen, StepSpec, UnitId, UnitSpec,
    UnitVolumes, Watch, checks, ports,
};
use crate::accounts;
use crate::cancel::Cancel;
use crate::events::Watcher;
use crate::image::{ImageStore, architectures_of};
use crate::paths::Roots;
pub use build_secrets::BuildSecretError;
use client::{Client, Connected};
pub use error::DockerError;

/// How many of a unit's own changes are named.
const EXAMPLES: usize = 5;
/// How long a container is given to end by itself right after its start.
const SETTLE: Duration = Duration::from_millis(5);

/// The runtime that a Docker has which can give graphic processors to containers.
const GRAPHIC_RUNTIME: &str = "nvidia";

/// Which of those that speak the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// Docker.
    Docker,
    /// Podman.
    Podman,
}

impl Flavor {
    /// The engine's name, as in the manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}

/// An engine that speaks Docker's API.
#[derive(Debug)]
pub struct Docker {
    flavor: Flavor,
    roots: Roots,
    client: Arc<Client>,
    /// Where archives are spread.
    images: ImageStore,
    steps: Arc<steps::Steps>,
    happenings: happenings::Happenings,
    /// The containers that were taken over.
    kept: adoption::Kept,
}

impl Docker {
    /// The engine that the caller's variables name. Nothing is asked of it yet.
    #[must_use]
    pub fn new(flavor: Flavor, roots: &Roots, variables: BTreeMap<String, String>) -> Self {
        let steps = Arc::new(steps::Steps::new(&roots.state, flavor));
        let images = ImageStore::new(&roots.state);
        let client = Arc::new(Client::new(flavor, variables));
        let (happenings, kept) = (happenings::Happenings::default(), adoption::Kept::new(roots, flavor));
        Self { flavor, roots: roots.clone(), client, images, steps, happenings, kept }
    }

    fn connected(&self) -> Result<&Connected, EngineError> {
        Ok(self.client.get()?)
    }

    fn unsupported(&self, what: impl Into<String>, hint: &str) -> EngineError {
        EngineError::Unsupported { engine: self.flavor.name(), what: what.into(), hint: hint.to_owned() }
    }

    fn inspect(&self, unit: &UnitId) -> Result<Option<ContainerInspectResponse>, EngineError> {
        let connected = self.connected()?;
        let name = self.container_of(unit.as_str())?;
        Ok(connected.container("look at a container", &name)?)
    }

    fn known(&self, unit: &UnitId) -> Result<ContainerInspectResponse, EngineError> {
        self.inspect(unit)?.ok_or_else(|| state(unit, "does not exist"))
    }

    /// An account, and by what the engine knows it: a name that its files have, else numbers.
    fn resolve(&self, unit: &UnitId, user: &str) -> Result<(Account, String), EngineError> {
        let name = self.container_of(unit.as_str())?;
        let own = || Some(self.known(unit).ok()?.config?.user?).filter(|user| !user.is_empty());
        let user = if user.is_empty() { &own().unwrap_or_else(|| "root".to_owned()) } else { user };
        let passwd = files::text(self.connected()?, &name, "/etc/passwd")?;
        let group = match user.contains(':') {
            true => files::text(self.connected()?, &name, "/etc/group")?,
            false => String::new(),
        };
        let why = match accounts::find(&passwd, &group, user) {
            Ok(account) => {
                let known = user.contains(':') || user.parse::<u32>().is_ok();
                let as_known = if known { user.to_owned() } else { account.name.clone() };
                return Ok((account, as_known));
            }
            Err(why) => why,
        };
        // A name of the host's that the image does not know: the owner of the workspace, by his numbers.
        let carried = self.carried(unit, &self.known(unit)?)?;
        let project = carried.map(|carried| carried.labels.project_root).unwrap_or_default();
        match accounts::owner_of(&project, user) {
            Some(account) => {
                let numbers = format!("{}:{}", account.uid, account.gid);
                Ok((account, numbers))
            }
            None => {
                let name = unit.as_str().rsplit_once('-').map_or(unit.as_str(), |(name, _)| name);
                Err(EngineError::NoAccount { user: user.to_owned(), unit: name.to_owned(), why })
            }
        }
    }

    /// Starts a container as it was started last, if it does not run.
    fn launch_again(&self, unit: &UnitId, is_withheld: bool) -> Result<(), EngineError> {
        let connected = self.connected()?;
        let name = self.container_of(unit.as_str())?;
        let found = self.known(unit)?;
        if is_running(&found) {
            return Ok(());
        }
        let start = || Ok(connected.quick("start a container", connected.api.start_container(&name, None))?);
        self.launch(unit, self.beside(unit, &found)?, is_withheld, start)
    }

    /// Joins the networks that a container is not made in.
    fn join_networks(&self, name: &str, spec: &UnitSpec) -> Result<(), EngineError> {
        let connected = self.connected()?;
        let wanted = spec::joined_later(&spec.container);
        if wanted.is_empty() {
            return Ok(());
        }
        let what = "join a network";
        let found = connected.settled(what, || connected.api.inspect_container(name, None))?;
        let has = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        for (network, endpoint) in wanted.into_iter().filter(|(network, _)| !has.contains_key(network)) {
            let request =
                NetworkConnectRequest { container: name.to_owned(), endpoint_config: Some(endpoint) };
            connected.quick(what, connected.api.connect_network(&network, request))?;
        }
        Ok(())
    }

    /// The last lines that a container's first process wrote.
    fn last_words(connected: &Connected, name: &str) -> String {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail("3").build();
        connected.wait(async {
            let mut pieces = connected.api.logs(name, Some(options));
            let mut said = String::new();
            while let Some(Ok(piece)) = pieces.next().await {
                said.push_str(&String::from_utf8_lossy(LogOutput::as_ref(&piece)));
            }
            said.trim().replace('\n', "; ")
        })
    }
}

fn state(unit: &UnitId, state: &'static str) -> EngineError {
    EngineError::State { unit: unit.as_str().to_owned(), state }
}

fn is_running(found: &ContainerInspectResponse) -> bool {
    found.state.as_ref().and_then(|state| state.running) == Some(true)
}

/// What the engine's own check says.
fn says(status: HealthStatusEnum) -> Option<Health> {
    match status {
        HealthStatusEnum::HEALTHY => Some(Health::Healthy),
        HealthStatusEnum::UNHEALTHY => Some(Health::Unhealthy),
        HealthStatusEnum::STARTING => Some(Health::Starting),
        _ => None,
    }
}

impl Engine for Docker {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            engine: self.flavor.name(),
            mounts: Class::Recreate,
            // Podman's way to change them came late, and is another one.
            limits: if self.flavor == Flavor::Docker { Class::Hot } else { Class::Recreate },
            holds_ports: self.holds_ports(),
            container: Class::Recreate,
            private_network: true,
            copies_share_blocks: false,
        }
    }

    fn check(&self, spec: &UnitSpec) -> Result<(), EngineError> {
        if spec.base == BaseSource::Host {
            return Err(self.unsupported(
                "an environment on the host's own system",
                "declare an `image`, or take `engine.default` out",
            ));
        }
        self.check_beside(spec)?;
        if !spec.mounts.is_empty() && !self.connected()?.endpoint.is_local() {
            let host = &self.connected()?.endpoint.host;
            return Err(self.unsupported(
                format!("{} is not on {host}, where the containers are", spec.labels.project_root.display()),
                "use an engine on this machine",
            ));
        }
        Ok(())
    }

    fn observe(&self, unit: &UnitId) -> Result<Seen, EngineError> {
        let Some(found) = self.inspect(unit)? else { return Ok(Seen::Absent) };
        let Some(adoption::Carried { labels, .. }) = self.carried(unit, &found)? else {
            let name = labels::container_name(unit.as_str());
            let unit = unit.as_str().rsplit_once('-').map_or(unit.as_str(), |(name, _)| name);
            let hint = format!("`setpoint adopt {unit} {name}` takes it over; or rename or remove it");
            return Err(self.unsupported(format!("the container {name} is not of our making"), &hint));
        };
        Ok(if is_running(&found) { Seen::Running(labels) } else { Seen::Stopped(labels) })
    }

    fn progress(&self, unit: &UnitId) -> Result<Progress, EngineError> {
        let Some(found) = self.inspect(unit)? else { return Ok(Progress::default()) };
        let asked = self.asked(unit, &found)?;
        let state = found.state.unwrap_or_default();
        let running = state.running == Some(true);
        let started = state.started_at.as_deref().is_some_and(|at| !at.starts_with("0001-"));
        let (status, log) = state.health.map_or((None, None), |health| (health.status, health.log));
        let said = log.and_then(|mut log| log.pop()?.output).map(|said| said.trim().to_owned());
        let health = status.and_then(says);
        let (health, said) = asked.unwrap_or((health, said));
        Ok(Progress {
            running,
            // What is being stopped runs, for this engine.
            ending: false,
            health,
            said: said.filter(|said| !said.is_empty()),
            since: if running { state.started_at } else { state.finished_at.filter(|_| started) }
                .and_then(|at| at.parse().ok()),
            ended: state.exit_code.filter(|_| !running && started).and_then(|code| i32::try_from(code).ok()),
        })
    }

    fn ask(
        &self,
        unit: &UnitId,
        test: &HealthTest,
        at_most: Duration,
    ) -> Result<Result<(), String>, EngineError> {
        checks::asks(test).map_or(Ok(Ok(())), |question| self.ask_once(unit, question, at_most))
    }

    fn output(&self, unit: &UnitId, follow: bool) -> Result<Box<dyn Read + Send>, EngineError> {
        self.known(unit)?;
        let connected = self.connected()?;
        let name = self.container_of(unit.as_str())?;
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).follow(follow).build();
        Ok(Box::new(pipes::Pieces::of(connected, connected.api.logs(&name, Some(options)))))
    }

    fn volumes(&self, project_root: &Path) -> Result<Vec<String>, EngineError> {
        resources::volumes(self.connected()?, project_root)
    }

    fn volumes_of(&self, unit: &UnitId) -> Result<UnitVolumes, EngineError> {
        let Some(found) = self.inspect(unit)? else { return Ok(UnitVolumes::default()) };
        let connected = self.connected()?;
        let image = found.image.unwrap_or_default();
        let image = connected.find("look at an image", connected.api.inspect_image(&image))?;
        let wanted = image.and_then(|image| image.config?.volumes).unwrap_or_default();
        let held = found.mounts.unwrap_or_default().into_iter().filter_map(resources::held);
        Ok(UnitVolumes { held: held.collect(), wanted: wanted.into_iter().map(PathBuf::from).collect() })
    }

    fn is_empty(&self, unit: &UnitId, folder: &Path) -> Result<Option<bool>, EngineError> {
        let Some(found) = self.inspect(unit)? else { return Ok(None) };
        let container = found.id.unwrap_or_default();
        Ok(Some(files::is_empty(self.connected()?, &container, &folder.to_string_lossy())?))
    }

    fn mounts_from(&self, folder: &Path) -> Result<bool, EngineError> {
        let connected = self.connected()?;
        let all = connected.containers("list containers", &HashMap::new())?;
        let mut mounts = all.into_iter().flat_map(|one| one.mounts.unwrap_or_default());
        Ok(mounts.any(|mount| mount.source.is_some_and(|source| Path::new(&source).starts_with(folder))))
    }

    fn volume_ids(&self, names: &[String]) -> Result<BTreeMap<String, String>, EngineError> {
        resources::volume_ids(self.connected()?, names)
    }

    fn volume_folders(&self, names: &[String]) -> Result<BTreeMap<String, PathBuf>, EngineError> {
        resources::volume_folders(self.connected()?, names)
    }

    fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        resources::remove_volume(self.connected()?, name)
    }

    fn copy_volume(
        &self,
        unit: &UnitId,
        base: &BaseSource,
        from: &str,
        to: &str,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        copies::volume(self, unit, base, from, to, cancel)
    }

    fn read_volume(
        &self,
        unit: &UnitId,
        base: &BaseSource,
        name: &str,
    ) -> Result<Box<dyn Read + Send>, EngineError> {
        copies::read(self, unit, base, name)
    }

    fn fill_volume(
        &self,
        volume: &NewVolume<'_>,
        from: Box<dyn Read + Send>,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        copies::fill(self, volume, from, cancel)
    }

    fn units(&self) -> Result<Vec<(UnitId, Labels)>, EngineError> {
        let connected = self.connected()?;
        let filters = HashMap::from([("label", vec![labels::LABELS])]);
        let found = connected.containers("list containers", &filters)?;
        // One of another name is set aside, or has been handed back.
        let unit = |one: ContainerSummary| {
            let labels = one.labels?;
            let unit = labels.get(labels::UNIT)?;
            let name = format!("/{}", labels::container_name(unit));
            let is_ours = one.names.is_some_and(|names| names.contains(&name));
            is_ours.then(|| Some((UnitId(unit.clone()), labels::read(&labels)?)))?
        };
        let mut units: Vec<_> = found.into_iter().filter_map(unit).collect();
        for (id, adopted) in self.kept.all()? {
            if self.inspect(&id)?.is_some() {
                units.push((id, adopted.labels));
            }
        }
        units.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(units)
    }

    fn host(&self) -> Result<HostFacts, EngineError> {
        let connected = self.connected()?;
        let info = connected.quick("ask what it has", connected.api.info())?;
        let is_here = connected.is_here().is_some();
        let architecture = info.architecture.as_deref().filter(|_| is_here);
        Ok(HostFacts {
            architectures: architecture.map(architectures_of).unwrap_or_default(),
            is_here,
            clock: info.system_time.and_then(|at| at.parse().ok()),
            data: info.docker_root_dir.map(PathBuf::from),
            gpus: info.runtimes.is_some_and(|runtimes| runtimes.contains_key(GRAPHIC_RUNTIME)),
        })
    }

    fn base_digest(&self, base: &BaseSource) -> Result<Option<String>, EngineError> {
        if *base == BaseSource::Host {
            return Ok(None);
        }
        images::found(self.connected()?, base)
    }

    fn image(&self, base: &BaseSource) -> Result<Option<ImageFacts>, EngineError> {
        let connected = self.connected()?;
        let Some(name) = images::name(connected, base)? else { return Ok(None) };
        let found = connected.find("look at an image", connected.api.inspect_image(&name))?;
        // Podman gives a digest to every name; what was made here has this in place of a registry, unless it was named otherwise.
        let is_made_here =
            |digest: &String| self.flavor == Flavor::Podman && digest.starts_with("localhost/");
        Ok(found.map(|image| {
            let config = image.config.unwrap_or_default();
            let digests = image.repo_digests.into_iter().flatten();
            ImageFacts {
                labels: config.labels.unwrap_or_default().into_iter().collect(),
                user: config.user.unwrap_or_default(),
                digests: digests.filter(|digest| !is_made_here(digest)).collect(),
                architecture: image.architecture.unwrap_or_default(),
            }
        }))
    }

    fn environment(&self, unit: &UnitId) -> Result<BTreeMap<String, String>, EngineError> {
        let declared = self.known(unit)?.config.and_then(|config| config.env).unwrap_or_default();
        let pair =
            |entry: String| entry.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut environment: BTreeMap<String, String> = declared.into_iter().filter_map(pair).collect();
        environment.entry("PATH".to_owned()).or_insert_with(|| PATH.to_owned());
        Ok(environment)
    }

    fn prepare(
        &self,
        base: &BaseSource,
        pull: Pull,
        watcher: &dyn Watcher,
        cancel: &Cancel,
    ) -> Result<Option<String>, EngineError> {
        images::ensure(self.connected()?, &self.images, self.client.variables(), base, pull, watcher, cancel)
    }

    fn save(&self, base: &BaseSource, to: &Path, cancel: &Cancel) -> Result<(), EngineError> {
        images::save(self.connected()?, base, to, cancel)
    }

    fn load(
        &self,
        reference: &str,
        digest: &str,
        layout: &Path,
        watcher: &dyn Watcher,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let image = (layout, digest);
        images::take_in(self.connected()?, &self.images, reference, image, watcher, cancel)
    }

    fn create(&self, unit: &UnitId, spec: &UnitSpec) -> Result<(), EngineError> {
        let connected = self.connected()?;
        let name = labels::container_name(unit.as_str());
        let image = images::name(connected, &spec.base)?.ok_or_else(|| state(unit, "has no image"))?;
        let what = "make a container";
        if self.inspect(unit)?.is_some() {
            return Err(state(unit, "exists already"));
        }
        // One that was taken over and is gone is followed by one of our own.
        self.kept.forget(unit)?;
        resources::ensure(connected, spec)?;
        let options = CreateContainerOptionsBuilder::default().name(&name);
        let options = match &spec.container.platform {
            Some(platform) => options.platform(platform),
            None => options,
        };
        let mut body = spec::container(unit, spec, image, &|other| self.container_of(other))?;
        if self.flavor == Flavor::Podman && connected.endpoint.is_rootless() {
            spec::keep_id(&mut body, spec);
        }
        if !spec.secret_env.is_empty() {
            self.give_by_file(unit, spec, &mut body)?;
        }
        connected.quick(what, connected.api.create_container(Some(options.build()), body))?;
        if !spec.secret_env.is_empty() {
            self.needs_shell(&name)?;
        }
        Ok(())
    }

    fn start(&self, unit: &UnitId, spec: &UnitSpec) -> Result<(), EngineError> {
        let connected = self.connected()?;
        let name = self.container_of(unit.as_str())?;
        self.join_networks(&name, spec)?;
        // Nobody in particular is for the engine to find.
        if !spec.user.is_empty() {
            self.resolve(unit, &spec.user)?;
        }
        self.write_variables(unit, spec)?;
        let start = || Ok(connected.quick("start a container", connected.api.start_container(&name, None))?);
        self.launch(unit, self.declared_beside(unit, spec)?, spec.is_withheld, start)?;
        if spec.first == FirstProcess::Idle {
            std::thread::sleep(SETTLE);
            let found = self.known(unit)?;
            if !is_running(&found) {
                let code = found.state.and_then(|state| state.exit_code).unwrap_or_default();
                return Err(DockerError::Ended { code, said: Self::last_words(connected, &name) }.into());
            }
        }
        Ok(())
    }

    fn start_again(&self, unit: &UnitId) -> Result<(), EngineError> {
        self.launch_again(unit, false)
    }

    fn start_withheld(&self, unit: &UnitId) -> Result<(), EngineError> {
        self.launch_again(unit, true)
    }

    fn publish(&self, unit: &UnitId) -> Result<(), EngineError> {
        self.lead(unit)
    }

    fn has_held_ports(&self, unit: &UnitId) -> bool {
        ports::holder(&self.roots, unit).watch().is_some()
    }

    fn lend(&self, unit: &UnitId, to: &UnitId) -> Result<(), EngineError> {
        self.lend_to(unit, to)
    }

    fn watch(&self, unit: &UnitId) -> Result<Option<Watch>, EngineError> {
        let fd = self.happenings.of(self.connected()?, &self.container_of(unit.as_str())?);
        // The engine knows nothing of checks that are not its own.
        let tells_health = !self.is_asked(unit)?;
        Ok(fd.map(|fd| Watch { fd, tells_health }))
    }

    fn stop(&self, unit: &UnitId, grace: Duration, cancel: &Cancel) -> Result<(), EngineError> {
        let connected = self.connected()?;
        let name = self.container_of(unit.as_str())?;
        let what = "stop a container";
        let holder = ports::holder(&self.roots, unit);
        holder.close();
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        let mut killed = false;
        let stopped = connected.wait(async {
            let mut stopping = std::pin::pin!(connected.api.stop_container(&name, Some(options)));
            let mut tick = tokio::time::interval(Duration::from_millis(50));
            loop {
                tokio::select! {
                    stopped = &mut stopping => return stopped,
                    _ = tick.tick(), if !killed => {
                        if cancel.insisted() {
                            killed = true;
                            let _ = connected.api.kill_container(&name, None).await;
                        }
                    }
                }
            }
        });
        match stopped {
            Err(error) if !client::is_absent(&error) => Err(connected.explain(what, &error).into()),
            _ => Ok(holder.end()?),
        }
    }

    fn hold(&self, unit: &UnitId) -> Result<Option<Hold>, EngineError> {
        let claim = ports::holder(&self.roots, unit).hold()?;
        Ok(claim.map(|claim| Box::new(claim) as Hold))
    }

    fn remove(&self, unit: &UnitId) -> Result<(), EngineError> {
        let found = self.inspect(unit)?;
        if found.as_ref().is_some_and(is_running) {
            return Err(state(unit, "is running"));
        }
        self.forget_beside(unit)?;
        let Some(found) = found else { return self.kept.forget(unit) };
        let connected = self.connected()?;
        let name = self.container_of(unit.as_str())?;
        // What has no name goes with a container of ours; what somebody else made stays, also where nobody can name it.
        let is_ours = self.kept.read(unit.as_str())?.is_none();
        let options = RemoveContainerOptionsBuilder::default().v(is_ours).build();
        connected.find("remove a container", connected.api.remove_container(&name, Some(options)))?;
        self.kept.forget(unit)?;
        let networks = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        resources::remove_networks(connected, &networks.into_keys().collect::<Vec<_>>())
    }

    fn set_aside(&self, unit: &UnitId, generation: u64) -> Result<(), EngineError> {
        aside::set(self, unit, generation)
    }

    fn put_back(&self, unit: &UnitId, generation: u64) -> Result<(), EngineError> {
        aside::put_back(self, unit, generation)
    }

    fn set_aside_of(&self, unit: &UnitId) -> Result<Vec<u64>, EngineError> {
        aside::of(self.connected()?, unit)
    }

    fn remove_aside(&self, unit: &UnitId, generation: u64) -> Result<(), EngineError> {
        aside::remove(self, unit, generation)
    }

    fn set_limits(&self, unit: &UnitId, limits: &Limits) -> Result<(), EngineError> {
        let connected = self.connected()?;
        let what = "change limits";
        let has: HostConfig = self.known(unit)?.host_config.unwrap_or_default();
        let machine = || {
            let info = connected.quick(what, connected.api.info())?;
            let cpus = i32::try_from(info.ncpu.unwrap_or(1)).unwrap_or(i32::MAX);
            Ok((info.mem_total.unwrap_or(i64::MAX), f64::from(cpus)))
        };
        let name = self.container_of(unit.as_str())?;
        if let Some(update) = spec::update(&has, limits, machine)? {
            if self.flavor == Flavor::Podman {
                return Err(self.unsupported("changing the limits of what runs", "`setpoint up --recreate`"));
            }
            connected.quick(what, connected.api.update_container(&name, update))?;
        }
        Ok(())
    }

    fn set_ports(&self, unit: &UnitId, spec: &UnitSpec) -> Result<(), EngineError> {
        self.set_published(unit, spec)
    }

    fn tend(&self, unit: &UnitId) -> Result<Vec<OwnedFd>, EngineError> {
        self.keep_alone(unit)?;
        self.tend_beside(unit)
    }

    fn adoption(&self) -> Option<&dyn Adoption> {
        Some(self)
    }

    fn own_changes(&self, unit: &UnitId) -> Result<OwnChanges, EngineError> {
        let own = changes::own(self.connected()?, &self.container_of(unit.as_str())?)?;
        Ok(OwnChanges {
            count: own.len() as u64,
            examples: own.into_iter().take(EXAMPLES).map(Into::into).collect(),
        })
    }

    fn default_user(&self, workspace: &Path) -> String {
        let is_rootless = self.client.get().is_ok_and(|connected| connected.endpoint.is_rootless());
        // Root inside a container without root's rights is the caller outside.
        if is_rootless { "root".to_owned() } else { accounts::owner_name(workspace) }
    }

    fn account(&self, unit: &UnitId, user: &str) -> Result<Account, EngineError> {
        Ok(self.resolve(unit, user)?.0)
    }

    fn exec(&self, unit: &UnitId, spec: &ExecSpec) -> Result<Box<dyn Process>, EngineError> {
        let found = self.known(unit)?;
        if !is_running(&found) {
            return Err(state(unit, "is not running"));
        }
        let (own_user, workspace) =
            self.carried(unit, &found)?.map(|carried| (carried.user, carried.workspace)).unwrap_or_default();
        let user = spec.user.clone().unwrap_or(own_user);
        // Nobody in particular is whoever the container's own first process runs as.
        let user = if user.is_empty() { user } else { self.resolve(unit, &user)?.1 };
        let mut spec = spec.clone();
        let workspace = Some(workspace).filter(|workspace| !workspace.is_empty());
        spec.cwd = spec.cwd.or(workspace.map(Into::into));
        let name = self.container_of(unit.as_str())?;
        Ok(Box::new(exec::Exec::start(&self.client, &name, &spec, &user)?))
    }

    fn step_behaviour(&self) -> &'static str {
        self.behaviour()
    }

    fn step_base(&self, base: &BaseSource) -> Result<Option<key::Base>, EngineError> {
        self.step_base(base)
    }

    fn seen_on_host(&self, path: &Path) -> Result<Digest, EngineError> {
        Err(self.unsupported(
            format!("showing {} of the host to a step", path.display()),
            "take `host_paths` out, or `engine.default`",
        ))
    }

    fn start_step(&self, step: &StepSpec) -> Result<Box<dyn Process>, EngineError> {
        self.start_step(step)
    }

    fn seal_step(&self, step: &StepSpec) -> Result<(), EngineError> {
        self.seal_step(step)
    }

    fn kept_elsewhere(&self, state: &Path) -> Result<Option<u64>, EngineError> {
        self.kept_elsewhere(state)
    }

    fn sweep_steps(&self, kept: &dyn Fn() -> Vec<PathBuf>) -> Result<(), EngineError> {
        self.sweep_steps(kept)
    }
}
