//! The rules of the trait `Engine` about steps of pipelines.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use setpoint_model::manifest::Network;
use setpoint_runtime::engine::{Ended, EngineError, Io, Mount, Process, StepSpec};
use setpoint_runtime::snapshot;

use crate::place::Subject;
use crate::rules::{PATIENCE, Rule};

pub const RULES: &[Rule] = named![
    a_step_ends_with_its_code_and_its_output_in_order,
    a_step_has_what_it_is_given_and_nothing_else,
    a_step_runs_as_whom_it_is_said,
    a_step_sees_its_layers_the_topmost_first,
    a_step_sees_many_layers,
    what_a_step_does_to_its_workspace_is_in_its_state,
    a_folder_of_the_host_appears_in_a_step,
    a_step_without_a_network_has_none,
    a_child_sees_what_its_ancestors_changed_and_not_their_mounts,
    a_step_that_leaves_its_system_alone_keeps_nothing_of_it,
    what_is_kept_elsewhere_goes_with_its_state,
    a_step_that_is_asked_to_end_may_end_in_its_own_way,
    a_killed_step_leaves_no_process,
    a_dropped_step_leaves_no_process,
    nothing_of_a_step_outlives_its_first_process,
    many_steps_at_once_keep_apart,
];

/// A folder for the steps of a test, that goes when the test ends.
struct Steps<'a> {
    subject: &'a Subject,
    folder: PathBuf,
}

impl<'a> Steps<'a> {
    fn new(subject: &'a Subject) -> Self {
        let folder = tempfile::Builder::new().prefix("steps-").tempdir_in(&subject.folder).unwrap().keep();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        Self { subject, folder }
    }

