//! Conditional: binds a delete to one version of the object, whatever the server can do (X5).
//!
//! Where the server heeds `If-Match`, one request does it. Elsewhere HEAD says which version is there,
//! and the delete follows; another writer may come in between, and `/status` says so (`emulated`).
//!
//! Which it is, is found out by the first delete, without an object of our own and without a risk: HEAD
//! has just confirmed the version that is to go, and the delete is then sent with a tag that no object
//! has. A server that refuses heeds conditions, and gets the right tag next; one that deletes has done
//! what was ordered, and does not heed them.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;

use crate::entry::{ETag, Pointer};
use crate::remote::{
    Body, Capabilities, ConditionalDelete, ErrorKind, ListPage, ListRequest, Operation, Remote, RemoteError, Stat,
};

/// The MD5 that no content was ever found to have.
const NO_VERSION: &str = "\"00000000000000000000000000000000\"";

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
            None => Ok(()),
            Some(stat) if !version.same_version(&stat.pointer) => {
                let message = "the remote has another version";
                Err(RemoteError::new(ErrorKind::Changed, Operation::Delete, key, message))
            }
            Some(_) if strong && known == UNKNOWN => self.find_out(key, version).await,
            Some(_) => self.inner.delete(key, None).await,
        }
    }

    async fn delete_many(&self, objects: &[(String, Pointer)]) -> Result<Vec<(usize, RemoteError)>, RemoteError> {
        // The versions were listed a moment ago; that is as good as a HEAD.
        self.inner.delete_many(objects).await
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
