//! What our containers are called and carry: enough to find them again, for us and for editors.

use std::collections::HashMap;

use super::beside::Beside;
use crate::engine::{Labels, UnitId, UnitSpec};

/// The unit's labels, as JSON.
pub(super) const LABELS: &str = "dev.setpoint.labels";
/// The unit's id.
pub(super) const UNIT: &str = "dev.setpoint.unit";
/// Who hooks and shells run as.
pub(super) const USER: &str = "dev.setpoint.user";
/// Where the project appears inside.
pub(super) const WORKSPACE: &str = "dev.setpoint.workspace";

/// What is ours beside a container, as it was made.
pub(super) const BESIDE: &str = "dev.setpoint.beside";

/// Where the state lies that a step writes to: on its container, its workspace, and the image that came of it.
pub(super) const STEP: &str = "dev.setpoint.step";

/// The name of a unit's container.
pub(super) fn container_name(unit: &str) -> String {
    format!("setpoint-{unit}")
}

/// The labels of a new container: the user's own, what editors look for, and ours, which nobody may replace.
pub(super) fn of(unit: &UnitId, spec: &UnitSpec) -> HashMap<String, String> {
    let mut labels: HashMap<String, String> = spec.container.labels.clone().into_iter().collect();
    let ours = serde_json::to_string(&spec.labels).unwrap_or_default();
    labels.extend([
        (LABELS.to_owned(), ours),
        (UNIT.to_owned(), unit.as_str().to_owned()),
        (USER.to_owned(), spec.user.clone()),
        (WORKSPACE.to_owned(), spec.workspace.to_string_lossy().into_owned()),
    ]);
    if let Some(beside) = Beside::of(spec, spec.holds_ports) {
        labels.insert(BESIDE.to_owned(), serde_json::to_string(&beside).unwrap_or_default());
    }
    labels
}

/// The unit's labels, if a container carries them.
pub(super) fn read(labels: &HashMap<String, String>) -> Option<Labels> {
    serde_json::from_str(labels.get(LABELS)?).ok()
}
