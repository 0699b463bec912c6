//! Archives that no honest tool makes: each is refused by name, and nothing outside is touched.

use std::path::Path;

use setpoint_runtime::image::{Bound, ImageError, Limits, Rule};
use tar::EntryType;

use crate::support::*;

/// A file outside of the store, whose fate tells whether anything got out.
struct Canary {
    home: Home,
}

impl Canary {
    fn new() -> Canary {
        Canary::with(Limits::default())
    }

    fn with(limits: Limits) -> Canary {
        let home = Home::with(limits);
        std::fs::create_dir(home.path("outside")).unwrap();
        std::fs::write(home.path("outside/canary"), "alive").unwrap();
        Canary { home }
    }

    fn outside(&self) -> String {
        self.home.path("outside").to_str().unwrap().to_owned()
    }

    fn check(&self) {
        let outside = self.home.path("outside");
        assert_eq!(std::fs::read_to_string(outside.join("canary")).unwrap(), "alive");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
        assert!(!Path::new("/setpoint-escaped").exists());
    }

    fn refused(&self, tar: Tar) -> ImageError {
        let error = one_layer(&self.home, tar.end()).unwrap_err();
        self.check();
        assert_eq!(self.home.remains(), [""; 0], "after: {error}");
        error
    }

    fn rule(tar: Tar, expected: Rule) {
        let error = Canary::new().refused(tar);
        assert!(matches!(&error, ImageError::Refused { rule, .. } if *rule == expected), "{error}");
        assert!(error.hint().is_some());
    }
}

fn start() -> Tar {
    Tar::default().dir("./", 0o755).file("before", b"before")
}

#[test]
fn a_name_that_climbs() {
    Canary::rule(start().file("../outside/canary", b"dead"), Rule::ParentComponent);
    Canary::rule(start().file("a/../../../outside/canary", b"dead"), Rule::ParentComponent);
    Canary::rule(start().dir("..", 0o777), Rule::ParentComponent);
}

#[test]
fn a_long_name_that_climbs() {
    let name = format!("{}../outside/canary", "a/".repeat(100));
    Canary::rule(start().pax(&[("path", name.as_bytes())]).file("short", b"dead"), Rule::ParentComponent);
}

#[test]
fn an_absolute_name() {
    Canary::rule(start().file("/setpoint-escaped", b"dead"), Rule::AbsoluteName);
}

#[test]
fn a_name_of_nothing() {
    Canary::rule(start().file("./", b"").link("./", "x"), Rule::BadName);
    let long = "n".repeat(300);
    Canary::rule(start().pax(&[("path", long.as_bytes())]).file("short", b""), Rule::BadName);
}

#[test]
fn a_hard_link_that_climbs() {
    Canary::rule(start().hard("stolen", "../../../../outside/canary"), Rule::HardLinkLeaves);
}

#[test]
fn a_hard_link_to_what_only_the_host_has() {
    let canary = Canary::new();
    let target = format!("{}/canary", canary.outside());
    let error = canary.refused(start().hard("stolen", &target));
    assert!(matches!(error, ImageError::Refused { rule: Rule::HardLinkMissing, .. }), "{error}");
    Canary::rule(start().hard("stolen", "/etc/passwd"), Rule::HardLinkMissing);
    Canary::rule(start().hard("stolen", "nowhere"), Rule::HardLinkMissing);
    Canary::rule(start().link("up", "../../..").hard("stolen", "up/etc/passwd"), Rule::HardLinkMissing);
}

#[test]
fn a_hard_link_to_a_folder_or_a_whiteout() {
    Canary::rule(start().dir("d", 0o755).hard("stolen", "d"), Rule::HardLinkKind);
    Canary::rule(start().file(".wh.gone", b"").hard("hidden", "gone"), Rule::HardLinkKind);
    Canary::rule(start().dir("d", 0o755).file("d/f", b"").hard("d", "d/f"), Rule::HardLinkMissing);
}

#[test]
fn a_device_node() {
    Canary::rule(start().raw(EntryType::Char, "dev/mem", "", 0o7, b""), Rule::Device);
    Canary::rule(start().raw(EntryType::Block, "dev/sda", "", 0o7, b""), Rule::Device);
}

#[test]
fn a_sparse_file_that_would_come_out_wrong() {
    let sparse = start()
        .pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0")])
        .file("holes", b"1\n0\n4\ndata");
    Canary::rule(sparse, Rule::Sparse);
}

#[test]
fn a_disguised_whiteout() {
    Canary::rule(start().raw(EntryType::Char, "etc", "", 0o644, b""), Rule::FakeWhiteout);
}

#[test]
fn writing_through_a_link_that_leads_out() {
    let canary = Canary::new();
    let outside = canary.outside();
    let error = canary.refused(start().link("door", &outside).file("door/canary", b"dead"));
    assert!(matches!(error, ImageError::Refused { rule: Rule::ThroughLink, .. }), "{error}");
    let canary = Canary::new();
    let error = canary.refused(start().link("door", "../../../outside").file("door/canary", b"dead"));
    assert!(matches!(error, ImageError::Refused { rule: Rule::ThroughLink, .. }), "{error}");
}

