//! Images that lie in the project: in OCI's folder layout, and archives of it.

use std::fs;
use std::path::Path;

use serde_json::Value;
use setpoint_runtime::cancel::Cancel;
use setpoint_runtime::engine::{BaseSource, EngineError, Pull};
use setpoint_runtime::image::ImageError;

use crate::pipelines::Project;
use crate::place::{Deaf, Subject};
use crate::rules::{Rule, Unit};
use crate::support::{ARCHITECTURE, Blobs, Pack, Tar, busybox, gzip, plain, zstd};

/// For every engine.
pub const RULES: &[Rule] = named![
    a_layout_is_an_image_by_its_own_digest,
    an_archive_of_a_layout_is_the_same_image,
    a_layout_that_is_wrong_is_named_and_nothing_is_kept,
];

/// For engines that are daemons.
pub const OF_DAEMONS: &[Rule] =
    named![what_the_engine_saved_itself_is_an_image, an_environment_and_a_pipeline_stand_on_a_layout];

/// An image with this in its `/note`, and an account.
fn image(note: &str) -> (Blobs, Value) {
    let mut blobs = Blobs::default();
    let above = Tar::default()
        .dir("etc/", 0o755)
        .file("etc/passwd", b"root:x:0:0:root:/:/bin/sh\n")
        .file("etc/group", b"root:x:0:\n")
        .dir("tmp/", 0o1777)
        .file("tmp/.wh.gone", b"")
        .end();
    let below = Tar::default().dir("tmp/", 0o1777).file("tmp/gone", b"").end();
    let entry = blobs.image(&[(below, plain), (busybox(note), gzip as Pack), (above, gzip)]);
    (blobs, entry)
}

/// A folder of a test, that goes with it.
fn folder(subject: &Subject) -> tempfile::TempDir {
    tempfile::Builder::new().prefix("images-").tempdir_in(&subject.folder).unwrap()
}

fn base(path: &Path) -> BaseSource {
    BaseSource::Image { reference: path.to_string_lossy().into_owned() }
}

fn prepare(subject: &Subject, base: &BaseSource) -> Result<Option<String>, EngineError> {
    subject.engine.prepare(base, Pull::Missing, &Deaf, &Cancel::default())
}

/// By what an engine knows an image: the configuration is the image to a daemon, the manifest to our own.
fn digest(subject: &Subject, blobs: &Blobs, entry: &Value) -> String {
    let manifest = entry["digest"].as_str().unwrap();
    if subject.api.is_none() {
        return manifest.to_owned();
    }
    let manifest: Value = serde_json::from_slice(&blobs.all[manifest]).unwrap();
    manifest["config"]["digest"].as_str().unwrap().to_owned()
}

#[track_caller]
fn is_inside(subject: &Subject, base: &BaseSource, note: &str) {
    let mut unit = Unit::new(subject);
    unit.spec.base = base.clone();
    let unit = unit.started();
    assert_eq!(unit.says("cat /note; echo .$A; ls -A /tmp"), (format!("{note}.b\n"), 0));
}

fn a_layout_is_an_image_by_its_own_digest(subject: &Subject) {
    let folder = folder(subject);
    let path = folder.path().join("layout");
    let (one, entry) = image("one");
    one.layout(&entry, &path);
    let base = base(&path);
    assert_eq!(subject.engine.base_digest(&base).unwrap(), None);
    assert!(subject.engine.image(&base).unwrap().is_none());
    let expected = Some(digest(subject, &one, &entry));
    assert_eq!(prepare(subject, &base).unwrap(), expected);
    assert_eq!(subject.engine.base_digest(&base).unwrap(), expected);
    assert_eq!(subject.engine.image(&base).unwrap().unwrap().user, "7:8");
    is_inside(subject, &base, "one");
    // What was taken out of it is no longer needed.
    fs::remove_dir_all(path.join("blobs")).unwrap();
    assert_eq!(prepare(subject, &base).unwrap(), expected);
    // Written over where it is, it is another one; written back, it is the first one again.
    let (two, other) = image("two");
    for (blobs, entry, note) in [(&two, &other, "two"), (&one, &entry, "one")] {
        let _ = fs::remove_dir_all(path.join("blobs"));
        blobs.layout(entry, &path);
        assert_eq!(subject.engine.base_digest(&base).unwrap(), None);
        assert_eq!(prepare(subject, &base).unwrap(), Some(digest(subject, blobs, entry)));
        is_inside(subject, &base, note);
    }
}

