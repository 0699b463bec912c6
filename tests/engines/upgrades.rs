//! A new image of a service takes the place of the one before, with its data, or not at all: through the binary itself.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use setpoint_model::digest::{Digest, Encoder};

use crate::daemon::kill_daemon;
use crate::docker::Scenario;
use crate::harness::{Outcome, Project, finish, until};
use crate::place::{Kind, Place};
use crate::stacks;

pub const ON_THE_EMBEDDED_ENGINE: &[Scenario] = &[
    ("an_upgrade_takes_the_data_along_and_a_rollback_brings_it_back", |place| {
        there_and_back(place, Kind::Embedded)
    }),
    ("an_upgrade_that_fails_ends_at_the_old_version_with_its_data", |place| {
        bad_versions(place, Kind::Embedded)
    }),
    ("an_upgrade_may_be_killed_anywhere", |place| killed_anywhere(place, Kind::Embedded)),
    ("an_upgrade_that_shares_the_data_may_be_killed_anywhere", |place| {
        shared_and_killed(place, Kind::Embedded)
    }),
    ("a_recovery_may_be_killed_too", |place| killed_twice(place, Kind::Embedded)),
    ("a_rollback_may_be_killed_anywhere", rollback_killed),
    ("what_has_done_its_work_is_not_run_again_by_a_rollback", done_once),
    ("a_daemon_recovers_an_upgrade_that_was_cut_off", recovered_by_a_daemon),
    ("of_two_upgrades_at_once_one_waits", two_at_once),
];

pub const ON_DOCKER: &[Scenario] = &[
    ("an_upgrade_takes_the_data_along_and_a_rollback_brings_it_back", |place| {
        there_and_back(place, Kind::Docker)
    }),
    ("an_upgrade_that_fails_ends_at_the_old_version_with_its_data", |place| {
        bad_versions(place, Kind::Docker)
    }),
    ("an_upgrade_may_be_killed_anywhere", |place| killed_anywhere(place, Kind::Docker)),
    ("an_upgrade_that_shares_the_data_may_be_killed_anywhere", |place| {
        shared_and_killed(place, Kind::Docker)
    }),
];

pub const ON_PODMAN: &[Scenario] =
    &[("an_upgrade_takes_the_data_along_and_a_rollback_brings_it_back", |place| {
        there_and_back(place, Kind::Podman)
    })];

/// A database whose data tells which versions worked on it, and a service without data.
const MANIFEST: &str = r#"setpoint = 1
[engine]
default = "ENGINE"
[project]
version = "1.0.0"
[release]
verify = "5s"
steady = "100ms"
bake = "100ms"
[release.migrations]
in = "db"
[service.db]
image = "./one"
user = "root"
network = "host"
volumes = { data = "/data" }
command = "trap 'exit 0' TERM; test ! -e /broken; cat /note >> /data/log; sleep 100000 & wait $!"
health = { exec = "test -e /data/log", interval = "200ms", start_period = "10s" }
stop_grace = "2s"
[service.web]
image = "./one"
user = "root"
network = "host"
depends_on = { db = "healthy" }
command = "trap 'exit 0' TERM; sleep 100000 & wait $!"
stop_grace = "2s"
"#;

/// A project that stands.
pub fn project(place: &Place, kind: Kind) -> Project {
    let project = declared_only(place, kind);
    project.run(&["up", "--no-daemon"]).exits(0);
    project
}

/// One of which nothing is made yet.
pub fn declared_only(place: &Place, kind: Kind) -> Project {
    place.engine(kind);
    let mut manifest = MANIFEST.replace("ENGINE", kind.name());
    if kind == Kind::Podman {
        // Its checks need systemd.
        let without = |line: &&str| !line.starts_with("health = ");
        manifest = manifest.lines().filter(without).map(|line| format!("{line}\n")).collect();
        manifest = manifest.replace("db = \"healthy\"", "db = \"started\"");
    }
    // Volumes are called after their projects, and an engine has one of a name.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("shop-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut project = Project::of(None, &name, &manifest);
    for version in ["one", "two"] {
        let image = stacks::image(&project, &format!("{version}\n"));
        fs::rename(image, project.root.join(version)).unwrap();
    }
    match kind {
        Kind::Docker => project.set("DOCKER_HOST", &place.host(kind)),
        Kind::Podman => project.set("CONTAINER_HOST", &place.host(kind)),
        Kind::Embedded | Kind::Repeating => {}
    }
    project
}

