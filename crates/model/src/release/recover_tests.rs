//! A change that is killed anywhere, and a recovery that is killed anywhere, end at the old or at the new, whole.

use std::collections::BTreeMap;

use super::ledger::{Due, Planned};
use super::migration::Stage;
use super::*;
use crate::names::UnitName;
use crate::release::{Holds, Load};

fn unit(name: &str) -> UnitName {
    UnitName::new(name).unwrap()
}

/// All that a change can touch, as an engine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct World {
    /// What stands: each with the generation that it was made for, and whether it runs.
    instances: BTreeMap<UnitName, (u64, bool)>,
    /// What is set aside, by unit and generation that had it last: the generation that it was made for.
    aside: BTreeMap<(UnitName, u64), u64>,
    /// Volumes, each with what was done to its data.
    volumes: BTreeMap<String, Vec<MigrationId>>,
    active: u64,
}

impl World {
    fn do_step(&mut self, upgrade: &Upgrade, step: &Step) {
        let (from, to) = (upgrade.from.generation, upgrade.to.generation);
        match step {
            Step::Fetch(_)
            | Step::Verify(_)
            | Step::Load(_)
            | Step::Admit(_)
            | Step::Steady
            | Step::Publish(_)
            | Step::Bake
            | Step::Clean => {}
            Step::Freeze(unit) => self.instances.get_mut(unit).unwrap().1 = false,
            Step::Copy(volume) => {
                let copy = upgrade.copies.iter().find(|copy| copy.to == *volume).unwrap();
                drop(self.volumes.insert(volume.clone(), self.volumes[&copy.from].clone()));
            }
            Step::Fill(volume) => drop(self.volumes.insert(volume.clone(), Vec::new())),
            Step::Migrate(id) => {
                let planned = upgrade.migrations.iter().find(|planned| planned.id == *id).unwrap();
                for volume in &planned.touches {
                    let held = upgrade.to.volume(volume).to_owned();
                    self.volumes.entry(held).or_default().push(id.clone());
                }
            }
            Step::SetAside(unit) => {
                let (made_for, runs) = self.instances.remove(unit).unwrap();
                assert!(!runs, "{unit} is set aside while it runs");
                self.aside.insert((unit.clone(), from), made_for);
            }
            Step::Start(unit) => {
                let restored = upgrade.part(unit).unwrap().restores;
                let made_for = match restored {
                    Some(tag) => self.aside.remove(&(unit.clone(), tag)).unwrap(),
                    None => to,
                };
                let before = self.instances.insert(unit.clone(), (made_for, true));
                assert_eq!(before, None, "{unit} stands twice");
            }
            Step::Commit => self.active = to,
        }
    }

    fn undo(&mut self, upgrade: &Upgrade, undo: &Undo) {
        match undo {
            Undo::PutBack(unit) => {
                let part = upgrade.part(unit).unwrap();
                let key = (unit.clone(), upgrade.from.generation);
                if part.is_there && !self.aside.contains_key(&key) {
                    return;
                }
                if let Some((made_for, _)) = self.instances.remove(unit)
                    && let Some(tag) = part.restores
                {
                    self.aside.insert((unit.clone(), tag), made_for);
                }
                if let Some(made_for) = self.aside.remove(&key) {
                    self.instances.insert(unit.clone(), (made_for, false));
                }
            }
            Undo::DropVolume(volume) => drop(self.volumes.remove(volume)),
            Undo::Resume(unit) => self.instances.get_mut(unit).unwrap().1 = true,
        }
    }

    /// Recovers, as often as it is killed, and gives what comes of it. `kills` are the number of deeds after which each
    /// try is killed.
    fn recovered(mut self, upgrade: &Upgrade, begun: &[Step], kills: &[usize]) -> Self {
        let mut kills = kills.iter();
        loop {
            let kill = kills.next().copied().unwrap_or(usize::MAX);
            match recover(upgrade, begun, self.active) {
                Decision::Forget => return self,
                Decision::RollBack(undos) => {
                    undos.iter().take(kill).for_each(|undo| self.undo(upgrade, undo));
                    if kill >= undos.len() {
                        return self;
                    }
                }
                Decision::RollForward(steps) => {
                    steps.iter().take(kill).for_each(|step| self.do_step(upgrade, step));
                    if kill >= steps.len() {
                        return self;
                    }
                }
            }
        }
    }
}