fn an_archive_of_a_layout_is_the_same_image(subject: &Subject) {
    let folder = folder(subject);
    let (blobs, entry) = image("packed");
    // An index for several machines, as builders write it.
    let mut whole = blobs.clone();
    let several = whole.index(&[(entry.clone(), ARCHITECTURE), (entry.clone(), "other")]);
    for (name, of, pack) in
        [("a", &entry, plain as Pack), ("b", &entry, gzip), ("c", &entry, zstd), ("d", &several, plain)]
    {
        let path = folder.path().join(name);
        fs::write(&path, pack(&whole.archive(of))).unwrap();
        let base = base(&path);
        assert_eq!(prepare(subject, &base).unwrap(), Some(digest(subject, &blobs, &entry)), "{name}");
        is_inside(subject, &base, "packed");
    }
}

fn a_layout_that_is_wrong_is_named_and_nothing_is_kept(subject: &Subject) {
    let folder = folder(subject);
    let (blobs, entry) = image("wrong");
    let path = folder.path().join("layout");
    blobs.layout(&entry, &path);
    let base = base(&path);
    let manifest: Value = serde_json::from_slice(&blobs.all[entry["digest"].as_str().unwrap()]).unwrap();
    for part in ["/layers/1", "/config"] {
        let of = manifest.pointer(part).unwrap()["digest"].as_str().unwrap();
        let file = path.join("blobs").join(of.replace(':', "/"));
        let mut bytes = fs::read(&file).unwrap();
        bytes[20] ^= 1;
        fs::write(&file, &bytes).unwrap();
        let error = prepare(subject, &base).unwrap_err();
        assert!(matches!(error, EngineError::Image(ImageError::DigestMismatch { .. })), "{error}");
        assert_eq!(subject.engine.base_digest(&base).unwrap(), None);
        bytes[20] ^= 1;
        fs::write(&file, &bytes).unwrap();
    }
    fs::remove_file(path.join("oci-layout")).unwrap();
    let error = prepare(subject, &base).unwrap_err();
    assert!(matches!(error, EngineError::Image(ImageError::NotALayout { .. })), "{error}");
    let mut other = Blobs::default();
    let entry = other.claimed(&[(plain(b""), crate::support::digest(b""))], "riscv128");
    other.layout(&entry, &path);
    let error = prepare(subject, &base).unwrap_err();
    assert!(matches!(error, EngineError::Image(ImageError::NoPlatform { .. })), "{error}");
    let text = folder.path().join("text");
    fs::write(&text, "no archive at all").unwrap();
    let error = prepare(subject, &self::base(&text)).unwrap_err();
    let is_named =
        matches!(error, EngineError::Image(ImageError::NotALayout { .. } | ImageError::Truncated { .. }));
    assert!(is_named, "{error}");
}

/// The archives of `docker save` before it wrote layouts.
fn what_the_engine_saved_itself_is_an_image(subject: &Subject) {
    let folder = folder(subject);
    let id = subject.engine.base_digest(&subject.base).unwrap().unwrap();
    let path = folder.path().join("saved.tar");
    fs::write(&path, subject.api.as_ref().unwrap().bytes(&format!("/v1.41/images/{id}/get"))).unwrap();
    let base = base(&path);
    assert_eq!(prepare(subject, &base).unwrap(), Some(id));
}

/// Takes an environment down when its test ends, however it ends.
struct Standing<'a>(Project<'a>);

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        let down = self.0.ends(&["down"]);
        assert!(down.code == 0 || std::thread::panicking(), "{}", down.said);
    }
}

fn an_environment_and_a_pipeline_stand_on_a_layout(subject: &Subject) {
    let standing = Standing(Project::new(subject, "[pipeline.ci.step.look]\nrun = \"cat /note\"\n"));
    let project = &standing.0;
    project.declare("localhost/base:1", "./image");
    project.declare("[pipeline.ci]", "[env.dev]\nimage = \"./image\"\nuser = \"root\"\n[pipeline.ci]");
    for note in ["one", "two"] {
        let (blobs, entry) = image(note);
        blobs.layout(&entry, &project.root.join("image"));
        let up = project.ends(&["up"]);
        assert_eq!(up.code, 0, "{}", up.said);
        assert_eq!(project.ends(&["exec", "dev", "--", "sh", "-c", "cat /note"]).said, note);
        assert!(project.ends(&["up"]).said.contains("nothing to do"));
        let run = project.run(&[]);
        assert_eq!((run.code, run.lines("look")), (0, vec![note.to_owned()]), "{}", run.said);
        assert_eq!(project.run(&[]).that("cached"), ["look"]);
    }
}
