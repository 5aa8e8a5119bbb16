//! Cluster: what the API server says there is, kept up to date, and which mounts that concerns.
//!
//! Three reflectors a scope: RemoteMounts, the metadata of pods that asked for a sidecar and have not
//! ended, and the ConfigMaps that this operator made. Every replica runs them: the webhook answers from
//! them, and a replica that comes to lead knows everything already. What changes is told as *triggers*,
//! the mounts to look at again. A watch may be behind for a moment; who is to be told that something is
//! not there has it asked for anew. Nothing is written here.

pub mod lenient;
mod reflect;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt as _};
use remotemount_crds::{RemoteMount, names};
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::cluster::reflect::{Stores, Told, reflect, watches};
use crate::control::registry::Registry;
use crate::lasting::Lasting;
use crate::metrics::Metrics;
use crate::mount::validate::same_path;

/// The metadata of a pod.
pub type PodMeta = PartialObjectMeta<Pod>;

/// Triggers that may wait for whoever reconciles; with more, all mounts are looked at.
const WAITING: usize = 4096;

/// How long an answer of the API server is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Which namespaces are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// These.
    Namespaces(BTreeSet<String>),
}

/// What there is, as of the last word of the API server.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    scope: Scope,
    mounts: Stores<RemoteMount>,
    pods: Stores<PodMeta>,
    config_maps: Stores<ConfigMap>,
    triggers: broadcast::Sender<ObjectRef<RemoteMount>>,
}

impl Scope {
    fn has(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Namespaces(names) => names.contains(namespace),
        }
    }

    /// An API a watched namespace, or one for all.
    pub fn apis<K>(&self, client: &Client) -> Vec<Api<K>>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match self {
            Self::All => vec![Api::all(client.clone())],
            Self::Namespaces(names) => names.iter().map(|name| Api::namespaced(client.clone(), name)).collect(),
        }
    }
}

impl Cluster {
    /// Watches `scope` by `tasks`; sidecars of pods that are gone are taken out of `registry`.
    pub fn watch(client: &Client, scope: Scope, registry: Arc<Registry>, metrics: &Metrics, tasks: &Lasting) -> Self {
        let triggers = broadcast::channel(WAITING).0;
        let made = watcher::Config::default().labels(&format!("{}={}", names::MANAGED_BY_LABEL, names::MANAGED_BY));
        let asked = watcher::Config::default()
            .labels(&format!("{}={}", names::INJECT_LABEL, names::INJECT_VALUE))
            .fields("status.phase!=Succeeded,status.phase!=Failed");
        let failed = &metrics.watch_failures;
        let all = lenient::apis(&scope, client).into_iter().map(|api| lenient::mounts(api).boxed()).collect();
        let (mounts, mount_events) = reflect(all, failed);
        let (pods, pod_events) = reflect(watches(scope.apis(client), &asked), failed);
        let (config_maps, map_events) = reflect(watches(scope.apis(client), &made), failed);
        let cluster = Self { client: client.clone(), scope, mounts, pods, config_maps, triggers };
        tasks.spawn(cluster.clone().follow_mounts(mount_events));
        tasks.spawn(cluster.clone().follow_pods(pod_events, registry));
        tasks.spawn(cluster.clone().follow_config_maps(map_events));
        cluster
    }

    /// Which namespaces are watched.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Waits until everything has been heard once.
    pub async fn ready(&self) {
        self.mounts.ready().await;
        self.pods.ready().await;
        self.config_maps.ready().await;
    }

    /// The mounts of `namespace`, in no order.
    #[must_use]
    pub fn mounts(&self, namespace: &str) -> Vec<Arc<RemoteMount>> {
        let all = self.mounts.all();
        all.filter(|mount| mount.metadata.namespace.as_deref() == Some(namespace)).collect()
    }

    /// The same as the API server has them at this moment; `None` where it does not say, and for a namespace that is not
    /// watched.
    pub async fn ask_for_mounts(&self, namespace: &str) -> Option<Vec<Arc<RemoteMount>>> {
        if !self.scope.has(namespace) {
            return None;
        }
        match tokio::time::timeout(PATIENCE, lenient::list(&self.client, namespace)).await {
            Ok(Ok(mounts)) => Some(mounts.into_iter().map(Arc::new).collect()),
            Ok(Err(error)) => {
                tracing::warn!(namespace, %error, "the API server does not list RemoteMounts");
                None
            }
            Err(_) => {
                tracing::warn!(namespace, "the API server does not list RemoteMounts within {PATIENCE:?}");
                None
            }
        }
    }

    /// Every mount, in no order.
    #[must_use]
    pub fn all_mounts(&self) -> Vec<Arc<RemoteMount>> {
        self.mounts.all().collect()
    }

