//! What is entered into the state database reads back.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use setpoint_model::digest::Digest;
use setpoint_model::names::{HookName, UnitName};
use setpoint_runtime::paths::Roots;
use setpoint_runtime::store::{
    EntryKind, NewUnit, OperationOutcome, PackRow, PhaseOutcome, PhaseRow, RecordedLeaf, Store, StoreError,
    TxId, UnitId, UnitKind,
};

struct State {
    folder: tempfile::TempDir,
    store: Store,
}

impl State {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&roots(folder.path())).unwrap();
        Self { folder, store }
    }

    fn with_unit() -> (Self, UnitId) {
        let mut state = Self::new();
        let id = state.store.write(|writer| writer.insert_unit(&unit("/p", "dev"), at(1))).unwrap();
        (state, id)
    }
}

fn roots(folder: &Path) -> Roots {
    Roots { state: folder.join("state"), config: folder.join("config") }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn name(name: &str) -> UnitName {
    UnitName::new(name).unwrap()
}

fn unit(root: &str, unit: &str) -> NewUnit {
    NewUnit {
        project_root: PathBuf::from(root),
        project_name: "project".to_owned(),
        name: name(unit),
        kind: UnitKind::Env,
        engine: "embedded".to_owned(),
        instance: None,
        labels: BTreeMap::from([("setpoint.unit".to_owned(), unit.to_owned())]),
    }
}

fn leaf(path: &str, value: &str) -> RecordedLeaf {
    RecordedLeaf {
        path: path.to_owned(),
        class: "hot".to_owned(),
        digest: Digest::of_bytes(value.as_bytes()),
        shown: Some(value.to_owned()),
        version: 1,
    }
}

fn pack(name: &str) -> PackRow {
    let digest = Digest::of_bytes(name.as_bytes());
    PackRow { name: name.to_owned(), digest, at: at(5), took: Duration::from_millis(1_234) }
}

#[test]
fn units_are_found_by_project_and_name() {
    let mut state = State::new();
    let odd = PathBuf::from(OsStr::from_bytes(b"/p\xff"));
    let mut strange = unit("/", "dev");
    strange.project_root.clone_from(&odd);
    state
        .store
        .write(|writer| {
            for new in [&unit("/p", "web"), &unit("/p", "dev"), &strange] {
                writer.insert_unit(new, at(1))?;
            }
            Ok(())
        })
        .unwrap();
    let names = |units: Vec<setpoint_runtime::store::Unit>| -> Vec<String> {
        units.into_iter().map(|unit| unit.unit.name.to_string()).collect()
    };
    assert_eq!(names(state.store.units(Path::new("/p")).unwrap()), ["dev", "web"]);
    assert_eq!(state.store.all_units().unwrap().len(), 3);
    let found = state.store.unit(&odd, &name("dev")).unwrap().unwrap();
    assert_eq!((found.unit, found.created_at), (strange, at(1)));
    assert_eq!(state.store.unit(Path::new("/q"), &name("dev")).unwrap(), None);
}

#[test]
fn a_unit_changes_and_goes() {
    let (mut state, id) = State::with_unit();
    let again = state.store.write(|writer| writer.insert_unit(&unit("/p", "dev"), at(2)));
    assert!(matches!(again, Err(StoreError::Exists { .. })));

    let instance = |state: &mut State, instance, when| {
        state.store.write(|writer| writer.set_instance(id, instance, at(when))).unwrap();
        let found = state.store.unit(Path::new("/p"), &name("dev")).unwrap().unwrap();
        (found.unit.instance, found.created_at)
    };
    assert_eq!(instance(&mut state, Some("i-1"), 3), (Some("i-1".to_owned()), at(3)));
    assert_eq!(instance(&mut state, Some("i-1"), 4), (Some("i-1".to_owned()), at(3)));
    assert_eq!(instance(&mut state, None, 5), (None, at(3)));
    assert_eq!(instance(&mut state, Some("i-2"), 6), (Some("i-2".to_owned()), at(6)));

    state
        .store
        .write(|writer| {
            writer.record_leaves(id, &[leaf("a", "1")], at(2))?;
            writer.remove_unit(id)
        })
        .unwrap();
    assert!(state.store.all_units().unwrap().is_empty());
    assert_eq!(state.store.recorded(id).unwrap(), Default::default());
    assert!(matches!(
        state.store.write(|writer| writer.set_instance(id, None, at(2))),
        Err(StoreError::Missing { .. })
    ));
    let new = state.store.write(|writer| writer.insert_unit(&unit("/p", "dev"), at(3))).unwrap();
    assert_ne!(new, id, "an id is never used again");
}

#[test]
fn records_are_read_at_once() {
    let (mut state, id) = State::with_unit();
    let phase = PhaseRow {
        hook: HookName::PostCreate,
        digest: Some(Digest::of_bytes(b"hook")),
        instance: "i-1".to_owned(),
        outcome: PhaseOutcome::Succeeded,
        at: at(4),
        took: Duration::from_secs(3),
    };
    let earlier = PhaseRow { hook: HookName::OnCreate, ..phase.clone() };
    state
        .store
        .write(|writer| {
            writer.record_leaves(id, &[leaf("b", "1"), leaf("a", "1"), leaf("c", "1")], at(2))?;
            writer.record_leaves(id, &[leaf("a", "2")], at(3))?;
            writer.remove_leaves(id, &["c", "never"])?;
            for (position, name) in ["one", "two", "three"].into_iter().enumerate() {
                writer.put_pack(id, position, &pack(name))?;
            }
            writer.record_phase(id, &phase)?;
            writer.record_phase(id, &earlier)
        })
        .unwrap();
    let rows = state.store.recorded(id).unwrap();
    let leaves: Vec<_> = rows.leaves.iter().map(|row| (row.leaf.clone(), row.at)).collect();
    assert_eq!(leaves, [(leaf("a", "2"), at(3)), (leaf("b", "1"), at(2))]);
    assert_eq!(rows.packs, [pack("one"), pack("two"), pack("three")]);
    assert_eq!(rows.phases, [earlier.clone(), phase]);

    state
        .store
        .write(|writer| {
            writer.cut_packs(id, 1)?;
            writer.put_pack(id, 1, &pack("four"))?;
            writer.remove_phase(id, HookName::PostCreate)
        })
        .unwrap();
    let rows = state.store.recorded(id).unwrap();
    assert_eq!((rows.packs, rows.phases), (vec![pack("one"), pack("four")], vec![earlier]));
}

#[test]
fn a_write_that_fails_leaves_nothing() {
    let (mut state, id) = State::with_unit();
    let result = state.store.write(|writer| {
        writer.record_leaves(id, &[leaf("a", "1")], at(2))?;
        writer.insert_unit(&unit("/p", "dev"), at(2))
    });
    assert!(result.is_err());
    assert!(state.store.recorded(id).unwrap().leaves.is_empty());
}

#[test]
fn an_adopted_unit_has_hooks_of_which_nobody_knows() {
    let mut state = State::new();
    let found = NewUnit { instance: Some("i-9".to_owned()), ..unit("/p", "dev") };
    let id = state.store.write(|writer| writer.adopt_unit(&found, at(1))).unwrap();
    let phases = state.store.recorded(id).unwrap().phases;
    let known: Vec<_> = phases.iter().map(|row| (row.hook, row.outcome, row.instance.as_str())).collect();
    let unknown = PhaseOutcome::Unknown;
    assert_eq!(known, [(HookName::OnCreate, unknown, "i-9"), (HookName::PostCreate, unknown, "i-9")]);
}

#[test]
fn an_operation_that_never_ended_is_found_with_all_that_it_wrote_down() {
    let (mut state, id) = State::with_unit();
    let (dead, alive) = (TxId::new("t-1"), TxId::new("t-2"));
    state
        .store
        .write(|writer| {
            writer.begin(&dead, id, "up dev", at(1))?;
            writer.intent(&dead, "create", &json!({"name": "x"}), at(2))?;
            writer.done(&dead, "create", &json!({"instance": "i-1"}), at(3))?;
            writer.intent(&dead, "start", &json!(null), at(4))
        })
        .unwrap();
    let open = state.store.open_operations(id).unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].operation.what.as_str(), open[0].operation.pid), ("up dev", std::process::id()));
    let entries: Vec<_> = open[0].entries.iter().map(|entry| (entry.step.as_str(), entry.kind)).collect();
    assert_eq!(
        entries,
        [("create", EntryKind::Intent), ("create", EntryKind::Done), ("start", EntryKind::Intent)]
    );
    assert_eq!(open[0].entries[1].payload, json!({"instance": "i-1"}));
    assert_eq!(state.store.last_operation(id).unwrap().unwrap().ended, None);

    state
        .store
        .write(|writer| {
            writer.finish(&dead, OperationOutcome::Recovered, None, at(5))?;
            writer.begin(&alive, id, "up dev", at(6))?;
            writer.failed(&alive, "start", &json!("no space"), at(7))?;
            writer.finish(&alive, OperationOutcome::Failed, Some("start: no space"), at(8))
        })
        .unwrap();
    assert!(state.store.open_operations(id).unwrap().is_empty());
    let last = state.store.last_operation(id).unwrap().unwrap();
    assert_eq!(last.ended, Some((OperationOutcome::Failed, at(8))));
    assert_eq!(last.detail.as_deref(), Some("start: no space"));
    assert_eq!(state.store.journal(&dead).unwrap().len(), 3);
}

