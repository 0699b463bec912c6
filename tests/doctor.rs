//! What the doctor finds on a box, each kind of trouble on one that really has it, and what is not done over it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{Outcome, Project, finish, until};
use crate::support::{ARCHITECTURE, Blobs, Tar, busybox, digest};

/// The ids of what the doctor finds, with how much each matters.
pub fn rows(project: &Project) -> BTreeMap<String, String> {
    let told = project.run(&["doctor", "--offline", "--json"]);
    let findings = told.json()["findings"].as_array().unwrap().clone();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let rows: BTreeMap<_, _> = findings
        .iter()
        .filter(|finding| !finding["id"].is_null())
        .map(|finding| (text(finding, "id"), text(finding, "level")))
        .collect();
    let worst = rows.values().map(|level| match level.as_str() {
        "refuse" => 10,
        "repairable" => 3,
        _ => 0,
    });
    assert_eq!(told.code, worst.max().unwrap_or(0), "{told}");
    for finding in findings.iter().filter(|finding| !finding["id"].is_null()) {
        assert!(!text(finding, "what").is_empty() && !text(finding, "fix").is_empty(), "{finding}");
        let has_runbook = finding["runbook"].as_str().is_some_and(|at| at.ends_with(&text(finding, "id")));
        assert_eq!(has_runbook, !finding["refuses"].as_array().unwrap().is_empty(), "{finding}");
    }
    rows
}

/// The doctor finds just this.
#[track_caller]
pub fn finds(project: &Project, ids: &[&str]) {
    let found = rows(project);
    let found: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(found, ids.iter().copied().collect(), "{}", project.run(&["doctor", "--offline"]));
}

/// An upgrade refuses over this row, says where the runbook is, and changes nothing.
#[track_caller]
pub fn refuses_to_upgrade(project: &Project, id: &str) {
    let told = project.run(&["upgrade", "--no-daemon"]);
    told.exits(10).says(id).says(&format!("docs/runbook.md#{id}")).says("nothing was changed");
    project.run(&["history"]).says_not("committed");
}

/// What the doctor says, for people.
fn doctor(project: &Project) -> Outcome {
    project.run(&["doctor", "--offline"])
}

/// All files below a folder, with what tells that one was written.
fn prints(folder: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, metadata) = (entry.path(), entry.metadata().unwrap());
            if metadata.is_dir() {
                open.push(path.clone());
            }
            found.insert(path, (metadata.len(), metadata.mtime(), metadata.mtime_nsec()));
        }
    }
    found
}

const HEAD: &str = "setpoint = 1\n[release]\nverify = \"5s\"\nsteady = \"50ms\"\nbake = \"50ms\"\n";
const WAITS: &str =
    "command = \"trap 'exit 0' TERM; sleep 100000 & wait $!\"\nstop_grace = \"2s\"\nnetwork = \"host\"\n";

/// A service on an image of its own, which keeps its data at `/data`.
fn service(more: &str) -> String {
    format!("{HEAD}[service.db]\nimage = \"./one\"\nuser = \"root\"\n{WAITS}{more}\n")
}

/// Puts images `one` and `two` into the project's folder, which say that their data is at `/data`.
pub fn images(project: &Project) {
    for name in ["one", "two"] {
        let mut blobs = Blobs::default();
        let root = busybox(name);
        let programs = ["sleep", "cat", "touch", "rm"];
        let links =
            programs.iter().fold(Tar::default(), |tar, name| tar.link(&format!("bin/{name}"), "busybox"));
        let accounts = links.dir("data/", 0o755).file("etc/passwd", b"root:x:0:0:root:/:/bin/sh\n").end();
        let layers = [root, accounts].map(|layer| (layer.clone(), digest(&layer)));
        let settings = json!({"Env": ["PATH=/bin"], "Volumes": {"/data": {}}});
        let entry = blobs.configured(&layers, ARCHITECTURE, &settings);
        blobs.layout(&entry, &project.root.join(name));
    }
}

/// A project with such a service, which runs.
fn running(more: &str) -> Project {
    let project = Project::new(&service(more));
    images(&project);
    project.run(&["up", "--no-daemon"]).exits(0);
    project
}

