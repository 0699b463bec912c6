//! Inside: what a session is, whose files are whose, what is seen of the host, and what outlives what.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::process::Command;

use crate::harness::{NOTHING, Project, finish, tells, until};
use crate::leaks;

/// An environment with nothing to run.
const BARE: &str = "setpoint = 1\n[env.dev]\n";

#[test]
fn exec_ends_as_its_command_ends() {
    let project = Project::new(BARE);
    project.up();
    let code = |script: &str| project.run(&["exec", "--", "sh", "-c", script]).code;
    assert_eq!([0, 1, 7, 42, 255].map(|wanted| code(&format!("exit {wanted}"))), [0, 1, 7, 42, 255]);
    assert_eq!(code("kill -TERM $$"), 128 + 15);
    assert_eq!(code("kill -9 $$"), 128 + 9);
}

#[test]
fn exec_of_a_program_that_is_not_there_says_so() {
    let project = Project::new(BARE);
    project.up();
    let missing = project.run(&["exec", "--", "no-such-program"]);
    missing.exits(127).says("no-such-program");
    project.write("data.txt", "no program");
    project.run(&["exec", "--", "/workspace/data.txt"]).exits(126).says("data.txt");
}

#[test]
fn exec_keeps_its_three_streams_apart_and_whole() {
    let project = Project::new(BARE);
    project.up();
    let input: Vec<u8> = (0..3_000_000_u32).map(|index| (index.wrapping_mul(7919) >> 3) as u8).collect();
    std::fs::write(project.root.join("expected"), &input).unwrap();
    let piped =
        project.run_with_input(&["exec", "--", "sh", "-c", "cat > got; echo done; echo oops >&2"], &input);
    piped.exits(0);
    assert_eq!((piped.stdout.as_str(), piped.stderr.as_str()), ("done\n", "oops\n"));
    assert!(std::fs::read(project.root.join("got")).unwrap() == input);
    let out = project.run(&["exec", "--", "sh", "-c", "head -c 2000000 /dev/zero | tr '\\0' x"]);
    assert_eq!(out.stdout.len(), 2_000_000);
}

#[test]
fn a_signal_to_exec_reaches_its_command() {
    let project = Project::new(BARE);
    project.up();
    let script = "trap 'echo caught >> log; exit 9' TERM; echo ready >> log; while :; do sleep 0.05; done";
    let exec = project.start(&mut project.command(&["exec", "--", "sh", "-c", script]));
    until("it is ready", || project.read("log").contains("ready"));
    assert!(Command::new("kill").args(["-TERM", &exec.id().to_string()]).status().unwrap().success());
    let ended = finish(exec);
    assert_eq!(
        (ended.code, project.effects()),
        (9, vec!["ready".to_owned(), "caught".to_owned()]),
        "{ended}"
    );
}

#[test]
fn what_exec_started_dies_with_it() {
    let project = Project::new(BARE);
    project.up();
    let mut exec =
        project.start(&mut project.command(&["exec", "--", "sh", "-c", "echo on >> log; sleep 3701"]));
    until("it is on", || project.read("log").contains("on"));
    exec.kill().unwrap();
    exec.wait().unwrap();
    let place = project.root.parent().unwrap();
    until("it died", || !leaks::processes(place).iter().any(|(_, line)| line.contains("sleep 3701")));
}

#[test]
fn exec_takes_a_user_and_variables() {
    let project = Project::new(BARE);
    project.up();
    assert_eq!(project.run(&["exec", "--user", "daemon", "--", "id", "-un"]).stdout, "daemon\n");
    assert_eq!(project.run(&["exec", "--user", "4321:4322", "--", "id", "-u"]).stdout, "4321\n");
    assert_eq!(project.run(&["exec", "-e", "A=b=c", "--", "printenv", "A"]).stdout, "b=c\n");
    project.run(&["exec", "--user", "nobody-knows", "--", "id"]).says("nobody-knows");
}

#[test]
fn exec_gives_a_terminal_where_it_is_asked_to_and_none_else() {
    let project = Project::new(BARE);
    project.up();
    project.run(&["exec", "--", "tty"]).exits(1);
    let told = project.run(&["exec", "-t", "--", "tty"]);
    assert_eq!(told.stdout.trim_end(), "/dev/pts/0", "{told}");
}

