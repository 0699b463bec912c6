//! The features of a devcontainer.json: found or fetched, put in order, and given their options.

use std::fs;
use std::path::{Path, PathBuf};

use setpoint_model::container::Feature;
use setpoint_model::digest::Digest;
use setpoint_model::import::Text;
use setpoint_model::import::devcontainer::features::{
    FeatureMetadata, FeatureUse, Locked, Lockfile, Reference, ResolvedFeature, Users, install_env,
    install_order, unresolved,
};
use setpoint_model::import::devcontainer::variables::Context;
use setpoint_model::import::devcontainer::{DevContainer, Entry, Origin};
use setpoint_model::manifest::{Note, Problem};

use super::fetch::{Fetched, Store};
use super::{CompleteError, Completion, Lock};
use crate::cas::{self, CasError, StatCache};
use crate::engine::ImageFacts;
use crate::facts::{FactsError, PATIENCE};
use crate::project::ProjectError;
use crate::tracked::Tracked;

/// What says what a feature is.
pub(super) const METADATA: &str = "devcontainer-feature.json";

/// The features that are asked for.
pub(super) struct Features<'a> {
    pub(super) completion: &'a Completion<'a>,
    pub(super) said: &'a DevContainer,
    /// What is known of variables.
    pub(super) context: &'a Context<'a>,
}

/// The features that are installed, in order, and what they say about the container.
#[derive(Default)]
pub(super) struct Installed {
    pub(super) features: Vec<Feature>,
    pub(super) entries: Vec<Entry>,
}

/// A feature that is here.
struct Here {
    folder: PathBuf,
    digest: Digest,
    metadata: FeatureMetadata,
    locked: Option<(String, Locked)>,
}

