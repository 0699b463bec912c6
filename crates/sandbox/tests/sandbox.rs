//! Sandboxes, tried for real: as root, and as an ordinary user.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use setpoint_sandbox as sandbox;
use setpoint_sandbox::{
    Check, Ended, ExecSpec, Io, Limits, Main, Memory, Mount, Network, Observed, Root, SandboxError,
    SandboxSpec, Status, Test, User,
};

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("__init") => sandbox::main_init(),
        Some("__shim") => sandbox::main_shim(),
        Some("__ports") => sandbox::main_ports(),
        _ => {}
    }
    let tests: [(&str, fn(&Place)); 26] = [
        ("what_is_written_stays_inside_and_survives_a_restart", writes_stay_inside),
        ("homes_and_secrets_of_the_host_are_not_visible", nothing_personal),
        ("exit_codes_and_signals_come_through", ends),
        ("a_missing_program_is_told_apart_from_its_exit_code", missing_program),
        ("a_process_dies_with_its_caller_and_all_that_came_of_it", dies_with_caller),
        ("what_a_finished_process_left_in_the_background_stays", background_stays),
        ("the_sandbox_dies_with_its_shim", dies_with_shim),
        ("nothing_inside_can_write_the_binary", binary_is_protected),
        ("dangerous_calls_are_refused", calls_are_refused),
        ("a_terminal_has_the_size_that_was_asked_for", terminal),
        ("limits_are_in_force_and_go_with_the_sandbox", limits),
        ("limits_can_be_set_while_it_runs", limits_later),
        ("a_mount_cannot_leave_the_root_by_a_link", mount_by_link),
        ("without_a_network_there_is_none", no_network),
        ("a_sandbox_ends_with_its_main_process_and_keeps_what_that_wrote", main_process),
        ("a_main_process_is_asked_to_end_and_then_killed", main_process_is_asked_to_end),
        ("a_main_program_that_is_missing_is_told_and_nothing_runs", main_program_that_is_missing),
        ("the_output_of_a_main_process_is_bounded", main_process_that_says_much),
        ("output_that_the_disk_has_no_room_for_is_missing_and_told", main_process_on_a_disk_that_is_full),
        ("output_is_followed_over_what_is_put_aside", main_process_that_is_followed),
        ("the_health_of_a_main_process_is_checked", health),
        ("memory_and_volumes_appear_inside", memory_and_volumes),
        ("one_process_may_have_a_sandbox_of_its_own", own_sandbox),
        ("a_sandbox_of_its_own_ends_with_its_process", own_sandbox_ends),
        ("a_sandbox_of_its_own_dies_with_its_caller", own_sandbox_dies_with_caller),
        ("layers_of_the_host_view_build_on_each_other", layers_build_on_each_other),
    ];
    let arguments = Arguments::from_args();
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            Trial::test(name, move || {
                let place = Place::new();
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&place)));
                place.clean();
                outcome.map_err(|panic| {
                    let text = panic.downcast_ref::<String>().cloned();
                    Failed::from(
                        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
                            .unwrap_or_default(),
                    )
                })
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}

/// A unit's folder, with a sandbox of the host's view.
struct Place {
    folder: PathBuf,
    _temporary: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let temporary = tempfile::Builder::new().prefix("setpoint-sandbox-").tempdir_in("/var/tmp").unwrap();
        let folder = temporary.path().join("unit");
        fs::create_dir(&folder).unwrap();
        sandbox::prepare_host_view(&folder).unwrap();
        Self { folder, _temporary: temporary }
    }

    fn spec(&self) -> SandboxSpec {
        SandboxSpec {
            root: Root::HostView { state: self.folder.clone() },
            hostname: "inside".to_owned(),
            mounts: Vec::new(),
            overlays: Vec::new(),
            memory: Vec::new(),
            volatile: false,
            home: None,
            network: Network::Host,
            names: setpoint_sandbox::Names::default(),
            limits: Limits::default(),
            cgroup: format!("test-{}", self.folder.parent().unwrap().file_name().unwrap().to_string_lossy()),
            main: None,
        }
    }

    /// Starts a sandbox that is there for a script.
    fn start_for(&self, script: &str, check: Option<Check>) -> sandbox::Running {
        let main = Main { process: shell(script, Io::Captured), stop_signal: libc::SIGTERM, check };
        sandbox::start(&SandboxSpec { main: Some(main), ..self.spec() }, &self.folder).unwrap()
    }

    fn output(&self) -> String {
        let mut text = String::new();
        sandbox::output(&self.folder, false).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn exited(&self) -> Option<Ended> {
        match sandbox::observe(&self.folder) {
            Observed::Exited(exit) => Some(exit.ended),
            _ => None,
        }
    }

    fn start(&self) -> sandbox::Running {
        sandbox::start(&self.spec(), &self.folder).unwrap()
    }

    fn stop(&self) {
        sandbox::stop(&self.folder, Duration::from_secs(5), &|| false).unwrap();
    }

    fn clean(&self) {
        self.stop();
    }
}

