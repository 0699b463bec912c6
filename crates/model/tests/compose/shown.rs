//! A project in a form that a person can compare with its file.

use std::collections::BTreeMap;
use std::fmt::Write;

use setpoint_model::container::{Attachment, ContainerMount, Health, HealthTest, MountSource, NetworkMode};
use setpoint_model::import::compose::{
    ComposeProject, ComposeService, Condition, FileUse, PullPolicy, RestartPolicy, ServiceHook,
};

/// The lines of a text that grows.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: impl std::fmt::Display) {
        writeln!(self.0, "  {name}: {value}").unwrap();
    }

    fn all(&mut self, name: &str, values: impl IntoIterator<Item = String>) {
        let values: Vec<String> = values.into_iter().collect();
        if !values.is_empty() {
            self.add(name, values.join(", "));
        }
    }

    fn some(&mut self, name: &str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }
}

/// The whole project.
pub(crate) fn project(project: &ComposeProject) -> String {
    let mut lines = Lines::default();
    writeln!(lines.0, "project {}", project.name).unwrap();
    for (name, service) in &project.services {
        writeln!(lines.0, "\nservice {name}").unwrap();
        self::service(&mut lines, service);
    }
    writeln!(lines.0).unwrap();
    for (name, network) in &project.networks {
        let pools = network.pools.iter().map(|pool| {
            let part = |name: &str, value: &Option<String>| {
                value.as_ref().map_or(String::new(), |v| format!(" {name}{v}"))
            };
            format!("{}{}{}", part("", &pool.subnet), part("of ", &pool.ip_range), part("by ", &pool.gateway))
        });
        let pools: String = pools.collect();
        let driver = network.driver.as_ref().map_or(String::new(), |driver| format!(" driver={driver}"));
        let flags = flags(&[
            ("external", network.external),
            ("internal", network.internal),
            ("attachable", network.attachable),
            ("ipv6", network.enable_ipv6),
        ]);
        let more = format!("{}{}", pairs(" opt ", &network.driver_opts), pairs(" label ", &network.labels));
        writeln!(lines.0, "network {name} = {}{driver}{flags}{pools}{more}", network.name).unwrap();
    }
    for (name, volume) in &project.volumes {
        let driver = volume.driver.as_ref().map_or(String::new(), |driver| format!(" driver={driver}"));
        let flags = flags(&[("external", volume.external)]);
        let more = format!("{}{}", pairs(" opt ", &volume.driver_opts), pairs(" label ", &volume.labels));
        writeln!(lines.0, "volume {name} = {}{driver}{flags}{more}", volume.name).unwrap();
    }
    for (kind, all) in [("config", &project.configs), ("secret", &project.secrets)] {
        for (name, stored) in all {
            writeln!(lines.0, "{kind} {name} = {stored:?}").unwrap();
        }
    }
    writeln!(lines.0, "files {}", project.files.iter().cloned().collect::<Vec<_>>().join(" ")).unwrap();
    for note in &project.notes {
        writeln!(lines.0, "note {note}").unwrap();
    }
    lines.0
}

fn flags(flags: &[(&str, bool)]) -> String {
    flags.iter().filter(|(_, on)| *on).map(|(name, _)| format!(" {name}")).collect()
}

fn pairs(before: &str, pairs: &BTreeMap<String, String>) -> String {
    pairs.iter().map(|(name, value)| format!("{before}{name}={value}")).collect()
}

