//! Layouts, archives, root folders and root tars.

use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use setpoint_runtime::image::{Credentials, ImageError, Source};
use tar::EntryType;

use crate::support::*;

fn look(path: &Path) -> Metadata {
    path.symlink_metadata().unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn a_layout_is_unpacked_once_and_then_known() {
    let home = Home::new();
    let mut blobs = Blobs::default();
    let upper = Tar::default().file("note", b"above").end();
    let image = blobs.image(&[(busybox("one"), gzip), (busybox("two"), zstd), (upper, plain)]);
    let source = blobs.layout(&image, &home.path("layout"));
    assert_eq!(home.store.local(&source).unwrap(), None);
    let seen = Mutex::new(Vec::new());
    let progress = |done, total| seen.lock().unwrap().push((done, total));
    let found = home.store.ensure(&source, false, &Credentials::none(), &progress, &|| false).unwrap();
    assert_eq!(found.digest, image["digest"].as_str().unwrap());
    assert_eq!(found.layers.len(), 3);
    assert_eq!(found.config.env, ["PATH=/bin", "A=b"]);
    assert_eq!(found.config.user.as_deref(), Some("7:8"));
    assert_eq!(found.config.workdir.as_deref(), Some("/tmp"));
    let (done, total) = *seen.lock().unwrap().last().unwrap();
    assert_eq!(Some(done), total);
    let notes: Vec<_> =
        found.layers.iter().map(|l| std::fs::read_to_string(l.join("note")).unwrap()).collect();
    assert_eq!(notes, ["one", "two", "above"]);
    let said = Command::new(found.layers[0].join("bin/sh")).args(["-c", "echo hello"]).output().unwrap();
    assert_eq!(said.stdout, b"hello\n");
    assert_eq!(look(&found.layers[0].join("bin/ls")).ino(), look(&found.layers[0].join("bin/busybox")).ino());
    assert_eq!(look(&found.layers[0].join("tmp")).mode() & 0o7777, 0o1777);
    assert_eq!(look(&found.layers[0].join("bin")).mtime(), 1_000_000_000);
    assert_eq!(look(&found.layers[0].join("note")).mtime(), 1_000_000_000);
    assert_eq!(look(&found.layers[0].join("bin/sh")).mtime(), 1_000_000_000);
    let (uid, gid) = if is_root() {
        (1234, 4321)
    } else {
        (look(&home.path("layout")).uid(), look(&home.path("layout")).gid())
    };
    assert_eq!(
        (look(&found.layers[0].join("note")).uid(), look(&found.layers[0].join("note")).gid()),
        (uid, gid)
    );
    assert_eq!(look(&home.path("state/layers/v1")).mode() & 0o777, 0o700);
    // The blobs are no longer needed.
    std::fs::remove_dir_all(home.path("layout/blobs")).unwrap();
    assert_eq!(home.store.local(&source).unwrap(), Some(found.clone()));
    assert_eq!(home.ensure(&source).unwrap(), found);
    // Its index is what tells whether it changed.
    std::fs::write(home.path("layout/index.json"), "{}").unwrap();
    assert_eq!(home.store.local(&source).unwrap(), None);
    let json = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<setpoint_runtime::image::Image>(&json).unwrap(), found);
}

#[test]
fn an_archive_is_read_in_every_packing() {
    let mut blobs = Blobs::default();
    let image = blobs.image(&[(busybox("packed"), gzip)]);
    for pack in [plain as Pack, gzip, zstd] {
        let home = Home::new();
        let path = home.path("image.tar");
        std::fs::write(&path, pack(&blobs.archive(&image))).unwrap();
        let source = Source::parse_image("./image.tar", home.folder.path()).unwrap();
        assert!(matches!(&source, Source::Archive(_)));
        let found = home.ensure(&source).unwrap();
        assert_eq!(std::fs::read_to_string(found.layers[0].join("note")).unwrap(), "packed");
        assert_eq!(home.store.local(&source).unwrap(), Some(found));
        assert_eq!(home.remains().len(), 1);
    }
}

#[test]
fn a_root_tar_is_one_layer_by_the_digest_of_its_file() {
    let home = Home::new();
    let path = home.path("root.tar.gz");
    let bytes = gzip(&busybox("root"));
    std::fs::write(&path, &bytes).unwrap();
    let source = Source::parse_rootfs("root.tar.gz", home.folder.path()).unwrap();
    assert_eq!(source, Source::RootfsTar(path.clone()));
    let found = home.ensure(&source).unwrap();
    assert_eq!(found.digest, digest(&bytes));
    assert_eq!(std::fs::read_to_string(found.layers[0].join("note")).unwrap(), "root");
    assert_eq!(home.store.local(&source).unwrap().as_ref(), Some(&found));
    assert_eq!(home.always(&source).unwrap(), found);
    std::fs::write(&path, gzip(&busybox("changed"))).unwrap();
    assert_eq!(home.store.local(&source).unwrap(), None);
    let changed = home.ensure(&source).unwrap();
    assert_ne!(changed.digest, found.digest);
    std::fs::write(&path, Tar::default().file("a", b"a").cut()).unwrap();
    assert!(matches!(home.ensure(&source), Err(ImageError::Truncated { .. })));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(home.ensure(&source), Err(ImageError::NoSuchPath { .. })));
}

