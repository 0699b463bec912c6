//! From a unit's specification to what the API is sent.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, DeviceMapping, DeviceRequest, EndpointIpamConfig,
    EndpointSettings, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount,
    MountBindOptions, MountBindOptionsPropagationEnum, MountTmpfsOptions, MountType, MountVolumeOptions,
    NetworkingConfig, PortBinding, ResourcesUlimits,
};
use setpoint_model::container::{
    Attachment, Container, ContainerMount, Health, HealthTest, MountSource, NetworkMode,
};
use setpoint_model::manifest::{Limits, Network};

use super::labels;
use crate::engine::{EngineError, FirstProcess, UnitId, UnitSpec};

/// Stays until it is asked to end, and lets what is left behind end in peace.
const IDLE: &str = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done";

/// What the engine knows the container of another unit by, by the unit's id.
type Others<'a> = &'a dyn Fn(&str) -> Result<String, EngineError>;

/// What the engine is asked to make.
pub(super) fn container(
    unit: &UnitId,
    spec: &UnitSpec,
    image: String,
    others: Others<'_>,
) -> Result<ContainerCreateBody, EngineError> {
    let settings = &spec.container;
    let (entrypoint, cmd) = match spec.first {
        FirstProcess::Idle => {
            // What features bring with them comes first; one that fails keeps nobody out.
            let before: String = spec.entrypoints.iter().map(|script| format!("{script}\n")).collect();
            let idle = vec!["/bin/sh".to_owned(), "-c".to_owned(), format!("{before}{IDLE}")];
            (Some(idle), Some(Vec::new()))
        }
        FirstProcess::Declared => (settings.entrypoint.clone(), settings.command.clone()),
    };
    let env = settings.env.iter().map(|(name, value)| format!("{name}={value}"));
    let grace = settings.stop_grace.map(|grace| i64::try_from(grace.as_secs()).unwrap_or(i64::MAX));
    Ok(ContainerCreateBody {
        hostname: settings.hostname.clone().or_else(|| host_name(spec)),
        domainname: settings.domainname.clone(),
        user: settings.user.clone().or_else(|| (spec.first == FirstProcess::Idle).then(|| "0".to_owned())),
        exposed_ports: some(settings.ports.iter().map(|port| port_key(port.container, &port.protocol))),
        tty: Some(settings.tty),
        open_stdin: Some(settings.stdin_open),
        env: some(env),
        cmd,
        healthcheck: settings.health.as_ref().map(health),
        image: Some(image),
        working_dir: settings.working_dir.clone().or_else(|| {
            let workspace = spec.workspace.to_string_lossy().into_owned();
            (!workspace.is_empty()).then_some(workspace)
        }),
        entrypoint,
        labels: Some(labels::of(unit, spec)),
        stop_signal: settings.stop_signal.clone(),
        stop_timeout: grace,
        host_config: Some(host_config(spec, others)?),
        networking_config: networking(settings),
        ..ContainerCreateBody::default()
    })
}

/// Lets whoever works in the container be the caller outside, whose the workspace is. Podman without root's rights takes
/// root inside for that, unless it is told.
pub(super) fn keep_id(body: &mut ContainerCreateBody, spec: &UnitSpec) {
    let works_as_root = matches!(spec.user.split(':').next(), Some("" | "root" | "0") | None);
    if let Some(host) = &mut body.host_config
        && host.userns_mode.is_none()
        && spec.first == FirstProcess::Idle
        && !works_as_root
    {
        host.userns_mode = Some("keep-id".to_owned());
    }
}

/// A container that shares another's network cannot have a name of its own.
fn host_name(spec: &UnitSpec) -> Option<String> {
    let shared = matches!(
        (&spec.container.network, spec.network),
        (Some(NetworkMode::Host | NetworkMode::Container(_) | NetworkMode::Unit(_)), _)
            | (None, Network::Host)
    );
    let shared = shared || spec.container.uts.is_some();
    (!shared).then(|| spec.labels.unit.to_string())
}

