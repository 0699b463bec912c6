//! Containers that others made become units without a restart, and are handed back, through the binary itself.
//!
//! What Compose makes is made here by the engine's own client, with what version 2 of it gives: the name
//! `PROJECT-SERVICE-1`, the network `PROJECT_default` with the service's name as an alias, volumes `PROJECT_NAME`, and the
//! labels `com.docker.compose.project`, `.service`, `.container-number`, `.oneoff`, `.project.working_dir` and
//! `.project.config_files`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::docker::Scenario;
use crate::harness::{Project, finish, until};
use crate::place::{Kind, Place, is_here};

macro_rules! on {
    ($kind:expr; $($name:ident),+ $(,)?) => {
        &[$((concat!("adoption::", stringify!($name)), |place: &Place| $name(place, $kind))),+]
    };
}

pub const ON_DOCKER: &[Scenario] = on![Kind::Docker;
    a_container_becomes_a_unit_without_a_restart,
    what_differs_is_told_and_the_next_up_mends_it,
    a_compose_project_is_taken_over_and_handed_back,
    what_cannot_be_taken_over_is_named,
    who_dies_in_the_middle_leaves_a_unit_or_none,
    of_two_at_once_one_gets_it,
    what_somebody_else_made_outlives_setpoint,
    a_unit_of_our_own_is_handed_to_the_engine,
    an_environment_is_taken_over,
    an_image_that_no_registry_has_is_kept,
];

pub const ON_PODMAN: &[Scenario] = on![Kind::Podman;
    a_container_becomes_a_unit_without_a_restart,
    what_differs_is_told_and_the_next_up_mends_it,
    a_compose_project_is_taken_over_and_handed_back,
    who_dies_in_the_middle_leaves_a_unit_or_none,
    what_podman_starts_by_itself_is_a_change,
    a_unit_of_our_own_is_handed_to_the_engine,
    an_image_that_no_registry_has_is_kept,
];

pub const ON_THE_EMBEDDED_ENGINE: Scenario =
    ("adoption::nobody_else_makes_units_there", nobody_else_makes_units_there);

/// What is declared, and what others run just so.
const STACK: &str = r#"
name: adopted
services:
  db:
    image: base:1
    command: ["sh", "-c", "echo began; trap 'exit 0' TERM; while :; do sleep 1; done"]
    restart: always
    environment: { LEVEL: "2", PASSWORD: "very-hidden" }
    volumes: ["data:/data"]
    user: root
    mem_limit: 64m
  job:
    image: base:1
    command: ["true"]
  web:
    image: base:1
    command: ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"]
    restart: "no"
    cap_drop: [NET_RAW]
    volumes: ["./conf:/conf:ro"]
    depends_on: { job: { condition: service_completed_successfully } }
volumes: { data: {} }
"#;

const SERVES: &str = "echo began; trap 'exit 0' TERM; while :; do sleep 1; done";
const WAITS: &str = "trap 'exit 0' TERM; while :; do sleep 1; done";

/// A project, and the containers of others beside it, which are gone with this.
struct Scene<'a> {
    project: Project,
    place: &'a Place,
    kind: Kind,
    /// Tells the containers of one test from those of the others, which may run at the same time.
    of: &'static str,
}

impl<'a> Scene<'a> {
    fn new(place: &'a Place, kind: Kind, of: &'static str) -> Self {
        let head = format!("setpoint = 1\n[engine]\ndefault = \"{}\"\n", kind.name());
        let mut project = Project::new(&format!("{head}[stack]\ncompose = \"compose.yaml\"\n"));
        place.engine(kind);
        project.set(if kind == Kind::Docker { "DOCKER_HOST" } else { "CONTAINER_HOST" }, &place.host(kind));
        project.write("compose.yaml", &STACK.replace("name: adopted", &format!("name: {of}")));
        project.write("conf/a", "1");
        let scene = Self { project, place, kind, of };
        scene.client(&["network", "create", &scene.network()]);
        scene
    }

