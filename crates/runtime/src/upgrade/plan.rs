//! What a change forwards is made of: which units it replaces, and whose data it copies.

use std::collections::BTreeSet;

use setpoint_model::fingerprint::LeafKey;
use setpoint_model::manifest::Env;
use setpoint_model::names::UnitName;
use setpoint_model::plan::Action;
use setpoint_model::release::host_paths::{covers, outermost};
use setpoint_model::release::ledger::{Due, Planned, host_of, is_volume};
use setpoint_model::release::migration::Stage;
use setpoint_model::release::{
    Active, Copy, Holds, Kind, Lane, MigrationError, MigrationId, Part, Upgrade, stand_in,
};

use super::Migrations;
use crate::engine::Seen;
use crate::observe::{Look, Unit};

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
    /// What ran on the data that is in effect, and would stay in effect, leads forward only.
    #[error("nothing leads back to {to}: {id}, which is `forward_only`, has run on data that is not copied")]
    ForwardOnly {
        /// The generation that was to be gone back to.
        to: String,
        /// Which migration.
        id: MigrationId,
    },
    /// Going back would lose what was written since.
    #[error("going back loses what was written to {} since {since:.0}", .to.join(", "))]
    LosesWrites {
        /// The volumes, as they are declared, and the paths of the host.
        to: Vec<String>,
        /// Why today's data cannot be taken along, where that is worth a word.
        why: Option<String>,
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
    /// Whether instances of it may answer beside the old ones while these are replaced.
    pub stand_in: bool,
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
    let mut migrations = target.migrations.due(target.lane)?;
    if units.iter().chain(gone).all(|(_, look)| !is_there(look)) {
        // Nothing leads back from what is made first, on data of its own, or of a project that was never here.
        let is_new = |name: &String| match is_volume(name) {
            true => !target.migrations.is_there(name),
            false => *from == Active::default(),
        };
        let new = migrations.iter_mut().filter(|planned| planned.touches.iter().all(is_new));
        new.for_each(Planned::run_before_the_commit);
    }
    let runs = || migrations.iter().filter(|planned| planned.leads_there());
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
                bytes: 0,
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
    let done = migrations.iter().filter(|planned| planned.due != Due::Cover);
    let touched = done.flat_map(|planned| &planned.touches).collect::<BTreeSet<_>>();
    let touched = touched.into_iter().filter(|name| is_volume(name));
    let makes = touched.filter(|name| !target.migrations.is_there(name));
    let makes = makes.map(|name| from.volume(name).to_owned()).collect();
    let mut volumes = from.volumes.clone();
    volumes.extend(copies.iter().map(|copy| (copy.declared.clone(), copy.to.clone())));
    let engine = units.first().map(|(unit, _)| unit.engine.capabilities().engine).unwrap_or_default();
    let mut upgrade = Upgrade {
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
        downs: Vec::new(),
        loads: Vec::new(),
        keep: target.keep,
    };
    upgrade.check_order()?;
    if let Some((unit, _)) = units.first().filter(|_| target.stand_in) {
        let envs = units.iter().map(|(unit, _)| (&unit.env.name, unit.env)).collect();
        let fits = units.iter().filter(|(unit, look)| is_reached_alike(unit, look));
        let fits = fits.map(|(unit, _)| &unit.env.name).collect();
        stand_in::assign(&mut upgrade, &envs, &fits, &unit.engine.capabilities());
    }
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

/// Whether the ports of a unit are held now, and neither they nor its networks are to change.
fn is_reached_alike(unit: &Unit<'_>, look: &Look) -> bool {
    let prefix = format!("service.{}.", unit.env.name);
    let moves = look.report.differences.iter().filter_map(|differs| differs.key.path.strip_prefix(&prefix));
    let mut moves = moves.filter(|leaf| leaf.starts_with("ports") || leaf.starts_with("network"));
    moves.next().is_none() && unit.engine.has_held_ports(&unit.id)
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
        stands_in: false,
    }
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
