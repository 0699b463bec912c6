//! The rules of the trait `Engine`, each as a test that knows nothing of the engine.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use setpoint_model::fingerprint::Class;
use setpoint_model::manifest::{Limits, Network};
use setpoint_model::names::UnitName;
use setpoint_runtime::cancel::Cancel;
use setpoint_runtime::engine::{
    EngineError, ExecSpec, FirstProcess, Io, Labels, Mount, OwnChanges, Process, Progress, Pull, Seen,
    UnitId, UnitSpec,
};

use crate::place::{Deaf, Subject};

/// A rule by its name.
pub type Rule = (&'static str, fn(&Subject));

pub const RULES: &[Rule] = named![
    what_was_not_made_is_absent,
    what_is_made_is_stopped_and_carries_its_labels,
    what_exists_is_not_made_again,
    a_unit_starts_stops_and_goes,
    stopping_and_removing_nothing_is_no_error,
    what_runs_is_not_removed,
    a_unit_whose_user_is_nobody_does_not_start,
    what_a_unit_has_come_to_is_told,
    a_base_has_one_digest,
    output_and_errors_come_in_order_and_whole,
    a_process_ends_with_its_code,
    a_program_that_is_not_there_is_told,
    nothing_runs_in_a_unit_that_does_not_run,
    a_process_has_what_it_is_given,
    a_unit_has_an_environment_of_its_own,
    a_process_runs_as_whom_it_is_said,
    accounts_are_those_of_the_unit,
    a_signal_reaches_what_the_process_started,
    a_kill_leaves_nothing_of_the_process,
    what_is_dropped_is_killed,
    what_a_process_left_behind_stays_until_the_unit_stops,
    a_unit_that_does_not_listen_is_killed,
    files_of_its_own_outlive_a_stop_and_not_the_unit,
    the_workspace_is_the_projects_folder,
    a_read_only_mount_is_not_written,
    without_a_network_there_is_none,
    limits_hold_and_can_be_changed,
    its_own_changes_are_counted,
    many_processes_at_once_keep_their_output_apart,
    every_unit_is_listed,
];

/// A unit of a test, that goes when the test ends.
pub struct Unit<'a> {
    pub subject: &'a Subject,
    pub id: UnitId,
    pub spec: UnitSpec,
    pub root: PathBuf,
}

impl<'a> Unit<'a> {
    /// One that is declared and not made.
    pub fn new(subject: &'a Subject) -> Self {
        let root = tempfile::Builder::new().prefix("project-").tempdir_in(&subject.folder).unwrap().keep();
        let root = root.canonicalize().unwrap();
        let unit = UnitName::new("dev").unwrap();
        let id = UnitId::new(&root, &unit);
        let labels = Labels {
            project_root: root.clone(),
            project: "conformance".to_owned(),
            unit,
            instance: "i-1".to_owned(),
            made_of: Vec::new(),
        };
        let mount = Mount { source: root.clone(), target: "/workspace".into(), read_only: false };
        let spec = UnitSpec {
            labels,
            base: subject.base.clone(),
            mounts: vec![mount],
            workspace: "/workspace".into(),
            user: "root".to_owned(),
            hook_users: Vec::new(),
            network: Network::Host,
            limits: Limits::default(),
            first: FirstProcess::Idle,
            comes_back: false,
            is_withheld: false,
            holds_ports: false,
            entrypoints: Vec::new(),
            secret_env: Default::default(),
            container: Default::default(),
            networks: Vec::new(),
            volumes: Vec::new(),
        };
        Self { subject, id, spec, root }
    }

    /// One that runs.
    fn running(subject: &'a Subject) -> Self {
        Self::new(subject).started()
    }

    pub fn started(self) -> Self {
        self.made();
        self.subject.engine.start(&self.id, &self.spec).unwrap();
        self
    }

    pub fn made(&self) {
        self.subject.engine.check(&self.spec).unwrap();
        self.subject.engine.create(&self.id, &self.spec).unwrap();
    }

    pub fn seen(&self) -> Seen {
        self.subject.engine.observe(&self.id).unwrap()
    }

    pub fn stop(&self) {
        self.subject.engine.stop(&self.id, Duration::from_secs(5), &Cancel::default()).unwrap();
    }

    fn start(&self, script: &str) -> Box<dyn Process> {
        self.exec(&shell(script)).unwrap()
    }

