//! From what was read to what is meant: references, defaults, and the rules that span several keys.

mod alerts;
mod env;
mod files;
mod first_boot;
mod health;
mod hooks;
mod matrix;
mod pipeline;
mod release;
mod runners;
mod secret;
mod service;

use std::collections::{BTreeMap, BTreeSet};

use super::document::{Document, steps};
use super::env::{EngineKind, Env};
use super::env_value::{EnvName, EnvValue};
use super::format::Named;
use super::hook::Command;
use super::nearest::nearest;
use super::problem::Problem;
use super::project_name::ProjectName;
use super::secret::Secret;
use super::shape::{ComposeFiles, ManifestFile, ProjectSection, ScriptsSection, StackSection};
use super::tree::{Data, Step};
use super::{Manifest, Note, Project, Stack};
use crate::names::{HookName, SecretName, UnitName};

/// The manifest that a file means. Where something is wrong it is reported, and the manifest is not to be used.
pub(super) fn manifest(
    file: ManifestFile,
    document: &mut Document<'_>,
    folder_name: &str,
    is_beside_code: bool,
) -> Manifest {
    let engine: EngineKind = file.engine.default;
    let secrets: BTreeMap<SecretName, Secret> = file
        .secret
        .0
        .into_iter()
        .filter_map(|(name, section)| Some((name.clone(), secret::secret(&name, section, document)?)))
        .collect();
    secret::check_circles(&secrets, document);
    let envs =
        file.env.0.into_iter().map(|(name, section)| (name.clone(), env::env(name, section, document)));
    let mut envs: BTreeMap<UnitName, Env> = envs.collect();
    envs.values().for_each(|declared| env::check_engine(declared, engine, document));
    let mut notes = Vec::new();
    scripts(file.scripts, &mut envs, &mut notes, document);
    let project = project(file.project, document, folder_name);
    let services = file.service.0.into_iter().map(|(name, section)| {
        let unit = service::service(name.clone(), section, &project, document);
        (name, unit)
    });
    let mut services: BTreeMap<UnitName, Env> = services.collect();
    service::check_dependencies(&mut services, document);
    for (name, service) in services {
        env::check_engine(&service, engine, document);
        if let Some(other) = envs.get(&name) {
            let problem = duplicate(format!("an environment and a service are called `{name}`"));
            let place = steps!["service", name.as_str()];
            document.at_key(&place, problem.why(format!("the environment is at {}", other.at)));
        }
        envs.insert(name, service);
    }
    let stack = file.stack.map(|section| stack(section, document));
    let is_empty = ["env", "service", "pipeline", "stack", "spec"]
        .iter()
        .all(|key| document.keys(&steps![*key]).is_empty());
    if is_empty && !is_beside_code && !document.lacks(&[]) {
        let problem = Problem::new("missing-env", "there is no environment and no pipeline in this manifest");
        document.at_key(&[], problem.hint("add `[env.dev]`; its keys can wait"));
    }
    // The services of a stack are known once its files are read.
    let units = stack.is_none().then_some(&envs);
    let pipelines = file.pipeline.0.into_iter().filter_map(|(name, section)| {
        Some((name.clone(), pipeline::pipeline(name, section, units, document)?))
    });
    let pipelines = pipelines.collect();
    let cache = pipeline::cache(&file.cache);
    let alerts = file.alerts.map(|section| alerts::alerts(section, document)).unwrap_or_default();
    let release = release::release(file.release, document);
    let runners = runners::runners(file.spec, document);
    Manifest { project, engine, secrets, envs, pipelines, stack, alerts, release, cache, runners, notes }
}

fn stack(section: StackSection, document: &Document<'_>) -> Stack {
    let files = match section.compose {
        ComposeFiles::One(file) => vec![file.0],
        ComposeFiles::Several(files) => files.into_iter().map(|file| file.0).collect(),
    };
    let profiles = section.profiles.into_iter().map(|profile| profile.0).collect();
    Stack { files, profiles, at: document.key_location(&steps!["stack"]) }
}

fn project(section: ProjectSection, document: &mut Document<'_>, folder_name: &str) -> Project {
    let units = [document.keys(&steps!["env"]), document.keys(&steps!["service"])].concat();
    let mut seen = BTreeSet::new();
    for (index, name) in section.up.iter().flatten().enumerate() {
        let place = steps!["project", "up", index];
        // The services of a stack are known once its files are read.
        let may_be_service = !document.keys(&steps!["stack"]).is_empty();
        if !may_be_service && !units.iter().any(|unit| unit == name.as_str()) {
            let problem =
                Problem::new("unknown-unit", format!("there is no environment and no service `{name}`"));
            let hint = match nearest(name.as_str(), units.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("declare it as `[env.{name}]`, or take it out of `up`"),
            };
            document.at_value(&place, problem.hint(hint));
        } else if !seen.insert(name) {
            document.at_value(&place, duplicate(format!("`{name}` is in `up` twice")));
        }
    }
    Project {
        name: section.name.unwrap_or_else(|| ProjectName::from_folder(folder_name)),
        version: section.version.map(|version| version.0),
        up: section.up,
    }
}

