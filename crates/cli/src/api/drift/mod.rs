//! What is declared of units, against what they are. The command line looks at a project, for all of its units at once:
//! when a file changes that it was read from, when something was recorded of it, and now and then anyway.

mod pace;
mod watches;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use setpoint_runtime::store::{NewUnit, StoreError, Unit};
use utoipa::ToSchema;

use self::pace::Pace;
use self::watches::{Set, Watches};
use super::Api;
use super::wire::EventShown;
use crate::json::TrackedFolder;

/// How often at most is looked at what was recorded.
const HEARD: Duration = Duration::from_millis(200);
/// How long to wait where nothing has to be looked at.
const IDLE: Duration = Duration::from_secs(60);

/// How a unit differs from what is declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Drift {
    /// Whether `up` would change something. That it does not run is told by its state.
    pub(super) out_of_date: bool,
    /// How many things differ.
    pub(super) changes: usize,
    /// What has not succeeded yet that belongs to it.
    pub(super) pending: Vec<String>,
    /// Whether its project declares it; if not, or if the project cannot be read, nothing is known of the rest.
    pub(super) declared: bool,
    /// Why the project cannot be read.
    pub(super) unreadable: Option<String>,
}

/// What the command line says of a project.
#[derive(Debug, Deserialize)]
struct Status {
    units: Vec<UnitSaid>,
    tracked: Option<Vec<TrackedFolder>>,
}

/// What it says of a unit.
#[derive(Debug, Clone, Deserialize)]
struct UnitSaid {
    unit: String,
    changes: usize,
    pending: Vec<String>,
}

/// What the last look at a project gave: of each of its units, or why there is no answer.
type Answer = Result<BTreeMap<String, UnitSaid>, String>;

/// What the last looks gave, by the folders of their projects.
#[derive(Default)]
pub(super) struct Drifts(Mutex<BTreeMap<PathBuf, Answer>>);

