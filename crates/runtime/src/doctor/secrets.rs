//! Secrets: those without a value, and files that others can read.

use std::collections::BTreeSet;
use std::path::PathBuf;

use setpoint_model::doctor::{Finding, Row, readable};
use setpoint_model::import::compose::Stored;
use setpoint_model::manifest::{FileSource, SecretSource};

use super::Patient;
use crate::image::Credentials;
use crate::paths::expand_home;

impl Patient<'_> {
    pub(super) fn secrets(&self) -> Vec<Finding> {
        let mut found = self.missing();
        for path in self.secret_files() {
            use std::os::unix::fs::MetadataExt as _;
            let Ok(metadata) = path.metadata() else { continue };
            found.extend(readable(&path.display().to_string(), metadata.mode()));
        }
        found
    }

    /// Secrets and variables without a value.
    fn missing(&self) -> Vec<Finding> {
        let generated = self.store.and_then(|store| store.generated(self.root).ok()).unwrap_or_default();
        let mut found: Vec<Finding> = Vec::new();
        let mut told = BTreeSet::new();
        for unit in self.declared() {
            let name = unit.env.name.as_str();
            for file in unit.env.service.iter().flat_map(|of| &of.files) {
                let FileSource::Stored(Stored::Environment(variable)) = &file.source else { continue };
                if !self.variables.contains_key(variable) && told.insert(variable.clone()) {
                    let what =
                        format!("the {} of `{name}` comes from {variable}, which is not set", file.name);
                    found.push(Finding::of(
                        Row::MissingSecret,
                        "secrets",
                        what,
                        format!("{variable}=... setpoint up"),
                    ));
                }
            }
            // What cannot be read of a declaration is told elsewhere.
            let Ok((facts, _)) = unit.facts() else { continue };
            for error in
                unit.secrets().missing(&unit.secret_sources(), unit.wanted_secrets(&facts), &generated)
            {
                let what = error.to_string();
                if told.insert(what.clone()) {
                    let fix = error.hint().unwrap_or_else(|| format!("`{name}` needs it: give it a value"));
                    found.push(Finding::of(Row::MissingSecret, "secrets", what, fix));
                }
            }
        }
        found
    }

    /// The files with secrets that are declared, are our own, or hold logins of registries.
    pub(super) fn secret_files(&self) -> Vec<PathBuf> {
        let secrets = self.project.iter().flat_map(|project| project.manifest.secrets.values());
        let declared = secrets.filter_map(|secret| match &secret.source {
            SecretSource::File { path } => Some(self.root.join(expand_home(path, self.home))),
            _ => None,
        });
        let own = [self.roots.state.join("secrets"), self.roots.config.join("fingerprint.key")];
        declared
            .chain(own)
            .chain(Credentials::from_env(self.variables).files())
            .filter(|path| path.exists())
            .collect()
    }
}
