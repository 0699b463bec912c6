use std::time::Duration;

use setpoint_model::fingerprint::{Class, Fingerprint};

use super::*;
use crate::snapshot::Size;
use setpoint_model::digest::Digest;
use setpoint_model::names::{PipelineName, StepName};

fn place() -> (tempfile::TempDir, Roots) {
    let folder = tempfile::tempdir().unwrap();
    let roots = Roots { state: folder.path().join("state"), config: folder.path().join("config") };
    (folder, roots)
}

fn id(text: &str) -> Digest {
    Digest::of_bytes(text.as_bytes())
}

/// A result of this name on layers of these names; its key is `key-NAME`.
fn new(name: &str, layers: &[&str]) -> NewResult {
    NewResult {
        id: id(name),
        key: id(&format!("key-{}", name.trim_end_matches('\''))),
        project: "p".to_owned(),
        pipeline: PipelineName::new("ci").unwrap(),
        step: StepName::new("step").unwrap(),
        run: 1,
        took: Duration::from_secs(2),
        chains: Chains { system: layers.iter().map(|name| id(name)).collect(), workspace: Vec::new() },
    }
}

fn with(cache: &mut CacheDb, results: &[(&str, &[&str])]) {
    cache
        .write(|writer| {
            for (name, layers) in results {
                writer.record(&new(name, layers))?;
                if layers.last() == Some(name) {
                    writer.counted(id(name), &Size { bytes: 100, files: 1, shape: id(name) })?;
                }
            }
            Ok(())
        })
        .unwrap();
}

fn known(cache: &CacheDb, names: &[&str]) -> Vec<bool> {
    let results = cache.results().unwrap();
    names.iter().map(|name| results.iter().any(|row| row.id == id(name))).collect()
}

const FOREVER: Duration = Duration::from_secs(1 << 30);

#[test]
fn a_key_leads_to_its_last_result() {
    let (_folder, roots) = place();
    let mut cache = CacheDb::open(&roots).unwrap();
    with(&mut cache, &[("a", &["a"]), ("a'", &["a'"])]);
    let found = cache.write(|writer| writer.take(id("key-a"), None)).unwrap().unwrap();
    assert_eq!((found.id, found.took), (id("a'"), Duration::from_secs(2)));
    assert_eq!(cache.write(|writer| writer.take(id("key-b"), None)).unwrap(), None);
    drop(cache);
    let mut again = CacheDb::open(&roots).unwrap();
    assert!(again.write(|writer| writer.find(id("key-a"))).unwrap().is_some());
}

#[test]
fn a_result_that_is_too_old_is_none() {
    let (_folder, roots) = place();
    let mut cache = CacheDb::open(&roots).unwrap();
    with(&mut cache, &[("a", &["a"])]);
    let later = Timestamp::now() + Duration::from_secs(60);
    assert_eq!(cache.write(|writer| writer.take(id("key-a"), Some(later))).unwrap(), None);
}

#[test]
fn what_was_used_the_longest_ago_goes_first_and_children_before_parents() {
    let (_folder, roots) = place();
    let mut cache = CacheDb::open(&roots).unwrap();
    with(&mut cache, &[("parent", &["parent"]), ("child", &["parent", "child"]), ("other", &["other"])]);
    std::thread::sleep(Duration::from_millis(3));
    cache.write(|writer| writer.take(id("key-other"), None)).unwrap();
    let names = ["parent", "child", "other"];
    for (bytes, left) in [(250, [true, false, true]), (150, [false, false, true]), (50, [false; 3])] {
        let evicted = cache.write(|writer| writer.evict(Bounds { bytes, age: FOREVER })).unwrap();
        assert_eq!((known(&cache, &names), evicted), (left.to_vec(), Evicted { results: 1, bytes: 100 }));
    }
}

#[test]
fn sixty_five_steps_of_one_run_do_not_evict_each_other() {
    let (_folder, roots) = place();
    let mut cache = CacheDb::open(&roots).unwrap();
    cache.write(|writer| writer.begin_lease("run")).unwrap();
    let names: Vec<String> = (0..65).map(|number| format!("s{number}")).collect();
    for name in &names {
        with(&mut cache, &[(name, &[name])]);
        cache.write(|writer| writer.evict(Bounds { bytes: 0, age: Duration::ZERO })).unwrap();
    }
    assert_eq!(cache.results().unwrap().len(), 65);
    cache.write(|writer| writer.end_lease("run")).unwrap();
    cache.write(|writer| writer.evict(Bounds { bytes: 0, age: FOREVER })).unwrap();
    assert_eq!(cache.results().unwrap().len(), 0);
}