#[test]
fn a_root_folder_is_used_where_it_is() {
    let home = Home::new();
    std::fs::create_dir(home.path("root")).unwrap();
    let source = Source::parse_rootfs("./root", home.folder.path()).unwrap();
    let found = home.ensure(&source).unwrap();
    let path = home.path("root").canonicalize().unwrap();
    assert_eq!(found.digest, format!("dir:{}", path.display()));
    assert_eq!(found.layers, [path]);
    assert_eq!(home.store.local(&source).unwrap(), Some(found));
    assert!(!home.path("state").exists());
}

#[test]
fn what_is_no_layout_is_named() {
    let home = Home::new();
    std::fs::create_dir(home.path("empty")).unwrap();
    let empty = home.ensure(&Source::Layout(home.path("empty")));
    assert!(matches!(empty, Err(ImageError::NotALayout { .. })), "{empty:?}");
    std::fs::write(home.path("text"), "no tar at all").unwrap();
    let text = home.ensure(&Source::Archive(home.path("text")));
    assert!(matches!(text, Err(ImageError::NotALayout { .. } | ImageError::Truncated { .. })), "{text:?}");
    let parsed = Source::parse_image("./nowhere", home.folder.path());
    assert!(matches!(parsed, Err(ImageError::NoSuchPath { .. })));
    let parsed = Source::parse_image("UPPER case", home.folder.path());
    assert!(matches!(parsed, Err(ImageError::BadReference { .. })));
    assert_eq!(
        Source::parse_image("debian:13", home.folder.path()).unwrap(),
        Source::Reference("debian:13".to_owned())
    );
}

#[test]
fn lies_about_digest_size_and_diff_id_are_named() {
    let mut blobs = Blobs::default();
    let blob = gzip(&busybox("true"));
    let honest = blobs.claimed(&[(blob.clone(), digest(&busybox("true")))], ARCHITECTURE);
    let change = |bytes: Vec<u8>| {
        let home = Home::new();
        let source = blobs.layout(&honest, &home.path("layout"));
        let name = digest(&blob).replace("sha256:", "layout/blobs/sha256/");
        std::fs::write(home.path(&name), bytes).unwrap();
        let error = home.ensure(&source).unwrap_err();
        assert_eq!(home.remains(), [""; 0]);
        assert!(error.hint().is_some());
        error
    };
    let mut flipped = blob.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert!(matches!(change(flipped), ImageError::DigestMismatch { .. }));
    assert!(matches!(change(blob[..blob.len() - 1].to_vec()), ImageError::SizeMismatch { .. }));

    let mut wrong = Blobs::default();
    let image = wrong.claimed(&[(blob.clone(), digest(b"something else"))], ARCHITECTURE);
    let home = Home::new();
    let error = home.ensure(&wrong.layout(&image, &home.path("layout"))).unwrap_err();
    assert!(matches!(error, ImageError::DiffIdMismatch { .. }), "{error}");
    assert_eq!(home.remains(), [""; 0]);

    for pack in [gzip as Pack, zstd, plain] {
        let packed = pack(&busybox("true"));
        let mut short = Blobs::default();
        let cut = packed[..packed.len() / 2].to_vec();
        let image = short.claimed(&[(cut, digest(&busybox("true")))], ARCHITECTURE);
        let home = Home::new();
        let error = home.ensure(&short.layout(&image, &home.path("layout"))).unwrap_err();
        assert!(matches!(error, ImageError::Truncated { .. }), "{error}");
        assert_eq!(home.remains(), [""; 0]);
    }
}

#[test]
fn whiteouts_become_those_of_overlayfs() {
    let home = Home::new();
    let tar = Tar::default()
        .dir("etc", 0o755)
        .file("etc/.wh.gone", b"")
        .dir("cache", 0o755)
        .file("cache/.wh..wh..opq", b"")
        .file("cache/kept", b"kept")
        .file(".wh.later", b"")
        .dir("later", 0o755)
        .dir("both", 0o755)
        .file("both/kept", b"")
        .file(".wh.both", b"")
        .file(".wh.deep", b"")
        .file("deep/file", b"")
        .file(".wh..wh.plnk/1.2", b"")
        .end();
    let root = one_layer(&home, tar).unwrap().layers.remove(0);
    let gone = look(&root.join("etc/gone"));
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert!(!root.join("etc/.wh.gone").exists());
    for opaque in ["cache", "later", "both", "deep"] {
        assert!(is_opaque(&root.join(opaque)), "{opaque}");
    }
    assert!(!is_opaque(&root.join("etc")));
    assert!(root.join("cache/kept").exists() && root.join("both/kept").exists());
    assert_eq!(std::fs::read_dir(root.join("cache")).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 5);
}

