//! What services keep is backed up, to a folder and to a registry, and comes back: through the binary itself.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use setpoint_model::names::UnitName;
use setpoint_runtime::lock::{Holder, UnitLock};

use crate::daemon::kill_daemon;
use crate::docker::Scenario;
use crate::harness::{Outcome, Project, finish, until};
use crate::maker::logged_in;
use crate::migrations::{add, pairs, remove, standings};
use crate::place::{Kind, Place, surroundings};
use crate::registry::{Server, USER};
use crate::stacks;
use crate::upgrades::{generation, print};

pub const ON_THE_EMBEDDED_ENGINE: &[Scenario] = &[
    ("data_of_a_backup_comes_back_and_a_rollback_leads_away_again", |place| {
        there_and_back(place, Kind::Embedded)
    }),
    ("a_service_may_make_its_own_backup", |place| by_its_own_command(place, Kind::Embedded)),
    ("a_drill_shows_whether_a_backup_can_be_restored", |place| drilled(place, Kind::Embedded)),
    ("backups_lie_in_a_registry", |place| in_a_registry(place, Kind::Embedded)),
    ("a_backup_may_be_killed_anywhere", |place| killed_anywhere(place, Kind::Embedded)),
    ("a_restore_of_a_backup_may_be_killed_anywhere", |place| restore_killed(place, Kind::Embedded)),
    ("a_daemon_starts_what_a_backup_stopped_that_was_killed", resumed_by_a_daemon),
    ("who_waits_to_put_a_backup_in_order_can_be_stopped", stopped_while_it_waits),
    ("a_backup_that_was_tampered_with_is_refused", tampered),
    ("what_is_no_backup_is_told", told),
    ("a_backup_knows_which_migrations_its_data_has", migrated),
    ("a_full_disk_leaves_nothing_of_a_backup", full_disk),
];

pub const ON_DOCKER: &[Scenario] = &[
    ("data_of_a_backup_comes_back_and_a_rollback_leads_away_again", |place| {
        there_and_back(place, Kind::Docker)
    }),
    ("a_service_may_make_its_own_backup", |place| by_its_own_command(place, Kind::Docker)),
    ("a_drill_shows_whether_a_backup_can_be_restored", |place| drilled(place, Kind::Docker)),
    ("backups_lie_in_a_registry", |place| in_a_registry(place, Kind::Docker)),
    ("a_backup_may_be_killed_anywhere", |place| killed_anywhere(place, Kind::Docker)),
    ("a_restore_of_a_backup_may_be_killed_anywhere", |place| restore_killed(place, Kind::Docker)),
    ("a_backup_goes_from_one_engine_to_another", to_another_engine),
];

pub const ON_PODMAN: &[Scenario] = &[
    ("data_of_a_backup_comes_back_and_a_rollback_leads_away_again", |place| {
        there_and_back(place, Kind::Podman)
    }),
    ("a_service_may_make_its_own_backup", |place| by_its_own_command(place, Kind::Podman)),
    ("a_drill_shows_whether_a_backup_can_be_restored", |place| drilled(place, Kind::Podman)),
];

/// A database that tells in its data how often it has begun, and one that writes its data out itself.
const MANIFEST: &str = r#"setpoint = 1
[engine]
default = "ENGINE"
[project]
name = "NAME"
version = "1.0.0"
[release]
verify = "10s"
steady = "100ms"
bake = "100ms"
keep = 3
[service.db]
image = "./one"
user = "root"
volumes = { data = "/data" }
command = "trap 'exit 0' TERM; test ! -e /data/broken || exit 3; echo begun >> /data/log; sleep 100000 & wait $!"
health = { exec = "test -e /data/log", interval = "200ms", start_period = "10s" }
stop_grace = "2s"
[service.db.first_boot]
seed = { run = "echo seeded >> /data/seeds" }
[service.own]
image = "./one"
user = "root"
volumes = { own = "/own" }
command = "trap 'exit 0' TERM; sleep 100000 & wait $!"
backup = { run = "cat /own/words; echo told >&2", restore = "cat > /own/words" }
stop_grace = "2s"
"#;

