//! The settings of what runs, where they are others than the declared ones.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value};

use super::Running;
use crate::container::{Container, Health, HealthTest};
use crate::manifest::Env;

/// Settings that are compared elsewhere, by what they mean.
const ELSEWHERE: [&str; 6] = ["entrypoint", "command", "mounts", "ports", "network", "health"];
/// Those of the first process, and whose it is.
const OF_FIRST: [&str; 4] = ["user", "working_dir", "init", "stop_signal"];
/// Tables, each of whose entries is compared by itself.
const TABLES: [&str; 5] = ["env", "labels", "sysctls", "ulimits", "resources"];

/// What engines, and tools that make containers, put there by themselves.
const LABELS_OF_TOOLS: [&str; 5] = [
    "com.docker.compose.",
    "dev.setpoint.",
    "desktop.docker.io/",
    "io.podman.compose.",
    "PODMAN_SYSTEMD_UNIT",
];
/// What a container has of a setting that neither its declaration nor its image makes.
const USUAL: [(&str, &str); 3] = [("user", "root"), ("working_dir", "/"), ("stop_signal", "SIGTERM")];

/// The declared settings, but for those that it runs with otherwise. Mounts, ports, networks and limits stay as they
/// are declared.
pub(super) fn merged(env: &Env, running: &Running, of_its_own: bool) -> Container {
    let declared = &env.container;
    let mut out = fields(declared);
    let (wants, brings, has) = (normal(declared), normal(&running.image), normal(&running.container));
    let (wants, brings, mut has) = (fields(&wants), fields(&brings), fields(&has));
    let known: BTreeSet<String> = wants.keys().chain(brings.keys()).chain(has.keys()).cloned().collect();
    if !wants.contains_key("hostname")
        && has.get("hostname").is_some_and(|name| is_own_name(name, env, running))
    {
        has.remove("hostname");
    }
    if let Some(Value::Object(labels)) = has.get_mut("labels") {
        let declares = |name: &str| declared.labels.contains_key(name);
        labels.retain(|name, _| declares(name) || !LABELS_OF_TOOLS.iter().any(|tool| name.starts_with(tool)));
    }
    for name in known {
        let name = name.as_str();
        let is_declared = wants.contains_key(name);
        let not_compared = ELSEWHERE.contains(&name)
            || running.untold.contains(&name)
            || (!of_its_own && OF_FIRST.contains(&name))
            || (!is_declared && running.by_itself.contains(&name));
        if not_compared {
            continue;
        }
        if TABLES.contains(&name) {
            let by_itself = |entry: &str| running.by_itself.contains(&format!("{name}.{entry}").as_str());
            let entries = table(&out, &wants, &brings, &has, name, &by_itself);
            put(&mut out, name, (!entries.is_empty()).then_some(Value::Object(entries)));
            continue;
        }
        let wanted = wants.get(name).or(brings.get(name)).cloned().or_else(|| usual(name));
        let runs = has.get(name).cloned().or_else(|| usual(name));
        if wanted != runs {
            put(&mut out, name, has.get(name).cloned());
        }
    }
    let mut merged: Container =
        serde_json::from_value(Value::Object(out)).unwrap_or_else(|_| declared.clone());
    if of_its_own {
        first_process(&mut merged, declared, running);
    }
    let wanted = over(declared.health.as_ref(), running.image.health.as_ref());
    if usual_health(wanted.as_ref()) != usual_health(running.container.health.as_ref()) {
        merged.health = running.container.health.clone();
    }
    merged
}

fn put(out: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    match value {
        Some(value) => out.insert(name.to_owned(), value),
        None => out.remove(name),
    };
}

