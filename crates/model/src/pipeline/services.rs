//! The services of a step: which they are, what an instance of its own is, and what of them is in the step's key.

use std::collections::{BTreeMap, BTreeSet};

use crate::capabilities::Capabilities;
use crate::container::{Attachment, MountSource, NetworkMode};
use crate::desired::{Facts, FileDigest, desired};
use crate::digest::Encoder;
use crate::fingerprint::{Class, FORMAT, Fingerprint, Leaf, LeafKey};
use crate::import::compose::{Network, RestartPolicy, Volume};
use crate::manifest::{Act, Base, Env, Limits, OfService, Problem, nearest};
use crate::names::UnitName;

/// The services that these names mean, and those that they depend on, each after what it depends on.
///
/// # Errors
/// The first name, by its place, of a service that is not there or cannot have an instance of its own, and why.
pub fn needed<'a>(
    named: &[UnitName],
    units: &'a BTreeMap<UnitName, Env>,
) -> Result<Vec<&'a Env>, (usize, Problem)> {
    let mut ordered: Vec<&Env> = Vec::new();
    for (item, name) in named.iter().enumerate() {
        // Each comes twice: when it is met, and when all that it depends on is in its place.
        let mut left = vec![(name, false)];
        let mut met = BTreeSet::new();
        while let Some((name, is_ready)) = left.pop() {
            let Some(env) = units.get(name) else { return Err((item, unknown(name, units))) };
            let Some(of) = env.service.as_ref().filter(|_| env.is_service()) else {
                return Err((item, no_service(name)));
            };
            if let Some(shared) = shared(env, of) {
                return Err((item, not_alone(name, &shared)));
            }
            if ordered.iter().any(|known| known.name == *name) {
                continue;
            }
            if is_ready {
                ordered.push(env);
            } else if met.insert(name) {
                left.push((name, true));
                left.extend(
                    of.depends_on
                        .keys()
                        .filter(|other| units.contains_key(other))
                        .map(|other| (other, false)),
                );
            }
        }
    }
    Ok(ordered)
}

fn unknown(name: &UnitName, units: &BTreeMap<UnitName, Env>) -> Problem {
    let services = units.values().filter(|env| env.is_service()).map(|env| env.name.as_str());
    let hint = match nearest(name.as_str(), services) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("declare it as `[service.{name}]`"),
    };
    Problem::new("unknown-unit", format!("there is no service `{name}`")).hint(hint)
}

fn no_service(name: &UnitName) -> Problem {
    Problem::new("unknown-unit", format!("`{name}` is an environment, and no service"))
        .hint("name a `[service.NAME]`")
}

fn not_alone(name: &UnitName, shared: &str) -> Problem {
    Problem::new("shared-service", format!("`{name}` cannot have an instance of its own for a step"))
        .why(format!("{shared}, which every instance would share"))
        .hint(format!("declare another service for steps, or take `{name}` out"))
}

/// What a service has that all instances of it would have in common.
pub(crate) fn shared(env: &Env, of: &OfService) -> Option<String> {
    let container = &env.container;
    match &container.network {
        None | Some(NetworkMode::Networks(_)) => {}
        Some(NetworkMode::Host) => return Some("it is in the host's network".to_owned()),
        Some(NetworkMode::None) => {
            return Some("it is in no network, in which no step could reach it".to_owned());
        }
        Some(NetworkMode::Unit(other) | NetworkMode::Container(other)) => {
            return Some(format!("it is in the network of `{other}`"));
        }
    }
    if let Some(network) = of.networks.iter().find(|network| network.external) {
        return Some(format!("it is in the network `{}`, which is others'", network.name));
    }
    let is_others =
        |volume: &&Volume| volume.external || volume.driver.is_some() || !volume.driver_opts.is_empty();
    if let Some(volume) = of.volumes.iter().find(is_others) {
        return Some(format!("it has the volume `{}`, which is others'", volume.name));
    }
    let spaces = [("ipc", &container.ipc), ("pid", &container.pid)];
    let mut of_units = spaces.iter().filter(|(_, mode)| mode.as_ref().is_some_and(|mode| mode.contains(':')));
    if let Some((space, _)) = of_units.next() {
        return Some(format!("its `{space}` is that of another unit"));
    }
    let on_host = of.first_boot.iter().find(|step| matches!(step.act, Act::Host { .. }));
    on_host.map(|step| format!("`{}` of its first boot runs on the host", step.name))
}

