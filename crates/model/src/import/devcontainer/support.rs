//! Every key of a devcontainer.json and every argument of its `runArgs`, and what is done with it.

use crate::import::Level;
use crate::import::support::{Support, full, none, partly};

/// What is said about arguments that are an error.
const REFUSED: &str = "it is refused: there is nothing that does what it asks for";

/// What is done with each key and each argument. The parser knows the keys that stand here, and no others.
pub const SUPPORT: &[Support] = &[
    partly("$schema", "it is for editors"),
    full("name"),
    full("image"),
    full("build"),
    full("build.dockerfile"),
    full("build.context"),
    full("build.args"),
    full("build.target"),
    full("build.cacheFrom"),
    partly(
        "build.options",
        "the arguments of `docker build` that the builder has settings for; `--secret` on Docker only, `--ssh` not",
    ),
    full("dockerFile"),
    full("context"),
    full("dockerComposeFile"),
    full("service"),
    full("runServices"),
    partly("shutdownAction", "there is no editor to be closed; `down` stops what runs"),
    full("features"),
    full("overrideFeatureInstallOrder"),
    full("initializeCommand"),
    full("onCreateCommand"),
    full("updateContentCommand"),
    full("postCreateCommand"),
    full("postStartCommand"),
    full("postAttachCommand"),
    partly("waitFor", "an `up` waits for all of them"),
    full("userEnvProbe"),
    full("remoteUser"),
    full("containerUser"),
    full("updateRemoteUserUID"),
    full("overrideCommand"),
    full("containerEnv"),
    full("remoteEnv"),
    full("mounts"),
    full("workspaceMount"),
    full("workspaceFolder"),
    partly("runArgs", "the arguments below"),
    full("forwardPorts"),
    partly("portsAttributes", "what an editor does with a port is left to it"),
    partly("portsAttributes.*.label", "it is left to editors"),
    partly("portsAttributes.*.protocol", "it is left to editors"),
    partly("portsAttributes.*.onAutoForward", "it is left to editors"),
    full("portsAttributes.*.requireLocalPort"),
    partly("portsAttributes.*.elevateIfNeeded", "no more rights are asked for"),
    partly("otherPortsAttributes", "what an editor does with a port is left to it"),
    partly("otherPortsAttributes.label", "it is left to editors"),
    partly("otherPortsAttributes.protocol", "it is left to editors"),
    partly("otherPortsAttributes.onAutoForward", "it is left to editors"),
    partly("otherPortsAttributes.requireLocalPort", "it is left to editors"),
    partly("otherPortsAttributes.elevateIfNeeded", "no more rights are asked for"),
    full("appPort"),
    full("init"),
    full("privileged"),
    full("capAdd"),
    full("securityOpt"),
    partly("secrets", "what is asked for is told; values are given in `env` of the manifest"),
    full("secrets.*.description"),
    full("secrets.*.documentationUrl"),
    partly("hostRequirements", "where the machine has less, that is told"),
    full("hostRequirements.cpus"),
    full("hostRequirements.memory"),
    partly("hostRequirements.storage", "compared with what is free where the engine keeps its data"),
    partly(
        "hostRequirements.gpu",
        "all there are, where Docker has the runtime `nvidia`; else `--gpus` in `runArgs` asks for them",
    ),
    partly("hostRequirements.gpu.cores", "that there is one is looked at, and not its cores"),
    partly("hostRequirements.gpu.memory", "that there is one is looked at, and not its memory"),
    partly("customizations", "kept as they are, for the editors that they are meant for"),
    none("settings", "this old key is not read; editors look for it in `customizations.vscode.settings`"),
    none("extensions", "this old key is not read; editors look for it in `customizations.vscode.extensions`"),
    none("devPort", "this old key is not read; editors choose the port of their server themselves"),
    full("--cap-add"),
    full("--cap-drop"),
    full("--privileged"),
    full("--init"),
    full("--read-only"),
    full("--tty"),
    full("--interactive"),
    full("--network"),
    full("--net"),
    full("--network-alias"),
    full("--net-alias"),
    full("--ip"),
    full("--ip6"),
    full("--mac-address"),
    partly("--volume", "`z`, `Z` and what asks for consistency have no effect"),
    partly("--mount", "`consistency` and drivers of volumes have no effect"),
    full("--tmpfs"),
    full("--env"),
    full("--env-file"),
    full("--publish"),
    full("--hostname"),
    full("--domainname"),
    full("--add-host"),
    full("--device"),
    full("--shm-size"),
    full("--memory"),
    full("--memory-swap"),
    full("--memory-reservation"),
    full("--cpus"),
    full("--cpu-shares"),
    full("--cpuset-cpus"),
    full("--pids-limit"),
    full("--oom-score-adj"),
    partly("--gpus", "`all` or a number; single devices cannot be chosen"),
    full("--security-opt"),
    full("--user"),
    full("--workdir"),
    full("--ulimit"),
    full("--sysctl"),
    full("--dns"),
    full("--dns-search"),
    full("--dns-opt"),
    full("--dns-option"),
    full("--group-add"),
    full("--ipc"),
    full("--pid"),
    full("--uts"),
    full("--userns"),
    full("--cgroupns"),
    full("--label"),
    full("--label-file"),
    full("--platform"),
    full("--runtime"),
    full("--stop-signal"),
    full("--stop-timeout"),
    full("--entrypoint"),
    full("--log-driver"),
    full("--log-opt"),
    full("--health-cmd"),
    full("--health-interval"),
    full("--health-timeout"),
    full("--health-retries"),
    full("--health-start-period"),
    full("--health-start-interval"),
    full("--no-healthcheck"),
    none("--name", "containers are named after the project"),
    none("--restart", "`up` is what starts it again"),
    none("--pull", "`up` decides when an image is fetched"),
    none("--cidfile", "the container is found by the project"),
    none("--rm", "the container stays until `down` takes it away"),
    none("--detach", "it runs in the background in any case"),
    none("--publish-all", "only ports that are named are published"),
    none("--sig-proxy", "it runs in the background"),
    none("--expose", "ports need not be exposed to be reached"),
    none("--attach", "it runs in the background"),
    none("--detach-keys", "it runs in the background"),
    none("--quiet", "`up` says what it does in its own way"),
    none("--disable-content-trust", "signatures of images are not looked at"),
    none("--annotation", REFUSED),
    none("--blkio-weight", REFUSED),
    none("--blkio-weight-device", REFUSED),
    none("--cgroup-parent", REFUSED),
    none("--cpu-count", REFUSED),
    none("--cpu-percent", REFUSED),
    none("--cpu-period", REFUSED),
    none("--cpu-quota", REFUSED),
    none("--cpu-rt-period", REFUSED),
    none("--cpu-rt-runtime", REFUSED),
    none("--cpuset-mems", REFUSED),
    none("--device-cgroup-rule", REFUSED),
    none("--device-read-bps", REFUSED),
    none("--device-read-iops", REFUSED),
    none("--device-write-bps", REFUSED),
    none("--device-write-iops", REFUSED),
    none("--isolation", REFUSED),
    none("--kernel-memory", REFUSED),
    none("--link", REFUSED),
    none("--link-local-ip", REFUSED),
    none("--memory-swappiness", REFUSED),
    none("--oom-kill-disable", REFUSED),
    none("--storage-opt", REFUSED),
    none("--use-api-socket", REFUSED),
    none("--volume-driver", REFUSED),
    none("--volumes-from", REFUSED),
];