/// The entries of a table, each compared by itself: one that the image brings needs no declaration.
fn table(
    out: &Map<String, Value>,
    wants: &Map<String, Value>,
    brings: &Map<String, Value>,
    has: &Map<String, Value>,
    name: &str,
    by_itself: &dyn Fn(&str) -> bool,
) -> Map<String, Value> {
    let entries = |of: &Map<String, Value>| match of.get(name) {
        Some(Value::Object(entries)) => entries.clone(),
        _ => Map::new(),
    };
    let (mut out, wants, brings, has) = (entries(out), entries(wants), entries(brings), entries(has));
    let known: BTreeSet<&String> = wants.keys().chain(brings.keys()).chain(has.keys()).collect();
    for entry in known {
        let is_untold = !wants.contains_key(entry) && !brings.contains_key(entry) && by_itself(entry);
        if wants.get(entry).or(brings.get(entry)) != has.get(entry) && !is_untold {
            put(&mut out, entry, has.get(entry).cloned());
        }
    }
    out
}

/// What it runs: the same words in the same order, whichever of them were the entrypoint.
fn first_process(merged: &mut Container, declared: &Container, running: &Running) {
    let words = |entrypoint: Option<&Vec<String>>, command: Option<&Vec<String>>| -> Vec<String> {
        entrypoint.into_iter().chain(command).flatten().cloned().collect()
    };
    // Whoever says the entrypoint does not want the image's command.
    let own = running.image.command.as_ref().filter(|_| declared.entrypoint.is_none());
    let wanted = words(
        declared.entrypoint.as_ref().or(running.image.entrypoint.as_ref()),
        declared.command.as_ref().or(own),
    );
    let runs = &running.container;
    if wanted == words(runs.entrypoint.as_ref(), runs.command.as_ref()) {
        return;
    }
    merged.entrypoint = runs.entrypoint.clone().filter(|_| runs.entrypoint != running.image.entrypoint);
    merged.command = runs.command.clone();
}

/// Takes the limits of what runs to where they are declared; those that nobody declares are limits of the unit.
pub(super) fn limits(as_it_runs: &mut Env, env: &Env, running: &Running) {
    let (declared, runs) = (&env.container.resources, &running.container.resources);
    let resources = &mut as_it_runs.container.resources;
    resources.memory = declared.memory;
    resources.cpus = declared.cpus;
    resources.pids = declared.pids;
    if env.limits.memory.or(declared.memory) != runs.memory {
        match declared.memory {
            Some(_) if env.limits.memory.is_none() => resources.memory = runs.memory,
            _ => as_it_runs.limits.memory = runs.memory,
        }
    }
    if env.limits.cpus.or(declared.cpus) != runs.cpus {
        match declared.cpus {
            Some(_) if env.limits.cpus.is_none() => resources.cpus = runs.cpus,
            _ => as_it_runs.limits.cpus = runs.cpus,
        }
    }
    let wanted = env.limits.pids.and_then(|pids| i64::try_from(pids).ok()).or(declared.pids);
    let by_itself = wanted.is_none() && running.by_itself.contains(&"resources.pids");
    if wanted.filter(|pids| *pids > 0) != runs.pids && !by_itself {
        match declared.pids {
            Some(_) if env.limits.pids.is_none() => resources.pids = runs.pids,
            _ => as_it_runs.limits.pids = runs.pids.and_then(|pids| u64::try_from(pids).ok()),
        }
    }
    // The engine doubles the memory where nobody says how much may be swapped.
    let doubled = |memory: u64| i64::try_from(memory).ok().map(|memory| memory.saturating_mul(2));
    if declared.memory_swap.is_none() && runs.memory_swap == runs.memory.and_then(|size| doubled(size.0)) {
        resources.memory_swap = None;
    }
}