#[test]
fn the_journal_of_a_unit_does_not_grow_for_ever() {
    let (mut state, id) = State::with_unit();
    let txid = |number: usize| TxId::new(format!("t-{number}"));
    let open = TxId::new("open");
    state
        .store
        .write(|writer| {
            writer.begin(&open, id, "up", at(0))?;
            for number in 0..60 {
                writer.begin(&txid(number), id, "up", at(1))?;
                writer.intent(&txid(number), "start", &json!(null), at(1))?;
                writer.finish(&txid(number), OperationOutcome::Succeeded, None, at(2))?;
            }
            Ok(())
        })
        .unwrap();
    let kept = (0..60).filter(|number| !state.store.journal(&txid(*number)).unwrap().is_empty()).count();
    assert_eq!(kept, 50);
    assert_eq!(state.store.open_operations(id).unwrap().len(), 1, "what is open stays, however old");
}

#[test]
fn an_operation_outlives_the_unit_that_it_removes() {
    let (mut state, id) = State::with_unit();
    let txid = TxId::new("t");
    state.store.write(|writer| writer.begin(&txid, id, "down dev", at(1))).unwrap();
    state.store.write(|writer| writer.remove_unit(id)).unwrap();
    assert_eq!(state.store.open_operations(id).unwrap().len(), 1);
    state.store.write(|writer| writer.finish(&txid, OperationOutcome::Succeeded, None, at(2))).unwrap();
    assert_eq!(state.store.last_operation(id).unwrap(), None);
    let never =
        state.store.write(|writer| writer.finish(&TxId::new("x"), OperationOutcome::Failed, None, at(2)));
    assert!(matches!(never, Err(StoreError::Missing { .. })));
}

#[test]
fn a_run_that_only_reads_writes_nothing() {
    let (state, id) = State::with_unit();
    let State { folder, store } = state;
    drop(store);
    let files = || -> Vec<_> {
        let mut files: Vec<_> = std::fs::read_dir(folder.path().join("state"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| !entry.file_name().to_str().unwrap().ends_with("-shm"))
            .map(|entry| {
                (
                    entry.file_name(),
                    std::fs::read(entry.path()).unwrap(),
                    entry.metadata().unwrap().modified().unwrap(),
                )
            })
            .collect();
        files.sort();
        files
    };
    let before = files();
    std::thread::sleep(Duration::from_millis(30));
    let store = Store::open(&roots(folder.path())).unwrap();
    assert_eq!(store.all_units().unwrap().len(), 1);
    store.recorded(id).unwrap();
    store.last_operation(id).unwrap();
    store.check().unwrap();
    drop(store);
    assert_eq!(files(), before);
}
