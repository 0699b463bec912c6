//! As a user without privileges.

use std::os::unix::fs::MetadataExt as _;

use crate::harness::{FULL, NOTHING, Project};

/// A user that this machine does not know.
const USER: u32 = 65533;

fn full() -> Project {
    let project = Project::of_user(USER, FULL);
    project.pack("alpha").pack("beta");
    project
}

#[test]
fn a_user_without_privileges_brings_up_uses_and_removes_an_environment() {
    let project = full();
    project.up();
    assert_eq!(project.effects().len(), 9);
    assert_eq!(project.inside("id -u; pwd"), "0\n/workspace");
    assert_eq!(project.run(&["exec", "--", "sh", "-c", "exit 7"]).code, 7);
    project.pack("uv").declare("\"beta\"]", "\"beta\", \"uv\"]");
    assert_eq!(project.up_effects(), ["uv", "post_attach"]);
    project.is_settled();
    project.run(&["stop"]).exits(0);
    assert_eq!(project.up_effects(), ["alpha", "beta", "uv", "post_start", "post_attach"]);
    project.run(&["down"]).exits(0);
    assert_eq!(project.status()["state"], "absent");
}

#[test]
fn the_files_made_inside_belong_to_the_user_outside() {
    let project = full();
    project.up();
    project.inside("echo mine > made-inside; mkdir folder; touch folder/file");
    for path in ["made-inside", "folder", "folder/file"] {
        let metadata = project.root.join(path).metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (USER, USER), "{path}");
    }
    project.inside("echo kept > /opt/kept && cat /opt/kept");
}

#[test]
fn what_one_id_cannot_do_is_refused_by_name() {
    let project = full();
    project.declare("packs =", "user = \"daemon\"\npacks =");
    let told = project.run(&["up"]);
    assert_ne!(told.code, 0, "{told}");
    told.says("single user").says("hint").says("set `user` to `root`");
    let project = full();
    project.up();
    let told = project.run(&["exec", "--user", "daemon", "--", "id"]);
    told.exits(7).says("single user").says("hint");
}

#[test]
fn a_user_that_cannot_be_is_known_before_anything_runs() {
    let project = full();
    project.declare("packs =", "user = \"daemon\"\npacks =");
    project.run(&["up"]);
    assert_eq!(project.effects(), NOTHING);
}

#[test]
fn a_network_of_its_own_is_refused_by_name_before_anything_is_made() {
    let project = full();
    project.declare("packs =", "network = \"private\"\npacks =");
    project.run(&["up"]).exits(7).says("without the rights of root").says("network = \"host\"");
    assert_eq!(project.effects(), NOTHING);
}

#[test]
fn a_limit_that_this_user_may_not_set_is_refused_by_name() {
    let project = full();
    project.declare("packs =", "limits = { memory = \"512MiB\" }\npacks =");
    let told = project.run(&["up"]);
    // A machine that delegates control groups to its users may set it.
    if told.code != 0 {
        told.exits(7).says("memory").says("hint");
    }
}

#[test]
fn a_user_may_be_killed_anywhere_too() {
    for point in ["create.acted", "start.acted", "pack-0.acted", "post_create.announced"] {
        let project = full();
        let mut command = project.command(&["up"]);
        let killed = crate::harness::finish(project.start(command.env("SETPOINT_CRASH_AT", point)));
        assert_ne!(killed.code, 0, "{point} was not reached");
        project.up();
        project.is_settled();
    }
}

#[test]
fn a_user_without_privileges_runs_pipelines() {
    let project = Project::of_user(
        USER,
        "setpoint = 1\n\
         [pipeline.ci.step.make]\nrun = \"rm -r gone; mkdir made; echo x > made/file; echo tool > /opt/tool; id -u\"\n\
         [pipeline.ci.step.look]\nfrom = \"make\"\nrun = \"ls -d *; cat made/file /opt/tool kept\"\n\
         [pipeline.ci.step.other]\nrun = \"ls -d *\"\ninputs = [\"kept\"]\n",
    );
    project.write("gone/a", "").write("kept", "kept\n");
    let outcome = project.run(&["run"]);
    outcome.exits(0).says("make | 0").says("look | made").says("look | tool").says("look | kept");
    outcome.says_not("look | gone");
    project.run(&["run"]).exits(0).says("3 cached");
    // What was taken before is laid below, and what is gone from it has to be gone.
    std::fs::remove_dir_all(project.root.join("gone")).unwrap();
    project.declare("rm -r gone; ", "! test -e gone; ");
    project.run(&["run"]).exits(0);
    project.run(&["cache", "clean"]).exits(0);
}
