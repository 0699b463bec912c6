//! The embedded engine: sandboxes of our own, no daemon. All that it knows of a unit lies in the unit's folder.

mod aside;
mod first;
mod identity;
mod networks;
mod settings;
mod started;
mod steps;
mod volumes;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use setpoint_model::capabilities::{Capabilities, HoldsPorts};
use setpoint_model::container::{Container, ContainerMount, HealthTest, MountSource, NetworkMode};
use setpoint_model::digest::Digest;
use setpoint_model::fingerprint::Class;
use setpoint_model::manifest::{EnvValue, Limits, Network};
use setpoint_model::pipeline::key;
use setpoint_sandbox as sandbox;

use super::{
    Account, BaseSource, Ended, Engine, EngineError, ExecSpec, FirstProcess, Health, Hold, HostFacts,
    ImageFacts, Io, Labels, Mount, NewVolume, OwnChanges, PATH, Pipes, Process, Progress, Pull, Seen,
    StepSpec, UnitId, UnitSpec, UnitVolumes, Watch, checks, kept, ports,
};
use started::{STARTED_AS, StartedAs};

use crate::accounts;
use crate::cancel::Cancel;
use crate::events::{Event, Watcher};
use crate::image::{Config, Credentials, Image, ImageStore, Source};
use crate::paths::Roots;
use crate::secrets::Secrets;

const UNITS: &str = "units/v1";
const UNIT_FILE: &str = "unit.json";
/// The access rights of a folder in memory, as of `/tmp`.
const OPEN_TO_ALL: u32 = 0o1777;
/// How many of a unit's own changes are named.
const EXAMPLES: usize = 5;

/// Sandboxes of our own.
#[derive(Debug)]
pub struct Embedded {
    roots: Roots,
    variables: BTreeMap<String, String>,
    /// What the host is, once it was looked at, and the lowest state of its view.
    host: OnceLock<BTreeMap<String, Digest>>,
    host_base: OnceLock<PathBuf>,
}

/// What is kept of a unit beside its file system.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct UnitFile {
    version: u32,
    labels: Labels,
    base: BaseSource,
    /// The image's layers, the lowest first; none for the host.
    layers: Vec<PathBuf>,
    /// What the image's author set for processes in it.
    image: Config,
    /// What it is made with besides, as it was last started.
    container: Container,
    /// Variables of its first process that hold secrets.
    #[serde(default)]
    secret_env: BTreeMap<String, EnvValue>,
    workspace: PathBuf,
    user: String,
    /// Whether its first process has a health check.
    is_checked: bool,
    /// Nanoseconds since 1970, when this instance stood for the first time, before anything ran in it.
    stood_at: Option<i64>,
}

impl Embedded {
    /// The engine over this state. The variables are the caller's, for registry credentials.
    #[must_use]
    pub fn new(roots: &Roots, variables: BTreeMap<String, String>) -> Self {
        Self { roots: roots.clone(), variables, host: OnceLock::new(), host_base: OnceLock::new() }
    }

    fn folder(&self, unit: &UnitId) -> PathBuf {
        self.roots.state.join(UNITS).join(unit.as_str())
    }

    fn images(&self) -> ImageStore {
        ImageStore::new(&self.roots.state)
    }

    fn image(&self, base: &BaseSource) -> Result<Option<Image>, EngineError> {
        match source(base)? {
            None => Ok(None),
            Some(source) => Ok(self.images().local(&source)?),
        }
    }

    fn unit_file(&self, unit: &UnitId) -> Result<Option<UnitFile>, EngineError> {
        kept::read(&self.folder(unit).join(UNIT_FILE))
    }

    fn known(&self, unit: &UnitId) -> Result<UnitFile, EngineError> {
        self.unit_file(unit)?.ok_or_else(|| state(unit, "does not exist"))
    }

    fn running(&self, unit: &UnitId) -> Result<sandbox::Running, EngineError> {
        match sandbox::observe(&self.folder(unit)) {
            sandbox::Observed::Running(running) => Ok(running),
            _ => Err(state(unit, "is not running")),
        }
    }

    /// Who a unit's processes run as that are not told who.
    fn usual_user(file: &UnitFile) -> &str {
        if file.user.is_empty() { Self::first_user(file) } else { &file.user }
    }

    /// Who its first process runs as.
    fn first_user(file: &UnitFile) -> &str {
        let of_container = file.container.user.as_ref().filter(|user| !user.is_empty());
        of_container.or(file.image.user.as_ref()).map_or("root", String::as_str)
    }

