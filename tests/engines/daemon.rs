//! Services that a daemon keeps, through the binary itself.

use std::fs;

use crate::docker::Scenario;
use crate::harness::{Project, until};
use crate::leaks;
use crate::place::{Kind, Place};
use crate::stacks;

pub const ON_THE_EMBEDDED_ENGINE: &[Scenario] = &[
    ("what_ends_is_started_again_as_its_policy_says", |place| {
        what_ends_is_started_again(place, Kind::Embedded)
    }),
    ("what_crashes_again_and_again_waits_longer_and_longer", |place| crashes(place, Kind::Embedded)),
    ("what_the_user_stopped_stays_stopped", |place| what_the_user_stopped(place, Kind::Embedded)),
    ("services_outlive_the_daemon_and_the_next_one_goes_on", |place| outlive(place, Kind::Embedded)),
    ("what_is_unwell_is_restarted_and_found_by_its_name", |place| unwell(place, Kind::Embedded)),
    ("a_daemon_is_there_while_it_is_needed", a_daemon_is_there_while_it_is_needed),
    ("after_a_restart_of_the_machine_all_is_as_declared", after_a_restart_of_the_machine),
    ("a_stop_that_was_cut_off_is_brought_to_its_end", a_stop_that_was_cut_off),
    ("a_daemon_that_waits_for_a_stop_ends_when_it_is_asked", a_daemon_that_waits_for_a_stop),
];

pub const ON_DOCKER: &[Scenario] = &[
    ("what_ends_is_started_again_as_its_policy_says", |place| {
        what_ends_is_started_again(place, Kind::Docker)
    }),
    ("what_crashes_again_and_again_waits_longer_and_longer", |place| crashes(place, Kind::Docker)),
    ("what_the_user_stopped_stays_stopped", |place| what_the_user_stopped(place, Kind::Docker)),
    ("services_outlive_the_daemon_and_the_next_one_goes_on", |place| outlive(place, Kind::Docker)),
    ("what_is_unwell_is_restarted_and_found_by_its_name", |place| unwell(place, Kind::Docker)),
];

pub const ON_PODMAN: &[Scenario] = &[
    ("what_ends_is_started_again_as_its_policy_says", |place| {
        what_ends_is_started_again(place, Kind::Podman)
    }),
    ("what_the_user_stopped_stays_stopped", |place| what_the_user_stopped(place, Kind::Podman)),
];

const STACK: &str = r#"
name: kept
services:
  db:
    image: IMAGE
    network_mode: host
    user: root
    init: true
    restart: always
    command: ["sh", "-c", "echo began; exec sleep 100000"]
  job:
    image: IMAGE
    network_mode: host
    user: root
    init: true
    restart: on-failure
    command: ["sh", "-c", "echo ran; test -e /once || { : > /once; exit 3; }"]
  alone:
    image: IMAGE
    network_mode: host
    user: root
    init: true
    command: ["sh", "-c", "echo began; exec sleep 100000"]
"#;

const UNWELL: &str = r#"
name: unwell
services:
  web:
    image: IMAGE
    user: root
    init: true
    restart: always
    command: ["sh", "-c", ": > /well; echo began; exec busybox httpd -f -p 8000 -h /"]
    healthcheck: { test: "[ -e /well ]", interval: 300ms, retries: 1 }
  client:
    image: IMAGE
    user: root
    command: ["sleep", "100000"]
    depends_on: { web: { condition: service_healthy } }
"#;

const ORDERED: &str = r#"
name: ordered
services:
  db:
    image: IMAGE
    user: root
    restart: always
    command: ["sh", "-c", "rm -f /well; sleep 1; echo db >> /log/all; : > /well; exec sleep 100000"]
    healthcheck: { test: "[ -e /well ]", interval: 200ms, retries: 100 }
    volumes: ["log:/log"]
  web:
    image: IMAGE
    user: root
    restart: always
    command: ["sh", "-c", "echo web >> /log/all; exec sleep 100000"]
    depends_on: { db: { condition: service_healthy } }
    volumes: ["log:/log"]
  off:
    image: IMAGE
    user: root
    restart: always
    command: ["sh", "-c", "echo off >> /log/all; exec sleep 100000"]
    depends_on: { web: { condition: service_started } }
    volumes: ["log:/log"]
