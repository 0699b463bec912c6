//! Containers that somebody else made and that are units here. Labels cannot be changed, and another name would be
//! another name in its networks: so which container it is, and what its labels would say, is kept in a file.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bollard::models::{
    ContainerInspectResponse, ContainerUpdateBody, RestartPolicy as OnEngine, RestartPolicyNameEnum as Word,
};
use bollard::query_parameters::RenameContainerOptionsBuilder;
use rustix::fs::{FlockOperation, flock};
use setpoint_model::adoption::Running;
use setpoint_model::import::compose::RestartPolicy;

use super::{Docker, Flavor, labels, told};
use crate::engine::adoption::{Adopted, Adoption, Candidate, HandedBack, OfCompose};
use crate::engine::{EngineError, Labels, UnitId};
use crate::paths::{Roots, make_private_folder};
use crate::secrets::write_private;

/// How many digits of its id tell a container from another one of its name.
const SHORT: usize = 12;

/// The containers that were taken over, a file for each unit.
#[derive(Debug)]
pub(super) struct Kept {
    folder: PathBuf,
}

impl Kept {
    pub(super) fn new(roots: &Roots, flavor: Flavor) -> Self {
        Self { folder: roots.state.join("adopted/v1").join(flavor.name()) }
    }

    fn path(&self, unit: &str) -> PathBuf {
        self.folder.join(format!("{unit}.json"))
    }

    /// What is kept of a unit, if it was taken over.
    pub(super) fn read(&self, unit: &str) -> Result<Option<Adopted>, EngineError> {
        let path = self.path(unit);
        match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(EngineError::io("read", &path)(error)),
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| EngineError::io("read", &path)(error.into())),
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> Result<Vec<(UnitId, Adopted)>, EngineError> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(EngineError::io("read", &self.folder))?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let name = entry.map_err(EngineError::io("read", &self.folder))?.file_name();
            let Some(unit) = Path::new(&name).to_str().and_then(|name| name.strip_suffix(".json")) else {
                continue;
            };
            all.extend(self.read(unit)?.map(|adopted| (UnitId(unit.to_owned()), adopted)));
        }
        Ok(all)
    }

    /// Keeps a container as a unit's, unless it is another one's.
    fn keep(&self, unit: &UnitId, adopted: &Adopted) -> Result<(), EngineError> {
        make_private_folder(&self.folder).map_err(EngineError::io("make", &self.folder))?;
        // Two who take the same one over at once are units of their own, and have no lock in common but this.
        let path = self.folder.join("lock");
        let lock = File::create(&path).map_err(EngineError::io("make", &path))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| EngineError::io("lock", &path)(error.into()))?;
        let other =
            self.all()?.into_iter().find(|(id, kept)| id != unit && kept.container == adopted.container);
        if let Some((other, _)) = other {
            return Err(EngineError::Taken { container: adopted.container.clone(), unit: other.0 });
        }
        let path = self.path(unit.as_str());
        let bytes = serde_json::to_vec_pretty(adopted)
            .map_err(|error| EngineError::io("write", &path)(error.into()))?;
        write_private(&path, &bytes, false).map_err(EngineError::io("write", &path))
    }

    /// Forgets a unit. One that is not there is no error.
    pub(super) fn forget(&self, unit: &UnitId) -> Result<(), EngineError> {
        let path = self.path(unit.as_str());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(EngineError::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }
}

/// What a unit's container says of it: by its labels, or by what is kept of one that has none of ours.
pub(super) struct Carried {
    pub(super) labels: Labels,
    pub(super) user: String,
    pub(super) workspace: String,
}

impl Docker {
    /// What the engine knows a unit's container by.
    pub(super) fn container_of(&self, unit: &str) -> Result<String, EngineError> {
        let adopted = self.kept.read(unit)?;
        Ok(adopted.map_or_else(|| labels::container_name(unit), |adopted| adopted.container))
    }

    /// What the container of a unit says of it; nothing if it is none of ours.
    pub(super) fn carried(
        &self,
        unit: &UnitId,
        found: &ContainerInspectResponse,
    ) -> Result<Option<Carried>, EngineError> {
        if let Some(Adopted { labels, user, workspace, .. }) = self.kept.read(unit.as_str())? {
            return Ok(Some(Carried { labels, user, workspace }));
        }
        let carries = found.config.as_ref().and_then(|config| config.labels.as_ref());
        Ok(carries.and_then(|carries| {
            let label = |name: &str| carries.get(name).cloned().unwrap_or_default();
            let (user, workspace) = (label(labels::USER), label(labels::WORKSPACE));
            Some(Carried { labels: labels::read(carries)?, user, workspace })
        }))
    }

    /// Takes from the engine what it would start by itself: a unit that was taken over is started here alone.
    pub(super) fn keep_alone(&self, unit: &UnitId) -> Result<(), EngineError> {
        let Some(Adopted { container, .. }) = self.kept.read(unit.as_str())? else { return Ok(()) };
        let Some(found) = self.inspect(unit)? else { return Ok(()) };
        if self.flavor == Flavor::Docker && told::restart(&found) != RestartPolicy::No {
            self.set_restart(&container, RestartPolicy::No)?;
        }
        Ok(())
    }

