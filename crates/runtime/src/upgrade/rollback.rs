//! What a way back is made of: the generation that is gone back to, the instances that are put back or made again, and what
//! becomes of the data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use setpoint_model::names::UnitName;
use setpoint_model::release::host_paths::outermost;
use setpoint_model::release::ledger::{Planned, Progress, host_of, is_volume};
use setpoint_model::release::way_back::way_back;
use setpoint_model::release::{Active, Copy, Holds, Kind, Lane, Part, Upgrade, puts};

use super::plan::{Refused, shown};
use super::saved::Saved;
use super::{Migrations, UpgradeError, active};
use crate::apply::STOP_GRACE;
use crate::engine::{Engine, Seen, UnitId};
use crate::paths::Roots;
use crate::release::Releases;
use crate::store::{LedgerOf, Store, StoreError, UpgradeOutcome, UpgradeRow};

/// Which way back is asked for.
#[derive(Clone, Copy)]
pub struct Back<'a> {
    /// Where state lies.
    pub roots: &'a Roots,
    /// The engine that holds the units.
    pub engine: &'a dyn Engine,
    /// The project's folder.
    pub root: &'a Path,
    /// The version, or the number of its generation; the one before, if none is named.
    pub wanted: Option<&'a str>,
    /// Whether what was written since may be lost.
    pub discards_writes: bool,
    /// The migrations of the version that is left, where they are known.
    pub leaves: Option<&'a Migrations>,
}

