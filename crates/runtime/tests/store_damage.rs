//! What is wrong with the state's files is named, with what to do about it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use serde_json::json;
use setpoint_model::names::UnitName;
use setpoint_runtime::paths::Roots;
use setpoint_runtime::store::{NewUnit, Store, StoreError, TxId, UnitKind};

fn roots(folder: &Path) -> Roots {
    Roots { state: folder.join("state"), config: folder.join("config") }
}

/// Enters a unit, and an operation that is large enough for several pages.
fn fill(store: &mut Store, size: usize) -> Result<(), StoreError> {
    let new = NewUnit {
        project_root: PathBuf::from("/p"),
        project_name: "p".to_owned(),
        name: UnitName::new("dev").unwrap(),
        kind: UnitKind::Env,
        engine: "embedded".to_owned(),
        instance: None,
        labels: Default::default(),
    };
    let (txid, now) = (TxId::new("t"), Timestamp::now());
    store.write(|writer| {
        let unit = writer.insert_unit(&new, now)?;
        writer.begin(&txid, unit, "up", now)?;
        writer.intent(&txid, "step", &json!("x".repeat(size)), now)
    })
}

/// A state folder with a database in it that nobody has open.
fn state() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&roots(folder.path())).unwrap();
    fill(&mut store, 100_000).unwrap();
    let path = store.path().to_owned();
    (folder, path)
}

/// All that `status` reads.
fn read_all(folder: &Path) -> Result<(), StoreError> {
    let store = Store::open(&roots(folder))?;
    for unit in store.all_units()? {
        store.recorded(unit.id)?;
        store.open_operations(unit.id)?;
    }
    store.check()
}

fn is_damaged(folder: &Path, path: &Path) {
    let error = read_all(folder).unwrap_err();
    let StoreError::Damaged { path: named, .. } = &error else { panic!("{error:?}") };
    assert_eq!(named, path);
    let hint = error.hint().unwrap();
    assert!(hint.contains(&format!("move `{}` away", path.display())) && hint.contains("labels"), "{hint}");

    // The hint works.
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
    read_all(folder).unwrap();
}

#[test]
fn garbage_is_damage() {
    let (folder, path) = state();
    std::fs::write(&path, vec![b'x'; 50_000]).unwrap();
    is_damaged(folder.path(), &path);
}

#[test]
fn an_empty_file_is_damage() {
    let (folder, path) = state();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    is_damaged(folder.path(), &path);
}

#[test]
fn a_truncated_file_is_damage() {
    for keep in [50, 600, 4096, 8192, 60_000] {
        let (folder, path) = state();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(keep).unwrap();
        is_damaged(folder.path(), &path);
    }
}

#[test]
fn a_page_of_garbage_is_damage() {
    let (folder, path) = state();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    for page in 1..8 {
        file.write_all_at(&[0xa5; 4096], page * 4096).unwrap();
    }
    is_damaged(folder.path(), &path);
}

#[test]
fn another_programs_database_is_damage() {
    let (folder, path) = state();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0; 4], 68).unwrap();
    is_damaged(folder.path(), &path);
}

#[test]
fn a_truncated_log_loses_at_most_what_it_held() {
    for keep in [0, 10, 32, 5_000, 50_000] {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(&roots(folder.path())).unwrap();
        fill(&mut store, 100_000).unwrap();
        let log = PathBuf::from(format!("{}-wal", store.path().display()));
        // As if the process was killed now, and the disk lost the end of the log.
        let copy = tempfile::tempdir().unwrap();
        std::fs::create_dir(copy.path().join("state")).unwrap();
        for file in [store.path(), &log] {
            std::fs::copy(file, copy.path().join("state").join(file.file_name().unwrap())).unwrap();
        }
        let log = copy.path().join("state").join(log.file_name().unwrap());
        OpenOptions::new().write(true).open(&log).unwrap().set_len(keep).unwrap();
        read_all(copy.path()).unwrap();
        let store = Store::open(&roots(copy.path())).unwrap();
        assert!(store.all_units().unwrap().is_empty(), "half a transaction is none");
    }
}

