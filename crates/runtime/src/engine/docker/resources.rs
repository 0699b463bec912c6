//! What containers share: networks and named volumes, made where they are not there.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::models::{Ipam, IpamConfig, MountPoint, NetworkCreateRequest, VolumeCreateRequest};
use bollard::query_parameters::{
    ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptions,
};
use setpoint_model::import::compose::{Network, Volume};

use super::client::Connected;
use super::error::DockerError;
use crate::engine::{EngineError, HeldVolume, UnitSpec};
use crate::random;

/// The project's folder that a network or volume was made for.
const PROJECT: &str = "dev.setpoint.project";

/// What tells a volume from a later one of its name.
const ID: &str = "dev.setpoint.volume";

/// The volume that a container is there to copy into.
pub(super) const COPY: &str = "dev.setpoint.copy";

/// Sees to it that the networks and volumes of a unit are there.
pub(super) fn ensure(connected: &Connected, spec: &UnitSpec) -> Result<(), EngineError> {
    let project = spec.labels.project_root.to_string_lossy().into_owned();
    for network in &spec.networks {
        ensure_network(connected, network, &project)?;
    }
    for volume in &spec.volumes {
        ensure_volume(connected, volume, &project)?;
    }
    Ok(())
}

fn labels(own: &std::collections::BTreeMap<String, String>, project: &str) -> HashMap<String, String> {
    let mut labels: HashMap<String, String> = own.clone().into_iter().collect();
    labels.insert(PROJECT.to_owned(), project.to_owned());
    labels
}

fn ensure_network(connected: &Connected, network: &Network, project: &str) -> Result<(), EngineError> {
    let what = "make a network";
    let found = connected.find(what, connected.api.inspect_network(&network.name, None))?;
    if found.is_some() {
        return Ok(());
    }
    if network.external {
        let why = format!("there is no network `{}`, which is declared as external", network.name);
        return Err(DockerError::Refused { what: "join a network", why }.into());
    }
    let pools: Vec<IpamConfig> = network
        .pools
        .iter()
        .map(|pool| IpamConfig {
            subnet: pool.subnet.clone(),
            ip_range: pool.ip_range.clone(),
            gateway: pool.gateway.clone(),
            ..IpamConfig::default()
        })
        .collect();
    let request = NetworkCreateRequest {
        name: network.name.clone(),
        driver: network.driver.clone(),
        internal: Some(network.internal),
        attachable: Some(network.attachable),
        enable_ipv6: network.enable_ipv6.then_some(true),
        ipam: (!pools.is_empty()).then(|| Ipam { config: Some(pools), ..Ipam::default() }),
        options: Some(network.driver_opts.clone().into_iter().collect()),
        labels: Some(labels(&network.labels, project)),
        ..NetworkCreateRequest::default()
    };
    let made = connected.quick(what, connected.api.create_network(request))?.id;
    // Names of networks are not unique to the engine: of two that were made at once, the older one stays.
    let filters = HashMap::from([("name", vec![network.name.as_str()])]);
    let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
    let all = connected.quick(what, connected.api.list_networks(Some(options)))?;
    let same = all.into_iter().filter(|one| one.name.as_deref() == Some(&network.name));
    let oldest =
        same.min_by_key(|one| (one.created.map(|at| at.to_string()), one.id.clone())).and_then(|one| one.id);
    if oldest.is_some_and(|oldest| oldest != made) {
        connected.find(what, connected.api.remove_network(&made))?;
    }
    Ok(())
}

fn ensure_volume(connected: &Connected, volume: &Volume, project: &str) -> Result<(), EngineError> {
    let what = "make a volume";
    if connected.find(what, connected.api.inspect_volume(&volume.name))?.is_some() {
        return Ok(());
    }
    if volume.external {
        let why = format!("there is no volume `{}`, which is declared as external", volume.name);
        return Err(DockerError::Refused { what: "mount a volume", why }.into());
    }
    make_volume(connected, volume, project, &random::hex())
}

/// Makes a volume as it is declared, with what tells its data from other data of its name.
pub(super) fn make_volume(
    connected: &Connected,
    volume: &Volume,
    project: &str,
    id: &str,
) -> Result<(), EngineError> {
    let labels = labels(&volume.labels, project).into_iter().chain([(ID.to_owned(), id.to_owned())]);
    let request = VolumeCreateRequest {
        name: Some(volume.name.clone()),
        driver: volume.driver.clone(),
        driver_opts: Some(volume.driver_opts.clone().into_iter().collect()),
        labels: Some(labels.collect()),
        ..VolumeCreateRequest::default()
    };
    connected.quick("make a volume", connected.api.create_volume(request))?;
    Ok(())
}

