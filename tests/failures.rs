//! What fails is named, is never called a success, and is where the next `up` begins.

use crate::harness::{NOTHING, Project};
use crate::session::ORDER;

/// A full project in which this one says something and fails while the file `broken` is there.
fn broken(name: &str) -> Project {
    let project = Project::full();
    let work = format!("echo {name} >> log");
    let fails = "if [ -e broken ]; then echo first-words; echo last-words; exit 3; fi";
    if ["alpha", "beta"].contains(&name) {
        project.write(&format!(".setpoint/packs/{name}.sh"), &format!("cd /workspace\n{work}\n{fails}\n"));
    } else {
        project.declare(&format!("\"{work}\""), &format!("\"{work}; {fails}\""));
    }
    project.write("broken", "");
    project
}

fn fails_and_resumes(name: &str) {
    let project = broken(name);
    let place = ORDER.iter().position(|step| *step == name).unwrap();

    let failed = project.run(&["up"]);
    failed.exits(1).says("FAILED").says(name).says("exit 3").says("last-words").says("first-words");
    failed.says_not("is up in").says_not("recorded");
    failed.says("setpoint logs dev").says("the next `up` begins at");
    if name != "verify" {
        failed.says("not run");
    }
    assert_eq!(project.effects(), ORDER[..=place], "{name}");

    let status = project.status();
    if name == "initialize" {
        failed.says("Nothing else was touched");
        assert_eq!(status["state"], "absent", "{status}");
    } else {
        assert_eq!(status["out_of_date"], true, "{name}: {status}");
        assert_eq!(status["last"]["outcome"], "failed", "{name}: {status}");
    }
    let told = project.run(&["status"]);
    assert!(!told.said().contains("succeeded\n") && !told.said().contains("success"), "{name}: {told}");
    project.run(&["plan", "--exit-code"]).exits(3);

    // Still broken: only this one is tried again.
    if name != "initialize" {
        project.run(&["up"]).exits(1).says(name);
        assert_eq!(project.effects(), [name], "{name}, tried again");
    }

    std::fs::remove_file(project.root.join("broken")).unwrap();
    let rest: Vec<_> =
        ORDER[place..].iter().copied().filter(|step| *step != "verify" || name == "verify").collect();
    let effects = project.up_effects();
    let without_verify: Vec<_> =
        effects.iter().filter(|step| *step != "verify" || name == "verify").map(String::as_str).collect();
    assert_eq!(without_verify, rest, "{name}, mended");
    project.is_settled();
}

#[test]
fn initialize_fails_before_anything_is_touched() {
    fails_and_resumes("initialize");
}

#[test]
fn a_pack_that_fails_is_where_the_next_up_begins() {
    fails_and_resumes("alpha");
    fails_and_resumes("beta");
}

#[test]
fn a_hook_that_fails_is_where_the_next_up_begins() {
    for name in ["on_create", "update_content", "post_create"] {
        fails_and_resumes(name);
    }
}

#[test]
fn a_hook_of_every_start_that_fails_is_where_the_next_up_begins() {
    fails_and_resumes("post_start");
    fails_and_resumes("post_attach");
}

#[test]
fn a_verify_that_fails_is_no_success() {
    let project = broken("verify");
    let failed = project.run(&["up"]);
    failed.exits(1).says("verify failed in dev").says("last-words").says_not("is up in");
    project.effects();
    project.run(&["check"]).exits(1).says("verify failed in dev");
    std::fs::remove_file(project.root.join("broken")).unwrap();
    project.effects();
    project.run(&["check"]).exits(0);
    assert_eq!(project.effects(), ["verify"]);
    project.up();
    project.is_settled();
}

#[test]
fn a_drifted_hook_that_fails_stays_drifted() {
    let project = Project::full();
    project.up();
    project.declare("\"echo update_content >> log\"", "\"echo update_content >> log; false\"");
    project.effects();
    project.run(&["up"]).exits(1).says("update_content failed in dev");
    assert_eq!(project.effects(), ["update_content"]);
    let status = project.status();
    assert_eq!(status["out_of_date"], true, "{status}");
    project.run(&["up"]).exits(1);
    assert_eq!(project.effects(), ["update_content"]);
    project.declare("; false", "; true");
    assert_eq!(project.up_effects(), ["update_content", "post_attach"]);
    project.is_settled();
}

#[test]
fn a_failed_hook_that_is_reverted_still_has_to_run() {
    let project = Project::full();
    project.up();
    let text = project.read("setpoint.toml");
    project.declare("\"echo update_content >> log\"", "\"rm -rf half-done; false\"");
    project.run(&["up"]).exits(1);
    project.write("setpoint.toml", &text);
    assert_eq!(project.up_effects(), ["update_content", "post_attach"], "what half of it did is not known");
    project.is_settled();
}