pub fn declare(project: &Project, from: &str, to: &str) {
    let text = project.read("setpoint.toml");
    project.write("setpoint.toml", &text.replace(&format!("./{from}"), &format!("./{to}")));
}

pub fn upgrade(project: &Project) -> Outcome {
    project.run(&["upgrade", "--no-daemon"])
}

/// What the database has written down, which tells that it runs, too.
pub fn log(project: &Project) -> String {
    let outcome = project.run(&["exec", "db", "--", "cat", "/data/log"]);
    if outcome.code == 0 { outcome.stdout.replace('\n', " ").trim().to_owned() } else { outcome.to_string() }
}

/// The units with their states, as `status` has them.
fn states(project: &Project) -> BTreeMap<String, String> {
    let status = project.run(&["status", "--json"]);
    let units = status.exits(0).json()["units"].as_array().unwrap().clone();
    let text = |unit: &serde_json::Value, key: &str| unit[key].as_str().unwrap_or_default().to_owned();
    units.iter().map(|unit| (text(unit, "unit"), text(unit, "state"))).collect()
}

pub fn all_run(project: &Project) -> bool {
    let states = states(project);
    states.len() == 2 && states.values().all(|state| state.starts_with("running"))
}

fn there_and_back(place: &Place, kind: Kind) {
    let project = project(place, kind);
    until("it has begun", || log(&project) == "one");
    upgrade(&project).exits(0).says("nothing to do");
    project.run(&["rollback"]).exits(5).says("no earlier generation");
    declare(&project, "one", "two");
    project.declare("1.0.0", "2.0.0");
    // `up` does not do by the way what cannot be undone.
    project.run(&["up", "--no-daemon"]).exits(6).says("setpoint upgrade").says(&declared(&project));
    assert_eq!(log(&project), "one");
    let planned = project.run(&["upgrade", "--dry-run"]);
    let (from, to) = (format!("copy {} (", declared(&project)), format!(") to {}.1", declared(&project)));
    planned.exits(0).says("breaking").says(&from).says(&to).says("Nothing has been changed");
    planned.says("copies need ").says("free").says("outage  about ");
    let expected = project.run(&["upgrade", "--dry-run", "--json"]).json();
    assert!(expected["copied_bytes"].as_u64() > Some(0), "{expected}");
    assert!(expected["expected_outage_seconds"].as_f64() > Some(0.0), "{expected}");
    assert_eq!(log(&project), "one");
    let upgraded = upgrade(&project);
    upgraded.exits(0).says("2.0.0 (generation 1)").says("outage");
    until("the new one has written", || log(&project) == "one two");
    until("all run", || all_run(&project));
    project.run(&["up", "--no-daemon"]).exits(0).says("db: nothing to do").says("web: nothing to do");
    upgrade(&project).exits(0).says("nothing to do");
    // The way back loses what was written, which has to be said.
    project.run(&["exec", "db", "--", "sh", "-c", "echo new >> /data/log"]).exits(0);
    project.run(&["rollback", "--no-daemon"]).exits(6).says(&declared(&project)).says("--discard-writes");
    project.run(&["rollback", "9.9", "--no-daemon"]).exits(5).says("9.9");
    project.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(0).says("is back at");
    until("the old one has begun again", || log(&project) == "one one");
    until("all run", || all_run(&project));
    project.run(&["status"]).exits(0).says("out of date");
    project.run(&["up", "--no-daemon"]).exits(6).says("setpoint upgrade");
    upgrade(&project).exits(0);
    until("the new one has written", || log(&project) == "one one two");
    let history = project.run(&["history"]);
    history.exits(0).says("rollback").says("upgrade").says("committed").says("2.0.0");
    assert_eq!(history.stdout.lines().count(), 3, "{history}");
    project.run(&["history", "1"]).exits(0).says("set-aside db").says("commit");
    project.run(&["history", "7"]).exits(5);
    project.run(&["down", "--volumes", "--yes"]).exits(0).says(&format!("{}.", declared(&project)));
    project.run(&["up", "--no-daemon"]).exits(0);
    until("it begins anew", || log(&project) == "two");
}

