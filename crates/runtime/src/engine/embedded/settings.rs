//! Which settings of a container this engine has.

use setpoint_model::container::{Container, MountSource, NetworkMode};
use setpoint_model::import::compose::Volume;
use setpoint_model::manifest::Limits;
use setpoint_sandbox as sandbox;

use super::{first, networks, unsupported, volumes};
use crate::engine::{EngineError, UnitSpec};

/// What [`Container::settings`] calls those that are kept, or that are so anyway: the first process always reaps.
const KEPT: [&str; 18] = [
    "command",
    "entrypoint",
    "env",
    "extra_hosts",
    "health",
    "hostname",
    "init",
    "labels",
    "mounts",
    "network",
    "ports",
    "resources cpus",
    "resources memory",
    "resources pids",
    "stop_grace",
    "stop_signal",
    "user",
    "working_dir",
];

pub(super) const HINT: &str = "take it out, or set `engine.default = \"docker\"`";

/// Says by name what of a unit this engine does not have.
pub(super) fn check(spec: &UnitSpec) -> Result<(), EngineError> {
    let settings = &spec.container;
    check_network(spec)?;
    let is_kept = |name: &str| {
        KEPT.iter()
            .any(|kept| name.strip_prefix(kept).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')))
    };
    if let Some((name, value)) = settings.settings().into_iter().find(|(name, _)| !is_kept(name)) {
        return Err(unsupported(&format!("the setting `{name}` ({value})"), HINT));
    }
    if !spec.entrypoints.is_empty() {
        return Err(unsupported("scripts that run before the first process", HINT));
    }
    if let Some(name) = settings.stop_signal.as_ref().filter(|name| first::signal(name).is_none()) {
        return Err(first::not_a_signal(name));
    }
    settings.mounts.iter().try_for_each(|mount| check_mount(&mount.target, &mount.source))?;
    spec.volumes.iter().try_for_each(check_volume)
}

fn check_mount(target: &str, source: &MountSource) -> Result<(), EngineError> {
    let refuse = |what: String| Err(unsupported(&format!("mounting on {target}: {what}"), HINT));
    match source {
        MountSource::Bind { propagation: Some(way), .. } => refuse(format!("the propagation `{way}`")),
        MountSource::Volume { subpath: Some(path), .. } => refuse(format!("the folder {path} of a volume")),
        MountSource::Volume { name: Some(name), .. } if !volumes::is_name(name) => {
            refuse(format!("`{name}` is no name of a volume"))
        }
        MountSource::Tmpfs { options, .. } if !options.is_empty() => {
            refuse(format!("the options `{}` of memory", options.join(",")))
        }
        _ => Ok(()),
    }
}

fn check_volume(volume: &Volume) -> Result<(), EngineError> {
    match &volume.driver {
        Some(driver) if driver != "local" => {
            Err(unsupported(&format!("the volume {}: the driver `{driver}`", volume.name), HINT))
        }
        _ if !volume.driver_opts.is_empty() => {
            Err(unsupported(&format!("the volume {}: options of its driver", volume.name), HINT))
        }
        _ => Ok(()),
    }
}

/// Says by name what of a unit's network this engine does not have.
fn check_network(spec: &UnitSpec) -> Result<(), EngineError> {
    if networks::has_own(spec) {
        return networks::check(spec);
    }
    if let Some(port) = spec.container.ports.first() {
        // The port inside is the host's already, or there is none.
        let what = format!("publishing the port {} without a network of its own", port.container);
        return Err(unsupported(&what, "take `ports` out, or the setting that gives it another network"));
    }
    match &spec.container.network {
        Some(NetworkMode::Container(_)) => Err(unsupported("the network of a container", HINT)),
        Some(NetworkMode::Unit(_)) if sandbox::is_rootless() => Err(unsupported(
            "the network of another unit, without the rights of root",
            "run setpoint as root",
        )),
        Some(NetworkMode::Unit(_)) if !spec.container.extra_hosts.is_empty() => {
            Err(unsupported("`extra_hosts` in the network of another unit", "declare them for that one"))
        }
        _ => Ok(()),
    }
}

/// What a unit may use: as it is declared for the unit, else among its container's settings.
pub(super) fn limits(limits: &Limits, settings: &Container) -> sandbox::Limits {
    let resources = &settings.resources;
    sandbox::Limits {
        memory: limits.memory.or(resources.memory).map(|size| size.0),
        cpus: limits.cpus.or(resources.cpus),
        // Less than none is no limit.
        pids: limits.pids.or(resources.pids.and_then(|pids| u64::try_from(pids).ok())),
    }
}