    fn set_restart(&self, container: &str, restart: RestartPolicy) -> Result<(), EngineError> {
        let connected = self.connected()?;
        let (name, most) = match restart {
            RestartPolicy::No => (Word::NO, None),
            RestartPolicy::Always => (Word::ALWAYS, None),
            RestartPolicy::UnlessStopped => (Word::UNLESS_STOPPED, None),
            RestartPolicy::OnFailure { max } => (Word::ON_FAILURE, max.map(i64::from)),
        };
        let restart_policy = Some(OnEngine { name: Some(name), maximum_retry_count: most });
        let update = ContainerUpdateBody { restart_policy, ..ContainerUpdateBody::default() };
        Ok(connected
            .quick("change a restart policy", connected.api.update_container(container, update))
            .map(drop)?)
    }

    /// Gives a container this name, or one that begins so.
    fn rename(&self, container: &str, name: &str, id: &str) -> Result<String, EngineError> {
        let connected = self.connected()?;
        let longer = format!("{name}-{}", id.get(..SHORT).unwrap_or(id));
        let is_taken = connected.container("look at a container", name)?.is_some();
        let name = if is_taken { longer } else { name.to_owned() };
        let options = RenameContainerOptionsBuilder::default().name(&name).build();
        connected.quick("rename a container", connected.api.rename_container(container, options))?;
        Ok(name)
    }
}

impl Adoption for Docker {
    fn candidates(&self) -> Result<Vec<Candidate>, EngineError> {
        let connected = self.connected()?;
        let all = connected.containers("list containers", &HashMap::new())?;
        let kept = self.kept.all()?;
        let mut found: Vec<_> = all
            .into_iter()
            .filter_map(|one| {
                let (id, carries) = (one.id?, one.labels.unwrap_or_default());
                if carries.contains_key(labels::STEP) {
                    return None;
                }
                let names: Vec<_> = one
                    .names
                    .into_iter()
                    .flatten()
                    .map(|name| name.trim_start_matches('/').to_owned())
                    .collect();
                let adopted = kept.iter().find(|(_, adopted)| adopted.container == id);
                let was = carries.get(labels::UNIT).map(|unit| UnitId(unit.clone()));
                let made = was.clone().filter(|unit| names.contains(&labels::container_name(unit.as_str())));
                let unit = adopted.map(|(unit, _)| unit.clone()).or(made);
                let running = one.state.is_some_and(|state| state.to_string() == "running");
                Some(Candidate {
                    name: names.into_iter().next().unwrap_or_else(|| id.clone()),
                    running,
                    was: was.filter(|_| unit.is_none()),
                    unit,
                    compose: of_compose(&carries),
                    id,
                })
            })
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn describe(&self, container: &str) -> Result<Running, EngineError> {
        let connected = self.connected()?;
        let found = connected.container("look at a container", container)?;
        let gone = || EngineError::State { unit: container.to_owned(), state: "does not exist" };
        let found = found.ok_or_else(gone)?;
        let image = found.image.clone().unwrap_or_default();
        let image = connected.find("look at an image", connected.api.inspect_image(&image))?;
        Ok(told::running(self.flavor, found, image.unwrap_or_default()))
    }

    fn adopt(&self, unit: &UnitId, adopted: &Adopted) -> Result<(), EngineError> {
        self.kept.keep(unit, adopted)
    }

    fn adopted(&self, unit: &UnitId) -> Result<Option<Adopted>, EngineError> {
        self.kept.read(unit.as_str())
    }

    fn hand_back(
        &self,
        unit: &UnitId,
        restart: RestartPolicy,
        name: &str,
    ) -> Result<Option<HandedBack>, EngineError> {
        let Some(found) = self.inspect(unit)? else {
            self.kept.forget(unit)?;
            return Ok(None);
        };
        let id = found.id.clone().unwrap_or_default();
        let wanted = (restart != RestartPolicy::No).then_some(restart);
        let restarts = match wanted {
            Some(restart) if told::restart(&found) != restart => match self.set_restart(&id, restart) {
                Ok(()) => Some(true),
                // Podman's way to change it came late: then it is told.
                Err(_) if self.flavor == Flavor::Podman => Some(false),
                Err(error) => return Err(error),
            },
            other => other.map(|_| true),
        };
        // From here on it is nobody's.
        let container = if self.kept.read(unit.as_str())?.is_some() {
            self.kept.forget(unit)?;
            found.name.unwrap_or(id).trim_start_matches('/').to_owned()
        } else {
            self.rename(&id, name, &id)?
        };
        Ok(Some(HandedBack { container, restarts }))
    }
}

/// What Compose says of a container that runs one of its services; what it runs once by hand is none of them.
fn of_compose(carries: &HashMap<String, String>) -> Option<OfCompose> {
    let label = |name: &str| carries.get(&format!("com.docker.compose.{name}"));
    if label("oneoff").is_some_and(|once| once.eq_ignore_ascii_case("true")) {
        return None;
    }
    let folder = label("project.working_dir").map(PathBuf::from);
    Some(OfCompose { project: label("project")?.clone(), service: label("service")?.clone(), folder })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_compose_ran_once_by_hand_is_no_service() {
        let labels = |once: &str| -> HashMap<String, String> {
            [("project", "shop"), ("service", "web"), ("oneoff", once)]
                .map(|(name, value)| (format!("com.docker.compose.{name}"), value.to_owned()))
                .into()
        };
        assert_eq!(of_compose(&labels("False")).unwrap().service, "web");
        assert_eq!(of_compose(&labels("True")), None);
        assert_eq!(of_compose(&HashMap::new()), None);
    }
}