/// What a person sees who types this in a terminal of 33 lines and 101 columns.
fn in_a_terminal(project: &Project, words: &str, typed: &str) -> String {
    let setpoint = env!("CARGO_BIN_EXE_setpoint");
    let mut command = project.command(&[]);
    let variables: Vec<_> =
        command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    command = Command::new("script");
    command.env_clear().envs(variables).current_dir(&project.root);
    command.args(["-qec", &format!("stty rows 33 cols 101; exec {setpoint} {words}"), "/dev/null"]);
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    for line in typed.split_inclusive('\n') {
        std::thread::sleep(std::time::Duration::from_millis(500));
        std::io::Write::write_all(&mut input, line.as_bytes()).unwrap();
    }
    let ended = finish(child);
    drop(input);
    format!("{}exit {}", ended.stdout.replace('\r', ""), ended.code)
}

#[test]
fn a_terminal_is_passed_on_with_its_size_and_its_keys() {
    let project = Project::new(BARE);
    project.up();
    let told = in_a_terminal(&project, "exec -- sh -c 'tty; stty size; exit 5'", "");
    assert_eq!(told.trim_start_matches('\0'), "/dev/pts/0\n33 101\nexit 5");
    let script = "trap \"echo interrupted; exit 6\" INT; echo ready; while :; do sleep 0.05; done";
    let told = in_a_terminal(&project, &format!("exec -- sh -c '{script}'"), "\u{3}\n");
    assert!(told.contains("ready") && told.contains("interrupted") && told.ends_with("exit 6"), "{told}");
}

#[test]
fn a_shell_opens_with_post_attach_and_ends_as_it_ends() {
    let project = Project::full();
    project.up();
    project.effects();
    let told = in_a_terminal(&project, "shell", "echo in-$SETPOINT_UNIT\nexit 4\n");
    assert!(told.contains("in-dev") && told.ends_with("exit 4"), "{told}");
    assert_eq!(project.effects(), ["post_attach"]);
    project.is_settled();
}

#[test]
fn exec_in_what_does_not_run_names_the_way() {
    let project = Project::new(BARE);
    project.run(&["exec", "--", "true"]).exits(5).says("there is no dev yet").says("setpoint up dev");
    project.up();
    project.run(&["stop"]).exits(0);
    project.run(&["exec", "--", "true"]).exits(5).says("dev is not running").says("setpoint up dev");
}

#[test]
fn the_files_made_inside_belong_to_the_owner_of_the_folder() {
    let project = Project::new(
        "setpoint = 1\n[env.dev]\npacks = [\"alpha\"]\n[env.dev.hooks]\npost_create = \"id -u > made-by-hook\"\n",
    );
    project.write(".setpoint/packs/alpha.sh", "id -u > /tmp/pack-ran-as\n");
    chown(&project.root, Some(1000), Some(1000)).unwrap();
    project.up();
    assert_eq!(project.read("made-by-hook"), "1000\n");
    assert_eq!(project.inside("id -u; touch made-by-exec; cat /tmp/pack-ran-as"), "1000\n0");
    for file in ["made-by-hook", "made-by-exec"] {
        let metadata = project.root.join(file).metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (1000, 1000), "{file}");
    }
    project.inside("echo mine > $HOME/mine && cat $HOME/mine");
}

#[test]
fn edits_are_seen_on_both_sides() {
    let project = Project::new(BARE);
    project.up();
    project.write("from-outside", "out");
    assert_eq!(project.inside("cat from-outside; echo in > from-inside"), "out");
    assert_eq!(project.read("from-inside"), "in\n");
    assert_eq!(project.inside("pwd"), "/workspace");
}

