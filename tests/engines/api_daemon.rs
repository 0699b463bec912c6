//! The daemon's API, over its socket and its address, through the binary itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::Duration;

use serde_json::Value;

use crate::docker::Scenario;
use crate::harness::{Project, until};
use crate::place::Place;
use crate::stacks;

pub const ON_THE_EMBEDDED_ENGINE: &[Scenario] = &[
    ("a_stop_that_takes_long_holds_up_nobody_and_kill_ends_it", a_stop_that_takes_long),
    ("a_stop_in_a_terminal_is_seen_and_hurried_by_the_api", a_stop_in_a_terminal),
    ("a_crash_loop_is_retried_when_somebody_asks", a_crash_loop),
    ("what_is_asked_for_is_brought_about_by_the_next_daemon", the_next_daemon),
    ("what_needs_the_manifest_is_done_and_told", what_needs_the_manifest),
    ("a_reader_of_events_goes_on_where_it_was", a_reader_of_events),
    ("a_change_of_a_file_is_noticed_and_told", a_change_of_a_file),
    ("what_is_under_way_is_cancelled_once_however_often_it_is_asked", what_is_cancelled),
    ("nobody_comes_in_by_an_address_without_the_token", the_address),
    ("what_is_too_much_is_refused_and_harms_nobody", what_is_too_much),
];

const STACK: &str = r#"
name: asked
services:
  deaf:
    image: IMAGE
    network_mode: host
    user: root
    restart: always
    stop_grace_period: 10m
    command: ["sh", "-c", "trap '' TERM; echo began; while :; do sleep 1; done"]
  quick:
    image: IMAGE
    network_mode: host
    user: root
    restart: always
    command: ["sh", "-c", "echo began; exec sleep 100000"]
  crash:
    image: IMAGE
    network_mode: host
    user: root
    restart: always
    command: ["sh", "-c", "echo began; exit 9"]
"#;

fn project() -> Project {
    let project = Project::new(stacks::HEAD);
    let image = stacks::image(&project, "asked");
    project.write("compose.yaml", &STACK.replace("IMAGE", &image.to_string_lossy()));
    project
}

/// A daemon that ends with its test.
pub struct Daemon<'a> {
    project: &'a Project,
    child: Child,
}

impl<'a> Daemon<'a> {
    pub fn start(project: &'a Project, arguments: &[&str]) -> Self {
        let child = project.start(&mut project.command(&[&["daemon", "run"], arguments].concat()));
        let daemon = Self { project, child };
        until("the API answers", || daemon.try_get("/healthz").is_some_and(|answer| answer.status == 200));
        daemon
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn connect(&self) -> Option<UnixStream> {
        // The state of a test may lie deeper than a socket's path may be long.
        let folder = std::fs::File::open(self.project.state()).ok()?;
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&folder);
        let stream = UnixStream::connect(format!("/proc/self/fd/{descriptor}/api.sock")).ok()?;
        // So that what hangs fails.
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Some(stream)
    }

    fn try_get(&self, path: &str) -> Option<Answer> {
        Answer::to(self.connect()?, &request("GET", path, &[]))
    }