/// A service as an instance of its own, all of whose volumes and whose network are called after `tag`: with no port
/// on the host, not started again, and with nothing of the host that it could write to. All instances of one tag are
/// in one network; nothing leads out of it if it is `closed`.
#[must_use]
pub fn isolated(env: &Env, tag: &str, closed: bool) -> Env {
    let mut env = env.clone();
    let network = network(tag);
    let mut aliases = BTreeSet::from([env.name.to_string()]);
    if let Some(NetworkMode::Networks(networks)) = env.container.network.take() {
        aliases.extend(networks.into_values().flat_map(|attachment| attachment.aliases));
    }
    let attachment = Attachment { aliases, ..Attachment::default() };
    env.container.network = Some(NetworkMode::Networks(BTreeMap::from([(network.clone(), attachment)])));
    env.container.ports.clear();
    env.ports.clear();
    env.mounts.iter_mut().for_each(|mount| mount.read_only = true);
    for mount in &mut env.container.mounts {
        match &mut mount.source {
            MountSource::Bind { .. } => mount.read_only = true,
            MountSource::Volume { name: Some(name), .. } => *name = volume(tag, name),
            _ => {}
        }
    }
    if let Some(of) = &mut env.service {
        of.restart = RestartPolicy::No;
        of.networks = vec![Network { name: network, internal: closed, ..Network::default() }];
        of.volumes.iter_mut().for_each(|of| of.name = volume(tag, &of.name));
    }
    env
}

/// What the network of the instances of a tag is called.
#[must_use]
pub fn network(tag: &str) -> String {
    format!("{tag}_services")
}

/// What a volume of the instances of a tag is called that is declared by this name.
#[must_use]
pub fn volume(tag: &str, name: &str) -> String {
    format!("{tag}_{name}")
}

/// What a service is to a step: all that an instance of its own is made of, as leaves of the step's key. How it is
/// looked after (health, limits, how it is stopped) is not in it, nor are the values of secrets. `mounts` is what is
/// seen of the host.
#[must_use]
pub fn leaves(env: &Env, facts: &Facts, capabilities: &Capabilities, mounts: &[FileDigest]) -> Fingerprint {
    let mut env = isolated(env, "step", false);
    env.limits = Limits::default();
    env.container.resources = Default::default();
    env.container.health = None;
    env.container.stop_signal = None;
    env.container.stop_grace = None;
    env.container.logging = None;
    let mut facts = facts.clone();
    facts.secrets.clear();
    // An image that is built is known by what it is built from, wherever that was done.
    if matches!(env.base, Base::Build { .. }) {
        facts.base_digest = None;
    }
    let prefix = format!("service.{}.", env.name);
    let mut leaves = Fingerprint::default();
    for (key, leaf) in desired(&env, &facts, capabilities).fingerprint.iter() {
        let path = key.path.strip_prefix(&prefix).unwrap_or(&key.path);
        match (path, &facts.base_digest) {
            // The engine is in the key of the step, and who runs it is another leaf.
            ("engine" | "restart" | "user", _) => {}
            // That of the step's own.
            ("network", _) => {}
            (path, _) if path.starts_with("network step_") => {}
            // An image is what its digest says, whatever it is called.
            ("base" | "image file", Some(_)) => {}
            ("base digest", Some(digest)) => {
                let shown = match &env.base {
                    Base::Image { reference } => format!("{reference} ({digest})"),
                    _ => digest.clone(),
                };
                leaves.insert(LeafKey::new("image"), Leaf { shown: Some(shown), ..leaf.clone() });
            }
            _ => {
                leaves.insert(LeafKey { path: path.to_owned(), owner: key.owner.clone() }, leaf.clone());
            }
        }
    }
    for file in mounts {
        let key = LeafKey::owned(file.path.clone(), "mounts");
        leaves.insert(key, Leaf { class: Class::Recreate, digest: file.digest, shown: None });
    }
    for step in env.service.iter().flat_map(|of| &of.first_boot) {
        let mut encoder = Encoder::new("setpoint.key.first_boot", FORMAT);
        let user = match &step.act {
            Act::Run { user, .. } => user.as_deref(),
            Act::Host { .. } | Act::Wait { .. } | Act::Owner { .. } => None,
        };
        // What is asked, and not run, is told by what it is written as.
        let argv = step.act.argv();
        encoder.option(user).text(&step.act.shown()).list(argv.len());
        argv.iter().for_each(|word| {
            encoder.text(word);
        });
        let leaf = Leaf { class: Class::Recreate, digest: encoder.finish(), shown: Some(step.act.shown()) };
        leaves.insert(LeafKey::new(format!("first_boot {}", step.name)), leaf);
    }
    leaves
}

#[cfg(test)]
#[path = "services_tests.rs"]
mod tests;
