//! Engines: what makes, starts, stops and enters units. Differences between them are data
//! ([`Capabilities`]); no rule elsewhere asks which engine it runs on.

pub mod adoption;
pub mod docker;
pub mod embedded;

mod checks;
mod error;
mod kept;
mod ports;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use setpoint_model::capabilities::Capabilities;
use setpoint_model::container::{Build, Container, Feature, HealthTest};
use setpoint_model::digest::{Digest, Encoder};
use setpoint_model::fingerprint::{Class, Leaf, LeafKey};
use setpoint_model::import::compose;
use setpoint_model::manifest::{EngineKind, EnvValue, Limits, Network};
use setpoint_model::names::UnitName;
use setpoint_model::pipeline::key;

use crate::cancel::Cancel;
use crate::events::Watcher;
use crate::paths::Roots;

pub use error::{BuildFailed, EngineError};

/// Which unit, on every engine: a name that is unique to the project's folder and the unit in it, and fit to be
/// a file name and a host name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UnitId(String);

impl UnitId {
    /// The id of a project's unit.
    #[must_use]
    pub fn new(project_root: &Path, unit: &UnitName) -> Self {
        let mut encoder = Encoder::new("setpoint.unit", 1);
        encoder.bytes(project_root.as_os_str().as_encoded_bytes()).text(unit.as_str());
        Self(format!("{unit}-{}", &encoder.finish().to_hex()[..12]))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a unit carries on the engine itself, from which its identity can be rebuilt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// The project's folder.
    pub project_root: PathBuf,
    /// The project's name.
    pub project: String,
    /// The unit's name.
    pub unit: UnitName,
    /// This instance of the unit; a new one with every CREATE.
    pub instance: String,
    /// The leaves that it was made of.
    pub made_of: Vec<LabelledLeaf>,
}

/// A leaf in a unit's labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelledLeaf {
    /// Which leaf.
    pub key: LeafKey,
    /// Its class, as [`Class::to_text`] writes it.
    pub class: String,
    /// The digest of its value.
    pub digest: Digest,
    /// Its value as a person may see it.
    pub shown: Option<String>,
}

impl LabelledLeaf {
    /// A leaf as labels carry it.
    #[must_use]
    pub fn new(key: &LeafKey, leaf: &Leaf) -> Self {
        let (class, digest, shown) = (leaf.class.to_text(), leaf.digest, leaf.shown.clone());
        Self { key: key.clone(), class, digest, shown }
    }

    /// The leaf, if its class is one that this version knows.
    #[must_use]
    pub fn to_leaf(&self) -> Option<(LeafKey, Leaf)> {
        let class = Class::parse(&self.class)?;
        Some((self.key.clone(), Leaf { class, digest: self.digest, shown: self.shown.clone() }))
    }
}

/// What an engine sees of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// There is none.
    Absent,
    /// It exists and does not run.
    Stopped(Labels),
    /// It runs.
    Running(Labels),
}

impl Seen {
    /// The unit's labels, if there is one.
    #[must_use]
    pub fn labels(&self) -> Option<&Labels> {
        match self {
            Self::Absent => None,
            Self::Stopped(labels) | Self::Running(labels) => Some(labels),
        }
    }
}

/// Where a unit's file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum BaseSource {
    /// A copy-on-write view of the host.
    Host,
    /// An OCI reference, or the path of an OCI layout or archive.
    Image {
        /// As it is declared.
        reference: String,
    },
    /// An image that the engine builds.
    Build {
        /// What is built, and how.
        build: Box<Build>,
        /// The project's folder, which the context's path is from.
        project: PathBuf,
        /// The digest of what it is built from.
        inputs: Digest,
    },
    /// What is installed over another base.
    Features {
        /// What they are installed over.
        on: Box<BaseSource>,
        /// What is installed, in this order.
        features: Vec<Feature>,
        /// The user who gets these ids: his name, and the user and group.
        user: Option<(String, u32, u32)>,
    },
    /// A folder or an archive of a root file system.
    Rootfs {
        /// Its path on the host.
        path: PathBuf,
    },
}