    pub fn get(&self, path: &str) -> Value {
        let answer = self.try_get(path).unwrap();
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    /// What is answered, whatever that is.
    pub fn ask(&self, method: &str, path: &str) -> (u16, Value) {
        let answer = Answer::to(self.connect().unwrap(), &request(method, path, &[])).unwrap();
        (answer.status, answer.json())
    }

    /// Asks for something to be done to a unit, and gives the operation.
    pub fn post(&self, unit: &str, action: &str) -> String {
        let path = format!("/v1/units/{}/{action}", self.unit(unit)["id"].as_str().unwrap());
        let answer = Answer::to(self.connect().unwrap(), &request("POST", &path, &[])).unwrap();
        assert_eq!(answer.status, 202, "{path}: {answer:?}");
        let operation = answer.json()["operation"].as_str().unwrap().to_owned();
        assert_eq!(answer.header("location"), Some(format!("/v1/operations/{operation}").as_str()));
        operation
    }

    pub fn unit(&self, name: &str) -> Value {
        let units = self.get("/v1/units");
        let units = units["units"].as_array().unwrap();
        units
            .iter()
            .find(|unit| unit["name"] == name)
            .unwrap_or_else(|| panic!("no {name}: {units:?}"))
            .clone()
    }

    pub fn state(&self, unit: &str) -> String {
        self.unit(unit)["state"]["state"].as_str().unwrap().to_owned()
    }

    /// Asks for an operation to end before its end, and gives what was answered.
    fn cancel(&self, operation: &str) -> u16 {
        let path = format!("/v1/operations/{operation}/cancel");
        Answer::to(self.connect().unwrap(), &request("POST", &path, &[])).unwrap().status
    }

    fn operation(&self, id: &str) -> Value {
        self.get(&format!("/v1/operations/{id}"))
    }

    #[track_caller]
    fn comes_to(&self, operation: &str, state: &str) -> Value {
        until(&format!("{operation} {state}"), || self.operation(operation)["state"] == state);
        self.operation(operation)
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(project: &Project, unit: &str) -> usize {
    project.run(&["logs", unit]).stdout.lines().count()
}

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let host = if headers.contains("Host: ") { "" } else { "Host: setpoint\r\n" };
    format!("{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n{headers}\r\n")
}

/// What was answered.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    /// The answer to a request; nothing if there is none.
    fn to(mut stream: impl Read + Write, request: &str) -> Option<Self> {
        // One that is refused may be cut off while it still speaks.
        let _ = stream.write_all(request.as_bytes());
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        let text = String::from_utf8_lossy(&text).into_owned();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Self { status, head: head.to_lowercase(), body: body.to_owned() })
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no JSON, {error}: {self:?}"))
    }

    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

fn a_stop_that_takes_long(_: &Place) {
    let project = project();
    project.run(&["up", "--no-daemon", "deaf", "quick"]).exits(0);
    let daemon = Daemon::start(&project, &[]);
    until("it is looked at", || daemon.state("deaf") == "running");
    let stop = daemon.post("deaf", "stop");
    until("it is being stopped", || daemon.state("deaf") == "stopping");
    let state = daemon.unit("deaf");
    assert_eq!(state["state"]["grace"], 600.0, "{state}");
    assert!(state["state"]["since"].is_string() && state["state"]["until"].is_string(), "{state}");
    assert!(state["button"]["label"].as_str().unwrap().starts_with("Stopping... "), "{state}");
    project.run(&["status", "deaf"]).exits(0).says("stopping (killed in ");
    // Others are served meanwhile, and other units are kept.
    let other = daemon.post("quick", "restart");
    daemon.comes_to(&other, "succeeded");
    assert_eq!(daemon.operation(&stop)["state"], "running");
    assert_eq!(daemon.state("deaf"), "stopping");
    // A start during a stop is done after it.
    let start = daemon.post("deaf", "start");
    assert_eq!(daemon.operation(&start)["state"], "queued");
    assert_eq!(daemon.state("deaf"), "stopping");
    let kill = daemon.post("deaf", "kill");
    daemon.comes_to(&kill, "succeeded");
    daemon.comes_to(&stop, "succeeded");
    let superseded = daemon.comes_to(&start, "cancelled");
    assert_eq!(superseded["detail"], "something else was asked for since");
    until("it is stopped", || daemon.state("deaf") == "stopped");
    assert_eq!(daemon.unit("deaf")["state"]["by"], "user");
    let start = daemon.post("deaf", "start");
    daemon.comes_to(&start, "succeeded");
    until("it runs again", || daemon.state("deaf") == "running");
    let kill = daemon.post("deaf", "kill");
    daemon.comes_to(&kill, "succeeded");
    project.run(&["down"]).exits(0);
}

fn a_stop_in_a_terminal(_: &Place) {
    let project = project();
    project.run(&["up", "--no-daemon", "deaf"]).exits(0);
    let daemon = Daemon::start(&project, &[]);
    until("it is looked at", || daemon.state("deaf") == "running");
    let stop = project.start(&mut project.command(&["stop", "deaf"]));
    until("it is being stopped", || daemon.state("deaf") == "stopping");
    assert_eq!(daemon.unit("deaf")["state"]["grace"], 600.0);
    let start = daemon.post("deaf", "start");
    let kill = daemon.post("deaf", "kill");
    daemon.comes_to(&kill, "succeeded");
    daemon.comes_to(&start, "cancelled");
    crate::harness::finish(stop).exits(0).says("deaf stopped");
    until("it is stopped", || daemon.state("deaf") == "stopped");
    project.run(&["down"]).exits(0);
}

fn a_crash_loop(_: &Place) {
    let project = project();
    project.run(&["up", "--no-daemon", "crash"]).exits(0);
    let daemon = Daemon::start(&project, &[]);
    until("it waits", || daemon.unit("crash")["state"]["attempt"] == 3);
    let unit = daemon.unit("crash");
    assert_eq!(unit["state"]["state"], "back_off", "{unit}");
    assert!(unit["button"]["label"].as_str().unwrap().starts_with("Retry now ("), "{unit}");
    assert!(unit["button"]["post"].as_str().unwrap().ends_with("/retry"), "{unit}");
    let retry = daemon.post("crash", "retry");
    daemon.comes_to(&retry, "succeeded");
    until("it waits anew", || {
        let state = daemon.unit("crash");
        state["state"]["state"] == "back_off" && state["state"]["attempt"] == 2
    });
    let metrics = daemon.try_get("/metrics").unwrap();
    assert!(
        metrics.header("content-type").unwrap().starts_with("application/openmetrics-text"),
        "{metrics:?}"
    );
    let figures: Vec<_> = metrics.body.lines().filter(|line| !line.starts_with('#')).collect();
    for line in &figures {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(name.starts_with("setpoint_") && value.parse::<f64>().is_ok(), "{line}");
    }
    assert!(
        figures.iter().any(|line| line.starts_with("setpoint_units{state=\"back_off\"} 1")),
        "{figures:?}"
    );
    let has = |name: &str| figures.iter().any(|line| line.starts_with(name));
    assert!(has("setpoint_acts_total{") && has("setpoint_reconcile_seconds_bucket{"), "{figures:?}");
    let said = project.run(&["daemon", "status"]);
    said.exits(0).says("api.sock").says("1 back-off");
    project.run(&["down"]).exits(0);
}

fn the_next_daemon(_: &Place) {
    let project = project();
    project.run(&["up", "--no-daemon", "deaf"]).exits(0);
    let daemon = Daemon::start(&project, &[]);
    until("it is looked at", || daemon.state("deaf") == "running");
    let stop = daemon.post("deaf", "stop");
    until("it is being stopped", || daemon.state("deaf") == "stopping");
    let restart = daemon.post("deaf", "restart");
    daemon.kill();
    // The wish is what counts: what was asked for last is done, and the other one says that it was not.
    let daemon = Daemon::start(&project, &[]);
    daemon.comes_to(&stop, "cancelled");
    daemon.comes_to(&restart, "succeeded");
    until("it began again", || lines(&project, "deaf") == 2);
    let kill = daemon.post("deaf", "kill");
    daemon.comes_to(&kill, "succeeded");
    assert!(!daemon.get("/v1/operations")["operations"].as_array().unwrap().is_empty());
    project.run(&["down"]).exits(0);
}

fn what_needs_the_manifest(_: &Place) {
    let project = project();
    project.run(&["up", "--no-daemon", "quick"]).exits(0);
    let daemon = Daemon::start(&project, &[]);
    until("it is looked at", || daemon.state("quick") == "running");
    let id = daemon.unit("quick")["id"].as_str().unwrap().to_owned();
    assert_eq!(daemon.get(&format!("/v1/units/{id}/logs?tail=5"))["lines"], serde_json::json!(["began"]));
    assert_eq!(daemon.get(&format!("/v1/units/{id}/why"))["changes"], serde_json::json!([]));
    project.edit("compose.yaml", "echo began; exec sleep", "echo again; exec sleep");
    let why = daemon.get(&format!("/v1/units/{id}/why"));
    assert_eq!(why["changes"].as_array().map(Vec::len), Some(1), "{why}");
    let up = daemon.post("quick", "up");
    daemon.comes_to(&up, "succeeded");
    until("it says so", || {
        daemon.get(&format!("/v1/units/{id}/logs"))["lines"] == serde_json::json!(["began", "again"])
    });
    let happened = daemon.get("/v1/events?follow=false").to_string();
    assert!(happened.contains("\"output\""), "{happened}");
    project.run(&["events"]).exits(0).says(&format!("shop/quick  operation {up} succeeded"));
    until("that is told", || project.run(&["events"]).stdout.contains("shop/quick  running"));
    project.run(&["restart", "quick"]).exits(0).says("quick runs again");
    until("it began again", || lines(&project, "quick") == 3);
    // What was done to a unit that is gone is told all the same.
    let down = daemon.post("quick", "down");
    daemon.comes_to(&down, "succeeded");
    until("it is gone", || daemon.get("/v1/units")["units"].as_array().is_some_and(Vec::is_empty));
    let answer = daemon.try_get(&format!("/v1/units/{id}")).unwrap();
    assert_eq!((answer.status, answer.error().as_str()), (404, "no-unit"));
}

fn what_is_cancelled(_: &Place) {
    let project = project();
    project.edit("compose.yaml", "stop_grace_period: 10m", "stop_grace_period: 5s");
    project.run(&["up", "--no-daemon", "deaf"]).exits(0);
    let daemon = Daemon::start(&project, &[]);
    until("it is looked at", || daemon.state("deaf") == "running");
    let stop = daemon.post("deaf", "stop");
    until("it is being stopped", || daemon.state("deaf") == "stopping");
    // What has not begun is over at once.
    let start = daemon.post("deaf", "start");
    assert_eq!(daemon.cancel(&start), 202);
    assert_eq!(daemon.operation(&start)["state"], "cancelled");
    daemon.comes_to(&stop, "succeeded");
    until("it stays stopped", || daemon.state("deaf") == "stopped");
    assert_eq!(daemon.unit("deaf")["wanted"], "stopped");
    let start = daemon.post("deaf", "start");
    daemon.comes_to(&start, "succeeded");
    // What is asked to end cannot be kept from it; it runs again after that.
    let stop = daemon.post("deaf", "stop");
    until("it is being stopped again", || daemon.state("deaf") == "stopping");
    assert_eq!((daemon.cancel(&stop), daemon.cancel(&stop)), (202, 202));
    daemon.comes_to(&stop, "cancelled");
    until("it runs again", || daemon.state("deaf") == "running" && lines(&project, "deaf") == 3);
    assert_eq!(daemon.unit("deaf")["wanted"], "up");
    let id = daemon.unit("deaf")["id"].as_str().unwrap().to_owned();
    // A command that works for the API.
    project.write("setpoint.toml", "setpoint = 1\n[stack]\ncompose = \"compose.yaml\"\n[service.slow]\nbase = \"host\"\ncommand = \"sleep 100000\"\nhooks = { post_create = \"true\" }\n");
    project.run(&["up", "--no-daemon", "slow"]).exits(0);
    project.edit("setpoint.toml", "post_create = \"true\"", "post_create = \"sleep 100000\"");
    let up = daemon.post("slow", "up");
    until("it works", || {
        daemon.operation(&up)["state"] == "running"
            && project.run(&["status"]).stdout.contains("Now: up slow")
    });
    assert_eq!((daemon.cancel(&up), daemon.cancel(&up)), (202, 202));
    daemon.comes_to(&up, "cancelled");
    assert_eq!(daemon.cancel(&up), 202);
    // One in a terminal, by what the button of its unit asks.
    let terminal = project.start(&mut project.command(&["up", "slow"]));
    until("it works there", || project.run(&["status"]).stdout.contains("Now: up slow"));
    daemon.post("slow", "cancel");
    crate::harness::finish(terminal).exits(130);
    assert_eq!(daemon.cancel("nonsense"), 404);
    let path = format!("/v1/units/{id}/cancel");
    let nothing = Answer::to(daemon.connect().unwrap(), &request("POST", &path, &[])).unwrap();
    assert_eq!((nothing.status, nothing.error().as_str()), (409, "not-cancelled"));
    let kill = daemon.post("deaf", "kill");
    daemon.comes_to(&kill, "succeeded");
    project.run(&["down"]).exits(0);
}

const TRACKED: &str = r#"setpoint = 1
[env.dev]
base = "host"
packs = ["tools"]
hooks = { post_create = { run = "true", inputs = ["src/**/*.txt"] } }
[service.web]
base = "host"
command = "sleep 100000"
"#;

fn a_change_of_a_file(_: &Place) {
    let project = Project::new(TRACKED);
    project.write(".setpoint/packs/tools.sh", "echo tools");
    project.write("src/deep/a.txt", "a");
    project.run(&["up", "--no-daemon"]).exits(0);
    let daemon = Daemon::start(&project, &[]);
    let changes = |unit: &str| daemon.unit(unit)["drift"]["changes"].as_u64();
    until("both were looked at", || changes("dev") == Some(0) && changes("web") == Some(0));
    assert_eq!(daemon.unit("dev")["drift"]["out_of_date"], false);
    // The environment is nobody's to keep, and is watched as what is kept.
    project.write(".setpoint/packs/tools.sh", "echo other tools");
    until("a pack", || changes("dev") == Some(1));
    project.write("src/new/b.txt", "b");
    until("an input in a folder that is new", || changes("dev") == Some(2));
    assert_eq!(daemon.unit("dev")["button"]["label"], "Update");
    assert_eq!(changes("web"), Some(0));
    project.write("setpoint.local.toml", "[service.web]\ncommand = \"sleep 100001\"\n");
    until("a layer that was not there", || changes("web") == Some(1));
    project.write("setpoint.toml", "setpoint = [");
    until("what cannot be read", || daemon.unit("web")["drift"]["unreadable"].is_string());
    assert_eq!(daemon.unit("web")["button"]["label"], "Stop");
    // An editor that puts another file in the place of the old one.
    project.write("setpoint.toml.new", TRACKED);
    std::fs::rename(project.root.join("setpoint.toml.new"), project.root.join("setpoint.toml")).unwrap();
    until("what can be read again", || changes("web") == Some(1));
    project.run(&["up", "--no-daemon"]).exits(0);
    until("what was brought up", || changes("dev") == Some(0) && changes("web") == Some(0));
    let said = project.run(&["events"]);
    said.exits(0).says("shop/dev  is out of date: 2 changes").says("shop/web  is as declared");
    said.says("shop/web  what is declared cannot be read");
    let tracked = project.run(&["status", "--json", "--tracked"]);
    assert!(tracked.stdout.contains("\"_lib.sh\""), "{}", tracked.stdout);
    project.run(&["down"]).exits(0);
}

/// Reads events from here on until one says this; gives the id of that one, and the ids before it.
fn read_until(daemon: &Daemon<'_>, after: &str, words: &str) -> (String, Vec<String>) {
    let mut stream = daemon.connect().unwrap();
    let headers = [("Last-Event-ID", after)];
    stream.write_all(request("GET", "/v1/events", &headers).as_bytes()).unwrap();
    let (mut ids, mut id) = (Vec::new(), String::new());
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        if let Some(text) = line.strip_prefix("id: ") {
            id = text.to_owned();
        } else if line.starts_with("data: ") && line.contains(words) {
            return (id, ids);
        } else if line == "event: gap" {
            ids.push("gap".to_owned());
        } else if line.starts_with("data: ") && !id.is_empty() {
            ids.push(std::mem::take(&mut id));
        }
    }
    panic!("the events ended before `{words}`");
}