volumes: { log: {} }
"#;

fn after_a_restart_of_the_machine(place: &Place) {
    let project = project(place, Kind::Embedded, ORDERED);
    project.up();
    let told = || project.run(&["exec", "web", "--", "cat", "/log/all"]).stdout;
    until("all have begun", || told() == "db\nweb\noff\n");
    project.run(&["stop", "off"]).exits(0);
    loses_power(&project);
    project.run(&["status"]).exits(0).says_not("running");
    let mut child = project.start(&mut project.command(&["daemon", "run"]));
    until("all is as declared", || told() == "db\nweb\noff\ndb\nweb\n");
    project.run(&["status", "off"]).exits(0).says("stopped");
    project.run(&["up", "off"]).exits(0);
    until("it has begun again", || told() == "db\nweb\noff\ndb\nweb\noff\n");
    project.run(&["daemon", "stop"]).exits(0);
    assert!(child.wait().unwrap().success());
    project.run(&["down", "--volumes", "--yes"]).exits(0);
}

pub fn project(place: &Place, kind: Kind, stack: &str) -> Project {
    let engine = format!("[engine]\ndefault = \"{}\"\n", kind.name());
    let mut project = Project::new(&format!("{}{engine}", stacks::HEAD));
    match kind {
        Kind::Docker => project.set("DOCKER_HOST", &place.host(kind)),
        Kind::Podman => project.set("CONTAINER_HOST", &place.host(kind)),
        Kind::Embedded | Kind::Repeating => {}
    }
    place.engine(kind);
    let image = stacks::image(&project, "kept");
    let stack = stack.replace("IMAGE", &image.to_string_lossy());
    // Podman's own first process is a package of its own.
    let shell = "trap 'exit 0' TERM; sleep 100000 & wait $$!; exit 9";
    let without_init = || stack.replace("    init: true\n", "").replace("exec sleep 100000", shell);
    project.write("compose.yaml", &if kind == Kind::Podman { without_init() } else { stack });
    project
}

/// Heeds no request to end.
const STUBBORN: &str = r#"
name: stubborn
services:
  db:
    image: IMAGE
    network_mode: host
    user: root
    restart: always
    stop_grace_period: GRACE
    command: ["sh", "-c", "trap '' TERM; echo began; while :; do sleep 4711; done"]
"#;

fn still_runs(project: &Project) -> bool {
    let place = project.state().parent().unwrap().to_owned();
    leaks::processes(&place).iter().any(|(_, line)| line.contains("sleep 4711"))
}

fn a_stop_that_was_cut_off(place: &Place) {
    let project = project(place, Kind::Embedded, &STUBBORN.replace("GRACE", "3s"));
    project.up();
    until("it has begun", || lines(&project, "db") == 1);
    for with_daemon in [true, false] {
        let mut stop = project.start(&mut project.command(&["stop", "db"]));
        until("it is being stopped", || project.run(&["status", "db"]).stdout.contains("stopping"));
        if !with_daemon {
            project.run(&["daemon", "stop"]).exits(0);
        }
        stop.kill().unwrap();
        stop.wait().unwrap();
        if !with_daemon {
            // That nobody waits for it any more is no end.
            project.run(&["status", "db"]).exits(0).says("stopping");
            assert!(still_runs(&project));
            project.run(&["daemon", "status"]).exits(5);
            let mut child = project.start(&mut project.command(&["daemon", "run"]));
            until("it has ended", || !still_runs(&project));
            project.run(&["daemon", "stop"]).exits(0);
            child.wait().unwrap();
        }
        until("it has ended", || !still_runs(&project));
        project.run(&["status", "db"]).exits(0).says("stopped");
        project.run(&["up"]).exits(0);
        until("it runs again", || still_runs(&project));
    }
    project.run(&["down"]).exits(0);
}

