//! The way back from a version whose migrations say how they are taken back: nothing that was written since is lost.

use crate::harness::{Project, finish};
use crate::maker::{Maker, inside, up};

/// What the second version does to the data, before its service starts, when it is well, and on the machine; and what takes
/// that back.
const FILES: [(&str, &str); 6] = [
    ("1-head.sh", "# setpoint: check = \"test -e /data/head\"\n{ echo head; cat /data/log; } > /data/head\n"),
    ("1-head.down.sh", "rm /data/head\necho head taken >> /data/log\n"),
    (
        "2-mark.sh",
        "# setpoint: stage = \"post\"\necho mark of $(cat /note) >> /data/log\necho marked > /data/mark\n",
    ),
    ("2-mark.down.sh", "test -e /data/head\nrm /data/mark\necho mark taken >> /data/log\n"),
    (
        "3-note.sh",
        "# setpoint: in = \"host\"\n# setpoint: stage = \"post\"\n# setpoint: paths = [\"noted\"]\n\
         # setpoint: check = \"test -s noted\"\necho 0.2.0 > noted\n",
    ),
    ("3-note.down.sh", ": > noted\n"),
];

/// A machine at a second version, whose data was written to since.
fn stands() -> (Maker, Project) {
    let maker = Maker::new();
    maker.project.declare("[release]\n", "[release]\nmigrations = { in = \"web\" }\n");
    let first = maker.release("0.1.0");
    let machine = maker.machine();
    machine.run(&["trust", &first]).exits(0);
    maker.init(&machine, "0.1.0").exits(0);
    std::fs::create_dir(machine.root.join("uploads")).unwrap();
    up(&machine);
    maker.image("second");
    for (name, text) in FILES {
        maker.project.write(&format!("migrations/0.2.0/{name}"), text);
    }
    let second = maker.release("0.2.0");
    let refused = machine.run(&["upgrade", "0.2.0", "--no-daemon"]);
    refused.exits(6).says("3-note.sh and migrations/0.2.0/3-note.down.sh, which change noted");
    machine.run(&["trust", &second]).exits(0);
    machine.run(&["upgrade", "0.2.0", "--no-daemon"]).exits(0);
    inside(&machine, "web", "echo since >> /data/log");
    (maker, machine)
}

fn log(machine: &Project) -> String {
    inside(machine, "web", "cat /data/log").replace('\n', " ")
}

/// The migrations with their standings.
fn standings(machine: &Project) -> String {
    let all = machine.run(&["migrate", "status", "--json"]).exits(0).json()["migrations"].clone();
    all.as_array().unwrap().iter().map(|of| of["standing"].as_str().unwrap()).collect::<Vec<_>>().join(" ")
}

const AT_SECOND: &str = "0.1.0 0.2.0 mark of second since";
const AT_FIRST: &str = "0.1.0 0.2.0 mark of second since 0.2.0 mark taken head taken 0.1.0";

#[test]
fn a_way_back_takes_todays_data_along() {
    let (maker, machine) = stands();
    assert_eq!((log(&machine).as_str(), machine.read("noted").as_str()), (AT_SECOND, "0.2.0\n"));
    let planned = machine.run(&["rollback", "--dry-run"]);
    planned
        .exits(0)
        .says("copy shop_data.1 (")
        .says(") to shop_data.2")
        .says("take back 0.2.0/2-mark in web");
    planned.says("take back 0.2.0/3-note on this machine").says("make again web").says("stays");
    planned.says("Next: setpoint rollback");
    planned.says_not("--discard-writes");
    machine.run(&["rollback", "--no-daemon"]).exits(0).says("back at 0.1.0");
    assert_eq!((log(&machine).as_str(), machine.read("noted").as_str()), (AT_FIRST, ""));
    assert_eq!(inside(&machine, "web", "cat /note; ls /data"), "firstlog");
    assert_eq!(standings(&machine), "");
    machine.run(&["up", "--no-daemon"]).exits(0).says("web: nothing to do");

    // On again, each is carried out once more; and the way back from a way back is that of the data of then.
    machine.run(&["upgrade", "0.2.0", "--no-daemon"]).exits(0);
    assert_eq!(standings(&machine), "done done done");
    assert!(log(&machine).ends_with("taken 0.1.0 0.2.0 mark of second"), "{}", log(&machine));
    machine.run(&["rollback", "--no-daemon"]).exits(0);
    machine.run(&["rollback", "--no-daemon"]).exits(6).says("--discard-writes");
    machine.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(0).says("back at 0.2.0");
    assert_eq!((standings(&machine).as_str(), machine.read("noted").as_str()), ("done done done", "0.2.0\n"));
    drop(maker);
}