    /// Starts a unit's sandbox, and leads its ports there. One that cannot be started is in no network of its own.
    fn launch(
        &self,
        unit: &UnitId,
        is_withheld: bool,
        wanted: impl FnOnce() -> Result<StartedAs, EngineError>,
    ) -> Result<(), EngineError> {
        let start = |wanted: StartedAs| {
            // A port that is not to be had is found before anything runs.
            let claim = if is_withheld { None } else { ports::take(&self.roots, unit, &wanted.ports)? };
            let folder = self.folder(unit);
            let running = sandbox::start(&self.with_secrets(unit, wanted.sandbox.clone())?, &folder)?;
            claim.map_or(Ok(()), |claim| Ok(claim.lead(&wanted.lead(running), &folder)?))
        };
        let Err(error) = wanted().and_then(start) else { return Ok(()) };
        networks::pause(self, unit)?;
        Err(networks::with_owner(self, error))
    }

    /// Starts a unit's sandbox as it was started last, if it does not run.
    fn launch_again(&self, unit: &UnitId, is_withheld: bool) -> Result<(), EngineError> {
        if self.running(unit).is_ok() {
            return Ok(());
        }
        self.launch(unit, is_withheld, || {
            let wanted = kept::read(&self.folder(unit).join(STARTED_AS))?;
            networks::resume(self, unit)?;
            wanted.ok_or_else(|| state(unit, "was never started"))
        })
    }

    /// What a unit is started as, with the secrets of its variables, which are in no file of the unit.
    fn with_secrets(
        &self,
        unit: &UnitId,
        mut wanted: sandbox::SandboxSpec,
    ) -> Result<sandbox::SandboxSpec, EngineError> {
        let file = self.known(unit)?;
        let (false, Some(main)) = (file.secret_env.is_empty(), &mut wanted.main) else { return Ok(wanted) };
        let secrets = Secrets::new(&self.roots, &file.labels.project_root);
        let variables = secrets.variables(&file.secret_env)?;
        let check = main.check.as_mut().and_then(|check| match &mut check.test {
            sandbox::Test::Run(process) => Some(process),
            sandbox::Test::Ask(_) => None,
        });
        for process in std::iter::once(&mut main.process).chain(check) {
            process.env.retain(|(name, _)| !variables.contains_key(name));
            process.env.extend(variables.clone());
        }
        Ok(wanted)
    }

    /// Removes what a killed creation or removal left. The caller holds the unit's lock.
    fn sweep(&self, unit: &UnitId) -> Result<(), EngineError> {
        kept::remove_tree(&self.new_folder(unit))?;
        kept::sweep(&self.folder(unit))
    }

    /// Where a unit is made before it stands in its place.
    fn new_folder(&self, unit: &UnitId) -> PathBuf {
        self.roots.state.join(UNITS).join(format!(".{NEW}-{}", unit.as_str()))
    }

    fn started_as(&self, unit: &UnitId, spec: &UnitSpec, file: &UnitFile) -> Result<StartedAs, EngineError> {
        let folder = self.folder(unit);
        let (network, address) = self.network_of(unit, spec)?;
        let (published, health) = (&spec.container.ports, spec.container.health.as_ref());
        let ports = address.map_or(Vec::new(), |to| ports::leading_to(to, published, health));
        let names = networks::names(&folder, &network, &spec.container)?;
        let root = match &spec.base {
            BaseSource::Host => sandbox::Root::HostView { state: folder },
            _ => sandbox::Root::Layers { layers: file.layers.clone(), state: folder },
        };
        let (home, main) = match spec.first {
            FirstProcess::Idle => (Some(self.account_of(unit, file, &file.user)?), None),
            FirstProcess::Declared => (None, Some(self.main(unit, file)?)),
        };
        let hostname = spec.container.hostname.clone();
        let sandbox = sandbox::SandboxSpec {
            root,
            hostname: hostname.unwrap_or_else(|| spec.labels.unit.to_string()),
            mounts: mounts(&spec.mounts).chain(volumes::mounts(self, unit, spec)?).collect(),
            overlays: Vec::new(),
            memory: memory(&spec.container),
            volatile: false,
            home: home.map(|of| sandbox::Home { path: of.home, uid: of.uid, gid: of.gid }),
            network,
            names,
            limits: settings::limits(&spec.limits, &spec.container),
            cgroup: self.group_name(unit),
            main,
        };
        let (is_checked, comes_back) = (file.is_checked, spec.comes_back);
        Ok(StartedAs { sandbox, address, ports, is_checked, comes_back })
    }

