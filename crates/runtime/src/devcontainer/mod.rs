//! Environments that a devcontainer.json declares: finding the file, and completing it with what its image and its
//! features say.

mod download;
mod features;
mod fetch;
mod host;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use setpoint_model::container::Build;
use setpoint_model::desired::{Facts, FileDigest};
use setpoint_model::import::Text;
use setpoint_model::import::devcontainer::variables::{Context, Local};
use setpoint_model::import::devcontainer::{
    self as file, DevContainer, Entry, Origin, Parts, Place, Source, id_input, id_of_hash, image_metadata,
    merge, published_ports, run_args,
};
use setpoint_model::manifest::{Base, Env, Location, Note, Problem, Stack};
use setpoint_model::names::UnitName;
use sha2::{Digest as _, Sha256};

use self::host::Host;
use crate::build::{Context as BuildContext, is_folder};
use crate::cancel::Cancel;
use crate::cas::{self, StatCache};
use crate::compose::{self, Units};
use crate::engine::{Engine, EngineError, ImageFacts};
use crate::events::Watcher;
use crate::facts::{FactsError, PATIENCE, source_of};
use crate::paths::Roots;
use crate::project::{Project, ProjectError};
use crate::tracked::Tracked;

/// The label by which editors know the project's folder.
pub const FOLDER_LABEL: &str = "devcontainer.local_folder";
/// The label by which editors know the file.
pub const FILE_LABEL: &str = "devcontainer.config_file";
/// The label of an image that says what its containers need.
const METADATA_LABEL: &str = "devcontainer.metadata";

/// What a completion works with.
pub struct Surroundings<'a> {
    /// Where state lies.
    pub roots: &'a Roots,
    /// The engine of the project's units.
    pub engine: &'a dyn Engine,
    /// The caller's environment variables.
    pub variables: &'a BTreeMap<String, String>,
    /// Whether features that are not here are fetched, and who hears of it.
    pub fetch: Option<(&'a dyn Watcher, &'a Cancel)>,
    /// What becomes of the lock file.
    pub lock: Lock,
}

/// What becomes of a lock file that is kept beside a devcontainer.json.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// It is read.
    Read,
    /// It is brought up to date, as soon as all features are here.
    Keep,
    /// It has to say just what is installed.
    Frozen,
}

