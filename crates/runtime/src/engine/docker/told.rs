//! From what the engine tells of a container to the settings that it has.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bollard::models::{
    ContainerInspectResponse, EndpointSettings, HealthConfig, HostConfig, ImageInspect, Mount, MountPoint,
    MountType, PortBinding, RestartPolicyNameEnum as Word,
};
use setpoint_model::adoption::Running;
use setpoint_model::container::{
    Attachment, Container, ContainerMount, Device, ExtraHost, Health, HealthTest, Logging, MountSource,
    NetworkMode, PublishedPort, Resources, Ulimit,
};
use setpoint_model::import::compose::RestartPolicy;
use setpoint_model::manifest::ByteSize;

use super::Flavor;

/// The size of `/dev/shm` that nobody asked for: Docker's, and Podman's.
const USUAL_SHM: [i64; 2] = [64 << 20, 65_536_000];
/// What Docker makes of settings that nobody makes.
const BY_DOCKER: &[&str] = &["cgroupns", "runtime", "logging"];
/// What Podman makes of them.
const BY_PODMAN: &[&str] = &[
    "cgroupns",
    "runtime",
    "logging",
    "ulimits.nofile",
    "ulimits.nproc",
    "resources.pids",
    "env.HOME",
    "env.HOSTNAME",
    "env.PATH",
    "env.TERM",
    "env.container",
];
/// What an image is for is no setting that is told of a container.
const UNTOLD_BY_DOCKER: &[&str] = &["platform"];
/// Podman's compatible interface says 0 of every time to stop, and another word for each runtime.
const UNTOLD_BY_PODMAN: &[&str] = &["platform", "stop_grace", "runtime"];
/// How many digits of its id a container is also called by.
const SHORT: usize = 12;

/// When the engine starts a container again.
pub(super) fn restart(found: &ContainerInspectResponse) -> RestartPolicy {
    let policy = found.host_config.as_ref().and_then(|host| host.restart_policy.as_ref());
    let Some(policy) = policy else { return RestartPolicy::No };
    match policy.name {
        Some(Word::ALWAYS) => RestartPolicy::Always,
        Some(Word::UNLESS_STOPPED) => RestartPolicy::UnlessStopped,
        Some(Word::ON_FAILURE) => {
            let most = policy.maximum_retry_count.filter(|count| *count > 0);
            RestartPolicy::OnFailure { max: most.and_then(|count| u32::try_from(count).ok()) }
        }
        _ => RestartPolicy::No,
    }
}

/// What there is to know of a container.
pub(super) fn running(flavor: Flavor, found: ContainerInspectResponse, image: ImageInspect) -> Running {
    let restart = restart(&found);
    let id = found.id.clone().unwrap_or_default();
    let name = found.name.clone().unwrap_or_default().trim_start_matches('/').to_owned();
    let host = found.host_config.unwrap_or_default();
    let config = found.config.unwrap_or_default();
    let networks = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let mut beyond = Vec::new();
    let mut tell = |name: &str, value: String| beyond.push((name.to_owned(), value));
    if host.auto_remove == Some(true) {
        tell("removed when it ends", "true".to_owned());
    }
    if let Some(parent) = host.cgroup_parent.as_ref().filter(|parent| !parent.is_empty()) {
        tell("cgroup_parent", parent.clone());
    }
    for link in host.links.iter().flatten() {
        tell(&format!("links {link}"), link.clone());
    }
    if flavor == Flavor::Podman && restart != RestartPolicy::No {
        // Its way to turn that off came late.
        tell("restarted by the engine", "true".to_owned());
    }
    let image_config = image.config.unwrap_or_default();
    let container = Container {
        entrypoint: some(config.entrypoint),
        command: some(config.cmd),
        env: pairs(config.env),
        user: config.user,
        working_dir: config.working_dir,
        // Who shares a network shares its name.
        hostname: config.hostname.filter(|_| !shares_network(&host)),
        domainname: config.domainname,
        tty: config.tty == Some(true),
        stdin_open: config.open_stdin == Some(true),
        stop_signal: config.stop_signal,
        stop_grace: config
            .stop_timeout
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(Duration::from_secs),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        health: config.healthcheck.map(health),
        mounts: mounts(found.mounts.unwrap_or_default(), &host),
        ports: ports(host.port_bindings.clone()),
        network: network(&host, networks, &id),
        ..of_host(host)
    };
    Running {
        container,
        image: Container {
            entrypoint: some(image_config.entrypoint),
            command: some(image_config.cmd),
            env: pairs(image_config.env),
            user: image_config.user,
            working_dir: image_config.working_dir,
            stop_signal: image_config.stop_signal,
            labels: image_config.labels.unwrap_or_default().into_iter().collect(),
            health: image_config.healthcheck.map(health),
            mounts: image_config.volumes.into_iter().flatten().map(nameless).collect(),
            ..Container::default()
        },
        image_reference: config.image.unwrap_or_default(),
        image_digest: image.id.or(found.image).unwrap_or_default(),
        restart,
        names: BTreeSet::from([name, id.get(..SHORT).unwrap_or(&id).to_owned()]),
        by_itself: if flavor == Flavor::Docker { BY_DOCKER } else { BY_PODMAN },
        untold: if flavor == Flavor::Docker { UNTOLD_BY_DOCKER } else { UNTOLD_BY_PODMAN },
        beyond,
    }
}

