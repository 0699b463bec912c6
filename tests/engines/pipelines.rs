//! Pipelines through the binary itself, on an engine that is a daemon.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::place::Subject;
use crate::rules::{PATIENCE, Rule};

pub const RULES: &[Rule] = named![
    what_cannot_have_changed_is_not_run_again,
    warm_equals_cold,
    a_failing_step_fails_the_run_and_says_so,
    three_children_share_what_their_parent_left,
    files_are_taken_from_other_steps,
    what_is_never_cached_leaves_no_image,
    a_secret_is_in_the_step_and_nowhere_else,
    a_timeout_ends_a_step_and_a_retry_is_another_try,
    an_interrupted_run_ends_and_leaves_nothing,
    the_run_after_a_killed_one_is_right,
    an_image_that_vanished_is_made_again,
    what_is_lost_in_a_volume_is_told,
    cleaning_leaves_no_image_and_touches_no_others,
    who_is_not_root_has_what_steps_leave,
    what_this_engine_cannot_is_told,
];

/// Somebody who is not root.
const USER: u32 = 4242;

/// A project on an engine, with a state of its own.
pub struct Project<'a> {
    subject: &'a Subject,
    pub place: tempfile::TempDir,
    pub root: PathBuf,
    /// Who runs the binary, if not root.
    user: Option<u32>,
}

/// How a run of the binary ended.
pub struct Outcome {
    pub code: i32,
    pub said: String,
    events: Vec<Value>,
}

impl Outcome {
    /// Of a command, when it has ended.
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let events = stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let said = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
        Self { code: output.status.code().unwrap_or(-1), said, events }
    }

    /// How each step ended.
    pub fn steps(&self) -> BTreeMap<String, String> {
        let ended = self.events.iter().filter(|event| event["event"] == "step_ended");
        ended.map(|event| (text(&event["step"]), text(&event["outcome"]))).collect()
    }

    /// What a step has said.
    pub fn lines(&self, step: &str) -> Vec<String> {
        let lines = self.events.iter().filter(|event| event["event"] == "output" && event["step"] == step);
        lines.map(|event| text(&event["line"])).collect()
    }

    /// The steps that ended so.
    pub fn that(&self, outcome: &str) -> Vec<String> {
        self.steps().into_iter().filter(|(_, how)| how == outcome).map(|(step, _)| step).collect()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

impl<'a> Project<'a> {
    /// A project whose steps have the image of the tests.
    pub fn new(subject: &'a Subject, steps: &str) -> Self {
        let place = tempfile::Builder::new().prefix("project-").tempdir_in(&subject.folder).unwrap();
        let root = place.path().join("shop");
        fs::create_dir_all(&root).unwrap();
        let project = Self { subject, place, root, user: None };
        let (engine, image) = (subject.engine.capabilities().engine, project.image());
        project.write(
            "setpoint.toml",
            &format!(
                "setpoint = 1\n[engine]\ndefault = \"{engine}\"\n[pipeline.ci]\nimage = \"{image}\"\n{steps}"
            ),
        );
        project
    }

    /// The image of the tests, by its id.
    fn image(&self) -> String {
        let id = self.subject.engine.base_digest(&self.subject.base).unwrap().unwrap();
        let api = self.subject.api.as_ref().unwrap();
        api.post(&format!("/v1.41/images/{id}/tag?repo=localhost/base&tag=1"));
        "localhost/base:1".to_owned()
    }

    pub fn write(&self, path: &str, text: &str) -> &Self {
        let file = self.root.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        self
    }

    pub fn declare(&self, from: &str, to: &str) -> &Self {
        let text = fs::read_to_string(self.root.join("setpoint.toml")).unwrap();
        assert!(text.contains(from), "no `{from}`");
        self.write("setpoint.toml", &text.replacen(from, to, 1))
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_setpoint"));
        let host = self.subject.host.as_ref().unwrap();
        if let Some(user) = self.user {
            use std::os::unix::process::CommandExt as _;
            command.uid(user).gid(user);
        }
        command
            .current_dir(&self.root)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.place.path())
            .env("SETPOINT_STATE", self.place.path().join("state"))
            .env("SETPOINT_CONFIG", self.place.path().join("config"))
            .env("DOCKER_HOST", host)
            .env("CONTAINER_HOST", host)
            .env("TOKEN", "the-secret-value")
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    pub fn ends(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(&mut self.command(arguments))
    }

    /// Runs the pipeline.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.ends(&[&["run", "--json"], arguments].concat())
    }

    /// Runs the pipeline, which has to pass, and gives the steps that ran.
    #[track_caller]
    fn passes(&self) -> Vec<String> {
        let outcome = self.run(&[]);
        assert_eq!(outcome.code, 0, "{}", outcome.said);
        outcome.that("passed")
    }

    fn identity(&self) -> String {
        let engine = self.subject.engine.capabilities().engine;
        fs::read_to_string(self.place.path().join("state/engines/v1").join(engine))
            .unwrap_or("none".to_owned())
    }

    /// The containers and volumes, and the images, of this project's steps.
    fn left(&self) -> (Vec<String>, Vec<String>) {
        let (running, images) = self.subject.api.as_ref().unwrap().of_steps();
        let identity = self.identity();
        let ours = |names: Vec<String>| names.into_iter().filter(|name| name.contains(&identity)).collect();
        (ours(running), ours(images))
    }

    /// Nothing runs, and so many images are there.
    #[track_caller]
    fn keeps(&self, images: usize) {
        let (running, found) = self.left();
        assert!(running.is_empty(), "{running:?}");
        assert_eq!(found.len(), images, "{found:?}");
        let scratch = fs::read_dir(self.place.path().join("state/scratch/v1")).into_iter().flatten();
        assert_eq!(scratch.count(), 0);
    }
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        let cleaned = self.ends(&["cache", "clean"]);
        if !std::thread::panicking() {
            assert_eq!(cleaned.code, 0, "{}", cleaned.said);
            self.keeps(0);
        }
    }
}

