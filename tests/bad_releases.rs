//! Releases that are bad, each in its own way: each is refused or rolled back, and meanwhile the version before serves, with
//! its data. A table says which was found when.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Outcome, Project, finish, until};
use crate::maker::{Maker, inside, key, up};
use crate::support::{Blobs, busybox, gzip};

/// A service that serves its version, and whose data tells which versions worked on it.
const MANIFEST: &str = r#"setpoint = 1
[project]
name = "shop"
version = "1.0.0"
[service.web]
image = "./image"
user = "root"
command = """
echo $SETPOINT_VERSION >> /data/log
mkdir -p /tmp/www; cp /note /tmp/www/index.html
exec httpd -f -p 8000 -h /tmp/www"""
ports = ["127.0.0.1:PORT:8000"]
volumes = { data = "/data" }
mounts = [{ source = "uploads", target = "/uploads" }]
health = { exec = "test $(cat /note) = $SETPOINT_VERSION", interval = "100ms", start_period = "10s" }
stop_grace = "1s"
[release]
repository = "ADDRESS/acme/shop"
verify = "20s"
steady = "100ms"
bake = "100ms"
[release.migrations]
in = "web"
"#;

/// Where a bad release was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Before anything stopped: there was no outage.
    Before,
    /// Before the commit: clients waited, and were answered by the version before.
    Held,
    /// After the commit: the new version is in effect, and a person goes back.
    After,
    /// It is not bad.
    Never,
}

impl Found {
    fn words(self) -> &'static str {
        match self {
            Self::Before => "before anything stopped",
            Self::Held => "before the commit",
            Self::After => "after the commit",
            Self::Never => "it is good",
        }
    }
}

/// A release, and what is to come of it.
struct Bad {
    what: &'static str,
    /// What the developer did to the project.
    made: fn(&Site),
    /// What happened to the release afterwards.
    spoiled: fn(&Site, &Project, &str),
    /// The step that the service dies in.
    dies_in: Option<&'static str>,
    found: Found,
    code: i32,
    says: &'static [&'static str],
}

const GOOD: Bad = Bad {
    what: "",
    made: |_| {},
    spoiled: |_, _, _| {},
    dies_in: None,
    found: Found::Before,
    code: 7,
    says: &[],
};

/// One that is found out where clients wait.
const HELD: Bad = Bad { found: Found::Held, code: 1, ..GOOD };

/// A server that ends when it is told from outside.
const MORTAL: &str =
    "httpd -p 8000 -h /tmp/www; until test -e /uploads/die; do sleep 0.1; done; exit 3\"\"\"";
const SERVES: &str = "exec httpd -f -p 8000 -h /tmp/www\"\"\"";
/// A health check that passes after two seconds.
const SLOW: (&str, &str) = ("exec httpd", "(sleep 2; touch /tmp/ready) & exec httpd");
const IS_READY: (&str, &str) = ("test $(cat", "test -e /tmp/ready && test $(cat");