/// Something that is there twice.
fn duplicate(what: String) -> Problem {
    Problem::new("duplicate", what).hint("keep one of them")
}

/// Reports where more than one of these keys is given, at each but the first, and returns how many are.
fn only_one(
    table: &[Step],
    keys: &[&str],
    document: &mut Document<'_>,
    problem: impl Fn(&str, &str) -> Problem,
) -> usize {
    let with = |key: &str| [table, &[key.into()]].concat();
    let mut given: Vec<&str> = keys.iter().copied().filter(|key| document.has(table, key)).collect();
    given.sort_by_key(|key| document.key_span(&with(key)));
    if let Some((first, others)) = given.split_first() {
        let where_first = document.key_location(&with(first));
        for other in others {
            let problem = problem(first, other).why(format!("`{first}` is at {where_first}"));
            document.at_key(&with(other), problem.hint(format!("keep `{first}` or `{other}`")));
        }
    }
    given.len()
}

/// Reports a program that is not named.
fn check_argv(argv: &[String], place: &[Step], document: &mut Document<'_>) {
    let what = match argv.first() {
        None => "this command is an empty list",
        Some(program) if program.trim().is_empty() => "the program of this command is empty",
        Some(_) if argv.iter().any(|argument| argument.contains('\0')) => {
            "a command cannot hold a NUL character"
        }
        Some(_) => return,
    };
    let problem = Problem::new("empty-command", what);
    document.at_value(
        place,
        problem.hint("a command is the program and its arguments: `[\"cargo\", \"check\"]`"),
    );
}

/// The variables of a table, with a report of each secret that is not declared.
fn variables(
    section: Named<EnvName, EnvValue>,
    table: &[Step],
    document: &mut Document<'_>,
) -> BTreeMap<String, EnvValue> {
    let values =
        section.0.into_iter().map(|(EnvName(name), value)| (name, value)).collect::<BTreeMap<_, _>>();
    for (name, value) in &values {
        check_secrets(value, &[table, &[name.as_str().into()]].concat(), document);
    }
    values
}

/// Reports each secret of a value that is not declared.
fn check_secrets(value: &EnvValue, place: &[Step], document: &mut Document<'_>) {
    for secret in value.secrets() {
        if let Some(problem) = secret::undeclared(secret, document) {
            document.report(reference_span(place, secret, document), problem);
        }
    }
}

/// Where a value refers to a secret.
fn reference_span(place: &[Step], secret: &SecretName, document: &Document<'_>) -> super::source::Span {
    let span = document.value_span(place);
    let Some(Data::Text(text)) = document.tree.find(place).map(|node| &node.data) else { return span };
    let reference = format!("${{secret.{secret}}}");
    match text.find(&reference) {
        Some(at) => document.sources.within(span, text, at..at + reference.len()),
        None => span,
    }
}

/// The single script of older projects is the `post_create` hook of the only environment.
fn scripts(
    section: ScriptsSection,
    envs: &mut BTreeMap<UnitName, Env>,
    notes: &mut Vec<Note>,
    document: &mut Document<'_>,
) {
    let Some(command) = section.provision else { return };
    let place = steps!["scripts", "provision"];
    let names = document.keys(&steps!["env"]);
    if names.len() > 1 {
        let problem = Problem::new("ambiguous-script", "`provision` is for projects with one environment")
            .why(format!("there are {}: {}", names.len(), names.join(", ")))
            .hint(format!("move it to where it belongs: [env.{}.hooks] post_create", names[0]));
        return document.at_key(&place, problem);
    }
    let Some(env) = envs.values_mut().next() else { return };
    let at = document.key_location(&place);
    if let Some(hook) = env.hooks.get(&HookName::PostCreate) {
        let problem = duplicate("`provision` and `post_create` are the same hook".to_owned());
        return document.at_key(&place, problem.why(format!("`post_create` is at {}", hook.at)));
    }
    let text = format!(
        "`provision` is run as the `post_create` hook of `{}`; [env.{0}.hooks] is its place now",
        env.name
    );
    notes.push(Note { at: at.clone(), text });
    env.hooks.insert(HookName::PostCreate, hooks::plain(Command::from(command), at));
}