fn root() -> User {
    User { uid: 0, gid: 0, groups: Vec::new() }
}

fn shell(text: &str, io: Io) -> ExecSpec {
    ExecSpec {
        argv: ["/bin/sh", "-c", text].map(str::to_owned).to_vec(),
        env: vec![("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".to_owned())],
        cwd: PathBuf::from("/"),
        user: root(),
        io,
    }
}

/// Runs a shell command inside; gives how it ended and what it said.
fn say(running: &sandbox::Running, text: &str) -> (Ended, String) {
    let mut process = sandbox::exec(running, &shell(text, Io::Captured)).unwrap();
    let mut said = String::new();
    process.output().unwrap().read_to_string(&mut said).unwrap();
    (process.wait(None).unwrap().unwrap(), said.trim().to_owned())
}

fn until(what: &str, mut true_now: impl FnMut() -> bool) {
    let began = Instant::now();
    while !true_now() {
        assert!(began.elapsed() < Duration::from_secs(10), "waited too long for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether some process of the host has this text among its arguments.
fn somewhere(text: &str) -> bool {
    fs::read_dir("/proc").unwrap().filter_map(Result::ok).any(|entry| {
        fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).split('\0').any(|word| word == text))
    })
}

fn writes_stay_inside(place: &Place) {
    let running = place.start();
    let mark = "setpoint-mark";
    assert_eq!(
        say(&running, &format!("echo a > /usr/{mark} && echo b > /root/{mark} && hostname")),
        (Ended::Code(0), "inside".to_owned())
    );
    assert!(!Path::new("/usr").join(mark).exists() && !Path::new("/root").join(mark).exists());
    place.stop();
    assert!(matches!(sandbox::observe(&place.folder), Observed::Exited(_) | Observed::Gone));
    let again = place.start();
    assert_eq!(say(&again, &format!("cat /usr/{mark} /root/{mark}")).1, "a\nb");
}

fn nothing_personal(place: &Place) {
    let running = place.start();
    let (_, homes) = say(&running, "ls -A /home /root /srv /mnt | grep -v : | grep .");
    assert_eq!(homes, "");
    let (_, hashes) = say(&running, "cut -d: -f2 /etc/shadow | sort -u");
    assert_eq!(hashes, "*");
    assert_eq!(say(&running, "ls /etc/ssh/ssh_host_*_key /etc/ssl/private 2>/dev/null").1, "");
    assert_eq!(say(&running, "ls /var/lib | tr '\\n' ' '").1.trim(), "apt dpkg");
}

fn ends(place: &Place) {
    let running = place.start();
    assert_eq!(say(&running, "exit 7").0, Ended::Code(7));
    assert_eq!(say(&running, "kill -9 $$").0, Ended::Signal(9));
    let mut process = sandbox::exec(&running, &shell("sleep 100", Io::Captured)).unwrap();
    assert_eq!(process.wait(Some(Duration::from_millis(20))).unwrap(), None);
    process.signal(15);
    assert_eq!(process.wait(None).unwrap(), Some(Ended::Signal(15)));
}

fn missing_program(place: &Place) {
    let running = place.start();
    let mut spec = shell("", Io::Captured);
    spec.argv = vec!["no-such-program".to_owned()];
    let error = sandbox::exec(&running, &spec).unwrap_err();
    assert!(
        matches!(error, sandbox::SandboxError::Exec { ref program, errno: 2 } if program == "no-such-program"),
        "{error}"
    );
    assert_eq!(say(&running, "exit 127").0, Ended::Code(127));
}

fn dies_with_caller(place: &Place) {
    let running = place.start();
    // Two sessions deep and detached: only who adopts its orphans can find it.
    let text = "setsid sh -c 'sleep 54321 & sleep 54322' & sleep 54323";
    let process = sandbox::exec(&running, &shell(text, Io::Captured)).unwrap();
    until("all three sleep", || ["54321", "54322", "54323"].iter().all(|word| somewhere(word)));
    drop(process);
    until("none is left", || !["54321", "54322", "54323"].iter().any(|word| somewhere(word)));
}

fn background_stays(place: &Place) {
    let running = place.start();
    assert_eq!(say(&running, "sleep 65432 >/dev/null 2>&1 &").0, Ended::Code(0));
    std::thread::sleep(Duration::from_millis(100));
    assert!(somewhere("65432"));
    place.stop();
    assert!(!somewhere("65432"));
}

fn dies_with_shim(place: &Place) {
    let running = place.start();
    let stat = fs::read_to_string(format!("/proc/{}/stat", running.pid)).unwrap();
    let parent = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().to_owned();
    std::process::Command::new("kill").args(["-9", &parent]).status().unwrap();
    until("the first process is gone", || sandbox::observe(&place.folder) == Observed::Gone);
}

fn binary_is_protected(place: &Place) {
    let running = place.start();
    let (ended, said) = say(&running, "echo x 2>&1 > /proc/1/exe");
    assert_ne!(ended, Ended::Code(0));
    assert!(said.contains("Read-only") || said.contains("denied") || said.contains("busy"), "{said}");
}

fn calls_are_refused(place: &Place) {
    let running = place.start();
    assert_ne!(say(&running, "mount -t tmpfs none /mnt").0, Ended::Code(0));
    assert_ne!(say(&running, "unshare --user true").0, Ended::Code(0));
    // Number 39 is harmless; its x32 variant is refused before the kernel can say whether it has one.
    if cfg!(target_arch = "x86_64") {
        let (_, errno) = say(&running, "perl -e 'syscall(0x40000000 | 39); print $!+0'");
        assert_eq!(errno, "1");
    }
    assert_eq!(say(&running, "grep NoNewPrivs /proc/self/status | tr -d '\\t '").1, "NoNewPrivs:1");
    assert_eq!(say(&running, "grep CapBnd /proc/self/status | tr -d '\\t '").1, "CapBnd:00000000a80425fb");
}

fn terminal(place: &Place) {
    let running = place.start();
    let mut process =
        sandbox::exec(&running, &shell("stty size; tty", Io::Terminal { rows: 33, columns: 77 })).unwrap();
    let mut said = Vec::new();
    let mut outer = fs::File::from(process.terminal().unwrap().try_clone().unwrap());
    let mut buffer = [0; 256];
    while let Ok(read @ 1..) = outer.read(&mut buffer) {
        said.extend_from_slice(&buffer[..read]);
    }
    let said = String::from_utf8_lossy(&said).replace('\r', "");
    assert_eq!(said, "33 77\n/dev/pts/0\n");
    assert_eq!(process.wait(None).unwrap(), Some(Ended::Code(0)));
}

fn limits(place: &Place) {
    let mut spec = place.spec();
    spec.limits = Limits { memory: Some(64 << 20), cpus: Some(0.5), pids: Some(40) };
    let running = match sandbox::start(&spec, &place.folder) {
        Ok(running) => running,
        Err(sandbox::SandboxError::NoCgroup { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(running.cgroup.effective(), spec.limits);
    let (ended, _) = say(&running, "i=0; while [ $i -lt 60 ]; do sleep 1 & i=$((i+1)); done; wait");
    assert_ne!(ended, Ended::Code(0));
    let more = Limits { pids: Some(80), ..spec.limits };
    assert_eq!(sandbox::set_limits(&place.folder, &spec.cgroup, &more).unwrap(), more);
    place.stop();
    for controller in ["memory", "cpu", "pids"] {
        assert!(!Path::new("/sys/fs/cgroup").join(controller).join("setpoint").join(&spec.cgroup).exists());
    }
}

fn mount_by_link(place: &Place) {
    let canary = place.folder.parent().unwrap().join("canary");
    fs::create_dir(&canary).unwrap();
    std::os::unix::fs::symlink(&canary, place.folder.join("fs/srv/out")).unwrap();
    let source = place.folder.parent().unwrap().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "seen").unwrap();
    let mut spec = place.spec();
    spec.mounts = vec![Mount {
        source,
        target: PathBuf::from("/srv/out/deep"),
        read_only: true,
        takes_what_is_there: false,
    }];
    match sandbox::start(&spec, &place.folder) {
        // The link is resolved inside: the folder is made there.
        Ok(running) => assert_eq!(say(&running, "touch /srv/out/deep/x; echo $?").0, Ended::Code(0)),
        Err(error) => assert!(error.to_string().contains("mount point"), "{error}"),
    }
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 0);
}

fn main_process(place: &Place) {
    place.start_for("echo out; echo err >&2; id -u; (sleep 1000 &) ; exit 3", None);
    until("it has ended", || place.exited() == Some(Ended::Code(3)));
    assert_eq!(place.output(), "out\nerr\n0\n");
    // What it wrote before is kept, and a follower hears all until the end.
    place.start_for("sleep 0.3; echo more", None);
    let mut all = String::new();
    sandbox::output(&place.folder, true).unwrap().read_to_string(&mut all).unwrap();
    assert_eq!(all, "out\nerr\n0\nmore\n");
    until("it has ended", || place.exited() == Some(Ended::Code(0)));
}

fn main_process_is_asked_to_end(place: &Place) {
    place.start_for("trap 'echo asked; exit 7' TERM; echo here; while :; do sleep 0.05; done", None);
    until("it is there", || place.output() == "here\n");
    place.stop();
    assert_eq!(place.exited(), Some(Ended::Code(7)));
    assert_eq!(place.output(), "here\nasked\n");
    let running = place.start_for("trap '' TERM; echo deaf; while :; do sleep 0.05; done", None);
    until("it is there", || place.output().ends_with("deaf\n"));
    let began = Instant::now();
    sandbox::stop(&place.folder, Duration::from_millis(300), &|| false).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(!Path::new(&format!("/proc/{}", running.pid)).exists());
}

fn main_program_that_is_missing(place: &Place) {
    let process = ExecSpec { argv: vec!["no-such-program".to_owned()], ..shell("", Io::Captured) };
    let main = Some(Main { process, stop_signal: libc::SIGTERM, check: None });
    let refused = sandbox::start(&SandboxSpec { main, ..place.spec() }, &place.folder);
    let error = refused.unwrap_err();
    assert!(matches!(&error, SandboxError::Exec { program, .. } if program == "no-such-program"), "{error}");
    assert_eq!(sandbox::observe(&place.folder), Observed::Gone);
}

fn main_process_on_a_disk_that_is_full(place: &Place) {
    // As it is on a small disk that others fill.
    let disk = place.folder.parent().unwrap().join("disk");
    let outside = place.folder.parent().unwrap().join("outside");
    fs::create_dir(&disk).unwrap();
    fs::create_dir(&outside).unwrap();
    if sandbox::is_rootless() {
        // Only root mounts disks.
        return;
    }
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(&disk).status();
    assert!(mounted.unwrap().success());
    let _disk = Disk(disk.clone());
    let unit = Place { folder: disk.join("unit"), ..Place::new() };
    fs::create_dir(&unit.folder).unwrap();
    sandbox::prepare_host_view(&unit.folder).unwrap();
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![0; 300_000]).unwrap();
    fs::write(unit.folder.join("output.log.1"), vec![b'o'; 700_000]).unwrap();
    let script = "trap 'echo asked; exit 7' TERM
        head -c 4000000 /dev/zero | tr '\\0' x; echo > /mnt/said; while :; do sleep 0.05; done";
    let main = Main { process: shell(script, Io::Captured), stop_signal: libc::SIGTERM, check: None };
    let given = Mount {
        source: outside.clone(),
        target: "/mnt".into(),
        read_only: false,
        takes_what_is_there: false,
    };
    let spec = SandboxSpec { main: Some(main), mounts: vec![given], ..unit.spec() };
    sandbox::start(&spec, &unit.folder).unwrap();
    until("it has said all", || outside.join("said").exists());
    assert!(matches!(sandbox::observe(&unit.folder), Observed::Running(_)));
    // What was put aside gave way, and what there was no room for is missing.
    let kept = unit.output();
    assert!(kept.len() > 1_200_000 && kept.len() < 2_000_000, "{}", kept.len());
    assert!(kept.bytes().all(|byte| byte == b'x'));
    fs::remove_file(&ballast).unwrap();
    unit.stop();
    assert_eq!(unit.exited(), Some(Ended::Code(7)));
    let text = unit.output();
    let missing = 4_000_000 - kept.len();
    let told = format!("x\nsetpoint: {missing} bytes are missing here, the disk was full\nasked\n");
    assert!(text.ends_with(&told), "{}", &text[kept.len()..]);
}

/// A disk that goes with its test.
struct Disk(PathBuf);

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = sandbox::stop(&self.0.join("unit"), Duration::ZERO, &|| true);
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn main_process_that_is_followed(place: &Place) {
    // Lines of 8 bytes, in pieces, so that whoever reads is among them when the file is put aside.
    let script =
        "i=10; while [ $i -lt 30 ]; do seq ${i}00000 ${i}99999; sleep 0.05; i=$((i+1)); done; echo end";
    place.start_for(script, None);
    until("it has begun", || !place.output().is_empty());
    let mut text = String::new();
    sandbox::output(&place.folder, true).unwrap().read_to_string(&mut text).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let expected: Vec<String> = (1_000_000..3_000_000).map(|number| number.to_string()).collect();
    assert!(lines[..lines.len() - 1] == expected, "{} lines", lines.len());
    assert_eq!(lines.last(), Some(&"end"));
    // Later as well: all of it is kept, in two files.
    assert!(fs::metadata(place.folder.join("output.log.1")).unwrap().len() > 9_000_000);
    assert!(place.output() == text, "{} bytes are kept", place.output().len());
}

fn main_process_that_says_much(place: &Place) {
    place.start_for("head -c 25000000 /dev/zero; echo end", None);
    until("it has ended", || place.exited().is_some());
    let text = place.output();
    assert!(text.ends_with("end\n") && text.len() > 4_000_000 && text.len() < 21_000_000, "{}", text.len());
}

fn health(place: &Place) {
    let check = Check {
        test: Test::Run(shell("cat /tmp/health || sleep 1000", Io::Captured)),
        interval: Duration::from_millis(50),
        timeout: Duration::from_millis(200),
        retries: 2,
        start_period: Duration::ZERO,
        start_interval: Duration::from_millis(50),
    };
    let running = place.start_for("while :; do sleep 0.05; done", Some(check));
    let now = || sandbox::health(&place.folder, &running);
    let is = |status: Status| now().is_some_and(|health| health.status == status);
    until("a check that hangs is a failure", || is(Status::Unhealthy));
    assert!(now().unwrap().said.contains("longer than"));
    until("who checks is seen", || !checks(&running).is_empty());
    for program in checks(&running) {
        assert!(!program.contains("memfd"), "each check copies the binary: {program}");
    }
    say(&running, "echo fine > /tmp/new; mv /tmp/new /tmp/health");
    until("it is well", || is(Status::Healthy));
    assert_eq!(now().unwrap().said, "fine");
    place.stop();
    // It goes on for as long as what is checked runs.
    let often = Check {
        test: Test::Run(shell("echo >> /tmp/checks", Io::Captured)),
        interval: Duration::from_millis(1),
        timeout: Duration::from_secs(10),
        retries: 1,
        start_period: Duration::ZERO,
        start_interval: Duration::from_millis(1),
    };
    let running = place.start_for("sleep 1000", Some(often));
    let made = || say(&running, "wc -l < /tmp/checks || echo 0").1.trim().parse::<u32>().unwrap_or(0);
    until("it was made again and again", || made() > 100);
    place.stop();
    let again = place.start_for("sleep 1000", None);
    assert_eq!(sandbox::health(&place.folder, &again), None);
    place.stop();
}

/// What those processes run that lead the checks of a sandbox: children of its siblings.
fn checks(running: &sandbox::Running) -> Vec<String> {
    let children = |pid: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()).collect::<Vec<_>>()
    };
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid)).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    let siblings = children(parent.trim().parse().unwrap()).into_iter().filter(|pid| *pid != running.pid);
    let programs =
        siblings.flat_map(children).filter_map(|pid| fs::read_link(format!("/proc/{pid}/exe")).ok());
    programs.map(|path| path.to_string_lossy().into_owned()).collect()
}

