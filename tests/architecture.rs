//! The rooms of the house, and what may not be in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The dependencies of each of our crates, as its manifest declares them, without those of its tests.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(repository())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let all = package["dependencies"].as_array().unwrap();
            let used = all.iter().filter(|dependency| dependency["kind"] != "dev");
            (text(&package["name"]), used.map(|dependency| text(&dependency["name"])).collect())
        })
        .collect()
}

/// The sources below a folder: their paths from the repository's root, and what is in them.
fn sources(below: &str) -> Vec<(String, String)> {
    let root = repository();
    let mut found = Vec::new();
    let mut open = vec![root.join(below)];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("target") {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().display().to_string();
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// The lines of a source that are neither comments nor tests.
fn code(name: &str, text: &str) -> Vec<String> {
    if name.ends_with("tests.rs") || name.contains("/tests/") {
        return Vec::new();
    }
    // The tests of a file are its end.
    let code = text.lines().take_while(|line| line.trim() != "#[cfg(test)]");
    code.filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned).collect()
}

/// The places in the code of a crate that hold one of these words, apart from files that may.
fn places(below: &str, words: &[&str], may: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in sources(below) {
        if may(&name) {
            continue;
        }
        for line in code(&name, &text) {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{name}: {}", line.trim()));
            }
        }
    }
    found
}

const NONE: [String; 0] = [];

#[test]
fn the_crates_depend_on_each_other_in_one_direction() {
    let all = dependencies();
    let ours: BTreeMap<&str, Vec<&str>> = all
        .iter()
        .map(|(name, used)| {
            let mut used: Vec<_> =
                used.iter().map(String::as_str).filter(|name| name.starts_with("setpoint")).collect();
            used.sort_unstable();
            (name.as_str(), used)
        })
        .collect();
    let expected = BTreeMap::from([
        ("setpoint", vec!["setpoint-model", "setpoint-runtime", "setpoint-sandbox"]),
        ("setpoint-model", vec![]),
        ("setpoint-runtime", vec!["setpoint-model", "setpoint-sandbox"]),
        ("setpoint-sandbox", vec![]),
    ]);
    assert_eq!(ours, expected);
}

#[test]
fn the_model_knows_nothing_of_the_machine() {
    let used = &dependencies()["setpoint-model"];
    for forbidden in ["tokio", "rusqlite", "rustix", "libc", "tempfile"] {
        assert!(!used.iter().any(|name| name == forbidden), "the model depends on {forbidden}");
    }
    let words = [
        "std::fs",
        "std::env::",
        "std::process",
        "SystemTime",
        "Instant::now",
        "std::net::Tcp",
        "std::thread",
    ];
    assert_eq!(places("crates/model/src", &words, |_| false), NONE);
}

#[test]
fn the_sandbox_is_not_aware_of_the_state_and_asynchronous_in_one_room_only() {
    let used = &dependencies()["setpoint-sandbox"];
    for forbidden in ["rusqlite", "oci-client"] {
        assert!(!used.iter().any(|name| name == forbidden), "the sandbox depends on {forbidden}");
    }
    // The process that holds ports has many connections, and nothing else.
    let may = |name: &str| name.starts_with("crates/sandbox/src/ports/");
    assert_eq!(places("crates/sandbox", &["tokio::", "hyper::", "async fn", ".await"], may), NONE);
}

#[test]
fn unsafe_code_is_in_one_room() {
    let may = |name: &str| name == "crates/sandbox/src/syscalls.rs";
    let words =
        ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "allow(unsafe_code", "expect(unsafe_code"];
    let found: Vec<_> = places("crates", &words, may)
        .into_iter()
        .filter(|place| !(place.contains("mod syscalls") || place.contains("unsafe_code, reason")))
        .collect();
    assert_eq!(found, NONE);
}

#[test]
fn only_one_room_knows_dockers_api() {
    let may = |name: &str| name.starts_with("crates/runtime/src/engine/docker/");
    assert_eq!(places("crates", &["bollard::", "use bollard"], may), NONE);
}

#[test]
fn only_the_store_speaks_to_the_database() {
    let may = |name: &str| name.starts_with("crates/runtime/src/store/");
    assert_eq!(places("crates", &["rusqlite", "SELECT ", "INSERT INTO"], may), NONE);
    let all = dependencies();
    let users: Vec<_> = all
        .iter()
        .filter(|(_, used)| used.iter().any(|name| name == "rusqlite"))
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(users, ["setpoint-runtime"]);
}

#[test]
fn only_one_room_prints() {
    let may = |name: &str| name == "crates/cli/src/output.rs";
    assert_eq!(places("crates", &["println!", "print!(", "eprintln!", "eprint!(", "dbg!("], may), NONE);
}

#[test]
fn no_file_is_long() {
    let long: Vec<_> = [sources("crates"), sources("tests")]
        .concat()
        .into_iter()
        .filter(|(_, text)| text.lines().count() > 1000)
        .map(|(name, text)| format!("{name}: {} lines", text.lines().count()))
        .collect();
    assert_eq!(long, NONE);
}

#[test]
fn every_exit_code_is_documented() {
    let table = std::fs::read_to_string(repository().join("docs/reference/exit-codes.md"));
    let table = table.unwrap_or_else(|error| panic!("docs/reference/exit-codes.md: {error}"));
    for code in [0, 1, 2, 3, 4, 5, 6, 7, 8, 130] {
        assert!(
            table.lines().any(|line| line.starts_with(&format!("| {code} |"))),
            "{code} is not in the table"
        );
    }
}
