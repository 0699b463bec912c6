//! Changing which generation of a project is in effect: one change at a time, step by step in a journal, so that whoever
//! comes after a change that was cut off can bring it to one of its two ends.
//!
//! Going back, and finishing what was committed, need no manifest: what they bring about is on the engine already.

mod act;
mod active;
mod aside;
mod cause;
mod cost;
mod health;
mod host;
mod migrate;
mod migrations;
mod plan;
mod recover;
mod rehearsal;
mod rollback;
mod saved;
mod stand_in;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use setpoint_model::manifest::Release;
use setpoint_model::names::UnitName;
use setpoint_model::release::{MigrationId, Step, Upgrade};

use crate::apply::ApplyError;
use crate::backup::{BackupError, Opened};
use crate::cancel::Cancel;
use crate::engine::{Engine, EngineError, Hold, Seen, UnitId};
use crate::events::{Event, Watcher};
use crate::lock::{self, LockError, UnitLock};
use crate::paths::Roots;
use crate::project::Project;
use crate::release::{ReleaseError, Releases};
use crate::room::{NoRoom, Reserve};
use crate::store::{EntryKind, Store, StoreError, TxId, UpgradeOutcome, Writer};
use crate::{failpoints, random};

pub(crate) use active::write as set_active;
pub use active::{ActiveError, note_version, read as active, reset as forget_data};
pub use aside::remove_all as remove_asides;
pub use cause::Cause;
pub use cost::{measure, outage};
pub use migrations::{Migrations, MigrationsError, may_migrate};
pub(crate) use migrations::{declared as declared_migrations, on_host as migrations_on_host};
pub use plan::{Refused, Target, told, upgrade};
pub(crate) use plan::{is_there, part};
pub use recover::{Recovered, recover};
pub use rehearsal::{Rehearsable, Rehearsal, Rehearsed};
pub use rollback::Back;
pub use stand_in::take_down as take_down_stand_ins;

/// How long what comes with a change may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Until a new instance is well.
    pub verify: Duration,
    /// How long it has to stay so before the change is committed.
    pub steady: Duration,
    /// How long it is watched afterwards.
    pub bake: Duration,
}

impl Patience {
    /// What is declared.
    #[must_use]
    pub fn of(release: &Release) -> Self {
        Self { verify: release.verify, steady: release.steady, bake: release.bake }
    }
}

