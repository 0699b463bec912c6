//! What a person gets wrong, and what happened to the files: named, with the way on, and nothing touched.

use crate::harness::{NOTHING, Project};

#[test]
fn a_folder_without_a_project_is_named_with_the_way_to_one() {
    let project = Project::new("");
    for words in [&["up"][..], &["status"], &["why"], &["exec", "--", "true"], &["down"]] {
        project.run(words).exits(5).says("setpoint.toml").says("setpoint init");
    }
    assert!(!project.state().exists(), "a state was made for nothing");
}

#[test]
fn the_project_is_found_from_the_folders_below_it_and_by_its_name() {
    let project = Project::full();
    project.write("deep/down/file", "");
    let mut below = project.command(&["up"]);
    below.current_dir(project.root.join("deep/down"));
    crate::harness::finish(project.start(&mut below)).exits(0);
    let mut elsewhere = project.command(&["-C", project.root.to_str().unwrap(), "up"]);
    elsewhere.current_dir("/");
    crate::harness::finish(project.start(&mut elsewhere)).exits(0).says("nothing to do");
}

#[test]
fn an_unknown_environment_is_named_with_the_nearest_one() {
    let project = Project::full();
    for words in [
        &["up", "dve"][..],
        &["why", "dve"],
        &["exec", "dve", "--", "true"],
        &["down", "dve"],
        &["stop", "dve"],
    ] {
        project.run(words).exits(5).says("dve").says("dev");
    }
    assert_eq!(project.effects(), NOTHING);
}

#[test]
fn all_problems_of_a_manifest_are_told_at_once_and_nothing_is_touched() {
    let project = Project::new(
        "setpoint = 1\n[env.dev]\npakcs = [\"uv\"]\nlimits = { memory = \"5 parsecs\" }\nbase = \"host\"\nrootfs = \"r\"\n\
         [env.dev.hooks]\npost_create = { run = \"true\", timeout = \"soon\" }\n[env.Bad_Name]\n",
    );
    let told = project.run(&["up"]);
    told.exits(4).says("pakcs").says("packs").says("5 parsecs").says("soon").says("Bad_Name").says("rootfs");
    told.says("setpoint.toml:3").says("setpoint.toml:4").says("pakcs = [\"uv\"]").says("problems");
    assert!(!project.state().exists(), "a state was made");
}

#[test]
fn a_manifest_that_broke_leaves_what_runs_alone() {
    let project = Project::full();
    project.up();
    let text = project.read("setpoint.toml");
    project.effects();
    project.write("setpoint.toml", &format!("{text}\n[[["));
    for words in [&["up"][..], &["status"], &["plan"], &["why"], &["down"]] {
        project.run(words).exits(4).says("setpoint.toml:");
    }
    project.write("setpoint.toml", &text);
    project.is_settled();
}

#[test]
fn a_missing_pack_is_named_with_the_nearest_one_before_anything_runs() {
    let project = Project::full();
    project.declare("\"beta\"]", "\"betta\"]");
    let told = project.run(&["up"]);
    told.exits(4).says("betta").says(".setpoint/packs/betta.sh").says("beta");
    assert_eq!(project.effects(), NOTHING);
}

#[test]
fn a_missing_script_of_a_hook_is_named_before_anything_runs() {
    let project = Project::full();
    project.write("scripts/seed.sh", "true");
    project.declare("\"echo post_create >> log\"", "\"scripts/sed.sh\"");
    project.run(&["up"]).exits(4).says("scripts/sed.sh").says("setpoint.toml:");
    assert_eq!(project.effects(), NOTHING);
}

#[test]
fn a_missing_mount_is_named_before_anything_runs() {
    let project = Project::full();
    project.declare(
        "[env.dev.hooks]",
        "mounts = [{ source = \"./nowhere\", target = \"/data\" }]\n[env.dev.hooks]",
    );
    project.run(&["up"]).exits(4).says("nowhere").says("setpoint.toml:");
    assert_eq!(project.effects(), NOTHING);
}

#[test]
fn what_is_not_there_yet_is_refused_by_name() {
    let project = Project::full();
    project.declare("packs =", "build = \".\"\npacks =");
    project.run(&["up"]).exits(4).says("build");
    let project = Project::full();
    project.declare("packs =", "image = \"debian:bookworm\"\nbase = \"host\"\npacks =");
    project.run(&["up"]).exits(4).says("image").says("base");
}

/// The path of the database, whatever it is called in this version.
fn database(project: &Project) -> std::path::PathBuf {
    let link = project.state().join("state.db");
    assert!(link.exists(), "no state.db");
    link.canonicalize().unwrap()
}

fn remove_wal(project: &Project) {
    for entry in std::fs::read_dir(project.state()).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with("-wal") || name.ends_with("-shm") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
}

#[test]
fn a_damaged_state_is_named_with_what_to_do_and_the_unit_is_not_lost() {
    for damage in [&b"this is no database at all, whatever its name says"[..], b""] {
        let project = Project::full();
        project.up();
        project.effects();
        project.inside("echo kept > /opt/kept");
        let file = database(&project);
        remove_wal(&project);
        std::fs::write(&file, damage).unwrap();
        if damage.is_empty() {
            continue;
        }
        for words in [&["up"][..], &["status"], &["why"]] {
            let told = project.run(words);
            told.exits(8).says("hint").says("state");
            assert!(!told.said().contains("panicked"), "{told}");
        }
        assert_eq!(project.effects(), NOTHING);
        std::fs::remove_file(&file).unwrap();
        project.up();
        assert_eq!(project.inside("cat /opt/kept"), "kept");
    }
}

