//! The disk that holds the state is full, at any moment of what changes a version or saves data: what is full is named, the
//! old version goes on with its data, and as soon as there is room again the next command does the same as ever.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::thread::UnshareFlags;

use crate::harness::{Outcome, Project, finish, go_on, until};
use crate::registry::Server;
use crate::support::{Blobs, Tar, busybox, gzip};

/// A service whose data tells which versions worked on it, and one that only runs.
const MANIFEST: &str = r#"setpoint = 1
[project]
name = "shop"
version = "1.0.0"
[release]
verify = "5s"
steady = "20ms"
bake = "20ms"
[release.migrations]
in = "db"
[service.db]
base = "host"
user = "root"
network = "host"
volumes = { data = "/data" }
command = "trap 'exit 0' TERM; echo begun >> /data/log; sleep 1000 & wait $!"
stop_grace = "2s"
"#;

const MIB: u64 = 1 << 20;

/// A file system in the place of the state, which nobody sees but this thread and what it starts: it goes with them.
struct Disk<'a> {
    project: &'a Project,
    at: PathBuf,
}

impl<'a> Disk<'a> {
    fn new(project: &'a Project) -> Self {
        #[expect(deprecated, reason = "no descriptor is shared by it, which is what the other one warns of")]
        rustix::thread::unshare(UnshareFlags::NEWNS).unwrap();
        let at = project.state();
        fs::create_dir(&at).unwrap();
        mount(&["--make-rprivate", "/"]);
        // As much as the doctor asks for, and as much again.
        mount(&["-t", "tmpfs", "-o", "size=640m,mode=700", "none", &at.to_string_lossy()]);
        Self { project, at }
    }

    fn free(&self) -> u64 {
        let disk = rustix::fs::statvfs(&self.at).unwrap();
        disk.f_bavail * disk.f_frsize
    }

    /// Fills it but for so many bytes.
    fn fill(&self, leaving: u64) {
        let file = File::options().create(true).append(true).open(self.filler()).unwrap();
        until("it is full", || {
            let size = file.metadata().unwrap().len();
            // What runs may write in between.
            let more = self.free().saturating_sub(leaving);
            more == 0 || fallocate(&file, FallocateFlags::empty(), size, more).is_ok()
        });
    }

