//! A project on disk: finding it, reading its manifest in layers, checking that what it names is there.

use std::fs;
use std::path::{Path, PathBuf};

use setpoint_model::manifest::{self, Env, Layer, Manifest, Problem};
use setpoint_model::names::UnitName;
use setpoint_model::release::{Active, Bundle, Repository};

use crate::paths::Roots;
use crate::release::{ReleaseError, Releases};
use crate::tracked::Tracked;
use crate::upgrade::{self, ActiveError};
use crate::{compose, devcontainer};

/// The manifest's file name.
pub const MANIFEST: &str = "setpoint.toml";
/// The folder of packs, scripts and pipelines in Python.
pub const PIPELINES: &str = ".setpoint";
/// The layer above it, which a person keeps to himself.
pub const LOCAL: &str = "setpoint.local.toml";

/// A project: its folder and its manifest.
#[derive(Debug, Clone)]
pub struct Project {
    /// The folder that holds `setpoint.toml`, without links in its path: what its units belong to.
    pub root: PathBuf,
    /// The folder that holds the files which it is made of: its own, or that of the release that it comes from.
    pub files: PathBuf,
    /// Where it comes from, if it is not made of its own folder.
    pub from: Option<Repository>,
    /// What the release holds that it is made of.
    pub bundle: Option<Bundle>,
    /// What is declared.
    pub manifest: Manifest,
    /// The file of another tool that stands for a manifest, where there is none.
    pub instead: Option<String>,
    /// Which generation of it is in effect: where its data is.
    pub active: Active,
    /// The files that say what is declared.
    pub tracked: Tracked,
}