impl Drifts {
    fn known(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a unit differs from what is declared; nothing before the first look.
    pub(super) fn of(&self, unit: &NewUnit) -> Option<Drift> {
        Some(drift(self.known().get(&unit.project_root)?, unit.name.as_str()))
    }
}

fn drift(answer: &Answer, name: &str) -> Drift {
    let none =
        Drift { out_of_date: false, changes: 0, pending: Vec::new(), declared: false, unreadable: None };
    match answer {
        Err(why) => Drift { unreadable: Some(why.clone()), ..none },
        Ok(units) => units.get(name).map_or(none, |unit| Drift {
            out_of_date: unit.changes > 0 || !unit.pending.is_empty(),
            changes: unit.changes,
            pending: unit.pending.clone(),
            declared: true,
            unreadable: None,
        }),
    }
}

/// How a unit differs, in words, as an event tells it.
pub(crate) fn words(drift: &serde_json::Value) -> String {
    match drift["changes"].as_u64() {
        _ if drift["unreadable"].is_string() => "what is declared cannot be read".to_owned(),
        _ if drift["declared"] == false => "is not declared any more".to_owned(),
        _ if drift["out_of_date"] != true => "is as declared".to_owned(),
        Some(1) => "is out of date: 1 change".to_owned(),
        Some(changes @ 2..) => format!("is out of date: {changes} changes"),
        _ => "is out of date".to_owned(),
    }
}

/// A project of which something is known to the state.
struct Project {
    /// Its units, each with its last operation that has ended.
    units: Vec<(Unit, Option<i64>)>,
    pace: Pace,
}

/// Looks at projects for as long as the API is served.
pub(super) async fn keep(api: Arc<Api>) {
    let mut watches = Watches::new();
    let mut projects: BTreeMap<PathBuf, Project> = BTreeMap::new();
    let mut is_read = false;
    loop {
        if !is_read {
            is_read = true;
            if let Ok(now) = api.with_store(|_, store| by_project(store.units_with_ends()?)).await {
                adopt(&mut projects, now);
                api.drifts.known().retain(|root, _| projects.contains_key(root));
                watches.retain(|root| projects.contains_key(root));
            }
        }
        let due = projects.iter().filter(|(_, project)| project.pace.is_due(Instant::now()));
        let due: Vec<PathBuf> = due.map(|(root, _)| root.clone()).collect();
        for root in due {
            let Some(project) = projects.get_mut(&root) else { continue };
            let set = look(&api, &root, project, &mut watches).await;
            let now = Instant::now();
            project.pace.looked(now, set != Set::Unwatched);
            if set == Set::New {
                project.pace.changed(now);
            }
        }
        let next = projects.values().map(|project| project.pace.next()).min();
        let wait = next.map_or(IDLE, |next| next.saturating_duration_since(Instant::now()));
        tokio::select! {
            changed = watches.changed() => {
                for root in changed {
                    if let Some(project) = projects.get_mut(&root) {
                        project.pace.changed(Instant::now());
                    }
                }
            }
            () = api.hub.recorded.notified() => {
                // A burst of them is one.
                tokio::time::sleep(HEARD).await;
                is_read = false;
            }
            () = tokio::time::sleep(wait) => {}
        }
    }
}

type Units = BTreeMap<PathBuf, Vec<(Unit, Option<i64>)>>;

fn by_project(units: Vec<(Unit, Option<i64>)>) -> Result<Units, StoreError> {
    let mut projects = Units::new();
    for (unit, end) in units {
        projects.entry(unit.unit.project_root.clone()).or_default().push((unit, end));
    }
    Ok(projects)
}

/// Takes up what the state knows now: a project of which something was recorded is to be looked at.
fn adopt(projects: &mut BTreeMap<PathBuf, Project>, now: Units) {
    projects.retain(|root, _| now.contains_key(root));
    for (root, units) in now {
        match projects.get_mut(&root) {
            Some(known) if known.units == units => {}
            Some(known) => {
                known.units = units;
                known.pace.changed(Instant::now());
            }
            None => drop(projects.insert(root, Project { units, pace: Pace::new(Instant::now()) })),
        }
    }
}

/// Looks at a project, tells what is new, and watches what it was read from.
async fn look(api: &Arc<Api>, root: &PathBuf, project: &Project, watches: &mut Watches) -> Set {
    let Some((Unit { unit, .. }, _)) = project.units.first() else { return Set::Unwatched };
    let (unit, folder, watcher) = (unit.clone(), root.clone(), watches.watcher());
    let own = [api.roots.state.clone(), api.roots.config.clone()];
    let looked = api.ask(move |api| {
        if !folder.is_dir() {
            return Ok((Err(format!("there is no folder {} any more", folder.display())), None));
        }
        let status = api
            .asked(&unit.project_root, &["--json", "status", "--tracked"])?
            .and_then(|answer| serde_json::from_value::<Status>(answer).map_err(|error| error.to_string()));
        Ok(match status {
            Ok(Status { units, tracked }) => {
                let mut tracked = tracked.unwrap_or_default();
                tracked.retain(|of| !own.iter().any(|own| of.folder.starts_with(own)));
                let named = units.into_iter().map(|unit| (unit.unit.clone(), unit));
                (Ok(named.collect()), watcher.watch(&tracked))
            }
            // Whatever mends it is likely to lie beside the manifest.
            Err(why) => (Err(why), watcher.watch(&[TrackedFolder { folder, names: None }])),
        })
    });
    // Who is too busy to look knows what he knew.
    let Ok((answer, watched)) = looked.await else { return Set::Unwatched };
    let before = api.drifts.known().insert(root.clone(), answer.clone());
    for (unit, _) in &project.units {
        let name = unit.unit.name.as_str();
        let (before, now) = (before.as_ref().map(|before| drift(before, name)), drift(&answer, name));
        // What is as it should be when the daemon begins is no news.
        if before.as_ref().map_or(now.out_of_date, |before| *before != now) {
            api.hub.tell(&EventShown { drift: Some(now), ..EventShown::of("drift", unit) });
        }
    }
    watches.set(root, watched, answer.is_ok())
}

/// The folders of these projects.
pub(super) type Roots = BTreeSet<PathBuf>;
