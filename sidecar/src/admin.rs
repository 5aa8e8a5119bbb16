//! The admin port: `/metrics`, `/healthz`, `/readyz`, `/status`; and a port for `/metrics` alone, where it
//! is asked for.
//!
//! `/healthz` fails only when a restart can help (the store is damaged); a remote that is down or a disk
//! that is full is no reason to restart a sidecar that still serves. `/readyz` holds from
//! the first good mount table, with the mounts that are expected, until the drain begins. `/status` is what the operator and people read;
//! it never holds a secret.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use remotemount_crds::DeletePolicy;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::filer::FilerError;
use crate::filer::intents::Intents;
use crate::link::state::{LinkState, LinkStatus};
use crate::metrics::{DeleteResult, Metrics};
use crate::mounts::source::Origin;
use crate::mounts::watch::Problems;
use crate::mounts::{Mount, MountTable, Mounts};
use crate::remote::Capabilities;
use crate::remote::observe::Health;
use crate::store::{Store, StoreError};

/// A ConfigMap that was just written reaches a new pod well before.
const EXPECTED_WITHIN: Duration = Duration::from_secs(15);

/// The admin port.
pub struct Admin {
    /// Every metric.
    pub registry: Registry,
    /// What is shown only when someone looks is put here.
    pub metrics: Metrics,
    /// The deletes that are not finished.
    pub intents: Arc<Intents>,
    /// The table in force.
    pub mounts: Arc<Mounts>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// What is wrong with the manifests.
    pub problems: Problems,
    /// How the control link is.
    pub link: Arc<LinkState>,
    /// Set when the drain begins.
    pub draining: Arc<AtomicBool>,
    /// What it was started for.
    pub expected: Expected,
}

/// The mounts that a sidecar was started for. An app that starts before they are here would be told that its data is
/// not there; one whose mount is gone for good must start all the same.
pub struct Expected {
    names: Vec<String>,
    until: Instant,
}

impl Expected {
    /// Mounts of those names, for as long as they may take from now on.
    #[must_use]
    pub fn new(names: Vec<String>) -> Self {
        Self { names, until: Instant::now() + EXPECTED_WITHIN }
    }

    /// Those that are not in `table`, while that matters.
    fn missing(&self, table: &MountTable) -> Vec<&str> {
        if Instant::now() >= self.until { Vec::new() } else { self.absent(table) }
    }

    fn absent(&self, table: &MountTable) -> Vec<&str> {
        let there: BTreeSet<&str> = table.iter().map(|mount| mount.name.as_str()).collect();
        self.names.iter().map(String::as_str).filter(|name| !there.contains(name)).collect()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    version: &'static str,
    ready: bool,
    table: u64,
    manifest_problems: Vec<String>,
    store: StoreStatus,
    control: LinkStatus,
    mounts: Vec<MountStatus>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StoreStatus {
    entries: Option<u64>,
    error: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MountStatus {
    name: String,
    path: String,
    remote: String,
    generation: u32,
    manifest_generation: Option<i64>,
    source: Origin,
    withdrawn: bool,
    health: Health,
    capabilities: Capabilities,
    listing_order: &'static str,
    unnameable_keys: Option<u64>,
    counters: Counters,
    deletes: Deletes,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Deletes {
    policy: DeletePolicy,
    attempted: u64,
    objects_deleted: u64,
    denied: u64,
    refused: u64,
    conflicts: u64,
    failed: u64,
    failed_by_reason: BTreeMap<&'static str, u64>,
    settled: u64,
    open_intents: u64,
    unsettled_intents: u64,
    oldest_intent_millis: Option<u64>,
    last_failure: Option<LastFailure>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LastFailure {
    at_millis: u64,
    reason: &'static str,
    message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Counters {
    lookups_hit: u64,
    lookups_negative_hit: u64,
    lookups_miss: u64,
    lookups_error: u64,
    listings_hit: u64,
    listings_walk: u64,
    listings_error: u64,
    served_stale: u64,
    entries_removed: u64,
    read_bytes: u64,
}

/// What a port shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// To the pod: all there is.
    All,
    /// To whoever can reach it: `/metrics`, in which no path, key or message is.
    Metrics,
}

impl Admin {
    /// Says, when its time is over, that the sidecar serves without a mount that it was started for.
    pub async fn tell_of_absent(self: Arc<Self>) {
        tokio::time::sleep_until(self.expected.until.into()).await;
        let table = self.mounts.load();
        let absent = self.expected.absent(&table);
        if !absent.is_empty() {
            let absent = absent.join(", ");
            tracing::warn!(
                absent,
                "ready without mounts that this sidecar was started for: there are no manifests of them"
            );
        }
    }

    /// Serves `listener` until `stop`.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, shown: Shown, stop: CancellationToken) {
        loop {
            let stream = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "admin connection not accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let admin = Arc::clone(&self);
            let service = service_fn(move |request| {
                let admin = Arc::clone(&admin);
                async move { Ok::<_, Infallible>(admin.answer(&request, shown)) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            let connection = server
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "admin connection ended early");
                }
            });
        }
    }

    fn answer<B>(&self, request: &Request<B>, shown: Shown) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here\n".to_owned());
        }
        match request.uri().path() {
            "/metrics" => self.metrics(),
            _ if shown == Shown::Metrics => text(StatusCode::NOT_FOUND, "here is /metrics\n".to_owned()),
            "/healthz" => match self.store.entries() {
                Err(error @ StoreError::Damaged(_)) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
                // A full disk is not helped by a restart; lookups still answer, from the remote.
                Err(error) => text(StatusCode::OK, format!("ok, but {error}\n")),
                Ok(_) => text(StatusCode::OK, "ok\n".to_owned()),
            },
            "/readyz" if self.ready() => text(StatusCode::OK, "ready\n".to_owned()),
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, self.why_not_ready()),
            "/status" => self.status(),
            _ => text(StatusCode::NOT_FOUND, "here are /metrics, /healthz, /readyz and /status\n".to_owned()),
        }
    }

