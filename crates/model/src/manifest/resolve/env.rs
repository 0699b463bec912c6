//! Environments: defaults, and what does not go together.

use std::collections::BTreeMap;

use super::super::byte_size::ByteSize;
use super::super::document::{Document, steps};
use super::super::env::{Base, EngineKind, Env, Limits, MountDecl, Network, PackUse, PortDecl};
use super::super::env_value::EnvName;
use super::super::paths::lies_in;
use super::super::problem::Problem;
use super::super::scalars::Port;
use super::super::shape::{BaseWord, BuildEntry, BuildSecretEntry, EnvSection, LimitsSection, MountEntry};
use super::super::tree::Step;
use super::{duplicate, hooks, only_one, variables};
use crate::container::{Build, BuildSecret, Container};
use crate::names::{PackName, UnitName};

/// Where the project appears inside, if nothing is said.
const WORKSPACE: &str = "/workspace";

/// The keys that say what an environment is built on.
pub(super) const BASES: [&str; 5] = ["base", "image", "build", "rootfs", "devcontainer"];

/// The environment that a section means.
pub(super) fn env(name: UnitName, section: EnvSection, document: &mut Document<'_>) -> Env {
    let place = steps!["env", name.as_str()];
    let key = |key: &str| [place.as_slice(), &[key.into()]].concat();
    only_one(&place, &BASES, document, |first, second| {
        Problem::new("two-bases", format!("`{name}` is built on two things: `{first}` and `{second}`"))
    });
    let given = BASES.into_iter().find(|base| document.has(&place, base));
    let base_at = document.key_location(&given.map_or(place.to_vec(), key));
    let base = match (section.image, section.build, section.rootfs, section.base) {
        _ if section.devcontainer.is_some() => {
            Base::DevContainer { file: section.devcontainer.map(|path| path.0).unwrap_or_default() }
        }
        (Some(image), ..) => Base::Image { reference: image.0 },
        (_, Some(entry), ..) => Base::Build { build: Box::new(build(entry, &key("build"), document)) },
        (_, _, Some(path), _) => Base::Rootfs { path: path.0 },
        (None, None, None, Some(BaseWord::Host) | None) => Base::Host,
    };
    let workspace = section.workspace.map_or_else(|| WORKSPACE.to_owned(), |path| path.0);
    if workspace == "/" {
        let problem = Problem::new("bad-path", "the project cannot appear at the root");
        document.at_value(&key("workspace"), problem.hint("a folder of its own, such as `/workspace`"));
    }
    if given.is_some_and(|base| base != "base") && !section.host_paths.is_empty() {
        let problem = Problem::new("misplaced-host-paths", "`host_paths` is for base `host` only")
            .why(format!("`{name}` has a base of its own, so nothing of the host's system is in it"))
            .hint("use `mounts`");
        document.at_key(&key("host_paths"), problem);
    }
    Env {
        at: document.key_location(&place),
        base,
        base_at,
        packs: packs(section.packs, &key("packs"), document),
        packs_on_start: section.packs_on_start,
        user: section.user.map(|user| user.0),
        env: variables(section.env, &key("env"), document),
        mounts: mounts(section.mounts, &workspace, &key("mounts"), document),
        workspace,
        host_paths: section.host_paths.into_iter().map(|path| path.0).collect(),
        ports: ports(&section.ports, section.network, &key("ports"), document),
        limits: limits(&section.limits, &key("limits"), document),
        network: section.network,
        hooks: hooks::hooks(&name, section.hooks, document),
        container: Container::default(),
        devcontainer: None,
        service: None,
        name,
    }
}

pub(super) fn build(entry: BuildEntry, place: &[Step], document: &mut Document<'_>) -> Build {
    let table = match entry {
        BuildEntry::Context(context) => return Build { context: context.0, ..Build::default() },
        BuildEntry::Table(table) => table,
    };
    let secrets = table.secrets.into_iter().filter_map(|(id, entry)| {
        let place = [place, &steps!["secrets", id.as_str()]].concat();
        let secret = build_secret(&id, entry, &place, document)?;
        Some((id, secret))
    });
    let secrets = secrets.collect();
    Build {
        context: table.context.0,
        dockerfile: table.dockerfile.map(|path| path.0),
        args: table.args.into_iter().map(|(name, value)| (name, Some(value))).collect(),
        target: table.target.map(|target| target.0),
        cache_from: table.cache_from.into_iter().map(|reference| reference.0).collect(),
        platform: table.platform.map(|platform| platform.0),
        secrets,
        ..Build::default()
    }
}

fn build_secret(
    id: &str,
    entry: BuildSecretEntry,
    place: &[Step],
    document: &mut Document<'_>,
) -> Option<BuildSecret> {
    let given = only_one(place, &["file", "env"], document, |first, second| {
        Problem::new("two-sources", format!("the secret `{id}` has two sources: `{first}` and `{second}`"))
    });
    if given == 0 && !document.lacks(place) {
        let problem = Problem::new("missing-source", format!("the secret `{id}` has no source"));
        document.at_key(place, problem.hint("say where its value comes from: `file` or `env`"));
    }
    match (entry.file, entry.env) {
        (Some(path), _) => Some(BuildSecret::File(path.0)),
        (None, Some(EnvName(name))) => Some(BuildSecret::Env(name)),
        (None, None) => None,
    }
}