    fn client(&self, words: &[&str]) -> String {
        self.place.client(self.kind, words)
    }

    fn network(&self) -> String {
        format!("{}_default", self.of)
    }

    fn name(&self, service: &str) -> String {
        format!("{}-{service}-1", self.of)
    }

    /// Runs a service as Compose does, with these options more.
    fn compose(&self, service: &str, options: &[&str], command: &[&str]) -> String {
        let folder = self.project.root.to_string_lossy().into_owned();
        let labels = [
            ("project", self.of.to_owned()),
            ("service", service.to_owned()),
            ("container-number", "1".to_owned()),
            ("oneoff", "False".to_owned()),
            ("project.working_dir", folder.clone()),
            ("project.config_files", format!("{folder}/compose.yaml")),
            ("version", "2.24.0".to_owned()),
        ]
        .map(|(name, value)| format!("--label=com.docker.compose.{name}={value}"));
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        self.run(&self.name(service), service, &[&labels, options].concat(), command)
    }

    /// Runs a container of this name, found in the network by this alias.
    fn run(&self, name: &str, alias: &str, options: &[&str], command: &[&str]) -> String {
        let network = self.network();
        let before = ["run", "-d", "--name", name, "--network", &network, "--network-alias", alias];
        let whole = [&before[..], options, &["base:1"], command].concat();
        self.client(&whole).trim().to_owned()
    }

    fn db(&self, options: &[&str]) -> String {
        let data = format!("{}_data:/data", self.of);
        let as_declared = ["-e", "LEVEL=2", "-e", "PASSWORD=very-hidden", "-v", &data, "--memory", "64m"];
        self.compose("db", &[&as_declared, options].concat(), &["sh", "-c", SERVES])
    }

    fn web(&self) -> String {
        let conf = format!("{}:/conf:ro", self.project.root.join("conf").display());
        self.compose("web", &["-v", &conf, "--cap-drop", "NET_RAW"], &["sh", "-c", WAITS])
    }

    fn job(&self) -> String {
        let id = self.compose("job", &[], &["true"]);
        until("the job has ended", || self.life(&id).ends_with(" 0 false\n"));
        id
    }

    /// Makes what `own:latest` is, with these words in it, as somebody does by hand; gives its id.
    fn make_own(&self, says: &str) -> String {
        let (maker, image) = (format!("{}-maker", self.of), self.own());
        let script = format!("echo {says} > /says");
        self.client(&["run", "--name", &maker, "base:1", "sh", "-c", &script]);
        self.client(&["commit", &maker, &image]);
        self.client(&["rm", &maker]);
        self.client(&["image", "inspect", "-f", "{{.Id}}", &image]).trim().to_owned()
    }

    /// What was made here is known by that to Podman, which has digests for all.
    fn own(&self) -> String {
        let place = if self.kind == Kind::Podman { "localhost" } else { "docker.io/library" };
        format!("{place}/{}-own:latest", self.of)
    }

    /// Which instance of which container it is: another one after each start.
    fn life(&self, container: &str) -> String {
        let format = "{{.Id}} {{.State.StartedAt}} {{.State.Pid}} {{.State.Running}}";
        self.client(&["inspect", "-f", format, container])
    }

    fn pid(&self, container: &str) -> i32 {
        self.client(&["inspect", "-f", "{{.State.Pid}}", container]).trim().parse().unwrap()
    }

    fn runs(&self, container: &str) -> bool {
        self.client(&["inspect", "-f", "{{.State.Running}}", container]).trim() == "true"
    }

    /// Kills the first process of a container.
    fn kill(&self, container: &str) {
        // Podman is in a namespace of its own, in which numbers are others.
        if self.kind == Kind::Docker {
            kill_process(Pid::from_raw(self.pid(container)).unwrap(), Signal::KILL).unwrap();
        } else {
            self.client(&["kill", "-s", "KILL", container]);
        }
    }