const THREE: &str = r#"
[pipeline.ci.step.fetch]
inputs = ["lock"]
run = "cat lock > fetched; cp lock /etc/tool"
[pipeline.ci.step.build]
from = "fetch"
run = "mkdir -p out; cat fetched /etc/tool src/* > out/built; rm src/b"
[pipeline.ci.step.test]
from = "build"
run = "cat out/built; ls src"
"#;

fn three(subject: &Subject) -> Project<'_> {
    let project = Project::new(subject, THREE);
    project.write("lock", "v1\n").write("src/a", "a\n").write("src/b", "b\n");
    project
}

const NOTHING: [&str; 0] = [];

fn what_cannot_have_changed_is_not_run_again(subject: &Subject) {
    let project = three(subject);
    let cold = project.run(&[]);
    assert_eq!(cold.that("passed"), ["build", "fetch", "test"], "{}", cold.said);
    assert_eq!(cold.lines("test"), ["v1", "v1", "a", "b", "a"]);
    // Of what changed its system only.
    project.keeps(1);
    assert_eq!(project.run(&[]).that("cached"), ["build", "fetch", "test"]);
    project.write("src/a", "other\n");
    assert_eq!(project.passes(), ["build", "test"]);
    project.declare("cat out/built; ls src", "cat out/built; ls src; true");
    assert_eq!(project.passes(), ["test"]);
    fs::remove_file(project.root.join("src/a")).unwrap();
    let outcome = project.run(&[]);
    assert_eq!(outcome.that("passed"), ["build", "test"]);
    assert_eq!(outcome.lines("test"), ["v1", "v1", "b"]);
    project.write("lock", "v2\n");
    assert_eq!(project.passes(), ["build", "fetch", "test"]);
    project.keeps(2);
    project.write("lock", "v1\n").write("src/a", "other\n");
    assert_eq!(project.passes(), NOTHING);
    let why = project.ends(&["cache", "why", "fetch"]).said;
    assert!(why.contains(subject.engine.capabilities().engine) && why.contains("localhost/base:1"), "{why}");
    assert_eq!(project.ends(&["cache", "verify"]).code, 0);
    assert!(project.ends(&["cache", "ls"]).said.contains("fetch"));
}

