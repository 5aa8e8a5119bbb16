//! A pod in, the pod with its sidecar out.
//!
//! [`select`] says which mounts a pod gets, [`combine`] makes one sidecar's settings of them, [`sidecar`]
//! writes container and volumes, [`patch`] puts them into the pod. All of it is pure: no clock, no
//! cluster, no randomness. So a dry run is a run, and the webhook and the `inject` command are one.
//!
//! Pods are JSON values from end to end, never typed: a field that this build does not know survives.
//! Invariants: injecting an injected pod changes nothing; nothing that the pod had is removed; a pod that
//! cannot be served as asked is refused with what to change, never half injected.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use remotemount_crds::RemoteMount;
use remotemount_crds::names::{INJECT_LABEL, INJECT_VALUE};
use serde_json::Value;

pub mod combine;
pub mod command;
pub mod documents;
mod merge;
pub mod patch;
pub mod quantity;
pub mod select;
pub mod sidecar;

/// What holds for every sidecar of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Settings {
    /// The sidecar's image.
    #[arg(long = "sidecar-image", env = "REMOTEMOUNT_SIDECAR_IMAGE", value_name = "IMAGE",
          default_value = concat!("remotemount-sidecar:", env!("CARGO_PKG_VERSION")))]
    pub image: String,
    /// When nodes pull the sidecar's image.
    #[arg(long = "sidecar-image-pull-policy", env = "REMOTEMOUNT_SIDECAR_IMAGE_PULL_POLICY", value_name = "POLICY",
          default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub pull_policy: String,
    /// User and group that the sidecar runs as; 0 leaves both to the platform (OpenShift assigns them by namespace).
    #[arg(
        long = "sidecar-user",
        env = "REMOTEMOUNT_SIDECAR_USER",
        value_name = "UID",
        default_value_t = 65_532,
        value_parser = clap::value_parser!(u32)
    )]
    pub user: u32,
    /// Where sidecars serve /metrics to others than their pod: an IP address and port, such as 0.0.0.0:9091. Without it
    /// they do not. A pod that has the port in use gets the next one; it is the container port rm-metrics.
    #[arg(long = "sidecar-metrics", env = "REMOTEMOUNT_SIDECAR_METRICS", value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
}

/// Whether a sidecar could be made of `mount` at all, whatever the pod: what could not be is for its status to say, or it
/// would refuse each pod of its namespace.
///
/// # Errors
/// What cannot be used, and what to change.
pub fn usable(mount: &RemoteMount) -> Result<(), Denial> {
    select::matches(mount, &BTreeMap::new())?;
    combine::combine(&[Arc::new(mount.clone())], &Value::Null, None).map(drop)
}

/// A pod that has its sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct Injected {
    /// The pod, whole.
    pub pod: Value,
    /// Names of the mounts in it, sorted.
    pub mounts: Vec<String>,
    /// What the user should know though nothing is refused; one sentence each.
    pub warnings: Vec<String>,
}

/// Why a pod is refused. Each says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// Not a pod, or not one that can be read.
    #[error("this is not a pod that can be read: {0}")]
    Malformed(String),
    /// Nothing fits.
    #[error(
        "no RemoteMount of namespace {namespace} fits this pod: create one whose podSelector matches it, or remove its label {INJECT_LABEL}{hint}"
    )]
    NoMount {
        /// The pod's namespace.
        namespace: String,
        /// What there is and why it does not fit; begins with `; ` or is empty.
        hint: String,
    },
    /// The annotation names what is not there.
    #[error("no RemoteMount {name} in namespace {namespace}: {known}")]
    UnknownMount {
        /// The name.
        name: String,
        /// The pod's namespace.
        namespace: String,
        /// Which there are.
        known: String,
    },
    /// The annotation names a mount that this pod cannot have now.
    #[error("RemoteMount {name} cannot be had: {why}")]
    Unavailable {
        /// The mount.
        name: String,
        /// Why not, and what to change.
        why: String,
    },
    /// Mounts, or a mount and the pod, do not fit together.
    #[error("{0}")]
    Conflict(String),
    /// A field of a mount that the API server does not check.
    #[error("RemoteMount {name}: {problem}")]
    InvalidMount {
        /// The mount.
        name: String,
        /// The field and what is wrong with it.
        problem: String,
    },
    /// The pod itself rules a sidecar out.
    #[error("{0}")]
    Pod(String),
}

impl Denial {
    /// The reason as a metric's label.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::NoMount { .. } => "no_mount",
            Self::UnknownMount { .. } => "unknown_mount",
            Self::Unavailable { .. } => "unavailable_mount",
            Self::Conflict(_) => "conflict",
            Self::InvalidMount { .. } => "invalid_mount",
            Self::Pod(_) => "pod",
        }
    }

    /// Whether other mounts than those that were looked at could let the pod in.
    #[must_use]
    pub const fn is_of_mounts(&self) -> bool {
        !matches!(self, Self::Malformed(_) | Self::Pod(_))
    }

    /// The HTTP status that the user's client is told.
    #[must_use]
    pub const fn code(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            _ => 422,
        }
    }
}

/// Whether a pod asks for a sidecar.
#[must_use]
pub fn wanted(pod: &Value) -> bool {
    pod.pointer("/metadata/labels").and_then(|labels| labels.get(INJECT_LABEL)).and_then(Value::as_str) == Some(INJECT_VALUE)
        // The kubelet's own picture of a static pod: what runs is the node's file, which nothing here can change.
        && pod.pointer("/metadata/annotations").and_then(|all| all.get("kubernetes.io/config.mirror")).is_none()
}

/// Puts the sidecar into `pod`, which is or will be in `namespace` and may have any of `mounts`.
///
/// `None` for a pod that does not ask for one.
///
/// # Errors
/// Why the pod is refused.
pub fn inject(
    pod: &Value,
    namespace: &str,
    mounts: &[Arc<RemoteMount>],
    settings: &Settings,
) -> Result<Option<Injected>, Denial> {
    if !wanted(pod) {
        return Ok(None);
    }
    let selection = select::select(pod, namespace, mounts)?;
    let combined = combine::combine(&selection.mounts, pod, settings.metrics.map(|address| address.port()))?;
    let pod = patch::apply(pod, &combined, settings)?;
    let mut warnings = selection.warnings;
    warnings.extend(combined.warnings);
    Ok(Some(Injected { pod, mounts: combined.names, warnings }))
}
