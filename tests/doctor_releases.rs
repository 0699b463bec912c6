//! What the doctor finds of releases and registries, and what `init` does not go on over.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;

use crate::doctor::{finds, rows};
use crate::harness::{Outcome, Project};
use crate::maker::{Maker, logged_in, up};
use crate::registry::{Server, USER};
use crate::support::{Blobs, busybox, gzip};

/// What the doctor says who also asks registries.
fn doctor(project: &Project) -> Outcome {
    project.run(&["doctor"])
}

#[test]
fn a_machine_of_a_release_is_looked_at() {
    let maker = Maker::new();
    let digest = maker.release("0.1.0");
    let machine = maker.machine();
    maker.init(&machine, "0.1.0").exits(0);
    fs::create_dir(machine.root.join("uploads")).unwrap();
    up(&machine);
    doctor(&machine).exits(0).says("Nothing is wrong.");
    finds(&machine, &[]);

    // A manifest that was edited by hand, and is what it was again.
    let made = machine.read("setpoint.toml");
    machine.write("setpoint.toml", &format!("{made}# ports are in the other file\n"));
    finds(&machine, &["edited-file"]);
    doctor(&machine).exits(3).says("  + # ports are in the other file");
    machine.run(&["doctor", "--fix", "edited-file"]).exits(0).says("setpoint.toml.edited");
    assert_eq!(machine.read("setpoint.toml"), made);
    assert!(machine.read("setpoint.toml.edited").ends_with("other file\n"));

    // A file that was made of a template; its secrets are not told.
    let rendered = files(&machine).into_iter().find(|path| path.ends_with("file--etc-app.conf")).unwrap();
    let text = fs::read_to_string(&rendered).unwrap();
    let secret = text.trim().rsplit(' ').next().unwrap().to_owned();
    fs::write(&rendered, format!("{text}more\n")).unwrap();
    finds(&machine, &["edited-file"]);
    doctor(&machine).exits(3).says("/etc/app.conf of `web`").says("  + more").says_not(&secret);
    fs::write(&rendered, text).unwrap();

    // The folder is not what is in effect for it.
    machine.write("setpoint.toml", "setpoint = 1\n[env.dev]\n");
    let found = rows(&machine);
    assert_eq!(found.get("two-modes").map(String::as_str), Some("refuse"), "{found:?}");
    machine.write("setpoint.toml", &made);
    let kept = machine.state().join("releases/v1").join(digest.trim_start_matches("sha256:"));
    fs::rename(&kept, machine.at("kept")).unwrap();
    let found = rows(&machine);
    assert_eq!(found.get("no-release").map(String::as_str), Some("refuse"), "{found:?}");
    fs::rename(machine.at("kept"), &kept).unwrap();
    finds(&machine, &[]);
    machine.run(&["down", "--volumes", "--yes"]).exits(0);
}

/// All files that units were given.
fn files(machine: &Project) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![machine.state().join("secrets/v1")];
    while let Some(folder) = open.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found
}

