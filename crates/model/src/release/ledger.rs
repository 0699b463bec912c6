//! The ledger of migrations: what was applied to which data, and what is due on it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::migration::{Migration, MigrationError, MigrationId, Stage};
use super::upgrade::Lane;
use super::version::Version;
use crate::names::UnitName;

/// In the place of a volume's name: what migrations did that touch none.
pub const NO_VOLUME: &str = "";
/// In the place of a volume's name: what migrations did on the host. No volume can be called so.
pub const ON_HOST: &str = "/";

/// Whether what a migration touches is a volume, and not [`NO_VOLUME`] or [`ON_HOST`], as the ledger calls it.
#[must_use]
pub fn is_volume(touched: &str) -> bool {
    touched != NO_VOLUME && !touched.starts_with(ON_HOST)
}

/// How far a migration came on some data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// It is to be run, now that the change is committed that brings it.
    Awaited,
    /// It was begun.
    Begun,
    /// It was done.
    Done,
    /// The data had it when it came here: nobody has run it.
    Covered,
}

impl Progress {
    /// Whether the data has it.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Covered)
    }
}

/// A migration as it was applied to some data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Which.
    pub id: MigrationId,
    /// The SHA-256 of its text, in hex.
    pub sha256: String,
    /// How far it came.
    pub progress: Progress,
}

/// A volume that migrations touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Whether it was there before.
    pub is_there: bool,
    /// What was applied to its data.
    pub applied: Vec<Applied>,
    /// The version that has worked on it until now, if that is known.
    pub version: Option<Version>,
}

/// The data that migrations run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data<'a> {
    /// The volumes as they are declared; [`NO_VOLUME`] for what touches none, [`ON_HOST`] for what is on the host.
    pub volumes: BTreeMap<String, Touched>,
    /// Whether it is copied before, which is thrown away if one fails.
    pub lane: Lane,
    /// The version up to which data has them all that no ledger tells of.
    pub baseline: Option<&'a Version>,
}

/// What is to be done about a migration that is not in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Due {
    /// It is run.
    Run,
    /// It is run if its check says that it was not applied.
    Ask,
    /// It is only noted: the data has it.
    Cover,
}

/// How a migration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is in the ledger.
    Applied(Progress),
    /// Something is to be done.
    Due(Due),
}

/// A migration that is due, with what an upgrade has to know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Which.
    pub id: MigrationId,
    /// The SHA-256 of its text, in hex.
    pub sha256: String,
    /// The service that it runs in; nothing of one that runs on the host.
    pub unit: Option<UnitName>,
    /// When.
    pub stage: Stage,
    /// What is done about it.
    pub due: Due,
    /// The volumes whose ledger has it from then on, as they are declared.
    pub touches: Vec<String>,
    /// The paths of the host that are saved before it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

impl Planned {
    /// Whether it runs before the change is committed.
    #[must_use]
    pub fn leads_there(&self) -> bool {
        self.due != Due::Cover && self.stage != Stage::ForwardOnly
    }

    /// Has it run before that, where it would run after it.
    pub fn run_before_the_commit(&mut self) {
        if self.stage == Stage::ForwardOnly {
            self.stage = Stage::Post;
        }
    }

    /// Whether it runs after that, so that nothing leads back from there.
    #[must_use]
    pub fn is_forward_only(&self) -> bool {
        self.due != Due::Cover && self.stage == Stage::ForwardOnly
    }
}

/// What the ledger calls the host as migrations leave it that a generation brings.
#[must_use]
pub fn host_of(generation: u64) -> String {
    format!("{ON_HOST}.{generation}")
}

/// How a migration stands that touches these volumes.
///
/// # Errors
/// Why what was applied and what is declared do not belong together.
pub fn standing(
    migration: &Migration,
    touches: &[String],
    data: &Data<'_>,
) -> Result<Standing, MigrationError> {
    let id = || migration.id.to_string();
    let none = Touched::default();
    let volumes: Vec<(&String, &Touched)> =
        touches.iter().map(|name| (name, data.volumes.get(name).unwrap_or(&none))).collect();
    let row = |of: &Touched| of.applied.iter().find(|was| was.id == migration.id).cloned();
    let rows: Vec<Option<Applied>> = volumes.iter().map(|(_, of)| row(of)).collect();
    let is_other = |was: &&Applied| was.progress.is_over() && was.sha256 != migration.sha256;
    if let Some(was) = rows.iter().flatten().find(is_other) {
        let (was, is) = (was.sha256.clone(), migration.sha256.clone());
        return Err(MigrationError::Changed { id: id(), was, is });
    }
    let ended = |row: &Option<Applied>| row.as_ref().is_some_and(|was| was.progress.is_over());
    // What is on the host is saved, and put back, in both lanes.
    let on_host = touches.iter().all(|name| name == ON_HOST);
    let is_copied = on_host || data.lane == Lane::Breaking && touches.iter().all(|name| name != NO_VOLUME);
    if rows.iter().all(ended) {
        let is_covered = rows.iter().flatten().all(|was| was.progress == Progress::Covered);
        return Ok(Standing::Applied(if is_covered { Progress::Covered } else { Progress::Done }));
    }
    if let (Some(to), Some(not_to)) = (rows.iter().position(ended), rows.iter().position(|row| !ended(row))) {
        let name = |at: usize| volumes[at].0.clone();
        return Err(MigrationError::Partly { id: id(), to: name(to), not_to: name(not_to) });
    }
    let is_awaited = |was: &Applied| was.progress == Progress::Awaited;
    if rows.iter().flatten().any(|was| !is_awaited(was)) {
        return match migration.idempotent {
            true => Ok(Standing::Due(Due::Run)),
            false => Err(MigrationError::HalfApplied { id: id() }),
        };
    }
    let version = migration.id.version();
    let is_new = || volumes.iter().all(|(_, of)| !of.is_there);
    let is_earlier = |of: &Touched| !of.is_there || of.version.as_ref().is_some_and(|now| version > now);
    let has_ledger = || volumes.iter().any(|(_, of)| !of.applied.is_empty());
    // What comes with an image is not on the host: that is asked itself.
    let due = if rows.iter().flatten().any(is_awaited) {
        if migration.check.is_some() { Due::Ask } else { Due::Run }
    } else if !on_host && data.baseline.is_some_and(|baseline| version <= baseline) {
        Due::Cover
    } else if has_ledger() || volumes.iter().all(|(_, of)| is_earlier(of)) {
        Due::Run
    } else if migration.check.is_some() {
        Due::Ask
    } else {
        return Err(MigrationError::Unverified { id: id() });
    };
    if due != Due::Cover && !is_copied && !migration.idempotent && !is_new() {
        return Err(MigrationError::NotRepeatable { id: id() });
    }
    Ok(Standing::Due(due))
}

