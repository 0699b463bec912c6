//! The version in effect, and changing it, over the API and on the page in a real browser.

use std::fs;

use crate::api_daemon::Daemon;
use crate::browser::Browser;
use crate::docker::Scenario;
use crate::harness::{Project, finish, until};
use crate::maker::{Maker, inside, up};
use crate::page::begin;
use crate::place::{Kind, Place};
use crate::upgrades::{all_run, declare, log, project};

pub const ON_THE_EMBEDDED_ENGINE: &[Scenario] =
    &[("what_is_in_effect_is_changed_over_the_api", over_the_api)];

/// Those that need a browser.
pub const ON_A_PAGE: &[Scenario] = &[
    ("the_page_upgrades_goes_back_and_cancels", on_the_page),
    ("the_page_shows_the_versions_that_a_release_can_follow", a_release),
];

/// A project whose next version is well only when somebody lets it, and one that lets it.
fn held(place: &Place) -> (Project, impl Fn(&Project, bool)) {
    let project = project(place, Kind::Embedded);
    fs::create_dir(project.root.join("hold")).unwrap();
    let lets = |project: &Project, is_open: bool| {
        let gate = project.root.join("hold/open");
        if is_open { fs::write(gate, "").unwrap() } else { fs::remove_file(gate).unwrap() }
    };
    (project, lets)
}

/// Declares a next version, which waits before it is well.
fn next(project: &Project) {
    declare(project, "one", "two");
    project
        .declare("1.0.0", "2.0.0")
        .declare("verify = \"5s\"", "verify = \"60s\"")
        .declare("start_period = \"10s\"", "start_period = \"60s\"")
        .declare("exec = \"test -e /data/log\"", "exec = \"test -e /hold/open\"")
        .declare("[service.web]", "mounts = [{ source = \"hold\", target = \"/hold\" }]\n[service.web]");
}

fn only_project(daemon: &Daemon<'_>) -> serde_json::Value {
    let projects = daemon.get("/v1/projects");
    assert_eq!(projects["projects"].as_array().unwrap().len(), 1, "{projects}");
    projects["projects"][0].clone()
}

fn over_the_api(place: &Place) {
    let (project, lets) = held(place);
    let daemon = Daemon::start(&project, &[]);
    until("it is kept", || !daemon.get("/v1/projects")["projects"].as_array().unwrap().is_empty());
    let shown = only_project(&daemon);
    assert_eq!((&shown["state"], &shown["generation"]), (&"settled".into(), &0.into()), "{shown}");
    let path = format!("/v1/projects/{}", shown["id"].as_str().unwrap());
    let refused = |method: &str, what: &str, status: u16, error: &str| {
        let (code, answer) = daemon.ask(method, &format!("{path}{what}"));
        assert_eq!((code, answer["error"].as_str()), (status, Some(error)), "{method} {what}: {answer}");
        assert!(answer["hint"].is_string() || error == "plan", "{answer}");
    };
    // Nothing of this can be done, or is there.
    refused("GET", "/rollback", 409, "not-now");
    refused("POST", "/cancel", 409, "not-now");
    refused("POST", "/recover", 409, "not-now");
    refused("GET", "/cancel", 404, "no-action");
    refused("POST", "/nonsense", 404, "no-action");
    refused("GET", "/changes/7", 404, "no-change");
    refused("GET", "0", 404, "no-project");
    // What somebody else says is no option.
    refused("GET", "/upgrade?version=--to-latest", 409, "plan");
    refused("GET", "/upgrade?version=2.0.0", 409, "plan");
    assert_eq!(daemon.get(&format!("{path}/upgrade"))["changed"], false);
    assert_eq!(daemon.get(&format!("{path}/releases"))["versions"], serde_json::json!([]));

    next(&project);
    let plan = daemon.get(&format!("{path}/upgrade"));
    assert!(plan["words"].as_str().unwrap().contains("replace db"), "{plan}");
    assert_eq!(daemon.get(&path)["changes"], serde_json::json!([]));
    let (code, answer) = daemon.ask("POST", &format!("{path}/upgrade"));
    assert_eq!((code, &answer["state"]), (202, &"under_way".into()), "{answer}");
    refused("POST", "/upgrade", 409, "not-now");
    let step = || daemon.get(&path)["change"]["steps"].as_array().and_then(|steps| steps.last().cloned());
    until("the new one is waited for", || step().is_some_and(|step| step["step"] == "verify db"));
    let shown = daemon.get(&path);
    assert!(shown["holder"].as_str().unwrap().contains("setpoint upgrade"), "{shown}");
    assert_eq!(shown["offers"][0]["does"], "cancel");
    assert_eq!(daemon.ask("POST", &format!("{path}/cancel")).0, 202);
    until("it is as it was", || daemon.get(&path)["state"] == "settled");
    let shown = daemon.get(&path);
    assert_eq!((&shown["generation"], &shown["asked"]["outcome"]), (&0.into(), &"failed".into()), "{shown}");
    assert_eq!(shown["changes"][0]["outcome"], "rolled-back");
    until("all run", || all_run(&project));

    // One in a terminal is seen, and cancelled, too.
    let upgrade = project.start(&mut project.command(&["upgrade"]));
    until("it is seen", || daemon.get(&path)["state"] == "under_way");
    until("the new one is waited for", || step().is_some_and(|step| step["step"] == "verify db"));
    assert!(daemon.get(&path)["asked"].is_null());
    assert_eq!(daemon.ask("POST", &format!("{path}/cancel")).0, 202);
    finish(upgrade).exits(1).says("Rolled back");

    lets(&project, true);
    assert_eq!(daemon.ask("POST", &format!("{path}/upgrade")).0, 202);
    until("the new one is in effect", || daemon.get(&path)["state"] == "settled");
    let shown = daemon.get(&path);
    assert_eq!((&shown["generation"], &shown["version"]), (&1.into(), &"2.0.0".into()), "{shown}");
    assert_eq!(shown["asked"]["outcome"], "succeeded");
    let number = shown["changes"][0]["number"].as_i64().unwrap();
    let steps = daemon.get(&format!("{path}/changes/{number}"))["steps"].to_string();
    assert!(steps.contains("\"commit\""), "{steps}");
    let plan = daemon.get(&format!("{path}/rollback"));
    assert!(plan["words"].as_str().unwrap().contains("loses what was written"), "{plan}");
    assert_eq!(daemon.ask("POST", &format!("{path}/rollback")).0, 202);
    let asked = || daemon.get(&path)["asked"].clone();
    until("writes are not lost unasked", || asked()["outcome"] == "failed");
    assert!(asked()["detail"].as_str().unwrap().contains("going back loses"), "{}", asked());
    assert_eq!(daemon.ask("POST", &format!("{path}/rollback?discard_writes=true")).0, 202);
    until("the old one is back", || daemon.get(&path)["generation"] == 2);
    let told = daemon.get("/v1/events?follow=false")["events"].to_string();
    assert!(told.contains("\"version\"") && told.contains("rollback"), "{told}");
    until("it has ended", || daemon.get(&path)["state"] == "settled");
    project.run(&["down", "--volumes", "--yes"]).exits(0);
}

