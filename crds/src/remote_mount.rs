//! `RemoteMountSpec`: what a user may ask for, with its defaults and its CEL rules beside the fields.
//!
//! The CEL rules run in the API server. Each has a twin in [`crate::validate`], which a bare sidecar
//! uses; `tests/` asserts that both give one answer for the same document. Bounds are CEL rules
//! rather than `minimum`/`maximum`, so that the message can say what to change. Strings and maps that
//! a rule walks have a maximum length: the API server refuses rules whose cost it cannot bound.
//!
//! Unknown fields are let be by serde: an operator must be able to read what a newer one has stored, and a
//! sidecar what a newer operator publishes. Those that a person wrote are refused by [`crate::manifest`], as
//! the API server does with `kubectl apply --validate=strict`.

// kube's `printcolumn` attribute repeats its keys by design.
#![allow(clippy::duplicated_attributes)]
// KubeSchema derives a twin of each struct, of which nothing is read.
#![allow(dead_code)]

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::remote::Remote;
use crate::status::RemoteMountStatus;
use crate::validate::Problem;

/// A bucket and prefix, mounted at a path of the filer's namespace and pulled lazily.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "remotemount.dev",
    version = "v1alpha1",
    kind = "RemoteMount",
    namespaced,
    derive = "PartialEq",
    status = "RemoteMountStatus",
    doc = "A bucket and prefix of an object store, mounted into pods at a path and pulled lazily.",
    shortname = "rmt",
    category = "storage",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Path", type_ = "string", json_path = ".spec.path"),
    printcolumn(name = "Remote", type_ = "string", json_path = ".status.remoteURI"),
    printcolumn(name = "Sidecars", type_ = "string", json_path = ".status.sidecars.summary"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "DeletePolicy", type_ = "string", json_path = ".spec.deletePolicy", priority = 1),
    printcolumn(name = "LastError", type_ = "string", json_path = ".status.failing[0].message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct RemoteMountSpec {
    /// Where the remote appears in the filer's namespace: absolute, without `//`, `.` or `..`. A trailing slash changes nothing. It cannot be changed later.
    #[x_kube(validation = Rule::new("self.matches('^/([^/\\\\x00]+/)*[^/\\\\x00]*$')").message("path must be absolute and without empty segments: begin it with one '/' and remove any '//'"))]
    #[x_kube(validation = Rule::new("!self.matches('(^|/)[.][.]?(/|$)')").message("path must not have '.' or '..' as a segment: write the path they stand for"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("path cannot be changed: create another RemoteMount with the new path and delete this one"))]
    #[schemars(length(max = 512))]
    pub path: String,

    /// The bucket behind the mount: exactly one of `s3`, `gcs` and `azure`.
    pub remote: Remote,

    /// Who the sidecar is to the remote: exactly one way. The pod's own identity when left out.
    #[serde(default)]
    pub credentials: Credentials,

    /// What a delete by a workload does.
    #[serde(default)]
    pub delete_policy: DeletePolicy,

    /// How metadata is pulled and how long it is good for.
    #[serde(default)]
    pub metadata: Metadata,

    /// The local cache of object data.
    #[serde(default)]
    pub cache: Cache,

    /// The protocols that workloads reach the mount by.
    #[serde(default)]
    pub expose: Expose,

    /// Which pods get this mount, among those that ask for a sidecar. Every one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,

    /// Settings of the sidecar container.
    #[serde(default)]
    pub sidecar: SidecarSettings,

    /// Stops the operator from acting on this mount; pods that have it keep it.
    #[serde(default)]
    pub suspend: bool,

    /// What of a stored spec the reader could not read. No part of the API: it is never read from a document, nor written.
    #[serde(skip)]
    #[schemars(skip)]
    pub unreadable: Option<Problem>,
}

/// Exactly one way to be known to the remote.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.secretRef) ? 1 : 0) + (has(self.workloadIdentity) ? 1 : 0) + (has(self.anonymous) ? 1 : 0) == 1").message("credentials must name exactly one of secretRef, workloadIdentity and anonymous"))]
pub struct Credentials {
    /// A Secret of the same namespace; for S3 its keys are `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, where needed, `AWS_SESSION_TOKEN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// The pod's own identity, by the provider's usual chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<Empty>,
    /// Unsigned requests, for a public bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<Empty>,
}

impl Default for Credentials {
    fn default() -> Self {
        Self { secret_ref: None, workload_identity: Some(Empty {}), anonymous: None }
    }
}

/// A Secret of the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its name.
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')").message("secretRef.name must be the name of a Secret: lower-case letters, digits, '-' and '.'"))]
    #[schemars(length(max = 253))]
    pub name: String,
}

/// A choice without settings of its own.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Empty {}

/// What a delete by a workload does.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeletePolicy {
    /// It is refused.
    #[default]
    Deny,
    /// The object goes from the bucket, then from the local view.
    Propagate,
    /// The name goes from the local view only; the object stays.
    Retain,
}