fn inside(project: &Project, words: &str) {
    project.run(&["exec", "db", "--", "/bin/sh", "-c", words]).exits(0);
}

const DATA: &str = "volumes = { data = \"/data\" }";

#[test]
fn on_a_good_box_the_doctor_has_nothing_to_tell_and_changes_nothing() {
    let project =
        running(&format!("{DATA}\n[service.db.first_boot]\nseed = {{ run = \"touch /data/seed\" }}"));
    project.write("key", "hidden");
    let before = prints(project.root.parent().unwrap());
    let told = doctor(&project);
    told.exits(0).says("Nothing is wrong.").says("as declared").says_not("REPAIR").says_not("REFUSE");
    finds(&project, &[]);
    let after = prints(project.root.parent().unwrap());
    // SQLite's index of the log is memory in a file.
    let is_kept = |path: &Path| !path.to_string_lossy().ends_with("-shm");
    let changed: Vec<_> =
        before.iter().filter(|(path, print)| is_kept(path) && after.get(*path) != Some(*print)).collect();
    assert!(changed.is_empty() && before.len() == after.len(), "{changed:?}");
    project.run(&["upgrade", "--no-daemon"]).exits(0);
}

#[test]
fn a_repair_that_a_person_has_to_choose_is_not_done() {
    let project = Project::new("setpoint = 1\n[env.dev]\n");
    let told = project.run(&["doctor", "--fix", "volume-path"]);
    told.exits(2).says("a person has to choose").says("docs/runbook.md#volume-path").says("secret-readable");
    project.run(&["doctor", "--fix", "secret-readble"]).exits(2).says("did you mean `secret-readable`?");
    project
        .run(&["doctor", "--fix", "secret-readable", "--offline"])
        .exits(0)
        .says("Nothing of `secret-readable`");
    assert!(!project.state().join("state.db").exists());
}

