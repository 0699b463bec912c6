//! Where the engines of the tests live: a folder, the daemons in it, and an image that all of them can run.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use setpoint_model::manifest::EngineKind;
use setpoint_runtime::cancel::Cancel;
use setpoint_runtime::engine::{self, BaseSource, Engine, Pull};
use setpoint_runtime::events::{Event, Watcher};
use setpoint_runtime::paths::{Roots, Variables};

use crate::api::Api;
use crate::faulty::Faulty;
use crate::leaks;

/// The engines that are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Our own.
    Embedded,
    /// A real `dockerd`.
    Docker,
    /// A real Podman.
    Podman,
    /// Our own, behind one that does everything twice.
    Repeating,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Embedded, Self::Docker, Self::Podman, Self::Repeating];

    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Repeating => "repeating",
        }
    }

    /// Whether it is a daemon of somebody else's, that has an interface of its own.
    pub fn is_daemon(self) -> bool {
        matches!(self, Self::Docker | Self::Podman)
    }

    /// What it lacks on this machine, if it cannot be tried.
    pub fn missing(self) -> Option<String> {
        let programs: &[&str] = match self {
            Self::Embedded | Self::Repeating => &[],
            Self::Docker => &["dockerd", "docker", "unshare", "ip"],
            Self::Podman => &["podman", "runc", "unshare", "ip"],
        };
        if !programs.is_empty() && !rustix::process::geteuid().is_root() {
            return Some("it is started as root only".to_owned());
        }
        let program = programs.iter().find(|program| !is_here(program))?;
        Some(format!("there is no `{program}` here"))
    }
}

/// Whether there is such a program on this machine.
pub fn is_here(name: &str) -> bool {
    program(name).is_some()
}

/// What Podman is told of the first process that it gives to containers: its own is a package of its own, and Docker's
/// does the same.
pub fn own_first_process() -> String {
    program("docker-init").map(|path| format!("[engine]\ninit_path = {path:?}\n")).unwrap_or_default()
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.exists())
}

/// An engine with what a test needs of it.
pub struct Subject {
    pub engine: Box<dyn Engine>,
    /// An image with a shell, an account `dev` (1000, in the group 50 too) and nothing else.
    pub base: BaseSource,
    /// A folder for projects.
    pub folder: PathBuf,
    /// The engine's own interface, where it has one.
    pub api: Option<Api>,
    /// Where it listens.
    pub host: Option<String>,
}

