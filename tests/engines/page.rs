//! The page, in a real browser.

use crate::api_daemon::{Daemon, free_port};
use crate::browser::Browser;
use crate::docker::Scenario;
use crate::harness::{Project, finish, until};
use crate::place::{Place, is_here};
use crate::{stacks, versions};
use std::fs;

pub const ON_THE_EMBEDDED_ENGINE: &[Scenario] = &[
    ("the_buttons_of_the_page_do_what_they_say", the_buttons),
    ("the_page_shows_a_drift_until_it_is_brought_up", a_drift),
    ("the_page_shows_what_a_unit_says_as_text", what_a_unit_says),
    ("the_page_goes_on_with_the_next_daemon", the_next_daemon),
    ("the_page_shows_a_run_while_it_goes_on", a_run),
    ("without_a_session_there_is_no_page", no_session),
];

/// Whether this is one of them, and there is no browser to try it with.
pub fn is_missing(name: &str) -> bool {
    let all = [ON_THE_EMBEDDED_ENGINE, versions::ON_A_PAGE].concat();
    all.iter().any(|(ours, _)| *ours == name) && !(is_here("chromium") && is_here("chromedriver"))
}

const STACK: &str = r#"
name: shop
services:
  web:
    image: IMAGE
    network_mode: host
    user: root
    restart: always
    command: ["sh", "-c", "echo '<img src=x onerror=alert(1)>'; n=0; while sleep 0.2; do n=$$((n+1)); echo tick $$n.; done"]
  crash:
    image: IMAGE
    network_mode: host
    user: root
    restart: always
    command: ["sh", "-c", "exit 9"]
  once:
    image: IMAGE
    network_mode: host
    user: root
    restart: on-failure:1
    command: ["sh", "-c", "exit 7"]
"#;

const PIPELINE: &str = r#"
[pipeline.ci.step.build]
run = "echo compiling"
[pipeline.ci.step.slow]
from = "build"
run = "echo slowly; until [ -e /gate/open ]; do sleep 0.1; done"
cache_dirs = ["/gate"]
timeout = "5m"
[pipeline.ci.step.both]
take = ["build", "slow"]
run = "echo both"
"#;

fn project() -> Project {
    let project = Project::new(&format!("{}{PIPELINE}", stacks::HEAD));
    let image = stacks::image(&project, "page");
    project.write("compose.yaml", &STACK.replace("IMAGE", &image.to_string_lossy()));
    project
}

/// A daemon with an address, and a browser that was let in.
pub fn begin<'a>(project: &'a Project, units: &[&str]) -> (String, Daemon<'a>, Browser) {
    if !units.is_empty() {
        project.run(&[&["up", "--no-daemon"], units].concat()).exits(0);
    }
    let host = format!("127.0.0.1:{}", free_port());
    let daemon = Daemon::start(project, &["--listen", &host]);
    let browser = Browser::new(project);
    let link = project.run(&["open"]);
    browser.open(link.exits(0).stdout.trim());
    browser.run("window.kept = true", "");
    (format!("http://{host}"), daemon, browser)
}

/// What is shown of a unit in the list.
fn shown(browser: &Browser, unit: &str) -> String {
    let script = "return [...document.querySelectorAll('.unit')]
        .find((card) => card.querySelector('h3')?.textContent === arguments[0])?.innerText ?? ''";
    browser.run(script, unit).as_str().unwrap().to_owned()
}

/// The labels of the buttons of a unit, the main one last.
fn labels(browser: &Browser, unit: &str) -> Vec<String> {
    let script = "return [...document.querySelectorAll('.unit')]
        .filter((card) => (card.querySelector('h3') ?? document.querySelector('h1')).textContent === arguments[0])
        .flatMap((card) => [...card.querySelectorAll('button, .button')].map((button) => button.textContent))";
    serde_json::from_value(browser.run(script, unit)).unwrap()
}

/// Presses the button of a unit that begins with this.
fn press(browser: &Browser, unit: &str, label: &str) {
    let path = format!(
        "//*[contains(@class, 'buttons')]//*[starts-with(text(), '{label}')]\
         [starts-with(@aria-label, '{label}')][contains(@aria-label, ': {unit}')]"
    );
    until(&format!("`{label}` of {unit} can be pressed"), || browser.click(&path));
}