    fn ready(&self) -> bool {
        let table = self.mounts.load();
        table.number > 0 && !self.draining.load(Ordering::Relaxed) && self.expected.missing(&table).is_empty()
    }

    fn why_not_ready(&self) -> String {
        if self.draining.load(Ordering::Relaxed) {
            return "draining\n".to_owned();
        }
        let table = self.mounts.load();
        let missing = self.expected.missing(&table);
        if table.number > 0 && !missing.is_empty() {
            return format!("no manifests yet of {}\n", missing.join(", "));
        }
        format!("no mount table in force yet: {}\n", self.problems().join("; "))
    }

    fn problems(&self) -> Vec<String> {
        let problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.iter().map(|problem| problem.message.clone()).collect()
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        for mount in self.mounts.load().iter() {
            let (open, _, oldest) = self.intents.summary(mount.id);
            self.metrics.show_intents(&mount.name, open, oldest);
        }
        let mut body = String::new();
        if prometheus_client::encoding::text::encode(&mut body, &self.registry).is_err() {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be written\n".to_owned());
        }
        typed(body, "application/openmetrics-text; version=1.0.0; charset=utf-8")
    }

    fn status(&self) -> Response<Full<Bytes>> {
        let entries = self.store.entries();
        let table = self.mounts.load();
        let status = Status {
            version: env!("CARGO_PKG_VERSION"),
            ready: self.ready(),
            table: table.number,
            manifest_problems: self.problems(),
            control: self.link.get(),
            store: StoreStatus { error: entries.as_ref().err().map(ToString::to_string), entries: entries.ok() },
            mounts: table.iter().map(|mount| self.of(mount)).collect(),
        };
        typed(serde_json::to_string_pretty(&status).unwrap_or_default() + "\n", "application/json")
    }

    fn of(&self, mount: &Mount) -> MountStatus {
        let metrics = &mount.metrics;
        MountStatus {
            name: mount.name.clone(),
            path: mount.path.to_string(),
            remote: mount.uri.clone(),
            generation: mount.id.0,
            manifest_generation: mount.manifest_generation,
            source: mount.origin(),
            withdrawn: mount.withdrawn,
            health: mount.health.get(),
            capabilities: mount.remote.capabilities(),
            listing_order: if mount.unordered() { "unordered" } else { "ordered" },
            unnameable_keys: self.store.unnameable(mount.id).ok(),
            counters: Counters {
                lookups_hit: metrics.hit.get(),
                lookups_negative_hit: metrics.negative_hit.get(),
                lookups_miss: metrics.miss.get(),
                lookups_error: metrics.error.get(),
                listings_hit: metrics.listing_hit.get(),
                listings_walk: metrics.listing_walk.get(),
                listings_error: metrics.listing_error.get(),
                served_stale: metrics.stale.get(),
                entries_removed: metrics.removed.get(),
                read_bytes: metrics.read_bytes.get(),
            },
            deletes: self.deletes_of(mount),
        }
    }

    fn deletes_of(&self, mount: &Mount) -> Deletes {
        let deletes = &mount.metrics.deletes;
        let (open_intents, unsettled_intents, oldest) = self.intents.summary(mount.id);
        let reasons = FilerError::DELETE_REASONS.into_iter().map(|reason| (reason, deletes.failed_for(reason)));
        let last_failure = mount.delete_failure();
        Deletes {
            policy: mount.delete_policy,
            attempted: DeleteResult::ALL.into_iter().map(|result| deletes.count(result)).sum(),
            objects_deleted: deletes.objects.get(),
            denied: deletes.count(DeleteResult::Denied),
            refused: deletes.count(DeleteResult::Refused),
            conflicts: deletes.count(DeleteResult::Conflict),
            failed: deletes.count(DeleteResult::Failed),
            failed_by_reason: reasons.filter(|(_, count)| *count > 0).collect(),
            settled: deletes.settled.get(),
            open_intents,
            unsettled_intents,
            oldest_intent_millis: oldest.map(|oldest| oldest.0),
            last_failure: last_failure.map(|(at, reason, message)| LastFailure { at_millis: at.0, reason, message }),
        }
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut answer = typed(body, "text/plain; charset=utf-8");
    *answer.status_mut() = status;
    answer
}

fn typed(body: String, content_type: &'static str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
