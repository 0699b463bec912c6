//! What is declared of units, against what they are: the command line looks at a project, once for all of its units.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use serde::Deserialize;
use setpoint_model::reconcile::Situation;
use setpoint_runtime::store::NewUnit;
use tokio::sync::Mutex;

use crate::api::Api;
use crate::api::units::Row;

/// How long a look counts while nothing happens.
const FRESH: Duration = Duration::from_secs(4);
/// How many projects are looked at at once.
const AT_ONCE: usize = 2;

/// What the last look at each project gave. Whoever asks meanwhile waits for the look that is under way.
#[derive(Default)]
pub(in crate::api) struct Declared(Mutex<BTreeMap<PathBuf, Looked>>);

struct Looked {
    at: Instant,
    /// The last event before it.
    after: u64,
    answer: Result<BTreeMap<String, Unit>, String>,
}

/// What the command line says of a project.
#[derive(Debug, Deserialize)]
struct Status {
    units: Vec<Unit>,
}

/// How a unit differs from what is declared.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Unit {
    unit: String,
    /// How many things differ.
    pub(super) changes: usize,
    /// What has not succeeded yet that belongs to it.
    pub(super) pending: Vec<String>,
    /// What its check said, where that fails.
    pub(super) check: Option<String>,
}

/// What is known of what is declared.
#[derive(Debug, Clone)]
pub(super) enum Drift {
    /// There is an answer.
    Known(Unit),
    /// The manifest has no such unit any more.
    Undeclared,
    /// The project cannot be read: why.
    Unreadable(String),
}

impl Drift {
    /// Whether it is another one than is declared. That it does not run is told by its state.
    pub(super) fn is_out_of_date(&self) -> bool {
        matches!(self, Self::Known(unit) if unit.changes > 0 || !unit.pending.is_empty())
    }

    pub(super) fn check(&self) -> Option<&str> {
        match self {
            Self::Known(unit) => unit.check.as_deref(),
            Self::Undeclared | Self::Unreadable(_) => None,
        }
    }

    /// It, and the situation with it.
    pub(super) fn told(self, situation: &mut Situation) -> Self {
        situation.observed.drift = self.is_out_of_date();
        self
    }
}

impl Declared {
    /// How these units differ from what is declared, in their order.
    pub(super) async fn of(&self, api: &Arc<Api>, rows: &[&Row]) -> Vec<Drift> {
        let mut known = self.0.lock().await;
        let last = *api.hub.feed.last().borrow();
        let mut asked = BTreeMap::new();
        for row in rows {
            let root = &row.unit.unit.project_root;
            let is_fresh = |looked: &Looked| looked.after == last && looked.at.elapsed() < FRESH;
            if !known.get(root).is_some_and(is_fresh) {
                asked.insert(root.clone(), row.unit.unit.clone());
            }
        }
        let looks = asked.into_iter().map(|(root, unit)| async move { (root, look(api, unit).await) });
        let mut looks = stream::iter(looks).buffer_unordered(AT_ONCE);
        while let Some((root, answer)) = looks.next().await {
            known.insert(root, Looked { at: Instant::now(), after: last, answer });
        }
        let drifts = rows.iter().map(|row| match known.get(&row.unit.unit.project_root) {
            Some(Looked { answer: Ok(units), .. }) => units
                .get(row.unit.unit.name.as_str())
                .map_or(Drift::Undeclared, |unit| Drift::Known(unit.clone())),
            Some(Looked { answer: Err(why), .. }) => Drift::Unreadable(why.clone()),
            None => Drift::Undeclared,
        });
        let drifts = drifts.collect();
        known.retain(|_, looked| looked.at.elapsed() < FRESH);
        drifts
    }
}

async fn look(api: &Arc<Api>, unit: NewUnit) -> Result<BTreeMap<String, Unit>, String> {
    if !unit.project_root.is_dir() {
        return Err(format!("there is no folder {} any more", unit.project_root.display()));
    }
    let answer = api.ask(move |api| api.asked(&unit, &["--json", "status"])).await;
    let answer = answer.map_err(|problem| problem.message)??;
    let status: Status = serde_json::from_value(answer).map_err(|error| error.to_string())?;
    Ok(status.units.into_iter().map(|unit| (unit.unit.clone(), unit)).collect())
}
