//! A day with an environment, from `init` to "nothing to do".

use crate::harness::{NOTHING, Project};

/// What a full project tells at its creation, in order.
pub const ORDER: [&str; 9] = [
    "initialize",
    "alpha",
    "beta",
    "on_create",
    "update_content",
    "post_create",
    "post_start",
    "post_attach",
    "verify",
];

#[test]
fn init_writes_a_manifest_that_parses_and_comes_up() {
    let project = Project::new("");
    project.run(&["init"]).exits(0);
    project.up();
    project.is_settled();
    project.run(&["init"]).exits(2).says("is there already").says("--force");
}

#[test]
fn the_first_up_does_everything_in_order_and_the_second_nothing() {
    let project = Project::full();
    // `initialize` belongs to the host, and has never succeeded.
    assert_eq!(project.up_effects(), ORDER);
    let again = project.run(&["up"]);
    again.exits(0).says("nothing to do");
    assert_eq!(project.effects(), NOTHING);
}

#[test]
fn an_appended_pack_is_one_change_and_runs_alone_with_post_attach() {
    let project = Project::full();
    project.up();
    project.effects();
    project.pack("uv").declare(r#""beta"]"#, r#""beta", "uv"]"#);

    project.run(&["status"]).exits(0).says("out of date: 1 change (setpoint why)");
    project.run(&["why"]).exits(0).says("1 change since").says("env.dev.packs uv").says("added");
    project.run(&["why"]).says("No restart and no recreate.");
    assert_eq!(project.effects(), NOTHING, "looking runs nothing");

    assert_eq!(project.up_effects(), ["uv", "post_attach"]);
    project.run(&["status"]).exits(0).says_not("out of date");
    project.is_settled();
}

#[test]
fn plan_has_an_exit_code_for_scripts() {
    let project = Project::full();
    project.run(&["plan"]).exits(0);
    project.run(&["plan", "--exit-code"]).exits(3);
    project.run(&["status", "--exit-code"]).exits(3);
    project.up();
    project.run(&["plan", "--exit-code"]).exits(0).says("nothing to do");
    project.run(&["status", "--exit-code"]).exits(0);
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let project = Project::full();
    project.run(&["up", "--dry-run"]).exits(0).says("create").says("post_create");
    assert_eq!(project.effects(), NOTHING);
    assert_eq!(project.status()["state"], "absent");
}