fn a_daemon_that_waits_for_a_stop(place: &Place) {
    let project = project(place, Kind::Embedded, &STUBBORN.replace("GRACE", "300s"));
    project.up();
    // The daemon goes on with what was cut off, and waits for it.
    let mut stop = project.start(&mut project.command(&["stop", "db"]));
    until("it is being stopped", || project.run(&["status", "db"]).stdout.contains("stopping"));
    stop.kill().unwrap();
    stop.wait().unwrap();
    until("the daemon stops it", || project.run(&["status", "db"]).stdout.contains("stopping (killed in"));
    project.run(&["daemon", "stop"]).exits(0).says("the daemon has ended");
    project.run(&["status", "db"]).exits(0).says("stopping");
    // What is asked for now does not wait for who has gone.
    project.run(&["up"]).exits(0);
    until("it has begun again", || lines(&project, "db") == 2);
    project.edit("compose.yaml", "300s", "1s");
    project.run(&["down"]).exits(0);
}

/// Leaves of a project what a machine leaves that lost its power: files, of an earlier boot.
fn loses_power(project: &Project) {
    let place = project.state().parent().unwrap().to_owned();
    kill_daemon(project);
    leaks::kill(&place, false);
    until("no process is left", || leaks::processes(&place).is_empty());
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    for unit in fs::read_dir(project.state().join("units/v1")).unwrap() {
        for file in fs::read_dir(unit.unwrap().path()).unwrap().map(|file| file.unwrap().path()) {
            let text = fs::read_to_string(&file).unwrap_or_default();
            if text.contains(boot.trim()) {
                let earlier = "00000000-0000-0000-0000-000000000000";
                fs::write(&file, text.replace(boot.trim(), earlier)).unwrap();
            }
        }
    }
}

/// The process that is the daemon of a project's state.
fn daemon(project: &Project) -> rustix::process::Pid {
    let path = project.state().join("daemon.lock");
    // One that has only just begun has not said who it is.
    let pid = || fs::read_to_string(&path).ok()?.trim().parse().ok();
    let is_one = |pid: i32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains("daemon")
    };
    until("there is a daemon", || pid().is_some_and(is_one));
    rustix::process::Pid::from_raw(pid().unwrap()).unwrap()
}

pub fn kill_daemon(project: &Project) {
    rustix::process::kill_process(daemon(project), rustix::process::Signal::KILL).unwrap();
    until("no daemon runs", || project.run(&["daemon", "status"]).code == 5);
}

/// How often a service has begun.
fn lines(project: &Project, unit: &str) -> usize {
    // A shell tells of what was killed below it.
    project.run(&["logs", unit]).stdout.lines().filter(|line| *line != "Killed").count()
}

/// Kills a service's process from inside.
fn kill(project: &Project, unit: &str) {
    // What kills it ends with it.
    project.run(&["exec", unit, "--", "killall", "-9", "sleep"]);
}

fn a_daemon_is_there_while_it_is_needed(place: &Place) {
    let project = project(place, Kind::Embedded, STACK);
    project.run(&["daemon", "status"]).exits(5).says("no daemon runs");
    project.run(&["daemon", "stop"]).exits(0).says("no daemon runs");
    // Nothing is to be kept of what is never started again.
    project.run(&["up", "alone"]).exits(0);
    project.run(&["daemon", "status"]).exits(5);
    project.run(&["up", "db", "--no-daemon"]).exits(0);
    project.run(&["daemon", "status"]).exits(5);
    project.run(&["up", "db"]).exits(0).says("nothing to do");
    project.run(&["daemon", "status"]).exits(0).says("a daemon runs");
    project.run(&["daemon", "run"]).exits(8).says("a daemon runs on this state already");
    let first = daemon(&project);
    project.run(&["up"]).exits(0);
    assert_eq!(daemon(&project), first);
    project.run(&["stop", "db"]).exits(0);
    project.run(&["daemon", "status"]).exits(0);
    project.run(&["daemon", "stop"]).exits(0).says("the daemon has ended");
    project.run(&["daemon", "status"]).exits(5);
    project.run(&["up"]).exits(0);
    assert_ne!(daemon(&project), first);
    project.run(&["down"]).exits(0);
    until("it ends by itself", || project.run(&["daemon", "status"]).code == 5);
    // One that was killed leaves nothing either that stays.
    project.run(&["up", "db"]).exits(0);
    kill_daemon(&project);
    project.run(&["uninstall", "--yes"]).exits(0);
    assert!(!project.state().exists());
}

