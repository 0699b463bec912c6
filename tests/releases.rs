//! Versions of a project that go through a registry, to machines that have nothing but a token and a file of settings.

use std::fs;

use crate::maker::{Maker, SETTINGS, inside, key, logged_in, up};
use crate::registry::USER;
use crate::support::{Blobs, busybox, gzip};

#[test]
fn a_release_stands_on_a_bare_machine_and_goes_on_to_the_next() {
    let maker = Maker::new();
    let first = maker.release("0.1.0");
    assert!(maker.project.read("setpoint.lock").contains(&first));
    // The file that a release writes is in nobody's way, and the same again is the same.
    maker.project.run(&["release", "v0.1.0"]).exits(0).says("is there already").says(&first);

    let machine = maker.machine();
    let settings = machine.at("settings.toml").display().to_string();
    let dry = ["init", &maker.address("v0.1.0"), "--config", &settings, "--dry-run"];
    machine.run(&dry).exits(0).says("would become shop 0.1.0").says("own, web");
    assert!(fs::read_dir(&machine.root).unwrap().next().is_none());
    maker.init(&machine, "v0.1.0").exits(0).says(&first).says("Next: setpoint up");
    maker.init(&machine, "v0.1.0").exits(0);
    fs::create_dir(machine.root.join("uploads")).unwrap();
    fs::write(machine.root.join("uploads/kept"), "of the box\n").unwrap();
    up(&machine);
    let config = inside(&machine, "web", "cat /etc/app.conf");
    assert!(config.starts_with("0.1.0 box ") && config.len() > "0.1.0 box ".len(), "{config}");
    assert_eq!(
        inside(&machine, "web", "cat /note /static/page /uploads/kept /data/log"),
        "firstfirst\nof the box\n0.1.0"
    );
    assert_eq!(inside(&machine, "own", "echo $SETPOINT_VERSION"), "0.1.0");
    inside(&machine, "web", ": > /uploads/more");
    machine.run(&["exec", "web", "--", "/bin/sh", "-c", ": > /static/more"]).exits(1).says("Read-only");
    let status = machine.run(&["status", "--json"]).json();
    assert_eq!(status["mode"], "pinned");
    assert_eq!((&status["version"], &status["release"]), (&"0.1.0".into(), &first.as_str().into()));
    machine.run(&["up", "--no-daemon"]).exits(0).says("web: nothing to do");
    let kept = machine.state().join("releases/v1").join(first.trim_start_matches("sha256:")).join("files");
    let files = ["setpoint.toml", "deploy/static/page", "docs/run.md"].map(|file| kept.join(file).exists());
    assert_eq!((files, kept.join("docs/notes.txt").exists()), ([true; 3], false));

    // Another image, another file in a folder, a service more and one less.
    maker.image("second");
    maker.project.write("deploy/static/page", "second\n");
    maker.project.declare("[service.own]", "[service.other]").declare("\"own\"]", "\"other\"]");
    let second = maker.release("0.2.0");
    assert_ne!(first, second);
    machine.run(&["upgrade", "v0.2.0", "--dry-run"]).exits(0).says("0.1.0 (generation 0) -> 0.2.0");
    machine.run(&["upgrade", "v0.2.0", "--no-daemon"]).exits(0).says("is at 0.2.0 (generation 1)");
    assert_eq!(inside(&machine, "web", "cat /note /static/page /data/log"), "secondsecond\n0.1.0\n0.2.0");
    assert_eq!(inside(&machine, "other", "echo $SETPOINT_VERSION"), "0.2.0");
    let status = machine.run(&["status"]);
    status.exits(0).says("shop 0.2.0").says(&format!("from oci://{}/acme/shop", maker.registry.address));
    status.says_not("own ");
    machine.run(&["upgrade", "--to-latest"]).exits(0).says("nothing to do");
    machine.run(&["upgrade", "0.1.0"]).exits(2).says("comes before 0.2.0").says("setpoint rollback 0.1.0");

    machine.run(&["rollback", "0.1.0", "--discard-writes", "--no-daemon"]).exits(0).says("back at 0.1.0");
    assert_eq!(inside(&machine, "web", "cat /note /static/page /data/log"), "firstfirst\n0.1.0\n0.1.0");
    assert_eq!(inside(&machine, "own", "echo $SETPOINT_VERSION"), "0.1.0");
    machine.run(&["upgrade", "--to-latest", "--no-daemon"]).exits(0).says("is at 0.2.0 (generation 3)");
    machine.run(&["history"]).exits(0).says("0.1.0 -> 0.2.0").says("0.2.0 -> 0.1.0");
    machine.run(&["down", "--volumes", "--yes"]).exits(0);
}