impl std::fmt::Display for BaseSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Image { reference } => write!(f, "image {reference}"),
            Self::Build { build, .. } => {
                let dockerfile = build.dockerfile.as_deref().unwrap_or("Dockerfile");
                let path = Path::new(&build.context).join(dockerfile);
                write!(f, "build {}", path.strip_prefix(".").unwrap_or(&path).display())
            }
            Self::Features { on, features, .. } => match features.len() {
                0 => write!(f, "{on}"),
                1 => write!(f, "{on} and 1 feature"),
                many => write!(f, "{on} and {many} features"),
            },
            Self::Rootfs { path } => write!(f, "rootfs {}", path.display()),
        }
    }
}

/// What an image says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Who its processes run as; empty is root.
    pub user: String,
    /// What registries call it: `postgres@sha256:...`; none of one that was made on the engine.
    pub digests: Vec<String>,
    /// The processors that it is for, as images have it: `amd64`; empty where every image that is here fits.
    pub architecture: String,
}

/// Where an instance of a unit has its data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitVolumes {
    /// The volumes that it was made with.
    pub held: Vec<HeldVolume>,
    /// The paths inside at which its image keeps data.
    pub wanted: Vec<PathBuf>,
}

/// A volume that an instance of a unit was made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldVolume {
    /// Its name; nothing for one that goes with the instance.
    pub name: Option<String>,
    /// Where it appears inside.
    pub target: PathBuf,
}

/// A folder or file of the host that appears inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// On the host.
    pub source: PathBuf,
    /// Inside.
    pub target: PathBuf,
    /// Whether it may not be written.
    pub read_only: bool,
}

/// All that an engine needs to make and start a unit.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitSpec {
    /// What it is.
    pub labels: Labels,
    /// Where its file system comes from.
    pub base: BaseSource,
    /// What of the host appears inside, the workspace first.
    pub mounts: Vec<Mount>,
    /// The workspace's path inside.
    pub workspace: PathBuf,
    /// Who hooks and shells run as: a name or `uid[:gid]`.
    pub user: String,
    /// Who hooks run as that name somebody else.
    pub hook_users: Vec<String>,
    /// Which network it has.
    pub network: Network,
    /// What it may use.
    pub limits: Limits,
    /// What its first process is.
    pub first: FirstProcess,
    /// Whether somebody starts it again when that ends.
    pub comes_back: bool,
    /// Whether nobody from outside reaches it when it has started, until [`Engine::publish`]. Where the engine itself
    /// publishes ports, that is not to be had.
    pub is_withheld: bool,
    /// Whether its published ports are held by a process of our own, see [`Capabilities::holds_ports`].
    pub holds_ports: bool,
    /// Scripts that are run before that.
    pub entrypoints: Vec<String>,
    /// Variables of its first process that hold secrets, which are put in when it starts, from the secret store.
    pub secret_env: BTreeMap<String, EnvValue>,
    /// What else it is made with.
    pub container: Container,
    /// The networks that it is in, which are made where they are not there.
    pub networks: Vec<compose::Network>,
    /// The named volumes that it has, which are made where they are not there.
    pub volumes: Vec<compose::Volume>,
}

/// What a unit has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whether it runs.
    pub running: bool,
    /// Whether it has been asked to end, and has not yet.
    pub ending: bool,
    /// What its health check says, if it has one.
    pub health: Option<Health>,
    /// What the last check said, if it said something.
    pub said: Option<String>,
    /// How its first process ended, if it did.
    pub ended: Option<i32>,
    /// Since when it runs, or does not run any more, where that is known.
    pub since: Option<Timestamp>,
}

/// What a health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing yet.
    Starting,
    /// It is well.
    Healthy,
    /// It is not.
    Unhealthy,
}

/// What tells of a unit, once.
#[derive(Debug)]
pub struct Watch {
    /// Becomes readable when the unit ends.
    pub fd: OwnedFd,
    /// Whether it does so too when the unit's health changes.
    pub tells_health: bool,
}

/// What keeps a unit running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstProcess {
    /// A process of the engine's own, that waits until it is stopped.
    Idle,
    /// What is declared, or what the image brings with it.
    Declared,
}

/// An account inside a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its name, or its number where it has none.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Its home folder inside.
    pub home: PathBuf,
    /// Its login shell.
    pub shell: String,
}

