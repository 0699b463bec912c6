//! What a devcontainer.json says, with the places where it says it.

use std::collections::BTreeMap;

use super::features::FeatureUse;
use super::reader::Placed;
use super::settings::Settings;
use crate::container::ContainerMount;
use crate::manifest::{Location, Note};

/// A devcontainer.json. Variables such as `${localEnv:HOME}` are still in its texts until they are substituted.
#[derive(Debug, Clone, PartialEq)]
pub struct DevContainer {
    /// What it is called in a user interface.
    pub name: Option<Placed<String>>,
    /// What the container is made of.
    pub source: Source,
    /// The features that are installed over that, in the order of the file.
    pub features: Vec<FeatureUse>,
    /// Features that are installed as early as can be, the first first, by their names without a version.
    pub override_feature_install_order: Vec<Placed<String>>,
    /// What is merged with the metadata of features and of the image.
    pub settings: Settings,
    /// How the project's folder appears inside.
    pub workspace_mount: WorkspaceMount,
    /// Where commands and tools start.
    pub workspace_folder: Option<Placed<String>>,
    /// Arguments of `docker run`.
    pub run_args: Vec<Placed<String>>,
    /// Ports that are published, as the texts of Docker's `--publish`.
    pub app_port: Vec<Placed<String>>,
    /// Secrets that should be given, by the variables that hold them inside.
    pub secrets: BTreeMap<String, RecommendedSecret>,
    /// What a user should know about how it was read.
    pub notes: Vec<Note>,
}

/// What a dev container is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// An image.
    Image(Placed<String>),
    /// An image that is built.
    Build(BuildSource),
    /// A service of compose files.
    Compose(ComposeSource),
}

/// An image that is built. Its paths are from the folder of the devcontainer.json.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildSource {
    /// The Dockerfile.
    pub dockerfile: Placed<String>,
    /// The folder that it may copy from; absent is that of the devcontainer.json.
    pub context: Option<Placed<String>>,
    /// Build arguments.
    pub args: BTreeMap<String, Placed<String>>,
    /// The stage that is built.
    pub target: Option<Placed<String>>,
    /// Images whose layers may be taken.
    pub cache_from: Vec<Placed<String>>,
    /// Arguments of `docker build`.
    pub options: Vec<Placed<String>>,
}

/// A service of compose files.
#[derive(Debug, Clone, PartialEq)]
pub struct ComposeSource {
    /// The compose files, from the folder of the devcontainer.json; later ones are laid over earlier ones.
    pub files: Vec<Placed<String>>,
    /// The service that is the dev container.
    pub service: Placed<String>,
    /// The services that are run besides it; absent is all.
    pub run_services: Option<Vec<Placed<String>>>,
}

/// How the project's folder appears inside.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkspaceMount {
    /// As the engine does it by itself.
    Default,
    /// Not at all.
    Nothing(Location),
    /// So.
    Mount(Placed<ContainerMount>),
}

/// A secret that should be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecommendedSecret {
    /// What it is for.
    pub description: Option<String>,
    /// Where more is said about it.
    pub documentation_url: Option<String>,
    /// Where it is declared.
    pub at: Location,
}
