//! What was recorded, and what is in effect.

use std::collections::BTreeMap;

use jiff::Timestamp;
use setpoint_model::container::MountSource;
use setpoint_model::doctor::{Clock, Cut, Finding, Row, SeenActive, active, clock, cut, stuck, unfinished};
use setpoint_model::release::Active;

use super::{Patient, processes};
use crate::engine::HostFacts;
use crate::lock::{Holder, holder, holder_of_project};
use crate::store::{Store, StoreError, UpgradeOutcome, UpgradeRow};
use crate::upgrade;

/// A state that cannot be read.
#[must_use]
pub fn unreadable(error: &StoreError) -> Finding {
    let fix = error.hint().unwrap_or_else(|| "see docs/runbook.md#state-damaged".to_owned());
    Finding::of(Row::StateDamaged, "state", error.to_string(), fix)
}

impl Patient<'_> {
    pub(super) fn state(&self, host: Option<&HostFacts>) -> Vec<Finding> {
        let recorded = self.store.map(|store| self.recorded(store, host));
        let mut found = match recorded {
            None => Vec::new(),
            Some(Ok(found)) => found,
            Some(Err(error)) => vec![unreadable(&error)],
        };
        found.extend(self.locks());
        let now = upgrade::active(self.roots, self.root);
        found.extend(now.as_ref().err().map(|error| {
            let fix = "put that file back from a backup; `setpoint history --json` has what it said";
            Finding::of(Row::ActiveDamaged, "in effect", error.to_string(), fix)
        }));
        if let (Ok(now), Some(store)) = (now, self.store) {
            found.extend(self.in_effect(now, store, host.is_some()));
        }
        found
    }

    /// What was cut off, and whether the clock can be right.
    fn recorded(&self, store: &Store, host: Option<&HostFacts>) -> Result<Vec<Finding>, StoreError> {
        let mut found = Vec::new();
        if let Some(row) = store.open_upgrade(self.root)? {
            found.extend(cut(&self.cut(&row)));
        }
        for unit in store.units(self.root)? {
            let name = &unit.unit.name;
            // What somebody is at is no trouble.
            let open = match holder(self.roots, self.root, name) {
                None => store.open_operations(unit.id)?,
                Some(_) => Vec::new(),
            };
            found.extend(open.last().map(|open| unfinished(name.as_str(), &open.operation.what)));
        }
        let of_units = store.operations(1)?.into_iter().map(|last| last.began_at);
        let of_upgrades = store.upgrades(self.root)?.into_iter().next().map(|last| last.began_at);
        let seconds = |at: Timestamp| u64::try_from(at.as_second()).unwrap_or_default();
        found.extend(clock(Clock {
            now: seconds(Timestamp::now()),
            recorded: of_units.chain(of_upgrades).max().map(seconds),
            engine: host.and_then(|host| host.clock).map(seconds),
        }));
        Ok(found)
    }

    fn cut(&self, row: &UpgradeRow) -> Cut {
        let what = upgrade::told(&row.upgrade);
        let needs_person = matches!(row.ended, Some((UpgradeOutcome::NeedsOperator, _)));
        let why = row.detail.clone().unwrap_or_default();
        let goes_on = self.is_changed();
        Cut { what, needs_person: needs_person.then_some(why), goes_on }
    }

    /// Whether what is in effect is about to be another: somebody else is at it, or it was cut off, which is told by itself.
    pub(super) fn is_on_its_way(&self) -> bool {
        let is_open = |store: &Store| store.open_upgrade(self.root).is_ok_and(|open| open.is_some());
        self.is_changed() || self.store.is_some_and(is_open)
    }

    /// Whether somebody else changes what is in effect.
    fn is_changed(&self) -> bool {
        let holder = holder_of_project(self.roots, self.root);
        holder.is_some_and(|holder| holder.pid != std::process::id())
    }

    /// Locks of processes that do not go on.
    fn locks(&self) -> Vec<Finding> {
        let of = |name: &str, holder: Holder| {
            stuck(name, &holder.to_string(), holder.pid, processes::state(holder.pid)?)
        };
        let project = holder_of_project(self.roots, self.root);
        let project = project.and_then(|holder| of(&self.root.display().to_string(), holder));
        let rows = self.store.and_then(|store| store.units(self.root).ok()).unwrap_or_default();
        let units = rows.iter().filter_map(|row| {
            let name = &row.unit.name;
            of(name.as_str(), holder(self.roots, self.root, name)?)
        });
        project.into_iter().chain(units).collect()
    }

    /// Whether what is in effect is what was committed, and what units have.
    fn in_effect(&self, now: Active, store: &Store, can_ask: bool) -> Vec<Finding> {
        let committed = match committed(store, self) {
            Ok(committed) => committed,
            Err(error) => return vec![unreadable(&error)],
        };
        let mut there = now.volumes.values().cloned().collect();
        let mut held = BTreeMap::new();
        // Until a change is at its end, units may have what will be.
        if can_ask && !self.is_on_its_way() {
            let names: Vec<String> = now.volumes.values().cloned().collect();
            // An engine that does not answer was told already.
            if let Ok(ids) = self.engine.volume_ids(&names) {
                there = ids.into_keys().collect();
            }
            for unit in self.declared().into_iter().filter(|unit| unit.env.is_service()) {
                held.insert(unit.env.name.to_string(), self.held(&unit));
            }
        }
        active(&SeenActive { active: now, committed, there, held })
    }

    /// The volumes that a unit has of a declared one, at any generation: the one that is declared, and the one that it has.
    fn held(&self, unit: &crate::observe::Unit<'_>) -> Vec<(String, String)> {
        let has = self.engine.volumes_of(&unit.id).unwrap_or_default().held;
        let of = |mount: &setpoint_model::container::ContainerMount| {
            let MountSource::Volume { name: Some(declared), .. } = &mount.source else { return None };
            let has =
                has.iter().find(|held| held.target.as_os_str() == mount.target.as_str())?.name.clone()?;
            // Another one altogether is a change of the manifest that is not applied yet.
            let of_generation = has.strip_prefix(declared.as_str()).and_then(|rest| rest.strip_prefix('.'));
            let is_its_own =
                has == *declared || of_generation.is_some_and(|number| number.parse::<u64>().is_ok());
            is_its_own.then(|| (declared.clone(), has))
        };
        unit.env.container.mounts.iter().filter_map(of).collect()
    }
}

