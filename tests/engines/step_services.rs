//! Services that a step of a pipeline has for itself, through the binary.

use std::fs;
use std::path::Path;
use std::process::Child;

use serde_json::Value;

use crate::docker::Scenario;
use crate::harness::{Outcome, Project, finish, until};
use crate::place::{Kind, Place, is_here};
use crate::stacks;

pub const ON_THE_EMBEDDED_ENGINE: &[Scenario] = &[
    ("a_step_has_a_service_of_its_own", |place| of_its_own(place, Kind::Embedded)),
    ("a_service_that_is_not_well_is_told_apart", |place| not_well(place, Kind::Embedded)),
    ("a_killed_run_leaves_services_for_the_next_to_remove", |place| killed(place, Kind::Embedded)),
    ("steps_side_by_side_have_a_service_each", |place| side_by_side(place, Kind::Embedded)),
    ("an_instance_has_secrets_and_a_first_boot_of_its_own", secrets_and_first_boot),
    ("what_leads_out_of_the_network_of_a_step", what_leads_out),
];

pub const ON_DOCKER: &[Scenario] = &[
    ("a_step_has_a_service_of_its_own", |place| of_its_own(place, Kind::Docker)),
    ("a_service_that_is_not_well_is_told_apart", |place| not_well(place, Kind::Docker)),
    ("a_killed_run_leaves_services_for_the_next_to_remove", |place| killed(place, Kind::Docker)),
    ("steps_side_by_side_have_a_service_each", |place| side_by_side(place, Kind::Docker)),
];

pub const ON_PODMAN: &[Scenario] = &[
    ("a_step_has_a_service_of_its_own", |place| of_its_own(place, Kind::Podman)),
    ("a_service_that_is_not_well_is_told_apart", |place| not_well(place, Kind::Podman)),
    ("a_killed_run_leaves_services_for_the_next_to_remove", |place| killed(place, Kind::Podman)),
    ("steps_side_by_side_have_a_service_each", |place| side_by_side(place, Kind::Podman)),
];

const STACK: &str = r#"
services:
  db:
    image: IMAGE
    user: root
    init: true
    ports: ["127.0.0.1:PORT:8000"]
    environment: { WORD: one }
    command: ["sh", "-c", "trap 'exit 0' TERM; echo began with $$WORD; echo $$WORD >> /data/log; httpd -f -p 8000 -h /data & wait $$!"]
    healthcheck: { test: ["CMD", "test", "-e", "/data/log"], interval: 200ms, retries: 50 }
    volumes: ["data:/data"]
volumes: { data: {} }
"#;

const STEP: &str = r#"
[pipeline.ci.step.test]
services = ["db"]
run = "until wget -qO- http://db:8000/log; do sleep 0.1; done"
"#;

/// A project of this name with a stack, whose steps have the image of its services.
fn project(place: &Place, kind: Kind, name: &str, steps: &str) -> Project {
    // Volumes are called after their projects, and an engine has one of a name.
    let mut project = Project::of(None, name, "");
    match kind {
        Kind::Docker => project.set("DOCKER_HOST", &place.host(kind)),
        Kind::Podman => project.set("CONTAINER_HOST", &place.host(kind)),
        Kind::Embedded | Kind::Repeating => {}
    }
    place.engine(kind);
    let image = stacks::image(&project, name);
    // It is no source of the steps.
    project.write(".setpointignore", "image\ncompose.yaml\nlog\n");
    let image = image.to_string_lossy();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut stack = STACK.replace("IMAGE", &image).replace("PORT", &port.to_string());
    if kind == Kind::Podman {
        // Its own first process is a package of its own, and its checks are run by systemd.
        let lines = stack.lines().filter(|line| !line.contains("init:") && !line.contains("healthcheck:"));
        stack = lines.collect::<Vec<_>>().join("\n");
    }
    project.write("compose.yaml", &stack);
    project.write(
        "setpoint.toml",
        &format!(
            "setpoint = 1\n[project]\nname = \"{name}\"\n[engine]\ndefault = \"{}\"\n[stack]\n\
             compose = \"compose.yaml\"\n[pipeline.ci]\nimage = \"{image}\"\n{steps}",
            kind.name()
        ),
    );
    project
}

/// What there is of instances of a project's services: containers or units, volumes, networks.
fn left(place: &Place, kind: Kind, project: &Project, name: &str) -> Vec<String> {
    let subject = place.engine(kind);
    let mut left = entries(&project.state().join("scratch/v1"));
    let Some(api) = &subject.api else {
        let is_instance = |what: &String| what.starts_with(&format!("{name}-"));
        let folders = ["volumes/v1", "networks/v1"].map(|folder| entries(&project.state().join(folder)));
        left.extend(folders.into_iter().flatten().filter(is_instance));
        let units = entries(&project.state().join("units/v1"));
        let logs = entries(&project.state().join("logs/v1"));
        left.extend(units.iter().chain(&logs).filter(|unit| !own_units(project).contains(unit)).cloned());
        return left;
    };
    let units = subject.engine.units().unwrap();
    let ours = units.iter().filter(|(_, labels)| labels.project_root.starts_with(project.state()));
    left.extend(ours.map(|(id, _)| id.as_str().to_owned()));
    let is_instance = |found: &str| found.starts_with(&format!("{name}-"));
    let names = |list: &Value| -> Vec<String> {
        let list = list.as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|one| one["Name"].as_str().map(str::to_owned)).collect()
    };
    left.extend(names(&api.get("/v1.41/volumes")["Volumes"]).into_iter().filter(|name| is_instance(name)));
    left.extend(names(&api.get("/v1.41/networks")).into_iter().filter(|name| is_instance(name)));
    left
}

