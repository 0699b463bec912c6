//! Environments on Docker, through the binary itself: images, builds, devcontainer.json, and what goes wrong.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, chown};

use crate::harness::{NOTHING, Project, finish, until};
use crate::place::{Kind, Place};

/// A test by its name.
pub type Scenario = (&'static str, fn(&Place));

pub const SCENARIOS: &[Scenario] = named![
    an_environment_is_made_and_kept_as_declared,
    a_unit_of_another_engine_is_not_left_behind,
    a_build_is_redone_only_for_what_it_takes,
    a_devcontainer_with_features_is_kept_through_eight_edits,
    a_devcontainer_needs_no_manifest_and_carries_the_labels_of_editors,
    a_failed_post_create_fails_the_up_and_the_next_one_runs_it_again,
    once_is_once_though_the_home_persists,
    an_edited_hook_reaches_an_existing_container,
    ids_that_collide_are_told_and_moved,
    a_git_worktree_works_inside,
    a_hook_dies_with_its_command,
    a_slow_reader_gets_all_that_was_written,
    a_shell_that_hangs_is_named,
    what_is_wrong_with_docker_is_named,
    an_image_that_is_not_there_is_named,
    a_build_that_fails_names_the_line,
    a_feature_that_fails_is_named_and_the_next_up_goes_on,
    a_port_in_use_is_named,
    arguments_that_are_not_known_are_refused_by_name,
    a_service_of_a_compose_file_is_a_devcontainer,
    what_a_devcontainer_asks_of_its_host_and_is_not_there_is_told,
];

/// A project on the suite's Docker.
pub fn project(place: &Place, manifest: &str) -> Project {
    place.engine(Kind::Docker);
    let mut project = Project::new(manifest);
    project.set("DOCKER_HOST", &place.host(Kind::Docker));
    project
}

const ENVIRONMENT: &str = r#"setpoint = 1
[engine]
default = "docker"
[env.dev]
image = "base:1"
packs = ["alpha"]
env = { WORD = "one" }
[env.dev.hooks]
initialize = "echo initialize >> log"
on_create = "echo on_create >> log"
post_start = "echo post_start >> log"
"#;

fn an_environment_is_made_and_kept_as_declared(place: &Place) {
    let project = project(place, ENVIRONMENT);
    project.pack("alpha");
    assert_eq!(project.up_effects(), ["initialize", "alpha", "on_create", "post_start"]);
    project.is_settled();
    assert_eq!(project.inside("echo $WORD $(pwd) $(id -u)"), "one /workspace 0");
    project.declare("WORD = \"one\"", "WORD = \"two\"");
    assert_eq!(project.up_effects(), NOTHING);
    assert_eq!(project.inside("echo $WORD"), "two");
    project.declare("packs = [\"alpha\"]", "packs = [\"alpha\", \"beta\"]").pack("beta");
    assert_eq!(project.up_effects(), ["beta"]);
    project.run(&["stop"]).exits(0);
    assert_eq!(project.status()["state"], "stopped");
    assert_eq!(project.up_effects(), ["alpha", "beta", "post_start"]);
    // A recreation throws away what is its own, and asks first.
    project.inside("echo x > /root/own");
    project.declare("[env.dev.hooks]", "mounts = [{ source = \".\", target = \"/again\" }]\n[env.dev.hooks]");
    project.run(&["plan"]).exits(0).says("dev: recreate");
    project.run(&["up"]).exits(6).says("/root/own").says("Nothing was done");
    project.run(&["up", "--yes"]).exits(0);
    assert_eq!(project.inside("ls /root /again/setpoint.toml"), "/again/setpoint.toml\n\n/root:");
    project.is_settled();
    project.run(&["down"]).exits(0);
    assert_eq!(project.status()["state"], "absent");
}

fn a_unit_of_another_engine_is_not_left_behind(place: &Place) {
    let project = project(place, "setpoint = 1\n[env.dev]\n");
    project.up();
    project.write(
        "setpoint.toml",
        "setpoint = 1\n[engine]\ndefault = \"docker\"\n[env.dev]\nimage = \"base:1\"\n",
    );
    project.run(&["up"]).exits(6).says("dev is on the engine embedded").says("down dev");
    project.write("setpoint.toml", "setpoint = 1\n[env.dev]\n");
    project.run(&["down"]).exits(0);
    project.write(
        "setpoint.toml",
        "setpoint = 1\n[engine]\ndefault = \"docker\"\n[env.dev]\nimage = \"base:1\"\n",
    );
    project.up();
    project.is_settled();
}

const BUILT: &str = r#"setpoint = 1
[engine]
default = "docker"
[env.dev]
build = "."
"#;

fn a_build_is_redone_only_for_what_it_takes(place: &Place) {
    let project = project(place, BUILT);
    project.write("Dockerfile", "FROM base:1\nCOPY web /web\nRUN ls /web > /list\n");
    project
        .write("web/a", "1")
        .write("web/skip.log", "1")
        .write("other", "1")
        .write(".dockerignore", "**/*.log\n");
    project.up();
    assert_eq!(project.inside("cat /list"), "a");
    project.is_settled();
    for untaken in ["other", "web/skip.log"] {
        project.write(untaken, "2");
        project.run(&["plan", "--exit-code"]).exits(0).says("nothing to do");
    }
    project.write("web/b", "1");
    project.run(&["why"]).exits(0).says("added    web/b").says("recreate only if the image differs");
    project.run(&["plan"]).exits(0).says("make the base available");
    project.up();
    assert_eq!(project.inside("cat /list"), "a\nb");
    project.is_settled();
    // The image is the same: the container stays.
    project.inside("echo x > /root/own");
    project.edit("Dockerfile", "RUN", "# a remark\nRUN");
    project.up().says_not("create ");
    assert_eq!(project.inside("cat /root/own"), "x");
    project.is_settled();
}

const DEVCONTAINER: &str = r#"{
  // The environment of the shop.
  "build": { "dockerfile": "Dockerfile", "context": ".." },
  "features": { "./hello": { "greeting": "hey" }, "./color": {} },
  "remoteUser": "dev",
  "containerEnv": { "STAGE": "development" },
  "remoteEnv": { "PATH": "${containerEnv:PATH}:/opt/hello", "WHERE": "${containerWorkspaceFolder}" },
  "initializeCommand": "echo initialize >> log",
  "onCreateCommand": ["sh", "-c", "echo on_create >> log"],
  "updateContentCommand": "echo update_content >> log; hello > content",
  "postCreateCommand": { "one": "echo post_create >> log", "two": "true" },
  "postStartCommand": "echo post_start >> log",
  "postAttachCommand": "echo post_attach >> log",
}
"#;

