//! Pipelines: what runs, what is taken from the cache, what each step sees, and how it all ends.
//!
//! A step tells that it ran by a line in a folder that all steps share: [`ran`] takes those lines.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{NOTHING, Project, finish, until};

/// A step that tells that it ran, and then runs this.
fn step(name: &str, keys: &str, script: &str) -> String {
    format!(
        "[pipeline.ci.step.{name}]\n{keys}\ncache_dirs = [\"/effects\"]\nrun = '''\necho {name} >> /effects/log\n{script}\n'''\n"
    )
}

fn pipeline(steps: &[String]) -> Project {
    Project::new(&format!("setpoint = 1\n{}", steps.concat()))
}

/// The log of the shared folder.
fn log(project: &Project) -> PathBuf {
    let folders = fs::read_dir(project.state().join("cache_dirs/v1")).into_iter().flatten().flatten();
    let effects = folders.map(|entry| entry.path()).find(|path| path.to_string_lossy().contains("/effects"));
    effects.map_or_else(|| project.state().join("none"), |folder| folder.join("log"))
}

/// Takes what the steps have told since the last call, sorted.
fn ran(project: &Project) -> Vec<String> {
    let log = log(project);
    let text = fs::read_to_string(&log).unwrap_or_default();
    let _ = fs::remove_file(log);
    let mut told: Vec<String> = text.lines().map(str::to_owned).collect();
    told.sort();
    told
}

/// Runs the pipeline, which has to pass, and says which steps ran.
#[track_caller]
fn run(project: &Project) -> Vec<String> {
    project.run(&["run"]).exits(0);
    ran(project)
}

/// The events of a run that speaks JSON.
fn events(project: &Project, arguments: &[&str]) -> (i32, Vec<serde_json::Value>) {
    let outcome = project.run(&[&["run", "--json"], arguments].concat());
    let lines = outcome.stdout.lines();
    (outcome.code, lines.map(|line| serde_json::from_str(line).expect(line)).collect())
}

/// How each step ended, as `name outcome`.
fn outcomes(events: &[serde_json::Value]) -> Vec<String> {
    let mut ended: Vec<String> = events
        .iter()
        .filter(|event| event["event"] == "step_ended")
        .map(|event| format!("{} {}", event["step"].as_str().unwrap(), event["outcome"].as_str().unwrap()))
        .collect();
    ended.sort();
    ended
}

/// The lines that a step has said.
fn said(events: &[serde_json::Value], step: &str) -> Vec<String> {
    let lines = events.iter().filter(|event| event["event"] == "output" && event["step"] == step);
    lines.map(|event| event["line"].as_str().unwrap().to_owned()).collect()
}

fn three_steps() -> Project {
    let project = pipeline(&[
        step("fetch", "inputs = [\"lock\"]", "cat lock > fetched"),
        step("build", "from = \"fetch\"", "mkdir -p out; cat fetched src/* > out/built"),
        step("test", "from = \"build\"", "cat out/built"),
    ]);
    project.write("lock", "v1\n").write("src/a", "a\n").write("src/b", "b\n");
    project
}

#[test]
fn a_second_run_runs_nothing_and_an_edit_runs_what_sees_it() {
    let project = three_steps();
    assert_eq!(run(&project), ["build", "fetch", "test"]);
    assert_eq!(run(&project), NOTHING);
    project.write("src/a", "other\n");
    assert_eq!(run(&project), ["build", "test"]);
    project.write("lock", "v2\n");
    assert_eq!(run(&project), ["build", "fetch", "test"]);
    assert_eq!(run(&project), NOTHING);
    // Back to what was: everything is there still.
    project.write("src/a", "a\n").write("lock", "v1\n");
    assert_eq!(run(&project), NOTHING);
}

#[test]
fn a_changed_command_is_never_a_hit() {
    let project = three_steps();
    run(&project);
    project.declare("cat out/built\n", "cat out/built; true\n");
    assert_eq!(run(&project), ["test"]);
    project.declare("cat lock > fetched\n", "cat lock lock > fetched\n");
    assert_eq!(run(&project), ["build", "fetch", "test"]);
}

