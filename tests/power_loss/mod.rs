//! The power goes, at any moment of what commands do to the journal and to the file that says which generation is in
//! effect: what is there afterwards is what had been promised, or what was about to be.
//!
//! The real binary is recorded call by call; what it wrote is written again to a disk that has lost, of what was not
//! synced, all, nothing, or any part; and the real code reads what is there then. `-- --nocapture` shows what came of it.
#![allow(clippy::print_stderr, reason = "a test tells what it tried")]

mod disk;
mod recording;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;
use setpoint_model::release::{Active, Decision, Step, recover};
use setpoint_runtime::paths::Roots;
use setpoint_runtime::store::{EntryKind, Store, UpgradeOutcome, UpgradeRow, UpgradeStep};
use setpoint_runtime::upgrade;

use crate::harness::Project;
use disk::{Change, Disk, Loss, Lost};
use recording::{Event, Recording};

/// How often the power goes.
const POINTS: usize = 1000;

/// A service with data.
const MANIFEST: &str = r#"setpoint = 1
[project]
version = "1.0.0"
[release]
verify = "5s"
steady = "20ms"
bake = "20ms"
[service.db]
base = "host"
user = "root"
network = "host"
volumes = { data = "/data" }
command = "trap 'exit 0' TERM; sleep 1000 & wait $!"
stop_grace = "2s"
"#;

/// What a state says.
#[derive(Debug, Clone, PartialEq)]
struct Says {
    active: Active,
    upgrades: Vec<(UpgradeRow, Vec<UpgradeStep>)>,
    /// All operations on units, with their journals, and what is recorded of units.
    others: String,
}

/// A project that was brought up, upgraded, upgraded in vain, rolled back and upgraded again.
fn record() -> (Project, Recording) {
    let project = Project::new(MANIFEST);
    let mut recording = Recording::of(&project);
    let mut run = |arguments: &[&str], code| {
        recording.run(&project, &[arguments, &["--no-daemon"]].concat()).exits(code);
    };
    run(&["up"], 0);
    project.declare("1.0.0", "2.0.0").declare("sleep 1000", "sleep 1001");
    run(&["upgrade"], 0);
    project.declare("2.0.0", "3.0.0").declare("sleep 1001", "exit 3; sleep 1002");
    run(&["upgrade"], 1);
    run(&["rollback", "--discard-writes"], 0);
    project.declare("3.0.0", "4.0.0").declare("exit 3; sleep 1002", "sleep 1003");
    run(&["upgrade"], 0);
    (project, recording)
}

/// Where the state lies that was there before a loss, or is there after it.
fn state(place: &Path) -> PathBuf {
    place.join("state")
}

/// What a state says to the code that reads it.
fn says(place: &Path, root: &Path) -> Result<Says, String> {
    let roots = Roots { state: state(place), config: place.join("config") };
    let active = upgrade::active(&roots, root).map_err(|error| error.to_string())?;
    let read = || {
        let store = Store::open(&roots)?;
        store.check()?;
        let upgrades = store.upgrades(root)?.into_iter();
        let upgrades = upgrades.map(|row| Ok((row.clone(), store.upgrade_steps(&row.txid)?)));
        let upgrades = upgrades.collect::<Result<_, setpoint_runtime::store::StoreError>>()?;
        let mut others = Vec::new();
        for operation in store.operations(1000)? {
            others.push(format!("{operation:?} {:?}", store.journal(&operation.txid)?));
        }
        for unit in store.all_units()? {
            others.push(format!("{unit:?} {:?}", store.recorded(unit.id)?));
        }
        Ok((upgrades, others.join("\n")))
    };
    let (upgrades, others) =
        read().map_err(|error: setpoint_runtime::store::StoreError| error.to_string())?;
    Ok(Says { active, upgrades, others })
}

/// What a state said that the command took to be there, and what it said with all that it had done since.
struct Truth {
    promised: Says,
    now: Says,
}

