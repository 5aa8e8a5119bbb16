//! `RemoteMountStatus`: what the operator says about a mount. The operator is its only writer.
//!
//! Lists are bounded (at most 10 failing samples) so that a mount with thousands of sidecars stays a
//! small object. There is no `phase`; conditions carry the state ([`crate::condition`]).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator says about a mount.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct RemoteMountStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// One entry a condition type.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The remote as a URI without secrets, for people: `s3://bucket/prefix/`.
    #[serde(rename = "remoteURI", skip_serializing_if = "Option::is_none")]
    pub remote_uri: Option<String>,
    /// How many sidecars have this mount, and how they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sidecars: Option<SidecarCounts>,
    /// At most 10 sidecars that fail, in the order of their pods' names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub failing: Vec<FailingSidecar>,
}

/// How many sidecars have this mount, and how they are.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct SidecarCounts {
    /// All of them.
    pub total: i32,
    /// Those that serve the current configuration.
    pub ready: i32,
    /// Those with an older configuration.
    pub outdated: i32,
    /// Those that report an error.
    pub failing: i32,
    /// `ready/total`, for the printer column.
    pub summary: String,
}

/// A sidecar that reports an error.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FailingSidecar {
    /// Its pod.
    pub pod: String,
    /// Why: a reason as conditions have it, such as `Denied`.
    pub reason: String,
    /// For people; no secrets.
    pub message: String,
    /// Since when.
    pub since: Time,
}
