//! What the doctor finds of migrations and the data that they were applied to.

use std::fs;

use crate::doctor::{finds, images};
use crate::harness::Project;

/// A service whose data tells what was done to it.
const MANIFEST: &str = r#"setpoint = 1
[project]
version = "1.0.0"
[release]
verify = "10s"
steady = "50ms"
bake = "50ms"
[release.migrations]
in = "db"
[service.db]
image = "./one"
user = "root"
network = "host"
volumes = { data = "/data" }
command = "exec sleep 100000"
stop_grace = "1s"
"#;

fn project(manifest: &str) -> Project {
    let project = Project::new(manifest);
    images(&project);
    project
}

fn add(project: &Project, name: &str, text: &str) {
    project.write(&format!("migrations/{name}.sh"), text);
}

fn remove(project: &Project, name: &str) {
    fs::remove_file(project.root.join(format!("migrations/{name}.sh"))).unwrap();
}

/// The doctor finds just this; an upgrade does not begin, by the same words, and names the same section.
#[track_caller]
fn refused(project: &Project, id: &str) {
    finds(project, &[id]);
    let anchor = format!("docs/runbook.md#{id}");
    project.run(&["upgrade", "--no-daemon"]).exits(4).says(&anchor);
    project.run(&["upgrade", "--dry-run"]).exits(4).says(&anchor);
    project.run(&["doctor", "--offline"]).exits(10).says(&anchor);
}

#[test]
fn what_was_applied_and_what_is_declared_are_compared() {
    let project = project(MANIFEST);
    add(&project, "1.0.0/1-begin", "echo begun >> /data/log\n");
    finds(&project, &[]);
    project.run(&["up", "--no-daemon"]).exits(0);
    finds(&project, &[]);

    add(&project, "1.0.0/1-begin", "echo other >> /data/log\n");
    refused(&project, "migration-changed");
    remove(&project, "1.0.0/1-begin");
    // Also where the version has no migration at all.
    refused(&project, "ledger-newer");
    add(&project, "1.0.0/1-begin", "echo begun >> /data/log\n");
    add(&project, "0.9.0/1-early", "true\n");
    refused(&project, "migration-gap");
    remove(&project, "0.9.0/1-early");
    // What is wrong with a file has its place, and needs no section.
    add(&project, "2.0.0/first", "true\n");
    finds(&project, &["manifest"]);
    remove(&project, "2.0.0/first");

    // What is due is nothing wrong, neither before nor after.
    add(&project, "2.0.0/1-next", "echo next >> /data/log\n");
    project.declare("1.0.0", "2.0.0");
    finds(&project, &[]);
    project.run(&["upgrade", "--no-daemon"]).exits(0);
    finds(&project, &[]);
    project.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(0);
    finds(&project, &[]);
    project.run(&["down", "--volumes", "--yes"]).exits(0);

    // Data that was there before its ledger.
    fs::remove_dir_all(project.root.join("migrations")).unwrap();
    project.run(&["up", "--no-daemon"]).exits(0);
    add(&project, "1.0.0/1-begin", "echo begun >> /data/log\n");
    refused(&project, "migration-unverified");
    project.declare("in = \"db\"", "in = \"db\"\nbaseline = \"1.0.0\"");
    finds(&project, &[]);
    project.run(&["down", "--volumes", "--yes"]).exits(0);
}

#[test]
fn what_was_cut_off_on_data_that_is_not_copied_is_told() {
    let project = project(&MANIFEST.replace("[release]\n", "[release]\nlane = \"compatible\"\n"));
    project.run(&["up", "--no-daemon"]).exits(0);
    let head = "# setpoint: idempotent = true\n";
    add(&project, "2.0.0/1-wide", &format!("{head}test -e /data/ready\n"));
    project.run(&["upgrade", "--no-daemon"]).exits(1);
    finds(&project, &["migration-unfinished"]);
    project.run(&["exec", "db", "--", "/bin/sh", "-c", ": > /data/ready"]).exits(0);
    project.run(&["upgrade", "--no-daemon"]).exits(0);
    finds(&project, &[]);
    // The code alone goes back: the version before works on what the later one left, which is what the lane says.
    project.run(&["rollback", "--no-daemon"]).exits(0);
    finds(&project, &[]);
    remove(&project, "2.0.0/1-wide");
    finds(&project, &[]);
    project.run(&["doctor", "--offline"]).exits(0).says("the data has 2.0.0/1-wide");
    project.run(&["down", "--volumes", "--yes"]).exits(0);
}

#[test]
fn what_was_done_to_data_that_stays_is_known_after_an_uninstall() {
    let project = project(&format!(
        "{MANIFEST}[service.db.first_boot]\nseed = {{ run = \"echo seeded >> /data/log\" }}\n"
    ));
    add(&project, "1.0.0/1-begin", "echo begun >> /data/log\n");
    project.run(&["up", "--no-daemon"]).exits(0);
    // What a state began with is in the next one, too.
    for _ in 0..2 {
        project.run(&["uninstall", "--yes"]).exits(0).says("data.db, with what services keep");
        project.run(&["uninstall", "--yes"]).exits(0).says("data.db, with what services keep");
        project.run(&["up", "--no-daemon"]).exits(0);
        assert!(!project.state().join("data.db").exists());
        finds(&project, &[]);
        let log = project.run(&["exec", "db", "--", "cat", "/data/log"]);
        assert_eq!(log.exits(0).stdout, "begun\nseeded\n");
        project.run(&["migrate", "status"]).exits(0).says("1.0.0/1-begin").says("done");
    }
    project.run(&["down", "--volumes", "--yes"]).exits(0);
}
