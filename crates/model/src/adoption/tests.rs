#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::container::{Attachment, ContainerMount, Health, HealthTest, MountSource};
use crate::desired::FileDigest;
use crate::fingerprint::differences;
use crate::manifest::{ByteSize, Layer, parse};

const MANIFEST: &str = r#"setpoint = 1
[project]
name = "shop"
[engine]
default = "docker"
[secret.word]
env = "WORD"
[service.db]
image = "db:1"
command = ["serve", "--all"]
env = { A = "1", PASSWORD = "${secret.word}" }
volumes = { data = "/data" }
mounts = [{ source = "conf", target = "/conf", read_only = true }]
ports = ["80:8080", "9000"]
user = "root"
limits = { memory = "64MiB" }
health = { exec = ["check"], retries = 3 }
[env.dev]
image = "db:1"
network = "private"
ports = ["3000"]
"#;

fn env(name: &str) -> Env {
    let manifest = parse(&[Layer { name: "setpoint.toml", text: MANIFEST }], "shop").unwrap();
    manifest.envs.into_iter().find(|(unit, _)| unit.as_str() == name).unwrap().1
}

fn capabilities() -> Capabilities {
    Capabilities {
        engine: "docker",
        mounts: Class::Recreate,
        limits: Class::Hot,
        holds_ports: crate::capabilities::HoldsPorts::None,
        container: Class::Recreate,
        private_network: true,
        copies_share_blocks: false,
    }
}

fn port(container: u16, address: &str, host: u16) -> PublishedPort {
    let address = Some(address.to_owned()).filter(|address| !address.is_empty());
    PublishedPort { container, protocol: "tcp".to_owned(), address, host: Some(host) }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn bind(source: &str, target: &str, read_only: bool) -> ContainerMount {
    let source = MountSource::Bind { source: source.to_owned(), create: false, propagation: None };
    ContainerMount { target: target.to_owned(), read_only, source }
}

fn volume(name: &str, target: &str) -> ContainerMount {
    let source = MountSource::Volume { name: Some(name.to_owned()), no_copy: false, subpath: None };
    ContainerMount { target: target.to_owned(), read_only: false, source }
}

fn networks(name: &str, aliases: &[&str]) -> Option<NetworkMode> {
    let attachment = Attachment { aliases: words(aliases).into_iter().collect(), ..Attachment::default() };
    Some(NetworkMode::Networks([(name.to_owned(), attachment)].into()))
}

/// A container that somebody made just as `db` is declared.
fn as_declared() -> Running {
    let container = Container {
        entrypoint: Some(words(&["serve"])),
        command: Some(words(&["--all"])),
        env: [("PATH", "/bin"), ("A", "1")].map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        hostname: Some("0123456789ab".to_owned()),
        init: Some(true),
        mounts: vec![bind("/p/conf", "/conf/", true), volume("shop_data", "/data")],
        ports: vec![port(8080, "0.0.0.0", 80), port(9000, "127.0.0.1", 9000)],
        network: networks("shop_default", &["0123456789ab"]),
        health: Some(Health {
            test: Some(HealthTest::Exec(words(&["check"]))),
            interval: Some(std::time::Duration::from_secs(30)),
            ..Health::default()
        }),
        ..Container::default()
    };
    let mut container = container;
    container.resources.memory = Some(ByteSize(64 << 20));
    container.resources.memory_swap = Some(128 << 20);
    Running {
        container,
        image: Container { env: [("PATH".to_owned(), "/bin".to_owned())].into(), ..Container::default() },
        image_reference: "docker.io/library/db:1".to_owned(),
        image_digest: "sha256:1".to_owned(),
        restart: RestartPolicy::Always,
        names: ["db".to_owned(), "0123456789ab".to_owned()].into(),
        ..Running::default()
    }
}

fn told(unit: &str, facts: &Facts, running: &Running) -> Vec<String> {
    let (env, capabilities) = (env(unit), capabilities());
    let absolute = |path: &str| if path.starts_with('/') { path.to_owned() } else { format!("/p/{path}") };
    let paths = Paths { root: "/p".to_owned(), absolute: &absolute };
    let recorded = leaves(&env, facts, &capabilities, running, &paths);
    let declared = desired(&env, facts, &capabilities);
    let prefix = format!("{}.{unit}.", if env.is_service() { "service" } else { "env" });
    let found = differences(&recorded, &declared.fingerprint, &declared.unresolved);
    found
        .into_iter()
        .map(|one| {
            let value = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
            let path = one.key.path.trim_start_matches(&prefix).to_owned();
            format!("{path}: {} -> {}", value(one.old), value(one.new))
        })
        .collect()
}

fn facts() -> Facts {
    Facts { base_digest: Some("sha256:1".to_owned()), ..Facts::default() }
}

/// That a secret is in the open is told of every container that was made with it.
fn differs(change: impl FnOnce(&mut Running)) -> Vec<String> {
    let mut running = as_declared();
    change(&mut running);
    let facts = Facts { user: "root".to_owned(), ..facts() };
    told("db", &facts, &running).into_iter().filter(|line| !line.starts_with("env.PASSWORD")).collect()
}

#[test]
fn what_runs_as_it_is_declared_differs_in_nothing() {
    assert_eq!(differs(|_| {}), [""; 0]);
}

#[test]
fn each_setting_that_runs_otherwise_is_told_alone() {
    type Case = (fn(&mut Running), &'static [&'static str]);
    let cases: [Case; 18] = [
        (|r| r.image_digest = "sha256:2".to_owned(), &["base digest: sha256:2 -> sha256:1"]),
        (
            |r| {
                r.image_digest = "sha256:2".to_owned();
                r.image_reference = "other".to_owned();
            },
            &["base: image other -> image db:1", "base digest: sha256:2 -> sha256:1"],
        ),
        (
            |r| r.container.command = Some(words(&["--some"])),
            &["command: [\"--some\"] -> [\"serve\",\"--all\"]", "entrypoint: [\"serve\"] -> -"],
        ),
        (|r| drop(r.container.env.insert("A".to_owned(), "2".to_owned())), &["env A: 2 -> 1"]),
        (|r| drop(r.container.env.insert("B".to_owned(), "2".to_owned())), &["env B: 2 -> -"]),
        (|r| drop(r.container.env.remove("A")), &["env A: - -> 1"]),
        (|r| r.container.user = Some("dev".to_owned()), &["user: dev -> root"]),
        (|r| r.container.init = None, &["init: - -> true"]),
        (|r| r.container.privileged = true, &["privileged: true -> -"]),
        (|r| drop(r.container.mounts.remove(0)), &["mounts /conf: - -> conf (read-only)"]),
        (
            |r| r.container.mounts[1] = volume("own", "/data"),
            &[
                "mounts /data: kind volume, name own, target /data -> kind volume, name shop_data, target /data",
            ],
        ),
        (|r| drop(r.container.ports.remove(0)), &["ports 8080: - -> container 8080, host 80, protocol tcp"]),
        (|r| r.container.resources = Default::default(), &["limits.memory: - -> 64MiB"]),
        (
            |r| r.container.network = networks("other", &[]),
            &[
                "network networks: other  -> shop_default aliases [\"db\"]",
                "network shop_default: - -> usual driver",
            ],
        ),
        (
            |r| r.container.network = networks("shop_default", &["db", "more"]),
            &["network networks: shop_default aliases [\"db\",\"more\"] -> shop_default aliases [\"db\"]"],
        ),
        (|r| drop(r.container.labels.insert("own".to_owned(), "1".to_owned())), &["labels own: 1 -> -"]),
        (|r| r.container.health = None, &["health retries: - -> 3", "health test: - -> exec [\"check\"]"]),
        (|r| r.beyond.push(("auto_remove".to_owned(), "true".to_owned())), &["auto_remove: true -> -"]),
    ];
    for (at, (change, expected)) in cases.into_iter().enumerate() {
        assert_eq!(differs(change), expected, "case {at}");
    }
}