fn memory_and_volumes(place: &Place) {
    let volume = place.folder.parent().unwrap().join("volume");
    fs::create_dir(&volume).unwrap();
    let mount = |takes_what_is_there| Mount {
        source: volume.clone(),
        target: "/opt/kept".into(),
        read_only: false,
        takes_what_is_there,
    };
    let memory = Memory { target: "/opt/memory".into(), size: Some(65536), mode: 0o1770 };
    let running = place.start();
    say(
        &running,
        "mkdir -p /opt/kept/sub; echo 1 > /opt/kept/sub/a; ln -s a /opt/kept/sub/b; chmod 750 /opt/kept; chown 7:8 /opt/kept/sub/a",
    );
    place.stop();
    let spec = SandboxSpec { memory: vec![memory], mounts: vec![mount(true)], ..place.spec() };
    let running = sandbox::start(&spec, &place.folder).unwrap();
    let seen = say(
        &running,
        "stat -c '%a %u %g %N' /opt/kept /opt/kept/sub/*; stat -c %a /opt/memory; df /opt/memory | tail -1 | tr -s ' ' | cut -d' ' -f2",
    );
    assert_eq!(
        seen.1,
        "750 0 0 '/opt/kept'\n644 7 8 '/opt/kept/sub/a'\n777 0 0 '/opt/kept/sub/b' -> 'a'\n1770\n64"
    );
    say(&running, "rm -r /opt/kept/sub; echo 2 > /opt/kept/own");
    place.stop();
    // What is not empty is left as it is.
    let running = sandbox::start(&spec, &place.folder).unwrap();
    assert_eq!(say(&running, "ls /opt/kept").1, "own");
    place.stop();
}