fn service(lines: &mut Lines, service: &ComposeService) {
    let container = &service.container;
    lines.some("image", service.image.as_ref());
    if let Some(build) = &service.build {
        lines.add("build", serde_json::to_string(build).unwrap());
    }
    lines.some("platform", container.platform.as_ref());
    lines.some("entrypoint", container.entrypoint.as_ref().map(|words| format!("{words:?}")));
    lines.some("command", container.command.as_ref().map(|words| format!("{words:?}")));
    for (name, value) in &container.env {
        lines.add(&format!("env {name}"), value.replace('\n', "\\n"));
    }
    for mount in &container.mounts {
        lines.add("mount", self::mount(mount));
    }
    lines.all(
        "ports",
        container.ports.iter().map(|port| {
            let address = port.address.as_ref().map_or(String::new(), |address| format!("{address} "));
            let host = port.host.map_or("*".to_owned(), |host| host.to_string());
            format!("{address}{host}->{}/{}", port.container, port.protocol)
        }),
    );
    lines.all("expose", service.expose.iter().cloned());
    match &container.network {
        Some(NetworkMode::Networks(all)) => {
            lines.all("networks", all.iter().map(|(name, at)| attachment(name, at)))
        }
        Some(other) => lines.add("network", format!("{other:?}").to_lowercase()),
        None => {}
    }
    for (name, dependency) in &service.depends_on {
        let condition = match dependency.condition {
            Condition::Started => "started",
            Condition::Healthy => "healthy",
            Condition::Completed => "completed",
        };
        let flags = flags(&[("restart", dependency.restart), ("optional", !dependency.required)]);
        lines.add("needs", format!("{name} {condition}{flags}"));
    }
    if let Some(health) = &container.health {
        lines.add("health", self::health(health));
    }
    match service.restart {
        RestartPolicy::No => {}
        RestartPolicy::Always => lines.add("restart", "always"),
        RestartPolicy::UnlessStopped => lines.add("restart", "unless stopped"),
        RestartPolicy::OnFailure { max } => {
            lines.add(
                "restart",
                format!("on failure{}", max.map_or(String::new(), |max| format!(", {max} times"))),
            );
        }
    }
    match service.pull_policy {
        None => {}
        Some(PullPolicy::Every(time)) => lines.add("pull", format!("every {time:?}")),
        Some(policy) => lines.add("pull", format!("{policy:?}").to_lowercase()),
    }
    lines.some("container name", service.container_name.as_ref());
    lines.all("profiles", service.profiles.iter().cloned());
    if service.replicas != 1 {
        lines.add("replicas", service.replicas);
    }
    lines.all("configs", service.configs.iter().map(file_use));
    lines.all("secrets", service.secrets.iter().map(file_use));
    lines.all("after start", service.post_start.iter().map(hook));
    lines.all("before stop", service.pre_stop.iter().map(hook));
    settings(lines, service);
}

fn settings(lines: &mut Lines, service: &ComposeService) {
    let container = &service.container;
    for (name, value) in [
        ("user", &container.user),
        ("working dir", &container.working_dir),
        ("hostname", &container.hostname),
        ("domain", &container.domainname),
        ("ipc", &container.ipc),
        ("pid", &container.pid),
        ("uts", &container.uts),
        ("userns", &container.userns),
        ("cgroupns", &container.cgroupns),
        ("runtime", &container.runtime),
        ("stop signal", &container.stop_signal),
    ] {
        lines.some(name, value.as_ref());
    }
    lines.some("init", container.init);
    let flags = flags(&[
        ("privileged", container.privileged),
        ("read-only", container.read_only),
        ("tty", container.tty),
        ("stdin", container.stdin_open),
    ]);
    if !flags.is_empty() {
        lines.add("is", flags.trim());
    }
    for (name, values) in [
        ("cap add", &container.cap_add),
        ("cap drop", &container.cap_drop),
        ("security", &container.security_opt),
        ("groups", &container.group_add),
    ] {
        lines.all(name, values.iter().cloned());
    }
    for (name, values) in
        [("dns", &container.dns), ("dns search", &container.dns_search), ("dns options", &container.dns_opt)]
    {
        lines.all(name, values.iter().cloned());
    }
    lines.all(
        "devices",
        container.devices.iter().map(|d| format!("{}->{} {}", d.source, d.target, d.permissions)),
    );
    lines.all("hosts", container.extra_hosts.iter().map(|host| format!("{}={}", host.name, host.address)));
    lines.all("sysctls", container.sysctls.iter().map(|(name, value)| format!("{name}={value}")));
    lines.all(
        "ulimits",
        container.ulimits.iter().map(|(name, limit)| format!("{name}={}:{}", limit.soft, limit.hard)),
    );
    lines.all("labels", container.labels.iter().map(|(name, value)| format!("{name}={value}")));
    lines.some("shm", container.shm_size);
    lines.some("stop grace", container.stop_grace.map(|time| format!("{time:?}")));
    let limits = &container.resources;
    lines.some("memory", limits.memory);
    lines.some("memory and swap", limits.memory_swap);
    lines.some("memory kept", limits.memory_reservation);
    lines.some("cpus", limits.cpus);
    lines.some("cpu shares", limits.cpu_shares);
    lines.some("cpuset", limits.cpuset.as_ref());
    lines.some("pids", limits.pids);
    lines.some("oom score", limits.oom_score_adj);
    lines.some("gpus", limits.gpus.as_ref());
    if let Some(logging) = &container.logging {
        let driver = logging.driver.as_deref().unwrap_or("the engine's");
        lines.add("logging", format!("{driver}{}", pairs(" ", &logging.options)));
    }
}