    /// It is killed, and is there again, the same container.
    #[track_caller]
    fn comes_back(&self, container: &str) {
        let before = self.life(container);
        self.kill(container);
        let is_back = |now: &str| now != before && now.ends_with(" true\n");
        until("it is back", || is_back(&self.life(container)));
    }

    /// The containers whose names begin as the test's, by name.
    fn containers(&self) -> Vec<String> {
        let all = self.client(&["ps", "-a", "--format", "{{.Names}}"]);
        let mut names: Vec<_> =
            all.lines().filter(|name| name.contains(self.of)).map(str::to_owned).collect();
        names.sort();
        names
    }

    /// What is kept of containers that were taken over.
    fn kept(&self) -> usize {
        let folder = self.project.state().join("adopted/v1").join(self.kind.name());
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        files.filter(|file| file.path().extension().is_some_and(|ending| ending == "json")).count()
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        self.project.run(&["down", "--volumes", "--yes"]);
        for container in self.containers() {
            self.client(&["rm", "-f", "-v", &container]);
        }
        let volumes = self.client(&["volume", "ls", "-q"]);
        for volume in volumes.lines().filter(|volume| volume.starts_with(self.of)) {
            self.client(&["volume", "rm", volume]);
        }
        self.client(&["network", "rm", &self.network()]);
    }
}

fn a_container_becomes_a_unit_without_a_restart(place: &Place, kind: Kind) {
    let scene = Scene::new(place, kind, "one");
    let project = &scene.project;
    let id = scene.db(&[]);
    let before = scene.life(&id);
    project.run(&["adopt", "db", &id[..8]]).exits(0).says("as it runs; it is as declared");
    assert_eq!(scene.life(&id), before);
    project.run(&["plan", "db", "--exit-code"]).exits(0).says("nothing to do");
    project.run(&["why", "db"]).exits(0).says("no change");
    project.run(&["logs", "db"]).exits(0).says("began");
    project.run(&["exec", "db", "--", "sh", "-c", "echo $LEVEL"]).exits(0).says("2");
    project.run(&["adopt", "db", "one-db-1"]).exits(0).says("already");
    // It is kept, by its own container.
    scene.comes_back("one-db-1");
    project.run(&["stop", "db"]).exits(0);
    assert!(!scene.runs(&id));
    project.run(&["status", "db"]).exits(0).says("stopped");
    project.run(&["restart", "db"]).exits(0);
    assert!(scene.runs(&id));
    project.run(&["status", "db"]).exits(0).says("running");
    // Only an edit makes it another one.
    project.edit("compose.yaml", "LEVEL: \"2\"", "LEVEL: \"3\"");
    project.run(&["why", "db"]).says("env LEVEL  2 -> 3").says_not("very-hidden");
    let before = scene.life(&id);
    let disowned = project.run(&["disown", "db", "--json"]);
    assert_eq!(disowned.exits(0).json()["units"][0]["container"], "one-db-1");
    assert_eq!(scene.life(&id), before);
    assert_eq!(scene.kept(), 0);
    project.run(&["status", "db"]).exits(0).says("absent");
    project.run(&["disown", "db"]).exits(5).says("nothing to hand back");
    project
        .run(&["up", "db"])
        .exits(6)
        .says("there is a container one-db-1 already")
        .says("setpoint adopt db");
}

