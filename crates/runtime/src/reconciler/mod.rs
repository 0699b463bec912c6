//! Keeping units as they are wanted, for as long as a daemon runs: each unit has an actor of its own, which observes
//! it, asks the pure core in `setpoint_model::reconcile` what to do, and does it. Nothing else starts a unit by itself.

mod actor;
pub mod alert;
pub mod control;
mod look;
mod post;
mod recovery;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use setpoint_model::import::compose::{Dependency, RestartPolicy};
use setpoint_model::manifest::{Alerts, EngineKind, Env};
use setpoint_model::names::UnitName;
use setpoint_model::reconcile::{self, Fault, History, Situation};

pub use look::{now, state, timestamp, unkept};
pub use post::{Post, end, is_running, tell};

use self::actor::Wake;
use self::post::Heard;
use crate::cancel::Cancel;
use crate::engine::{self, Engine};
use crate::paths::Roots;
use crate::store::{self, Kept, OperationOutcome, Store, StoreError, TxId, Wanted, Writer};

/// How often everything is looked at, whatever is told.
const PASS: Duration = Duration::from_secs(30);
/// How often is looked whether to stop.
const TICK: Duration = Duration::from_millis(200);

/// How a unit is kept, as it was declared when it was last brought up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// What of its declaration counts for that.
    pub kept: reconcile::Rules,
    /// The units that come before it.
    pub depends_on: BTreeMap<UnitName, Dependency>,
    /// Who is told when it needs a person.
    #[serde(default)]
    pub alerts: Alerts,
}

impl Rules {
    /// How a unit is kept; nothing for one that is no service, or that is never started again.
    #[must_use]
    pub fn of(env: &Env, stop_grace: Duration, alerts: &Alerts) -> Option<Self> {
        let of = env.service.as_ref().filter(|of| of.restart != RestartPolicy::No)?;
        let stop_grace = u64::try_from(stop_grace.as_millis()).unwrap_or(u64::MAX);
        let kept = reconcile::Rules { restart: of.restart, completes: of.completes, stop_grace };
        Some(Self { kept, depends_on: of.depends_on.clone(), alerts: alerts.clone() })
    }
}

/// What a daemon has done, for whoever watches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// The unit, and its project's folder.
    pub unit: UnitName,
    /// Where its project lies.
    pub project_root: PathBuf,
    /// What was done, or is waited for, and why.
    pub what: String,
}

/// Whoever watches a daemon. It is told on the actors' own threads, and must not keep them.
pub trait Watcher: Sync {
    /// Something was done, or is waited for.
    fn deed(&self, deed: &Deed);
    /// A unit was looked at, or something began to be done to it; this is what is known of it now.
    fn situation(&self, unit: &store::Unit, situation: &Situation);
    /// A unit is not kept any more.
    fn left(&self, unit: store::UnitId);
    /// An operation began or ended.
    fn operation(&self, unit: &store::Unit, operation: &TxId, outcome: Option<OperationOutcome>);
    /// All units are looked at: it is time, or somebody told that something has changed.
    fn passes(&self);
    /// A look at a unit, with the decision on it, took so long.
    fn looked(&self, took: Duration);
    /// A unit was started, restarted or stopped, or that failed.
    fn acted(&self, verb: &'static str, failed: bool);
}

/// Why a daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum ReconcilerError {
    /// There is one already.
    #[error("a daemon runs on this state already")]
    Running,
    /// A file of its own could not be used.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The state cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Records that a unit has been brought up, and how it is kept from now on; without rules, that it is left alone.
/// Nothing is written where nothing is new.
///
/// # Errors
/// [`StoreError`] if the state cannot be read or written.
pub fn want_up(store: &mut Store, unit: store::UnitId, rules: Option<&Rules>) -> Result<(), StoreError> {
    let kept = store.kept(unit)?;
    let Some(rules) = rules else {
        return match kept {
            Some(_) => store.write(|writer| writer.remove_intent(unit)),
            None => Ok(()),
        };
    };
    let rules = serde_json::to_string(rules).unwrap_or_default();
    if kept.is_some_and(|kept| is_calm(&kept) && kept.intent.rules == rules) {
        return Ok(());
    }
    store.write(|writer| put_intent(writer, unit, &rules))
}

/// Records, with what else is written at once, that a unit runs and how it is kept from now on.
///
/// # Errors
/// [`StoreError`] if it cannot be written.
pub(crate) fn put_up(writer: &Writer<'_>, unit: store::UnitId, rules: &Rules) -> Result<(), StoreError> {
    put_intent(writer, unit, &serde_json::to_string(rules).unwrap_or_default())
}

fn put_intent(writer: &Writer<'_>, unit: store::UnitId, rules: &str) -> Result<(), StoreError> {
    let generation = writer.put_intent(unit, Wanted::Up, rules, Timestamp::now())?;
    put_applied(writer, unit, generation)
}

/// Wants of a unit what was wanted of it before, as if nothing had come of it since.
pub(crate) fn put_wish(
    writer: &Writer<'_>,
    unit: store::UnitId,
    before: Option<&store::IntentRow>,
) -> Result<(), StoreError> {
    let Some(before) = before else { return writer.remove_intent(unit) };
    let generation = writer.put_intent(unit, before.wanted, &before.rules, before.at)?;
    put_applied(writer, unit, generation)
}

/// What a unit that is kept has been through; nothing where that cannot be read.
fn history(kept: &Kept) -> History {
    kept.history.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn put_history(
    writer: &Writer<'_>,
    unit: store::UnitId,
    generation: u64,
    history: &History,
) -> Result<(), StoreError> {
    writer.put_history(unit, generation, &serde_json::to_string(history).unwrap_or_default())
}

/// Forgives what was, and says that the wish of this generation has been brought about.
fn put_applied(writer: &Writer<'_>, unit: store::UnitId, generation: u64) -> Result<(), StoreError> {
    let applied = History { generation, applied: Some(generation), ..History::default() };
    put_history(writer, unit, generation, &applied)
}

/// Whether a unit is wanted to run, and does so without a fault that the user's word could forgive.
fn is_calm(kept: &Kept) -> bool {
    let history = history(kept);
    kept.intent.wanted == Wanted::Up
        && history.applied == Some(kept.intent.generation)
        && history.permanent.is_none()
        && history.needs_operator.is_none()
        && Fault::ALL.iter().all(|fault| history.budget(*fault).failures == 0)
}

/// Records that a unit that is kept is wanted not to run, until somebody brings it up again.
///
/// # Errors
/// [`StoreError`] if the state cannot be read or written.
pub fn want_stopped(store: &mut Store, unit: store::UnitId) -> Result<(), StoreError> {
    match store.kept(unit)? {
        Some(kept) if kept.intent.wanted == Wanted::Up => {
            store.write(|writer| writer.set_wanted(unit, Wanted::Stopped, Timestamp::now()).map(drop))
        }
        _ => Ok(()),
    }
}

/// What all actors share.
struct Shared<'a> {
    roots: &'a Roots,
    engines: BTreeMap<EngineKind, Box<dyn Engine>>,
    store: Mutex<Store>,
    cancel: &'a Cancel,
    watcher: &'a dyn Watcher,
    /// Whether somebody has met an upgrade that has not ended.
    met_upgrade: AtomicBool,
}

impl Shared<'_> {
    /// The engine of this name; all actors have the same one.
    fn engine(&self, name: &str) -> Result<&dyn Engine, String> {
        Ok(self.engines[&engine::named(name)?].as_ref())
    }
}

