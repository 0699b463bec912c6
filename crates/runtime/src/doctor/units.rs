//! Units on the engine: those whose project is gone, those that cannot be read, and what is out of date.

use std::path::Path;

use setpoint_model::doctor::{Finding, Row, orphan};
use setpoint_model::fingerprint::Class;
use setpoint_model::plan::Options;

use super::{Patient, engine};
use crate::engine::{EngineError, Labels};
use crate::project::{MANIFEST, Project};
use crate::{compose, devcontainer};

impl Patient<'_> {
    /// The units of the engine, and those that nobody declares.
    pub(super) fn units(&self) -> Vec<Finding> {
        let units = match self.engine.units() {
            Ok(units) => units,
            Err(error) => return vec![unusable("units", self.engine.capabilities().engine, &error)],
        };
        let told = |labels: &Labels| {
            let root = &labels.project_root;
            // Those of a step of a pipeline belong to its run.
            if root.starts_with(&self.roots.state) {
                return None;
            }
            let (is_here, is_project) = (root == self.root, is_project(root));
            let declares = |project: &Project| project.manifest.envs.contains_key(&labels.unit);
            // A project that cannot be read is told by itself.
            let is_declared = is_project && (!is_here || self.project.is_none_or(declares));
            (!is_declared).then(|| orphan(labels.unit.as_str(), &root.display().to_string(), is_here))
        };
        let mut found: Vec<Finding> = units.iter().filter_map(|(_, labels)| told(labels)).collect();
        if found.is_empty() {
            found
                .push(Finding::ok("units", format!("{} on this engine, each with its project", units.len())));
        }
        found
    }

    /// Drift is nothing wrong: it is what `up` is there for.
    pub(super) fn drift(&self) -> Vec<Finding> {
        let Some(store) = self.store else { return Vec::new() };
        let of = |unit: crate::observe::Unit<'_>| {
            let subject = unit.env.name.as_str();
            let look = match unit.look(store, &Options::default()) {
                Ok(look) => look,
                Err(crate::apply::ApplyError::Engine(error)) => {
                    return unusable(subject, self.engine.capabilities().engine, &error);
                }
                Err(error) => {
                    return Finding::of(
                        Row::Manifest,
                        subject,
                        error.to_string(),
                        format!("`setpoint plan {subject}`"),
                    );
                }
            };
            if !look.plan.is_drift() {
                return Finding::ok(subject, "as declared");
            }
            let differences = look.report.differences.iter();
            let what = match differences.filter(|differs| differs.class != Class::Report).count() {
                0 => "something is left to do".to_owned(),
                1 => "out of date: 1 change".to_owned(),
                many => format!("out of date: {many} changes"),
            };
            Finding::info(subject, what)
                .fix(format!("`setpoint up {subject}`; `setpoint why {subject}` says more"))
        };
        self.declared().into_iter().map(of).collect()
    }
}

/// Whether a folder says what units it has.
fn is_project(root: &Path) -> bool {
    root.join(MANIFEST).is_file() || !compose::find(root).is_empty() || !devcontainer::find(root).is_empty()
}

/// A unit that cannot be looked at.
fn unusable(subject: &str, name: &str, error: &EngineError) -> Finding {
    match error {
        EngineError::Damaged { .. } => {
            let fix = error.hint().unwrap_or_default();
            Finding::of(Row::UnitDamaged, subject, error.to_string(), fix)
        }
        _ => engine::silent(name, error),
    }
}