/// A project of this name, which is up.
fn named(place: &Place, kind: Kind, name: &str) -> Project {
    place.engine(kind);
    let mut manifest = MANIFEST.replace("ENGINE", kind.name()).replace("NAME", name);
    if kind == Kind::Podman {
        // Its checks need systemd.
        let without = |line: &&str| !line.starts_with("health = ");
        manifest = manifest.lines().filter(without).map(|line| format!("{line}\n")).collect();
    }
    let mut project = Project::of(None, name, &manifest);
    fs::rename(stacks::image(&project, "one\n"), project.root.join("one")).unwrap();
    match kind {
        Kind::Docker => project.set("DOCKER_HOST", &place.host(kind)),
        Kind::Podman => project.set("CONTAINER_HOST", &place.host(kind)),
        Kind::Embedded | Kind::Repeating => {}
    }
    project
}

fn project(place: &Place, kind: Kind) -> Project {
    // Volumes are called after their projects, and an engine has one of a name.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("kept-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let project = named(place, kind, &name);
    project.run(&["up", "--no-daemon"]).exits(0);
    until("it has begun", || log(&project) == "begun");
    project
}

#[track_caller]
fn inside(project: &Project, unit: &str, script: &str) -> String {
    let outcome = project.run(&["exec", unit, "--", "sh", "-c", script]);
    outcome.exits(0);
    outcome.stdout.trim_end().replace('\n', " ")
}

/// What the database has written down, which tells that it runs, too.
fn log(project: &Project) -> String {
    let outcome = project.run(&["exec", "db", "--", "cat", "/data/log"]);
    if outcome.code == 0 { outcome.stdout.trim_end().replace('\n', " ") } else { outcome.to_string() }
}

fn name(project: &Project) -> String {
    project.root.file_name().unwrap().to_string_lossy().into_owned()
}

/// Where backups go.
fn folder(project: &Project) -> String {
    project.at("backups").display().to_string()
}

/// Makes a backup, and gives its name.
#[track_caller]
fn backup(project: &Project, arguments: &[&str]) -> String {
    let made = project.run(&[&["backup", "--json"], arguments].concat());
    made.exits(0);
    made.json()["name"].as_str().unwrap().to_owned()
}

fn restore(project: &Project, from: &str) -> Outcome {
    project.run(&["restore", "db", "--from", from, "--no-daemon"])
}

/// The backups of a place, as they are listed.
fn list(project: &Project, from: &str) -> Vec<String> {
    let listed = project.run(&["restore", "--from", from, "--list", "--json"]);
    let listed = listed.exits(0).json();
    let backups = listed["backups"].as_array().unwrap().iter();
    backups.map(|backup| backup["name"].as_str().unwrap().to_owned()).collect()
}

/// The volume of the database that was made for a generation.
fn volume(project: &Project, generation: u64) -> String {
    let plain = format!("{}_data", name(project));
    if generation == 0 { plain } else { format!("{plain}.{generation}") }
}

fn there_and_back(place: &Place, kind: Kind) {
    let project = project(place, kind);
    let to = folder(&project);
    inside(
        &project,
        "db",
        "cd /data; mkdir -p sub/empty; echo text > sub/x; ln sub/x y; ln -s ./sub//x link; chmod 640 sub/x; \
         chown 1000:1001 sub; echo .wh. > .wh.x; chmod 1777 sub/empty",
    );
    let first = backup(&project, &["--to", &to]);
    inside(&project, "db", "rm -r /data/sub; echo more >> /data/log");
    let told = project.run(&["backup", "db", "--to", &to]);
    told.exits(0).says("db stood still for").says("data").says("Next: setpoint restore --from");
    let names = list(&project, &to);
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(names[0], first);
    assert!(names[1].contains("-db-"), "{names:?}");
    let written = log(&project);
    assert_eq!(written, "begun begun more begun");

    let from = format!("{to}:{first}");
    let planned = project.run(&["restore", "--from", &from, "--dry-run"]);
    planned.exits(0).says("Nothing has been changed").says(&format!("fill {}", volume(&project, 1)));
    assert_eq!(log(&project), written);
    restore(&project, &from).exits(0).says("is restored").says("setpoint rollback --discard-writes");
    // It has begun once more, on what was there when it was stopped.
    until("it has begun", || log(&project) == "begun begun");
    let all = "cd /data; cat sub/x y link; stat -c '%a %u:%g %h' sub sub/x sub/empty; readlink link; cat .wh.x seeds";
    assert_eq!(
        inside(&project, "db", all),
        "text text text 755 1000:1001 3 640 0:0 2 1777 0:0 2 ./sub//x .wh. seeded"
    );
    project.run(&["up", "--no-daemon"]).exits(0).says("db: nothing to do").says("own: nothing to do");
    project.run(&["history"]).exits(0).says("restore");

    project.run(&["rollback", "--no-daemon"]).exits(6).says("--discard-writes");
    project.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(0);
    until("what was there is there again", || log(&project) == format!("{written} begun"));
    // The last one, if none is named.
    restore(&project, &to).exits(0);
    until("it has begun", || log(&project) == "begun begun more begun");

    // A machine that has nothing but the folder: what was seeded is not seeded again.
    project.run(&["down", "--volumes", "--yes"]).exits(0);
    let bare = named(place, kind, &format!("{}-again", name(&project)));
    let of = ["--of", &name(&project)].map(str::to_owned);
    bare.run(&["restore", "--from", &from, "--no-daemon"]).exits(6).says(&format!("--of {}", name(&project)));
    bare.run(&["restore", "--from", &from, &of[0], &of[1], "--no-daemon"]).exits(0);
    until("it has begun", || log(&bare) == "begun begun");
    assert_eq!(inside(&bare, "db", "cat /data/sub/x /data/seeds"), "text seeded");
    bare.run(&["up", "--no-daemon"]).exits(0).says("db: nothing to do");
    assert_eq!(inside(&bare, "db", "cat /data/seeds"), "seeded");
    bare.run(&["down", "--volumes", "--yes"]).exits(0);
}