/// Nothing was loaded anew: all of it came by itself.
#[track_caller]
fn is_the_same_page(browser: &Browser) {
    assert_eq!(browser.run("return window.kept === true", ""), true);
}

fn the_buttons(_: &Place) {
    let project = project();
    let (_, daemon, browser) = begin(&project, &["web", "crash", "once"]);
    until("web runs", || labels(&browser, "web") == ["Stop"]);
    press(&browser, "web", "Stop");
    until("web is stopped", || labels(&browser, "web") == ["Start"]);
    assert!(shown(&browser, "web").contains("stopped by you"), "{}", shown(&browser, "web"));
    assert_eq!(daemon.state("web"), "stopped");
    // Who uses a keyboard stays where he was.
    let focused = "return document.activeElement.closest('.unit')?.querySelector('h3')?.textContent ?? ''";
    assert_eq!(browser.run(focused, ""), "web");
    press(&browser, "web", "Start");
    until("web runs again", || labels(&browser, "web") == ["Stop"]);
    assert_eq!(daemon.state("web"), "running");

    let done = |what: &str| {
        let operations = daemon.get("/v1/operations");
        let is_it = |done: &&serde_json::Value| {
            done["what"].as_str().unwrap().starts_with(what) && done["state"] == "succeeded"
        };
        operations["operations"].as_array().unwrap().iter().any(|one| is_it(&one))
    };
    let retry = |labels: Vec<String>| labels.last().filter(|label| label.starts_with("Retry now (")).cloned();
    until("crash waits long", || daemon.unit("crash")["state"]["attempt"].as_u64() >= Some(4));
    let mut first = None;
    until("the wait is shown", || {
        first = retry(labels(&browser, "crash"));
        first.is_some()
    });
    until("it counts down", || retry(labels(&browser, "crash")).is_some_and(|now| Some(now) != first));
    press(&browser, "crash", "Retry now (");
    until("crash was tried", || done("retry crash"));
    is_the_same_page(&browser);

    until("once is held", || labels(&browser, "once").contains(&"Failed: see why".to_owned()));
    press(&browser, "once", "Failed: see why");
    until("the reason is shown", || browser.text("#why").contains("exit 7"));
    until("it is tried again", || browser.click("//*[@id='why']//button[text()='Try again']"));
    until("once was tried", || done("retry once"));
    project.run(&["down"]).exits(0);
}

fn a_drift(_: &Place) {
    let project = project();
    let (_, _daemon, browser) = begin(&project, &["web"]);
    until("web runs", || labels(&browser, "web") == ["Stop"]);
    assert!(!shown(&browser, "web").contains("Out of date"), "{}", shown(&browser, "web"));
    project.edit("compose.yaml", "echo tick", "echo tock");
    until("the drift is shown", || shown(&browser, "web").contains("Out of date: 1 change."));
    until("it can be brought up", || labels(&browser, "web") == ["Stop", "Update"]);
    is_the_same_page(&browser);
    until("it leads to why", || browser.click("//a[text()='Why']"));
    until("it says why", || browser.text("#why").contains("command"));
    press(&browser, "web", "Update");
    until("it is up to date", || labels(&browser, "web") == ["Stop"]);
    until("nothing is to be said of it", || browser.text("#why").is_empty());
    until("the new one is heard", || browser.text("#log").contains("tock 1."));
    project.run(&["down"]).exits(0);
}

fn what_a_unit_says(_: &Place) {
    let project = project();
    let (_, _daemon, browser) = begin(&project, &["web"]);
    until("its page is opened", || browser.click("//h3/a[text()='web']"));
    browser.run("window.kept = true", "");
    until("it is heard", || browser.text("#log").contains("tick 3."));
    let lines = || browser.run("return document.querySelectorAll('#log li').length", "").as_u64().unwrap();
    let before = lines();
    until("it goes on", || lines() > before + 3);
    is_the_same_page(&browser);
    assert!(browser.text("#log").contains("<img src=x onerror=alert(1)>"), "{}", browser.text("#log"));
    assert_eq!(browser.run("return document.querySelectorAll('main img, main script').length", ""), 0);
    browser.enter("//*[@id='search']", "TICK 2.");
    until("the others are hidden", || browser.text("#log").trim() == "tick 2.");
    until("they are counted", || browser.text("#found").starts_with("1 of "));
    project.run(&["down"]).exits(0);
}