/// Why a devcontainer.json could not be completed.
#[derive(Debug, thiserror::Error)]
pub enum CompleteError {
    /// Something is wrong with it.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// The engine could not be asked.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A file could not be read.
    #[error(transparent)]
    Facts(#[from] FactsError),
}

impl From<Vec<Problem>> for CompleteError {
    fn from(problems: Vec<Problem>) -> Self {
        Self::Project(ProjectError::Problems(problems))
    }
}

/// The files in a folder that are used without being named, in the order in which they are looked for.
#[must_use]
pub fn find(root: &Path) -> Vec<PathBuf> {
    let usual = [".devcontainer/devcontainer.json", ".devcontainer.json"].map(PathBuf::from);
    let below = fs::read_dir(root.join(".devcontainer")).into_iter().flatten().filter_map(Result::ok);
    let mut named: Vec<_> = below
        .map(|entry| Path::new(".devcontainer").join(entry.file_name()).join("devcontainer.json"))
        .collect();
    named.sort();
    usual.into_iter().chain(named).filter(|path| root.join(path).is_file()).collect()
}

/// A path without `.` and `..`, from the same folder.
fn tidy(path: &Path) -> String {
    let mut parts: Vec<&std::ffi::OsStr> = Vec::new();
    for part in path.components() {
        match part {
            Component::ParentDir if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            Component::CurDir => {}
            part => parts.push(part.as_os_str()),
        }
    }
    parts.iter().collect::<PathBuf>().to_string_lossy().into_owned()
}

/// Puts what devcontainer.json files say in the place of their names, for each environment that has one.
///
/// # Errors
/// All that is wrong with a file, or what could not be asked for.
pub fn complete(project: &mut Project, surroundings: &Surroundings<'_>) -> Result<(), CompleteError> {
    let root = project.root.clone();
    let named: Vec<(Env, String)> = project
        .manifest
        .envs
        .values()
        .filter_map(|env| match &env.base {
            Base::DevContainer { file } => Some((env.clone(), file.clone())),
            _ => None,
        })
        .collect();
    for (mut declared, file) in named {
        if project.instead.is_some() {
            // Nobody wrote the manifest that stands for the file: the file is where things are said.
            let at =
                Location { file: file.clone(), line: 1, column: 1, source_line: String::new(), length: 0 };
            (declared.at, declared.base_at) = (at.clone(), at);
        }
        let taken = project.manifest.envs.keys().filter(|name| **name != declared.name).cloned().collect();
        let tracked = RefCell::default();
        let completion = Completion { root: &root, file: &file, surroundings, taken, tracked };
        let Completed { env, others, notes } = completion.env(&declared)?;
        project.tracked.add(completion.tracked.into_inner());
        project.manifest.notes.extend(notes);
        project.manifest.envs.insert(declared.name.clone(), env);
        project.manifest.envs.extend(others.into_iter().map(|env| (env.name.clone(), env)));
    }
    Ok(())
}

/// What a file means.
struct Completed {
    /// The environment.
    env: Env,
    /// The services beside it.
    others: Vec<Env>,
    notes: Vec<Note>,
}

/// The services of the compose files that a file names.
struct Services {
    /// The one that is the dev container.
    own: Env,
    others: Vec<Env>,
}

/// One file on its way to an environment.
struct Completion<'a> {
    root: &'a Path,
    /// Names that other units of the project have.
    taken: BTreeSet<UnitName>,
    /// The file, from there.
    file: &'a str,
    surroundings: &'a Surroundings<'a>,
    /// What has been read for it.
    tracked: RefCell<Tracked>,
}

