//! Steps of pipelines: a container each. Its workspace is an overlay that the engine mounts over the same folders as
//! other engines do; what it changes of its file system becomes an image, where somebody needs it.

mod declared;
mod kept;
mod make;
mod process;
mod rights;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bollard::models::ContainerConfig;
use bollard::query_parameters::CommitContainerOptionsBuilder;
use setpoint_model::digest::Digest;
use setpoint_model::pipeline::key::Base;

use super::client::Connected;
use super::{Docker, Flavor, changes, images, labels};
use crate::engine::{BaseSource, EngineError, Process, StepSpec};
use kept::{Identity, KeptImage};
use rights::Rights;

/// What the names of containers and workspaces of steps begin with.
const NAME: &str = "setpoint-step";
/// The repository of their images. Without a registry in its name, engines differ on which is meant.
const REPOSITORY: &str = "localhost/setpoint-step";

/// What is known of steps besides what lies in their containers' labels.
#[derive(Debug)]
pub(super) struct Steps {
    identity: Identity,
    /// The ids of bases, as they were when keys were made of them.
    bases: Mutex<BTreeMap<String, String>>,
    /// The containers that are there, by the states that they write to.
    containers: Mutex<BTreeMap<PathBuf, Held>>,
    /// The images that were there when they were looked for.
    images: Mutex<Option<BTreeSet<String>>>,
    rights: OnceLock<Rights>,
}

/// The container of a step.
#[derive(Debug, Clone)]
struct Held {
    name: String,
    /// The id of the image that it was made of.
    image: String,
    /// What lay in the volumes that its image declares, before it began.
    declared: BTreeMap<String, Digest>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Steps {
    pub(super) fn new(state: &Path, flavor: Flavor) -> Self {
        Self {
            identity: Identity::new(state, flavor.name()),
            bases: Mutex::default(),
            containers: Mutex::default(),
            images: Mutex::default(),
            rights: OnceLock::new(),
        }
    }
}

impl Docker {
    /// The version of how it runs steps: what they see of the engine itself. It is part of their keys.
    pub(super) fn behaviour(&self) -> &'static str {
        match self.flavor {
            Flavor::Docker => "docker 1",
            Flavor::Podman => "podman 1",
        }
    }

    /// Says what keeps it from running any step at all.
    fn check_steps(&self, connected: &Connected) -> Result<(), EngineError> {
        if !connected.endpoint.is_local() {
            let what =
                format!("pipelines, for {} does not see the files of this machine", connected.endpoint.host);
            return Err(self.unsupported(what, "use an engine on this machine, or take `engine.default` out"));
        }
        Ok(())
    }

    /// Makes a workspace fit to be mounted again, after the engine has mounted it to look at the container.
    fn renew(&self, connected: &Connected, image: &str, state: &Path) -> Result<(), EngineError> {
        self.give(connected, image, state)?;
        make::renew_work(state)
    }

    /// Gives the caller what the engine made beside a state.
    fn give(&self, connected: &Connected, image: &str, state: &Path) -> Result<(), EngineError> {
        let identity = self.steps.identity.get()?;
        let folder = state.parent().unwrap_or(state);
        self.rights(connected)?.give(&self.client, &identity, image, folder)
    }

    pub(super) fn step_base(&self, base: &BaseSource) -> Result<Option<Base>, EngineError> {
        if *base == BaseSource::Host {
            return Err(self.unsupported(
                "a step on the host's own system",
                "declare an `image`, or take `engine.default` out",
            ));
        }
        let connected = self.connected()?;
        let Some(name) = images::name(connected, base)? else { return Ok(None) };
        self.check_steps(connected)?;
        let Some(digest) = images::id(connected, &name)? else { return Ok(None) };
        lock(&self.steps.bases).insert(name, digest.clone());
        let reference = match base {
            BaseSource::Image { reference } => reference.clone(),
            other => other.to_string(),
        };
        Ok(Some(Base::Image { reference, digest }))
    }