/// Why a change did not come about.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// A step failed, and the old generation is in effect again, as it was.
    #[error("{step}: {why}")]
    RolledBack {
        /// The step, as the journal names it.
        step: String,
        /// Why it failed.
        why: Cause,
        /// How long nobody could reach what was stopped.
        outage: Duration,
    },
    /// Somebody else made or removed something after this was planned.
    #[error("{what} is not as it was when this was planned")]
    Changed {
        /// The unit or the volume.
        what: String,
    },
    /// A step failed before anything was touched.
    #[error("{step}: {why}")]
    Dropped {
        /// The step, as the journal names it.
        step: String,
        /// Why it failed.
        why: Cause,
    },
    /// The new version was not well on copies of the data, where it was tried first.
    #[error("{step}: {why}")]
    Rehearsal {
        /// The step, as the journal would name it.
        step: String,
        /// Why it failed.
        why: Cause,
        /// How long services were stopped while their data was copied.
        pause: Duration,
    },
    /// The new generation is in effect, and something of what comes after did not go well.
    #[error("{step}: {why}")]
    Unwell {
        /// The step, as the journal names it.
        step: String,
        /// Why it failed.
        why: Cause,
        /// The migrations that were to run after the commit, and are still to.
        due: Vec<MigrationId>,
        /// How long nobody could reach what was stopped.
        outage: Duration,
    },
    /// A step back failed: neither generation is whole.
    #[error("{step}: {why}")]
    NeedsOperator {
        /// The step back, as the journal names it.
        step: String,
        /// Why it failed.
        why: Cause,
    },
    /// There would be no room to write down what is done, on the way there and back.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// What is in effect cannot be told or written.
    #[error(transparent)]
    Active(#[from] ActiveError),
    /// The state failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A unit of it could not be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The engine failed before anything was touched.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What is declared could not be looked at.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// What releases there are could not be told, or one not be removed.
    #[error(transparent)]
    Release(#[from] Box<ReleaseError>),
    /// What a backup has could not be restored.
    #[error(transparent)]
    Backup(#[from] Box<BackupError>),
}

impl UpgradeError {
    /// How long nobody could reach what was stopped; nothing of what could not be planned, or did not come to an end.
    #[must_use]
    pub fn outage(&self) -> Option<Duration> {
        match self {
            Self::RolledBack { outage, .. } | Self::Unwell { outage, .. } => Some(*outage),
            Self::Rehearsal { pause, .. } => Some(*pause),
            Self::Dropped { .. } | Self::Changed { .. } => Some(Duration::ZERO),
            _ => None,
        }
    }
}

impl From<ReleaseError> for UpgradeError {
    fn from(error: ReleaseError) -> Self {
        Self::Release(Box::new(error))
    }
}

/// Where a change happens, and who hears of it.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Where state lies.
    pub roots: &'a Roots,
    /// The engine that holds the units.
    pub engine: &'a dyn Engine,
    /// Hears what happens.
    pub watcher: &'a dyn Watcher,
    /// Stops it, in order: what was begun is undone.
    pub cancel: &'a Cancel,
}

/// What new instances are made of.
pub struct Declared<'a> {
    /// The project, whose data is where the new generation has it.
    pub project: &'a Project,
    /// The version that is left, with its data there, too, where what it did is taken back.
    pub leaves: Option<&'a Project>,
    /// The caller's environment variables, for secrets.
    pub variables: &'a BTreeMap<String, String>,
    /// The caller's home.
    pub home: Option<PathBuf>,
    /// Where data comes from that is restored.
    pub backup: Option<&'a Opened>,
}

/// What came of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    /// How long nobody could reach what was stopped.
    pub outage: Duration,
    /// How long all of it took.
    pub took: Duration,
}

/// A change under way. The caller holds the project's lock.
struct Change<'a> {
    place: &'a Place<'a>,
    store: &'a mut Store,
    root: PathBuf,
    txid: TxId,
    upgrade: Upgrade,
    /// What new instances are made of; nothing where it is only finished or undone.
    declared: Option<&'a Declared<'a>>,
    patience: Patience,
    /// What keeps waiting whoever comes to the ports of what was stopped.
    held: BTreeMap<UnitName, Hold>,
    /// For whom another instance stands in: nobody waits for them.
    lent: BTreeSet<UnitName>,
    frozen: Option<Instant>,
    outage: Duration,
    /// Kept free until something fails, or the disk is full: then it is what the way to an end is written down in.
    reserve: Option<Reserve>,
    /// What was said of it, if the disk was full when something was to be written down.
    is_full: Option<Cause>,
    _locks: Vec<UnitLock>,
}

