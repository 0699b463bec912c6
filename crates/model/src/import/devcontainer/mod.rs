//! devcontainer.json, the file of the Development Containers specification, and what belongs to it: features and
//! their lock file, the metadata of images, and how all that is merged.
//!
//! Nothing is fetched and nothing is read here: texts come in, values go out.

mod build;
mod container;
mod env;
pub mod features;
mod file;
mod hooks;
mod id;
mod manifest;
mod merge;
mod metadata;
mod mount;
mod parse;
mod ports;
mod reader;
mod requirements;
mod run_args;
mod settings;
mod size;
mod source;
mod substitute;
pub mod support;
pub mod variables;
mod wrong;

pub use build::Place;
pub use container::container;
pub use env::{Parts, env};
pub use file::{BuildSource, ComposeSource, DevContainer, RecommendedSecret, Source, WorkspaceMount};
pub use hooks::Phase;
pub use id::{id_input, id_of_hash};
pub use manifest::to_manifest;
pub use merge::{Entry, Merged, Origin, Said, merge};
pub use metadata::image_metadata;
pub use parse::parse;
pub use ports::{ForwardedPort, OnAutoForward, PortAttributes, published_ports};
pub use reader::Placed;
pub use requirements::{Gpu, HostRequirements};
pub use run_args::{RunArgs, run_args};
pub use settings::{Settings, ShutdownAction, UserEnvProbe};