#[test]
fn a_release_is_not_put_over_what_nobody_knows() {
    let maker = Maker::new();
    maker.release("0.1.0");
    let machine = maker.machine();
    let refused = |id: &str| {
        let told = maker.init(&machine, "0.1.0");
        told.exits(10).says(&format!("docs/runbook.md#{id}")).says("nothing was changed");
        assert!(!machine.root.join("setpoint.toml").exists());
    };
    // Units of this folder, of which nothing tells any more.
    machine.write("setpoint.toml", "setpoint = 1\n[env.dev]\n");
    machine.run(&["up"]).exits(0);
    fs::remove_file(machine.root.join("setpoint.toml")).unwrap();
    refused("undeclared-unit");
    machine.write("setpoint.toml", "setpoint = 1\n[env.dev]\n");
    machine.run(&["down"]).exits(0);
    fs::remove_file(machine.root.join("setpoint.toml")).unwrap();

    // A clone with changes.
    let git = |words: &[&str]| {
        let done = Command::new("git").arg("-C").arg(&machine.root).args(words).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    machine.write("run.sh", "one\n");
    git(&["init", "--quiet"]);
    git(&["add", "--all"]);
    git(&["-c", "user.name=ann", "-c", "user.email=ann@example.org", "commit", "--quiet", "-m", "as it is"]);
    git(&["remote", "add", "origin", "https://git.example/shop.git"]);
    machine.write("run.sh", "two\n");
    let mut machine = machine;
    machine.set("PATH", "/usr/bin:/bin");
    let told = maker.init(&machine, "0.1.0");
    told.exits(10).says("docs/runbook.md#dirty-tree").says("M run.sh");
    git_of(&machine, &["checkout", "--quiet", "run.sh"]);
    maker.init(&machine, "0.1.0").exits(0);
    // Again over what it has made itself.
    maker.init(&machine, "0.1.0").exits(0);
    finds(&machine, &[]);
}

fn git_of(machine: &Project, words: &[&str]) {
    assert!(Command::new("git").arg("-C").arg(&machine.root).args(words).status().unwrap().success());
}

/// A service on an image of a registry.
struct Shop {
    // It ends first: a project looks at what is left when it is the last.
    registry: Server,
    project: Project,
}

impl Shop {
    fn of(registry: Server) -> Self {
        let manifest = format!(
            "setpoint = 1\n[service.web]\nimage = \"{}/acme/web:1\"\ncommand = \"sleep 1000\"\nnetwork = \"host\"\nuser = \
             \"root\"\n",
            registry.address
        );
        let shop = Self { project: Project::new(&manifest), registry };
        shop.push("one");
        shop
    }

    /// Has the tag mean another image.
    fn push(&self, note: &str) -> String {
        let mut blobs = Blobs::default();
        let entry = blobs.image(&[(busybox(note), gzip)]);
        self.registry.push(&blobs, &[&entry], "acme/web:1");
        entry["digest"].as_str().unwrap().to_owned()
    }
}

#[test]
fn each_way_in_which_a_registry_says_no_is_told() {
    let Shop { registry, mut project } = Shop::of(Server::with_login());
    doctor(&project).exits(3).says("registry-private").says("only to who logs in, and there is no login");
    logged_in(&mut project, &registry.address, "wrong");
    doctor(&project)
        .exits(3)
        .says("registry-private")
        .says("refuses the login that is saved")
        .says_not("wrong");
    logged_in(&mut project, &registry.address, USER.1);
    doctor(&project).exits(0);
    project.set("SETPOINT_REGISTRY_PASSWORD", "both");
    doctor(&project).exits(3).says("registry-login");
    drop((registry, project));

    // One that gives all to whoever comes without a login, and lets nobody in who comes with one that has expired.
    let address = picky();
    let mut project = Project::new(&format!("setpoint = 1\n[env.dev]\nimage = \"{address}/acme/web:1\"\n"));
    doctor(&project).exits(0);
    logged_in(&mut project, &address, "expired");
    doctor(&project).exits(3).says("registry-login").says("to whoever has none").says("docker logout");
}

#[test]
fn a_registry_that_does_not_answer_is_told_and_not_waited_for() {
    let Shop { mut registry, project } = Shop::of(Server::open());
    project.run(&["up", "--no-daemon"]).exits(0);
    registry.stop();
    // All that is declared is here.
    doctor(&project).exits(0).says("does not answer").says("all that is declared is here");
    project.declare("acme/web:1", "acme/web:2");
    doctor(&project).exits(3).says("registry-unreachable").says("acme/web:2 is not here");
    project.run(&["doctor", "--offline"]).exits(0).says_not("does not answer");
    // One that takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    project.declare(&registry.address, &silent.local_addr().unwrap().to_string());
    doctor(&project).exits(3).says("registry-unreachable");
}

/// A registry of that kind, as far as it is asked whether it gives something; it ends with the tests.
fn picky() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let own = address.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let has = |what: &str| head.iter().any(|line| line.to_lowercase().starts_with(what));
            let asks_token = head.first().is_some_and(|line| line.contains("/token"));
            let (status, more, body) = match (asks_token, has("authorization: bearer")) {
                (true, _) if has("authorization: basic") => ("401 Unauthorized", String::new(), "{}"),
                (true, _) => ("200 OK", String::new(), "{\"token\":\"of-anybody\"}"),
                (false, true) => {
                    let digest = format!("Docker-Content-Digest: sha256:{}\r\n", "0".repeat(64));
                    ("200 OK", digest, "")
                }
                (false, false) => {
                    let to = format!(
                        "WWW-Authenticate: Bearer realm=\"http://{own}/token\",service=\"picky\"\r\n"
                    );
                    ("401 Unauthorized", to, "")
                }
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\n{more}Content-Length: {length}\r\nConnection: close");
            let _ = write!(stream, "{head}\r\n\r\n{body}");
        }
    });
    address
}

#[test]
fn a_tag_that_has_moved_since_the_release_is_told() {
    let shop = Shop::of(Server::open());
    let (registry, project) = (&shop.registry, &shop.project);
    let first = shop.push("one");
    project.run(&["up", "--no-daemon"]).exits(0);
    let lock = |digest: &str| {
        let image = format!("{}/acme/web@{digest}", registry.address);
        project.write(
            "setpoint.lock",
            &format!("version = \"1.0.0\"\nbundle = \"x\"\n[image]\nweb = \"{image}\"\n"),
        );
    };
    lock(&first);
    finds(project, &[]);
    let second = shop.push("two");
    lock(&second);
    finds(project, &["unlocked-tag"]);
    let told: Value = project.run(&["doctor", "--json"]).json();
    let finding =
        told["findings"].as_array().unwrap().iter().find(|one| one["id"] == "unlocked-tag").unwrap();
    assert!(finding["what"].as_str().unwrap().contains("the tag has moved"), "{finding}");
    assert!(finding["fix"].as_str().unwrap().contains(&second), "{finding}");
}
