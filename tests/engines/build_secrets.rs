//! Secrets of a build, through the binary itself: they reach the step that mounts them, and nothing else.

use std::fs;
use std::path::Path;

use crate::docker::{Scenario, project};
use crate::harness::Project;
use crate::place::{Kind, Place};

pub const SCENARIOS: &[Scenario] = &[
    ("secrets_reach_the_step_that_mounts_them_and_nothing_else", of_a_manifest),
    ("a_secret_of_a_build_that_is_missing_is_named", missing),
    ("a_build_with_secrets_that_fails_names_the_line", failing),
    ("secrets_of_a_devcontainer_and_of_a_service_reach_their_builds", of_other_files),
];

pub const ON_PODMAN: Scenario = ("secrets_of_a_build_are_refused_by_name", refused);

const SECRETS: &str = r#"setpoint = 1
[engine]
default = "docker"
[env.dev.build]
context = "."
secrets = { tok = { env = "TOK" }, key = { file = "key" } }
"#;

const DOCKERFILE: &str = r#"FROM base:1
RUN --mount=type=secret,id=tok wc -c < /run/secrets/tok > /length; cat /run/secrets/tok; echo
RUN --mount=type=secret,id=key,required=true,target=/tmp/key cat /tmp/key; md5sum < /tmp/key > /sum
RUN --mount=type=secret,id=other [ ! -e /run/secrets/other ]
"#;

/// The values, which must be nowhere but in the steps.
const TOKEN: &str = "tok-4b1dcafe-value";
const KEY: &str = "key-91f0beef-value";

fn declared(place: &Place) -> Project {
    let mut project = project(place, SECRETS);
    project.set("TOK", TOKEN);
    project.write("Dockerfile", DOCKERFILE).write("key", KEY);
    project
}

/// Whether a file below a folder holds these words.
fn holds(folder: &Path, words: &str) -> bool {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            return holds(&path, words);
        }
        fs::read(&path).is_ok_and(|bytes| bytes.windows(words.len()).any(|window| window == words.as_bytes()))
    })
}

/// The image of the only build of a project.
fn image(place: &Place, project: &Project) -> String {
    let units = place.docker(&["ps", "-a", "--format", "{{.ID}} {{.Label \"dev.setpoint.labels\"}}"]);
    let root = project.root.to_string_lossy();
    let container = units.lines().find(|line| line.contains(&*root)).unwrap().split(' ').next().unwrap();
    place.docker(&["inspect", "--format", "{{.Image}}", container]).trim().to_owned()
}

fn of_a_manifest(place: &Place) {
    let mut project = declared(place);
    project.up().says_not(TOKEN).says_not(KEY);
    project.run(&["logs", "dev", "image"]).exits(0).says("***");
    assert_eq!(project.inside("cat /length"), TOKEN.len().to_string());
    let sums = project.inside(&format!("cat /sum; printf {KEY} | md5sum"));
    assert_eq!(sums.lines().next(), sums.lines().nth(1));
    let image = image(place, &project);
    let told = [
        place.docker(&["history", "--no-trunc", &image]),
        place.docker(&["image", "inspect", &image]),
        project.run(&["logs", "dev", "image"]).said(),
        project.run(&["why", "--json"]).said(),
        project.run(&["status", "--json"]).said(),
    ];
    for value in [TOKEN, KEY] {
        assert!(told.iter().all(|told| !told.contains(value)), "{told:?}");
        assert!(!holds(&project.state(), value), "the state holds {value}");
    }
    assert!(project.inside("ls /run/secrets /tmp/key 2>&1; true").contains("No such file"));
    project.is_settled();
    // Another value is not another image, and what is there needs none.
    project.set("TOK", "another-value");
    project.write("key", "another-key");
    project.is_settled();
    project.set("TOK", "");
    fs::remove_file(project.root.join("key")).unwrap();
    project.is_settled();
}