/// The ids of the project's own units.
fn own_units(project: &Project) -> Vec<String> {
    let root = project.root.canonicalize().unwrap();
    let name = setpoint_model::names::UnitName::new("db").unwrap();
    vec![setpoint_runtime::engine::UnitId::new(&root, &name).as_str().to_owned()]
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[track_caller]
fn leaves_nothing(place: &Place, kind: Kind, project: &Project, name: &str) {
    let left = left(place, kind, project, name);
    assert!(left.is_empty(), "{left:?}");
}

fn run(project: &Project) -> Outcome {
    project.run(&["run", "--plain"])
}

fn of_its_own(place: &Place, kind: Kind) {
    let name = "of-its-own";
    let project = project(place, kind, name, STEP);
    // The project's own runs at the same time, at its port, with data of its own.
    project.run(&["up", "--no-daemon"]).exits(0);
    project.run(&["exec", "db", "--", "sh", "-c", "echo mine >> /data/log"]).exits(0);
    run(&project).exits(0).says("test: brings up db").says("test | one").says_not("mine");
    let own = project.run(&["exec", "db", "--", "cat", "/data/log"]).stdout;
    assert_eq!(own.lines().collect::<Vec<_>>(), ["one", "mine"]);
    leaves_nothing(place, kind, &project, name);
    project.run(&["runs", "logs", "test", "--service", "db"]).exits(0).says("began with one");
    project.run(&["runs", "logs", "test", "--service", "cache"]).exits(5).says("there is: db");
    // What cannot have changed is not run again: no service is needed for that.
    run(&project).exits(0).says("test: cached").says_not("brings up");
    // What the service is, is in the key; how it is looked after is not.
    if kind != Kind::Podman {
        project.edit("compose.yaml", "retries: 50", "retries: 60");
        run(&project).exits(0).says("test: cached");
    }
    project.edit("compose.yaml", "WORD: one", "WORD: two");
    project.run(&["cache", "why", "test"]).exits(0).says("service db: env WORD");
    run(&project).exits(0).says("test | two").says_not("| one");
    project.run(&["down", "--volumes", "--yes"]).exits(0);
}

fn not_well(place: &Place, kind: Kind) {
    let name = "not-well";
    let steps = format!("{STEP}retries = 1\n");
    let project = project(place, kind, name, &steps);
    if kind != Kind::Podman {
        let (from, to) =
            ("\"test\", \"-e\", \"/data/log\"", "\"sh\", \"-c\", \"echo no such table; exit 3\"");
        project.edit("compose.yaml", from, to).edit("compose.yaml", "retries: 50", "retries: 2");
        let outcome = run(&project);
        outcome
            .exits(7)
            .says("the service db: its health check fails: no such table")
            .says("db: began with one");
        leaves_nothing(place, kind, &project, name);
        project.run(&["runs", "logs", "test"]).says("--service db");
        project.run(&["runs", "logs", "test", "--service", "db"]).exits(0).says("began with one");
    }
    // It ends where it should be there for others.
    let needs = "  web:\n    image: IMAGE\n    depends_on: { db: { condition: service_completed_successfully } }\n\
                 \x20   command: [\"sleep\", \"100\"]\n";
    let image = project.root.join("image");
    let needs = needs.replace("IMAGE", &image.to_string_lossy());
    project.edit("compose.yaml", "services:\n", &format!("services:\n{needs}"));
    project.edit("compose.yaml", "httpd -f", "exit 4; httpd -f").declare("[\"db\"]", "[\"web\"]");
    let outcome = run(&project);
    outcome.exits(7).says("the service db: it ended (exit 4)").says("ERROR");
    leaves_nothing(place, kind, &project, name);
    // A step that fails by itself is a failure of its own.
    project.edit("compose.yaml", "exit 4; httpd -f", "httpd -f").declare("[\"web\"]", "[\"db\"]");
    project.edit("compose.yaml", "service_completed_successfully", "service_started");
    if kind != Kind::Podman {
        project.edit("compose.yaml", "echo no such table; exit 3", "true");
    }
    project.declare("until wget", "exit 9; until wget");
    run(&project).exits(1).says("exit 9");
    leaves_nothing(place, kind, &project, name);
}

fn started(project: &Project) -> Child {
    let child = project.start(&mut project.command(&["run", "--plain"]));
    until("the step runs", || project.run(&["runs", "logs"]).stdout.contains("going"));
    child
}

fn killed(place: &Place, kind: Kind) {
    let name = "killed";
    let steps = STEP.replace("done\"", "done; test -e quick || { echo going; sleep 1000; }\"");
    let project = project(place, kind, name, &steps);
    let mut child = started(&project);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!left(place, kind, &project, name).is_empty());
    project.write("quick", "");
    run(&project).exits(0).says("test | one");
    leaves_nothing(place, kind, &project, name);
    // One that is asked to end leaves nothing itself.
    fs::remove_file(project.root.join("quick")).unwrap();
    let child = started(&project);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    finish(child).exits(130);
    leaves_nothing(place, kind, &project, name);
    // And so does one that is out of time.
    project.declare("services =", "timeout = \"10s\"\nservices =");
    run(&project).exits(9);
    leaves_nothing(place, kind, &project, name);
}