/// What a process's input and output are connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Io {
    /// To this process's own.
    Inherit,
    /// Output and errors, in the order they come, to [`Process::output`]; no input.
    Captured,
    /// Input, output and errors apart, to be had of [`Process::pipes`].
    Piped,
    /// To a terminal of its own, shown on this process's terminal.
    Terminal,
}

/// A process to run in a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecSpec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Added to the environment that the unit's base declares.
    pub env: BTreeMap<String, String>,
    /// Where it starts; the workspace if absent.
    pub cwd: Option<PathBuf>,
    /// Who it runs as: a name or `uid[:gid]`; the unit's user if absent.
    pub user: Option<String>,
    /// What it is connected to.
    pub io: Io,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It, or what it started, was killed because there was no memory left.
    OutOfMemory,
}

impl Ended {
    /// Whether it ended well.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }

    /// The exit code that a shell would give: 128 + n for a signal.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
            Self::OutOfMemory => 128 + 9,
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::OutOfMemory => f.write_str("out of memory"),
        }
    }
}

/// What a process reads and writes.
pub struct Pipes {
    /// What it reads, until this is dropped.
    pub input: Box<dyn std::io::Write + Send>,
    /// What it writes.
    pub output: Box<dyn std::io::Read + Send>,
    /// What it writes as errors.
    pub errors: Box<dyn std::io::Read + Send>,
}

/// A process that runs in a unit, or on the host. Dropping it kills it with all that it started.
pub trait Process: Send {
    /// What it reads and writes, if it was started as [`Io::Piped`]. Gives it once.
    fn pipes(&mut self) -> Option<Pipes> {
        None
    }

    /// What it writes, if it was started as [`Io::Captured`]. Gives it once.
    fn output(&mut self) -> Option<Box<dyn std::io::Read + Send>>;

    /// Waits for its end for this long at most.
    ///
    /// # Errors
    /// If it cannot be waited for.
    fn wait(&mut self, at_most: Duration) -> Result<Option<Ended>, EngineError>;

    /// Sends it a signal, by its number.
    fn signal(&mut self, signal: u8);

    /// Kills it and everything that it started.
    fn kill(&mut self);

    /// Joins this terminal to the process's own, if it was started as [`Io::Terminal`], until it ends. `resized`
    /// is set by the caller when the window changed.
    ///
    /// # Errors
    /// If the terminal cannot be set up.
    fn attach(&mut self, resized: &Arc<AtomicBool>) -> Result<Ended, EngineError>;
}

/// Where programs are looked for in a unit whose base does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The engine of a kind. Nothing is asked of it yet.
#[must_use]
pub fn open(kind: EngineKind, roots: &Roots, variables: &BTreeMap<String, String>) -> Box<dyn Engine> {
    let variables = variables.clone();
    match kind {
        EngineKind::Embedded => Box::new(embedded::Embedded::new(roots, variables)),
        EngineKind::Docker => Box::new(docker::Docker::new(docker::Flavor::Docker, roots, variables)),
        EngineKind::Podman => Box::new(docker::Docker::new(docker::Flavor::Podman, roots, variables)),
    }
}

/// The engine of this name, as a record has it. Nothing is asked of it yet.
///
/// # Errors
/// In words, if this version knows no engine of that name.
pub fn by_name(
    name: &str,
    roots: &Roots,
    variables: &BTreeMap<String, String>,
) -> Result<Box<dyn Engine>, String> {
    Ok(open(named(name)?, roots, variables))
}

/// The kind of engine of this name.
pub(crate) fn named(name: &str) -> Result<EngineKind, String> {
    EngineKind::named(name).ok_or_else(|| format!("there is no engine `{name}`"))
}

/// Whether an image that is there already is looked for again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pull {
    /// Only what is missing is fetched.
    #[default]
    Missing,
    /// The registry is asked, and what moved is fetched.
    Always,
}

/// What an engine has of the host that a declaration may ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// The folder where it keeps images and containers, where it says so.
    pub data: Option<PathBuf>,
    /// Whether it can give graphic processors to containers.
    pub gpus: bool,
    /// The processors whose programs it runs, as images have them: its own first, then those that it emulates. Empty where
    /// that cannot be told.
    pub architectures: Vec<String>,
    /// Whether its units are processes of this machine, with its ports and disks.
    pub is_here: bool,
    /// What its clock says, where that is another than ours.
    pub clock: Option<Timestamp>,
}