/// A project with a devcontainer.json, a Dockerfile and two features, that belongs to an ordinary user.
fn devcontainer(place: &Place) -> Project {
    let project = project(place, "");
    project.write(".devcontainer/devcontainer.json", DEVCONTAINER);
    project
        .write(".devcontainer/Dockerfile", "FROM base:1\nCOPY package.json /opt/\nRUN mkdir -p /opt/hello\n");
    project.write("package.json", "{}").write("notes.txt", "1");
    for (name, option) in [("hello", r#""greeting": { "type": "string", "default": "hi" }"#), ("color", "")] {
        let metadata = format!(r#"{{ "id": "{name}", "version": "1.0.0", "options": {{ {option} }} }}"#);
        project.write(&format!(".devcontainer/{name}/devcontainer-feature.json"), &metadata);
    }
    let hello = "printf '#!/bin/sh\\necho %s for %s at %s\\n' $GREETING $_REMOTE_USER $_REMOTE_USER_HOME >/opt/hello/hello\n\
                 chmod +x /opt/hello/hello\n";
    project.write(".devcontainer/hello/install.sh", hello);
    project.write(".devcontainer/color/install.sh", "echo blue > /opt/color\n");
    own(&project, 4321);
    project
}

fn own(project: &Project, id: u32) {
    let mut folders = vec![project.root.clone()];
    while let Some(folder) = folders.pop() {
        chown(&folder, Some(id), Some(id)).unwrap();
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                chown(entry.path(), Some(id), Some(id)).unwrap();
            }
        }
    }
}