#[test]
fn a_result_without_a_layer_of_its_own_does_not_keep_others_from_going() {
    let (_folder, roots) = place();
    let mut cache = CacheDb::open(&roots).unwrap();
    with(&mut cache, &[("parent", &["parent"]), ("child", &["parent"])]);
    cache.write(|writer| writer.evict(Bounds { bytes: 0, age: FOREVER })).unwrap();
    assert_eq!(known(&cache, &["parent", "child"]), [false, false]);
}

#[test]
fn what_a_run_used_is_leased_and_what_it_did_not_is_not() {
    let (_folder, roots) = place();
    let mut cache = CacheDb::open(&roots).unwrap();
    with(&mut cache, &[("a", &["a"]), ("b", &["b"])]);
    let mut other = CacheDb::open(&roots).unwrap();
    other.write(|writer| writer.begin_lease("run")).unwrap();
    other.write(|writer| writer.take(id("key-a"), None)).unwrap();
    cache.write(|writer| writer.evict_all()).unwrap();
    assert_eq!(known(&cache, &["a", "b"]), [true, false]);
}

#[test]
fn a_layer_lives_as_long_as_something_lies_on_it() {
    let (_folder, roots) = place();
    let mut cache = CacheDb::open(&roots).unwrap();
    with(&mut cache, &[("parent", &["parent"]), ("child", &["parent", "child"])]);
    cache.write(|writer| writer.forget(&[id("parent")])).unwrap();
    assert_eq!(cache.write(|writer| writer.live_layers()).unwrap().len(), 2);
    cache.write(|writer| writer.forget_layer(id("parent"))).unwrap();
    assert_eq!(known(&cache, &["child"]), [false]);
    assert_eq!(cache.write(|writer| writer.live_layers()).unwrap(), []);
}

#[test]
fn what_was_not_durable_when_the_machine_went_down_is_forgotten() {
    let (_folder, roots) = place();
    let mut cache = CacheDb::open(&roots).unwrap();
    with(&mut cache, &[("safe", &["safe"])]);
    cache.write(|writer| writer.durable(&writer.not_durable()?)).unwrap();
    with(&mut cache, &[("lost", &["safe", "lost"])]);
    cache.connection.execute("UPDATE layers SET boot = 'an earlier one'", []).unwrap();
    drop(cache);
    assert_eq!(known(&CacheDb::open(&roots).unwrap(), &["safe", "lost"]), [true, false]);
}

#[test]
fn a_damaged_or_foreign_database_is_begun_anew() {
    let (_folder, roots) = place();
    drop(CacheDb::open(&roots).unwrap());
    for damage in [b"this is no database at all, but long enough to be read".to_vec(), Vec::new()] {
        std::fs::write(roots.state.join("cache.db"), damage).unwrap();
        let mut cache = CacheDb::open(&roots).unwrap();
        with(&mut cache, &[("a", &["a"])]);
        assert_eq!(known(&cache, &["a"]), [true]);
    }
    let cache = CacheDb::open(&roots).unwrap();
    cache.connection.pragma_update(None, "user_version", 99).unwrap();
    drop(cache);
    assert_eq!(known(&CacheDb::open(&roots).unwrap(), &["a"]), [false]);
}

#[test]
fn a_key_is_kept_with_what_it_was_before() {
    let (_folder, roots) = place();
    let mut cache = CacheDb::open(&roots).unwrap();
    let (pipeline, step) = (PipelineName::new("ci").unwrap(), StepName::new("test").unwrap());
    let key = |value: &str| {
        let mut key = Fingerprint::default();
        key.insert_value("run", Class::Recreate, value);
        key
    };
    for value in ["one", "two", "two"] {
        cache.write(|writer| writer.remember_key("p", &pipeline, &step, &key(value))).unwrap();
    }
    let row = cache.key("p", &pipeline, &step).unwrap().unwrap();
    assert_eq!((row.leaves, row.before), (key("two"), Some(key("one"))));
    assert_eq!(cache.key("other", &pipeline, &step).unwrap(), None);
}
