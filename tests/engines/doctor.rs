//! What the doctor finds on Docker and Podman: images, data and stacks of others.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;

use serde_json::{Value, json};

use crate::docker::Scenario;
use crate::harness::{Outcome, Project, until};
use crate::place::{Kind, Place};
use crate::support::{ARCHITECTURE, Blobs, Tar, busybox, digest};

macro_rules! on {
    ($kind:expr; $($name:ident),+ $(,)?) => {
        &[$((concat!("doctor::", stringify!($name)), |place: &Place| $name(place, $kind))),+]
    };
}

pub const ON_DOCKER: &[Scenario] = on![Kind::Docker;
    on_a_good_box_the_doctor_has_nothing_to_tell,
    data_without_a_volume_is_told_and_not_upgraded_over,
    an_image_that_was_made_by_hand_is_told,
    an_image_for_other_processors_is_told,
    a_stack_of_somebody_elses_is_told,
    an_engine_that_is_too_old_is_told,
];

pub const ON_PODMAN: &[Scenario] = on![Kind::Podman;
    on_a_good_box_the_doctor_has_nothing_to_tell,
    data_without_a_volume_is_told_and_not_upgraded_over,
];

const WAITS: &str = "command = [\"/bin/sh\", \"-c\", \"trap 'exit 0' TERM; while :; do sleep 1; done\"]\nnetwork = \"host\"\nuser = \"root\"\nstop_grace = \"1s\"\n";

fn ids(project: &Project) -> Vec<String> {
    let told = project.run(&["doctor", "--offline", "--json"]);
    let findings = told.json()["findings"].as_array().unwrap().clone();
    findings.iter().filter_map(|finding| Some(finding["id"].as_str()?.to_owned())).collect()
}

#[track_caller]
fn finds(project: &Project, wanted: &[&str]) -> Outcome {
    let told = project.run(&["doctor", "--offline"]);
    let mut found = ids(project);
    // Other tests have units on this engine, whose folders come and go.
    found.retain(|id| id != "orphan-unit" || wanted.contains(&"orphan-unit"));
    assert_eq!(found, wanted, "{told}");
    told
}

fn project(place: &Place, kind: Kind, name: &str, manifest: &str) -> Project {
    place.engine(kind);
    let head = format!(
        "setpoint = 1\n[engine]\ndefault = \"{}\"\n[release]\nsteady = \"50ms\"\nbake = \"50ms\"\n",
        kind.name()
    );
    let mut project = Project::of(None, name, &format!("{head}{manifest}"));
    project.set(if kind == Kind::Docker { "DOCKER_HOST" } else { "CONTAINER_HOST" }, &place.host(kind));
    project
}

/// Puts an image into the project's folder that says that its data is at `/data`.
fn image(project: &Project, name: &str) {
    let mut blobs = Blobs::default();
    let root = busybox(name);
    let programs = ["sleep", "cat", "touch", "rm"];
    let links = programs.iter().fold(Tar::default(), |tar, name| tar.link(&format!("bin/{name}"), "busybox"));
    let accounts = links.dir("data/", 0o755).file("etc/passwd", b"root:x:0:0:root:/:/bin/sh\n").end();
    let layers = [root, accounts].map(|layer| (layer.clone(), digest(&layer)));
    let settings = json!({"Env": ["PATH=/bin"], "Volumes": {"/data": {}}});
    let entry = blobs.configured(&layers, ARCHITECTURE, &settings);
    blobs.layout(&entry, &project.root.join(name));
}

fn inside(project: &Project, words: &str) {
    project.run(&["exec", "db", "--", "/bin/sh", "-c", words]).exits(0);
}

fn on_a_good_box_the_doctor_has_nothing_to_tell(place: &Place, kind: Kind) {
    let more =
        "volumes = { data = \"/data\" }\n[service.db.first_boot]\nseed = { run = \"touch /data/seed\" }\n";
    let project = project(place, kind, "good", &format!("[service.db]\nimage = \"./one\"\n{WAITS}{more}"));
    image(&project, "one");
    project.run(&["up", "--no-daemon"]).exits(0);
    finds(&project, &[]).says("as declared");
    until("other tests have left nothing on this engine", || {
        let told = project.run(&["doctor", "--offline"]);
        told.code == 0 && told.stdout.contains("Nothing is wrong.")
    });
    inside(&project, "rm /data/seed");
    finds(&project, &["data-missing"]).exits(10).says("the first boot of `db` was done for the volume");
    project.run(&["down", "--volumes", "--yes"]).exits(0);
}