fn the_next_daemon(_: &Place) {
    let project = project();
    let (address, daemon, browser) = begin(&project, &["web"]);
    until("its page is opened", || browser.click("//h3/a[text()='web']"));
    browser.run("window.kept = true", "");
    until("web is heard", || browser.text("#log").contains("tick 1."));
    daemon.kill();
    until("it says that it is alone", || browser.text("#lost").contains("connection to the daemon is lost"));
    let daemon = Daemon::start(&project, &["--listen", address.trim_start_matches("http://")]);
    until("it says so no more", || browser.text("#lost").is_empty());
    let last =
        || browser.run("return document.querySelector('#log')?.lastElementChild?.textContent ?? ''", "");
    let before = last();
    until("web is heard again", || last() != before);
    daemon.post("web", "stop");
    until("it is live again", || labels(&browser, "web") == ["Start"]);
    press(&browser, "web", "Start");
    until("its buttons do what they say", || labels(&browser, "web") == ["Stop"]);
    is_the_same_page(&browser);
    project.run(&["down"]).exits(0);
}

fn a_run(_: &Place) {
    let project = project();
    let (address, _daemon, browser) = begin(&project, &[]);
    assert!(browser.text("main").contains("setpoint up"), "{}", browser.text("main"));
    browser.open(&format!("{address}/runs"));
    assert!(browser.text("main").contains("setpoint run"), "{}", browser.text("main"));
    let run = project.start(&mut project.command(&["run", "ci"]));
    until("it is listed", || browser.click("//a[text()='Run 1']"));
    until("its steps are shown", || browser.text("main table").contains("waits"));
    browser.run("window.kept = true", "");
    let gate = fs::read_dir(project.state().join("cache_dirs/v1")).unwrap().next().unwrap().unwrap();
    fs::write(gate.path().join("open"), "").unwrap();
    finish(run).exits(0);
    until("its end is shown", || {
        let (table, main) = (browser.text("main table"), browser.text("main"));
        main.contains("took") && table.matches("passed").count() == 3
    });
    is_the_same_page(&browser);
    let count =
        |selector: &str| browser.run("return document.querySelectorAll(arguments[0]).length", selector);
    assert_eq!((count(".graph svg a"), count(".graph svg path")), (3.into(), 3.into()));
    assert!(browser.click("//td/a[text()='slow']"));
    until("what it said is shown", || browser.text("#log").contains("slowly"));
}

fn no_session(_: &Place) {
    let project = project();
    let (address, daemon, browser) = begin(&project, &["web"]);
    until("web runs", || labels(&browser, "web") == ["Stop"]);
    browser.forget();
    until("the page is shut", || browser.text("main").contains("setpoint open"));
    for place in ["/", "/versions", "/runs", "/operations", "/units/web-1", "/open?link=wrong", "/nonsense"] {
        browser.open(&format!("{address}{place}"));
        let text = browser.text("main");
        assert!(text.contains("setpoint open"), "{place}: {text}");
        assert!(!text.contains("web"), "{place}: {text}");
    }
    // A form without the token changes nothing.
    let id = daemon.unit("web")["id"].as_str().unwrap().to_owned();
    browser.open(project.run(&["open"]).exits(0).stdout.trim());
    let script = "const form = document.createElement('form');
        form.method = 'post'; form.action = arguments[0]; document.body.append(form); form.submit()";
    browser.run(script, &format!("/units/{id}/stop"));
    until("it is refused", || browser.text("main").contains("X-CSRF-Token"));
    assert_eq!(daemon.state("web"), "running");
    project.run(&["down"]).exits(0);
}
