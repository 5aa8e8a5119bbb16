//! What the operator counts. Names and labels are API; `docs/METRICS.md` is written from here (`make docs`).
//! No label holds a mount's name, so the number of series does not grow with the cluster.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::control::metrics::ControlMetrics;
use crate::webhook::metrics::InjectionMetrics;

/// Registers everything that the operator counts.
#[must_use]
pub fn register(registry: &mut Registry) -> (Metrics, InjectionMetrics, ControlMetrics) {
    let (own, injections) = (Metrics::register(registry), InjectionMetrics::register(registry));
    (own, injections, ControlMetrics::register(registry.sub_registry_with_prefix("remotemount_operator")))
}

/// What reconciling and leading count.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Status writes.
    pub status_writes: Counter,
    /// 1 while this replica leads.
    pub leads: Gauge,
    /// RemoteMounts known, set when someone looks.
    pub mounts: Gauge,
    /// Pods with a sidecar known, set when someone looks.
    pub pods: Gauge,
    /// Watches that could not go on and began anew.
    pub watch_failures: Counter,
    reconciles: Family<Outcome, Counter>,
    took: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl Metrics {
    /// How a reconcile may end.
    pub const OUTCOMES: [&'static str; 2] = ["ok", "error"];

    /// Registers them all.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            status_writes: Counter::default(),
            leads: Gauge::default(),
            mounts: Gauge::default(),
            pods: Gauge::default(),
            watch_failures: Counter::default(),
            reconciles: Family::default(),
            took: Histogram::new(exponential_buckets(0.001, 4.0, 8)),
        };
        registry.register("remotemount_operator_status_writes", "Status writes", metrics.status_writes.clone());
        registry.register("remotemount_operator_leads", "1 while this replica leads, else 0", metrics.leads.clone());
        registry.register("remotemount_operator_mounts", "RemoteMounts known", metrics.mounts.clone());
        registry.register(
            "remotemount_operator_pods",
            "Pods that have a sidecar, have not ended and are not being deleted",
            metrics.pods.clone(),
        );
        registry.register(
            "remotemount_operator_watch_failures",
            "Watches of the API server that failed and were begun anew",
            metrics.watch_failures.clone(),
        );
        registry.register("remotemount_operator_reconciles", "Reconciles, by outcome", metrics.reconciles.clone());
        let (name, help) = ("remotemount_operator_reconcile_duration", "How long a reconcile took");
        registry.register_with_unit(name, help, Unit::Seconds, metrics.took.clone());
        metrics
    }

    /// A reconcile has ended.
    pub fn reconciled(&self, took: Duration, well: bool) {
        self.took.observe(took.as_secs_f64());
        let [ok, error] = Self::OUTCOMES;
        let outcome = if well { ok } else { error };
        self.reconciles.get_or_create(&Outcome { outcome }).inc();
    }
}
