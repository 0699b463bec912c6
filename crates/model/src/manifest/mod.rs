//! The manifest: `setpoint.toml` and what is laid over it, from text to [`Manifest`], or to everything that is wrong
//! with it.
//!
//! Each layer is read as TOML into a tree that knows where each value stands; the trees are merged; the merged tree
//! is read into the types of `shape`, which are the one truth about what may stand where; what fits is then checked
//! for what it means. Only if something does not fit is the schema of those types made, and the tree compared with
//! it, so that all that is wrong is found at once and told with its place.

mod alerts;
mod byte_size;
pub(crate) mod document;
mod env;
mod env_value;
mod first_boot;
pub(crate) mod format;
mod hook;
mod missing_file;
mod nearest;
mod not_yet;
mod origin;
mod paths;
mod pipeline;
mod problem;
mod project_name;
mod release;
mod resolve;
mod runners;
pub(crate) mod scalars;
pub(crate) mod schema;
mod secret;
mod set;
mod shape;
pub(crate) mod source;
pub(crate) mod structure;
mod syntax;
pub(crate) mod tree;
mod version;

use std::collections::{BTreeMap, BTreeSet};

pub use alerts::Alerts;
pub use byte_size::ByteSize;
pub use env::{
    BackupCommands, Base, EngineKind, Env, FileSource, Limits, MountDecl, NeededFile, Network,
    OfDevContainer, OfService, PackUse, PacksOnStart, PortDecl, Purpose, ServiceFile,
};
pub use env_value::{EnvValue, Part};
pub use first_boot::{Act, After, Data, FirstBootStep, HoldsFor};
pub use format::Malformed;
pub use hook::{Before, Command, Hook, Run, WhenChanged};
pub use nearest::nearest;
pub use origin::origin;
pub use pipeline::CacheSettings;
pub use problem::{Location, Problem};
pub use project_name::ProjectName;
pub use release::Release;
pub use runners::{RunnerSettings, Runners};
pub use scalars::parse_duration;
pub use schema::json_schema;
pub use secret::{Form, Secret, SecretSource, needed as needed_secrets};
pub use set::set_layer;

use crate::names::{PipelineName, SecretName, UnitName};
use crate::pipeline::ir::Pipeline;
use document::Document;
use source::Sources;
use tree::Node;

/// One of the texts that make up a manifest; later ones are laid over earlier ones.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// What it is called in problems: `setpoint.toml`, `setpoint.local.toml`, `--set env.dev.user=root`.
    pub name: &'a str,
    /// Its text, which is TOML.
    pub text: &'a str,
}

/// What a project declares.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The project as a whole.
    pub project: Project,
    /// What runs its environments.
    pub engine: EngineKind,
    /// Where the values of secrets come from.
    pub secrets: BTreeMap<SecretName, Secret>,
    /// Its environments.
    pub envs: BTreeMap<UnitName, Env>,
    /// Its pipelines.
    pub pipelines: BTreeMap<PipelineName, Pipeline>,
    /// The compose files that it uses.
    pub stack: Option<Stack>,
    /// Who is told when a unit needs a person.
    pub alerts: Alerts,
    /// How one version of the services takes the place of another.
    pub release: Release,
    /// How much the cache of pipelines may hold.
    pub cache: CacheSettings,
    /// How the tests that specs name are run.
    pub runners: Runners,
    /// What a user should know about how it was read.
    pub notes: Vec<Note>,
}

impl Manifest {
    /// The manifest of a folder that has none.
    #[must_use]
    pub fn empty(folder_name: &str) -> Self {
        Self {
            project: Project { name: ProjectName::from_folder(folder_name), version: None, up: None },
            engine: EngineKind::default(),
            secrets: BTreeMap::new(),
            envs: BTreeMap::new(),
            pipelines: BTreeMap::new(),
            stack: None,
            alerts: Alerts::default(),
            release: Release::default(),
            cache: CacheSettings::default(),
            runners: Runners::default(),
            notes: Vec::new(),
        }
    }
}

/// The compose files of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// Their paths, from the project's folder; later ones are laid over earlier ones.
    pub files: Vec<String>,
    /// The profiles whose services are part of it.
    pub profiles: BTreeSet<String>,
    /// Where it is declared.
    pub at: Location,
}

/// The project as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its name: the declared one, else that of its folder.
    pub name: ProjectName,
    /// Its version.
    pub version: Option<String>,
    /// What a bare `up` brings up, each once; nothing said is everything.
    pub up: Option<Vec<UnitName>>,
}

/// Something that a user should know about how a manifest was read, and that is not wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What it is about.
    pub at: Location,
    /// What there is to know.
    pub text: String,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.at, self.text)
    }
}

/// Reads a manifest from its layers, lowest first: tables merge, everything else is replaced. The name of the
/// project's folder is the project's name where none is declared.
///
/// # Errors
/// Everything that is wrong, in the order of layers and lines.
pub fn parse(layers: &[Layer<'_>], folder_name: &str) -> Result<Manifest, Vec<Problem>> {
    read(layers, folder_name, false)
}

/// Reads the manifest of a project whose pipelines are code, so that it may declare nothing else: settings alone are
/// enough.
///
/// # Errors
/// As [`parse`], but for a manifest that declares nothing.
pub fn parse_beside_code(layers: &[Layer<'_>], folder_name: &str) -> Result<Manifest, Vec<Problem>> {
    read(layers, folder_name, true)
}

fn read(layers: &[Layer<'_>], folder_name: &str, is_beside_code: bool) -> Result<Manifest, Vec<Problem>> {
    let sources = Sources::new(layers);
    let tree = match merged(layers) {
        Ok(tree) => tree,
        Err(problems) => return Err(document::located(&sources, problems)),
    };
    let mut document = Document::new(sources, tree);
    if !version::check(&mut document) {
        return Err(document.into_problems());
    }
    not_yet::refuse(&mut document);
    let Some(file) = document.read(json_schema, not_yet::keys) else { return Err(document.into_problems()) };
    let manifest = resolve::manifest(file, &mut document, folder_name, is_beside_code);
    if document.is_good() { Ok(manifest) } else { Err(document.into_problems()) }
}

/// The layers as one tree, or all that keeps them from being read.
fn merged(layers: &[Layer<'_>]) -> Result<Node, Vec<(source::Span, Problem)>> {
    let mut tree = Node::empty();
    let mut problems = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        match Node::read(number, layer) {
            Ok(node) => tree.merge(node),
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() { Ok(tree) } else { Err(problems) }
}