fn host_config(spec: &UnitSpec, others: Others<'_>) -> Result<HostConfig, EngineError> {
    let settings = &spec.container;
    let limits = effective(&spec.limits, settings);
    let binds = spec.mounts.iter().map(|mount| Mount {
        typ: Some(MountType::BIND),
        source: Some(mount.source.to_string_lossy().into_owned()),
        target: Some(mount.target.to_string_lossy().into_owned()),
        read_only: Some(mount.read_only),
        ..Mount::default()
    });
    let mounts = binds.chain(settings.mounts.iter().map(mount));
    let extra_hosts = settings.extra_hosts.iter().map(|host| format!("{}:{}", host.name, host.address));
    let devices = settings.devices.iter().map(|device| DeviceMapping {
        path_on_host: Some(device.source.clone()),
        path_in_container: Some(device.target.clone()),
        cgroup_permissions: Some(device.permissions.clone()),
    });
    let ulimits = settings.ulimits.iter().map(|(name, limit)| ResourcesUlimits {
        name: Some(name.clone()),
        soft: Some(limit.soft),
        hard: Some(limit.hard),
    });
    let resources = &settings.resources;
    Ok(HostConfig {
        mounts: some(mounts),
        network_mode: Some(network_mode(spec, others)?),
        port_bindings: if spec.holds_ports { None } else { ports(settings) },
        memory: limits.memory.map(|size| signed(size.0)),
        memory_swap: resources.memory_swap,
        memory_reservation: resources.memory_reservation.map(|size| signed(size.0)),
        nano_cpus: limits.cpus.map(nano_cpus),
        cpu_shares: resources.cpu_shares,
        cpuset_cpus: resources.cpuset.clone(),
        pids_limit: limits.pids.map(signed).or(resources.pids),
        oom_score_adj: resources.oom_score_adj,
        device_requests: resources.gpus.as_deref().map(gpus),
        init: settings.init,
        privileged: Some(settings.privileged),
        readonly_rootfs: Some(settings.read_only),
        cap_add: some(settings.cap_add.iter().cloned()),
        cap_drop: some(settings.cap_drop.iter().cloned()),
        security_opt: some(settings.security_opt.iter().cloned()),
        devices: some(devices),
        group_add: some(settings.group_add.iter().cloned()),
        extra_hosts: some(extra_hosts),
        dns: some(settings.dns.iter().cloned()),
        dns_search: some(settings.dns_search.iter().cloned()),
        dns_options: some(settings.dns_opt.iter().cloned()),
        sysctls: (!settings.sysctls.is_empty()).then(|| settings.sysctls.clone().into_iter().collect()),
        ulimits: some(ulimits),
        shm_size: settings.shm_size.map(|size| signed(size.0)),
        ipc_mode: settings.ipc.as_deref().map(|mode| shared(mode, others)).transpose()?,
        pid_mode: settings.pid.as_deref().map(|mode| shared(mode, others)).transpose()?,
        uts_mode: settings.uts.clone(),
        userns_mode: settings.userns.clone(),
        cgroupns_mode: settings.cgroupns.as_deref().map(|mode| match mode {
            "host" => HostConfigCgroupnsModeEnum::HOST,
            _ => HostConfigCgroupnsModeEnum::PRIVATE,
        }),
        runtime: settings.runtime.clone(),
        log_config: settings.logging.as_ref().map(|logging| HostConfigLogConfig {
            typ: logging.driver.clone(),
            config: Some(logging.options.clone().into_iter().collect()),
        }),
        ..HostConfig::default()
    })
}

/// Whose namespace is shared: another unit's by its container.
fn shared(mode: &str, others: Others<'_>) -> Result<String, EngineError> {
    match mode.strip_prefix("unit:") {
        Some(unit) => Ok(format!("container:{}", others(unit)?)),
        None => Ok(mode.to_owned()),
    }
}

/// The limits that are declared for the unit, else those among its container's settings.
fn effective(limits: &Limits, settings: &Container) -> Limits {
    let resources = &settings.resources;
    Limits {
        memory: limits.memory.or(resources.memory),
        cpus: limits.cpus.or(resources.cpus),
        pids: limits.pids,
    }
}