fn shares_network(host: &HostConfig) -> bool {
    host.network_mode.as_deref().is_some_and(|mode| mode == "host" || mode.starts_with("container:"))
}

/// What its host's settings are.
fn of_host(host: HostConfig) -> Container {
    let devices = host.devices.into_iter().flatten().map(|device| Device {
        source: device.path_on_host.unwrap_or_default(),
        target: device.path_in_container.unwrap_or_default(),
        permissions: device.cgroup_permissions.unwrap_or_else(|| "rwm".to_owned()),
    });
    let ulimits = host.ulimits.into_iter().flatten().filter_map(|limit| {
        // Podman calls them as the system does.
        let name = limit.name?.to_lowercase().trim_start_matches("rlimit_").to_owned();
        Some((name, Ulimit { soft: limit.soft?, hard: limit.hard? }))
    });
    let gpus = host.device_requests.into_iter().flatten().next().map(|request| match request.count {
        None | Some(-1) => "all".to_owned(),
        Some(count) => count.to_string(),
    });
    let set = |number: Option<i64>| number.filter(|number| *number > 0);
    let size = |number: Option<i64>| set(number).and_then(|number| u64::try_from(number).ok()).map(ByteSize);
    let text = |text: Option<String>| text.filter(|text| !text.is_empty());
    let quota = match (set(host.cpu_quota), set(host.cpu_period)) {
        (Some(quota), period) => Some(fraction(quota, period.unwrap_or(100_000))),
        (None, _) => None,
    };
    Container {
        init: host.init,
        privileged: host.privileged == Some(true),
        read_only: host.readonly_rootfs == Some(true),
        cap_add: host.cap_add.into_iter().flatten().collect(),
        cap_drop: host.cap_drop.into_iter().flatten().collect(),
        security_opt: host.security_opt.into_iter().flatten().collect(),
        devices: devices.collect(),
        group_add: host.group_add.into_iter().flatten().collect(),
        extra_hosts: host.extra_hosts.into_iter().flatten().filter_map(extra_host).collect(),
        dns: host.dns.unwrap_or_default(),
        dns_search: host.dns_search.unwrap_or_default(),
        dns_opt: host.dns_options.unwrap_or_default(),
        sysctls: host.sysctls.unwrap_or_default().into_iter().collect(),
        ulimits: ulimits.collect(),
        shm_size: size(host.shm_size.filter(|size| !USUAL_SHM.contains(size))),
        ipc: text(host.ipc_mode),
        pid: text(host.pid_mode),
        uts: text(host.uts_mode),
        userns: text(host.userns_mode),
        cgroupns: host.cgroupns_mode.map(|mode| mode.to_string()).filter(|mode| !mode.is_empty()),
        runtime: text(host.runtime),
        logging: host.log_config.map(|logging| Logging {
            driver: logging.typ,
            options: logging.config.unwrap_or_default().into_iter().collect(),
        }),
        resources: Resources {
            memory: size(host.memory),
            memory_swap: host.memory_swap.filter(|swap| *swap != 0),
            memory_reservation: size(host.memory_reservation),
            cpus: set(host.nano_cpus).map(|nano| fraction(nano, 1_000_000_000)).or(quota),
            cpu_shares: set(host.cpu_shares),
            cpuset: text(host.cpuset_cpus),
            pids: set(host.pids_limit),
            oom_score_adj: host.oom_score_adj.filter(|adjusted| *adjusted != 0),
            gpus,
        },
        ..Container::default()
    }
}

#[allow(clippy::cast_precision_loss, reason = "a number of processors is small")]
fn fraction(part: i64, whole: i64) -> f64 {
    part as f64 / whole as f64
}

/// A list, unless it is empty.
fn some(list: Option<Vec<String>>) -> Option<Vec<String>> {
    list.filter(|list| !list.is_empty())
}

fn pairs(variables: Option<Vec<String>>) -> BTreeMap<String, String> {
    let pair = |entry: String| match entry.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (entry, String::new()),
    };
    variables.into_iter().flatten().map(pair).collect()
}

fn extra_host(entry: String) -> Option<ExtraHost> {
    let (name, address) = entry.split_once(':')?;
    Some(ExtraHost { name: name.to_owned(), address: address.to_owned() })
}

fn nameless(target: String) -> ContainerMount {
    let source = MountSource::Volume { name: None, no_copy: false, subpath: None };
    ContainerMount { target, read_only: false, source }
}

