//! Condition types and reasons of a `RemoteMount`, as typed constants.
//!
//! The names are API: tools match on them (`kubectl wait --for=condition=Ready`), so they live in one
//! place and are never built from text. `Ready` sums up the others. `Reconciling` and `Stalled` follow
//! kstatus: they are present only while true. [`merge`] is the one way to change a condition list: it
//! keeps `lastTransitionTime` unless the status changed (Kubernetes API conventions, "Typical status
//! properties"). Nothing here reads a clock or a cluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every value, in order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name as it stands in the API.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

names! {
    /// The conditions of a `RemoteMount`.
    ConditionType {
        /// Everything the user asked for holds.
        Ready,
        /// The spec can be acted on.
        Accepted,
        /// The mount configuration stands where sidecars read it.
        ConfigPublished,
        /// Sidecars reach the bucket.
        RemoteReachable,
        /// Every sidecar runs with the current configuration.
        SidecarsReady,
        /// No delete waits or fails.
        DeletesHealthy,
        /// Work goes on; present only while true (kstatus).
        Reconciling,
        /// The user has to change something; present only while true (kstatus).
        Stalled,
    }
}

names! {
    /// Why a condition has its status.
    Reason {
        /// All is as asked.
        Available,
        /// Nothing is known yet.
        Unknown,
        /// The spec is valid.
        Valid,
        /// The spec breaks a rule.
        Invalid,
        /// An older mount of the namespace has this path.
        PathConflict,
        /// The spec asks for what this version cannot do.
        NotSupported,
        /// The Secret is missing or lacks a key.
        CredentialsMissing,
        /// The configuration is published.
        Published,
        /// The configuration could not be published.
        PublishFailed,
        /// The remote answers.
        Reachable,
        /// The remote refuses the credentials, or what they may do.
        AccessDenied,
        /// The remote asks for fewer requests.
        Throttled,
        /// The remote does not answer, or answers with a failure.
        Unavailable,
        /// The remote took too long.
        TimedOut,
        /// There is no such bucket.
        BucketNotFound,
        /// The remote's certificate is not trusted.
        CertificateUntrusted,
        /// The remote refuses the request for another reason.
        Rejected,
        /// No pod uses the mount.
        NoSidecars,
        /// Some sidecars are not ready.
        SidecarsNotReady,
        /// Some sidecars run an older configuration.
        SidecarsOutdated,
        /// No delete waits or fails.
        NoPendingDeletes,
        /// Deletes wait for the remote.
        DeletesPending,
        /// Deletes fail.
        DeletesFailing,
        /// The operator is at work.
        Progressing,
        /// The user asked the operator to stop.
        Suspended,
    }
}

/// One condition, before it is merged into a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Which condition.
    pub condition: ConditionType,
    /// `Some(true)`, `Some(false)`, or `None` for Unknown.
    pub status: Option<bool>,
    /// Why.
    pub reason: Reason,
    /// For people; one sentence, no secrets.
    pub message: String,
}

/// Puts `observation` into `conditions`, keeping the transition time unless the status changes.
///
/// Answers whether anything changed, so that an unchanged status is not written.
pub fn merge(conditions: &mut Vec<Condition>, observation: &Observation, generation: i64, now: &Time) -> bool {
    let status = match observation.status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let name = observation.condition.as_str();
    let old = conditions.iter().position(|condition| condition.type_ == name);
    let since = old
        .and_then(|at| conditions.get(at))
        .filter(|condition| condition.status == status)
        .map_or_else(|| now.clone(), |condition| condition.last_transition_time.clone());
    let new = Condition {
        type_: name.to_owned(),
        status: status.to_owned(),
        reason: observation.reason.as_str().to_owned(),
        message: observation.message.clone(),
        observed_generation: Some(generation),
        last_transition_time: since,
    };
    match old {
        Some(at) if conditions[at] == new => false,
        Some(at) => {
            conditions[at] = new;
            true
        }
        None => {
            conditions.push(new);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(seconds: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(seconds).unwrap())
    }

    fn ready(status: Option<bool>, reason: Reason) -> Observation {
        Observation { condition: ConditionType::Ready, status, reason, message: reason.to_string() }
    }

    #[test]
    fn transition_time_moves_only_with_the_status() {
        let mut list = Vec::new();
        assert!(merge(&mut list, &ready(None, Reason::Unknown), 1, &time(1)));
        assert!(merge(&mut list, &ready(Some(false), Reason::AccessDenied), 1, &time(2)));
        assert!(merge(&mut list, &ready(Some(false), Reason::Throttled), 2, &time(3)));
        assert_eq!(list[0].last_transition_time, time(2), "the reason changed, the status did not");
        assert_eq!(list[0].observed_generation, Some(2));
        assert!(!merge(&mut list, &ready(Some(false), Reason::Throttled), 2, &time(4)), "nothing changed");
        assert!(merge(&mut list, &ready(Some(true), Reason::Available), 2, &time(5)));
        assert_eq!((list.len(), list[0].last_transition_time.clone()), (1, time(5)));
    }

    #[test]
    fn names_are_what_the_api_says() {
        assert_eq!(ConditionType::RemoteReachable.as_str(), "RemoteReachable");
        assert!(Reason::ALL.iter().all(|reason| reason.as_str().starts_with(|c: char| c.is_ascii_uppercase())));
    }
}
