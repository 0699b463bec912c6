//! Migrations: each once, in order, on a copy of the data, or not at all: through the binary itself.

use std::fs;

use crate::docker::Scenario;
use crate::harness::{Project, until};
use crate::place::{Kind, Place};
use crate::upgrades;

pub const ON_THE_EMBEDDED_ENGINE: &[Scenario] = &[
    ("migrations_run_once_each_on_a_copy_of_the_data", |place| once_each(place, Kind::Embedded)),
    ("a_migration_that_fails_leaves_the_data_as_it_was", |place| failing(place, Kind::Embedded)),
    ("what_was_applied_and_what_is_there_have_to_belong_together", belonging),
    ("data_that_no_ledger_tells_of_is_asked", asked),
    ("on_data_that_is_not_copied_a_migration_may_be_repeated", shared),
    ("what_leads_forward_only_runs_after_the_commit", |place| forward_only(place, Kind::Embedded)),
    ("a_service_starts_again_for_a_migration_before_its_start", |place| started_again(place, Kind::Embedded)),
];

pub const ON_DOCKER: &[Scenario] = &[
    ("migrations_run_once_each_on_a_copy_of_the_data", |place| once_each(place, Kind::Docker)),
    ("a_migration_that_fails_leaves_the_data_as_it_was", |place| failing(place, Kind::Docker)),
    ("what_leads_forward_only_runs_after_the_commit", |place| forward_only(place, Kind::Docker)),
    ("a_service_starts_again_for_a_migration_before_its_start", |place| started_again(place, Kind::Docker)),
];

pub const ON_PODMAN: &[Scenario] = &[
    ("migrations_run_once_each_on_a_copy_of_the_data", |place| once_each(place, Kind::Podman)),
    ("a_service_starts_again_for_a_migration_before_its_start", |place| started_again(place, Kind::Podman)),
];

/// A project whose database writes down who works on its data.
fn project(place: &Place, kind: Kind) -> Project {
    upgrades::declared_only(place, kind)
}

pub fn add(project: &Project, name: &str, text: &str) {
    let path = project.root.join("migrations").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

pub fn remove(project: &Project, name: &str) {
    fs::remove_file(project.root.join("migrations").join(name)).unwrap();
}

fn log(project: &Project) -> String {
    upgrades::log(project)
}

/// The migrations with their standings, as `migrate status` has them.
pub fn standings(project: &Project) -> Vec<(String, String)> {
    let status = project.run(&["migrate", "status", "--json"]);
    let all = status.exits(0).json()["migrations"].as_array().unwrap().clone();
    let text = |of: &serde_json::Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
    all.iter().map(|of| (text(of, "id"), text(of, "standing"))).collect()
}

pub fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(id, standing)| ((*id).to_owned(), (*standing).to_owned())).collect()
}

fn once_each(place: &Place, kind: Kind) {
    let project = project(place, kind);
    add(&project, "1.0.0/1-begin.sh", "echo begun >> /data/log\n");
    project.run(&["up", "--no-daemon"]).exits(0).says("generation 1");
    until("it stands on what the first migration made", || log(&project) == "begun one");
    project.run(&["up", "--no-daemon"]).exits(0).says("db: nothing to do");
    project.run(&["migrate", "plan"]).exits(0).says("No migration is due");
    // Nothing was there before it.
    project.run(&["rollback", "--discard-writes"]).exits(5).says("no earlier generation");

    // Longer than an argument of a program can be.
    let long = format!(": {}\necho first >> /data/log\n", "x".repeat(200_000));
    add(&project, "2.0.0/1-first.sh", &long);
    add(
        &project,
        "2.0.0/2-second.sh",
        "# setpoint: stage = \"post\"\nread -r word < /data/log\necho $word >> /data/log\n",
    );
    add(
        &project,
        "2.0.0/10-third.txt",
        "# setpoint: in = \"web\"\n# setpoint: run = [\"/bin/sh\", \"-ec\", \"echo $0\"]\n",
    );
    project.declare("1.0.0", "2.0.0");
    let refused = project.run(&["up", "--no-daemon"]);
    refused.exits(6).says("2.0.0/1-first, 2.0.0/2-second, 2.0.0/10-third").says("setpoint upgrade");
    assert_eq!(log(&project), "begun one");
    let planned = project.run(&["upgrade", "--dry-run"]);
    planned.exits(0).says("breaking").says("migrate 2.0.0/1-first in the place of db").says("copy ");
    upgrades::upgrade(&project).exits(0).says("2.0.0");
    assert_eq!(log(&project), "begun one first one begun");
    let done = pairs(&[
        ("1.0.0/1-begin", "done"),
        ("2.0.0/1-first", "done"),
        ("2.0.0/2-second", "done"),
        ("2.0.0/10-third", "done"),
    ]);
    assert_eq!(standings(&project), done);
    project.run(&["logs", "web", "migrate-2.0.0-10-third"]).exits(0).says("10-third.txt");
    upgrades::upgrade(&project).exits(0).says("nothing to do");

    // The way back has the data of before, and its ledger.
    project.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(0);
    until("the old data is back", || log(&project) == "begun one one");
    let again = pairs(&[
        ("1.0.0/1-begin", "done"),
        ("2.0.0/1-first", "due"),
        ("2.0.0/2-second", "due"),
        ("2.0.0/10-third", "due"),
    ]);
    assert_eq!(standings(&project), again);
    upgrades::upgrade(&project).exits(0);
    assert_eq!(log(&project), "begun one one first one begun");

    // New data is of the present version from the beginning.
    project.run(&["down", "--volumes", "--yes"]).exits(0);
    project.run(&["up", "--no-daemon"]).exits(0);
    until("it begins anew", || log(&project) == "begun first one begun");
    assert_eq!(standings(&project), done);
}