/// The volumes of a project, by their names.
pub fn volumes(place: &Place, kind: Kind, project: &Project) -> Vec<String> {
    let mut names: Vec<String> = match kind {
        Kind::Docker => place.docker(&["volume", "ls", "-q"]).lines().map(str::to_owned).collect(),
        _ => fs::read_dir(project.state().join("volumes/v1"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect(),
    };
    names.retain(|name| name.starts_with(&declared(project)));
    names.sort();
    names
}

/// Where the files of a volume are.
fn files(place: &Place, kind: Kind, project: &Project, volume: &str) -> PathBuf {
    match kind {
        Kind::Docker => {
            PathBuf::from(place.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", volume]).trim())
        }
        _ => project.state().join("volumes/v1").join(volume).join("data"),
    }
}

/// All that is told of the files of a volume, and what is in them.
pub fn print(place: &Place, kind: Kind, project: &Project, volume: &str) -> Digest {
    let mut encoder = Encoder::new("volume", 1);
    take_in(&files(place, kind, project, volume), &mut encoder);
    encoder.finish()
}

fn take_in(path: &Path, encoder: &mut Encoder) {
    let about = path.symlink_metadata().unwrap();
    let times = [about.mtime(), about.mtime_nsec()];
    let numbers = [about.uid(), about.gid(), about.permissions().mode(), about.rdev() as u32];
    encoder.text(&path.file_name().unwrap().to_string_lossy()).text(&format!("{numbers:?} {times:?}"));
    encoder.text(&format!("{:?}", attributes(path)));
    match () {
        () if about.is_dir() => {
            let mut entries: Vec<_> =
                fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
            entries.sort();
            entries.iter().for_each(|path| take_in(path, encoder));
        }
        () if about.is_symlink() => {
            encoder.bytes(fs::read_link(path).unwrap().as_os_str().as_encoded_bytes());
        }
        () if about.is_file() => {
            encoder.bytes(&fs::read(path).unwrap());
        }
        () => {}
    }
}

/// The extended attributes of a file, with their values.
fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 4096];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        (String::from_utf8_lossy(name).into_owned(), value[..length].to_owned())
    };
    names.map(value).collect()
}

/// Gives the database a second volume, which only the next version writes to, with files of all kinds in it.
fn with_files_of_all_kinds(place: &Place, kind: Kind) -> Project {
    let project = declared_only(place, kind);
    project.declare("volumes = { data = \"/data\" }", "volumes = { data = \"/data\", kept = \"/kept\" }");
    project
        .declare("cat /note >> /data/log;", "cat /note >> /data/log; grep -q one /note || rm -rf /kept/*;");
    project.run(&["up", "--no-daemon"]).exits(0);
    let made = "cd /kept; mkdir -p a/b; echo text > a/x; ln a/x a/same; ln -s ../x a/b/link; mkfifo a/fifo; chown 7:8 a/x; \
        chmod 4751 a/x; chmod 1777 a/b; truncate -s 100000 a/hole; touch -d @1000000000 a/x a/b a";
    project.run(&["exec", "db", "--", "sh", "-c", made]).exits(0);
    let file = files(place, kind, &project, &kept(&project)).join("a/x");
    rustix::fs::setxattr(file, "trusted.told", b"of it", rustix::fs::XattrFlags::empty()).unwrap();
    project
}