/// A service that each version changes, and one that stays as it is until a file is another one.
const TWO_PACES: &str = r#"setpoint = 1
[project]
name = "shop"
version = "0.1.0"
[service.own]
network = "host"
command = "exec sleep 100000"
[service.still]
image = "ADDRESS/acme/still:1"
user = "root"
network = "host"
command = "exec sleep 100000"
mounts = [{ source = "page", target = "/page" }]
[release]
repository = "ADDRESS/acme/shop"
verify = "20s"
steady = "10ms"
bake = "10ms"
"#;

#[test]
fn releases_that_nothing_needs_any_more_go() {
    let maker = Maker::of(TWO_PACES, |maker| {
        let mut blobs = Blobs::default();
        let image = blobs.image(&[(busybox("still"), gzip)]);
        maker.registry.push(&blobs, &[&image], "acme/still:1");
        maker.project.write("page/words", "first\n");
    });
    let (machine, mut neighbour) = (maker.machine(), maker.machine());
    neighbour.set("SETPOINT_STATE", &machine.state().display().to_string());
    let mut digests = Vec::new();
    let mut release = |number: usize| digests.push(maker.release(&format!("0.{number}.0")));
    let here = |digests: &[String]| -> Vec<usize> {
        let folder = machine.state().join("releases/v1");
        let is_here = |digest: &String| folder.join(digest.trim_start_matches("sha256:")).exists();
        (1..).zip(digests).filter(|(_, digest)| is_here(digest)).map(|(number, _)| number).collect()
    };
    let upgrade = |number: usize| {
        let version = format!("0.{number}.0");
        machine.run(&["upgrade", &version, "--no-daemon"]).exits(0).says(&format!("is at {version}"));
    };
    release(1);
    machine.run(&["init", &maker.address("0.1.0")]).exits(0);
    up(&machine);
    release(2);
    upgrade(2);
    neighbour.run(&["init", &maker.address("0.2.0")]).exits(0);
    release(3);
    upgrade(3);
    // One generation is kept, and what no version has changed has its files of the first.
    machine.run(&["restart", "still"]).exits(0);
    assert_eq!(inside(&machine, "still", "cat /page/words"), "first");
    maker.project.write("page/words", "second\n");
    release(4);
    assert_eq!(here(&digests), [1, 2, 3]);
    upgrade(4);
    assert_eq!(inside(&machine, "still", "cat /page/words"), "second");
    // It is set aside, and may come back.
    assert_eq!(here(&digests), [1, 2, 3, 4]);
    machine.run(&["rollback", "--no-daemon"]).exits(0).says("back at 0.3.0");
    assert_eq!(inside(&machine, "still", "cat /page/words"), "first");
    upgrade(4);
    let mut release = |number: usize| digests.push(maker.release(&format!("0.{number}.0")));
    release(5);
    upgrade(5);
    assert_eq!(here(&digests), [2, 4, 5], "what another project is made of stays");
    neighbour.run(&["status"]).exits(0).says("shop 0.2.0");
    machine.run(&["rollback", "0.3.0"]).exits(5).says("nothing is kept of 0.3.0");
    machine.run(&["rollback", "--no-daemon"]).exits(0).says("back at 0.4.0");
    assert_eq!(inside(&machine, "own", "echo $SETPOINT_VERSION"), "0.4.0");
    machine.run(&["down"]).exits(0);
}

