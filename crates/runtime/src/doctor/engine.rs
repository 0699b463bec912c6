//! The engine: whether it answers, and where it keeps its files.

use std::collections::BTreeMap;
use std::path::Path;

use setpoint_model::doctor::{Finding, Row};

use super::Patient;
use crate::engine::docker::DockerError;
use crate::engine::{EngineError, HostFacts};

/// An engine that does not answer as it should.
pub(super) fn silent(name: &str, error: &EngineError) -> Finding {
    let row = match error {
        EngineError::Docker(DockerError::TooOld { .. }) => Row::EngineOld,
        _ => Row::EngineUnreachable,
    };
    let fix =
        error.hint().unwrap_or_else(|| format!("see that {name} runs, or declare another `engine.default`"));
    Finding::of(row, "engine", error.to_string(), fix)
}

/// The room that an engine on this machine has for its own files, where that is another place than the state's.
pub(super) fn store(host: &HostFacts, state: &Path) -> Vec<Finding> {
    let data = host.data.as_deref().filter(|data| host.is_here && *data != state && data.exists());
    data.map(|data| super::disk(data, "have the engine keep its files on another disk")).unwrap_or_default()
}

impl Patient<'_> {
    /// What others run on the engine that is this project's: Compose projects of its folder or name.
    pub(super) fn others(&self) -> Vec<Finding> {
        let (Some(project), Some(adoption)) = (self.project, self.engine.adoption()) else {
            return Vec::new();
        };
        let candidates = match adoption.candidates() {
            Ok(candidates) => candidates,
            Err(error) => return vec![silent(self.engine.capabilities().engine, &error)],
        };
        let name = project.manifest.project.name.as_str();
        let mut stacks: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for one in candidates.iter().filter(|one| one.running && one.unit.is_none()) {
            let Some(compose) = &one.compose else { continue };
            if compose.project == name || compose.folder.as_deref() == Some(self.root) {
                stacks.entry(&compose.project).or_default().push(&one.name);
            }
        }
        let found = stacks.into_iter().map(|(stack, containers)| {
            let what = format!(
                "the Compose project {stack} runs beside this one, in containers of its own: {}",
                containers.join(", ")
            );
            let fix = format!(
                "`setpoint adopt --compose {stack}` takes it over as it runs; `docker compose down` ends it"
            );
            Finding::of(Row::LegacyStack, "engine", what, fix)
        });
        found.collect()
    }
}