const CORPUS: &[Bad] = &[
    Bad {
        what: "a byte of the bundle's list was changed",
        spoiled: |site, _, digest| flip(&site.maker.part(digest, "config")),
        says: &["should have digest"],
        ..GOOD
    },
    Bad {
        what: "a byte of the bundle's files was changed",
        spoiled: |site, _, digest| flip(&site.maker.part(digest, "layer")),
        says: &["should have digest"],
        ..GOOD
    },
    Bad {
        what: "signed by somebody else",
        spoiled: |site, machine, _| {
            site.maker.project.run(&["release", &site.version(), "--key", &site.theirs]).exits(0);
            let keys = machine.at("config/keys");
            fs::create_dir_all(&keys).unwrap();
            fs::copy(Path::new(&site.ours).with_extension("pub"), keys.join("ours.pub")).unwrap();
        },
        says: &["none of the keys in"],
        ..GOOD
    },
    Bad {
        what: "a byte of its image was changed",
        spoiled: |site, _, digest| flip(&site.maker.registry.blob(&site.layer(digest))),
        code: 1,
        says: &["fetch web", "Nothing was touched"],
        ..GOOD
    },
    Bad {
        what: "its image is gone from the registry",
        spoiled: |site, _, digest| fs::remove_file(site.maker.registry.blob(&site.image(digest))).unwrap(),
        code: 1,
        says: &["fetch web", "Nothing was touched"],
        ..GOOD
    },
    Bad {
        what: "its image is for another architecture",
        made: |site| {
            let mut blobs = Blobs::default();
            let image = blobs.image(&[(busybox("other"), gzip)]);
            let index = blobs.index(&[(image, "s390x")]);
            site.maker.registry.push(&blobs, &[&index], "acme/other:1");
            let reference = format!("image = \"{}/acme/other:1\"", site.maker.registry.address);
            site.maker.project.declare("image = \"./image\"", &reference);
        },
        code: 1,
        says: &["fetch web", "linux/s390x", "Nothing was touched"],
        ..GOOD
    },
    Bad {
        what: "a migration that was applied has another text",
        made: |site| {
            site.maker.project.write("migrations/1.0.0/1-begin.sh", "echo other >> /data/log\n");
        },
        code: 4,
        says: &["1.0.0/1-begin was changed after it was applied"],
        ..GOOD
    },
    Bad {
        what: "a migration fails",
        made: |site| site.migration("echo half >> /data/log\necho no such table >&2\nexit 7\n"),
        says: &["exit 7: no such table", "Rolled back"],
        ..HELD
    },
    Bad {
        what: "a migration never ends",
        made: |site| {
            site.migration("# setpoint: timeout = \"1s\"\necho half >> /data/log\nsleep 100000\n");
        },
        says: &["timed out after 1s", "Rolled back"],
        ..HELD
    },
    Bad {
        what: "crashes at its start",
        made: |site| site.declare("exec httpd", "exit 3; exec httpd"),
        says: &["verify web", "3", "Rolled back"],
        ..HELD
    },
    Bad {
        what: "hangs, and never gets well",
        made: |site| {
            site.declare("exec httpd", "exec sleep 100000; exec httpd");
            site.declare("test $(cat /note) = $SETPOINT_VERSION", "wget -q -O - 127.0.0.1:8000");
            site.declare("verify = \"20s\"", "verify = \"2s\"");
        },
        says: &["verify web", "after 2 s", "Rolled back"],
        ..HELD
    },
    Bad {
        what: "has another version inside than it says",
        made: |site| {
            site.maker.image("1.9.9");
            site.declare("verify = \"20s\"", "verify = \"2s\"");
        },
        says: &["verify web", "Rolled back"],
        ..HELD
    },
    Bad {
        what: "gets well too late",
        made: |site| {
            site.declare("exec httpd", "(sleep 100; touch /tmp/ready) & exec httpd");
            site.declare(IS_READY.0, IS_READY.1);
            site.declare("verify = \"20s\"", "verify = \"2s\"");
        },
        says: &["verify web", "after 2 s", "Rolled back"],
        ..HELD
    },
    Bad {
        what: "gets well, and dies before the commit",
        made: |site| {
            site.declare(SERVES, MORTAL);
            site.declare("steady = \"100ms\"", "steady = \"30s\"");
        },
        dies_in: Some("steady"),
        says: &["steady: web", "3", "Rolled back"],
        ..HELD
    },
    Bad {
        what: "gets well, and dies after the commit",
        made: |site| {
            site.declare(SERVES, MORTAL);
            site.declare("bake = \"100ms\"", "bake = \"30s\"");
        },
        dies_in: Some("bake"),
        found: Found::After,
        code: 1,
        says: &["bake: web", "3", "The new version is in effect", "setpoint rollback"],
        ..GOOD
    },
    Bad {
        what: "gets well slowly, but in time",
        made: |site| {
            site.declare(SLOW.0, SLOW.1);
            site.declare(IS_READY.0, IS_READY.1);
        },
        found: Found::Never,
        code: 0,
        says: &["is at 2.0."],
        ..GOOD
    },
];

/// Who makes the releases, and with what.
struct Site {
    maker: Maker,
    good: String,
    ours: String,
    theirs: String,
}

impl Site {
    fn new(port: u16) -> Self {
        let maker = Maker::new();
        let folder = maker.project.at("keys");
        fs::create_dir(&folder).unwrap();
        let (ours, theirs) = (key(&folder, "ours"), key(&folder, "theirs"));
        let good = MANIFEST.replace("ADDRESS", &maker.registry.address).replace("PORT", &port.to_string());
        let site = Self { maker, good, ours, theirs };
        site.reset("1.0.0");
        site
    }

