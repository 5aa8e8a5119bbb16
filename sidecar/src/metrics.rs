//! Every metric of the sidecar, declared in one table; `docs/METRICS.md` is written from it (`make docs`).
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

use crate::entry::Millis;
use crate::remote::{ErrorKind, Operation};

mod link;

pub use link::LinkMetrics;

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
struct ByReason {
    mount: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCode {
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCall {
    method: &'static str,
    code: &'static str,
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
    deletes: Family<ByResult, Counter>,
    delete_failures: Family<ByReason, Counter>,
    objects_deleted: Family<ByMount, Counter>,
    deletes_settled: Family<ByMount, Counter>,
    open_intents: Family<ByMount, Gauge>,
    oldest_intent: Family<ByMount, Gauge>,
    grpc: Family<ByCall, Counter>,
    link: LinkMetrics,
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
    /// Deletes.
    pub deletes: DeleteMetrics,
}

/// How a delete ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteResult {
    /// All that was ordered is gone, or was not there.
    Ok,
    /// The mount's policy refused it.
    Denied,
    /// The directory is not empty, or the mount's own.
    Refused,
    /// The remote has another version than was shown.
    Conflict,
    /// Something failed.
    Failed,
}

/// What one mount counts of its deletes.
#[derive(Clone, Debug)]
pub struct DeleteMetrics {
    /// Objects deleted on the remote.
    pub objects: Counter,
    /// Unfinished deletes that were settled.
    pub settled: Counter,
    results: [Counter; 5],
    mount: String,
    failures: Family<ByReason, Counter>,
}

/// Answers that are counted without a look at the family.
const COMMON_CODES: [u16; 4] = [200, 206, 304, 404];

/// What the HTTP door counts.
pub struct HttpMetrics {
    common: [Counter; 4],
    all: Family<ByCode, Counter>,
}

/// What the gRPC door counts.
#[derive(Clone)]
pub struct GrpcMetrics(Family<ByCall, Counter>);

/// What one mount's remote counts.
#[derive(Clone)]
pub struct RemoteMetrics {
    mount: String,
    metrics: Metrics,
}

impl Metrics {
    /// What may answer a lookup.
    pub const LOOKUPS: [&'static str; 5] = ["hit", "negative_hit", "miss", "stale", "error"];
    /// What may answer a listing.
    pub const LISTINGS: [&'static str; 3] = ["hit", "walk", "error"];

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
            deletes: Family::default(),
            delete_failures: Family::default(),
            objects_deleted: Family::default(),
            deletes_settled: Family::default(),
            open_intents: Family::default(),
            oldest_intent: Family::default(),
            grpc: Family::default(),
            link: LinkMetrics::register(registry),
            persist_failures: Counter::default(),
            store_failures: Counter::default(),
            store_rebuilt: Counter::default(),
            reload_failures: Counter::default(),
            table: Gauge::default(),
        };
        let help = "Lookups, by what answered them; one that waits for another's question is a miss, too";
        registry.register("lookups", help, metrics.lookups.clone());
        let help = "Directory listings: from the store, by asking the remote, or ended in an error";
        registry.register("listings", help, metrics.listings.clone());
        let help = "Entries taken away because the remote no longer has them";
        registry.register("entries_removed", help, metrics.removed.clone());
        registry.register("read_bytes", "Bytes read from the remote for workloads", metrics.read_bytes.clone());
        let help = "Requests to the remote, each attempt; cancelled is one that was too slow, or whose reader left";
        registry.register("remote_requests", help, metrics.requests.clone());
        let help = "Time to the remote's answer, each attempt; for a read, to its first byte";
        registry.register("remote_request_seconds", help, metrics.request_seconds.clone());
        registry.register("http_requests", "Requests at the HTTP door, by status", metrics.http.clone());
        metrics.register_deletes(registry);
        let help = "Calls at the gRPC door, by how they ended; one that the client gave up is Cancelled";
        registry.register("grpc_requests", help, metrics.grpc.clone());
        let help = "Answers that could not be persisted; they are asked for again";
        registry.register("persist_failures", help, metrics.persist_failures.clone());
        let help = "Store reads that failed and were answered by the remote";
        registry.register("store_failures", help, metrics.store_failures.clone());
        registry.register("store_rebuilt", "Stores set aside as damaged", metrics.store_rebuilt.clone());
        let help = "Mount tables refused because a manifest is bad";
        registry.register("reload_failures", help, metrics.reload_failures.clone());
        let help = "Number of the mount table in force; rises with every swap";
        registry.register("mount_table", help, metrics.table.clone());
        metrics
    }