#[test]
fn what_cannot_be_released_is_told() {
    let maker = Maker::new();
    let project = &maker.project;
    project.run(&["release", "one"]).exits(2).says("`one` is no version");
    project.run(&["release", "0.1.0", "--push", "shop"]).exits(2).says("has no `/`");
    project.run(&["release", "0.2.0"]).exits(1).says("says that this is version 0.1.0");
    project.write("new", "");
    project.run(&["release", "0.1.0"]).exits(1).says("in no commit: new");
    maker.commit();
    project.write("deploy/static/page", "changed\n");
    project.run(&["release", "0.1.0"]).exits(1).says("in no commit: deploy/static/page");
    maker.commit();
    maker.release("0.1.0");
    project.write("deploy/static/page", "changed again\n");
    maker.commit();
    project.run(&["release", "0.1.0"]).exits(1).says("the tag v0.1.0 is on commit");
    maker.git(&["tag", "--delete", "v0.1.0"]);
    project.run(&["release", "0.1.0"]).exits(1).says("with other content: deploy/static/page");
    maker.image("other");
    maker.commit();
    project.run(&["release", "0.1.0"]).exits(1).says("with other content: the image of web");
    project.declare("[release]", "[service.root]\nrootfs = \"x\"\ncommand = \"true\"\n[release]");
    project.write("x", "");
    maker.commit();
    project
        .run(&["release", "0.1.0"])
        .exits(4)
        .says("`root` is built on a root file system")
        .says("setpoint.toml:");
    project
        .declare("rootfs = \"x\"", "base = \"host\"\nfiles = [{ template = \"gone.j2\", target = \"/x\" }]");
    maker.commit();
    project.run(&["release", "0.1.0"]).says("gone.j2");
    // What git leaves out is nobody's but this machine's.
    project.declare("gone.j2", "uploads/kept");
    maker.commit();
    project.run(&["release", "0.1.0"]).exits(1).says("uploads/kept").says("git has no such file");
    fs::rename(project.root.join(".git"), project.at("git")).unwrap();
    project.run(&["release", "0.1.0"]).exits(1).says("git cannot tell");
}

#[test]
fn what_cannot_be_taken_into_use_is_told() {
    let maker = Maker::new();
    maker.release("0.1.0");
    maker.release("0.2.0");
    let mut machine = maker.machine();
    maker.init(&machine, "0.1.1").exits(5).says("no version 0.1.1").says("there is: 0.1.0, 0.2.0");
    machine.run(&["init", &maker.address("latest")]).exits(2).says("`latest` is no version");
    machine.run(&["init", "oci://nowhere/x"]).exits(2).says("name of a registry");
    let mut blobs = Blobs::default();
    let image = blobs.image(&[(busybox("other"), gzip)]);
    maker.registry.push(&blobs, &[&image], "acme/other:1.0.0");
    let other = format!("oci://{}/acme/other:1.0.0", maker.registry.address);
    machine.run(&["init", &other]).exits(5).says("is no release of a project");
    logged_in(&mut machine, &maker.registry.address, "another");
    maker.init(&machine, "0.1.0").exits(7).says("refused the login").says_not("another");
    machine.set("SETPOINT_REGISTRY_USER", "");
    machine.set("SETPOINT_REGISTRY_PASSWORD_FILE", "");
    maker.init(&machine, "0.1.0").exits(7).says("wants a login");
    logged_in(&mut machine, &maker.registry.address, USER.1);
    // Settings that do not fit the release are told before anything is written.
    fs::write(machine.at("settings.toml"), "[service.web]\nimagination = 1\n").unwrap();
    maker.init(&machine, "0.1.0").exits(4).says("setpoint.local.toml:2:1").says("imagination");
    assert!(fs::read_dir(&machine.root).unwrap().next().is_none());
    fs::write(machine.at("settings.toml"), SETTINGS).unwrap();
    machine.write("setpoint.toml", "setpoint = 1\n[env.dev]\n");
    maker.init(&machine, "0.1.0").exits(2).says("is there already").says("--force");
    fs::remove_file(machine.root.join("setpoint.toml")).unwrap();
    maker.init(&machine, "0.1.0").exits(0);
    fs::write(machine.at("settings.toml"), "# others\n").unwrap();
    maker.init(&machine, "0.1.0").exits(2).says("setpoint.local.toml is there already");
    fs::create_dir(machine.root.join("uploads")).unwrap();
    up(&machine);
    machine
        .run(&["init", &maker.address("0.2.0")])
        .exits(2)
        .says("0.1.0 is in effect")
        .says("setpoint upgrade");
    machine.run(&["upgrade", "0.1.7"]).exits(5).says("there is: 0.1.0, 0.2.0");
    machine.run(&["release", "0.3.0"]).exits(2).says("nothing of its own to release");
    machine.run(&["down", "--volumes", "--yes"]).exits(0);
}

