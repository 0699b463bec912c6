use std::sync::Barrier;

use super::super::Store;
use super::super::open::open;
use super::*;

const V1: &[&str] = &["CREATE TABLE notes (text TEXT NOT NULL) STRICT; INSERT INTO notes VALUES ('first')"];
const V2: &[&str] = &[V1[0], "ALTER TABLE notes ADD COLUMN author TEXT NOT NULL DEFAULT 'nobody'"];
const V3: &[&str] = &[V2[0], V2[1], "CREATE TABLE authors (name TEXT NOT NULL) STRICT"];
const BROKEN: &[&str] = &[V1[0], "ALTER TABLE notes ADD COLUMN author TEXT; INSERT INTO nowhere VALUES (1)"];

fn note(store: &mut Store, text: &str) {
    store.write(|writer| writer.execute("INSERT INTO notes (text) VALUES (?1)", [text])).unwrap();
}

fn notes(store: &Store) -> Vec<String> {
    store
        .read(|view| view.prepare("SELECT text FROM notes")?.query_map([], |row| row.get(0))?.collect())
        .unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with("-wal") && !name.ends_with("-shm"))
        .collect();
    names.sort();
    names
}

fn link(folder: &Path) -> PathBuf {
    std::fs::read_link(folder.join(LINK)).unwrap()
}

#[test]
fn a_migration_makes_a_new_file_and_the_old_one_stays_until_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    note(&mut open(folder, V1).unwrap(), "second");
    assert_eq!(files(folder), ["state.db", "state.lock", "state.v1.db"]);

    let mut store = open(folder, V2).unwrap();
    assert_eq!(notes(&store), ["first", "second"]);
    note(&mut store, "third");
    drop(store);
    assert_eq!(link(folder), Path::new("state.v2.db"));
    assert_eq!(files(folder), ["state.db", "state.lock", "state.v1.db", "state.v2.db"]);

    assert_eq!(notes(&open(folder, V3).unwrap()), ["first", "second", "third"]);
    assert_eq!(files(folder), ["state.db", "state.lock", "state.v2.db", "state.v3.db"]);
}

#[test]
fn an_older_binary_refuses_a_newer_schema_by_name() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), V2).unwrap());
    let error = open(folder.path(), V1).unwrap_err();
    let StoreError::Newer { found: 2, known: 1, path } = &error else { panic!("{error}") };
    assert_eq!(path, &folder.path().join("state.v2.db"));
    assert!(error.hint().unwrap().contains("newer setpoint"));
}

#[test]
fn a_state_begins_with_what_one_before_has_left_by_its_own_schema() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    note(&mut open(folder, V2).unwrap(), "second");
    let leave = || {
        std::fs::rename(folder.join("state.v2.db"), remains::path(folder)).unwrap();
        std::fs::remove_file(folder.join(LINK)).unwrap();
    };
    leave();
    let error = open(folder, V1).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 2, known: 1, .. }), "{error}");
    assert_eq!(notes(&open(folder, V3).unwrap()), ["first", "second"]);
    assert_eq!(files(folder), ["state.db", "state.lock", "state.v3.db"]);
    // One that has a database does not look for it.
    note(&mut open(&folder.join("other"), V3).unwrap(), "other");
    std::fs::rename(folder.join("other/state.v3.db"), remains::path(folder)).unwrap();
    assert_eq!(notes(&open(folder, V3).unwrap()), ["first", "second"]);
}

#[test]
fn a_migration_that_fails_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    note(&mut open(folder.path(), V1).unwrap(), "second");
    let error = open(folder.path(), BROKEN).unwrap_err();
    assert!(matches!(error, StoreError::Unfit { found: 1, known: 2, .. }), "{error}");
    // What, where and why; and what next.
    let path = folder.path().join("state.v1.db").display().to_string();
    assert!(
        error.to_string().contains(&path) && error.to_string().ends_with(": no such table: nowhere"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains(&path), "{error}");
    assert_eq!(notes(&open(folder.path(), V1).unwrap()), ["first", "second"]);
    assert_eq!(notes(&open(folder.path(), V2).unwrap()), ["first", "second"], "and can be tried again");
}

#[test]
fn what_a_killed_migration_left_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    note(&mut open(folder.path(), V1).unwrap(), "second");
    for leftover in ["state.draft.db", "state.draft.db-wal", "state.v2.db", "state.v2.db-wal", "state.db.new"]
    {
        std::fs::write(folder.path().join(leftover), "half of something").unwrap();
    }
    assert_eq!(notes(&open(folder.path(), V2).unwrap()), ["first", "second"]);
    assert_eq!(files(folder.path()), ["state.db", "state.lock", "state.v1.db", "state.v2.db"]);
}

#[test]
fn a_lost_link_is_turned_again_and_no_database_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    note(&mut open(folder.path(), V1).unwrap(), "second");
    for migrations in [V1, V2] {
        std::fs::remove_file(folder.path().join(LINK)).unwrap();
        assert_eq!(notes(&open(folder.path(), migrations).unwrap()), ["first", "second"]);
    }
}

#[test]
fn a_database_that_was_moved_away_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut store = open(folder, V1).unwrap();
    note(&mut store, "second");
    // As if it was killed: its log stays behind, with the second note in it.
    let log = std::fs::read(folder.join("state.v1.db-wal")).unwrap();
    drop(store);
    std::fs::write(folder.join("state.v1.db-wal"), log).unwrap();
    std::fs::rename(folder.join("state.v1.db"), folder.join("away.db")).unwrap();
    assert_eq!(notes(&open(folder, V2).unwrap()), ["first"]);
    std::fs::remove_file(folder.join("state.v2.db")).unwrap();
    assert_eq!(notes(&open(folder, V1).unwrap()), ["first"], "the log was not read into it");
}

#[test]
fn many_that_open_at_once_migrate_once() {
    let folder = tempfile::tempdir().unwrap();
    for migrations in [V1, V2, V3] {
        let barrier = Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    barrier.wait();
                    let mut store = open(folder.path(), migrations).unwrap();
                    note(&mut store, "more");
                });
            }
        });
    }
    assert_eq!(notes(&open(folder.path(), V3).unwrap()).len(), 1 + 3 * 8);
}

#[test]
fn a_migration_waits_for_all_others_to_end_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut old = open(folder.path(), V1).unwrap();
    let error = open(folder.path(), V2).unwrap_err();
    assert!(matches!(&error, StoreError::Busy { for_migration: true, .. }), "{error}");
    assert!(error.hint().unwrap().contains("daemon"));
    note(&mut old, "second");
    drop(old);
    assert_eq!(notes(&open(folder.path(), V2).unwrap()), ["first", "second"]);
}

#[test]
fn the_schema_of_this_binary_is_the_number_of_its_migrations() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), MIGRATIONS).unwrap();
    let version: u32 =
        store.read(|view| view.pragma_query_value(None, "user_version", |row| row.get(0))).unwrap();
    assert_eq!(version as usize, MIGRATIONS.len());
    let mode: String =
        store.read(|view| view.pragma_query_value(None, "journal_mode", |row| row.get(0))).unwrap();
    let synchronous: u32 =
        store.read(|view| view.pragma_query_value(None, "synchronous", |row| row.get(0))).unwrap();
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
}
