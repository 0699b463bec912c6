//! What runs, in the words of a declaration: what somebody else made is compared with what is declared by the leaves that
//! a declaration of it would have.

mod mounts;
mod settings;

use std::collections::{BTreeMap, BTreeSet};

use crate::capabilities::Capabilities;
use crate::container::{Attachment, Container, NetworkMode, PublishedPort};
use crate::desired::{Facts, desired};
use crate::fingerprint::{Class, Fingerprint, LeafKey};
use crate::import::compose::{RestartPolicy, Stored};
use crate::manifest::{Base, Env, EnvValue, FileSource, Network};
pub use mounts::is_nameless;

/// A container that somebody else made, as its engine tells of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Running {
    /// All settings that it has. Sources of mounts are absolute paths.
    pub container: Container,
    /// What its image gives to every container: its command, variables, user, check, labels, and its volumes, which
    /// have no names.
    pub image: Container,
    /// What its image was called when it was made.
    pub image_reference: String,
    /// The digest of its image, as the engine tells that of a base.
    pub image_digest: String,
    /// When the engine starts it again by itself.
    pub restart: RestartPolicy,
    /// What it is called on the engine, by which others find it in its networks without a further name.
    pub names: BTreeSet<String>,
    /// Settings that the engine makes where nobody asks for them: such a one tells nothing if it is not declared.
    pub by_itself: &'static [&'static str],
    /// Settings that the engine does not tell: they are taken to be as declared.
    pub untold: &'static [&'static str],
    /// What it has that no declaration can ask for, by name, with its value.
    pub beyond: Vec<(String, String)>,
}

/// Where the paths of a declaration lead on the host.
pub struct Paths<'a> {
    /// The project's folder.
    pub root: String,
    /// A declared path in full.
    pub absolute: &'a dyn Fn(&str) -> String,
}

/// The leaves of what runs: those of the declaration, wherever it runs so. Phases have none, since nobody knows what
/// ran in it, and neither have the files that an image was built from, unless it is the image that they give.
#[must_use]
pub fn leaves(
    env: &Env,
    facts: &Facts,
    capabilities: &Capabilities,
    running: &Running,
    paths: &Paths<'_>,
) -> Fingerprint {
    let same_image = facts.base_digest.as_deref() == Some(running.image_digest.as_str());
    let as_it_runs = as_it_runs(env, running, paths, same_image);
    let facts = Facts {
        base_digest: Some(running.image_digest.clone()),
        user: if env.is_service() { as_it_runs.user.clone().unwrap_or_default() } else { facts.user.clone() },
        files: facts.files.iter().filter(|file| is_mounted(&as_it_runs, &file.path)).cloned().collect(),
        // What was made of templates and secrets, nobody can tell.
        templates: Default::default(),
        version: None,
        secrets: Default::default(),
        ..facts.clone()
    };
    let whole = desired(&as_it_runs, &facts, capabilities).fingerprint;
    let is_told = |key: &LeafKey, class: Class| match class {
        Class::Hook(_) | Class::Packs => false,
        Class::Rebuild => same_image,
        _ => !(as_it_runs.workspace.is_empty() && key.path.ends_with(".workspace")),
    };
    let told = whole.iter().filter(|(key, leaf)| is_told(key, leaf.class));
    let mut leaves: Fingerprint = told.map(|(key, leaf)| (key.clone(), leaf.clone())).collect();
    let kind = if env.is_service() { "service" } else { "env" };
    for (name, value) in &running.beyond {
        leaves.insert_value(format!("{kind}.{}.{name}", env.name), Class::Recreate, value);
    }
    // They are in the open, where the engine shows them to whoever asks.
    for (name, _) in env.env.iter().filter(|(name, value)| {
        env.is_service() && value.secrets().next().is_some() && running.container.env.contains_key(*name)
    }) {
        let path = format!("{kind}.{}.env.{name}", env.name);
        leaves.insert_value(path, capabilities.container, "in the open");
    }
    leaves
}

/// Whether a file of the host that is put into a service is there, by the name that facts have for it.
fn is_mounted(env: &Env, path: &str) -> bool {
    env.service.iter().flat_map(|of| &of.files).any(|file| match &file.source {
        FileSource::Stored(Stored::File(source)) => path == format!("{} ({source})", file.name),
        _ => false,
    })
}

/// The declaration of what runs: as it is declared, but for what runs otherwise.
fn as_it_runs(env: &Env, running: &Running, paths: &Paths<'_>, same_image: bool) -> Env {
    let mut as_it_runs = env.clone();
    if !same_image {
        as_it_runs.base = base(&env.base, &running.image_reference);
    }
    // Of an environment, the first process is nobody's concern.
    let of_its_own = env.is_service() || env.devcontainer.as_ref().is_some_and(|of| of.keeps_command);
    as_it_runs.container = settings::merged(env, running, of_its_own);
    mounts::merge(&mut as_it_runs, running, paths);
    ports(&mut as_it_runs, env, &running.container.ports);
    network(&mut as_it_runs, env, running);
    settings::limits(&mut as_it_runs, env, running);
    if env.is_service() {
        as_it_runs.user = Some(as_it_runs.container.user.clone().unwrap_or_default());
    }
    as_it_runs.env.retain(|_, value: &mut EnvValue| value.secrets().next().is_none());
    as_it_runs
}

