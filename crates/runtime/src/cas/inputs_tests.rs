use std::os::unix::fs::symlink;
use std::time::Duration;

use super::*;
use crate::cas::patience::Progress;
use crate::cas::{StatCache, look};

struct Project(tempfile::TempDir);

impl Project {
    fn new(files: &[&str]) -> Self {
        let project = Self(tempfile::tempdir().unwrap());
        for file in files {
            let path = project.0.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        project
    }

    fn inputs(&self, patterns: &[&str]) -> Result<Inputs, CasError> {
        let (root, globs) = (self.0.path().to_owned(), Globs::new(patterns).unwrap());
        look(&mut StatCache::in_memory(), Duration::from_secs(10), move |files| files.inputs(&root, &globs))
    }

    fn check(&self, patterns: &[&str], found: &[&str], unmatched: &[&str]) {
        let inputs = self.inputs(patterns).unwrap();
        let paths: Vec<_> = inputs.files.iter().map(|file| file.path.to_str().unwrap()).collect();
        assert_eq!(paths, found, "{patterns:?}");
        assert_eq!(inputs.unmatched, unmatched, "{patterns:?}");
    }
}

#[test]
fn patterns_come_to_sorted_files() {
    let project = Project::new(&[
        "Cargo.lock",
        "src/a.rs",
        "src/b/c.rs",
        "src/b/c.txt",
        "src.rs",
        "crates/x/src/x.rs",
        "crates/y/src/y.rs",
        "crates/y/build.rs",
        ".git/HEAD",
        "target/t.rs",
        "we ird/[x]",
    ]);
    let check =
        |patterns: &[&str], found: &[&str], unmatched: &[&str]| project.check(patterns, found, unmatched);
    check(&["Cargo.lock"], &["Cargo.lock"], &[]);
    check(&["src"], &["src/a.rs", "src/b/c.rs", "src/b/c.txt"], &[]);
    check(&["./src/"], &["src/a.rs", "src/b/c.rs", "src/b/c.txt"], &[]);
    check(&["src/*.rs"], &["src/a.rs"], &[]);
    check(&["src/*"], &["src/a.rs", "src/b/c.rs", "src/b/c.txt"], &[]);
    check(&["src/**/*.rs"], &["src/a.rs", "src/b/c.rs"], &[]);
    check(&["*.rs", "Cargo.lock"], &["Cargo.lock", "src.rs"], &[]);
    check(&["crates/*/src"], &["crates/x/src/x.rs", "crates/y/src/y.rs"], &[]);
    check(&["crates/{x/src,y}/*.rs"], &["crates/x/src/x.rs", "crates/y/build.rs"], &[]);
    check(&["we ird/\\[x\\]"], &["we ird/[x]"], &[]);
    check(&["src/a.rs", "src", "src/a.rs"], &["src/a.rs", "src/b/c.rs", "src/b/c.txt"], &[]);
    check(&["target/**"], &["target/t.rs"], &[]);
    check(
        &["src", "src/none.rs", "none", "no/*.x"],
        &["src/a.rs", "src/b/c.rs", "src/b/c.txt"],
        &["src/none.rs", "none", "no/*.x"],
    );
    check(&[".git", ".git/HEAD", ".git/**"], &[], &[".git", ".git/HEAD", ".git/**"]);
    check(&[], &[], &[]);
    assert_eq!(project.inputs(&["."]).unwrap(), project.inputs(&["**"]).unwrap());
    assert_eq!(project.inputs(&["."]).unwrap().files.len(), 10);
}

#[test]
fn an_empty_folder_is_found_and_holds_nothing() {
    let project = Project::new(&["a"]);
    std::fs::create_dir(project.0.path().join("empty")).unwrap();
    project.check(&["empty"], &[], &[]);
}

#[test]
fn links_are_themselves_and_never_lead_out() {
    let outside = Project::new(&["secret", "a/b"]);
    let project = Project::new(&["x/y"]);
    symlink(outside.0.path(), project.0.path().join("out")).unwrap();
    symlink("x", project.0.path().join("in")).unwrap();
    project.check(&["out/secret", "out/**", "out/a/b"], &[], &["out/secret", "out/**", "out/a/b"]);
    project.check(&["."], &["in", "out", "x/y"], &[]);
    project.check(&["out"], &["out"], &[]);
}

#[test]
fn only_folders_that_may_hold_something_are_entered() {
    let many: Vec<String> = (0..100).map(|number| format!("target/{number}/f.rs")).collect();
    let mut files: Vec<&str> = many.iter().map(String::as_str).collect();
    files.extend(["src/a.rs", "src/deep/b.rs", "x.toml"]);
    let project = Project::new(&files);
    // The steps are the root and the names that were looked at; a file that is read is a step more.
    for (patterns, steps) in [
        (&["x.toml"][..], 1 + 1 + 1),
        (&["src/a.rs", "src/none.rs", "none/x"], 1 + 4 + 1),
        (&["src/*.rs"], 1 + 1 + 2 + 1),
        (&["*.toml"], 1 + 3 + 1),
        (&["src/**/*.rs"], 1 + 1 + 3 + 2),
        (&["target/*/x"], 1 + 1 + 100 + 100),
    ] {
        let progress = Progress::default();
        let globs = Globs::new(patterns).unwrap();
        Files::new(&mut StatCache::in_memory(), &progress).inputs(project.0.path(), &globs).unwrap();
        assert_eq!(progress.steps(), steps, "{patterns:?}");
    }
}

#[test]
fn names_that_are_not_utf8_stay_what_they_are() {
    let project = Project::new(&[]);
    let names = [&b"a\xff"[..], b"a\xfe"].map(|name| PathBuf::from(OsStr::from_bytes(name)));
    for name in &names {
        std::fs::write(project.0.path().join(name), "x").unwrap();
    }
    let inputs = project.inputs(&["*"]).unwrap();
    assert_eq!(
        inputs.files.iter().map(|file| file.path.clone()).collect::<Vec<_>>(),
        [&names[1], &names[0]].map(Clone::clone)
    );
}

#[test]
fn a_socket_counts_only_where_it_is_named() {
    let project = Project::new(&["run/a"]);
    let _socket = std::os::unix::net::UnixListener::bind(project.0.path().join("run/socket")).unwrap();
    project.check(&["run"], &["run/a"], &[]);
    assert!(matches!(project.inputs(&["run/socket"]), Err(CasError::NotRegular { what: "a socket", .. })));
}

#[test]
fn a_missing_project_is_an_error() {
    let project = Project::new(&[]);
    let root = project.0.path().join("gone");
    let result = look(&mut StatCache::in_memory(), Duration::from_secs(10), {
        let (root, globs) = (root.clone(), Globs::new(&["a"]).unwrap());
        move |files| files.inputs(&root, &globs)
    });
    assert!(matches!(result, Err(CasError::Missing { path }) if path == root));
}
