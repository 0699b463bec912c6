//! What a change is made of: which units it replaces, and whose data it copies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use setpoint_model::fingerprint::LeafKey;
use setpoint_model::manifest::Env;
use setpoint_model::names::UnitName;
use setpoint_model::plan::Action;
use setpoint_model::release::host_paths::{covers, outermost};
use setpoint_model::release::ledger::{Due, host_of, is_volume};
use setpoint_model::release::migration::Stage;
use setpoint_model::release::{Active, Copy, Holds, Kind, Lane, MigrationError, Part, Upgrade, puts};

use super::{Migrations, UpgradeError, active};
use crate::apply::STOP_GRACE;
use crate::engine::{Engine, Seen, UnitId};
use crate::observe::{Look, Unit};
use crate::paths::Roots;
use crate::store::{Store, UpgradeOutcome};

/// Why a change cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The data of a volume is not ours to move.
    #[error(
        "the volume {volume} of {unit} is declared as external: others may write to it while it is copied"
    )]
    External {
        /// Which.
        volume: String,
        /// Whose.
        unit: UnitName,
    },
    /// A migration is wrong, or does not belong to the data.
    #[error(transparent)]
    Migration(#[from] MigrationError),
    /// Nothing is kept of the generation that is to be gone back to.
    #[error("nothing is kept of {wanted}; there is: {kept}")]
    NotKept {
        /// As it was asked for.
        wanted: String,
        /// What can be gone back to.
        kept: String,
    },
    /// There is nothing to go back to.
    #[error("there is no earlier generation of this project")]
    NoEarlier,
    /// Going back would lose what was written since.
    #[error("going back loses what was written to {} since {since:.0}", .to.join(", "))]
    LosesWrites {
        /// The volumes, as they are declared, and the paths of the host.
        to: Vec<String>,
        /// When the generation that is left was committed.
        since: jiff::Timestamp,
    },
}

/// What is to be in effect.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The version of the project.
    pub version: Option<&'a str>,
    /// The digest of the release that it is made of; nothing where it is what the project's folder says.
    pub release: Option<&'a str>,
    /// What is done to data, where it is said.
    pub lane: Option<Lane>,
    /// How many earlier generations are kept.
    pub keep: u64,
    /// What there is to migrate.
    pub migrations: &'a Migrations,
}