/// What appears inside: what is mounted, and memory, which the engine does not list with that.
fn mounts(points: Vec<MountPoint>, host: &HostConfig) -> Vec<ContainerMount> {
    let of_points = points.into_iter().filter_map(|point| {
        let source = match point.typ.as_deref() {
            Some("bind") => MountSource::Bind { source: point.source?, create: false, propagation: None },
            Some("volume") => MountSource::Volume { name: point.name, no_copy: false, subpath: None },
            _ => return None,
        };
        let read_only = point.rw == Some(false);
        Some(ContainerMount { target: point.destination?, read_only, source })
    });
    let memory = |target: &str, size: Option<ByteSize>| {
        let source = MountSource::Tmpfs { size, mode: None, options: Vec::new() };
        ContainerMount { target: target.to_owned(), read_only: false, source }
    };
    let by_option = host.tmpfs.iter().flatten().map(|(target, options)| {
        let size = options.split(',').find_map(|option| option.strip_prefix("size="));
        memory(target, size.and_then(bytes))
    });
    let is_memory = |mount: &&Mount| mount.typ == Some(MountType::TMPFS);
    let by_mount = host.mounts.iter().flatten().filter(is_memory).filter_map(|mount| {
        let size = mount.tmpfs_options.as_ref().and_then(|options| options.size_bytes);
        let size = size.filter(|size| *size > 0).and_then(|size| u64::try_from(size).ok()).map(ByteSize);
        Some(memory(mount.target.as_deref()?, size))
    });
    of_points.chain(by_option).chain(by_mount).collect()
}

/// A size as the kernel's options have it: `64m`.
fn bytes(text: &str) -> Option<ByteSize> {
    let (number, times) = match text.to_lowercase().chars().last()? {
        'k' => (&text[..text.len() - 1], 1 << 10),
        'm' => (&text[..text.len() - 1], 1 << 20),
        'g' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    number.parse::<u64>().ok()?.checked_mul(times).map(ByteSize)
}

fn ports(bindings: Option<HashMap<String, Option<Vec<PortBinding>>>>) -> Vec<PublishedPort> {
    let mut ports = Vec::new();
    for (key, bindings) in bindings.into_iter().flatten() {
        let (number, protocol) = key.split_once('/').unwrap_or((&key, "tcp"));
        let Ok(container) = number.parse() else { continue };
        for binding in bindings.into_iter().flatten() {
            ports.push(PublishedPort {
                container,
                protocol: protocol.to_owned(),
                address: binding.host_ip,
                host: binding.host_port.and_then(|port| port.parse().ok()),
            });
        }
    }
    ports.sort();
    ports
}

fn network(host: &HostConfig, networks: HashMap<String, EndpointSettings>, id: &str) -> Option<NetworkMode> {
    match host.network_mode.as_deref() {
        Some("none") => return Some(NetworkMode::None),
        Some("host") => return Some(NetworkMode::Host),
        Some(mode) => {
            if let Some(other) = mode.strip_prefix("container:") {
                return Some(NetworkMode::Container(other.to_owned()));
            }
        }
        None => {}
    }
    let short = id.get(..SHORT).unwrap_or(id);
    let attachment = |endpoint: EndpointSettings| {
        let fixed = endpoint.ipam_config.unwrap_or_default();
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        Attachment {
            aliases: endpoint.aliases.into_iter().flatten().filter(|alias| alias != short).collect(),
            ipv4: text(fixed.ipv4_address),
            ipv6: text(fixed.ipv6_address),
            ..Attachment::default()
        }
    };
    let networks = networks.into_iter().map(|(name, endpoint)| (name, attachment(endpoint)));
    Some(NetworkMode::Networks(networks.collect()))
}

fn health(health: HealthConfig) -> Health {
    let time = |nanos: Option<i64>| {
        let nanos = nanos.filter(|nanos| *nanos > 0).and_then(|nanos| u64::try_from(nanos).ok());
        nanos.map(Duration::from_nanos)
    };
    let test = health.test.filter(|test| !test.is_empty()).map(|test| match test.split_first() {
        Some((kind, argv)) if kind == "CMD" => HealthTest::Exec(argv.to_vec()),
        Some((kind, text)) if kind == "CMD-SHELL" => HealthTest::Shell(text.join(" ")),
        _ => HealthTest::Off,
    });
    Health {
        test,
        interval: time(health.interval),
        timeout: time(health.timeout),
        retries: health
            .retries
            .filter(|retries| *retries > 0)
            .and_then(|retries| u32::try_from(retries).ok()),
        start_period: time(health.start_period),
        start_interval: time(health.start_interval),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_memory_are_read_as_the_kernel_has_them() {
        let read = |text| bytes(text).map(|size| size.0);
        assert_eq!(read("64m"), Some(64 << 20));
        assert_eq!(read("1G"), Some(1 << 30));
        assert_eq!(read("4096"), Some(4096));
        assert_eq!(read("50%"), None);
        assert_eq!(read(""), None);
    }
}
