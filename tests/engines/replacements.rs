//! Published ports while what they lead to is replaced, or falls: a rule that knows nothing of the engine, and what is
//! tried on each through the binary itself.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use setpoint_model::container::PublishedPort;
use setpoint_runtime::engine::BaseSource;

use crate::daemon::kill_daemon;
use crate::docker::Scenario;
use crate::harness::{Project, finish, until};
use crate::leaks;
use crate::networks::{alone, called, joins, network};
use crate::place::{Kind, Place, Subject};
use crate::rules::Rule;
use crate::services::{WAITS, that_runs, with};
use crate::upgrades::generation;

pub const ON_THE_EMBEDDED_ENGINE: &[Scenario] = &[
    ("a_replacement_loses_no_request", |place| on(place, Kind::Embedded, no_request_is_lost)),
    ("a_replacement_loses_no_connection_that_is_new", |place| {
        on(place, Kind::Embedded, no_connection_is_lost)
    }),
    ("who_comes_while_a_service_is_down_waits", |place| on(place, Kind::Embedded, who_comes_waits)),
    ("what_holds_ports_outlives_all_and_is_there_again_when_it_was_killed", |place| {
        on(place, Kind::Embedded, the_holder_outlives_all)
    }),
    ("an_up_that_is_killed_leaves_nobody_waiting_for_ever", |place| on(place, Kind::Embedded, a_killed_up)),
    ("an_upgrade_without_data_is_reached_before_its_commit", |place| on(place, Kind::Embedded, reached_soon)),
];

pub const ON_DOCKER: &[Scenario] = &[
    ("a_replacement_loses_no_request", |place| on(place, Kind::Docker, no_request_is_lost)),
    ("a_replacement_loses_no_connection_that_is_new", |place| on(place, Kind::Docker, no_connection_is_lost)),
    ("who_comes_while_a_service_is_down_waits", |place| on(place, Kind::Docker, who_comes_waits)),
    ("what_holds_ports_outlives_all_and_is_there_again_when_it_was_killed", |place| {
        on(place, Kind::Docker, the_holder_outlives_all)
    }),
    ("an_up_that_is_killed_leaves_nobody_waiting_for_ever", |place| on(place, Kind::Docker, a_killed_up)),
    ("an_upgrade_without_data_is_reached_before_its_commit", |place| on(place, Kind::Docker, reached_soon)),
    ("what_asks_a_service_is_there_again_when_it_was_killed", asked_again),
    ("who_comes_is_led_to_a_service_that_the_engine_finds_well", |place| on(place, Kind::Docker, found_well)),
];

pub const ON_PODMAN: &[Scenario] = &[
    ("a_replacement_loses_no_request", |place| on(place, Kind::Podman, no_request_is_lost)),
    ("who_comes_while_a_service_is_down_waits", |place| on(place, Kind::Podman, who_comes_waits)),
];

pub const RULES: &[Rule] =
    named![ports_are_held_while_a_unit_is_replaced, ports_are_lent_to_one_that_stands_in];

/// A server whose connections may be kept, on port 8000, which says `WORD`.
const SERVER: &str = r#"
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        word = os.environ["WORD"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(word)))
        self.end_headers()
        self.wfile.write(word)
    def log_message(self, *words):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(("", 8000), Handler).serve_forever()
"#;

const MANIFEST: &str = r#"setpoint = 1
[service.web]
base = "host"
command = ["python3", "/srv/own/server.py"]
mounts = [{ source = "own", target = "/srv/own" }]
env = { WORD = "one" }
ports = ["PORT:8000"]
restart = "always"
"#;

pub const BY_HTTP: &str = "health = { http = \"/\", port = 8000 }\n";

/// The same service of an image without Python, which keeps nothing in its own layer.
const OF_AN_IMAGE: &str = r#"setpoint = 1
[engine]
default = "ENGINE"
[service.web]
rootfs = "ROOTFS"
command = ["sh", "-c", "mkdir /dev/shm/own; printf $WORD > /dev/shm/own/index.html; exec httpd -f -p 8000 -h /dev/shm/own"]
env = { WORD = "one" }
ports = ["PORT:8000"]
restart = "always"
"#;

