//! Taking over what runs already, without a restart, and handing units back.
//!
//! What makes a container a unit is one file of its engine's, written at once; the rows follow in one transaction. Who
//! dies between the two leaves a unit whose record is lost, and the next `adopt` completes it.

mod choose;
mod image;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;
use setpoint_model::adoption::{Paths, Running, leaves};
use setpoint_model::container::{Container, MountSource, NetworkMode};
use setpoint_model::fingerprint::{Fingerprint, LeafKey};
use setpoint_model::import::compose::RestartPolicy;
use setpoint_model::manifest::EnvValue;
use setpoint_model::names::UnitName;

pub use choose::{Choice, Unfit, in_its_place, is_free, named, of_project, peers};
pub use image::KeptImages;

use crate::apply::ApplyError;
use crate::cancel::Cancel;
use crate::engine::adoption::{Adopted, Adoption, Candidate, HandedBack};
use crate::engine::{EngineError, LabelledLeaf, Labels};
use crate::events::Watcher;
use crate::observe::Unit;
use crate::paths::expand_home;
use crate::reconciler::{self, Rules};
use crate::session::Session;
use crate::store::{NewUnit, OperationOutcome, Store, TxId, UnitKind};
use crate::{failpoints, random, record};

/// Why nothing was taken over or handed back.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// What was asked for cannot be that.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The image that it runs on is nowhere else, and cannot be kept.
    #[error("the image of {container} came from no registry, and cannot be kept: {source}")]
    Image {
        /// The container's name.
        container: String,
        /// Why not.
        source: EngineError,
    },
    /// Something that is needed failed.
    #[error(transparent)]
    Failed(#[from] ApplyError),
}

impl From<EngineError> for AdoptError {
    fn from(error: EngineError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<crate::store::StoreError> for AdoptError {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Failed(error.into())
    }
}

/// What became of a container that was to be taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Whether it had been taken over before.
    pub already: bool,
    /// The folders inside that keep data in volumes that nobody gave a name.
    pub nameless: Vec<String>,
    /// The archive of its image, where no registry has that.
    pub image: Option<PathBuf>,
}