/// How metadata is pulled and how long it is good for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.ttlSeconds >= 0 && self.ttlSeconds <= 31536000").message("ttlSeconds must be from 0 to 31536000 (a year)"))]
#[x_kube(validation = Rule::new("self.negativeTTLSeconds >= 0 && self.negativeTTLSeconds <= 86400").message("negativeTTLSeconds must be from 0 to 86400 (a day)"))]
#[x_kube(validation = Rule::new("self.listingTTLSeconds >= 0 && self.listingTTLSeconds <= 31536000").message("listingTTLSeconds must be from 0 to 31536000 (a year)"))]
#[x_kube(validation = Rule::new("self.staleIfErrorSeconds >= 0 && self.staleIfErrorSeconds <= 31536000").message("staleIfErrorSeconds must be from 0 to 31536000 (a year)"))]
#[x_kube(validation = Rule::new("self.maxEntries >= 1000 && self.maxEntries <= 100000000").message("maxEntries must be from 1000 to 100000000"))]
pub struct Metadata {
    /// `Lazy` asks for a name the first time someone does; `Eager` lists everything at start.
    #[serde(default)]
    pub strategy: MetadataStrategy,
    /// How long an entry is served without asking the remote again, in seconds.
    #[serde(default = "ttl_seconds")]
    pub ttl_seconds: i64,
    /// How long a missing name stays missing without asking again, in seconds.
    #[serde(rename = "negativeTTLSeconds", default = "negative_ttl_seconds")]
    pub negative_ttl_seconds: i64,
    /// How long a complete directory listing is served without asking again, in seconds.
    #[serde(rename = "listingTTLSeconds", default = "listing_ttl_seconds")]
    pub listing_ttl_seconds: i64,
    /// How long after its time an entry is still served when the remote cannot be asked, in seconds.
    #[serde(default = "stale_if_error_seconds")]
    pub stale_if_error_seconds: i64,
    /// How many entries may be kept.
    #[serde(default = "max_entries")]
    pub max_entries: i64,
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            strategy: MetadataStrategy::Lazy,
            ttl_seconds: ttl_seconds(),
            negative_ttl_seconds: negative_ttl_seconds(),
            listing_ttl_seconds: listing_ttl_seconds(),
            stale_if_error_seconds: stale_if_error_seconds(),
            max_entries: max_entries(),
        }
    }
}

/// When metadata is pulled.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataStrategy {
    /// At the first question for a name.
    #[default]
    Lazy,
    /// At start.
    Eager,
}

/// The local cache of object data.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Cache {
    /// Its size, as a Kubernetes quantity.
    #[serde(default = "size_limit")]
    #[x_kube(validation = Rule::new("self.matches('^[0-9]+([.][0-9]+)?([EPTGMk]|[EPTGMK]i)?$')").message("sizeLimit must be a quantity such as 512Mi or 1Gi"))]
    #[schemars(length(max = 32))]
    pub size_limit: String,
    /// Where it lives.
    #[serde(default)]
    pub medium: CacheMedium,
}

impl Default for Cache {
    fn default() -> Self {
        Self { size_limit: size_limit(), medium: CacheMedium::Disk }
    }
}

/// Where the cache lives.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMedium {
    /// On the node's disk.
    #[default]
    Disk,
    /// In memory, counted against the pod's limit.
    Memory,
}

/// The protocols that workloads reach the mount by; each port on loopback only.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.http) && has(self.s3) && self.http.port == self.s3.port) && !(has(self.http) && has(self.grpc) && self.http.port == self.grpc.port) && !(has(self.s3) && has(self.grpc) && self.s3.port == self.grpc.port)").message("http, s3 and grpc must have different ports"))]
pub struct Expose {
    /// The HTTP door.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<PortExpose>,
    /// The S3 door.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<PortExpose>,
    /// The gRPC door.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<PortExpose>,
    /// The FUSE door; needs a privileged sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuse: Option<FuseExpose>,
}

impl Default for Expose {
    fn default() -> Self {
        Self { http: Some(PortExpose { port: 8888 }), s3: None, grpc: None, fuse: None }
    }
}

/// A door on a port.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PortExpose {
    /// The port, on the pod's loopback.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 65535").message("port must be from 1 to 65535"))]
    pub port: i32,
}

/// A FUSE mount in the workload's containers.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FuseExpose {
    /// Where it appears in the containers.
    #[x_kube(validation = Rule::new("self.matches('^/[^/]')").message("mountPath must be absolute and not '/'"))]
    #[schemars(length(max = 512))]
    pub mount_path: String,
}

/// Settings of the sidecar container.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct SidecarSettings {
    /// Requests and limits; small ones when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// How much the sidecar logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
}

/// How much the sidecar logs.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what went wrong.
    Error,
    /// And what may go wrong.
    Warn,
    /// And what happened.
    Info,
    /// And why.
    Debug,
}

const fn ttl_seconds() -> i64 {
    300
}

const fn negative_ttl_seconds() -> i64 {
    10
}

const fn listing_ttl_seconds() -> i64 {
    60
}

const fn stale_if_error_seconds() -> i64 {
    86_400
}

const fn max_entries() -> i64 {
    1_000_000
}

fn size_limit() -> String {
    "1Gi".to_owned()
}
