//! Files that are made here: the manifest of a project that comes from a release, and what is made of templates.

use setpoint_model::doctor::{Finding, edited};
use setpoint_model::plan::Options;

use super::Patient;
use crate::project::MANIFEST;
use crate::release::manifest_of;

impl Patient<'_> {
    /// Files of services that were edited by hand.
    pub(super) fn templates(&self) -> Vec<Finding> {
        let Some(store) = self.store else { return Vec::new() };
        let mut found = Vec::new();
        for unit in self.declared().into_iter().filter(|unit| unit.env.is_service()) {
            // What cannot be looked at is told with its drift.
            let Ok(look) = unit.look(store, &Options::default()) else { continue };
            for file in unit.edited_files(&look).unwrap_or_default() {
                let name = format!("{} of `{}` ({})", file.target, unit.env.name, file.path.display());
                let again = format!(
                    "`setpoint up --recreate {}` makes it anew; what is to stay belongs into its template",
                    unit.env.name
                );
                found.extend(edited(&name, &file.made, &file.found, &again));
            }
        }
        found
    }

    /// The manifest of a project that comes from a release, if it was edited by hand.
    pub(super) fn manifest(&self) -> Option<Finding> {
        let from = self.project?.from.as_ref()?;
        let found = std::fs::read_to_string(self.root.join(MANIFEST)).ok()?;
        let again = "`setpoint doctor --fix edited-file`; what is this machine's own belongs into setpoint.local.toml";
        edited(MANIFEST, &manifest_of(from), &found, again)
    }
}
