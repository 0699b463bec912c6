//! The images of services, and the versions that units are of.

use std::collections::BTreeMap;

use setpoint_model::doctor::{Finding, SeenImage, images, versions};
use setpoint_model::manifest::{Base, Env};
use setpoint_model::release::{VERSION_VARIABLE, locked};

use super::{Patient, engine};
use crate::adopt::KeptImages;
use crate::engine::{EngineError, HostFacts, Seen, UnitId};
use crate::facts::image_source;
use crate::release::LOCK;

/// The image of a registry's that a unit is declared on.
pub(super) fn of_registry(env: &Env) -> Option<&str> {
    match &env.base {
        Base::Image { reference } if !env.base.is_of_project() => Some(reference),
        _ => None,
    }
}

impl Patient<'_> {
    /// The images of services, by what they are declared as and what is here.
    pub(super) fn images(&self, host: Option<&HostFacts>) -> Vec<Finding> {
        let Some(project) = self.project else { return Vec::new() };
        // What comes from a release is fixed in the release.
        let lock = project.root.join(LOCK);
        let locked = match project.from {
            None => std::fs::read_to_string(lock).map(|text| locked(&text)).unwrap_or_default(),
            Some(_) => BTreeMap::new(),
        };
        let mut found = Vec::new();
        for env in project.manifest.envs.values().filter(|env| env.is_service()) {
            let Some(reference) = of_registry(env) else { continue };
            match self.seen(env, reference, host, locked.get(env.name.as_str())) {
                Ok(seen) => found.extend(images(&seen)),
                Err(error) => found.push(engine::silent(self.engine.capabilities().engine, &error)),
            }
        }
        found
    }

    fn seen(
        &self,
        env: &Env,
        reference: &str,
        host: Option<&HostFacts>,
        locked: Option<&String>,
    ) -> Result<SeenImage, EngineError> {
        // What a name says is to be told also of an engine that does not answer.
        let facts = host.map_or(Ok(None), |_| self.engine.image(&image_source(reference, self.root)))?;
        let (unit, reference) = (env.name.to_string(), reference.to_owned());
        let is_here = facts.is_some();
        let facts = facts.unwrap_or_default();
        let (digests, architecture) = (facts.digests, facts.architecture);
        let runs = host.map(|host| host.architectures.clone()).unwrap_or_default();
        let kept = KeptImages::of(self.roots).archive(&UnitId::new(self.root, &env.name));
        let (locked, kept) = (locked.cloned(), kept.map(|archive| archive.display().to_string()));
        Ok(SeenImage { unit, reference, is_here, digests, kept, locked, architecture, runs })
    }

    /// Whether what runs is of one version.
    pub(super) fn versions(&self) -> Option<Finding> {
        let project = self.project?;
        let version = |env: &Env| {
            let unit = self.unit(project, env);
            let Ok(Seen::Running(_)) = self.engine.observe(&unit.id) else { return None };
            let version = self.engine.environment(&unit.id).ok()?.remove(VERSION_VARIABLE)?;
            Some((env.name.clone(), version))
        };
        // Images of others may say a version of their own.
        let of_project =
            project.manifest.envs.values().filter(|env| env.container.env.contains_key(VERSION_VARIABLE));
        let units = of_project.filter_map(version).collect();
        // Where the source is, the version is what the last `up` found there.
        let active = project.active.version.as_deref().filter(|_| project.from.is_some());
        versions(&units, active)
    }
}
