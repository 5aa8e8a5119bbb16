//! What the control link counts; zero for ever in a sidecar that runs alone.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

/// What the control link counts. A handle: clones share everything.
#[derive(Clone, Debug, Default)]
pub struct LinkMetrics {
    attempts: Family<ByResult, Counter>,
    manifests: Family<ByResult, Counter>,
    /// Whether the operator has welcomed this sidecar: 1 or 0.
    pub connected: Gauge,
    /// Statuses that were sent.
    pub statuses: Counter,
}

impl LinkMetrics {
    /// Declares them in `registry`. One of each family is there from the start, because one without any does not show.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        drop(metrics.attempts.get_or_create(&ByResult { result: "ok" }));
        drop(metrics.manifests.get_or_create(&ByResult { result: "taken" }));
        registry.register("control_attempts", "Attempts to connect to the operator", metrics.attempts.clone());
        registry.register("control_manifests", "Manifests that the operator sent", metrics.manifests.clone());
        registry.register("control_connected", "Whether the operator is connected", metrics.connected.clone());
        registry.register("control_statuses", "Statuses sent to the operator", metrics.statuses.clone());
        metrics
    }

    /// Counts one attempt that ended so.
    pub fn attempt(&self, result: &'static str) {
        self.attempts.get_or_create(&ByResult { result }).inc();
    }

    /// Counts one manifest of which that became.
    pub fn manifest(&self, result: &'static str) {
        self.manifests.get_or_create(&ByResult { result }).inc();
    }
}
