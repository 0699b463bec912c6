//! What of the Compose format is taken over: one table that the reader follows, and that documentation is made from.

/// A key of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Support {
    /// Its path: `services.*.image`. A `*` stands for a name or for each item of a list.
    pub key: &'static str,
    /// Whether it is taken over.
    pub level: Level,
    /// What is not taken over, or what happens instead; empty where there is nothing to say.
    pub note: &'static str,
}

/// Whether a key is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// All of it.
    Supported,
    /// Some of it.
    Partly,
    /// None of it: the reader makes a note.
    NotSupported,
}

const fn yes(key: &'static str) -> Support {
    Support { key, level: Level::Supported, note: "" }
}

const fn partly(key: &'static str, note: &'static str) -> Support {
    Support { key, level: Level::Partly, note }
}

const fn no(key: &'static str, note: &'static str) -> Support {
    Support { key, level: Level::NotSupported, note }
}

/// Every key that is known, and what becomes of it. Keys that begin with `x-` may stand everywhere and mean nothing.
pub const SUPPORT: &[Support] = &[
    partly("version", "it is obsolete and changes nothing"),
    yes("name"),
    yes("include"),
    yes("include.*.path"),
    yes("include.*.project_directory"),
    yes("include.*.env_file"),
    yes("services"),
    yes("networks"),
    yes("volumes"),
    yes("secrets"),
    yes("configs"),
    no("models", "there are no models of language here"),
    no("services.*.annotations", "containers have no annotations here"),
    no("services.*.attach", "what a service writes is always kept"),
    yes("services.*.build"),
    yes("services.*.build.context"),
    yes("services.*.build.dockerfile"),
    yes("services.*.build.dockerfile_inline"),
    yes("services.*.build.args"),
    yes("services.*.build.target"),
    yes("services.*.build.cache_from"),
    yes("services.*.build.network"),
    yes("services.*.build.labels"),
    yes("services.*.build.extra_hosts"),
    yes("services.*.build.shm_size"),
    partly(
        "services.*.build.secrets",
        "only secrets of a file or of the environment; they appear where the step says",
    ),
    yes("services.*.build.additional_contexts"),
    yes("services.*.build.no_cache"),
    yes("services.*.build.pull"),
    partly(
        "services.*.build.platforms",
        "one platform at a time is built for: that of the service, or the first",
    ),
    no("services.*.build.cache_to", "where layers are kept is the builder's affair"),
    no("services.*.build.entitlements", "builds have no rights beyond the usual ones"),
    no("services.*.build.isolation", "it is for Windows only"),
    no("services.*.build.privileged", "builds have no rights beyond the usual ones"),
    no("services.*.build.provenance", "builds are not attested"),
    no("services.*.build.sbom", "builds are not attested"),
    no("services.*.build.ssh", "no SSH agent is passed on to builds"),
    no("services.*.build.tags", "a built image has the one name that `image` gives"),
    no("services.*.build.ulimits", "builds have the limits of the engine"),
    no("services.*.blkio_config", "input and output of disks is not limited"),
    yes("services.*.cap_add"),
    yes("services.*.cap_drop"),
    yes("services.*.cgroup"),
    no("services.*.cgroup_parent", "the engine chooses the control group"),
    yes("services.*.command"),
    yes("services.*.configs"),
    yes("services.*.configs.*.source"),
    yes("services.*.configs.*.target"),
    yes("services.*.configs.*.uid"),
    yes("services.*.configs.*.gid"),
    yes("services.*.configs.*.mode"),
    yes("services.*.container_name"),
    no("services.*.cpu_count", "it is for Windows only"),
    no("services.*.cpu_percent", "it is for Windows only"),
    no("services.*.cpu_period", "use `cpus`"),
    no("services.*.cpu_quota", "use `cpus`"),
    no("services.*.cpu_rt_period", "there is no real-time scheduling"),
    no("services.*.cpu_rt_runtime", "there is no real-time scheduling"),
    yes("services.*.cpu_shares"),
    yes("services.*.cpus"),
    yes("services.*.cpuset"),
    no("services.*.credential_spec", "it is for Windows only"),
    yes("services.*.depends_on"),
    yes("services.*.depends_on.*.condition"),
    yes("services.*.depends_on.*.restart"),
    yes("services.*.depends_on.*.required"),
    partly("services.*.deploy", "what is for a swarm of hosts is left out"),
    no("services.*.deploy.endpoint_mode", "it is for a swarm of hosts"),
    no("services.*.deploy.labels", "they are labels of a service of a swarm, not of containers"),
    no("services.*.deploy.mode", "it is for a swarm of hosts"),
    no("services.*.deploy.placement", "there is one host"),
    partly("services.*.deploy.replicas", "there is one container of each service"),
    yes("services.*.deploy.resources"),
    yes("services.*.deploy.resources.limits"),
    yes("services.*.deploy.resources.limits.cpus"),
    yes("services.*.deploy.resources.limits.memory"),
    yes("services.*.deploy.resources.limits.pids"),
    yes("services.*.deploy.resources.reservations"),
    no("services.*.deploy.resources.reservations.cpus", "processors are not kept free; use `cpu_shares`"),
    yes("services.*.deploy.resources.reservations.memory"),
    partly("services.*.deploy.resources.reservations.devices", "only graphic processors"),
    yes("services.*.deploy.resources.reservations.devices.*.capabilities"),
    yes("services.*.deploy.resources.reservations.devices.*.count"),
    yes("services.*.deploy.resources.reservations.devices.*.device_ids"),
    partly("services.*.deploy.resources.reservations.devices.*.driver", "the engine finds it by itself"),
    no("services.*.deploy.resources.reservations.devices.*.options", "drivers are given no options"),
    no("services.*.deploy.resources.reservations.generic_resources", "it is for a swarm of hosts"),
    yes("services.*.deploy.restart_policy"),
    yes("services.*.deploy.restart_policy.condition"),
    yes("services.*.deploy.restart_policy.max_attempts"),
    no("services.*.deploy.restart_policy.delay", "the wait between starts grows by itself"),
    no("services.*.deploy.restart_policy.window", "the wait between starts grows by itself"),
    no("services.*.deploy.rollback_config", "it is for a swarm of hosts"),
    no("services.*.deploy.update_config", "it is for a swarm of hosts"),
    no("services.*.develop", "files are not watched"),
    no("services.*.device_cgroup_rules", "use `devices`"),
    yes("services.*.devices"),
    yes("services.*.devices.*.source"),
    yes("services.*.devices.*.target"),
    yes("services.*.devices.*.permissions"),
    yes("services.*.dns"),
    yes("services.*.dns_opt"),
    yes("services.*.dns_search"),
    yes("services.*.domainname"),
    yes("services.*.entrypoint"),
    yes("services.*.env_file"),
    yes("services.*.env_file.*.path"),
    yes("services.*.env_file.*.required"),
    yes("services.*.env_file.*.format"),
    yes("services.*.environment"),
    yes("services.*.expose"),
    yes("services.*.extends"),
    yes("services.*.extends.service"),
    yes("services.*.extends.file"),
    no("services.*.external_links", "use a network that both are in"),
    yes("services.*.extra_hosts"),
    partly("services.*.gpus", "how many, or all; not which"),
    yes("services.*.gpus.*.capabilities"),
    yes("services.*.gpus.*.count"),
    yes("services.*.gpus.*.device_ids"),
    partly("services.*.gpus.*.driver", "the engine finds it by itself"),
    no("services.*.gpus.*.options", "drivers are given no options"),
    yes("services.*.group_add"),
    yes("services.*.healthcheck"),
    yes("services.*.healthcheck.disable"),
    yes("services.*.healthcheck.interval"),
    yes("services.*.healthcheck.retries"),
    yes("services.*.healthcheck.start_interval"),
    yes("services.*.healthcheck.start_period"),
    yes("services.*.healthcheck.test"),
    yes("services.*.healthcheck.timeout"),
    yes("services.*.hostname"),
    yes("services.*.image"),
    yes("services.*.init"),
    yes("services.*.ipc"),
    no("services.*.isolation", "it is for Windows only"),
    yes("services.*.label_file"),
    yes("services.*.labels"),
    partly(
        "services.*.links",
        "they are dependencies, and other names become aliases in the networks of the other service",
    ),
    yes("services.*.logging"),
    yes("services.*.logging.driver"),
    yes("services.*.logging.options"),
    yes("services.*.mac_address"),
    yes("services.*.mem_limit"),
    yes("services.*.mem_reservation"),
    no("services.*.mem_swappiness", "the host's own is taken"),
    yes("services.*.memswap_limit"),
    no("services.*.models", "there are no models of language here"),
    yes("services.*.network_mode"),
    yes("services.*.networks"),
    yes("services.*.networks.*.aliases"),
    no("services.*.networks.*.driver_opts", "the engine's own are taken"),
    yes("services.*.networks.*.gw_priority"),
    no("services.*.networks.*.interface_name", "the engine names interfaces"),
    yes("services.*.networks.*.ipv4_address"),
    yes("services.*.networks.*.ipv6_address"),
    no("services.*.networks.*.link_local_ips", "the engine gives these addresses"),
    yes("services.*.networks.*.mac_address"),
    yes("services.*.networks.*.priority"),
    no("services.*.oom_kill_disable", "use `oom_score_adj`"),
    yes("services.*.oom_score_adj"),
    yes("services.*.pid"),
    yes("services.*.pids_limit"),
    yes("services.*.platform"),
    yes("services.*.ports"),
    partly("services.*.ports.*.app_protocol", "it says something and changes nothing"),
    yes("services.*.ports.*.host_ip"),
    partly("services.*.ports.*.mode", "there is one host: a port is always its own"),
    partly("services.*.ports.*.name", "it says something and changes nothing"),
    yes("services.*.ports.*.protocol"),
    yes("services.*.ports.*.published"),
    yes("services.*.ports.*.target"),
    yes("services.*.post_start"),
    yes("services.*.post_start.*.command"),
    yes("services.*.post_start.*.environment"),
    yes("services.*.post_start.*.privileged"),
    yes("services.*.post_start.*.user"),
    yes("services.*.post_start.*.working_dir"),
    no("services.*.pre_start", "use a service of its own that others need to have completed"),
    yes("services.*.pre_stop"),
    yes("services.*.pre_stop.*.command"),
    yes("services.*.pre_stop.*.environment"),
    yes("services.*.pre_stop.*.privileged"),
    yes("services.*.pre_stop.*.user"),
    yes("services.*.pre_stop.*.working_dir"),
    yes("services.*.privileged"),
    yes("services.*.profiles"),
    no("services.*.provider", "nothing but containers is run"),
    yes("services.*.pull_policy"),
    no("services.*.pull_refresh_after", "use `pull_policy: every_12h`"),
    yes("services.*.read_only"),
    yes("services.*.restart"),
    yes("services.*.runtime"),
    partly("services.*.scale", "there is one container of each service"),
    yes("services.*.secrets"),
    yes("services.*.secrets.*.source"),
    yes("services.*.secrets.*.target"),
    yes("services.*.secrets.*.uid"),
    yes("services.*.secrets.*.gid"),
    yes("services.*.secrets.*.mode"),
    yes("services.*.security_opt"),
    yes("services.*.shm_size"),
    yes("services.*.stdin_open"),
    yes("services.*.stop_grace_period"),
    yes("services.*.stop_signal"),
    no("services.*.storage_opt", "the engine's own are taken"),
    yes("services.*.sysctls"),
    yes("services.*.tmpfs"),
    yes("services.*.tty"),
    yes("services.*.ulimits"),
    yes("services.*.ulimits.*.soft"),
    yes("services.*.ulimits.*.hard"),
    no("services.*.use_api_socket", "mount the engine's socket by `volumes`"),
    yes("services.*.user"),
    yes("services.*.userns_mode"),
    yes("services.*.uts"),
    partly("services.*.volumes", "folders, volumes and memory; not images, pipes and volumes of a cluster"),
    yes("services.*.volumes.*.type"),
    yes("services.*.volumes.*.source"),
    yes("services.*.volumes.*.target"),
    yes("services.*.volumes.*.read_only"),
    no("services.*.volumes.*.consistency", "it changes nothing on Linux"),
    yes("services.*.volumes.*.bind"),
    yes("services.*.volumes.*.bind.create_host_path"),
    yes("services.*.volumes.*.bind.propagation"),
    no("services.*.volumes.*.bind.recursive", "mounts below it are always taken along"),
    no("services.*.volumes.*.bind.selinux", "files of the host are not relabelled"),
    yes("services.*.volumes.*.volume"),
    no("services.*.volumes.*.volume.labels", "give them where the volume is declared"),
    yes("services.*.volumes.*.volume.nocopy"),
    yes("services.*.volumes.*.volume.subpath"),
    yes("services.*.volumes.*.tmpfs"),
    yes("services.*.volumes.*.tmpfs.size"),
    yes("services.*.volumes.*.tmpfs.mode"),
    no("services.*.volumes.*.image", "images are not mounted"),
    partly("services.*.volumes_from", "folders, named volumes and memory of another service of the project"),
    yes("services.*.working_dir"),
    yes("networks.*.name"),
    yes("networks.*.driver"),
    yes("networks.*.driver_opts"),
    yes("networks.*.ipam"),
    no("networks.*.ipam.driver", "the engine gives addresses"),
    yes("networks.*.ipam.config"),
    yes("networks.*.ipam.config.*.subnet"),
    yes("networks.*.ipam.config.*.ip_range"),
    yes("networks.*.ipam.config.*.gateway"),
    no("networks.*.ipam.config.*.aux_addresses", "no addresses are kept free"),
    no("networks.*.ipam.options", "the engine gives addresses"),
    yes("networks.*.external"),
    yes("networks.*.external.name"),
    yes("networks.*.internal"),
    no("networks.*.enable_ipv4", "every network has addresses of version 4"),
    yes("networks.*.enable_ipv6"),
    yes("networks.*.attachable"),
    yes("networks.*.labels"),
    yes("volumes.*.name"),
    yes("volumes.*.driver"),
    yes("volumes.*.driver_opts"),
    yes("volumes.*.external"),
    yes("volumes.*.external.name"),
    yes("volumes.*.labels"),
    yes("secrets.*.name"),
    yes("secrets.*.environment"),
    yes("secrets.*.file"),
    yes("secrets.*.content"),
    yes("secrets.*.external"),
    yes("secrets.*.external.name"),
    no("secrets.*.labels", "what appears as a file has no labels"),
    no("secrets.*.driver", "it is for a swarm of hosts"),
    no("secrets.*.driver_opts", "it is for a swarm of hosts"),
    no("secrets.*.template_driver", "it is for a swarm of hosts"),
    yes("configs.*.name"),
    yes("configs.*.content"),
    yes("configs.*.environment"),
    yes("configs.*.file"),
    yes("configs.*.external"),
    yes("configs.*.external.name"),
    no("configs.*.labels", "what appears as a file has no labels"),
    no("configs.*.driver", "it is for a swarm of hosts"),
    no("configs.*.driver_opts", "it is for a swarm of hosts"),
    no("configs.*.template_driver", "it is for a swarm of hosts"),
];