#[test]
fn later_entries_win_and_kinds_may_change() {
    let home = Home::new();
    let tar = Tar::default()
        .file("a", b"first")
        .file("a", b"second")
        .dir("b", 0o755)
        .file("b/c/d", b"")
        .file("b", b"now a file")
        .file("e", b"")
        .dir("e", 0o700)
        .file("e/f", b"inside")
        .file("g", b"")
        .file("g/h", b"below what was a file")
        .link("i", "a")
        .file("i", b"no longer a link")
        .dir("e", 0o750)
        .raw(EntryType::Fifo, "pipe", "", 0o600, b"")
        .end();
    let root = one_layer(&home, tar).unwrap().layers.remove(0);
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    assert_eq!(read("a"), "second");
    assert_eq!(read("b"), "now a file");
    assert_eq!(read("e/f"), "inside");
    assert_eq!(read("g/h"), "below what was a file");
    assert_eq!(read("i"), "no longer a link");
    assert_eq!(look(&root.join("e")).mode() & 0o777, 0o750);
    assert!(look(&root.join("pipe")).file_type().is_fifo());
}

#[test]
fn privileges_are_roots_alone() {
    let home = Home::new();
    let capability: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let tar = Tar::default()
        .raw(EntryType::Regular, "su", "", 0o4711, b"x")
        .pax(&[("SCHILY.xattr.security.capability", capability), ("mtime", b"12.5")])
        .file("ping", b"x")
        .dir("closed", 0o000)
        .file("closed/in", b"")
        .end();
    let root = one_layer(&home, tar).unwrap().layers.remove(0);
    let mode = look(&root.join("su")).mode() & 0o7777;
    assert_eq!(mode, if is_root() { 0o4711 } else { 0o711 });
    let kept = xattr(&root.join("ping"), "security.capability");
    assert_eq!(kept.as_deref(), is_root().then_some(capability));
    assert_eq!((look(&root.join("ping")).mtime(), look(&root.join("ping")).mtime_nsec()), (12, 500_000_000));
    std::fs::set_permissions(root.join("closed"), PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn what_a_crash_left_is_removed_and_a_stop_leaves_nothing() {
    let home = Home::new();
    std::fs::create_dir_all(home.path("state/layers/v1/.unpacking-old/deep")).unwrap();
    std::fs::create_dir_all(home.path("state/blobs/v1/.archive-old")).unwrap();
    let mut blobs = Blobs::default();
    let image = blobs.image(&[(busybox("x"), gzip)]);
    let source = blobs.layout(&image, &home.path("layout"));
    let stopped = home.store.ensure(&source, false, &Credentials::none(), &|_, _| {}, &|| true);
    assert!(matches!(stopped, Err(ImageError::Cancelled)));
    let asked = std::sync::atomic::AtomicU32::new(0);
    let later = || asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 30;
    let stopped = home.store.ensure(&source, false, &Credentials::none(), &|_, _| {}, &later);
    assert!(matches!(stopped, Err(ImageError::Cancelled)), "{stopped:?}");
    assert_eq!(home.remains(), [""; 0]);
    let found = home.ensure(&source).unwrap();
    assert_eq!(home.remains().len(), 1);
    // A layer that somebody removed is unpacked again.
    std::fs::remove_dir_all(&found.layers[0]).unwrap();
    assert_eq!(home.store.local(&source).unwrap(), None);
    assert_eq!(home.ensure(&source).unwrap(), found);
    assert!(found.layers[0].join("note").exists());
}

#[test]
fn two_at_once_unpack_once() {
    let home = Home::new();
    let mut blobs = Blobs::default();
    let image = blobs.image(&[(busybox("x"), gzip), (busybox("y"), gzip), (busybox("x"), gzip)]);
    let source = blobs.layout(&image, &home.path("layout"));
    let all: Vec<_> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..4).map(|_| scope.spawn(|| home.ensure(&source).unwrap())).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(all.iter().all(|image| *image == all[0]));
    // The layer that comes twice stands only at its highest place.
    let notes: Vec<_> =
        all[0].layers.iter().map(|l| std::fs::read_to_string(l.join("note")).unwrap()).collect();
    assert_eq!(notes, ["y", "x"]);
    assert_eq!(home.remains().len(), 2);
}