    /// The pods whose sidecar has the mount; one that is on its way out is no longer counted on.
    #[must_use]
    pub fn pods(&self, namespace: &str, mount: &str) -> Vec<Arc<PodMeta>> {
        let all = self.pods.all();
        let all = all.filter(|pod| pod.metadata.deletion_timestamp.is_none());
        all.filter(|pod| {
            pod.metadata.namespace.as_deref() == Some(namespace) && injected(&**pod).any(|name| name == mount)
        })
        .collect()
    }

    /// How many pods have a sidecar that is to be connected: injected, not ended, not on their way out.
    #[must_use]
    pub fn injected_pods(&self) -> usize {
        let all = self.pods.all();
        all.filter(|pod| pod.metadata.deletion_timestamp.is_none() && injected(&**pod).next().is_some()).count()
    }

    /// A ConfigMap that this operator made.
    #[must_use]
    pub fn config_map(&self, namespace: &str, name: &str) -> Option<Arc<ConfigMap>> {
        let key = ObjectRef::new(name).within(namespace);
        self.config_maps.get(&key)
    }

    /// Every ConfigMap that this operator made, in no order.
    #[must_use]
    pub fn config_maps(&self) -> Vec<Arc<ConfigMap>> {
        self.config_maps.all().collect()
    }

    /// The uid of every pod that asked for a sidecar and has not ended.
    #[must_use]
    pub fn pod_uids(&self) -> BTreeSet<String> {
        let all = self.pods.all();
        all.filter_map(|pod| pod.metadata.uid.clone()).collect()
    }

    /// The mounts to look at again, from now on.
    pub fn triggers(&self) -> BoxStream<'static, ObjectRef<RemoteMount>> {
        let (cluster, receiver) = (self.clone(), self.triggers.subscribe());
        let next = |(cluster, mut receiver): (Self, broadcast::Receiver<ObjectRef<RemoteMount>>)| async move {
            let told = match receiver.recv().await {
                Ok(key) => vec![key],
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    cluster.all_mounts().iter().map(|mount| ObjectRef::from_obj(&**mount)).collect()
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            };
            Some((futures_util::stream::iter(told), (cluster, receiver)))
        };
        futures_util::stream::unfold((cluster, receiver), next).flatten().boxed()
    }

    /// Has every mount looked at again.
    pub fn trigger_all(&self) {
        for mount in self.all_mounts() {
            let _ = self.triggers.send(ObjectRef::from_obj(&*mount));
        }
    }

    fn trigger(&self, namespace: &str, mount: &str) {
        // Nobody listens while this replica does not lead.
        let _ = self.triggers.send(ObjectRef::new(mount).within(namespace));
    }

    /// A mount that comes or goes concerns those that claim its path.
    async fn follow_mounts(self, mut events: BoxStream<'static, Told<RemoteMount>>) {
        while let Some(told) = events.next().await {
            let (Told::There(mount) | Told::Gone(mount)) = told else {
                self.trigger_all();
                continue;
            };
            let namespace = mount.namespace().unwrap_or_default();
            for other in self.mounts(&namespace).iter().filter(|other| same_path(&mount, other)) {
                self.trigger(&namespace, &other.name_any());
            }
        }
    }

    async fn follow_pods(self, mut events: BoxStream<'static, Told<PodMeta>>, registry: Arc<Registry>) {
        while let Some(told) = events.next().await {
            let pod = match told {
                Told::Listed => {
                    let there = self.pod_uids();
                    registry.retain(|uid| there.contains(uid), Instant::now());
                    self.trigger_all();
                    continue;
                }
                Told::There(pod) => pod,
                Told::Gone(pod) => {
                    registry.gone(pod.metadata.uid.as_deref().unwrap_or_default());
                    pod
                }
            };
            for mount in injected(&pod) {
                self.trigger(&pod.namespace().unwrap_or_default(), mount);
            }
        }
    }

    async fn follow_config_maps(self, mut events: BoxStream<'static, Told<ConfigMap>>) {
        while let Some(told) = events.next().await {
            let (Told::There(map) | Told::Gone(map)) = told else {
                self.trigger_all();
                continue;
            };
            let namespace = map.namespace().unwrap_or_default();
            let owners = map.owner_references().iter().filter(|owner| owner.kind == remotemount_crds::KIND);
            for owner in owners {
                self.trigger(&namespace, &owner.name);
            }
            if map.name_any() == names::CONTROL_CONFIG_MAP {
                for mount in self.mounts(&namespace) {
                    self.trigger(&namespace, &mount.name_any());
                }
            }
        }
    }

    /// What sidecars have news of is looked at again, too. For the replica that takes sidecars in.
    pub async fn follow_sidecars(&self, registry: &Registry) {
        loop {
            for key in registry.changes().take().await {
                self.trigger(&key.namespace, &key.name);
            }
        }
    }
}

/// The mounts that a pod was injected with.
pub fn injected<K: Resource>(pod: &K) -> impl Iterator<Item = &str> {
    let list = pod.annotations().get(names::INJECTED_ANNOTATION).map_or("", String::as_str);
    list.split(',').map(str::trim).filter(|name| !name.is_empty())
}