fn what_ends_is_started_again(place: &Place, kind: Kind) {
    let project = project(place, kind, STACK);
    project.up();
    until("the job has failed and ended well", || lines(&project, "job") == 2);
    for round in 2..5 {
        kill(&project, "db");
        until("it began again", || lines(&project, "db") == round);
    }
    let status = project.run(&["status"]);
    status.exits(0).says("completed").says("start (it ended with exit");
    kill(&project, "alone");
    until("it has ended", || !project.run(&["status", "alone"]).stdout.contains("running"));
    assert_eq!(lines(&project, "alone"), 1);
    project.run(&["up"]).exits(0).says("db: nothing to do");
    project.run(&["down"]).exits(0);
}

fn crashes(place: &Place, kind: Kind) {
    let stack = STACK.replace("echo began; exec sleep 100000", "echo began; exit 9");
    let project = project(place, kind, &stack);
    project.run(&["up", "db"]).exits(0);
    until("it waits", || project.run(&["status", "db"]).stdout.contains("back-off (try 2 in "));
    assert_eq!(lines(&project, "db"), 2, "the first try came at once");
    until("it waits again", || project.run(&["status", "db"]).stdout.contains("back-off (try 3 in "));
    assert_eq!(lines(&project, "db"), 3);
    // The user's word forgives: it begins anew.
    project.run(&["up", "db"]).exits(0);
    until("it waits anew", || project.run(&["status", "db"]).stdout.contains("back-off (try 2 in "));
    project.run(&["down"]).exits(0);
}

fn what_the_user_stopped(place: &Place, kind: Kind) {
    let project = project(place, kind, STACK);
    project.run(&["up", "db", "job"]).exits(0);
    project.run(&["stop", "db"]).exits(0);
    kill_daemon(&project);
    // Also after the daemon has come back.
    project.run(&["up", "job"]).exits(0);
    std::thread::sleep(std::time::Duration::from_millis(500));
    project.run(&["status", "db"]).exits(0).says("stopped");
    assert_eq!(lines(&project, "db"), 1);
    project.run(&["up", "db"]).exits(0);
    kill(&project, "db");
    until("it began again", || lines(&project, "db") == 3);
    project.run(&["down", "db"]).exits(0);
    std::thread::sleep(std::time::Duration::from_millis(500));
    project.run(&["status", "db"]).exits(0).says("absent");
    project.run(&["down"]).exits(0);
}

fn outlive(place: &Place, kind: Kind) {
    let project = project(place, kind, STACK);
    project.run(&["up", "db"]).exits(0);
    for round in 2..6 {
        kill_daemon(&project);
        project.run(&["status", "db"]).exits(0).says("running");
        kill(&project, "db");
        until("it has ended", || !project.run(&["status", "db"]).stdout.contains("running"));
        // The user's word forgives what was told of the crashes, and starts a daemon.
        project.run(&["up", "db"]).exits(0);
        assert_eq!(lines(&project, "db"), round);
    }
    // So does a daemon that somebody starts himself.
    kill_daemon(&project);
    kill(&project, "db");
    until("it has ended", || !project.run(&["status", "db"]).stdout.contains("running"));
    let mut child = project.start(&mut project.command(&["daemon", "run"]));
    until("it began again", || lines(&project, "db") == 6);
    project.run(&["daemon", "stop"]).exits(0);
    assert!(child.wait().unwrap().success());
    project.run(&["status", "db"]).exits(0).says("running");
    project.run(&["down"]).exits(0);
}

fn unwell(place: &Place, kind: Kind) {
    let project = project(place, kind, UNWELL);
    project.up();
    let page =
        || project.run(&["exec", "client", "--", "busybox", "wget", "-qO-", "http://web:8000/note"]).stdout;
    until("the page is there", || page() == "kept");
    project.run(&["exec", "web", "--", "busybox", "rm", "/well"]).exits(0);
    until("it began again", || lines(&project, "web") == 2);
    until("the page is there again", || page() == "kept");
    project.run(&["exec", "web", "--", "busybox", "killall", "-9", "busybox"]);
    until("it began once more", || lines(&project, "web") == 3);
    until("the page is there once more", || page() == "kept");
    project.run(&["status", "web"]).exits(0).says("start (it ended with exit");
    project.run(&["down"]).exits(0);
}