/// What the journal says was committed last.
pub(super) fn committed(store: &Store, patient: &Patient<'_>) -> Result<Option<Active>, StoreError> {
    let rows = store.upgrades(patient.root)?.into_iter();
    let mut committed = rows.filter(|row| matches!(row.ended, Some((UpgradeOutcome::Committed, _))));
    Ok(committed.next().map(|row| row.upgrade.to))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::collections::BTreeMap;

    use jiff::ToSpan as _;
    use setpoint_model::manifest::EngineKind;
    use setpoint_model::names::UnitName;

    use super::*;
    use crate::engine;
    use crate::paths::Roots;
    use crate::store::{NewUnit, TxId, UnitKind};

    /// Looks at a state of which this is written, and gives the ids of what was found.
    fn found(write: impl FnOnce(&mut Store, &std::path::Path)) -> Vec<&'static str> {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("project");
        let roots = Roots { state: folder.path().join("state"), config: folder.path().join("config") };
        let mut store = Store::open(&roots).unwrap();
        write(&mut store, &root);
        let variables = BTreeMap::new();
        let engine = engine::open(EngineKind::Embedded, &roots, &variables);
        let engine = engine.as_ref();
        let (roots, variables) = (&roots, &variables);
        let patient =
            Patient { roots, engine, root: &root, project: None, store: Some(&store), variables, home: None };
        patient.state(engine.host().ok().as_ref()).iter().filter_map(|one| Some(one.row?.id())).collect()
    }

    fn unit(root: &std::path::Path) -> NewUnit {
        NewUnit {
            project_root: root.to_owned(),
            project_name: "shop".to_owned(),
            name: UnitName::new("web").unwrap(),
            kind: UnitKind::Env,
            engine: "embedded".to_owned(),
            instance: None,
            labels: BTreeMap::new(),
        }
    }

    fn began(store: &mut Store, root: &std::path::Path, at: Timestamp) {
        store
            .write(|writer| {
                let unit = writer.insert_unit(&unit(root), at)?;
                let txid = TxId::new("1");
                writer.begin(&txid, unit, "setpoint up web", at)?;
                writer.finish(&txid, crate::store::OperationOutcome::Succeeded, None, at)
            })
            .unwrap();
    }

    #[test]
    fn a_clock_that_was_set_back_is_told() {
        let now = Timestamp::now();
        assert_eq!(found(|store, root| began(store, root, now)), [""; 0]);
        assert_eq!(found(|store, root| began(store, root, now + 30.hours())), ["clock"]);
    }

    #[test]
    fn an_upgrade_that_needs_a_person_is_told() {
        use setpoint_model::release::{Kind, Lane, Upgrade};
        let upgrade = Upgrade {
            kind: Kind::Upgrade,
            lane: Lane::Breaking,
            engine: "embedded".to_owned(),
            from: Active::default(),
            to: Active { generation: 1, ..Active::default() },
            parts: Vec::new(),
            copies: Vec::new(),
            loads: Vec::new(),
            makes: Vec::new(),
            saves: Vec::new(),
            puts: Vec::new(),
            downs: Vec::new(),
            migrations: Vec::new(),
            keep: 1,
        };
        let with = |outcome: Option<UpgradeOutcome>| {
            found(|store, root| {
                let (txid, now) = (TxId::new("1"), Timestamp::now());
                store
                    .write(|writer| {
                        writer.begin_upgrade(&txid, root, &upgrade, "ann", now)?;
                        outcome.map_or(Ok(()), |outcome| {
                            writer.finish_upgrade(&txid, outcome, Some("put-back web: no"), now)
                        })
                    })
                    .unwrap();
            })
        };
        assert_eq!(with(None), ["open-transaction"]);
        assert_eq!(with(Some(UpgradeOutcome::NeedsOperator)), ["needs-operator"]);
        assert_eq!(with(Some(UpgradeOutcome::RolledBack)), [""; 0]);
        // It was committed, and the file that says so is not there.
        assert_eq!(with(Some(UpgradeOutcome::Committed)), ["active-missing"]);
    }
}