/// Why there is no project.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// No manifest in this folder nor in any above it, and nothing that could stand for one.
    #[error("there is no {MANIFEST} in {} nor in any folder above it, and no devcontainer.json or compose.yaml", .0.display())]
    NotFound(PathBuf),
    /// The manifest says things that cannot be.
    #[error("{} in the manifest", problems(.0))]
    Problems(Vec<Problem>),
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It comes from a release, and none is in effect.
    #[error("{} says that this project comes from {from}, and no release of it is in effect", root.join(MANIFEST).display())]
    NoRelease {
        /// Its folder.
        root: PathBuf,
        /// Where it says that it comes from.
        from: Repository,
    },
    /// A release is in effect, and its manifest declares something itself.
    #[error("{} declares what this project is made of, and a release is in effect here{}", root.join(MANIFEST).display(), version.as_ref().map(|version| format!(": {version}")).unwrap_or_default())]
    NotPinned {
        /// Its folder.
        root: PathBuf,
        /// The version in effect.
        version: Option<String>,
    },
    /// What is in effect cannot be told.
    #[error(transparent)]
    Active(#[from] ActiveError),
    /// The release that is in effect is not here.
    #[error(transparent)]
    Release(#[from] Box<ReleaseError>),
    /// There are only pipelines.
    #[error("there is no environment and no service in this project")]
    NoUnits,
    /// There is no such environment.
    #[error("there is no environment or service `{name}`; there is: {known}")]
    NoUnit {
        /// As it was asked for.
        name: String,
        /// Those that are declared.
        known: String,
    },
    /// Several environments, and none was named.
    #[error("which one? There is: {known}")]
    Ambiguous {
        /// Those that are declared.
        known: String,
    },
}

fn problems(found: &[Problem]) -> String {
    match found.len() {
        1 => "1 problem".to_owned(),
        many => format!("{many} problems"),
    }
}

impl Project {
    /// The version that is in effect; that of the manifest, where nothing was brought up yet.
    #[must_use]
    pub fn version_in_effect(&self) -> Option<&str> {
        self.active.version.as_ref().or(self.manifest.project.version.as_ref()).map(String::as_str)
    }

    /// Finds the folder of the project that a folder belongs to. The manifest is not read: what a project has done
    /// can be looked at while it is wrong.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(from: &Path) -> Result<PathBuf, ProjectError> {
        let unreadable = |source| ProjectError::Io { path: from.to_owned(), source };
        let from = from.canonicalize().map_err(unreadable)?;
        let with =
            |there: fn(&Path) -> bool| from.ancestors().find(|folder| there(folder)).map(Path::to_owned);
        let root = with(|folder| folder.join(MANIFEST).is_file());
        let stands =
            |folder: &Path| !devcontainer::find(folder).is_empty() || !compose::find(folder).is_empty();
        let root = root.or_else(|| with(stands));
        root.ok_or(ProjectError::NotFound(from))
    }

    /// Finds the project that a folder belongs to, and reads it: what it declares itself, or what the release says that
    /// is in effect, with what is this machine's own laid over.
    ///
    /// # Errors
    /// If there is none, or its manifest is wrong; then with all problems at once.
    pub fn load(roots: &Roots, from: &Path, assignments: &[String]) -> Result<Self, ProjectError> {
        let root = Self::find(from)?;
        let active = upgrade::active(roots, &root)?;
        let own = read(&root.join(MANIFEST))?;
        let origin = match own.as_deref() {
            Some(text) => manifest::origin(Layer { name: MANIFEST, text }).map_err(ProjectError::Problems)?,
            None => None,
        };
        match (origin, &active.release) {
            (Some(from), Some(_)) => Self::of_release(roots, root, from, active, None, assignments),
            (Some(from), None) => Err(ProjectError::NoRelease { root, from }),
            (None, Some(_)) => Err(ProjectError::NotPinned { root, version: active.version }),
            (None, None) => {
                let local = read(&root.join(LOCAL))?;
                Self::of_folder(root, own, local.as_deref(), active, assignments)
            }
        }
    }

    /// Finds the project that a folder belongs to, and reads it without what is this machine's own: as it can be
    /// committed.
    ///
    /// # Errors
    /// As [`Project::load`], and if it comes from a release itself.
    pub fn committed(roots: &Roots, from: &Path) -> Result<Self, ProjectError> {
        let root = Self::find(from)?;
        let active = upgrade::active(roots, &root)?;
        let own = read(&root.join(MANIFEST))?;
        Self::of_folder(root, own, None, active, &[])
    }

    /// The project that a release makes of a folder: the one that `active` names, whichever is in effect there. `config` is
    /// laid over its manifest; where it is not given, what the folder has for that is.
    ///
    /// # Errors
    /// If it is not here, or its manifest is wrong together with what is this machine's own.
    pub fn of_release(
        roots: &Roots,
        root: PathBuf,
        from: Repository,
        active: Active,
        config: Option<&str>,
        assignments: &[String],
    ) -> Result<Self, ProjectError> {
        let kept =
            Releases::of(roots).open(active.release.as_deref().unwrap_or_default()).map_err(Box::new)?;
        let files = kept.files();
        let text = read(&files.join(MANIFEST))?.unwrap_or_default();
        let own = if config.is_some() { None } else { read(&root.join(LOCAL))? };
        let local = config.or(own.as_deref());
        let manifest = parsed(&root, MANIFEST, &text, local, assignments, manifest::parse)?;
        let bundle = Some(kept.bundle);
        let tracked = tracked(&root, MANIFEST);
        Self { root, files, from: Some(from), bundle, manifest, instead: None, active, tracked }.checked()
    }

    fn of_folder(
        root: PathBuf,
        own: Option<String>,
        local: Option<&str>,
        active: Active,
        assignments: &[String],
    ) -> Result<Self, ProjectError> {
        let stands = if own.is_some() { None } else { standing_for(&root) };
        let instead = stands.as_ref().map(|(file, _)| file.clone());
        let (name, text) = match stands {
            Some((ref file, text)) => (file.as_str(), text),
            None => (MANIFEST, own.unwrap_or_default()),
        };
        let parse = if has_code(&root) { manifest::parse_beside_code } else { manifest::parse };
        let manifest = parsed(&root, name, &text, local, assignments, parse)?;
        let tracked = tracked(&root, name);
        Self { files: root.clone(), root, from: None, bundle: None, manifest, instead, active, tracked }
            .checked()
    }

    fn checked(self) -> Result<Self, ProjectError> {
        let missing = self.missing_files();
        if missing.is_empty() { Ok(self) } else { Err(ProjectError::Problems(missing)) }
    }

    /// Where something lies that is mounted: among the files that the project is made of, or else in its folder, which
    /// is where a machine has what is its own.
    #[must_use]
    pub fn place(&self, path: &Path) -> PathBuf {
        Some(self.files.join(path)).filter(|file| file.exists()).unwrap_or_else(|| self.root.join(path))
    }

    /// A project without a manifest, in the nearest folder that has pipelines in Python; nothing if there is none.
    ///
    /// # Errors
    /// If a folder cannot be looked at.
    pub fn without_manifest(from: &Path) -> Result<Option<Self>, ProjectError> {
        let from = canonical(from)?;
        Ok(from.ancestors().find(|folder| has_code(folder)).map(|root| Self::of(root.to_owned())))
    }

    /// A project that is nothing but its folder.
    ///
    /// # Errors
    /// If the folder cannot be looked at.
    pub fn bare(folder: &Path) -> Result<Self, ProjectError> {
        Ok(Self::of(canonical(folder)?))
    }

    fn of(root: PathBuf) -> Self {
        let name = root.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let (manifest, files) = (Manifest::empty(&name), root.clone());
        let (active, tracked) = (Active::default(), Tracked::default());
        Self { root, files, from: None, bundle: None, manifest, instead: None, active, tracked }
    }

    fn missing_files(&self) -> Vec<Problem> {
        let mut missing = Vec::new();
        for env in self.manifest.envs.values() {
            for needed in env.files_that_must_exist() {
                let path = self.files.join(&needed.path);
                if !path.exists() {
                    missing.push(Problem::missing_file(&needed, &siblings(&self.files, &needed.path)));
                }
            }
        }
        missing
    }

    /// The environment of this name, or the only one.
    ///
    /// # Errors
    /// If there is no such environment, or several and none is named.
    pub fn env(&self, name: Option<&str>) -> Result<&Env, ProjectError> {
        if self.manifest.envs.is_empty() {
            return Err(ProjectError::NoUnits);
        }
        let known = || self.manifest.envs.keys().map(UnitName::as_str).collect::<Vec<_>>().join(", ");
        match name {
            Some(name) => self
                .manifest
                .envs
                .iter()
                .find(|(key, _)| key.as_str() == name)
                .map(|(_, env)| env)
                .ok_or_else(|| ProjectError::NoUnit { name: name.to_owned(), known: known() }),
            None => {
                let mut envs = self.manifest.envs.values();
                match (envs.next(), envs.next()) {
                    (Some(only), None) => Ok(only),
                    _ => Err(ProjectError::Ambiguous { known: known() }),
                }
            }
        }
    }
}