fn network_mode(spec: &UnitSpec, others: Others<'_>) -> Result<String, EngineError> {
    Ok(match (&spec.container.network, spec.network) {
        (Some(NetworkMode::None), _) | (None, Network::None) => "none".to_owned(),
        (Some(NetworkMode::Host), _) | (None, Network::Host) => "host".to_owned(),
        (Some(NetworkMode::Container(name)), _) => format!("container:{name}"),
        (Some(NetworkMode::Unit(id)), _) => format!("container:{}", others(id)?),
        (Some(NetworkMode::Networks(networks)), _) => {
            leading(networks).map_or_else(|| "none".to_owned(), |(name, _)| name.clone())
        }
        (None, Network::Private) => "bridge".to_owned(),
    })
}

/// The network that a container is made in; it joins the others before it is started.
fn leading(networks: &std::collections::BTreeMap<String, Attachment>) -> Option<(&String, &Attachment)> {
    // Of equals, the first by name.
    networks.iter().rev().max_by_key(|(_, attachment)| attachment.priority.unwrap_or(0))
}

/// The networks that a container joins after it is made.
pub(super) fn joined_later(settings: &Container) -> Vec<(String, EndpointSettings)> {
    let Some(NetworkMode::Networks(networks)) = &settings.network else { return Vec::new() };
    let first = leading(networks).map(|(name, _)| name);
    let others = networks.iter().filter(|(name, _)| Some(*name) != first);
    others.map(|(name, attachment)| (name.clone(), endpoint(attachment))).collect()
}

fn networking(settings: &Container) -> Option<NetworkingConfig> {
    let Some(NetworkMode::Networks(networks)) = &settings.network else { return None };
    let (name, attachment) = leading(networks)?;
    let endpoints = HashMap::from([(name.clone(), endpoint(attachment))]);
    Some(NetworkingConfig { endpoints_config: Some(endpoints) })
}

fn endpoint(attachment: &Attachment) -> EndpointSettings {
    let fixed = attachment.ipv4.is_some() || attachment.ipv6.is_some();
    EndpointSettings {
        aliases: some(attachment.aliases.iter().cloned()),
        mac_address: attachment.mac.clone(),
        ipam_config: fixed.then(|| EndpointIpamConfig {
            ipv4_address: attachment.ipv4.clone(),
            ipv6_address: attachment.ipv6.clone(),
            ..EndpointIpamConfig::default()
        }),
        ..EndpointSettings::default()
    }
}

fn mount(mount: &ContainerMount) -> Mount {
    let plain =
        Mount { target: Some(mount.target.clone()), read_only: Some(mount.read_only), ..Mount::default() };
    match &mount.source {
        MountSource::Bind { source, create, propagation } => Mount {
            typ: Some(MountType::BIND),
            source: Some(source.clone()),
            bind_options: (*create || propagation.is_some()).then(|| MountBindOptions {
                create_mountpoint: create.then_some(true),
                propagation: propagation.as_deref().and_then(propagated),
                ..MountBindOptions::default()
            }),
            ..plain
        },
        MountSource::Volume { name, no_copy, subpath } => Mount {
            typ: Some(MountType::VOLUME),
            source: name.clone(),
            volume_options: (*no_copy || subpath.is_some()).then(|| MountVolumeOptions {
                no_copy: Some(*no_copy),
                subpath: subpath.clone(),
                ..MountVolumeOptions::default()
            }),
            ..plain
        },
        MountSource::Tmpfs { size, mode, options } => Mount {
            typ: Some(MountType::TMPFS),
            tmpfs_options: Some(MountTmpfsOptions {
                size_bytes: size.map(|size| signed(size.0)),
                mode: mode.map(i64::from),
                options: some(
                    options.iter().map(|option| option.splitn(2, '=').map(str::to_owned).collect::<Vec<_>>()),
                ),
            }),
            ..plain
        },
    }
}

fn propagated(word: &str) -> Option<MountBindOptionsPropagationEnum> {
    use MountBindOptionsPropagationEnum as Word;
    Some(match word {
        "private" => Word::PRIVATE,
        "rprivate" => Word::RPRIVATE,
        "shared" => Word::SHARED,
        "rshared" => Word::RSHARED,
        "slave" => Word::SLAVE,
        "rslave" => Word::RSLAVE,
        _ => return None,
    })
}