#[test]
fn nothing_of_the_hosts_homes_is_visible_but_what_is_declared() {
    let mut project = Project::new(BARE);
    let home = project.at("home");
    for (folder, file) in [(".rustup", "toolchain"), (".ssh", "id_secret")] {
        std::fs::create_dir(home.join(folder)).unwrap();
        std::fs::write(home.join(folder).join(file), file).unwrap();
    }
    project.set("HOME", home.to_str().unwrap());
    project.declare("[env.dev]\n", "[env.dev]\nhost_paths = [\"~/.rustup\"]\n");
    project.up();
    let rustup = home.join(".rustup/toolchain");
    let rustup = rustup.display();
    assert_eq!(project.inside(&format!("cat {rustup}")), "toolchain");
    assert_eq!(project.run(&["exec", "--", "sh", "-c", &format!("echo x > {rustup}")]).code, 2);
    assert_ne!(project.run(&["exec", "--", "ls", home.join(".ssh").to_str().unwrap()]).code, 0);
    for hidden in [project.state(), project.at("config"), "/srv".into(), "/mnt".into()] {
        let hidden = hidden.display();
        assert_eq!(project.inside(&format!("ls -A {hidden} 2>/dev/null; true")), "", "{hidden}");
    }
    for secret in ["/etc/sudoers", "/etc/ssl/private/*", "/etc/ssh/ssh_host_*_key"] {
        assert_eq!(project.inside(&format!("cat {secret} 2>/dev/null; true")), "", "{secret}");
    }
    let hashes = "cut -d: -f2 /etc/shadow /etc/gshadow 2>/dev/null | grep '[$]'; true";
    assert_eq!(project.inside(hashes), "", "hashes of passwords are inside");
    // Of the other homes only those that the unit itself has.
    assert_eq!(project.inside("cat /root/.bash_history /home/*/.bashrc 2>/dev/null | wc -c"), "0");
}

#[test]
fn mounts_are_read_only_or_not_as_declared() {
    let project = Project::new(BARE);
    for name in ["rw", "ro"] {
        std::fs::create_dir(project.at(name)).unwrap();
    }
    let mount = |name: &str, more: &str| {
        format!("{{ source = \"{}\", target = \"/{name}\"{more} }}", project.at(name).display())
    };
    let mounts = format!("mounts = [{}, {}]", mount("rw", ""), mount("ro", ", read_only = true"));
    project.declare("[env.dev]\n", &format!("[env.dev]\n{mounts}\n"));
    project.up();
    project.inside("echo hello > /rw/hello");
    assert_eq!(std::fs::read_to_string(project.at("rw/hello")).unwrap(), "hello\n");
    let refused = project.run(&["exec", "--", "touch", "/ro/hello"]);
    refused.exits(1).says("Read-only");
    std::fs::remove_dir_all(project.at("ro")).unwrap();
    project.run(&["stop"]).exits(0);
    project.run(&["up"]).exits(4).says("ro").says("setpoint.toml");
}

#[test]
fn writes_outside_the_workspace_stay_inside() {
    let project = Project::new(BARE);
    project.up();
    let marker = format!("setpoint-marker-{}", std::process::id());
    project.inside(&format!("for folder in /usr /etc /opt /tmp /root; do touch $folder/{marker}; done"));
    for folder in ["/usr", "/etc", "/opt", "/tmp", "/root"] {
        assert!(!std::path::Path::new(folder).join(&marker).exists(), "{folder}");
    }
}

#[test]
fn stop_and_start_keep_the_units_files_and_down_removes_them() {
    let project = Project::full();
    project.up();
    project.inside("echo kept > /opt/kept; echo home > $HOME/kept");
    project.run(&["stop"]).exits(0);
    assert_eq!(project.status()["state"], "stopped");
    project.run(&["stop"]).exits(0);
    project.up();
    assert_eq!(project.inside("cat /opt/kept $HOME/kept"), "kept\nhome");
    let units = leaks::units(&project.state());
    project.run(&["down"]).exits(0);
    assert_eq!(project.status()["state"], "absent");
    assert_eq!(leaks::left(project.root.parent().unwrap(), &units), Vec::<String>::new());
    project.run(&["down"]).exits(0);
    project.up();
    assert_eq!(project.run(&["exec", "--", "cat", "/opt/kept"]).code, 1);
}

