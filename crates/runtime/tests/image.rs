//! Images: layouts, archives, root tars, a real registry, and archives that no honest tool makes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "image_support/hostile.rs"]
mod hostile;
#[path = "image_support/pulls.rs"]
mod pulls;
#[path = "image_support/registry.rs"]
mod registry;
#[path = "image_support/sources.rs"]
mod sources;
#[path = "image_support/mod.rs"]
mod support;
