//! The rules for networks of units and for published ports, each as a test that knows nothing of the engine. None of
//! them needs a way out of the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::sync::{Mutex, MutexGuard, PoisonError};

use setpoint_model::container::{Attachment, ExtraHost, NetworkMode, PublishedPort};
use setpoint_model::import::compose::{AddressPool, Network};
use setpoint_model::manifest;

use crate::harness::until;
use crate::place::Subject;
use crate::rules::{Rule, Unit};
use crate::services::{WAITS, that_runs};

pub const RULES: &[Rule] = named![
    units_of_a_network_find_each_other_by_their_names,
    a_unit_may_be_in_two_networks,
    nothing_leads_out_of_an_internal_network,
    addresses_are_those_that_are_declared,
    a_network_of_others_has_to_be_there,
    hosts_that_are_declared_are_known,
    a_unit_may_have_the_network_of_another,
    a_published_port_leads_to_the_unit_while_it_runs,
    a_port_that_somebody_has_is_refused_by_its_number,
    a_unit_without_declared_networks_may_have_one_of_its_own,
];

// Podman leads from one of its networks into another.
pub const OF_WALLS: &[Rule] = named![units_of_different_networks_do_not_reach_each_other,];

/// Held by each rule: Podman's server of names does not stand several networks that come and go at once.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says this word on port 8000 to whoever asks.
fn serves(word: &str) -> String {
    format!("mkdir -p /www && echo {word} > /www/index.html && exec httpd -f -p 8000 -h /www")
}

/// What says the server at this address, as this unit sees it.
fn asks(unit: &Unit<'_>, at: &str) -> Option<String> {
    let (said, code) = unit.says(&format!("timeout 5 wget -qO- http://{at}/ 2>/dev/null"));
    (code == 0).then(|| said.trim().to_owned())
}

fn answers(unit: &Unit<'_>, at: &str, word: &str) {
    until(&format!("{at} says {word}"), || asks(unit, at).as_deref() == Some(word));
}

/// Its own name on every engine, for every test.
pub fn called(unit: &Unit<'_>, name: &str) -> String {
    format!("{name}_{}", unit.root.file_name().unwrap().to_string_lossy().to_lowercase())
}

pub fn network(name: &str) -> Network {
    Network { name: name.to_owned(), ..Network::default() }
}

/// A unit in these networks, with these names in each.
pub fn joins<'a>(mut unit: Unit<'a>, networks: &[&Network], names: &[&str]) -> Unit<'a> {
    let aliases: BTreeSet<String> = names.iter().map(|&name| name.to_owned()).collect();
    let attachment = Attachment { aliases, ..Attachment::default() };
    let all: BTreeMap<_, _> = networks.iter().map(|of| (of.name.clone(), attachment.clone())).collect();
    unit.spec.container.network = Some(NetworkMode::Networks(all));
    unit.spec.networks = networks.iter().map(|&network| network.clone()).collect();
    unit
}

/// Its address by the name of an interface.
fn address(unit: &Unit<'_>, interface: &str) -> String {
    let (said, _) = unit.says(&format!("ip -4 addr show {interface}"));
    let line = said.lines().find_map(|line| line.trim().strip_prefix("inet ")).unwrap_or_default();
    line.split('/').next().unwrap().to_owned()
}

fn units_of_a_network_find_each_other_by_their_names(subject: &Subject) {
    let _alone = alone();
    let web = that_runs(subject, &serves("web"));
    let net = network(&called(&web, "net"));
    let web = joins(web, &[&net], &["web", "www"]).started();
    let other = joins(that_runs(subject, &serves("other")), &[&net], &["other"]).started();
    answers(&other, "web:8000", "web");
    answers(&other, "www:8000", "web");
    // The one that was there first finds who came later.
    answers(&web, "other:8000", "other");
    answers(&web, "127.0.0.1:8000", "web");
    answers(&web, "localhost:8000", "web");
    let first = address(&web, "eth0");
    web.stop();
    // Podman's own name server loses a name that comes back while it is still busy with its going.
    let forgotten = || other.says("wget -qO- http://web:8000/ 2>&1").0.contains("bad address");
    until("nobody is called web", forgotten);
    subject.engine.start(&web.id, &web.spec).unwrap();
    answers(&other, "web:8000", "web");
    assert!(!first.is_empty());
}