impl Unit<'_> {
    /// The part of the unit's engine that takes over and hands back.
    ///
    /// # Errors
    /// If nobody else makes units there.
    pub fn adoption(&self) -> Result<&dyn Adoption, AdoptError> {
        let engine = self.engine.capabilities().engine;
        self.engine.adoption().ok_or_else(|| Unfit::NobodyElse { engine }.into())
    }

    /// Makes a container the unit, as it runs: what is recorded of it is what it has, so that the plan is what differs.
    /// `peers` are the units that containers are, by the containers' ids. An image that no registry has is kept first.
    /// Under the unit's lock.
    ///
    /// # Errors
    /// If it cannot be this unit; then nothing was done.
    pub fn adopt(
        &self,
        store: &mut Store,
        candidate: &Candidate,
        peers: &BTreeMap<String, UnitName>,
        watcher: &dyn Watcher,
        cancel: &Cancel,
    ) -> Result<Taken, AdoptError> {
        let adoption = self.adoption()?;
        let row = store.unit(&self.project.root, &self.env.name)?;
        let all = adoption.candidates()?;
        // What was chosen was seen without the lock.
        let candidate = choose::still_there(&all, candidate)?;
        choose::is_free(self.env, &self.id, candidate, &all)?;
        let (facts, _) = self.facts()?;
        let mut running = adoption.describe(&candidate.id)?;
        let nameless = nameless(&running.container);
        let is_unit = candidate.unit.as_ref() == Some(&self.id);
        let is_ours = is_unit && adoption.adopted(&self.id)?.is_none();
        let images = KeptImages::of(self.roots);
        let image = match is_ours {
            true => None,
            false => images
                .keep(self.engine, &self.id, &running.image_digest, watcher, cancel)
                .map_err(|source| AdoptError::Image { container: candidate.name.clone(), source })?,
        };
        // One of our own making is so by its labels, whatever is recorded.
        if is_unit && (row.is_some() || is_ours) {
            self.settle(&facts.user)?;
            return Ok(Taken { already: true, nameless, image });
        }
        by_unit(&mut running.container, peers);
        canonical(&mut running.container);
        let absolute = |path: &str| {
            let whole = self.project.root.join(expand_home(path, self.home.as_deref()));
            in_full(&whole).to_string_lossy().into_owned()
        };
        let paths = Paths { root: self.project.root.to_string_lossy().into_owned(), absolute: &absolute };
        let runs = leaves(self.env, &facts, &self.engine.capabilities(), &running, &paths);
        let instance = random::hex();
        let kept =
            adoption.adopt(&self.id, &self.adopted(candidate, &running, &runs, &instance, &facts.user));
        if kept.is_err() {
            images.forget(&self.id, &self.env.base)?;
        }
        kept.map_err(|error| match error {
            EngineError::Taken { unit, .. } => {
                Unfit::Taken { container: candidate.name.clone(), unit }.into()
            }
            error => AdoptError::from(error),
        })?;
        failpoints::at("adopt.acted");
        let known: Vec<_> = runs.iter().map(|(key, leaf)| record::leaf(key, leaf)).collect();
        let new = NewUnit {
            project_root: self.project.root.clone(),
            project_name: self.project.manifest.project.name.to_string(),
            name: self.env.name.clone(),
            kind: UnitKind::Env,
            engine: self.engine.capabilities().engine.to_owned(),
            instance: Some(instance),
            labels: BTreeMap::new(),
        };
        let rules = Rules::of(self.env, self.stop_grace(), &self.project.manifest.alerts);
        let (operation, now) = (TxId::new(random::hex()), Timestamp::now());
        store.write(|writer| {
            // What was recorded of one that is gone is no record of this one.
            if let Some(row) = &row {
                writer.remove_unit(row.id)?;
            }
            let id = writer.adopt_unit(&new, now)?;
            writer.record_leaves(id, &known, now)?;
            writer.begin(&operation, id, &format!("adopt {}", self.env.name), now)?;
            writer.finish(&operation, OperationOutcome::Succeeded, None, now)?;
            rules.as_ref().map_or(Ok(()), |rules| reconciler::put_up(writer, id, rules))
        })?;
        failpoints::at("adopt.recorded");
        self.settle(&facts.user)?;
        Ok(Taken { already: false, nameless, image })
    }

    /// What may be done again: who dies before it leaves it to the next one.
    fn settle(&self, user: &str) -> Result<(), AdoptError> {
        if Session::applied(self.roots, &self.id).map_err(ApplyError::Session)?.is_none() {
            self.keep_session(user)?;
        }
        // From now on it is started again by whoever keeps it, and by nobody else.
        self.engine.tend(&self.id)?;
        Ok(())
    }

    /// What is kept of a container in place of labels.
    fn adopted(
        &self,
        candidate: &Candidate,
        running: &Running,
        runs: &Fingerprint,
        instance: &str,
        user: &str,
    ) -> Adopted {
        let is_mounted = runs.get(&LeafKey::new(format!("env.{}.workspace", self.env.name))).is_some();
        Adopted {
            container: candidate.id.clone(),
            labels: Labels {
                project_root: self.project.root.clone(),
                project: self.project.manifest.project.name.to_string(),
                unit: self.env.name.clone(),
                instance: instance.to_owned(),
                made_of: runs.iter().map(|(key, leaf)| LabelledLeaf::new(key, leaf)).collect(),
            },
            // In a service, whoever its own first process runs as.
            user: if self.env.is_service() { String::new() } else { user.to_owned() },
            workspace: if is_mounted { self.env.workspace.clone() } else { String::new() },
            restart: running.restart,
        }
    }

    /// What sessions are given of what is declared: secrets only once an `up` has had their values.
    fn keep_session(&self, user: &str) -> Result<(), AdoptError> {
        let project = self.project.manifest.project.name.as_str();
        let mut session = Session::declared(self.env, project, user);
        session.env.retain(|_, value: &mut EnvValue| value.secrets().next().is_none());
        Ok(session.keep(self.roots, &self.id).map_err(ApplyError::Session)?)
    }

    /// Forgets the unit, and leaves its container to the engine, as it runs. Under the unit's lock. Nothing, if there is
    /// no such unit.
    ///
    /// # Errors
    /// If something of it cannot be forgotten, or the engine refuses; the next `disown` goes on from there.
    pub fn disown(&self, store: &mut Store) -> Result<Option<HandedBack>, AdoptError> {
        let adoption = self.adoption()?;
        // An engine that is away is found out before anything is forgotten.
        self.engine.observe(&self.id)?;
        let adopted = adoption.adopted(&self.id)?;
        let (made_here, before) = (adopted.is_none(), adopted.map(|adopted| adopted.restart));
        if let Some(row) = store.unit(&self.project.root, &self.env.name)? {
            store.write(|writer| writer.remove_unit(row.id))?;
        }
        failpoints::at("disown.forgotten");
        // Of an environment nothing is declared: there it is as it was.
        let restart = self.env.service.as_ref().map(|of| of.restart).or(before).unwrap_or(RestartPolicy::No);
        let name = format!("{}-{}", self.project.manifest.project.name, self.env.name);
        let handed = adoption.hand_back(&self.id, restart, &name)?;
        Session::forget(self.roots, &self.id).map_err(ApplyError::Session)?;
        KeptImages::of(self.roots).forget(&self.id, &self.env.base)?;
        if !(made_here && handed.is_some() && self.reads_our_files()) {
            let folder = self.secrets().unit_folder(&self.id);
            self.secrets().forget_unit(&self.id).map_err(EngineError::io("remove", &folder))?;
        }
        let logs = self.logs();
        match std::fs::remove_dir_all(&logs) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(EngineError::io("remove", &logs)(error).into())
            }
            _ => Ok(handed),
        }
    }

    /// Whether a container of our making reads what was written for it whenever it starts.
    #[must_use]
    pub fn reads_our_files(&self) -> bool {
        self.env.is_service() && self.secrets().unit_folder(&self.id).exists()
    }
}