#[test]
fn a_way_back_that_cannot_be_taken_ends_where_it_began() {
    let (maker, machine) = stands();
    // One that does not do what it says.
    maker
        .project
        .write("migrations/0.3.0/1-more.sh", "# setpoint: check = \"test -e /data/more\"\n: > /data/more\n");
    maker.project.write("migrations/0.3.0/1-more.down.sh", "echo lost >> /data/log\n");
    let third = maker.release("0.3.0");
    machine.run(&["trust", &third]).exits(0);
    machine.run(&["upgrade", "0.3.0", "--no-daemon"]).exits(0);
    let before = log(&machine);
    machine.run(&["rollback", "--no-daemon"]).exits(1).says("its check still holds").says("Rolled back");
    assert!(log(&machine).starts_with(&before) && !log(&machine).contains("lost"), "{}", log(&machine));
    assert_eq!(standings(&machine), "done done done done");
    // One that has none.
    maker.project.write("migrations/0.4.0/1-last.sh", ": > /data/last\n");
    let fourth = maker.release("0.4.0");
    machine.run(&["trust", &fourth]).exits(0);
    machine.run(&["upgrade", "0.4.0", "--no-daemon"]).exits(0);
    let refused = machine.run(&["rollback", "--no-daemon"]);
    refused.exits(6).says("0.4.0/1-last has nothing that takes it back").says("--discard-writes");
    machine
        .run(&["rollback", "--dry-run"])
        .exits(0)
        .says("has nothing that takes it back")
        .says("put back web");
}

#[test]
fn a_way_back_with_todays_data_may_be_killed() {
    let (maker, machine) = stands();
    let points = [
        "save.copied",
        "copy.copied",
        "revive own.announced",
        "revive web.acted",
        "down 0.2.0/3-note.acted",
        "migrate.ran",
        "retire web.acted",
        "down 0.2.0/1-head.recorded",
        "start web.acted",
        "commit.announced",
    ];
    for point in points {
        let mut command = machine.command(&["rollback", "--no-daemon"]);
        let killed = finish(machine.start(command.env("SETPOINT_CRASH_AT", point)));
        assert_eq!(killed.code, 128 + 9, "{point}: {killed}");
        machine.run(&["recover"]).exits(0).says("with its own data");
        let log = log(&machine);
        // The instance has begun again, and nothing else happened to its data.
        assert!(log.starts_with(AT_SECOND) && !log.contains("taken"), "{point}: {log}");
        assert_eq!(machine.read("noted"), "0.2.0\n", "{point}");
        assert_eq!(standings(&machine), "done done done", "{point}");
    }
    let mut command = machine.command(&["rollback", "--no-daemon"]);
    finish(machine.start(command.env("SETPOINT_CRASH_AT", "commit.acted"))).exits(128 + 9);
    machine.run(&["recover"]).exits(0);
    assert!(log(&machine).ends_with("mark taken head taken 0.1.0"), "{}", log(&machine));
    assert_eq!((standings(&machine).as_str(), machine.read("noted").as_str()), ("", ""));
    drop(maker);
}
