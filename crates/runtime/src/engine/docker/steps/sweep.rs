//! What the engine holds of steps that are no more: containers, workspaces and images.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use bollard::errors::Error;
use bollard::models::ImageSummary;
use bollard::query_parameters::{
    ListImagesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
    RemoveVolumeOptionsBuilder,
};

use super::super::client::Connected;
use super::super::error::DockerError;
use super::{Docker, KeptImage, NAME, REPOSITORY, labels};
use crate::engine::EngineError;

/// All images that are called as those of steps are.
pub(super) fn images(connected: &Connected) -> Result<Vec<ImageSummary>, DockerError> {
    let filters = HashMap::from([("reference", vec![REPOSITORY])]);
    let options = ListImagesOptionsBuilder::default().filters(&filters).build();
    connected.settled("list images", || connected.api.list_images(Some(options.clone())))
}

/// Removes a container with what it declared, whether it runs or not. Nothing to do is no error.
pub(super) fn container(connected: &Connected, name: &str) -> Result<(), DockerError> {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    connected.find("remove a container", connected.api.remove_container(name, Some(options)))?;
    Ok(())
}

/// Removes a workspace. Nothing to do is no error.
pub(super) fn volume(connected: &Connected, name: &str) -> Result<(), DockerError> {
    let options = RemoveVolumeOptionsBuilder::default().build();
    connected.find("remove a volume", connected.api.remove_volume(name, Some(options)))?;
    Ok(())
}

impl Docker {
    pub(in super::super) fn sweep_steps(&self, kept: &dyn Fn() -> Vec<PathBuf>) -> Result<(), EngineError> {
        // Where no step has run yet, there need not even be an engine.
        let Some(identity) = self.steps.identity.known()? else { return Ok(()) };
        let connected = self.connected()?;
        let prefix = format!("{NAME}-{identity}-");
        let filters = HashMap::from([("label", vec![labels::STEP])]);
        let containers = connected.containers("list containers", &filters)?;
        let volumes = connected.volumes("list volumes", &filters)?;
        let images = images(connected)?;
        // Asked for only now: whoever is not among them made nothing of what was found.
        let kept = kept();
        let is_kept = |found: Option<&HashMap<String, String>>| {
            let state = found.and_then(|found| found.get(labels::STEP)).map(Path::new);
            state.is_some_and(|state| kept.iter().any(|kept| state.starts_with(kept)))
        };
        for found in containers {
            let names = found.names.iter().flatten().map(|name| name.trim_start_matches('/'));
            if let Some(name) = names.into_iter().find(|name| name.starts_with(&prefix))
                && !is_kept(found.labels.as_ref())
            {
                container(connected, name)?;
                let state = found.labels.as_ref().and_then(|found| found.get(labels::STEP)).map(Path::new);
                if let (Some(state), Some(image)) = (state, &found.image_id)
                    && state.is_dir()
                {
                    self.give(connected, image, state)?;
                }
            }
        }
        for found in volumes {
            if found.name.starts_with(&prefix) && !is_kept(Some(&found.labels)) {
                volume(connected, &found.name)?;
            }
        }
        let named: BTreeSet<String> = kept
            .iter()
            .filter_map(|state| KeptImage::of(state).ok().flatten())
            .map(|kept| kept.image)
            .collect();
        let tag = format!("{REPOSITORY}:{identity}-");
        let mut gone: Vec<ImageSummary> = images
            .into_iter()
            .filter(|image| image.repo_tags.iter().any(|name| name.starts_with(&tag)))
            .filter(|image| !named.contains(&image.id) && !is_kept(Some(&image.labels)))
            .collect();
        // The youngest first: no image goes before those that lie on it.
        gone.sort_by_key(|image| std::cmp::Reverse(image.created));
        self.remove_images(connected, gone.into_iter().map(|image| image.id).collect())
    }

    /// Removes images, as far as no other image lies on them and nobody else uses them.
    fn remove_images(&self, connected: &Connected, mut gone: Vec<String>) -> Result<(), EngineError> {
        let what = "remove an image";
        loop {
            let before = gone.len();
            let mut left = Vec::new();
            for id in gone {
                // What it lies on may be somebody else's.
                let options = RemoveImageOptionsBuilder::default().noprune(true).build();
                match connected.wait(connected.api.remove_image(&id, Some(options), None)) {
                    Ok(_) => {}
                    Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
                    Err(Error::DockerResponseServerError { status_code: 409, .. }) => {
                        left.push(id);
                        continue;
                    }
                    Err(error) => return Err(connected.explain(what, &error).into()),
                }
                if let Some(known) = super::lock(&self.steps.images).as_mut() {
                    known.remove(&id);
                }
            }
            if left.is_empty() || left.len() == before {
                return Ok(());
            }
            gone = left;
        }
    }
}