    fn register_deletes(&self, registry: &mut Registry) {
        let help = "Deletes that were ordered, by how they ended: denied by policy, refused because the directory is not \
                    empty or the mount's own, conflict with a change in the bucket; a name that was not there is ok";
        registry.register("deletes", help, self.deletes.clone());
        let help = "Deletes that failed, by the reason that the door gave";
        registry.register("delete_failures", help, self.delete_failures.clone());
        registry.register("objects_deleted", "Objects deleted on the remote", self.objects_deleted.clone());
        let help = "Unfinished deletes that were settled by asking the remote";
        registry.register("deletes_settled", help, self.deletes_settled.clone());
        registry.register("open_intents", "Deletes that have begun and are not finished", self.open_intents.clone());
        let help = "When the oldest delete that is not finished began, in seconds since 1970; 0 without one";
        registry.register("oldest_intent_timestamp_seconds", help, self.oldest_intent.clone());
    }

    /// Shows what is open of a mount's deletes, and since when.
    pub fn show_intents(&self, mount: &str, open: u64, oldest: Option<Millis>) {
        let label = ByMount { mount: mount.to_owned() };
        self.open_intents.get_or_create(&label).set(i64::try_from(open).unwrap_or(i64::MAX));
        let oldest = oldest.map_or(0, |oldest| i64::try_from(oldest.0 / 1000).unwrap_or(i64::MAX));
        self.oldest_intent.get_or_create(&label).set(oldest);
    }

    /// The counters of the mount `name`.
    #[must_use]
    pub fn mount(&self, name: &str) -> MountMetrics {
        let mount = || ByMount { mount: name.to_owned() };
        let lookup = |result| self.lookups.get_or_create_owned(&ByResult { mount: name.to_owned(), result });
        let listing = |result| self.listings.get_or_create_owned(&ByResult { mount: name.to_owned(), result });
        let [hit, negative_hit, miss, stale, error] = Self::LOOKUPS.map(lookup);
        let [listing_hit, listing_walk, listing_error] = Self::LISTINGS.map(listing);
        MountMetrics {
            hit,
            negative_hit,
            miss,
            stale,
            error,
            listing_hit,
            listing_walk,
            listing_error,
            removed: self.removed.get_or_create_owned(&mount()),
            read_bytes: self.read_bytes.get_or_create_owned(&mount()),
            deletes: DeleteMetrics {
                objects: self.objects_deleted.get_or_create_owned(&mount()),
                settled: self.deletes_settled.get_or_create_owned(&mount()),
                results: DeleteResult::ALL.map(|result| {
                    self.deletes.get_or_create_owned(&ByResult { mount: name.to_owned(), result: result.as_str() })
                }),
                mount: name.to_owned(),
                failures: self.delete_failures.clone(),
            },
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

    /// The counters of the control link.
    #[must_use]
    pub fn link(&self) -> LinkMetrics {
        self.link.clone()
    }

    /// The counters of the gRPC door. One is there from the start, because a family without any does not show.
    #[must_use]
    pub fn grpc(&self) -> GrpcMetrics {
        drop(self.grpc.get_or_create(&ByCall { method: "LookupDirectoryEntry", code: "OK" }));
        GrpcMetrics(self.grpc.clone())
    }
}

impl GrpcMetrics {
    /// Counts one call.
    pub fn count(&self, method: &'static str, code: &'static str) {
        self.0.get_or_create(&ByCall { method, code }).inc();
    }
}

impl DeleteResult {
    /// Every result.
    pub const ALL: [Self; 5] = [Self::Ok, Self::Denied, Self::Refused, Self::Conflict, Self::Failed];

    /// The name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
        }
    }
}

impl DeleteMetrics {
    /// Counts one delete that ended, and why if it failed.
    pub fn ended(&self, result: DeleteResult, reason: &'static str) {
        self.results[result as usize].inc();
        if result == DeleteResult::Failed {
            self.failures.get_or_create(&ByReason { mount: self.mount.clone(), reason }).inc();
        }
    }

    /// How many ended so.
    #[must_use]
    pub fn count(&self, result: DeleteResult) -> u64 {
        self.results[result as usize].get()
    }

    /// How many failed for this reason.
    #[must_use]
    pub fn failed_for(&self, reason: &'static str) -> u64 {
        self.failures.get(&ByReason { mount: self.mount.clone(), reason }).map_or(0, |counter| counter.get())
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
    /// How a request may end that does not fail; else the kind of error says it.
    pub const ENDS: [&'static str; 2] = ["ok", "cancelled"];

    /// Counts one request that took `elapsed` and failed with `error`, or did not.
    pub fn answered(&self, operation: Operation, error: Option<ErrorKind>, elapsed: Duration) {
        let [ok, _] = Self::ENDS;
        self.count(operation, error.map_or(ok, ErrorKind::as_str), elapsed);
    }

    /// Counts one request that nobody waited for to its end.
    pub fn cancelled(&self, operation: Operation, elapsed: Duration) {
        let [_, cancelled] = Self::ENDS;
        self.count(operation, cancelled, elapsed);
    }

    fn count(&self, operation: Operation, result: &'static str, elapsed: Duration) {
        let (mount, operation) = (self.mount.clone(), operation.as_str());
        self.metrics.requests.get_or_create(&ByRequest { mount: mount.clone(), operation, result }).inc();
        self.metrics.request_seconds.get_or_create(&ByOperation { mount, operation }).observe(elapsed.as_secs_f64());
    }
}
