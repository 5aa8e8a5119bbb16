//! The remote: object stores behind one narrow trait with byte-exact keys.
//!
//! A key goes to the server and comes back from a listing as the bytes it is; nothing here trims,
//! collapses or resolves it. Errors are typed ([`ErrorKind`]) because the doors must tell "not there"
//! from "could not ask" (L6): only `stat` answers `None`, and only for a key that the server says is
//! missing. The adapter is [`s3`]; [`observe`], [`limit`], [`conditional`] and [`retry`] wrap it, one
//! idea each, and [`connect`] puts them together. It decides nothing about entries, mounts or caching,
//! and never deletes but by [`Remote::delete`] and [`Remote::delete_many`].

pub mod conditional;
pub mod connect;
pub mod credentials;
pub mod limit;
pub mod observe;
pub mod retry;
pub mod s3;
mod s3_error;
pub mod unsupported;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::Serialize;

use crate::entry::{Description, ETag, Pointer};

/// What a HEAD tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The version.
    pub pointer: Pointer,
    /// What goes with it.
    pub description: Description,
}

/// Which keys to list.
#[derive(Clone, Debug, Default)]
pub struct ListRequest {
    /// Keys begin with this.
    pub prefix: String,
    /// Keys with a further `/` are gathered into one common prefix.
    pub directories: bool,
    /// The token of the page before; `None` for the first page.
    pub token: Option<String>,
    /// On the first page, only keys after this one.
    pub after: Option<String>,
    /// How many keys and common prefixes a page has at most.
    pub limit: u16,
}

/// One page of a listing.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// Objects, by key.
    pub objects: Vec<(String, Pointer)>,
    /// Common prefixes, each ending in `/`.
    pub prefixes: Vec<String>,
    /// The token of the next page; `None` after the last.
    pub next: Option<String>,
}

/// An opened read.
pub struct Body {
    /// What the server says of the object it reads from.
    pub stat: Stat,
    /// Exactly the bytes that were asked for, or an error.
    pub bytes: BoxStream<'static, Result<Bytes, RemoteError>>,
}

/// What a remote can do; shown in `/status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// `read` refuses another version by itself (`If-Match`), until it is seen not to; the answer's ETag is compared in any case.
    pub conditional_read: bool,
    /// Listings can be resumed after a key.
    pub start_after: bool,
    /// How a delete is bound to one version of the object (X5).
    pub conditional_delete: ConditionalDelete,
    /// One request deletes many keys, until the server is seen not to know it.
    pub bulk_delete: bool,
}

/// How a delete is bound to one version of the object (X5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ConditionalDelete {
    /// Nothing was deleted yet; the first delete finds out.
    Unknown,
    /// The server refuses another version by itself (`If-Match`).
    Native,
    /// The server does not look at the condition: HEAD, then delete.
    Emulated,
}

/// What kind of failure it was; decides what a door answers and whether a retry can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// The credentials do not allow it.
    Denied,
    /// Too many requests.
    Throttled,
    /// No connection, or the server answered with a failure of its own.
    Unavailable,
    /// No answer in time.
    TimedOut,
    /// The answer broke off.
    BrokeOff,
    /// The object is another version by now, or gone.
    Changed,
    /// There is no such bucket.
    BucketNotFound,
    /// The server's certificate is not trusted.
    CertificateUntrusted,
    /// The server refuses the request as such.
    Rejected,
    /// There are no credentials to sign with.
    CredentialsMissing,
    /// This version has no adapter for the provider.
    NotSupported,
}

/// Why a remote could not answer.
#[derive(Clone, Debug)]
pub struct RemoteError {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// What was asked.
    pub operation: Operation,
    /// The key or the prefix.
    pub key: Arc<str>,
    /// What the server or the connection said; no secrets.
    pub message: Arc<str>,
}

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// HEAD of one key.
    Stat,
    /// One page of keys.
    List,
    /// Bytes of one key.
    Read,
    /// DELETE of one key.
    Delete,
    /// Many keys deleted by one request.
    DeleteMany,
}

/// Keys that one bulk request takes at most (Amazon S3 API, `DeleteObjects`).
pub const BULK_KEYS: usize = 1000;