fn a_reader_of_events(_: &Place) {
    let project = project();
    project.run(&["up", "--no-daemon", "quick"]).exits(0);
    let daemon = Daemon::start(&project, &[]);
    until("it is looked at", || daemon.state("quick") == "running");
    until("that is told", || daemon.get("/v1/events?follow=false").to_string().contains("\"state\""));
    let stop = daemon.post("quick", "stop");
    daemon.comes_to(&stop, "succeeded");
    let (at, before) = read_until(&daemon, "0", &stop);
    assert!(!before.is_empty() && !before.contains(&"gap".to_owned()), "{before:?}");
    let start = daemon.post("quick", "start");
    let (_, between) = read_until(&daemon, &at, &start);
    assert!(between.iter().all(|id| !before.contains(id) && *id != at && id != "gap"), "{between:?}");
    daemon.comes_to(&start, "succeeded");
    daemon.kill();
    // Another daemon does not know what this one's reader has missed, and says so.
    let daemon = Daemon::start(&project, &[]);
    let (_, missed) = read_until(&daemon, &at, "\"state\":\"running\"");
    assert_eq!(missed.first().map(String::as_str), Some("gap"), "{missed:?}");
    project.run(&["down"]).exits(0);
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn the_address(_: &Place) {
    let project = project();
    let refused = project.run(&["daemon", "run", "--listen", "0.0.0.0:7070"]);
    refused.exits(2).says("0.0.0.0:7070 can be reached from outside");
    let daemon = Daemon::start(&project, &[]);
    // It takes one when somebody wants to look, and keeps it.
    let address = || project.run(&["open"]).exits(0).stdout.split_once("/open?link=").unwrap().0.to_owned();
    let taken = address();
    assert_eq!(taken, address());
    let taken = taken.strip_prefix("http://").unwrap();
    let stranger =
        Answer::to(TcpStream::connect(taken).unwrap(), &request("GET", "/v1/units", &[("Host", taken)]));
    assert_eq!(stranger.unwrap().error(), "token-missing");
    daemon.kill();
    project.run(&["open"]).exits(5).says("no daemon runs");

    let host = format!("127.0.0.1:{}", free_port());
    let daemon = Daemon::start(&project, &["--listen", &host]);
    let ask = |method: &str, path: &str, headers: &[(&str, &str)]| {
        let stream = TcpStream::connect(&host).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Answer::to(stream, &request(method, path, &[headers, &[("Host", &host)]].concat())).unwrap()
    };
    let refusal = |answer: Answer| (answer.status, answer.error());
    let file = project.state().join("api.token");
    for private in [&file, &project.state().join("api.sock")] {
        assert_eq!(std::fs::metadata(private).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let token = format!("Bearer {}", std::fs::read_to_string(&file).unwrap().trim());
    let token = ("Authorization", token.as_str());
    assert_eq!(refusal(ask("GET", "/v1/units", &[])), (401, "token-missing".to_owned()));
    assert_eq!(refusal(ask("GET", "/metrics", &[])), (401, "token-missing".to_owned()));
    let wrong = ("Authorization", "Bearer wrong");
    assert_eq!(refusal(ask("GET", "/v1/units", &[wrong])), (401, "token-wrong".to_owned()));
    assert_eq!(ask("GET", "/v1/units", &[token]).status, 200);
    let origin = ("Origin", "http://evil.example");
    assert_eq!(refusal(ask("GET", "/v1/units", &[token, origin])), (403, "origin".to_owned()));
    let rebound = request("GET", "/v1/units", &[("Host", "evil.example"), token]);
    let rebound = Answer::to(TcpStream::connect(&host).unwrap(), &rebound).unwrap();
    assert_eq!(refusal(rebound), (421, "host".to_owned()));

    let link = project.run(&["open"]);
    link.exits(0).says(&format!("http://{host}/open?link="));
    let path = link.stdout.trim().strip_prefix(&format!("http://{host}")).unwrap().to_owned();
    let entered = ask("GET", &path, &[]);
    assert_eq!(entered.status, 303, "{entered:?}");
    let cookie = entered.header("set-cookie").unwrap().to_owned();
    assert!(cookie.contains("httponly") && cookie.contains("samesite=strict"), "{cookie}");
    assert_eq!(refusal(ask("GET", &path, &[])), (403, "link-used".to_owned()));
    assert_eq!(refusal(ask("GET", "/open?link=wrong", &[])), (403, "link-wrong".to_owned()));
    let cookie = ("Cookie", cookie.split(';').next().unwrap());
    assert_eq!(ask("GET", "/v1/units", &[cookie]).status, 200);
    assert_eq!(refusal(ask("POST", "/v1/links", &[cookie])), (403, "csrf".to_owned()));
    let session = ask("GET", "/v1/session", &[cookie]).json();
    let csrf = ("X-CSRF-Token", session["csrf"].as_str().unwrap());
    assert_eq!(ask("POST", "/v1/links", &[cookie, csrf]).status, 201);
    assert_eq!(ask("GET", "/healthz", &[]).status, 200);
    drop(daemon);
}

fn what_is_too_much(_: &Place) {
    let project = project();
    let daemon = Daemon::start(&project, &[]);
    let large = "x".repeat(1 << 20);
    let ask = |request: &str| Answer::to(daemon.connect().unwrap(), request).unwrap();
    let told = format!("POST /v1/links HTTP/1.1\r\nHost: s\r\nContent-Length: {}\r\n\r\n", 1_u64 << 30);
    assert_eq!((ask(&told).status, ask(&told).error().as_str()), (413, "too-large"));
    let untold = "POST /v1/links HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(ask(&format!("{untold}100000\r\n{large}\r\n0\r\n\r\n")).status, 413);
    let head = format!("GET /v1/units HTTP/1.1\r\nHost: s\r\nX-Large: {large}\r\n\r\n");
    assert_eq!(ask(&head).status, 431);
    // Of many who listen for events, so many are served, and the others are told to come later.
    let mut served = Vec::new();
    let mut refused = None;
    for _ in 0..300 {
        let mut stream = daemon.connect().unwrap();
        stream.write_all(request("GET", "/v1/events", &[]).as_bytes()).unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        match &head {
            b"HTTP/1.1 200" => served.push(stream),
            b"HTTP/1.1 503" => refused = Some(stream),
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
    }
    assert_eq!(served.len(), 256);
    let mut rest = String::new();
    refused.unwrap().read_to_string(&mut rest).unwrap();
    assert!(rest.to_lowercase().contains("retry-after: "), "{rest}");
    assert!(daemon.get("/v1/units")["units"].is_array(), "others are served meanwhile");
    drop(served);
    until("there is room again", || {
        let metrics = daemon.try_get("/metrics").unwrap();
        metrics.body.lines().any(|line| line == "setpoint_streams 0")
    });
    for nonsense in
        ["GET / HTTP/9.9\r\n\r\n", "\r\n\r\n", "NONSENSE\r\n\r\n", "GET /v1/units?tail=%ff HTTP/1.1\r\n\r\n"]
    {
        daemon.connect().unwrap().write_all(nonsense.as_bytes()).unwrap();
    }
    let answer = daemon.try_get("/v1/units/x/logs?tail=many").unwrap();
    assert_eq!((answer.status, answer.error().as_str()), (400, "query"));
    assert!(daemon.get("/v1/operations")["operations"].as_array().unwrap().is_empty());
}
