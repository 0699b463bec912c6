//! A change of generations, as a value: what it touches, and its steps in order.

use serde::{Deserialize, Serialize};

use super::active::Active;
use super::ledger::{Due, Planned};
use super::migration::{MigrationError, MigrationId, Stage};
use crate::names::UnitName;

/// Which way a change goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// To what is declared now.
    Upgrade,
    /// To instances that were set aside.
    Rollback,
    /// To data of a backup, with the version that is in effect.
    Restore,
}

/// What a change does to data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// The new works on a copy: until it is committed, nothing has happened to the data of the old.
    Breaking,
    /// The old can work with what the new leaves: both have the same data, one after the other.
    Compatible,
}

/// A unit whose instance is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Which.
    pub unit: UnitName,
    /// Whether there is an instance of it now.
    pub is_there: bool,
    /// Whether that runs.
    pub runs: bool,
    /// Whether there is one of it afterwards.
    pub stays: bool,
    /// What it is built on now, and afterwards, as far as that is known.
    pub from: Option<String>,
    /// See `from`.
    pub to: Option<String>,
    /// Whether it is there to end.
    #[serde(default)]
    pub completes: bool,
    /// How long it may take to end before it is killed, in milliseconds.
    pub grace: u64,
    /// The generation whose instance is put back, where the change is a rollback.
    #[serde(default)]
    pub restores: Option<u64>,
}

/// What a new volume holds at first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// The data of the volume whose place it takes.
    #[default]
    Copied,
    /// The files of a part of a backup, by the digest of its layer.
    Filled(String),
    /// Nothing: a part of a backup is put into the service itself.
    Nothing,
}

/// A volume whose data is copied, or comes from a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// The volume as it is declared.
    pub declared: String,
    /// The one that holds its data now.
    pub from: String,
    /// The one that will.
    pub to: String,
    /// A unit that has it.
    pub of: UnitName,
    /// What the new one holds at first.
    #[serde(default)]
    pub holds: Holds,
    /// How many bytes of it are copied, as far as that could be seen.
    #[serde(default)]
    pub bytes: u64,
}

/// A part of a backup that the service itself takes in, by a command of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Which service.
    pub unit: UnitName,
    /// The digest of the layer.
    pub layer: String,
}

/// A change from one generation to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    /// Which way it goes.
    pub kind: Kind,
    /// What it does to data.
    pub lane: Lane,
    /// The name of the engine that holds the units.
    pub engine: String,
    /// What is in effect until it is committed.
    pub from: Active,
    /// What is in effect from then on.
    pub to: Active,
    /// What is replaced; what others depend on comes first.
    pub parts: Vec<Part>,
    /// What is copied.
    pub copies: Vec<Copy>,
    /// Volumes that are not there yet, and will be.
    #[serde(default)]
    pub makes: Vec<String>,
    /// What is done to the data, in order.
    #[serde(default)]
    pub migrations: Vec<Planned>,
    /// What services take in themselves, once they are well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loads: Vec<Load>,
    /// How many earlier generations are kept.
    pub keep: u64,
}

/// A step of a change. Each may be done again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Makes available what the new instance is built on.
    Fetch(UnitName),
    /// Fills the volume of this name from a backup.
    Fill(String),
    /// Stops the old instance; who comes to its ports waits.
    Freeze(UnitName),
    /// Copies the data into the volume of this name.
    Copy(String),
    /// Sets the old instance aside, whole.
    SetAside(UnitName),
    /// Makes the new instance, or puts back an older one, and starts it; nobody from outside reaches it yet.
    Start(UnitName),
    /// Waits until the new instance is well.
    Verify(UnitName),
    /// Changes the data.
    Migrate(MigrationId),
    /// Has the new instance take in what a backup has of it.
    Load(UnitName),
    /// Lets in who comes from outside before the commit, which old and new can do that have the same data.
    Admit(UnitName),
    /// Waits until all new instances have stayed well for a while.
    Steady,
    /// Makes the new generation the one in effect: from here on there is no way back but forward.
    Commit,
    /// Lets in who comes from outside.
    Publish(UnitName),
    /// Watches it for a while.
    Bake,
    /// Removes what is kept of generations that are too old.
    Clean,
}

impl std::fmt::Display for Step {
    /// As the journal names it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fetch(unit) => write!(f, "fetch {unit}"),
            Self::Fill(volume) => write!(f, "fill {volume}"),
            Self::Freeze(unit) => write!(f, "freeze {unit}"),
            Self::Copy(volume) => write!(f, "copy {volume}"),
            Self::SetAside(unit) => write!(f, "set-aside {unit}"),
            Self::Start(unit) => write!(f, "start {unit}"),
            Self::Verify(unit) => write!(f, "verify {unit}"),
            Self::Migrate(id) => write!(f, "migrate {id}"),
            Self::Load(unit) => write!(f, "load {unit}"),
            Self::Admit(unit) => write!(f, "admit {unit}"),
            Self::Steady => f.write_str("steady"),
            Self::Commit => f.write_str("commit"),
            Self::Publish(unit) => write!(f, "publish {unit}"),
            Self::Bake => f.write_str("bake"),
            Self::Clean => f.write_str("clean"),
        }
    }
}