/// What comes to a unit's published ports waits for as long as this is there. See [`Engine::hold`].
pub type Hold = Box<dyn std::any::Any + Send>;

/// Makes, starts, stops and enters units.
pub trait Engine: Send + Sync {
    /// What it can change, at what cost.
    fn capabilities(&self) -> Capabilities;

    /// Says of a unit that is not made yet what it could not be on this engine.
    ///
    /// # Errors
    /// The first thing that this engine, or this user, cannot do.
    fn check(&self, spec: &UnitSpec) -> Result<(), EngineError>;

    /// What it sees of a unit.
    ///
    /// # Errors
    /// If the engine or the unit's own files cannot be read.
    fn observe(&self, unit: &UnitId) -> Result<Seen, EngineError>;

    /// What a unit has come to.
    ///
    /// # Errors
    /// If the engine cannot be asked.
    fn progress(&self, unit: &UnitId) -> Result<Progress, EngineError>;

    /// Asks once who listens inside a unit that runs, by HTTP or for a connection, within its network and within this time.
    /// The inner error says why that does not go well. What is no question goes well.
    ///
    /// # Errors
    /// If the unit does not run, or the engine cannot ask.
    fn ask(
        &self,
        unit: &UnitId,
        test: &HealthTest,
        at_most: Duration,
    ) -> Result<Result<(), String>, EngineError>;

    /// What a unit's own first process wrote, as far as the engine keeps it; with `follow`, also what it will write.
    ///
    /// # Errors
    /// If there is no such unit, or the engine keeps nothing.
    fn output(&self, unit: &UnitId, follow: bool) -> Result<Box<dyn std::io::Read + Send>, EngineError>;

    /// The named volumes that were made for a project, by their names.
    ///
    /// # Errors
    /// If the engine cannot be asked.
    fn volumes(&self, project_root: &Path) -> Result<Vec<String>, EngineError>;

    /// Where an instance of a unit has its data; nowhere for a unit that is not there.
    ///
    /// # Errors
    /// If the engine cannot be asked.
    fn volumes_of(&self, unit: &UnitId) -> Result<UnitVolumes, EngineError>;

    /// Whether nothing is in a folder of a unit: in the volume that appears there, else in what the unit itself wrote there.
    /// Nothing where there is no such unit.
    ///
    /// # Errors
    /// If it cannot be looked at.
    fn is_empty(&self, unit: &UnitId, folder: &Path) -> Result<Option<bool>, EngineError>;

    /// Whether an instance, also one that is set aside, has something mounted that lies in a folder of the host.
    ///
    /// # Errors
    /// If the engine cannot be asked.
    fn mounts_from(&self, folder: &Path) -> Result<bool, EngineError>;

    /// What tells each of these named volumes from a later one of its name; nothing of those that are not there.
    ///
    /// # Errors
    /// If the engine cannot be asked.
    fn volume_ids(&self, names: &[String]) -> Result<BTreeMap<String, String>, EngineError>;

    /// Where the data of each of these named volumes lies, of those that are there and can be seen from here.
    ///
    /// # Errors
    /// If the engine cannot be asked.
    fn volume_folders(&self, names: &[String]) -> Result<BTreeMap<String, PathBuf>, EngineError>;

    /// Removes a named volume with all that is in it.
    ///
    /// # Errors
    /// If somebody still has it.
    fn remove_volume(&self, name: &str) -> Result<(), EngineError>;

    /// Copies a named volume that nobody writes to into a new one, with all that tells what its data is. `unit` is one
    /// that has it, where it is there, and `base` is what that is built on, which is prepared. What a copy that was killed left is written over.
    ///
    /// # Errors
    /// If it is not there, cannot be read, or the disk is full; then the new one is not whole.
    fn copy_volume(
        &self,
        unit: &UnitId,
        base: &BaseSource,
        from: &str,
        to: &str,
        cancel: &Cancel,
    ) -> Result<(), EngineError>;