#[test]
fn the_environment_the_workdir_and_the_network_are_in_the_key() {
    let project = three_steps();
    run(&project);
    for keys in ["env = { A = \"1\" }", "env = { A = \"2\" }", "network = \"none\"", "workdir = \"src\""] {
        project.declare("[pipeline.ci.step.test]\n", &format!("[pipeline.ci.step.test]\n{keys}\n"));
        let command = keys.contains("workdir");
        if command {
            project.declare("\ncat out/built", "\ncat ../out/built");
        }
        assert_eq!(run(&project), ["test"], "{keys}");
        project.declare(&format!("{keys}\n"), "");
        if command {
            project.declare("cat ../out/built", "cat out/built");
        }
    }
    project.run(&["run", "--env", "LEVEL=3"]).exits(0);
    assert_eq!(ran(&project), ["build", "fetch", "test"]);
}

#[test]
fn two_projects_with_the_same_steps_and_other_content_share_nothing_and_equal_ones_do() {
    let manifest = format!("setpoint = 1\n{}", step("build", "", "cat file > out; cat out"));
    let mut one = Project::new(&manifest);
    one.write("file", "one\n");
    let mut two = Project::new(&manifest);
    two.write("file", "two\n");
    // The same state for both.
    let state = one.state();
    two.set("SETPOINT_STATE", state.to_str().unwrap());
    one.set("SETPOINT_STATE", state.to_str().unwrap());
    assert_eq!(run(&one), ["build"]);
    project_says(&two, "two");
    assert_eq!(ran(&one), ["build"]);
    two.write("file", "one\n");
    two.run(&["run"]).exits(0);
    assert_eq!(ran(&one), NOTHING, "equal keys share");
}

#[track_caller]
fn project_says(project: &Project, words: &str) {
    project.run(&["run"]).exits(0).says(words);
}

#[test]
fn a_deleted_file_is_gone_for_every_step() {
    let project = pipeline(&[
        step("fetch", "", "ls src; touch made"),
        step("test", "from = \"fetch\"", "ls src; test -e made"),
    ]);
    project.write("src/keep", "").write("src/gone", "");
    run(&project);
    fs::remove_file(project.root.join("src/gone")).unwrap();
    let (code, events) = events(&project, &[]);
    assert_eq!(code, 0);
    assert_eq!(said(&events, "fetch"), ["keep"]);
    assert_eq!(said(&events, "test"), ["keep"]);
}

#[test]
fn a_file_deleted_from_the_source_does_not_live_on_in_a_cached_parent() {
    let project = pipeline(&[
        step("fetch", "inputs = [\"lock\"]", "cat lock > fetched"),
        step("test", "from = \"fetch\"", "ls"),
    ]);
    project.write("lock", "1").write("gone", "");
    run(&project);
    fs::remove_file(project.root.join("gone")).unwrap();
    let (_, events) = events(&project, &[]);
    assert_eq!(outcomes(&events), ["fetch cached", "test passed"]);
    assert_eq!(said(&events, "test"), ["fetched", "lock", "log"]);
}

#[test]
fn what_a_step_built_is_there_on_a_warm_run_as_on_a_cold_one() {
    let project = pipeline(&[
        step(
            "build",
            "inputs = [\"src/**\"]",
            "mkdir dist; cat src/* > dist/all; rm src/b; echo tool > /usr/local/bin/tool",
        ),
        step(
            "test",
            "from = \"build\"\ncache = \"none\"",
            "find . -type f | sort; cat dist/all /usr/local/bin/tool",
        ),
    ]);
    project.write("src/a", "a\n").write("src/b", "b\n");
    let (_, cold) = events(&project, &[]);
    let (_, warm) = events(&project, &[]);
    assert_eq!(outcomes(&warm), ["build cached", "test passed"]);
    let expected = ["./dist/all", "./log", "./src/a", "a", "b", "tool"];
    assert_eq!(said(&cold, "test"), expected);
    assert_eq!(said(&warm, "test"), expected);
}

