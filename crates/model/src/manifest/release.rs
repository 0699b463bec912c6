//! How one version of the services takes the place of another.

use std::time::Duration;

use crate::release::migration::Defaults;
use crate::release::{Lane, Repository};

/// How one version of the services takes the place of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Where images and bundles go.
    pub repository: Option<Repository>,
    /// Patterns of files that a bundle carries besides those that services refer to.
    pub files: Vec<String>,
    /// What an upgrade does to data, where it is said.
    pub lane: Option<Lane>,
    /// Whether an instance of the new version may answer beside the old one while that is replaced.
    pub stand_in: bool,
    /// How many earlier generations are kept.
    pub keep: u64,
    /// How long a new instance may take until it is well.
    pub verify: Duration,
    /// How long it has to stay well before the upgrade is committed.
    pub steady: Duration,
    /// How long all are watched afterwards.
    pub bake: Duration,
    /// What migrations have in common.
    pub migrations: Defaults,
}

impl Default for Release {
    fn default() -> Self {
        Self {
            repository: None,
            files: Vec::new(),
            lane: None,
            stand_in: true,
            keep: 1,
            verify: Duration::from_secs(60),
            steady: Duration::from_secs(2),
            bake: Duration::from_secs(5),
            migrations: Defaults::default(),
        }
    }
}