/// What every `up` of a devcontainer runs.
const ALWAYS: [&str; 2] = ["initialize", "post_attach"];
const ALL: [&str; 6] =
    ["initialize", "on_create", "update_content", "post_create", "post_start", "post_attach"];

fn a_devcontainer_with_features_is_kept_through_eight_edits(place: &Place) {
    let project = devcontainer(place);
    let file = ".devcontainer/devcontainer.json";
    assert_eq!(project.up_effects(), ALL);
    assert_eq!(project.read("content"), "hey for dev at /home/dev\n");
    assert_eq!(project.inside("echo $(id -u) $WHERE $(cat /opt/color)"), "4321 /workspaces/shop blue");
    project.run(&["up"]).exits(0).says("nothing changed");
    assert_eq!(project.up_effects(), ALWAYS);
    // A file that the Dockerfile copies, and one that it does not.
    project.write("package.json", "{ }");
    project.run(&["why"]).says("package.json").says("input of build");
    assert_eq!(project.up_effects(), ALL);
    project.write("notes.txt", "2");
    project.run(&["plan", "--exit-code"]).exits(0);
    assert_eq!(project.up_effects(), ALWAYS);
    // The Dockerfile, to the same image; then a feature, an option of one.
    project.edit(".devcontainer/Dockerfile", "RUN", "# remark\nRUN");
    project.run(&["why"]).says(".devcontainer/Dockerfile");
    assert_eq!(project.up_effects(), ALWAYS);
    project.edit(".devcontainer/color/install.sh", "blue", "red");
    project.run(&["why"]).says("features ./color").says("rebuild");
    assert_eq!(project.up_effects(), ALL);
    assert_eq!(project.inside("cat /opt/color"), "red");
    project.edit(file, "\"hey\"", "\"hello\"");
    assert_eq!(project.up_effects(), ALL);
    assert_eq!(project.read("content"), "hello for dev at /home/dev\n");
    // A hook, a variable of sessions, a variable of the container.
    project.edit(file, "\"two\": \"true\"", "\"two\": \"true;\"");
    project.run(&["why"]).says("hooks.post_create").says("run post_create");
    assert_eq!(project.up_effects(), ["initialize", "post_create", "post_attach"]);
    project.edit(file, "\"WHERE\"", "\"MORE\": \"more\", \"WHERE\"");
    assert_eq!(project.up_effects(), ALWAYS);
    assert_eq!(project.inside("echo $MORE"), "more");
    project.edit(file, "\"development\"", "\"test\"");
    project.run(&["why"]).says("env STAGE").says("recreate");
    project.effects();
    project.run(&["up", "--yes"]).exits(0);
    assert_eq!(project.effects(), ALL);
    assert_eq!(project.inside("echo $STAGE"), "test");
    assert_eq!(project.up_effects(), ALWAYS);
}

fn a_devcontainer_needs_no_manifest_and_carries_the_labels_of_editors(place: &Place) {
    let project = project(place, "");
    project.write(".devcontainer.json", r#"{ "image": "base:1", "forwardPorts": [18080] }"#);
    project.up().says("Using .devcontainer.json on docker (no setpoint.toml)");
    let inspected = place.docker(&["ps", "--format", "{{.Labels}} {{.Ports}}"]);
    let line = inspected.lines().find(|line| line.contains(&*project.root.to_string_lossy())).unwrap();
    assert!(line.contains(&format!("devcontainer.local_folder={}", project.root.display())), "{line}");
    assert!(line.contains("devcontainer.config_file="), "{line}");
    assert!(line.contains("127.0.0.1:18080->18080/tcp"), "{line}");
    project.run(&["up"]).exits(0).says("nothing to do");
    project.run(&["stop"]).exits(0);
    project.run(&["down"]).exits(0);
}

fn a_failed_post_create_fails_the_up_and_the_next_one_runs_it_again(place: &Place) {
    let project = project(place, "");
    let text = r#"{ "image": "base:1", "onCreateCommand": "echo on_create >> log",
        "postCreateCommand": "echo post_create >> log; test -e ready", "postStartCommand": "echo post_start >> log" }"#;
    project.write(".devcontainer.json", text);
    project.run(&["up"]).exits(1).says("post_create failed in dev: exit 1").says(".devcontainer.json:2");
    assert_eq!(project.effects(), ["on_create", "post_create"]);
    project.write("ready", "");
    assert_eq!(project.up_effects(), ["post_create", "post_start"]);
}