fn data_without_a_volume_is_told_and_not_upgraded_over(place: &Place, kind: Kind) {
    let project = project(place, kind, "loose", &format!("[service.db]\nimage = \"./one\"\n{WAITS}"));
    image(&project, "one");
    image(&project, "two");
    project.run(&["up", "--no-daemon"]).exits(0);
    finds(&project, &[]);
    inside(&project, "echo precious > /data/row");
    finds(&project, &["anonymous-volume"]).exits(10).says("`db` keeps data at /data");
    project.declare("./one", "./two");
    let told = project.run(&["upgrade", "--no-daemon"]);
    told.exits(10).says("docs/runbook.md#anonymous-volume").says("nothing was changed");
    project.run(&["exec", "db", "--", "cat", "/data/row"]).exits(0).says("precious");
    project.run(&["stop"]).exits(0);
    finds(&project, &["anonymous-volume"]);
}

fn an_image_that_was_made_by_hand_is_told(place: &Place, kind: Kind) {
    let manifest = format!("[service.web]\nimage = \"byhand/web:1\"\n{WAITS}");
    let project = project(place, kind, "byhand", &manifest);
    finds(&project, &[]);
    place.client(kind, &["tag", "base:1", "byhand/web:1"]);
    place.client(kind, &["tag", "base:1", "byhand/web:latest"]);
    finds(&project, &["unknown-image"]).exits(3).says("came from no registry");
    project.declare("byhand/web:1", "byhand/web");
    finds(&project, &["floating-tag", "unknown-image"]);
    place.client(kind, &["rmi", "byhand/web:1", "byhand/web:latest"]);
}

fn an_image_for_other_processors_is_told(place: &Place, kind: Kind) {
    let manifest = format!("[service.web]\nimage = \"other/web:1\"\n{WAITS}");
    let project = project(place, kind, "other", &manifest);
    let mut blobs = Blobs::default();
    let root = busybox("elsewhere");
    let entry = blobs.claimed(&[(root.clone(), digest(&root))], "s390x");
    blobs.layout(&entry, &project.root.join("image"));
    // As `docker save` writes it, for that is what the engine loads.
    let document: Value = serde_json::from_slice(&blobs.all[entry["digest"].as_str().unwrap()]).unwrap();
    let config = &blobs.all[document["config"]["digest"].as_str().unwrap()];
    let list = json!([{"Config": "config.json", "RepoTags": ["other/web:1"], "Layers": ["layer.tar"]}]);
    let list = serde_json::to_vec(&list).unwrap();
    let archive = Tar::default()
        .file("manifest.json", &list)
        .file("config.json", config)
        .file("layer.tar", &root)
        .end();
    let file = project.at("other.tar");
    std::fs::write(&file, archive).unwrap();
    place.client(kind, &["load", "--input", &file.display().to_string()]);
    finds(&project, &["unknown-image", "wrong-architecture"]).exits(10).says("other/web:1 is for s390x");
    place.client(kind, &["rmi", "other/web:1"]);
}

fn a_stack_of_somebody_elses_is_told(place: &Place, kind: Kind) {
    let project = project(place, kind, "legacy", &format!("[service.db]\nimage = \"./one\"\n{WAITS}"));
    image(&project, "one");
    image(&project, "two");
    project.run(&["up", "--no-daemon"]).exits(0);
    finds(&project, &[]);
    let labels = ["com.docker.compose.project=legacy", "com.docker.compose.service=db"];
    let folder = format!("com.docker.compose.project.working_dir={}", project.root.display());
    let words = [
        "run",
        "--detach",
        "--name",
        "legacy-db-1",
        "--label",
        labels[0],
        "--label",
        labels[1],
        "--label",
        &folder,
    ];
    place.client(kind, &[&words[..], &["base:1", "sleep", "100000"]].concat());
    finds(&project, &["legacy-stack"]).exits(10).says("the Compose project legacy").says("legacy-db-1");
    project.declare("./one", "./two");
    project
        .run(&["upgrade", "--no-daemon"])
        .exits(10)
        .says("docs/runbook.md#legacy-stack")
        .says("setpoint adopt");
    place.client(kind, &["rm", "--force", "legacy-db-1"]);
    project.run(&["upgrade", "--no-daemon"]).exits(0);
    finds(&project, &[]);
}

/// Who answers as an engine does that is of many years ago.
fn an_engine_that_is_too_old_is_told(place: &Place, kind: Kind) {
    let mut project = project(place, kind, "old", &format!("[service.web]\nimage = \"a:1\"\n{WAITS}"));
    let socket = project.at("old.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let body = "{\"Version\":\"17.03.0-ce\",\"ApiVersion\":\"1.26\"}";
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
            let _ = write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    project.set("DOCKER_HOST", &format!("unix://{}", socket.display()));
    finds(&project, &["engine-old"]).exits(10).says("its API is 1.26");
    project.set("DOCKER_HOST", &place.host(kind));
}