/// What the code says of a state whose power went, or what is wrong with it.
fn judge(found: Result<Says, String>, truth: &Truth, next: Option<&Says>) -> Result<&'static str, String> {
    let found = found?;
    let Truth { promised, now } = truth;
    if found.active != promised.active && found.active != now.active {
        return Err(format!("generation {} is in effect", found.active.generation));
    }
    let is = |says: &Says| (&says.upgrades, &says.others) == (&found.upgrades, &found.others);
    if !is(promised) && !next.is_some_and(is) {
        return Err("the journal lacks what was promised, or has what was never written".to_owned());
    }
    for (row, steps) in &found.upgrades {
        let has = |step: &Step, kind| {
            let label = step.to_string();
            steps.iter().any(|entry| entry.kind == kind && entry.step == label)
        };
        let (from, to) = (row.upgrade.from.generation, row.upgrade.to.generation);
        let generation = found.active.generation;
        if has(&Step::Commit, EntryKind::Done) && generation < to {
            return Err(format!("generation {to} was committed, and {generation} is in effect"));
        }
        // One that did not come about leaves its number to the next.
        let is_latest = found.upgrades.first().is_some_and(|(latest, _)| latest.txid == row.txid);
        if is_latest && generation == to && !has(&Step::Commit, EntryKind::Intent) {
            return Err(format!("generation {to} is in effect, and nobody meant to commit it"));
        }
        match row.ended {
            Some((UpgradeOutcome::Committed, _)) if generation < to => {
                return Err(format!("the upgrade to {to} has ended, and {generation} is in effect"));
            }
            Some(_) => continue,
            None => {}
        }
        let begun: Vec<Step> =
            row.upgrade.steps().into_iter().filter(|step| has(step, EntryKind::Intent)).collect();
        let was_begun = promised.upgrades.iter().find(|(known, _)| known.txid == row.txid);
        let was_touched = was_begun.is_some_and(|(known, steps)| {
            let is_touching = |step: &Step| {
                let label = step.to_string();
                step.touches() && steps.iter().any(|entry| entry.step == label)
            };
            known.upgrade.steps().iter().any(is_touching)
        });
        return match recover(&row.upgrade, &begun, generation) {
            Decision::Forget(_) if was_touched => Err("what was touched would be forgotten".to_owned()),
            Decision::RollForward(_) if generation <= from => {
                Err("it would be brought forward from the old generation".to_owned())
            }
            Decision::RollBack(_) if generation >= to => {
                Err("it would be rolled back from the new generation".to_owned())
            }
            Decision::Forget(_) => Ok("dropped"),
            Decision::RollBack(_) => Ok("rolled back"),
            Decision::RollForward(_) => Ok("brought forward"),
        };
    }
    Ok("nothing to recover")
}

/// What came of all losses.
#[derive(Default)]
struct Outcome {
    /// By what the code says: how often, and what was lost.
    table: BTreeMap<&'static str, (usize, Lost)>,
    violations: Vec<String>,
}

/// Where what is left after a loss lies while it is read.
struct After<'a> {
    place: tempfile::TempDir,
    root: &'a Path,
}

impl<'a> After<'a> {
    fn new(root: &'a Path) -> Self {
        // Memory, where there is such a place: nothing of it need be on any disk.
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory } else { Path::new("/var/tmp") };
        Self { place: tempfile::Builder::new().prefix("setpoint-power-").tempdir_in(place).unwrap(), root }
    }

    fn read(&self, disk: &Disk, loss: &Loss) -> (Result<Says, String>, Lost) {
        let after = self.place.path().join("after");
        let _ = fs::remove_dir_all(&after);
        let lost = disk.lose(loss, &after);
        (says(&after, self.root), lost)
    }
}

/// What a state says at each commit with all that was done before: what it takes to be there from then on.
fn promises(root: &Path, events: &[Event]) -> Vec<Says> {
    let (after, mut disk) = (After::new(root), Disk::new());
    let mut promises = vec![after.read(&disk, &Loss::NONE).0.unwrap()];
    for event in events {
        match event {
            Event::Changed(change) => disk.change(change),
            Event::Committed => promises.push(after.read(&disk, &Loss::NONE).0.unwrap()),
            Event::SyncedAll => {}
        }
    }
    promises
}

/// Lets the power go at so many points of a recording, without the syncs of some paths.
fn try_points(
    root: &Path,
    events: &[Event],
    promises: &[Says],
    points: usize,
    is_ignored: impl Fn(&Path) -> bool,
) -> Outcome {
    let (after, mut rng) = (After::new(root), Rng::with_seed(seed()));
    let mut points: Vec<usize> = (0..points).map(|_| rng.usize(0..=events.len())).collect();
    points.sort_unstable();
    let mut points = points.into_iter().peekable();
    let (mut disk, mut commits, mut outcome) = (Disk::new(), 0, Outcome::default());
    for at in 0..=events.len() {
        while points.next_if_eq(&at).is_some() {
            let loss = if rng.u8(0..4) == 0 { Loss::ALL } else { Loss::any(&mut rng) };
            let now = after.read(&disk, &Loss::NONE).0.unwrap();
            let truth = Truth { promised: promises[commits].clone(), now };
            let (found, lost) = after.read(&disk, &loss);
            match judge(found, &truth, promises.get(commits + 1)) {
                Err(why) => outcome.violations.push(format!("at {at} of {}, {loss:?}: {why}", events.len())),
                Ok(says) => {
                    let (times, all) = outcome.table.entry(says).or_default();
                    *times += 1;
                    all.sectors += lost.sectors;
                    all.names += lost.names;
                }
            }
        }
        match events.get(at) {
            Some(Event::Changed(Change::Sync(path))) if is_ignored(path) => {}
            Some(Event::Changed(change)) => disk.change(change),
            Some(Event::Committed) => commits += 1,
            Some(Event::SyncedAll) | None => {}
        }
    }
    outcome
}

