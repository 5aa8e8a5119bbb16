//! What the webhook counts: `remotemount_operator_injections_total{result,reason}`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// What came of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The pod has its sidecar.
    Injected,
    /// The pod is as it was: nothing was asked for, or all was there.
    Unchanged,
    /// The pod was refused.
    Denied,
    /// There was no review that could be read.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    result: &'static str,
    reason: &'static str,
}

/// The webhook's counters.
#[derive(Clone, Debug, Default)]
pub struct InjectionMetrics {
    injections: Family<Labels, Counter>,
}

impl InjectionMetrics {
    /// Makes the counters known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Reviews of pods, by what came of them and why";
        registry.register("remotemount_operator_injections", help, metrics.injections.clone());
        metrics
    }

    /// Counts one. `reason` is one of a fixed few, empty where there is nothing to say.
    pub fn count(&self, outcome: Outcome, reason: &'static str) {
        self.injections.get_or_create(&Labels { result: outcome.as_str(), reason }).inc();
    }

    /// How many there were.
    #[must_use]
    pub fn get(&self, outcome: Outcome, reason: &'static str) -> u64 {
        self.injections.get_or_create(&Labels { result: outcome.as_str(), reason }).get()
    }
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::Unchanged => "unchanged",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}