#[test]
fn a_hook_that_takes_too_long_is_stopped_with_all_that_it_started() {
    let project = Project::full();
    project.declare(
        "\"echo post_create >> log\"",
        r#"{ run = "echo post_create >> log; sleep 4711 & sleep 4712", timeout = "1s" }"#,
    );
    let failed = project.run(&["up"]);
    failed.exits(1).says("post_create failed in dev").says("timed out after 1s");
    let left = project.inside("cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
    assert!(!left.contains("sleep 471"), "{left}");
    assert_eq!(project.effects().last().unwrap(), "post_create");
    project.declare("sleep 4711 & sleep 4712", "true");
    assert_eq!(project.up_effects()[..3], ["post_create", "post_start", "post_attach"]);
}

#[test]
fn parallel_parts_fail_as_a_whole_and_are_told_apart() {
    let project = Project::full();
    let parts = r#"{ parallel = { good = "echo good >> log; echo well", bad = "echo bad >> log; echo ill; exit 7" } }"#;
    project.declare("\"echo post_create >> log\"", parts);
    let failed = project.run(&["up"]);
    failed.exits(1).says("post_create failed in dev").says("exit 7").says("[bad] ill");
    assert!(project.effects().contains(&"bad".to_owned()));
    project.declare("; exit 7", "");
    let effects = project.up_effects();
    assert!(effects.contains(&"good".to_owned()) && effects.contains(&"bad".to_owned()), "{effects:?}");
    assert!(!effects.contains(&"on_create".to_owned()), "{effects:?}");
    project.is_settled();
}

#[test]
fn a_hook_killed_by_a_signal_says_so() {
    let project = Project::full();
    project.declare("\"echo post_create >> log\"", "\"kill -9 $$\"");
    project.run(&["up"]).exits(1).says("post_create failed in dev").says("signal");
}

#[test]
fn a_hook_program_that_is_not_there_says_so() {
    let project = Project::full();
    project.declare("\"echo post_create >> log\"", r#"["no-such-program", "-x"]"#);
    let failed = project.run(&["up"]);
    failed.says("post_create failed in dev").says("no-such-program");
    assert!(failed.code == 1 || failed.code == 127, "{failed}");
}

/// A project with one secret, which its hook prints.
fn secretive(source: &str) -> Project {
    Project::new(&format!(
        "setpoint = 1\n[secret.api-token]\n{source}\n[env.dev]\nenv = {{ TOKEN = \"${{secret.api-token}}\" }}\n\
         [env.dev.hooks]\npost_create = \"echo token is $TOKEN\"\n"
    ))
}

fn hides(project: &Project, value: &str) {
    let up = project.run(&["up", "-v"]);
    up.exits(0).says("token is").says_not(value);
    project.run(&["logs", "dev", "post_create"]).exits(0).says("token is").says_not(value);
    assert_eq!(project.inside("echo $TOKEN"), value);
    for words in [&["status"][..], &["status", "--json"], &["why"], &["plan", "--json"]] {
        project.run(words).says_not(value);
    }
    let found =
        std::process::Command::new("grep").args(["-rl", value]).arg(project.state()).output().unwrap();
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(found.lines().all(|file| file.contains("secret")), "the value lies in {found}");
    project.is_settled();
}

#[test]
fn a_secret_of_the_environment_is_given_inside_and_shown_nowhere() {
    let mut project = secretive("env = \"API_TOKEN\"");
    project.set("API_TOKEN", "hunter2-correct-horse");
    hides(&project, "hunter2-correct-horse");
    project.set("API_TOKEN", "another-battery-staple");
    project.run(&["plan", "--exit-code"]).exits(3).says("api-token").says_not("battery");
    project.up();
    assert_eq!(project.inside("echo $TOKEN"), "another-battery-staple");
}

#[test]
fn a_secret_of_a_file_is_given_inside_and_shown_nowhere() {
    let project = secretive("file = \"token.txt\"");
    project.write("token.txt", "hunter2-correct-horse\n");
    hides(&project, "hunter2-correct-horse");
}

#[test]
fn a_secret_of_a_command_is_asked_for_only_when_something_is_applied() {
    let project = secretive(r#"command = ["sh", "-c", "echo asked >> log; echo hunter2-correct-horse"]"#);
    hides(&project, "hunter2-correct-horse");
    project.effects();
    for words in [&["status"][..], &["why"], &["plan"], &["up"]] {
        project.run(words).exits(0);
    }
    assert_eq!(project.effects(), NOTHING, "looking asks no password tool");
}

#[test]
fn a_secret_that_is_not_there_is_named_and_nothing_is_touched() {
    let project = secretive("env = \"API_TOKEN\"");
    let failed = project.run(&["up"]);
    failed.says("api-token").says("API_TOKEN");
    assert_ne!(failed.code, 0, "{failed}");
    assert_eq!(project.status()["state"], "absent");
    let project = secretive("file = \"nowhere.txt\"");
    let failed = project.run(&["up"]);
    failed.says("api-token").says("nowhere.txt");
    assert_ne!(failed.code, 0, "{failed}");
    let project = secretive(r#"command = ["sh", "-c", "echo no entry >&2; exit 4"]"#);
    let failed = project.run(&["up"]);
    failed.says("api-token");
    assert_ne!(failed.code, 0, "{failed}");
    assert_eq!(project.status()["state"], "absent");
}

#[test]
fn a_secret_that_changed_in_its_file_is_seen_when_asked_to_look() {
    let project = secretive("file = \"token.txt\"");
    project.write("token.txt", "first-value\n");
    project.run(&["up"]).exits(0);
    project.write("token.txt", "second-value\n");
    project.run(&["plan", "--exit-code"]).exits(0);
    project.run(&["plan", "--exit-code", "--refresh-secrets"]).exits(3).says_not("second-value");
    project.run(&["why", "--refresh-secrets"]).exits(0).says("secret.api-token").says_not("second-value");
    project.run(&["up", "--refresh-secrets"]).exits(0).says_not("second-value");
    assert_eq!(project.inside("echo $TOKEN"), "second-value");
    project.run(&["plan", "--exit-code", "--refresh-secrets"]).exits(0);
}