fn fields(container: &Container) -> Map<String, Value> {
    match serde_json::to_value(container) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

fn usual(name: &str) -> Option<Value> {
    let found = USUAL.iter().find(|(setting, _)| *setting == name);
    found.map(|(_, value)| Value::from(*value))
}

/// Whether a host name is one that nobody asked for: the container's own id, or the unit's name.
fn is_own_name(name: &Value, env: &Env, running: &Running) -> bool {
    name.as_str().is_some_and(|name| running.names.contains(name) || name == env.name.as_str())
}

/// Settings in one of the ways in which they can be written.
fn normal(container: &Container) -> Container {
    let mut normal = container.clone();
    let capability = |name: &String| name.to_uppercase().trim_start_matches("CAP_").to_owned();
    normal.cap_add = container.cap_add.iter().map(capability).collect();
    normal.cap_drop = container.cap_drop.iter().map(capability).collect();
    normal.init = container.init.filter(|init| *init);
    normal.user = container.user.as_deref().filter(|user| !user.is_empty()).map(|user| match user {
        "0" | "0:0" | "root:root" | "root:0" => "root".to_owned(),
        user => user.to_owned(),
    });
    normal.working_dir = container.working_dir.clone().filter(|path| !path.is_empty());
    normal.hostname = container.hostname.clone().filter(|name| !name.is_empty());
    normal.domainname = container.domainname.clone().filter(|name| !name.is_empty());
    normal.stop_signal = container.stop_signal.as_deref().filter(|name| !name.is_empty()).map(signal);
    // Ten seconds are what every engine gives.
    normal.stop_grace = container.stop_grace.filter(|grace| *grace != Duration::from_secs(10));
    let shared = |mode: &Option<String>| {
        mode.clone().filter(|mode| !matches!(mode.as_str(), "" | "private" | "shareable"))
    };
    (normal.ipc, normal.pid, normal.uts) =
        (shared(&container.ipc), shared(&container.pid), shared(&container.uts));
    normal.userns = container.userns.clone().filter(|mode| !mode.is_empty());
    if normal.privileged || normal.ipc.is_some() || normal.pid.is_some() {
        // The engine's own consequence of that.
        normal.security_opt.remove("label=disable");
    }
    normal.devices.sort_by(|a, b| a.target.cmp(&b.target));
    normal.extra_hosts.sort_by(|a, b| (&a.name, &a.address).cmp(&(&b.name, &b.address)));
    // They are compared where they are declared.
    let resources = &mut normal.resources;
    (resources.memory, resources.cpus, resources.pids) = (None, None, None);
    normal
}

/// A signal by its name.
fn signal(name: &str) -> String {
    const NUMBERS: [(&str, &str); 9] = [
        ("1", "SIGHUP"),
        ("2", "SIGINT"),
        ("3", "SIGQUIT"),
        ("6", "SIGABRT"),
        ("9", "SIGKILL"),
        ("10", "SIGUSR1"),
        ("12", "SIGUSR2"),
        ("15", "SIGTERM"),
        ("28", "SIGWINCH"),
    ];
    if let Some((_, name)) = NUMBERS.iter().find(|(number, _)| *number == name) {
        return (*name).to_owned();
    }
    let name = name.to_uppercase();
    if name.starts_with("SIG") || name.bytes().all(|byte| byte.is_ascii_digit()) {
        name
    } else {
        format!("SIG{name}")
    }
}

/// A check as it is declared over the one of the image.
fn over(declared: Option<&Health>, image: Option<&Health>) -> Option<Health> {
    let (Some(declared), Some(image)) = (declared, image) else { return declared.or(image).cloned() };
    Some(Health {
        test: declared.test.clone().or_else(|| image.test.clone()),
        interval: declared.interval.or(image.interval),
        timeout: declared.timeout.or(image.timeout),
        retries: declared.retries.or(image.retries),
        start_period: declared.start_period.or(image.start_period),
        start_interval: declared.start_interval.or(image.start_interval),
    })
}

/// A check without what it would have by itself; none at all where nothing is checked.
fn usual_health(health: Option<&Health>) -> Option<Health> {
    let health = health?;
    if matches!(health.test, None | Some(HealthTest::Off)) {
        return None;
    }
    let other =
        |given: Option<Duration>, usual: u64| given.filter(|given| *given != Duration::from_secs(usual));
    Some(Health {
        test: health.test.clone(),
        interval: other(health.interval, 30),
        timeout: other(health.timeout, 30),
        retries: health.retries.filter(|retries| *retries != 3),
        start_period: other(health.start_period, 0),
        start_interval: other(health.start_interval, 5),
    })
}
