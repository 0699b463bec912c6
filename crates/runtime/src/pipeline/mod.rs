//! Running pipelines: steps in sandboxes, on this run's source, and not again what cannot have changed.

pub mod events;
