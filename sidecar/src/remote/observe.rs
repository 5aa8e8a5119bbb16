//! Observe: counts and times every request, and keeps what the mount's health says of the remote.
//!
//! It sits next to the adapter, below retry, so that every request counts. "Not found" is an answer,
//! and so are "changed" and a refused delete; the remote is unreachable only when it could not be asked
//! or refused to say.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use serde::Serialize;

use crate::entry::Pointer;
use crate::metrics::RemoteMetrics;
use crate::remote::{Body, Capabilities, ErrorKind, ListPage, ListRequest, Operation, Remote, RemoteError, Stat};

/// What is known of a remote's health.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// `None` until the first answer.
    pub reachable: Option<bool>,
    /// Why not: a kind of error.
    pub reason: Option<&'static str>,
    /// What the remote or the connection said.
    pub message: Option<String>,
    /// Since when it is so, milliseconds since 1970.
    pub since_millis: Option<u64>,
}

/// Health that the observer writes and `/status` reads.
#[derive(Debug, Default)]
pub struct HealthRecord(Mutex<Health>);

/// Counts, times and judges every request to `inner`.
pub struct Observe<R> {
    inner: R,
    metrics: RemoteMetrics,
    health: Arc<HealthRecord>,
}

impl HealthRecord {
    /// The health as it is.
    #[must_use]
    pub fn get(&self) -> Health {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records an answer, or why there was none.
    pub fn record(&self, error: Option<&RemoteError>) {
        let error = error.filter(|error| error.kind != ErrorKind::Changed);
        let reason = error.map(|error| error.kind.as_str());
        let mut health = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reachable = Some(error.is_none());
        if health.reachable == reachable && health.reason == reason {
            return;
        }
        let since_millis = Some(crate::clock::now().0);
        *health = Health { reachable, reason, message: error.map(ToString::to_string), since_millis };
    }
}

impl<R: Remote> Observe<R> {
    /// Observes `inner`.
    pub const fn new(inner: R, metrics: RemoteMetrics, health: Arc<HealthRecord>) -> Self {
        Self { inner, metrics, health }
    }

    async fn watch<T>(
        &self,
        operation: Operation,
        request: impl Future<Output = Result<T, RemoteError>>,
    ) -> Result<T, RemoteError> {
        let mut open = Open { observe: self, operation, begin: Instant::now(), ended: false };
        let answer = request.await;
        open.ended = true;
        let error = answer.as_ref().err();
        self.metrics.answered(operation, error.map(|error| error.kind), open.begin.elapsed());
        // A delete that is refused says nothing of the reads that this mount is for.
        let deletes = matches!(operation, Operation::Delete | Operation::DeleteMany);
        self.health.record(error.filter(|error| !deletes || error.kind.is_transient()));
        if let Some(error) = error {
            tracing::debug!(%error, "remote request failed");
        }
        answer
    }
}

/// A request under way. Dropped before its end, it was cancelled: by retry, which knows that it took too
/// long and says so, or by a reader that left, which says nothing of the remote.
struct Open<'o, R> {
    observe: &'o Observe<R>,
    operation: Operation,
    begin: Instant,
    ended: bool,
}

impl<R> Drop for Open<'_, R> {
    fn drop(&mut self) {
        if !self.ended {
            self.observe.metrics.cancelled(self.operation, self.begin.elapsed());
        }
    }
}

#[async_trait]
impl<R: Remote> Remote for Observe<R> {
    async fn stat(&self, key: &str) -> Result<Option<Stat>, RemoteError> {
        self.watch(Operation::Stat, self.inner.stat(key)).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, RemoteError> {
        self.watch(Operation::List, self.inner.list(request)).await
    }

    async fn read(&self, key: &str, range: Option<Range<u64>>, version: &Pointer) -> Result<Body, RemoteError> {
        self.watch(Operation::Read, self.inner.read(key, range, version)).await
    }

    async fn delete(&self, key: &str, version: Option<&Pointer>) -> Result<(), RemoteError> {
        self.watch(Operation::Delete, self.inner.delete(key, version)).await
    }

    async fn delete_many(&self, objects: &[(String, Pointer)]) -> Result<Vec<(usize, RemoteError)>, RemoteError> {
        self.watch(Operation::DeleteMany, self.inner.delete_many(objects)).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}
