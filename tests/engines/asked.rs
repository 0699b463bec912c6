//! The rules for health checks that ask over a unit's network, each as a test that knows nothing of the engine; and a
//! stack that waits for them, through the binary itself.

use std::fs;
use std::time::Duration;

use setpoint_model::container::{Health, HealthTest};
use setpoint_runtime::engine::Health as Says;

use crate::harness::{Project, until};
use crate::networks::{alone, called, joins, network};
use crate::place::{Place, Subject};
use crate::rules::{Rule, Unit};
use crate::services::{in_workspace, progress, that_runs, with};
use crate::stacks;

pub const RULES: &[Rule] = named![
    a_server_that_listens_to_itself_alone_is_asked_by_http,
    a_port_is_asked_where_its_unit_listens,
    who_is_asked_and_does_not_answer_has_failed,
];

/// A unit in a network of its own that runs this script in the project's folder, and is asked so.
fn asked<'a>(subject: &'a Subject, script: &str, test: HealthTest) -> Unit<'a> {
    let unit = that_runs(subject, script);
    let net = network(&called(&unit, "net"));
    let unit = joins(unit, &[&net], &["web"]);
    with(unit, |c| {
        in_workspace(c);
        c.health = Some(Health {
            test: Some(test),
            interval: Some(Duration::from_millis(200)),
            timeout: Some(Duration::from_secs(2)),
            retries: Some(2),
            ..Health::default()
        });
    })
}

fn comes_to(unit: &Unit<'_>, health: Says, said: Option<&str>) {
    until(&format!("it is {health:?}"), || progress(unit).health == Some(health));
    assert_eq!(progress(unit).said.as_deref(), said);
}

fn a_server_that_listens_to_itself_alone_is_asked_by_http(subject: &Subject) {
    let _alone = alone();
    let test = HealthTest::Http { port: 8000, path: "/well?now".to_owned(), status: None };
    let unit = asked(subject, "exec httpd -f -p 127.0.0.1:8000", test).started();
    comes_to(&unit, Says::Unhealthy, Some("GET /well?now: 404 Not Found"));
    fs::write(unit.root.join("well"), "").unwrap();
    comes_to(&unit, Says::Healthy, Some("GET /well?now: 200 OK"));
    unit.stop();
    assert_eq!((progress(&unit).running, progress(&unit).health), (false, None));
    subject.engine.start_again(&unit.id).unwrap();
    comes_to(&unit, Says::Healthy, Some("GET /well?now: 200 OK"));
    fs::remove_file(unit.root.join("well")).unwrap();
    comes_to(&unit, Says::Unhealthy, Some("GET /well?now: 404 Not Found"));
}

fn a_port_is_asked_where_its_unit_listens(subject: &Subject) {
    let _alone = alone();
    // At first nowhere, then on its address in the network alone.
    let script = "until test -e go; do sleep 0.1; done; exec httpd -f -p $(hostname -i):8000";
    let unit = asked(subject, script, HealthTest::Tcp { port: 8000 }).started();
    comes_to(&unit, Says::Unhealthy, Some("port 8000: connection refused"));
    fs::write(unit.root.join("go"), "").unwrap();
    comes_to(&unit, Says::Healthy, None);
}

fn who_is_asked_and_does_not_answer_has_failed(subject: &Subject) {
    let _alone = alone();
    let test = HealthTest::Http { port: 8000, path: "/".to_owned(), status: None };
    let unit = asked(subject, "while :; do nc -l -p 8000 -e sleep 1000; done", test).started();
    until("it is unwell", || progress(&unit).health == Some(Says::Unhealthy));
    let said = progress(&unit).said.unwrap();
    assert!(["GET /: no answer within 2s", "port 8000: connection refused"].contains(&&*said), "{said}");
}

const STACK: &str = r#"
setpoint = 1
[service.web]
image = "IMAGE"
user = "root"
command = "mkdir -p /www; sleep 1; echo fine > /www/well; exec busybox httpd -f -p 127.0.0.1:8000 -h /www"
health = { http = "/well", port = 8000, status = 200, interval = "200ms", retries = 50 }

[service.client]
image = "IMAGE"
user = "root"
command = ["sleep", "100000"]
depends_on = { web = "healthy" }
"#;

/// What is declared to be healthy is waited for, and what is wrong is told.
pub fn on_the_embedded_engine(_: &Place) {
    let project = Project::new("");
    let image = stacks::image(&project, "asked");
    let stack = STACK.replace("IMAGE", &image.to_string_lossy());
    project.write("setpoint.toml", &stack);
    project.up().says("web healthy");
    project.run(&["status"]).exits(0).says("running, healthy");
    project.run(&["up"]).exits(0).says("web: nothing to do");
    project.write("setpoint.toml", &stack.replace("/well\", port", "/ill\", port").replace("= 50", "= 10"));
    project.run(&["why"]).exits(0).says("health test").says("/ill");
    let up = project.run(&["up", "--yes"]);
    up.says("GET /ill: 404 Not Found");
    assert_ne!(up.code, 0);
    // A daemon starts it again now and then.
    let status = || project.run(&["status", "--json"]).stdout;
    until("status says why", || status().contains(r#""check": "GET /ill: 404 Not Found""#));
    project.run(&["down"]).exits(0);
}