/// Where a service is tried.
pub struct Site<'a> {
    pub place: &'a Place,
    pub kind: Kind,
}

/// Tries something where the addresses of the engine's containers are reached; nothing, without the rights of root.
pub fn on(place: &Place, kind: Kind, scenario: fn(&Site<'_>)) {
    if rustix::process::geteuid().is_root() {
        place.engine(kind).within(|| scenario(&Site { place, kind }));
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Site<'_> {
    /// A project with a service that has this besides, and its port.
    pub fn project(&self, more: &str) -> (Project, u16) {
        let port = free_port();
        let manifest = match (self.kind, &self.place.engine(self.kind).base) {
            (Kind::Docker | Kind::Podman, BaseSource::Rootfs { path }) => {
                OF_AN_IMAGE.replace("ENGINE", self.kind.name()).replace("ROOTFS", &path.to_string_lossy())
            }
            _ => MANIFEST.to_owned(),
        };
        let manifest = format!("{}{more}", manifest.replace("PORT", &port.to_string()));
        // The engine's networks are called after it.
        let mut project = Project::of(None, &format!("shop-{port}"), &manifest);
        project.write("own/server.py", SERVER);
        for (name, value) in self.place.variables(self.kind) {
            project.set(&name, &value);
        }
        (project, port)
    }

    /// What a service needs for its clients to keep their connections.
    fn keeps(&self) -> &'static str {
        if self.kind.is_daemon() { BY_HTTP } else { "" }
    }

    /// Ends the server from inside, as a crash would. What kills it ends with it, and so not before nobody listens.
    fn crash(&self, project: &Project) {
        let kill = match self.kind {
            Kind::Docker | Kind::Podman => "killall -9 httpd; sleep 20",
            Kind::Embedded | Kind::Repeating => "pkill -9 -f server[.]py; sleep 20",
        };
        project.run(&["exec", "web", "--", "sh", "-c", kill]);
    }
}

/// The processes that hold ports of a project's services.
fn holders(project: &Project) -> Vec<u32> {
    hidden(project, "__ports")
}

/// The processes of a project that are started by this word.
fn hidden(project: &Project, word: &str) -> Vec<u32> {
    let processes = leaks::processes(project.state().parent().unwrap());
    processes.into_iter().filter(|(_, line)| line.contains(word)).map(|(pid, _)| pid).collect()
}

/// The word that is said over a connection of its own.
pub fn word_at(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    let body = said.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    body.filter(|body| !body.is_empty()).ok_or_else(|| std::io::Error::other(format!("no answer: {said}")))
}

/// A connection on which one word after the other is asked for.
pub struct Kept(BufReader<TcpStream>);

impl Kept {
    pub fn new(port: u16) -> std::io::Result<Self> {
        Ok(Self(BufReader::new(TcpStream::connect(("127.0.0.1", port))?)))
    }

    pub fn word(&mut self) -> std::io::Result<String> {
        self.0.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")?;
        let (mut head, mut length) = (String::new(), 0);
        while self.0.read_line(&mut head)? > 2 {
            let last = head.lines().last().unwrap_or_default().to_lowercase();
            length = last.strip_prefix("content-length: ").map_or(length, |text| text.parse().unwrap());
        }
        let mut word = vec![0; length];
        self.0.read_exact(&mut word)?;
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(std::io::Error::other(head));
        }
        Ok(String::from_utf8_lossy(&word).into_owned())
    }
}

/// Clients that ask all the time.
pub struct Load {
    ends: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub fn new() -> Self {
        Self { ends: Arc::default(), asked: Arc::default(), failures: Arc::default(), clients: Vec::new() }
    }

