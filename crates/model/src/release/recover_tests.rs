//! A change that is killed anywhere, and a recovery that is killed anywhere, end at the old or at the new, whole.

use std::collections::{BTreeMap, BTreeSet};

use super::fixtures::{copy, planned, unit};
use super::ledger::{Due, ON_HOST, Planned, host_of};
use super::migration::Stage;
use super::*;
use crate::names::UnitName;
use crate::release::{Holds, Load};

/// All that a change can touch, as an engine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct World {
    /// What stands: each with the generation that it was made for, and whether it runs.
    instances: BTreeMap<UnitName, (u64, bool)>,
    /// What is set aside, by unit and generation that had it last: the generation that it was made for.
    aside: BTreeMap<(UnitName, u64), u64>,
    /// Volumes, each with what was done to its data.
    volumes: BTreeMap<String, Vec<MigrationId>>,
    /// What is on the host at a path, and what was saved of it, by generation.
    host: BTreeMap<String, String>,
    saved: BTreeMap<(u64, String), Option<String>>,
    /// What stands in, and for whom ports lead there.
    beside: BTreeSet<UnitName>,
    lent: BTreeSet<UnitName>,
    active: u64,
}

impl World {
    fn do_step(&mut self, upgrade: &Upgrade, step: &Step) {
        let (from, to) = (upgrade.from.generation, upgrade.to.generation);
        match step {
            Step::Fetch(_) | Step::Verify(_) | Step::Load(_) | Step::Steady | Step::Bake | Step::Clean => {}
            Step::StandIn(unit) => drop(self.beside.insert(unit.clone())),
            Step::Lend(unit) => drop(self.lent.insert(unit.clone())),
            Step::Admit(unit) | Step::Publish(unit) => drop(self.lent.remove(unit)),
            Step::Dismiss => self.beside.clear(),
            Step::Freeze(unit) => self.instances.get_mut(unit).unwrap().1 = false,
            Step::Copy(volume) => {
                let copy = upgrade.copies.iter().find(|copy| copy.to == *volume).unwrap();
                drop(self.volumes.insert(volume.clone(), self.volumes[&copy.from].clone()));
            }
            Step::Revive(unit) => {
                let before = self.instances.insert(unit.clone(), (from, true));
                assert_eq!(before, None, "{unit} stands twice");
            }
            Step::Retire(unit) => assert!(self.instances.remove(unit).is_some(), "{unit} is not there"),
            Step::Down(id) => {
                let planned = upgrade.downs.iter().find(|planned| planned.id == *id).unwrap();
                for volume in &planned.touches {
                    let last = self.volumes.get_mut(upgrade.to.volume(volume)).unwrap().pop();
                    assert_eq!(last.as_ref(), Some(id), "{volume} has another one after it");
                }
                for path in &planned.paths {
                    assert!(self.saved.contains_key(&(from, path.clone())), "{path} is not saved");
                    self.host.entry(path.clone()).or_default().push_str(" back");
                }
            }
            Step::Save(path) => {
                if let Some(host) = upgrade.makes_host() {
                    let noted = self.volumes.get(upgrade.from.volume(ON_HOST)).cloned();
                    self.volumes.insert(host.to_owned(), noted.unwrap_or_default());
                }
                drop(self.saved.insert((from, path.clone()), self.host.get(path).cloned()));
            }
            Step::Put(put) => self.put(put.generation, &put.path),
            Step::Fill(volume) => drop(self.volumes.insert(volume.clone(), Vec::new())),
            Step::Migrate(id) => {
                let planned = upgrade.migrations.iter().find(|planned| planned.id == *id).unwrap();
                for path in &planned.paths {
                    assert!(self.saved.contains_key(&(from, path.clone())), "{path} is not saved");
                    self.host.entry(path.clone()).or_default().push_str(&id.to_string());
                }
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

    /// Puts what was saved of a path in its place, if it was.
    fn put(&mut self, generation: u64, path: &str) {
        match self.saved.get(&(generation, path.to_owned())) {
            None => {}
            Some(Some(was)) => drop(self.host.insert(path.to_owned(), was.clone())),
            Some(None) => drop(self.host.remove(path)),
        }
    }

    fn undo(&mut self, upgrade: &Upgrade, undo: &Undo) {
        match undo {
            Undo::PutPath(path) => self.put(upgrade.from.generation, path),
            Undo::DropSaves => {
                self.saved.retain(|(generation, _), _| *generation != upgrade.from.generation);
                upgrade.makes_host().and_then(|host| self.volumes.remove(host));
            }
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
            Undo::Resume(unit) => {
                self.instances.get_mut(unit).unwrap().1 = true;
                self.lent.remove(unit);
            }
            Undo::Relieve(unit) => assert!(self.instances[unit].1, "{unit} does not run"),
            Undo::Dismiss => self.beside.clear(),
        }
    }

    /// Whether who comes to a unit finds somebody.
    fn answers(&self, unit: &UnitName) -> bool {
        match self.lent.contains(unit) {
            true => self.beside.contains(unit),
            false => self.instances.get(unit).is_some_and(|(_, runs)| *runs),
        }
    }

    /// Recovers, as often as it is killed, and gives what comes of it. `kills` are the number of deeds after which each
    /// try is killed.
    fn recovered(mut self, upgrade: &Upgrade, begun: &[Step], kills: &[usize]) -> Self {
        let mut kills = kills.iter();
        loop {
            let kill = kills.next().copied().unwrap_or(usize::MAX);
            match recover(upgrade, begun, self.active) {
                Decision::Forget(undos) | Decision::RollBack(undos) => {
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
    Part { is_there, runs, stays, restores, ..fixtures::part(name) }
}

fn on_host(id: &str, stage: Stage, paths: &[&str]) -> Planned {
    let paths = paths.iter().map(|&path| path.to_owned()).collect();
    Planned { unit: None, paths, ..planned(id, "db", stage, &[ON_HOST]) }
}

/// An upgrade of one that stays, one that is stopped, one that comes and one that goes; the way back from it; the
/// same units on the data of a backup; the way back with the data of today; and an upgrade with one that stands in, on data that
/// old and new share.
fn changes() -> [(Upgrade, World); 5] {
    let volumes = BTreeMap::from([("data".to_owned(), "data.2".to_owned())]);
    let old = Active { generation: 1, ..Active::default() };
    let new = Active { generation: 2, volumes, host: Some(host_of(2)), ..Active::default() };
    let upgrade = Upgrade {
        lane: Lane::Breaking,
        from: old.clone(),
        to: new.clone(),
        parts: vec![
            part("db", true, true, true, None),
            part("idle", true, false, true, None),
            part("fresh", false, false, true, None),
            part("gone", true, true, false, None),
        ],
        copies: vec![copy("data", "db", 2)],
        makes: vec!["new".to_owned()],
        saves: vec!["/made".to_owned(), "/srv".to_owned()],
        migrations: vec![
            on_host("0.9.0/1-h", Stage::Pre, &["/srv", "/made"]),
            planned("1.0.0/1-a", "db", Stage::Pre, &["data"]),
            planned("1.0.0/2-b", "db", Stage::Post, &["data"]),
            planned("1.0.0/3-c", "fresh", Stage::Pre, &["data", "new"]),
            on_host("1.0.0/4-i", Stage::Post, &["/srv"]),
        ],
        ..fixtures::change()
    };
    let before = World {
        instances: [("db", (1, true)), ("idle", (1, false)), ("gone", (1, true)), ("other", (0, true))]
            .map(|(name, instance)| (unit(name), instance))
            .into(),
        aside: BTreeMap::new(),
        volumes: [("data".to_owned(), Vec::new())].into(),
        host: [("/srv".to_owned(), "x".to_owned())].into(),
        saved: BTreeMap::new(),
        beside: BTreeSet::new(),
        lent: BTreeSet::new(),
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
        puts: upgrade.saves.iter().map(|path| Put { path: path.clone(), generation: 1 }).collect(),
        migrations: Vec::new(),
        ..upgrade.clone()
    };
    let mut restore = Upgrade { kind: Kind::Restore, ..upgrade.clone() };
    restore.copies[0].holds = Holds::Filled("sha256:1".to_owned());
    restore.loads = vec![Load { unit: unit("idle"), layer: "sha256:2".to_owned() }];
    let mut taken_back = rollback.clone();
    taken_back.parts.iter_mut().for_each(|part| part.restores = None);
    taken_back.puts.clear();
    taken_back.to.host = Some(host_of(3));
    for (declared, from) in [("data", "data.2"), ("new", "new")] {
        let (declared, from, to) = (declared.to_owned(), from.to_owned(), format!("{declared}.3"));
        taken_back.to.volumes.insert(declared.clone(), to.clone());
        taken_back.copies.push(Copy { declared, from, to, ..upgrade.copies[0].clone() });
    }
    taken_back.downs = upgrade.migrations.iter().rev().cloned().collect();
    let mut web = part("web", true, true, true, None);
    web.stands_in = true;
    let stood_in = Upgrade {
        lane: Lane::Compatible,
        parts: vec![web, part("idle", true, false, true, None)],
        to: Active { generation: 2, ..Active::default() },
        copies: Vec::new(),
        makes: Vec::new(),
        saves: Vec::new(),
        migrations: vec![
            planned("1.0.0/1-a", "web", Stage::Pre, &["data"]),
            planned("1.0.0/2-b", "web", Stage::Post, &["data"]),
        ],
        ..upgrade.clone()
    };
    let mut of_web = before.clone();
    of_web.instances.insert(unit("web"), (1, true));
    [
        (upgrade, before.clone()),
        (rollback, after.clone()),
        (restore, before),
        (taken_back, after),
        (stood_in, of_web),
    ]
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
                // What both can work with stays.
                let mut wanted = if is_new { after.clone() } else { before.clone() };
                if upgrade.lane == Lane::Compatible {
                    wanted.volumes.clone_from(&world.volumes);
                }
                for first in 0..12 {
                    for second in 0..12 {
                        let end = world.clone().recovered(&upgrade, &steps[..=at], &[first, second]);
                        assert_eq!(
                            end, wanted,
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
fn migrations_are_taken_back_where_they_were_carried_out() {
    let [.., (taken_back, _), _] = changes();
    let steps: Vec<String> = taken_back.steps().iter().map(ToString::to_string).collect();
    let of = |word: &&String| ["revive", "down", "retire", "start"].iter().any(|of| word.starts_with(of));
    let steps: Vec<&str> = steps.iter().filter(of).map(String::as_str).collect();
    assert_eq!(
        steps,
        [
            "revive db",
            "revive idle",
            "revive fresh",
            "down 1.0.0/4-i",
            "retire fresh",
            "down 1.0.0/3-c",
            "down 1.0.0/2-b",
            "retire idle",
            "retire db",
            "down 1.0.0/1-a",
            "down 0.9.0/1-h",
            "start db",
            "start idle",
            "start gone"
        ]
    );
}

#[test]
fn what_nobody_has_touched_on_the_host_is_left_alone() {
    let [(upgrade, _), (rollback, _), _, (taken_back, _), _] = changes();
    for change in [upgrade, rollback, taken_back] {
        let steps = change.steps();
        let first = steps.iter().position(|step| change.is_on_host(step)).unwrap();
        let puts = |begun: &[Step]| match recover(&change, begun, change.from.generation) {
            Decision::RollBack(undos) => undos.iter().filter(|undo| matches!(undo, Undo::PutPath(_))).count(),
            other => panic!("{other:?}"),
        };
        assert_eq!((puts(&steps[..first]), puts(&steps[..=first])), (0, change.saves.len()));
    }
}

#[test]
fn what_is_put_back_is_what_was_there_before_the_first_that_changed_it() {
    let [(upgrade, _), ..] = changes();
    let of = |from: u64, lane: Lane, saves: &[&str]| Upgrade {
        lane,
        from: Active { generation: from, ..Active::default() },
        saves: saves.iter().map(|&path| path.to_owned()).collect(),
        ..upgrade.clone()
    };
    let shown = |undone: &[Upgrade]| {
        puts(undone).into_iter().map(|put| format!("{} of {}", put.path, put.generation)).collect::<Vec<_>>()
    };
    // The newest first.
    let all = [
        of(3, Lane::Breaking, &["/srv/a", "/opt"]),
        of(2, Lane::Compatible, &["/opt/b"]),
        of(1, Lane::Breaking, &["/srv"]),
    ];
    assert_eq!(shown(&all), ["/opt of 3", "/opt/b of 2", "/srv of 1"]);
    // Both versions work with what the one left.
    assert_eq!(shown(&all[1..2]), [] as [&str; 0]);
    assert_eq!(shown(&all[..2]), ["/srv/a of 3", "/opt of 3", "/opt/b of 2"]);
    assert_eq!(shown(&[all[1].clone(), of(1, Lane::Breaking, &[])]), ["/opt/b of 2"]);
}

#[test]
fn what_touched_nothing_is_forgotten() {
    let [(upgrade, _), ..] = changes();
    let fetches: Vec<_> = upgrade.steps().into_iter().filter(|step| !step.touches()).collect();
    assert!(!fetches.is_empty());
    assert_eq!(recover(&upgrade, &fetches, 1), Decision::Forget(Vec::new()));
    assert_eq!(recover(&upgrade, &[], 1), Decision::Forget(Vec::new()));
    let [.., (mut stood_in, _)] = changes();
    stood_in.migrations.clear();
    let begun: Vec<_> = stood_in.steps().into_iter().take_while(|step| !step.touches()).collect();
    assert_eq!(begun.last(), Some(&Step::StandIn(unit("web"))));
    assert_eq!(recover(&stood_in, &begun, 1), Decision::Forget(vec![Undo::Dismiss]));
}

#[test]
fn somebody_answers_for_whom_another_one_stands_in_at_every_step_there_and_back() {
    let [.., (upgrade, before)] = changes();
    let steps = upgrade.steps();
    for at in 0..=steps.len() {
        let mut world = before.clone();
        for step in &steps[..at] {
            world.do_step(&upgrade, step);
            assert!(world.answers(&unit("web")), "after `{step}`");
        }
        let way = match recover(&upgrade, &steps[..at], world.active) {
            // It was admitted by then, and the one that stood in is gone.
            Decision::RollBack(_) if steps[..at].contains(&Step::Admit(unit("web"))) => continue,
            Decision::RollBack(undos) | Decision::Forget(undos) => undos,
            Decision::RollForward(_) => continue,
        };
        for undo in &way {
            world.undo(&upgrade, undo);
            assert!(world.answers(&unit("web")), "after {at} steps, and `{undo}`");
        }
    }
}

#[test]
fn data_is_migrated_before_anybody_stands_in_and_once() {
    let [.., (upgrade, _)] = changes();
    let steps: Vec<String> = upgrade.steps().iter().map(ToString::to_string).collect();
    assert_eq!(
        steps,
        [
            "fetch web",
            "fetch idle",
            "migrate 1.0.0/1-a",
            "stand-in web",
            "migrate 1.0.0/2-b",
            "lend web",
            "freeze idle",
            "freeze web",
            "set-aside idle",
            "set-aside web",
            "start web",
            "verify web",
            "start idle",
            "verify idle",
            "admit web",
            "dismiss",
            "steady",
            "commit",
            "publish web",
            "publish idle",
            "bake",
            "clean"
        ]
    );
}

#[test]
fn data_of_a_backup_comes_while_the_old_runs_and_is_loaded_once_the_new_is_well() {
    let [_, _, (restore, _), ..] = changes();
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
        // One that stands in comes after what is migrated for it, which both versions can work with.
        let stands_in = |step: &Step| matches!(step, Step::StandIn(_));
        assert!(steps[first..].iter().all(|step| step.touches() || stands_in(step)));
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
            "migrate 0.9.0/1-h",
            "migrate 1.0.0/1-a",
            "start db",
            "migrate 1.0.0/2-b",
            "start idle",
            "migrate 1.0.0/3-c",
            "start fresh",
            "migrate 1.0.0/4-i"
        ]
    );
    // In what is there already, and is not replaced.
    upgrade.migrations.insert(0, planned("0.9.0/1-z", "other", Stage::Post, &[]));
    assert_eq!(shown(&upgrade)[..3], ["migrate 0.9.0/1-z", "migrate 0.9.0/1-h", "migrate 1.0.0/1-a"]);
    // What is only noted is when there is something to note it of.
    upgrade.migrations[0].due = Due::Cover;
    assert_eq!(shown(&upgrade).last().unwrap(), "migrate 0.9.0/1-z");
    // What is there already ends before one that runs before it starts; before one on the host, that is all.
    upgrade.migrations.pop();
    upgrade.migrations.push(planned("1.1.0/1-d", "db", Stage::Pre, &["data"]));
    upgrade.migrations.push(on_host("1.1.0/2-e", Stage::Post, &["/srv"]));
    upgrade.migrations.push(on_host("1.2.0/1-f", Stage::Pre, &["/srv"]));
    let steps: Vec<String> = upgrade.steps().iter().map(ToString::to_string).collect();
    let from = steps.iter().position(|step| step == "migrate 1.0.0/3-c").unwrap();
    let to = steps.iter().position(|step| step == "steady").unwrap();
    let all = ["start db", "verify db", "start idle", "verify idle", "start fresh", "verify fresh"];
    let ended = ["retire fresh", "retire idle", "retire db"];
    let wanted = [
        &["migrate 1.0.0/3-c", "retire idle", "retire db", "migrate 1.1.0/1-d"][..],
        &all,
        &["migrate 1.1.0/2-e"],
        &ended,
        &["migrate 1.2.0/1-f"],
        &all,
        &["migrate 0.9.0/1-z"],
    ];
    assert_eq!(steps[from..to], wanted.concat());
}
