//! Instances of a new version that answer while those of the old one are replaced: through the binary itself.

use std::fs;
use std::path::PathBuf;

use crate::docker::Scenario;
use crate::harness::{Outcome, Project, finish};
use crate::place::Kind;
use crate::replacements::{BY_HTTP, Kept, Load, Site, on, word_at};
use crate::upgrades::{generation, killed_at, points, sample};

pub const ON_THE_EMBEDDED_ENGINE: &[Scenario] = &[
    ("the_next_version_answers_while_the_one_before_is_replaced", |place| {
        on(place, Kind::Embedded, answered_meanwhile)
    }),
    ("an_upgrade_with_one_that_stands_in_may_be_killed_anywhere", |place| {
        on(place, Kind::Embedded, killed_anywhere)
    }),
    ("one_that_does_not_get_well_stands_in_for_nobody", |place| on(place, Kind::Embedded, never_well)),
    ("data_is_migrated_before_the_next_version_is_on_it", |place| on(place, Kind::Embedded, migrated)),
];

pub const ON_DOCKER: &[Scenario] = &[
    ("the_next_version_answers_while_the_one_before_is_replaced", |place| {
        on(place, Kind::Docker, answered_meanwhile)
    }),
    ("an_upgrade_with_one_that_stands_in_may_be_killed_anywhere", |place| {
        on(place, Kind::Docker, killed_anywhere)
    }),
    ("one_that_does_not_get_well_stands_in_for_nobody", |place| on(place, Kind::Docker, never_well)),
];

pub const ON_PODMAN: &[Scenario] =
    &[("the_next_version_answers_while_the_one_before_is_replaced", |place| {
        on(place, Kind::Podman, answered_meanwhile)
    })];

/// A check that the engine itself makes, where it makes any.
const BY_A_COMMAND: &str = "health = { exec = \"wget -q -O /dev/null http://127.0.0.1:8000/ || curl -sf http://127.0.0.1:8000/\", interval = \"200ms\", start_period = \"10s\" }\n";

const SOON: &str = "[release]\nsteady = \"100ms\"\nbake = \"100ms\"\n";

/// A service of which there may be two.
fn declared(site: &Site<'_>, more: &str) -> (Project, u16) {
    let (project, port) = site.project(more);
    let own = "target = \"/srv/own\"";
    // What is of an image has no mounts.
    if project.read("setpoint.toml").contains(own) {
        project.declare(own, &format!("{own}, read_only = true"));
    }
    (project, port)
}

/// The same, which stands.
fn standing(site: &Site<'_>, more: &str) -> (Project, u16) {
    let (project, port) = declared(site, more);
    project.run(&["up", "--no-daemon"]).exits(0);
    (project, port)
}

/// Clients that ask all the time.
fn clients(port: u16) -> Load {
    let mut kept = Kept::new(port).unwrap();
    Load::new().with(move || kept.word()).with(move || word_at(port))
}

/// Nothing is left of what stood in.
#[track_caller]
fn nobody_stands_in(project: &Project) {
    let entries =
        |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let owners: Vec<PathBuf> = entries(project.state().join("stand-ins/v1")).flat_map(entries).collect();
    assert!(owners.is_empty(), "{owners:?}");
}

fn upgrade(project: &Project) -> Outcome {
    project.run(&["upgrade", "--no-rehearse", "--no-daemon"])
}

fn answered_meanwhile(site: &Site<'_>) {
    replaced(site, BY_HTTP, clients);
    // Podman's own checks need systemd.
    if site.kind != Kind::Podman {
        replaced(site, BY_A_COMMAND, |port| Load::new().with(move || word_at(port)));
    }
}

fn replaced(site: &Site<'_>, check: &str, clients: fn(u16) -> Load) {
    let (project, port) = standing(site, &format!("{check}{SOON}"));
    let load = clients(port);
    project.declare("\"one\"", "\"two\"");
    // Not where there may be one only.
    project.declare("[release]\n", "[release]\nstand_in = false\n");
    project.run(&["upgrade", "--dry-run"]).exits(0).says("outage  about").says_not("another instance");
    project.declare("stand_in = false\n", "");
    let planned = project.run(&["upgrade", "--dry-run"]);
    planned.exits(0).says("outage  none").says("another instance answers meanwhile");
    // Nothing is in the place of the service: whoever answers stands in.
    let mut command = project.command(&["upgrade", "--no-rehearse", "--no-daemon"]);
    finish(project.start(command.env("SETPOINT_CRASH_AT", "set-aside web.recorded"))).exits(128 + 9);
    load.goes_on(20);
    assert_eq!((word_at(port).unwrap().as_str(), generation(&project)), ("two", 0));
    project.run(&["recover"]).exits(0);
    assert_eq!(word_at(port).unwrap(), "one");
    nobody_stands_in(&project);
    load.goes_on(20);
    upgrade(&project).exits(0);
    assert_eq!((word_at(port).unwrap().as_str(), generation(&project)), ("two", 1));
    nobody_stands_in(&project);
    load.goes_on(20);
    load.lost_nothing();
    project.run(&["up", "--no-daemon"]).exits(0).says("nothing to do");
    project.run(&["uninstall", "--yes"]).exits(0).says_not("which is not Setpoint's");
}

