//! The manifest of a release: that of the project, with everything that could change under it fixed.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::bundle::PinnedImage;
use super::version::Version;
use crate::manifest::{Act, Alerts, Manifest, Secret, SecretSource};
use crate::names::{SecretName, UnitName};

/// The variable by which what runs knows its version.
pub const VERSION_VARIABLE: &str = "SETPOINT_VERSION";

/// What the manifest of a release says otherwise than that of its project.
#[derive(Debug)]
pub struct Pins<'a> {
    /// The project's name.
    pub project: &'a str,
    /// Its version.
    pub version: &'a Version,
    /// The images that the services are built on.
    pub images: &'a BTreeMap<UnitName, PinnedImage>,
    /// The sources of mounts that are carried along.
    pub carried: &'a BTreeSet<String>,
    /// The secrets that services have a use for.
    pub secrets: &'a BTreeSet<SecretName>,
    /// The services that know their version.
    pub versioned: &'a BTreeSet<UnitName>,
}

/// What a release carries of a manifest.
const SECTIONS: [&str; 7] = ["setpoint", "project", "engine", "secret", "service", "alerts", "release"];
/// What says what a service is built on.
const BASES: [&str; 3] = ["image", "build", "rootfs"];
/// What says how a release is made.
const OF_RELEASING: [&str; 3] = ["repository", "from", "files"];

/// The manifest of a release. Comments are lost.
///
/// # Errors
/// In words, if the text is no TOML.
pub fn pinned(text: &str, pins: &Pins<'_>) -> Result<String, String> {
    let mut table: Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
    table.retain(|key, _| SECTIONS.contains(&key));
    let services: BTreeSet<String> = sub(&mut table, "service").keys().cloned().collect();
    let project = sub(&mut table, "project");
    project.insert("name".to_owned(), pins.project.into());
    project.insert("version".to_owned(), pins.version.to_string().into());
    if let Some(Value::Array(up)) = project.get_mut("up") {
        up.retain(|unit| unit.as_str().is_some_and(|unit| services.contains(unit)));
        if up.is_empty() {
            project.remove("up");
        }
    }
    sub(&mut table, "secret").retain(|name, _| pins.secrets.iter().any(|needed| needed.as_str() == name));
    sub(&mut table, "release").retain(|key, _| !OF_RELEASING.contains(&key));
    for (name, service) in sub(&mut table, "service") {
        let Value::Table(service) = service else { continue };
        if let Some((_, image)) = pins.images.iter().find(|(unit, _)| unit.as_str() == name) {
            service.retain(|key, _| !BASES.contains(&key));
            service.insert("image".to_owned(), image.reference.clone().into());
        }
        if pins.versioned.iter().any(|unit| unit.as_str() == name) {
            sub(service, "env").insert(VERSION_VARIABLE.to_owned(), pins.version.to_string().into());
        }
        let mounts = service.get_mut("mounts").and_then(Value::as_array_mut);
        for mount in mounts.into_iter().flatten().filter_map(Value::as_table_mut) {
            let source = mount.get("source").and_then(Value::as_str);
            if source.is_some_and(|source| pins.carried.contains(source)) {
                mount.insert("read_only".to_owned(), true.into());
            }
        }
    }
    table.retain(|_, value| value.as_table().is_none_or(|section| !section.is_empty()));
    Ok(table.to_string())
}

/// The table of this key; what is there and is none is replaced.
fn sub<'a>(table: &'a mut Table, key: &str) -> &'a mut Table {
    if !table.get(key).is_some_and(Value::is_table) {
        table.insert(key.to_owned(), Value::Table(Table::new()));
    }
    table.get_mut(key).and_then(Value::as_table_mut).expect("it was just put there")
}

/// What a manifest would run on the host itself, in words.
#[must_use]
pub fn on_host(manifest: &Manifest) -> Vec<String> {
    let mut found = Vec::new();
    for (name, env) in &manifest.envs {
        for (hook, declared) in &env.hooks {
            if *hook == crate::names::HookName::Initialize {
                found.push(format!("initialize of {name}: {}", declared.run));
            }
        }
        for step in env.service.iter().flat_map(|of| &of.first_boot) {
            if let Act::Host { .. } = &step.act {
                found.push(format!("first boot of {name}, {}: {}", step.name, step.act.shown()));
            }
        }
    }
    found.extend(of_secrets(&manifest.secrets));
    let Alerts { command, .. } = &manifest.alerts;
    found.extend(command.iter().map(|argv| format!("alerts: {}", argv.join(" "))));
    found
}

fn of_secrets(secrets: &BTreeMap<SecretName, Secret>) -> impl Iterator<Item = String> {
    secrets.iter().filter_map(|(name, secret)| match &secret.source {
        SecretSource::Command { argv } => Some(format!("secret {name}: {}", argv.join(" "))),
        _ => None,
    })
}
