//! The services in `examples/stack`, on the embedded engine and on Docker, from one manifest.

use std::fs;
use std::path::Path;

use crate::docker::Scenario;
use crate::harness::{Project, until};
use crate::place::{Kind, Place};
use crate::support::{Blobs, plain};

pub const ON_THE_EMBEDDED_ENGINE: Scenario = ("the_example_of_services_stands", on_the_embedded_engine);
pub const ON_DOCKER: Scenario = ("the_example_of_services_stands", on_docker);

fn on_the_embedded_engine(place: &Place) {
    let project = Project::new("");
    let image = project.at("image");
    let mut blobs = Blobs::default();
    let system = fs::read(place.engine(Kind::Embedded).folder.join("rootfs.tar")).unwrap();
    let entry = blobs.image(&[(system, plain)]);
    blobs.layout(&entry, &image);
    // The image of the tests has a user of its own.
    stands(&project, &format!("image = \"{}\"\nuser = \"root\"", image.display()), "embedded");
}

fn on_docker(place: &Place) {
    place.engine(Kind::Docker);
    // Volumes are called after their projects, and an engine has one of a name.
    let mut project = Project::of(None, "example", "");
    project.set("DOCKER_HOST", &place.host(Kind::Docker));
    stands(&project, "image = \"base:1\"", "docker");
}

fn stands(project: &Project, image: &str, engine: &str) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/stack");
    let text = fs::read_to_string(example.join("setpoint.toml")).unwrap();
    project.write("httpd.conf.j2", &fs::read_to_string(example.join("httpd.conf.j2")).unwrap());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for part in ["image = \"busybox:1.36\"", "127.0.0.1:8080:8000", "setpoint = 1\n"] {
        assert!(text.contains(part), "{part}");
    }
    let head = format!("setpoint = 1\n[engine]\ndefault = \"{engine}\"\n");
    let text = text.replacen("setpoint = 1\n", &head, 1).replace("image = \"busybox:1.36\"", image);
    project.write("setpoint.toml", &text.replace(":8080:", &format!(":{port}:")));
    project.up();
    let page = "declared\nis\nis\nruns\nwhat\nwhat\n";
    let inside = || project.run(&["exec", "store", "--", "wget", "-qO-", "http://web:8000/"]).stdout;
    until("the page is there", || inside() == page);
    project.run(&["up"]).exits(0).says("store: nothing to do").says("web: nothing to do");
    project.run(&["status"]).exits(0).says("running, healthy");
    // What is kept is in a volume, and what is edited is one service.
    project.run(&["exec", "store", "--", "sh", "-c", "echo b a > /data/words"]).exits(0);
    project.edit("setpoint.toml", "sleep 1; done", "sleep 2; done");
    project.run(&["plan"]).exits(0).says("store: nothing to do").says("web: nothing to do");
    project.run(&["why"]).exits(0).says("worker: 1 change").says("command");
    project.up().says("store: nothing to do");
    until("the page has changed", || inside() == "a\nb\n");
    project.run(&["down", "--volumes", "--yes"]).exits(0).says("_data").says("_pages");
}