    fn filler(&self) -> PathBuf {
        self.at.join("of-somebody-else")
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    /// Runs a command during which the disk is full from a point on, but for so many bytes.
    fn full_from(&self, point: &str, leaving: u64, arguments: &[&str]) -> Outcome {
        let held = self.project.held_at(point, arguments);
        self.fill(leaving);
        go_on(&held);
        finish(held)
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.filler());
        self.project.run(&["uninstall", "--yes"]);
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

fn mount(arguments: &[&str]) {
    assert!(Command::new("mount").args(arguments).status().unwrap().success(), "{arguments:?}");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What the versions have written, which tells that one runs, too.
fn log(project: &Project) -> String {
    let outcome = project.run(&["exec", "db", "--", "sh", "-c", "cat /data/log"]);
    if outcome.code == 0 { outcome.stdout.replace('\n', " ").trim().to_owned() } else { outcome.to_string() }
}

/// The old version runs, on its data, to which nothing was done but by itself.
#[track_caller]
fn is_old(project: &Project, what: &str) {
    let log = log(project);
    assert!(!log.is_empty() && log.split(' ').all(|word| word == "begun"), "{what}: {log}");
}

const UPGRADE: &[&str] = &["upgrade", "--no-daemon"];

#[test]
fn a_disk_that_gets_full_in_an_upgrade_ends_it_at_the_old_version() {
    if !is_root() {
        return;
    }
    let project = Project::new(MANIFEST);
    let disk = Disk::new(&project);
    let at = format!("make room at {}", disk.at.display());
    project.run(&["up", "--no-daemon"]).exits(0);
    until("it has begun", || log(&project) == "begun");
    project.run(&["exec", "db", "--", "sh", "-c", "head -c 20M /dev/urandom > /data/much"]).exits(0);
    // A migration of the data, which is copied for it.
    project.declare("1.0.0", "2.0.0").write("migrations/2.0.0/1-moved.sh", "echo moved >> /data/log\n");

    // With too little room nothing is begun.
    disk.fill(2 * MIB);
    project.run(UPGRADE).exits(10).says("disk-space");
    disk.make_room();
    let large = |script: &str| {
        project.run(&["exec", "db", "--", "sh", "-c", script]).exits(0);
    };
    large("fallocate -l 330M /data/large");
    let refused = project.run(UPGRADE);
    refused.exits(7).says("copies of shop_data need").says("too few").says("Nothing was done");
    large("rm /data/large");

    let copy = "copy shop_data.1.announced";
    let free = disk.free();
    let failed = disk.full_from(copy, 5 * MIB, UPGRADE);
    failed.exits(1).says("a copy of the volume shop_data needs 20MiB").says("MiB left").says(&at);
    failed.says("Rolled back");
    is_old(&project, copy);
    disk.make_room();
    assert!(disk.free() + MIB > free, "{} of {free} left", disk.free());

    // What is to be written down is written into the room that was kept for it.
    for point in ["set-aside db.recorded", "migrate.begun", "steady.announced", "commit.announced"] {
        let failed = disk.full_from(point, 0, UPGRADE);
        failed.exits(1).says("Rolled back").says(&at);
        is_old(&project, point);
        project.run(&["recover"]).exits(0).says("nothing to recover");
        disk.make_room();
    }
    // A process that died keeps no room for anybody.
    let mut failed = 0;
    for point in ["migrate.ran", "steady.announced"] {
        let mut held = project.held_at(point, UPGRADE);
        held.kill().unwrap();
        held.wait().unwrap();
        for _ in 0..2 {
            disk.fill(0);
            let tried = project.run(&["recover"]);
            // The journal may have had room for it in what it had written before.
            if tried.code != 0 {
                tried.exits(8).says(&at);
                failed += 1;
            }
        }
        disk.make_room();
        project.run(&["status"]).exits(0);
        // The next command that changes something puts it in order by itself.
        project.run(&["restart", "db"]).exits(0);
        is_old(&project, point);
    }
    assert!(failed > 0);
    // After the commit there is only the way on.
    let done = disk.full_from("commit.acted", 0, UPGRADE);
    assert!(done.code == 0 || done.said().contains("The new version is in effect"), "{done}");
    disk.make_room();
    project.run(&["recover"]).exits(0);
    assert!(log(&project).contains("moved begun"), "{}", log(&project));
    project.run(&["rollback", "--discard-writes", "--no-daemon"]).exits(0);
    is_old(&project, "a rollback");
    project.run(UPGRADE).exits(0);
    let log = log(&project);
    assert_eq!(log.matches("moved").count(), 1, "{log}");
}

#[test]
fn an_image_that_does_not_fit_leaves_nothing_of_it_on_the_disk() {
    if !is_root() {
        return;
    }
    let mut server = Server::open();
    let push = |name: &str, note: &str, more: &[u8]| {
        let mut blobs = Blobs::default();
        let much = Tar::default().file("much", more).end();
        let manifest = blobs.image(&[(busybox(note), gzip), (much, gzip)]);
        server.push(&blobs, &[&manifest], name);
    };
    push("team/box:1", "one", b"");
    let mut much = vec![0; 20 * MIB as usize];
    fastrand::Rng::with_seed(1).fill(&mut much);
    push("team/box:2", "two", &much);
    let service = |image: &str| format!("image = \"{}/team/{image}\"", server.address);
    let project = Project::new(&MANIFEST.replace("base = \"host\"", &service("box:1")));
    let disk = Disk::new(&project);
    project.run(&["up", "--no-daemon"]).exits(0);
    until("it has begun", || log(&project) == "begun");
    let since = |project: &Project| project.status()["since"].to_string();
    let (began, free) = (since(&project), disk.free());
    project.declare(&service("box:1"), &service("box:2"));
    // It is not to be fetched, or fetched and not to be unpacked.
    for leaving in [10, 30] {
        let failed = disk.full_from("fetch db.announced", leaving * MIB, UPGRADE);
        failed.exits(1).says("fetch db").says("No space left on device").says("Nothing was touched");
        failed.says(&format!("make room at {}", disk.at.display()));
        assert_eq!(since(&project), began);
        is_old(&project, "a fetch");
        disk.make_room();
        // The layer that did fit is kept.
        assert!(disk.free() + 4 * MIB > free, "{} of {free} left", disk.free());
    }
    project.run(UPGRADE).exits(0);
    assert_eq!(log(&project), "begun begun");
    drop(disk);
    server.stop();
}

#[test]
fn a_disk_that_gets_full_in_a_backup_ends_it_and_what_it_stopped_runs_again() {
    if !is_root() {
        return;
    }
    let project = Project::new(MANIFEST);
    let disk = Disk::new(&project);
    project.run(&["up", "--no-daemon"]).exits(0);
    until("it has begun", || log(&project) == "begun");
    project.run(&["exec", "db", "--", "sh", "-c", "head -c 20M /dev/urandom > /data/much"]).exits(0);
    let to = project.at("backups").display().to_string();
    let backup = ["backup", "db", "--to", to.as_str()];
    for leaving in [5 * MIB, 0] {
        let failed = disk.full_from("backup.stopped", leaving, &backup);
        failed.exits(7).says("a copy of the volume shop_data needs 20MiB");
        failed.says(&format!("make room at {}", disk.at.display()));
        is_old(&project, "a backup");
        disk.make_room();
    }
    disk.fill(0);
    let failed = project.run(&backup);
    assert!([7, 8].contains(&failed.code), "{failed}");
    failed.says(&format!("make room at {}", disk.at.display()));
    is_old(&project, "a backup that never began");
    disk.make_room();
    project.run(&backup).exits(0);
    let names = fs::read_dir(disk.at.join("volumes/v1")).unwrap().flatten().map(|entry| entry.file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["shop_data"]);
    assert!(!Path::new(&disk.at).join("backups/v1").read_dir().is_ok_and(|mut left| left.next().is_some()));
}
