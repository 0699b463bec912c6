//! A whole project: its files become one, and that is read for what it means.

use std::collections::{BTreeMap, BTreeSet};

use super::depends::{self, Needs};
use super::files::{self, Kind};
use super::include;
use super::load::{Environment, Loader};
use super::merge::{merge, prune};
use super::mounts::place;
use super::names;
use super::networks;
use super::node::Node;
use super::report::Report;
use super::service::{self, Around, Read};
use super::source::Source;
use super::types::{ComposeFile, ComposeProject, ComposeService, Network, Options};
use crate::container::{MountSource, NetworkMode};
use crate::manifest::{Note, Problem};

/// Reads a project from its files, the later ones over the earlier ones. `files` gives every other file that these
/// name, by its path from the project's folder, or as it is written where it is absolute or begins with `~/`: `Ok(None)`
/// if it is not there, an error if it cannot be read.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(
    main: &[ComposeFile<'_>],
    options: &Options,
    files: &dyn Fn(&str) -> Result<Option<String>, String>,
) -> Result<ComposeProject, Vec<Problem>> {
    let mut loader = Loader::new(files);
    let project = read(&mut loader, main, options);
    let Report { mut problems, mut notes } = loader.report;
    // What is read twice says the same twice.
    let mut known: BTreeSet<String> = BTreeSet::new();
    problems.retain(|problem| known.insert(problem.to_string()));
    let place = |at: Option<&crate::manifest::Location>| {
        at.map(|at| {
            (
                main.iter().position(|file| file.path == at.file).unwrap_or(main.len()),
                at.file.clone(),
                at.line,
                at.column,
            )
        })
    };
    problems.sort_by_key(|problem| place(problem.at.as_deref()));
    notes.retain(|note| known.insert(note.to_string()));
    notes.sort_by_key(|note| place(Some(&note.at)));
    match project {
        Some(project) if problems.is_empty() => Ok(ComposeProject { files: loader.asked, notes, ..project }),
        _ => Err(problems),
    }
}

fn read(loader: &mut Loader<'_>, main: &[ComposeFile<'_>], options: &Options) -> Option<ComposeProject> {
    if main.is_empty() {
        loader.report.problem(Problem::new("no-file", "there is no compose file to read"));
        return None;
    }
    let mut env = options.environment.clone();
    if let Some(source) = loader.read(".env", None) {
        for (name, value) in loader.variables(&source, &options.environment) {
            env.entry(name).or_insert(value);
        }
    }
    let mut parsed: Vec<(&str, Node)> = Vec::new();
    for file in main {
        loader.asked.insert(file.path.to_owned());
        if let Some(node) = loader.parse(&Source::new(file.path, file.text)) {
            parsed.push((file.path, node));
        }
    }
    let name = project_name(loader, &parsed, options, &env)?;
    env.insert("COMPOSE_PROJECT_NAME".to_owned(), name.clone());
    let mut whole: Option<Node> = None;
    for (path, mut node) in parsed {
        loader.put_in(&mut node, &env);
        let node = include::complete(loader, node, path, &env, &mut Vec::new());
        whole = Some(match whole {
            None => node,
            Some(earlier) => merge(earlier, node, &[]),
        });
    }
    let mut whole = whole?;
    prune(&mut whole);
    model(loader, &whole, name, env, options)
}

/// The name of the project: that of the caller, of the environment, of the last file that gives one, or the folder's.
fn project_name(
    loader: &mut Loader<'_>,
    files: &[(&str, Node)],
    options: &Options,
    env: &Environment,
) -> Option<String> {
    let of_env = || env.get("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty()).cloned();
    let given =
        files.iter().rev().find_map(|(_, node)| node.entries().iter().find(|entry| entry.key == "name"));
    let fits = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))
    };
    let hint = "names are made of small letters, digits, `_` and `-`, and begin with a letter or digit";
    if let Some(name) = options.project_name.clone().or_else(of_env) {
        if !fits(&name) {
            let problem = Problem::new("bad-project-name", format!("`{name}` cannot name a project"));
            loader.report.problem(problem.hint(hint));
            return None;
        }
        return Some(name);
    }
    if let Some(entry) = given {
        let mut node = entry.value.clone();
        loader.put_in_value(&mut node, env);
        let name = loader.report.text(&node, "name")?;
        if !fits(&name) {
            let problem = node.at.problem("bad-project-name", format!("`{name}` cannot name a project"));
            loader.report.problem(problem.hint(hint));
            return None;
        }
        return Some(name);
    }
    let name: String = options
        .project_dir_name
        .to_lowercase()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))
        .collect();
    let name = name.trim_start_matches(['_', '-']).to_owned();
    if name.is_empty() {
        let what = format!("the folder `{}` gives the project no name", options.project_dir_name);
        loader.report.problem(
            Problem::new("bad-project-name", what).hint("give one by `name:` at the top of the file"),
        );
        return None;
    }
    Some(name)
}