impl Back<'_> {
    /// The change back to an earlier generation. Data that was copied since is that of then, if writes may be discarded;
    /// else it is that of today, where migrations say how they are taken back.
    ///
    /// # Errors
    /// [`Refused`] if nothing is kept of it, or if writes would be lost.
    pub fn plan(&self, store: &Store) -> Result<Result<Upgrade, Refused>, UpgradeError> {
        let now = active(self.roots, self.root)?;
        let rows = led_here(store, self.root)?;
        let undone = match self.undone(&rows) {
            Ok(undone) => undone,
            Err(refused) => return Ok(Err(refused)),
        };
        let Some(target) = undone.last() else { return Ok(Err(Refused::NoEarlier)) };
        let to = &target.upgrade.from;
        if let Some(release) = &to.release
            && Releases::of(self.roots).files(release).is_none()
        {
            let kept = "the generation in effect".to_owned();
            return Ok(Err(Refused::NotKept { wanted: shown(to), kept }));
        }
        let parts = match self.parts(undone, to)? {
            Ok(parts) => parts,
            Err(refused) => return Ok(Err(refused)),
        };
        let moved: Vec<String> = {
            let all = now.volumes.keys().chain(to.volumes.keys()).collect::<BTreeSet<_>>();
            all.into_iter().filter(|name| now.volume(name) != to.volume(name)).cloned().collect()
        };
        if let Some(planned) = self.ran_forward_only(store, undone, to)? {
            return Ok(Err(Refused::ForwardOnly { to: shown(to), id: planned.id.clone() }));
        }
        let puts = puts(undone.iter().map(|row| &row.upgrade));
        let saved = Saved { roots: self.roots, root: self.root };
        if !puts.iter().all(|put| saved.has(put.generation, &put.path)) {
            return Ok(Err(not_kept(to)));
        }
        let saves = outermost(puts.iter().map(|put| &put.path));
        let loses: Vec<String> = moved.iter().chain(&saves).cloned().collect();
        // What stays as it is on the host, stays noted.
        let host = if puts.is_empty() { now.host.clone() } else { to.host.clone() };
        let plain = Upgrade {
            kind: Kind::Rollback,
            lane: if loses.is_empty() { Lane::Compatible } else { Lane::Breaking },
            engine: self.engine.capabilities().engine.to_owned(),
            to: Active { generation: now.generation + 1, host, ..to.clone() },
            from: now,
            parts,
            copies: Vec::new(),
            makes: Vec::new(),
            saves,
            puts,
            migrations: Vec::new(),
            downs: Vec::new(),
            loads: Vec::new(),
            keep: rows[0].upgrade.keep,
        };
        if loses.is_empty() || self.discards_writes {
            return Ok(Ok(plain));
        }
        let taken_back = match self.ran_forward_only(store, undone, &plain.from)? {
            Some(planned) => Err(Some(format!("{} is `forward_only`, and has run", planned.id))),
            None => self.taken_back(undone, &moved),
        };
        Ok(taken_back.map(|downs| with_data(plain, downs, moved, undone)).map_err(|why| {
            let since = target.ended.map_or(target.began_at, |(_, at)| at);
            Refused::LosesWrites { to: loses, since, why }
        }))
    }

    /// What these changes did, or began to do, from which nothing leads back, and the data of a generation has. What they made
    /// first, it does not know.
    fn ran_forward_only<'r>(
        &self,
        store: &Store,
        undone: &'r [UpgradeRow],
        generation: &Active,
    ) -> Result<Option<&'r Planned>, StoreError> {
        let of = LedgerOf { project_root: self.root, engine: self.engine.capabilities().engine };
        let mut ledger = store.ledger(of)?;
        ledger.retain(|row| row.applied.progress != Progress::Awaited);
        let made: BTreeSet<&String> = undone.iter().flat_map(|row| &row.upgrade.makes).collect();
        let has = |planned: &&Planned| {
            let held = planned.touches.iter().map(|name| generation.volume(name).to_owned());
            let mut held = held.filter(|volume| !made.contains(volume));
            held.any(|volume| ledger.iter().any(|row| row.volume == volume && row.applied.id == planned.id))
        };
        Ok(undone.iter().flat_map(|row| row.upgrade.forward_only()).find(has))
    }

    /// The changes that are gone back over, the newest first.
    fn undone<'r>(&self, rows: &'r [UpgradeRow]) -> Result<&'r [UpgradeRow], Refused> {
        let names = |generation: &Active, text: &str| {
            generation.generation.to_string() == text
                || generation.version.as_deref() == Some(text.trim_start_matches('v'))
        };
        let target = match self.wanted {
            Some(text) => rows.iter().position(|row| names(&row.upgrade.from, text)),
            // What was only brought to its end leads to no other version.
            None => rows.iter().position(|row| !row.upgrade.only_leads_forward()),
        };
        let earlier = || {
            let earlier = rows.iter().map(|row| shown(&row.upgrade.from));
            earlier.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
        };
        match (target, self.wanted) {
            (Some(target), _) => Ok(&rows[..=target]),
            (None, Some(wanted)) if !rows.is_empty() => {
                Err(Refused::NotKept { wanted: wanted.to_owned(), kept: earlier() })
            }
            (None, _) => Err(Refused::NoEarlier),
        }
    }

    /// The units that are replaced. The instance that a unit had then is the one that was set aside first since.
    fn parts(&self, undone: &[UpgradeRow], to: &Active) -> Result<Result<Vec<Part>, Refused>, UpgradeError> {
        let mut restores: BTreeMap<&UnitName, Option<u64>> = BTreeMap::new();
        let mut order: Vec<&UnitName> = Vec::new();
        for row in undone {
            for part in &row.upgrade.parts {
                let generation = part.is_there.then_some(row.upgrade.from.generation);
                restores.insert(&part.unit, generation);
                if !order.contains(&&part.unit) {
                    order.push(&part.unit);
                }
            }
        }
        let mut parts = Vec::new();
        for unit in order {
            let id = UnitId::new(self.root, unit);
            let restored = restores.get(unit).copied().flatten();
            if let Some(generation) = restored
                && !self.engine.set_aside_of(&id)?.contains(&generation)
            {
                return Ok(Err(not_kept(to)));
            }
            let seen = self.engine.observe(&id)?;
            let mut of = undone.iter().flat_map(|row| &row.upgrade.parts).filter(|part| part.unit == *unit);
            let last = of.next();
            let first = of.next_back().or(last);
            let grace = || u64::try_from(STOP_GRACE.as_millis()).unwrap_or(u64::MAX);
            parts.push(Part {
                unit: unit.clone(),
                is_there: seen != Seen::Absent,
                runs: matches!(seen, Seen::Running(_)),
                stays: restored.is_some(),
                from: last.and_then(|part| part.to.clone()),
                to: first.and_then(|part| part.from.clone()),
                completes: last.is_some_and(|part| part.completes),
                grace: last.map_or_else(grace, |part| part.grace),
                restores: restored,
                stands_in: false,
            });
        }
        Ok(Ok(parts))
    }

    /// What takes back what was done to the data since; or why nothing does, where that is worth a word.
    fn taken_back(&self, undone: &[UpgradeRow], moved: &[String]) -> Result<Vec<Planned>, Option<String>> {
        let declared = &self.leaves.ok_or(None)?.declared;
        if declared.iter().all(|(migration, _)| migration.down.is_none()) {
            return Err(None);
        }
        let undone: Vec<&Upgrade> = undone.iter().map(|row| &row.upgrade).collect();
        let downs = way_back(&undone, declared, moved).map_err(|why| Some(why.to_string()))?;
        match undone.iter().all(|change| change.from.release.is_some() && change.to.release.is_some()) {
            true => Ok(downs),
            false => Err(Some(
                "an instance is made anew on today's data only of a release, and this project is made of its folder"
                    .to_owned(),
            )),
        }
    }
}

