//! Taking over containers that somebody else made, and handing units back to their engine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use setpoint_model::adoption::Running;
use setpoint_model::import::compose::RestartPolicy;

use super::{EngineError, Labels, UnitId};

/// A container on the engine, whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id on the engine.
    pub id: String,
    /// Its name there.
    pub name: String,
    /// Whether it runs.
    pub running: bool,
    /// The unit that it is, if it is one of ours.
    pub unit: Option<UnitId>,
    /// The unit that it was before it was handed back.
    pub was: Option<UnitId>,
    /// What it is of a Compose project, if it is of one.
    pub compose: Option<OfCompose>,
}

/// What Compose says of a container that it made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfCompose {
    /// The project's name.
    pub project: String,
    /// What its file calls the service.
    pub service: String,
    /// The folder of the file.
    pub folder: Option<PathBuf>,
}

/// What is kept of a container that was taken over, in place of the labels that it cannot be given any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// Its id on the engine.
    pub container: String,
    /// What its labels would say.
    pub labels: Labels,
    /// Who hooks and shells run as.
    pub user: String,
    /// Where the project appears inside; empty where it does not.
    pub workspace: String,
    /// When the engine started it again by itself, before it was taken over.
    pub restart: RestartPolicy,
}

/// What a unit is after it was handed back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedBack {
    /// What its container is called now.
    pub container: String,
    /// Whether the engine starts it again by itself, as was asked; nothing where that was not asked.
    pub restarts: Option<bool>,
}

/// An engine on which others make containers too, which can become units and cease to be.
pub trait Adoption {
    /// All containers, by name.
    ///
    /// # Errors
    /// If the engine cannot be asked.
    fn candidates(&self) -> Result<Vec<Candidate>, EngineError>;

    /// What there is to know of a container, by its id.
    ///
    /// # Errors
    /// If there is none, or it cannot be asked for.
    fn describe(&self, container: &str) -> Result<Running, EngineError>;

    /// Makes a container the unit's own: from here on it is found as that. Nothing of it is touched.
    ///
    /// # Errors
    /// If it is another unit's by now, or this cannot be kept.
    fn adopt(&self, unit: &UnitId, adopted: &Adopted) -> Result<(), EngineError>;

    /// What was kept of a unit's container when it was taken over; nothing for one that was made here.
    ///
    /// # Errors
    /// If it cannot be read.
    fn adopted(&self, unit: &UnitId) -> Result<Option<Adopted>, EngineError>;

    /// Leaves a unit's container to the engine, as it is, to be started again as this policy says; one that was made here
    /// gets this name, or one that begins so. Nothing if there is none.
    ///
    /// # Errors
    /// If the engine refuses; then it still is the unit's.
    fn hand_back(
        &self,
        unit: &UnitId,
        restart: RestartPolicy,
        name: &str,
    ) -> Result<Option<HandedBack>, EngineError>;
}
