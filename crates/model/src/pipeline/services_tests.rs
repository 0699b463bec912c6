use super::*;
use crate::capabilities::HoldsPorts;
use crate::manifest::{Layer, Manifest, parse};

const SHOP: &str = r#"
setpoint = 1
[project]
name = "shop"
[secret.word]
generate = "hex16"
[service.db]
image = "postgres:16"
ports = ["5432"]
volumes = { data = "/data" }
mounts = [{ source = "pg.conf", target = "/etc/pg.conf" }]
env = { PASSWORD = "${secret.word}", MODE = "fast" }
limits = { memory = "512MiB" }
stop_grace = "1m"
health = { exec = ["pg_isready"] }
first_boot = { seed = { run = "./seed" } }
[service.migrate]
image = "shop:1"
one_shot = true
depends_on = { db = "healthy" }
[service.web]
image = "shop:1"
depends_on = { migrate = "completed", db = "started" }
"#;

fn manifest(text: &str) -> Manifest {
    parse(&[Layer { name: "setpoint.toml", text }], "shop").unwrap()
}

fn names(names: &[&str]) -> Vec<UnitName> {
    names.iter().map(|name| UnitName::new(*name).unwrap()).collect()
}

fn capabilities() -> Capabilities {
    Capabilities {
        engine: "embedded",
        mounts: Class::Restart,
        limits: Class::Hot,
        holds_ports: HoldsPorts::All,
        container: Class::Restart,
        private_network: true,
        copies_share_blocks: false,
    }
}

fn key_of(text: &str, facts: &Facts) -> Fingerprint {
    let manifest = manifest(text);
    leaves(&manifest.envs[&names(&["db"])[0]], facts, &capabilities(), &[])
}

#[test]
fn each_service_comes_after_what_it_depends_on_and_once() {
    let manifest = manifest(SHOP);
    for (named, expected) in [
        (vec!["db"], vec!["db"]),
        (vec!["web"], vec!["db", "migrate", "web"]),
        (vec!["web", "db", "migrate"], vec!["db", "migrate", "web"]),
        (vec![], vec![]),
    ] {
        let found = needed(&names(&named), &manifest.envs).unwrap();
        let found: Vec<&str> = found.iter().map(|env| env.name.as_str()).collect();
        assert_eq!(found, expected, "{named:?}");
    }
}

#[test]
fn what_instances_would_share_is_refused_by_name() {
    for (service, why) in [
        ("image = \"a\"\nnetwork = \"host\"", "the host's network"),
        ("image = \"a\"\nnetwork = \"none\"", "in no network"),
        (
            "image = \"a\"\nfirst_boot = { told = { host = \"./tell\" } }",
            "`told` of its first boot runs on the host",
        ),
    ] {
        let manifest = manifest(&format!("setpoint = 1\n[service.db]\n{service}\n"));
        let (item, problem) = needed(&names(&["db"]), &manifest.envs).unwrap_err();
        assert_eq!((item, problem.code), (0, "shared-service"));
        assert!(problem.why.as_ref().unwrap().contains(why), "{problem:?}");
    }
}

#[test]
fn an_instance_has_nothing_of_the_project_s_own() {
    let manifest = manifest(SHOP);
    let db = isolated(&manifest.envs[&names(&["db"])[0]], "shop-1", true);
    let of = db.service.as_ref().unwrap();
    assert_eq!(of.volumes[0].name, "shop-1_shop_data");
    assert_eq!((of.networks[0].name.as_str(), of.networks[0].internal), ("shop-1_services", true));
    assert_eq!(of.restart, RestartPolicy::No);
    assert!(db.container.ports.is_empty() && db.mounts[0].read_only);
    let Some(NetworkMode::Networks(networks)) = &db.container.network else { panic!("{db:?}") };
    assert!(networks["shop-1_services"].aliases.contains("db"));
    let mounted = db.container.mounts.iter().map(|mount| &mount.source);
    let names: Vec<_> = mounted
        .filter_map(|of| if let MountSource::Volume { name, .. } = of { name.clone() } else { None })
        .collect();
    assert_eq!(names, ["shop-1_shop_data"]);
}

#[test]
fn what_a_service_is_counts_and_how_it_is_looked_after_does_not() {
    let facts = Facts { base_digest: Some("sha256:1".to_owned()), ..Facts::default() };
    let before = key_of(SHOP, &facts).digest();
    for (from, to) in [
        ("fast", "slow"),
        ("./seed", "./seed-more"),
        ("/data", "/var/data"),
        ("image = \"postgres:16\"", "image = \"postgres:16\"\ncommand = \"run\""),
        ("${secret.word}", "x${secret.word}"),
    ] {
        assert_ne!(key_of(&SHOP.replace(from, to), &facts).digest(), before, "{from} -> {to}");
    }
    for (from, to) in [
        ("postgres:16", "postgres:latest"),
        ("5432", "5433"),
        ("512MiB", "1GiB"),
        ("\"1m\"", "\"2m\""),
        ("pg_isready", "true"),
    ] {
        assert_eq!(key_of(&SHOP.replace(from, to), &facts).digest(), before, "{from} -> {to}");
    }
    let other = Facts { base_digest: Some("sha256:2".to_owned()), ..Facts::default() };
    assert_ne!(key_of(SHOP, &other).digest(), before);
    let word = names_of_secrets();
    let known = Facts { secrets: [word].into(), ..facts };
    assert_eq!(key_of(SHOP, &known).digest(), before, "the value of a secret is in no key");
}

fn names_of_secrets() -> (crate::names::SecretName, crate::digest::Digest) {
    (crate::names::SecretName::new("word").unwrap(), crate::digest::Digest::of_bytes(b"value"))
}
