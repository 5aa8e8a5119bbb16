//! What the control link counts; zero for ever in a sidecar that runs alone.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::link::error::LinkError;

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
    /// An attempt that succeeded; else the kind of error says it.
    pub const OK: &'static str = "ok";
    /// What may become of a manifest.
    pub const MANIFESTS: [&'static str; 3] = ["taken", "old", "refused"];

    /// Declares them in `registry`. One of each family is there from the start, because one without any does not show.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        drop(metrics.attempts.get_or_create(&ByResult { result: Self::OK }));
        drop(metrics.manifests.get_or_create(&ByResult { result: Self::MANIFESTS[0] }));
        let help = "Attempts to connect to the operator: ok, or why not";
        registry.register("control_attempts", help, metrics.attempts.clone());
        let help = "Manifests that the operator sent; old is one that the file has, or a newer one";
        registry.register("control_manifests", help, metrics.manifests.clone());
        let help = "1 while the operator is connected, else 0";
        registry.register("control_connected", help, metrics.connected.clone());
        registry.register("control_statuses", "Statuses sent to the operator", metrics.statuses.clone());
        metrics
    }

    /// Counts one attempt that ended so.
    pub fn attempt(&self, result: &'static str) {
        debug_assert!(result == Self::OK || LinkError::KINDS.contains(&result), "{result} is not declared");
        self.attempts.get_or_create(&ByResult { result }).inc();
    }

    /// Counts one manifest of which that became.
    pub fn manifest(&self, result: &'static str) {
        debug_assert!(Self::MANIFESTS.contains(&result), "{result} is not declared");
        self.manifests.get_or_create(&ByResult { result }).inc();
    }
}