fn no_network(place: &Place) {
    let mut spec = place.spec();
    spec.network = Network::None;
    let running = sandbox::start(&spec, &place.folder).unwrap();
    assert_eq!(say(&running, "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '").1, "lo");
}

fn limits_later(place: &Place) {
    let running = place.start();
    assert_eq!(running.cgroup.effective(), Limits::default());
    let wanted = Limits { pids: Some(30), ..Limits::default() };
    match sandbox::set_limits(&place.folder, &place.spec().cgroup, &wanted) {
        Err(sandbox::SandboxError::NoCgroup { .. }) => return,
        other => assert_eq!(other.unwrap(), wanted),
    }
    let Observed::Running(now) = sandbox::observe(&place.folder) else { panic!("it ended") };
    let (ended, _) = say(&now, "i=0; while [ $i -lt 60 ]; do sleep 1 & i=$((i+1)); done; wait");
    assert_ne!(ended, Ended::Code(0));
}

/// A state with a base, for sandboxes of one process.
struct Layered {
    folder: PathBuf,
}

impl Layered {
    fn new(place: &Place) -> Self {
        let folder = place.folder.parent().unwrap().join("layered");
        fs::create_dir(&folder).unwrap();
        fs::create_dir(folder.join("source")).unwrap();
        fs::write(folder.join("source/given"), "source\n").unwrap();
        sandbox::prepare_host_base(&folder.join("base")).unwrap();
        Self { folder }
    }