fn a_unit_may_be_in_two_networks(subject: &Subject) {
    let _alone = alone();
    let front = that_runs(subject, &serves("front"));
    let nets = [network(&called(&front, "a")), network(&called(&front, "b"))];
    let front = joins(front, &[&nets[0]], &["front"]).started();
    let back = joins(that_runs(subject, &serves("back")), &[&nets[1]], &["back"]).started();
    let both = joins(that_runs(subject, &serves("both")), &[&nets[0], &nets[1]], &["both"]).started();
    answers(&both, "front:8000", "front");
    answers(&both, "back:8000", "back");
    answers(&front, "both:8000", "both");
    answers(&back, "both:8000", "both");
    assert_ne!(address(&both, "eth0"), address(&both, "eth1"));
    assert_eq!(asks(&front, "back:8000"), None);
}

fn units_of_different_networks_do_not_reach_each_other(subject: &Subject) {
    let _alone = alone();
    let one = that_runs(subject, &serves("one"));
    let nets = [network(&called(&one, "a")), network(&called(&one, "b"))];
    let one = joins(one, &[&nets[0]], &["one"]).started();
    let two = joins(that_runs(subject, &serves("two")), &[&nets[1]], &["two"]).started();
    answers(&two, "127.0.0.1:8000", "two");
    assert_eq!(asks(&one, "two:8000"), None);
    assert_eq!(asks(&one, &format!("{}:8000", address(&two, "eth0"))), None);
    assert_eq!(asks(&two, &format!("{}:8000", address(&one, "eth0"))), None);
}

fn nothing_leads_out_of_an_internal_network(subject: &Subject) {
    let _alone = alone();
    let one = that_runs(subject, &serves("one"));
    let net = Network { internal: true, ..network(&called(&one, "net")) };
    let one = joins(one, &[&net], &["one"]).started();
    let two = joins(that_runs(subject, &serves("two")), &[&net], &["two"]).started();
    answers(&two, "one:8000", "one");
    let outside = network(&called(&one, "outside"));
    let outside = joins(that_runs(subject, &serves("outside")), &[&outside], &["outside"]).started();
    answers(&outside, "127.0.0.1:8000", "outside");
    assert_eq!(asks(&one, &format!("{}:8000", address(&outside, "eth0"))), None);
    assert_eq!(asks(&outside, &format!("{}:8000", address(&one, "eth0"))), None);
}

fn addresses_are_those_that_are_declared(subject: &Subject) {
    let _alone = alone();
    let unit = that_runs(subject, WAITS);
    let mut net = network(&called(&unit, "net"));
    // Another one for every test that runs at the same time.
    let third = free_port() % 250;
    net.pools = vec![AddressPool {
        subnet: Some(format!("10.207.{third}.0/24")),
        gateway: Some(format!("10.207.{third}.9")),
        ip_range: Some(format!("10.207.{third}.128/25")),
    }];
    let mut unit = joins(unit, &[&net], &["unit"]);
    if let Some(NetworkMode::Networks(of)) = &mut unit.spec.container.network {
        of.values_mut().for_each(|of| of.ipv4 = Some(format!("10.207.{third}.77")));
    }
    let unit = unit.started();
    assert_eq!(address(&unit, "eth0"), format!("10.207.{third}.77"));
    let other = joins(that_runs(subject, WAITS), &[&net], &["other"]).started();
    let given = address(&other, "eth0");
    let last: u8 = given.rsplit('.').next().unwrap().parse().unwrap();
    assert!(given.starts_with(&format!("10.207.{third}.")) && last >= 128, "{given}");
}

fn a_network_of_others_has_to_be_there(subject: &Subject) {
    let _alone = alone();
    let unit = that_runs(subject, WAITS);
    let net = network(&called(&unit, "net"));
    let outer = Network { external: true, ..net.clone() };
    let unit = joins(unit, &[&outer], &["unit"]);
    let engine = &subject.engine;
    let refused = engine.create(&unit.id, &unit.spec).and_then(|()| engine.start(&unit.id, &unit.spec));
    let refused = refused.unwrap_err();
    assert!(refused.to_string().contains(&net.name), "{refused}");
    let server = joins(that_runs(subject, &serves("server")), &[&net], &["server"]).started();
    let unit = unit.started();
    answers(&unit, "server:8000", "server");
    drop(unit);
    drop(server);
}

