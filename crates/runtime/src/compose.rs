//! Services that compose files declare: reading the files, and making units of the services.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use setpoint_model::container::NetworkMode;
use setpoint_model::import::compose::{
    self as file, ComposeFile, ComposeProject, ComposeService, Condition, FileUse, Options, PullPolicy,
    Stored,
};
use setpoint_model::manifest::{
    Base, Before, Command, Env, EnvValue, FileSource, Hook, Note, OfService, Problem, Run, ServiceFile,
    Stack, WhenChanged,
};
use setpoint_model::names::{HookName, UnitName};

use crate::paths::expand_home;
use crate::project::{Project, ProjectError};
use crate::tracked::Tracked;

/// The files that are used without being named, the first that is there.
const USUAL: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// The compose files in a folder that are used without being named: the usual one, and what is laid over it.
#[must_use]
pub fn find(root: &Path) -> Vec<PathBuf> {
    let Some(main) = USUAL.iter().find(|name| root.join(name).is_file()) else { return Vec::new() };
    let stem = main.rsplit_once('.').map_or(*main, |(stem, _)| stem);
    let over = ["yaml", "yml"].map(|ending| format!("{stem}.override.{ending}"));
    let over = over.into_iter().find(|name| root.join(name).is_file());
    std::iter::once((*main).to_owned()).chain(over).map(PathBuf::from).collect()
}

/// Adds the services of a project's compose files to its units.
///
/// # Errors
/// All that is wrong with the files.
pub fn complete(
    project: &mut Project,
    variables: &BTreeMap<String, String>,
    home: Option<&Path>,
) -> Result<(), ProjectError> {
    let Some(stack) = project.manifest.stack.clone() else { return Ok(()) };
    let taken = project.manifest.envs.keys().cloned().collect();
    let Units { units, notes, tracked } = units(&project.root, &stack, &taken, variables, home)?;
    project.manifest.envs.extend(units.into_values().map(|env| (env.name.clone(), env)));
    project.manifest.notes.extend(notes);
    project.tracked.add(tracked);
    Ok(())
}

/// The units of a stack.
#[derive(Debug)]
pub struct Units {
    /// They, by what its files call them.
    pub units: BTreeMap<String, Env>,
    /// What there is to know about how they were read.
    pub notes: Vec<Note>,
    /// The files that were read for it.
    pub tracked: Tracked,
}

