//! Podman without root's rights, through the binary itself: whose the files are.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::api::Api;
use crate::docker::Scenario;
use crate::harness::Project;
use crate::place::{self, Kind, Place};

pub const ON_PODMAN: &[Scenario] = &[
    ("without_root_what_is_made_is_its_owners", what_is_made_is_its_owners),
    ("without_root_a_service_is_asked_in_its_own_network", a_service_is_asked),
];

/// Somebody who is nobody else on this machine.
const USER: u32 = 54_321;

/// A Podman of this user's. It has no ids but his own, so that nothing of the machine has to be changed for it.
struct Podman {
    folder: tempfile::TempDir,
    child: Child,
}

impl Podman {
    fn start(rootfs: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("setpoint-rootless-").tempdir_in("/var/tmp").unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(rootfs, at("rootfs.tar")).unwrap();
        let settings = format!("[containers]\ndefault_ulimits = []\n{}", place::own_first_process());
        fs::write(at("containers.conf"), settings).unwrap();
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = {:?}\nrunroot = {:?}\n\
             [storage.options.overlay]\nignore_chown_errors = \"true\"\n",
            at("home/containers"),
            at("run/containers"),
        );
        fs::write(at("storage.conf"), storage).unwrap();
        for name in ["run", "home", "tmp"] {
            fs::create_dir(at(name)).unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o700)).unwrap();
            chown(at(name), Some(USER), Some(USER)).unwrap();
        }
        chown(folder.path(), Some(USER), Some(USER)).unwrap();
        let podman = "podman --runtime runc --cgroup-manager cgroupfs --events-backend file --log-level warn";
        let script = format!(
            "cd \"$1\" && {podman} import rootfs.tar localhost/base:1 && \
             exec {podman} system service --time 0 \"unix://$1/engine.sock\""
        );
        let user = USER.to_string();
        let log = fs::File::create(at("log")).unwrap();
        let child = Command::new("unshare")
            .args(["--pid", "--fork", "--mount", "--mount-proc", "--net", "--"])
            .args(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups", "--"])
            .args(["/bin/sh", "-c", &script, "sh"])
            .arg(folder.path())
            .env("HOME", at("home"))
            .env("XDG_RUNTIME_DIR", at("run"))
            .env("TMPDIR", at("tmp"))
            .env("CONTAINERS_CONF", at("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", at("storage.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut podman = Self { folder, child };
        let began = Instant::now();
        while std::os::unix::net::UnixStream::connect(podman.socket()).is_err() {
            let ended = podman.child.try_wait().unwrap();
            let log = || fs::read_to_string(podman.folder.path().join("log")).unwrap_or_default();
            assert!(ended.is_none() && began.elapsed() < Duration::from_secs(60), "{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        podman
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("engine.sock")
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Whatever it left behind goes with its first process.
        let pid = self.child.id();
        let first = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        for pid in first.split_whitespace() {
            let _ = Command::new("kill").args(["-9", pid]).status();
        }
        let _ = self.child.wait();
    }
}

const PROJECT: &str = r#"setpoint = 1
[engine]
default = "podman"
[env.dev]
image = "localhost/base:1"
[env.dev.hooks]
post_create = "id -u > made"
[pipeline.ci]
image = "localhost/base:1"
[pipeline.ci.step.make]
run = "echo system > /made; echo workspace > made"
[pipeline.ci.step.see]
from = "make"
run = "cat /made made > out"
outputs = ["out"]
artifacts = ["out"]
"#;

fn what_is_made_is_its_owners(place: &Place) {
    let podman = Podman::start(&place.engine(Kind::Podman).folder.join("rootfs.tar"));
    let mut project = Project::of_user(USER, PROJECT);
    project.set("CONTAINER_HOST", &format!("unix://{}", podman.socket().display()));
    project.up();
    // Root inside is he outside.
    assert_eq!(project.read("made"), "0\n");
    assert_eq!(fs::metadata(project.root.join("made")).unwrap().uid(), USER);
    project.up().says("nothing to do");
    project.run(&["run"]).exits(0).says("2 passed");
    project.run(&["run"]).exits(0).says("2 cached");
    project.run(&["cache", "clear", "--yes"]);
    project.run(&["run"]).exits(0);
    project.run(&["down"]).exits(0);
    project.run(&["uninstall", "--yes"]).exits(0);
    let nothing: Vec<String> = Vec::new();
    assert_eq!(Api::new(&podman.socket()).of_steps(), (nothing.clone(), nothing));
    // On a busy machine it keeps a mount for a while of what it lists no more.
    drop(podman);
}

const SERVICE: &str = r#"setpoint = 1
[engine]
default = "podman"
[service.web]
image = "localhost/base:1"
command = ["sh", "-c", "echo well > /dev/shm/well; exec httpd -f -p 127.0.0.1:8000 -h /dev/shm"]
health = { http = "/well", port = 8000, interval = "200ms", retries = 100 }
[service.client]
image = "localhost/base:1"
network = "none"
command = ["sleep", "100000"]
depends_on = { web = "healthy" }
"#;

fn a_service_is_asked(place: &Place) {
    // What gives containers a network without root's rights.
    if !["slirp4netns", "pasta"].into_iter().any(place::is_here) {
        return;
    }
    let podman = Podman::start(&place.engine(Kind::Podman).folder.join("rootfs.tar"));
    let mut project = Project::of_user(USER, SERVICE);
    project.set("CONTAINER_HOST", &format!("unix://{}", podman.socket().display()));
    // The one waits for the other to be well.
    project.up();
    project.run(&["status"]).exits(0).says("running, healthy");
    project.run(&["down"]).exits(0);
    project.run(&["uninstall", "--yes"]).exits(0);
    drop(podman);
}