fn killed_anywhere(site: &Site<'_>) {
    let (project, port) = standing(site, &format!("{BY_HTTP}{SOON}"));
    project.declare("\"one\"", "\"two\"");
    upgrade(&project).exits(0);
    let mut all = points(&project);
    all.push("stand-in.made".to_owned());
    project.run(&["rollback", "--no-daemon"]).exits(0);
    project.declare("\"two\"", "\"one\"");
    assert!(all.len() >= 40 && all.contains(&"lend web.acted".to_owned()), "{all:?}");
    let load = clients(port);
    for point in sample(all, if site.kind == Kind::Embedded { 4 } else { 10 }) {
        project.declare("\"one\"", "\"two\"");
        let before = generation(&project);
        let said = killed_at(&project, &["upgrade", "--no-rehearse", "--no-daemon"], &point);
        let is_new = generation(&project) > before;
        let word = if is_new { "two" } else { "one" };
        assert_eq!(word_at(port).unwrap(), word, "{point}: {said}");
        nobody_stands_in(&project);
        load.goes_on(5);
        if is_new {
            project.run(&["rollback", "--no-daemon"]).exits(0);
        }
        project.declare("\"two\"", "\"one\"");
        project.run(&["up", "--no-daemon"]).exits(0).says("nothing to do");
        eprintln!("{:<9} {point:<28} {} (stands in)", site.kind.name(), if is_new { "new" } else { "old" });
    }
    load.lost_nothing();
    project.run(&["down"]).exits(0);
}

fn never_well(site: &Site<'_>) {
    let (project, port) = standing(site, &format!("{BY_HTTP}[release]\nverify = \"1s\"\n"));
    let since = || project.run(&["status", "--json"]).json()["units"][0]["since"].clone();
    let (before, load) = (since(), clients(port));
    project.declare("\"one\"", "\"two\"").declare("http = \"/\"", "http = \"/\", status = 204");
    upgrade(&project).exits(1).says("stand-in web").says("Nothing was touched");
    assert_eq!((word_at(port).unwrap().as_str(), since()), ("one", before));
    project.run(&["history"]).exits(0).says("dropped").says("stand-in web");
    nobody_stands_in(&project);
    load.goes_on(5);
    load.lost_nothing();
    project.run(&["down"]).exits(0);
}

/// A database that stays, and what asks it.
const DB: &str =
    "[service.db]\nbase = \"host\"\nvolumes = { data = \"/data\" }\ncommand = \"sleep 100000\"\n";

fn migrated(site: &Site<'_>) {
    let more =
        format!("{BY_HTTP}depends_on = {{ db = \"started\" }}\n{DB}[release]\nlane = \"compatible\"\n");
    let (project, port) = declared(site, &more);
    let head = |unit: &str| format!("# setpoint: in = \"{unit}\"\n# setpoint: idempotent = true\n");
    // What is known of the data begins with it.
    project.write("migrations/1.0.0/1-first.sh", &head("db"));
    project.run(&["up", "--no-daemon"]).exits(0);
    let load = clients(port);
    let head = head("web");
    // With a secret that is new, too.
    project.declare("\"one\" }", "\"two\", KEY = \"${secret.key}\" }");
    project.declare("[release]\n", "[secret.key]\ngenerate = \"hex16\"\n[release]\n");
    const KEY: &str = "printf %s \"$KEY\" | md5sum | cut -c1-8";
    project.write("migrations/2.0.0/1-before.sh", &format!("{head}echo is $WORD $({KEY})\n"));
    project.write(
        "migrations/2.0.0/2-after.sh",
        &format!("{head}# setpoint: stage = \"post\"\necho still $WORD\n"),
    );
    upgrade(&project).exits(0);
    let history = project.run(&["history", "2", "--json"]).json();
    let steps = history["changes"][0]["steps"].as_array().unwrap().clone();
    let at = |name: &str| {
        steps.iter().position(|step| step["step"] == name).unwrap_or_else(|| panic!("{name}: {history}"))
    };
    let order = ["migrate 2.0.0/1-before", "stand-in web", "migrate 2.0.0/2-after", "lend web", "freeze web"];
    assert!(order.map(at).is_sorted(), "{history}");
    let said = |name: &str| project.run(&["logs", "web", name]).exits(0).stdout.trim().to_owned();
    let key = project.run(&["exec", "web", "--", "sh", "-c", KEY]).exits(0).stdout.trim().to_owned();
    assert_eq!(said("migrate-2.0.0-1-before"), format!("is two {key}"));
    assert_eq!(said("migrate-2.0.0-2-after"), "still two");
    let status = project.run(&["migrate", "status"]).stdout;
    assert_eq!(status.lines().filter(|line| line.contains(" done ")).count(), 3, "{status}");
    assert_eq!(word_at(port).unwrap(), "two");
    nobody_stands_in(&project);
    load.lost_nothing();
    project.run(&["down"]).exits(0);
}