    /// The project as it was, of this version.
    fn reset(&self, version: &str) {
        let project = &self.maker.project;
        let _ = fs::remove_dir_all(project.root.join("migrations"));
        project
            .write("setpoint.toml", &self.good.replace("1.0.0", version))
            .write("migrations/1.0.0/1-begin.sh", "echo begun >> /data/log\n");
        self.maker.image(version);
    }

    fn version(&self) -> String {
        let text = self.maker.project.read("setpoint.toml");
        let line = text.lines().find_map(|line| line.strip_prefix("version = \"")).unwrap();
        line.trim_end_matches('"').to_owned()
    }

    fn declare(&self, from: &str, to: &str) {
        self.maker.project.declare(from, to);
    }

    fn migration(&self, text: &str) {
        self.maker.project.write(&format!("migrations/{}/1-next.sh", self.version()), text);
    }

    fn document(&self, digest: &str) -> Value {
        serde_json::from_slice(&fs::read(self.maker.registry.blob(digest)).unwrap()).unwrap()
    }

    /// The digest of the image of a release.
    fn image(&self, digest: &str) -> String {
        let bundle: Value =
            serde_json::from_slice(&fs::read(self.maker.part(digest, "config")).unwrap()).unwrap();
        let reference = bundle["images"]["web"]["reference"].as_str().unwrap();
        reference.rsplit_once('@').unwrap().1.to_owned()
    }

    /// The digest of the first layer of the image of a release, which no other one has.
    fn layer(&self, digest: &str) -> String {
        self.document(&self.image(digest))["layers"][0]["digest"].as_str().unwrap().to_owned()
    }
}

fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// Somebody who asks all the time, over a connection of his own each time.
struct Client {
    seen: Arc<Mutex<Vec<Result<String, String>>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    fn of(port: u16) -> Self {
        let (seen, ends) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicBool>::default());
        let thread = std::thread::spawn({
            let (seen, ends) = (Arc::clone(&seen), Arc::clone(&ends));
            move || {
                while !ends.load(Ordering::Relaxed) {
                    let answer = ask(port).map_err(|error| error.to_string());
                    seen.lock().unwrap().push(answer);
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        });
        Self { seen, ends, thread: Some(thread) }
    }

    /// The answers since the last time, each once; after one that was asked for now.
    fn answers(&self) -> Vec<Result<String, String>> {
        let count = || self.seen.lock().unwrap().len();
        let now = count();
        // One may be under way.
        until("somebody is answered", || count() > now + 1);
        let mut seen = std::mem::take(&mut *self.seen.lock().unwrap());
        seen.sort();
        seen.dedup();
        seen
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

fn ask(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    let body = said.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    body.filter(|body| !body.is_empty()).ok_or_else(|| std::io::Error::other(format!("no answer: {said}")))
}

/// Everything that there is of instances and of volumes.
fn there_is(machine: &Project) -> Vec<String> {
    let names = |folder: &str| {
        let entries = fs::read_dir(machine.state().join(folder)).unwrap();
        entries.map(|entry| format!("{folder}/{}", entry.unwrap().file_name().display())).collect::<Vec<_>>()
    };
    let mut all = [names("units/v1"), names("volumes/v1")].concat();
    all.sort();
    all
}

/// The last change, as the history has it.
fn last(machine: &Project) -> Option<Value> {
    let all = machine.run(&["history", "--json"]).json()["changes"].as_array().unwrap().clone();
    let number = all.iter().filter_map(|change| change["number"].as_i64()).max()?;
    let one = machine.run(&["history", &number.to_string(), "--json"]).json();
    Some(one["changes"][0].clone())
}

fn has_begun(change: &Value, step: &str) -> bool {
    change["steps"].as_array().unwrap().iter().any(|of| {
        let named = of["step"].as_str().unwrap();
        named == step || named.split(' ').next() == Some(step)
    })
}

/// Upgrades, and has the service die when this step has begun.
fn upgrade(machine: &Project, version: &str, dies_in: Option<&str>) -> Outcome {
    let words = ["upgrade", version, "--no-daemon"];
    let Some(step) = dies_in else { return machine.run(&words) };
    let mut child = machine.start(&mut machine.command(&words));
    until("the step has begun", || {
        child.try_wait().unwrap().is_some()
            || last(machine)
                .is_some_and(|change| change["to"]["version"] == version && has_begun(&change, step))
    });
    machine.write("uploads/die", "");
    finish(child)
}

#[test]
fn a_bad_release_is_refused_or_rolled_back_and_the_version_before_serves() {
    if !rustix::process::geteuid().is_root() {
        // Only root holds ports.
        return;
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let site = Site::new(port);
    site.maker.release("1.0.0");
    let machine = site.maker.machine();
    site.maker.init(&machine, "1.0.0").exits(0);
    fs::create_dir(machine.root.join("uploads")).unwrap();
    up(&machine);
    until("it serves", || ask(port).is_ok());
    let client = Client::of(port);
    let mut written = "begun\n1.0.0".to_owned();
    let (mut table, mut wrong) = (String::new(), Vec::new());
    for (index, bad) in CORPUS.iter().enumerate() {
        let version = format!("2.0.{index}");
        let what = bad.what;
        site.reset(&version);
        (bad.made)(&site);
        let digest = site.maker.release(&version);
        (bad.spoiled)(&site, &machine, &digest);
        let _ = fs::remove_file(machine.root.join("uploads/die"));
        let (before, changed_before) = (there_is(&machine), last(&machine));
        client.answers();

        let outcome = upgrade(&machine, &version, bad.dies_in);
        let said = outcome.said();
        if outcome.code != bad.code || !bad.says.iter().all(|words| said.contains(words)) {
            wrong.push(format!("{what}: {}, {:?}: {outcome}", bad.code, bad.says));
        }
        let change = last(&machine).filter(|change| Some(change) != changed_before.as_ref());
        let ended = change.as_ref().map_or("not begun", |change| change["outcome"].as_str().unwrap());
        let froze = change.as_ref().is_some_and(|change| has_begun(change, "freeze"));
        let expected = match bad.found {
            Found::Before => (ended == "not begun" || ended == "dropped") && !froze,
            Found::Held => ended == "rolled-back" && froze,
            Found::After | Found::Never => ended == "committed" && froze,
        };
        assert!(expected, "{what}: {ended}, {froze}: {outcome}");
        if matches!(bad.found, Found::After | Found::Never) {
            // The way back is a person's to go: what the new version wrote is not in the data any more.
            machine.run(&["rollback", "--no-daemon"]).exits(6).says("--discard-writes");
            machine.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(0).says("is back at 1.0.0");
        } else {
            assert_eq!(there_is(&machine), before, "{what}: {outcome}");
            // Whoever asked was answered, by the version before, if after a while.
            assert_eq!(client.answers(), [Ok("1.0.0".to_owned())], "{what}: {outcome}");
        }
        if froze {
            written.push_str("\n1.0.0");
        }
        until(&format!("it has begun after: {what}"), || inside(&machine, "web", "cat /data/log") == written);
        assert_eq!(machine.run(&["status", "--json"]).json()["version"], "1.0.0", "{what}");
        machine.run(&["recover"]).exits(0).says("nothing to recover");
        machine.run(&["up", "--no-daemon"]).exits(0).says("web: nothing to do");
        let _ = fs::remove_dir_all(machine.at("config/keys"));
        writeln!(table, "{what:<46} {ended:<11} {}{}", bad.found.words(), outage(&outcome)).unwrap();
    }
    eprintln!("{table}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // For how long nobody was served is told to programs, too.
    let crashes = CORPUS.iter().position(|bad| bad.what == "crashes at its start").unwrap();
    let failed = machine.run(&["upgrade", &format!("2.0.{crashes}"), "--no-daemon", "--json"]);
    let told: Value = serde_json::from_str(failed.exits(1).stderr.lines().last().unwrap()).unwrap();
    assert_eq!(told["error"], "rolled-back");
    assert!(told["outage_seconds"].as_f64().unwrap() > 0.0, "{told}");
    // What was refused so often keeps nobody from a good one.
    site.reset("2.1.0");
    site.maker.release("2.1.0");
    machine.run(&["upgrade", "2.1.0", "--no-daemon"]).exits(0).says("is at 2.1.0");
    until("the new one serves", || ask(port).is_ok_and(|answer| answer == "2.1.0"));
    drop(client);
    machine.run(&["down", "--volumes", "--yes"]).exits(0);
}

/// How long nobody was answered, as it was told.
fn outage(outcome: &Outcome) -> String {
    let said = outcome.said().to_lowercase();
    let told = said.split_once("outage ").map(|(_, rest)| rest.lines().next().unwrap().trim_end_matches('.'));
    told.map_or_else(String::new, |told| format!(", outage {told}"))
}
