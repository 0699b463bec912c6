//! Instances of a new version that stand beside the old ones, and answer while those are replaced: what takes long to get
//! well keeps nobody waiting.

use std::collections::{BTreeMap, BTreeSet};

use super::upgrade::{Kind, Upgrade};
use crate::capabilities::Capabilities;
use crate::container::{Attachment, HealthTest, MountSource, NetworkMode};
use crate::import::compose::RestartPolicy;
use crate::manifest::Env;
use crate::names::UnitName;
use crate::pipeline::services::shared;

/// Says of each unit of a change whether an instance of the new version stands in for it. `envs` is what is declared, by name;
/// `fits` are those whose ports are held now, and are the same afterwards, in the same networks.
pub fn assign(
    upgrade: &mut Upgrade,
    envs: &BTreeMap<&UnitName, &Env>,
    fits: &BTreeSet<&UnitName>,
    capabilities: &Capabilities,
) {
    let chosen = chosen(upgrade, envs, fits, capabilities);
    for part in &mut upgrade.parts {
        part.stands_in = chosen.contains(&part.unit);
    }
}

fn chosen(
    upgrade: &Upgrade,
    envs: &BTreeMap<&UnitName, &Env>,
    fits: &BTreeSet<&UnitName>,
    capabilities: &Capabilities,
) -> BTreeSet<UnitName> {
    let parts: BTreeSet<&UnitName> = upgrade.parts.iter().map(|part| &part.unit).collect();
    let is_chosen = |unit: &&&UnitName| {
        let may = envs.get(*unit).is_some_and(|env| may_stand_beside(env, capabilities));
        let shares = |env: &&Env| matches!(&env.container.network, Some(NetworkMode::Unit(other)) if other == unit.as_str());
        // It would be without what it depends on, while that is replaced, and without who listens in its network.
        may && fits.contains(*unit)
            && !envs.values().any(shares)
            && upgrade.admits(unit)
            && depended_on(unit, envs).is_disjoint(&parts)
    };
    let chosen: BTreeSet<UnitName> = match upgrade.kind {
        Kind::Upgrade => parts.iter().filter(is_chosen).map(|unit| (*unit).clone()).collect(),
        // What is put back cannot be made a second time.
        Kind::Rollback | Kind::Restore => BTreeSet::new(),
    };
    // The data is migrated before an instance of the new version is on it, so in none that has to stand in the old one's place.
    let is_migrated_in_place = upgrade
        .migrations
        .iter()
        .filter(|planned| planned.leads_there())
        .filter_map(|planned| planned.unit.as_ref())
        .any(|unit| parts.contains(unit) && !chosen.contains(unit));
    if is_migrated_in_place || upgrade.starts_again() { BTreeSet::new() } else { chosen }
}

/// All that a unit depends on, and what that does.
fn depended_on<'a>(unit: &UnitName, envs: &BTreeMap<&'a UnitName, &'a Env>) -> BTreeSet<&'a UnitName> {
    let of = |unit: &UnitName| {
        let service = envs.get(unit).and_then(|env| env.service.as_ref());
        service.into_iter().flat_map(|of| of.depends_on.keys()).collect::<Vec<_>>()
    };
    let (mut found, mut left) = (BTreeSet::new(), of(unit));
    while let Some(next) = left.pop() {
        if found.insert(next) {
            left.extend(of(next));
        }
    }
    found
}

/// Whether two instances of a service can be there at once, and it can be told when the second one is well.
fn may_stand_beside(env: &Env, capabilities: &Capabilities) -> bool {
    let Some(of) = env.service.as_ref().filter(|of| env.is_service() && !of.completes) else { return false };
    let is_reached = !env.container.ports.is_empty() && capabilities.holds_ports(env);
    let test = env.container.health.as_ref().and_then(|health| health.test.as_ref());
    let is_asked = test.is_some_and(|test| *test != HealthTest::Off);
    let writes = env.mounts.iter().any(|mount| !mount.read_only)
        || env
            .container
            .mounts
            .iter()
            .any(|mount| matches!(mount.source, MountSource::Bind { .. }) && !mount.read_only);
    let is_one_of_a_kind = match &env.container.network {
        Some(NetworkMode::Networks(networks)) => networks.values().any(has_own_address),
        _ => false,
    };
    // What is done once for each instance would be left out, or be done for one that goes.
    let is_plain = of.volumes.is_empty() && of.first_boot.is_empty() && shared(env, of).is_none();
    is_reached && is_asked && is_plain && !writes && !is_one_of_a_kind
}

fn has_own_address(attachment: &Attachment) -> bool {
    attachment.ipv4.is_some() || attachment.ipv6.is_some() || attachment.mac.is_some()
}

/// A service as the instance that stands in for it: nobody else finds it by its names, and it ends with what it is there for.
#[must_use]
pub fn beside(env: &Env) -> Env {
    let mut env = env.clone();
    if let Some(NetworkMode::Networks(networks)) = &mut env.container.network {
        for attachment in networks.values_mut() {
            attachment.aliases.clear();
            attachment.is_unnamed = true;
        }
    }
    if let Some(of) = &mut env.service {
        of.restart = RestartPolicy::No;
    }
    env
}
