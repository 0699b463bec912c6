//! Environments on images: from a real registry, by a tag that moves, and with its digest in `why`.

use crate::harness::Project;
use crate::registry::Server;
use crate::support::{Blobs, busybox, gzip};

/// Pushes an image around busybox whose file `/note` says this; gives its digest.
fn push(server: &Server, name: &str, note: &str) -> String {
    let mut blobs = Blobs::default();
    let manifest = blobs.image(&[(busybox(note), gzip)]);
    server.push(&blobs, &[&manifest], name);
    manifest["digest"].as_str().unwrap().to_owned()
}

#[test]
fn an_image_is_pulled_once_and_a_moved_tag_is_drift_only_when_asked_to_look() {
    let mut server = Server::open();
    let first = push(&server, "team/box:1", "one");
    let project = Project::new(&format!(
        "setpoint = 1\n[env.dev]\nimage = \"{}/team/box:1\"\n[env.dev.hooks]\non_create = \"echo on_create >> log\"\n",
        server.address
    ));
    project.up();
    assert_eq!(project.inside("busybox cat /note"), "one");
    assert_eq!(project.effects(), ["on_create"]);

    let second = push(&server, "team/box:1", "two");
    project.is_settled();
    let why = project.run(&["why", "--pull"]);
    why.exits(0).says("env.dev.base digest").says(&first).says(&second).says("recreate");
    project.run(&["up", "--yes"]).exits(0);
    assert_eq!(project.inside("busybox cat /note"), "two");
    assert_eq!(project.effects(), ["on_create"]);

    // What was pulled needs no registry any more.
    server.stop();
    project.is_settled();
    project.run(&["down"]).exits(0);
    project.up();
    assert_eq!(project.inside("busybox cat /note"), "two");
}

#[test]
fn an_image_that_cannot_be_had_touches_nothing() {
    let mut server = Server::open();
    push(&server, "team/box:1", "one");
    let project =
        Project::new(&format!("setpoint = 1\n[env.dev]\nimage = \"{}/team/box:1\"\n", server.address));
    project.up();
    project.declare("box:1", "box:2");
    project.run(&["up", "--yes"]).exits(7).says("team/box:2").says("hint");
    assert_eq!(project.inside("busybox cat /note"), "one");
    server.stop();
    project.run(&["up", "--yes"]).exits(7).says("cannot be reached");
    assert_eq!(project.inside("busybox cat /note"), "one");
    project.declare("box:2", "box:1");
    project.is_settled();
}

#[test]
fn steps_run_on_images_and_a_moved_tag_is_another_key_once_somebody_looked() {
    let mut server = Server::open();
    push(&server, "team/box:1", "one");
    let project = Project::new(&format!(
        "setpoint = 1\n[pipeline.ci]\nimage = \"{}/team/box:1\"\n\
         [pipeline.ci.step.make]\nrun = [\"busybox\", \"sh\", \"-c\", \"busybox cat /note > made; echo added > /added\"]\n\
         [pipeline.ci.step.look]\nfrom = \"make\"\nrun = [\"busybox\", \"cat\", \"made\", \"/added\", \"file\"]\n",
        server.address
    ));
    project.write("file", "of the source\n");
    project.run(&["run"]).exits(0).says("look | oneadded").says("look | of the source");
    project.run(&["run"]).exits(0).says("2 cached");
    push(&server, "team/box:1", "two");
    project.run(&["run"]).exits(0).says("2 cached");
    project.run(&["run", "--pull"]).exits(0).says("look | twoadded");
    server.stop();
    project.run(&["run"]).exits(0).says("2 cached");
    project.declare("box:1", "box:3");
    project.run(&["run"]).exits(7).says("cannot be reached");
}

#[test]
fn steps_run_on_a_layout_of_the_project_and_an_edit_of_it_is_another_key() {
    let project = Project::new(
        "setpoint = 1\n[pipeline.ci]\nimage = \"./box\"\n\
         [pipeline.ci.step.look]\nrun = [\"busybox\", \"cat\", \"/note\"]\ninputs = []\n",
    );
    project.run(&["run"]).exits(7).says("there is no `").says("/box`");
    for note in ["one", "two"] {
        let mut blobs = Blobs::default();
        let image = blobs.image(&[(busybox(note), gzip)]);
        blobs.layout(&image, &project.root.join("box"));
        project.run(&["run"]).exits(0).says(&format!("look | {note}"));
        project.run(&["run"]).exits(0).says("1 cached");
    }
    std::fs::remove_dir_all(project.root.join("box")).unwrap();
    let mut blobs = Blobs::default();
    let image = blobs.image(&[(busybox("three"), gzip)]);
    std::fs::write(project.root.join("box"), gzip(&blobs.archive(&image))).unwrap();
    project.run(&["run"]).exits(0).says("look | three");
}
