//! What systemd is given to start.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::Command;

use crate::harness::{Project, until};

#[test]
fn the_units_for_systemd_are_some() {
    let project = Project::new("setpoint = 1\n");
    let said = project.run(&["daemon", "install", "--print"]);
    said.exits(0).says("KillMode=process").says("Delegate=yes").says("SocketMode=0600");
    assert!(
        said.stdout.contains(&format!("SETPOINT_STATE={}", project.state().display())),
        "{}",
        said.stdout
    );
    let mut files = Vec::new();
    for (name, unit) in ["setpoint.service", "setpoint.socket"].iter().zip(said.stdout.split("\n\n# ")) {
        let (place, text) = unit.split_once('\n').unwrap();
        assert!(place.ends_with(name), "{place}");
        files.push(project.at(name));
        fs::write(project.at(name), text).unwrap();
    }
    let verified = Command::new("systemd-analyze").arg("verify").args(&files).output().unwrap();
    let about = String::from_utf8_lossy(&verified.stderr).into_owned();
    // What else is on this machine is not ours to judge.
    let ours: Vec<_> = about.lines().filter(|line| line.contains("setpoint.s")).collect();
    assert!(verified.status.success() && ours.is_empty(), "{about}");
    // Nothing was installed, and nothing is there to be taken out.
    project.run(&["daemon", "uninstall"]).exits(0).says("systemd knows of no daemon for this state");
}

#[test]
fn who_asks_a_socket_of_systemd_s_starts_the_daemon() {
    let project = Project::new("setpoint = 1\n[service.web]\nbase = \"host\"\ncommand = \"sleep 100000\"\n");
    let socket = project.state().join("api.sock");
    fs::create_dir_all(project.state()).unwrap();
    let run = project.command(&["daemon", "run"]);
    let mut systemd = Command::new("systemd-socket-activate");
    systemd.arg("--listen").arg(&socket);
    for (name, value) in run.get_envs() {
        let Some(value) = value else { continue };
        systemd.arg(format!("--setenv={}={}", name.to_string_lossy(), value.to_string_lossy()));
    }
    systemd.arg(run.get_program()).args(run.get_args());
    let child = project.start(&mut systemd);
    until("somebody listens", || socket.exists());
    project.run(&["daemon", "status"]).says("no daemon runs");
    // What wants a daemon has this one started, and none of its own.
    project.run(&["up"]).exits(0);
    project.run(&["daemon", "status"]).exits(0).says("1 running");
    assert!(UnixStream::connect(&socket).is_ok());
    assert!(!project.state().join("daemon.log").exists());
    project.run(&["down"]).exits(0);
    project.run(&["daemon", "stop"]).exits(0);
    crate::harness::finish(child);
}
