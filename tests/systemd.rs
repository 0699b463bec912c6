//! What systemd is given to start.

use std::fs;
use std::process::Command;

use crate::harness::Project;

#[test]
fn the_unit_for_systemd_is_one() {
    let project = Project::new("setpoint = 1\n");
    let said = project.run(&["daemon", "install", "--print"]);
    said.exits(0).says("KillMode=process").says("Delegate=yes");
    assert!(
        said.stdout.contains(&format!("SETPOINT_STATE={}", project.state().display())),
        "{}",
        said.stdout
    );
    let file = project.at("setpoint.service");
    fs::write(&file, &said.stdout).unwrap();
    let verified = Command::new("systemd-analyze").arg("verify").arg(&file).output().unwrap();
    let about = String::from_utf8_lossy(&verified.stderr).into_owned();
    // What else is on this machine is not ours to judge.
    let ours: Vec<_> = about.lines().filter(|line| line.contains("setpoint.service")).collect();
    assert!(verified.status.success() && ours.is_empty(), "{about}");
    // Nothing was installed, and nothing is there to be taken out.
    project.run(&["daemon", "uninstall"]).exits(0).says("systemd knows of no daemon for this state");
}
