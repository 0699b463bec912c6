//! Drives the real binary on the real embedded engine, and looks at what it did: what ran, what it said, and what it
//! left behind.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(unreachable_pub, reason = "nobody depends on a test")]

mod architecture;
mod bad_releases;
mod changes;
mod concurrency;
mod crashes;
mod doctor;
mod doctor_migrations;
mod doctor_releases;
mod examples;
mod failures;
mod full_disk;
mod harness;
mod images;
mod inside;
mod leaks;
mod maker;
mod matrix;
mod mistakes;
mod pipelines;
mod power_loss;
mod python;
#[path = "../crates/runtime/tests/image_support/registry.rs"]
#[expect(dead_code, reason = "the tests of the image room use more of it")]
mod registry;
mod releases;
mod rootless;
mod session;
mod specs;
#[path = "../crates/runtime/tests/image_support/mod.rs"]
#[expect(dead_code, reason = "the tests of the image room use more of it")]
mod support;
mod systemd;
mod warm;
mod ways_back;
