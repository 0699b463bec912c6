//! The rows of `docs/reference/plan.md`, by their effects: what the engine says, and what differs.

use crate::harness::{NOTHING, Project};

const HOOKS: [&str; 7] =
    ["initialize", "on_create", "update_content", "post_create", "post_start", "post_attach", "verify"];
const CREATED: [&str; 8] =
    ["alpha", "beta", "on_create", "update_content", "post_create", "post_start", "post_attach", "verify"];

/// What the engine sees.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Seen {
    Absent,
    Stopped,
    Running,
}

/// What is changed in the declaration.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Change {
    Nothing,
    Hot,
    Packs,
    Restart,
    Recreate,
    Hook(&'static str),
}

/// A unit as the engine sees it, with a change in what is declared.
fn case(seen: Seen, change: Change) -> Project {
    let project = Project::full();
    project.up();
    match seen {
        Seen::Absent => project.run(&["down"]).exits(0),
        Seen::Stopped => project.run(&["stop"]).exits(0),
        Seen::Running => project.run(&["status"]).exits(0),
    };
    match change {
        Change::Nothing => &project,
        Change::Hot => project.declare("[env.dev.hooks]", "env = { A = \"1\" }\n[env.dev.hooks]"),
        Change::Packs => project.edit(".setpoint/packs/alpha.sh", "echo", "true\necho"),
        Change::Restart => project
            .declare("[env.dev.hooks]", "mounts = [{ source = \".\", target = \"/more\" }]\n[env.dev.hooks]"),
        Change::Recreate => project.declare("[env.dev.hooks]", "user = \"daemon\"\n[env.dev.hooks]"),
        Change::Hook(hook) => project.declare(&format!("{hook} = \"echo"), &format!("{hook} = \"true; echo")),
    };
    project
}

/// What `up` has to run in such a case.
fn expected(seen: Seen, change: Change) -> Vec<&'static str> {
    match (seen, change) {
        // `down` forgets the unit, and with it that `initialize` ever ran.
        (Seen::Absent, _) => [&["initialize"][..], &CREATED].concat(),
        (_, Change::Recreate) => CREATED.to_vec(),
        (Seen::Stopped, Change::Hook("initialize")) => {
            vec!["initialize", "alpha", "beta", "post_start", "post_attach"]
        }
        (Seen::Stopped, Change::Hook(hook @ ("on_create" | "update_content" | "post_create"))) => {
            vec!["alpha", "beta", hook, "post_start", "post_attach"]
        }
        (Seen::Stopped, _) | (Seen::Running, Change::Restart) => {
            vec!["alpha", "beta", "post_start", "post_attach"]
        }
        (Seen::Running, Change::Nothing | Change::Hook("verify")) => vec![],
        (Seen::Running, Change::Hot | Change::Hook("post_attach")) => vec!["post_attach"],
        (Seen::Running, Change::Packs) => vec!["alpha", "beta", "post_attach"],
        (Seen::Running, Change::Hook(hook)) => vec![hook, "post_attach"],
    }
}

#[track_caller]
fn holds(seen: Seen, change: Change) {
    let project = case(seen, change);
    project.effects();
    project.run(&["up", "--yes"]).exits(0);
    assert_eq!(project.effects(), expected(seen, change), "{seen:?} x {change:?}");
    project.is_settled();
}

#[track_caller]
fn row(seen: Seen) {
    for change in [Change::Nothing, Change::Hot, Change::Packs, Change::Restart, Change::Recreate] {
        holds(seen, change);
    }
}

#[track_caller]
fn hooks(seen: Seen) {
    for hook in HOOKS {
        holds(seen, Change::Hook(hook));
    }
}

#[test]
fn an_absent_unit_is_made_whatever_differs() {
    row(Seen::Absent);
}

#[test]
fn an_absent_unit_is_made_whatever_hook_differs() {
    hooks(Seen::Absent);
}

#[test]
fn a_stopped_unit_is_started_or_made_anew() {
    row(Seen::Stopped);
}

#[test]
fn a_stopped_unit_is_started_and_runs_the_hook_that_differs() {
    hooks(Seen::Stopped);
}

#[test]
fn a_running_unit_is_mended_restarted_or_made_anew() {
    row(Seen::Running);
}

#[test]
fn a_running_unit_runs_the_hook_that_differs() {
    hooks(Seen::Running);
}

