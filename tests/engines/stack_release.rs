//! The life of a stack: it is released, stands on a bare machine, goes on to a version that changes its data, back and on again.

use std::fs;
use std::path::Path;

use crate::docker::Scenario;
use crate::harness::{Project, until};
use crate::maker::{Maker, inside, up};
use crate::migrations::{pairs, standings};
use crate::place::{Kind, Place};
use crate::support::{Blobs, plain};

pub const ON_THE_EMBEDDED_ENGINE: Scenario = ("the_life_of_a_stack_with_its_data", life);

/// What makes a project with versions of the example.
const HEAD: &str = r#"setpoint = 1
[project]
name = "shop"
version = "1.0.0"
[release]
repository = "ADDRESS/acme/shop"
verify = "30s"
steady = "50ms"
bake = "50ms"
keep = 9
"#;

/// What it is to be that the page shows after a migration.
const CHANGED: &str = "DECLARED IS IS RUNS WHAT WHAT";
const FIRST: &str = "declared is is runs what what";

fn released(place: &Place) -> Maker {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/stack");
    let text = fs::read_to_string(example.join("setpoint.toml")).unwrap();
    // The image of the tests has a user of its own.
    let text = text.replacen("setpoint = 1\n", HEAD, 1);
    let text = text.replace("image = \"busybox:1.36\"", "image = \"./image\"\nuser = \"root\"");
    let system = fs::read(place.engine(Kind::Embedded).folder.join("rootfs.tar")).unwrap();
    Maker::of(&text, |maker| {
        let template = fs::read_to_string(example.join("httpd.conf.j2")).unwrap();
        maker.project.write("httpd.conf.j2", &template).write(".gitignore", "/log\n");
        let mut blobs = Blobs::default();
        let entry = blobs.image(&[(system, plain)]);
        blobs.layout(&entry, &maker.project.root.join("image"));
    })
}

/// What the stack shows to who comes to it.
#[track_caller]
fn shows(machine: &Project, words: &str) {
    let page = || machine.run(&["exec", "store", "--", "wget", "-qO-", "http://web:8000/"]).stdout;
    until(words, || page().trim_end().replace('\n', " ") == words);
}

/// Nothing is wrong, also for who asks the registry; and this is in effect.
#[track_caller]
fn is_well(machine: &Project, version: &str) {
    machine.run(&["doctor"]).exits(0).says("Nothing is wrong.");
    machine.run(&["status"]).exits(0).says(&format!("shop {version}")).says("running, healthy");
    machine.run(&["up", "--no-daemon"]).exits(0).says("store: nothing to do").says("web: nothing to do");
}

fn life(place: &Place) {
    let maker = released(place);
    maker.release("1.0.0");

    // An empty folder, an empty home, a token and a file of settings.
    let machine = maker.machine();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let quick = "stop_grace = \"1s\"\n";
    let settings = format!(
        "[service.store]\n{quick}[service.worker]\n{quick}[service.web]\n{quick}ports = [\"127.0.0.1:{port}:8000\"]\n"
    );
    fs::write(machine.at("settings.toml"), settings).unwrap();
    for folder in [&machine.root, &machine.at("home")] {
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0, "{}", folder.display());
    }
    maker.init(&machine, "1.0.0").exits(0).says("Next: setpoint up");
    up(&machine);
    shows(&machine, FIRST);
    is_well(&machine, "1.0.0");
    machine.run(&["migrate", "status"]).exits(0).says("no migrations");
    let backups = machine.at("backups").display().to_string();
    let backup = || {
        let made = machine.run(&["backup", "--to", &backups, "--json"]);
        format!("{backups}:{}", made.exits(0).json()["name"].as_str().unwrap())
    };
    let of_first = backup();

    // The next version changes the data.
    let text = "# setpoint: in = \"store\"\ntr a-z A-Z < /data/words > /data/new\nmv /data/new /data/words\n";
    maker.project.write("migrations/2.0.0/1-capitals.sh", text);
    maker.release("2.0.0");
    let done = pairs(&[("2.0.0/1-capitals", "done")]);
    let planned = machine.run(&["upgrade", "2.0.0", "--dry-run"]);
    planned.exits(0).says("migrate 2.0.0/1-capitals in the place of store").says("copy shop_data (");
    shows(&machine, FIRST);
    machine.run(&["upgrade", "2.0.0", "--no-daemon"]).exits(0).says("is at 2.0.0 (generation 1)");
    shows(&machine, CHANGED);
    assert_eq!(standings(&machine), done);
    is_well(&machine, "2.0.0");
    inside(&machine, "store", "echo later > /data/words");
    shows(&machine, "later");

    // Back, with the data of then; and on again.
    machine.run(&["rollback", "--no-daemon"]).exits(6).says("--discard-writes");
    machine.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(0).says("back at 1.0.0");
    shows(&machine, FIRST);
    machine.run(&["migrate", "status"]).exits(0).says("no migrations");
    is_well(&machine, "1.0.0");
    machine.run(&["upgrade", "--to-latest", "--no-daemon"]).exits(0).says("is at 2.0.0 (generation 3)");
    shows(&machine, CHANGED);
    assert_eq!(standings(&machine), done);
    is_well(&machine, "2.0.0");
    machine.run(&["upgrade", "--to-latest"]).exits(0).says("nothing to do");

    // Data of a backup is of the version that it was made with, whatever is in effect.
    let of_second = backup();
    let restored = machine.run(&["restore", "--from", &of_first, "--no-daemon"]);
    restored.exits(0).says("Due on that data: 2.0.0/1-capitals").says("setpoint upgrade");
    shows(&machine, FIRST);
    assert_eq!(standings(&machine), pairs(&[("2.0.0/1-capitals", "due")]));
    machine.run(&["doctor"]).exits(0).says("Nothing is wrong.");
    machine.run(&["up", "--no-daemon"]).exits(6).says("2.0.0/1-capitals").says("setpoint upgrade");
    machine.run(&["upgrade", "--no-daemon"]).exits(0).says("is at 2.0.0");
    shows(&machine, CHANGED);
    assert_eq!(standings(&machine), done);
    is_well(&machine, "2.0.0");
    inside(&machine, "store", "echo later > /data/words");
    let restored = machine.run(&["restore", "--from", &of_second, "--no-daemon"]);
    restored.exits(0).says_not("Due on that data");
    shows(&machine, CHANGED);
    assert_eq!(standings(&machine), pairs(&[("2.0.0/1-capitals", "covered")]));
    machine.run(&["upgrade"]).exits(0).says("nothing to do");
    is_well(&machine, "2.0.0");

    let history = machine.run(&["history"]);
    history.exits(0).says("1.0.0 -> 2.0.0").says("2.0.0 -> 1.0.0").says("restore");
    machine.run(&["down", "--volumes", "--yes"]).exits(0);
}