/// The ports that the engine publishes.
pub(super) fn ports(settings: &Container) -> Option<HashMap<String, Option<Vec<PortBinding>>>> {
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for port in &settings.ports {
        let binding = PortBinding {
            host_ip: port.address.clone(),
            host_port: Some(port.host.map(|host| host.to_string()).unwrap_or_default()),
        };
        let key = port_key(port.container, &port.protocol);
        bindings.entry(key).or_default().get_or_insert_default().push(binding);
    }
    (!bindings.is_empty()).then_some(bindings)
}

fn port_key(port: u16, protocol: &str) -> String {
    format!("{port}/{protocol}")
}

fn health(health: &Health) -> HealthConfig {
    let nanos = |duration: Option<std::time::Duration>| {
        duration.map(|duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    };
    let test = health.test.as_ref().map(|test| match test {
        // It asks nobody over a network itself.
        HealthTest::Off | HealthTest::Http { .. } | HealthTest::Tcp { .. } => vec!["NONE".to_owned()],
        HealthTest::Exec(argv) => std::iter::once("CMD".to_owned()).chain(argv.iter().cloned()).collect(),
        HealthTest::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
    });
    HealthConfig {
        test,
        interval: nanos(health.interval),
        timeout: nanos(health.timeout),
        retries: health.retries.map(i64::from),
        start_period: nanos(health.start_period),
        start_interval: nanos(health.start_interval),
    }
}

fn gpus(wanted: &str) -> Vec<DeviceRequest> {
    let count = wanted.parse().unwrap_or(-1);
    let capabilities = Some(vec![vec!["gpu".to_owned()]]);
    vec![DeviceRequest { count: Some(count), capabilities, ..DeviceRequest::default() }]
}

/// What changes a running container's limits to these, or nothing if it has them. `has` is what it has, `machine`
/// what there is: memory in bytes, and processors. The API knows no way to take a limit of memory or processors
/// away; one of all that the machine has is none.
pub(super) fn update(
    has: &HostConfig,
    limits: &Limits,
    machine: impl FnOnce() -> Result<(i64, f64), super::error::DockerError>,
) -> Result<Option<ContainerUpdateBody>, super::error::DockerError> {
    let set = |value: Option<i64>| value.filter(|value| *value > 0);
    let (memory, cpus, pids) = (set(has.memory), set(has.nano_cpus), set(has.pids_limit));
    let mut wanted_memory = limits.memory.map(|size| signed(size.0));
    let mut wanted_cpus = limits.cpus.map(nano_cpus);
    let wanted_pids = limits.pids.map(signed);
    if (wanted_memory.is_none() && memory.is_some()) || (wanted_cpus.is_none() && cpus.is_some()) {
        let (all_memory, all_cpus) = machine()?;
        wanted_memory = wanted_memory.or_else(|| memory.map(|_| all_memory));
        wanted_cpus = wanted_cpus.or_else(|| cpus.map(|_| nano_cpus(all_cpus)));
    }
    if (wanted_memory, wanted_cpus, wanted_pids) == (memory, cpus, pids) {
        return Ok(None);
    }
    Ok(Some(ContainerUpdateBody {
        memory: wanted_memory,
        // The two together may not be less than the memory alone, so that they have to change with it.
        memory_swap: wanted_memory.map(|memory| memory.saturating_mul(2)),
        nano_cpus: wanted_cpus,
        pids_limit: Some(wanted_pids.unwrap_or(-1)),
        ..ContainerUpdateBody::default()
    }))
}

#[allow(clippy::cast_possible_truncation, reason = "a number of processors is small")]
fn nano_cpus(cpus: f64) -> i64 {
    (cpus * 1e9).round() as i64
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A list, unless it is empty.
fn some<T>(items: impl Iterator<Item = T>) -> Option<Vec<T>> {
    let items: Vec<T> = items.collect();
    (!items.is_empty()).then_some(items)
}
