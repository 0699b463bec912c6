//! What the reconciler tells of its units, as the API shows it: the last that is known of each, and what happened.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use setpoint_model::reconcile::{Situation, State, displayed};
use setpoint_runtime::reconciler::{self, Deed, Watcher};
use setpoint_runtime::store::{OperationOutcome, TxId, Unit, UnitId};
use tokio::sync::Notify;

use super::feed::Feed;
use super::metrics::Metrics;
use super::wire::{self, EventShown, OperationShown};
use crate::output::Output;

/// How many operations are remembered whose units are gone.
const GONE: usize = 64;

/// What is known of a unit.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) unit: Unit,
    pub(super) situation: Situation,
    /// What it was last told as.
    told: Option<State>,
}

/// What the reconciler tells.
pub(crate) struct Hub {
    output: Output,
    pub(super) feed: Feed,
    pub(super) metrics: Metrics,
    units: Mutex<BTreeMap<UnitId, Known>>,
    gone: Mutex<Vec<OperationShown>>,
    /// Told when something may have been recorded.
    pub(super) recorded: Notify,
}

impl Hub {
    pub(crate) fn new(output: Output, boot: String) -> Self {
        let (units, gone) = (Mutex::default(), Mutex::default());
        let recorded = Notify::new();
        Self { output, feed: Feed::new(boot), metrics: Metrics::new(), units, gone, recorded }
    }

    pub(super) fn known(&self) -> MutexGuard<'_, BTreeMap<UnitId, Known>> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operation whose unit is gone, and which the state has therefore forgotten.
    pub(super) fn gone(&self, id: &str) -> Option<OperationShown> {
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.iter().find(|operation| operation.id == id).cloned()
    }

    pub(super) fn remember(&self, operation: OperationShown) {
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        if gone.len() == GONE {
            gone.remove(0);
        }
        gone.push(operation);
    }

    pub(super) fn tell(&self, event: &EventShown) {
        if let Ok(json) = serde_json::to_string(event) {
            self.feed.add(event.kind, &json);
        }
    }

    /// Tells that an operation began, or how it ended.
    pub(super) fn tell_operation(&self, unit: &Unit, operation: &TxId, outcome: Option<OperationOutcome>) {
        if outcome.is_some() {
            self.recorded.notify_one();
        }
        let outcome = outcome.map_or("running", wire::outcome_word);
        self.metrics.operation(outcome);
        self.tell(&EventShown {
            operation: Some(operation.to_string()),
            outcome: Some(outcome),
            ..EventShown::of("operation", unit)
        });
    }
}

impl Watcher for Hub {
    fn deed(&self, deed: &Deed) {
        let project = deed.project_root.file_name().unwrap_or_default().to_string_lossy();
        self.output.progress(format!("{project}/{}: {}", deed.unit, deed.what));
        let unit = setpoint_runtime::engine::UnitId::new(&deed.project_root, &deed.unit);
        let event = EventShown {
            unit: Some(unit.as_str().to_owned()),
            project: Some(project.into_owned()),
            name: Some(deed.unit.to_string()),
            what: Some(deed.what.clone()),
            ..EventShown::bare("deed")
        };
        self.tell(&event);
    }

    fn situation(&self, unit: &Unit, situation: &Situation) {
        let state = displayed(situation, reconciler::now());
        let mut units = self.known();
        let is_new = units.get(&unit.id).and_then(|known| known.told.as_ref()) != Some(&state);
        let (unit, situation) = (unit.clone(), situation.clone());
        let known = Known { unit: unit.clone(), situation: situation.clone(), told: Some(state.clone()) };
        units.insert(unit.id, known);
        drop(units);
        if is_new {
            let state = Some(wire::state_shown(&state, &situation));
            self.tell(&EventShown { state, ..EventShown::of("state", &unit) });
        }
    }

    fn left(&self, unit: UnitId) {
        if let Some(known) = self.known().remove(&unit) {
            self.tell(&EventShown::of("left", &known.unit));
        }
    }

    fn operation(&self, unit: &Unit, operation: &TxId, outcome: Option<OperationOutcome>) {
        self.tell_operation(unit, operation, outcome);
    }

    fn passes(&self) {
        self.recorded.notify_one();
    }

    fn looked(&self, took: Duration) {
        self.metrics.looked(took);
    }

    fn acted(&self, verb: &'static str, failed: bool) {
        self.metrics.acted(verb, failed);
    }
}