fn what_differs_is_told_and_the_next_up_mends_it(place: &Place, kind: Kind) {
    let scene = Scene::new(place, kind, "other");
    let project = &scene.project;
    let options =
        ["-e", "LEVEL=1", "-e", "EXTRA=1", "-v", "other_own:/data", "--memory", "32m", "--user", "dev"];
    let id = scene.run("other-mine", "db", &options, &["sh", "-c", SERVES]);
    let before = scene.life(&id);
    let adopted = project.run(&["adopt", "db", "other-mine", "--json"]);
    assert_eq!(adopted.exits(0).json()["units"][0]["out_of_date"], true);
    assert_eq!(scene.life(&id), before);
    let why = project.run(&["why", "db"]);
    why.exits(0)
        .says("env LEVEL  1 -> 2")
        .says("env EXTRA  1 -> (absent)")
        .says("env PASSWORD  (absent) -> hidden");
    why.says("name other_own").says("user  dev -> root").says("memory  33554432 -> 67108864");
    why.says_not("very-hidden").says_not("image").says_not("command").says_not("network").says_not("restart");
    project.run(&["plan", "db", "--exit-code"]).exits(3).says("db: recreate");
    project.run(&["up", "db"]).exits(0);
    assert_eq!(scene.kept(), 0);
    assert!(!scene.containers().contains(&"other-mine".to_owned()));
    project.run(&["plan", "db", "--exit-code"]).exits(0).says("nothing to do");
    let volumes = scene.client(&["volume", "ls", "-q"]);
    assert!(volumes.contains("other_own") && volumes.contains("other_data"), "{volumes}");
    project.run(&["down", "--volumes", "--yes"]).exits(0);
    assert!(scene.client(&["volume", "ls", "-q"]).contains("other_own"));
}

fn a_compose_project_is_taken_over_and_handed_back(place: &Place, kind: Kind) {
    let scene = Scene::new(place, kind, "whole");
    let project = &scene.project;
    let ids = [scene.db(&[]), scene.web(), scene.job()];
    let lives = || ids.each_ref().map(|id| scene.life(id));
    let before = lives();
    project.run(&["adopt", "--compose", "whloe"]).exits(5).says("did you mean `whole`?");
    let adopted = project.run(&["adopt", "--compose", "whole", "--json"]).exits(0).json();
    let outcomes: Vec<_> =
        adopted["units"].as_array().unwrap().iter().map(|unit| &unit["out_of_date"]).collect();
    assert_eq!(outcomes, [false, false, false], "{adopted}");
    assert_eq!(lives(), before);
    assert_eq!(scene.kept(), 3);
    project.run(&["up"]).exits(0).says("db: nothing to do").says("web: nothing to do");
    project.run(&["status"]).exits(0).says("running").says("completed").says_not("out of date");
    assert_eq!(lives(), before);
    scene.comes_back("whole-db-1");
    // Again is nothing; one that nobody runs is told.
    scene.client(&["rm", "-f", &scene.name("web")]);
    project.run(&["adopt", "--compose", "whole"]).exits(0).says("already").says("web has no container");
    let before = [scene.life(&ids[0]), scene.life(&ids[2])];
    project.run(&["disown"]).exits(0).says("db is the engine's own").says("job is the engine's own");
    assert_eq!([scene.life(&ids[0]), scene.life(&ids[2])], before);
    assert_eq!(scene.kept(), 0);
    if kind == Kind::Docker {
        let policy = scene.client(&["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", &ids[0]]);
        assert_eq!(policy.trim(), "always");
    }
    project.run(&["up"]).exits(6).says("adopt --compose whole");
    if kind == Kind::Docker && is_here("docker-compose") {
        // Its first version knows no `name`.
        project.write("first.yaml", &project.read("compose.yaml").replace("name: whole", ""));
        let mut compose = Command::new("docker-compose");
        compose.args(["-p", "whole", "-f", "first.yaml", "ps", "-q"]).current_dir(&project.root);
        let seen = compose.env("DOCKER_HOST", place.host(kind)).output().unwrap();
        let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
        assert!(seen.contains(&ids[0]), "{seen}");
    }
}