fn by_its_own_command(place: &Place, kind: Kind) {
    let project = project(place, kind);
    let to = folder(&project);
    inside(&project, "own", "echo first > /own/words");
    let made = project.run(&["backup", "own", "--to", &to]);
    made.exits(0).says("its own backup").says("nothing was stopped for it");
    // What has not changed lies there once.
    project.run(&["backup", "own", "--to", &to]).exits(0).says("of it were there already");
    inside(&project, "own", "echo second > /own/words; : > /own/other");
    project.run(&["restore", "own", "--from", &to, "--no-daemon"]).exits(0);
    assert_eq!(inside(&project, "own", "cat /own/words; ls /own"), "first words");
    assert_eq!(log(&project), "begun", "what has nothing to do with it goes on");
    project.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(0);
    assert_eq!(inside(&project, "own", "cat /own/words"), "second");

    // What fails is not kept, and is told with what it said.
    inside(&project, "own", "rm /own/words");
    project.declare("cat /own/words; echo told >&2", "echo half; echo told >&2; exit 4");
    let failed = project.run(&["backup", "own", "--to", &to]);
    failed.exits(1).says("the command `backup` of own failed: exit 4").says("| told");
    assert_eq!(list(&project, &to).len(), 2);
    project.declare("cat > /own/words\"", "cat > /own/words; echo no >&2; exit 5\"");
    let failed = project.run(&["restore", "own", "--from", &to, "--no-daemon"]);
    failed.exits(1).says("load own").says("exit 5").says("Rolled back");
    assert_eq!(inside(&project, "own", "ls /own"), "other");
    project.run(&["stop", "own"]).exits(0);
    project.run(&["backup", "--to", &to]).exits(5).says("own does not run").says("setpoint up own");
    project.run(&["down", "--volumes", "--yes"]).exits(0);
}

fn drilled(place: &Place, kind: Kind) {
    let project = project(place, kind);
    let to = folder(&project);
    inside(&project, "own", "echo first > /own/words");
    let made = project.run(&["backup", "--to", &to, "--drill"]);
    made.exits(0).says("can be restored").says("db was well on it").says("own was well on it");
    assert_nothing_is_left(place, kind, &project);
    let again = project.run(&["backup", "--from", &to, "--drill", "--json"]);
    let drill = again.exits(0).json()["drill"].clone();
    assert_eq!(drill["well"], serde_json::json!(["db", "own"]));
    // What does not come up on it is told; what runs is not touched.
    project.declare("test ! -e /data/broken || exit 3", "exit 3");
    if kind == Kind::Podman {
        // Without a check, only that it stays tells, and how soon it has ended is the machine's affair.
        project.declare("steady = \"100ms\"", "steady = \"2s\"");
    }
    let bad = project.run(&["backup", "db", "--from", &to, "--drill"]);
    bad.exits(1).says("db: ").says("the backup is kept");
    assert_nothing_is_left(place, kind, &project);
    assert_eq!(log(&project), "begun begun");
    // What shares the host's network has no instance of its own: its files are compared.
    project.declare("exit 3", "test ! -e /data/broken || exit 3");
    project.declare("[service.own]", "[service.own]\nnetwork = \"host\"");
    let compared = project.run(&["backup", "--from", &to, "--drill"]);
    compared
        .exits(0)
        .says("db was well on it")
        .says("own was not started on it: it is in the host's network");
    project.run(&["down", "--volumes", "--yes"]).exits(0);
}