    /// The network of a unit that is about to start, and the address that its ports lead to; it joins those of its own.
    fn network_of(
        &self,
        unit: &UnitId,
        spec: &UnitSpec,
    ) -> Result<(sandbox::Network, Option<Ipv4Addr>), EngineError> {
        if networks::has_own(spec) {
            let (network, leads_to) = networks::join(self, unit, spec)?;
            return Ok((sandbox::Network::Own(network), leads_to));
        }
        let network = match &spec.container.network {
            Some(NetworkMode::Unit(other)) => {
                let other = UnitId(other.clone());
                self.running(&other)?;
                sandbox::Network::Of(self.folder(&other))
            }
            Some(NetworkMode::None) => sandbox::Network::None,
            Some(_) => sandbox::Network::Host,
            None => network(spec.network)?,
        };
        Ok((network, None))
    }

    /// The process that a unit is there for.
    fn main(&self, unit: &UnitId, file: &UnitFile) -> Result<sandbox::Main, EngineError> {
        let (user, home) = self.user_of(unit, file, Self::first_user(file))?;
        let mut env = environment(file);
        env.entry("HOME".to_owned()).or_insert(home);
        first::main(file, env, user)
    }

    /// An account of a unit, which may not be made yet.
    fn account_of(&self, unit: &UnitId, file: &UnitFile, user: &str) -> Result<Account, EngineError> {
        // Nobody in particular is whoever its first process runs as.
        let user = if user.is_empty() { Self::usual_user(file) } else { user };
        let passwd = self.file_inside(unit, file, "etc/passwd");
        let group = self.file_inside(unit, file, "etc/group");
        let missing =
            |why| EngineError::NoAccount { user: user.to_owned(), unit: file.labels.unit.to_string(), why };
        match accounts::find(&passwd, &group, user) {
            Ok(account) => Ok(account),
            // A name of the host's that the image does not know: the owner of the workspace, by his numbers.
            Err(why) => accounts::owner_of(&file.labels.project_root, user).ok_or_else(|| missing(why)),
        }
    }

    /// Who a process runs as, and his home.
    fn user_of(
        &self,
        unit: &UnitId,
        file: &UnitFile,
        user: &str,
    ) -> Result<(sandbox::User, String), EngineError> {
        let account = self.account_of(unit, file, user)?;
        // A sandbox without privileges has a single user.
        if sandbox::is_rootless() && account.uid != 0 {
            return Err(EngineError::SingleUser { user: account.name });
        }
        let groups = accounts::groups(&self.file_inside(unit, file, "etc/group"), &account.name);
        let home = account.home.to_string_lossy().into_owned();
        Ok((sandbox::User { uid: account.uid, gid: account.gid, groups }, home))
    }

    /// The control group's name is the machine's to share: two states must not meet in it.
    fn group_name(&self, unit: &UnitId) -> String {
        let of_state = Digest::of_bytes(self.roots.state.as_os_str().as_encoded_bytes());
        format!("{}-{}", unit.as_str(), of_state.short())
    }

    /// A file of the unit's, as it sees it itself.
    fn file_inside(&self, unit: &UnitId, file: &UnitFile, path: &str) -> String {
        if let Ok(running) = self.running(unit)
            && let Ok(text) = fs::read_to_string(format!("/proc/{}/root/{path}", running.pid))
        {
            return text;
        }
        let folder = self.folder(unit).join("fs");
        let mut places = match file.base {
            BaseSource::Host => vec![
                folder.join("etc/upper").join(path.trim_start_matches("etc/")),
                Path::new("/").join(path),
            ],
            _ => vec![folder.join("upper").join(path)],
        };
        places.extend(file.layers.iter().rev().map(|layer| layer.join(path)));
        places.into_iter().find_map(|place| fs::read_to_string(place).ok()).unwrap_or_default()
    }
}

const NEW: &str = "new";

fn state(unit: &UnitId, state: &'static str) -> EngineError {
    EngineError::State { unit: unit.as_str().to_owned(), state }
}

fn mounts(mounts: &[Mount]) -> impl Iterator<Item = sandbox::Mount> {
    mounts.iter().map(|mount| sandbox::Mount {
        source: mount.source.clone(),
        target: mount.target.clone(),
        read_only: mount.read_only,
        takes_what_is_there: false,
    })
}