    pub fn with(mut self, mut ask: impl FnMut() -> std::io::Result<String> + Send + 'static) -> Self {
        let (ends, asked, failures) =
            (Arc::clone(&self.ends), Arc::clone(&self.asked), Arc::clone(&self.failures));
        self.clients.push(std::thread::spawn(move || {
            while !ends.load(Ordering::SeqCst) {
                match ask() {
                    Ok(word) if ["one", "two"].contains(&word.as_str()) => {}
                    other => failures.lock().unwrap().push(format!("{other:?}")),
                }
                asked.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(10));
            }
        }));
        self
    }

    /// Waits until this many more have been asked.
    pub fn goes_on(&self, more: usize) {
        let before = self.asked.load(Ordering::SeqCst);
        until("the clients go on", || self.asked.load(Ordering::SeqCst) >= before + more);
    }

    #[track_caller]
    pub fn lost_nothing(self) {
        self.ends.store(true, Ordering::SeqCst);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
        let failures = self.failures.lock().unwrap();
        assert!(failures.is_empty(), "{} of {:?}: {failures:?}", failures.len(), self.asked);
    }
}

/// Changes the service, in a way that restarts it, and in one that makes it anew, while clients ask.
fn replace_under(load: Load, project: &Project, port: u16) {
    load.goes_on(20);
    project.declare("\"one\"", "\"two\"").up().says("stop");
    load.goes_on(20);
    assert_eq!(word_at(port).unwrap(), "two");
    project.declare("\"two\"", "\"one\"").run(&["up", "--recreate"]).exits(0).says("create");
    load.goes_on(20);
    assert_eq!(word_at(port).unwrap(), "one");
    load.lost_nothing();
}

fn no_request_is_lost(site: &Site<'_>) {
    let (project, port) = site.project(BY_HTTP);
    project.up();
    let holder = holders(&project);
    let (mut one, mut other) = (Kept::new(port).unwrap(), Kept::new(port).unwrap());
    let load = Load::new().with(move || one.word()).with(move || other.word()).with(move || word_at(port));
    replace_under(load, &project, port);
    assert_eq!(holders(&project), holder);
    project.run(&["down"]).exits(0);
    assert!(holders(&project).is_empty());
    TcpListener::bind(("127.0.0.1", port)).unwrap();
}

