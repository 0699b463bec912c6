//! What a step left, for others to build on.

use std::path::PathBuf;

use setpoint_model::digest::Digest;

use crate::snapshot::Snapshots;
use crate::store::StoreError;
use crate::store::cache::{CacheDb, Chains};

/// What a step left.
#[derive(Debug, Clone)]
pub(super) enum Built {
    /// Nothing that anybody could build on: the base itself, or a step that nobody builds on.
    Nothing(Digest),
    /// A recorded result.
    Stored(Digest),
    /// Folders of this run, which go when it ends: nothing that is built on them can ever be found again.
    Unkept {
        id: Digest,
        /// States, the lowest first.
        system: Vec<PathBuf>,
        /// Changes of the workspace, the lowest first.
        workspace: Vec<PathBuf>,
        /// Its own changes of the workspace.
        own_workspace: Option<PathBuf>,
    },
}

impl Built {
    /// Of this very run of the step.
    pub(super) fn id(&self) -> Digest {
        match self {
            Self::Nothing(id) | Self::Stored(id) | Self::Unkept { id, .. } => *id,
        }
    }

    /// Whether what is built on it can be found again.
    pub(super) fn is_unkept(&self) -> bool {
        matches!(self, Self::Unkept { .. })
    }

    pub(super) fn chains(&self, cache: &CacheDb) -> Result<Chains, StoreError> {
        match self {
            Self::Stored(id) => cache.chains(*id),
            Self::Nothing(_) | Self::Unkept { .. } => Ok(Chains::default()),
        }
    }

    /// The states that its file system lies on, the lowest first.
    pub(super) fn system(&self, cache: &CacheDb, snapshots: &Snapshots) -> Result<Vec<PathBuf>, StoreError> {
        match self {
            Self::Unkept { system, .. } => Ok(system.clone()),
            other => Ok(other.chains(cache)?.system.iter().map(|id| snapshots.path(*id)).collect()),
        }
    }

    /// The changes of its workspace, the lowest first.
    pub(super) fn workspace(
        &self,
        cache: &CacheDb,
        snapshots: &Snapshots,
    ) -> Result<Vec<PathBuf>, StoreError> {
        match self {
            Self::Unkept { workspace, .. } => Ok(workspace.clone()),
            other => Ok(other.chains(cache)?.workspace.iter().map(|id| snapshots.workspace(*id)).collect()),
        }
    }

    /// Its own changes of the workspace, if there are any.
    pub(super) fn own_workspace(
        &self,
        cache: &CacheDb,
        snapshots: &Snapshots,
    ) -> Result<Option<PathBuf>, StoreError> {
        match self {
            Self::Nothing(_) => Ok(None),
            Self::Unkept { own_workspace, .. } => Ok(own_workspace.clone()),
            Self::Stored(id) => {
                let is_own = cache.chains(*id)?.workspace.contains(id);
                Ok(is_own.then(|| snapshots.workspace(*id)))
            }
        }
    }
}
