//! Migrations on the machine itself: what they change is saved before, and comes back with the version that it was of.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::docker::Scenario;
use crate::harness::{Project, finish, until};
use crate::migrations::{add, pairs, remove, standings};
use crate::place::{Kind, Place};
use crate::upgrades::{self, generation, killed_at, upgrade};

pub const ON_THE_EMBEDDED_ENGINE: &[Scenario] = &[
    ("what_a_migration_changes_on_the_host_comes_and_goes_with_its_version", there_and_back),
    ("what_cannot_be_saved_of_the_host_is_told", refused),
    ("a_migration_on_the_host_may_be_killed_anywhere", killed_anywhere),
];

/// Moves `conf`, leaves a link for who looks there, and makes something beside.
const MOVE: &str = "# setpoint: in = \"host\"\n# setpoint: paths = [\"conf\", \"config\", \"made/by\"]\n\
    # setpoint: check = \"test -L conf -a -e made/by\"\n\
    mv conf config\nln -s config conf\necho new >> config/app\nmkdir made\necho it > made/by\n";
const NAME: &str = "2.0.0/1-move.sh";

/// A project that stands, with a folder that a service has mounted.
fn project(place: &Place) -> Project {
    let project = upgrades::declared_only(place, Kind::Embedded);
    fs::create_dir(project.root.join("conf")).unwrap();
    project.write("conf/app", "old\n");
    fs::set_permissions(project.root.join("conf/app"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("app", project.root.join("conf/current")).unwrap();
    let mount = "[service.web]\nmounts = [{ source = \"conf\", target = \"/conf\", read_only = true }]\n";
    project.declare("[service.web]\n", mount);
    project.run(&["up", "--no-daemon"]).exits(0);
    project
}

/// What is on the host, in a line.
fn seen(project: &Project) -> String {
    let about = |path: &str| {
        let path = project.root.join(path);
        match path.symlink_metadata() {
            Err(_) => "-".to_owned(),
            Ok(of) if of.is_symlink() => fs::read_link(&path).unwrap().display().to_string(),
            Ok(of) if of.is_dir() => format!("{}/", fs::read_dir(&path).unwrap().count()),
            Ok(of) => {
                let text = fs::read_to_string(&path).unwrap().trim().replace('\n', ",");
                format!("{text}:{:o}", of.permissions().mode() & 0o777)
            }
        }
    };
    ["conf", "conf/app", "conf/current", "config", "made/by"].map(about).join(" ")
}

const OLD: &str = "2/ old:640 app - -";
const NEW: &str = "config old,new:640 app 2/ it:644";

/// How many generations have something saved.
fn saved(project: &Project) -> usize {
    let folder = fs::read_dir(project.state().join("saved/v1")).ok().and_then(|mut all| all.next());
    folder.map_or(0, |folder| fs::read_dir(folder.unwrap().path()).unwrap().count())
}

fn there_and_back(place: &Place) {
    let project = project(place);
    assert_eq!(seen(&project), OLD);
    let conf = project.root.join("conf").display().to_string();
    // Whatever fails, before or after, nothing is left of it.
    for (name, text, says) in [
        (NAME, format!("{MOVE}echo no room >&2\nexit 7\n"), "exit 7: no room"),
        (NAME, MOVE.replace("mkdir made", "exit 0"), "its check does not hold after it"),
        (NAME, MOVE.replacen("mv", "# setpoint: timeout = \"1s\"\nmv", 1) + "sleep 1000\n", "timed out"),
        ("2.0.0/2-late.sh", "# setpoint: stage = \"post\"\nexit 8\n".to_owned(), "exit 8"),
    ] {
        add(&project, NAME, MOVE);
        add(&project, name, &text);
        upgrade(&project).exits(1).says("Rolled back").says(says);
        let _ = fs::remove_dir(project.root.join("made"));
        assert_eq!((seen(&project).as_str(), saved(&project)), (OLD, 0), "{name}: {text}");
        remove(&project, name);
    }
    until("all run again", || upgrades::all_run(&project));

    add(&project, NAME, MOVE);
    project.run(&["migrate", "status"]).exits(0).says("on this machine, before services start").says(&conf);
    let planned = project.run(&["upgrade", "--dry-run"]);
    let at = format!("save {conf}");
    planned.exits(0).says("breaking").says(&at).says("migrate 2.0.0/1-move on this machine");
    planned.says("replace web").says("db: not touched");
    project.run(&["up", "--no-daemon"]).exits(6).says("2.0.0/1-move");
    assert_eq!(seen(&project), OLD);
    upgrade(&project).exits(0);
    assert_eq!(seen(&project), NEW);
    assert_eq!(standings(&project), pairs(&[("2.0.0/1-move", "done")]));
    upgrade(&project).exits(0).says("nothing to do");
    project.write("config/app", "written since\n");

    // The way back takes it along, and so does the way back from there.
    project.run(&["rollback", "--no-daemon"]).exits(6).says(&conf).says("--discard-writes");
    project.run(&["rollback", "--dry-run"]).exits(0).says(&format!("put back {conf}"));
    project.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(0);
    assert_eq!(seen(&project), OLD);
    assert_eq!(standings(&project), pairs(&[("2.0.0/1-move", "due")]));
    project.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(0);
    assert_eq!(
        (seen(&project).as_str(), project.read("conf/app").as_str()),
        ("config written since:640 app 2/ it:644", "written since\n")
    );
    assert_eq!(standings(&project), pairs(&[("2.0.0/1-move", "done")]));
    add(&project, NAME, &format!("{MOVE}true\n"));
    upgrade(&project).exits(4).says("2.0.0/1-move was changed");
    add(&project, NAME, MOVE);
    assert_eq!(saved(&project), 1, "only the generation before is kept");
    fs::remove_dir_all(project.state().join("saved/v1")).unwrap();
    project.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(5).says("nothing is kept of 1.0.0");

    // It stays done while nothing else of the project is there.
    project.run(&["down", "--volumes", "--yes"]).exits(0);
    assert_eq!((saved(&project), standings(&project)), (0, pairs(&[("2.0.0/1-move", "done")])));
    project.run(&["up", "--no-daemon"]).exits(0);
    // On a machine that nothing tells of, it is asked.
    let other = self::project(place);
    add(&other, NAME, &MOVE.replace("2.0.0", "1.0.0"));
    fs::rename(other.root.join("migrations/2.0.0"), other.root.join("migrations/1.0.0")).unwrap();
    other.write("made/by", "it\n");
    fs::rename(other.root.join("conf"), other.root.join("config")).unwrap();
    symlink("config", other.root.join("conf")).unwrap();
    other.run(&["migrate", "plan"]).exits(0).says("asked");
    upgrade(&other).exits(0);
    assert_eq!(seen(&other), "config old:640 app 2/ it:644");
}

fn refused(place: &Place) {
    let project = upgrades::declared_only(place, Kind::Embedded);
    let state = project.state();
    fs::create_dir_all(&state).unwrap();
    symlink("/etc", project.root.join("etc")).unwrap();
    let head = |paths: &str| {
        format!(
            "# setpoint: in = \"host\"\n# setpoint: check = \"true\"\n# setpoint: paths = [\"{paths}\"]\ntrue\n"
        )
    };
    let folder = |path: &Path| path.display().to_string();
    for (path, says) in [
        ("..".to_owned(), "`..`"),
        ("/".to_owned(), "all of the machine"),
        (".".to_owned(), "all of the project's folder"),
        ("/proc/sys".to_owned(), "made by the kernel"),
        ("etc/hosts".to_owned(), "leads out of the project's folder"),
        (folder(&project.root), "the project's folder lies in it"),
        (folder(&state.join("volumes")), "what the upgrade itself works with"),
        (folder(state.parent().unwrap()), "which cannot be saved and put back"),
    ] {
        add(&project, "1.0.0/1-a.sh", &head(&path));
        for command in [["migrate", "plan"], ["up", "--no-daemon"]] {
            project.run(&command).exits(4).says(says).says("1.0.0/1-a");
        }
    }
    add(&project, "1.0.0/1-a.sh", &head("conf"));
    project.declare("service.web", "service.host");
    project.run(&["migrate", "status"]).exits(4).says("a service of that name");
}

fn killed_anywhere(place: &Place) {
    let project = project(place);
    let paths = ["conf", "config", "made/by"].map(|path| project.root.join(path).display().to_string());
    let [conf, _, made] = &paths;
    let all_right = |point: &str, said: &str, new: bool| {
        let _ = fs::remove_dir(project.root.join("made"));
        assert_eq!(seen(&project), if new { NEW } else { OLD }, "{point}: {said}");
        assert_eq!(saved(&project), usize::from(new), "{point}");
        until("all run", || upgrades::all_run(&project));
    };
    // While it runs: neither it nor what it began goes on.
    add(&project, NAME, &MOVE.replace("mkdir", "touch running; (sleep 1; touch late) & sleep 1000\nmkdir"));
    let mut child = project.start(&mut project.command(&["upgrade", "--no-daemon"]));
    until("it runs", || project.root.join("running").exists());
    child.kill().unwrap();
    finish(child);
    project.run(&["recover"]).exits(0);
    all_right("while it runs", "", false);
    assert!(!project.root.join("late").exists());
    fs::remove_file(project.root.join("running")).unwrap();
    add(&project, NAME, MOVE);

    // Before it is committed it is undone, also if that is cut off.
    let upgrade_until = |point: &str| {
        let mut command = project.command(&["upgrade", "--no-daemon"]);
        let killed = finish(project.start(command.env("SETPOINT_CRASH_AT", point)));
        assert_eq!(killed.code, 128 + 9, "{point}: {killed}");
    };
    let undoing = [
        format!("put-path {conf}.acted"),
        "put.removed".to_owned(),
        "put.copied".to_owned(),
        "drop-saves.announced".to_owned(),
        "drop-saves.acted".to_owned(),
        "resume web.announced".to_owned(),
    ];
    let doing = [
        format!("save {conf}.announced"),
        "save.copied".to_owned(),
        format!("save {made}.acted"),
        "migrate.begun".to_owned(),
        "migrate.ran".to_owned(),
        "commit.announced".to_owned(),
    ];
    for (number, point) in upgrades::sample(doing.to_vec(), 3).into_iter().enumerate() {
        upgrade_until(&point);
        let then = undoing[number % undoing.len()].clone();
        let point = format!("{point}, {then}");
        let mut command = project.command(&["recover"]);
        // Where nothing was changed there is nothing to put back.
        finish(project.start(command.env("SETPOINT_CRASH_AT", &then)));
        let said = project.run(&["recover"]).exits(0).said();
        all_right(&point, &said, false);
        assert_eq!(standings(&project), pairs(&[("2.0.0/1-move", "due")]), "{point}");
    }
    for point in upgrades::sample(undoing.to_vec(), 3) {
        upgrade_until("steady.acted");
        let said = killed_at(&project, &["recover"], &point);
        all_right(&point, &said, false);
    }

    // So is a way back.
    upgrade(&project).exits(0);
    all_right("none", "", true);
    let back = [
        format!("save {conf}.acted"),
        format!("put {conf} of 0.announced"),
        "put.removed".to_owned(),
        "put.copied".to_owned(),
        format!("put {made} of 0.acted"),
        "steady.acted".to_owned(),
    ];
    let before = generation(&project);
    for point in upgrades::sample(back.to_vec(), 3) {
        let said = killed_at(&project, &["rollback", "--discard-writes", "--no-daemon"], &point);
        all_right(&point, &said, true);
        assert_eq!(generation(&project), before, "{point}");
        assert_eq!(standings(&project), pairs(&[("2.0.0/1-move", "done")]), "{point}");
    }
    killed_at(&project, &["rollback", "--discard-writes", "--no-daemon"], "commit.acted");
    let _ = fs::remove_dir(project.root.join("made"));
    assert_eq!(seen(&project), OLD);
}