#[test]
fn a_truncated_state_is_named() {
    let project = Project::full();
    project.up();
    project.effects();
    let file = database(&project);
    remove_wal(&project);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2 + 100]).unwrap();
    project.run(&["up"]).exits(8).says("hint");
    assert_eq!(project.effects(), NOTHING);
    std::fs::remove_file(&file).unwrap();
    project.up();
}

#[test]
fn a_state_of_a_newer_version_is_named_and_left_as_it_is() {
    let project = Project::full();
    project.up();
    let file = database(&project);
    // The version lies in the header of the database, in four bytes at 60; the log is folded in when it is closed.
    assert!(
        !project.state().join("state.db-wal").exists()
            || std::fs::metadata(project.state().join("state.db-wal")).unwrap().len() == 0
    );
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[60..64].copy_from_slice(&999_u32.to_be_bytes());
    std::fs::write(&file, &bytes).unwrap();
    let told = project.run(&["up"]);
    told.exits(8).says("newer").says("hint");
    assert!(std::fs::read(&file).unwrap() == bytes, "it was changed");
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn errors_have_a_shape_for_machines() {
    let project = Project::new("setpoint = 1\n[env.dev]\npakcs = []\n");
    let told = project.run(&["up", "--json"]);
    told.exits(4);
    assert_eq!(told.stdout, "");
    let error: serde_json::Value =
        serde_json::from_str(told.stderr.trim()).unwrap_or_else(|_| panic!("{told}"));
    assert_eq!(
        (&error["setpoint"], &error["exit"], &error["error"]),
        (&1.into(), &4.into(), &"manifest".into())
    );
    assert_eq!(error["problems"].as_array().unwrap().len(), 1, "{error}");
    assert!(error["message"].is_string());

    let project = Project::new("");
    let told = project.run(&["status", "--json"]);
    let error: serde_json::Value = serde_json::from_str(told.exits(5).stderr.trim()).unwrap();
    assert_eq!((&error["error"], &error["exit"]), (&"no-project".into(), &5.into()));
    assert!(error["hint"].as_str().unwrap().contains("setpoint init"));
}

#[test]
fn every_command_speaks_json() {
    let project = Project::full();
    for words in [
        &["plan"][..],
        &["up"],
        &["status"],
        &["why"],
        &["reprovision"],
        &["check"],
        &["logs", "--list"],
        &["doctor"],
        &["version"],
        &["stop"],
        &["down"],
        &["uninstall", "--yes"],
    ] {
        let told = project.run(&[words, &["--json"]].concat());
        told.exits(0);
        assert_eq!(told.json()["setpoint"], 1, "{words:?}: {told}");
    }
}

#[test]
fn every_command_is_completed_and_has_a_page() {
    let project = Project::new("");
    let help = project.run(&["--help"]);
    let commands = help.stdout.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names: Vec<&str> = commands
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(names.len() > 20, "{names:?}");
    let scripts =
        ["bash", "zsh", "fish"].map(|shell| project.run(&["completions", shell]).exits(0).stdout.clone());
    project.run(&["man", "pages"]).exits(0);
    for name in names.into_iter().filter(|name| *name != "help") {
        assert!(scripts.iter().all(|script| script.contains(name)), "{name}");
        let page = project.read(&format!("pages/setpoint-{name}.1"));
        assert!(page.contains(".TH"), "{name}: {page}");
    }
}

#[test]
fn a_wrong_command_line_has_its_own_exit_code() {
    let project = Project::full();
    for words in [
        &["--no-such-flag"][..],
        &["up", "--no-such-flag"],
        &["no-such-command"],
        &["exec"],
        &["up", "--engine", "x"],
        &[],
    ] {
        let told = project.run(words);
        told.exits(2);
        assert!(!told.stderr.is_empty(), "{words:?}");
    }
    project.run(&["up", "--set", "nonsense"]).exits(4).says("nonsense");
    project.run(&["up", "--set", "env.dev.pakcs=1"]).exits(4).says("pakcs");
}

#[test]
fn a_state_folder_that_depends_on_where_one_stands_is_refused() {
    let mut project = Project::full();
    project.set("SETPOINT_STATE", "relative/state");
    project.run(&["up"]).exits(2).says("SETPOINT_STATE");
    assert_eq!(project.effects(), NOTHING);
}

#[test]
fn uninstall_asks_and_then_leaves_only_what_is_not_its_own() {
    let project = Project::full();
    project.up();
    project.run(&["uninstall"]).exits(6).says("--yes").says("Nothing was done");
    assert_eq!(project.status()["state"], "running");
    std::fs::write(project.state().join("notes.txt"), "mine").unwrap();
    project.run(&["uninstall", "--yes"]).exits(0);
    let left: Vec<_> =
        std::fs::read_dir(project.state()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["notes.txt"]);
    assert!(project.root.join("setpoint.toml").exists());
}

#[test]
fn output_without_a_terminal_has_no_escapes() {
    let project = Project::full();
    project.declare("\"echo post_start >> log\"", "\"false\"");
    project.run(&["up"]).exits(1).says_not("\u{1b}");
    project.run(&["status"]).says_not("\u{1b}");
}

#[test]
fn an_image_that_is_a_path_has_to_be_there() {
    let project = Project::new("setpoint = 1\n[env.dev]\nimage = \"./nope\"\n");
    project.run(&["up"]).exits(4).says("./nope").says("setpoint.toml:3");
}
