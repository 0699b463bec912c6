//! compose.yaml: from the files of a project to what its services, networks and volumes are to be.
//!
//! Each file is read as YAML into values that know where they stand; variables are put in; what services extend and
//! what files include comes in; the files are laid over each other; what has come of that is read for what it means.
//! What Compose knows and is not taken over is a note, what it would refuse is a problem.

mod build;
mod depends;
mod deploy;
mod devices;
mod dotenv;
mod extends;
mod files;
mod health;
mod hosts;
mod include;
mod interpolate;
mod keys;
mod load;
mod merge;
mod mounts;
mod names;
mod networks;
mod node;
mod paths;
mod ports;
mod project;
mod quantity;
mod report;
mod service;
mod source;
mod support;
mod types;
mod words;
mod yaml;

pub use project::load;
pub use support::SUPPORT;
pub use types::{
    AddressPool, ComposeFile, ComposeProject, ComposeService, Condition, Dependency, FileUse, Network,
    Options, PullPolicy, RestartPolicy, ServiceHook, Stored, Volume,
};