#[test]
fn writing_through_links_stays_inside() {
    let canary = Canary::new();
    let tar = start()
        .dir("data", 0o755)
        .link("top", "../../../../..")
        .file("top/setpoint-escaped", b"inside")
        .link("inner", "/data")
        .file("inner/file", b"data")
        .link("canary", "../outside/canary")
        .file("canary", b"a file in place of the link");
    let root = one_layer(&canary.home, tar.end()).unwrap().layers.remove(0);
    canary.check();
    assert_eq!(std::fs::read(root.join("setpoint-escaped")).unwrap(), b"inside");
    assert_eq!(std::fs::read(root.join("data/file")).unwrap(), b"data");
    assert!(root.join("canary").symlink_metadata().unwrap().is_file());
}

#[test]
fn folder_attributes_are_not_set_through_links() {
    let canary = Canary::new();
    let outside = canary.outside();
    let before = std::fs::metadata(&outside).unwrap().permissions();
    let tar = start().dir("d", 0o777).link("d", &outside).dir("e", 0o777).link("e", "../../../outside");
    one_layer(&canary.home, tar.end()).unwrap();
    canary.check();
    assert_eq!(std::fs::metadata(&outside).unwrap().permissions(), before);
}

#[test]
fn removal_does_not_follow_links() {
    let canary = Canary::new();
    let outside = canary.outside();
    let tar = start()
        .dir("d", 0o755)
        .link("d/door", &outside)
        .link("door", &outside)
        .file("d", b"")
        .file("door", b"");
    one_layer(&canary.home, tar.end()).unwrap();
    canary.check();
}

#[test]
fn an_absolute_link_is_only_text() {
    let canary = Canary::new();
    let root = one_layer(&canary.home, start().link("link", "/etc/passwd").end()).unwrap().layers.remove(0);
    assert_eq!(std::fs::read_link(root.join("link")).unwrap(), Path::new("/etc/passwd"));
}

#[test]
fn links_in_a_circle() {
    Canary::rule(start().link("a", "b").link("b", "a").file("a/x", b""), Rule::LinkLoop);
    Canary::rule(start().link("empty", ""), Rule::BadLinkTarget);
}

#[test]
fn whiteouts_of_nothing() {
    Canary::rule(start().file("d/.wh.", b""), Rule::BadWhiteout);
    Canary::rule(start().file("d/.wh..", b""), Rule::BadWhiteout);
    Canary::rule(start().file("d/.wh...", b""), Rule::BadWhiteout);
    Canary::rule(start().file(".wh.d/file", b""), Rule::BadWhiteout);
}

#[test]
fn a_whiteout_through_a_link_that_leads_out() {
    let canary = Canary::new();
    let outside = canary.outside();
    let error = canary.refused(start().link("door", &outside).file("door/.wh.canary", b""));
    assert!(matches!(error, ImageError::Refused { rule: Rule::ThroughLink, .. }), "{error}");
    let canary = Canary::new();
    let outside = canary.outside();
    let error = canary.refused(start().link("door", &outside).file("door/.wh..wh..opq", b""));
    assert!(matches!(error, ImageError::Refused { rule: Rule::ThroughLink, .. }), "{error}");
}

#[test]
fn an_unknown_kind_of_entry() {
    Canary::rule(start().raw(EntryType::new(b'Z'), "odd", "", 0o644, b""), Rule::UnknownKind);
}

#[test]
fn attributes_of_overlayfs_are_dropped() {
    let canary = Canary::new();
    let tar = start()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.other", b"x"),
            ("SCHILY.xattr.user.kept", b"yes"),
        ])
        .dir("d", 0o755);
    let root = one_layer(&canary.home, tar.end()).unwrap().layers.remove(0);
    let folder = root.join("d");
    for name in ["trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque", "trusted.other"]
    {
        assert_eq!(xattr(&folder, name), None, "{name}");
    }
    assert_eq!(xattr(&folder, "user.kept").as_deref(), Some(&b"yes"[..]));
}

fn bound(limits: Limits, tar: Tar, expected: Bound) {
    let error = Canary::with(limits).refused(tar);
    assert!(matches!(&error, ImageError::TooLarge { bound, .. } if *bound == expected), "{error}");
}

#[test]
fn too_many_bytes() {
    let limits = Limits { bytes: 100_000, ..Limits::default() };
    bound(limits, start().file("large", &[7; 200_000]), Bound::Bytes);
}

#[test]
fn too_many_entries() {
    let limits = Limits { entries: 3, ..Limits::default() };
    bound(limits, start().file("c", b"").file("d", b""), Bound::Entries);
}

#[test]
fn too_long_a_path() {
    let path = "p/".repeat(2100);
    bound(Limits::default(), start().pax(&[("path", path.as_bytes())]).file("s", b""), Bound::Path);
}

#[test]
fn headers_without_end() {
    let value = vec![b'v'; 5 << 20];
    bound(Limits::default(), start().pax(&[("comment", &value)]).file("s", b""), Bound::Headers);
}

#[test]
fn a_bomb() {
    let limits = Limits { ratio: 100, ..Limits::default() };
    bound(limits, start().file("zeros", &vec![0; 80 << 20]), Bound::Ratio);
}

#[test]
fn a_very_deep_folder_is_removed_again() {
    let canary = Canary::new();
    let mut tar = start();
    let mut path = String::new();
    for _ in 0..3 {
        path.push_str(&"d/".repeat(600));
        tar = tar.pax(&[("path", path.as_bytes())]).dir("s", 0o000);
    }
    let error = canary.refused(tar.file("../out", b""));
    assert!(matches!(error, ImageError::Refused { rule: Rule::ParentComponent, .. }), "{error}");
}