fn missing(place: &Place) {
    let mut project = project(place, SECRETS);
    // An image of its own: who has the same inputs has the same image.
    project.write("Dockerfile", &DOCKERFILE.replace("echo", "echo own")).write("key", KEY);
    let outcome = project.run(&["up"]);
    outcome.exits(7).says("the secret `tok` of the build Dockerfile").says("variable TOK is not set");
    outcome.says("hint: set TOK").says_not("FROM base:1");
    project.set("TOK", TOKEN);
    fs::remove_file(project.root.join("key")).unwrap();
    let file = project.root.join("key");
    let outcome = project.run(&["up"]);
    outcome.exits(7).says("the secret `key`").says(&format!("{}: No such file", file.display()));
    outcome.says("hint:").says_not(TOKEN);
    assert_eq!(project.status()["state"], "absent");
    project.write("key", KEY);
    project.up();
    // What runs is not touched by one that is missing for the next build.
    fs::remove_file(&file).unwrap();
    project.edit("Dockerfile", "echo", "echo again");
    project.run(&["up"]).exits(7).says("the secret `key`");
    assert_eq!(project.inside("echo runs"), "runs");
}

fn failing(place: &Place) {
    let project = declared(place);
    project.write(
        "Dockerfile",
        "FROM base:1\nRUN --mount=type=secret,id=tok \\\n  cat /run/secrets/tok; exit 3\n",
    );
    let outcome = project.run(&["up"]);
    outcome.exits(1).says("| ***").says("exit 3").says("at Dockerfile:2:1").says_not(TOKEN);
    // One that nobody declared, and that the step insists on.
    project.write("Dockerfile", "FROM base:1\nRUN --mount=type=secret,id=other,required=true true\n");
    project.run(&["up"]).exits(1).says("other").says("not found").says("at Dockerfile:2:1");
}

fn of_other_files(place: &Place) {
    let build = "FROM base:1\nRUN --mount=type=secret,id=tok wc -c < /run/secrets/tok > /length\n";
    let mut dev = project(place, "");
    dev.set("TOK", TOKEN);
    let text = r#"{ "build": { "dockerfile": "../Dockerfile", "options": ["--secret", "id=tok,env=TOK"] } }"#;
    dev.write(".devcontainer/devcontainer.json", text).write("Dockerfile", build);
    dev.up();
    assert_eq!(dev.inside("cat /length"), TOKEN.len().to_string());
    let mut stack = project(place, "");
    stack.set("TOK", TOKEN);
    stack.write(
        "web/Dockerfile",
        &format!("{build}RUN --mount=type=secret,id=cert md5sum < /run/secrets/cert > /sum\n"),
    );
    let text = "services:\n  web:\n    init: true\n    command: [sleep, '100000']\n    build:\n      context: ./web\n      \
                secrets: [tok, { source: key, target: cert }]\n\
                secrets:\n  tok: { environment: TOK }\n  key: { file: ./key }\n";
    stack.write("compose.yaml", text).write("key", KEY);
    stack.up();
    let inside = stack.run(&[
        "exec",
        "web",
        "--",
        "sh",
        "-c",
        &format!("cat /length; cat /sum; printf {KEY} | md5sum"),
    ]);
    inside.exits(0);
    let lines: Vec<_> = inside.stdout.lines().collect();
    assert_eq!((lines[0], lines[1]), (&*TOKEN.len().to_string(), lines[2]));
    stack.run(&["down"]).exits(0);
}

fn refused(place: &Place) {
    place.engine(Kind::Podman);
    let mut project = Project::new(&SECRETS.replace("docker", "podman"));
    project.set("CONTAINER_HOST", &place.host(Kind::Podman));
    project.write("Dockerfile", DOCKERFILE).write("key", KEY);
    project.run(&["up"]).exits(4).says("`secrets` of a `build` need Docker").says("setpoint.toml:6");
    // Files of other tools are not asked which engine they are for.
    let mut project = Project::new(
        "setpoint = 1\n[engine]\ndefault = \"podman\"\n[env.dev]\ndevcontainer = \".devcontainer.json\"\n",
    );
    project.set("CONTAINER_HOST", &place.host(Kind::Podman));
    let text = r#"{ "build": { "dockerfile": "Dockerfile", "options": ["--secret=id=tok,env=TOK"] } }"#;
    project.write(".devcontainer.json", text).write("Dockerfile", DOCKERFILE);
    let outcome = project.run(&["up"]);
    outcome.exits(7).says("the podman engine cannot do this: secrets of a build").says("has no BuildKit");
    outcome.says("hint: use Docker");
}