#[test]
fn outputs_narrow_what_flows_on_cold_and_warm_alike() {
    let project = pipeline(&[
        step("build", "outputs = [\"dist/**\"]", "mkdir dist junk; touch dist/a junk/b; rm given"),
        step("test", "from = \"build\"\ncache = \"none\"", "find dist junk given 2>/dev/null | sort"),
        step("taker", "take = \"build\"\ncache = \"none\"", "find dist junk given 2>/dev/null | sort"),
    ]);
    project.write("given", "");
    for _ in 0..2 {
        let (_, events) = events(&project, &[]);
        assert_eq!(said(&events, "test"), ["dist", "dist/a", "given"]);
        assert_eq!(said(&events, "taker"), ["dist", "dist/a", "given"]);
    }
}

#[test]
fn a_step_sees_only_its_inputs_and_a_pattern_that_fits_nothing_is_an_error() {
    let project = pipeline(&[step(
        "look",
        "inputs = [\"src/**\", { glob = \"docs/**\", optional = true }]",
        "find . -type f | sort",
    )]);
    project.write("src/a", "").write("other", "");
    let (_, events) = events(&project, &[]);
    assert_eq!(said(&events, "look"), ["./src/a"]);
    project.write("other", "changed");
    assert_eq!(ran(&project), ["look"]);
    assert_eq!(run(&project), NOTHING);
    project.declare("\"src/**\"", "\"source/**\"");
    project.run(&["run"]).exits(4).says("`source/**` fits no file").says("optional = true");
    assert_eq!(ran(&project), NOTHING);
}

#[test]
fn a_step_builds_on_the_file_system_of_another_and_the_host_stays_as_it_is() {
    let project = pipeline(&[
        step(
            "install",
            "",
            "echo '#!/bin/sh' > /usr/bin/our-tool; echo 'echo it works' >> /usr/bin/our-tool; chmod +x /usr/bin/our-tool",
        ),
        step("use", "from = \"install\"", "our-tool; ls -A /root /home"),
        step("other", "", "command -v our-tool || echo absent"),
    ]);
    let (_, events) = events(&project, &[]);
    assert_eq!(said(&events, "use")[0], "it works");
    assert_eq!(said(&events, "other"), ["absent"]);
    assert!(!std::path::Path::new("/usr/bin/our-tool").exists());
}

#[test]
fn policies_say_when_a_result_may_be_taken() {
    let project = pipeline(&[
        step("always", "cache = \"none\"", ""),
        step("once", "cache = \"forever\"", "ls"),
        step("seldom", "cache = { ttl = \"1h\" }", "ls"),
        step("often", "cache = { ttl = \"1ms\" }", "ls"),
        step("watch", "cache = { on_change = [\"lock\"] }", "ls"),
    ]);
    project.write("lock", "1").write("other", "1");
    let (_, first) = events(&project, &[]);
    assert_eq!(said(&first, "once"), NOTHING, "it sees no source");
    assert_eq!(said(&first, "seldom"), NOTHING, "it sees no source");
    assert_eq!(said(&first, "watch"), ["lock"]);
    ran(&project);
    std::thread::sleep(Duration::from_millis(10));
    assert_eq!(run(&project), ["always", "often"]);
    project.write("other", "2");
    assert_eq!(run(&project), ["always", "often"]);
    project.write("lock", "2");
    assert_eq!(run(&project), ["always", "often", "watch"]);
}

#[test]
fn a_cached_child_under_an_uncached_parent_runs_and_is_told_about() {
    let project = pipeline(&[
        step("parent", "cache = \"none\"", "date +%N > stamp"),
        step("child", "from = \"parent\"", "cat stamp"),
        step("grandchild", "from = \"child\"", "cat stamp"),
    ]);
    for _ in 0..2 {
        let outcome = project.run(&["run"]);
        outcome.exits(0).says("never cached");
        assert_eq!(ran(&project), ["child", "grandchild", "parent"]);
    }
    assert_eq!(snapshots(&project), 0, "nothing of it is kept for nobody");
}

fn snapshots(project: &Project) -> usize {
    fs::read_dir(project.state().join("snapshots/v1")).map_or(0, Iterator::count)
}

#[test]
fn an_uncached_leaf_is_committed_for_nobody() {
    let project = pipeline(&[step("leaf", "cache = \"none\"", "head -c 100000 /dev/zero > big")]);
    run(&project);
    assert_eq!(snapshots(&project), 0);
    assert_eq!(fs::read_dir(project.state().join("scratch/v1")).unwrap().count(), 0);
}