/// The volume that only the next version writes to, as it is declared.
fn kept(project: &Project) -> String {
    declared(project).replace("_data", "_kept")
}

fn bad_versions(place: &Place, kind: Kind) {
    let project = with_files_of_all_kinds(place, kind);
    until("it has begun", || log(&project) == "one");
    let untouched = print(place, kind, &project, &kept(&project));
    project
        .run(&[
            "exec",
            "db",
            "--",
            "sh",
            "-c",
            "mkdir /data/sub; ln -s ../log /data/sub/link; echo x > /data/sub/x",
        ])
        .exits(0);
    let before = print(place, kind, &project, &declared(&project));
    let good = project.read("setpoint.toml");
    let bad = |from: &str, to: &str, code: i32, says: &[&str]| {
        let new = good.replacen("./one", "./two", 1);
        assert!(new.contains(from), "{from}");
        project.write("setpoint.toml", &new.replacen(from, to, 1));
        let outcome = upgrade(&project);
        outcome.exits(code);
        for words in says {
            outcome.says(words);
        }
        project.write("setpoint.toml", &good);
        until(&format!("all run after {to}"), || all_run(&project));
        assert_eq!(print(place, kind, &project, &kept(&project)), untouched, "{to}");
        assert_eq!(log(&project).split(' ').next(), Some("one"), "{to}");
        project.run(&["recover"]).exits(0).says("nothing to recover");
        // Only what the old version did by itself after it was started again differs.
        let now = project.run(&["exec", "db", "--", "sh", "-c", "cat /data/log; ls /data/sub"]).stdout;
        assert!(now.lines().all(|line| ["one", "link", "x"].contains(&line)), "{to}: {now}");
    };
    // What is found before anything is touched leaves everything as it was, to the byte.
    bad("image = \"./two\"", "image = \"./three\"", 4, &["three"]);
    fs::create_dir(project.root.join("three")).unwrap();
    bad("image = \"./two\"", "image = \"./three\"", 1, &["fetch db", "Nothing was touched"]);
    assert_eq!(print(place, kind, &project, &declared(&project)), before);
    bad("test ! -e /broken", "exit 3", 1, &["verify db", "Rolled back"]);
    bad("test -e /data/log\"", "test -e /data/never\"", 1, &["verify db", "Rolled back"]);
    bad("cat /note >>", "rm -r /data/sub; exit 4; cat /note >>", 1, &["Rolled back"]);
    let history = project.run(&["history"]);
    history.exits(0).says("rolled-back");
    assert!(!history.stdout.contains("committed"), "{history}");
    project.write("setpoint.toml", &good.replace("./one", "./two"));
    upgrade(&project).exits(0);
    assert!(log(&project).ends_with("two"), "{}", log(&project));
}

/// Points within what is done to engines, and between that and what is written down of it.
const WITHIN: &[&str] = &[
    "copy.copied",
    "set-aside.noted",
    "set-aside.moved",
    "create.announced",
    "create.acted",
    "create.recorded",
    "start.announced",
    "start.acted",
    "start.recorded",
    "migrate.ready",
    "migrate.begun",
    "migrate.ran",
    "migrate.noted",
];

/// Declares the next version, with what it does to the data.
fn declare_next(project: &Project) {
    declare(project, "one", "two");
    let folder = project.root.join("migrations/2.0.0");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("1-moved.sh"), "echo moved >> /data/log\n").unwrap();
    fs::write(folder.join("2-seen.sh"), "# setpoint: stage = \"post\"\necho seen >> /data/log\n").unwrap();
}

fn declare_last(project: &Project) {
    declare(project, "two", "one");
    fs::remove_dir_all(project.root.join("migrations")).unwrap();
}

