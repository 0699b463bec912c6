//! Files that are put into a service: those that are none yet lie in the secret store, for their reader alone.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use setpoint_model::import::compose::Stored;
use setpoint_model::manifest::{FileSource, Problem, ServiceFile};
use setpoint_model::template::Place;

use super::prepare::ensure_source;
use super::{Applier, ApplyError};
use crate::engine::{EngineError, Mount, Seen};
use crate::facts::in_template;
use crate::observe::{Look, Unit};
use crate::paths::expand_home;
use crate::secrets::{Mask, Values, expand, given, write_private};

/// The access rights of a file that a compose file says nothing of.
const USUAL: u32 = 0o444;
/// Who else may read a file that cannot be given to its reader; the folder that it is in lets nobody else in.
const TO_ALL: u32 = 0o444;

/// A file that is made for a service.
pub(super) struct Made {
    path: PathBuf,
    text: String,
    mode: u32,
    owner: String,
}

/// A file of a service that is not what was made of its template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditedFile {
    /// Where it is kept.
    pub path: PathBuf,
    /// Where it appears inside.
    pub target: String,
    /// What was made.
    pub made: String,
    /// What is there.
    pub found: String,
}

impl Unit<'_> {
    /// The files that are put into a service, as what is mounted.
    pub(super) fn service_files(&self) -> Result<Vec<Mount>, ApplyError> {
        let mut mounts = Vec::new();
        for file in self.env.service.iter().flat_map(|of| &of.files) {
            let source = match &file.source {
                FileSource::Stored(Stored::File(path)) => {
                    let source = self.project.place(&expand_home(path, self.home.as_deref()));
                    ensure_source(&source, false, || self.env.at.clone())?;
                    source
                }
                FileSource::Stored(Stored::External(name)) => {
                    let what = format!("the {} is external (`{name}`), and only a swarm has such", file.name);
                    return Err(self.wrong_file(what, "name a file, or a variable of your environment"));
                }
                _ => self.path_of(file),
            };
            mounts.push(Mount { source, target: PathBuf::from(&file.target), read_only: true });
        }
        Ok(mounts)
    }

    /// The files that were made of templates and are not what was made, with what should be in them and what is. Secrets
    /// are hidden. Those of a unit that is out of date are made anew anyway, and say nothing.
    ///
    /// # Errors
    /// If a file or a kept secret cannot be read.
    pub fn edited_files(&self, look: &Look) -> Result<Vec<EditedFile>, ApplyError> {
        let files: Vec<_> = self.env.service.iter().flat_map(|of| &of.files).collect();
        let is_template = |file: &&&ServiceFile| matches!(file.source, FileSource::Template { .. });
        if look.plan.is_drift() || look.seen == Seen::Absent || !files.iter().any(|file| is_template(&file)) {
            return Ok(Vec::new());
        }
        let values = self.secrets().kept_values(self.wanted_secrets(&look.facts))?;
        let mask = Mask::new(&values);
        let mut edited = Vec::new();
        for file in files {
            let FileSource::Template { path, .. } = &file.source else { continue };
            let kept = self.path_of(file);
            let made = self.filled_in(path, look, &values)?;
            let found = match fs::read(&kept) {
                Ok(found) => String::from_utf8_lossy(&found).into_owned(),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(EngineError::io("read", &kept)(error).into()),
            };
            if made != found {
                let (made, found) = (mask.apply(&made), mask.apply(&found));
                edited.push(EditedFile { path: kept, target: file.target.clone(), made, found });
            }
        }
        Ok(edited)
    }

    fn path_of(&self, file: &ServiceFile) -> PathBuf {
        self.secrets().unit_folder(&self.id).join(file.name.replace([' ', '/'], "-"))
    }

    fn wrong_file(&self, what: String, hint: &str) -> ApplyError {
        let problem = Problem::new("service-file", what).at(self.env.at.clone());
        ApplyError::Problem(Box::new(problem.hint(hint)))
    }

    /// The files that have to be made, with what is in them. Nothing is written yet.
    pub(super) fn made_files(&self, look: &Look, values: &Values) -> Result<Vec<Made>, ApplyError> {
        let mut made = Vec::new();
        for file in self.env.service.iter().flat_map(|of| &of.files) {
            let text = match &file.source {
                FileSource::Stored(Stored::Content(text)) => text.clone(),
                FileSource::Stored(Stored::Environment(name)) => match self.variables.get(name) {
                    Some(value) => value.clone(),
                    None => {
                        let what = format!("the {} comes from {name}, which is not set", file.name);
                        return Err(self.wrong_file(what, "set it in your environment"));
                    }
                },
                FileSource::Stored(Stored::File(_) | Stored::External(_)) => continue,
                FileSource::Secret(name) => values.get(name).cloned().unwrap_or_default(),
                FileSource::Template { path, .. } => self.filled_in(path, look, values)?,
            };
            let (mode, owner) = (file.mode.unwrap_or(USUAL), file.owner.clone().unwrap_or_default());
            made.push(Made { path: self.path_of(file), text, mode, owner });
        }
        Ok(made)
    }

    /// What a template comes to.
    fn filled_in(&self, path: &str, look: &Look, values: &Values) -> Result<String, ApplyError> {
        let Some(file) = look.facts.templates.get(path) else { return Ok(String::new()) };
        let manifest = &self.project.manifest;
        let mut given = given(&file.template, &manifest.secrets, values);
        given.env = self.env.container.env.clone();
        let inside = BTreeMap::new();
        let of_secrets = self.env.env.iter();
        given.env.extend(of_secrets.map(|(name, value)| (name.clone(), expand(value, values, &inside))));
        let version = manifest.project.version.as_deref();
        let unit = self.env.name.as_str();
        given.place = Some(Place { project: manifest.project.name.as_str(), version, unit });
        file.template.render(&given).map_err(|mut error| {
            error.what = Mask::new(values).apply(&error.what);
            ApplyError::Problem(in_template(path, &file.text, &error))
        })
    }
}

impl Applier<'_, '_> {
    /// Writes the files of the service that are made for it.
    pub(super) fn write_files(&self) -> Result<(), ApplyError> {
        for file in &self.made {
            write_private(&file.path, file.text.as_bytes(), false)
                .and_then(|()| fs::set_permissions(&file.path, fs::Permissions::from_mode(file.mode)))
                .map_err(EngineError::io("keep", &file.path))?;
        }
        Ok(())
    }

    /// Gives the files to those who read them. Who that is, is known once there is a unit.
    pub(super) fn give_files(&self) -> Result<(), ApplyError> {
        for file in &self.made {
            let account = self.unit.engine.account(&self.unit.id, &file.owner)?;
            crate::secrets::give(&file.path, account.uid, account.gid, file.mode | TO_ALL)
                .map_err(EngineError::io("keep", &file.path))?;
        }
        Ok(())
    }
}