/// What is to be done on some data, in order. Each migration comes with the volumes that it touches.
///
/// # Errors
/// Why what was applied and what is declared do not belong together.
pub fn due(declared: &[(Migration, Vec<String>)], data: &Data<'_>) -> Result<Vec<Planned>, MigrationError> {
    let (planned, wrong) = compared(declared, data);
    wrong.into_iter().next().map_or(Ok(planned), Err)
}

/// Everything over which what was applied to some data, and what is declared, do not belong together.
#[must_use]
pub fn wrong(declared: &[(Migration, Vec<String>)], data: &Data<'_>) -> Vec<MigrationError> {
    compared(declared, data).1
}

/// The migrations that were begun on some data, or were to be, have not ended, and may be run.
#[must_use]
pub fn unfinished<'a>(declared: &'a [(Migration, Vec<String>)], data: &Data<'_>) -> Vec<&'a MigrationId> {
    let is_begun = |(migration, touches): &&(Migration, Vec<String>)| {
        let volumes = touches.iter().filter_map(|name| data.volumes.get(name));
        volumes.into_iter().any(|of| {
            // A version from before it does not wait for it.
            let is_of = of.version.as_ref().is_none_or(|version| version >= migration.id.version());
            let is_open = |was: &Applied| match was.progress {
                Progress::Awaited => is_of,
                progress => !progress.is_over(),
            };
            of.applied.iter().any(|was| was.id == migration.id && is_open(was))
        })
    };
    let is_due = |of: &&(Migration, Vec<String>)| {
        matches!(standing(&of.0, &of.1, data), Ok(Standing::Due(Due::Run | Due::Ask)))
    };
    declared.iter().filter(is_begun).filter(is_due).map(|(migration, _)| &migration.id).collect()
}

/// What is to be done, in order, and what is wrong.
fn compared(declared: &[(Migration, Vec<String>)], data: &Data<'_>) -> (Vec<Planned>, Vec<MigrationError>) {
    let mut declared: Vec<&(Migration, Vec<String>)> = declared.iter().collect();
    declared.sort_by(|(one, _), (other, _)| one.id.cmp(&other.id));
    let same = declared.windows(2).filter(|pair| pair[0].0.id.same_place(&pair[1].0.id));
    let same = same.map(|pair| {
        let (one, other) = (pair[0].0.id.to_string(), pair[1].0.id.to_string());
        MigrationError::SamePlace { one, other }
    });
    let mut wrong: Vec<MigrationError> = same.collect();
    let is_declared = |id: &MigrationId| declared.iter().any(|(migration, _)| migration.id == *id);
    let applied = data.volumes.values().flat_map(|of| &of.applied);
    // Of what failed nothing is left that another version had to know.
    let applied = applied.filter(|was| was.progress.is_over()).map(|was| &was.id);
    let unknown: BTreeSet<&MigrationId> = applied.filter(|id| !is_declared(id)).collect();
    wrong.extend(unknown.into_iter().map(|id| MigrationError::Unknown { id: id.to_string() }));
    let mut last = None;
    let mut planned: Vec<Planned> = Vec::new();
    for (migration, touches) in declared {
        match standing(migration, touches, data) {
            Ok(Standing::Applied(_)) => last = Some(&migration.id),
            Ok(Standing::Due(due)) => planned.push(Planned {
                id: migration.id.clone(),
                sha256: migration.sha256.clone(),
                unit: migration.r#in.service().cloned(),
                stage: migration.stage,
                due,
                touches: touches.clone(),
                paths: migration.r#in.paths().to_vec(),
            }),
            Err(error) => wrong.push(error),
        }
    }
    // On a copy, what only leads forward may come before what does not, and before the commit.
    let before = planned.iter().rposition(Planned::leads_there).unwrap_or_default();
    for early in planned[..before].iter_mut().filter(|early| early.is_forward_only()) {
        if data.lane == Lane::Breaking && early.touches.iter().all(|name| is_volume(name)) {
            early.run_before_the_commit();
        }
    }
    if let (Some(first), Some(later)) = (planned.first(), last)
        && *later > first.id
    {
        wrong.push(MigrationError::Gap { id: first.id.to_string(), later: later.to_string() });
    }
    (planned, wrong)
}