/// Nothing is there but the project itself.
#[track_caller]
fn assert_nothing_is_left(place: &Place, kind: Kind, project: &Project) {
    let left = project.state().join("backups/v1").read_dir().unwrap().count();
    assert_eq!(left, 0, "something is kept for the time being");
    let own = self::name(project);
    // An engine has volumes, and containers that copy them, of other projects, too.
    let of_own =
        |name: &str| Some(name.strip_prefix(&own)?.to_owned()).filter(|rest| rest.starts_with(['_', '-']));
    let is_kept = |rest: &str| ["_data", "_own"].contains(&rest.split('.').next().unwrap_or_default());
    let volumes: Vec<String> = match kind {
        Kind::Docker => place.docker(&["volume", "ls", "-q"]).lines().map(str::to_owned).collect(),
        Kind::Embedded => {
            let entries = project.state().join("volumes/v1").read_dir().unwrap();
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
        }
        _ => return,
    };
    let odd = volumes
        .iter()
        .filter_map(|name| of_own(name))
        .filter(|rest| !is_kept(rest) || rest.ends_with(".backup"));
    assert_eq!(odd.collect::<Vec<_>>(), Vec::<String>::new());
    if kind == Kind::Docker {
        let containers = place.docker(&["ps", "--all", "--format", "{{.Names}}"]);
        let copying = containers.lines().filter_map(|name| of_own(name.strip_prefix("setpoint-copy-")?));
        assert_eq!(copying.collect::<Vec<_>>(), Vec::<String>::new());
    }
}

fn in_a_registry(place: &Place, kind: Kind) {
    let registry = Server::with_login();
    let mut project = project(place, kind);
    logged_in(&mut project, &registry.address, USER.1);
    let to = format!("oci://{}/acme/kept", registry.address);
    inside(&project, "own", "echo first > /own/words");
    inside(&project, "db", "head -c 300000 /dev/urandom > /data/much; md5sum < /data/much > /data/sum");
    let first = backup(&project, &["--to", &to, "--drill"]);
    let second = backup(&project, &["db", "--to", &format!("{to}:before-the-move")]);
    assert_eq!(second, "before-the-move");
    let only: Vec<&str> = vec![&first];
    assert_eq!(list(&project, &to), only, "what somebody named himself is asked for by its name");
    project.run(&["backup", "--to", &format!("{to}:before-the-move")]).exits(2).says("already");
    inside(&project, "db", "rm /data/much");
    restore(&project, &to).exits(0).says(&first);
    assert_eq!(inside(&project, "db", "md5sum < /data/much | cmp - /data/sum && echo same"), "same");
    restore(&project, &format!("{to}:before-the-move")).exits(0);
    assert_nothing_is_left(place, kind, &project);
    restore(&project, &format!("{to}:other")).exits(5).says("of the name other").says(&first);
    restore(&project, &format!("oci://{}/acme/none", registry.address)).exits(5).says("there is no backup");

    // What lies there is looked at, every byte.
    let text = project.run(&["restore", "--from", &to, "--list", "--json"]).json();
    let parts = text["backups"][0]["parts"].as_array().unwrap().clone();
    let of_db = parts.iter().find(|part| part["units"][0] == "db").unwrap();
    flip(&registry.blob(of_db["layer"].as_str().unwrap()), 1000);
    restore(&project, &format!("{to}:{first}")).exits(7).says("digest");
    assert_nothing_is_left_running_but(&project);

    let mut stranger = named(place, kind, &format!("{}-strange", name(&project)));
    logged_in(&mut stranger, &registry.address, "wrong");
    stranger.run(&["up", "--no-daemon"]).exits(0);
    stranger.run(&["backup", "--to", &to]).exits(7).says("refused the login");
    assert_eq!(log(&stranger), "begun", "nothing was stopped for it");
    stranger.run(&["restore", "--from", &to]).exits(7).says("refused the login");
    stranger.run(&["down", "--volumes", "--yes"]).exits(0);
    let away = "oci://127.0.0.1:9/acme/kept";
    project.run(&["backup", "--to", away]).exits(7).says("cannot be reached");
    project.run(&["down", "--volumes", "--yes"]).exits(0);
}