    /// The id of the image that a step begins with: what those below it left, else its base.
    fn image_of(&self, step: &StepSpec) -> Result<String, EngineError> {
        for state in step.below.iter().rev() {
            if let Some(kept) = KeptImage::of(state)? {
                return Ok(kept.image);
            }
        }
        let connected = self.connected()?;
        let name = images::name(connected, &step.base)?.unwrap_or_default();
        if let Some(known) = lock(&self.steps.bases).get(&name) {
            return Ok(known.clone());
        }
        let missing =
            || super::DockerError::Image { reference: name.clone(), why: "it is not there".to_owned() };
        Ok(images::id(self.connected()?, &name)?.ok_or_else(missing)?)
    }

    pub(super) fn start_step(&self, step: &StepSpec) -> Result<Box<dyn Process>, EngineError> {
        let connected = self.connected()?;
        self.check_steps(connected)?;
        let image = self.image_of(step)?;
        let made = make::make(self, step, &image)?;
        let declared = declared::look(connected, &made.name)?;
        if !declared.is_empty() {
            self.renew(connected, &image, &step.state)?;
        }
        let held = Held { name: made.name.clone(), image, declared };
        lock(&self.steps.containers).insert(step.state.clone(), held);
        Ok(Box::new(process::StepProcess::start(self, made, step)?))
    }

    /// Makes what a step changed of its file system an image, if it changed anything, and names that in its state.
    pub(super) fn seal_step(&self, step: &StepSpec) -> Result<(), EngineError> {
        let Some(held) = lock(&self.steps.containers).get(&step.state).cloned() else { return Ok(()) };
        let connected = self.connected()?;
        if !held.declared.is_empty() {
            self.renew(connected, &held.image, &step.state)?;
        }
        let now = declared::look(connected, &held.name)?;
        if !held.declared.is_empty() {
            self.give(connected, &held.image, &step.state)?;
        }
        if let Some((path, _)) = now.iter().find(|(path, digest)| held.declared.get(*path) != Some(*digest)) {
            return Err(self.unsupported(
                format!("keeping what a step wrote to {path}, which its image declares as a VOLUME"),
                "write it elsewhere, name the folder in `cache_dirs`, or take the VOLUME out of the image",
            ));
        }
        if changes::own(connected, &held.name)?.is_empty() {
            return Ok(());
        }
        let what = "keep what a step changed";
        let tag = held.name.strip_prefix(NAME).unwrap_or(&held.name).trim_start_matches('-');
        let options =
            CommitContainerOptionsBuilder::default().container(&held.name).repo(REPOSITORY).tag(tag);
        let options = options.pause(false).build();
        let made = connected.wait(connected.api.commit_container(options, ContainerConfig::default()));
        let id = made.map_err(|error| connected.explain(what, &error))?.id;
        let id = if id.starts_with("sha256:") { id } else { format!("sha256:{id}") };
        let size = |image: &str| {
            let found = connected.find(what, connected.api.inspect_image(image));
            found.ok().flatten().and_then(|image| image.size).unwrap_or(0)
        };
        let bytes = u64::try_from(size(&id) - size(&held.image)).unwrap_or(0);
        if let Some(images) = lock(&self.steps.images).as_mut() {
            images.insert(id.clone());
        }
        KeptImage::new(self.flavor.name(), id, bytes).write(&step.state)
    }

    /// The bytes of a state's image; nothing if it should have one that is not there.
    pub(super) fn kept_elsewhere(&self, state: &Path) -> Result<Option<u64>, EngineError> {
        let kept = match KeptImage::of(state) {
            Err(EngineError::Damaged { .. }) => return Ok(None),
            other => other?,
        };
        let Some(kept) = kept.filter(|kept| kept.engine == self.flavor.name()) else { return Ok(Some(0)) };
        let connected = self.connected()?;
        if lock(&self.steps.images).is_none() {
            let found = sweep::images(connected)?;
            *lock(&self.steps.images) = Some(found.into_iter().map(|image| image.id).collect());
        }
        if !lock(&self.steps.images).as_ref().is_some_and(|images| images.contains(&kept.image)) {
            // Another process may have made it since.
            if images::id(connected, &kept.image)?.is_none() {
                return Ok(None);
            }
            lock(&self.steps.images).get_or_insert_default().insert(kept.image);
        }
        Ok(Some(kept.bytes))
    }
}