fn part(name: &str, is_there: bool, runs: bool, stays: bool, restores: Option<u64>) -> Part {
    Part {
        unit: unit(name),
        is_there,
        runs,
        stays,
        from: None,
        to: None,
        completes: false,
        grace: 0,
        restores,
    }
}

fn planned(id: &str, name: &str, stage: Stage, touches: &[&str]) -> Planned {
    Planned {
        id: MigrationId::try_from(id.to_owned()).unwrap(),
        sha256: String::new(),
        unit: unit(name),
        stage,
        due: Due::Run,
        touches: touches.iter().map(|&name| name.to_owned()).collect(),
    }
}

/// An upgrade of one that stays, one that is stopped, one that comes and one that goes; the way back from it; and the
/// same units on the data of a backup.
fn changes() -> [(Upgrade, World); 3] {
    let volumes = BTreeMap::from([("data".to_owned(), "data.2".to_owned())]);
    let old = Active { generation: 1, ..Active::default() };
    let new = Active { generation: 2, volumes, ..Active::default() };
    let copies = vec![Copy {
        declared: "data".to_owned(),
        from: "data".to_owned(),
        to: "data.2".to_owned(),
        of: unit("db"),
        holds: Holds::Copied,
        bytes: 0,
    }];
    let upgrade = Upgrade {
        kind: Kind::Upgrade,
        lane: Lane::Breaking,
        engine: "embedded".to_owned(),
        from: old.clone(),
        to: new.clone(),
        parts: vec![
            part("db", true, true, true, None),
            part("idle", true, false, true, None),
            part("fresh", false, false, true, None),
            part("gone", true, true, false, None),
        ],
        copies,
        makes: vec!["new".to_owned()],
        migrations: vec![
            planned("1.0.0/1-a", "db", Stage::Pre, &["data"]),
            planned("1.0.0/2-b", "db", Stage::Post, &["data"]),
            planned("1.0.0/3-c", "fresh", Stage::Pre, &["data", "new"]),
        ],
        loads: Vec::new(),
        keep: 1,
    };
    let before = World {
        instances: [("db", (1, true)), ("idle", (1, false)), ("gone", (1, true)), ("other", (0, true))]
            .map(|(name, instance)| (unit(name), instance))
            .into(),
        aside: BTreeMap::new(),
        volumes: [("data".to_owned(), Vec::new())].into(),
        active: 1,
    };
    let mut after = before.clone();
    upgrade.steps().iter().for_each(|step| after.do_step(&upgrade, step));
    let rollback = Upgrade {
        kind: Kind::Rollback,
        from: new,
        to: Active { generation: 3, ..old },
        parts: vec![
            part("db", true, true, true, Some(1)),
            part("idle", true, true, true, Some(1)),
            part("fresh", true, true, false, None),
            part("gone", false, false, true, Some(1)),
        ],
        copies: Vec::new(),
        makes: Vec::new(),
        migrations: Vec::new(),
        ..upgrade.clone()
    };
    let mut restore = Upgrade { kind: Kind::Restore, ..upgrade.clone() };
    restore.copies[0].holds = Holds::Filled("sha256:1".to_owned());
    restore.loads = vec![Load { unit: unit("idle"), layer: "sha256:2".to_owned() }];
    [(upgrade, before.clone()), (rollback, after), (restore, before)]
}