#[test]
fn a_release_that_is_not_what_it_was_is_refused() {
    let maker = Maker::new();
    let digest = maker.release("0.1.0");
    let machine = maker.machine();
    for which in ["config", "layer"] {
        let part = maker.part(&digest, which);
        let good = fs::read(&part).unwrap();
        for at in [0, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&part, bad).unwrap();
            maker.init(&machine, "0.1.0").exits(7).says("should have digest");
            assert!(fs::read_dir(&machine.root).unwrap().next().is_none());
        }
        fs::write(&part, good).unwrap();
    }
    let document = maker.registry.blob(&digest);
    let good = fs::read(&document).unwrap();
    fs::write(&document, String::from_utf8(good.clone()).unwrap().replace("shop", "shot")).unwrap();
    maker.init(&machine, "0.1.0").exits(7);
    fs::write(&document, &good).unwrap();
    maker.init(&machine, "0.1.0").exits(0);
    // An image that is gone is told when it is fetched, and nothing was made of it.
    let manifest = fs::read_to_string(
        machine.state().join("releases/v1").join(digest.trim_start_matches("sha256:")).join("bundle.json"),
    );
    let bundle: serde_json::Value = serde_json::from_str(&manifest.unwrap()).unwrap();
    let reference = bundle["images"]["web"]["reference"].as_str().unwrap();
    let image = maker.registry.blob(reference.rsplit_once('@').unwrap().1);
    let good = fs::read(&image).unwrap();
    fs::remove_file(&image).unwrap();
    fs::create_dir(machine.root.join("uploads")).unwrap();
    machine.run(&["up", "--no-daemon", "web"]).exits(7).says("has no").says(&maker.registry.address);
    fs::write(&image, good).unwrap();
    up(&machine);
    machine.run(&["down", "--volumes", "--yes"]).exits(0);
}

#[test]
fn a_release_is_signed_or_its_digest_is_trusted() {
    let maker = Maker::new();
    let folder = maker.project.at("keys");
    fs::create_dir(&folder).unwrap();
    let (ours, theirs) = (key(&folder, "ours"), key(&folder, "theirs"));
    maker.project.write("deploy/seed.sh", "echo $0 > seeded\n").declare(
        "[service.own]",
        "[service.own.first_boot]\nseed = { host = \"sh ./deploy/seed.sh\" }\n[service.own]",
    );
    let head =
        "# setpoint: in = \"host\"\n# setpoint: check = \"true\"\n# setpoint: paths = [\"/srv/own\"]\n";
    maker.project.write("migrations/0.1.0/1-move.sh", &format!("{head}exit 9\n"));
    let digest = maker.release("0.1.0");
    let machine = maker.machine();
    // Nobody has signed for what it would run here.
    let refused = maker.init(&machine, "0.1.0");
    refused
        .exits(6)
        .says("first boot of own, seed: sh ./deploy/seed.sh")
        .says("migration 0.1.0/1-move: migrations/0.1.0/1-move.sh, which change /srv/own")
        .says(&format!("setpoint trust {digest}"));
    assert!(fs::read_dir(&machine.root).unwrap().next().is_none());
    machine.run(&["trust", "sha256:00"]).exits(2).says("is no digest");
    machine.run(&["trust", &digest]).exits(0);
    maker.init(&machine, "0.1.0").exits(0);

    let keys = machine.at("config/keys");
    fs::create_dir(&keys).unwrap();
    let lets_in = |name: &str| fs::copy(folder.join(name), keys.join(name)).map(drop).unwrap();
    lets_in("ours.pub");
    maker.init(&machine, "0.1.0").exits(7).says("is not signed");
    let release = |key: &str| maker.project.run(&["release", "0.1.0", "--key", key]);
    release(&theirs).exits(0).says("is there already").says("signed");
    maker.init(&machine, "0.1.0").exits(7).says("none of the keys in");
    release(&ours).exits(0);
    maker.init(&machine, "0.1.0").exits(0);
    // By another machine, with no word of trust: the signature is enough.
    let other = maker.machine();
    fs::create_dir_all(other.at("config/keys")).unwrap();
    fs::copy(folder.join("ours.pub"), other.at("config/keys/ours.pub")).unwrap();
    maker.init(&other, "0.1.0").exits(0);
    fs::write(other.at("config/keys/bad.pub"), "no key").unwrap();
    maker.init(&other, "0.1.0").exits(2).says("bad.pub cannot be used");
    release("/nowhere").exits(2).says("the key /nowhere cannot be used");
}

