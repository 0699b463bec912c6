//! One edit each: what it makes `up` run, and nothing else.

use crate::harness::{FULL, NOTHING, Project, tells};

/// A full project that is up, with three packs.
fn settled() -> Project {
    let project = Project::full();
    project.pack("gamma").declare(r#""beta"]"#, r#""beta", "gamma"]"#);
    project.up();
    project.effects();
    project
}

/// The record of the unit, the leaves of which are all that is declared.
fn record(project: &Project) -> String {
    project.status()["record"].as_str().unwrap().to_owned()
}

/// Something that tells one life of the unit from the next: when its first process began.
fn life(project: &Project) -> String {
    project.inside("cat /proc/1/stat").rsplit(") ").next().unwrap().split(' ').nth(19).unwrap().to_owned()
}

fn drifts(project: &Project) -> bool {
    let code = project.run(&["plan", "--exit-code"]).code;
    assert!(code == 0 || code == 3, "plan ended with {code}");
    code == 3
}

#[test]
fn an_edited_pack_runs_with_those_after_it() {
    let project = settled();
    project.edit(".setpoint/packs/beta.sh", "echo", "# edited\necho");
    project.run(&["why"]).says(".setpoint/packs/beta.sh").says("1 change since");
    assert_eq!(project.up_effects(), ["beta", "gamma", "post_attach"]);
    project.is_settled();
}

#[test]
fn reordered_packs_run_from_the_first_place_that_differs() {
    let project = settled();
    project.declare(r#""beta", "gamma""#, r#""gamma", "beta""#);
    project.run(&["why"]).says("1 change since");
    assert_eq!(project.up_effects(), ["gamma", "beta", "post_attach"]);
    project.is_settled();
}

#[test]
fn an_inserted_pack_runs_with_those_after_it() {
    let project = settled();
    project.pack("delta").declare(r#""alpha", "#, r#""alpha", "delta", "#);
    project.run(&["why"]).says("1 change since").says("env.dev.packs delta");
    assert_eq!(project.up_effects(), ["delta", "beta", "gamma", "post_attach"]);
    project.is_settled();
}

#[test]
fn a_pack_taken_from_the_end_runs_no_pack_and_is_told() {
    let project = settled();
    project.declare(r#", "gamma""#, "");
    project.run(&["why"]).says("env.dev.packs gamma").says("removed");
    let effects = project.up_effects();
    assert!(effects.iter().all(|effect| effect == "post_attach"), "{effects:?}");
    project.is_settled();
}

#[test]
fn the_library_is_part_of_every_pack() {
    let project = settled();
    project.write(".setpoint/packs/_lib.sh", "hello() { echo hello; }\n");
    assert_eq!(project.up_effects(), ["alpha", "beta", "gamma", "post_attach"]);
    project.edit(".setpoint/packs/_lib.sh", "echo hello", "echo good day");
    project.run(&["why"]).says(".setpoint/packs/_lib.sh");
    assert_eq!(project.up_effects(), ["alpha", "beta", "gamma", "post_attach"]);
    project.is_settled();
}

#[test]
fn the_inputs_that_a_pack_names_are_part_of_it() {
    let project = settled();
    project.write("tools.txt", "one\n");
    project.write(
        ".setpoint/packs/beta.sh",
        &format!("# setpoint: inputs = [\"tools.txt\"]\n{}", tells("beta")),
    );
    project.up();
    project.effects();
    project.write("tools.txt", "two\n");
    project.run(&["why"]).says("tools.txt").says("1 change since");
    assert_eq!(project.up_effects(), ["beta", "gamma", "post_attach"]);
    project.is_settled();
}

#[test]
fn an_edited_hook_runs_alone_with_post_attach() {
    for hook in ["on_create", "update_content", "post_create", "post_start"] {
        let project = settled();
        project.declare(&format!("\"echo {hook} >> log\""), &format!("\"echo {hook} >> log; true\""));
        project.run(&["why"]).says(&format!("env.dev.hooks.{hook}"));
        assert_eq!(project.up_effects(), [hook, "post_attach"]);
        project.is_settled();
    }
}

#[test]
fn an_edited_initialize_runs_on_the_host_again() {
    let project = settled();
    project.declare("echo initialize >> log", "echo initialize >> log; true");
    assert_eq!(project.up_effects(), ["initialize", "post_attach"]);
    project.is_settled();
}

#[test]
fn an_edited_hook_script_runs_alone_with_post_attach() {
    let project = Project::full();
    project.write("scripts/seed.sh", "echo post_create >> log\n");
    project.declare("\"echo post_create >> log\"", "\"scripts/seed.sh\"");
    project.up();
    project.edit("scripts/seed.sh", "echo", "# more\necho");
    project.run(&["why"]).says("scripts/seed.sh").says("1 change since");
    assert_eq!(project.up_effects(), ["post_create", "post_attach"]);
    project.is_settled();
}

#[test]
fn an_edited_input_of_a_hook_runs_that_hook() {
    let project = Project::full();
    project.write("package-lock.json", "{}").write("docs/readme.md", "hello");
    project.declare(
        "\"echo update_content >> log\"",
        r#"{ run = "echo update_content >> log", inputs = ["package-lock.json", "src/**"] }"#,
    );
    project.up();
    project.write("docs/readme.md", "no input of anything");
    assert!(!drifts(&project));
    project.write("package-lock.json", "{\"a\": 1}");
    project.run(&["why"]).says("package-lock.json").says("update_content");
    assert_eq!(project.up_effects(), ["update_content", "post_attach"]);
    project.write("src/deep/new.rs", "// new");
    project.run(&["why"]).says("src/deep/new.rs");
    assert_eq!(project.up_effects(), ["update_content", "post_attach"]);
    project.is_settled();
}

#[test]
fn when_changed_may_only_report_or_recreate() {
    let project = Project::full();
    let hook = |text: &str, change: &str| format!(r#"{{ run = "{text}", when_changed = "{change}" }}"#);
    project.declare("\"echo post_create >> log\"", &hook("echo post_create >> log", "report"));
    project.declare("\"echo on_create >> log\"", &hook("echo on_create >> log", "recreate"));
    project.up();
    project.declare("run = \"echo post_create >> log", "run = \"true; echo post_create >> log");
    project.run(&["why"]).says("post_create");
    assert!(!project.up_effects().contains(&"post_create".to_owned()));
    let before = life(&project);
    project.declare("run = \"echo on_create >> log", "run = \"true; echo on_create >> log");
    project.effects();
    project.run(&["up", "--yes"]).exits(0);
    assert!(project.effects().contains(&"on_create".to_owned()));
    assert_ne!(life(&project), before);
    project.is_settled();
}

#[test]
fn a_variable_is_given_to_new_sessions_without_a_restart_and_only_after_up() {
    let project = settled();
    let before = life(&project);
    project.declare("[env.dev.hooks]", "[env.dev.env]\nRUST_LOG = \"info\"\n[env.dev.hooks]");
    assert_eq!(project.run(&["exec", "--", "printenv", "RUST_LOG"]).code, 1);
    project.run(&["why"]).says("env.dev.env.RUST_LOG").says("1 change since");
    assert_eq!(project.up_effects(), ["post_attach"]);
    assert_eq!(project.inside("echo $RUST_LOG"), "info");
    assert_eq!(life(&project), before, "it was restarted");
    project.declare("\"info\"", "\"debug\"");
    assert_eq!(project.inside("echo $RUST_LOG"), "info");
    project.up();
    assert_eq!(project.inside("echo $RUST_LOG"), "debug");
    project.is_settled();
}

#[test]
fn a_mount_restarts_the_unit_and_runs_no_hook_that_runs_once() {
    let project = settled();
    project.inside("echo kept > /opt/kept");
    let before = life(&project);
    std::fs::create_dir(project.at("data")).unwrap();
    std::fs::write(project.at("data/hello"), "from outside").unwrap();
    let mount = format!("mounts = [{{ source = \"{}\", target = \"/data\" }}]", project.at("data").display());
    project.declare("[env.dev.hooks]", &format!("{mount}\n[env.dev.hooks]"));
    project.run(&["plan"]).says("restart");
    assert_eq!(project.up_effects(), ["alpha", "beta", "gamma", "post_start", "post_attach"]);
    assert_ne!(life(&project), before, "it was not restarted");
    assert_eq!(project.inside("cat /data/hello /opt/kept"), "from outsidekept");
    project.is_settled();
}

/// A root folder that has what a shell needs, and a file that names it.
fn root_folder(project: &Project, name: &str) -> String {
    let root = project.at(name);
    let script = "mkdir -p $0/bin $0/etc $0/proc $0/dev $0/tmp && cp /bin/busybox $0/bin/ 2>/dev/null || exit 1; \
                  for tool in sh cat echo readlink ls touch printenv id; do ln -s busybox $0/bin/$tool; done; \
                  echo root:x:0:0::/root:/bin/sh > $0/etc/passwd";
    let made = std::process::Command::new("sh").args(["-c", script]).arg(&root).status().unwrap();
    assert!(made.success(), "busybox is needed for this test (apt-get install busybox-static)");
    std::fs::write(root.join("etc/name"), name).unwrap();
    root.display().to_string()
}

#[test]
fn another_base_recreates_the_unit_and_needs_consent_where_it_has_files_of_its_own() {
    let project = Project::full();
    let (old, new) = (root_folder(&project, "old"), root_folder(&project, "new"));
    project.declare("packs =", &format!("rootfs = \"{old}\"\npacks ="));
    project.up();
    assert_eq!(project.inside("cat /etc/name"), "old");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    project.inside("touch /etc/precious");
    let (life_before, record_before) = (life(&project), record(&project));
    project.effects();

    project.declare(&old, &new);
    let refused = project.run(&["up"]);
    refused.exits(6).says("discards").says("/etc/precious").says("Nothing was done").says("--yes");
    assert_eq!(project.effects(), NOTHING);
    assert_eq!(record(&project), record_before);
    assert_eq!(life(&project), life_before);
    assert_eq!(project.inside("cat /etc/name; ls /etc/precious"), "old/etc/precious");
    assert!(drifts(&project));

    project.run(&["up", "--yes"]).exits(0);
    assert_eq!(
        project.effects(),
        [
            "alpha",
            "beta",
            "on_create",
            "update_content",
            "post_create",
            "post_start",
            "post_attach",
            "verify"
        ]
    );
    assert_eq!(project.inside("cat /etc/name"), "new");
    assert_eq!(project.run(&["exec", "--", "ls", "/etc/precious"]).code, 1);
    project.is_settled();
}

#[test]
fn a_file_that_was_written_right_after_the_unit_was_made_is_its_own_too() {
    let project = Project::new("setpoint = 1\n[env.dev]\n");
    let (old, new) = (root_folder(&project, "old"), root_folder(&project, "new"));
    project.declare("[env.dev]", &format!("[env.dev]\nrootfs = \"{old}\""));
    project.up();
    project.inside("touch /etc/precious");
    project.declare(&old, &new);
    project.run(&["up"]).exits(6).says("/etc/precious");
}

#[test]
fn a_recreation_that_loses_nothing_asks_nobody() {
    let project = Project::new("setpoint = 1\n[env.dev]\n");
    let (old, new) = (root_folder(&project, "old"), root_folder(&project, "new"));
    project.declare("[env.dev]", &format!("[env.dev]\nrootfs = \"{old}\""));
    project.up();
    project.declare(&old, &new);
    project.up();
    assert_eq!(project.inside("cat /etc/name"), "new");
}

#[test]
fn a_comment_or_another_format_is_no_drift() {
    let project = settled();
    let before = record(&project);
    let reformatted = project
        .read("setpoint.toml")
        .replace("setpoint = 1", "# the schema\nsetpoint   =   1")
        .replace(r#"["alpha", "beta", "gamma"]"#, "[\n  'alpha', # first\n  'beta',\n  'gamma',\n]")
        .replace("[env.dev.hooks]", "[env.dev.hooks] # hooks");
    project.write("setpoint.toml", &reformatted);
    assert!(!drifts(&project));
    assert_eq!(project.up_effects(), NOTHING);
    assert_eq!(record(&project), before);
}

#[test]
fn a_size_is_compared_by_what_it_means() {
    let project = settled();
    project.declare("[env.dev.hooks]", "limits = { memory = \"512m\" }\n[env.dev.hooks]");
    project.up();
    for same in ["\"512MiB\"", "536870912", "\"0.5g\""] {
        let text = project.read("setpoint.toml");
        let line = text.lines().find(|line| line.starts_with("limits")).unwrap();
        project.declare(line, &format!("limits = {{ memory = {same} }}"));
        assert!(!drifts(&project), "{same}");
    }
}

#[test]
fn a_reverted_manifest_is_no_drift_and_asks_for_no_work() {
    let project = settled();
    let (text, before) = (project.read("setpoint.toml"), record(&project));
    project.pack("uv").declare(r#""gamma"]"#, r#""gamma", "uv"]"#);
    project.declare("echo post_create", "echo  post_create");
    assert!(drifts(&project));
    project.write("setpoint.toml", &text);
    assert!(!drifts(&project));
    assert_eq!(project.up_effects(), NOTHING);
    assert_eq!(record(&project), before);
}

#[test]
fn a_touched_file_is_no_drift() {
    let project = settled();
    let pack = project.read(".setpoint/packs/alpha.sh");
    project.write(".setpoint/packs/alpha.sh", &pack);
    assert!(!drifts(&project));
    assert_eq!(project.up_effects(), NOTHING);
}

#[test]
fn limits_are_changed_while_it_runs() {
    let project = settled();
    let before = life(&project);
    project.declare("[env.dev.hooks]", "limits = { pids = 100, memory = \"512MiB\" }\n[env.dev.hooks]");
    assert_eq!(project.up_effects(), ["post_attach"]);
    assert_eq!(life(&project), before, "it was restarted");
    let unit = &crate::leaks::units(&project.state())[0];
    let limit = || {
        let groups = crate::leaks::groups(std::slice::from_ref(unit));
        let file =
            |name: &str| groups.iter().find_map(|group| std::fs::read_to_string(group.join(name)).ok());
        file("pids.max").unwrap_or_else(|| panic!("no limit in {groups:?}")).trim().to_owned()
    };
    assert_eq!(limit(), "100");
    project.declare("pids = 100", "pids = 200");
    assert_eq!(project.up_effects(), ["post_attach"]);
    assert_eq!(limit(), "200");
    project.is_settled();
}

#[test]
fn a_local_layer_and_set_are_laid_over_the_manifest() {
    let project = settled();
    project.write("setpoint.local.toml", "setpoint = 1\n[env.dev.env]\nEDITOR = \"vi\"\n");
    assert_eq!(project.up_effects(), ["post_attach"]);
    assert_eq!(project.inside("echo $EDITOR"), "vi");
    project.run(&["up", "--set", "env.dev.env.EDITOR=ed"]).exits(0);
    assert_eq!(project.inside("echo $EDITOR"), "ed");
    assert!(drifts(&project), "without --set it is `vi` again");
}

#[test]
fn a_script_that_is_edited_while_it_runs_is_not_recorded_as_applied() {
    let project = Project::new(FULL);
    project.pack("alpha");
    project.write(
        ".setpoint/packs/beta.sh",
        "echo beta >> /workspace/log\nif [ ! -e /workspace/once ]; then touch /workspace/once; \
         echo '# later' >> /workspace/.setpoint/packs/beta.sh; fi\n",
    );
    project.up();
    assert!(drifts(&project), "the text that was added never ran");
    assert_eq!(project.up_effects(), ["beta", "post_attach"]);
    project.is_settled();
}