fn failing(place: &Place, kind: Kind) {
    let project = project(place, kind);
    project.run(&["up", "--no-daemon"]).exits(0);
    until("it has begun", || log(&project) == "one");
    let volumes = upgrades::volumes(place, kind, &project);
    let bad = |name: &str, text: &str, says: &[&str]| {
        add(&project, name, text);
        let outcome = upgrades::upgrade(&project);
        outcome.exits(1).says("Rolled back");
        for words in says {
            outcome.says(words);
        }
        until("all run again", || upgrades::all_run(&project));
        assert!(log(&project).split(' ').all(|word| word == "one"), "{name}: {}", log(&project));
        let due = pairs(&[(name.rsplit_once('.').unwrap().0, "due")]);
        assert_eq!(standings(&project), due, "{name}");
        assert_eq!(upgrades::volumes(place, kind, &project), volumes, "{name}");
        remove(&project, name);
    };
    bad(
        "2.0.0/1-bad.sh",
        "echo bad >> /data/log\necho no such table >&2\nexit 7\n",
        &["exit 7: no such table"],
    );
    bad(
        "2.0.0/1-hangs.sh",
        "# setpoint: timeout = \"1s\"\necho bad >> /data/log\nsleep 1000\n",
        &["timed out after 1s"],
    );
    bad("2.0.0/1-late.sh", "# setpoint: stage = \"post\"\necho bad >> /data/log\nexit 7\n", &["exit 7"]);
    bad(
        "2.0.0/1-wrong.sh",
        "# setpoint: check = \"test -e /data/made\"\necho bad >> /data/log\n",
        &["check"],
    );
    bad("2.0.0/1-nobody.sh", "# setpoint: user = \"nobody-here\"\ntrue\n", &["nobody-here"]);
    let generation = project.run(&["migrate", "status"]);
    generation.exits(0).says("no migrations");
}

fn belonging(place: &Place) {
    let project = project(place, Kind::Embedded);
    add(&project, "1.0.0/1-begin.sh", "echo begun >> /data/log\n");
    project.run(&["up", "--no-daemon"]).exits(0);
    let wrong = |says: &[&str]| {
        for command in [["upgrade", "--no-daemon"], ["migrate", "plan"]] {
            let outcome = project.run(&command);
            outcome.exits(4);
            for words in says {
                outcome.says(words);
            }
        }
    };
    add(&project, "1.0.0/1-begin.sh", "echo other >> /data/log\n");
    wrong(&["1.0.0/1-begin was changed", "put back what was applied"]);
    add(&project, "1.0.0/1-begin.sh", "echo begun >> /data/log\n");
    add(&project, "0.9.0/1-early.sh", "true\n");
    wrong(&["0.9.0/1-early was not applied", "1.0.0/1-begin"]);
    remove(&project, "0.9.0/1-early.sh");
    add(&project, "1.0.0/1-again.sh", "true\n");
    wrong(&["the same place"]);
    remove(&project, "1.0.0/1-again.sh");
    add(&project, "2.0.0/first.sh", "true\n");
    wrong(&["migrations/2.0.0/first.sh", "begin with a number"]);
    remove(&project, "2.0.0/first.sh");
    add(&project, "2.0.0/1-a.sql", "SELECT 1;\n");
    wrong(&["migrations/2.0.0/1-a.sql:1", "ends in `.sql`"]);
    add(&project, "2.0.0/1-a.sql", "-- setpoint: run = [\"true\"]\n-- setpoint: in = \"dbb\"\n");
    wrong(&["the service dbb", "db, web"]);
    add(&project, "2.0.0/1-a.sql", "-- setpoint: run = [\"true\"]\n-- setpoint: touches = [\"dat\"]\n");
    wrong(&["the volume dat", "data"]);
    remove(&project, "2.0.0/1-a.sql");
    remove(&project, "1.0.0/1-begin.sh");
    add(&project, "2.0.0/1-later.sh", "true\n");
    wrong(&["1.0.0/1-begin was applied to the data and is not in this version"]);
    assert_eq!(log(&project), "begun one");
}