    fn exec(&self, spec: &ExecSpec) -> Result<Box<dyn Process>, EngineError> {
        self.subject.engine.exec(&self.id, spec)
    }

    /// What a script says, and its exit code.
    pub fn says(&self, script: &str) -> (String, i32) {
        self.said(&shell(script))
    }

    fn said(&self, spec: &ExecSpec) -> (String, i32) {
        let mut process = self.exec(spec).unwrap();
        let mut said = String::new();
        process.output().unwrap().read_to_string(&mut said).unwrap();
        (said, end(process.as_mut()))
    }

    /// Waits until a file of the project is there.
    fn wait_for(&self, name: &str) {
        let began = Instant::now();
        while !self.root.join(name).exists() {
            assert!(began.elapsed() < PATIENCE, "there is no {name}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// How many processes whose command line holds this word run in the unit.
    fn count(&self, word: &str) -> usize {
        // The brackets keep the search from finding itself.
        let (first, rest) = word.split_at(1);
        let (said, _) = self.says(&format!("ps -o args | grep '[{first}]{rest}' | wc -l"));
        said.trim().parse().unwrap()
    }

    fn none_left(&self, word: &str) {
        let began = Instant::now();
        while self.count(word) > 0 {
            assert!(began.elapsed() < PATIENCE, "`{word}` runs on");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Unit<'_> {
    fn drop(&mut self) {
        let engine = &self.subject.engine;
        let stopped = engine.stop(&self.id, Duration::ZERO, &Cancel::default());
        let removed = engine.remove(&self.id);
        let _ = fs::remove_dir_all(&self.root);
        if !std::thread::panicking() {
            stopped.and(removed).unwrap();
        }
    }
}

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

fn shell(script: &str) -> ExecSpec {
    ExecSpec {
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: [("PATH".to_owned(), "/bin".to_owned())].into(),
        cwd: None,
        user: None,
        io: Io::Captured,
    }
}

fn end(process: &mut dyn Process) -> i32 {
    process.wait(PATIENCE).unwrap().expect("it does not end").code()
}

fn is_state(result: Result<(), EngineError>) -> bool {
    matches!(result, Err(EngineError::State { .. }))
}

fn what_was_not_made_is_absent(subject: &Subject) {
    let unit = Unit::new(subject);
    assert_eq!(unit.seen(), Seen::Absent);
    assert!(!subject.engine.units().unwrap().iter().any(|(id, _)| *id == unit.id));
}

fn what_is_made_is_stopped_and_carries_its_labels(subject: &Subject) {
    let unit = Unit::new(subject);
    unit.made();
    assert_eq!(unit.seen(), Seen::Stopped(unit.spec.labels.clone()));
}

fn what_exists_is_not_made_again(subject: &Subject) {
    let unit = Unit::new(subject);
    unit.made();
    let mut other = unit.spec.clone();
    other.labels.instance = "i-2".to_owned();
    assert!(is_state(subject.engine.create(&unit.id, &other)));
    assert_eq!(unit.seen(), Seen::Stopped(unit.spec.labels.clone()));
}

fn a_unit_starts_stops_and_goes(subject: &Subject) {
    let unit = Unit::running(subject);
    assert_eq!(unit.seen(), Seen::Running(unit.spec.labels.clone()));
    unit.stop();
    assert_eq!(unit.seen(), Seen::Stopped(unit.spec.labels.clone()));
    subject.engine.start(&unit.id, &unit.spec).unwrap();
    assert_eq!(unit.seen(), Seen::Running(unit.spec.labels.clone()));
    unit.stop();
    subject.engine.remove(&unit.id).unwrap();
    assert_eq!(unit.seen(), Seen::Absent);
}

fn stopping_and_removing_nothing_is_no_error(subject: &Subject) {
    let unit = Unit::new(subject);
    unit.stop();
    subject.engine.remove(&unit.id).unwrap();
    unit.made();
    unit.stop();
    subject.engine.remove(&unit.id).unwrap();
    subject.engine.remove(&unit.id).unwrap();
}

fn what_runs_is_not_removed(subject: &Subject) {
    let unit = Unit::running(subject);
    assert!(is_state(subject.engine.remove(&unit.id)));
    assert!(matches!(unit.seen(), Seen::Running(_)));
}

fn a_unit_whose_user_is_nobody_does_not_start(subject: &Subject) {
    let mut unit = Unit::new(subject);
    unit.spec.user = "nobody-here".to_owned();
    unit.made();
    let refused = subject.engine.start(&unit.id, &unit.spec);
    assert!(matches!(refused, Err(EngineError::NoAccount { .. })), "{refused:?}");
    assert!(matches!(unit.seen(), Seen::Stopped(_)));
}

fn what_a_unit_has_come_to_is_told(subject: &Subject) {
    let unit = Unit::new(subject);
    assert_eq!(subject.engine.progress(&unit.id).unwrap(), Progress::default());
    unit.made();
    assert!(!subject.engine.progress(&unit.id).unwrap().running);
    subject.engine.start(&unit.id, &unit.spec).unwrap();
    let progress = subject.engine.progress(&unit.id).unwrap();
    assert_eq!((progress.running, progress.health, progress.ended), (true, None, None));
    assert_eq!(subject.engine.volumes(&unit.root).unwrap(), Vec::<String>::new());
}

fn a_base_has_one_digest(subject: &Subject) {
    let known = subject.engine.base_digest(&subject.base).unwrap();
    assert!(known.is_some());
    let again = subject.engine.prepare(&subject.base, Pull::Missing, &Deaf, &Cancel::default()).unwrap();
    assert_eq!(known, again);
}

fn output_and_errors_come_in_order_and_whole(subject: &Subject) {
    let unit = Unit::running(subject);
    assert_eq!(unit.says("echo one; echo two >&2; printf three").0, "one\ntwo\nthree");
    let (said, code) = unit.says("i=0; while [ $i -lt 100000 ]; do echo \"line $i\"; i=$((i+1)); done");
    assert_eq!((said.lines().count(), code), (100_000, 0));
    assert_eq!(said.lines().last(), Some("line 99999"));
}

fn a_process_ends_with_its_code(subject: &Subject) {
    let unit = Unit::running(subject);
    for code in [0, 1, 42, 255] {
        assert_eq!(unit.says(&format!("exit {code}")).1, code);
    }
    assert_eq!(unit.says("kill -9 $$").1, 137);
    let mut slow = unit.start("sleep 1; exit 7");
    assert_eq!(slow.wait(Duration::from_millis(50)).unwrap(), None);
    assert_eq!(end(slow.as_mut()), 7);
}

fn a_program_that_is_not_there_is_told(subject: &Subject) {
    let unit = Unit::running(subject);
    let argv = vec!["/bin/nothing-here".to_owned()];
    match unit.exec(&ExecSpec { argv, ..shell("") }) {
        Err(_) => {}
        Ok(mut process) => assert!(matches!(end(process.as_mut()), 126 | 127)),
    }
}

fn nothing_runs_in_a_unit_that_does_not_run(subject: &Subject) {
    let unit = Unit::new(subject);
    assert!(is_state(unit.exec(&shell("true")).map(drop)));
    unit.made();
    assert!(is_state(unit.exec(&shell("true")).map(drop)));
}

fn a_process_has_what_it_is_given(subject: &Subject) {
    let unit = Unit::running(subject);
    assert_eq!(unit.says("pwd").0, "/workspace\n");
    let mut spec = shell("pwd; printf '%s' \"$TEXT\"");
    spec.cwd = Some("/tmp".into());
    spec.env.insert("TEXT".to_owned(), "a 'b' \"c\" $d\nß".to_owned());
    assert_eq!(unit.said(&spec).0, "/tmp\na 'b' \"c\" $d\nß");
    let argv = ["/bin/printf", "%s|", "", "a b", "*"].map(str::to_owned).to_vec();
    assert_eq!(unit.said(&ExecSpec { argv, ..shell("") }).0, "|a b|*|");
    // It has no input to wait for.
    assert_eq!(unit.says("cat; echo end").0, "end\n");
}

fn a_unit_has_an_environment_of_its_own(subject: &Subject) {
    let unit = Unit::running(subject);
    let environment = subject.engine.environment(&unit.id).unwrap();
    assert!(environment["PATH"].split(':').any(|folder| folder == "/bin"), "{environment:?}");
    // It is what a process has that is given nothing.
    let mut spec = shell("printf '%s' \"$PATH\"");
    spec.env.clear();
    assert_eq!(unit.said(&spec).0, environment["PATH"]);
    assert!(subject.engine.image(&unit.spec.base).unwrap().is_some());
}

fn a_process_runs_as_whom_it_is_said(subject: &Subject) {
    let unit = Unit::running(subject);
    let as_user = |user: &str| {
        let user = Some(user.to_owned());
        unit.said(&ExecSpec {
            user,
            ..shell("echo $(id -u) $(id -g) $(id -G | tr ' ' '\\n' | sort -n | tr '\\n' ' ')")
        })
        .0
    };
    assert_eq!(unit.says("id -u").0, "0\n");
    assert_eq!(as_user("dev").trim_end(), "1000 1000 50 1000");
    assert_eq!(as_user("1000").split_whitespace().take(2).collect::<Vec<_>>(), ["1000", "1000"]);
    assert_eq!(as_user("4242:77").split_whitespace().take(2).collect::<Vec<_>>(), ["4242", "77"]);
    let nobody = ExecSpec { user: Some("nobody-here".to_owned()), ..shell("true") };
    assert!(matches!(unit.exec(&nobody).map(drop), Err(EngineError::NoAccount { .. })));
}

fn accounts_are_those_of_the_unit(subject: &Subject) {
    let unit = Unit::new(subject);
    unit.made();
    let account = |user: &str| subject.engine.account(&unit.id, user);
    let dev = account("dev").unwrap();
    assert_eq!((dev.uid, dev.gid, dev.home.as_path()), (1000, 1000, Path::new("/home/dev")));
    assert_eq!(account("1000").unwrap().name, "dev");
    assert_eq!(account("root").unwrap().uid, 0);
    assert!(matches!(account("nobody-here"), Err(EngineError::NoAccount { .. })));
}

fn a_signal_reaches_what_the_process_started(subject: &Subject) {
    let unit = Unit::running(subject);
    // A shell that has only just been forked takes a signal for its parent's, and forgets it.
    let mut process = unit.start(
        "trap 'touch heard; kill $child; exit 3' TERM; sleep 4321 & child=$!; \
         until case $(cat /proc/$child/cmdline) in sleep*) ;; *) false ;; esac; do :; done; touch ready; wait $child",
    );
    unit.wait_for("ready");
    process.signal(15);
    assert_eq!(end(process.as_mut()), 3);
    unit.wait_for("heard");
    unit.none_left("sleep 4321");
}

fn a_kill_leaves_nothing_of_the_process(subject: &Subject) {
    let unit = Unit::running(subject);
    let mut process = unit.start(
        "trap '' TERM; (trap '' TERM; sleep 4322; sleep 4322) & setsid sh -c 'sleep 4322; true' & touch ready; sleep 4322",
    );
    unit.wait_for("ready");
    process.signal(15);
    process.kill();
    assert_ne!(end(process.as_mut()), 0);
    unit.none_left("sleep 4322");
    assert!(matches!(unit.seen(), Seen::Running(_)));
}

fn what_is_dropped_is_killed(subject: &Subject) {
    let unit = Unit::running(subject);
    let process = unit.start("trap '' TERM HUP INT; sleep 4323 & touch ready; wait; sleep 4323");
    unit.wait_for("ready");
    drop(process);
    unit.none_left("sleep 4323");
}

fn what_a_process_left_behind_stays_until_the_unit_stops(subject: &Subject) {
    let unit = Unit::running(subject);
    let mut process = unit.start("sleep 4324 & exit 0");
    assert_eq!(end(process.as_mut()), 0);
    drop(process);
    assert_eq!(unit.count("sleep 4324"), 1);
    unit.stop();
    subject.engine.start(&unit.id, &unit.spec).unwrap();
    assert_eq!(unit.count("sleep 4324"), 0);
}

fn a_unit_that_does_not_listen_is_killed(subject: &Subject) {
    let unit = Unit::running(subject);
    let mut process = unit.start("trap '' TERM HUP INT; touch ready; while :; do sleep 1; done");
    unit.wait_for("ready");
    subject.engine.stop(&unit.id, Duration::from_secs(1), &Cancel::default()).unwrap();
    assert!(matches!(unit.seen(), Seen::Stopped(_)));
    assert_ne!(end(process.as_mut()), 0);
}

fn files_of_its_own_outlive_a_stop_and_not_the_unit(subject: &Subject) {
    let unit = Unit::running(subject);
    assert_eq!(unit.says("echo kept > /root/file").1, 0);
    unit.stop();
    subject.engine.start(&unit.id, &unit.spec).unwrap();
    assert_eq!(unit.says("cat /root/file").0, "kept\n");
    unit.stop();
    subject.engine.remove(&unit.id).unwrap();
    let unit = unit.started();
    assert_ne!(unit.says("cat /root/file 2>/dev/null").1, 0);
}

fn the_workspace_is_the_projects_folder(subject: &Subject) {
    let unit = Unit::running(subject);
    fs::write(unit.root.join("in"), "from outside").unwrap();
    assert_eq!(unit.says("cat in; printf inside > out").0, "from outside");
    assert_eq!(fs::read_to_string(unit.root.join("out")).unwrap(), "inside");
}

fn a_read_only_mount_is_not_written(subject: &Subject) {
    let mut unit = Unit::new(subject);
    let source = unit.root.join("given");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "text\n").unwrap();
    unit.spec.mounts.push(Mount { source, target: "/given".into(), read_only: true });
    let unit = unit.started();
    assert_eq!(unit.says("cat /given/file; echo x > /given/file").0.lines().next(), Some("text"));
    assert_eq!(fs::read_to_string(unit.root.join("given/file")).unwrap(), "text\n");
}

fn without_a_network_there_is_none(subject: &Subject) {
    let mut unit = Unit::new(subject);
    unit.spec.network = Network::None;
    let unit = unit.started();
    let (said, _) = unit.says("ls /sys/class/net 2>/dev/null || tail -n +3 /proc/net/dev | cut -d: -f1");
    let interfaces: Vec<_> =
        said.split_whitespace().filter(|name| *name == "lo" || name.starts_with("eth")).collect();
    assert_eq!(interfaces, ["lo"]);
}

fn limits_hold_and_can_be_changed(subject: &Subject) {
    let mut unit = Unit::new(subject);
    unit.spec.limits = Limits { pids: Some(20), ..Limits::default() };
    let unit = unit.started();
    // How many of thirty processes could be started side by side.
    let crowd = "i=0; while [ $i -lt 30 ]; do sleep 3 & i=$((i+1)); done; wait; echo all";
    assert!(!unit.says(&format!("{{ {crowd}; }} 2>&1")).0.ends_with("all\n"), "there was no limit");
    let raised = subject.engine.set_limits(&unit.id, &Limits { pids: Some(200), ..Limits::default() });
    if subject.engine.capabilities().limits != Class::Hot {
        return assert!(matches!(raised, Err(EngineError::Unsupported { .. })), "{raised:?}");
    }
    raised.unwrap();
    assert!(unit.says(crowd).0.ends_with("all\n"), "it was not raised");
    subject.engine.set_limits(&unit.id, &Limits::default()).unwrap();
    assert!(unit.says(crowd).0.ends_with("all\n"), "it was not taken away");
}

fn its_own_changes_are_counted(subject: &Subject) {
    let unit = Unit::running(subject);
    assert_eq!(subject.engine.own_changes(&unit.id).unwrap(), OwnChanges::default());
    assert_eq!(unit.says("echo x > /etc/new; mkdir -p /opt/a/b; echo y > /opt/a/b/c; echo z > not-own").1, 0);
    let changes = subject.engine.own_changes(&unit.id).unwrap();
    let mut examples = changes.examples;
    examples.sort();
    assert_eq!((changes.count, examples), (2, vec!["/etc/new".into(), "/opt/a/b/c".into()]));
}

fn many_processes_at_once_keep_their_output_apart(subject: &Subject) {
    let unit = Unit::running(subject);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..8)
            .map(|number| {
                let unit = &unit;
                scope.spawn(move || {
                    let script =
                        format!("for i in 1 2 3 4 5; do echo {number}; sleep 0.05; done; exit {number}");
                    (number, unit.says(&script))
                })
            })
            .collect();
        for one in running {
            let (number, (said, code)) = one.join().unwrap();
            assert_eq!((said, code), (format!("{number}\n").repeat(5), number));
        }
    });
}

fn every_unit_is_listed(subject: &Subject) {
    let (one, two) = (Unit::running(subject), Unit::new(subject));
    two.made();
    let units = subject.engine.units().unwrap();
    for unit in [&one, &two] {
        let found = units.iter().find(|(id, _)| *id == unit.id).map(|(_, labels)| labels);
        assert_eq!(found, Some(&unit.spec.labels));
    }
}
