//! Versions of a project whose images an engine builds: they go through a registry to another machine.

use std::fs;

use crate::docker::Scenario;
use crate::harness::Project;
use crate::maker::{Maker, SETTINGS, inside, up};
use crate::place::{Kind, Place};

pub const ON_DOCKER: &[Scenario] =
    &[("a_release_is_built_and_stands_elsewhere", |place| built(place, Kind::Docker))];
pub const ON_PODMAN: &[Scenario] =
    &[("a_release_is_built_and_stands_elsewhere", |place| built(place, Kind::Podman))];

/// What an engine built is pushed, and another machine has it from the registry alone.
fn built(place: &Place, kind: Kind) {
    let host = |project: &mut Project| {
        let variable = if kind == Kind::Docker { "DOCKER_HOST" } else { "CONTAINER_HOST" };
        project.set(variable, &place.host(kind));
    };
    place.engine(kind);
    let mut maker = Maker::new();
    maker.registry.also_for(place.process(kind));
    host(&mut maker.project);
    let engine = format!("setpoint = 1\n[engine]\ndefault = \"{}\"", kind.name());
    let base = place.engine(kind).folder.join("rootfs.tar");
    fs::copy(base, maker.project.root.join("rootfs.tar")).unwrap();
    maker
        .project
        .write("Dockerfile", "FROM scratch\nADD rootfs.tar /\nRUN mkdir /data\nCOPY word /word\n")
        .write("word", "first\n")
        .declare("setpoint = 1", &engine)
        .declare("up = [\"dev\", \"web\", \"own\"]\n[env.dev]\n", "")
        .declare("image = \"./image\"", "build = \".\"")
        .declare("[release]", "[release]\nlane = \"compatible\"")
        .declare("[service.own]\nnetwork = \"host\"\ncommand = \"exec sleep 100000\"\n", "");
    let first = maker.release("0.1.0");
    maker.project.run(&["release", "0.1.0"]).exits(0).says("is there already").says(&first);
    maker.project.write("word", "second\n");
    maker.release("0.2.0");

    // Podman asks no registry without TLS that its own settings do not name: what it built stands on our engine.
    let mut machine = maker.machine();
    if kind == Kind::Podman {
        let settings = format!("[engine]\ndefault = \"embedded\"\n{SETTINGS}");
        fs::write(machine.at("settings.toml"), settings).unwrap();
    }
    host(&mut machine);
    maker.init(&machine, "0.1.0").exits(0);
    fs::create_dir(machine.root.join("uploads")).unwrap();
    up(&machine);
    assert_eq!(inside(&machine, "web", "cat /word /data/log; echo $SETPOINT_VERSION"), "first\n0.1.0\n0.1.0");
    machine.run(&["upgrade", "0.2.0", "--no-daemon"]).exits(0).says("is at 0.2.0");
    assert_eq!(inside(&machine, "web", "cat /word /static/page /data/log"), "second\nfirst\n0.1.0\n0.2.0");
    machine.run(&["rollback", "--no-daemon"]).exits(0);
    assert_eq!(inside(&machine, "web", "cat /word"), "first");
    let file = maker.project.at("release.tar").display().to_string();
    maker.project.run(&["bundle", "save", &file]).exits(0).says("0.2.0");

    // From the next one, the way back takes today's data along.
    maker
        .project
        .declare("lane = \"compatible\"", "migrations = { in = \"web\", stage = \"post\" }")
        .write("migrations/0.3.0/1-more.sh", "echo more >> /data/log\n")
        .write("migrations/0.3.0/1-more.down.sh", "echo by $(cat /word) >> /data/log\n");
    maker.release("0.3.0");
    machine.run(&["upgrade", "0.3.0", "--no-daemon"]).exits(0).says("is at 0.3.0");
    inside(&machine, "web", "echo since >> /data/log");
    machine.run(&["rollback", "--no-daemon"]).exits(0).says("back at 0.1.0");
    let log = inside(&machine, "web", "cat /word /data/log").replace('\n', " ");
    assert!(log.starts_with("first ") && log.ends_with("0.3.0 more since 0.3.0 by second 0.1.0"), "{log}");
    machine.run(&["down", "--volumes", "--yes"]).exits(0);

    // And without the registry, from a file, by a name of our own.
    maker.registry.stop();
    let mut apart = maker.machine();
    host(&mut apart);
    apart.run(&["bundle", "load", &file]).exits(0);
    maker.init(&apart, "0.2.0").exits(0);
    fs::create_dir(apart.root.join("uploads")).unwrap();
    up(&apart);
    assert_eq!(inside(&apart, "web", "cat /word"), "second");
    apart.run(&["down", "--volumes", "--yes"]).exits(0);
}