/// Reads what the files have become.
fn model(
    loader: &mut Loader<'_>,
    whole: &Node,
    name: String,
    env: Environment,
    options: &Options,
) -> Option<ComposeProject> {
    let report = &mut loader.report;
    report.fields(whole, "", "")?;
    if let Some(version) = whole.entries().iter().find(|entry| entry.key == "version") {
        report.note(&version.key_at, "`version` is obsolete and changes nothing");
    }
    let mut networks = networks::declared(report, whole, &name);
    networks
        .entry("default".to_owned())
        .or_insert_with(|| Network { name: format!("{name}_default"), ..Network::default() });
    let around = Around {
        networks,
        volumes: networks::volumes(report, whole, &name),
        configs: files::declared(report, whole, Kind::Config),
        secrets: files::declared(report, whole, Kind::Secret),
        env,
    };
    let mut profiles = options.profiles.clone();
    let of_env = around.env.get("COMPOSE_PROFILES").map(String::as_str).unwrap_or_default();
    profiles.extend(
        of_env.split(',').map(|profile| profile.trim().to_owned()).filter(|profile| !profile.is_empty()),
    );
    let mut read = BTreeMap::new();
    let mut known = BTreeSet::new();
    for entry in names::section(&mut loader.report, whole, "services") {
        known.insert(entry.key.clone());
        let notes = std::mem::take(&mut loader.report.notes);
        let service = service::read(loader, &around, entry);
        let own = std::mem::replace(&mut loader.report.notes, notes);
        let Some(service) = service else { continue };
        let of = &service.service.profiles;
        if of.is_empty() || profiles.contains("*") || of.iter().any(|profile| profiles.contains(profile)) {
            loader.report.notes.extend(own);
            read.insert(entry.key.clone(), service);
        }
    }
    let services = connect(&mut loader.report, read, &known);
    check_names(&mut loader.report, &services);
    let Around { mut networks, volumes, configs, secrets, .. } = around;
    let declared = whole.get("networks").and_then(|networks| networks.get("default")).is_some();
    if !declared && !services.values().any(|service| is_in(service, &networks["default"])) {
        networks.remove("default");
    }
    Some(ComposeProject {
        name,
        services,
        networks,
        volumes,
        configs,
        secrets,
        files: BTreeSet::new(),
        notes: Vec::<Note>::new(),
    })
}

fn is_in(service: &ComposeService, network: &Network) -> bool {
    matches!(&service.container.network, Some(NetworkMode::Networks(all)) if all.contains_key(&network.name))
}

/// What services say about each other.
fn connect(
    report: &mut Report,
    read: BTreeMap<String, Read>,
    known: &BTreeSet<String>,
) -> BTreeMap<String, ComposeService> {
    let active: BTreeSet<String> = read.keys().cloned().collect();
    let mut needs = Needs::new();
    let mut services = BTreeMap::new();
    let (mut links, mut takes) = (Vec::new(), Vec::new());
    for (name, read) in read {
        links.extend(read.links);
        takes.extend(read.volumes_from.into_iter().map(|from| (name.clone(), from)));
        needs.insert(name.clone(), read.needs);
        services.insert(name, read.service);
    }
    depends::check(report, &mut needs, known, &active);
    for (name, service) in &mut services {
        let needs = needs.remove(name).unwrap_or_default();
        service.depends_on = needs.into_iter().map(|(name, (dependency, _))| (name, dependency)).collect();
    }
    for (service, alias) in links {
        let network = services.get_mut(&service).and_then(|service| service.container.network.as_mut());
        if let Some(NetworkMode::Networks(networks)) = network {
            networks.values_mut().for_each(|attachment| {
                attachment.aliases.insert(alias.clone());
            });
        }
    }
    for (name, from) in takes {
        let given =
            services.get(&from.service).map(|service| service.container.mounts.clone()).unwrap_or_default();
        let Some(service) = services.get_mut(&name) else { continue };
        for mut mount in given {
            let own = service.container.mounts.iter().any(|known| known.target == mount.target);
            if own {
                continue;
            }
            if matches!(mount.source, MountSource::Volume { name: None, .. }) {
                let text = format!(
                    "`{}` of `{}` is left out: a volume without a name has one service",
                    mount.target, from.service
                );
                report.note(&from.at, text);
            } else {
                mount.read_only |= from.read_only;
                place(&mut service.container.mounts, mount);
            }
        }
    }
    services
}

/// A name on the engine is for one container.
fn check_names(report: &mut Report, services: &BTreeMap<String, ComposeService>) {
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, service) in services {
        let Some(container) = service.container_name.as_deref() else { continue };
        if let Some(other) = taken.insert(container, name) {
            let what = format!("`{other}` and `{name}` have the same `container_name`: `{container}`");
            report.problem(
                Problem::new("same-name", what).at(service.at.clone()).hint("give one of them another"),
            );
        }
    }
}
