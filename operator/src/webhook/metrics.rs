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
        // From zero on: a counter that begins with its first event has not risen, to whoever asks for its increase.
        for outcome in Outcome::ALL {
            for &reason in outcome.reasons() {
                metrics.of(outcome, reason).inc_by(0);
            }
        }
        let help = "Reviews of pods, by what came of them and why; without a reason where there is nothing to say";
        registry.register("remotemount_operator_injections", help, metrics.injections.clone());
        metrics
    }

    /// Counts one. `reason` is one of [`Outcome::reasons`].
    pub fn count(&self, outcome: Outcome, reason: &'static str) {
        debug_assert!(outcome.reasons().contains(&reason), "{reason} is not declared");
        self.of(outcome, reason).inc();
    }

    /// How many there were.
    #[must_use]
    pub fn get(&self, outcome: Outcome, reason: &'static str) -> u64 {
        self.of(outcome, reason).get()
    }

    fn of(&self, outcome: Outcome, reason: &'static str) -> Counter {
        self.injections.get_or_create(&Labels { result: outcome.as_str(), reason }).clone()
    }
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Injected, Self::Unchanged, Self::Denied, Self::Failed];

    /// Why it may have come to that; empty where there is nothing to say.
    #[must_use]
    pub const fn reasons(self) -> &'static [&'static str] {
        match self {
            Self::Injected => &[""],
            Self::Unchanged => &["", "present"],
            Self::Denied => &[
                "no_mount",
                "unknown_mount",
                "unavailable_mount",
                "conflict",
                "invalid_mount",
                "pod",
                "malformed",
                "not_ready",
            ],
            Self::Failed => &["tls", "malformed"],
        }
    }

    /// The name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::Unchanged => "unchanged",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}
