//! The doctor: looking at a machine, the state and a project for what the rules of [`setpoint_model::doctor`] tell, and
//! the repairs that are safe.
//!
//! Looking changes nothing: no record, no index of git, nothing on the engine.

mod engine;
mod files;
mod images;
mod machine;
mod migrations;
mod ports;
mod processes;
mod registries;
mod repair;
mod repository;
mod secrets;
mod state;
mod units;
mod volumes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use setpoint_model::doctor::{Finding, Purpose};
use setpoint_model::manifest::Env;

pub use machine::{disk, of_features};
pub use registries::{Asked, ask};
pub use repair::{RepairError, Repaired, repair};
pub use state::unreadable;

use crate::engine::{Engine, HostFacts, UnitId};
use crate::observe::Unit;
use crate::paths::Roots;
use crate::project::Project;
use crate::store::Store;

/// What the doctor looks at.
pub struct Patient<'a> {
    /// Where state lies.
    pub roots: &'a Roots,
    /// The engine of the project, or the usual one.
    pub engine: &'a dyn Engine,
    /// The project's folder, or the one that may become it.
    pub root: &'a Path,
    /// The project, if there is one that can be read.
    pub project: Option<&'a Project>,
    /// The state, if there is one that can be read.
    pub store: Option<&'a Store>,
    /// The caller's environment variables.
    pub variables: &'a BTreeMap<String, String>,
    /// The caller's home.
    pub home: Option<&'a Path>,
}

impl Patient<'_> {
    /// Looks at everything but registries. What cannot be looked at is a finding of its own.
    #[must_use]
    pub fn examine(&self) -> Vec<Finding> {
        self.look(true)
    }

    /// What this is not done over.
    #[must_use]
    pub fn refusals(&self, purpose: Purpose) -> Vec<Finding> {
        let mut found = self.look(false);
        found.retain(|finding| finding.refuses(purpose));
        found
    }

    /// Looks; also at what nothing is ever refused over, and that takes its time.
    fn look(&self, is_thorough: bool) -> Vec<Finding> {
        let mut found = Vec::new();
        found.extend(disk(&self.roots.state, "point SETPOINT_STATE at another disk"));
        let host = self.host(&mut found);
        found.extend(self.state(host.as_ref()));
        if let Some(host) = &host {
            found.extend(self.units());
            found.extend(self.versions());
            found.extend(self.volumes());
            found.extend(self.ports(host));
            found.extend(self.others());
        }
        found.extend(self.images(host.as_ref()));
        found.extend(self.secrets());
        found.extend(self.manifest());
        found.extend(self.repository());
        // An engine that does not answer was told already.
        if is_thorough && host.is_some() {
            found.extend(self.migrations());
            found.extend(self.templates());
            found.extend(self.drift());
        }
        found
    }

    /// The engine's own facts; nothing, and why not among the findings, where it does not answer.
    fn host(&self, found: &mut Vec<Finding>) -> Option<HostFacts> {
        match self.engine.host() {
            Ok(host) => {
                found.extend(engine::store(&host, &self.roots.state));
                Some(host)
            }
            Err(error) => {
                found.push(engine::silent(self.engine.capabilities().engine, &error));
                None
            }
        }
    }

    /// The units that are declared.
    fn declared(&self) -> Vec<Unit<'_>> {
        let of = |project| move |env| self.unit(project, env);
        self.project.iter().flat_map(|project| project.manifest.envs.values().map(of(project))).collect()
    }

    fn unit<'u>(&'u self, project: &'u Project, env: &'u Env) -> Unit<'u> {
        Unit {
            roots: self.roots,
            engine: self.engine,
            project,
            owner: &project.root,
            env,
            id: UnitId::new(&project.root, &env.name),
            variables: self.variables,
            home: self.home.map(PathBuf::from),
            refresh_secrets: false,
        }
    }
}