/// All points at which an upgrade of this project, or a rollback, can be killed, in order.
pub fn points(project: &Project) -> Vec<String> {
    let history = project.run(&["history", "1", "--json"]).json();
    let steps = history["changes"][0]["steps"].as_array().unwrap().clone();
    let begun = steps.iter().filter(|step| step["kind"] == "intent");
    let step = |step: &serde_json::Value| step["step"].as_str().unwrap().to_owned();
    let when = ["announced", "acted", "recorded"];
    begun.map(step).flat_map(|step| when.map(|when| format!("{step}.{when}"))).collect()
}

/// A sample of them; all of them where `SETPOINT_ALL_POINTS` is set.
pub fn sample(points: Vec<String>, every: usize) -> Vec<String> {
    if std::env::var_os("SETPOINT_ALL_POINTS").is_some() {
        return points;
    }
    let begin = usize::try_from(std::process::id()).unwrap() % every;
    let is_commit = |point: &String| point.starts_with("commit.");
    let chosen = |(index, point): &(usize, String)| index % every == begin || is_commit(point);
    points.into_iter().enumerate().filter(chosen).map(|(_, point)| point).collect()
}

/// Kills a command at a point, and has the next command put all in order. Gives what `recover` said.
pub fn killed_at(project: &Project, arguments: &[&str], point: &str) -> String {
    let mut command = project.command(arguments);
    let killed = finish(project.start(command.env("SETPOINT_CRASH_AT", point)));
    assert_eq!(killed.code, 128 + 9, "{point}: {killed}");
    let recovered = project.run(&["recover"]);
    assert_eq!(recovered.code, 0, "{point}: {recovered}");
    project.run(&["recover"]).exits(0).says("nothing to recover");
    recovered.said()
}

/// The generation that is in effect.
pub fn generation(project: &Project) -> u64 {
    let files = fs::read_dir(project.state().join("active/v1"));
    let Some(file) = files.ok().and_then(|mut files| files.next()) else { return 0 };
    let text = fs::read_to_string(file.unwrap().path()).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["generation"].as_u64().unwrap()
}

fn killed_anywhere(place: &Place, kind: Kind) {
    let all = {
        let project = with_files_of_all_kinds(place, kind);
        declare_next(&project);
        upgrade(&project).exits(0);
        // Points of a copy are called after the volume, which has another name in each project and generation.
        let name = format!(" {}_", project.root.file_name().unwrap().to_string_lossy());
        let own =
            points(&project).into_iter().map(|point| point.replace(&name, " NAME_").replace(".1.", ".NEXT."));
        own.chain(WITHIN.iter().map(|&point| point.to_owned())).collect::<Vec<_>>()
    };
    assert!(all.len() >= 60, "{all:?}");
    let project = with_files_of_all_kinds(place, kind);
    let mut written = log(&project);
    let name = project.root.file_name().unwrap().to_string_lossy().into_owned();
    for point in sample(all, if kind == Kind::Docker { 7 } else { 4 }) {
        let (before, volume) = (generation(&project), volume(&project));
        declare_next(&project);
        let point = point.replace("NAME", &name).replace("NEXT", &(before + 1).to_string());
        // What is in a volume while nobody writes to it is what the old version has to find again.
        let aside = print(place, kind, &project, &volume);
        let still = volume.replace("_data", "_kept");
        let untouched = print(place, kind, &project, &still);
        let said = killed_at(&project, &["upgrade", "--no-daemon"], &point);
        until(&format!("all run after {point}"), || all_run(&project));
        let is_new = generation(&project) > before;
        if is_new {
            assert_eq!(log(&project), format!("{written} moved two seen"), "{point}: {said}");
            project.run(&["up", "--no-daemon"]).exits(0).says("db: nothing to do");
            assert_eq!(print(place, kind, &project, &volume), aside, "{point}");
            project.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(0);
        }
        assert_eq!(print(place, kind, &project, &still), untouched, "{point}");
        let now = log(&project);
        assert!(now.starts_with(&written), "{point}: {now}");
        // The old version has begun again, if it was stopped, and nothing else happened to its data.
        assert!(now[written.len()..].split_whitespace().all(|word| word == "one"), "{point}: {now}");
        written = now;
        declare_last(&project);
        project.run(&["up", "--no-daemon"]).exits(0).says("db: nothing to do").says("web: nothing to do");
        eprintln!("{:<9} {point:<28} {}", kind.name(), if is_new { "new" } else { "old" });
    }
}

