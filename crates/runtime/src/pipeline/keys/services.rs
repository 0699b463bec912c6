//! What the services of steps are, and so what of them is in keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use setpoint_model::container::MountSource;
use setpoint_model::desired::{Facts, FileDigest};
use setpoint_model::fingerprint::Fingerprint;
use setpoint_model::manifest::Env;
use setpoint_model::names::UnitName;
use setpoint_model::pipeline::ir::Step;
use setpoint_model::pipeline::services;

use super::{Fetch, Keys, PATIENCE};
use crate::cas::{self, Globs, InputFile, StatCache};
use crate::engine::BaseSource;
use crate::facts::{FactsError, Reader, base_source};
use crate::paths::expand_home;
use crate::pipeline::error::RunError;

impl<'a> Keys<'a> {
    /// Looks at what the services of steps are made of.
    pub(super) fn look_at_services(
        &mut self,
        fetch: &mut Option<Fetch<'_>>,
        pull: bool,
    ) -> Result<(), RunError> {
        let mut found = BTreeMap::new();
        for step in self.steps().filter(|step| !step.services.is_empty()) {
            for env in self.services_of(step)? {
                if found.contains_key(&env.name) {
                    continue;
                }
                let wrong = |error: FactsError| RunError::Service {
                    step: step.name.clone(),
                    what: format!("the service {}: {error}", env.name),
                    hint: match &error {
                        FactsError::Engine(error) => error.hint(),
                        FactsError::Problem(problem) => problem.hint.clone(),
                        _ => None,
                    },
                };
                let mut facts = self.facts_of(env).map_err(wrong)?;
                let source = base_source(env, &self.runner.project.root, &facts);
                let is_here = facts.base_digest.is_some() && !pull;
                if let (BaseSource::Image { .. }, false, Some(tell)) =
                    (&source, is_here, fetch.as_deref_mut())
                {
                    self.fetch(&source, pull, &mut |done, total| tell(&step.name, done, total))?;
                    facts = self.facts_of(env).map_err(wrong)?;
                }
                let is_known = !matches!(source, BaseSource::Image { .. }) || facts.base_digest.is_some();
                let mounts = self.mounts_of(env).map_err(wrong)?;
                let capabilities = self.runner.engine.capabilities();
                let leaves = is_known.then(|| services::leaves(env, &facts, &capabilities, &mounts));
                found.insert(env.name.clone(), leaves);
            }
        }
        self.services = found;
        Ok(())
    }

    /// The services of a step, and those that they depend on.
    fn services_of(&self, step: &Step) -> Result<Vec<&'a Env>, RunError> {
        services::needed(&step.services, &self.runner.project.manifest.envs).map_err(|(_, problem)| {
            let why = problem.why.map(|why| format!(": {why}")).unwrap_or_default();
            let (step, what) = (step.name.clone(), format!("{}{why}", problem.what));
            RunError::Service { step, what, hint: problem.hint }
        })
    }

    /// What a service is made of, as far as it is here. No secret is looked at.
    fn facts_of(&self, env: &Env) -> Result<Facts, FactsError> {
        let (root, engine) = (&self.runner.project.root, self.runner.engine);
        let mut cache = StatCache::open(self.runner.roots, root);
        let facts = Reader { root, engine, cache: &mut cache }.read(env, String::new());
        // A cache that cannot be kept costs time at the next look, and nothing else.
        let _ = cache.save();
        Ok(facts?.0)
    }

    /// The files of the host that a service sees.
    fn mounts_of(&self, env: &Env) -> Result<Vec<FileDigest>, FactsError> {
        let root = &self.runner.project.root;
        let of_container = env.container.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Bind { source, .. } => Some(source),
            _ => None,
        });
        let mut found = Vec::new();
        for source in env.mounts.iter().map(|mount| &mount.source).chain(of_container) {
            let path = root.join(expand_home(source, self.runner.home));
            let everything = Globs::new(&["**"]).map_err(FactsError::Pattern)?;
            let mut cache = StatCache::open(self.runner.roots, root);
            let seen = cas::look(&mut cache, PATIENCE, move |files| match path.is_dir() {
                true => files.inputs(&path, &everything).map(|found| found.files),
                false => {
                    let digest = files.script_digest(&path)?;
                    Ok(vec![InputFile { path: PathBuf::new(), digest }])
                }
            })?;
            let _ = cache.save();
            found.extend(seen.into_iter().map(|file| FileDigest {
                path: Path::new(source).join(&file.path).to_string_lossy().into_owned(),
                digest: file.digest.digest,
            }));
        }
        Ok(found)
    }

    /// What a step sees of its services; nothing if the image of one is not here.
    pub(super) fn services_seen(
        &self,
        step: &Step,
    ) -> Result<Option<BTreeMap<UnitName, Fingerprint>>, RunError> {
        let known = |env: &Env| Some((env.name.clone(), self.services.get(&env.name)?.clone()?));
        Ok(self.services_of(step)?.into_iter().map(known).collect())
    }
}