impl Features<'_> {
    /// The features in the order of their installation; nothing where one is not here and may not be fetched.
    pub(super) fn resolve(
        &self,
        image: &Option<ImageFacts>,
        of_image: &[Entry],
        notes: &mut Vec<Note>,
    ) -> Result<Option<Installed>, CompleteError> {
        let before = self.lockfile(notes)?;
        let mut here: Vec<Here> = Vec::new();
        let mut resolved: Vec<ResolvedFeature> = Vec::new();
        let mut wanted: Vec<FeatureUse> = self.said.features.clone();
        while !wanted.is_empty() {
            for asked in wanted {
                let Some(found) = self.find(&asked, before.as_ref(), notes)? else { return Ok(None) };
                resolved.push(ResolvedFeature {
                    digest: found.locked.as_ref().map(|(_, locked)| locked.integrity.clone()),
                    depends_on: found.metadata.depends_on.clone(),
                    installs_after: found.metadata.installs_after.clone(),
                    legacy_ids: found.metadata.legacy_ids.clone(),
                    asked,
                });
                here.push(found);
            }
            wanted = unresolved(&resolved).into_iter().cloned().collect();
        }
        self.keep_lock(before, &here)?;
        let order = install_order(&resolved, &self.said.override_feature_install_order)
            .map_err(|problem| vec![problem])?;
        notes.extend(order.notes);
        let users = self.users(image.as_ref(), of_image);
        let mut installed = Installed::default();
        for feature in order.features {
            let place = resolved.iter().position(|one| std::ptr::eq(one, feature));
            let Some(found) = place.and_then(|place| here.get(place)) else { continue };
            let (made, entry) = self.install(feature, found, &users, notes)?;
            installed.features.push(made);
            installed.entries.push(entry);
        }
        Ok(Some(installed))
    }

    /// Who commands run as, and who the first process: as far as it is said before features have a say.
    fn users(&self, image: Option<&ImageFacts>, of_image: &[Entry]) -> (String, String) {
        let own = &self.said.settings;
        let in_image = |pick: fn(&Entry) -> Option<String>| of_image.iter().rev().find_map(pick);
        let image_user = image.map(|image| image.user.clone()).filter(|user| !user.is_empty());
        let container = own.container_user.as_ref().map(|user| user.value.clone());
        let container = container
            .or_else(|| {
                in_image(|entry| entry.settings.container_user.as_ref().map(|user| user.value.clone()))
            })
            .or(image_user)
            .unwrap_or_else(|| "root".to_owned());
        let remote = own.remote_user.as_ref().map(|user| user.value.clone());
        let remote = remote
            .or_else(|| in_image(|entry| entry.settings.remote_user.as_ref().map(|user| user.value.clone())))
            .unwrap_or_else(|| container.clone());
        (remote, container)
    }

    fn install(
        &self,
        feature: &ResolvedFeature,
        found: &Here,
        (remote, container): &(String, String),
        notes: &mut Vec<Note>,
    ) -> Result<(Feature, Entry), CompleteError> {
        let asked = &feature.asked;
        // The homes are looked up where the accounts are.
        let users = Users { remote, remote_home: "", container, container_home: "" };
        let env = install_env(&found.metadata, &asked.options, &asked.at, users)?;
        notes.extend(env.notes);
        let (settings, more) = found.metadata.settings.clone().substitute(self.context);
        notes.extend(more);
        if found.metadata.deprecated {
            let text = format!("the feature `{}` is no longer kept up", asked.text);
            notes.push(Note { at: asked.at.clone(), text });
        }
        let made = Feature {
            name: asked.text.clone(),
            folder: found.folder.to_string_lossy().into_owned(),
            digest: found.digest,
            install_env: env.variables,
            image_env: found.metadata.container_env.clone(),
            at: (asked.at.file.clone(), asked.at.line, asked.at.source_line.clone()),
        };
        Ok((made, Entry { origin: Origin::Feature(asked.text.clone()), settings }))
    }

    /// A feature, if it is here or may be fetched.
    fn find(
        &self,
        asked: &FeatureUse,
        lock: Option<&Lockfile>,
        notes: &mut Vec<Note>,
    ) -> Result<Option<Here>, CompleteError> {
        let surroundings = self.completion.surroundings;
        if let Reference::Local { path } = &asked.reference {
            let folder = self.completion.root.join(self.completion.folder()).join(path);
            return self.read(asked, folder, None, notes).map(Some);
        }
        let key = asked.lock_key().unwrap_or_default();
        let locked = lock.and_then(|lock| lock.features.get(&key)).map(|locked| locked.integrity.as_str());
        let store = Store::new(surroundings.roots);
        let Fetched { folder, digest } = match (store.known(&asked.reference, locked), surroundings.fetch) {
            (Some(fetched), _) => fetched,
            (None, None) => return Ok(None),
            (None, Some((_, cancel))) => {
                store.fetch(&asked.reference, locked, surroundings.variables, cancel).map_err(|error| {
                    let what = format!("the feature `{}` cannot be had: {error}", asked.text);
                    let problem = Problem::new("feature-missing", what).hint(error.hint());
                    CompleteError::from(vec![problem.at(asked.at.clone())])
                })?
            }
        };
        let resource = asked.reference.resource();
        let resolved = match &asked.reference {
            Reference::Oci(_) => format!("{resource}@{digest}"),
            Reference::Tarball { .. } | Reference::Local { .. } => resource,
        };
        let (version, depends_on) = (String::new(), Vec::new());
        let locked = Locked { version, resolved, integrity: digest, depends_on };
        self.read(asked, folder, Some(locked), notes).map(Some)
    }

    fn read(
        &self,
        asked: &FeatureUse,
        folder: PathBuf,
        locked: Option<Locked>,
        notes: &mut Vec<Note>,
    ) -> Result<Here, CompleteError> {
        let problem = |what: String, hint: &str| {
            CompleteError::from(vec![
                Problem::new("feature-missing", what).at(asked.at.clone()).hint(hint.to_owned()),
            ])
        };
        let text = fs::read_to_string(folder.join(METADATA)).map_err(|error| {
            let what = format!("cannot read {} of the feature `{}`: {error}", METADATA, asked.text);
            problem(what, "a feature is a folder with this file and an install.sh, from the folder of devcontainer.json")
        })?;
        if !folder.join("install.sh").is_file() {
            let what = format!("the feature `{}` has no install.sh", asked.text);
            return Err(problem(
                what,
                "a feature is a folder with devcontainer-feature.json and an install.sh",
            ));
        }
        let shown = folder.strip_prefix(self.completion.root).unwrap_or(&folder).join(METADATA);
        let name = shown.to_string_lossy();
        let metadata = FeatureMetadata::parse(&Text::new(&name, &text))?;
        notes.extend(metadata.notes.iter().cloned());
        let (digest, tracked) = digest_of(&folder).map_err(FactsError::from)?;
        // What was fetched never changes.
        if matches!(asked.reference, Reference::Local { .. }) {
            self.completion.tracked.borrow_mut().add(tracked);
        }
        let locked = locked.map(|locked| {
            let depends_on = metadata.depends_on.iter().map(|on| on.text.to_lowercase()).collect();
            let version = metadata.version.clone().unwrap_or_default();
            (asked.lock_key().unwrap_or_default(), Locked { version, depends_on, ..locked })
        });
        Ok(Here { folder, digest, metadata, locked })
    }

    fn lock_path(&self) -> PathBuf {
        let folder = self.completion.root.join(self.completion.folder());
        let name = Path::new(self.completion.file).file_name().unwrap_or_default().to_string_lossy();
        folder.join(Lockfile::file_name(&name))
    }

    /// What is locked; nothing if no lock file is kept.
    fn lockfile(&self, notes: &mut Vec<Note>) -> Result<Option<Lockfile>, CompleteError> {
        let path = self.lock_path();
        self.completion.tracked.borrow_mut().file(&path);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ProjectError::Io { path, source }.into()),
        };
        let shown = path.strip_prefix(self.completion.root).unwrap_or(&path).to_string_lossy().into_owned();
        let (lock, more) = Lockfile::parse(&Text::new(&shown, &text))?;
        notes.extend(more);
        Ok(Some(lock))
    }

    /// Brings the lock file up to date, where one is kept, or holds to it.
    fn keep_lock(&self, before: Option<Lockfile>, here: &[Here]) -> Result<(), CompleteError> {
        let features = here.iter().filter_map(|found| found.locked.clone()).collect();
        let now = Lockfile { features };
        let lock = self.completion.surroundings.lock;
        if lock == Lock::Frozen {
            let differences = before.unwrap_or_default().frozen(&now);
            let problems: Vec<Problem> = differences
                .iter()
                .map(|difference| {
                    Problem::new("lock-differs", difference.to_string())
                        .hint("`setpoint up` without `--frozen` brings the lock file up to date")
                })
                .collect();
            return if problems.is_empty() { Ok(()) } else { Err(problems.into()) };
        }
        if lock == Lock::Keep && before.is_some_and(|before| before != now) {
            let path = self.lock_path();
            fs::write(&path, now.to_json()).map_err(|source| ProjectError::Io { path, source })?;
        }
        Ok(())
    }
}

/// The digest of a folder, and of what it is made.
fn digest_of(folder: &Path) -> Result<(Digest, Tracked), CasError> {
    let folder = folder.to_owned();
    cas::look(&mut StatCache::in_memory(), PATIENCE, move |files| {
        Ok((files.file_digest(&folder)?.digest, std::mem::take(files.tracked())))
    })
}