/// The folders in memory.
fn memory(settings: &Container) -> Vec<sandbox::Memory> {
    let folder = |mount: &ContainerMount| match &mount.source {
        MountSource::Tmpfs { size, mode, .. } => Some(sandbox::Memory {
            target: PathBuf::from(&mount.target),
            size: size.map(|size| size.0),
            mode: mode.unwrap_or(OPEN_TO_ALL),
        }),
        _ => None,
    };
    settings.mounts.iter().filter_map(folder).collect()
}

fn network(network: Network) -> Result<sandbox::Network, EngineError> {
    match network {
        Network::Host => Ok(sandbox::Network::Host),
        Network::None => Ok(sandbox::Network::None),
        Network::Private => {
            Err(unsupported("a network of its own for a step", "use `network = \"host\"` or \"none\""))
        }
    }
}

fn unsupported(what: &str, hint: &str) -> EngineError {
    EngineError::Unsupported { engine: "embedded", what: what.to_owned(), hint: hint.to_owned() }
}

/// What the image store is asked for; nothing for the host.
fn source(base: &BaseSource) -> Result<Option<Source>, EngineError> {
    Ok(Some(match base {
        BaseSource::Host => return Ok(None),
        BaseSource::Image { reference } => {
            let path = Path::new(reference);
            if !path.is_absolute() {
                Source::Reference(reference.clone())
            } else if path.is_dir() {
                Source::Layout(path.to_owned())
            } else {
                Source::Archive(path.to_owned())
            }
        }
        BaseSource::Build { .. } | BaseSource::Features { .. } => {
            return Err(unsupported(
                "building an image",
                "set `engine.default = \"docker\"`, or use `image`",
            ));
        }
        BaseSource::Rootfs { path } if path.is_dir() => Source::RootfsDir(path.clone()),
        BaseSource::Rootfs { path } => Source::RootfsTar(path.clone()),
    }))
}

impl Engine for Embedded {
    fn capabilities(&self) -> Capabilities {
        // Mounts are made at every start; ports are held by a process of their own; limits are files of the control group.
        Capabilities {
            engine: "embedded",
            mounts: Class::Restart,
            limits: Class::Hot,
            holds_ports: HoldsPorts::All,
            container: Class::Restart,
            // One that nothing leads out of is nobody's first choice.
            private_network: !sandbox::is_rootless() && networks::leads_out(),
            copies_share_blocks: true,
        }
    }

    fn check(&self, spec: &UnitSpec) -> Result<(), EngineError> {
        settings::check(spec)?;
        sandbox::check_limits(&settings::limits(&spec.limits, &spec.container))?;
        let mut users = std::iter::once(&spec.user).chain(&spec.hook_users);
        let is_caller = |user: &str| matches!(user.split(':').next(), Some("root" | "0" | ""));
        match users.find(|user| sandbox::is_rootless() && !is_caller(user)) {
            Some(user) => Err(EngineError::SingleUser { user: user.clone() }),
            None => Ok(()),
        }
    }

    fn observe(&self, unit: &UnitId) -> Result<Seen, EngineError> {
        let Some(file) = self.unit_file(unit)? else { return Ok(Seen::Absent) };
        Ok(match sandbox::observe(&self.folder(unit)) {
            sandbox::Observed::Running(_) => Seen::Running(file.labels),
            _ => Seen::Stopped(file.labels),
        })
    }

    fn progress(&self, unit: &UnitId) -> Result<Progress, EngineError> {
        let Some(file) = self.unit_file(unit)? else { return Ok(Progress::default()) };
        let folder = self.folder(unit);
        let observed = sandbox::observe(&folder);
        let since = sandbox::since(&folder, &observed).and_then(|since| since.try_into().ok());
        Ok(match observed {
            sandbox::Observed::Running(running) => {
                let seen = sandbox::health(&folder, &running);
                let status = seen.as_ref().map_or(Health::Starting, |seen| checks::says(seen.status));
                Progress {
                    running: true,
                    ending: false,
                    health: file.is_checked.then_some(status),
                    said: seen.map(|seen| seen.said).filter(|said| !said.is_empty()),
                    ended: None,
                    since,
                }
            }
            sandbox::Observed::Exited(exit) => {
                Progress { ended: Some(exit.ended.code()), since, ..Progress::default() }
            }
            sandbox::Observed::Gone => {
                Progress { ending: sandbox::is_ending(&folder), ..Progress::default() }
            }
        })
    }

