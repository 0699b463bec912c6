//! Figures for Prometheus, and whether the daemon lives.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, header};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use setpoint_model::reconcile::displayed;
use setpoint_runtime::reconciler;

use super::problem::Problem;
use super::{Api, STREAMS, wire};

type Labels = Vec<(&'static str, String)>;

/// What is counted.
pub(super) struct Metrics {
    registry: Mutex<Registry>,
    states: Family<Labels, Gauge>,
    acts: Family<Labels, Counter>,
    operations: Family<Labels, Counter>,
    streams: Gauge<i64, std::sync::atomic::AtomicI64>,
    looks: Histogram,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("setpoint");
        let states = Family::<Labels, Gauge>::default();
        registry.register("units", "Units that are kept, by what they are shown as", states.clone());
        let acts = Family::<Labels, Counter<u64, AtomicU64>>::default();
        registry.register(
            "acts",
            "What was done to units that are kept, and whether it failed",
            acts.clone(),
        );
        let operations = Family::<Labels, Counter<u64, AtomicU64>>::default();
        let help = "Operations that began (running) or ended";
        registry.register("operations", help, operations.clone());
        let streams = Gauge::default();
        registry.register("streams", "Event streams and logs that are being read", streams.clone());
        let looks = Histogram::new(exponential_buckets(0.000_25, 2.0, 14));
        let help = "How long it takes to look at a unit and decide what to do";
        registry.register_with_unit("reconcile", help, Unit::Seconds, looks.clone());
        Self { registry: Mutex::new(registry), states, acts, operations, streams, looks }
    }

    pub(super) fn looked(&self, took: Duration) {
        self.looks.observe(took.as_secs_f64());
    }

    pub(super) fn acted(&self, verb: &'static str, failed: bool) {
        let outcome = if failed { "failed" } else { "succeeded" };
        let labels = vec![("act", verb.to_owned()), ("outcome", outcome.to_owned())];
        self.acts.get_or_create(&labels).inc();
    }

    pub(super) fn operation(&self, outcome: &'static str) {
        self.operations.get_or_create(&vec![("outcome", outcome.to_owned())]).inc();
    }
}

/// Gives figures in the text form of Prometheus.
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn metrics(
    State(api): State<Arc<Api>>,
) -> Result<([(HeaderName, &'static str); 1], String), Problem> {
    let metrics = &api.hub.metrics;
    let mut counts = BTreeMap::<&'static str, i64>::new();
    for known in api.hub.known().values() {
        let state = displayed(&known.situation, reconciler::now());
        *counts.entry(wire::state_shown(&state, &known.situation).state).or_default() += 1;
    }
    metrics.states.clear();
    for (state, count) in counts {
        metrics.states.get_or_create(&vec![("state", state.to_owned())]).set(count);
    }
    let read = STREAMS.saturating_sub(api.streams.available_permits());
    metrics.streams.set(i64::try_from(read).unwrap_or(i64::MAX));
    let mut text = String::new();
    let registry = metrics.registry.lock().unwrap_or_else(PoisonError::into_inner);
    encode(&mut text, &registry).map_err(|_| Problem::internal("the figures cannot be written"))?;
    let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, form)], text))
}

/// Says that the daemon lives.
#[utoipa::path(get, path = "/healthz", responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}