#[test]
fn a_failure_skips_what_depends_on_it_and_says_so() {
    let project = pipeline(&[
        step("good", "", ""),
        step("bad", "", "echo the reason; exit 3"),
        step("child", "from = \"bad\"", ""),
        step("after", "after = [\"bad\", \"good\"]", ""),
        step("later", "needs = [\"after\", \"bad\"]", ""),
    ]);
    let (code, events) = events(&project, &["--keep-going"]);
    assert_eq!(code, 1);
    let expected = ["after passed", "bad failed", "child skipped", "good passed", "later skipped"];
    assert_eq!(outcomes(&events), expected);
    let bad = events.iter().find(|event| event["event"] == "step_ended" && event["step"] == "bad").unwrap();
    assert_eq!(bad["exit"], 3, "{bad}");
    let ended = events.last().unwrap();
    assert_eq!((ended["event"].as_str(), ended["outcome"].as_str()), (Some("run_ended"), Some("failed")));
    assert_eq!(ran(&project), ["after", "bad", "good"]);
}

#[test]
fn what_succeeded_is_kept_when_something_else_fails() {
    let project = pipeline(&[step("good", "", ""), step("bad", "needs = \"good\"", "test -e fixed")]);
    project.run(&["run"]).exits(1);
    assert_eq!(ran(&project), ["bad", "good"]);
    project.declare("test -e fixed", "true");
    assert_eq!(run(&project), ["bad"], "good sees the whole source, and only the manifest changed");
}

#[test]
fn a_signal_is_no_exit_code_and_certainly_not_0() {
    let project = pipeline(&[step("killed", "", "kill -KILL $$")]);
    let (code, events) = events(&project, &[]);
    assert_eq!(code, 1);
    assert_eq!(outcomes(&events), ["killed failed"]);
    let ended = events.iter().find(|event| event["event"] == "step_ended").unwrap();
    assert_eq!(ended["signal"], 9, "{ended}");
}

#[test]
fn a_step_that_cannot_begin_says_why() {
    let project = pipeline(&[]);
    for (keys, words, code) in [
        ("run = [\"no-such-program\"]", "no-such-program", 1),
        ("run = \"true\"\nworkdir = \"no/such/folder\"", "/workspace/no/such/folder", 1),
        ("run = \"true\"\nuser = \"nobody-here\"", "nobody-here", 1),
        ("run = \"true\"\nhost_paths = [\"/no/such/place\"]", "/no/such/place", 4),
    ] {
        project.write("setpoint.toml", &format!("setpoint = 1\n[pipeline.ci.step.x]\n{keys}\n"));
        project.run(&["run"]).exits(code).says(words);
    }
}

#[test]
fn a_step_past_its_time_is_ended_with_all_that_it_started() {
    let mark = format!("77{}", std::process::id());
    let project =
        pipeline(&[step("slow", "timeout = \"300ms\"", &format!("setsid sleep {mark} & sleep {mark}"))]);
    let began = Instant::now();
    let (code, events) = events(&project, &[]);
    assert_eq!(code, 9);
    assert_eq!(outcomes(&events), ["slow timed_out"]);
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(sleepers(&mark), 0);
    let project = pipeline(&[step("slow", "", "sleep 60"), step("next", "from = \"slow\"", "")]);
    project.run(&["run", "--timeout", "300ms"]).exits(9).says("timed out");
}

fn sleepers(mark: &str) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).split('\0').any(|word| word == mark)).count()
}

#[test]
fn a_step_is_tried_again_and_the_last_try_counts() {
    let project = pipeline(&[step("flaky", "retries = 2", "test $(wc -l < /effects/log) -ge 2")]);
    let (code, events) = events(&project, &[]);
    assert_eq!(code, 0);
    assert_eq!(outcomes(&events), ["flaky passed"]);
    assert_eq!(events.iter().filter(|event| event["event"] == "step_retries").count(), 1);
    assert_eq!(ran(&project), ["flaky", "flaky"]);
}

