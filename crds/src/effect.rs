//! Which fields of a spec have no effect in a bare sidecar of this version.
//!
//! Such a field is accepted, because one file serves `kubectl apply` and a bare sidecar alike, and it
//! is named to the user by `check` and at start: nothing is ignored in silence. When a field gains
//! its effect, its line goes from here.

use crate::{MetadataStrategy, RemoteMountSpec};

/// A field that was set and does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The field, as a path from the document's root.
    pub field: &'static str,
    /// What happens instead.
    pub message: &'static str,
}

/// The fields of `spec` that were set to something and have no effect in a bare sidecar.
#[must_use]
pub fn without_effect(spec: &RemoteMountSpec) -> Vec<Notice> {
    let defaults = (crate::Metadata::default(), crate::Cache::default(), crate::Expose::default());
    let later = "has no effect yet in this version";
    let operator = "has no effect in a bare sidecar: the operator acts on it";
    let rows: [(bool, &'static str, &'static str); 13] = [
        (spec.remote.gcs.is_some(), "spec.remote.gcs", "is not served yet: every request to this mount answers 501"),
        (
            spec.remote.azure.is_some(),
            "spec.remote.azure",
            "is not served yet: every request to this mount answers 501",
        ),
        (
            spec.remote.s3.as_ref().is_some_and(|s3| s3.ca_bundle.is_some()),
            "spec.remote.s3.caBundle",
            "has no effect yet in this version: the system's certificates are trusted, and SSL_CERT_FILE where set",
        ),
        (
            spec.metadata.strategy == MetadataStrategy::Eager,
            "spec.metadata.strategy",
            "has no effect yet in this version: metadata is pulled lazily",
        ),
        (spec.metadata.max_entries != defaults.0.max_entries, "spec.metadata.maxEntries", later),
        (spec.cache != defaults.1, "spec.cache", later),
        (
            spec.expose.http != defaults.2.http,
            "spec.expose.http",
            "has no effect in a bare sidecar: --http says where it listens",
        ),
        (spec.expose.s3.is_some(), "spec.expose.s3", later),
        (
            spec.expose.grpc.is_some(),
            "spec.expose.grpc",
            "has no effect in a bare sidecar: --grpc says where it listens",
        ),
        (spec.expose.fuse.is_some(), "spec.expose.fuse", later),
        (spec.pod_selector.is_some(), "spec.podSelector", operator),
        (spec.sidecar != crate::SidecarSettings::default(), "spec.sidecar", operator),
        (spec.suspend, "spec.suspend", operator),
    ];
    rows.into_iter().filter(|row| row.0).map(|(_, field, message)| Notice { field, message }).collect()
}