/// Opens the page of the only project, and gives what it says.
fn opened(browser: &Browser, name: &str) {
    until("the versions are opened", || browser.click("//nav//a[text()='Versions']"));
    until("the project is opened", || browser.click(&format!("//h3/a[text()='{name}']")));
    until("its page is there", || browser.text("main").contains("History"));
}

fn press(browser: &Browser, label: &str) {
    let path = format!("//main//*[self::a or self::button][starts-with(text(), '{label}')]");
    until(&format!("`{label}` can be pressed"), || browser.click(&path));
}

fn on_the_page(place: &Place) {
    let (project, lets) = held(place);
    let name = project.root.file_name().unwrap().to_string_lossy().into_owned();
    let (_, _daemon, browser) = begin(&project, &[]);
    let main = || browser.text("main");
    let shows = |words: &str| until(&format!("it shows `{words}`"), || main().contains(words));
    opened(&browser, &name);
    shows("generation 0");
    assert!(main().contains("Nothing was upgraded yet"), "{}", main());
    press(&browser, "Upgrade...");
    shows("There is nothing to do");
    press(&browser, "Back");

    next(&project);
    press(&browser, "Upgrade...");
    shows("replace db");
    press(&browser, "Upgrade to 2.0.0");
    shows("upgrading to 2.0.0");
    browser.run("window.kept = true", "");
    shows("Now: verify db");
    lets(&project, true);
    shows("2.0.0 (generation 1)");
    shows("committed");
    // All of it came by itself.
    assert_eq!(browser.run("return window.kept === true", ""), true);
    until("its data is there", || log(&project) == "one two");
    press(&browser, "Upgrade 1");
    shows("set-aside db");

    press(&browser, "Roll back...");
    shows("loses what was written");
    press(&browser, "Go back to 1.0.0, and lose these writes");
    shows("Rollback 2");
    shows("generation 2");
    until("the old data is back", || log(&project).split(' ').all(|word| word == "one"));

    lets(&project, false);
    until("it is settled", || !main().contains("under way"));
    press(&browser, "Upgrade...");
    press(&browser, "Upgrade to 2.0.0");
    shows("Now: verify db");
    press(&browser, "Cancel");
    shows("rolled back");
    until("all run", || all_run(&project));
    // What units say of their project leads here.
    until("the units are opened", || browser.click("//nav//a[text()='Units']"));
    until("one is opened", || browser.click("//h3/a[text()='db']"));
    until("it leads to its project", || browser.click(&format!("//dd/a[starts-with(text(), '{name}')]")));
    shows("History");
    project.run(&["down", "--volumes", "--yes"]).exits(0);
}

fn a_release(_: &Place) {
    let maker = Maker::new();
    maker.release("0.1.0");
    let machine = maker.machine();
    maker.init(&machine, "0.1.0").exits(0);
    fs::create_dir(machine.root.join("uploads")).unwrap();
    up(&machine);
    maker.image("second");
    let second = maker.release("0.2.0");
    maker.image("third");
    maker.release("0.3.0");
    let (_, _daemon, browser) = begin(&machine, &[]);
    let shows = |words: &str| until(&format!("it shows `{words}`"), || browser.text("main").contains(words));
    opened(&browser, "shop");
    shows("0.1.0 (generation 0)");
    press(&browser, "Upgrade...");
    shows("Upgrade to 0.3.0");
    press(&browser, "0.2.0");
    shows("Upgrade to 0.2.0");
    press(&browser, "Upgrade to 0.2.0");
    shows("0.2.0 (generation 1)");
    shows(&second);
    assert_eq!(inside(&machine, "web", "cat /note"), "second");
    // What comes before is no upgrade, and the only other one is the one that is shown.
    press(&browser, "Upgrade...");
    shows("Upgrade to 0.3.0");
    assert!(!browser.text("main").contains("0.1.0"), "{}", browser.text("main"));
    machine.run(&["down", "--volumes", "--yes"]).exits(0);
}