/// Reads a manifest with what is laid over it.
fn parsed(
    root: &Path,
    name: &str,
    text: &str,
    local: Option<&str>,
    assignments: &[String],
    parse: impl Fn(&[Layer<'_>], &str) -> Result<Manifest, Vec<Problem>>,
) -> Result<Manifest, ProjectError> {
    let mut set = Vec::new();
    for assignment in assignments {
        let text =
            manifest::set_layer(assignment).map_err(|problem| ProjectError::Problems(vec![problem]))?;
        set.push((format!("--set {assignment}"), text));
    }
    let mut layers = vec![Layer { name, text }];
    layers.extend(local.map(|text| Layer { name: LOCAL, text }));
    layers.extend(set.iter().map(|(name, text)| Layer { name, text }));
    let folder = root.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    parse(&layers, &folder).map_err(ProjectError::Problems)
}

/// The files in a project's folder that its manifest was read from, or would be.
fn tracked(root: &Path, name: &str) -> Tracked {
    let mut tracked = Tracked::default();
    [MANIFEST, LOCAL, name].iter().for_each(|name| tracked.file(&root.join(name)));
    tracked
}

/// Whether a folder has pipelines in Python.
fn has_code(folder: &Path) -> bool {
    let mut entries = fs::read_dir(folder.join(PIPELINES)).into_iter().flatten().filter_map(Result::ok);
    entries.any(|entry| entry.path().extension().is_some_and(|ending| ending == "py"))
}

/// The file that stands for a manifest, and the manifest that it stands for, on Docker: a devcontainer.json, else
/// compose files.
fn standing_for(root: &Path) -> Option<(String, String)> {
    let shown = |file: &PathBuf| file.to_string_lossy().into_owned();
    let head = "setpoint = 1\n[engine]\ndefault = \"docker\"\n";
    let environments = devcontainer::find(root);
    if let Some(first) = environments.first() {
        return Some((shown(first), format!("{head}{}", of_devcontainers(&environments))));
    }
    let stack = compose::find(root);
    let files: Vec<_> = stack.iter().map(|file| toml_text(&file.to_string_lossy())).collect();
    Some((shown(stack.first()?), format!("{head}[stack]\ncompose = [{}]\n", files.join(", "))))
}

/// An environment for each devcontainer.json.
fn of_devcontainers(files: &[PathBuf]) -> String {
    let mut text = String::new();
    for (index, file) in files.iter().enumerate() {
        // The first is the one that is used without a name; others lie in folders that name them.
        let folder =
            file.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().to_lowercase());
        let name = folder.filter(|_| index > 0).and_then(|name| UnitName::new(name).ok());
        let name = name.map_or_else(
            || if index == 0 { "dev".to_owned() } else { format!("dev-{}", index + 1) },
            String::from,
        );
        let path = toml_text(&file.to_string_lossy());
        text.push_str(&format!("[env.{name}]\ndevcontainer = {path}\n"));
    }
    if files.len() > 1 {
        text.push_str("[project]\nup = [\"dev\"]\n");
    }
    text
}

/// A text as TOML writes it.
fn toml_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn canonical(folder: &Path) -> Result<PathBuf, ProjectError> {
    folder.canonicalize().map_err(|source| ProjectError::Io { path: folder.to_owned(), source })
}

fn read(path: &Path) -> Result<Option<String>, ProjectError> {
    match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|error| ProjectError::Io {
            path: path.to_owned(),
            source: std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                format!("it is not UTF-8 (byte {} is wrong)", error.utf8_error().valid_up_to()),
            ),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ProjectError::Io { path: path.to_owned(), source }),
    }
}

/// What lies in the folder of a missing file, as paths like the one that was asked for.
fn siblings(root: &Path, path: &str) -> Vec<String> {
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let Ok(entries) = fs::read_dir(root.join(folder)) else { return Vec::new() };
    let mut names: Vec<_> = entries
        .filter_map(Result::ok)
        .map(|entry| folder.join(entry.file_name()).to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