    fn ask(
        &self,
        unit: &UnitId,
        test: &HealthTest,
        at_most: Duration,
    ) -> Result<Result<(), String>, EngineError> {
        let Some(question) = checks::asks(test) else { return Ok(Ok(())) };
        let sandbox::Observed::Running(running) = sandbox::observe(&self.folder(unit)) else {
            return Err(EngineError::State { unit: unit.as_str().to_owned(), state: "does not run" });
        };
        Ok(sandbox::ask_inside(&running, question, at_most)?)
    }

    fn output(&self, unit: &UnitId, follow: bool) -> Result<Box<dyn Read + Send>, EngineError> {
        self.known(unit)?;
        let folder = self.folder(unit);
        Ok(Box::new(
            sandbox::output(&folder, follow).map_err(EngineError::io("read the output in", &folder))?,
        ))
    }

    fn volumes(&self, project_root: &Path) -> Result<Vec<String>, EngineError> {
        volumes::of_project(&self.roots.state, project_root)
    }

    fn volumes_of(&self, unit: &UnitId) -> Result<UnitVolumes, EngineError> {
        let Some(file) = self.unit_file(unit)? else { return Ok(UnitVolumes::default()) };
        let held = volumes::held(&file.container);
        Ok(UnitVolumes { held, wanted: file.image.volumes.into_iter().map(PathBuf::from).collect() })
    }

    fn is_empty(&self, unit: &UnitId, folder: &Path) -> Result<Option<bool>, EngineError> {
        let Some(file) = self.unit_file(unit)? else { return Ok(None) };
        volumes::is_empty(self, unit, &file, folder).map(Some)
    }

