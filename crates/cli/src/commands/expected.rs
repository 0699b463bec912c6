//! What a change is expected to cost, before it begins.

use std::time::Duration;

use serde::Serialize;
use setpoint_model::release::{Cost, Upgrade};
use setpoint_runtime::engine::Engine;
use setpoint_runtime::project::Project;
use setpoint_runtime::store::Store;
use setpoint_runtime::upgrade::{self, Patience};

use crate::error::{Exit, Failure};
use crate::output::{size, span};

/// What an upgrade would cost.
#[derive(Debug, Serialize)]
pub(super) struct Expected {
    #[serde(flatten)]
    cost: Cost,
    /// How long whoever comes from outside would wait; nothing where nobody is reached now.
    expected_outage_seconds: Option<f64>,
}

impl Expected {
    /// What a change is expected to cost, which fits on the disk.
    pub(super) fn of(
        store: &Store,
        project: &Project,
        planned: &Upgrade,
        cost: Cost,
    ) -> Result<Self, Failure> {
        let patience = Patience::of(&project.manifest.release);
        let outage = upgrade::outage(store, &project.root, planned, &cost, patience)?;
        Ok(Self { cost, expected_outage_seconds: outage.map(|outage| outage.as_secs_f64()) })
    }

    /// In words, each with what it is of.
    pub(super) fn words(&self, planned: &Upgrade) -> Vec<(&'static str, String)> {
        let mut words = Vec::new();
        if let (1.., Some(free)) = (self.cost.copied_bytes, self.cost.free_bytes) {
            let needed = size(self.cost.needed_bytes);
            words.push(("disk", format!("copies need {needed}, {} are free", size(free))));
        }
        let mut head = "then";
        if let Some(outage) = self.expected_outage_seconds {
            words.push(("outage", told(Duration::from_secs_f64(outage))));
            head = "";
        }
        for copy in &planned.copies {
            let bytes = if copy.bytes > 0 { format!(" ({})", size(copy.bytes)) } else { String::new() };
            words.push((head, format!("copy {}{bytes} to {}", copy.from, copy.to)));
            head = "";
        }
        words
    }
}

fn told(outage: Duration) -> String {
    match outage.is_zero() {
        true => "none: the new version answers beside the old one while that is replaced".to_owned(),
        false => format!("about {}, in which who comes to a held port waits", span(outage)),
    }
}

/// What is copied, for which there is room.
pub(super) fn fitting(engine: &dyn Engine, planned: &mut Upgrade) -> Result<Cost, Failure> {
    let cost = upgrade::measure(engine, planned)?;
    let Some(lacks) = cost.lacks() else { return Ok(cost) };
    let volumes: Vec<&str> = planned.copies.iter().map(|copy| copy.from.as_str()).collect();
    let message = format!(
        "copies of {} need {}, and {} are free: {} too few\nNothing was done.",
        volumes.join(", "),
        size(cost.needed_bytes),
        size(cost.free_bytes.unwrap_or_default()),
        size(lacks)
    );
    Err(Failure::new(Exit::Engine, "disk-space", message).hint(
        "free some space, or keep fewer earlier generations (`keep` in [release]); `lane = \"compatible\"`, where old and new can work with the same data, copies nothing",
    ))
}
