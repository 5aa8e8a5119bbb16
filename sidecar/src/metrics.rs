//! Every metric of the sidecar, declared in one table; `docs/METRICS.md` says what each means.
//!
//! Names and labels are API. Handles are resolved once a mount, so counting on the warm path is one
//! atomic addition. Labels never hold paths or keys: their number would have no bound.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::remote::{ErrorKind, Operation};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    mount: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByMount {
    mount: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRequest {
    mount: String,
    operation: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOperation {
    mount: String,
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCode {
    code: u16,
}

/// All metric families.
#[derive(Clone)]
pub struct Metrics {
    lookups: Family<ByResult, Counter>,
    listings: Family<ByResult, Counter>,
    removed: Family<ByMount, Counter>,
    read_bytes: Family<ByMount, Counter>,
    requests: Family<ByRequest, Counter>,
    request_seconds: Family<ByOperation, Histogram>,
    http: Family<ByCode, Counter>,
    /// Answers that could not be persisted (L4).
    pub persist_failures: Counter,
    /// Store reads that failed and were answered by the remote.
    pub store_failures: Counter,
    /// Store files set aside as damaged.
    pub store_rebuilt: Counter,
    /// Mount tables that were refused because a manifest is bad.
    pub reload_failures: Counter,
    /// Number of the mount table in force.
    pub table: Gauge,
}

/// What one mount counts.
#[derive(Clone, Debug)]
pub struct MountMetrics {
    /// Lookups answered from the store.
    pub hit: Counter,
    /// Lookups answered by a remembered absence.
    pub negative_hit: Counter,
    /// Lookups that asked the remote, or waited for one that did.
    pub miss: Counter,
    /// Lookups and listings answered with old metadata because the remote could not be asked.
    pub stale: Counter,
    /// Lookups that ended in an error.
    pub error: Counter,
    /// Listings answered from the store.
    pub listing_hit: Counter,
    /// Listings that asked the remote.
    pub listing_walk: Counter,
    /// Listings that ended in an error.
    pub listing_error: Counter,
    /// Entries taken away because the remote no longer has them.
    pub removed: Counter,
    /// Bytes read from the remote for workloads.
    pub read_bytes: Counter,
}

/// Answers that are counted without a look at the family.
const COMMON_CODES: [u16; 4] = [200, 206, 304, 404];

/// What the HTTP door counts.
pub struct HttpMetrics {
    common: [Counter; 4],
    all: Family<ByCode, Counter>,
}

/// What one mount's remote counts.
#[derive(Clone)]
pub struct RemoteMetrics {
    mount: String,
    metrics: Metrics,
}

impl Metrics {
    /// Declares every metric in `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("remotemount");
        let metrics = Self {
            lookups: Family::default(),
            listings: Family::default(),
            removed: Family::default(),
            read_bytes: Family::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 15))),
            http: Family::default(),
            persist_failures: Counter::default(),
            store_failures: Counter::default(),
            store_rebuilt: Counter::default(),
            reload_failures: Counter::default(),
            table: Gauge::default(),
        };
        registry.register("lookups", "Lookups, by what answered them", metrics.lookups.clone());
        registry.register("listings", "Directory listings, by what answered them", metrics.listings.clone());
        registry.register("entries_removed", "Entries that vanished remotely", metrics.removed.clone());
        registry.register("read_bytes", "Bytes read from the remote for workloads", metrics.read_bytes.clone());
        registry.register("remote_requests", "Requests to the remote, each attempt", metrics.requests.clone());
        registry.register(
            "remote_request_seconds",
            "Time to the remote's answer, each attempt",
            metrics.request_seconds.clone(),
        );
        registry.register("http_requests", "Requests at the HTTP door, by status", metrics.http.clone());
        registry.register("persist_failures", "Answers that could not be persisted", metrics.persist_failures.clone());
        registry.register("store_failures", "Store reads that failed", metrics.store_failures.clone());
        registry.register("store_rebuilt", "Stores set aside as damaged", metrics.store_rebuilt.clone());
        registry.register("reload_failures", "Mount tables refused", metrics.reload_failures.clone());
        registry.register("mount_table", "Number of the mount table in force", metrics.table.clone());
        metrics
    }

    /// The counters of the mount `name`.
    #[must_use]
    pub fn mount(&self, name: &str) -> MountMetrics {
        let mount = || ByMount { mount: name.to_owned() };
        let lookup = |result| self.lookups.get_or_create_owned(&ByResult { mount: name.to_owned(), result });
        let listing = |result| self.listings.get_or_create_owned(&ByResult { mount: name.to_owned(), result });
        MountMetrics {
            hit: lookup("hit"),
            negative_hit: lookup("negative_hit"),
            miss: lookup("miss"),
            stale: lookup("stale"),
            error: lookup("error"),
            listing_hit: listing("hit"),
            listing_walk: listing("walk"),
            listing_error: listing("error"),
            removed: self.removed.get_or_create_owned(&mount()),
            read_bytes: self.read_bytes.get_or_create_owned(&mount()),
        }
    }

    /// The counters of the remote of the mount `name`.
    #[must_use]
    pub fn remote(&self, name: &str) -> RemoteMetrics {
        RemoteMetrics { mount: name.to_owned(), metrics: self.clone() }
    }

    /// The counters of the HTTP door.
    #[must_use]
    pub fn http(&self) -> HttpMetrics {
        let common = COMMON_CODES.map(|code| self.http.get_or_create_owned(&ByCode { code }));
        HttpMetrics { common, all: self.http.clone() }
    }
}

impl HttpMetrics {
    /// Counts one answer.
    pub fn count(&self, code: u16) {
        match COMMON_CODES.iter().position(|common| *common == code) {
            Some(at) => self.common[at].inc(),
            None => self.all.get_or_create(&ByCode { code }).inc(),
        };
    }
}

impl RemoteMetrics {
    /// Counts one request that took `elapsed` and failed with `error`, or did not.
    pub fn answered(&self, operation: Operation, error: Option<ErrorKind>, elapsed: Duration) {
        self.count(operation, error.map_or("ok", ErrorKind::as_str), elapsed);
    }

    /// Counts one request that nobody waited for to its end.
    pub fn cancelled(&self, operation: Operation, elapsed: Duration) {
        self.count(operation, "cancelled", elapsed);
    }

    fn count(&self, operation: Operation, result: &'static str, elapsed: Duration) {
        let (mount, operation) = (self.mount.clone(), operation.as_str());
        self.metrics.requests.get_or_create(&ByRequest { mount: mount.clone(), operation, result }).inc();
        self.metrics.request_seconds.get_or_create(&ByOperation { mount, operation }).observe(elapsed.as_secs_f64());
    }
}
