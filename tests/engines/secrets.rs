//! Secrets of services, and their first boot, on the embedded engine and on Docker, from one manifest.

use std::fs;
use std::path::{Path, PathBuf};

use crate::docker::Scenario;
use crate::harness::{Project, finish, until};
use crate::place::{Kind, Place};
use crate::stacks;
use crate::support::{Blobs, Pack, Tar, plain};
use crate::web::{Answer, Web};

pub const ON_THE_EMBEDDED_ENGINE: &[Scenario] = &[
    ("secrets_reach_a_service_and_nothing_else", |_| secrets(&embedded(GIVEN), |_| String::new())),
    ("a_service_that_is_started_again_has_its_secrets", started_again),
    ("a_lost_secret_is_told_and_never_made_anew", |_| lost(&embedded(GIVEN))),
    ("a_first_boot_is_done_once_for_its_volumes", |_| first_boot(&embedded(BOOTS))),
    ("a_first_boot_waits_for_who_answers", waits),
    ("a_volume_is_given_to_somebody", |_| owner(&on_the_host(OWNS))),
];

pub const ON_DOCKER: &[Scenario] = &[
    ("secrets_reach_a_service_and_nothing_else", |place| {
        secrets(&docker(place, GIVEN), |unit| place.docker(&["inspect", &container(place, unit)]));
    }),
    ("an_image_without_a_shell_takes_secrets_as_files_only", without_a_shell),
    ("a_first_boot_is_done_once_for_its_volumes", |place| first_boot(&docker(place, BOOTS))),
    ("a_volume_is_given_to_somebody", |place| owner(&docker(place, OWNS))),
];

/// What the variables of the service's own process are: those of `sleep`, which is not asked, and not of who asks.
const GIVEN: &str = r#"
[project]
version = "1.2"
[secret.db-password]
generate = "bcrypt"
[secret.token]
env = "TOKEN"
[secret.line]
derive = "admin:{{ bcrypt(secret.db-password) }}"

[service.db]
IMAGE
network = "host"
command = "echo $$ > /tmp/pid; echo >> /tmp/began; exec sleep 100000"
env = { PLAIN = "plain", URL = "db://x:${secret.db-password}@db", ODD = "a '${secret.token}' $b" }
secrets = ["line"]
files = [{ template = "app.conf.j2", target = "/etc/app.conf", mode = "0440" }]
health = { exec = "test -n \"$URL\"", interval = "300ms" }
"#;

/// Each step tells that it ran; the one in the middle fails until there is a file.
const BOOTS: &str = r#"
[secret.db-password]
generate = "hex16"
[service.db]
IMAGE
network = "host"
command = "sleep 1; : > /tmp/well; exec sleep 100000"
volumes = { booted = "/data" }
env = { PASSWORD = "${secret.db-password}" }
health = { exec = "test -e /tmp/well", interval = "300ms", retries = 50 }
hooks = { post_create = "echo post_create >> /data/log", post_start = ["sh", "-c", "echo post_start >> /data/log"] }

[service.db.first_boot]
zeroth = { run = "test ! -e /tmp/well && echo zeroth ${#PASSWORD} >> /data/log" }
ready = { wait = { exec = "test -e /tmp/well" }, timeout = "30s" }
seed = { run = ["sh", "-c", "test -e /tmp/well && echo seed >> /data/log"], after = "healthy" }
gate = { run = "test -e /data/open && echo gate >> /data/log" }
told = { host = "echo told >> log" }
"#;

const OWNS: &str = r#"
[service.db]
IMAGE
network = "host"
command = "exec sleep 100000"
volumes = { owned = "/srv/data" }
[service.db.first_boot]
file = { run = "mkdir -p /srv/data/deep && : > /srv/data/deep/file", user = "root" }
mine = { owner = { volume = "owned", user = "1234:1235" } }
"#;

