//! Dereference: gathers what a mount's reconcile needs to know, as of now.
//!
//! Everything comes from watches that are kept anyway; nothing is asked for here, and nothing decided.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use remotemount_crds::{RemoteMount, names};

use crate::cluster::Cluster;
use crate::control::registry::Registry;
use crate::control::report::{InjectedPod, MountReport, Wanted};

/// What stands around a mount.
pub struct Surroundings {
    /// The mounts of its namespace, itself among them.
    pub siblings: Vec<Arc<RemoteMount>>,
    /// Its ConfigMap.
    pub config_map: Option<Arc<ConfigMap>>,
    /// The ConfigMap of the control link in its namespace.
    pub control: Option<Arc<ConfigMap>>,
}

/// Looks around `mount`.
#[must_use]
pub fn look(cluster: &Cluster, mount: &RemoteMount) -> Surroundings {
    let namespace = mount.namespace().unwrap_or_default();
    Surroundings {
        siblings: cluster.mounts(&namespace),
        config_map: cluster.config_map(&namespace, &names::config_map(&mount.name_any())),
        control: cluster.config_map(&namespace, names::CONTROL_CONFIG_MAP),
    }
}

/// What the sidecars of `mount` say.
#[must_use]
pub fn report(cluster: &Cluster, registry: &Registry, mount: &RemoteMount) -> MountReport {
    let (namespace, name) = (mount.namespace().unwrap_or_default(), mount.name_any());
    let uid = mount.uid().unwrap_or_default();
    let generation = mount.metadata.generation.unwrap_or_default();
    let wanted = Wanted { namespace: &namespace, name: &name, uid: &uid, generation };
    let pods = cluster.pods(&namespace, &name);
    let pods = pods.iter().map(|pod| InjectedPod {
        name: pod.metadata.name.as_deref().unwrap_or_default(),
        uid: pod.metadata.uid.as_deref().unwrap_or_default(),
    });
    registry.summary(&wanted, pods)
}
