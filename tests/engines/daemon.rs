//! Services that a daemon keeps, on the embedded engine, through the binary itself.

use std::process::Child;

use crate::docker::Scenario;
use crate::harness::{Project, until};
use crate::place::Place;
use crate::stacks;

pub const ON_THE_EMBEDDED_ENGINE: &[Scenario] = &[
    ("what_ends_is_started_again_as_its_policy_says", what_ends_is_started_again),
    ("what_crashes_again_and_again_waits_longer_and_longer", what_crashes_again_and_again),
    ("what_the_user_stopped_stays_stopped", what_the_user_stopped),
    ("services_outlive_the_daemon_and_the_next_one_goes_on", services_outlive_the_daemon),
    ("what_is_unwell_is_restarted_and_found_by_its_name", what_is_unwell_is_restarted),
];

const STACK: &str = r#"
name: kept
services:
  db:
    image: IMAGE
    network_mode: host
    user: root
    restart: always
    command: ["sh", "-c", "echo began; exec sleep 100000"]
  job:
    image: IMAGE
    network_mode: host
    user: root
    restart: on-failure
    command: ["sh", "-c", "echo ran; test -e /once || { : > /once; exit 3; }"]
  alone:
    image: IMAGE
    network_mode: host
    user: root
    command: ["sh", "-c", "echo began; exec sleep 100000"]
"#;

const UNWELL: &str = r#"
name: unwell
services:
  web:
    image: IMAGE
    user: root
    restart: always
    command: ["sh", "-c", ": > /well; echo began; exec busybox httpd -f -p 8000 -h /"]
    healthcheck: { test: "[ -e /well ]", interval: 300ms, retries: 1 }
  client:
    image: IMAGE
    user: root
    command: ["sleep", "100000"]
    depends_on: { web: { condition: service_healthy } }
"#;

fn what_is_unwell_is_restarted(_: &Place) {
    let project = project(UNWELL);
    project.up();
    let page =
        || project.run(&["exec", "client", "--", "busybox", "wget", "-qO-", "http://web:8000/note"]).stdout;
    until("the page is there", || page() == "kept");
    let _daemon = Daemon::start(&project);
    project.run(&["exec", "web", "--", "busybox", "rm", "/well"]).exits(0);
    until("it began again", || lines(&project, "web") == 2);
    until("the page is there again", || page() == "kept");
    project.run(&["exec", "web", "--", "busybox", "killall", "-9", "busybox"]);
    until("it began once more", || lines(&project, "web") == 3);
    until("the page is there once more", || page() == "kept");
    project.run(&["status", "web"]).exits(0).says("start (it ended with exit");
    project.run(&["down"]).exits(0);
}

fn project(stack: &str) -> Project {
    let project = Project::new("setpoint = 1\n[stack]\ncompose = \"compose.yaml\"\n");
    let image = stacks::image(&project, "kept");
    project.write("compose.yaml", &stack.replace("IMAGE", &image.to_string_lossy()));
    project
}

/// A daemon that ends with its test.
struct Daemon(Child);

impl Daemon {
    fn start(project: &Project) -> Self {
        let child = project.start(&mut project.command(&["daemon", "run"]));
        until("a daemon runs", || project.run(&["daemon", "status"]).code == 0);
        Self(child)
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lines(project: &Project, unit: &str) -> usize {
    project.run(&["logs", unit]).stdout.lines().count()
}

/// Kills a service's process from inside.
fn kill(project: &Project, unit: &str) {
    // What kills it ends with it.
    project.run(&["exec", unit, "--", "killall", "-9", "sleep"]);
}

fn what_ends_is_started_again(_: &Place) {
    let project = project(STACK);
    project.run(&["daemon", "status"]).exits(5).says("no daemon runs");
    project.up().says("`db` is started again only while `setpoint daemon run` runs").says_not("`alone`");
    let daemon = Daemon::start(&project);
    project.run(&["daemon", "run"]).exits(8).says("a daemon runs on this state already");
    project.run(&["uninstall", "--yes"]).exits(8).says("end `setpoint daemon run` first");
    until("the job has failed and ended well", || lines(&project, "job") == 2);
    for round in 2..5 {
        kill(&project, "db");
        until("it began again", || lines(&project, "db") == round);
    }
    let status = project.run(&["status"]);
    status.exits(0).says("completed").says("start (it ended with exit");
    kill(&project, "alone");
    until("it has ended", || project.run(&["status", "alone"]).stdout.contains("stopped"));
    assert_eq!(lines(&project, "alone"), 1);
    project.run(&["up"]).exits(0).says("db: nothing to do").says_not("is started again only while");
    drop(daemon);
    project.run(&["down"]).exits(0);
}

fn what_crashes_again_and_again(_: &Place) {
    let stack = STACK.replace("echo began; exec sleep 100000", "echo began; exit 9");
    let project = project(&stack);
    project.run(&["up", "db"]).exits(0);
    let _daemon = Daemon::start(&project);
    until("it waits", || project.run(&["status", "db"]).stdout.contains("back-off (try 2 in "));
    assert_eq!(lines(&project, "db"), 2, "the first try came at once");
    until("it waits again", || project.run(&["status", "db"]).stdout.contains("back-off (try 3 in "));
    assert_eq!(lines(&project, "db"), 3);
    // The user's word forgives: it begins anew.
    project.run(&["up", "db"]).exits(0);
    until("it waits anew", || project.run(&["status", "db"]).stdout.contains("back-off (try 2 in "));
    project.run(&["down"]).exits(0);
}

fn what_the_user_stopped(_: &Place) {
    let project = project(STACK);
    project.run(&["up", "db"]).exits(0);
    let daemon = Daemon::start(&project);
    project.run(&["stop", "db"]).exits(0);
    daemon.kill();
    // Also after the daemon has come back.
    let _daemon = Daemon::start(&project);
    std::thread::sleep(std::time::Duration::from_millis(500));
    project.run(&["status", "db"]).exits(0).says("stopped");
    assert_eq!(lines(&project, "db"), 1);
    project.run(&["up", "db"]).exits(0);
    kill(&project, "db");
    until("it began again", || lines(&project, "db") == 3);
    project.run(&["down", "db"]).exits(0);
    std::thread::sleep(std::time::Duration::from_millis(500));
    project.run(&["status", "db"]).exits(0).says("absent");
}

fn services_outlive_the_daemon(_: &Place) {
    let project = project(STACK);
    project.run(&["up", "db"]).exits(0);
    for round in 2..6 {
        Daemon::start(&project).kill();
        project.run(&["status", "db"]).exits(0).says("running");
        kill(&project, "db");
        let daemon = Daemon::start(&project);
        until("it began again", || lines(&project, "db") >= round);
        daemon.kill();
        // The user's word forgives what was told of the crashes.
        project.run(&["up", "db"]).exits(0);
    }
    project.run(&["down"]).exits(0);
}