    /// The files of a named volume that nobody writes to, as an archive: a tar whose names begin with `./`, with owners,
    /// rights, times and links, the same bytes for the same files. `unit` is one that has the volume, or had; `base` is
    /// what it is built on, which is prepared.
    ///
    /// # Errors
    /// If it is not there. What cannot be read later is an error of the reader.
    fn read_volume(
        &self,
        unit: &UnitId,
        base: &BaseSource,
        name: &str,
    ) -> Result<Box<dyn std::io::Read + Send>, EngineError>;

    /// Makes a named volume and fills it with the files of an archive, as [`Engine::read_volume`] gives them. What there
    /// is of that name is removed first.
    ///
    /// # Errors
    /// If the archive cannot be read, has what no volume holds or leads out of it, or the disk is full; then the volume
    /// is not whole.
    fn fill_volume(
        &self,
        volume: &NewVolume<'_>,
        from: Box<dyn std::io::Read + Send>,
        cancel: &Cancel,
    ) -> Result<(), EngineError>;

    /// Every unit: what carries our labels, and what was taken over. Instances that are set aside are none.
    ///
    /// # Errors
    /// If the engine cannot be asked.
    fn units(&self) -> Result<Vec<(UnitId, Labels)>, EngineError>;

    /// What it has of the host that a declaration may ask for.
    ///
    /// # Errors
    /// If the engine cannot be asked.
    fn host(&self) -> Result<HostFacts, EngineError>;

    /// The digest that a base resolves to by what is known here, without asking a registry.
    ///
    /// # Errors
    /// If what is known cannot be read.
    fn base_digest(&self, base: &BaseSource) -> Result<Option<String>, EngineError>;

    /// What an image says about itself; nothing for the host, and for an image that is not here yet.
    ///
    /// # Errors
    /// If what is known cannot be read.
    fn image(&self, base: &BaseSource) -> Result<Option<ImageFacts>, EngineError>;

    /// Makes a base available, and gives its digest (none for the host).
    ///
    /// # Errors
    /// If it cannot be fetched, verified or unpacked.
    fn prepare(
        &self,
        base: &BaseSource,
        pull: Pull,
        watcher: &dyn Watcher,
        cancel: &Cancel,
    ) -> Result<Option<String>, EngineError>;

    /// Saves the image of a base to a file, in the form of `docker save`. The base is prepared.
    ///
    /// # Errors
    /// If there is no such image, the engine has none that it could save, or the disk is full.
    fn save(&self, _base: &BaseSource, _to: &Path, _cancel: &Cancel) -> Result<(), EngineError> {
        Err(EngineError::Unsupported {
            engine: self.capabilities().engine,
            what: "it has no image of its own to save".to_owned(),
            hint: "build and release on `docker` or `podman`".to_owned(),
        })
    }

    /// Takes an image in that lies in the folder of a layout, by its digest, as what a reference by digest means: it is
    /// prepared without a registry from then on.
    ///
    /// # Errors
    /// If it is not there, or not what it should be.
    fn load(
        &self,
        reference: &str,
        digest: &str,
        layout: &Path,
        watcher: &dyn Watcher,
        cancel: &Cancel,
    ) -> Result<(), EngineError>;

    /// Makes a new instance, all or nothing. The base is prepared.
    ///
    /// # Errors
    /// If it exists already or cannot be made.
    fn create(&self, unit: &UnitId, spec: &UnitSpec) -> Result<(), EngineError>;

    /// Starts a stopped unit as the spec says now.
    ///
    /// # Errors
    /// If it cannot be started; then nothing of it runs.
    fn start(&self, unit: &UnitId, spec: &UnitSpec) -> Result<(), EngineError>;

    /// Starts a stopped unit as it was started last, whatever is declared by now. Nothing to do is no error.
    ///
    /// # Errors
    /// If it was never started, or cannot be; then nothing of it runs.
    fn start_again(&self, unit: &UnitId) -> Result<(), EngineError>;

    /// The same, but nobody from outside reaches it until [`Engine::publish`], where the engine can see to that.
    ///
    /// # Errors
    /// As [`Engine::start_again`].
    fn start_withheld(&self, unit: &UnitId) -> Result<(), EngineError> {
        self.start_again(unit)
    }

    /// What becomes readable when something happens to a unit; nothing where there is nothing to wait for. What was
    /// seen of the unit before this is not told.
    ///
    /// # Errors
    /// If the engine cannot be asked.
    fn watch(&self, unit: &UnitId) -> Result<Option<Watch>, EngineError>;