#[test]
fn ctrl_c_stops_in_order_and_leaves_nothing() {
    let mark = format!("78{}", std::process::id());
    let project = pipeline(&[
        step("slow", "", &format!("sleep {mark} & sleep {mark}")),
        step("next", "from = \"slow\"", ""),
    ]);
    let child = project.start(&mut project.command(&["run"]));
    until("it runs", || sleepers(&mark) == 2);
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let outcome = finish(child);
    outcome.exits(130).says("cancelled");
    assert_eq!(sleepers(&mark), 0);
    assert_eq!(fs::read_dir(project.state().join("scratch/v1")).unwrap().count(), 0);
    assert_eq!(ran(&project), ["slow"]);
}

#[test]
fn a_step_that_will_not_stop_is_killed_at_the_second_ctrl_c() {
    let mark = format!("79{}", std::process::id());
    let script = format!("trap '' TERM; sleep {mark} & wait; while true; do sleep {mark}; done");
    let project = pipeline(&[step("stubborn", "", &script)]);
    let child = project.start(&mut project.command(&["run"]));
    until("it runs", || sleepers(&mark) > 0);
    let signal = || Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    signal();
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    signal();
    finish(child).exits(130);
    assert!(began.elapsed() < Duration::from_secs(4), "it did not wait for the grace to pass");
    assert_eq!(sleepers(&mark), 0);
}

#[test]
fn a_failure_before_a_ctrl_c_is_a_failure() {
    let mark = format!("80{}", std::process::id());
    let project = pipeline(&[step("bad", "", "exit 1"), step("slow", "", &format!("sleep {mark}"))]);
    let child = project.start(&mut project.command(&["run", "--keep-going", "--jobs", "2"]));
    until("one failed and the other runs", || {
        sleepers(&mark) == 1 && fs::read_to_string(log(&project)).is_ok_and(|text| text.contains("bad"))
    });
    std::thread::sleep(Duration::from_millis(300));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    finish(child).exits(1).says("cancelled");
}

#[test]
fn two_runs_at_once_neither_lose_nor_repeat_anything() {
    let project = pipeline(&[
        step("slow", "", "sleep 0.5; date +%N > stamp"),
        step("next", "from = \"slow\"", "cat stamp"),
    ]);
    let both = [(); 2].map(|()| project.start(&mut project.command(&["run"])));
    for child in both {
        finish(child).exits(0);
    }
    assert_eq!(ran(&project), ["next", "slow"], "the second takes what the first made");
}

#[test]
fn equal_steps_of_one_run_run_once() {
    let project = Project::new(
        "setpoint = 1\n[pipeline.ci.step.a]\ncache_dirs = [\"/effects\"]\nrun = \"echo x >> /effects/log\"\n\
         [pipeline.ci.step.b]\ncache_dirs = [\"/effects\"]\nrun = \"echo x >> /effects/log\"\n",
    );
    project.run(&["run", "--jobs", "2"]).exits(0);
    assert_eq!(ran(&project), ["x"]);
}

#[test]
fn a_snapshot_that_vanished_is_made_again() {
    let project = three_steps();
    run(&project);
    fs::remove_dir_all(project.state().join("snapshots/v1")).unwrap();
    assert_eq!(run(&project), ["build", "fetch", "test"]);
    assert_eq!(run(&project), NOTHING);
}

#[test]
fn the_records_may_be_lost_or_damaged() {
    let project = three_steps();
    run(&project);
    fs::write(project.state().join("cache.db"), "nonsense").unwrap();
    assert_eq!(run(&project), ["build", "fetch", "test"]);
    assert_eq!(run(&project), NOTHING);
}

#[test]
fn damage_is_found_and_dropped() {
    let project = three_steps();
    run(&project);
    project.run(&["cache", "verify"]).exits(0).says("all as they were made");
    let snapshots = project.state().join("snapshots/v1");
    let built = fs::read_dir(&snapshots)
        .unwrap()
        .flatten()
        .map(|entry| entry.path().join("workspace/upper/out/built"));
    let built = built.into_iter().find(|path| path.exists()).unwrap();
    fs::write(&built, "tampered").unwrap();
    project.run(&["cache", "verify"]).exits(8).says("damaged").says("not those that it had");
    assert_eq!(run(&project), ["build", "test"]);
    project.run(&["cache", "verify"]).exits(0);
}