fn mount(mount: &ContainerMount) -> String {
    let source = match &mount.source {
        MountSource::Bind { source, create, propagation } => {
            let flags = flags(&[("must exist", !create)]);
            format!(
                "folder {source}{flags}{}",
                propagation.as_ref().map_or(String::new(), |p| format!(" {p}"))
            )
        }
        MountSource::Volume { name, no_copy, subpath } => {
            let flags = flags(&[("empty", *no_copy)]);
            let subpath = subpath.as_ref().map_or(String::new(), |path| format!(" from {path}"));
            format!("volume {}{flags}{subpath}", name.as_deref().unwrap_or("of its own"))
        }
        MountSource::Tmpfs { size, mode, options } => {
            let size = size.map_or(String::new(), |size| format!(" {size}"));
            let mode = mode.map_or(String::new(), |mode| format!(" {mode:o}"));
            format!(
                "memory{size}{mode}{}",
                options.iter().map(|option| format!(" {option}")).collect::<String>()
            )
        }
    };
    format!("{} = {source}{}", mount.target, if mount.read_only { " read-only" } else { "" })
}

fn attachment(name: &str, at: &Attachment) -> String {
    let mut parts = vec![format!("{name} as {}", at.aliases.iter().cloned().collect::<Vec<_>>().join("+"))];
    for (before, value) in [("", &at.ipv4), ("", &at.ipv6), ("mac ", &at.mac)] {
        parts.extend(value.iter().map(|value| format!("{before}{value}")));
    }
    parts.extend(at.priority.map(|priority| format!("priority {priority}")));
    parts.join(" ")
}

fn health(health: &Health) -> String {
    let mut parts = vec![match &health.test {
        None => "the image's".to_owned(),
        Some(HealthTest::Off) => "off".to_owned(),
        Some(HealthTest::Exec(words)) => format!("{words:?}"),
        Some(HealthTest::Shell(command)) => format!("sh: {command}"),
        Some(HealthTest::Http { .. } | HealthTest::Tcp { .. }) => unreachable!("Compose has no such checks"),
    }];
    for (name, time) in [
        ("every", health.interval),
        ("within", health.timeout),
        ("after", health.start_period),
        ("then every", health.start_interval),
    ] {
        parts.extend(time.map(|time| format!("{name} {time:?}")));
    }
    parts.extend(health.retries.map(|retries| format!("{retries} times")));
    parts.join(", ")
}

fn file_use(used: &FileUse) -> String {
    let owner = match (&used.uid, &used.gid) {
        (None, None) => String::new(),
        (uid, gid) => format!(" {}:{}", uid.as_deref().unwrap_or(""), gid.as_deref().unwrap_or("")),
    };
    let mode = used.mode.map_or(String::new(), |mode| format!(" {mode:o}"));
    format!("{} at {}{owner}{mode}", used.source, used.target)
}

fn hook(hook: &ServiceHook) -> String {
    let flags = flags(&[("privileged", hook.privileged)]);
    let user = hook.user.as_ref().map_or(String::new(), |user| format!(" as {user}"));
    let dir = hook.working_dir.as_ref().map_or(String::new(), |dir| format!(" in {dir}"));
    format!("{:?}{user}{dir}{flags}{}", hook.command, pairs(" ", &hook.env))
}