/// The old and the new work on the same data: what is cut off ends at one of them, and the next upgrade goes on.
fn shared_and_killed(place: &Place, kind: Kind) {
    let next = || {
        let project = project(place, kind);
        declare_next(&project);
        project.declare("[release]\n", "[release]\nlane = \"compatible\"\n");
        for file in ["1-moved.sh", "2-seen.sh"] {
            let path = format!("migrations/2.0.0/{file}");
            project.write(&path, &format!("# setpoint: idempotent = true\n{}", project.read(&path)));
        }
        let head = "# setpoint: idempotent = true\n# setpoint: stage = \"forward_only\"\n";
        project.write("migrations/2.0.0/3-gone.sh", &format!("{head}echo gone >> /data/log\n"));
        project
    };
    let all = {
        let project = next();
        upgrade(&project).exits(0);
        let within = WITHIN.iter().filter(|point| !point.starts_with("copy"));
        points(&project).into_iter().chain(within.map(|&point| point.to_owned())).collect::<Vec<_>>()
    };
    for point in sample(all, if kind == Kind::Docker { 40 } else { 8 }) {
        let project = next();
        let said = killed_at(&project, &["upgrade", "--no-daemon"], &point);
        until(&format!("all run after {point}"), || all_run(&project));
        let is_new = generation(&project) > 0;
        let now = log(&project);
        let once = now.strip_suffix(" gone").unwrap_or(&now);
        assert!(!is_new || once.ends_with("moved two seen"), "{point}: {now}: {said}");
        assert!(is_new || once == now, "{point}: {now}: {said}");
        upgrade(&project).exits(0);
        // What was done before it was cut off is not done again; what comes after the commit is left to the next upgrade.
        let log = log(&project);
        assert!(["moved", "seen", "two", "gone"].iter().all(|word| log.contains(word)), "{point}: {log}");
        let status = project.run(&["migrate", "status"]).stdout;
        assert!(
            status.lines().count() == 3 && status.lines().all(|line| line.contains(" done ")),
            "{status}"
        );
        eprintln!("{:<9} {point:<28} {} (shared)", kind.name(), if is_new { "new" } else { "old" });
    }
}

/// The volume of the database, as it is declared.
fn declared(project: &Project) -> String {
    format!("{}_data", project.root.file_name().unwrap().to_string_lossy())
}

/// The volume that holds the database's data.
fn volume(project: &Project) -> String {
    let files = fs::read_dir(project.state().join("active/v1"));
    let Some(file) = files.ok().and_then(|mut files| files.next()) else { return declared(project) };
    let text = fs::read_to_string(file.unwrap().path()).unwrap();
    let active: serde_json::Value = serde_json::from_str(&text).unwrap();
    let name = declared(project);
    active["volumes"][&name].as_str().unwrap_or(&name).to_owned()
}

fn killed_twice(place: &Place, kind: Kind) {
    let project = project(place, kind);
    declare(&project, "one", "two");
    let drop = format!("drop-volume {}.1", declared(&project));
    for undo in ["put-back db", "put-back web", &drop, "resume db", "resume web"] {
        for when in ["announced", "acted", "recorded"] {
            let mut command = project.command(&["upgrade", "--no-daemon"]);
            let killed = finish(project.start(command.env("SETPOINT_CRASH_AT", "steady.acted")));
            assert_eq!(killed.code, 128 + 9, "{killed}");
            let point = format!("{undo}.{when}");
            killed_at(&project, &["recover"], &point);
            until(&format!("all run after {point}"), || all_run(&project));
            let log = log(&project);
            assert!(log.split(' ').all(|word| word == "one"), "{point}: {log}");
            assert_eq!(generation(&project), 0, "{point}");
        }
    }
    for publish in ["publish db.announced", "publish web.acted"] {
        let mut command = project.command(&["upgrade", "--no-daemon"]);
        finish(project.start(command.env("SETPOINT_CRASH_AT", "commit.acted"))).exits(128 + 9);
        killed_at(&project, &["recover"], publish);
        until(&format!("all run after {publish}"), || all_run(&project) && log(&project).ends_with("two"));
        project.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(0);
    }
}