/// The change to what is declared now; nothing where it is in effect. Units are in the order in which they start; those
/// that are declared no more are `gone`.
///
/// # Errors
/// [`Refused`] if data cannot be copied.
pub fn upgrade(
    units: &[(Unit<'_>, Look)],
    gone: &[(Unit<'_>, Look)],
    from: &Active,
    target: Target<'_>,
) -> Result<Option<Upgrade>, Refused> {
    let generation = from.generation + 1;
    let migrations = target.migrations.due(target.lane)?;
    let runs = || migrations.iter().filter(|planned| planned.due != Due::Cover);
    let is_touched = |name: &String| runs().any(|planned| planned.touches.contains(name));
    let mut copies: Vec<Copy> = Vec::new();
    for (unit, look) in units {
        let moves = is_there(look) && look.moves();
        for volume in unit.env.volumes() {
            let is_known = copies.iter().any(|copy| copy.declared == volume.name);
            let is_there = target.migrations.is_there(&volume.name);
            if target.lane == Some(Lane::Compatible)
                || is_known
                || !(moves || (is_there && is_touched(&volume.name)))
            {
                continue;
            }
            if volume.external {
                let (volume, unit) = (volume.name.clone(), unit.env.name.clone());
                return Err(Refused::External { volume, unit });
            }
            copies.push(Copy {
                declared: volume.name.clone(),
                from: from.volume(&volume.name).to_owned(),
                to: format!("{}.{generation}", volume.name),
                of: unit.env.name.clone(),
                holds: Holds::Copied,
            });
        }
    }
    let saves = outermost(runs().flat_map(|planned| &planned.paths));
    // Who runs would write there meanwhile, or see what is not there any more.
    let has_path = |unit: &Unit<'_>| {
        unit.seen_of_host().iter().any(|source| {
            let source = source.to_string_lossy();
            saves.iter().any(|path| covers(path, &source) || covers(&source, path))
        })
    };
    let has_copied =
        |env: &Env| env.volumes().any(|volume| copies.iter().any(|copy| copy.declared == volume.name));
    let is_stood_in = |env: &Env| {
        runs().any(|planned| planned.unit.as_ref() == Some(&env.name) && planned.stage == Stage::Pre)
    };
    let parts: Vec<Part> = units
        .iter()
        .filter(|(unit, look)| {
            is_changed(look) || has_copied(unit.env) || is_stood_in(unit.env) || has_path(unit)
        })
        .map(|(unit, look)| part(unit, look))
        .chain(gone.iter().filter(|(_, look)| is_there(look)).map(|(unit, look)| Part {
            stays: false,
            to: None,
            ..part(unit, look)
        }))
        .collect();
    let release = target.release.map(str::to_owned);
    if parts.is_empty() && migrations.is_empty() && release == from.release {
        return Ok(None);
    }
    let touched = runs().flat_map(|planned| &planned.touches).collect::<BTreeSet<_>>();
    let touched = touched.into_iter().filter(|name| is_volume(name));
    let makes = touched.filter(|name| !target.migrations.is_there(name));
    let makes = makes.map(|name| from.volume(name).to_owned()).collect();
    let mut volumes = from.volumes.clone();
    volumes.extend(copies.iter().map(|copy| (copy.declared.clone(), copy.to.clone())));
    let engine = units.first().map(|(unit, _)| unit.engine.capabilities().engine).unwrap_or_default();
    let upgrade = Upgrade {
        kind: Kind::Upgrade,
        lane: match target.lane {
            Some(Lane::Compatible) => Lane::Compatible,
            _ if copies.is_empty() && saves.is_empty() => Lane::Compatible,
            _ => Lane::Breaking,
        },
        engine: engine.to_owned(),
        from: from.clone(),
        to: Active {
            generation,
            version: target.version.map(str::to_owned),
            release,
            volumes,
            host: if saves.is_empty() { from.host.clone() } else { Some(host_of(generation)) },
            ..Active::default()
        },
        parts,
        copies,
        makes,
        saves,
        puts: Vec::new(),
        migrations,
        loads: Vec::new(),
        keep: target.keep,
    };
    upgrade.check_order()?;
    Ok(Some(upgrade))
}

/// Whether there is an instance.
pub(crate) fn is_there(look: &Look) -> bool {
    look.seen != Seen::Absent
}

/// Whether something is to be done to a unit that more than hooks can do.
fn is_changed(look: &Look) -> bool {
    match look.plan.action {
        Action::Start => !look.report.differences.is_empty(),
        Action::Nothing => !look.report.differences.is_empty() && look.plan.is_drift(),
        _ => true,
    }
}

/// The part of a change that replaces a unit's instance by what is declared.
pub(crate) fn part(unit: &Unit<'_>, look: &Look) -> Part {
    let base = LeafKey::new(look.desired.base_digest.path.clone());
    Part {
        unit: unit.env.name.clone(),
        is_there: is_there(look),
        runs: matches!(look.seen, Seen::Running(_)),
        stays: true,
        from: look.made_of(),
        to: look.desired.fingerprint.get(&base).and_then(|leaf| leaf.shown.clone()),
        completes: unit.env.service.as_ref().is_some_and(|of| of.completes),
        grace: u64::try_from(unit.stop_grace().as_millis()).unwrap_or(u64::MAX),
        restores: None,
    }
}

/// The change back to an earlier generation, by its version or number; to the one before, if none is named.
///
/// # Errors
/// [`Refused`] if nothing is kept of it, or if writes would be lost and `discards_writes` is not said.
pub fn rollback(
    roots: &Roots,
    engine: &dyn Engine,
    store: &Store,
    root: &Path,
    wanted: Option<&str>,
    discards_writes: bool,
) -> Result<Result<Upgrade, Refused>, UpgradeError> {
    let now = active(roots, root)?;
    // What led to the generation in effect, the newest first: what was gone back from is not on that way.
    let committed =
        |row: &crate::store::UpgradeRow| matches!(row.ended, Some((UpgradeOutcome::Committed, _)));
    let rows: Vec<_> = store.upgrades(root)?.into_iter().filter(committed).collect();
    let names = |generation: &Active, text: &str| {
        generation.generation.to_string() == text
            || generation.version.as_deref() == Some(text.trim_start_matches('v'))
    };
    // Before what was made first, nothing was there.
    let is_first = |row: &crate::store::UpgradeRow| {
        let parts = &row.upgrade.parts;
        !parts.is_empty() && parts.iter().all(|part| !part.is_there)
    };
    let rows: &[_] = match rows.iter().position(is_first) {
        Some(first) => &rows[..first],
        None => &rows,
    };
    let target = match wanted {
        Some(text) => rows.iter().position(|row| names(&row.upgrade.from, text)),
        None => (!rows.is_empty()).then_some(0),
    };
    let earlier = || {
        let shown = |row: &crate::store::UpgradeRow| shown(&row.upgrade.from);
        rows.iter().map(shown).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
    };
    let Some(target) = target else {
        return Ok(Err(match wanted {
            Some(wanted) if !rows.is_empty() => {
                Refused::NotKept { wanted: wanted.to_owned(), kept: earlier() }
            }
            _ => Refused::NoEarlier,
        }));
    };
    let undone = &rows[..=target];
    let to = &rows[target].upgrade.from;
    // The instance that a unit had then is the one that was set aside first since.
    let mut restores: BTreeMap<UnitName, Option<u64>> = BTreeMap::new();
    let mut order: Vec<UnitName> = Vec::new();
    for row in undone {
        for part in &row.upgrade.parts {
            let generation = part.is_there.then_some(row.upgrade.from.generation);
            restores.insert(part.unit.clone(), generation);
            if !order.contains(&part.unit) {
                order.push(part.unit.clone());
            }
        }
    }
    let mut parts = Vec::new();
    for unit in order {
        let id = UnitId::new(root, &unit);
        let restored = restores.get(&unit).copied().flatten();
        if let Some(generation) = restored
            && !engine.set_aside_of(&id)?.contains(&generation)
        {
            return Ok(Err(Refused::NotKept {
                wanted: shown(to),
                kept: "the generation in effect".to_owned(),
            }));
        }
        let seen = engine.observe(&id)?;
        let part = undone.iter().flat_map(|row| &row.upgrade.parts).find(|part| part.unit == unit);
        parts.push(Part {
            is_there: seen != Seen::Absent,
            runs: matches!(seen, Seen::Running(_)),
            stays: restored.is_some(),
            from: part.and_then(|part| part.to.clone()),
            to: undone
                .iter()
                .rev()
                .flat_map(|row| &row.upgrade.parts)
                .find(|part| part.unit == unit)
                .and_then(|part| part.from.clone()),
            completes: part.is_some_and(|part| part.completes),
            grace: part
                .map_or_else(|| u64::try_from(STOP_GRACE.as_millis()).unwrap_or(u64::MAX), |part| part.grace),
            unit,
            restores: restored,
        });
    }
    let moved: Vec<String> = {
        let all = now.volumes.keys().chain(to.volumes.keys()).collect::<BTreeSet<_>>();
        all.into_iter().filter(|name| now.volume(name) != to.volume(name)).cloned().collect()
    };
    let puts = puts(undone.iter().map(|row| &row.upgrade));
    let saves = outermost(puts.iter().map(|put| &put.path));
    let loses: Vec<String> = moved.iter().chain(&saves).cloned().collect();
    if !loses.is_empty() && !discards_writes {
        let since = rows[target].ended.map_or(rows[target].began_at, |(_, at)| at);
        return Ok(Err(Refused::LosesWrites { to: loses, since }));
    }
    // What stays as it is on the host, stays noted.
    let host = if puts.is_empty() { now.host.clone() } else { to.host.clone() };
    Ok(Ok(Upgrade {
        kind: Kind::Rollback,
        lane: if loses.is_empty() { Lane::Compatible } else { Lane::Breaking },
        engine: engine.capabilities().engine.to_owned(),
        to: Active { generation: now.generation + 1, host, ..to.clone() },
        from: now,
        parts,
        copies: Vec::new(),
        makes: Vec::new(),
        saves,
        puts,
        migrations: Vec::new(),
        loads: Vec::new(),
        keep: rows[0].upgrade.keep,
    }))
}

/// A change, as people are told: `the upgrade 1.0.0 -> 2.0.0`.
#[must_use]
pub fn told(change: &Upgrade) -> String {
    let (from, to) = (shown(&change.from), shown(&change.to));
    let kind = match change.kind {
        Kind::Upgrade => "upgrade",
        Kind::Rollback => "rollback",
        Kind::Restore => "restore",
    };
    format!("the {kind} {from} -> {to}")
}

/// A generation, as people are told.
pub(crate) fn shown(generation: &Active) -> String {
    match &generation.version {
        Some(version) => version.clone(),
        None => format!("generation {}", generation.generation),
    }
}