/// Reports what an environment asks for, and the engine has not.
pub(super) fn check_engine(env: &Env, engine: EngineKind, document: &mut Document<'_>) {
    let place = steps![if env.is_service() { "service" } else { "env" }, env.name.as_str()];
    let key = |key: &str| [place.as_slice(), &[key.into()]].concat();
    let is_embedded = engine == EngineKind::Embedded;
    match &env.base {
        Base::Build { .. } if is_embedded => {
            let problem = Problem::new("needs-docker", "`build` needs Docker or Podman")
                .why("the embedded engine runs images, and does not build them")
                .hint(match env.is_service() {
                    true => "set `engine.default = \"docker\"`, or use `image`",
                    false => "set `engine.default = \"docker\"`, or use `image`, or base `host` with packs",
                });
            document.at_key(&key("build"), problem);
        }
        Base::Build { build } if !engine.has_build_secrets() && !build.secrets.is_empty() => {
            let problem = Problem::new("needs-docker", "`secrets` of a `build` need Docker")
                .why("they are given to BuildKit, and Podman builds without it")
                .hint("set `engine.default = \"docker\"`, or take `secrets` out");
            document.at_key(&[key("build").as_slice(), &["secrets".into()]].concat(), problem);
        }
        Base::Host if !is_embedded => {
            let what = format!(
                "`{}` is built on the host's own system, and the engine is {}",
                env.name,
                engine.as_str()
            );
            let problem = Problem::new("needs-embedded", what)
                .hint("name an `image`, a `build` or a `rootfs`, or leave `engine.default` out");
            let at = if document.has(&place, "base") { key("base") } else { place.to_vec() };
            document.at_key(&at, problem);
        }
        _ => {}
    }
}

fn packs(names: Vec<PackName>, place: &[Step], document: &mut Document<'_>) -> Vec<PackUse> {
    let mut packs: Vec<PackUse> = Vec::with_capacity(names.len());
    for (index, name) in names.into_iter().enumerate() {
        let place = [place, &[index.into()]].concat();
        if let Some(first) = packs.iter().find(|pack| pack.name == name) {
            let problem = duplicate(format!("the pack `{name}` is there twice"));
            document.at_value(&place, problem.why(format!("it is already at {}", first.at)));
        }
        packs.push(PackUse { at: document.value_location(&place), name });
    }
    packs
}

pub(super) fn mounts(
    entries: Vec<MountEntry>,
    workspace: &str,
    place: &[Step],
    document: &mut Document<'_>,
) -> Vec<MountDecl> {
    let mut mounts: BTreeMap<String, usize> = BTreeMap::new();
    let mut declared: Vec<MountDecl> = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        let target = entry.target.0;
        let target_place = [place, &[index.into(), "target".into()]].concat();
        if lies_in(workspace, &target) {
            let problem =
                Problem::new("hidden-workspace", format!("a mount at `{target}` hides the project"))
                    .why(format!("the project appears at `{workspace}`"))
                    .hint("mount it elsewhere, or within the workspace");
            document.at_value(&target_place, problem);
        }
        if let Some(first) = mounts.insert(target.clone(), index) {
            let problem = duplicate(format!("two mounts have the target `{target}`"));
            document.at_value(&target_place, problem.why(format!("the other is at {}", declared[first].at)));
        }
        let at = document.value_location(&[place, &[index.into()]].concat());
        declared.push(MountDecl { source: entry.source.0, target, read_only: entry.read_only, at });
    }
    declared
}

pub(super) fn ports(
    ports: &[Port],
    network: Network,
    place: &[Step],
    document: &mut Document<'_>,
) -> Vec<PortDecl> {
    if network == Network::None && !ports.is_empty() {
        let problem = Problem::new("ports-without-network", "there are `ports`, but no network")
            .hint("remove `ports`, or `network = \"none\"`");
        document.at_key(place, problem);
    }
    let mut declared: Vec<PortDecl> = Vec::with_capacity(ports.len());
    for (index, port) in ports.iter().enumerate() {
        let place = [place, &[index.into()]].concat();
        let mapped = port.outside.is_some() || port.address.is_some();
        if mapped && network != Network::Private {
            let problem = Problem::new(
                "needs-private-network",
                "mapped ports and bind addresses need `network = \"private\"`",
            )
            .why("an environment that has the network of the host has no ports to map")
            .hint(format!(
                "write `\"{}\"`, and choose the address where the program is started",
                port.inside
            ));
            document.at_value(&place, problem);
        } else if let Some(first) = declared.iter().find(|declared| declared.port == port.inside) {
            let problem = duplicate(format!("the port {} is there twice", port.inside));
            document.at_value(&place, problem.why(format!("it is already at {}", first.at)));
        }
        let at = document.value_location(&place);
        declared.push(PortDecl { port: port.inside, host: port.outside, address: port.address, at });
    }
    declared
}

pub(super) fn limits(section: &LimitsSection, place: &[Step], document: &mut Document<'_>) -> Limits {
    let key = |key: &str| [place, &[key.into()]].concat();
    let limit = |key: &str| {
        Problem::new("bad-number", format!("a limit of nothing: `{key}` must be more than 0"))
            .hint("leave it out for no limit")
    };
    if section.memory == Some(ByteSize(0)) {
        document.at_value(&key("memory"), limit("memory"));
    }
    if section.cpus.is_some_and(|cpus| cpus <= 0.0) {
        document.at_value(&key("cpus"), limit("cpus"));
    }
    Limits { memory: section.memory, cpus: section.cpus, pids: section.pids.map(Into::into) }
}
