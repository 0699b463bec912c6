//! A version is tried on copies of the data before anything is touched: through the binary itself.

use crate::docker::Scenario;
use crate::harness::{Outcome, Project, finish, until};
use crate::place::{Kind, Place};
use crate::upgrades::{log, volumes};

pub const ON_THE_EMBEDDED_ENGINE: &[Scenario] = &[
    ("a_version_is_tried_on_copies_of_the_data", |place| tried(place, Kind::Embedded)),
    ("what_a_rehearsal_left_that_was_killed_is_put_in_order", killed),
];

pub const ON_DOCKER: &[Scenario] =
    &[("a_version_is_tried_on_copies_of_the_data", |place| tried(place, Kind::Docker))];

/// Services of networks of their own: only those can be tried beside what runs.
fn project(place: &Place, kind: Kind) -> Project {
    let project = crate::upgrades::declared_only(place, kind);
    let text = project.read("setpoint.toml").replace("network = \"host\"", "network = \"private\"");
    project.write("setpoint.toml", &text);
    project.run(&["up", "--no-daemon"]).exits(0);
    until("it has begun", || log(&project) == "one");
    project
}

fn upgrade(project: &Project, more: &[&str]) -> Outcome {
    project.run(&[&["upgrade", "--no-daemon"], more].concat())
}

/// Since when the units run, as `status` has it.
fn since(project: &Project) -> Vec<String> {
    let status = project.run(&["status", "--json"]);
    let units = status.exits(0).json()["units"].as_array().unwrap().clone();
    units.iter().map(|unit| unit["since"].to_string()).collect()
}

fn tried(place: &Place, kind: Kind) {
    let project = project(place, kind);
    let before = volumes(place, kind, &project);

    // Who has no data, and needs nobody who has some, is tried unasked: nobody notices.
    // Whoever ends at once may be seen to run before that.
    project.declare("steady = \"100ms\"", "steady = \"1s\"");
    let good = project.read("setpoint.toml");
    project.write("setpoint.toml", &good.replace("depends_on = { db = \"healthy\" }\n", ""));
    project.run(&["up", "--no-daemon"]).exits(0);
    let alone = project.read("setpoint.toml");
    let (head, web) = alone.split_once("[service.web]").unwrap();
    project.write(
        "setpoint.toml",
        &format!("{head}[service.web]{}", web.replace("trap 'exit 0' TERM; ", "exit 3; ")),
    );
    let began = since(&project);
    let ended = "web: it ended (exit 3)";
    upgrade(&project, &[]).exits(1).says(ended).says("only tried").says("--no-rehearse");
    assert_eq!(since(&project), began);
    project.run(&["history"]).exits(0).says("dropped").says("rehearsal: ").says(ended);
    upgrade(&project, &["--no-rehearse"]).exits(1).says("Rolled back");
    project.write("setpoint.toml", &good);
    project.run(&["up", "--no-daemon"]).exits(0);

    // Whose data is to be copied stands still for that: it has to be asked for.
    let refuses = "test ! -e /data/moved || exit 4; cat /note >>";
    project.write("setpoint.toml", &good.replace("cat /note >>", refuses));
    let folder = project.root.join("migrations/2.0.0");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("1-moves.sh"), "touch /data/moved\n").unwrap();
    upgrade(&project, &["--dry-run"]).exits(0).says("not tried first").says("--rehearse");
    // What changes this machine cannot be tried on a copy of it.
    let host =
        "# setpoint: in = \"host\"\n# setpoint: paths = [\"moved\"]\n# setpoint: check = \"test -e moved\"\n";
    std::fs::write(folder.join("0-host.sh"), format!("{host}touch moved\n")).unwrap();
    upgrade(&project, &["--dry-run", "--rehearse"])
        .exits(0)
        .says("try db on copies")
        .says("while these are made")
        .says("2.0.0/0-host is not tried");
    let failed = upgrade(&project, &["--rehearse"]);
    failed.exits(1).says("verify db: it ended (exit 4)").says("in which data was copied");
    assert_eq!(volumes(place, kind, &project), before);
    assert!(!project.root.join("moved").exists());
    assert!(log(&project).split(' ').all(|word| word == "one"), "{}", log(&project));
    project.run(&["recover"]).exits(0).says("nothing to recover");
    std::fs::write(folder.join("1-moves.sh"), "echo moved >> /data/log\n").unwrap();
    let done = upgrade(&project, &["--rehearse"]);
    done.exits(0).says("generation");
    let words = log(&project);
    assert!(words.ends_with("moved one") && words.matches("moved").count() == 1, "{words}");
    let status = project.run(&["migrate", "status"]);
    status.exits(0).says("done");
    assert!(project.root.join("moved").exists());
}

fn killed(place: &Place) {
    let project = project(place, Kind::Embedded);
    let before = volumes(place, Kind::Embedded, &project);
    let good = project.read("setpoint.toml");
    project.write("setpoint.toml", &good.replace("./one", "./two"));
    for point in ["backup.stopped", "backup.copied", "rehearsal.copied", "start.acted", "verify db.acted"] {
        let mut command = project.command(&["upgrade", "--rehearse", "--no-daemon"]);
        let killed = finish(project.start(command.env("SETPOINT_CRASH_AT", point)));
        assert_eq!(killed.code, 128 + 9, "{point}: {killed}");
        project.run(&["recover"]).exits(0);
        until(&format!("all run after {point}"), || crate::upgrades::all_run(&project));
        assert_eq!(volumes(place, Kind::Embedded, &project), before, "{point}");
        project.run(&["history"]).exits(0).says("Nothing was upgraded");
    }
    upgrade(&project, &["--rehearse"]).exits(0);
    assert!(log(&project).ends_with("two"), "{}", log(&project));
}