impl Completion<'_> {
    fn env(&self, declared: &Env) -> Result<Completed, CompleteError> {
        let path = self.root.join(self.file);
        self.tracked.borrow_mut().file(&path);
        let text = fs::read_to_string(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                let problem = Problem::new("missing-file", format!("there is no {}", self.file))
                    .at(declared.base_at.clone())
                    .hint("name the devcontainer.json from the project's folder");
                CompleteError::from(vec![problem])
            }
            _ => ProjectError::Io { path: path.clone(), source }.into(),
        })?;
        let project = self.root.to_string_lossy();
        let id = self.id(&path);
        let local = Local { env: self.surroundings.variables, workspace_folder: &project, id: &id };
        let on_host = Context { local: Some(local), ..Context::default() };
        let said = file::parse(&Text::new(self.file, &text))?.substitute(&on_host);
        let inside = said.folder_inside(&project);
        let context = Context { container_workspace_folder: Some(&inside), ..Context::default() };
        let mut said = said.substitute(&context);
        let mut notes = std::mem::take(&mut said.notes);
        let services = self.services(&said, declared, &mut notes)?;
        let base = self.base(&said, services.as_ref(), &mut notes)?;
        let image = self.image(&base)?;
        let mut arguments = run_args(&said.run_args)?;
        if let Some(services) = &services {
            // What its service is made with stands below what is said here.
            arguments.container = services.own.container.clone();
        }
        self.add_files(&mut arguments)?;
        let mut entries = self.entries_of(image.as_ref(), &mut notes)?;
        let whole =
            Context { local: Some(local), container_workspace_folder: Some(&inside), container_env: None };
        let installed = features::Features { completion: self, said: &said, context: &whole };
        let features = installed.resolve(&image, &entries, &mut notes)?;
        let complete = image.is_some() && features.is_some();
        let features = features.unwrap_or_default();
        entries.extend(features.entries);
        entries.push(Entry { origin: Origin::File, settings: said.settings.clone() });
        let merged = merge(entries);
        let asked = &merged.host_requirements;
        let host = Host::look(asked, self.surroundings.engine)?;
        let gpus = &mut arguments.container.resources.gpus;
        *gpus = host::gpus(gpus.take(), asked, &host);
        let short = host::shortfalls(asked, gpus.as_deref(), &host);
        let at = &declared.base_at;
        notes.extend(short.into_iter().map(|text| Note { at: at.clone(), text }));
        let parts = Parts {
            file: self.file,
            said: &said,
            merged: &merged,
            run_args: arguments,
            app_ports: published_ports(&said.app_port)?,
            base,
            features: features.features,
            image_user: image.as_ref().map_or("", |image| &image.user),
            complete,
            owned: fs::metadata(self.root)
                .is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) != 0),
            private_network: self.surroundings.engine.capabilities().private_network,
            project: &project,
        };
        let (mut env, more) = file::env(declared, parts);
        notes.extend(more);
        let labels = &mut env.container.labels;
        labels.insert(FOLDER_LABEL.to_owned(), project.into_owned());
        labels.insert(FILE_LABEL.to_owned(), path.to_string_lossy().into_owned());
        let mut others = Vec::new();
        if let Some(services) = services {
            // The command of a service runs on, unless it is said otherwise.
            env.devcontainer
                .iter_mut()
                .for_each(|of| of.keeps_command = merged.override_command != Some(true));
            env.hooks.extend(services.own.hooks);
            env.service = services.own.service;
            others = services.others;
        }
        Ok(Completed { env, others, notes })
    }

    /// The services of the compose files that it names, the environment's own under the environment's name.
    fn services(
        &self,
        said: &DevContainer,
        declared: &Env,
        notes: &mut Vec<Note>,
    ) -> Result<Option<Services>, CompleteError> {
        let Source::Compose(source) = &said.source else { return Ok(None) };
        let folder = self.folder();
        let files = source.files.iter().map(|file| tidy(&folder.join(&file.value)));
        let at = source.service.at.clone();
        let stack =
            Stack { files: files.collect(), profiles: BTreeSet::from(["*".to_owned()]), at: at.clone() };
        let home = self.surroundings.variables.get("HOME").map(Path::new);
        let Units { mut units, notes: more, tracked } =
            compose::units(self.root, &stack, &self.taken, self.surroundings.variables, home)?;
        self.tracked.borrow_mut().add(tracked);
        notes.extend(more);
        let called = &source.service.value;
        let known: Vec<String> = units.keys().cloned().collect();
        let Some(mut own) = units.remove(called) else {
            let problem = Problem::new("unknown-service", format!("there is no service `{called}`")).at(at);
            return Err(vec![problem.hint(format!("there is: {}", known.join(", ")))].into());
        };
        let wanted = source.run_services.as_ref();
        let is_wanted = |name: &str| wanted.is_none_or(|wanted| wanted.iter().any(|one| one.value == name));
        // What a service that runs depends on runs too.
        let mut running: BTreeSet<UnitName> =
            own.service.iter().flat_map(|of| of.depends_on.keys().cloned()).collect();
        running.extend(units.iter().filter(|(called, _)| is_wanted(called)).map(|(_, env)| env.name.clone()));
        while let Some(more) = units
            .values()
            .filter(|env| running.contains(&env.name))
            .flat_map(|env| env.service.iter().flat_map(|of| of.depends_on.keys()))
            .find(|name| !running.contains(*name))
            .cloned()
        {
            running.insert(more);
        }
        let was = std::mem::replace(&mut own.name, declared.name.clone());
        let mut others: Vec<Env> = units.into_values().filter(|env| running.contains(&env.name)).collect();
        for of in others.iter_mut().filter_map(|env| env.service.as_mut()) {
            if let Some(needs) = of.depends_on.remove(&was) {
                of.depends_on.insert(declared.name.clone(), needs);
            }
        }
        Ok(Some(Services { own, others }))
    }

    /// What tells this dev container from all others.
    fn id(&self, path: &Path) -> String {
        let labels = BTreeMap::from([
            (FOLDER_LABEL.to_owned(), self.root.to_string_lossy().into_owned()),
            (FILE_LABEL.to_owned(), path.to_string_lossy().into_owned()),
        ]);
        id_of_hash(&Sha256::digest(id_input(&labels)).into())
    }

    /// The folder of the file, from the project's.
    fn folder(&self) -> &Path {
        Path::new(self.file).parent().unwrap_or(Path::new(""))
    }

    fn base(
        &self,
        said: &DevContainer,
        services: Option<&Services>,
        notes: &mut Vec<Note>,
    ) -> Result<Base, CompleteError> {
        match &said.source {
            Source::Image(image) => Ok(Base::Image { reference: image.value.clone() }),
            Source::Build(source) => {
                let (project, folder) = (self.root.to_string_lossy(), self.folder().to_string_lossy());
                let (build, more) = source.build(Place { project: &project, folder: &folder })?;
                notes.extend(more);
                Ok(Base::Build { build: Box::new(build) })
            }
            Source::Compose(_) => Ok(services.map_or(Base::Host, |services| services.own.base.clone())),
        }
    }

    /// What the image says, if it is here.
    fn image(&self, base: &Base) -> Result<Option<ImageFacts>, CompleteError> {
        let mut facts = Facts::default();
        if let Base::Build { build } = base {
            facts.build = self.digests(build)?;
        }
        let source = source_of(base, self.root, &facts);
        Ok(self.surroundings.engine.image(&source)?)
    }

    /// The digests of what a build takes.
    fn digests(&self, build: &Build) -> Result<Vec<FileDigest>, CompleteError> {
        if !is_folder(build) {
            return Ok(Vec::new());
        }
        let context = BuildContext::open(build, self.root).map_err(FactsError::from)?;
        self.tracked.borrow_mut().add(context.tracked.clone());
        let mut cache = StatCache::open(self.surroundings.roots, self.root);
        let root = self.root.to_owned();
        let digests = cas::look(&mut cache, PATIENCE, move |files| context.digests(&root, files));
        // A cache that cannot be kept costs time at the next look, and nothing else.
        let _ = cache.save();
        Ok(digests.map_err(FactsError::from)?)
    }

    /// What the image says of its containers.
    fn entries_of(
        &self,
        image: Option<&ImageFacts>,
        notes: &mut Vec<Note>,
    ) -> Result<Vec<Entry>, CompleteError> {
        let Some(label) = image.and_then(|image| image.labels.get(METADATA_LABEL)) else {
            return Ok(Vec::new());
        };
        let (entries, more) = image_metadata(&Text::new("the image's label devcontainer.metadata", label))?;
        notes.extend(more);
        Ok(entries)
    }

    /// Reads the files that arguments of `docker run` name.
    fn add_files(&self, arguments: &mut file::RunArgs) -> Result<(), CompleteError> {
        let read = |name: &file::Placed<String>| {
            let path = self.root.join(&name.value);
            self.tracked.borrow_mut().file(&path);
            fs::read_to_string(&path).map_err(|error| {
                let problem = Problem::new("missing-file", format!("cannot read {}: {error}", name.value));
                CompleteError::from(vec![problem.at(name.at.clone())])
            })
        };
        let lines = |text: &str| {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let variables = self.surroundings.variables;
        let mut env = BTreeMap::new();
        for name in &arguments.env_files {
            for line in lines(&read(name)?) {
                let value = match line.split_once('=') {
                    Some((name, value)) => Some((name.to_owned(), value.to_owned())),
                    None => variables.get(&line).map(|value| (line.clone(), value.clone())),
                };
                env.extend(value);
            }
        }
        for name in &arguments.env_of_caller {
            env.extend(variables.get(&name.value).map(|value| (name.value.clone(), value.clone())));
        }
        for name in &arguments.label_files {
            for line in lines(&read(name)?) {
                let (name, value) = line.split_once('=').unwrap_or((&line, ""));
                arguments.container.labels.entry(name.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
        for (name, value) in env {
            arguments.container.env.entry(name).or_insert(value);
        }
        Ok(())
    }
}