impl Subject {
    /// Does something in the network that the engine is in: there its containers have their addresses, and what is
    /// started here is there too.
    pub fn within(&self, act: impl FnOnce() + Send) {
        let network = self.host.as_ref().map(|host| {
            let socket = std::os::unix::net::UnixStream::connect(host.trim_start_matches("unix://")).unwrap();
            let process = rustix::net::sockopt::socket_peercred(socket).unwrap().pid;
            fs::File::open(format!("/proc/{process}/ns/net")).unwrap()
        });
        let act = || {
            if let Some(network) = network {
                let kind = Some(rustix::thread::LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(network.as_fd(), kind).unwrap();
            }
            act();
        };
        // A network is a thread's.
        if let Err(panic) = std::thread::scope(|scope| scope.spawn(act).join()) {
            std::panic::resume_unwind(panic);
        }
    }
}

/// The folder that all lies in, and what runs there.
pub struct Place {
    folder: tempfile::TempDir,
    engines: [OnceLock<Subject>; 4],
    daemons: [OnceLock<Daemon>; 2],
}

/// Hears nothing.
pub struct Deaf;

impl Watcher for Deaf {
    fn event(&self, _: &Event) {}
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("setpoint-engines-").tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder, engines: Default::default(), daemons: Default::default() }
    }

    /// An engine, which is started when it is first asked for.
    pub fn engine(&self, kind: Kind) -> &Subject {
        self.engines[kind as usize].get_or_init(|| {
            let missing = kind.missing();
            assert!(missing.is_none(), "{}", missing.unwrap_or_default());
            let folder = self.folder.path().join(kind.name());
            fs::create_dir_all(&folder).unwrap();
            let rootfs = folder.join("rootfs.tar");
            if !rootfs.exists() {
                write_rootfs(&folder.join("rootfs"), &rootfs);
            }
            let engine = self.open(kind, &folder);
            let base = BaseSource::Rootfs { path: rootfs };
            engine.prepare(&base, Pull::Missing, &Deaf, &Cancel::default()).unwrap();
            if kind.is_daemon() {
                // By the name that manifests have for it.
                self.client(kind, &["import", &rootfs_name(&folder), "docker.io/library/base:1"]);
            }
            let daemon = self.daemon(kind);
            let api = daemon.map(|daemon| Api::new(&daemon.socket));
            Subject { engine, base, folder, api, host: daemon.map(Daemon::host) }
        })
    }

    fn daemon(&self, kind: Kind) -> Option<&Daemon> {
        match kind {
            Kind::Docker => self.daemons[0].get(),
            Kind::Podman => self.daemons[1].get(),
            Kind::Embedded | Kind::Repeating => None,
        }
    }

    fn open(&self, kind: Kind, folder: &Path) -> Box<dyn Engine> {
        let (roots, variables) = surroundings(folder, self.variables(kind));
        match kind {
            Kind::Embedded => engine::open(EngineKind::Embedded, &roots, &variables),
            Kind::Repeating => {
                Box::new(Faulty::repeating(engine::open(EngineKind::Embedded, &roots, &variables)))
            }
            Kind::Docker => engine::open(EngineKind::Docker, &roots, &variables),
            Kind::Podman => engine::open(EngineKind::Podman, &roots, &variables),
        }
    }

    /// The variables by which an engine is found; its daemon is started when they are first asked for.
    pub fn variables(&self, kind: Kind) -> BTreeMap<String, String> {
        let folder = self.folder.path().join(kind.name());
        let (name, daemon) = match kind {
            Kind::Embedded | Kind::Repeating => return BTreeMap::new(),
            Kind::Docker => ("DOCKER_HOST", self.daemons[0].get_or_init(|| Daemon::docker(&folder))),
            Kind::Podman => ("CONTAINER_HOST", self.daemons[1].get_or_init(|| Daemon::podman(&folder))),
        };
        BTreeMap::from([(name.to_owned(), daemon.host())])
    }

    /// Where an engine listens that is a daemon.
    pub fn host(&self, kind: Kind) -> String {
        format!("unix://{}", self.folder.path().join(kind.name()).join("engine.sock").display())
    }

    /// The process whose network is that of an engine that is a daemon.
    pub fn process(&self, kind: Kind) -> u32 {
        let index = usize::from(kind == Kind::Podman);
        self.daemons[index].get().unwrap().child.lock().unwrap().id()
    }

    /// Whether a process with these words in its command line runs in a container.
    pub fn runs_somewhere(&self, words: &str) -> bool {
        let ids = self.docker(&["ps", "--no-trunc", "-q"]);
        ids.lines().any(|id| {
            let top =
                Command::new("docker").arg("-H").arg(self.host(Kind::Docker)).args(["top", id]).output();
            // One that has just gone runs nothing.
            top.is_ok_and(|top| String::from_utf8_lossy(&top.stdout).contains(words))
        })
    }

    /// What Docker's own client says.
    pub fn docker(&self, words: &[&str]) -> String {
        self.client(Kind::Docker, words)
    }

    /// What an engine's own client says.
    pub fn client(&self, kind: Kind, words: &[&str]) -> String {
        let host = self.host(kind);
        let mut client = match kind {
            Kind::Podman => Command::new("podman"),
            _ => Command::new("docker"),
        };
        let how = if kind == Kind::Podman { ["--url", &host] } else { ["-H", &host] };
        let done = client.args(how).args(words).output().unwrap();
        assert!(
            done.status.success(),
            "{} {words:?}: {}",
            kind.name(),
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// Stops what was started; tells what is left of the tests.
    pub fn close(&self) -> Vec<String> {
        let mut left = Vec::new();
        for subject in self.engines.iter().filter_map(OnceLock::get) {
            let name = subject.engine.capabilities().engine;
            match subject.engine.units() {
                Ok(units) => left.extend(units.iter().map(|(id, _)| format!("{name}: {}", id.as_str()))),
                Err(error) => left.push(format!("{name}: {error}")),
            }
            if let Some(api) = &subject.api {
                // What no state names any more.
                let swept = subject.engine.sweep_steps(&Vec::new);
                left.extend(swept.err().map(|error| format!("{name}: {error}")));
                let (running, images) = api.of_steps();
                left.extend(running.into_iter().chain(images).map(|what| format!("{name}: {what}")));
            }
        }
        for daemon in self.daemons.iter().filter_map(OnceLock::get) {
            daemon.stop();
        }
        for kind in Kind::ALL {
            left.extend(leaks::networks(&self.folder.path().join(kind.name())));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let ours = self.folder.path().to_string_lossy().into_owned();
        left.extend(mounts.lines().filter(|line| line.contains(&ours)).map(|line| format!("mount {line}")));
        left
    }
}

/// A state of its own below a folder, and the variables of somebody who lives there.
pub fn surroundings(folder: &Path, more: BTreeMap<String, String>) -> (Roots, BTreeMap<String, String>) {
    let of_state = [("SETPOINT_STATE", "state"), ("SETPOINT_CONFIG", "config")];
    let of_state = Variables::from(of_state.map(|(name, part)| (name.into(), folder.join(part).into())));
    let roots = Roots::from_variables(&of_state, rustix::process::geteuid().is_root()).unwrap();
    let mut variables = more;
    variables.insert("HOME".to_owned(), folder.to_string_lossy().into_owned());
    (roots, variables)
}

/// A daemon that was started for the tests, with mounts and a network of its own.
struct Daemon {
    socket: PathBuf,
    child: std::sync::Mutex<Child>,
    ended_by: Signal,
}

impl Daemon {
    fn docker(folder: &Path) -> Self {
        let script = "ip link set lo up && exec dockerd --data-root \"$1/root\" --exec-root \"$1/exec\" \
                      -H \"unix://$1/engine.sock\" --pidfile \"$1/pid\"";
        Self::start(folder, &["--mount", "--net"], script, &[], Signal::TERM)
    }

    fn podman(folder: &Path) -> Self {
        // By itself it asks for more than every machine gives.
        use rustix::process::{Resource, getrlimit};
        let limit = |name: &str, which| {
            let most = getrlimit(which).maximum.map_or(4096, |most| most.min(4096));
            format!("\"{name}={most}:{most}\"")
        };
        let (files, processes) = (limit("nofile", Resource::Nofile), limit("nproc", Resource::Nproc));
        let first = own_first_process();
        // By itself it writes into /etc, which pipelines on the host's own system see.
        let networks = folder.join("networks");
        let settings = format!(
            "[containers]\ndefault_ulimits = [{files}, {processes}]\n[network]\nnetwork_config_dir = {networks:?}\n{first}"
        );
        fs::write(folder.join("containers.conf"), settings).unwrap();
        // What it keeps there of networks and names is for its own namespace alone.
        let script = "ip link set lo up && mount -t tmpfs none /run && exec podman --root \"$1/root\" --runroot \"$1/run\" --runtime runc \
                      --cgroup-manager cgroupfs --events-backend file --log-level warn system service --time 0 \
                      \"unix://$1/engine.sock\"";
        fs::create_dir_all(folder.join("tmp")).unwrap();
        let variables = [("CONTAINERS_CONF", folder.join("containers.conf")), ("TMPDIR", folder.join("tmp"))];
        // What it leaves behind for a while goes with its first process.
        let apart = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
        Self::start(folder, &apart, script, &variables, Signal::KILL)
    }

    fn start(
        folder: &Path,
        apart: &[&str],
        script: &str,
        variables: &[(&str, PathBuf)],
        ended_by: Signal,
    ) -> Self {
        let socket = folder.join("engine.sock");
        let log = fs::File::create(folder.join("daemon.log")).unwrap();
        let child = Command::new("unshare")
            .args(apart)
            .args(["--", "/bin/sh", "-c", script, "sh"])
            .arg(folder)
            .envs(variables.iter().map(|(name, value)| (name, value.as_os_str())))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let daemon = Self { socket, child: child.into(), ended_by };
        let began = Instant::now();
        while std::os::unix::net::UnixStream::connect(&daemon.socket).is_err() {
            let ended = daemon.child.lock().unwrap().try_wait().unwrap();
            let log = || fs::read_to_string(folder.join("daemon.log")).unwrap_or_default();
            assert!(ended.is_none(), "it ended: {}", log());
            assert!(began.elapsed() < Duration::from_secs(60), "it does not answer: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    fn stop(&self) {
        let mut child = self.child.lock().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let _ = rustix::process::kill_process(pid, self.ended_by);
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if began.elapsed() > Duration::from_secs(30) {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn rootfs_name(folder: &Path) -> String {
    folder.join("rootfs.tar").to_string_lossy().into_owned()
}

/// A root file system of busybox, with an account `dev`.
fn write_rootfs(folder: &Path, archive: &Path) {
    let busybox =
        ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(|path| path.exists());
    let busybox = busybox.expect("there is no busybox here");
    for part in ["bin", "etc", "root", "tmp", "proc", "sys", "dev", "home/dev"] {
        fs::create_dir_all(folder.join(part)).unwrap();
    }
    fs::copy(&busybox, folder.join("bin/busybox")).unwrap();
    let list = Command::new(&busybox).arg("--list").output().unwrap();
    for applet in String::from_utf8(list.stdout).unwrap().lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", folder.join("bin").join(applet)).unwrap();
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\ndev:x:1000:1000::/home/dev:/bin/sh\n";
    fs::write(folder.join("etc/passwd"), passwd).unwrap();
    fs::write(folder.join("etc/group"), "root:x:0:\ndev:x:1000:\nextra:x:50:dev\n").unwrap();
    std::os::unix::fs::chown(folder.join("home/dev"), Some(1000), Some(1000)).unwrap();
    let mut tar = tar::Builder::new(fs::File::create(archive).unwrap());
    tar.follow_symlinks(false);
    tar.append_dir_all(".", folder).unwrap();
    tar.finish().unwrap();
}