/// The units of a stack.
///
/// # Errors
/// All that is wrong with the files.
pub fn units(
    root: &Path,
    stack: &Stack,
    taken: &BTreeSet<UnitName>,
    variables: &BTreeMap<String, String>,
    home: Option<&Path>,
) -> Result<Units, ProjectError> {
    let mut texts = Vec::new();
    for name in &stack.files {
        let text = fs::read_to_string(root.join(name)).map_err(|error| {
            let problem = Problem::new("missing-file", format!("cannot read {name}: {error}"))
                .at(stack.at.clone())
                .hint("name a compose file, from the project's folder");
            ProjectError::Problems(vec![problem])
        })?;
        texts.push((name.clone(), text));
    }
    let main: Vec<_> = texts.iter().map(|(path, text)| ComposeFile { path, text }).collect();
    let folder = root.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let options = Options {
        project_dir_name: folder,
        environment: variables.clone(),
        profiles: stack.profiles.clone(),
        project_name: None,
    };
    let read = |path: &str| match fs::read_to_string(root.join(expand_home(path, home))) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    };
    let declared = file::load(&main, &options, &read).map_err(ProjectError::Problems)?;
    let mut tracked = Tracked::default();
    let asked = declared.files.iter().map(|path| root.join(expand_home(path, home)));
    let named = stack.files.iter().map(|path| root.join(path));
    named.chain(asked).for_each(|path| tracked.file(&path));
    let mut problems = Vec::new();
    let names = unit_names(taken, &declared, &mut problems);
    let waited_for: BTreeSet<&str> = declared
        .services
        .values()
        .flat_map(|service| &service.depends_on)
        .filter(|(_, dependency)| dependency.condition == Condition::Completed)
        .map(|(name, _)| name.as_str())
        .collect();
    let mut notes = declared.notes.clone();
    let mut units = BTreeMap::new();
    for (called, service) in &declared.services {
        let Some(name) = names.get(called.as_str()) else { continue };
        let completes = waited_for.contains(called.as_str());
        match (Service { called, name, service, declared: &declared, names: &names })
            .env(completes, &mut notes)
        {
            Ok(env) => {
                units.insert(called.clone(), env);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(Units { units, notes, tracked })
    } else {
        Err(ProjectError::Problems(problems))
    }
}

/// What the units of services are called: as the services, in the letters that names of units have.
fn unit_names<'a>(
    others: &BTreeSet<UnitName>,
    declared: &'a ComposeProject,
    problems: &mut Vec<Problem>,
) -> BTreeMap<&'a str, UnitName> {
    let mut names: BTreeMap<&str, UnitName> = BTreeMap::new();
    for (called, service) in &declared.services {
        let fitting: String = called
            .to_lowercase()
            .chars()
            .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
            .collect();
        let begins = fitting.starts_with(|c: char| c.is_ascii_lowercase());
        let fitting = if begins { fitting } else { format!("s-{fitting}") };
        let taken = |name: &UnitName| others.contains(name) || names.values().any(|other| other == name);
        match UnitName::new(fitting) {
            Ok(name) if !taken(&name) => {
                names.insert(called, name);
            }
            Ok(name) => problems.push(
                Problem::new("duplicate", format!("there are two units of the name `{name}`"))
                    .at(service.at.clone())
                    .hint("rename the service, or the environment"),
            ),
            Err(error) => problems.push(Problem::new("bad-name", error.to_string()).at(service.at.clone())),
        }
    }
    names
}

/// One service on its way to a unit.
struct Service<'a> {
    called: &'a str,
    name: &'a UnitName,
    service: &'a ComposeService,
    declared: &'a ComposeProject,
    names: &'a BTreeMap<&'a str, UnitName>,
}