fn what_cannot_be_taken_over_is_named(place: &Place, kind: Kind) {
    let scene = Scene::new(place, kind, "wrong");
    let project = &scene.project;
    let id = scene.db(&[]);
    project.run(&["adopt"]).exits(2);
    project.run(&["adopt", "db"]).exits(2);
    project.run(&["adopt", "db", &id, "--compose", "wrong"]).exits(2);
    project.run(&["adopt", "bd", &id]).exits(5).says("did you mean `db`?");
    project
        .run(&["adopt", "db", "wrong-bd-1"])
        .exits(5)
        .says("no container `wrong-bd-1`")
        .says("wrong-db-1`?");
    let told = project.run(&["adopt", "db", "", "--json"]);
    told.exits(5).says("\"error\":\"no-container\"");
    project.run(&["disown", "bd"]).exits(5).says("did you mean `db`?");
    scene.client(&["stop", "-t", "0", &id]);
    project.run(&["adopt", "db", &id]).exits(5).says("does not run").says("docker start");
    scene.client(&["start", &id]);
    project.run(&["adopt", "db", &id]).exits(0);
    project.run(&["adopt", "web", &id]).exits(6).says("is the unit db-").says("Nothing was done");
    let web = scene.web();
    project.run(&["adopt", "db", &web]).exits(6).says("db is there already: it is the container wrong-db-1");
    // A project as a whole, or nothing of it.
    project.run(&["disown", "db"]).exits(0);
    scene.compose("cache", &[], &["sh", "-c", WAITS]);
    project.run(&["adopt", "--compose", "wrong"]).exits(5).says("`cache`, which nothing here declares");
    assert_eq!(scene.kept(), 0);
    // On another engine than the declared one.
    if Kind::Podman.missing().is_none() {
        place.engine(Kind::Podman);
        project.declare("default = \"docker\"", "default = \"podman\"");
        let mut command = project.command(&["adopt", "db", &id]);
        command.env("CONTAINER_HOST", place.host(Kind::Podman));
        let elsewhere = finish(project.start(&mut command));
        elsewhere.exits(5).says("it is on docker, and the project is on podman");
        project.declare("default = \"podman\"", "default = \"docker\"");
    }
}

fn who_dies_in_the_middle_leaves_a_unit_or_none(place: &Place, kind: Kind) {
    let mut scene = Scene::new(place, kind, "killed");
    let id = scene.db(&[]);
    let before = scene.life(&id);
    for point in ["adopt.acted", "adopt.recorded", "disown.forgotten"] {
        scene.project.set("SETPOINT_CRASH_AT", point);
        let project = &scene.project;
        project.run(&["adopt", "db", &id, "--no-daemon"]);
        let killed = if point == "disown.forgotten" {
            project.run(&["disown", "db"])
        } else {
            project.run(&["version"])
        };
        assert!(killed.code == 137 || point != "disown.forgotten", "{killed}");
        scene.project.set("SETPOINT_CRASH_AT", "");
        let project = &scene.project;
        // It is a unit, all but kept, and each command goes on from there.
        project.run(&["status", "db"]).exits(0).says("running");
        project.run(&["plan", "db", "--exit-code"]).exits(0);
        if point == "adopt.acted" {
            project.run(&["adopt", "db", &id]).exits(0).says("it is as declared");
        } else {
            project.run(&["up", "db"]).exits(0).says("nothing to do");
        }
        assert_eq!(scene.life(&id), before, "{point}");
        project.run(&["status", "db", "--json"]).exits(0);
        project.run(&["disown", "db"]).exits(0);
        assert_eq!((scene.kept(), scene.life(&id)), (0, before.clone()), "{point}");
    }
}

fn of_two_at_once_one_gets_it(place: &Place, kind: Kind) {
    let scene = Scene::new(place, kind, "twice");
    let id = scene.db(&[]);
    let project = &scene.project;
    let start = |unit: &str| project.start(&mut project.command(&["adopt", unit, &id]));
    let outcomes = [start("db"), start("web"), start("db")].map(finish);
    let got = |outcome: &crate::harness::Outcome| outcome.code == 0;
    assert!(outcomes.iter().any(got));
    assert_eq!(scene.kept(), 1);
    // Of two names for one container, one is refused.
    assert!(!(got(&outcomes[1]) && (got(&outcomes[0]) || got(&outcomes[2]))), "{outcomes:?}");
    project.run(&["disown"]).exits(0);
}