fn side_by_side(place: &Place, kind: Kind) {
    let name = "side-by-side";
    let step = |own: &str, other: &str| {
        let meet = format!(": > /shared/{own}; until test -e /shared/{other}; do sleep 0.1; done");
        STEP.replace("step.test", &format!("step.{own}"))
            .replace("done\"", &format!("done; {meet}\"\ncache_dirs = [\"/shared\"]\ntimeout = \"2m\""))
    };
    let project = project(place, kind, name, &(step("left", "right") + &step("right", "left")));
    let outcome = project.run(&["run", "--plain", "--jobs", "2"]);
    outcome.exits(0).says("left | one").says("right | one");
    // Each has written its own data once.
    assert_eq!(outcome.said().matches("| one").count(), 2, "{outcome}");
    leaves_nothing(place, kind, &project, name);
}

const BOOTED: &str = r#"setpoint = 1
[project]
name = "booted"
[secret.word]
generate = "hex16"
[secret.line]
derive = "word={{ secret.word }}"
[service.db]
base = "host"
command = "exec busybox httpd -f -p 8000 -h /data"
volumes = { data = "/data" }
env = { WORD = "${secret.word}" }
secrets = ["line"]
health = { tcp = 8000, interval = "200ms" }
[service.db.first_boot]
seed = { run = "cp /run/secrets/line /data/line; echo seeded with $WORD" }
[service.web]
base = "host"
command = "exec busybox httpd -f -p 80 -h /"
depends_on = { db = "healthy" }
[pipeline.ci.step.test]
services = ["web"]
env = { WORD = "${secret.word}", LINE = "${secret.line}" }
run = "test \"$(busybox wget -qO- http://db:8000/line)\" = \"$LINE\" && test \"word=$WORD\" = \"$LINE\" && printf %s \"$WORD\" > word"
outputs = ["word"]
artifacts = ["word"]
"#;

fn secrets_and_first_boot(_: &Place) {
    let project = Project::new(BOOTED);
    project.write(".setpointignore", "first\nsecond\nthird\nlog\n");
    if !rustix::process::geteuid().is_root() {
        run(&project).exits(7).says("the service db").says("without the rights of root");
        return;
    }
    let word = |folder: &str| {
        run_to(&project, folder).exits(0);
        project.read(&format!("{folder}/test/word"))
    };
    let first = word("first");
    let said = project.run(&["runs", "logs", "test", "--service", "db"]);
    said.exits(0).says("first_boot-seed: seeded with ***").says_not(&first);
    // Each try has its own, and the project has none of them.
    let again = project.run(&["run", "--plain", "--no-cache", "--output", "second"]);
    again.exits(0);
    assert_ne!(first, project.read("second/test/word"));
    assert_eq!(entries(&project.state().join("secrets/v1")), Vec::<String>::new());
    // The value is in no key, and the instance is in none either.
    run_to(&project, "third").exits(0).says("test: cached");
    project.run(&["cache", "why", "test"]).exits(0).says("service db: first_boot seed").says_not(&first);
    // What nobody could reach, or all would share, is refused by name before anything runs.
    project.declare("[service.web]", "[service.web]\nnetwork = \"host\"");
    run(&project)
        .exits(4)
        .says("`web` cannot have an instance of its own for a step")
        .says("the host's network");
}

fn run_to(project: &Project, folder: &str) -> Outcome {
    project.run(&["run", "--plain", "--output", folder])
}

fn what_leads_out(_: &Place) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let ways = r#"busybox awk '$2 == "00000000"' /proc/net/route | busybox wc -l"#;
    let run_it = format!("busybox wget -qO /dev/null http://web/etc/hostname && echo ways: $({ways})");
    let manifest = |network: &str| {
        format!(
            "setpoint = 1\n[service.web]\nbase = \"host\"\ncommand = \"exec busybox httpd -f -p 80 -h /\"\n\
             health = {{ tcp = 80 }}\n[pipeline.ci.step.test]\nservices = [\"web\"]\n{network}\
             run = '''{run_it}'''\ncache = \"none\"\n"
        )
    };
    let project = Project::new(&manifest("network = \"none\"\n"));
    run(&project).exits(0).says("test | ways: 0");
    project.write("setpoint.toml", &manifest(""));
    let ways = u32::from(is_here("iptables") || is_here("nft"));
    run(&project).exits(0).says(&format!("test | ways: {ways}"));
}