/// The keys right below another one; `""` is the file itself.
pub(super) fn keys_of(section: &str) -> Vec<&'static str> {
    let keys = SUPPORT.iter().map(|support| support.key).filter(|key| !key.starts_with("--"));
    keys.filter_map(|key| match section {
        "" => Some(key),
        _ => key.strip_prefix(section)?.strip_prefix('.'),
    })
    .filter(|key| !key.contains('.'))
    .collect()
}

/// What is told about a key that does nothing.
pub(super) fn told(key: &str) -> Option<&'static str> {
    let support = SUPPORT.iter().find(|support| support.key == key)?;
    (support.level == Level::NotSupported).then_some(support.note)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::import::Text;
    use crate::import::devcontainer::{parse, run_args};

    /// A devcontainer.json in which this key has this value.
    fn with(key: &str, value: &str) -> String {
        let mut text = value.to_owned();
        for part in key.split('.').rev() {
            let part = if part == "*" { "X" } else { part };
            text = format!("{{ \"{part}\": {text} }}");
        }
        text
    }

    #[test]
    fn every_key_that_is_known_is_read() {
        let opaque = ["$schema", "customizations", "settings", "extensions", "devPort"];
        for Support { key, level, note } in SUPPORT.iter().filter(|support| !support.key.starts_with("--")) {
            let text = with(key, "[[[]]]");
            let problems = parse(&Text::new("devcontainer.json", &text)).unwrap_err();
            let path = key.replace('*', "X");
            let told = problems.iter().any(|problem| problem.what.starts_with(&format!("`{path}")));
            assert_eq!(told, !opaque.contains(key), "{key} is not read: {problems:?}");
            assert_eq!(note.is_empty(), *level == Level::Supported, "{key}");
        }
    }

    #[test]
    fn a_key_that_is_not_known_is_not_read() {
        let text = r#"{ "image": "x", "frobnicate": [[[]]] }"#;
        let file = parse(&Text::new("devcontainer.json", text)).unwrap();
        assert_eq!(file.notes.len(), 1);
    }

    #[test]
    fn every_argument_that_is_read_is_known_and_no_other() {
        let known: BTreeSet<String> = SUPPORT
            .iter()
            .map(|support| support.key.to_owned())
            .filter(|key| key.starts_with("--"))
            .collect();
        assert_eq!(run_args::names().collect::<BTreeSet<_>>(), known);
    }

    #[test]
    fn each_stands_here_once() {
        let keys: BTreeSet<&str> = SUPPORT.iter().map(|support| support.key).collect();
        assert_eq!(keys.len(), SUPPORT.len());
    }
}