/// What it runs on, where that is another image than the declared one.
fn base(declared: &Base, reference: &str) -> Base {
    match declared {
        Base::Build { .. } | Base::Features { .. } => declared.clone(),
        Base::Image { reference: own } if whole(own) == whole(reference) => declared.clone(),
        _ => Base::Image { reference: reference.to_owned() },
    }
}

/// A reference with all that engines add to it by themselves.
fn whole(reference: &str) -> String {
    let short = ["docker.io/library/", "docker.io/", "localhost/"]
        .iter()
        .find_map(|prefix| reference.strip_prefix(prefix))
        .unwrap_or(reference);
    let has_tag = short.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    if has_tag { short.to_owned() } else { format!("{short}:latest") }
}

/// Ports that are published otherwise than they are declared.
fn ports(as_it_runs: &mut Env, env: &Env, running: &[PublishedPort]) {
    let mut left: Vec<PublishedPort> = running.iter().map(usual_address).collect();
    let mut take = |declared: &PublishedPort| {
        let declared = usual_address(declared);
        let fits = |port: &PublishedPort| {
            let any_host = PublishedPort { host: port.host, ..declared.clone() };
            *port == declared || (declared.host.is_none() && *port == any_host)
        };
        left.iter().position(fits).map(|at| left.remove(at)).is_some()
    };
    if env.service.is_none() && env.network == Network::Private {
        as_it_runs.ports.retain(|port| {
            let address = port.address.map_or_else(|| "127.0.0.1".to_owned(), |address| address.to_string());
            let (address, host) = (Some(address), Some(port.host.unwrap_or(port.port)));
            take(&PublishedPort { container: port.port, protocol: "tcp".to_owned(), address, host })
        });
    }
    as_it_runs.container.ports = env.container.ports.iter().filter(|port| take(port)).cloned().collect();
    as_it_runs.container.ports.extend(left);
}

fn usual_address(port: &PublishedPort) -> PublishedPort {
    let everywhere = matches!(port.address.as_deref(), Some("" | "0.0.0.0"));
    let address = port.address.clone().filter(|_| !everywhere);
    PublishedPort { address, host: port.host.filter(|host| *host != 0), ..port.clone() }
}

/// Networks by their names on the engine, and how it is in each.
type Attachments = BTreeMap<String, Attachment>;

/// The networks that it is in, where these are others than the declared ones.
fn network(as_it_runs: &mut Env, env: &Env, running: &Running) {
    let runs = running.container.network.as_ref();
    match (&env.container.network, runs) {
        (Some(NetworkMode::Networks(declared)), Some(NetworkMode::Networks(runs)))
            if same_networks(env, declared, runs, &running.names) => {}
        (Some(declared), Some(runs)) if declared == runs => {}
        // What the declaration leaves to the setting of environments.
        (None, Some(NetworkMode::Host)) => as_it_runs.network = Network::Host,
        (None, Some(NetworkMode::None)) => as_it_runs.network = Network::None,
        (None, Some(NetworkMode::Networks(runs))) => {
            as_it_runs.network = Network::Private;
            let usual = |name: &String| matches!(name.as_str(), "bridge" | "podman" | "default");
            if !runs.keys().all(usual) {
                as_it_runs.container.network = running.container.network.clone();
            }
        }
        (_, runs) => as_it_runs.container.network = runs.cloned(),
    }
    if let Some(of) = &mut as_it_runs.service {
        let is_in = |name: &String| matches!(runs, Some(NetworkMode::Networks(networks)) if networks.contains_key(name));
        of.networks.retain(|network| is_in(&network.name));
    }
}

/// Whether these are the same networks, in which it has the same names and addresses.
fn same_networks(env: &Env, declared: &Attachments, runs: &Attachments, own: &BTreeSet<String>) -> bool {
    let called = env.service.as_ref().map(|of| of.called.as_str());
    // By its own names, and by what its file calls it, it is found without being asked.
    let is_own = |alias: &String| own.contains(alias) || Some(alias.as_str()) == called;
    let same_names = |declared: &Attachment, runs: &Attachment| {
        declared.aliases.iter().all(|alias| runs.aliases.contains(alias) || own.contains(alias))
            && runs.aliases.iter().all(|alias| declared.aliases.contains(alias) || is_own(alias))
    };
    let same = |declared: &Attachment, runs: &Attachment| {
        same_names(declared, runs) && fits(&declared.ipv4, &runs.ipv4) && fits(&declared.ipv6, &runs.ipv6)
    };
    declared.len() == runs.len()
        && declared.iter().all(|(name, declared)| runs.get(name).is_some_and(|runs| same(declared, runs)))
}

/// An address that is declared is the one that it has; one that nobody declares is the engine's choice.
fn fits(declared: &Option<String>, runs: &Option<String>) -> bool {
    declared.is_none() || declared == runs
}

#[cfg(test)]
mod tests;
