//! Several at once, and one that is told to stop.

use std::process::Command;

use crate::harness::{Project, finish, until};
use crate::leaks;

#[test]
fn the_second_of_two_waits_and_says_for_whom() {
    let project = Project::full();
    project.declare("\"echo post_create >> log\"", "\"echo post_create >> log; sleep 1.5\"");
    let first = project.start(&mut project.command(&["up"]));
    let pid = first.id();
    until("the first is at work", || project.read("log").contains("post_create"));
    let second = project.run(&["up"]);
    let first = finish(first);
    first.exits(0).says("dev is up");
    second.exits(0).says("waiting for").says("setpoint up dev").says(&pid.to_string()).says("nothing to do");
    let effects = project.effects();
    assert_eq!(effects.iter().filter(|effect| *effect == "post_create").count(), 1, "{effects:?}");
    assert_eq!(effects.len(), 9, "{effects:?}");
    project.is_settled();
}

#[test]
fn many_at_once_do_it_once() {
    let project = Project::full();
    let all: Vec<_> = (0..6).map(|_| project.start(&mut project.command(&["up"]))).collect();
    for one in all {
        finish(one).exits(0);
    }
    assert_eq!(project.effects().len(), 9);
    project.is_settled();
}

#[test]
fn whoever_only_looks_does_not_wait() {
    let project = Project::full();
    project.declare("\"echo post_create >> log\"", "\"echo post_create >> log; sleep 3\"");
    let up = project.start(&mut project.command(&["up"]));
    until("it is at work", || project.read("log").contains("post_create"));
    project.run(&["status"]).exits(0);
    project.run(&["why"]).exits(0);
    project.run(&["plan"]).exits(0);
    assert_eq!(project.inside("echo inside"), "inside");
    let mut up = up;
    assert!(up.try_wait().unwrap().is_none(), "`up` ended before the look did");
    finish(up).exits(0);
}

#[test]
fn two_projects_of_one_name_do_not_meet() {
    let (one, other) = (Project::full(), Project::full());
    other.pack("gamma").declare("\"beta\"]", "\"beta\", \"gamma\"]");
    let ups = [&one, &other].map(|project| project.start(&mut project.command(&["up"])));
    for up in ups {
        finish(up).exits(0);
    }
    assert_eq!((one.effects().len(), other.effects().len()), (9, 10));
    one.inside("echo one > /opt/mine");
    assert_eq!(other.run(&["exec", "--", "cat", "/opt/mine"]).code, 1);
    one.run(&["down"]).exits(0);
    assert_eq!(one.status()["state"], "absent");
    other.is_settled();
}

#[test]
fn two_projects_share_a_state_and_do_not_meet() {
    let (mut one, other) = (Project::full(), Project::full());
    one.set("SETPOINT_STATE", other.state().to_str().unwrap());
    one.set("SETPOINT_CONFIG", other.at("config").to_str().unwrap());
    let ups = [&one, &other].map(|project| project.start(&mut project.command(&["up"])));
    for up in ups {
        finish(up).exits(0);
    }
    one.pack("uv").declare("\"beta\"]", "\"beta\", \"uv\"]");
    other.is_settled();
    assert_eq!(one.up_effects().last().unwrap(), "post_attach");
    one.run(&["down"]).exits(0);
    other.is_settled();
}

/// Interrupts an `up` in this hook.
fn interrupted_in(hook: &str, signal: &str) {
    let project = Project::full();
    let work = format!("echo {hook} >> log");
    let long = format!("\"{work}; sleep 3681 & sleep 3682\"");
    project.declare(&format!("\"{work}\""), &long);
    let up = project.start(&mut project.command(&["up"]));
    until("the hook began", || project.read("log").contains(hook));
    assert!(Command::new("kill").args([signal, &up.id().to_string()]).status().unwrap().success());
    let up = finish(up);
    up.exits(130).says("the next `up` begins at").says(hook).says("nothing was undone");
    up.says_not("is up in");
    let place = project.root.parent().unwrap();
    until("its processes are gone", || {
        !leaks::processes(place).iter().any(|(_, line)| line.contains("sleep 368"))
    });
    let status = project.status();
    assert_eq!(status["out_of_date"], true, "{status}");
    assert_eq!(project.inside("echo usable"), "usable");
    project.declare(&long, &format!("\"{work}\""));
    let effects = project.up_effects();
    assert_eq!(effects[0], hook, "{effects:?}");
    project.is_settled();
}

#[test]
fn ctrl_c_in_a_hook_stops_in_order_and_says_what_comes_next() {
    interrupted_in("post_create", "-INT");
    interrupted_in("post_start", "-TERM");
}

#[test]
fn ctrl_c_in_a_pack_stops_in_order() {
    let project = Project::full();
    project.write(".setpoint/packs/beta.sh", "echo beta >> /workspace/log\nsleep 3691\n");
    let up = project.start(&mut project.command(&["up"]));
    until("the pack began", || project.read("log").contains("beta"));
    assert!(Command::new("kill").args(["-INT", &up.id().to_string()]).status().unwrap().success());
    finish(up).exits(130).says("the next `up` begins at pack beta");
    project.effects();
    project.write(".setpoint/packs/beta.sh", "echo beta >> /workspace/log\n");
    assert_eq!(project.up_effects()[0], "beta");
    project.is_settled();
}

#[test]
fn ctrl_c_while_waiting_for_another_leaves_the_other_alone() {
    let project = Project::full();
    project.declare("\"echo post_create >> log\"", "\"echo post_create >> log; sleep 2\"");
    let first = project.start(&mut project.command(&["up"]));
    until("the first is at work", || project.read("log").contains("post_create"));
    let second = project.start(&mut project.command(&["up"]));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(Command::new("kill").args(["-INT", &second.id().to_string()]).status().unwrap().success());
    finish(second).exits(130);
    finish(first).exits(0);
    project.is_settled();
}

#[test]
fn a_hook_that_ignores_the_request_is_killed_by_the_second_one() {
    let project = Project::full();
    project.declare(
        "\"echo post_create >> log\"",
        "\"trap '' INT TERM; echo post_create >> log; sleep 3695; sleep 3696\"",
    );
    let up = project.start(&mut project.command(&["up"]));
    until("the hook began", || project.read("log").contains("post_create"));
    let began = std::time::Instant::now();
    for _ in 0..2 {
        assert!(Command::new("kill").args(["-INT", &up.id().to_string()]).status().unwrap().success());
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    finish(up).exits(130);
    assert!(began.elapsed() < std::time::Duration::from_secs(4), "it took {:?}", began.elapsed());
}

#[test]
fn ctrl_c_while_an_image_is_fetched_stops_and_says_so() {
    // A registry that takes the connection and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let project = Project::new(&format!("setpoint = 1\n[env.dev]\nimage = \"{address}/team/box:1\"\n"));
    let up = project.start(&mut project.command(&["up"]));
    let _connection = silent.accept().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let kill = std::process::Command::new("kill").args(["-INT", &up.id().to_string()]).status().unwrap();
    assert!(kill.success());
    crate::harness::finish(up).exits(130).says("stopped").says("the next `up` begins at image");
    assert_eq!(project.status()["state"], "absent");
}