fn once_is_once_though_the_home_persists(place: &Place) {
    let project = project(place, "");
    let text = r#"{ "image": "base:1", "postCreateCommand": "echo post_create >> log",
        "mounts": [{ "type": "volume", "source": "shop-home", "target": "/root" }] }"#;
    project.write(".devcontainer.json", text);
    assert_eq!(project.up_effects(), ["post_create"]);
    project.inside("touch /root/kept");
    assert_eq!(project.up_effects(), NOTHING);
    // A new container is a new one, whatever its home remembers.
    project.run(&["up", "--recreate", "--yes"]).exits(0);
    assert_eq!(project.effects(), ["post_create"]);
    assert_eq!(project.inside("ls /root"), "kept");
    project.run(&["down"]).exits(0);
    place.docker(&["volume", "rm", "shop-home"]);
}

fn an_edited_hook_reaches_an_existing_container(place: &Place) {
    let project = project(place, "");
    project.write(".devcontainer.json", r#"{ "image": "base:1", "postCreateCommand": "echo one >> log" }"#);
    assert_eq!(project.up_effects(), ["one"]);
    project.edit(".devcontainer.json", "one", "two");
    assert_eq!(project.up_effects(), ["two"]);
}

fn ids_that_collide_are_told_and_moved(place: &Place) {
    let project = project(place, "");
    project
        .write(".devcontainer.json", r#"{ "build": { "dockerfile": "Dockerfile" }, "remoteUser": "dev" }"#);
    project.write(
        "Dockerfile",
        "FROM base:1\nRUN echo 'other:x:4322:4322::/home/other:/bin/sh' >> /etc/passwd\n",
    );
    own(&project, 4322);
    project.up();
    project.run(&["logs", "dev", "image"]).says("user id 4322 belongs to other");
    assert_eq!(project.inside("id -u; touch mine; id -u other"), "4322\n60000");
}

fn a_git_worktree_works_inside(place: &Place) {
    let project = project(place, "");
    let main = project.at("main");
    fs::create_dir_all(&main).unwrap();
    let git = |folder: &std::path::Path, words: &[&str]| {
        let done = std::process::Command::new("git").args(words).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    git(&main, &["init", "-q"]);
    git(&main, &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "one"]);
    git(&main, &["worktree", "add", "-q", "../tree"]);
    fs::rename(project.at("tree").join(".git"), project.root.join(".git")).unwrap();
    project.write(".devcontainer.json", r#"{ "image": "base:1" }"#);
    project.up();
    let pointer = project.inside("cat .git");
    let history = pointer.strip_prefix("gitdir: ").unwrap();
    assert!(project.inside(&format!("ls {history}")).contains("HEAD"), "{pointer}");
}

fn a_slow_reader_gets_all_that_was_written(place: &Place) {
    let project =
        project(place, "setpoint = 1\n[engine]\ndefault = \"docker\"\n[env.dev]\nimage = \"base:1\"\n");
    project.up();
    let script = "i=0; while [ $i -lt 2000 ]; do echo 0123456789012345678901234567890123456789012345678; i=$((i + 1)); done";
    let mut exec = project.start(&mut project.command(&["exec", "--", "sh", "-c", script]));
    let mut output = exec.stdout.take().unwrap();
    // Long after it has ended.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let mut all = String::new();
    output.read_to_string(&mut all).unwrap();
    assert!(exec.wait().unwrap().success());
    assert_eq!(all.len(), 2000 * 50);
    // Who leaves somebody behind that holds his output has ended all the same.
    let said = project.run(&["exec", "--", "sh", "-c", "sleep 30 & echo said"]);
    assert_eq!(said.stdout, "said\n");
}

fn a_hook_dies_with_its_command(place: &Place) {
    let project = project(
        place,
        "setpoint = 1\n[engine]\ndefault = \"docker\"\n[env.dev]\nimage = \"base:1\"\n[env.dev.hooks]\n\
         on_create = \"echo on_create >> log; touch begun; sleep 4400; echo late >> log\"\n",
    );
    let mut up = project.start(&mut project.command(&["up"]));
    until("the hook runs", || project.root.join("begun").exists());
    up.kill().unwrap();
    finish(up);
    until("the hook ends", || !place.runs_somewhere("sleep 4400"));
    project.declare("sleep 4400; echo late", "echo done");
    assert_eq!(project.up_effects(), ["on_create", "done"]);
}

fn a_shell_that_hangs_is_named(place: &Place) {
    let project = project(place, "");
    let text =
        r#"{ "build": { "dockerfile": "Dockerfile" }, "postCreateCommand": "echo post_create >> log" }"#;
    project.write(".devcontainer.json", text);
    project.write("Dockerfile", "FROM base:1\nRUN echo 'sleep 60' > /root/.profile\n");
    let outcome = project.up();
    outcome.says("user_env_probe").says("no answer within 10s");
    assert_eq!(project.effects(), ["post_create"]);
}

fn what_is_wrong_with_docker_is_named(place: &Place) {
    let mut project = project(place, ENVIRONMENT);
    project.pack("alpha");
    project.set("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let outcome = project.run(&["up"]);
    outcome
        .exits(7)
        .says("nothing answers at unix:///nowhere/docker.sock, named by DOCKER_HOST")
        .says("start Docker");
    // A socket that only others may use.
    let socket = project.at("docker.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).unwrap();
    let mut other = Project::of_user(12345, ENVIRONMENT);
    other.pack("alpha");
    other.set("DOCKER_HOST", &format!("unix://{}", socket.display()));
    other.run(&["up"]).exits(7).says("this user may not use").says("usermod -aG docker");
    other.set("DOCKER_HOST", &place.host(Kind::Docker));
    project.set("DOCKER_HOST", &place.host(Kind::Docker));
}

fn an_image_that_is_not_there_is_named(place: &Place) {
    let project = project(
        place,
        "setpoint = 1\n[engine]\ndefault = \"docker\"\n[env.dev]\nimage = \"127.0.0.1:9/no/such:1\"\n",
    );
    project.run(&["up"]).exits(7).says("the image 127.0.0.1:9/no/such:1 cannot be had").says("hint:");
    project.declare("127.0.0.1:9/no/such:1", "base:1");
    project.up();
}

fn a_build_that_fails_names_the_line(place: &Place) {
    let project = project(place, BUILT);
    project.write("Dockerfile", "FROM base:1\nRUN echo fine\nRUN echo said; \\\n  exit 3\nRUN echo never\n");
    let outcome = project.run(&["up"]);
    outcome
        .exits(1)
        .says("| said")
        .says("exit 3")
        .says("at Dockerfile:3:1")
        .says("mend line 3 of Dockerfile");
    project.run(&["logs", "dev", "image"]).exits(0).says("said");
    assert_eq!(project.status()["state"], "absent");
    project.edit("Dockerfile", "exit 3", "true");
    project.up();
    // What runs is not touched by a build that fails.
    project.edit("Dockerfile", "true", "exit 4");
    project.run(&["up"]).exits(1).says("dev is as it was");
    assert_eq!(project.inside("echo runs"), "runs");
}

fn a_feature_that_fails_is_named_and_the_next_up_goes_on(place: &Place) {
    let project = devcontainer(place);
    project.write(".devcontainer/color/install.sh", "echo no paint >&2\nexit 7\n");
    let outcome = project.run(&["up"]);
    outcome
        .exits(1)
        .says("feature ./color: exit 7")
        .says("| no paint")
        .says(".devcontainer/devcontainer.json:4");
    project.write(".devcontainer/color/install.sh", "echo blue > /opt/color\n");
    project.effects();
    assert_eq!(project.up_effects(), ALL);
    project.edit(".devcontainer/devcontainer.json", "./color", "./colour");
    project.run(&["up"]).exits(4).says("devcontainer-feature.json of the feature `./colour`");
}

fn a_port_in_use_is_named(place: &Place) {
    let one = project(place, "");
    one.write(".devcontainer.json", r#"{ "image": "base:1", "forwardPorts": [18081] }"#);
    one.up();
    let other = project(place, "");
    other.write(".devcontainer.json", r#"{ "image": "base:1", "forwardPorts": [18081] }"#);
    other.run(&["up"]).exits(7).says("a port is in use").says("18081").says("declare another port");
    one.run(&["down"]).exits(0);
    other.up();
}

fn arguments_that_are_not_known_are_refused_by_name(place: &Place) {
    let project = project(place, "");
    project.write(".devcontainer.json", r#"{ "image": "base:1", "runArgs": ["--cap-ad=SYS_PTRACE"] }"#);
    project.run(&["up"]).exits(4).says("--cap-ad").says("--cap-add");
    project.write(
        ".devcontainer.json",
        r#"{ "image": "base:1", "runArgs": ["--cap-add=SYS_PTRACE"], "imagee": 1 }"#,
    );
    project.up().says("imagee");
}

fn a_service_of_a_compose_file_is_a_devcontainer(place: &Place) {
    let project = project(place, "");
    let file = r#"{ "dockerComposeFile": ["../compose.yaml", "extra.yaml"], "service": "app", "runServices": ["db"],
        "workspaceFolder": "/src", "overrideCommand": true, "remoteUser": "dev", "containerEnv": { "FROM_FILE": "1" },
        "postCreateCommand": "echo post_create $FROM_FILE $FROM_SERVICE >> log" }"#;
    project.write(".devcontainer/devcontainer.json", file);
    let services = "name: composed\nservices:\n  app: { build: ., volumes: ['.:/src'], environment: { FROM_SERVICE: '2' }, depends_on: [db] }\n\
                    \x20 db: { image: 'base:1', command: [sleep, '1000'], init: true }\n  other: { image: 'base:1', command: [sleep, '1000'] }\n";
    project.write("compose.yaml", services).write("Dockerfile", "FROM base:1\nRUN touch /built\n");
    project.write(".devcontainer/extra.yaml", "services: { db: { hostname: database } }\n");
    own(&project, 4323);
    project.up().says("db is up").says("dev is up");
    assert_eq!(project.effects(), ["post_create 1 2"]);
    let inside =
        project.run(&["exec", "dev", "--", "sh", "-c", "pwd; ls /built; id -u; wget -qO- http://db:1/ 2>&1"]);
    // The name is known, and nothing listens there.
    inside.says("/src\n/built\n4323\n").says("Connection refused");
    assert_eq!(project.run(&["exec", "db", "--", "hostname"]).stdout.trim(), "database");
    project.run(&["status"]).exits(0).says("db").says_not("other");
    project.run(&["up"]).exits(0).says("dev: nothing to do").says("db: nothing to do");
    project.run(&["down"]).exits(0);
}

fn what_a_devcontainer_asks_of_its_host_and_is_not_there_is_told(place: &Place) {
    let project = project(place, "");
    let asks = |what: &str| {
        let text = format!(r#"{{ "image": "base:1", "hostRequirements": {{ {what} }} }}"#);
        project.write(".devcontainer/devcontainer.json", &text);
    };
    let all = r#""cpus": 4096, "memory": "9999tb", "storage": "9999tb", "gpu": { "cores": 8 }"#;
    asks(all);
    let told = project.run(&["up"]);
    told.exits(0).says("asks for 4096 processors").says("bytes of memory").says("9999TiB of storage");
    // No machine that this runs on has the runtime for them.
    told.says("asks for a graphic processor");
    asks(r#""cpus": 1, "memory": "1mb", "storage": "1mb", "gpu": "optional""#);
    let quiet = project.run(&["up"]);
    quiet.exits(0).says("nothing to do");
    assert!(!quiet.said().contains("it asks for"), "{}", quiet.said());
}
