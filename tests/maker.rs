//! A project in git with a registry to release it to, and machines that have nothing but a token and a file of settings.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use crate::harness::{Outcome, Project};
use crate::registry::{Server, USER};
use crate::support::{Blobs, Pack, Tar, busybox, gzip, plain};

/// A service of an image of the project's own, with data, a template, a folder that is mounted, and one that only tells
/// its version.
const MANIFEST: &str = r#"setpoint = 1
[project]
name = "shop"
version = "0.1.0"
up = ["dev", "web", "own"]
[env.dev]
[secret.password]
generate = "hex16"
[service.web]
image = "./image"
user = "root"
network = "host"
command = "echo $SETPOINT_VERSION >> /data/log; exec sleep 100000"
volumes = { data = "/data" }
files = [{ template = "deploy/app.conf.j2", target = "/etc/app.conf" }]
mounts = [{ source = "deploy/static", target = "/static" }, { source = "uploads", target = "/uploads" }]
[service.own]
network = "host"
command = "exec sleep 100000"
[release]
repository = "ADDRESS/acme/shop"
files = ["docs/*.md"]
verify = "20s"
steady = "50ms"
bake = "50ms"
"#;

/// What a machine says for itself.
pub const SETTINGS: &str = "[service.web]\nenv = { PLACE = \"box\" }\nstop_grace = \"1s\"\n";

/// A project in git, with a registry to release it to.
pub struct Maker {
    // It ends first: a project looks at what is left when it is the last.
    pub registry: Server,
    pub project: Project,
}

impl Maker {
    pub fn new() -> Self {
        Self::of(MANIFEST, |maker| {
            maker
                .project
                .write("deploy/app.conf.j2", "{{ version }} {{ env.PLACE }} {{ secret.password }}\n")
                .write("deploy/static/page", "first\n")
                .write("docs/run.md", "how to run it\n")
                .write("docs/notes.txt", "nobody needs it\n")
                .write("uploads/kept", "of the developer\n")
                .write(".gitignore", "/log\n/uploads\n");
            maker.image("first");
        })
    }

    /// A project with this manifest, which has the registry for `ADDRESS`, and what else is written.
    pub fn of(manifest: &str, write: impl FnOnce(&Self)) -> Self {
        let registry = Server::with_login();
        let mut project = Project::new(&manifest.replace("ADDRESS", &registry.address));
        logged_in(&mut project, &registry.address, USER.1);
        let maker = Self { project, registry };
        write(&maker);
        maker.git(&["init", "--quiet"]);
        maker.commit();
        maker
    }

    /// Puts an image with this note where the manifest has it.
    pub fn image(&self, note: &str) {
        let folder = self.project.root.join("image");
        let _ = fs::remove_dir_all(&folder);
        let mut blobs = Blobs::default();
        let accounts = Tar::default()
            .dir("etc/", 0o755)
            .file("etc/passwd", b"root:x:0:0:root:/:/bin/sh\n")
            .file("etc/group", b"root:x:0:\n")
            .dir("data/", 0o755)
            .end();
        let entry = blobs.image(&[(busybox(note), gzip as Pack), (accounts, plain)]);
        blobs.layout(&entry, &folder);
    }

    pub fn git(&self, words: &[&str]) {
        let done = Command::new("git")
            .arg("-C")
            .arg(&self.project.root)
            .args(["-c", "user.name=ann", "-c", "user.email=ann@example.org"])
            .args(words)
            .output()
            .unwrap();
        assert!(done.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    pub fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", "as it is"]);
    }

    /// Releases what is there as a version.
    pub fn release(&self, version: &str) -> String {
        let text = self.project.read("setpoint.toml");
        let before = text.lines().find(|line| line.starts_with("version = ")).unwrap().to_owned();
        self.project.declare(&before, &format!("version = \"{version}\""));
        self.commit();
        let released = self.project.run(&["release", version, "--json"]);
        released.exits(0);
        released.json()["digest"].as_str().unwrap().to_owned()
    }

    pub fn address(&self, version: &str) -> String {
        format!("oci://{}/acme/shop:{version}", self.registry.address)
    }

    /// A machine with nothing but a login and a file of settings.
    pub fn machine(&self) -> Project {
        let mut machine = Project::new("");
        fs::remove_file(machine.root.join("log")).unwrap();
        fs::write(machine.at("settings.toml"), SETTINGS).unwrap();
        // What every system has that data is copied with, and neither git nor anything else.
        let programs = machine.at("programs");
        fs::create_dir(&programs).unwrap();
        symlink("/bin/cp", programs.join("cp")).unwrap();
        machine.set("PATH", &programs.display().to_string());
        logged_in(&mut machine, &self.registry.address, USER.1);
        machine
    }

    pub fn init(&self, machine: &Project, version: &str) -> Outcome {
        let settings = machine.at("settings.toml").display().to_string();
        machine.run(&["init", &self.address(version), "--config", &settings])
    }

    /// Where the registry keeps a blob of a release.
    pub fn part(&self, digest: &str, which: &str) -> std::path::PathBuf {
        let document: serde_json::Value =
            serde_json::from_slice(&fs::read(self.registry.blob(digest)).unwrap()).unwrap();
        let part = if which == "config" { &document["config"] } else { &document["layers"][0] };
        self.registry.blob(part["digest"].as_str().unwrap())
    }
}

/// Leaves the password for a registry in a file, as a machine has its token.
pub fn logged_in(project: &mut Project, registry: &str, password: &str) {
    let file = project.at("token");
    fs::write(&file, password).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    project.set("SETPOINT_REGISTRY_HOST", registry);
    project.set("SETPOINT_REGISTRY_USER", USER.0);
    project.set("SETPOINT_REGISTRY_PASSWORD_FILE", &file.display().to_string());
}

/// Makes a key, as people do; gives its private half.
pub fn key(folder: &Path, name: &str) -> String {
    let private = folder.join(format!("{name}.key"));
    let openssl = |words: &[&str]| {
        let done = Command::new("openssl").args(words).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    };
    let path = private.display().to_string();
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", &path]);
    fs::write(folder.join(format!("{name}.pub")), openssl(&["pkey", "-in", &path, "-pubout"])).unwrap();
    path
}

/// What a command prints in a service.
#[track_caller]
pub fn inside(machine: &Project, unit: &str, words: &str) -> String {
    let outcome = machine.run(&["exec", unit, "--", "/bin/sh", "-c", words]);
    outcome.exits(0);
    outcome.stdout.trim_end().to_owned()
}

#[track_caller]
pub fn up(machine: &Project) -> Outcome {
    let outcome = machine.run(&["up", "--no-daemon"]);
    outcome.exits(0);
    outcome
}