#[test]
fn an_init_that_is_cut_off_is_done_again() {
    let maker = Maker::new();
    let digest = maker.release("0.1.0");
    for point in
        ["release.unpacked", "release.kept", "install.configured", "install.active", "install.written"]
    {
        let mut machine = maker.machine();
        machine.set("SETPOINT_CRASH_AT", point);
        let killed = maker.init(&machine, "0.1.0");
        assert_eq!(killed.code, 128 + 9, "{point}: {killed}");
        let has_manifest = machine.root.join("setpoint.toml").exists();
        assert_eq!(has_manifest, point == "install.written", "{point}");
        machine.set("SETPOINT_CRASH_AT", "");
        maker.init(&machine, "0.1.0").exits(0).says(&digest);
        let status = machine.run(&["status", "--json"]);
        assert_eq!(status.exits(0).json()["release"], digest.as_str());
        let left: Vec<_> = fs::read_dir(machine.state().join("releases/v1"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with(".making"))
            .collect();
        assert!(left.is_empty(), "{point}: {left:?}");
    }
}

#[test]
fn a_release_goes_to_a_machine_without_a_registry_in_a_file() {
    let mut maker = Maker::new();
    let (first, second) = (maker.release("0.1.0"), {
        maker.image("second");
        maker.release("0.2.0")
    });
    let file = |version: &str| maker.project.at(&format!("{version}.tar")).display().to_string();
    for (version, digest) in [("0.1.0", &first), ("0.2.0", &second)] {
        let (file, address) = (file(version), maker.address(version));
        maker.project.run(&["bundle", "save", &file, "--release", &address]).exits(0).says(digest);
        maker.project.run(&["bundle", "verify", &file]).exits(0).says("whole");
    }
    let (one, two) = (file("0.1.0"), file("0.2.0"));
    maker.registry.stop();

    let machine = maker.machine();
    maker.init(&machine, "0.1.0").exits(7).says("cannot be reached");
    machine.run(&["bundle", "load", &one]).exits(0).says("1 image").says(&first);
    maker.init(&machine, "0.1.0").exits(0).says(&first);
    fs::create_dir(machine.root.join("uploads")).unwrap();
    up(&machine);
    assert_eq!(inside(&machine, "web", "cat /note"), "first");
    machine.run(&["upgrade", "0.2.0"]).exits(7).says("cannot be reached");
    machine.run(&["bundle", "load", &two]).exits(0);
    machine.run(&["upgrade", "--to-latest", "--no-daemon"]).exits(0).says("is at 0.2.0");
    assert_eq!(inside(&machine, "web", "cat /note /data/log"), "second0.1.0\n0.2.0");
    machine.run(&["down", "--volumes", "--yes"]).exits(0);

    // Every byte counts: of headers, of padding, of documents, of layers.
    let good = fs::read(&one).unwrap();
    let bad = maker.project.at("bad.tar");
    let size = good.len();
    let places = (0..24).map(|part| part * (size / 24)).chain([3, 100, 300, 520, 600, 1030, 1200, size - 1]);
    for at in places {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        fs::write(&bad, &flipped).unwrap();
        let outcome = maker.project.run(&["bundle", "verify", &bad.display().to_string()]);
        assert_ne!(outcome.code, 0, "byte {at}: {outcome}");
        outcome.says_not("scratch");
    }
    fs::write(&bad, [good.as_slice(), b"\0"].concat()).unwrap();
    maker.project.run(&["bundle", "verify", &bad.display().to_string()]).exits(7).says("more in it");
    fs::write(&bad, &good[..size / 2]).unwrap();
    let cut = maker.project.run(&["bundle", "load", &bad.display().to_string()]);
    assert_ne!(cut.code, 0, "{cut}");
}

#[test]
fn a_project_is_of_its_folder_or_of_a_release() {
    let maker = Maker::new();
    maker.release("0.1.0");
    maker.project.run(&["upgrade", "0.2.0"]).exits(2).says("made of its own folder");
    maker.project.run(&["upgrade", "--to-latest"]).exits(2).says("made of its own folder");
    assert_eq!(maker.project.run(&["status", "--json"]).json()["mode"], "dev");
    let machine = maker.machine();
    maker.init(&machine, "0.1.0").exits(0);
    let own = machine.read("setpoint.toml");
    machine.write("setpoint.toml", &format!("{own}\n[service.web]\nbuild = \".\"\n"));
    machine
        .run(&["status"])
        .exits(4)
        .says("declares nothing in setpoint.toml itself")
        .says("setpoint.toml:8:2");
    machine.write("setpoint.toml", "setpoint = 1\n[service.web]\ncommand = \"true\"\n");
    machine.run(&["up"]).exits(4).says("a release is in effect here: 0.1.0");
    machine.write("setpoint.toml", &own);
    machine.run(&["plan"]).exits(0).says("web: create");
    let elsewhere = maker.machine();
    elsewhere.write("setpoint.toml", &own);
    elsewhere.run(&["up"]).exits(8).says("no release of it is in effect").says("setpoint init oci://");
}
