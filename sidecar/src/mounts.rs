//! The mount table: which mount a path belongs to (M1), swapped whole (M3).
//!
//! Owns the table in force. A reader takes one `Arc` of it and keeps that for the whole operation, so
//! a swap never changes an operation in flight. Longest prefix wins, by component: the path and its
//! ancestors are looked up one by one. Directories above mounts exist because mounts do; they ask no
//! remote. Building a table never touches a remote either; it only asks the store for generations.

mod delete_health;
pub mod newest;
mod probe;
pub mod source;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use remotemount_crds::{DeletePolicy, RemoteMount, RemoteMountSpec};

use crate::entry::Millis;
use crate::metrics::{Metrics, MountMetrics};
pub use crate::mounts::delete_health::DeleteFailure;
use crate::mounts::delete_health::DeleteHealth;
use crate::mounts::source::{Origin, Sourced};
use crate::path::{FilerPath, Prefix, RelPath};
use crate::remote::Remote;
use crate::remote::connect::{self, Connected, Connector};
use crate::remote::observe::HealthRecord;
use crate::store::{Identity, MountId, Store, StoreError};

/// How long what is known stays good, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Entries (L7).
    pub entry: u64,
    /// Absences (L6).
    pub negative: u64,
    /// Complete listings (D1).
    pub listing: u64,
    /// Entries and listings past their time, while the remote cannot be asked (L7).
    pub stale_if_error: u64,
}

/// One mount in force.
pub struct Mount {
    /// Its name in logs, metrics and `/status`.
    pub name: String,
    /// The generation its entries are kept under.
    pub id: MountId,
    /// Where it is.
    pub path: FilerPath,
    /// The part of the bucket it covers.
    pub prefix: Prefix,
    /// The remote as a URI without secrets.
    pub uri: String,
    /// The bucket.
    pub remote: Arc<dyn Remote>,
    /// What is known of the remote's health.
    pub health: Arc<HealthRecord>,
    /// How long what is known stays good.
    pub freshness: Freshness,
    /// How long one question may take, in seconds.
    pub timeout_seconds: u64,
    /// What a delete does (X1).
    pub delete_policy: DeletePolicy,
    /// What it counts.
    pub metrics: MountMetrics,
    /// `metadata.generation` of its manifest, where there is one.
    pub manifest_generation: Option<i64>,
    /// `metadata.uid` of its manifest, where there is one.
    pub uid: Option<String>,
    /// Its `RemoteMount` is being deleted: nothing may be deleted through it any more (X9).
    pub withdrawn: bool,
    /// Its manifest came by the control link, and no file has caught up yet.
    by_link: AtomicBool,
    spec: RemoteMountSpec,
    /// Set once the remote lists keys out of order: then a listing is served only when complete.
    unordered: AtomicBool,
    /// Set once a listing of several pages came in order: then one may begin in the middle.
    order_seen: AtomicBool,
    failed_at: AtomicU64,
    delete_health: Mutex<DeleteHealth>,
}

/// All mounts in force.
#[derive(Default)]
pub struct MountTable {
    mounts: BTreeMap<String, Arc<Mount>>,
    /// Every mount's path and every directory above one; looked at by each lookup.
    ways: BTreeSet<String>,
    /// Rises with every swap.
    pub number: u64,
}

/// The table in force, for readers and for the one that swaps it.
#[derive(Default)]
pub struct Mounts {
    table: ArcSwap<MountTable>,
}

impl Mounts {
    /// A table of one mount whose remote is made elsewhere: a simulation has no server to connect to.
    ///
    /// # Errors
    /// When the store cannot keep the generation.
    pub fn with(
        manifest: &RemoteMount,
        connected: &Connected,
        store: &dyn Store,
        metrics: &Metrics,
    ) -> Result<Self, StoreError> {
        let path = FilerPath::parse(&manifest.spec.path).unwrap_or_else(|_| FilerPath::root());
        let uri = manifest.spec.remote.uri();
        let ids = store.adopt(&[Identity { path: path.to_string(), remote: uri.clone() }])?;
        let name = manifest.metadata.name.clone().unwrap_or_default();
        let sourced = Sourced::from(manifest.clone());
        let mount = |id| build(&sourced, name.clone(), path.clone(), uri.clone(), id, connected.clone(), metrics);
        let mounts = Self::default();
        mounts.put(ids.into_iter().map(|id| (path.to_string(), Arc::new(mount(id)))).collect(), metrics);
        Ok(mounts)
    }