    /// Keeps waiting what comes to a unit's published ports, since it is about to be stopped and started again: until
    /// it is, or what this gives is dropped. Nothing, if nothing of ours holds them.
    ///
    /// # Errors
    /// If what holds the ports does not answer.
    fn hold(&self, unit: &UnitId) -> Result<Option<Hold>, EngineError>;

    /// Stops a unit: asks, waits this long, kills. Nothing to do is no error.
    ///
    /// # Errors
    /// If something of it survives.
    fn stop(&self, unit: &UnitId, grace: Duration, cancel: &Cancel) -> Result<(), EngineError>;

    /// Removes a stopped unit with its own files. Nothing to do is no error.
    ///
    /// # Errors
    /// If it runs or its files cannot be removed.
    fn remove(&self, unit: &UnitId) -> Result<(), EngineError>;

    /// Sets a stopped unit aside, whole, as the one of this generation: its place is free for another instance. Nothing
    /// to do is no error.
    ///
    /// # Errors
    /// If it runs or cannot be moved; then it is where it was.
    fn set_aside(&self, unit: &UnitId, generation: u64) -> Result<(), EngineError>;

    /// Puts an instance that was set aside in its place, which is free. Nothing to do is no error.
    ///
    /// # Errors
    /// If the place is taken, or it cannot be moved; then it is where it was.
    fn put_back(&self, unit: &UnitId, generation: u64) -> Result<(), EngineError>;

    /// The generations whose instances of a unit are set aside, in order.
    ///
    /// # Errors
    /// If the engine cannot be asked.
    fn set_aside_of(&self, unit: &UnitId) -> Result<Vec<u64>, EngineError>;

    /// Removes an instance that is set aside. Nothing to do is no error.
    ///
    /// # Errors
    /// If its files cannot be removed.
    fn remove_aside(&self, unit: &UnitId, generation: u64) -> Result<(), EngineError>;

    /// Changes the limits of a running unit.
    ///
    /// # Errors
    /// If the kernel refuses, or no controller is there for a limit.
    fn set_limits(&self, unit: &UnitId, limits: &Limits) -> Result<(), EngineError>;

    /// Publishes the ports that are declared now of a running unit, and no others.
    ///
    /// # Errors
    /// If somebody else has one; those that were published before may not be any more.
    fn set_ports(&self, unit: &UnitId, spec: &UnitSpec) -> Result<(), EngineError>;

    /// Leads what comes to the published ports of a unit that runs to it. Nothing to do is no error.
    ///
    /// # Errors
    /// If somebody else has one by now.
    fn publish(&self, unit: &UnitId) -> Result<(), EngineError>;

    /// Whether the published ports of a unit are held now, see [`Capabilities::holds_ports`].
    fn has_held_ports(&self, unit: &UnitId) -> bool;

    /// Leads what comes to the published ports of a unit to another one that runs and was withheld, until
    /// [`Engine::publish`], whatever becomes of the unit. Comes back when what the unit had under way has ended, or has had its
    /// time. Its ports are held.
    ///
    /// # Errors
    /// If the other one does not run, or somebody else has a port by now.
    fn lend(&self, unit: &UnitId, to: &UnitId) -> Result<(), EngineError>;

    /// Sees to it that what is ours beside a running unit is there: what holds its published ports, what asks it whether
    /// it is well. Gives what becomes readable when it is not any more.
    ///
    /// # Errors
    /// If somebody else has a port by now.
    fn tend(&self, unit: &UnitId) -> Result<Vec<OwnedFd>, EngineError>;

    /// How containers of somebody else's become units here; nothing where nobody else makes any.
    fn adoption(&self) -> Option<&dyn adoption::Adoption> {
        None
    }

    /// The files that the unit has changed or made in its own layer, up to a few, and how many there are.
    ///
    /// # Errors
    /// If they cannot be looked at.
    fn own_changes(&self, unit: &UnitId) -> Result<OwnChanges, EngineError>;

    /// Who hooks and shells run as in a unit whose workspace is this folder, where nobody is declared: whoever
    /// owns the folder, as he is called inside.
    fn default_user(&self, workspace: &Path) -> String;

