//! Somebody is told when a service needs a person, through the binary itself.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use crate::daemon::{kill_daemon, project};
use crate::docker::Scenario;
use crate::harness::{Project, finish, until};
use crate::place::{Kind, Place};
use crate::stacks;

pub const ON_THE_EMBEDDED_ENGINE: &[Scenario] = &[
    ("a_fault_that_needs_a_person_is_told_once", a_fault_that_needs_a_person),
    ("an_upgrade_that_does_not_come_about_is_told", an_upgrade_that_does_not_come_about),
];

/// One more end than it may have, and it is left alone.
const STACK: &str = r#"
name: shop
services:
  web:
    image: IMAGE
    network_mode: host
    user: root
    restart: on-failure:1
    command: ["sh", "-c", "echo began; exit 9"]
"#;

const ALERTS: &str = r#"
[secret.hook]
env = "HOOK"
[alerts]
webhook = "${secret.hook}"
command = ["sh", "-c", "cat >> told; echo $SETPOINT_ALERT_PROJECT/$SETPOINT_ALERT_UNIT >> names"]
"#;

/// Whoever comes next.
fn accepted(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let mut come = None;
    until("an alert comes", || {
        come = listener.accept().ok();
        come.is_some()
    });
    let (stream, _) = come.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream
}

/// Takes one alert, and gives what it says.
fn taken(listener: &TcpListener) -> (String, serde_json::Value) {
    let stream = accepted(listener);
    let mut reader = BufReader::new(&stream);
    let mut asked = String::new();
    while !asked.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut asked).unwrap(), 0, "{asked}");
    }
    let length = asked.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    (&stream).write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").unwrap();
    (asked, serde_json::from_slice(&body).unwrap())
}

fn a_fault_that_needs_a_person(place: &Place) {
    let project = project(place, Kind::Embedded, STACK);
    project.write("setpoint.toml", &format!("{}{ALERTS}", stacks::HEAD));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let up = |hook: &str| {
        finish(project.start(project.command(&["up"]).env("HOOK", hook))).exits(0);
    };
    project.run(&["up"]).exits(7).says("the environment variable HOOK is not set");
    up(&format!("http://{address}/hook/token"));
    // Who is told is not well at first.
    drop(accepted(&listener));
    let (asked, alert) = taken(&listener);
    assert!(asked.starts_with("POST /hook/token HTTP/1.1"), "{asked}");
    assert_eq!((&alert["setpoint"], &alert["unit"]), (&1.into(), &"web".into()));
    assert_eq!((&alert["project"], &alert["state"]), (&"shop".into(), &"held".into()));
    assert_eq!(alert["folder"], project.root.to_string_lossy().as_ref());
    assert!(alert["why"].as_str().unwrap().contains("exit 9"), "{alert}");
    assert!(alert["next"].as_str().unwrap().contains("setpoint up web"), "{alert}");
    let told = || fs::read_to_string(project.root.join("told")).unwrap_or_default();
    let log = || fs::read_to_string(project.state().join("daemon.log")).unwrap_or_default();
    until("all have it", || log().contains("alert: the command has it"));
    assert!(log().contains("alert: the webhook has it, at try 2"), "{}", log());
    let by_command: serde_json::Value = serde_json::from_str(&told()).unwrap();
    assert_eq!(by_command, alert);
    assert_eq!(fs::read_to_string(project.root.join("names")).unwrap(), "shop/web\n");
    assert_eq!(files_with(&project, "hook/token"), 0, "the secret is no part of what is recorded");
    kill_daemon(&project);
    // The next daemon knows that it was told.
    let mut daemon = project.start(&mut project.command(&["daemon", "run"]));
    let mut heard = BufReader::new(daemon.stderr.take().unwrap()).lines();
    assert!(heard.any(|line| line.unwrap().contains("shop/web: left alone: ")));
    // The user's word forgives: what comes then is new.
    up(&format!("http://{address}/another"));
    let (asked, again) = taken(&listener);
    assert!(asked.starts_with("POST /another HTTP/1.1"), "{asked}");
    assert_ne!(again["since"], alert["since"]);
    assert!(heard.any(|line| line.unwrap().contains("alert: the command has it")));
    assert_eq!(told().lines().count(), 2);
    project.run(&["daemon", "stop"]).exits(0);
    assert!(heard.all(|line| !line.unwrap().contains("another")));
    daemon.wait().unwrap();
    project.run(&["down"]).exits(0);
}

const RELEASE: &str = r#"setpoint = 1
[project]
version = "1"
[service.web]
base = "host"
command = "sleep 100000"
health = { exec = ["true"], interval = "100ms", retries = 2 }
[alerts]
webhook = "${secret.hook}"
[secret.hook]
env = "HOOK"
[release]
verify = "1s"
"#;

fn an_upgrade_that_does_not_come_about(_: &Place) {
    let project = Project::new(RELEASE);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hook = format!("http://{}/hook", listener.local_addr().unwrap());
    let start = |arguments: &[&str]| project.start(project.command(arguments).env("HOOK", &hook));
    finish(start(&["up", "--no-daemon"])).exits(0);
    project.edit("setpoint.toml", "\"true\"", "\"false\"");
    let upgrade = start(&["upgrade", "--no-rehearse", "--no-daemon"]);
    let (_, alert) = taken(&listener);
    let said = finish(upgrade);
    assert!(said.stderr.contains("alert: the webhook has it"), "{}", said.stderr);
    assert!(said.stderr.contains("Rolled back"), "{}", said.stderr);
    assert_eq!((&alert["state"], &alert["unit"]), (&"rolled_back".into(), &"web".into()));
    assert!(alert["why"].as_str().unwrap().starts_with("verify web: "), "{alert}");
    assert!(alert["next"].as_str().unwrap().contains("setpoint upgrade"), "{alert}");
    // One that is cut off is brought to its end by the daemon, which tells it, too.
    project.edit("setpoint.toml", "verify = \"1s\"", "verify = \"10m\"");
    let mut cut_off = start(&["upgrade", "--no-rehearse", "--no-daemon"]);
    until("it is under way", || {
        project.run(&["history", "--json"]).stdout.contains("\"outcome\": null")
            && project.run(&["status"]).stdout.contains("running, unhealthy")
    });
    cut_off.kill().unwrap();
    cut_off.wait().unwrap();
    let daemon = project.start(&mut project.command(&["daemon", "run"]));
    let (_, alert) = taken(&listener);
    assert_eq!((&alert["state"], &alert["why"]), (&"rolled_back".into(), &"it was cut off".into()));
    project.run(&["status"]).exits(0).says("running, healthy");
    project.run(&["daemon", "stop"]).exits(0);
    finish(daemon).exits(0);
    project.run(&["down"]).exits(0);
}

/// In how many files of the state's databases these words stand.
fn files_with(project: &Project, words: &str) -> usize {
    let files = fs::read_dir(project.state()).unwrap().map(|entry| entry.unwrap().path());
    let found = files
        .filter(|path| path.is_file())
        .filter(|path| String::from_utf8_lossy(&fs::read(path).unwrap()).contains(words));
    found.count()
}