    /// The table as it is now; kept by the caller for the whole operation (M3).
    #[must_use]
    pub fn load(&self) -> Arc<MountTable> {
        self.table.load_full()
    }

    /// Builds the table of `manifests` and swaps it in. A mount whose spec is the same stays as it is; one whose
    /// remote and credentials are the same keeps its connections and what is known of its health.
    ///
    /// # Errors
    /// When the store cannot keep the generations; the old table stays in force.
    pub async fn swap(
        &self,
        manifests: &[Sourced],
        store: &Arc<dyn Store>,
        connector: &Connector,
        metrics: &Metrics,
    ) -> Result<Arc<MountTable>, StoreError> {
        let old = self.load();
        let paths: Vec<FilerPath> =
            manifests.iter().filter_map(|m| FilerPath::parse(&m.mount.spec.path).ok()).collect();
        let identities: Vec<Identity> = manifests
            .iter()
            .zip(&paths)
            .map(|(manifest, path)| Identity { path: path.to_string(), remote: manifest.mount.spec.remote.uri() })
            .collect();
        // It waits for the store's lock and for the disk: no thread that serves may do so.
        let ids = {
            let (store, identities) = (Arc::clone(store), identities.clone());
            tokio::task::spawn_blocking(move || store.adopt(&identities)).await.unwrap_or(Err(StoreError::Closed))?
        };
        let mut mounts = BTreeMap::new();
        for ((sourced, path), (identity, id)) in manifests.iter().zip(paths).zip(identities.into_iter().zip(ids)) {
            let manifest = &sourced.mount;
            let name = manifest.metadata.name.clone().unwrap_or_default();
            let before = old.mounts.get(path.as_str()).filter(|mount| mount.id == id && mount.name == name);
            let mount = match before {
                Some(mount) if mount.is(sourced) => {
                    mount.by_link.store(sourced.origin == Origin::Link, Ordering::Relaxed);
                    Arc::clone(mount)
                }
                _ => {
                    let connected = match before.filter(|mount| mount.reaches_as(&manifest.spec)) {
                        Some(mount) => {
                            Connected { remote: Arc::clone(&mount.remote), health: Arc::clone(&mount.health) }
                        }
                        None => connector.connect(&name, &manifest.spec).await,
                    };
                    Arc::new(build(sourced, name, path.clone(), identity.remote, id, connected, metrics))
                }
            };
            mounts.insert(path.to_string(), mount);
        }
        Ok(self.put(mounts, metrics))
    }

    /// Puts a table of `mounts` in force.
    fn put(&self, mounts: BTreeMap<String, Arc<Mount>>, metrics: &Metrics) -> Arc<MountTable> {
        let ways = mounts.values().flat_map(|mount| mount.path.self_and_ancestors().map(str::to_owned)).collect();
        let table = Arc::new(MountTable { mounts, ways, number: self.load().number + 1 });
        metrics.table.set(i64::try_from(table.number).unwrap_or(i64::MAX));
        self.table.store(Arc::clone(&table));
        table
    }
}

fn build(
    sourced: &Sourced,
    name: String,
    path: FilerPath,
    uri: String,
    id: MountId,
    connected: Connected,
    metrics: &Metrics,
) -> Mount {
    let manifest = &sourced.mount;
    let spec = manifest.spec.clone();
    let seconds = |value: i64| u64::try_from(value).unwrap_or(0);
    Mount {
        id,
        path,
        prefix: connect::prefix(&spec),
        uri,
        remote: connected.remote,
        health: connected.health,
        freshness: Freshness {
            entry: seconds(spec.metadata.ttl_seconds),
            negative: seconds(spec.metadata.negative_ttl_seconds),
            listing: seconds(spec.metadata.listing_ttl_seconds),
            stale_if_error: seconds(spec.metadata.stale_if_error_seconds),
        },
        timeout_seconds: seconds(spec.remote.timeout_seconds),
        delete_policy: spec.delete_policy,
        metrics: metrics.mount(&name),
        manifest_generation: manifest.metadata.generation,
        uid: manifest.metadata.uid.clone(),
        withdrawn: sourced.withdrawn,
        by_link: AtomicBool::new(sourced.origin == Origin::Link),
        name,
        spec,
        unordered: AtomicBool::new(false),
        order_seen: AtomicBool::new(false),
        failed_at: AtomicU64::new(0),
        delete_health: Mutex::default(),
    }
}