fn asked(place: &Place) {
    let project = project(place, Kind::Embedded);
    project.run(&["up", "--no-daemon"]).exits(0);
    until("it has begun", || log(&project) == "one");
    // Of the version that has worked on the data nobody knows what it has done.
    add(&project, "1.0.0/1-old.sh", "echo old >> /data/log\n");
    for command in [["upgrade", "--no-daemon"], ["up", "--no-daemon"]] {
        project.run(&command).exits(4).says("nothing tells whether 1.0.0/1-old was applied").says("baseline");
    }
    let ask = "# setpoint: check = \"grep -q old /data/log\"\n";
    add(&project, "1.0.0/1-old.sh", &format!("{ask}echo old >> /data/log\n"));
    project.run(&["migrate", "plan"]).exits(0).says("asked");
    project.run(&["exec", "db", "--", "sh", "-c", "echo old >> /data/log"]).exits(0);
    upgrades::upgrade(&project).exits(0);
    assert_eq!(log(&project), "one old one");
    assert_eq!(standings(&project), pairs(&[("1.0.0/1-old", "done")]));

    let other = self::project(place, Kind::Embedded);
    add(&other, "0.9.0/1-a.sh", "echo a >> /data/log\n");
    add(&other, "1.0.0/1-b.sh", "echo b >> /data/log\n");
    other.declare("[release.migrations]", "[release.migrations]\nbaseline = \"0.9.0\"");
    other.run(&["up", "--no-daemon"]).exits(0);
    until("it stands on what comes after the baseline", || log(&other) == "b one");
    assert_eq!(standings(&other), pairs(&[("0.9.0/1-a", "covered"), ("1.0.0/1-b", "done")]));
}

fn shared(place: &Place) {
    let project = project(place, Kind::Embedded);
    project.declare("[release]\n", "[release]\nlane = \"compatible\"\n");
    project.run(&["up", "--no-daemon"]).exits(0);
    until("it has begun", || log(&project) == "one");
    add(&project, "2.0.0/1-wide.sh", "echo wide >> /data/log\n");
    let refused = upgrades::upgrade(&project);
    refused.exits(4).says("cannot run on data that is not copied").says("idempotent");
    let head = "# setpoint: idempotent = true\n# setpoint: stage = \"post\"\n";
    add(&project, "2.0.0/1-wide.sh", &format!("{head}echo wide >> /data/log\nexit 1\n"));
    upgrades::upgrade(&project).exits(1).says("exit 1");
    upgrades::upgrade(&project).exits(1).says("exit 1");
    // What failed may be mended.
    add(&project, "2.0.0/1-wide.sh", &format!("{head}echo wide >> /data/log\n"));
    upgrades::upgrade(&project).exits(0);
    assert_eq!(log(&project), "one wide wide wide");
    add(&project, "2.0.0/1-wide.sh", &format!("{head}echo wider >> /data/log\n"));
    upgrades::upgrade(&project).exits(4).says("was changed after it was applied");
}

/// What needs a service that is well, and then what needs it not to have started yet: of earlier versions that are skipped, or
/// where nothing is there yet.
fn started_again(place: &Place, kind: Kind) {
    let project = project(place, kind);
    let within = "# setpoint: stage = \"post\"\n";
    add(&project, "1.0.0/1-within.sh", &format!("{within}echo within >> /data/log\n"));
    add(&project, "1.1.0/1-before.sh", "echo before >> /data/log\n");
    project.run(&["up", "--no-daemon"]).exits(0);
    until("it stands on what both made", || log(&project) == "one within before one");
    add(&project, "2.0.0/1-within.sh", &format!("# setpoint: in = \"web\"\n{within}true\n"));
    add(&project, "2.1.0/1-before.sh", "echo again >> /data/log\n");
    upgrades::declare(&project, "one", "two");
    upgrades::killed_at(&project, &["upgrade", "--no-daemon"], "retire db.acted");
    until("all run again", || upgrades::all_run(&project));
    assert_eq!(log(&project), "one within before one one");
    upgrades::upgrade(&project).exits(0);
    until("all run", || upgrades::all_run(&project));
    assert_eq!(log(&project), "one within before one one two again two");
    let history = project.run(&["history", "3"]);
    history.exits(0).says("retire web").says("retire db");
}

