//! What leads today's data back to a version before, and why nothing does.

use super::fixtures;
use super::ledger::{Due, NO_VOLUME, ON_HOST, Planned};
use super::migration::{Defaults, Migration, MigrationError, Stage};
use super::upgrade::{Kind, Lane, Upgrade};
use super::way_back::{NoWayBack, way_back};

const IN_DB: &str = "# setpoint: in = \"db\"\n# setpoint: stage = \"post\"\n";
const ON_MACHINE: &str =
    "# setpoint: in = \"host\"\n# setpoint: paths = [\"/srv\"]\n# setpoint: check = \"true\"\n";

/// A migration with what takes it back, which touches this.
fn declared(id: &str, head: &str, touches: &str) -> (Migration, Vec<String>) {
    let (up, down) = (format!("migrations/{id}.sh"), format!("migrations/{id}.down.sh"));
    let defaults = Defaults::default();
    let mut migration = Migration::parse(&up, head, format!("up {id}"), &defaults).unwrap().unwrap();
    migration.add_down(&down, "# setpoint: timeout = \"1h\"\n", format!("down {id}"), &defaults).unwrap();
    (migration, vec![touches.to_owned()])
}

/// A change that carried these out.
fn change(kind: Kind, migrations: &[(Migration, Vec<String>)]) -> Upgrade {
    let planned = |(migration, touches): &(Migration, Vec<String>)| Planned {
        id: migration.id.clone(),
        sha256: migration.sha256.clone(),
        unit: migration.r#in.service().cloned(),
        stage: migration.stage,
        due: Due::Run,
        touches: touches.clone(),
        paths: migration.r#in.paths().to_vec(),
    };
    let migrations = migrations.iter().map(planned).collect();
    Upgrade { kind, lane: Lane::Breaking, migrations, ..fixtures::change() }
}

#[test]
fn what_was_done_last_is_taken_back_first() {
    let all = [
        declared("0.2.0/1-a", IN_DB, "data"),
        declared("0.2.0/2-host", ON_MACHINE, ON_HOST),
        declared("0.10.0/1-b", IN_DB, "data"),
    ];
    let undone = [change(Kind::Upgrade, &all[2..]), change(Kind::Upgrade, &all[..2])];
    let back = way_back(&[&undone[0], &undone[1]], &all, &["data".to_owned()]).unwrap();
    let shown: Vec<_> =
        back.iter().map(|planned| (planned.id.to_string(), planned.sha256.as_str())).collect();
    let wanted = ["0.10.0/1-b", "0.2.0/2-host", "0.2.0/1-a"];
    assert_eq!(shown.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), wanted);
    assert!(shown.iter().all(|(id, sha256)| *sha256 == format!("down {id}")), "{shown:?}");
    assert_eq!((back[0].stage, back[1].paths.as_slice()), (Stage::Post, &["/srv".to_owned()][..]));
}

#[test]
fn where_nothing_leads_back_it_is_told_why() {
    let all = [declared("0.2.0/1-a", IN_DB, "data")];
    let id = || all[0].0.id.clone();
    let good = change(Kind::Upgrade, &all);
    let why = |change: &Upgrade, all: &[(Migration, Vec<String>)], moved: &[&str]| {
        let moved: Vec<String> = moved.iter().map(|&name| name.to_owned()).collect();
        way_back(&[change], all, &moved).unwrap_err()
    };
    assert_eq!(why(&change(Kind::Restore, &all), &all, &["data"]), NoWayBack::Elsewhere);
    assert_eq!(why(&change(Kind::Rollback, &[]), &all, &["data"]), NoWayBack::Elsewhere);
    assert_eq!(why(&good, &[], &["data"]), NoWayBack::Unknown(id()));
    assert_eq!(why(&good, &all, &["data", "other"]), NoWayBack::Silent("other".to_owned()));
    assert_eq!(why(&change(Kind::Upgrade, &[]), &all, &["data"]), NoWayBack::Silent("data".to_owned()));
    let mut other = all.clone();
    other[0].0.down = None;
    assert_eq!(why(&good, &other, &["data"]), NoWayBack::Without(id()));
    other[0].0.sha256 = "other".to_owned();
    assert_eq!(why(&good, &other, &["data"]), NoWayBack::Unknown(id()));
    let mut asked = good.clone();
    asked.migrations[0].due = Due::Ask;
    assert_eq!(why(&asked, &all, &["data"]), NoWayBack::Asked(id()));
    let mut elsewhere = good.clone();
    elsewhere.migrations[0].touches.push(NO_VOLUME.to_owned());
    assert_eq!(why(&elsewhere, &all, &["data"]), NoWayBack::NoVolume(id()));
    // What the data brought with it was not done here.
    let mut covered = good;
    covered.migrations[0].due = Due::Cover;
    assert_eq!(why(&covered, &all, &["data"]), NoWayBack::Silent("data".to_owned()));
}

#[test]
fn what_takes_a_migration_back_says_only_how_it_is_run() {
    let (mut migration, _) = declared("0.2.0/1-a", IN_DB, "data");
    let defaults = Defaults::default();
    let mut add = |path: &str, text: &str| migration.add_down(path, text, String::new(), &defaults);
    let twice = add("migrations/0.2.0/1-a.down.py", "");
    assert!(matches!(twice, Err(MigrationError::SamePlace { .. })), "{twice:?}");
    assert_eq!(add("migrations/0.2.0/1-a.sh", ""), Ok(()));
    migration.down = None;
    for (text, says) in [
        ("# setpoint: in = \"web\"\n", "`in` is said by the migration"),
        ("# setpoint: check = \"true\"\n", "`check` is said by the migration"),
        ("\n# setpoint: timeout = \"1\"\n", "migrations/0.2.0/1-a.down.sh:2: "),
        ("# setpoint: run = []\n", "which program"),
    ] {
        let error = migration.add_down("migrations/0.2.0/1-a.down.sh", text, String::new(), &defaults);
        let said = error.unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
}