/// What each step sees on a warm run is what it sees on one without a cache.
fn warm_equals_cold(subject: &Subject) {
    let look = "find . /etc /opt -type f | sort | xargs sha256sum; find . | sort";
    let steps = format!(
        r#"
[pipeline.ci.step.a]
inputs = ["src/**"]
run = "mkdir -p gen /opt/a; cat src/* > gen/a; cp src/x /opt/a; rm src/gone"
[pipeline.ci.step.b]
from = "a"
outputs = ["gen/**"]
run = "rm -r docs; mkdir docs; echo new > docs/new; cat /opt/a/x > gen/b; echo b >> /opt/a/x; rm /etc/group"
[pipeline.ci.step.c]
from = "b"
run = "rm -rf src; mv lib moved; echo c > /opt/c"
[pipeline.ci.step.look-b]
from = "b"
cache = "none"
run = "{look}"
[pipeline.ci.step.look-c]
from = "c"
cache = "none"
run = "{look}"
"#
    );
    let project = Project::new(subject, &steps);
    for file in ["src/x", "src/gone", "docs/old", "lib/l", "top"] {
        project.write(file, &format!("{file}\n"));
    }
    assert_eq!(project.run(&[]).code, 0);
    for (round, file) in ["top", "docs/old", "src/x", "lib/l"].into_iter().enumerate() {
        project.write(file, &format!("edited {round}\n"));
        let (warm, cold) = (project.run(&[]), project.run(&["--no-cache"]));
        assert_eq!((warm.code, cold.code), (0, 0), "{}{}", warm.said, cold.said);
        for step in ["look-b", "look-c"] {
            assert!(warm.lines(step).len() > 8, "{:?}", warm.lines(step));
            assert_eq!(warm.lines(step), cold.lines(step), "{step} after an edit of {file}");
        }
    }
}

fn a_failing_step_fails_the_run_and_says_so(subject: &Subject) {
    let steps = "[pipeline.ci.step.good]\nrun = \"true\"\n[pipeline.ci.step.bad]\nfrom = \"good\"\n\
                 run = \"echo out; echo x > /etc/x; echo broken >&2; exit 7\"\n[pipeline.ci.step.next]\nfrom = \"bad\"\nrun = \"true\"\n\
                 [pipeline.ci.step.hit]\nneeds = \"good\"\nrun = \"kill -9 $$\"\n";
    let project = Project::new(subject, steps);
    let outcome = project.run(&["--keep-going"]);
    assert_eq!(outcome.code, 1, "{}", outcome.said);
    let ended: Vec<_> = outcome.steps().into_iter().collect();
    let expected = [("bad", "failed"), ("good", "passed"), ("hit", "failed"), ("next", "skipped")];
    assert_eq!(ended, expected.map(|(step, how)| (step.to_owned(), how.to_owned())));
    assert_eq!(outcome.lines("bad"), ["out", "broken"]);
    assert!(outcome.said.contains("\"exit_code\":7") || outcome.said.contains("7"), "{}", outcome.said);
    project.keeps(0);
}

fn three_children_share_what_their_parent_left(subject: &Subject) {
    let mut steps = "[pipeline.ci.step.base]\nrun = \"echo base > /etc/base; echo w > file\"\n".to_owned();
    for name in ["x", "y", "z"] {
        steps.push_str(&format!(
            "[pipeline.ci.step.{name}]\nfrom = \"base\"\nrun = \"cat /etc/base file; echo {name} >> /etc/base; sleep 0.2; cat /etc/base\"\n"
        ));
    }
    let project = Project::new(subject, &steps);
    let outcome = project.run(&["--jobs", "3"]);
    assert_eq!(outcome.code, 0, "{}", outcome.said);
    for name in ["x", "y", "z"] {
        assert_eq!(outcome.lines(name), ["base", "w", "base", name]);
    }
    project.keeps(4);
    assert_eq!(project.passes(), NOTHING);
}