    fn mounts_from(&self, folder: &Path) -> Result<bool, EngineError> {
        let state = &self.roots.state;
        for place in kept::entries(&state.join(UNITS))?
            .iter()
            .map(|unit| state.join(UNITS).join(unit))
            .chain(aside::all(self)?)
        {
            let known = kept::read::<StartedAs>(&place.join(STARTED_AS))?;
            let mut mounts = known.into_iter().flat_map(|known| known.sandbox.mounts);
            if mounts.any(|mount| mount.source.starts_with(folder)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn volume_ids(&self, names: &[String]) -> Result<BTreeMap<String, String>, EngineError> {
        volumes::ids(&self.roots.state, names)
    }

    fn volume_folders(&self, names: &[String]) -> Result<BTreeMap<String, PathBuf>, EngineError> {
        Ok(volumes::folders(&self.roots.state, names))
    }

    fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        volumes::remove(self, name)
    }

    fn copy_volume(
        &self,
        _unit: &UnitId,
        _base: &BaseSource,
        from: &str,
        to: &str,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        volumes::copy(&self.roots.state, from, to, cancel)
    }

    fn read_volume(
        &self,
        _unit: &UnitId,
        _base: &BaseSource,
        name: &str,
    ) -> Result<Box<dyn Read + Send>, EngineError> {
        volumes::read(&self.roots.state, name)
    }

    fn fill_volume(
        &self,
        volume: &NewVolume<'_>,
        from: Box<dyn Read + Send>,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        volumes::fill(&self.roots.state, volume, from, cancel)
    }

    fn units(&self) -> Result<Vec<(UnitId, Labels)>, EngineError> {
        let mut found = Vec::new();
        for id in kept::entries(&self.roots.state.join(UNITS))?.into_iter().map(UnitId) {
            if let Some(file) = self.unit_file(&id)? {
                found.push((id, file.labels));
            }
        }
        Ok(found)
    }

    fn host(&self) -> Result<HostFacts, EngineError> {
        let architectures = crate::image::architectures();
        let data = Some(self.roots.state.clone());
        Ok(HostFacts { data, gpus: false, architectures, is_here: true, clock: None })
    }

    fn base_digest(&self, base: &BaseSource) -> Result<Option<String>, EngineError> {
        Ok(self.image(base)?.map(|image| image.digest))
    }

    fn image(&self, base: &BaseSource) -> Result<Option<ImageFacts>, EngineError> {
        let facts = |image: Image| ImageFacts {
            labels: image.config.labels,
            user: image.config.user.unwrap_or_default(),
            digests: match base {
                BaseSource::Image { reference } => vec![format!("{reference}@{}", image.named)],
                _ => Vec::new(),
            },
            architecture: String::new(),
        };
        Ok(Self::image(self, base)?.map(facts))
    }

    fn environment(&self, unit: &UnitId) -> Result<BTreeMap<String, String>, EngineError> {
        Ok(environment(&self.known(unit)?))
    }

    fn prepare(
        &self,
        base: &BaseSource,
        pull: Pull,
        watcher: &dyn Watcher,
        cancel: &Cancel,
    ) -> Result<Option<String>, EngineError> {
        let Some(source) = source(base)? else { return Ok(None) };
        let credentials = Credentials::from_env(&self.variables);
        let progress = |done, total| watcher.event(&Event::Bytes { done, total });
        let image = self
            .images()
            .ensure(&source, pull == Pull::Always, &credentials, &progress, &|| cancel.asked())?;
        Ok(Some(image.digest))
    }

    fn load(
        &self,
        reference: &str,
        digest: &str,
        layout: &Path,
        watcher: &dyn Watcher,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        let progress = |done, total| watcher.event(&Event::Bytes { done, total });
        Ok(self.images().take_in(reference, digest, layout, &progress, &|| cancel.asked())?)
    }

    fn create(&self, unit: &UnitId, spec: &UnitSpec) -> Result<(), EngineError> {
        self.sweep(unit)?;
        let folder = self.folder(unit);
        if folder.exists() {
            return Err(state(unit, "exists already"));
        }
        let new = self.new_folder(unit);
        let make = |path: &Path| {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(EngineError::io("make", path))
        };
        make(&new)?;
        let image = self.image(&spec.base)?;
        match &image {
            None => sandbox::prepare_host_view(&new)?,
            Some(image) => {
                let top = image.layers.last().map(PathBuf::as_path);
                sandbox::prepare_overlay(&new.join("fs"), top)?;
            }
        }
        let (layers, image) = image.map(|image| (image.layers, image.config)).unwrap_or_default();
        let file = UnitFile {
            version: 1,
            labels: spec.labels.clone(),
            base: spec.base.clone(),
            layers,
            image,
            container: spec.container.clone(),
            secret_env: spec.secret_env.clone(),
            workspace: spec.workspace.clone(),
            user: spec.user.clone(),
            is_checked: false,
            stood_at: None,
        };
        // What could keep it from ever starting is found before it is made.
        volumes::check(self, spec)?;
        networks::check_external(self, spec)?;
        if spec.first == FirstProcess::Declared {
            self.main(unit, &file)?;
        }
        kept::write(&new.join(UNIT_FILE), &file)?;
        fs::rename(&new, &folder).map_err(EngineError::io("make", &folder))
    }

    fn start(&self, unit: &UnitId, spec: &UnitSpec) -> Result<(), EngineError> {
        let folder = self.folder(unit);
        let mut file = self.known(unit)?;
        file.workspace = spec.workspace.clone();
        file.user = spec.user.clone();
        file.container = spec.container.clone();
        file.secret_env = spec.secret_env.clone();
        file.is_checked =
            spec.first == FirstProcess::Declared && first::is_checked(&file.container, &file.image);
        kept::write(&folder.join(UNIT_FILE), &file)?;
        self.launch(unit, spec.is_withheld, || {
            let wanted = self.started_as(unit, spec, &file)?;
            kept::write(&folder.join(STARTED_AS), &wanted)?;
            Ok(wanted)
        })?;
        if file.stood_at.is_none() {
            file.stood_at = i64::try_from(jiff::Timestamp::now().as_nanosecond()).ok();
            kept::write(&folder.join(UNIT_FILE), &file)?;
        }
        Ok(())
    }

    fn start_again(&self, unit: &UnitId) -> Result<(), EngineError> {
        self.launch_again(unit, false)
    }

    fn start_withheld(&self, unit: &UnitId) -> Result<(), EngineError> {
        self.launch_again(unit, true)
    }

    fn watch(&self, unit: &UnitId) -> Result<Option<Watch>, EngineError> {
        let fd = self.running(unit).ok().and_then(|running| sandbox::watch(&running).ok());
        Ok(fd.map(|fd| Watch { fd, tells_health: false }))
    }

    fn stop(&self, unit: &UnitId, grace: Duration, cancel: &Cancel) -> Result<(), EngineError> {
        let holder = ports::holder(&self.roots, unit);
        holder.close();
        sandbox::stop(&self.folder(unit), grace, &|| cancel.insisted())?;
        holder.end()?;
        networks::pause(self, unit)
    }

    fn hold(&self, unit: &UnitId) -> Result<Option<Hold>, EngineError> {
        let claim = ports::holder(&self.roots, unit).hold()?;
        Ok(claim.map(|claim| Box::new(claim) as Hold))
    }

    fn remove(&self, unit: &UnitId) -> Result<(), EngineError> {
        self.sweep(unit)?;
        if self.running(unit).is_ok() {
            return Err(state(unit, "is running"));
        }
        let folder = self.folder(unit);
        // A stop that nobody saw to its end may still be under way.
        sandbox::stop(&folder, Duration::ZERO, &|| true)?;
        ports::holder(&self.roots, unit).end()?;
        networks::forget(self, unit)?;
        kept::remove(&folder)
    }

    fn set_aside(&self, unit: &UnitId, generation: u64) -> Result<(), EngineError> {
        aside::set(self, unit, generation)
    }

    fn put_back(&self, unit: &UnitId, generation: u64) -> Result<(), EngineError> {
        aside::put_back(self, unit, generation)
    }

    fn set_aside_of(&self, unit: &UnitId) -> Result<Vec<u64>, EngineError> {
        aside::of(self, unit)
    }

    fn remove_aside(&self, unit: &UnitId, generation: u64) -> Result<(), EngineError> {
        aside::remove(self, unit, generation)
    }

    fn set_limits(&self, unit: &UnitId, wanted: &Limits) -> Result<(), EngineError> {
        let limits = settings::limits(wanted, &self.known(unit)?.container);
        sandbox::set_limits(&self.folder(unit), &self.group_name(unit), &limits)?;
        Ok(())
    }

    fn set_ports(&self, unit: &UnitId, spec: &UnitSpec) -> Result<(), EngineError> {
        let mut file = self.known(unit)?;
        started::set(self, unit, &spec.container).map_err(|error| networks::with_owner(self, error))?;
        file.container.ports.clone_from(&spec.container.ports);
        kept::write(&self.folder(unit).join(UNIT_FILE), &file)
    }

    fn publish(&self, unit: &UnitId) -> Result<(), EngineError> {
        started::publish(self, unit).map_err(|error| networks::with_owner(self, error))
    }

    fn has_held_ports(&self, unit: &UnitId) -> bool {
        ports::holder(&self.roots, unit).watch().is_some()
    }

    fn lend(&self, unit: &UnitId, to: &UnitId) -> Result<(), EngineError> {
        started::lend(self, unit, to).map_err(|error| networks::with_owner(self, error))
    }

    fn tend(&self, unit: &UnitId) -> Result<Vec<OwnedFd>, EngineError> {
        started::tend(self, unit).map_err(|error| networks::with_owner(self, error))
    }

    fn own_changes(&self, unit: &UnitId) -> Result<OwnChanges, EngineError> {
        let Some(file) = self.unit_file(unit)? else { return Ok(OwnChanges::default()) };
        let mut changes = OwnChanges::default();
        let folder = self.folder(unit);
        // A unit that never stood has nothing of its own.
        if let Some(since) = file.stood_at {
            count(&folder.join("fs"), since, &mut changes)?;
        }
        Ok(changes)
    }

    fn default_user(&self, workspace: &Path) -> String {
        // Root inside a rootless sandbox is the caller outside.
        if sandbox::is_rootless() { "root".to_owned() } else { accounts::owner_name(workspace) }
    }

    fn account(&self, unit: &UnitId, user: &str) -> Result<Account, EngineError> {
        self.account_of(unit, &self.known(unit)?, user)
    }

    fn exec(&self, unit: &UnitId, spec: &ExecSpec) -> Result<Box<dyn Process>, EngineError> {
        let file = self.known(unit)?;
        let running = self.running(unit)?;
        let (user, home) = self.user_of(unit, &file, spec.user.as_deref().unwrap_or_default())?;
        let mut env = environment(&file);
        env.insert("HOME".to_owned(), home);
        if spec.io == Io::Terminal {
            env.insert(
                "TERM".to_owned(),
                self.variables.get("TERM").cloned().unwrap_or_else(|| "xterm".to_owned()),
            );
        }
        env.extend(spec.env.clone());
        let io = match spec.io {
            Io::Inherit => sandbox::Io::Inherit,
            Io::Captured => sandbox::Io::Captured,
            Io::Piped => sandbox::Io::Piped,
            Io::Terminal => {
                let (rows, columns) = sandbox::window();
                sandbox::Io::Terminal { rows, columns }
            }
        };
        let inside = sandbox::ExecSpec {
            argv: spec.argv.clone(),
            env: env.into_iter().collect(),
            cwd: spec.cwd.clone().unwrap_or_else(|| match file.workspace.as_os_str().is_empty() {
                true => first::working_dir(&file.container, &file.image),
                false => file.workspace.clone(),
            }),
            user,
            io,
        };
        Ok(Box::new(Running::new(sandbox::exec(&running, &inside)?)))
    }

    fn step_behaviour(&self) -> &'static str {
        steps::BEHAVIOUR
    }

    fn step_base(&self, base: &BaseSource) -> Result<Option<key::Base>, EngineError> {
        Embedded::step_base(self, base)
    }

    fn seen_on_host(&self, path: &Path) -> Result<Digest, EngineError> {
        identity::tree(path).map_err(EngineError::io("look at", path))
    }

    fn start_step(&self, step: &StepSpec) -> Result<Box<dyn Process>, EngineError> {
        Embedded::start_step(self, step)
    }

    fn seal_step(&self, _step: &StepSpec) -> Result<(), EngineError> {
        Ok(())
    }

    fn kept_elsewhere(&self, _state: &Path) -> Result<Option<u64>, EngineError> {
        Ok(Some(0))
    }

    fn sweep_steps(&self, _kept: &dyn Fn() -> Vec<PathBuf>) -> Result<(), EngineError> {
        Ok(())
    }
}

/// The environment that a unit's base declares, and under it its own settings.
fn environment(file: &UnitFile) -> BTreeMap<String, String> {
    let brought = file.image.env.iter().filter_map(|entry| entry.split_once('='));
    let mut env: BTreeMap<String, String> =
        brought.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    env.extend(file.container.env.clone());
    env.entry("PATH".to_owned()).or_insert_with(|| PATH.to_owned());
    env
}

/// Counts what was written since then.
fn count(folder: &Path, since: i64, changes: &mut OwnChanges) -> Result<(), EngineError> {
    for entry in fs::read_dir(folder).map_err(EngineError::io("read", folder))? {
        let entry = entry.map_err(EngineError::io("read", folder))?;
        let path = entry.path();
        let metadata = entry.metadata().map_err(EngineError::io("read", &path))?;
        if metadata.is_dir() {
            if entry.file_name() != "work" || folder.file_name().is_some_and(|name| name == "upper") {
                count(&path, since, changes)?;
            }
        } else if metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec() > since {
            changes.count += 1;
            if changes.examples.len() < EXAMPLES {
                changes.examples.push(inside(&path));
            }
        }
    }
    Ok(())
}

/// The path that a file of the unit's layer has inside.
fn inside(path: &Path) -> PathBuf {
    let mut parts = path.components().skip_while(|part| part.as_os_str() != "fs").skip(1).peekable();
    let mut found = PathBuf::from("/");
    if let Some(top) = parts.next()
        && top.as_os_str() != "upper"
    {
        found.push(top.as_os_str().to_string_lossy().replace("var-", "var/").replace("lib-", "lib/"));
        parts.next_if(|part| part.as_os_str() == "upper");
    }
    found.extend(parts);
    found
}

/// A process in a sandbox, or on the host.
pub(crate) struct Running(sandbox::Process);

impl Running {
    pub(crate) fn new(process: sandbox::Process) -> Self {
        Self(process)
    }
}

fn ended(ended: sandbox::Ended) -> Ended {
    match ended {
        sandbox::Ended::Code(code) => Ended::Code(code),
        sandbox::Ended::Signal(signal) => Ended::Signal(signal),
    }
}

impl Process for Running {
    fn pipes(&mut self) -> Option<Pipes> {
        Some(Pipes {
            input: Box::new(self.0.input()?),
            output: Box::new(self.0.output()?),
            errors: Box::new(self.0.errors()?),
        })
    }

    fn output(&mut self) -> Option<Box<dyn Read + Send>> {
        self.0.output().map(|output| Box::new(output) as Box<dyn Read + Send>)
    }

    fn wait(&mut self, at_most: Duration) -> Result<Option<Ended>, EngineError> {
        Ok(self.0.wait(Some(at_most))?.map(ended))
    }

    fn signal(&mut self, signal: u8) {
        self.0.signal(signal);
    }

    fn kill(&mut self) {
        self.0.kill();
    }

    fn attach(&mut self, resized: &Arc<AtomicBool>) -> Result<Ended, EngineError> {
        Ok(ended(sandbox::attach(&mut self.0, resized)?))
    }
}