/// An object store, seen through what the filer asks of it.
#[async_trait]
pub trait Remote: Send + Sync + 'static {
    /// What is at `key`; `None` when nothing is.
    ///
    /// # Errors
    /// Whatever kept the question from being answered; never "not found".
    async fn stat(&self, key: &str) -> Result<Option<Stat>, RemoteError>;

    /// One page of keys.
    ///
    /// # Errors
    /// As [`Self::stat`].
    async fn list(&self, request: &ListRequest) -> Result<ListPage, RemoteError>;

    /// The bytes of `range` (all when `None`) of `key` in the version `version`.
    ///
    /// # Errors
    /// [`ErrorKind::Changed`] when the object is another version or gone, before or within the stream.
    async fn read(&self, key: &str, range: Option<Range<u64>>, version: &Pointer) -> Result<Body, RemoteError>;

    /// Deletes `key` if it is the version `version`, or whatever it is when `None`. A key that is gone is no error.
    ///
    /// # Errors
    /// [`ErrorKind::Changed`] when there is another version; nothing is deleted then. After a transient error it
    /// may or may not be deleted ([`ErrorKind::is_ambiguous`]).
    async fn delete(&self, key: &str, version: Option<&Pointer>) -> Result<(), RemoteError>;

    /// The key as a listing has it; `None` when the bucket answers and has no such key.
    ///
    /// What HEAD answers with 404 may be anything, a missing bucket included; a listing says which. Where a delete counts
    /// on the object's being gone, this is asked as well.
    ///
    /// # Errors
    /// As [`Self::stat`].
    async fn listed(&self, key: &str) -> Result<Option<Pointer>, RemoteError> {
        // Of all keys that begin so, the key itself is the first.
        let page = self.list(&ListRequest { prefix: key.to_owned(), limit: 1, ..ListRequest::default() }).await?;
        Ok(page.objects.into_iter().find(|(listed, _)| listed == key).map(|(_, pointer)| pointer))
    }

    /// Deletes up to [`BULK_KEYS`] keys, each if it is that version where the server looks at it; answers which could
    /// not be deleted, by their place. Keys that are gone are no error. An adapter answers [`ErrorKind::NotSupported`] for
    /// those that it can delete one by one only.
    ///
    /// # Errors
    /// When the request as a whole failed: of no key is known whether it is deleted.
    async fn delete_many(&self, objects: &[(String, Pointer)]) -> Result<Vec<(usize, RemoteError)>, RemoteError>;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;
}

#[async_trait]
impl<R: Remote + ?Sized> Remote for Arc<R> {
    async fn stat(&self, key: &str) -> Result<Option<Stat>, RemoteError> {
        (**self).stat(key).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, RemoteError> {
        (**self).list(request).await
    }

    async fn read(&self, key: &str, range: Option<Range<u64>>, version: &Pointer) -> Result<Body, RemoteError> {
        (**self).read(key, range, version).await
    }

    async fn delete(&self, key: &str, version: Option<&Pointer>) -> Result<(), RemoteError> {
        (**self).delete(key, version).await
    }

    async fn delete_many(&self, objects: &[(String, Pointer)]) -> Result<Vec<(usize, RemoteError)>, RemoteError> {
        (**self).delete_many(objects).await
    }

    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Denied,
        Self::Throttled,
        Self::Unavailable,
        Self::TimedOut,
        Self::BrokeOff,
        Self::Changed,
        Self::BucketNotFound,
        Self::CertificateUntrusted,
        Self::Rejected,
        Self::CredentialsMissing,
        Self::NotSupported,
    ];

    /// Whether asking again may help.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Throttled | Self::Unavailable | Self::TimedOut | Self::BrokeOff)
    }

    /// Whether the server has understood the question and refuses this one: it would again, however long one waits.
    /// Credentials, certificates and buckets that are missing are put right one day, for all keys at once.
    #[must_use]
    pub const fn is_refusal(self) -> bool {
        matches!(self, Self::Denied | Self::Rejected | Self::NotSupported | Self::Changed)
    }

    /// Whether a delete that failed so may have been done all the same.
    #[must_use]
    pub const fn is_ambiguous(self) -> bool {
        matches!(self, Self::Unavailable | Self::TimedOut | Self::BrokeOff)
    }

    /// The name in metrics, `/status` and error bodies.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "Denied",
            Self::Throttled => "Throttled",
            Self::Unavailable => "Unavailable",
            Self::TimedOut => "TimedOut",
            Self::BrokeOff => "BrokeOff",
            Self::Changed => "Changed",
            Self::BucketNotFound => "BucketNotFound",
            Self::CertificateUntrusted => "CertificateUntrusted",
            Self::Rejected => "Rejected",
            Self::CredentialsMissing => "CredentialsMissing",
            Self::NotSupported => "NotSupported",
        }
    }
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 5] = [Self::Stat, Self::List, Self::Read, Self::Delete, Self::DeleteMany];

    /// The name in metrics and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stat => "stat",
            Self::List => "list",
            Self::Read => "read",
            Self::Delete => "delete",
            Self::DeleteMany => "delete_many",
        }
    }
}

impl RemoteError {
    /// An error of `kind` for `operation` on `key`.
    #[must_use]
    pub fn new(kind: ErrorKind, operation: Operation, key: &str, message: impl Into<Arc<str>>) -> Self {
        Self { kind, operation, key: key.into(), message: message.into() }
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            ErrorKind::Denied => "the remote denies it",
            ErrorKind::Throttled => "the remote asks for fewer requests",
            ErrorKind::Unavailable => "the remote is unavailable",
            ErrorKind::TimedOut => "the remote took too long",
            ErrorKind::BrokeOff => "the remote broke off",
            ErrorKind::Changed => "the object changed",
            ErrorKind::BucketNotFound => "the bucket does not exist",
            ErrorKind::CertificateUntrusted => "the remote's certificate is not trusted",
            ErrorKind::Rejected => "the remote rejects it",
            ErrorKind::CredentialsMissing => "there are no credentials",
            ErrorKind::NotSupported => "not supported",
        };
        write!(f, "{what} ({} of {:?}): {}", self.operation.as_str(), self.key, self.message)
    }
}

impl std::error::Error for RemoteError {}

/// Reads an ETag header.
pub(crate) fn etag(header: Option<&str>) -> Option<ETag> {
    header.and_then(ETag::from_header)
}