/// Where the points come from: the same ones for the same recording and `SETPOINT_SEED`.
fn seed() -> u64 {
    std::env::var("SETPOINT_SEED").ok().map_or(36, |seed| seed.parse().unwrap())
}

#[test]
fn a_loss_of_power_leaves_the_old_generation_or_the_new_one_and_all_that_was_promised() {
    let (project, recording) = record();
    let changes = recording.events.len();
    // Nothing that was done has escaped the recording.
    let whole = tempfile::tempdir().unwrap();
    let mut disk = Disk::new();
    for event in &recording.events {
        if let Event::Changed(change) = event {
            disk.change(change);
        }
    }
    disk.lose(&Loss::NONE, whole.path());
    let database = fs::read_link(project.state().join("state.db")).unwrap().display().to_string();
    for name in [format!("{database}-wal"), database] {
        let file = |place: &Path| fs::read(state(place).join(&name)).unwrap();
        assert!(file(whole.path()) == file(&project.at("")), "{name} is not as the recording has it");
    }
    let end = says(whole.path(), &project.root).unwrap();
    assert_eq!((end.active.generation, end.upgrades.len()), (3, 4), "{end:#?}");

    // What a generation is made of is on the disk before the file that says that it is in effect.
    let is_commit = |event: &Event| match event {
        Event::Changed(Change::Rename { to, .. }) => to.starts_with("state/active"),
        _ => false,
    };
    let steps = recording.events.split_inclusive(is_commit).filter(|step| step.last().is_some_and(is_commit));
    let is_sync = |event: &&Event| matches!(event, Event::SyncedAll);
    let synced: Vec<usize> = steps.map(|step| step.iter().filter(is_sync).count()).collect();
    // The first only notes which version runs.
    assert!(synced.len() == 4 && synced[1..].iter().all(|times| *times > 0), "{synced:?}");

    let promises = promises(&project.root, &recording.events);
    let outcome = try_points(&project.root, &recording.events, &promises, POINTS, |_| false);
    eprintln!("{POINTS} losses of power at {changes} changes, seed {}", seed());
    eprintln!("{:<20} {:>6} {:>14} {:>12}", "then", "times", "lost sectors", "lost names");
    for (says, (times, lost)) in &outcome.table {
        eprintln!("{says:<20} {times:>6} {:>14} {:>12}", lost.sectors, lost.names);
    }
    assert!(outcome.violations.is_empty(), "seed {}: {:#?}", seed(), outcome.violations);
    let tried = ["brought forward", "dropped", "nothing to recover", "rolled back"];
    assert!(outcome.table.keys().eq(&tried), "{:?}", outcome.table.keys());
}

#[test]
fn a_sync_that_is_missing_is_noticed() {
    let (project, recording) = record();
    let is_log = |path: &Path| path.to_string_lossy().ends_with("-wal");
    let is_temporary =
        |path: &Path| path.starts_with("state/active/v1/") && path != Path::new("state/active/v1");
    let is_folder_of_active = |path: &Path| path == Path::new("state/active/v1");
    let is_folder_of_database = |path: &Path| path == Path::new("state");
    let cases: [(&str, &dyn Fn(&Path) -> bool); 4] = [
        ("the log of the database", &is_log),
        ("what says which generation is in effect", &is_temporary),
        ("the folder of that", &is_folder_of_active),
        ("the folder of the database", &is_folder_of_database),
    ];
    let promises = promises(&project.root, &recording.events);
    for (what, is_ignored) in cases {
        let points = POINTS / 10;
        let outcome = try_points(&project.root, &recording.events, &promises, points, is_ignored);
        eprintln!("without syncs of {what}: {} of {points} losses do harm", outcome.violations.len());
        assert!(!outcome.violations.is_empty(), "without syncs of {what}, nothing is lost");
    }
}
