use std::path::PathBuf;

use setpoint_model::names::UnitName;
use setpoint_model::reconcile::History;

use super::*;
use crate::store::{NewUnit, UnitKind};

/// A state with one unit that is wanted to run.
fn state() -> (tempfile::TempDir, Roots, Store, store::UnitId) {
    let place = tempfile::tempdir().unwrap();
    let roots = Roots { state: place.path().join("state"), config: place.path().join("config") };
    let mut store = Store::open(&roots).unwrap();
    let unit = NewUnit {
        project_root: PathBuf::from("/shop"),
        project_name: "shop".to_owned(),
        name: UnitName::new("web").unwrap(),
        kind: UnitKind::Env,
        engine: "embedded".to_owned(),
        instance: None,
        labels: BTreeMap::new(),
    };
    let now = Timestamp::now();
    let unit = store.write(|writer| writer.insert_unit(&unit, now)).unwrap();
    store.write(|writer| writer.put_intent(unit, Wanted::Up, "{}", now)).unwrap();
    (place, roots, store, unit)
}

fn asked(store: &mut Store, unit: store::UnitId, asked: Asked) -> TxId {
    let kept = store.kept(unit).unwrap().unwrap();
    ask(store, &kept, asked, "a test").unwrap()
}

fn current(store: &mut Store, unit: store::UnitId) -> Vec<(TxId, Asked)> {
    let kept = store.kept(unit).unwrap().unwrap();
    let requests = requests(store, &kept).unwrap();
    requests.into_iter().map(|(txid, request)| (txid, request.asked)).collect()
}

fn outcome(store: &Store, txid: &TxId) -> Option<OperationOutcome> {
    store.operation(txid).unwrap().unwrap().ended.map(|(outcome, _)| outcome)
}

#[test]
fn what_is_asked_for_last_counts() {
    let (_place, _, mut store, unit) = state();
    let stop = asked(&mut store, unit, Asked::Stop);
    assert_eq!(store.kept(unit).unwrap().unwrap().intent.wanted, Wanted::Stopped);
    // The same wish again is no other one.
    let again = asked(&mut store, unit, Asked::Kill);
    let both = vec![(stop.clone(), Asked::Stop), (again.clone(), Asked::Kill)];
    assert_eq!(current(&mut store, unit), both);
    let start = asked(&mut store, unit, Asked::Start);
    assert_eq!(current(&mut store, unit), [(start, Asked::Start)]);
    assert_eq!(outcome(&store, &stop), Some(OperationOutcome::Cancelled));
    assert_eq!(outcome(&store, &again), Some(OperationOutcome::Cancelled));
}

#[test]
fn only_a_retry_forgives_what_a_person_has_to_look_at() {
    let (_place, _, mut store, unit) = state();
    let broken = History { needs_operator: Some("broken".to_owned()), ..History::default() };
    let text = serde_json::to_string(&broken).unwrap();
    store.write(|writer| writer.put_history(unit, 1, &text)).unwrap();
    let needs = |store: &Store| history(&store.kept(unit).unwrap().unwrap()).needs_operator;
    asked(&mut store, unit, Asked::Start);
    assert!(needs(&store).is_some());
    asked(&mut store, unit, Asked::Retry);
    assert_eq!(needs(&store), None);
}

#[test]
fn what_a_process_left_that_died_is_told_apart_from_what_waits() {
    let (_place, _, mut store, unit) = state();
    let (left, now) = (TxId::new("left"), Timestamp::now());
    store.write(|writer| writer.begin(&left, unit, "stop web", now)).unwrap();
    let mine = begin_asked(&mut store, unit, "up web").unwrap();
    let start = asked(&mut store, unit, Asked::Start);
    assert_eq!(current(&mut store, unit), [(start.clone(), Asked::Start)]);
    assert_eq!(outcome(&store, &left), Some(OperationOutcome::Recovered));
    assert_eq!(outcome(&store, &mine), None, "this process leads it");
    close_abandoned(&mut store).unwrap();
    assert_eq!((outcome(&store, &mine), outcome(&store, &start)), (None, None));
}

#[test]
fn a_stop_is_seen_for_as_long_as_somebody_has_the_lock() {
    let (_place, roots, mut store, unit) = state();
    let row = store.kept(unit).unwrap().unwrap().unit;
    let phase = |store: &Store| under_way(store, &roots, &row, 5).unwrap().map(|operation| operation.phase);
    let lock = lock::UnitLock::acquire(&roots, &row.unit.project_root, &row.unit.name, "a test", |_| {
        std::ops::ControlFlow::Break(())
    });
    assert_eq!(phase(&store), None);
    let operation = TxId::new("stop");
    store
        .write(|writer| {
            writer.begin(&operation, unit, "stop web", Timestamp::now())?;
            note_stop(writer, &operation, Duration::from_secs(7))
        })
        .unwrap();
    assert!(matches!(phase(&store), Some(Phase::Stopping { grace: 7000, .. })));
    drop(lock.unwrap());
    assert_eq!(phase(&store), None);
}