const WAITS: &str = r#"setpoint = 1
[service.web]
base = "host"
network = "host"
command = "sleep 100000"
restart = "never"
[service.web.first_boot]
port = { wait = { tcp = PORT } }
page = { wait = { http = "/well", port = PORT }, timeout = "1s" }
"#;

const TEMPLATE: &str = "[{{ project }} {{ version }} {{ unit }}]\npassword = {{ secret.db-password }}\nurl = {{ env.URL }} {{ env.PLAIN }}\n";

/// A project on the embedded engine.
fn embedded(manifest: &str) -> Project {
    let mut project = Project::new("");
    let image = stacks::image(&project, "secrets");
    declared(&mut project, manifest, "embedded", &image.to_string_lossy());
    project
}

/// A project on the host's own system.
fn on_the_host(manifest: &str) -> Project {
    Project::new(&format!("setpoint = 1\n{}", manifest.replace("IMAGE", "base = \"host\"")))
}

/// A project on the suite's Docker.
fn docker(place: &Place, manifest: &str) -> Project {
    place.engine(Kind::Docker);
    let mut project = Project::new("");
    project.set("DOCKER_HOST", &place.host(Kind::Docker));
    declared(&mut project, manifest, "docker", "base:1");
    project
}

fn declared(project: &mut Project, manifest: &str, engine: &str, image: &str) {
    let manifest = manifest.replace("IMAGE", &format!("image = \"{image}\"\nuser = \"root\""));
    project.set("TOKEN", "first-token");
    project.write("setpoint.toml", &format!("setpoint = 1\n[engine]\ndefault = \"{engine}\"\n{manifest}"));
    project.write("app.conf.j2", TEMPLATE);
}

/// The container of a unit, by the folder that is part of its labels.
fn container(place: &Place, project: &Project) -> String {
    let label = format!("label=dev.setpoint.unit={}", unit(project));
    place.docker(&["ps", "-aq", "--filter", &label]).trim().to_owned()
}

fn unit(project: &Project) -> String {
    let root = project.root.canonicalize().unwrap();
    let name = setpoint_model::names::UnitName::new("db").unwrap();
    setpoint_runtime::engine::UnitId::new(&root, &name).as_str().to_owned()
}

/// Where the values are kept.
fn kept(project: &Project, name: &str) -> PathBuf {
    let folders = fs::read_dir(project.state().join("secrets/v1")).unwrap();
    folders.flatten().map(|folder| folder.path().join(name)).find(|path| path.exists()).unwrap()
}

