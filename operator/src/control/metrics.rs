//! What the control link counts. Labels never hold names of pods or mounts: their number has no bound.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

/// The control link's metrics. A handle: clones share everything.
#[derive(Clone, Debug, Default)]
pub struct ControlMetrics {
    refusals: Family<ByReason, Counter>,
    handshakes: Family<ByReason, Counter>,
    /// Streams that are open.
    pub streams: Gauge,
    /// Connections that are open.
    pub connections: Gauge,
    /// Tokens that the API server was asked about.
    pub reviews: Counter,
    /// Times that the API server could not be asked about a token.
    pub review_failures: Counter,
    /// Status messages that came up.
    pub statuses: Counter,
    /// Manifests that went down, removals included.
    pub manifests: Counter,
}

impl ControlMetrics {
    /// Why a connection may come to no stream.
    pub const HANDSHAKE_FAILURES: [&'static str; 3] = ["Tls", "TimedOut", "Idle"];

    /// Declares every metric in `registry`, which brings the prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let refused = "Sidecars that were refused, by reason";
        registry.register("control_refusals", refused, metrics.refusals.clone());
        let failed = "Connections that came to no stream, by reason";
        registry.register("control_handshake_failures", failed, metrics.handshakes.clone());
        registry.register("control_streams", "Sidecars that are connected", metrics.streams.clone());
        registry.register(
            "control_connections",
            "Connections of the control link that are open",
            metrics.connections.clone(),
        );
        let reviews = "Tokens that the API server was asked about";
        registry.register("control_token_reviews", reviews, metrics.reviews.clone());
        let unasked = "Times that the API server could not be asked about a token";
        registry.register("control_token_review_failures", unasked, metrics.review_failures.clone());
        registry.register("control_statuses", "Status messages from sidecars", metrics.statuses.clone());
        registry.register(
            "control_manifests",
            "Manifests sent to sidecars, removals included",
            metrics.manifests.clone(),
        );
        metrics
    }

    /// Counts one sidecar that was refused.
    pub fn refused(&self, reason: &'static str) {
        self.refusals.get_or_create(&ByReason { reason }).inc();
    }

    /// How many were refused for that reason.
    #[must_use]
    pub fn refusals(&self, reason: &'static str) -> u64 {
        self.refusals.get(&ByReason { reason }).map_or(0, |count| count.get())
    }

    /// Counts one connection that came to no stream.
    pub fn handshake_failed(&self, reason: &'static str) {
        debug_assert!(Self::HANDSHAKE_FAILURES.contains(&reason), "{reason} is not declared");
        self.handshakes.get_or_create(&ByReason { reason }).inc();
    }
}