impl Step {
    /// Whether it touches what runs. What comes before can be forgotten.
    #[must_use]
    pub fn touches(&self) -> bool {
        !matches!(self, Self::Fetch(_))
    }
}

impl Upgrade {
    /// The steps, in order. Everything that can fail without touching what runs comes first.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        let old = || self.parts.iter().filter(|part| part.is_there).map(|part| part.unit.clone());
        let new = || self.parts.iter().filter(|part| part.stays).map(|part| part.unit.clone());
        let fetched = match self.kind {
            Kind::Upgrade | Kind::Restore => new().map(Step::Fetch).collect(),
            Kind::Rollback => Vec::new(),
        };
        let of_new = |holds: fn(&Holds) -> bool| self.copies.iter().filter(move |copy| holds(&copy.holds));
        fetched
            .into_iter()
            .chain(of_new(|holds| matches!(holds, Holds::Filled(_))).map(|copy| Step::Fill(copy.to.clone())))
            .chain(old().rev().map(Step::Freeze))
            .chain(of_new(|holds| *holds == Holds::Copied).map(|copy| Step::Copy(copy.to.clone())))
            .chain(old().rev().map(Step::SetAside))
            .chain(self.started())
            .chain(new().filter(|unit| self.admits(unit)).map(Step::Admit))
            .chain([Step::Steady, Step::Commit])
            .chain(new().map(Step::Publish))
            .chain([Step::Bake, Step::Clean])
            .collect()
    }

    /// Whether the new instance of a unit is reached as soon as all are well, and not only after the commit: where one was
    /// before, and going back takes no data away.
    #[must_use]
    pub fn admits(&self, unit: &UnitName) -> bool {
        let keeps_data = self.lane == Lane::Compatible && self.makes.is_empty();
        keeps_data && self.part(unit).is_some_and(|part| part.runs && part.stays)
    }

    /// New instances start each after what it depends on is well, and what a migration needs before that. Each runs before
    /// its service starts, or when it is well; one whose service is no part runs in what is there.
    fn started(&self) -> Vec<Step> {
        let new: Vec<&UnitName> =
            self.parts.iter().filter(|part| part.stays).map(|part| &part.unit).collect();
        let mut waiting = new.iter().copied();
        let start = |unit: &UnitName| {
            let load = self.loads.iter().any(|load| load.unit == *unit).then(|| Step::Load(unit.clone()));
            [Step::Start(unit.clone()), Step::Verify(unit.clone())].into_iter().chain(load)
        };
        let mut steps = Vec::new();
        let (covered, run): (Vec<_>, Vec<_>) =
            self.migrations.iter().partition(|migration| migration.due == Due::Cover);
        for migration in run {
            if let Some(needed) = needed(&new, migration) {
                let begun = new.len() - waiting.len();
                steps.extend(waiting.by_ref().take(needed.saturating_sub(begun)).flat_map(start));
            }
            steps.push(Step::Migrate(migration.id.clone()));
        }
        steps.extend(waiting.flat_map(start));
        // The data is there by now, whatever it came with.
        steps.extend(covered.into_iter().map(|migration| Step::Migrate(migration.id.clone())));
        steps
    }

    /// Checks that no migration runs before the start of a service that an earlier one needs.
    ///
    /// # Errors
    /// [`MigrationError::Order`] names the first.
    pub fn check_order(&self) -> Result<(), MigrationError> {
        let new: Vec<&UnitName> =
            self.parts.iter().filter(|part| part.stays).map(|part| &part.unit).collect();
        let mut most: Option<(usize, &MigrationId)> = None;
        for migration in self.migrations.iter().filter(|migration| migration.due != Due::Cover) {
            let Some(needs) = needed(&new, migration) else { continue };
            if let (Stage::Pre, Some((begun, earlier))) = (migration.stage, most)
                && begun > needs
            {
                let (id, unit) = (migration.id.to_string(), migration.unit.clone());
                return Err(MigrationError::Order { id, unit, earlier: earlier.to_string() });
            }
            most = Some(most.filter(|(begun, _)| *begun >= needs).unwrap_or((needs, &migration.id)));
        }
        Ok(())
    }

    /// The part of this name.
    #[must_use]
    pub fn part(&self, unit: &UnitName) -> Option<&Part> {
        self.parts.iter().find(|part| part.unit == *unit)
    }
}

/// How many of the new instances have to be there for a migration; nothing where it runs in none of them.
fn needed(new: &[&UnitName], migration: &Planned) -> Option<usize> {
    let at = new.iter().position(|unit| **unit == migration.unit)?;
    Some(match migration.stage {
        Stage::Pre => at,
        Stage::Post => at + 1,
    })
}