/// The files below a folder that hold a text, without those of the secret store.
fn files_with(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && !path.ends_with("secrets") {
            found.extend(files_with(&path, text));
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            if bytes.windows(text.len()).any(|part| part == text.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}

/// What a script in the service prints.
fn says(project: &Project, script: &str) -> String {
    let outcome = project.run(&["exec", "db", "--", "sh", "-c", script]);
    outcome.exits(0);
    outcome.stdout.trim_end().to_owned()
}

/// The variables of the service's own process.
fn variables(project: &Project) -> String {
    says(project, "busybox tr '\\0' '\\n' < /proc/$(cat /tmp/pid)/environ")
}

fn secrets(project: &Project, inspected: impl Fn(&Project) -> String) {
    let mut said = project.run(&["plan"]).stdout;
    said.push_str(&project.up().said());
    let password = fs::read_to_string(kept(project, "db-password")).unwrap();
    let found = variables(project);
    for line in [&format!("URL=db://x:{password}@db"), "ODD=a 'first-token' $b", "PLAIN=plain"] {
        assert!(found.lines().any(|found| found == line), "{line} in {found}");
    }
    // As all that is in `env`, it is there for whoever works in the service.
    assert_eq!(says(project, "echo $URL"), format!("db://x:{password}@db"));
    until("it is healthy", || project.run(&["status"]).stdout.contains("running, healthy"));
    let file =
        says(project, "busybox stat -c '%a %u' /run/secrets/line /etc/app.conf; cat /run/secrets/line");
    assert!(file.starts_with("400 0\n440 0\nadmin:$2b$10$"), "{file}");
    let conf = format!("[shop 1.2 db]\npassword = {password}\nurl = db://x:{password}@db plain");
    assert_eq!(says(project, "cat /etc/app.conf"), conf);
    for arguments in
        [&["why"][..], &["status", "--json"], &["plan", "--json"], &["up", "--json"], &["logs", "db"]]
    {
        said.push_str(&project.run(arguments).said());
    }
    said.push_str(&inspected(project));
    let hash = fs::read_to_string(kept(project, "line")).unwrap();
    for secret in [password.as_str(), "first-token", &hash] {
        assert!(!said.contains(secret), "{said}");
        assert_eq!(files_with(&project.state(), secret), [""; 0].map(PathBuf::from));
    }
    project.run(&["up"]).exits(0).says("db: nothing to do");
    changes(project);
    // What was generated outlives the unit, and the files that were made do not.
    assert!(kept(project, &format!(".units/{}", unit(project))).exists());
    project.run(&["down"]).exits(0);
    project.up();
    assert!(variables(project).contains(&format!("URL=db://x:{password}@db")));
    project.run(&["down"]).exits(0);
    let of_unit = kept(project, "db-password").with_file_name(".units").join(unit(project));
    assert!(!of_unit.exists());
    project.run(&["uninstall"]).says("the generated secret `db-password` of").says("for good");
}

/// What differs, why, and what it comes to.
fn changes(project: &Project) {
    let edit = |from: &str, to: &str| project.edit("app.conf.j2", from, to);
    edit("[{{ project }}", "# {{ secret.token }}\n[{{ project }}");
    project.run(&["why"]).exits(0).says("app.conf.j2").says("restart");
    project.run(&["plan"]).exits(0).says_not("recreate");
    project.up();
    assert!(says(project, "cat /etc/app.conf").starts_with("# first-token\n[shop"));
    // Another value, by its keyed digest alone.
    renewed(project);
    assert!(variables(project).contains("ODD=a 'second-token' $b"));
    assert!(says(project, "cat /etc/app.conf").starts_with("# second-token\n"));
    // What cannot be filled in touches nothing.
    edit("{{ unit }}", "{{ nobody }}");
    let outcome = project.run(&["up"]);
    outcome.exits(4).says("at app.conf.j2:2:1").says("this names something that is not there");
    assert!(variables(project).contains("second-token"));
    edit("{{ nobody }}", "{{ unit }}");
    project.edit("setpoint.toml", "\"1.2\"", "\"1.3\"");
    project.run(&["why"]).exits(0).says("version");
    renewed(project);
    assert!(says(project, "cat /etc/app.conf").contains("[shop 1.3 db]"));
}

/// Runs `up` with another token.
fn renewed(project: &Project) {
    let mut command = project.command(&["up"]);
    finish(project.start(command.env("TOKEN", "second-token"))).exits(0).says_not("second-token");
}

fn started_again(_: &Place) {
    let project = embedded(GIVEN);
    project.up();
    let password = fs::read_to_string(kept(&project, "db-password")).unwrap();
    let first = says(&project, "cat /tmp/pid");
    project.run(&["exec", "db", "--", "busybox", "kill", "-9", &first]);
    until("it began again", || {
        let outcome = project.run(&["exec", "db", "--", "cat", "/tmp/began"]);
        outcome.code == 0 && outcome.stdout.lines().count() == 2
    });
    assert!(variables(&project).contains(&format!("URL=db://x:{password}@db")));
    assert_eq!(files_with(&project.state(), &password), [""; 0].map(PathBuf::from));
    project.run(&["down"]).exits(0);
}

fn lost(project: &Project) {
    project.up();
    project.run(&["down"]).exits(0);
    let path = kept(project, "db-password");
    let password = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    project.run(&["plan"]).exits(0);
    let outcome = project.run(&["up"]);
    outcome.says("secret `db-password`: its value is lost").says("put the file back");
    assert_ne!(outcome.code, 0);
    assert!(!path.exists());
    fs::write(&path, &password).unwrap();
    project.up();
    assert!(variables(project).contains(&password));
    project.run(&["down"]).exits(0);
}

fn first_boot(project: &Project) {
    let log =
        |project: &Project| says(project, "cat /data/log").split_whitespace().collect::<Vec<_>>().join(" ");
    project.run(&["plan"]).exits(0).says("run first_boot told on the host: echo told >> log");
    let outcome = project.run(&["up"]);
    outcome
        .exits(1)
        .says("first_boot gate failed in db: exit 1")
        .says("setpoint.toml:")
        .says("first_boot gate");
    assert_eq!(log(project), "zeroth 32 seed");
    project.run(&["status"]).exits(0).says("not ready: ").says("first_boot gate, first_boot told");
    project.run(&["why"]).exits(0).says("pending  first_boot gate");
    says(project, ": > /data/open");
    let outcome = project.up();
    outcome.says("first_boot gate").says("first_boot told").says_not("first_boot seed");
    assert_eq!(
        (log(project), project.effects()),
        ("zeroth 32 seed gate post_create post_start".to_owned(), vec!["told".to_owned()])
    );
    project.run(&["up"]).exits(0).says("db: nothing to do");
    // An edit of what was done is nothing to do.
    project.edit("setpoint.toml", "echo seed", "echo sown");
    project.run(&["up"]).exits(0).says("db: nothing to do");
    // The data is what it was done for, and not the container.
    project.run(&["down"]).exits(0);
    project.up().says_not("first_boot");
    assert_eq!(log(project), "zeroth 32 seed gate post_create post_start post_create post_start");
    project.run(&["down", "--volumes", "--yes"]).exits(0);
    project.run(&["up"]).exits(1).says("first_boot gate failed");
    assert_eq!(log(project), "zeroth 32 sown");
    project.run(&["down", "--volumes", "--yes"]).exits(0);
}

fn owner(project: &Project) {
    project.up().says("first_boot mine owned is 1234:1235's");
    let owners = says(project, "stat -c %u:%g /srv/data /srv/data/deep /srv/data/deep/file");
    assert_eq!(owners.split_whitespace().collect::<Vec<_>>(), ["1234:1235"; 3]);
    project.run(&["up"]).exits(0).says("db: nothing to do");
    project.run(&["down", "--volumes", "--yes"]).exits(0);
}

fn waits(_: &Place) {
    let web = Web::open();
    let port = web.address.rsplit_once(':').unwrap().1.to_owned();
    let project = Project::new(&WAITS.replace("PORT", &port));
    project.run(&["up"]).exits(1).says("first_boot page").says("timed out after 1s").says("GET /well: 404");
    web.set("/well", Answer::Bytes(b"well".to_vec()));
    project.run(&["up"]).exits(0).says("first_boot page").says_not("first_boot port");
    project.run(&["up"]).exits(0).says("web: nothing to do");
    project.run(&["down"]).exits(0);
}

fn without_a_shell(place: &Place) {
    let project = docker(place, GIVEN);
    let mut blobs = Blobs::default();
    let files = Tar::default().dir("tmp/", 0o1777).file("app", b"no program").end();
    let entry = blobs.image(&[(files, plain as Pack)]);
    let image = project.at("bare");
    blobs.layout(&entry, &image);
    project.edit("setpoint.toml", "base:1", &image.to_string_lossy());
    let outcome = project.run(&["up"]);
    outcome.says("giving secrets as variables to an image without /bin/sh").says("secrets = [...]");
    assert_eq!(outcome.code, 7, "{}", outcome.said());
    assert_eq!(container(place, &project), "");
    project.run(&["down"]).exits(0);
}