fn forward_only(place: &Place, kind: Kind) {
    let project = project(place, kind);
    project.declare("[release]\n", "[release]\nkeep = 9\nlane = \"compatible\"\n");
    project.run(&["up", "--no-daemon"]).exits(0);
    until("it has begun", || log(&project) == "one");
    let head = "# setpoint: stage = \"forward_only\"\n";
    add(&project, "2.0.0/2-drop.sh", head);
    upgrades::upgrade(&project).exits(4).says("2-drop.sh:1").says("idempotent = true");
    let head = format!("{head}# setpoint: idempotent = true\n");
    add(&project, "2.0.0/2-drop.sh", &format!("{head}echo drop >> /data/log\nexit 7\n"));
    add(&project, "2.1.0/1-more.sh", "# setpoint: idempotent = true\ntrue\n");
    let early = upgrades::upgrade(&project);
    early.exits(4).says("2.1.0/1-more comes after 2.0.0/2-drop, which runs only after the commit");
    remove(&project, "2.1.0/1-more.sh");
    project.declare("1.0.0", "2.0.0");
    upgrades::declare(&project, "one", "two");
    let planned = project.run(&["upgrade", "--dry-run"]);
    planned.exits(0).says("migrate 2.0.0/2-drop in db after the commit").says("nothing leads back");

    // Who is not well after the commit may have to be gone back from: it does not run.
    let text = project.read("setpoint.toml");
    project.write(
        "setpoint.toml",
        &text.replace("cat /note >> /data/log;", "cat /note >> /data/log; (sleep 2; kill $$) &"),
    );
    project.declare("bake = \"100ms\"", "bake = \"5s\"");
    upgrades::upgrade(&project).exits(1).says("bake").says("2.0.0/2-drop stays due");
    let due = pairs(&[("2.0.0/2-drop", "due")]);
    assert_eq!(standings(&project), due);
    // Nor is it run again before that is mended.
    upgrades::upgrade(&project).exits(1).says("steady: db: it ended").says("Rolled back");
    project.run(&["doctor"]).exits(3).says("2.0.0/2-drop was to run").says("migration-unfinished");
    project.run(&["rollback", "--no-daemon"]).exits(0);
    assert_eq!(log(&project).matches("drop").count(), 0);
    project.write("setpoint.toml", &text);

    // The new version is in effect, whatever becomes of it; and it is run again until it is done.
    let failed = upgrades::upgrade(&project);
    failed.exits(1).says("migrate 2.0.0/2-drop").says("exit 7").says("The new version is in effect");
    failed.says("2.0.0/2-drop stays due").says("`setpoint upgrade` runs what is due");
    assert_eq!(standings(&project), due);
    until("the new version runs", || log(&project).ends_with("two drop"));
    // It has begun to do what the version before does not know.
    let refused = project.run(&["rollback", "--no-daemon"]);
    refused.exits(8).says("nothing leads back to 1.0.0").says("2.0.0/2-drop");
    project.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(8).says("nothing leads back");
    project.run(&["up", "--no-daemon"]).exits(6).says("2.0.0/2-drop").says("setpoint upgrade");
    add(&project, "2.0.0/2-drop.sh", &format!("{head}echo dropped >> /data/log\n"));
    upgrades::upgrade(&project).exits(0);
    assert!(log(&project).ends_with("two drop dropped"), "{}", log(&project));
    assert_eq!(standings(&project), pairs(&[("2.0.0/2-drop", "done")]));
    upgrades::upgrade(&project).exits(0).says("nothing to do");
    project.run(&["history"]).exits(0).says("2.0.0");

    // No copy from after it leads back to what was before it.
    project.declare("lane = \"compatible\"\n", "");
    upgrades::declare(&project, "two", "one");
    upgrades::upgrade(&project).exits(0);
    let refused = project.run(&["rollback", "1.0.0", "--discard-writes", "--no-daemon"]);
    refused.exits(8).says("nothing leads back to 1.0.0: 2.0.0/2-drop");
    project.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(0);

    // On a copy of the data, that of before leads back.
    add(&project, "3.0.0/1-last.sh", &format!("{head}exit 7\n"));
    project.declare("keep = 9\n", "");
    project.declare("2.0.0", "3.0.0");
    upgrades::upgrade(&project).exits(1).says("3.0.0/1-last stays due");
    // To run it again pushes out nothing.
    add(&project, "3.0.0/1-last.sh", &format!("{head}echo last >> /data/log\n"));
    for _ in 0..2 {
        project.run(&["upgrade", "--no-rehearse", "--no-daemon"]).exits(0);
    }
    until("it has run", || log(&project).ends_with("one last"));
    let refused = project.run(&["rollback", "--no-daemon"]);
    refused.exits(6).says("3.0.0/1-last is `forward_only`, and has run").says("--discard-writes");
    project.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(0);
    until("the data of before is back", || log(&project).ends_with("two drop dropped two two"));

    // Where nothing was before, it is like any other.
    project.run(&["down", "--volumes", "--yes"]).exits(0);
    project.run(&["up", "--no-daemon"]).exits(0);
    until("it begins anew", || log(&project).ends_with("dropped last"));
}
