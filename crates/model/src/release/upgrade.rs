//! A change of generations, as a value: what it touches, and its steps in order.

use serde::{Deserialize, Serialize};

use super::active::Active;
use super::host_paths::covers;
use super::ledger::{Due, Planned, host_of};
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
    /// Whether an instance of the new version stands beside it, and answers while it is replaced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stands_in: bool,
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

/// A path of the host that is put back as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// Which.
    pub path: String,
    /// The generation that it was saved in.
    pub generation: u64,
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
    /// Paths of the host that are saved as they are in the generation before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub saves: Vec<String>,
    /// Those that are put back as they were, in order, where the change is a rollback.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub puts: Vec<Put>,
    /// What is done to the data, in order.
    #[serde(default)]
    pub migrations: Vec<Planned>,
    /// What takes migrations back, in order, where the change is a rollback that takes today's data along.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub downs: Vec<Planned>,
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
    /// Starts an instance of the new version beside the old one, and waits until it is well.
    StandIn(UnitName),
    /// Leads who comes to a unit to that instance.
    Lend(UnitName),
    /// Stops the old instance; who comes to its ports waits, unless another one stands in.
    Freeze(UnitName),
    /// Copies the data into the volume of this name.
    Copy(String),
    /// Saves a path of the host.
    Save(String),
    /// Sets the old instance aside, whole.
    SetAside(UnitName),
    /// Puts a path of the host back.
    Put(Put),
    /// Starts an instance of the version that is left on the copy of the data, and waits until it is well.
    Revive(UnitName),
    /// Takes a migration back.
    Down(MigrationId),
    /// Ends and removes what was revived, or a new instance, for a migration that runs before its start.
    Retire(UnitName),
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
    /// Ends and removes the instances that stood in.
    Dismiss,
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
            Self::StandIn(unit) => write!(f, "stand-in {unit}"),
            Self::Lend(unit) => write!(f, "lend {unit}"),
            Self::Freeze(unit) => write!(f, "freeze {unit}"),
            Self::Copy(volume) => write!(f, "copy {volume}"),
            Self::Save(path) => write!(f, "save {path}"),
            Self::SetAside(unit) => write!(f, "set-aside {unit}"),
            Self::Put(Put { path, generation }) => write!(f, "put {path} of {generation}"),
            Self::Revive(unit) => write!(f, "revive {unit}"),
            Self::Down(id) => write!(f, "down {id}"),
            Self::Retire(unit) => write!(f, "retire {unit}"),
            Self::Start(unit) => write!(f, "start {unit}"),
            Self::Verify(unit) => write!(f, "verify {unit}"),
            Self::Migrate(id) => write!(f, "migrate {id}"),
            Self::Load(unit) => write!(f, "load {unit}"),
            Self::Admit(unit) => write!(f, "admit {unit}"),
            Self::Dismiss => f.write_str("dismiss"),
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
        !matches!(self, Self::Fetch(_) | Self::StandIn(_))
    }
}