    /// Runs a script over what these layers left.
    fn run(&self, name: &str, below: &[&str], script: &str) -> sandbox::Process {
        let state = self.folder.join(name);
        sandbox::prepare_host_layer(&state).unwrap();
        sandbox::prepare_overlay(&state.join("workspace"), None).unwrap();
        let scratch = self.folder.join(format!("{name}-scratch"));
        fs::create_dir(&scratch).unwrap();
        let states = |of: &dyn Fn(&str) -> PathBuf| below.iter().map(|name| of(name)).collect::<Vec<_>>();
        let mut layers = vec![self.folder.join("source")];
        layers.extend(states(&|name| self.folder.join(name).join("workspace/upper")));
        let mut bases = vec![self.folder.join("base")];
        bases.extend(states(&|name| self.folder.join(name)));
        let spec = SandboxSpec {
            root: Root::HostLayers { below: bases, state: state.clone() },
            hostname: "step".to_owned(),
            mounts: Vec::new(),
            overlays: vec![sandbox::Overlay {
                target: "/workspace".into(),
                layers,
                state: state.join("workspace"),
            }],
            volatile: true,
            home: None,
            network: Network::None,
            names: setpoint_sandbox::Names::default(),
            limits: Limits::default(),
            cgroup: "step".to_owned(),
            memory: Vec::new(),
            main: None,
        };
        let exec = ExecSpec { cwd: "/workspace".into(), ..shell(script, Io::Captured) };
        sandbox::run(&spec, &scratch, &exec).unwrap()
    }