#[test]
fn seventy_steps_of_one_run_do_not_evict_each_other() {
    let steps: Vec<String> = (0..70)
        .map(|at| {
            let from = if at == 0 { String::new() } else { format!("from = \"s{}\"", at - 1) };
            step(&format!("s{at}"), &from, &format!("head -c 20000 /dev/urandom > f{at}; echo > /usr/local/bin/chain-f{at}; ls . /usr/local/bin/chain-* | grep -c 'f[0-9]'"))
        })
        .collect();
    let project = Project::new(&format!("setpoint = 1\n[cache]\nmax_size = \"1GiB\"\n{}", steps.concat()));
    let (code, events) = events(&project, &[]);
    assert_eq!(code, 0);
    // Every file of every ancestor is there, however long the chain.
    assert_eq!(said(&events, "s69"), [(70 * 2).to_string()]);
    ran(&project);
    assert_eq!(run(&project), NOTHING);
    // A layer that several were made into is missed like any other.
    let snapshots = project.state().join("snapshots/v1");
    let has_many = |folder: &std::path::Path| {
        fs::read_dir(folder.join("workspace/upper")).is_ok_and(|entries| entries.count() > 10)
    };
    let flat: Vec<PathBuf> = fs::read_dir(&snapshots).unwrap().map(|entry| entry.unwrap().path()).collect();
    let flat = flat.iter().find(|folder| has_many(folder)).unwrap();
    fs::remove_dir_all(flat).unwrap();
    assert!(!run(&project).is_empty());
    assert_eq!(run(&project), NOTHING);
}

#[test]
fn the_cache_is_listed_explained_pruned_and_cleaned() {
    let project = three_steps();
    run(&project);
    project.run(&["cache", "ls"]).exits(0).says("build").says("3 results");
    project.run(&["cache", "why", "build"]).exits(0).says("cached").says("from fetch").says("source");
    project.write("src/a", "edited\n");
    project.run(&["cache", "why", "build"]).exits(0).says("would run").says("changed").says("source");
    project.declare("cat out/built\n", "cat out/built; true\n");
    project.run(&["cache", "why", "test"]).exits(0).says("since build would");
    project.run(&["cache", "why", "no-such"]).exits(5).says("there is no step");
    project.run(&["cache", "prune", "--max-size", "0"]).exits(0).says("removed");
    project.run(&["cache", "clean"]).exits(0);
    assert_eq!(snapshots(&project), 0);
    project.run(&["cache", "ls"]).exits(0).says("nothing is kept");
}

#[test]
fn a_cache_out_of_bounds_drops_what_was_used_the_longest_ago() {
    let project = pipeline(&[step("big", "inputs = [\"n\"]", "head -c 3000000 /dev/urandom > big; cat n")]);
    project.declare("setpoint = 1", "setpoint = 1\n[cache]\nmax_size = \"8MiB\"");
    for number in ["1", "2", "3", "4"] {
        project.write("n", number);
        assert_eq!(run(&project), ["big"]);
    }
    assert!(snapshots(&project) <= 2, "{}", snapshots(&project));
    assert_eq!(run(&project), NOTHING, "the last one is there");
    project.write("n", "1");
    assert_eq!(run(&project), ["big"], "the first one is not");
}

#[test]
fn a_dry_run_says_what_would_run_and_runs_nothing() {
    let project = three_steps();
    project.run(&["run", "--dry-run"]).exits(0).says("run      fetch").says("because fetch runs");
    assert_eq!(ran(&project), NOTHING);
    run(&project);
    project.run(&["run", "--dry-run"]).exits(0).says("cached   test");
    project.write("src/a", "edited\n");
    let outcome = project.run(&["run", "--dry-run"]);
    outcome.exits(0).says("cached   fetch").says("run      build").says("because build runs");
}

#[test]
fn only_wanted_steps_run_with_all_that_they_depend_on() {
    let project = three_steps();
    project.run(&["run", "--step", "build"]).exits(0);
    assert_eq!(ran(&project), ["build", "fetch"]);
    project.run(&["run", "--step", "nothing"]).exits(5).says("there is no step `nothing`");
    project.run(&["run", "--no-cache", "--step", "fetch"]).exits(0);
    assert_eq!(ran(&project), ["fetch"]);
}