/// The keys that may stand directly below a path; the empty path is the top of a file.
pub(super) fn keys_below(path: &str) -> impl Iterator<Item = (&'static str, &'static Support)> {
    SUPPORT.iter().filter_map(move |support| {
        let key = match path {
            "" => support.key,
            _ => support.key.strip_prefix(path)?.strip_prefix('.')?,
        };
        (!key.contains('.')).then_some((key, support))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::import::compose::keys::READERS;

    #[test]
    fn the_table_has_what_the_reader_reads_and_nothing_else() {
        let table: BTreeSet<&str> = keys_below("services.*")
            .filter(|(_, support)| support.level != Level::NotSupported)
            .map(|(key, _)| key)
            .collect();
        let read: BTreeSet<&str> = READERS.iter().map(|(key, _)| *key).collect();
        assert_eq!(table, read);
        assert_eq!(read.len(), READERS.len(), "a key is read twice");
    }

    #[test]
    fn every_key_stands_once_below_one_that_is_there_and_says_what_is_left_out() {
        let mut known: BTreeSet<&str> = BTreeSet::new();
        for support in SUPPORT {
            assert!(known.insert(support.key), "{} is there twice", support.key);
            assert_eq!(support.note.is_empty(), support.level == Level::Supported, "{}", support.key);
            if let Some((above, _)) = support.key.rsplit_once('.') {
                let above = above.trim_end_matches(".*");
                assert!(known.contains(above), "{} stands below nothing", support.key);
            }
        }
    }
}
