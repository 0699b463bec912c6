//! Services: what they run, whom they need, and how they are kept.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Project;
use super::super::document::{Document, steps};
use super::super::env::{BackupCommands, Base, Env, Network, OfService};
use super::super::env_value::EnvValue;
use super::super::hook::Command;
use super::super::nearest::nearest;
use super::super::problem::Problem;
use super::super::shape::{BackupSection, BaseWord, ConditionWord, RestartWord, ServiceSection, StepRun};
use super::super::tree::Step;
use super::{check_argv, env, files, first_boot, health, hooks, only_one, variables};
use crate::circle::circles;
use crate::container::{Attachment, Container, ContainerMount, MountSource, NetworkMode, PublishedPort};
use crate::import::compose::{Condition, Dependency, Network as DeclaredNetwork, RestartPolicy, Volume};
use crate::names::{HookName, UnitName};
use crate::release::VERSION_VARIABLE;

/// The address of the host that a bare port is published on.
const LOCAL: &str = "127.0.0.1";

/// The unit that a section means. The project's name is part of what its volumes and networks are called, and what is
/// made of the project knows its version.
pub(super) fn service(
    name: UnitName,
    section: ServiceSection,
    project: &Project,
    document: &mut Document<'_>,
) -> Env {
    let place = steps!["service", name.as_str()];
    let key = |key: &str| [place.as_slice(), &[key.into()]].concat();
    only_one(&place, &env::BASES, document, |first, second| {
        Problem::new("two-bases", format!("`{name}` is built on two things: `{first}` and `{second}`"))
    });
    let given = env::BASES.into_iter().find(|base| document.has(&place, base));
    let base_at = document.key_location(&given.map_or(place.to_vec(), key));
    let base = match (section.image, section.build, section.rootfs, section.base) {
        (Some(image), ..) => Base::Image { reference: image.0 },
        (_, Some(entry), ..) => Base::Build { build: Box::new(env::build(entry, &key("build"), document)) },
        (_, _, Some(path), _) => Base::Rootfs { path: path.0 },
        (None, None, None, Some(BaseWord::Host) | None) => Base::Host,
    };
    let has_own_command = matches!(base, Base::Image { .. } | Base::Build { .. });
    if section.command.is_none() && !has_own_command && !document.lacks(&place) {
        let problem = Problem::new("no-command", format!("nothing says what `{name}` runs"));
        document.at_key(&place, problem.hint("set its `command`"));
    }
    let command = section.command.map(|command| argv(command, &key("command"), document));
    let network = section.network.unwrap_or(Network::Private);
    let default_network = format!("{}_default", project.name);
    let volume_name = |name: &UnitName| format!("{}_{name}", project.name);
    let volumes =
        section.volumes.0.keys().map(|name| Volume { name: volume_name(name), ..Volume::default() });
    let volumes = volumes.collect();
    let mounts = section.volumes.0.iter().map(|(name, target)| ContainerMount {
        target: target.0.clone(),
        read_only: false,
        source: MountSource::Volume { name: Some(volume_name(name)), no_copy: false, subpath: None },
    });
    let lies = section.volumes.0.iter().map(|(name, target)| (name.clone(), target.0.clone())).collect();
    let ports = env::ports(&section.ports, network, &key("ports"), document);
    let mut values = variables(section.env, &key("env"), document);
    if let Some(version) = project.version.as_deref().filter(|_| base.is_of_project()) {
        let known = || EnvValue::literal(version);
        values.entry(VERSION_VARIABLE.to_owned()).or_insert_with(known);
    }
    let (literal, with_secrets) = split(values, &key("env"), document);
    let container = Container {
        entrypoint: section.entrypoint,
        command,
        env: literal,
        user: section.user.map(|user| user.0),
        working_dir: section.workdir.map(|path| path.0),
        // A plain program that is the first process hears of no signal that it does not ask for.
        init: Some(true),
        mounts: mounts.collect(),
        ports: ports
            .iter()
            .map(|port| PublishedPort {
                container: port.port,
                protocol: "tcp".to_owned(),
                address: port.address.map(|address| address.to_string()).or_else(|| {
                    // As everywhere in a manifest, a bare port is for this machine alone.
                    port.host.is_none().then(|| LOCAL.to_owned())
                }),
                host: Some(port.host.unwrap_or(port.port)),
            })
            .collect(),
        network: Some(match network {
            Network::Host => NetworkMode::Host,
            Network::None => NetworkMode::None,
            Network::Private => {
                let aliases = BTreeSet::from([name.to_string()]);
                let attachment = Attachment { aliases, ..Attachment::default() };
                NetworkMode::Networks(BTreeMap::from([(default_network.clone(), attachment)]))
            }
        }),
        health: section.health.map(|section| health::check(section, network, &key("health"), document)),
        stop_signal: section.stop_signal.map(|signal| signal.0),
        stop_grace: section.stop_grace.map(|grace| grace.0),
        ..Container::default()
    };
    let of = OfService {
        called: name.to_string(),
        of_compose: false,
        depends_on: section.depends_on.0.into_iter().map(|(name, word)| (name, dependency(word))).collect(),
        restart: match section.restart {
            Some(RestartWord::Never) => RestartPolicy::No,
            Some(RestartWord::OnFailure) => RestartPolicy::OnFailure { max: None },
            Some(RestartWord::Always) => RestartPolicy::UnlessStopped,
            None if section.one_shot => RestartPolicy::OnFailure { max: None },
            None => RestartPolicy::UnlessStopped,
        },
        networks: match network {
            Network::Private => vec![DeclaredNetwork { name: default_network, ..DeclaredNetwork::default() }],
            Network::Host | Network::None => Vec::new(),
        },
        volumes,
        files: files::files(section.secrets, section.files, &place, document),
        first_boot: first_boot::steps(
            section.first_boot,
            &first_boot::Of { network, volumes: &lies },
            &key("first_boot"),
            document,
        ),
        completes: section.one_shot,
        backup: section.backup.map(|section| backup(section, lies.is_empty(), &key("backup"), document)),
    };
    let of_hooks =
        [(HookName::PostCreate, section.hooks.post_create), (HookName::PostStart, section.hooks.post_start)];
    let of_hook = |(name, run): (HookName, Option<StepRun>)| {
        let place = [place.as_slice(), &["hooks".into(), name.as_str().into()]].concat();
        let at = document.key_location(&place);
        let argv = argv(run?, &place, document);
        Some((name, hooks::plain(Command::Argv { argv }, at)))
    };
    let hooks = of_hooks.into_iter().filter_map(of_hook).collect();
    Env {
        env: with_secrets,
        hooks,
        mounts: env::mounts(section.mounts, "", &key("mounts"), document),
        limits: env::limits(&section.limits, &key("limits"), document),
        network,
        ..Env::of_service(name, document.key_location(&place), (base, base_at), container, of)
    }
}