fn what_somebody_else_made_outlives_setpoint(place: &Place, kind: Kind) {
    let scene = Scene::new(place, kind, "outlives");
    let id = scene.db(&["--restart", "unless-stopped"]);
    scene.project.run(&["adopt", "db", &id]).exits(0);
    let policy =
        || scene.client(&["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", &id]).trim().to_owned();
    // One writer: it is Setpoint that starts it.
    assert_eq!(policy(), "no");
    let before = scene.life(&id);
    scene.project.run(&["uninstall", "--yes"]).exits(0).says("handed db back");
    assert_eq!(scene.life(&id), before);
    assert_eq!(policy(), "unless-stopped");
}

fn a_unit_of_our_own_is_handed_to_the_engine(place: &Place, kind: Kind) {
    let scene = Scene::new(place, kind, "given");
    let project = &scene.project;
    project
        .write("setpoint.toml", &format!("{}[project]\nname = \"given\"\n", project.read("setpoint.toml")));
    project.run(&["up", "db"]).exits(0);
    let disowned = project.run(&["disown", "db"]);
    disowned.exits(0).says("the container given-db");
    assert!(scene.runs("given-db"));
    if kind == Kind::Docker {
        let policy = scene.client(&["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", "given-db"]);
        assert_eq!(policy.trim(), "always");
        disowned.says("starts it again");
    } else {
        disowned.says("nobody starts given-db when it ends");
    }
    project.run(&["status", "db"]).exits(0).says("absent");
    project.run(&["up", "db"]).exits(6).says("setpoint adopt db given-db");
    // What was ours is as declared when it is taken back.
    let before = scene.life("given-db");
    project.run(&["adopt", "db", "given-db"]).exits(0).says("it is as declared");
    assert_eq!(scene.life("given-db"), before);
    project.run(&["down", "db"]).exits(0);
    assert!(!scene.containers().contains(&"given-db".to_owned()));
}

fn what_podman_starts_by_itself_is_a_change(place: &Place, kind: Kind) {
    let scene = Scene::new(place, kind, "twofold");
    let id = scene.db(&["--restart", "always"]);
    scene.project.run(&["adopt", "db", &id]).exits(0).says("1 change");
    scene.project.run(&["why", "db"]).says("restarted by the engine").says("recreate");
    scene.project.run(&["up", "db"]).exits(0);
    scene.project.run(&["plan", "db", "--exit-code"]).exits(0);
}