/// Carries out a change. The caller holds the project's lock, and has settled what was left of an earlier one.
///
/// # Errors
/// [`UpgradeError`] says which generation is in effect then.
pub fn run(
    place: &Place<'_>,
    store: &mut Store,
    root: &Path,
    upgrade: Upgrade,
    declared: Option<&Declared<'_>>,
    patience: Patience,
    who: &str,
) -> Result<Changed, UpgradeError> {
    let began = Instant::now();
    let txid = TxId::new(random::hex());
    let mut change = Change::new(place, store, root, txid, upgrade, patience)?;
    change.declared = declared;
    change.check_unchanged()?;
    change.reserve = Some(change.keep_room()?);
    let (txid, what) = (change.txid.clone(), change.upgrade.clone());
    change.store.write(|writer| writer.begin_upgrade(&txid, root, &what, who, Timestamp::now()))?;
    if let Some(missing) = change.missing_release()? {
        change.finish(UpgradeOutcome::Dropped, Some(&format!("{missing} is gone")))?;
        return Err(UpgradeError::Changed { what: missing });
    }
    let (mut unpublished, mut unwell, mut due) = (None, None, Vec::new());
    for step in change.upgrade.steps() {
        let is_over = change.is_committed()?;
        if let (true, Step::Migrate(id)) = (is_over, &step) {
            let stopped = change.place.cancel.asked().then(|| (step.to_string(), "stopped".into()));
            unwell = unwell.or(stopped);
            if unpublished.is_some() || unwell.is_some() {
                // Who is not well may have to be gone back from: what only leads forward stays due.
                due.push(id.clone());
                continue;
            }
        }
        if is_over {
            // The way on needs room as the way back would have.
            change.reserve = None;
        }
        let stops = if change.place.cancel.asked() { Some("stopped".into()) } else { change.is_full.clone() };
        let done = match stops.filter(|_| !is_over) {
            Some(why) => Err(why),
            None => change.step(&step)?,
        };
        let Err(why) = done else { continue };
        let is_publish = matches!(step, Step::Publish(_));
        if let (true, Step::Migrate(id)) = (is_over, &step) {
            due.push(id.clone());
        }
        let step = step.to_string();
        if is_over {
            // There is no way back: what else is to be done is done.
            let worst = if is_publish { &mut unpublished } else { &mut unwell };
            worst.get_or_insert((step, why));
            continue;
        }
        let outcome = change.go_back()?;
        change.finish(outcome, Some(&format!("{step}: {why}")))?;
        return Err(match outcome {
            UpgradeOutcome::Dropped => UpgradeError::Dropped { step, why },
            // The file that says so was in its place before that failed.
            UpgradeOutcome::Committed => {
                let due = change.upgrade.forward_only().map(|planned| planned.id.clone()).collect();
                UpgradeError::Unwell { step, why, due, outage: change.outage }
            }
            _ => UpgradeError::RolledBack { step, why, outage: change.outage },
        });
    }
    if let Some((step, why)) = unpublished {
        return change.give_up(step, why).map(|_| Changed { outage: change.outage, took: began.elapsed() });
    }
    if let Some((step, why)) = unwell {
        change.finish(UpgradeOutcome::Committed, Some(&format!("{step}: {why}{}", stays_due(&due))))?;
        return Err(UpgradeError::Unwell { step, why, due, outage: change.outage });
    }
    change.finish(UpgradeOutcome::Committed, None)?;
    Ok(Changed { outage: change.outage, took: began.elapsed() })
}

/// Which migrations are left, behind something else that is to be said.
fn stays_due(due: &[MigrationId]) -> String {
    due.iter().map(|id| format!("; {id} stays due")).collect()
}

/// Has a unit for oneself.
fn own(place: &Place<'_>, root: &Path, unit: &UnitName) -> Result<UnitLock, LockError> {
    let wait = lock::until_stopped(place.watcher, place.cancel);
    UnitLock::acquire(place.roots, root, unit, "setpoint upgrade", wait)
}

impl<'a> Change<'a> {
    fn new(
        place: &'a Place<'a>,
        store: &'a mut Store,
        root: &Path,
        txid: TxId,
        upgrade: Upgrade,
        patience: Patience,
    ) -> Result<Self, UpgradeError> {
        // In the order of their names, as everybody takes several of them.
        let mut names: Vec<&UnitName> = upgrade.parts.iter().map(|part| &part.unit).collect();
        names.sort();
        let locks = names.into_iter().map(|name| own(place, root, name)).collect::<Result<_, _>>()?;
        Ok(Self {
            place,
            store,
            root: root.to_owned(),
            txid,
            upgrade,
            declared: None,
            patience,
            held: BTreeMap::new(),
            lent: BTreeSet::new(),
            frozen: None,
            outage: Duration::ZERO,
            reserve: None,
            is_full: None,
            _locks: locks,
        })
    }

    /// Whether all is as it was when this was planned, now that nobody else can change it.
    fn check_unchanged(&self) -> Result<(), UpgradeError> {
        let engine = self.place.engine;
        for part in &self.upgrade.parts {
            if (engine.observe(&self.id(&part.unit))? != Seen::Absent) != part.is_there {
                return Err(UpgradeError::Changed { what: part.unit.to_string() });
            }
        }
        let new = self.upgrade.copies.iter().map(|copy| &copy.to).chain(&self.upgrade.makes);
        let there = engine.volume_ids(&new.cloned().collect::<Vec<_>>())?;
        match there.into_keys().next() {
            Some(volume) => Err(UpgradeError::Changed { what: format!("the volume {volume}") }),
            None => Ok(()),
        }
    }