impl Upgrade {
    /// The steps, in order. Everything that can fail without touching what runs comes first.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        let old = || self.parts.iter().filter(|part| part.is_there).map(|part| part.unit.clone());
        let new = || self.parts.iter().filter(|part| part.stays).map(|part| part.unit.clone());
        // What is put back is made already.
        let made = self.parts.iter().filter(|part| part.stays && part.restores.is_none());
        let fetched = made.map(|part| Step::Fetch(part.unit.clone()));
        let of_new = |holds: fn(&Holds) -> bool| self.copies.iter().filter(move |copy| holds(&copy.holds));
        fetched
            .into_iter()
            .chain(of_new(|holds| matches!(holds, Holds::Filled(_))).map(|copy| Step::Fill(copy.to.clone())))
            .chain(self.stood_in())
            .chain(old().rev().map(Step::Freeze))
            .chain(of_new(|holds| *holds == Holds::Copied).map(|copy| Step::Copy(copy.to.clone())))
            .chain(self.saves.iter().cloned().map(Step::Save))
            .chain(old().rev().map(Step::SetAside))
            .chain(self.puts.iter().cloned().map(Step::Put))
            .chain(self.taken_back())
            .chain(self.started())
            .chain(new().filter(|unit| self.admits(unit)).map(Step::Admit))
            .chain(self.has_stand_ins().then_some(Step::Dismiss))
            .chain([Step::Steady, Step::Commit])
            .chain(new().map(Step::Publish))
            .chain([Step::Bake])
            .chain(self.forward_only().map(|planned| Step::Migrate(planned.id.clone())))
            // What was done already is only brought to its end: that pushes out no earlier generation.
            .chain((!self.only_leads_forward()).then_some(Step::Clean))
            .collect()
    }

    /// The migrations that run after the commit.
    pub fn forward_only(&self) -> impl Iterator<Item = &Planned> {
        self.migrations.iter().filter(|planned| planned.is_forward_only())
    }

    /// Whether it does nothing else, for the version that is in effect.
    #[must_use]
    pub fn only_leads_forward(&self) -> bool {
        let version = |of: &Active| (of.version.clone(), of.release.clone());
        version(&self.from) == version(&self.to)
            && self.parts.is_empty()
            && self.copies.is_empty()
            && self.saves.is_empty()
            && self.makes.is_empty()
            && !self.migrations.iter().any(Planned::leads_there)
            && self.forward_only().next().is_some()
    }

    /// The first of those from which not even the data of before leads back: of that, nothing is copied.
    #[must_use]
    pub fn point_of_no_return(&self) -> Option<&MigrationId> {
        let is_apart = |name: &String| {
            let is_copied = self.copies.iter().any(|copy| copy.declared == *name);
            is_copied || self.makes.iter().any(|made| made == self.from.volume(name))
        };
        self.forward_only().find(|planned| !planned.touches.iter().all(is_apart)).map(|planned| &planned.id)
    }

    /// Whether the new instance of a unit is reached as soon as all are well, and not only after the commit: where one was
    /// before, and going back takes no data away.
    #[must_use]
    pub fn admits(&self, unit: &UnitName) -> bool {
        let keeps_data = self.lane == Lane::Compatible
            && self.makes.is_empty()
            && self.saves.is_empty()
            && self.puts.is_empty();
        keeps_data && self.part(unit).is_some_and(|part| part.runs && part.stays)
    }

    /// Whether an instance of the new version answers while this unit is replaced.
    #[must_use]
    pub fn stands_in(&self, unit: &UnitName) -> bool {
        self.part(unit).is_some_and(|part| part.stands_in)
    }

    /// Whether one does for any unit.
    #[must_use]
    pub fn has_stand_ins(&self) -> bool {
        self.parts.iter().any(|part| part.stands_in)
    }

    /// What is done while all that is replaced still runs: the data is migrated, and instances of the new version start beside
    /// the old ones, in the order in which the new ones would.
    fn stood_in(&self) -> Vec<Step> {
        if !self.has_stand_ins() {
            return Vec::new();
        }
        let beside = self.sequence().into_iter().filter_map(|step| match step {
            Step::Start(unit) if self.stands_in(&unit) => Some(Step::StandIn(unit)),
            Step::Migrate(id) if !self.is_covered(&id) => Some(Step::Migrate(id)),
            _ => None,
        });
        let lent = self.parts.iter().filter(|part| part.stands_in).map(|part| Step::Lend(part.unit.clone()));
        beside.chain(lent).collect()
    }

    /// What starts in the place of what was replaced, and the migrations, unless they have been carried out by then.
    fn started(&self) -> Vec<Step> {
        let has_run = |step: &Step| match step {
            Step::Migrate(id) => self.has_stand_ins() && !self.is_covered(id),
            _ => false,
        };
        self.sequence().into_iter().filter(|step| !has_run(step)).collect()
    }

    fn is_covered(&self, id: &MigrationId) -> bool {
        self.migrations.iter().any(|planned| planned.id == *id && planned.due == Due::Cover)
    }

    /// New instances start each after what it depends on is well, and what a migration needs before that. Each runs before
    /// its service starts, or when it is well; one whose service is no part runs in what is there. One on the host runs before
    /// any of them starts, or when all are well.
    fn sequence(&self) -> Vec<Step> {
        let new: Vec<&UnitName> =
            self.parts.iter().filter(|part| part.stays).map(|part| &part.unit).collect();
        let start = |unit: &UnitName| {
            let load = self.loads.iter().any(|load| load.unit == *unit).then(|| Step::Load(unit.clone()));
            [Step::Start(unit.clone()), Step::Verify(unit.clone())].into_iter().chain(load).collect()
        };
        let before = self.migrations.iter().filter(|migration| !migration.is_forward_only());
        let (covered, run): (Vec<_>, Vec<_>) = before.partition(|migration| migration.due == Due::Cover);
        let (mut steps, begun) = in_turn(&new, run, start, Step::Migrate);
        steps.extend(new[begun..].iter().flat_map(|unit| start(unit)));
        // The data is there by now, whatever it came with.
        steps.extend(covered.into_iter().map(|migration| Step::Migrate(migration.id.clone())));
        steps
    }

    /// Whether an instance of the new version is started and ended again, for a migration that cannot run beside it.
    pub(super) fn starts_again(&self) -> bool {
        self.sequence().iter().any(|step| matches!(step, Step::Retire(_)))
    }

    /// Migrations are taken back in services of the version that is left, each where it was carried out.
    fn taken_back(&self) -> Vec<Step> {
        let there: Vec<&UnitName> =
            self.parts.iter().filter(|part| part.is_there).map(|part| &part.unit).collect();
        let revive = |unit: &UnitName| vec![Step::Revive(unit.clone())];
        let (mut steps, begun) = in_turn(&there, &self.downs, revive, Step::Down);
        steps.extend(there[..begun].iter().rev().map(|unit| Step::Retire((*unit).clone())));
        steps
    }

    /// Checks that no migration runs before the commit where an earlier one runs after it.
    ///
    /// # Errors
    /// [`MigrationError::AfterForwardOnly`] names the first.
    pub fn check_order(&self) -> Result<(), MigrationError> {
        let Some(earlier) = self.forward_only().next() else { return Ok(()) };
        let mut later = self.migrations.iter().filter(|later| later.leads_there() && later.id > earlier.id);
        later.next().map_or(Ok(()), |later| {
            let (id, earlier) = (later.id.to_string(), earlier.id.to_string());
            Err(MigrationError::AfterForwardOnly { id, earlier })
        })
    }

    /// Whether a step changes what is on the host.
    #[must_use]
    pub fn is_on_host(&self, step: &Step) -> bool {
        match step {
            Step::Put(_) => true,
            Step::Migrate(id) => is_on_host(&self.migrations, id),
            Step::Down(id) => is_on_host(&self.downs, id),
            _ => false,
        }
    }

    /// What the ledger calls the host from this change on, if it changes it forwards.
    #[must_use]
    pub fn makes_host(&self) -> Option<&str> {
        let own = host_of(self.to.generation);
        self.to.host.as_deref().filter(|host| *host == own)
    }

    /// The part of this name.
    #[must_use]
    pub fn part(&self, unit: &UnitName) -> Option<&Part> {
        self.parts.iter().find(|part| part.unit == *unit)
    }
}