#[test]
fn a_file_in_the_place_of_the_link_is_damage() {
    let (folder, _) = state();
    let link = folder.path().join("state/state.db");
    std::fs::remove_file(&link).unwrap();
    std::fs::write(&link, "x").unwrap();
    assert!(
        matches!(Store::open(&roots(folder.path())), Err(StoreError::Damaged { path, .. }) if path == link)
    );
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("state"), "in the way").unwrap();
    let error = Store::open(&roots(folder.path())).unwrap_err();
    assert!(error.to_string().contains("state"), "{error}");
}

const WHAT: &str = "SETPOINT_TEST_WHAT";
const FOLDER: &str = "SETPOINT_TEST_FOLDER";

/// Runs `other_process` under a command that gives it another view of the folder, where the system allows
/// that.
fn under(command: &mut Command, what: &str, folder: &Path) {
    let status =
        command.env(WHAT, what).env(FOLDER, folder).env("SELF", std::env::current_exe().unwrap()).status();
    match status.map(|status| status.code()) {
        // The mount was refused, or the other user may not execute this binary.
        Ok(Some(77 | 126)) | Err(_) => {}
        Ok(code) => assert_eq!(code, Some(0), "{what}"),
    }
}

#[test]
#[ignore = "is what other tests run as a process of its own"]
fn other_process() {
    let (Ok(what), Some(folder)) = (std::env::var(WHAT), std::env::var_os(FOLDER)) else { return };
    let roots = roots(Path::new(&folder));
    let result = Store::open(&roots).and_then(|mut store| fill(&mut store, 1_000_000));
    match (what.as_str(), result) {
        ("full", Err(error @ StoreError::Full { .. })) => {
            assert!(error.hint().unwrap().contains("make room at"))
        }
        ("read-only", Err(error @ StoreError::ReadOnly { .. })) => assert!(error.hint().is_some()),
        ("denied", Err(error @ StoreError::Denied { .. })) => assert!(error.hint().is_some()),
        (what, result) => panic!("{what}: {result:?}"),
    }
}

/// A shell command in a mount namespace of its own, and then this test's binary.
fn mounted(mount: &str) -> Command {
    let mut command = Command::new("unshare");
    let script = format!(
        "{{ {mount}; }} 2>/dev/null || exit 77; exec \"$SELF\" --exact other_process --ignored --quiet"
    );
    command.args(["--map-root-user", "--mount", "sh", "-c", &script]);
    command
}

#[test]
fn a_full_disk_is_named() {
    for size in ["16k", "200k"] {
        let folder = tempfile::tempdir().unwrap();
        let mount = format!("mount -t tmpfs -o size={size} none \"${FOLDER}\"");
        under(&mut mounted(&mount), "full", folder.path());
    }
}

#[test]
fn a_disk_that_is_full_for_all_but_reading_is_named() {
    let (used, path) = state();
    std::fs::remove_file(format!("{}-shm", path.display())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mount = format!(
        "mount -t tmpfs -o size=400k none \"${FOLDER}\" && cp -r {}/state \"${FOLDER}\" && cat /dev/zero > \"${FOLDER}/rest\"; test -s \"${FOLDER}/rest\"",
        used.path().display()
    );
    under(&mut mounted(&mount), "full", folder.path());
}

#[test]
fn a_read_only_disk_is_named() {
    let fresh = tempfile::tempdir().unwrap();
    let (used, _) = state();
    for folder in [&fresh, &used] {
        let mount =
            format!("mount --bind \"${FOLDER}\" \"${FOLDER}\" && mount -o remount,bind,ro \"${FOLDER}\"");
        under(&mut mounted(&mount), "read-only", folder.path());
    }
}

#[test]
fn a_missing_permission_is_named() {
    let (folder, path) = state();
    let mode =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(folder.path(), 0o755);
    let state = folder.path().join("state");
    let go = || {
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$SELF\" --exact other_process --ignored --quiet"]);
        if rustix::process::geteuid().is_root() {
            std::os::unix::process::CommandExt::uid(&mut command, 65_534);
        }
        under(&mut command, "denied", folder.path())
    };
    mode(&state, 0o000);
    go();
    mode(&state, 0o755);
    mode(&state.join("state.lock"), 0o666);
    mode(&path, 0o000);
    go();
    mode(&state, 0o700);
}
