//! Warm equals cold: over a family of generated pipelines, the tree that each step sees on a warm run is the one that
//! it would see on a cold one; and killed at any moment, the next run is right.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use crate::harness::Project;

/// Numbers that are the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

const FILES: [&str; 8] = ["a", "b", "src/a", "src/b", "src/deep/c", "lib/a", "lib/b", "docs/x"];
const FOLDERS: [&str; 5] = ["src", "lib", "docs", "out", "src/deep"];

/// Something that a step does, as a function of what it sees.
fn deed(random: &mut Random, step: u64) -> String {
    let (file, other, folder) = (random.one(&FILES), random.one(&FILES), random.one(&FOLDERS));
    match random.below(8) {
        0 => format!("mkdir -p out; cat {file} > out/s{step} 2>/dev/null"),
        1 => format!("rm -f {file}"),
        2 => format!("rm -rf {folder}"),
        3 => format!("rm -rf {folder}; mkdir -p {folder}; echo new{step} > {folder}/new"),
        4 => format!("mkdir -p $(dirname {file}); echo s{step} >> {file}"),
        5 => format!("ln -sfn {other} link{step}"),
        6 => format!("[ -e {file} ] && chmod +x {file}"),
        _ => format!("[ -f {file} ] && rm -rf {folder}x && mkdir -p {folder}x && mv {file} {folder}x/"),
    }
}

/// A pipeline of some steps; after each, one that is never cached tells what is to be seen.
fn manifest(random: &mut Random) -> (String, u64) {
    let steps = 3 + random.below(4);
    let mut text = String::from("setpoint = 1\n");
    for step in 0..steps {
        let mut keys = String::new();
        if step > 0 && random.below(4) > 0 {
            keys.push_str(&format!("from = \"s{}\"\n", random.below(step)));
        }
        if step > 1 && random.below(3) == 0 {
            keys.push_str(&format!("take = \"s{}\"\n", random.below(step)));
        }
        match random.below(4) {
            0 => keys.push_str("inputs = [{ glob = \"src/**\", optional = true }]\n"),
            1 => keys.push_str(
                "inputs = [{ glob = \"[ab]\", optional = true }, { glob = \"lib\", optional = true }]\n",
            ),
            _ => {}
        }
        if random.below(3) == 0 {
            // It always leaves something that fits.
            keys.push_str("outputs = [\"out/**\", \"lib/**\", \"mark\"]\n");
        }
        let deeds: Vec<String> = (0..=random.below(3)).map(|_| deed(random, step)).collect();
        text.push_str(&format!(
            "[pipeline.ci.step.s{step}]\n{keys}run = '''\nmkdir -p out lib; touch out/.keep lib/.keep mark\n{}\ntouch out/.keep lib/.keep 2>/dev/null || {{ mkdir -p out lib; touch out/.keep lib/.keep; }}\ntrue\n'''\n",
            deeds.join("\n")
        ));
        text.push_str(&format!(
            "[pipeline.ci.step.look{step}]\nfrom = \"s{step}\"\ncache = \"none\"\nrun = \"{LOOK}\"\n"
        ));
    }
    (text, steps)
}

const LOOK: &str = r"find . -printf '%y %m %p %l\\n' | sort; find . -type f | sort | xargs -r sha256sum";

/// What each step that looks has seen.
fn seen(project: &Project, arguments: &[&str]) -> BTreeMap<String, Vec<String>> {
    let outcome = project.run(&[&["run", "--json"], arguments].concat());
    outcome.exits(0);
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in outcome.stdout.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        if event["event"] == "output" && event["step"].as_str().unwrap().starts_with("look") {
            let said = event["line"].as_str().unwrap().to_owned();
            seen.entry(event["step"].as_str().unwrap().to_owned()).or_default().push(said);
        }
    }
    seen
}

/// An edit of the source.
fn edit(random: &mut Random, project: &Project, round: u64) {
    let file = random.one(&FILES);
    let path = project.root.join(file);
    match random.below(3) {
        0 => {
            let _ = fs::remove_file(&path);
        }
        1 => {
            project.write(file, &format!("edited in round {round}\n"));
        }
        _ => {
            let folder = project.root.join(random.one(&FOLDERS));
            let _ = fs::remove_dir_all(folder);
        }
    }
}

fn family(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut random = Random(seed * 7919 + 1);
        let (manifest, steps) = manifest(&mut random);
        let mut project = Project::new(&manifest);
        for file in FILES {
            project.write(file, &format!("{file}\n"));
        }
        let warm_state = project.state();
        for round in 0..4 {
            if round > 0 {
                edit(&mut random, &project, round);
            }
            let first = seen(&project, &[]);
            let warm = seen(&project, &[]);
            let state = project.at(&format!("cold{round}"));
            project.set("SETPOINT_STATE", state.to_str().unwrap());
            let cold = seen(&project, &[]);
            project.set("SETPOINT_STATE", warm_state.to_str().unwrap());
            assert_eq!(cold.len() as u64, steps, "every step was looked at");
            assert_eq!(first, cold, "seed {seed}, round {round}: partly warm\n{manifest}");
            assert_eq!(warm, cold, "seed {seed}, round {round}: all warm\n{manifest}");
        }
    }
}

#[test]
fn warm_equals_cold_in_a_family_of_pipelines() {
    family(0..8);
}

#[test]
fn warm_equals_cold_in_another_family_of_pipelines() {
    family(100..108);
}

#[test]
fn killed_at_any_moment_the_next_run_is_right() {
    let mut text = String::from("setpoint = 1\n");
    for step in 0..6 {
        let from = if step == 0 { String::new() } else { format!("from = \"s{}\"\n", step - 1) };
        text.push_str(&format!(
            "[pipeline.ci.step.s{step}]\n{from}run = \"cat part* > all; echo {step} > part{step}; echo t > /usr/local/bin/t{step}; sleep 0.02; echo x | sleep 0.01\"\n"
        ));
    }
    text.push_str("[pipeline.ci.step.look]\nfrom = \"s5\"\ncache = \"none\"\nrun = \"cat part* all; ls /usr/local/bin/t? | wc -l\"\n");
    let project = Project::new(&text);
    project.write("part", "source\n");
    let mut random = Random(42);
    for round in 0..50 {
        // So that there is always something to do.
        project.write("part", &format!("source {round}\n"));
        let mut command = project.command(&["run"]);
        command.process_group(0);
        let mut child = project.start(&mut command);
        std::thread::sleep(Duration::from_millis(random.below(250)));
        let group = i32::try_from(child.id()).unwrap();
        // The whole group, as a terminal that goes away would.
        let _ = rustix::process::kill_process_group(
            rustix::process::Pid::from_raw(group).unwrap(),
            rustix::process::Signal::KILL,
        );
        let _ = child.wait();
        if round % 5 == 4 {
            let outcome = project.run(&["run"]);
            outcome.exits(0).says(&format!("source {round}"));
            for part in 0..6 {
                outcome.says(&format!("look | {part}\n"));
            }
            outcome.says("look | 6\n");
            project.run(&["cache", "verify"]).exits(0);
            let scratch = project.state().join("scratch/v1");
            assert_eq!(fs::read_dir(scratch).unwrap().count(), 0, "a sweep leaves no orphan");
        }
    }
}