    fn says(&self, name: &str, below: &[&str], script: &str) -> String {
        let mut process = self.run(name, below, script);
        let mut said = String::new();
        process.output().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(process.wait(None).unwrap(), Some(Ended::Code(0)), "{said}");
        said
    }
}

fn own_sandbox(place: &Place) {
    let layered = Layered::new(place);
    let said = layered.says("one", &[], "hostname; pwd; cat given; echo $$; ls -A /root /home; id -u");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..3], ["step", "/workspace", "source"], "{said}");
    assert!(lines[3].parse::<u32>().unwrap() < 10, "a process namespace of its own: {said}");
    assert_eq!(lines.last(), Some(&"0"), "{said}");
    // Setting it up writes nothing into its layers.
    let rest = layered.folder.join("one/fs/rest/upper");
    assert_eq!(fs::read_dir(rest).unwrap().count(), 1, "only the mount point of the workspace");
}

fn own_sandbox_ends(place: &Place) {
    let layered = Layered::new(place);
    let mark = format!("31{}", std::process::id());
    let said = layered.says("one", &[], &format!("setsid sleep {mark} & echo begun"));
    assert_eq!(said, "begun\n");
    assert!(!somewhere(&mark), "what it left in the background is gone");
    let mut failed = layered.run("two", &[], "exit 3");
    assert_eq!(failed.wait(None).unwrap(), Some(Ended::Code(3)));
}