fn files_are_taken_from_other_steps(subject: &Subject) {
    let steps = r#"
[pipeline.ci.step.one]
outputs = ["dist/**"]
artifacts = ["dist/one"]
run = "mkdir dist; echo 1 > dist/one; echo x > other; echo y > /etc/one"
[pipeline.ci.step.two]
outputs = ["dist/**"]
run = "mkdir dist; echo 2 > dist/two"
[pipeline.ci.step.all]
take = ["one", "two"]
cache_dirs = ["/shared", "here"]
run = "cat dist/*; ls; ! test -e /etc/one; echo s >> /shared/log; echo h >> here/log; cat /shared/log here/log"
"#;
    let project = Project::new(subject, steps);
    let output = project.place.path().join("output");
    let outcome = project.run(&["--output", output.to_str().unwrap()]);
    assert_eq!(outcome.code, 0, "{}", outcome.said);
    assert_eq!(outcome.lines("all"), ["1", "2", "dist", "here", "s", "h"]);
    assert_eq!(fs::read_to_string(output.join("one/dist/one")).unwrap(), "1\n");
    project.declare("cat dist/*; ls;", "cat dist/*;");
    assert_eq!(project.run(&[]).lines("all"), ["1", "2", "s", "s", "h", "h"]);
}

fn what_is_never_cached_leaves_no_image(subject: &Subject) {
    let steps = r#"
[pipeline.ci.step.fresh]
cache = "none"
run = "date > /etc/now; echo x > file"
[pipeline.ci.step.on-top]
from = "fresh"
run = "cat /etc/now file > both; echo y > /etc/more"
[pipeline.ci.step.last]
from = "on-top"
run = "cat both /etc/more"
"#;
    let project = Project::new(subject, steps);
    let outcome = project.run(&[]);
    assert_eq!((outcome.code, outcome.lines("last").len()), (0, 3), "{}", outcome.said);
    project.keeps(0);
    assert_eq!(project.passes(), ["fresh", "last", "on-top"]);
    project.keeps(0);
}

fn a_secret_is_in_the_step_and_nowhere_else(subject: &Subject) {
    let steps = r#"
[pipeline.ci.step.a]
env = { TOKEN = "${secret.token}" }
run = "echo is $TOKEN; [ ${#TOKEN} = 16 ]; echo x > /etc/x"
[pipeline.ci.step.b]
from = "a"
run = "echo ${TOKEN-none}"
[secret.token]
env = "TOKEN"
"#;
    let project = Project::new(subject, steps);
    let outcome = project.run(&[]);
    assert_eq!(outcome.code, 0, "{}", outcome.said);
    assert!(!outcome.said.contains("the-secret-value"));
    assert_eq!(outcome.lines("b"), ["none"]);
    let (_, images) = project.left();
    assert_eq!(images.len(), 1);
    let image = subject.api.as_ref().unwrap().get(&format!("/v1.41/images/{}/json", images[0]));
    assert!(!image.to_string().contains("the-secret-value"), "{image}");
}

fn a_timeout_ends_a_step_and_a_retry_is_another_try(subject: &Subject) {
    let steps = "[pipeline.ci.step.slow]\ntimeout = \"500ms\"\nrun = \"echo x > /etc/x; sleep 60\"\n\
                 [pipeline.ci.step.flaky]\nretries = 1\ncache_dirs = [\"/tries\"]\n\
                 run = \"echo x >> /tries/log; ! test -e /etc/mine; touch /etc/mine mine; [ $(wc -l < /tries/log) = 2 ]\"\n";
    let project = Project::new(subject, steps);
    let began = Instant::now();
    let outcome = project.run(&["--keep-going"]);
    assert_eq!(outcome.code, 9, "{}", outcome.said);
    assert_eq!(outcome.steps()["slow"], "timed_out");
    assert_eq!(outcome.steps()["flaky"], "passed", "{}", outcome.said);
    assert!(began.elapsed() < Duration::from_secs(20));
    project.keeps(1);
}

