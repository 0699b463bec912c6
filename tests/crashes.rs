//! `kill -9` at every point of the journal: the next `up` ends right, and nothing is left behind.

use std::time::Duration;

use crate::harness::{NOTHING, Project, finish, until};
use crate::leaks;

const POINTS: [&str; 3] = ["announced", "acted", "recorded"];
const CREATED: [&str; 8] =
    ["alpha", "beta", "on_create", "update_content", "post_create", "post_start", "post_attach", "verify"];
const STARTED: [&str; 4] = ["alpha", "beta", "post_start", "post_attach"];
const KILLED: i32 = 128 + 9;

/// Kills an `up` at a point, and says whether it came there.
fn killed_at(project: &mut Project, point: &str, arguments: &[&str]) -> bool {
    let mut command = project.command(arguments);
    let killed = finish(project.start(command.env("SETPOINT_CRASH_AT", point)));
    if killed.code != KILLED {
        killed.exits(0);
    }
    killed.code == KILLED
}

/// The next `up` succeeds, all of this has run by then, and the `up` after it has nothing to do.
fn recovers(project: &Project, point: &str, must_run: &[&str]) {
    let next = project.run(&["up", "--yes"]);
    assert_eq!(next.code, 0, "after {point}: {next}");
    let ran = project.effects();
    let missing: Vec<_> = must_run.iter().filter(|name| !ran.iter().any(|effect| effect == **name)).collect();
    assert!(missing.is_empty(), "after {point} {missing:?} never ran, only {ran:?}");
    let status = project.status();
    assert_eq!(status["out_of_date"], false, "after {point}: {status}");
    assert_eq!(status["state"], "running", "after {point}: {status}");
    project.effects();
    project.up().says("nothing to do");
    assert_eq!(project.effects(), NOTHING, "after {point}");
    let units = leaks::units(&project.state());
    assert_eq!(units.len(), 1, "after {point}: {units:?}");
    assert_eq!(
        leaks::asides(project.state().parent().unwrap()),
        Vec::<std::path::PathBuf>::new(),
        "after {point}"
    );
}

/// The processes of a unit that is settled: its shim and its first process, and nobody else.
fn only_the_unit_itself(project: &Project, point: &str) {
    let inside = project.inside("ls -d /proc/[0-9]* | wc -l");
    // The first process, whoever lets this session in, its shell, `ls` and `wc`.
    assert!(inside.parse::<u32>().unwrap() <= 5, "after {point}: {inside} processes inside");
}

/// Every point of these steps, each on a project of its own that `prepare` brings to where the steps are planned.
fn every_point(steps: &[&str], arguments: &[&str], must_run: &[&str], prepare: impl Fn(&Project)) {
    for step in steps {
        for when in POINTS {
            let point = format!("{step}.{when}");
            let mut project = Project::full();
            prepare(&project);
            project.effects();
            assert!(killed_at(&mut project, &point, arguments), "{point} was not reached");
            recovers(&project, &point, must_run);
            only_the_unit_itself(&project, &point);
        }
    }
}

/// A unit that has to be made anew.
fn for_another_user(project: &Project) {
    project.up();
    project.declare("[env.dev.hooks]", "user = \"daemon\"\n[env.dev.hooks]");
}

#[test]
fn a_creation_may_be_killed_while_the_unit_is_made() {
    every_point(&["initialize", "image", "create", "start"], &["up"], &CREATED, |_| {});
}

#[test]
fn a_creation_may_be_killed_while_it_is_provisioned() {
    every_point(&["pack-0", "pack-1", "on_create", "update_content"], &["up"], &CREATED, |_| {});
}

#[test]
fn a_creation_may_be_killed_at_its_end() {
    every_point(&["post_create", "post_start", "post_attach", "verify"], &["up"], &CREATED, |_| {});
}

#[test]
fn a_start_may_be_killed() {
    every_point(&["start", "pack-0", "pack-1", "post_start", "post_attach"], &["up"], &STARTED, |project| {
        project.up();
        project.run(&["stop"]).exits(0);
    });
}

#[test]
fn a_restart_may_be_killed() {
    every_point(&["stop", "start", "pack-0", "post_start", "post_attach"], &["up"], &STARTED, |project| {
        project.up();
        project
            .declare("[env.dev.hooks]", "mounts = [{ source = \".\", target = \"/more\" }]\n[env.dev.hooks]");
    });
}

#[test]
fn a_recreation_may_be_killed_while_the_unit_is_replaced() {
    every_point(
        &["image", "stop", "remove", "create", "start"],
        &["up", "--yes"],
        &CREATED,
        for_another_user,
    );
}

#[test]
fn a_recreation_may_be_killed_while_it_is_provisioned() {
    let steps = [
        "pack-0",
        "pack-1",
        "on_create",
        "update_content",
        "post_create",
        "post_start",
        "post_attach",
        "verify",
    ];
    every_point(&steps, &["up", "--yes"], &CREATED, for_another_user);
}

