//! Conditional: binds a delete to one version of the object, whatever the server can do (X5).
//!
//! Where the server heeds `If-Match`, one request does it. Elsewhere HEAD says which version is there,
//! and the delete follows; another writer may come in between, and `/status` says so (`emulated`).
//!
//! What a bulk request leaves out, and all keys of a server that knows none, are deleted one by one in
//! the same way. That HEAD finds nothing counts only if a listing does not, either.
//!
//! Which it is, is found out by the first delete, without an object of our own and without a risk: HEAD
//! has just confirmed the version that is to go, and the delete is then sent with a tag that no object
//! has. A server that refuses heeds conditions, and gets the right tag next; one that deletes has done
//! what was ordered, and does not heed them.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt as _};

use crate::entry::{ETag, Pointer};
use crate::remote::{
    Body, Capabilities, ConditionalDelete, ErrorKind, ListPage, ListRequest, Operation, Remote, RemoteError, Stat,
};

/// The MD5 that no content was ever found to have.
const NO_VERSION: &str = "\"00000000000000000000000000000000\"";

/// Single deletes under way at once, where there is no bulk request.
const SINGLES: usize = 16;

const UNKNOWN: u8 = 0;
const NATIVE: u8 = 1;
const EMULATED: u8 = 2;

/// Binds the deletes of `inner` to versions.
pub struct Conditional<R> {
    inner: R,
    known: AtomicU8,
}

impl<R: Remote> Conditional<R> {
    /// Wraps `inner`, of which nothing is known yet.
    pub const fn new(inner: R) -> Self {
        Self { inner, known: AtomicU8::new(UNKNOWN) }
    }

    /// The first delete: the version is confirmed; what the server does with a wrong condition tells what it heeds.
    async fn find_out(&self, key: &str, version: &Pointer) -> Result<(), RemoteError> {
        let wrong = Pointer { etag: ETag::from_header(NO_VERSION), ..version.clone() };
        match self.inner.delete(key, Some(&wrong)).await {
            Ok(()) => {
                self.known.store(EMULATED, Ordering::Relaxed);
                Ok(())
            }
            Err(error) if error.kind == ErrorKind::Changed => {
                self.known.store(NATIVE, Ordering::Relaxed);
                self.inner.delete(key, Some(version)).await
            }
            Err(error) if error.kind == ErrorKind::NotSupported => {
                self.known.store(EMULATED, Ordering::Relaxed);
                self.inner.delete(key, None).await
            }
            Err(error) => Err(error),
        }
    }
}

fn another(key: &str) -> RemoteError {
    RemoteError::new(ErrorKind::Changed, Operation::Delete, key, "the remote has another version")
}

#[async_trait]
impl<R: Remote> Remote for Conditional<R> {
    async fn stat(&self, key: &str) -> Result<Option<Stat>, RemoteError> {
        self.inner.stat(key).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, RemoteError> {
        self.inner.list(request).await
    }

    async fn read(&self, key: &str, range: Option<Range<u64>>, version: &Pointer) -> Result<Body, RemoteError> {
        self.inner.read(key, range, version).await
    }

    async fn delete(&self, key: &str, version: Option<&Pointer>) -> Result<(), RemoteError> {
        let Some(version) = version else { return self.inner.delete(key, None).await };
        let strong = version.etag.as_ref().is_some_and(|etag| !etag.is_weak());
        let known = self.known.load(Ordering::Relaxed);
        if strong && known == NATIVE {
            return self.inner.delete(key, Some(version)).await;
        }
        match self.inner.stat(key).await? {
            // A 404 to HEAD may be of the bucket, or of something before it; nothing is sent then, so it must be true.
            None => match self.inner.listed(key).await? {
                None => Ok(()),
                Some(listed) if !version.same_version(&listed) => Err(another(key)),
                Some(_) => {
                    let message = "HEAD does not find the object, and the listing has it";
                    Err(RemoteError::new(ErrorKind::Unavailable, Operation::Delete, key, message))
                }
            },
            Some(stat) if !version.same_version(&stat.pointer) => Err(another(key)),
            Some(_) if strong && known == UNKNOWN => self.find_out(key, version).await,
            Some(_) => self.inner.delete(key, None).await,
        }
    }

    async fn delete_many(&self, objects: &[(String, Pointer)]) -> Result<Vec<(usize, RemoteError)>, RemoteError> {
        // The versions were listed a moment ago; that is as good as a HEAD.
        let bulk = self.inner.capabilities().bulk_delete;
        let answer = if bulk { self.inner.delete_many(objects).await? } else { Vec::new() };
        let (alone, mut failures): (Vec<_>, Vec<_>) =
            answer.into_iter().partition(|(_, error)| error.kind == ErrorKind::NotSupported);
        let alone: Vec<usize> =
            if bulk { alone.into_iter().map(|(at, _)| at).collect() } else { (0..objects.len()).collect() };
        let alone = alone.into_iter().filter_map(|at| Some((at, objects.get(at)?)));
        // One by one they are bound as any other delete is.
        let singles: Vec<_> = alone
            .map(|(at, (key, pointer))| async move { Some((at, self.delete(key, Some(pointer)).await.err()?)) })
            .collect();
        let singles = stream::iter(singles).buffer_unordered(SINGLES).filter_map(std::future::ready);
        failures.extend(singles.collect::<Vec<_>>().await);
        Ok(failures)
    }

    fn capabilities(&self) -> Capabilities {
        let conditional_delete = match self.known.load(Ordering::Relaxed) {
            NATIVE => ConditionalDelete::Native,
            EMULATED => ConditionalDelete::Emulated,
            _ => ConditionalDelete::Unknown,
        };
        Capabilities { conditional_delete, ..self.inner.capabilities() }
    }
}