/// The commands of a backup.
fn backup(
    section: BackupSection,
    has_no_volume: bool,
    place: &[Step],
    document: &mut Document<'_>,
) -> BackupCommands {
    let key = |key: &str| [place, &[key.into()]].concat();
    if has_no_volume {
        let problem = Problem::new("no-data", "a service without volumes has no data to back up");
        document.at_key(place, problem.hint("declare its `volumes`, or take `backup` out"));
    }
    BackupCommands {
        run: argv(section.run, &key("run"), document),
        restore: argv(section.restore, &key("restore"), document),
        user: section.user.map(|user| user.0),
    }
}

/// Reports dependencies on what is not there, and on each other; others wait for the end of what has to complete.
pub(super) fn check_dependencies(services: &mut BTreeMap<UnitName, Env>, document: &mut Document<'_>) {
    let names: Vec<String> = services.keys().map(ToString::to_string).collect();
    let mut awaited = BTreeSet::new();
    for (name, env) in services.iter() {
        for (other, dependency) in env.service.iter().flat_map(|of| &of.depends_on) {
            if !services.contains_key(other) {
                let problem = Problem::new("unknown-unit", format!("there is no service `{other}`"));
                let hint = match nearest(other.as_str(), names.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("declare it as `[service.{other}]`"),
                };
                let place = steps!["service", name.as_str(), "depends_on", other.as_str()];
                document.at_key(&place, problem.hint(hint));
            } else if dependency.condition == Condition::Completed {
                awaited.insert(other.clone());
            }
        }
    }
    let needed = |name: &UnitName| {
        let of = services.get(name).and_then(|env| env.service.as_ref());
        of.into_iter().flat_map(|of| of.depends_on.keys()).collect()
    };
    for circle in circles(services.keys(), needed) {
        let chain: String = circle.iter().map(|name| format!("{name} → ")).collect();
        let what = format!("these services need each other: {chain}{}", circle[0]);
        let problem = Problem::new("cycle", what).why("none of them could be the first to start");
        let place = steps!["service", circle[0].as_str(), "depends_on"];
        document.at_key(&place, problem.hint("remove one of these dependencies"));
    }
    for name in awaited {
        if let Some(of) = services.get_mut(&name).and_then(|env| env.service.as_mut()) {
            of.completes = true;
        }
    }
}

fn dependency(word: ConditionWord) -> Dependency {
    let condition = match word {
        ConditionWord::Started => Condition::Started,
        ConditionWord::Healthy => Condition::Healthy,
        ConditionWord::Completed => Condition::Completed,
    };
    Dependency { condition, restart: false, required: true }
}

/// The program and its arguments.
pub(super) fn argv(run: StepRun, place: &[Step], document: &mut Document<'_>) -> Vec<String> {
    match run {
        StepRun::Text(text) => vec!["/bin/sh".to_owned(), "-c".to_owned(), text.0],
        StepRun::Argv(argv) => {
            check_argv(&argv, place, document);
            argv
        }
    }
}

/// The variables as they are, and those that hold secrets: what a container is made with can be read by whoever can look
/// at it, so these are no part of that.
fn split(
    values: BTreeMap<String, EnvValue>,
    place: &[Step],
    document: &mut Document<'_>,
) -> (BTreeMap<String, String>, BTreeMap<String, EnvValue>) {
    let (mut literal, mut with_secrets) = (BTreeMap::new(), BTreeMap::new());
    for (name, value) in values {
        if let Some(text) = value.as_literal() {
            literal.insert(name, text.to_owned());
        } else if value.asks_inside() {
            let what = format!("`{name}` of a service cannot hold another variable");
            let problem = Problem::new("no-variable-inside", what);
            let hint = "write its value, or put the command into a shell that fills it in";
            document.at_value(&[place, &[name.as_str().into()]].concat(), problem.hint(hint));
        } else {
            with_secrets.insert(name, value);
        }
    }
    (literal, with_secrets)
}