#[test]
fn without_provisioning_the_drift_stays_and_is_shown() {
    for seen in [Seen::Absent, Seen::Stopped, Seen::Running] {
        let project = case(seen, Change::Packs);
        project.effects();
        project.run(&["up", "--no-provision"]).exits(0);
        assert_eq!(project.effects(), NOTHING, "{seen:?}");
        let status = project.status();
        assert_eq!(
            (&status["state"], &status["out_of_date"]),
            (&"running".into(), &true.into()),
            "{seen:?}: {status}"
        );
        let told = project.run(&["status"]);
        assert!(told.stdout.contains("out of date") || told.stdout.contains("not ready"), "{seen:?}: {told}");
        project.run(&["plan", "--exit-code"]).exits(3);
        let effects = project.up_effects();
        assert!(effects.contains(&"alpha".to_owned()), "{seen:?}: {effects:?}");
        project.is_settled();
    }
}

#[test]
fn without_provisioning_a_unit_without_drift_is_left_alone() {
    let project = case(Seen::Running, Change::Nothing);
    project.effects();
    project.run(&["up", "--no-provision"]).exits(0).says("nothing to do");
    assert_eq!(project.effects(), NOTHING);
}

#[test]
fn reprovision_runs_packs_and_post_attach_without_a_restart() {
    let project = case(Seen::Running, Change::Nothing);
    let before = project.inside("cut -d' ' -f22 /proc/1/stat");
    project.effects();
    project.run(&["reprovision"]).exits(0);
    assert_eq!(project.effects(), ["alpha", "beta", "post_attach"]);
    project.run(&["reprovision", "--full"]).exits(0);
    assert_eq!(project.effects(), CREATED);
    assert_eq!(project.inside("cut -d' ' -f22 /proc/1/stat"), before);
    project.is_settled();
}

#[test]
fn reprovision_runs_one_pack_or_one_hook() {
    let project = case(Seen::Running, Change::Nothing);
    project.effects();
    project.run(&["reprovision", "--pack", "beta"]).exits(0);
    assert_eq!(project.effects(), ["beta"]);
    project.run(&["reprovision", "--hook", "post_create"]).exits(0);
    assert_eq!(project.effects(), ["post_create"]);
    project.run(&["reprovision", "--pack", "gamma"]).exits(5).says("there is: alpha, beta");
    project.run(&["reprovision", "--hook", "nonsense"]).exits(5).says("there is: ");
    project.run(&["reprovision", "--full", "--pack", "beta"]).exits(2);
    assert_eq!(project.effects(), NOTHING);
    project.is_settled();
}

#[test]
fn a_single_pack_run_on_request_does_not_hide_drift_elsewhere() {
    let project = case(Seen::Running, Change::Packs);
    project.effects();
    project.run(&["reprovision", "--pack", "beta"]).exits(0);
    assert_eq!(project.effects(), ["beta"]);
    project.run(&["plan", "--exit-code"]).exits(3);
    assert!(project.up_effects().contains(&"alpha".to_owned()));
    project.is_settled();
}

#[test]
fn marking_a_hook_as_done_runs_nothing() {
    let project = Project::full();
    project.declare("\"echo post_create >> log\"", "\"echo tried >> log; exit 1\"");
    project.run(&["up"]).exits(1);
    project.effects();
    project.run(&["reprovision", "--mark-done", "post_create"]).exits(0).says("nothing was run");
    assert_eq!(project.effects(), NOTHING);
    let effects = project.up_effects();
    assert!(!effects.contains(&"tried".to_owned()), "{effects:?}");
    project.is_settled();
}

#[test]
fn reprovision_needs_a_unit_that_runs() {
    let project = case(Seen::Stopped, Change::Nothing);
    project.run(&["reprovision"]).exits(5).says("setpoint up");
    project.run(&["down"]).exits(0);
    project.run(&["reprovision"]).exits(5).says("setpoint up");
}

#[test]
fn recreate_on_request_does_everything_but_initialize() {
    let project = case(Seen::Running, Change::Nothing);
    project.effects();
    project.run(&["up", "--recreate", "--yes"]).exits(0);
    assert_eq!(project.effects(), CREATED);
    project.is_settled();
}

#[test]
fn a_hook_that_is_always_run_is_run_by_every_up() {
    let project = Project::full();
    project.declare("\"echo post_attach >> log\"", r#"{ run = "echo post_attach >> log", always = true }"#);
    project.up();
    project.effects();
    project.run(&["plan", "--exit-code"]).exits(0);
    project.run(&["up"]).exits(0).says("nothing changed; ran post_attach");
    assert_eq!(project.effects(), ["post_attach"]);
}

#[test]
fn packs_may_be_left_out_of_a_start() {
    let project = Project::full();
    project.declare("packs = [", "packs_on_start = \"drift\"\npacks = [");
    project.up();
    project.run(&["stop"]).exits(0);
    assert_eq!(project.up_effects(), ["post_start", "post_attach"]);
    project.run(&["stop"]).exits(0);
    project.edit(".setpoint/packs/beta.sh", "echo", "true\necho");
    assert_eq!(project.up_effects(), ["beta", "post_start", "post_attach"]);
    project.is_settled();
}