fn hosts_that_are_declared_are_known(subject: &Subject) {
    let _alone = alone();
    let unit = that_runs(subject, WAITS);
    let net = network(&called(&unit, "net"));
    let mut unit = joins(unit, &[&net], &["unit"]);
    unit.spec.container.extra_hosts =
        vec![ExtraHost { name: "declared".to_owned(), address: "10.9.8.7".to_owned() }];
    let unit = unit.started();
    assert_eq!(unit.says("grep -w declared /etc/hosts | awk '{ print $1 }'").0, "10.9.8.7\n");
    assert_eq!(unit.says("grep -c -w localhost /etc/hosts | grep -v 0").1, 0);
}

fn a_unit_may_have_the_network_of_another(subject: &Subject) {
    let _alone = alone();
    let web = that_runs(subject, &serves("web"));
    let net = network(&called(&web, "net"));
    let web = joins(web, &[&net], &["web"]).started();
    let mut beside = that_runs(subject, WAITS);
    beside.spec.container.network = Some(NetworkMode::Unit(web.id.as_str().to_owned()));
    let beside = beside.started();
    answers(&beside, "127.0.0.1:8000", "web");
    assert_eq!(address(&beside, "eth0"), address(&web, "eth0"));
}

/// A port that nobody has at the moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn publishes(mut unit: Unit<'_>, host: u16) -> Unit<'_> {
    unit.spec.container.ports = vec![PublishedPort {
        container: 8000,
        protocol: "tcp".to_owned(),
        address: Some("127.0.0.1".to_owned()),
        host: Some(host),
    }];
    unit
}

fn a_published_port_leads_to_the_unit_while_it_runs(subject: &Subject) {
    let _alone = alone();
    // In the engine's own network, which may not be that of the test.
    let outside = that_runs(subject, WAITS).started();
    let port = free_port();
    let web = that_runs(subject, &serves("web"));
    let net = network(&called(&web, "net"));
    let web = publishes(joins(web, &[&net], &["web"]), port).started();
    let at = format!("127.0.0.1:{port}");
    answers(&outside, &at, "web");
    web.stop();
    assert_eq!(asks(&outside, &at), None);
    subject.engine.start(&web.id, &web.spec).unwrap();
    answers(&outside, &at, "web");
    web.stop();
    // Another one may have it now.
    let other = that_runs(subject, &serves("other"));
    let _other = publishes(joins(other, &[&net], &["other"]), port).started();
    answers(&outside, &at, "other");
}

fn a_port_that_somebody_has_is_refused_by_its_number(subject: &Subject) {
    let _alone = alone();
    let port = free_port();
    let web = that_runs(subject, &serves("web"));
    let net = network(&called(&web, "net"));
    let web = publishes(joins(web, &[&net], &["web"]), port).started();
    let other = that_runs(subject, "echo ran > /workspace/ran; sleep 1000");
    let other = publishes(joins(other, &[&net], &["other"]), port);
    other.made();
    let refused = subject.engine.start(&other.id, &other.spec).unwrap_err();
    assert!(refused.to_string().contains(&port.to_string()), "{refused}");
    assert!(!other.root.join("ran").exists());
    web.stop();
    subject.engine.start(&other.id, &other.spec).unwrap();
    until("it runs", || other.root.join("ran").exists());
}

fn a_unit_without_declared_networks_may_have_one_of_its_own(subject: &Subject) {
    let _alone = alone();
    let outside = that_runs(subject, WAITS).started();
    let port = free_port();
    let mut web = publishes(that_runs(subject, &serves("web")), port);
    web.spec.container.network = None;
    web.spec.network = manifest::Network::Private;
    let web = web.started();
    answers(&outside, &format!("127.0.0.1:{port}"), "web");
    assert!(!address(&web, "eth0").is_empty());
    assert_eq!(asks(&outside, "127.0.0.1:8000"), None);
}