fn done_once(place: &Place) {
    let project = project(place, Kind::Embedded);
    let prepare = "[service.prepare]\nimage = \"./one\"\nuser = \"root\"\nnetwork = \"host\"\n\
        one_shot = true\nmounts = [{ source = \"ran\", target = \"/ran\" }]\ncommand = \"cat /note >> /ran/log\"\n";
    std::fs::create_dir(project.root.join("ran")).unwrap();
    project.write("setpoint.toml", &format!("{}{prepare}", project.read("setpoint.toml")));
    project.run(&["up", "--no-daemon"]).exits(0);
    declare(&project, "one", "two");
    upgrade(&project).exits(0);
    assert_eq!(project.read("ran/log"), "one\ntwo\n");
    project.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(0);
    assert_eq!(project.read("ran/log"), "one\ntwo\n");
    project.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(0);
    assert_eq!(project.read("ran/log"), "one\ntwo\n");
}

fn rollback_killed(place: &Place) {
    let project = project(place, Kind::Embedded);
    for step in ["freeze db", "set-aside web", "start db", "verify db", "steady", "commit", "publish db"] {
        for when in ["announced", "acted"] {
            declare(&project, "one", "two");
            upgrade(&project).exits(0);
            let point = format!("{step}.{when}");
            let newest = generation(&project);
            killed_at(&project, &["rollback", "--discard-writes", "--no-daemon"], &point);
            until(&format!("all run after {point}"), || all_run(&project));
            if generation(&project) == newest {
                assert!(log(&project).contains("two"), "{point}: {}", log(&project));
                project.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(0);
            }
            assert!(!log(&project).contains("two"), "{point}: {}", log(&project));
            declare(&project, "two", "one");
            project.run(&["up", "--no-daemon"]).exits(0).says("db: nothing to do");
        }
    }
}

fn recovered_by_a_daemon(place: &Place) {
    let project = project(place, Kind::Embedded);
    project.run(&["up"]).exits(0);
    declare(&project, "one", "two");
    for (point, version) in [("steady.acted", "one"), ("commit.acted", "two")] {
        let mut command = project.command(&["upgrade"]);
        finish(project.start(command.env("SETPOINT_CRASH_AT", point))).exits(128 + 9);
        until("the daemon has put it in order", || {
            let history = project.run(&["history", "--json"]).json();
            history["changes"].as_array().unwrap().iter().all(|change| change["outcome"].is_string())
        });
        until("all run", || log(&project).ends_with(version) && all_run(&project));
    }
    // What the daemon keeps now is the new one.
    project.run(&["exec", "db", "--", "killall", "-9", "sleep"]);
    until("it has begun again", || log(&project).ends_with("two two"));
    kill_daemon(&project);
}

fn two_at_once(place: &Place) {
    let project = project(place, Kind::Embedded);
    declare(&project, "one", "two");
    let start = || project.start(&mut project.command(&["upgrade", "--no-daemon"]));
    let both = [start(), start()].map(finish);
    for outcome in &both {
        outcome.exits(0);
    }
    let did = both.iter().filter(|outcome| outcome.said().contains("nothing to do")).count();
    assert_eq!(did, 1, "{}\n{}", both[0], both[1]);
    assert_eq!(log(&project), "one two");
    assert_eq!(generation(&project), 1);
}