impl MountTable {
    /// The mount that `path` belongs to, and the path below it.
    #[must_use]
    pub fn resolve(&self, path: &FilerPath) -> Option<(&Arc<Mount>, RelPath)> {
        path.self_and_ancestors().find_map(|above| Some((self.mounts.get(above)?, path.below(above)?)))
    }

    /// Names directly below `path` that lead to mounts: each is a directory, whatever a remote has there.
    #[must_use]
    pub fn children(&self, path: &FilerPath) -> BTreeSet<String> {
        let below = |mount: &Mount| {
            let rel = mount.path.below(path.as_str())?;
            rel.as_str().split('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
        };
        self.mounts.values().filter_map(|mount| below(mount)).collect()
    }

    /// Whether `path` is a mount's or above one.
    #[must_use]
    pub fn leads_to_mount(&self, path: &FilerPath) -> bool {
        path.is_root() || self.ways.contains(path.as_str())
    }

    /// Whether it is just the table of `manifests`.
    fn says(&self, manifests: &[Sourced]) -> bool {
        let stands = |sourced: &Sourced| {
            let path = FilerPath::parse(&sourced.mount.spec.path).ok();
            path.and_then(|path| self.mounts.get(path.as_str())).is_some_and(|mount| {
                let named = sourced.mount.metadata.name.as_deref() == Some(&*mount.name);
                named && mount.is(sourced) && mount.origin() == sourced.origin
            })
        };
        self.mounts.len() == manifests.len() && manifests.iter().all(stands)
    }

    /// Every mount, by path.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Mount>> {
        self.mounts.values()
    }
}

/// After a failure, how long old entries are served without asking first, in milliseconds.
const PAUSE_AFTER_FAILURE: u64 = 5_000;

impl Mount {
    /// Whether it is as this manifest says, wherever that came from.
    fn is(&self, sourced: &Sourced) -> bool {
        let (spec, metadata) = (&sourced.mount.spec, &sourced.mount.metadata);
        self.spec == *spec
            && self.withdrawn == sourced.withdrawn
            && self.manifest_generation == metadata.generation
            && self.uid == metadata.uid
    }

    /// Whether its remote is reached just as this spec says.
    fn reaches_as(&self, spec: &RemoteMountSpec) -> bool {
        self.spec.remote == spec.remote && self.spec.credentials == spec.credentials
    }

    /// Where its manifest came from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        if self.by_link.load(Ordering::Relaxed) { Origin::Link } else { Origin::File }
    }

    /// Whether the remote could not be asked a moment ago: an old entry is then served at once (L7).
    #[must_use]
    pub fn failed_lately(&self, now: Millis) -> bool {
        now.0.saturating_sub(self.failed_at.load(Ordering::Relaxed)) < PAUSE_AFTER_FAILURE
    }

    /// Remembers that the remote could not be asked at `now`, or could again.
    pub fn set_failed(&self, now: Option<Millis>) {
        self.failed_at.store(now.map_or(0, |now| now.0), Ordering::Relaxed);
    }

    /// Remembers how a delete failed.
    pub fn delete_failed(&self, failure: DeleteFailure) {
        self.delete_health.lock().unwrap_or_else(PoisonError::into_inner).failed(failure);
    }

    /// Remembers that a delete went well at `now`.
    pub fn delete_succeeded(&self, now: Millis) {
        self.delete_health.lock().unwrap_or_else(PoisonError::into_inner).succeeded(now);
    }

    /// How the last delete failed, unless deletes are well again.
    #[must_use]
    pub fn delete_failure(&self) -> Option<DeleteFailure> {
        self.delete_health.lock().unwrap_or_else(PoisonError::into_inner).failure().cloned()
    }

    /// Whether the remote was seen listing keys out of order.
    #[must_use]
    pub fn unordered(&self) -> bool {
        self.unordered.load(Ordering::Relaxed)
    }

    /// Whether the remote was seen listing keys in order, over several pages, and never out of it.
    #[must_use]
    pub fn ordered(&self) -> bool {
        self.order_seen.load(Ordering::Relaxed) && !self.unordered()
    }

    /// Remembers that a listing of several pages came in order.
    pub fn set_order_seen(&self) {
        self.order_seen.store(true, Ordering::Relaxed);
    }

    /// Remembers that the remote lists keys out of order.
    pub fn set_unordered(&self) {
        self.unordered.store(true, Ordering::Relaxed);
    }
}