#[test]
fn artifacts_are_handed_out_cold_and_warm() {
    let project = pipeline(&[step(
        "build",
        "artifacts = [\"dist/**\", \"given\"]",
        "mkdir -p dist/deep; echo x > dist/a; echo y > dist/deep/b; ln -s a dist/link; chmod +x dist/a",
    )]);
    project.write("given", "from the source\n");
    for place in ["cold", "warm"] {
        let output = project.at(place);
        project.run(&["run", "--output", output.to_str().unwrap()]).exits(0);
        let read = |path: &str| fs::read_to_string(output.join("build").join(path)).unwrap();
        assert_eq!((read("dist/a"), read("dist/deep/b")), ("x\n".to_owned(), "y\n".to_owned()));
        assert_eq!((read("dist/link"), read("given")), ("x\n".to_owned(), "from the source\n".to_owned()));
    }
    assert_eq!(ran(&project), ["build"]);
    project.declare("\"given\"", "\"missing/**\"");
    project.run(&["run"]).exits(1).says("`missing/**` fits no file");
}

#[test]
fn conditions_leave_steps_out() {
    let project = pipeline(&[
        step("deploy", "when = { event = \"push\" }", ""),
        step("notify", "needs = \"deploy\"", ""),
        step("check", "from = \"deploy\"", ""),
    ]);
    let (code, events) = events(&project, &[]);
    assert_eq!(code, 0);
    assert_eq!(outcomes(&events), ["check skipped", "deploy skipped", "notify passed"]);
    assert_eq!(ran(&project), ["notify"]);
    project.run(&["run", "--event", "push"]).exits(0);
    assert_eq!(ran(&project), ["check", "deploy"]);
}

#[test]
fn secrets_are_given_masked_and_nowhere_kept() {
    let secret = "s3cr3t-hunter2-value";
    let mut project = pipeline(&[step(
        "use",
        "env = { TOKEN = \"${secret.token}\" }",
        "echo \"token $TOKEN\"; printf %s \"$TOKEN\" | base64; printf 's3cr3t-hun'; sleep 0.1; echo 'ter2-value'; test ${#TOKEN} = 20",
    )]);
    project.declare("setpoint = 1", "setpoint = 1\n[secret.token]\nenv = \"TOKEN\"");
    project.run(&["run"]).exits(7).says("TOKEN is not set");
    assert_eq!(ran(&project), NOTHING);
    project.set("TOKEN", secret);
    let outcome = project.run(&["run"]);
    outcome.exits(0).says("token ***").says_not(secret).says_not("czNjcjN0");
    assert_eq!(outcome.said().matches("***").count(), 3, "{outcome}");
    let grep = Command::new("grep").args(["-r", "-l", "-a", secret]).arg(project.state()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "", "it is nowhere in the state");
    // Another value is no other key: it is never in one.
    project.set("TOKEN", "another-value-12345678");
    ran(&project);
    assert_eq!(run(&project), NOTHING);
}

#[test]
fn output_is_whole_lossless_and_in_order() {
    let project = pipeline(&[step(
        "loud",
        "",
        "i=0; while [ $i -lt 20000 ]; do echo \"line $i ümläut\"; i=$((i+1)); done; printf 'no end €'",
    )]);
    let (_, events) = events(&project, &[]);
    let lines = said(&events, "loud");
    assert_eq!(lines.len(), 20001);
    assert!(lines.iter().take(20000).enumerate().all(|(at, line)| *line == format!("line {at} ümläut")));
    assert_eq!(lines[20000], "no end €");
}

#[test]
fn a_pipeline_is_rendered_and_run_from_its_own_json() {
    let project = three_steps();
    run(&project);
    let rendered = project.run(&["render"]);
    rendered.exits(0);
    project.write("../ci.json", &rendered.stdout);
    project.run(&["run", "--ir", "../ci.json"]).exits(0);
    assert_eq!(ran(&project), NOTHING, "the same pipeline has the same keys");
    project.write("../ci.json", &rendered.stdout.replace("\"setpoint_ir\": 1", "\"setpoint_ir\": 2"));
    project.run(&["run", "--ir", "../ci.json"]).exits(4).says("version 2").says("newer setpoint");
    project.run(&["pipelines"]).exits(0).says("ci").says("3 steps");
    project.run(&["run", "nope"]).exits(5).says("there is no pipeline `nope`; there is: ci");
}