/// Starts a run, and waits until a step has said this.
fn started(project: &Project<'_>, word: &str) -> std::process::Child {
    let mut child = project.command(&["run", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(
        lines.any(|line| line.unwrap().contains(&format!("\"line\":\"{word}\""))),
        "it never says {word}"
    );
    // Whoever reads on keeps it from being held up.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

const LONG: &str = r#"
[pipeline.ci.step.first]
run = "echo first > /etc/first; echo f > first"
[pipeline.ci.step.second]
from = "first"
cache_dirs = ["/beat"]
run = "echo half > /etc/half; echo half > half; echo going; if [ -e quick ]; then exit 0; fi; while :; do echo x >> /beat/log; sleep 0.1; done"
[pipeline.ci.step.third]
from = "second"
run = "cat /etc/first /etc/half first half"
"#;

fn beat(project: &Project<'_>) -> PathBuf {
    let folders = fs::read_dir(project.place.path().join("state/cache_dirs/v1")).unwrap();
    folders.map(|entry| entry.unwrap().path().join("log")).next().unwrap()
}

fn is_still(project: &Project<'_>) {
    let log = beat(project);
    let began = Instant::now();
    let length = || fs::metadata(&log).map_or(0, |metadata| metadata.len());
    loop {
        let before = length();
        std::thread::sleep(Duration::from_millis(500));
        if length() == before {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "the step goes on");
    }
}

fn an_interrupted_run_ends_and_leaves_nothing(subject: &Subject) {
    let project = Project::new(subject, LONG);
    let mut child = started(&project, "going");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    project.keeps(1);
    is_still(&project);
}

fn the_run_after_a_killed_one_is_right(subject: &Subject) {
    let project = Project::new(subject, LONG);
    let mut child = started(&project, "going");
    child.kill().unwrap();
    child.wait().unwrap();
    // The step died with its caller.
    is_still(&project);
    project.write("quick", "");
    let outcome = project.run(&[]);
    assert_eq!(outcome.code, 0, "{}", outcome.said);
    assert_eq!(outcome.lines("third"), ["first", "half", "f", "half"]);
    project.keeps(3);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(project.place.path().to_str().unwrap()));
}

fn an_image_that_vanished_is_made_again(subject: &Subject) {
    let project = three(subject);
    project.passes();
    let (_, images) = project.left();
    subject.api.as_ref().unwrap().delete(&format!("/v1.41/images/{}?force=true", images[0]));
    let verified = project.ends(&["cache", "verify"]);
    assert!(verified.code != 0 && verified.said.contains("is not there"), "{}", verified.said);
    assert_eq!(project.passes(), ["build", "fetch", "test"]);
    let (_, images) = project.left();
    subject.api.as_ref().unwrap().delete(&format!("/v1.41/images/{}?force=true", images[0]));
    assert_eq!(project.passes(), ["build", "fetch", "test"]);
    project.keeps(1);
}

fn what_is_lost_in_a_volume_is_told(subject: &Subject) {
    let api = subject.api.as_ref().unwrap();
    let steps = "[pipeline.ci.step.a]\nrun = \"cat /etc/passwd > /dev/null; echo x > /etc/x\"\n\
                 [pipeline.ci.step.b]\nfrom = \"a\"\nrun = \"cat /etc/x\"\n";
    let project = Project::new(subject, steps);
    api.create("/v1.41/containers/create?name=with-volume", r#"{"Image":"localhost/base:1","Cmd":["true"]}"#);
    let changes = "changes=VOLUME%20/home/dev";
    api.create(&format!("/v1.41/commit?container=with-volume&repo=localhost/volume&tag=1&{changes}"), "{}");
    api.delete("/v1.41/containers/with-volume");
    project.declare("localhost/base:1", "localhost/volume:1");
    assert_eq!(project.passes(), ["a", "b"]);
    project.declare("echo x > /etc/x", "echo x > /etc/x; echo x > /home/dev/lost");
    let outcome = project.run(&[]);
    assert_eq!(outcome.code, 7, "{}", outcome.said);
    assert!(outcome.said.contains("/home/dev") && outcome.said.contains("VOLUME"), "{}", outcome.said);
    project.declare("[pipeline.ci.step.a]\n", "[pipeline.ci.step.a]\ncache_dirs = [\"/home/dev\"]\n");
    assert_eq!(project.passes(), ["a", "b"]);
}

fn cleaning_leaves_no_image_and_touches_no_others(subject: &Subject) {
    let (one, two) = (three(subject), three(subject));
    one.passes();
    two.passes();
    one.keeps(1);
    two.keeps(1);
    assert_eq!(one.ends(&["cache", "prune", "--max-size", "1GiB"]).code, 0);
    one.keeps(1);
    assert_eq!(one.ends(&["cache", "clean"]).code, 0);
    one.keeps(0);
    two.keeps(1);
    assert_eq!(two.passes(), NOTHING);
    assert_eq!(one.passes(), ["build", "fetch", "test"]);
    assert_eq!(one.ends(&["cache", "prune", "--max-size", "0"]).code, 0);
    one.keeps(0);
    one.passes();
    // Without the engine the results go, and what it keeps of them the next time.
    let gone = "unix:///nowhere.sock";
    let mut clean = one.command(&["cache", "clean"]);
    let cleaned = clean.env("DOCKER_HOST", gone).env("CONTAINER_HOST", gone).output().unwrap();
    let said = String::from_utf8_lossy(&cleaned.stderr).into_owned();
    assert!(cleaned.status.success() && said.contains("nothing answers"), "{said}");
    one.keeps(1);
    let identity = one.identity();
    assert_eq!(one.ends(&["uninstall", "--yes"]).code, 0);
    let (_, images) = subject.api.as_ref().unwrap().of_steps();
    assert!(!images.iter().any(|image| image.contains(&identity)), "{images:?}");
}

fn who_is_not_root_has_what_steps_leave(subject: &Subject) {
    if subject.engine.capabilities().engine != "docker" {
        // Whoever may use this one is root.
        return;
    }
    let steps = r#"
[pipeline.ci.step.fetch]
inputs = ["docs/**"]
artifacts = ["private/key"]
run = "mkdir -m 700 private; echo key > private/key; chmod 600 private/key; rm -r docs; mkdir docs; echo x > /etc/x; echo t > /tmp/t"
[pipeline.ci.step.build]
from = "fetch"
cache_dirs = ["/beat"]
run = "cat private/key /etc/x; ls docs; echo more >> private/key; echo going; while [ ! -e quick ]; do echo x >> /beat/log; sleep 0.1; done"
[pipeline.ci.step.bad]
from = "build"
run = "mkdir -m 700 left; echo x > left/x; exit 1"
"#;
    let mut project = Project::new(subject, steps);
    project.write("docs/old", "old\n");
    project.user = Some(USER);
    let own = |path: &std::path::Path| std::os::unix::fs::chown(path, Some(USER), Some(USER)).unwrap();
    for path in ["shop", "shop/docs", "shop/docs/old", "shop/setpoint.toml"] {
        own(&project.place.path().join(path));
    }
    own(project.place.path());
    let socket = subject.host.as_ref().unwrap().trim_start_matches("unix://").to_owned();
    fs::set_permissions(socket, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let mut child = started(&project, "going");
    child.kill().unwrap();
    child.wait().unwrap();
    is_still(&project);
    project.write("quick", "");
    let output = project.place.path().join("output");
    let outcome = project.run(&["--output", output.to_str().unwrap()]);
    assert_eq!(outcome.code, 1, "{}", outcome.said);
    assert_eq!(outcome.lines("build"), ["key", "x", "going"]);
    assert_eq!(fs::read_to_string(output.join("fetch/private/key")).unwrap(), "key\n");
    project.keeps(1);
    assert_eq!(project.run(&[]).that("cached"), ["build", "fetch"]);
    project.keeps(1);
    assert_eq!(project.ends(&["cache", "verify"]).code, 0);
}

fn what_this_engine_cannot_is_told(subject: &Subject) {
    let project = three(subject);
    project.declare("image = \"localhost/base:1\"", "");
    let outcome = project.run(&[]);
    assert!(outcome.code != 0 && outcome.said.contains("declare an `image`"), "{}", outcome.said);
    // The same engine, as if it were on another machine.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("tcp://{}", listener.local_addr().unwrap());
    let socket = subject.host.as_ref().unwrap().trim_start_matches("unix://").to_owned();
    std::thread::spawn(move || {
        for outer in listener.incoming().map_while(Result::ok) {
            let inner = std::os::unix::net::UnixStream::connect(&socket).unwrap();
            let (mut to, mut from) = (inner.try_clone().unwrap(), outer.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            let (mut to, mut from) = (outer, inner);
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        }
    });
    let project = three(subject);
    let remote = project.command(&["run"]).env("DOCKER_HOST", &host).env("CONTAINER_HOST", &host).output();
    let remote = remote.unwrap();
    let said = String::from_utf8_lossy(&remote.stderr).into_owned();
    if subject.engine.capabilities().engine == "docker" {
        assert!(said.contains("does not see the files of this machine"), "{said}");
    }
    assert_ne!(remote.status.code(), Some(0), "{said}");
}
