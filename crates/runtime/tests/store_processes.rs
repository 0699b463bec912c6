//! The state database and the locks under several processes, some of which are killed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use setpoint_model::names::UnitName;
use setpoint_runtime::lock::{Lease, LockError, Retirement, UnitLock};
use setpoint_runtime::paths::Roots;
use setpoint_runtime::store::{NewUnit, OperationOutcome, Store, TxId, UnitId, UnitKind};

const TASK: &str = "SETPOINT_TEST_TASK";
const FOLDER: &str = "SETPOINT_TEST_FOLDER";

/// Starts this test's binary again, to do a task in a process of its own.
fn start(task: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "other_process", "--ignored", "--nocapture"])
        .env(TASK, task)
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "is what other tests run as a process of its own"]
fn other_process() {
    let (Ok(task), Some(folder)) = (std::env::var(TASK), std::env::var_os(FOLDER)) else { return };
    let roots = roots(Path::new(&folder));
    match task.as_str() {
        "open" => drop(Store::open(&roots).unwrap()),
        "write 25" => (0..25).for_each(|number| operation(&mut Store::open(&roots).unwrap(), number)),
        "write for ever" => {
            let mut store = Store::open(&roots).unwrap();
            (0..u32::MAX).for_each(|number| operation(&mut store, number));
        }
        "hold" => {
            let _lock = acquire(&roots, "up dev").unwrap();
            std::fs::write(roots.state.join("held"), "").unwrap();
            std::thread::sleep(Duration::from_secs(60));
        }
        other => panic!("no such task: {other}"),
    }
}

fn roots(folder: &Path) -> Roots {
    Roots { state: folder.join("state"), config: folder.join("config") }
}

fn dev() -> UnitName {
    UnitName::new("dev").unwrap()
}

fn with_unit(folder: &Path) -> UnitId {
    let new = NewUnit {
        project_root: PathBuf::from("/p"),
        project_name: "p".to_owned(),
        name: dev(),
        kind: UnitKind::Env,
        engine: "embedded".to_owned(),
        instance: None,
        labels: Default::default(),
    };
    Store::open(&roots(folder)).unwrap().write(|writer| writer.insert_unit(&new, Timestamp::now())).unwrap()
}

fn operation(store: &mut Store, number: u32) {
    let unit = store.all_units().unwrap()[0].id;
    let txid = TxId::new(format!("{}-{number}", std::process::id()));
    let now = Timestamp::now();
    store
        .write(|writer| {
            writer.begin(&txid, unit, "up", now)?;
            writer.intent(&txid, "start", &json!({ "number": number }), now)
        })
        .unwrap();
}

fn acquire(roots: &Roots, what: &str) -> Result<UnitLock, LockError> {
    UnitLock::acquire(roots, Path::new("/p"), &dev(), what, |_| ControlFlow::Break(()))
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn processes_that_write_at_once_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let unit = with_unit(folder.path());
    let children: Vec<_> = (0..6).map(|_| start("write 25", folder.path())).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let store = Store::open(&roots(folder.path())).unwrap();
    assert_eq!(store.open_operations(unit).unwrap().len(), 6 * 25);
    store.check().unwrap();
}

#[test]
fn a_writer_that_is_killed_leaves_whole_transactions() {
    let folder = tempfile::tempdir().unwrap();
    let unit = with_unit(folder.path());
    for round in 0..5 {
        let mut child = start("write for ever", folder.path());
        let store = Store::open(&roots(folder.path())).unwrap();
        let written = |store: &Store| store.open_operations(unit).unwrap().len();
        let before = written(&store);
        until("the child writes", || written(&store) > before + 3 + round);
        drop(store);
        child.kill().unwrap();
        child.wait().unwrap();
        let mut store = Store::open(&roots(folder.path())).unwrap();
        store.check().unwrap();
        let open = store.open_operations(unit).unwrap();
        assert!(open.iter().all(|open| open.entries.len() == 1));
        store
            .write(|writer| {
                let now = Timestamp::now();
                open.iter().try_for_each(|open| {
                    writer.finish(&open.operation.txid, OperationOutcome::Recovered, None, now)
                })
            })
            .unwrap();
    }
}

#[test]
fn a_process_that_is_killed_while_it_makes_the_database_leaves_one_that_can_be_made() {
    for delay in (0..30).map(|step| Duration::from_micros(700 * step)) {
        let folder = tempfile::tempdir().unwrap();
        let mut child = start("open", folder.path());
        std::thread::sleep(delay);
        child.kill().unwrap();
        child.wait().unwrap();
        Store::open(&roots(folder.path())).unwrap().check().unwrap();
    }
}

#[test]
fn processes_that_make_the_database_at_once_make_one() {
    let folder = tempfile::tempdir().unwrap();
    let children: Vec<_> = (0..8).map(|_| start("open", folder.path())).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn who_waits_for_a_unit_learns_for_whom_and_a_killed_holder_lets_go() {
    let folder = tempfile::tempdir().unwrap();
    let roots = roots(folder.path());
    let mut child = start("hold", folder.path());
    until("the child holds the unit", || roots.state.join("held").exists());
    let error = acquire(&roots, "down dev").unwrap_err();
    let LockError::Held { holder: Some(holder), .. } = &error else { panic!("{error}") };
    assert_eq!((holder.what.as_str(), holder.pid), ("up dev", child.id()));
    assert_eq!(error.to_string(), format!("`dev` is being worked on by `up dev` (process {})", child.id()));

    let mut asked = 0;
    let lock = UnitLock::acquire(&roots, Path::new("/p"), &dev(), "down dev", |holder| {
        assert_eq!(holder.unwrap().what, "up dev");
        asked += 1;
        if asked == 3 {
            child.kill().unwrap();
        }
        ControlFlow::Continue(())
    });
    lock.unwrap();
    child.wait().unwrap();
    assert!(asked >= 3);
}

#[test]
fn what_the_holder_starts_does_not_hold_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let roots = roots(folder.path());
    let lock = acquire(&roots, "up dev").unwrap();
    let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
    assert!(acquire(&roots, "again").is_err(), "not even its own process has it twice");
    drop(lock);
    acquire(&roots, "again").unwrap();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

#[test]
fn units_are_locked_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let roots = roots(folder.path());
    let go = |root: &str, unit: &str| {
        UnitLock::acquire(&roots, Path::new(root), &UnitName::new(unit).unwrap(), "up", |_| {
            ControlFlow::Break(())
        })
    };
    let _locks = [go("/p", "dev"), go("/p", "web"), go("/q", "dev")].map(Result::unwrap);
    assert!(go("/p", "dev").is_err());
}

#[test]
fn what_is_leased_is_not_retired() {
    let folder = tempfile::tempdir().unwrap();
    let roots = roots(folder.path());
    let leases = [(); 2].map(|()| Lease::take(&roots, "layer x").unwrap());
    assert!(Retirement::begin(&roots, "layer x").unwrap().is_none());
    assert!(Retirement::begin(&roots, "layer y").unwrap().is_some());
    drop(leases);
    let retirement = Retirement::begin(&roots, "layer x").unwrap().unwrap();
    assert!(Retirement::begin(&roots, "layer x").unwrap().is_none());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| Lease::take(&roots, "layer x").unwrap());
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished());
        drop(retirement);
        let lease = waiting.join().unwrap();
        assert!(Retirement::begin(&roots, "layer x").unwrap().is_none(), "the lease is of the new file");
        drop(lease);
    });
    assert_eq!(std::fs::read_dir(roots.state.join("leases")).unwrap().count(), 1);
}