/// Removes those of these networks that were made here and that nobody is in any more, nor will be when it is started:
/// what is stopped, or set aside, knows its network by an id that no other one would have.
pub(super) fn remove_networks(connected: &Connected, names: &[String]) -> Result<(), EngineError> {
    let what = "remove a network";
    for name in names {
        let Some(found) = connected.find(what, connected.api.inspect_network(name, None))? else { continue };
        let ours = found.labels.is_some_and(|labels| labels.contains_key(PROJECT));
        let filters = HashMap::from([("network", vec![name.as_str()])]);
        let stopped = connected.containers(what, &filters)?;
        if ours && stopped.is_empty() && found.containers.is_none_or(|containers| containers.is_empty()) {
            // Somebody may have joined it since; then it stays.
            let _ = connected.find(what, connected.api.remove_network(name));
        }
    }
    Ok(())
}

/// A volume among the mounts of a container. One that nobody named has the name that the engine made up: 64 digits.
pub(super) fn held(mount: MountPoint) -> Option<HeldVolume> {
    const MADE_UP: usize = 64;
    let name = mount.name.filter(|_| mount.typ.as_deref() == Some("volume"))?;
    let is_made_up = name.len() == MADE_UP && name.chars().all(|c| c.is_ascii_hexdigit());
    Some(HeldVolume { name: Some(name).filter(|_| !is_made_up), target: mount.destination?.into() })
}

/// The labels of a copy of a volume: its own, and what tells its data from other data of its name.
pub(super) fn labels_of_copy(
    connected: &Connected,
    found: &bollard::models::Volume,
) -> Result<HashMap<String, String>, EngineError> {
    let mut labels = found.labels.clone();
    let ids = volume_ids(connected, std::slice::from_ref(&found.name))?;
    labels.extend(ids.into_values().map(|id| (ID.to_owned(), id)));
    Ok(labels)
}

/// The volumes that were made for a project.
pub(super) fn volumes(connected: &Connected, project: &Path) -> Result<Vec<String>, EngineError> {
    let label = format!("{PROJECT}={}", project.display());
    let found = connected.volumes("list volumes", &HashMap::from([("label", vec![label.as_str()])]))?;
    let mut names: Vec<String> = found.into_iter().map(|volume| volume.name).collect();
    names.sort();
    Ok(names)
}

/// What tells each of these volumes from a later one of its name: what it was given here, or when it was made.
pub(super) fn volume_ids(
    connected: &Connected,
    names: &[String],
) -> Result<BTreeMap<String, String>, EngineError> {
    let mut ids = BTreeMap::new();
    for name in names {
        let found = connected.find("look at a volume", connected.api.inspect_volume(name))?;
        let Some(found) = found else { continue };
        let made = || found.created_at.map(|at| at.to_string()).unwrap_or_default();
        ids.insert(name.clone(), found.labels.get(ID).cloned().unwrap_or_else(made));
    }
    Ok(ids)
}

/// Where the data of each of these volumes lies that are there, as far as it can be seen from here.
pub(super) fn volume_folders(
    connected: &Connected,
    names: &[String],
) -> Result<BTreeMap<String, PathBuf>, EngineError> {
    let mut folders = BTreeMap::new();
    for name in names {
        let found = connected.find("look at a volume", connected.api.inspect_volume(name))?;
        let folder = found.map(|found| PathBuf::from(found.mountpoint)).filter(|folder| folder.is_dir());
        folders.extend(folder.map(|folder| (name.clone(), folder)));
    }
    Ok(folders)
}

/// How often a volume is tried to be removed that is still in use, and how long between.
const LETS_GO: u32 = 10;
const LOOK: Duration = Duration::from_millis(50);

/// Removes the containers that are there to copy into this volume.
pub(super) fn forget_copies(connected: &Connected, volume: &str) -> Result<(), EngineError> {
    let what = "end the copying of a volume";
    let label = format!("{COPY}={volume}");
    let found = connected.containers(what, &HashMap::from([("label", vec![label.as_str()])]))?;
    for id in found.into_iter().filter_map(|one| one.id) {
        let options = RemoveContainerOptionsBuilder::default().force(true).build();
        connected.find(what, connected.api.remove_container(&id, Some(options)))?;
    }
    Ok(())
}

/// Removes a volume with all that is in it, also one that somebody died copying into.
pub(super) fn remove_volume(connected: &Connected, name: &str) -> Result<(), EngineError> {
    forget_copies(connected, name)?;
    let mut tries = 0;
    loop {
        let options = None::<RemoveVolumeOptions>;
        match connected.find("remove a volume", connected.api.remove_volume(name, options)) {
            // It may take the engine a moment to let go of a container that is gone.
            Err(_) if tries < LETS_GO => std::thread::sleep(LOOK),
            removed => return Ok(removed.map(drop)?),
        }
        tries += 1;
    }
}