fn own_sandbox_dies_with_caller(place: &Place) {
    let layered = Layered::new(place);
    let mark = format!("32{}", std::process::id());
    let process = layered.run("one", &[], &format!("setsid sleep {mark} & sleep {mark}"));
    until("it runs", || somewhere(&mark));
    drop(process);
    assert!(!somewhere(&mark), "the drop waits for the end of all");
}

fn layers_build_on_each_other(place: &Place) {
    let layered = Layered::new(place);
    layered.says(
        "one",
        &[],
        "echo tool > /usr/bin/our-tool; echo x > /etc/our; echo y > /root/ours; mkdir /data; rm given; echo a > made",
    );
    let said = layered.says("two", &["one"], "cat /usr/bin/our-tool /etc/our /root/ours; ls -d /data; ls");
    assert_eq!(said, "tool\nx\ny\n/data\nmade\n");
    layered.says("three", &["one", "two"], "rm /usr/bin/our-tool made");
    assert_eq!(
        layered.says("four", &["one", "two", "three"], "ls; ls /usr/bin/our-tool || true"),
        "ls: cannot access '/usr/bin/our-tool': No such file or directory\n"
    );
    assert!(!Path::new("/usr/bin/our-tool").exists() && !Path::new("/data").exists());
    assert!(layered.folder.join("source/given").exists());
}