#[test]
fn whatever_is_killed_ends_at_the_old_or_at_the_new() {
    for (upgrade, before) in changes() {
        let steps = upgrade.steps();
        let mut after = before.clone();
        steps.iter().for_each(|step| after.do_step(&upgrade, step));
        let commit = steps.iter().position(|step| *step == Step::Commit).unwrap();
        for (at, step) in steps.iter().enumerate() {
            for acted in [false, true] {
                let mut world = before.clone();
                steps[..at].iter().for_each(|step| world.do_step(&upgrade, step));
                if acted {
                    world.do_step(&upgrade, step);
                }
                let is_new = at > commit || (at == commit && acted);
                let wanted = if is_new { &after } else { &before };
                for first in 0..12 {
                    for second in 0..12 {
                        let end = world.clone().recovered(&upgrade, &steps[..=at], &[first, second]);
                        assert_eq!(
                            end, *wanted,
                            "killed at `{step}` (acted: {acted}), then {first}, {second}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_step_that_failed_halfway_through_a_rollback_of_the_unit_is_undone_once() {
    let [(upgrade, before), ..] = changes();
    let mut world = before.clone();
    upgrade
        .steps()
        .iter()
        .take_while(|step| **step != Step::Commit)
        .for_each(|step| world.do_step(&upgrade, step));
    let undos = match recover(&upgrade, &upgrade.steps(), world.active) {
        Decision::RollBack(undos) => undos,
        other => panic!("{other:?}"),
    };
    for undo in undos.iter().chain(&undos) {
        world.undo(&upgrade, undo);
    }
    assert_eq!(world, before);
}

#[test]
fn what_touched_nothing_is_forgotten() {
    let [(upgrade, _), ..] = changes();
    let fetches: Vec<_> = upgrade.steps().into_iter().filter(|step| !step.touches()).collect();
    assert!(!fetches.is_empty());
    assert_eq!(recover(&upgrade, &fetches, 1), Decision::Forget);
    assert_eq!(recover(&upgrade, &[], 1), Decision::Forget);
}

#[test]
fn data_of_a_backup_comes_while_the_old_runs_and_is_loaded_once_the_new_is_well() {
    let [.., (restore, _)] = changes();
    let steps = restore.steps();
    let at = |step: &Step| steps.iter().position(|known| known == step).unwrap();
    assert!(at(&Step::Fill("data.2".to_owned())) < at(&Step::Freeze(unit("db"))));
    let (verified, loaded) = (at(&Step::Verify(unit("idle"))), at(&Step::Load(unit("idle"))));
    assert!(verified < loaded && loaded < at(&Step::Steady));
    assert!(!steps.iter().any(|step| matches!(step, Step::Copy(_))));
}

#[test]
fn all_that_can_fail_without_touching_comes_first() {
    for (upgrade, _) in changes() {
        let steps = upgrade.steps();
        let first = steps.iter().position(Step::touches).unwrap();
        assert!(steps[first..].iter().all(Step::touches));
    }
}

#[test]
fn a_migration_finds_what_it_needs() {
    let [(mut upgrade, _), ..] = changes();
    let shown = |upgrade: &Upgrade| {
        let steps = upgrade.steps();
        let steps = steps.iter().map(ToString::to_string);
        steps.filter(|step| step.starts_with("start") || step.starts_with("migrate")).collect::<Vec<_>>()
    };
    assert_eq!(
        shown(&upgrade),
        [
            "migrate 1.0.0/1-a",
            "start db",
            "migrate 1.0.0/2-b",
            "start idle",
            "migrate 1.0.0/3-c",
            "start fresh"
        ]
    );
    assert_eq!(upgrade.check_order(), Ok(()));
    // In what is there already, and is not replaced.
    upgrade.migrations.insert(0, planned("0.9.0/1-z", "other", Stage::Post, &[]));
    assert_eq!(shown(&upgrade)[..2], ["migrate 0.9.0/1-z", "migrate 1.0.0/1-a"]);
    assert_eq!(upgrade.check_order(), Ok(()));
    // What is only noted is when there is something to note it of.
    upgrade.migrations[0].due = Due::Cover;
    assert_eq!(shown(&upgrade).last().unwrap(), "migrate 0.9.0/1-z");
    upgrade.migrations.push(planned("1.1.0/1-d", "db", Stage::Pre, &["data"]));
    let error = upgrade.check_order().unwrap_err();
    assert_eq!(error.to_string(), "1.1.0/1-d runs before db starts, which 1.0.0/3-c needs, that comes first");
}
