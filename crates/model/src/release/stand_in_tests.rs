//! For whom another instance answers while they are replaced.

use std::collections::{BTreeMap, BTreeSet};

use super::fixtures::{change, part, planned, unit};
use super::ledger::{Due, Planned};
use super::migration::Stage;
use super::stand_in::{assign, beside};
use super::*;
use crate::capabilities::{Capabilities, HoldsPorts};
use crate::container::NetworkMode;
use crate::manifest::{Env, Layer, Manifest, parse};
use crate::names::UnitName;

const WEB: &str = "image = \"a\"\nports = [\"8080:80\"]\nhealth = { http = \"/\", port = 80 }\n";

fn manifest(services: &str) -> Manifest {
    let text = format!("setpoint = 1\n{services}");
    parse(&[Layer { name: "setpoint.toml", text: &text }], "shop").unwrap()
}

/// An upgrade of all services of a manifest, which run.
fn upgrade(manifest: &Manifest) -> Upgrade {
    Upgrade { parts: manifest.envs.keys().map(|name| part(name.as_str())).collect(), ..change() }
}

fn migration(unit: &str, due: Due) -> Planned {
    Planned { due, ..planned("1.0.0/1-a", unit, Stage::Pre, &[]) }
}

/// For whom somebody stands in.
fn assigned(manifest: &Manifest, mut upgrade: Upgrade, holds_ports: HoldsPorts) -> Vec<String> {
    let envs: BTreeMap<&UnitName, &Env> = manifest.envs.iter().collect();
    let fits = envs.keys().copied().collect();
    assign(&mut upgrade, &envs, &fits, &Capabilities::holding(holds_ports));
    upgrade.parts.iter().filter(|part| part.stands_in).map(|part| part.unit.to_string()).collect()
}

fn of_all(services: &str) -> Vec<String> {
    let manifest = manifest(services);
    assigned(&manifest, upgrade(&manifest), HoldsPorts::All)
}

#[test]
fn somebody_stands_in_for_what_is_reached_and_can_be_there_twice() {
    let none: [&str; 0] = [];
    assert_eq!(of_all(&format!("[service.web]\n{WEB}")), ["web"]);
    for (why, more) in [
        ("it has data", "volumes = { data = \"/data\" }\n"),
        ("it is set up once", "[service.web.first_boot]\na = { run = \"true\" }\n"),
        ("it writes to the host", "mounts = [{ source = \"./x\", target = \"/x\", read_only = false }]\n"),
    ] {
        assert_eq!(of_all(&format!("[service.web]\n{WEB}{more}")), none, "{why}");
    }
    assert_eq!(
        of_all(&format!(
            "[service.web]\n{WEB}mounts = [{{ source = \"./x\", target = \"/x\", read_only = true }}]\n"
        )),
        ["web"]
    );
    assert_eq!(of_all("[service.web]\nimage = \"a\"\nports = [\"8080:80\"]\n"), none, "nobody can tell when");
    assert_eq!(
        of_all("[service.web]\nimage = \"a\"\nhealth = { http = \"/\", port = 80 }\n"),
        none,
        "nobody comes"
    );
}

#[test]
fn nobody_stands_in_where_ports_are_the_engines_or_going_back_takes_data_away() {
    let manifest = manifest(&format!("[service.web]\n{WEB}"));
    let planned = upgrade(&manifest);
    let none: [&str; 0] = [];
    assert_eq!(assigned(&manifest, planned.clone(), HoldsPorts::OfServices), ["web"]);
    assert_eq!(assigned(&manifest, planned.clone(), HoldsPorts::None), none);
    let breaking = Upgrade { lane: Lane::Breaking, ..planned.clone() };
    assert_eq!(assigned(&manifest, breaking, HoldsPorts::All), none);
    let back = Upgrade { kind: Kind::Rollback, ..planned.clone() };
    assert_eq!(assigned(&manifest, back, HoldsPorts::All), none);
    let mut stopped = planned;
    stopped.parts[0].runs = false;
    assert_eq!(assigned(&manifest, stopped, HoldsPorts::All), none);
}

#[test]
fn nobody_stands_in_without_what_he_depends_on() {
    let text = format!(
        "[service.web]\n{WEB}depends_on = {{ api = \"healthy\" }}\n[service.api]\nimage = \"a\"\ndepends_on = {{ db = \"started\" }}\n[service.db]\nimage = \"a\"\n"
    );
    let manifest = manifest(&text);
    let none: [&str; 0] = [];
    let with = |names: &[&str]| {
        let mut planned = upgrade(&manifest);
        planned.parts.retain(|part| names.contains(&part.unit.as_str()));
        assigned(&manifest, planned, HoldsPorts::All)
    };
    assert_eq!(with(&["web"]), ["web"]);
    assert_eq!(with(&["web", "api"]), none);
    assert_eq!(with(&["web", "db"]), none);
}

#[test]
fn nobody_stands_in_before_the_data_is_migrated() {
    let manifest = manifest(&format!(
        "[service.web]\n{WEB}[service.worker]\nimage = \"a\"\n[service.db]\nimage = \"a\"\n"
    ));
    let none: [&str; 0] = [];
    let with = |migrated: &str, due: Due| {
        let mut planned = upgrade(&manifest);
        planned.parts.retain(|part| part.unit.as_str() != "db");
        planned.migrations = vec![migration(migrated, due)];
        assigned(&manifest, planned, HoldsPorts::All)
    };
    assert_eq!(with("web", Due::Run), ["web"]);
    assert_eq!(with("db", Due::Run), ["web"], "in what runs on");
    assert_eq!(with("worker", Due::Run), none, "in the place of what is replaced");
    assert_eq!(with("worker", Due::Cover), ["web"]);
}

#[test]
fn who_stands_in_is_found_by_nobody_else() {
    let manifest = manifest(&format!("[service.web]\n{WEB}"));
    let web = &manifest.envs[&unit("web")];
    let other = beside(web);
    let aliases = |env: &Env| match &env.container.network {
        Some(NetworkMode::Networks(networks)) => networks.values().map(|of| of.aliases.len()).sum(),
        _ => 0,
    };
    let named = |env: &Env| match &env.container.network {
        Some(NetworkMode::Networks(networks)) => networks.values().any(|of| !of.is_unnamed),
        _ => true,
    };
    assert!(aliases(web) > 0 && named(web));
    assert!(aliases(&other) == 0 && !named(&other));
    assert_eq!(other.name, web.name);
}

#[test]
fn nobody_stands_in_where_what_is_reached_changes() {
    let manifest = manifest(&format!("[service.web]\n{WEB}"));
    let mut planned = upgrade(&manifest);
    let envs: BTreeMap<&UnitName, &Env> = manifest.envs.iter().collect();
    assign(&mut planned, &envs, &BTreeSet::new(), &Capabilities::holding(HoldsPorts::All));
    assert!(!planned.has_stand_ins());
}
