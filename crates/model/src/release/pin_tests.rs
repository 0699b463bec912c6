//! The manifest of a release, made of one of a project.

use std::collections::{BTreeMap, BTreeSet};

use super::bundle::PinnedImage;
use super::pin::{Pins, on_host, pinned};
use super::version::Version;
use crate::manifest::{Layer, Manifest, parse};
use crate::names::{SecretName, UnitName};

const PROJECT: &str = r#"
setpoint = 1
[project]
version = "0.3.0"
up = ["dev", "web"]
[engine]
default = "docker"
[secret.db-password]
generate = "hex32"
[secret.of-dev]
command = ["pass", "dev"]
[env.dev]
image = "debian:13"
[pipeline.ci.step.test]
run = "make"
[service.db]
image = "postgres:16" # a tag moves
volumes = { data = "/data" }
env = { PASSWORD = "${secret.db-password}" }
[service.web]
build = { context = ".", target = "prod" }
mounts = [
    { source = "deploy/app.conf", target = "/etc/app.conf" },
    { source = "uploads", target = "/uploads" },
]
[service.web.first_boot]
zeta = { host = "./deploy/seed.sh" }
alpha = { run = "./seed" }
[release]
repository = "ghcr.io/acme/shop"
files = ["deploy/**"]
keep = 2
"#;

fn read(text: &str) -> Manifest {
    parse(&[Layer { name: "setpoint.toml", text }], "folder").unwrap()
}

fn pin() -> String {
    let (version, name) = (Version::parse("0.3.0").unwrap(), |name: &str| UnitName::new(name).unwrap());
    let image = |reference: &str| PinnedImage { reference: reference.to_owned(), from: String::new() };
    let images = BTreeMap::from([
        (name("db"), image("docker.io/library/postgres@sha256:11")),
        (name("web"), image("ghcr.io/acme/shop@sha256:22")),
    ]);
    let pins = Pins {
        project: "shop",
        version: &version,
        images: &images,
        carried: &BTreeSet::from(["deploy/app.conf".to_owned()]),
        secrets: &BTreeSet::from([SecretName::new("db-password").unwrap()]),
        versioned: &BTreeSet::from([name("web")]),
    };
    pinned(PROJECT, &pins).unwrap()
}

#[test]
fn a_release_declares_services_and_fixed_images_only() {
    let manifest = read(&pin());
    assert_eq!(manifest.project.name.as_str(), "shop");
    assert_eq!(manifest.project.version.as_deref(), Some("0.3.0"));
    assert_eq!(manifest.project.up, Some(vec![UnitName::new("web").unwrap()]));
    assert_eq!(manifest.envs.keys().map(UnitName::as_str).collect::<Vec<_>>(), ["db", "web"]);
    assert!(manifest.pipelines.is_empty());
    assert_eq!(manifest.secrets.keys().map(SecretName::as_str).collect::<Vec<_>>(), ["db-password"]);
    assert_eq!((manifest.release.keep, manifest.release.repository), (2, None));
    let text = pin();
    for word in ["build", "postgres:16", "a tag moves", "[env", "pipeline", "deploy/**"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
}

#[test]
fn what_is_of_the_project_knows_its_version_and_what_is_carried_is_read_only() {
    let manifest = read(&pin());
    let env = |name: &str| &manifest.envs[&UnitName::new(name).unwrap()];
    let version = |name: &str| env(name).container.env.get("SETPOINT_VERSION").cloned();
    assert_eq!((version("db"), version("web")), (None, Some("0.3.0".to_owned())));
    // The project itself says the same of what it builds.
    let project = read(PROJECT);
    let of_project = |name: &str| {
        project.envs[&UnitName::new(name).unwrap()].container.env.contains_key("SETPOINT_VERSION")
    };
    assert_eq!((of_project("db"), of_project("web")), (false, true));
    let read_only: Vec<_> = env("web").mounts.iter().map(|mount| mount.read_only).collect();
    assert_eq!(read_only, [true, false]);
}

#[test]
fn steps_stay_in_their_order_and_those_on_the_host_are_told() {
    let manifest = read(&pin());
    let web = &manifest.envs[&UnitName::new("web").unwrap()];
    let steps: Vec<_> =
        web.service.iter().flat_map(|of| &of.first_boot).map(|step| step.name.as_str()).collect();
    assert_eq!(steps, ["zeta", "alpha"]);
    assert_eq!(on_host(&manifest), ["first boot of web, zeta: ./deploy/seed.sh"]);
    assert_eq!(on_host(&read(PROJECT)).len(), 2);
}