fn an_image_that_no_registry_has_is_kept(place: &Place, kind: Kind) {
    let mut scene = Scene::new(place, kind, "local");
    let own = scene.own();
    let declares = |image: &str| {
        let head =
            format!("setpoint = 1\n[engine]\ndefault = \"{}\"\n[project]\nname = \"local\"\n", kind.name());
        let command = json!(["sh", "-c", SERVES]);
        format!(
            "{head}[service.db]\nimage = \"{image}\"\ncommand = {command}\nvolumes = {{ data = \"/data\" }}\n"
        )
    };
    scene.project.write("setpoint.toml", &declares(&own));
    let one = scene.make_own("one");
    let running = ["run", "-d", "--name", "local-mine", "-v", "local_data:/data", &own, "sh", "-c", SERVES];
    scene.client(&running);
    let kept = scene.project.state().join("adopted/images/v1");
    let archives = || {
        let found = fs::read_dir(&kept).into_iter().flatten().flatten().map(|entry| entry.path());
        found.filter(|path| path.extension().is_some_and(|ending| ending == "tar")).collect::<Vec<_>>()
    };
    let says = |project: &Project| project.run(&["exec", "db", "--", "cat", "/says"]).stdout;

    scene.project.set("SETPOINT_CRASH_AT", "adopt.image-saved");
    assert_eq!(scene.project.run(&["adopt", "db", "local-mine"]).code, 137);
    scene.project.set("SETPOINT_CRASH_AT", "");
    let project = &scene.project;
    project.run(&["status", "db"]).exits(0).says("absent");
    assert!(archives().is_empty());
    let adopted = project.run(&["adopt", "db", "local-mine", "--no-daemon", "--json"]).exits(0).json();
    let archive = adopted["units"][0]["image"].as_str().unwrap().to_owned();
    assert!(archive.contains(one.trim_start_matches("sha256:")), "{archive}");
    assert_eq!(archives(), [PathBuf::from(&archive)]);
    project
        .run(&["doctor", "--offline"])
        .says(&format!("image = \"{archive}\"` is what `db` was taken over with"));

    // The tag is built anew, the container replaced, the image removed: nothing on the engine leads back.
    let two = scene.make_own("two");
    project.run(&["upgrade"]).exits(6).says("was adopted").says(&archive);
    project.run(&["up", "db", "--no-snapshot", "--no-daemon"]).exits(0);
    assert_eq!(says(project), "two\n");
    scene.client(&["rmi", &one]);
    scene.client(&["tag", &two, "local-own-kept"]);
    scene.client(&["rmi", &own]);
    project.run(&["doctor", "--offline"]).says("was taken over with an image of no registry").says(&archive);

    project.write("setpoint.toml", &declares(&archive));
    project.run(&["upgrade", "--no-daemon"]).exits(0);
    assert_eq!(says(project), "one\n");
    assert_eq!(scene.client(&["image", "inspect", "-f", "{{.Id}}", &one]).trim(), one);
    project.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(0);
    assert_eq!(says(project), "two\n");
    project.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(0);

    // It goes with the unit, unless that is declared on it.
    project.run(&["down", "--volumes", "--yes"]).exits(0);
    assert_eq!(archives(), [PathBuf::from(&archive)]);
    project.write("setpoint.toml", &declares(&own));
    project.run(&["down"]).exits(0);
    assert!(archives().is_empty());
    scene.client(&["rmi", "local-own-kept", &one]);
}

fn an_environment_is_taken_over(place: &Place, kind: Kind) {
    let scene = Scene::new(place, kind, "place");
    let project = &scene.project;
    let manifest = "setpoint = 1\n[engine]\ndefault = \"docker\"\n[env.dev]\nimage = \"base:1\"\nuser = \"dev\"\n\
                    network = \"private\"\nenv = { WORD = \"one\" }\n[env.dev.hooks]\npost_start = \"echo ran >> log\"\n";
    project.write("setpoint.toml", manifest);
    let folder = format!("{}:/workspace", project.root.display());
    let command = ["run", "-d", "--name", "place-dev", "-v", &folder, "base:1", "sh", "-c", WAITS];
    let id = scene.client(&command).trim().to_owned();
    let before = scene.life(&id);
    project.run(&["adopt", "dev", "place-dev"]).exits(0).says("1 change");
    assert_eq!(scene.life(&id), before);
    assert_eq!(project.inside("echo $WORD $(pwd) $(id -un)"), "one /workspace dev");
    // What ran in it, nobody knows: what is declared runs once, in the container that is there.
    project.run(&["plan"]).says("no restart, no recreate").says("post_start");
    assert_eq!(project.up_effects(), ["ran"]);
    project.is_settled();
    assert_eq!(scene.life(&id), before);
    project.run(&["disown", "dev"]).exits(0).says("the container place-dev");
    assert_eq!(scene.life(&id), before);
}

fn nobody_else_makes_units_there(_: &Place) {
    let project = Project::new("setpoint = 1\n[env.dev]\n");
    project.run(&["adopt", "dev", "some"]).exits(7).says("embedded engine").says("engine.default");
    project.run(&["adopt", "--compose", "some"]).exits(7).says("embedded engine");
    project.up();
    project.run(&["disown"]).exits(7).says("embedded engine").says("setpoint stop");
    project.is_settled();
    project.run(&["down"]).exits(0);
}