/// It goes on as it was.
#[track_caller]
fn assert_nothing_is_left_running_but(project: &Project) {
    assert!(log(project).starts_with("begun"), "{}", log(project));
    project.run(&["recover"]).exits(0).says("nothing to recover");
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// Runs a command that is killed at a point, and gives what it said.
#[track_caller]
fn killed(project: &Project, arguments: &[&str], point: &str) {
    let mut command = project.command(arguments);
    let killed = finish(project.start(command.env("SETPOINT_CRASH_AT", point)));
    assert_eq!(killed.code, 128 + 9, "{point}: {killed}");
}

/// Somebody has a unit that a backup stopped, and does not let go of it.
fn stopped_while_it_waits(place: &Place) {
    let project = project(place, Kind::Embedded);
    let to = folder(&project);
    killed(&project, &["backup", "--to", &to], "backup.stopped");
    let (roots, _) = surroundings(project.state().parent().unwrap(), BTreeMap::new());
    let unit = UnitName::new("db").unwrap();
    let nobody = |_: Option<&Holder>| ControlFlow::Break(());
    let held = UnitLock::acquire(&roots, &project.root, &unit, "somebody", nobody).unwrap();
    for command in ["recover", "uninstall"] {
        let mut waits =
            project.start(project.command(&[command]).args((command == "uninstall").then_some("--yes")));
        let mut said = BufReader::new(waits.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(said.any(|line| line.contains("waiting for `somebody`")), "{command}");
        kill_process(Pid::from_child(&waits), Signal::INT).unwrap();
        assert_eq!(waits.wait().unwrap().code(), Some(130), "{command}");
    }
    drop(held);
    project.run(&["recover"]).exits(0);
    assert_nothing_is_left_running_but(&project);
}

fn killed_anywhere(place: &Place, kind: Kind) {
    let project = project(place, kind);
    let to = folder(&project);
    inside(&project, "own", "echo first > /own/words");
    let mut listed = 0;
    for point in [
        "backup.stopped",
        "backup.copied",
        "backup.started",
        "backup.read",
        "backup.parts",
        "backup.listing",
        "backup.listed",
        "drill.filled",
        "drill.up",
    ] {
        killed(&project, &["backup", "--to", &to, "--drill"], point);
        let names = list(&project, &to);
        listed += usize::from(matches!(point, "backup.listed" | "drill.filled" | "drill.up"));
        assert_eq!(names.len(), listed, "{point}: {names:?}");
        // The next command puts it in order, whichever it is.
        let next = project.run(&["up", "--no-daemon"]);
        next.exits(0).says("A backup of").says("db: nothing to do");
        until(&format!("it runs after {point}"), || log(&project).starts_with("begun"));
        assert_nothing_is_left(place, kind, &project);
    }
    let made = backup(&project, &["--to", &to, "--drill"]);
    assert_eq!(list(&project, &to).last(), Some(&made));
    assert!(unfinished(&to).is_empty(), "{:?}", unfinished(&to));
    // So does who removes all there is.
    killed(&project, &["backup", "--to", &to, "--drill"], "drill.up");
    project.run(&["down", "--volumes", "--yes"]).exits(0);
    killed_drill_and_uninstall(place, kind);
}

fn killed_drill_and_uninstall(place: &Place, kind: Kind) {
    let project = project(place, kind);
    inside(&project, "own", "echo first > /own/words");
    killed(&project, &["backup", "--to", &folder(&project), "--drill"], "drill.up");
    project.run(&["down", "own"]).exits(0);
    killed(&project, &["backup", "db", "--to", &folder(&project), "--drill"], "drill.up");
    project.run(&["uninstall", "--yes"]).exits(0);
    assert!(!project.state().join("backups").exists());
    if kind == Kind::Docker {
        let volumes = place.docker(&["volume", "ls", "-q"]);
        let own: Vec<&str> = volumes.lines().filter(|name| name.contains(&self::name(&project))).collect();
        assert!(own.iter().all(|name| name.ends_with("_data") || name.ends_with("_own")), "{own:?}");
    }
}

/// What was begun to be written in a folder of backups.
fn unfinished(to: &str) -> Vec<String> {
    let entries = Path::new(to).join("blobs/sha256").read_dir().unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with('.')).collect()
}

fn restore_killed(place: &Place, kind: Kind) {
    let project = project(place, kind);
    let to = folder(&project);
    inside(&project, "own", "echo first > /own/words");
    inside(&project, "db", "echo of the backup > /data/note");
    backup(&project, &["--to", &to]);
    inside(&project, "db", "echo of today > /data/note");
    inside(&project, "own", "echo second > /own/words");
    let steps = [
        "fetch db",
        "fill",
        "freeze db",
        "set-aside own",
        "start db",
        "verify db",
        "load own",
        "steady",
        "commit",
        "publish own",
        "clean",
    ];
    let points = steps.iter().flat_map(|step| ["announced", "acted", "recorded"].map(|when| (step, when)));
    let every = if kind == Kind::Docker { 4 } else { 1 };
    let all: Vec<_> = points.collect();
    for (at, (step, when)) in all.into_iter().enumerate() {
        if at % every != 0 && *step != "commit" {
            continue;
        }
        let before = generation(&project);
        let held = volume(&project, data_of(&project));
        let step = if *step == "fill" {
            format!("fill {}", volume(&project, before + 1))
        } else {
            (*step).to_owned()
        };
        let point = format!("{step}.{when}");
        let kept = print(place, kind, &project, &held);
        killed(&project, &["restore", "--from", &to, "--no-daemon"], &point);
        project.run(&["recover"]).exits(0);
        project.run(&["recover"]).exits(0).says("nothing to recover");
        until(&format!("it runs after {point}"), || log(&project).starts_with("begun"));
        let (note, words) =
            (inside(&project, "db", "cat /data/note"), inside(&project, "own", "cat /own/words"));
        if generation(&project) > before {
            assert_eq!((note.as_str(), words.as_str()), ("of the backup", "first"), "{point}");
            assert_eq!(print(place, kind, &project, &held), kept, "{point}: what was set aside");
            project.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(0);
        }
        let note = inside(&project, "db", "cat /data/note");
        assert_eq!(
            (note.as_str(), inside(&project, "own", "cat /own/words").as_str()),
            ("of today", "second"),
            "{point}"
        );
    }
    project.run(&["down", "--volumes", "--yes"]).exits(0);
}

/// The generation whose volume holds the database's data.
fn data_of(project: &Project) -> u64 {
    let Some(file) = fs::read_dir(project.state().join("active/v1")).ok().and_then(|mut files| files.next())
    else {
        return 0;
    };
    let text = fs::read_to_string(file.unwrap().path()).unwrap();
    let active: serde_json::Value = serde_json::from_str(&text).unwrap();
    let held = active["volumes"][volume(project, 0)].as_str().unwrap_or_default().to_owned();
    held.rsplit_once('.').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

fn resumed_by_a_daemon(place: &Place) {
    let project = project(place, Kind::Embedded);
    project.run(&["up"]).exits(0);
    killed(&project, &["backup", "db", "--to", &folder(&project)], "backup.stopped");
    until("the daemon has started it again", || log(&project).starts_with("begun begun"));
    kill_daemon(&project);
    project.run(&["down", "--volumes", "--yes"]).exits(0).says("A backup of");
    assert!(!project.state().join("volumes/v1").join(format!("{}.backup", volume(&project, 0))).exists());
}

fn tampered(place: &Place) {
    let project = project(place, Kind::Embedded);
    let to = folder(&project);
    inside(&project, "own", "echo first > /own/words");
    backup(&project, &["--to", &to]);
    let blobs: Vec<PathBuf> =
        Path::new(&to).join("blobs/sha256").read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(blobs.len(), 4, "a document, a list and two parts: {blobs:?}");
    let before = log(&project);
    for blob in &blobs {
        let bytes = fs::read(blob).unwrap();
        for at in (0..bytes.len()).step_by(bytes.len().div_ceil(8)) {
            flip(blob, at);
            let refused = project.run(&["restore", "--from", &to, "--no-daemon"]);
            refused.exits(7).says("is refused").says("nothing was touched");
            flip(blob, at);
        }
        fs::write(blob, &bytes[..bytes.len() - 1]).unwrap();
        project.run(&["restore", "--from", &to, "--no-daemon"]).exits(7).says("is refused");
        fs::remove_file(blob).unwrap();
        project.run(&["restore", "--from", &to, "--no-daemon"]).exits(7).says("it lacks");
        fs::write(blob, &bytes).unwrap();
    }
    assert_eq!(log(&project), before);
    // A part that was damaged since is put right by the next backup that has it.
    let part = blobs.iter().max_by_key(|blob| fs::metadata(blob).unwrap().len()).unwrap();
    flip(part, 0);
    project.run(&["backup", "own", "--to", &to]).exits(0);
    let index = Path::new(&to).join("index.json");
    let text = fs::read_to_string(&index).unwrap();
    fs::write(&index, &text[..text.len() / 2]).unwrap();
    project.run(&["restore", "--from", &to]).exits(7).says("its list is damaged");
    project.run(&["backup", "--to", &to]).exits(7).says("its list is damaged");
    assert!(log(&project).starts_with(&before));
    project.run(&["down", "--volumes", "--yes"]).exits(0);
}

fn told(place: &Place) {
    let project = project(place, Kind::Embedded);
    let to = folder(&project);
    project.run(&["backup"]).exits(2).says("--to");
    project.run(&["backup", "nobody", "--to", &to]).exits(5).says("nobody");
    project.run(&["backup", "--drill"]).exits(2);
    project
        .run(&["restore", "--from", &to])
        .exits(5)
        .says("there is no backup in")
        .says("setpoint backup --to");
    fs::write(project.at("file"), "x").unwrap();
    let file = project.at("file").display().to_string();
    project.run(&["backup", "--to", &file]).exits(2).says("is a file, and no folder");
    project.run(&["restore", "--from", &file]).exits(2).says("is a file, and no folder");
    let own = project.root.display().to_string();
    project.run(&["backup", "--to", &own]).exits(2).says("has files in it, and is no folder of backups");
    project.run(&["backup", "--to", "oci://shop"]).exits(2).says("has no `/`");
    assert_eq!(log(&project), "begun", "nothing was stopped for any of it");
    inside(&project, "own", "echo first > /own/words");
    let made = backup(&project, &["--to", &to]);
    project.run(&["backup", "--to", &format!("{to}:{made}")]).exits(2).says("already");
    project.run(&["restore", "--from", &format!("{to}:other")]).exits(5).says(&made);
    backup(&project, &["own", "--to", &format!("{to}:mine")]);
    project
        .run(&["restore", "db", "--from", &format!("{to}:mine")])
        .exits(5)
        .says("no data of `db`")
        .says("own");
    project.declare("version = \"1.0.0\"", "version = \"2.0.0\"");
    // What is declared and not in effect has not worked on the data.
    backup(&project, &["--to", &format!("{to}:declared")]);
    let listed = project.run(&["restore", "--from", &to, "--list", "--json"]).json();
    let declared =
        listed["backups"].as_array().unwrap().iter().find(|one| one["name"] == "declared").unwrap();
    assert_eq!(declared["version"], "1.0.0");
    project.run(&["upgrade", "--no-daemon"]).exits(0);
    let later = backup(&project, &["--to", &to]);
    project.declare("version = \"2.0.0\"", "version = \"1.0.0\"");
    project.run(&["rollback", "--no-daemon"]).exits(0);
    let newer = project.run(&["restore", "--from", &format!("{to}:{later}"), "--no-daemon"]);
    newer.exits(6).says("of version 2.0.0").says("1.0.0 is in effect");
    project.declare("volumes = { data = \"/data\" }", "volumes = { other = \"/data\" }");
    let gone = project.run(&["restore", "db", "--from", &format!("{to}:{made}"), "--no-daemon"]);
    gone.exits(5).says("has a volume `data`").says("other, own");
    project.declare("volumes = { other = \"/data\" }", "");
    project.run(&["backup", "db", "--to", &to]).exits(5).says("db has no data of its own");
    project.run(&["down", "--volumes", "--yes"]).exits(0);
}

fn migrated(place: &Place) {
    let project = named(place, Kind::Embedded, "kept-migrated");
    let (to, at) = (folder(&project), |name: &str| format!("{}:{name}", folder(&project)));
    let all = |standing: [&str; 3]| {
        pairs(&[
            ("1.0.0/1-begin", standing[0]),
            ("2.0.0/1-next", standing[1]),
            ("2.0.0/2-words", standing[2]),
        ])
    };
    let upgraded = || {
        project.run(&["upgrade", "--no-daemon"]).exits(0).says("is at 2.0.0");
        assert_eq!(inside(&project, "own", "cat /own/words"), "first moved");
        assert_eq!(log(&project).split(' ').filter(|word| *word == "next").count(), 1, "{}", log(&project));
    };
    project.declare("[service.db]", "[release.migrations]\nin = \"db\"\n[service.db]");
    add(&project, "1.0.0/1-begin.sh", "echo first-of-all >> /data/log\n");
    project.run(&["up", "--no-daemon"]).exits(0);
    inside(&project, "own", "echo first > /own/words");
    let first = backup(&project, &["--to", &to]);

    add(&project, "2.0.0/1-next.sh", "echo next >> /data/log\n");
    let post = "# setpoint: in = \"own\"\n# setpoint: stage = \"post\"\necho moved >> /own/words\n";
    add(&project, "2.0.0/2-words.sh", post);
    project.declare("version = \"1.0.0\"", "version = \"2.0.0\"");
    upgraded();
    assert_eq!(standings(&project), all(["done", "done", "done"]));
    let second = backup(&project, &["--to", &to]);

    // Data of before: what came since is due, and is carried out once.
    let planned = project.run(&["restore", "--from", &at(&first), "--dry-run"]);
    planned.exits(0).says("Due on that data: 2.0.0/1-next, 2.0.0/2-words");
    let restored = project.run(&["restore", "--from", &at(&first), "--no-daemon"]);
    restored.exits(0).says("Due on that data: 2.0.0/1-next, 2.0.0/2-words").says("setpoint upgrade");
    assert!(!log(&project).contains("next"), "{}", log(&project));
    assert_eq!(standings(&project), all(["covered", "due", "due"]));
    upgraded();
    assert_eq!(standings(&project), all(["covered", "done", "done"]));

    // Of this same version: nothing is due, of what a volume has and of what a command wrote.
    let restored = project.run(&["restore", "--from", &at(&second), "--no-daemon"]);
    restored.exits(0).says_not("Due on that data");
    assert_eq!(standings(&project), all(["covered", "covered", "covered"]));
    assert_eq!(inside(&project, "own", "cat /own/words"), "first moved");
    project.run(&["upgrade", "--no-daemon"]).exits(0).says("nothing to do");

    // A part of it alone, which is of before.
    let one = project.run(&["restore", "own", "--from", &at(&first), "--no-daemon"]);
    one.exits(0).says("Due on that data: 2.0.0/2-words");
    upgraded();
    // What one has that this version does not.
    remove(&project, "2.0.0/1-next.sh");
    let unknown = project.run(&["restore", "--from", &at(&second), "--no-daemon"]);
    unknown.exits(4).says("2.0.0/1-next was applied to the data and is not in this version");
    add(&project, "2.0.0/1-next.sh", "echo next >> /data/log\n");
    project.run(&["down", "--volumes", "--yes"]).exits(0);

    // A machine that has had nothing.
    project.run(&["restore", "--from", &at(&first), "--no-daemon"]).exits(0).says("setpoint upgrade");
    assert_eq!(standings(&project), all(["covered", "due", "due"]));
    upgraded();
    project.run(&["down", "--volumes", "--yes"]).exits(0);
}

/// A small file system of one's own.
struct Small(PathBuf);

impl Small {
    fn new(path: PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "none"]).arg(&path).status();
        assert!(mounted.unwrap().success());
        Self(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn full_disk(place: &Place) {
    let project = project(place, Kind::Embedded);
    let small = Small::new(project.at("small"));
    let to = small.0.display().to_string();
    backup(&project, &["db", "--to", &to]);
    inside(&project, "db", "head -c 600000 /dev/urandom > /data/much");
    let full = project.run(&["backup", "db", "--to", &to]);
    full.exits(7).says("No space left").says("make room").says("nothing of this backup was left");
    assert_eq!((list(&project, &to).len(), unfinished(&to)), (1, Vec::new()));
    until("it runs", || log(&project).ends_with("begun"));
    inside(&project, "db", "rm /data/much");
    backup(&project, &["db", "--to", &to]);
    drop(small);
    project.run(&["down", "--volumes", "--yes"]).exits(0);
}

fn to_another_engine(place: &Place) {
    let project = project(place, Kind::Docker);
    let to = folder(&project);
    inside(
        &project,
        "db",
        "mkdir /data/sub; echo text > /data/sub/x; chown 7:8 /data/sub/x; ln -s x /data/sub/l",
    );
    let made = backup(&project, &["db", "--to", &to]);
    let other = named(place, Kind::Embedded, &format!("{}-else", name(&project)));
    let from = format!("{to}:{made}");
    other.run(&["restore", "--from", &from, "--of", &name(&project), "--no-daemon"]).exits(0);
    assert_eq!(inside(&other, "db", "cat /data/sub/l; stat -c %u:%g /data/sub/x"), "text 7:8");
    let back = backup(&other, &["db", "--to", &to]);
    let from = format!("{to}:{back}");
    project.run(&["restore", "--from", &from, "--of", &name(&other), "--no-daemon"]).exits(0);
    assert_eq!(inside(&project, "db", "cat /data/sub/l; stat -c %u:%g /data/sub/x"), "text 7:8");
    project.run(&["backup", "--from", &from, "--drill"]).exits(2).says("is a backup of the project");
    other.run(&["down", "--volumes", "--yes"]).exits(0);
    project.run(&["down", "--volumes", "--yes"]).exits(0);
}