fn no_connection_is_lost(site: &Site<'_>) {
    let (project, port) = site.project("");
    project.up();
    replace_under(Load::new().with(move || word_at(port)).with(move || word_at(port)), &project, port);
    project.run(&["stop"]).exits(0);
    assert!(holders(&project).is_empty());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

/// Who asks waits until the new version is well, and not until it has stayed so; where it does not stay, he notices nothing.
fn reached_soon(site: &Site<'_>) {
    let (project, port) = site.project(&format!("{BY_HTTP}[release]\nsteady = \"1m\"\n"));
    project.run(&["up", "--no-daemon"]).exits(0);
    let mut kept = Kept::new(port).unwrap();
    let load = Load::new().with(move || kept.word()).with(move || word_at(port));
    project.declare("\"one\"", "\"two\"");
    for signal in [Signal::INT, Signal::KILL] {
        let upgrade = project.start(&mut project.command(&["upgrade", "--no-rehearse", "--no-daemon"]));
        until("the new version answers", || word_at(port).is_ok_and(|word| word == "two"));
        load.goes_on(20);
        kill_process(Pid::from_child(&upgrade), signal).unwrap();
        let ended = finish(upgrade);
        assert_ne!(ended.code, 0, "{ended}");
        project.run(&["recover"]).exits(0);
        assert_eq!((word_at(port).unwrap().as_str(), generation(&project)), ("one", 0), "{ended}");
        load.goes_on(20);
    }
    load.lost_nothing();
    project.run(&["down"]).exits(0);
}

fn who_comes_waits(site: &Site<'_>) {
    for more in ["", BY_HTTP] {
        let (project, port) = site.project(more);
        project.up();
        assert_eq!(word_at(port).unwrap(), "one");
        // It is started again at once, and then after a second.
        for _ in 0..2 {
            site.crash(&project);
            let clients: Vec<_> =
                (0..4).map(|_| std::thread::spawn(move || word_at(port).unwrap())).collect();
            clients.into_iter().for_each(|client| assert_eq!(client.join().unwrap(), "one"));
        }
        project.run(&["status", "web"]).exits(0).says("start (it ended with exit");
        project.run(&["down"]).exits(0);
    }
}

fn the_holder_outlives_all(site: &Site<'_>) {
    let (project, port) = site.project(site.keeps());
    project.up();
    let holder = holders(&project);
    assert_eq!(holder.len(), 1);
    let mut kept = Kept::new(port).unwrap();
    assert_eq!(kept.word().unwrap(), "one");
    kill_daemon(&project);
    assert_eq!((kept.word().unwrap().as_str(), holders(&project)), ("one", holder.clone()));
    // Without a daemon, the next `up` finds that it is gone.
    kill(&holder);
    until("nobody has the port", || TcpStream::connect(("127.0.0.1", port)).is_err());
    project.run(&["up", "--no-daemon"]).exits(0).says("nothing to do");
    assert_eq!(word_at(port).unwrap(), "one");
    // With one, nobody has to.
    project.up();
    kill(&holders(&project));
    until("somebody has the port again", || word_at(port).is_ok_and(|word| word == "one"));
    project.run(&["down"]).exits(0);
    assert!(holders(&project).is_empty());
}

fn kill(holders: &[u32]) {
    for holder in holders {
        let pid = rustix::process::Pid::from_raw(i32::try_from(*holder).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}

fn a_killed_up(site: &Site<'_>) {
    let (project, port) = site.project("");
    project.run(&["up", "--no-daemon"]).exits(0);
    project.declare("\"one\"", "\"two\"");
    let mut command = project.command(&["up", "--no-daemon"]);
    finish(project.start(command.env("SETPOINT_CRASH_AT", "stop.acted"))).exits(128 + 9);
    // Nothing runs, and nobody is about to start anything.
    until("nobody has the port", || holders(&project).is_empty());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    project.up();
    assert_eq!(word_at(port).unwrap(), "two");
    project.run(&["down"]).exits(0);
}

/// Says another word until it is well.
const LATE: &str = "echo -n none > /dev/shm/own/index.html; (sleep 1; echo -n $WORD > /dev/shm/own/index.html; : > /dev/shm/well) &";

fn found_well(site: &Site<'_>) {
    let check =
        "health = { exec = [\"test\", \"-e\", \"/dev/shm/well\"], interval = \"200ms\", retries = 50 }\n";
    let (project, port) = site.project(check);
    project.declare("printf $WORD > /dev/shm/own/index.html;", LATE);
    project.up();
    assert_eq!(word_at(port).unwrap(), "one");
    replace_under(Load::new().with(move || word_at(port)).with(move || word_at(port)), &project, port);
    project.run(&["down"]).exits(0);
}

fn asked_again(place: &Place) {
    // Wherever it is asked from: nothing of it has to be reached.
    place.engine(Kind::Docker);
    let site = Site { place, kind: Kind::Docker };
    let (project, _) = site.project("health = { http = \"/\", port = 8000, interval = \"1s\" }\n");
    project.up();
    let healthy = || project.run(&["status", "web"]).said().contains("running, healthy");
    until("it is well", healthy);
    let checkers = || hidden(&project, "__check");
    let first = checkers();
    assert_eq!(first.len(), 1);
    kill(&first);
    until("another one asks", || checkers().len() == 1 && checkers() != first);
    until("it is well", healthy);
    // Without a daemon, the next `up` finds that it is gone; a second one finds it.
    kill_daemon(&project);
    kill(&checkers());
    project.run(&["up", "--no-daemon"]).exits(0).says("nothing to do");
    let now = checkers();
    assert_eq!(now.len(), 1);
    project.run(&["up", "--no-daemon"]).exits(0);
    assert_eq!(checkers(), now);
    project.run(&["down"]).exits(0);
    until("nobody asks", || checkers().is_empty());
    project.run(&["uninstall", "--yes"]).exits(0).says_not("which is not Setpoint's");
}

fn ports_are_held_while_a_unit_is_replaced(subject: &Subject) {
    subject.within(|| {
        let _alone = alone();
        let (port, other) = (free_port(), free_port());
        let serves = |word: &str| {
            let page = format!("mkdir /dev/shm/own; echo -n {word} > /dev/shm/own/index.html");
            format!("{page}; httpd -p 8000 -h /dev/shm/own; {WAITS}")
        };
        let published = |host| PublishedPort {
            container: 8000,
            protocol: "tcp".to_owned(),
            address: Some("127.0.0.1".to_owned()),
            host: Some(host),
        };
        let mut unit = that_runs(subject, &serves("one"));
        unit.spec.holds_ports = true;
        let net = network(&called(&unit, "net"));
        let unit = joins(unit, &[&net], &["web"]);
        let mut unit = with(unit, |c| c.ports = vec![published(port)]).started();
        assert_eq!(word_at(port).unwrap(), "one");
        // Who comes while there is nothing waits for the next instance.
        let held = subject.engine.hold(&unit.id).unwrap();
        let waits = std::thread::spawn(move || word_at(port));
        unit.stop();
        subject.engine.remove(&unit.id).unwrap();
        unit.spec.container.command.as_mut().unwrap()[2] = serves("two");
        let unit = unit.started();
        drop(held);
        assert_eq!(waits.join().unwrap().unwrap(), "two");
        // What was held is held on when whoever held it has gone.
        drop(subject.engine.hold(&unit.id).unwrap());
        assert_eq!(word_at(port).unwrap(), "two");
        let unit = with(unit, |c| c.ports = vec![published(other)]);
        subject.engine.set_ports(&unit.id, &unit.spec).unwrap();
        assert_eq!(word_at(other).unwrap(), "two");
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
        assert_eq!(subject.engine.tend(&unit.id).unwrap().len(), 1);
        unit.stop();
        assert!(TcpStream::connect(("127.0.0.1", other)).is_err());
        // As it was at last.
        subject.engine.start_again(&unit.id).unwrap();
        assert_eq!(word_at(other).unwrap(), "two");
        unit.stop();
    });
}

fn ports_are_lent_to_one_that_stands_in(subject: &Subject) {
    subject.within(|| {
        let (_alone, engine) = (alone(), &subject.engine);
        let port = free_port();
        let serves = |word: &str| {
            let page = format!("mkdir /dev/shm/own; echo -n {word} > /dev/shm/own/index.html");
            let mut unit = that_runs(subject, &format!("{page}; httpd -p 8000 -h /dev/shm/own; {WAITS}"));
            unit.spec.holds_ports = true;
            let published = PublishedPort {
                container: 8000,
                protocol: "tcp".to_owned(),
                address: Some("127.0.0.1".to_owned()),
                host: Some(port),
            };
            let net = network(&called(&unit, "net"));
            with(joins(unit, &[&net], &[word]), |c| c.ports = vec![published])
        };
        let (unit, mut other) = (serves("one").started(), serves("two"));
        other.spec.is_withheld = true;
        let other = other.started();
        assert_eq!(word_at(port).unwrap(), "one");
        engine.lend(&unit.id, &other.id).unwrap();
        assert_eq!(word_at(port).unwrap(), "two");
        // Whatever becomes of the unit.
        unit.stop();
        assert_eq!(word_at(port).unwrap(), "two");
        drop(engine.hold(&unit.id).unwrap());
        engine.start_withheld(&unit.id).unwrap();
        assert_eq!(word_at(port).unwrap(), "two");
        // Until it is reached again itself.
        engine.publish(&unit.id).unwrap();
        assert_eq!(word_at(port).unwrap(), "one");
        other.stop();
        assert!(engine.lend(&unit.id, &other.id).is_err());
        assert_eq!(word_at(port).unwrap(), "one");
        unit.stop();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    });
}