/// Names other units where their containers are named.
fn by_unit(container: &mut Container, peers: &BTreeMap<String, UnitName>) {
    let unit =
        |id: &str| peers.iter().find(|(peer, _)| peer.as_str() == id).map(|(_, unit)| unit.to_string());
    if let Some(NetworkMode::Container(id)) = &container.network
        && let Some(unit) = unit(id)
    {
        container.network = Some(NetworkMode::Unit(unit));
    }
    for shared in [&mut container.ipc, &mut container.pid].into_iter().flatten() {
        if let Some(unit) = shared.strip_prefix("container:").and_then(unit) {
            *shared = format!("unit:{unit}");
        }
    }
}

fn canonical(container: &mut Container) {
    for mount in &mut container.mounts {
        if let MountSource::Bind { source, .. } = &mut mount.source {
            *source = in_full(Path::new(source)).to_string_lossy().into_owned();
        }
    }
}

/// A path without links, as far as it is there, and without steps back.
fn in_full(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| {
        let mut whole = PathBuf::new();
        for part in path.components() {
            match part {
                Component::ParentDir => drop(whole.pop()),
                Component::CurDir => {}
                part => whole.push(part),
            }
        }
        whole
    })
}

/// Where volumes appear that the engine gave names of its own.
fn nameless(container: &Container) -> Vec<String> {
    let nameless = container.mounts.iter().filter(|mount| setpoint_model::adoption::is_nameless(mount));
    nameless.map(|mount| mount.target.clone()).collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_there_has_no_steps_back() {
        assert_eq!(in_full(Path::new("/not/here/./a/../b")), Path::new("/not/here/b"));
        assert_eq!(in_full(Path::new("/proc/../proc")), Path::new("/proc"));
    }
}