    /// The release that it leads to, if another project's change removed it before this one was written down.
    fn missing_release(&self) -> Result<Option<String>, UpgradeError> {
        let Some(digest) = &self.upgrade.to.release else { return Ok(None) };
        let is_here = Releases::of(self.place.roots).holds(digest)?;
        Ok((!is_here).then(|| format!("the release {digest}")))
    }

    fn id(&self, unit: &UnitName) -> UnitId {
        UnitId::new(&self.root, unit)
    }

    fn is_committed(&self) -> Result<bool, UpgradeError> {
        Ok(active(self.place.roots, &self.root)?.generation >= self.upgrade.to.generation)
    }

    /// Does a step, and writes down before and after that it does. The inner error is the step's own.
    fn step(&mut self, step: &Step) -> Result<Result<(), Cause>, UpgradeError> {
        // What a start does tells of itself.
        let is_told = matches!(step, Step::Start(_));
        self.journaled(&step.to_string(), is_told, |change| change.act(step))
    }

    /// Does something, and writes down before and after that it does. The inner error is its own.
    fn journaled(
        &mut self,
        step: &str,
        is_told: bool,
        act: impl FnOnce(&mut Self) -> Result<(), Cause>,
    ) -> Result<Result<(), Cause>, UpgradeError> {
        self.note(step, EntryKind::Intent, None)?;
        failpoints::at(&format!("{step}.announced"));
        let (phase, detail) = step.split_once(' ').unwrap_or((step, ""));
        let (phase, detail, began) = (phase.to_owned(), detail.to_owned(), Instant::now());
        if !is_told {
            self.tell(&Event::Began { phase: phase.clone(), detail: detail.clone() });
        }
        let done = act(self);
        failpoints::at(&format!("{step}.acted"));
        let took = began.elapsed();
        match &done {
            Ok(()) => {
                self.note(step, EntryKind::Done, None)?;
                if !is_told {
                    self.tell(&Event::Done { phase, detail, took });
                }
            }
            Err(why) => {
                self.note(step, EntryKind::Failed, Some(&why.what))?;
                if !is_told {
                    self.tell(&Event::Failed { phase, detail, how: why.to_string(), took });
                }
            }
        }
        failpoints::at(&format!("{step}.recorded"));
        Ok(done)
    }

    /// Keeps room free for what has to be written on the way back: where the state lies, and where the engine keeps
    /// containers and volumes, if that can be seen from here.
    fn keep_room(&self) -> Result<Reserve, UpgradeError> {
        let data = self.place.engine.host()?.data.filter(|data| data.is_dir());
        let folders: Vec<&Path> = [Some(&self.place.roots.state), data.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
            .collect();
        Ok(Reserve::take(&folders, "the way back, should it be needed,")?)
    }

    fn note(&mut self, step: &str, kind: EntryKind, note: Option<&str>) -> Result<(), UpgradeError> {
        let txid = self.txid.clone();
        self.write(|writer| writer.upgrade_step(&txid, step, kind, note, Timestamp::now()))
    }

    /// Writes into the journal. If the disk is full, into the room that was kept free.
    fn write(&mut self, work: impl Fn(&Writer<'_>) -> Result<(), StoreError>) -> Result<(), UpgradeError> {
        match self.store.write(&work) {
            Err(error @ StoreError::Full { .. }) if self.reserve.is_some() => {
                self.is_full = Some(UpgradeError::from(error).into());
                self.reserve = None;
                Ok(self.store.write(&work)?)
            }
            written => Ok(written?),
        }
    }

    fn tell(&self, event: &Event) {
        self.place.watcher.event(event);
    }

    fn finish(&mut self, outcome: UpgradeOutcome, detail: Option<&str>) -> Result<(), UpgradeError> {
        let txid = self.txid.clone();
        self.write(|writer| writer.finish_upgrade(&txid, outcome, detail, Timestamp::now()))
    }
}