#[test]
fn a_secret_that_everybody_reads_is_told_and_repaired() {
    let project = Project::new(&format!(
        "{HEAD}[secret.key]\nfile = \"key\"\n[env.dev]\nenv = {{ KEY = \"${{secret.key}}\" }}\n"
    ));
    project.write("key", "hidden");
    let key = project.root.join("key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    finds(&project, &["secret-readable"]);
    doctor(&project).exits(3).says("key holds a secret").says("(644)").says_not("hidden");
    assert_eq!(key.metadata().unwrap().mode() & 0o777, 0o644, "looking changes nothing");
    project.run(&["doctor", "--offline", "--fix", "secret-readable"]).exits(0).says("rights 640 now");
    assert_eq!(key.metadata().unwrap().mode() & 0o777, 0o640);
    finds(&project, &[]);
}

#[test]
fn a_secret_without_a_value_is_told_before_an_upgrade_stops_anything() {
    let mut project = Project::new(&format!(
        "[secret.key]\nenv = \"SHOP_KEY\"\n[secret.file]\nfile = \"gone\"\n[secret.of]\ncommand = [\"false\"]\n{}",
        "[env.dev]\nenv = { A = \"${secret.key}\", B = \"${secret.file}\", C = \"${secret.of}\" }\n"
    ));
    project.write("setpoint.toml", &format!("setpoint = 1\n{}", project.read("setpoint.toml")));
    finds(&project, &["missing-secret"]);
    doctor(&project)
        .says("SHOP_KEY is not set")
        .says("SHOP_KEY=... setpoint up")
        .says("cannot read gone")
        .says_not("`false`");
    project.write("gone", "here");
    project.set("SHOP_KEY", "x");
    fs::set_permissions(project.root.join("gone"), fs::Permissions::from_mode(0o600)).unwrap();
    finds(&project, &[]);

    let project = running(DATA);
    project
        .declare("./one", "./two")
        .declare("[service.db]", "[secret.key]\nenv = \"SHOP_KEY\"\n[service.db]");
    project.declare(DATA, &format!("{DATA}\nenv = {{ KEY = \"${{secret.key}}\" }}"));
    refuses_to_upgrade(&project, "missing-secret");
}

#[test]
fn a_state_that_cannot_be_read_is_told() {
    let project = running(DATA);
    let database = fs::read_dir(project.state()).unwrap().map(|entry| entry.unwrap().path());
    let database = database.into_iter().find(|path| {
        path.extension().is_some_and(|ending| ending == "db") && path.is_file() && !path.is_symlink()
    });
    let database = database.unwrap();
    let good = fs::read(&database).unwrap();
    let mut bad = good.clone();
    bad[4096..12288].fill(0x5a);
    fs::write(&database, bad).unwrap();
    finds(&project, &["state-damaged"]);
    doctor(&project).exits(10).says("docs/runbook.md#state-damaged").says("move `");
    fs::write(&database, good).unwrap();
    finds(&project, &[]);
}

#[test]
fn a_unit_that_cannot_be_read_is_told() {
    let project = running(DATA);
    let units = fs::read_dir(project.state().join("units/v1")).unwrap();
    let unit = units.map(|entry| entry.unwrap().path()).find(|path| path.join("unit.json").exists()).unwrap();
    let good = fs::read(unit.join("unit.json")).unwrap();
    fs::write(unit.join("unit.json"), "{").unwrap();
    let found = rows(&project);
    assert_eq!(found.get("unit-damaged").map(String::as_str), Some("refuse"), "{found:?}");
    fs::write(unit.join("unit.json"), good).unwrap();
    finds(&project, &[]);
}

#[test]
fn what_is_in_effect_has_to_be_what_was_committed() {
    let project = running(DATA);
    project.declare("./one", "./two");
    project.run(&["upgrade", "--no-daemon"]).exits(0);
    finds(&project, &[]);
    let folder = project.state().join("active/v1");
    let file = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let good = fs::read_to_string(&file).unwrap();

    fs::write(&file, "{").unwrap();
    finds(&project, &["active-damaged"]);
    project.run(&["upgrade"]).exits(8).says("docs/runbook.md#active-damaged");

    fs::remove_file(&file).unwrap();
    finds(&project, &["active-missing"]);
    project.declare("./two", "./one");
    project
        .run(&["upgrade", "--no-daemon"])
        .exits(10)
        .says("active-missing")
        .says("docs/runbook.md#active-missing");
    assert!(!file.exists());
    project.declare("./one", "./two");
    let fixed = project.run(&["doctor", "--offline", "--fix", "active-missing"]);
    fixed.exits(0).says("generation 1 is in effect again");
    assert_eq!(fs::read_to_string(&file).unwrap(), good);
    finds(&project, &[]);

    // Without the data that it names it is not put back.
    let name = serde_json::from_str::<Value>(&good).unwrap()["volumes"]
        .as_object()
        .unwrap()
        .values()
        .next()
        .unwrap()
        .clone();
    let volume = project.state().join("volumes/v1").join(name.as_str().unwrap());
    fs::rename(&volume, project.at("aside")).unwrap();
    finds(&project, &["active-contradicts"]);
    fs::remove_file(&file).unwrap();
    project
        .run(&["doctor", "--fix", "active-missing"])
        .exits(10)
        .says("there is no such volume")
        .says("nothing was changed");
    fs::rename(project.at("aside"), &volume).unwrap();
    project.run(&["doctor", "--offline", "--fix", "active-missing"]).exits(0);

    // Somebody says that the data is where the unit has it not.
    fs::write(&file, good.replace(".1\"", ".0\"")).unwrap();
    let other = name.as_str().unwrap().replace(".1", ".0");
    fs::create_dir_all(project.state().join("volumes/v1").join(&other).join("data")).unwrap();
    finds(&project, &["active-contradicts"]);
    doctor(&project).exits(10).says("`db` has the volume").says(&other);
    fs::write(&file, good).unwrap();
    fs::remove_dir_all(project.state().join("volumes/v1").join(&other)).unwrap();
    finds(&project, &[]);
    project.run(&["down", "--volumes", "--yes"]).exits(0);
    finds(&project, &[]);
}

#[test]
fn an_upgrade_that_was_cut_off_is_told_and_put_in_order() {
    let project = running(DATA);
    project.declare("./one", "./two");
    let mut command = project.command(&["upgrade", "--no-daemon"]);
    let killed = finish(project.start(command.env("SETPOINT_CRASH_AT", "verify db.acted")));
    assert_eq!(killed.code, 137, "{killed}");
    // Which volume it has is no trouble of its own.
    finds(&project, &["open-transaction"]);
    project.run(&["status"]).exits(0).says("was cut off (setpoint recover)");
    doctor(&project).exits(3).says("was cut off, and nobody is at it");
    let fixed = project.run(&["doctor", "--offline", "--fix", "open-transaction"]);
    fixed.says("Fixed: What ran before runs again, with its own data.");
    finds(&project, &[]);
    project.run(&["doctor", "--offline", "--fix", "open-transaction"]).exits(0).says("Nothing of");
}

#[test]
fn what_was_cut_off_and_who_does_not_go_on_is_told() {
    let project = Project::new(
        "setpoint = 1\n[env.dev]\n[env.dev.hooks]\npost_create = \"touch began; sleep 100000\"\n",
    );
    let mut command = project.command(&["up"]);
    let up = project.start(&mut command);
    until("the hook has begun", || project.root.join("began").exists());
    // Somebody is at it, and goes on.
    finds(&project, &[]);
    let pid = Pid::from_child(&up);
    kill_process(pid, Signal::STOP).unwrap();
    until("it is stopped", || rows(&project).contains_key("stuck-lock"));
    finds(&project, &["stuck-lock"]);
    doctor(&project).exits(10).says("dev is locked by `setpoint up").says(&format!("kill -CONT {}", up.id()));
    kill_process(pid, Signal::KILL).unwrap();
    finish(up);
    finds(&project, &["unfinished-operation"]);
    doctor(&project).exits(3).says("was cut off").says("`setpoint up dev` finishes what was begun");
    project.declare("touch began; sleep 100000", "true");
    project.up();
    finds(&project, &[]);
}

#[test]
fn what_the_manifest_cannot_say_is_told_with_its_line() {
    let project = Project::new("setpoint = 1\n[service.web]\nimage = \"a:1\"\nbuild = \".\"\n");
    finds(&project, &["manifest"]);
    doctor(&project).exits(10).says("setpoint.toml:").says("`image`").says("`build`");
}

#[test]
fn a_tag_that_says_nothing_is_told() {
    let project = Project::new(&format!(
        "{HEAD}[service.a]\nimage = \"r.example/a\"\n[service.b]\nimage = \"r.example/b:latest\"\n[service.c]\nimage = \"r.example/c:1\"\n"
    ));
    finds(&project, &["floating-tag"]);
    doctor(&project)
        .exits(3)
        .says("r.example/a is whatever was pushed last")
        .says("r.example/b:latest")
        .says_not("r.example/c");
}

#[test]
fn units_of_several_versions_are_told() {
    let service = |name: &str| format!("[service.{name}]\n{WAITS}");
    let project =
        Project::new(&format!("{HEAD}[project]\nversion = \"1.0.0\"\n{}{}", service("api"), service("web")));
    project.run(&["up", "--no-daemon"]).exits(0);
    finds(&project, &[]);
    project.declare("1.0.0", "1.1.0");
    project.run(&["up", "web", "--no-daemon"]).exits(0);
    finds(&project, &["mixed-versions"]);
    doctor(&project).exits(3).says("api 1.0.0, web 1.1.0");
    project.run(&["upgrade", "--no-daemon"]).exits(0);
    finds(&project, &[]);
}

#[test]
fn data_without_a_volume_is_told_and_not_upgraded_over() {
    let project = running("");
    finds(&project, &[]);
    inside(&project, "echo precious > /data/row");
    finds(&project, &["anonymous-volume"]);
    doctor(&project).exits(10).says("`db` keeps data at /data");
    project.declare("./one", "./two");
    refuses_to_upgrade(&project, "anonymous-volume");

    let elsewhere = running("volumes = { data = \"/elsewhere\" }");
    inside(&elsewhere, "echo precious > /data/row");
    finds(&elsewhere, &["volume-path"]);
    doctor(&elsewhere).exits(10).says("at /elsewhere").says("keeps its data at /data");
    elsewhere.declare("./one", "./two");
    refuses_to_upgrade(&elsewhere, "volume-path");

    // The steps of the runbook.
    let unit = fs::read_dir(elsewhere.state().join("units/v1")).unwrap();
    let unit = unit.map(|entry| entry.unwrap().path()).find(|path| path.join("unit.json").exists()).unwrap();
    elsewhere.declare("./two", "./one");
    elsewhere.run(&["stop", "db"]).exits(0);
    fs::rename(unit.join("fs/upper/data/row"), elsewhere.at("row")).unwrap();
    elsewhere.declare("/elsewhere", "/data");
    elsewhere.run(&["up", "--no-daemon"]).exits(0);
    let volume = fs::read_dir(elsewhere.state().join("volumes/v1")).unwrap().next().unwrap().unwrap().path();
    fs::rename(elsewhere.at("row"), volume.join("data/row")).unwrap();
    finds(&elsewhere, &[]);
    elsewhere.declare("./one", "./two");
    elsewhere.run(&["upgrade", "--no-daemon"]).exits(0);
    elsewhere.run(&["exec", "db", "--", "cat", "/data/row"]).exits(0).says("precious");
}

#[test]
fn data_that_is_gone_is_told_and_not_upgraded_over() {
    let project =
        running(&format!("{DATA}\n[service.db.first_boot]\nseed = {{ run = \"touch /data/seed\" }}"));
    finds(&project, &[]);
    inside(&project, "rm /data/seed");
    finds(&project, &["data-missing"]);
    doctor(&project).exits(10).says("the first boot of `db` was done for the volume");
    project.declare("./one", "./two");
    refuses_to_upgrade(&project, "data-missing");
    inside(&project, "touch /data/seed");
    finds(&project, &[]);
}

#[test]
fn a_restore_refuses_over_what_it_does_not_mend() {
    let mut project =
        running(&format!("{DATA}\n[service.db.first_boot]\nseed = {{ run = \"touch /data/seed\" }}"));
    let to = project.at("backups").display().to_string();
    project.run(&["backup", "--to", &to]).exits(0);
    inside(&project, "rm /data/seed");
    project.declare("[service.db]", "[secret.key]\nenv = \"SHOP_KEY\"\n[service.db]");
    project.declare(DATA, &format!("{DATA}\nenv = {{ KEY = \"${{secret.key}}\" }}"));
    finds(&project, &["data-missing", "missing-secret"]);
    let refused = project.run(&["restore", "--from", &to, "--no-daemon"]);
    refused.exits(10).says("`restore` does not go on").says("docs/runbook.md#missing-secret");
    refused.says_not("data-missing");
    // Data that is gone is what it is there for.
    project.set("SHOP_KEY", "x");
    project.run(&["restore", "--from", &to, "--no-daemon"]).exits(0);
    finds(&project, &[]);
}

#[test]
fn units_that_nothing_declares_are_told() {
    let project = Project::new(&format!("{HEAD}[service.api]\n{WAITS}[service.web]\n{WAITS}"));
    project.run(&["up", "--no-daemon"]).exits(0);
    let text = project.read("setpoint.toml");
    project.write("setpoint.toml", text.split("[service.web]").next().unwrap());
    finds(&project, &["undeclared-unit"]);
    doctor(&project).exits(3).says("`web` is on the engine as one of").says("setpoint down web");
    fs::remove_file(project.root.join("setpoint.toml")).unwrap();
    finds(&project, &["undeclared-unit"]);
    // From elsewhere it is a folder without a project.
    let other = project.at("other");
    fs::create_dir(&other).unwrap();
    let told = finish(project.start(project.command(&["doctor", "--offline"]).current_dir(&other)));
    told.exits(3).says("orphan-unit").says("where no project is");
    project.write("setpoint.toml", &text);
    finds(&project, &[]);
}

#[test]
fn a_clone_with_changes_and_a_login_in_its_address_is_told() {
    let project = Project::new("setpoint = 1\n[env.dev]\n");
    let git = |words: &[&str]| {
        let done = Command::new("git").arg("-C").arg(&project.root).args(words).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    git(&["init", "--quiet"]);
    git(&["add", "--all"]);
    git(&["-c", "user.name=ann", "-c", "user.email=ann@example.org", "commit", "--quiet", "-m", "as it is"]);
    project.write("log", "changed");
    // Where somebody works on it, that is how it is.
    finds(&project, &[]);
    git(&["remote", "add", "origin", "https://ann:hunter2@git.example/shop.git"]);
    let index = fs::metadata(project.root.join(".git/index")).unwrap().mtime_nsec();
    let found = rows(&project);
    assert_eq!(found.get("dirty-tree").map(String::as_str), Some("info"));
    finds(&project, &["dirty-tree", "credential-in-remote"]);
    let told = doctor(&project);
    told.exits(3).says(" M log").says("remote `origin` has a login in it (https://***@git.example/...)");
    told.says_not("hunter2");
    project.run(&["doctor", "--offline", "--json"]).says_not("hunter2");
    assert_eq!(fs::metadata(project.root.join(".git/index")).unwrap().mtime_nsec(), index);
}

#[test]
fn a_port_that_somebody_has_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let project =
        Project::new(&format!("setpoint = 1\n[env.dev]\nnetwork = \"private\"\nports = [\"{port}:80\"]\n"));
    finds(&project, &["port-taken"]);
    let pid = std::process::id();
    doctor(&project).exits(10).says(&format!("(process {pid}) listens on 127.0.0.1:{port}"));
    drop(taken);
    finds(&project, &[]);
}

#[test]
fn an_engine_that_does_not_answer_is_told() {
    let mut project =
        Project::new("setpoint = 1\n[engine]\ndefault = \"docker\"\n[service.web]\nimage = \"a:1\"\n");
    project.set("DOCKER_HOST", &format!("unix://{}", project.at("no.sock").display()));
    finds(&project, &["engine-unreachable"]);
    doctor(&project).exits(10).says("nothing answers at").says("DOCKER_HOST");
    project.run(&["release", "1.0.0", "--push", "127.0.0.1:1/a/b"]).exits(10).says("engine-unreachable");
}

#[test]
fn too_little_room_is_told() {
    // Only root mounts a file system that is as small as that.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let project = Project::new("setpoint = 1\n[env.dev]\n");
    fs::create_dir(project.state()).unwrap();
    let state = project.state().display().to_string();
    let found = |options: &str| {
        let script = format!(
            "mount -t tmpfs -o {options} none {state} && exec {} doctor --offline",
            env!("CARGO_BIN_EXE_setpoint")
        );
        let mut command = Command::new("unshare");
        let usual = project.command(&[]);
        let variables = usual.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command.env_clear().envs(variables).current_dir(&project.root);
        command.args(["--mount", "sh", "-c", &script]);
        finish(project.start(&mut command))
    };
    found("size=16m").exits(10).says("disk-space").says("0.0 GiB free").says("docs/runbook.md#disk-space");
    found("size=4g,nr_inodes=500").exits(10).says("disk-inodes").says("the inodes are used up");
    found("size=4g").exits(0).says("Nothing is wrong.");
}

#[test]
fn what_the_kernel_refuses_to_a_user_is_told() {
    // Only root makes a namespace in which there may be no others.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let project = Project::of_user(4242, "setpoint = 1\n[env.dev]\n[env.dev.limits]\nmemory = \"64m\"\n");
    finds(&project, &["cgroup-controllers"]);
    doctor(&project).exits(10).says("the declared limits on memory cannot be kept");

    let mut holder = Command::new("unshare")
        .args(["--user", "sh", "-c", "echo ready; exec sleep 1000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", holder.id()), "0 0 65536").unwrap();
    }
    let usual = project.command(&["doctor", "--offline"]);
    let words: Vec<_> = std::iter::once(usual.get_program()).chain(usual.get_args()).collect();
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let variables = usual.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let mut command = Command::new("nsenter");
    command.env_clear().envs(variables).current_dir(&project.root);
    command.arg(format!("--target={}", holder.id()));
    command.args(["--user", "--setuid=0", "--setgid=0", "sh", "-c", script, "sh"]).args(words);
    let told = finish(project.start(&mut command));
    holder.kill().unwrap();
    holder.wait().unwrap();
    told.exits(10)
        .says("user-namespaces")
        .says("docs/runbook.md#user-namespaces")
        .says("max_user_namespaces=10000");
}