    fn spec(&self, name: &str, script: &str) -> StepSpec {
        let folder = self.folder.join(name);
        for part in ["state", "root"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        StepSpec {
            base: self.subject.base.clone(),
            below: Vec::new(),
            state: folder.join("state"),
            scratch: folder.join("root"),
            workspace: Vec::new(),
            mounts: Vec::new(),
            argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            env: BTreeMap::from([("PATH".to_owned(), "/bin".to_owned())]),
            cwd: "/workspace".into(),
            user: None,
            network: Network::Host,
            joins: None,
            io: Io::Captured,
        }
    }

    /// A layer with these files, each of which holds the layer's name.
    fn layer(&self, name: &str, files: &[&str]) -> PathBuf {
        let layer = self.folder.join("layers").join(name);
        for file in files {
            let path = layer.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{name}\n")).unwrap();
        }
        layer
    }

    fn mount(&self, name: &str, target: &str) -> Mount {
        let source = self.folder.join(name);
        fs::create_dir_all(&source).unwrap();
        Mount { source, target: target.into(), read_only: false }
    }

    fn start(&self, spec: &StepSpec) -> Box<dyn Process> {
        self.subject.engine.start_step(spec).unwrap()
    }

    /// What a step says, and how it ends.
    fn run(&self, spec: &StepSpec) -> (String, Ended) {
        let mut process = self.start(spec);
        said(process.as_mut())
    }

    /// Runs a step that has to pass, and gives what others may build on, if it changed anything.
    #[track_caller]
    fn sealed(&self, spec: &StepSpec) -> Option<PathBuf> {
        let mut process = self.start(spec);
        let (said, ended) = said(process.as_mut());
        assert_eq!(ended, Ended::Code(0), "{said}");
        self.subject.engine.seal_step(spec).unwrap();
        drop(process);
        self.nothing_runs(spec);
        let into = spec.state.with_file_name("sealed");
        snapshot::seal(&spec.state, &into).unwrap().system.then_some(into)
    }

    /// Neither container nor workspace of a step are there.
    #[track_caller]
    fn nothing_runs(&self, spec: &StepSpec) {
        if let Some(api) = &self.subject.api {
            let label = format!("%22dev.setpoint.step={}%22", spec.state.display());
            let filter = format!("filters=%7B%22label%22:%5B{label}%5D%7D");
            let containers = api.get(&format!("/v1.41/containers/json?all=1&{filter}"));
            assert_eq!(containers.as_array().map(Vec::len), Some(0), "{containers}");
            let volumes = api.get(&format!("/v1.41/volumes?{filter}"))["Volumes"].clone();
            assert_eq!(volumes.as_array().map_or(0, Vec::len), 0, "{volumes}");
        }
    }
}

impl Drop for Steps<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[track_caller]
fn said(process: &mut dyn Process) -> (String, Ended) {
    let mut text = String::new();
    process.output().unwrap().read_to_string(&mut text).unwrap();
    (text, process.wait(PATIENCE).unwrap().expect("it does not end"))
}

fn wait_for(path: &Path) {
    let began = Instant::now();
    while !path.exists() {
        assert!(began.elapsed() < PATIENCE, "there is no {}", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until nobody writes to a file any more.
fn is_still(path: &Path) {
    let began = Instant::now();
    loop {
        let length = || fs::metadata(path).unwrap().len();
        let before = length();
        std::thread::sleep(Duration::from_millis(500));
        if length() == before {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "somebody goes on");
    }
}

/// Goes on for long, in every way that there is, and tells so in `/beat`.
const STUBBORN: &str = "trap '' TERM HUP INT
beat() { while :; do echo x >> /beat/$1; sleep 0.1; done; }
beat a & (beat b &) ; setsid sh -c 'trap \"\" TERM; while :; do echo x >> /beat/c; sleep 0.1; done' &
until [ -e /beat/a ] && [ -e /beat/b ] && [ -e /beat/c ]; do sleep 0.05; done
touch /beat/ready; wait; sleep 100";

fn a_step_ends_with_its_code_and_its_output_in_order(subject: &Subject) {
    let steps = Steps::new(subject);
    let run = |name: &str, script: &str| steps.run(&steps.spec(name, script));
    assert_eq!(run("a", "echo one; echo two >&2; printf three"), ("one\ntwo\nthree".into(), Ended::Code(0)));
    assert_eq!(run("b", "exit 42").1, Ended::Code(42));
    assert_eq!(run("c", "kill -9 $$").1, Ended::Signal(9));
    let (said, ended) =
        run("d", "i=0; while [ $i -lt 30000 ]; do echo \"line $i\"; i=$((i+1)); done; exit 1");
    assert_eq!(
        (said.lines().count(), said.lines().last(), ended),
        (30_000, Some("line 29999"), Ended::Code(1))
    );
    let missing = StepSpec { argv: vec!["/bin/nothing-here".to_owned()], ..steps.spec("e", "") };
    match subject.engine.start_step(&missing) {
        Err(_) => {}
        Ok(mut process) => assert_eq!(process.wait(PATIENCE).unwrap(), Some(Ended::Code(127))),
    }
    let nowhere = StepSpec { cwd: "/workspace/none".into(), ..steps.spec("f", "true") };
    match subject.engine.start_step(&nowhere) {
        Err(_) => {}
        Ok(mut process) => assert_eq!(process.wait(PATIENCE).unwrap(), Some(Ended::Code(126))),
    }
    assert!(!snapshot::workspace_of(&nowhere.state).join("none").exists());
}

fn a_step_has_what_it_is_given_and_nothing_else(subject: &Subject) {
    let steps = Steps::new(subject);
    let mut spec = steps.spec("a", "");
    spec.argv = ["/bin/env"].map(str::to_owned).to_vec();
    spec.env.insert("TEXT".to_owned(), "a 'b' \"c\" $d\nß".to_owned());
    let (said, _) = steps.run(&spec);
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["HOME=/root", "PATH=/bin", "TEXT=a 'b' \"c\" $d", "ß"]);
    let mut spec = steps.spec("b", "");
    spec.argv = ["/bin/printf", "%s|", "", "a b", "*", "'"].map(str::to_owned).to_vec();
    assert_eq!(steps.run(&spec).0, "|a b|*|'|");
    // It has no input to wait for, and its name is that of every other.
    assert_eq!(steps.run(&steps.spec("c", "pwd; cat; hostname")).0, "/workspace\nsetpoint\n");
    assert_eq!(steps.run(&StepSpec { cwd: "/etc".into(), ..steps.spec("d", "pwd") }).0, "/etc\n");
}

fn a_step_runs_as_whom_it_is_said(subject: &Subject) {
    let steps = Steps::new(subject);
    let run = |name: &str, user: &str| {
        let script =
            "echo $(id -u) $(id -g) $(id -G | tr ' ' '\\n' | sort -n | tr '\\n' ' ') $HOME; touch mine";
        steps.run(&StepSpec { user: Some(user.to_owned()), ..steps.spec(name, script) })
    };
    assert_eq!(run("a", "dev"), ("1000 1000 50 1000 /home/dev\n".into(), Ended::Code(0)));
    assert_eq!(run("b", "1000").0, "1000 1000 50 1000 /home/dev\n");
    let (said, ended) = run("c", "4242:77");
    assert_eq!(said.split_whitespace().take(2).collect::<Vec<_>>(), ["4242", "77"]);
    assert_eq!(ended, Ended::Code(0));
    let spec = StepSpec { user: Some("nobody-here".to_owned()), ..steps.spec("d", "true") };
    let refused = subject.engine.start_step(&spec).map(drop);
    assert!(matches!(refused, Err(EngineError::NoAccount { .. })), "{refused:?}");
    steps.nothing_runs(&spec);
}

fn a_step_sees_its_layers_the_topmost_first(subject: &Subject) {
    let steps = Steps::new(subject);
    let mut spec = steps.spec("a", "cat x y z; ls; id -u; stat -c %u x");
    spec.workspace =
        vec![steps.layer("low, or: lowest", &["x", "y", "gone"]), steps.layer("top", &["y", "z"])];
    let gone = spec.workspace[1].join("gone");
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, &gone, kind, rustix::fs::Mode::empty(), 0).unwrap();
    assert_eq!(steps.run(&spec).0, "low, or: lowest\ntop\ntop\nx\ny\nz\n0\n0\n");
    assert_eq!(steps.run(&steps.spec("b", "ls -A | wc -l")).0.trim(), "0");
}

fn a_step_sees_many_layers(subject: &Subject) {
    let steps = Steps::new(subject);
    let mut spec = steps.spec("a", "cat * | wc -l; cat all");
    let long = "long".repeat(40);
    spec.workspace =
        (0..40).map(|n| steps.layer(&format!("{long}{n}"), &[&format!("f{n}"), "all"])).collect();
    let said = steps.run(&spec).0;
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["41", &format!("{long}39")]);
}

fn what_a_step_does_to_its_workspace_is_in_its_state(subject: &Subject) {
    let steps = Steps::new(subject);
    let script = "echo more >> old; echo new > new; rm gone; rm -r folder; mkdir folder; echo n > folder/n; mkdir -p d/e; ln -s old link";
    let mut spec = steps.spec("a", script);
    let low = steps.layer("low", &["old", "gone", "folder/was", "kept"]);
    spec.workspace = vec![low.clone()];
    steps.sealed(&spec);
    let upper = snapshot::workspace_of(&spec.state.with_file_name("sealed"));
    let text = |name: &str| fs::read_to_string(upper.join(name)).unwrap();
    assert_eq!(
        (text("old"), text("new"), text("folder/n")),
        ("low\nmore\n".into(), "new\n".into(), "n\n".into())
    );
    assert!(fs::symlink_metadata(upper.join("gone")).unwrap().file_type().is_char_device());
    assert_eq!(fs::read_link(upper.join("link")).unwrap(), Path::new("old"));
    assert!(upper.join("d/e").is_dir() && !upper.join("kept").exists());
    assert_eq!(fs::read_to_string(low.join("old")).unwrap(), "low\n");
    // Laid over the same layer, it is what the step saw last.
    let mut next = steps.spec("b", "ls -R | tr '\\n' ' '; cat old");
    next.workspace = vec![low, upper];
    let said = steps.run(&next).0;
    assert!(said.ends_with("low\nmore\n") && !said.contains("was") && !said.contains("gone"), "{said}");
}

fn a_folder_of_the_host_appears_in_a_step(subject: &Subject) {
    let steps = Steps::new(subject);
    let mut spec =
        steps.spec("a", "cat /deep/in/side/file; echo out > cached/result; ! touch /given/x 2>/dev/null");
    let mut given = steps.mount("given", "/given");
    given.read_only = true;
    spec.mounts =
        vec![steps.mount("side", "/deep/in/side"), steps.mount("cached", "/workspace/cached"), given];
    fs::write(steps.folder.join("side/file"), "text\n").unwrap();
    assert_eq!(steps.run(&spec), ("text\n".into(), Ended::Code(0)));
    assert_eq!(fs::read_to_string(steps.folder.join("cached/result")).unwrap(), "out\n");
    assert!(!snapshot::workspace_of(&spec.state).join("cached/result").exists());
}

fn a_step_without_a_network_has_none(subject: &Subject) {
    let steps = Steps::new(subject);
    let script = "ls /sys/class/net 2>/dev/null || tail -n +3 /proc/net/dev | cut -d: -f1";
    let (said, _) = steps.run(&StepSpec { network: Network::None, ..steps.spec("a", script) });
    let interfaces: Vec<_> =
        said.split_whitespace().filter(|name| *name == "lo" || name.starts_with("eth")).collect();
    assert_eq!(interfaces, ["lo"]);
}

fn a_child_sees_what_its_ancestors_changed_and_not_their_mounts(subject: &Subject) {
    let steps = Steps::new(subject);
    let script = "echo one > /etc/made; rm /bin/wc; echo x > /given/file; echo y > /tmp/file; echo w > file";
    let mut parent = steps.spec("parent", script);
    parent.env.insert("SECRET".to_owned(), "the-secret".to_owned());
    parent.mounts = vec![steps.mount("given", "/given"), steps.mount("tmp", "/tmp")];
    let parent = steps.sealed(&parent).unwrap();
    let mut child = steps.spec(
        "child",
        "cat /etc/made; ls /given /tmp; [ ! -e /bin/wc ] && ls && env && echo two >> /etc/made",
    );
    child.below = vec![parent.clone()];
    child.mounts = vec![steps.mount("other", "/tmp")];
    child.argv[2] = format!("{{ {}; }} 2>&1", child.argv[2]);
    let (said, ended) = steps.run(&child);
    assert_eq!(ended, Ended::Code(0));
    assert!(said.starts_with("one\n") && said.contains("HOME=/root"), "{said}");
    assert!(!said.contains("file") && !said.contains("the-secret"), "{said}");
    // Again, and a step on top of that.
    let child = StepSpec { state: steps.spec("again", "").state, ..child };
    let child = steps.sealed(&child).unwrap();
    let mut last = steps.spec("last", "cat /etc/made; [ ! -e /bin/wc ]");
    last.below = vec![parent.clone(), child.clone()];
    assert_eq!(steps.run(&last), ("one\ntwo\n".into(), Ended::Code(0)));
    // A sibling sees nothing of its sibling.
    let mut other = steps.spec("other-child", "cat /etc/made");
    other.below = vec![parent.clone()];
    assert_eq!(steps.run(&other).0, "one\n");
    assert_eq!(steps.run(&steps.spec("none", "cat /etc/made 2>/dev/null")).1, Ended::Code(1));
    let bytes = subject.engine.kept_elsewhere(&child).unwrap();
    assert!(bytes.is_some_and(|bytes| bytes < 1 << 20), "{bytes:?}");
}

fn a_step_that_leaves_its_system_alone_keeps_nothing_of_it(subject: &Subject) {
    let steps = Steps::new(subject);
    let script =
        "cat /etc/passwd >/dev/null; echo x > file; echo y > /tmp/file; echo z > /var/cached/here/file";
    let mut spec = steps.spec("a", script);
    spec.mounts = vec![steps.mount("tmp", "/tmp"), steps.mount("cached", "/var/cached/here")];
    let sealed = [steps.sealed(&spec), steps.sealed(&steps.spec("b", "true"))];
    // Where an image is made of it, nothing is. A folder may hold those that things were mounted on.
    if subject.api.is_some() {
        assert_eq!(sealed, [None, None]);
    }
}

fn what_is_kept_elsewhere_goes_with_its_state(subject: &Subject) {
    let engine = &subject.engine;
    let steps = Steps::new(subject);
    let parent = steps.sealed(&steps.spec("parent", "echo one > /etc/made")).unwrap();
    let mut spec = steps.spec("child", "cat /etc/made > /etc/copy");
    spec.below = vec![parent.clone()];
    let child = steps.sealed(&spec).unwrap();
    // Other tests keep theirs meanwhile.
    let others = || {
        let folders = fs::read_dir(&subject.folder).unwrap().map(|entry| entry.unwrap().path());
        folders.filter(|folder| *folder != steps.folder).collect::<Vec<_>>()
    };
    let sweep = |kept: &[&PathBuf]| {
        engine.sweep_steps(&|| others().into_iter().chain(kept.iter().map(|path| (*path).clone())).collect())
    };
    let is_there = |state: &Path| engine.kept_elsewhere(state).unwrap().is_some();
    sweep(&[&parent, &child]).unwrap();
    assert!(is_there(&parent) && is_there(&child));
    // What a child lies on is there as long as the child.
    sweep(&[&child]).unwrap();
    assert!(is_there(&child));
    let mut next = steps.spec("next", "cat /etc/copy");
    next.below = vec![parent.clone(), child.clone()];
    assert_eq!(steps.run(&next).0, "one\n");
    sweep(&[]).unwrap();
    if subject.api.is_some() {
        assert!(!is_there(&parent) && !is_there(&child));
    }
    sweep(&[]).unwrap();
}

fn a_step_that_is_asked_to_end_may_end_in_its_own_way(subject: &Subject) {
    let steps = Steps::new(subject);
    let script = "trap 'echo heard; exit 3' TERM; touch /beat/ready; while :; do sleep 0.1; done";
    let mut spec = steps.spec("a", script);
    spec.mounts = vec![steps.mount("beat", "/beat")];
    let mut process = steps.start(&spec);
    wait_for(&steps.folder.join("beat/ready"));
    assert_eq!(process.wait(Duration::from_millis(50)).unwrap(), None);
    process.signal(15);
    let (said, ended) = said(process.as_mut());
    assert!(said.ends_with("heard\n") && ended == Ended::Code(3), "{said}{ended}");
}

fn a_killed_step_leaves_no_process(subject: &Subject) {
    let steps = Steps::new(subject);
    let mut spec = steps.spec("a", STUBBORN);
    spec.mounts = vec![steps.mount("beat", "/beat")];
    let mut process = steps.start(&spec);
    wait_for(&steps.folder.join("beat/ready"));
    process.signal(15);
    process.kill();
    assert!(!said(process.as_mut()).1.success());
    drop(process);
    steps.nothing_runs(&spec);
    is_still(&steps.folder.join("beat/a"));
}

fn a_dropped_step_leaves_no_process(subject: &Subject) {
    let steps = Steps::new(subject);
    let mut spec = steps.spec("a", STUBBORN);
    spec.mounts = vec![steps.mount("beat", "/beat")];
    let process = steps.start(&spec);
    wait_for(&steps.folder.join("beat/ready"));
    drop(process);
    steps.nothing_runs(&spec);
    ["a", "b", "c"].iter().for_each(|name| is_still(&steps.folder.join("beat").join(name)));
}

fn nothing_of_a_step_outlives_its_first_process(subject: &Subject) {
    let steps = Steps::new(subject);
    let script = format!("({}) & while [ ! -e /beat/c ]; do sleep 0.05; done; exit 0", STUBBORN);
    let mut spec = steps.spec("a", &script);
    spec.mounts = vec![steps.mount("beat", "/beat")];
    let mut process = steps.start(&spec);
    assert_eq!(said(process.as_mut()).1, Ended::Code(0));
    is_still(&steps.folder.join("beat/c"));
}

fn many_steps_at_once_keep_apart(subject: &Subject) {
    let steps = Steps::new(subject);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..6)
            .map(|number| {
                let steps = &steps;
                scope.spawn(move || {
                    let script = format!(
                        "echo {number} > /etc/own; echo {number} > own; sleep 0.2; cat own; exit {number}"
                    );
                    (number, steps.run(&steps.spec(&number.to_string(), &script)))
                })
            })
            .collect();
        for one in running {
            let (number, (said, ended)) = one.join().unwrap();
            assert_eq!((said, ended), (format!("{number}\n"), Ended::Code(number)));
        }
    });
}