    /// An account of the unit, by a name or `uid[:gid]`.
    ///
    /// # Errors
    /// If there is no such account.
    fn account(&self, unit: &UnitId, user: &str) -> Result<Account, EngineError>;

    /// The environment that a unit's processes have by themselves: what its base declares, and its own settings.
    ///
    /// # Errors
    /// If there is no such unit, or it cannot be asked for.
    fn environment(&self, unit: &UnitId) -> Result<BTreeMap<String, String>, EngineError>;

    /// Runs a process in a running unit.
    ///
    /// # Errors
    /// If the unit does not run, or the program cannot be started.
    fn exec(&self, unit: &UnitId, spec: &ExecSpec) -> Result<Box<dyn Process>, EngineError>;

    /// The engine, and the version of how it runs steps: part of their keys.
    fn step_behaviour(&self) -> &'static str;

    /// What a step sees of its base; nothing for an image that is not here yet, see [`Engine::prepare`].
    ///
    /// # Errors
    /// If it cannot be looked at.
    fn step_base(&self, base: &BaseSource) -> Result<Option<key::Base>, EngineError>;

    /// A digest of a folder or file of the host that a step sees, by what the kernel tells of it.
    ///
    /// # Errors
    /// If it cannot be looked at.
    fn seen_on_host(&self, path: &Path) -> Result<Digest, EngineError>;

    /// Starts a step in a sandbox of its own, which ends with it. The base is prepared.
    ///
    /// # Errors
    /// If the sandbox cannot be made, or the program cannot be started.
    fn start_step(&self, step: &StepSpec) -> Result<Box<dyn Process>, EngineError>;

    /// Puts into the state of a step that has ended what it changed and the engine keeps elsewhere: its state is going
    /// to be sealed. Its process is not dropped yet.
    ///
    /// # Errors
    /// If it cannot be kept.
    fn seal_step(&self, step: &StepSpec) -> Result<(), EngineError>;

    /// How many bytes the engine keeps for a state elsewhere; nothing if they should be there and are not, so that
    /// nobody can build on it any more.
    ///
    /// # Errors
    /// If they cannot be looked at.
    fn kept_elsewhere(&self, state: &Path) -> Result<Option<u64>, EngineError>;

    /// Ends and removes all that the engine holds of steps and keeps for states, but for those that are, or lie in, one
    /// of the folders that `kept` names when it is asked.
    ///
    /// # Errors
    /// If something cannot be looked at or removed.
    fn sweep_steps(&self, kept: &dyn Fn() -> Vec<PathBuf>) -> Result<(), EngineError>;
}

/// A volume that is made and filled.
#[derive(Debug, Clone, Copy)]
pub struct NewVolume<'a> {
    /// As it is declared, with the name that it gets.
    pub declared: &'a compose::Volume,
    /// Whose it is: the folder of its project.
    pub owner: &'a Path,
    /// What tells its data from other data of its name.
    pub id: &'a str,
    /// What a unit that has it is built on, which is prepared.
    pub base: &'a BaseSource,
}

/// All that an engine needs to run a step of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepSpec {
    /// Where its file system comes from.
    pub base: BaseSource,
    /// What the steps that it builds on left of their file systems: their states, the lowest first.
    pub below: Vec<PathBuf>,
    /// Keeps what it writes: a new folder, which may become the state of others.
    pub state: PathBuf,
    /// An empty folder, needed while it runs.
    pub scratch: PathBuf,
    /// The layers of its workspace, the lowest first; none for an empty one.
    pub workspace: Vec<PathBuf>,
    /// What else of the host appears inside.
    pub mounts: Vec<Mount>,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Added to the environment that its base declares.
    pub env: BTreeMap<String, String>,
    /// Where it starts.
    pub cwd: PathBuf,
    /// Who it runs as: a name or `uid[:gid]`; root if absent.
    pub user: Option<String>,
    /// Which network it has.
    pub network: Network,
    /// The network of units that it is in instead, which are there.
    pub joins: Option<String>,
    /// What it is connected to.
    pub io: Io,
}

/// What a unit changed in its own layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnChanges {
    /// How many files.
    pub count: u64,
    /// The first few, as paths inside.
    pub examples: Vec<PathBuf>,
}