#[test]
fn what_engines_and_images_do_by_themselves_is_no_difference() {
    let nothing = [""; 0];
    let labels = |r: &mut Running| {
        r.container.labels.insert("com.docker.compose.project".to_owned(), "shop".to_owned());
        r.image.labels.insert("maintainer".to_owned(), "a".to_owned());
        r.container.labels.insert("maintainer".to_owned(), "a".to_owned());
    };
    assert_eq!(differs(labels), nothing);
    let own = "0123456789abcdef".repeat(4);
    let nameless = |r: &mut Running| {
        r.container.mounts.push(volume(&own, "/var/lib/db"));
        r.image.mounts.push(volume("", "/var/lib/db"));
    };
    assert_eq!(differs(nameless), nothing);
    assert_eq!(differs(|r| r.container.mounts.push(volume(&own, "/var/lib/db"))).len(), 1);
    let limits = |r: &mut Running| {
        r.container.resources.pids = Some(2048);
        r.by_itself = &["resources.pids"];
    };
    assert_eq!(differs(limits), nothing);
    assert_eq!(differs(|r| r.container.resources.pids = Some(2048)), ["limits.pids: 2048 -> -"]);
}

#[test]
fn a_secret_in_the_open_is_told_and_not_shown() {
    let mut running = as_declared();
    running.container.env.insert("PASSWORD".to_owned(), "hunter2".to_owned());
    let facts = Facts { user: "root".to_owned(), ..facts() };
    let told = told("db", &facts, &running);
    assert!(told.contains(&"env.PASSWORD: in the open -> ${secret.word}".to_owned()), "{told:?}");
    assert!(!told.join(" ").contains("hunter2"));
}

#[test]
fn the_files_of_a_build_count_where_it_is_the_image_that_they_give() {
    let env = Env { base: Base::Build { build: Box::default() }, ..env("db") };
    let file = FileDigest { path: "Dockerfile".to_owned(), digest: crate::digest::Digest::of_bytes(b"x") };
    let absolute = |path: &str| path.to_owned();
    let paths = Paths { root: "/p".to_owned(), absolute: &absolute };
    for (known, counts) in [(Some("sha256:1"), true), (Some("sha256:2"), false), (None, false)] {
        let base_digest = known.map(str::to_owned);
        let facts = Facts { build: vec![file.clone()], base_digest, ..Facts::default() };
        let leaves = leaves(&env, &facts, &capabilities(), &as_declared(), &paths);
        assert_eq!(leaves.of_class(Class::Rebuild).count() > 0, counts, "{known:?}");
    }
}

#[test]
fn of_an_environment_the_first_process_is_nobodys_concern() {
    let mut running = Running {
        container: Container {
            command: Some(words(&["sleep", "1000"])),
            mounts: vec![bind("/p", "/workspace", false)],
            ports: vec![port(3000, "127.0.0.1", 3000)],
            network: networks("bridge", &[]),
            ..Container::default()
        },
        image_digest: "sha256:1".to_owned(),
        ..Running::default()
    };
    assert_eq!(told("dev", &facts(), &running), [""; 0]);
    running.container.mounts.clear();
    running.container.ports[0].host = Some(3001);
    assert_eq!(
        told("dev", &facts(), &running),
        [
            "ports 3000: address 127.0.0.1, container 3000, host 3001, protocol tcp -> open",
            "workspace: - -> /workspace",
        ]
    );
}
