//! The options of `docker run` that are read, and what each does.

use super::values as v;
use super::{Draft, Wrong};
use crate::container::HealthTest;
use crate::import::devcontainer::settings::capability;
use crate::import::devcontainer::{ports, size};
use crate::manifest::Location;

/// An option of `docker run`.
pub(super) struct RunOption {
    pub(super) name: &'static str,
    pub(super) short: Option<char>,
    pub(super) reads: Reads,
}

/// How an option is read.
#[derive(Clone, Copy)]
pub(super) enum Reads {
    /// It is there or not.
    Flag(fn(&mut Draft, bool)),
    /// It has a value.
    Value(Set),
    /// It is there or not, and only told.
    NoteFlag(&'static str),
    /// It has a value, and is only told.
    NoteValue(&'static str),
}

/// Takes a value up.
type Set = fn(&mut Draft, &str, &Location) -> Result<(), Wrong>;

const fn flag(name: &'static str, set: fn(&mut Draft, bool)) -> RunOption {
    RunOption { name, short: None, reads: Reads::Flag(set) }
}

const fn value(name: &'static str, set: Set) -> RunOption {
    RunOption { name, short: None, reads: Reads::Value(set) }
}

const fn note_flag(name: &'static str, said: &'static str) -> RunOption {
    RunOption { name, short: None, reads: Reads::NoteFlag(said) }
}

const fn note_value(name: &'static str, said: &'static str) -> RunOption {
    RunOption { name, short: None, reads: Reads::NoteValue(said) }
}

impl RunOption {
    const fn short(self, letter: char) -> Self {
        Self { short: Some(letter), ..self }
    }
}

/// An option whose value is taken as a text into one field.
macro_rules! text {
    ($name:literal, $($field:ident).+) => {
        value($name, |run, text, _| {
            run.container.$($field).+ = Some(v::filled(text)?.to_owned());
            Ok(())
        })
    };
}

/// An option whose value is read into one field.
macro_rules! read {
    ($name:literal, $($field:ident).+, $read:expr) => {
        value($name, |run, text, _| {
            run.container.$($field).+ = Some($read(text)?);
            Ok(())
        })
    };
}

/// An option that may be given several times, and adds to a field what its value is read as.
macro_rules! add {
    ($name:literal, $($field:ident).+, $read:expr) => {
        value($name, |run, text, _| {
            run.container.$($field).+.extend([$read(text)?]);
            Ok(())
        })
    };
}

/// All of them.
pub(super) const OPTIONS: &[RunOption] = &[
    add!("cap-add", cap_add, |text| v::filled(text).map(capability)),
    add!("cap-drop", cap_drop, |text| v::filled(text).map(capability)),
    flag("privileged", |run, on| run.container.privileged = on),
    flag("init", |run, on| run.container.init = Some(on)),
    flag("read-only", |run, on| run.container.read_only = on),
    flag("tty", |run, on| run.container.tty = on).short('t'),
    flag("interactive", |run, on| run.container.stdin_open = on).short('i'),
    value("network", |run, text, _| v::network(run, text)),
    value("net", |run, text, _| v::network(run, text)),
    value("network-alias", |run, text, at| run.attach(text, at, |to, name| to.aliases.extend([name]))),
    value("net-alias", |run, text, at| run.attach(text, at, |to, name| to.aliases.extend([name]))),
    value("ip", |run, text, at| run.attach(text, at, |to, ip| to.ipv4 = Some(ip))),
    value("ip6", |run, text, at| run.attach(text, at, |to, ip| to.ipv6 = Some(ip))),
    value("mac-address", |run, text, at| run.attach(text, at, |to, mac| to.mac = Some(mac))),
    value("volume", v::volume).short('v'),
    value("mount", v::mount),
    add!("tmpfs", mounts, v::tmpfs),
    value("env", v::env).short('e'),
    value("env-file", |run, text, at| v::file(&mut run.env_files, text, at)),
    value("publish", |run, text, _| {
        run.container.ports.extend(ports::published(text)?);
        Ok(())
    })
    .short('p'),
    text!("hostname", hostname).short('h'),
    text!("domainname", domainname),
    add!("add-host", extra_hosts, v::extra_host),
    add!("device", devices, v::device),
    read!("shm-size", shm_size, size::docker),
    read!("memory", resources.memory, size::docker).short('m'),
    read!("memory-swap", resources.memory_swap, v::memory_swap),
    read!("memory-reservation", resources.memory_reservation, size::docker),
    read!("cpus", resources.cpus, v::cpus),
    read!("cpu-shares", resources.cpu_shares, v::integer).short('c'),
    text!("cpuset-cpus", resources.cpuset),
    read!("pids-limit", resources.pids, v::integer),
    read!("oom-score-adj", resources.oom_score_adj, v::integer),
    read!("gpus", resources.gpus, v::gpus),
    add!("security-opt", security_opt, |text| v::filled(text).map(str::to_owned)),
    text!("user", user).short('u'),
    text!("workdir", working_dir).short('w'),
    add!("ulimit", ulimits, v::ulimit),
    add!("sysctl", sysctls, v::pair),
    add!("dns", dns, |text| v::filled(text).map(str::to_owned)),
    add!("dns-search", dns_search, |text| v::filled(text).map(str::to_owned)),
    add!("dns-opt", dns_opt, |text| v::filled(text).map(str::to_owned)),
    add!("dns-option", dns_opt, |text| v::filled(text).map(str::to_owned)),
    add!("group-add", group_add, |text| v::filled(text).map(str::to_owned)),
    text!("ipc", ipc),
    text!("pid", pid),
    text!("uts", uts),
    text!("userns", userns),
    text!("cgroupns", cgroupns),
    add!("label", labels, v::label).short('l'),
    value("label-file", |run, text, at| v::file(&mut run.label_files, text, at)),
    text!("platform", platform),
    text!("runtime", runtime),
    text!("stop-signal", stop_signal),
    read!("stop-timeout", stop_grace, v::seconds),
    value("entrypoint", |run, text, _| {
        run.container.entrypoint =
            Some(Some(text.to_owned()).filter(|text| !text.is_empty()).into_iter().collect());
        Ok(())
    }),
    value("log-driver", |run, text, _| {
        v::logging(&mut run.container).driver = Some(v::filled(text)?.to_owned());
        Ok(())
    }),
    value("log-opt", |run, text, _| {
        v::logging(&mut run.container).options.extend([v::pair(text)?]);
        Ok(())
    }),
    value("health-cmd", |run, text, _| {
        v::health(&mut run.container).test = Some(HealthTest::Shell(v::filled(text)?.to_owned()));
        Ok(())
    }),
    value("health-interval", |run, text, _| {
        v::health(&mut run.container).interval = Some(v::duration(text)?);
        Ok(())
    }),
    value("health-timeout", |run, text, _| {
        v::health(&mut run.container).timeout = Some(v::duration(text)?);
        Ok(())
    }),
    value("health-retries", |run, text, _| {
        v::health(&mut run.container).retries = Some(v::integer(text)?);
        Ok(())
    }),
    value("health-start-period", |run, text, _| {
        v::health(&mut run.container).start_period = Some(v::duration(text)?);
        Ok(())
    }),
    value("health-start-interval", |run, text, _| {
        v::health(&mut run.container).start_interval = Some(v::duration(text)?);
        Ok(())
    }),
    flag("no-healthcheck", |run, on| {
        v::health(&mut run.container).test = on.then_some(HealthTest::Off);
    }),
    note_value("name", "containers are named after the project"),
    note_value("restart", "`up` is what starts it again"),
    note_value("pull", "`up` decides when an image is fetched"),
    note_value("cidfile", "the container is found by the project"),
    note_flag("rm", "the container stays until `down` takes it away"),
    note_flag("detach", "it runs in the background in any case").short('d'),
    note_value("expose", "ports need not be exposed to be reached"),
    note_value("attach", "it runs in the background").short('a'),
    note_value("detach-keys", "it runs in the background"),
    note_flag("quiet", "`up` says what it does in its own way").short('q'),
    note_flag("disable-content-trust", "signatures of images are not looked at"),
    note_flag("publish-all", "only ports that are named are published").short('P'),
    note_flag("sig-proxy", "it runs in the background"),
];

/// Options of `docker run` that there is nothing for here. They are refused, since a container without them is not
/// what was asked for.
pub(super) const WITHOUT_EQUAL: &[&str] = &[
    "annotation",
    "blkio-weight",
    "blkio-weight-device",
    "cgroup-parent",
    "cpu-count",
    "cpu-percent",
    "cpu-period",
    "cpu-quota",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "cpuset-mems",
    "device-cgroup-rule",
    "device-read-bps",
    "device-read-iops",
    "device-write-bps",
    "device-write-iops",
    "isolation",
    "kernel-memory",
    "link",
    "link-local-ip",
    "memory-swappiness",
    "oom-kill-disable",
    "storage-opt",
    "use-api-socket",
    "volume-driver",
    "volumes-from",
];