impl Service<'_> {
    fn env(&self, completes: bool, notes: &mut Vec<Note>) -> Result<Env, Problem> {
        let service = self.service;
        let at = &service.at;
        let mut note = |text: String| notes.push(Note { at: at.clone(), text });
        let base = match (&service.build, &service.image) {
            (Some(build), _) => Base::Build { build: Box::new(build.clone()) },
            (None, Some(image)) => Base::Image { reference: image.clone() },
            (None, None) => {
                let what = format!("`{}` has neither an image nor a build", self.called);
                return Err(Problem::new("no-image", what).at(at.clone()).hint("add `image:` or `build:`"));
            }
        };
        if service.replicas != 1 {
            note(format!("`{}` is to run {} times, and runs once", self.called, service.replicas));
        }
        if let Some(name) = &service.container_name {
            note(format!(
                "the container of `{}` is not called `{name}`: its name tells its project",
                self.called
            ));
        }
        if !service.pre_stop.is_empty() {
            note(format!("`pre_stop` of `{}` is not run", self.called));
        }
        if matches!(service.pull_policy, Some(PullPolicy::Always | PullPolicy::Every(_))) {
            note(format!("the image of `{}` is fetched anew by `setpoint up --pull` only", self.called));
        }
        let mut container = service.container.clone();
        if let Some(NetworkMode::Unit(other)) = &container.network {
            container.network = Some(NetworkMode::Unit(self.unit(other)?.to_string()));
        }
        for shared in [&mut container.ipc, &mut container.pid].into_iter().flatten() {
            if let Some(other) = shared.strip_prefix("service:").map(str::to_owned) {
                *shared = format!("unit:{}", self.unit(&other)?);
            }
        }
        let depends_on = service.depends_on.iter().filter(|(name, _)| self.names.contains_key(name.as_str()));
        let of = OfService {
            called: self.called.to_owned(),
            of_compose: true,
            depends_on: depends_on
                .map(|(name, dependency)| Ok((self.unit(name)?, *dependency)))
                .collect::<Result<_, Problem>>()?,
            restart: service.restart,
            networks: self.networks(),
            volumes: self.volumes(),
            files: self.files()?,
            first_boot: Vec::new(),
            completes,
            backup: None,
        };
        let hooks = self.hooks();
        Ok(Env { hooks, ..Env::of_service(self.name.clone(), at.clone(), (base, at.clone()), container, of) })
    }

    fn unit(&self, called: &str) -> Result<UnitName, Problem> {
        let missing = || {
            let what =
                format!("`{}` needs the service `{called}`, which is not part of this stack", self.called);
            Problem::new("unknown-service", what).at(self.service.at.clone())
        };
        self.names.get(called).cloned().ok_or_else(missing)
    }

    /// The networks that it is in, as they are declared.
    fn networks(&self) -> Vec<file::Network> {
        let Some(NetworkMode::Networks(own)) = &self.service.container.network else { return Vec::new() };
        self.declared.networks.values().filter(|network| own.contains_key(&network.name)).cloned().collect()
    }

    /// The named volumes that it has, as they are declared.
    fn volumes(&self) -> Vec<file::Volume> {
        use setpoint_model::container::MountSource;
        let has = |volume: &&file::Volume| {
            self.service.container.mounts.iter().any(
                |mount| matches!(&mount.source, MountSource::Volume { name: Some(name), .. } if *name == volume.name),
            )
        };
        self.declared.volumes.values().filter(has).cloned().collect()
    }

    fn files(&self) -> Result<Vec<ServiceFile>, Problem> {
        let of = |uses: &[FileUse], stored: &BTreeMap<String, Stored>, kind: &str| {
            let file = |used: &FileUse| {
                let source = stored.get(&used.source).cloned().ok_or_else(|| {
                    let what = format!("there is no {kind} `{}`", used.source);
                    Problem::new("unknown-file", what).at(self.service.at.clone())
                })?;
                let (name, target) = (format!("{kind} {}", used.source), used.target.clone());
                Ok(ServiceFile {
                    name,
                    target,
                    source: FileSource::Stored(source),
                    mode: used.mode,
                    owner: None,
                })
            };
            uses.iter().map(file).collect::<Result<Vec<_>, Problem>>()
        };
        let mut files = of(&self.service.configs, &self.declared.configs, "config")?;
        files.extend(of(&self.service.secrets, &self.declared.secrets, "secret")?);
        Ok(files)
    }

    /// What runs in it after each start.
    fn hooks(&self) -> BTreeMap<HookName, Hook> {
        let Some((last, before)) = self.service.post_start.split_last() else { return BTreeMap::new() };
        let of = |hook: &file::ServiceHook| Before {
            run: Run::One(Command::Argv { argv: hook.command.clone() }),
            env: hook.env.iter().map(|(name, value)| (name.clone(), EnvValue::literal(value))).collect(),
            user: hook.user.clone(),
            folder: hook.working_dir.clone(),
        };
        let Before { run, env, user, folder } = of(last);
        let hook = Hook {
            at: self.service.at.clone(),
            before: before.iter().map(of).collect(),
            run,
            inputs: Vec::new(),
            timeout: None,
            env,
            user,
            folder,
            when_changed: WhenChanged::default(),
            always: false,
        };
        BTreeMap::from([(HookName::PostStart, hook)])
    }
}

/// Units in an order in which each comes after those that it depends on.
#[must_use]
pub fn in_order<'a>(envs: &[&'a Env]) -> Vec<&'a Env> {
    let mut ordered: Vec<&Env> = Vec::new();
    let mut left: Vec<&Env> = envs.to_vec();
    while !left.is_empty() {
        let waits = |env: &Env| {
            let needs = env.service.iter().flat_map(|of| of.depends_on.keys());
            needs
                .into_iter()
                .any(|name| left.iter().any(|other| other.name == *name && other.name != env.name))
        };
        // A cycle was refused when the file was read.
        let next = left.iter().position(|env| !waits(env)).unwrap_or(0);
        ordered.push(left.remove(next));
    }
    ordered
}