fn not_kept(to: &Active) -> Refused {
    Refused::NotKept { wanted: shown(to), kept: "the generation in effect".to_owned() }
}

/// The same change with the data of today, from which these take back what was done. Instances are made anew, on copies.
fn with_data(plain: Upgrade, downs: Vec<Planned>, moved: Vec<String>, undone: &[UpgradeRow]) -> Upgrade {
    let touched = downs.iter().flat_map(|down| &down.touches).filter(|name| is_volume(name)).cloned();
    let copied: BTreeSet<String> = moved.into_iter().chain(touched).collect();
    let generation = plain.to.generation;
    let of = |declared: &str| {
        let copies = undone.iter().flat_map(|row| &row.upgrade.copies);
        let own = copies.filter(|copy| copy.declared == declared).map(|copy| copy.of.clone()).next();
        let by = || downs.iter().find(|down| down.touches.iter().any(|name| name == declared))?.unit.clone();
        own.or_else(by)
    };
    let copy = |declared: String| {
        Some(Copy {
            from: plain.from.volume(&declared).to_owned(),
            to: format!("{declared}.{generation}"),
            of: of(&declared)?,
            declared,
            holds: Holds::Copied,
            bytes: 0,
        })
    };
    let copies: Vec<Copy> = copied.into_iter().filter_map(copy).collect();
    let mut to = plain.to.clone();
    to.volumes.extend(copies.iter().map(|copy| (copy.declared.clone(), copy.to.clone())));
    to.restored.clear();
    let saves = outermost(downs.iter().flat_map(|down| &down.paths));
    to.host = if saves.is_empty() { plain.from.host.clone() } else { Some(host_of(generation)) };
    let parts = plain.parts.into_iter().map(|part| Part { restores: None, ..part }).collect();
    Upgrade { to, parts, copies, saves, puts: Vec::new(), downs, ..plain }
}

/// The changes that came about, the newest first, but for what was made first, before which nothing was there.
fn led_here(store: &Store, root: &Path) -> Result<Vec<UpgradeRow>, UpgradeError> {
    let is_first = |row: &UpgradeRow| {
        let parts = &row.upgrade.parts;
        !parts.is_empty() && parts.iter().all(|part| !part.is_there)
    };
    let committed = |row: &UpgradeRow| matches!(row.ended, Some((UpgradeOutcome::Committed, _)));
    let rows = store.upgrades(root)?.into_iter().filter(committed);
    Ok(rows.take_while(|row| !is_first(row)).collect())
}