#[test]
fn mending_may_be_killed() {
    every_point(
        &["apply", "pack-1", "update_content", "post_attach"],
        &["up"],
        &["beta", "update_content", "post_attach"],
        |project| {
            project.up();
            project.declare("[env.dev.hooks]", "env = { A = \"1\" }\n[env.dev.hooks]");
            project.edit(".setpoint/packs/beta.sh", "echo", "true\necho");
            project.declare("echo update_content", "true; echo update_content");
        },
    );
    every_point(&["record"], &["up"], &[], |project| {
        project.up();
        project.declare("\"echo verify >> log\"", "\"true; echo verify >> log\"");
    });
}

#[test]
fn what_had_succeeded_before_the_kill_is_not_done_again() {
    let mut project = Project::full();
    assert!(killed_at(&mut project, "post_create.announced", &["up"]));
    let before = project.effects();
    assert_eq!(before, ["initialize", "alpha", "beta", "on_create", "update_content"]);
    let mut after = project.up_effects();
    after.retain(|effect| effect != "verify");
    assert_eq!(after, ["post_create", "post_start", "post_attach"]);
}

#[test]
fn what_ran_but_was_not_recorded_runs_again() {
    let mut project = Project::full();
    assert!(killed_at(&mut project, "post_create.acted", &["up"]));
    assert_eq!(project.effects().last().unwrap(), "post_create");
    assert_eq!(project.up_effects()[0], "post_create");
}

#[test]
fn the_processes_of_a_hook_die_with_the_command_that_started_them() {
    for hook in ["post_create", "initialize"] {
        let project = Project::full();
        let work = format!("echo {hook} >> log");
        // It would go on for an hour, in the background too, and out of the session of whoever started it.
        let long = format!("\"{work}; setsid sleep 3671 & sleep 3672\"");
        project.declare(&format!("\"{work}\""), &long);
        let mut up = project.start(&mut project.command(&["up"]));
        until("the hook began", || project.read("log").contains(hook));
        let sleeps = || sleepers(&["sleep 3671", "sleep 3672"], &project);
        until("its processes began", || sleeps() == 2);
        up.kill().unwrap();
        up.wait().unwrap();
        until(&format!("the processes of {hook} died"), || sleeps() == 0);
        project.declare(&long, &format!("\"{work}\""));
        project.effects();
        project.up();
        assert!(project.effects().contains(&hook.to_owned()));
        project.is_settled();
    }
}

/// How many processes of this project run one of these command lines.
fn sleepers(lines: &[&str], project: &Project) -> usize {
    let place = project.root.parent().unwrap();
    let processes = leaks::processes(place);
    processes.iter().filter(|(_, line)| lines.iter().any(|wanted| line.trim() == *wanted)).count()
}

#[test]
fn a_unit_whose_processes_were_all_killed_is_seen_as_stopped_and_comes_up_again() {
    let project = Project::full();
    project.up();
    project.inside("echo kept > /opt/kept");
    leaks::kill(project.root.parent().unwrap(), true);
    until("it is seen as stopped", || project.status()["state"] == "stopped");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(project.up_effects(), ["alpha", "beta", "post_start", "post_attach"]);
    assert_eq!(project.inside("cat /opt/kept"), "kept");
    project.is_settled();
}

/// Kills a command after each of these times, from the start of the command on.
fn killed_at_any_moment(arguments: &[&str], milliseconds: impl Iterator<Item = u64>) {
    let project = Project::full();
    project.up();
    for delay in milliseconds {
        let mut command = project.start(&mut project.command(arguments));
        std::thread::sleep(Duration::from_millis(delay));
        command.kill().unwrap();
        command.wait().unwrap();
        project.effects();
        let when = format!("{} and {delay} ms", arguments.join(" "));
        recovers(&project, &when, &[]);
        only_the_unit_itself(&project, &when);
    }
}

#[test]
fn a_recreation_may_be_killed_at_any_moment() {
    killed_at_any_moment(&["up", "--recreate", "--yes"], (0..90).step_by(3));
}

#[test]
fn a_removal_or_a_stop_may_be_killed_at_any_moment() {
    killed_at_any_moment(&["down"], (0..24).step_by(2));
    killed_at_any_moment(&["stop"], (0..24).step_by(2));
}

#[test]
fn a_stop_that_was_killed_halfway_is_seen_to_its_end_by_the_next_up() {
    let project = Project::full();
    // Something inside that takes its time to end.
    let stubborn = "(trap '' TERM; exec sleep 3705) >/dev/null 2>&1 </dev/null &";
    project.declare("\"echo post_start >> log\"", &format!("\"echo post_start >> log; {stubborn}\""));
    project.up();
    let mut stop = project.start(&mut project.command(&["stop"]));
    let unit = std::fs::read_dir(project.state().join("units/v1")).unwrap().next().unwrap().unwrap().path();
    until("what runs is asked to end", || unit.join("stopping.json").exists());
    std::thread::sleep(Duration::from_millis(100));
    assert!(stop.try_wait().unwrap().is_none(), "nothing inside took its time");
    stop.kill().unwrap();
    stop.wait().unwrap();
    project.effects();
    project.up();
    std::thread::sleep(Duration::from_secs(3));
    let status = project.status();
    assert_eq!(status["state"], "running", "what `up` called up has ended since: {status}");
    assert_eq!(project.inside("echo usable"), "usable");
    assert_eq!(project.effects(), STARTED);
}
