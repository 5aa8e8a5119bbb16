//! Limit: how many requests of one mount are under way at once.
//!
//! Keeps a burst of misses from opening a connection each. Reads have places of their own and keep
//! them until the stream ends, so that long downloads never keep a lookup waiting. Waiting counts
//! against the caller's budget, which [`super::retry`] watches.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::entry::Pointer;
use crate::remote::{Body, Capabilities, ErrorKind, ListPage, ListRequest, Operation, Remote, RemoteError, Stat};

/// Lookups and listing pages under way at once.
const QUESTIONS: usize = 64;
/// Streams under way at once.
const STREAMS: usize = 256;

/// Bounds how many requests `inner` has under way.
pub struct Limit<R> {
    inner: R,
    questions: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl<R: Remote> Limit<R> {
    /// Bounds `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, questions: Arc::new(Semaphore::new(QUESTIONS)), streams: Arc::new(Semaphore::new(STREAMS)) }
    }
}

async fn place(places: &Arc<Semaphore>, operation: Operation, key: &str) -> Result<OwnedSemaphorePermit, RemoteError> {
    let closed = |_| RemoteError::new(ErrorKind::Unavailable, operation, key, "the sidecar is stopping");
    Arc::clone(places).acquire_owned().await.map_err(closed)
}

#[async_trait]
impl<R: Remote> Remote for Limit<R> {
    async fn stat(&self, key: &str) -> Result<Option<Stat>, RemoteError> {
        let _place = place(&self.questions, Operation::Stat, key).await?;
        self.inner.stat(key).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, RemoteError> {
        let _place = place(&self.questions, Operation::List, &request.prefix).await?;
        self.inner.list(request).await
    }

    async fn read(&self, key: &str, range: Option<Range<u64>>, version: &Pointer) -> Result<Body, RemoteError> {
        let place = place(&self.streams, Operation::Read, key).await?;
        let mut body = self.inner.read(key, range, version).await?;
        body.bytes = body
            .bytes
            .map(move |item| {
                let _held = &place;
                item
            })
            .boxed();
        Ok(body)
    }

    async fn delete(&self, key: &str, version: Option<&Pointer>) -> Result<(), RemoteError> {
        let _place = place(&self.questions, Operation::Delete, key).await?;
        self.inner.delete(key, version).await
    }

    async fn delete_many(&self, objects: &[(String, Pointer)]) -> Result<Vec<(usize, RemoteError)>, RemoteError> {
        let first = objects.first().map_or("", |(key, _)| key);
        let _place = place(&self.questions, Operation::DeleteMany, first).await?;
        self.inner.delete_many(objects).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}
