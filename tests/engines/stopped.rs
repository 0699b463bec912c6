//! Docker is killed while an upgrade stands anywhere: what is not there is named, nothing is lost, and when it runs again the
//! next command goes on.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::docker::Scenario;
use crate::harness::{Project, finish, go_on, until};
use crate::leaks;
use crate::place::{Kind, Place};
use crate::upgrades::{all_run, declare, declared_only, generation, log, sample, upgrade};

pub const ON_DOCKER: &[Scenario] =
    &[("an_upgrade_goes_on_after_its_engine_was_killed_anywhere", killed_anywhere)];

/// A daemon of one test's own, in namespaces that outlive it.
struct Docker {
    folder: tempfile::TempDir,
    namespaces: Child,
    daemon: Option<Child>,
}

impl Docker {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("setpoint-docker-").tempdir_in("/var/tmp").unwrap();
        let namespaces = Command::new("unshare")
            .args(["--mount", "--net", "sh", "-c", "ip link set lo up && exec sleep 100000"])
            .spawn()
            .unwrap();
        let line = format!("/proc/{}/cmdline", namespaces.id());
        until("there are namespaces", || fs::read(&line).is_ok_and(|line| line.starts_with(b"sleep")));
        let mut docker = Self { folder, namespaces, daemon: None };
        docker.start();
        docker
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.at("log")).unwrap();
        let flag = |name: &str, part: &str| format!("--{name}={}", self.at(part).display());
        let daemon = Command::new("nsenter")
            .args(["--mount", "--net", "--target", &self.namespaces.id().to_string(), "dockerd"])
            .args([flag("data-root", "root"), flag("exec-root", "exec"), flag("pidfile", "pid")])
            .args(["--host", &self.host()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemon = Some(daemon);
        until("it answers", || {
            let ended = self.daemon.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", fs::read_to_string(self.at("log")).unwrap());
            UnixStream::connect(self.at("engine.sock")).is_ok()
        });
    }

    fn kill(&mut self) {
        let below = fs::read_to_string(self.at("exec/containerd/containerd.pid")).unwrap();
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        // It dies with the daemon, and is this process's to collect: it would be taken for one that runs.
        let below = Pid::from_raw(below.trim().parse().unwrap());
        let _ = waitpid(below, WaitOptions::empty());
    }

    fn host(&self) -> String {
        format!("unix://{}", self.at("engine.sock").display())
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = kill_process(Pid::from_child(&daemon), Signal::TERM);
            let _ = daemon.wait();
        }
        let _ = self.namespaces.kill();
        let _ = self.namespaces.wait();
        leaks::kill(self.folder.path(), false);
    }
}

fn points(project: &Project) -> Vec<String> {
    let copy = format!("copy {}_data.1", project.root.file_name().unwrap().to_string_lossy());
    let steps = [
        "fetch db",
        "freeze web",
        "freeze db",
        &copy,
        "set-aside db",
        "set-aside web",
        "start db",
        "verify db",
        "start web",
        "steady",
        "commit",
        "publish db",
        "publish web",
        "bake",
        "clean",
    ];
    steps.iter().flat_map(|step| ["announced", "acted"].map(|when| format!("{step}.{when}"))).collect()
}

fn killed_anywhere(place: &Place) {
    let mut docker = Docker::new();
    let mut project = declared_only(place, Kind::Docker);
    project.set("DOCKER_HOST", &docker.host());
    project.run(&["up", "--no-daemon"]).exits(0);
    until("it has begun", || log(&project) == "one");
    let all = points(&project);
    for point in sample(all, 15) {
        let before = generation(&project);
        let point = point.replace("_data.1.", &format!("_data.{}.", before + 1));
        declare(&project, "one", "two");
        let written = log(&project);
        let held = project.held_at(&point, &["upgrade", "--no-daemon"]);
        docker.kill();
        go_on(&held);
        let cut = finish(held);
        let is_told =
            |said: &str| said.contains("nothing answers at") && said.contains("systemctl start docker");
        // What was done by then was all that there was to do.
        assert!(cut.code == 0 || is_told(&cut.said()), "{point}: {cut}");
        let waits = project.run(&["upgrade", "--no-daemon"]);
        assert!([7, 8].contains(&waits.code) && is_told(&waits.said()), "{point}: {waits}");
        docker.start();
        let next = upgrade(&project);
        next.exits(0).says_not("FAILED");
        // What ran when the engine was killed and was no part of it any more is started by whoever starts services.
        project.run(&["up", "--no-daemon"]).exits(0);
        until(&format!("all run after {point}"), || all_run(&project));
        let now = log(&project);
        assert!(now.starts_with(&written) && now.ends_with("two"), "{point}: {now}\n{cut}{next}");
        let by_way_of = if next.said().contains("was cut off") { "its end" } else { "nothing" };
        eprintln!("docker    {point:<32} exit {}, then new, by way of {by_way_of}", cut.code);
        project.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(0);
        let now = log(&project);
        assert!(now.split(' ').all(|word| word == "one"), "{point}: {now}");
        declare(&project, "two", "one");
        project.run(&["up", "--no-daemon"]).exits(0);
    }
}