/// How long a daemon is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// Until it is asked to stop.
    UntilAsked,
    /// Until it is asked to, or nothing is left to be kept.
    WhileNeeded,
}

/// Keeps all units of a state as they are wanted, for whoever has the place of its daemon, until it is asked to stop.
/// What runs goes on running then.
///
/// # Errors
/// If the state cannot be read.
pub fn run(
    mut post: Post,
    roots: &Roots,
    variables: &BTreeMap<String, String>,
    stay: Stay,
    cancel: &Cancel,
    watcher: &dyn Watcher,
) -> Result<(), ReconcilerError> {
    let engines = EngineKind::ALL.map(|kind| (kind, engine::open(kind, roots, variables)));
    let store = Mutex::new(Store::open(roots)?);
    let met_upgrade = AtomicBool::new(false);
    let shared = Shared { roots, engines: engines.into(), store, cancel, watcher, met_upgrade };
    control::close_abandoned(&mut lock(&shared.store))?;
    // Until all of them have ended, nobody else is the daemon.
    let _post = std::thread::scope(|scope| {
        let mut actors: BTreeMap<store::UnitId, (Arc<Wake>, ScopedJoinHandle<'_, ()>)> = BTreeMap::new();
        let mut looked = None::<Instant>;
        while !cancel.asked() {
            match post.wait(TICK) {
                Heard::End => {
                    cancel.ask();
                    break;
                }
                Heard::Nothing if shared.met_upgrade.swap(false, Ordering::Relaxed) => {}
                Heard::Nothing if looked.is_some_and(|at| at.elapsed() < PASS) => continue,
                Heard::Nothing | Heard::Change => {}
            }
            looked = Some(Instant::now());
            watcher.passes();
            // A disk that is away for a moment ends no daemon, nor an actor.
            let Ok(kept) = lock(&shared.store).all_kept() else { continue };
            actors.retain(|_, (_, actor)| !actor.is_finished());
            if kept.is_empty() && stay == Stay::WhileNeeded {
                if !actors.is_empty() {
                    // They find out themselves. Until then this is not over: whoever removes the state may not meet them.
                    actors.values().for_each(|(wake, _)| wake.ring());
                    looked = None;
                    continue;
                }
                // Whoever wants something kept first says so, and then looks for a daemon.
                drop(post);
                if lock(&shared.store).all_kept().is_ok_and(|kept| kept.is_empty()) {
                    return None;
                }
                let Ok(again) = Post::take(roots) else { return None };
                post = again;
                looked = None;
                continue;
            }
            recovery::begin(scope, &shared);
            actors.values().for_each(|(wake, _)| wake.ring());
            for kept in kept {
                let unit = kept.unit;
                if actors.contains_key(&unit.id) {
                    continue;
                }
                // As soon as there are descriptors again, it has one.
                let Ok(wake) = Wake::new().map(Arc::new) else { continue };
                let (own, shared) = (Arc::clone(&wake), &shared);
                actors.insert(unit.id, (wake, scope.spawn(move || actor::run(shared, unit, &own))));
            }
        }
        actors.values().for_each(|(wake, _)| wake.ring());
        Some(post)
    });
    Ok(())
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