#[test]
fn a_full_disk_is_named_and_nothing_is_lost() {
    let project = pipeline(&[step("big", "", "head -c 30000000 /dev/zero > big")]);
    let small = project.at("small");
    fs::create_dir(&small).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=8m none {small} && SETPOINT_STATE={small}/state \"$0\" run; echo \"exit $?\"; \
         SETPOINT_STATE={small}/state \"$0\" cache verify; echo \"then $?\"",
        small = small.display()
    );
    let mut command = project.command(&[]);
    let binary = command.get_program().to_owned();
    command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]).arg(binary).current_dir(&project.root);
    command.env("SETPOINT_CONFIG", project.at("config"));
    let outcome = finish(project.start(&mut command));
    outcome.says("No space left on device").says_not("panicked").says("exit 1").says("then 0");
}

#[test]
fn five_hundred_steps_end_as_they_should_and_leak_nothing() {
    let mut steps = String::from("setpoint = 1\n");
    let mut random = 12345_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for at in 0..500_u64 {
        let mut keys = String::new();
        if at > 0 && next(3) > 0 {
            keys.push_str(&format!("from = \"s{}\"\n", next(at)));
        }
        if at > 1 && next(2) > 0 {
            keys.push_str(&format!("needs = [\"s{}\"]\n", next(at)));
        }
        steps.push_str(&format!("[pipeline.ci.step.s{at}]\n{keys}run = [\"true\"]\ninputs = []\n"));
    }
    let project = Project::new(&steps);
    let (code, events) = events(&project, &["--jobs", "2"]);
    assert_eq!(code, 0);
    let ended = outcomes(&events);
    assert_eq!(ended.len(), 500);
    assert!(ended.iter().all(|outcome| outcome.ends_with(" passed") || outcome.ends_with(" cached")));
    let (_, warm) = self::events(&project, &[]);
    assert!(outcomes(&warm).iter().all(|outcome| outcome.ends_with(" cached")));
}

#[test]
fn a_step_of_a_user_writes_to_its_workspace_and_not_to_what_is_roots() {
    let project = pipeline(&[
        step("make", "", "mkdir shared; chmod 777 shared /effects"),
        "[pipeline.ci.step.use]\nfrom = \"make\"\nuser = \"nobody\"\nrun = 'id -un; touch mine shared/mine; touch given/x || echo refused'\n"
            .to_owned(),
    ]);
    project.write("given/file", "");
    let (code, events) = events(&project, &[]);
    assert_eq!(code, 0);
    let lines = said(&events, "use");
    assert_eq!((lines.first().unwrap().as_str(), lines.last().unwrap().as_str()), ("nobody", "refused"));
}

#[test]
fn runs_are_kept_with_what_their_steps_said() {
    let project = pipeline(&[
        step("good", "", "echo all is well"),
        step("bad", "needs = \"good\"", "echo oh no; exit 2"),
    ]);
    project.run(&["runs"]).exits(0);
    project.run(&["run"]).exits(1);
    project.run(&["run"]).exits(1);
    project.run(&["runs"]).exits(0).says("failed").says("ci");
    let runs = project.run(&["runs", "--json"]).json();
    assert_eq!(runs["runs"].as_array().unwrap().len(), 2, "{runs}");
    project.run(&["runs", "logs", "bad"]).exits(0).says("oh no").says_not("all is well");
    // What was cached in the second run was said in the first.
    project.run(&["runs", "logs", "2", "good"]).exits(0).says("all is well");
    project.run(&["runs", "show", "2"]).exits(0).says("good").says("cached").says("exit 2");
    project.run(&["runs", "logs", "9"]).exits(5).says("there is no run 9");
    project.run(&["runs", "logs", "1", "bda"]).exits(5).says("bad");
}

#[test]
fn an_output_that_cannot_be_is_said_before_anything_runs() {
    let project = pipeline(&[step("x", "", "true")]);
    project.run(&["run", "--output", "out"]).exits(2).says("no step of ci declares any");
    project.declare("cache_dirs", "artifacts = [\"log\"]\ncache_dirs");
    project.run(&["run", "--output", "setpoint.toml"]).exits(2).says("is not a folder");
    project.run(&["run", "--output", "."]).exits(2).says("own folder");
    assert_eq!(ran(&project), NOTHING);
}