fn is_on_host(migrations: &[Planned], id: &MigrationId) -> bool {
    migrations.iter().any(|planned| planned.id == *id && planned.unit.is_none())
}

/// What is put back on the host where these changes are undone, the newest first: each path as it was before the first of them
/// that saved it. Where each of them leaves the version before what it can work with, that stays as it is.
pub fn puts<'a>(undone: impl IntoIterator<Item = &'a Upgrade>) -> Vec<Put> {
    let undone: Vec<&Upgrade> = undone.into_iter().collect();
    if undone.iter().all(|change| change.lane == Lane::Compatible) {
        return Vec::new();
    }
    let put =
        |path: &String, change: &Upgrade| Put { path: path.clone(), generation: change.from.generation };
    let mut puts: Vec<Put> = Vec::new();
    for change in undone {
        // What was saved earlier has it all.
        puts.retain(|later| !change.saves.iter().any(|path| covers(path, &later.path)));
        puts.extend(change.saves.iter().map(|path| put(path, change)));
    }
    puts
}

/// Migrations in order, each when those of these units are there that it needs. What is there already ends before one that
/// runs before it starts. Gives how many are there in the end, too.
fn in_turn<'a>(
    units: &[&UnitName],
    migrations: impl IntoIterator<Item = &'a Planned>,
    start: impl Fn(&UnitName) -> Vec<Step>,
    act: fn(MigrationId) -> Step,
) -> (Vec<Step>, usize) {
    let (mut steps, mut begun) = (Vec::new(), 0);
    for migration in migrations {
        if let Some(needed) = needed(units, migration) {
            steps.extend(units.iter().take(needed).skip(begun).flat_map(|unit| start(unit)));
            begun = begun.max(needed);
            if migration.stage == Stage::Pre {
                steps.extend(units[needed..begun].iter().rev().map(|unit| Step::Retire((*unit).clone())));
                begun = needed;
            }
        }
        steps.push(act(migration.id.clone()));
    }
    (steps, begun)
}

/// How many of these units have to be there for a migration; nothing where that does not matter to it.
fn needed(units: &[&UnitName], migration: &Planned) -> Option<usize> {
    let own = migration.unit.as_ref().map(|own| units.iter().position(|unit| *unit == own));
    match (own, migration.stage) {
        (Some(Some(at)), Stage::Pre) => Some(at),
        (Some(Some(at)), Stage::Post | Stage::ForwardOnly) => Some(at + 1),
        (None, Stage::Pre) => Some(0),
        (None, Stage::Post | Stage::ForwardOnly) => Some(units.len()),
        // What starts anew may need what it does.
        (Some(None), _) => None,
    }
}