#[test]
fn logs_are_kept_by_phase() {
    let project = Project::new(
        "setpoint = 1\n[env.dev]\npacks = [\"alpha\"]\n[env.dev.hooks]\npost_create = \"echo seeded; echo badly >&2\"\n",
    );
    project.write(".setpoint/packs/alpha.sh", "echo installed\n");
    project.run(&["logs"]).exits(5).says("no logs");
    project.up();
    project.run(&["logs", "dev", "post_create"]).exits(0).says("seeded").says("badly");
    project.run(&["logs", "dev", "pack", "alpha"]).exits(0).says("installed");
    project.run(&["logs"]).exits(0).says("seeded");
    project.run(&["logs", "--list"]).exits(0).says("post_create").says("pack-alpha");
    project.run(&["logs", "dev", "../../secrets"]).exits(5).says("there is: ");
}

#[test]
fn a_lost_state_is_rebuilt_from_the_unit_itself() {
    let project = Project::full();
    project.up();
    project.inside("echo kept > /opt/kept");
    project.effects();
    for entry in std::fs::read_dir(project.state()).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("state.") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    project.run(&["status"]).exits(0).says("on_create").says("post_create");

    let up = project.run(&["up"]);
    up.exits(0).says("the state was lost").says("on_create").says("post_create").says("--mark-done");
    let effects = project.effects();
    for ran in ["alpha", "beta", "update_content", "post_start", "post_attach"] {
        assert!(effects.iter().any(|effect| effect == ran), "{ran} did not run: {effects:?}");
    }
    for unknown in ["on_create", "post_create"] {
        assert!(!effects.iter().any(|effect| effect == unknown), "{unknown} ran: {effects:?}");
    }
    assert_eq!(project.inside("cat /opt/kept"), "kept");
    assert_eq!(project.status()["unknown"], serde_json::json!(["on_create", "post_create"]));

    project.run(&["reprovision", "--hook", "on_create"]).exits(0);
    assert_eq!(project.effects(), ["on_create"]);
    project.run(&["reprovision", "--mark-done", "post_create"]).exits(0);
    assert_eq!(project.effects(), NOTHING);
    assert_eq!(project.status()["unknown"], serde_json::json!([]));
    assert!(!project.up_effects().contains(&"post_create".to_owned()), "it was vouched for");
    project.is_settled();
}

#[test]
fn packs_find_their_library_their_function_and_the_workspace() {
    let project =
        Project::new("setpoint = 1\n[env.dev]\npacks = [\"plain\", \"with-function\", \"older-name\"]\n");
    project.write(".setpoint/packs/_lib.sh", "say() { echo \"$1 as $(id -un)\" >> /workspace/log; }\n");
    project.write(".setpoint/packs/plain.sh", "say plain\n");
    project.write(".setpoint/packs/with-function.sh", "pack_with_function_ensure() { say function; }\n");
    project.write(".setpoint/packs/older-name.sh", "tart_pack_older_name_ensure() { say older; }\n");
    assert_eq!(project.up_effects(), ["plain as root", "function as root", "older as root"]);
    project.is_settled();
}

#[test]
fn several_environments_are_apart() {
    let project =
        Project::new("setpoint = 1\n[env.one]\npacks = [\"alpha\"]\n[env.two]\npacks = [\"alpha\"]\n");
    project.write(".setpoint/packs/alpha.sh", &tells("$SETPOINT_UNIT"));
    assert_eq!(project.up_effects(), ["one", "two"]);
    project.run(&["exec", "--", "true"]).exits(2).says("one").says("two");
    project.run(&["exec", "one", "--", "touch", "/opt/mine"]).exits(0);
    project.run(&["exec", "two", "--", "ls", "/opt/mine"]).exits(2);
    project.run(&["down", "one"]).exits(0);
    project.run(&["exec", "two", "--", "true"]).exits(0);
}

#[test]
fn a_shell_opens_in_the_step_that_failed_as_it_left_everything() {
    let project = Project::new(
        "setpoint = 1\n[pipeline.ci.step.x]\nrun = 'echo of the system > /usr/local/bin/left; echo of the workspace > note; exit 4'\n",
    );
    let seen = in_a_terminal(&project, "run --shell-on-fail", "cat /usr/local/bin/left note\nexit\n");
    assert!(seen.contains("\nof the system\nof the workspace\n") && seen.ends_with("exit 1"), "{seen}");
    project.run(&["run", "--shell-on-fail"]).exits(2).says("needs a terminal");
}
