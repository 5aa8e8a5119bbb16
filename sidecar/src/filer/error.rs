//! Why the filer could not do it: one enum, and the reason's name in every door, metric and status.

use std::sync::Arc;

use crate::filer::delete::Failure;
use crate::mounts::Mount;
use crate::path::RelPath;
use crate::remote::{ErrorKind, RemoteError};
use crate::store::StoreError;

/// Why the filer could not do it. Each names the path; a door maps it in its table.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilerError {
    /// Nothing has this name.
    #[error("{path}: not found{}", outside(.mount))]
    NotFound {
        /// The mount, if the path is below one.
        mount: Option<String>,
        /// The path.
        path: String,
    },
    /// No mount table is in force yet.
    #[error("{path}: no mount table is in force yet; /status on the admin port says why")]
    NotReady {
        /// The path.
        path: String,
    },
    /// The remote could not be asked, or refused.
    #[error("{path}: {source}")]
    Remote {
        /// The mount.
        mount: String,
        /// The path.
        path: String,
        /// How long to wait before trying again, in seconds, where that may help.
        retry_after: Option<u64>,
        /// What the remote said.
        source: RemoteError,
    },
    /// The object is another version than the one that was being read (R1).
    #[error("{path}: the object changed while it was read; ask again for its new version")]
    Changed {
        /// The mount.
        mount: String,
        /// The path.
        path: String,
    },
    /// The object is another version than the one that was shown: it was not deleted (X5).
    #[error(
        "{path}: the object was changed since it was last shown, and is not deleted; look at it, then delete it again"
    )]
    Conflict {
        /// The mount.
        mount: String,
        /// The path.
        path: String,
    },
    /// The mount's policy is to delete nothing (X1).
    #[error(
        "{path}: the mount {mount} does not delete: its spec.deletePolicy is Deny; Propagate deletes in the bucket, too, Retain only here"
    )]
    DeleteDenied {
        /// The mount.
        mount: String,
        /// The path.
        path: String,
    },
    /// The directory holds something, and the order was not recursive (X6).
    #[error("{path}: the directory is not empty; delete it with recursive=true, and everything below it goes")]
    NotEmpty {
        /// The mount.
        mount: String,
        /// The path.
        path: String,
    },
    /// The mount's own directory stays (X6).
    #[error(
        "{path}: this is the mount's own directory; it can be emptied with recursive=true, and goes with the mount only"
    )]
    MountRoot {
        /// The mount.
        mount: String,
        /// The path.
        path: String,
    },
    /// A mount lies below the directory.
    #[error("{path}: {inner} leads to another mount; delete below that by its own path")]
    HoldsMount {
        /// The path.
        path: String,
        /// The directory in it that leads to the mount.
        inner: String,
    },
    /// Keys that no path can name are below the directory; they are never deleted (M2, X6).
    #[error(
        "{path}: {keys} key(s) below it cannot be named by a path and are not deleted, {first:?} first: delete them in the bucket itself, or the rest with ignoreRecursiveError=true"
    )]
    Unnameable {
        /// The mount.
        mount: String,
        /// The path.
        path: String,
        /// How many were seen.
        keys: u64,
        /// The first of them.
        first: String,
    },
    /// Objects below the directory are hidden by an earlier delete that was to keep them; they are never deleted (X1).
    #[error(
        "{path}: {keys} object(s) below it were hidden by deletes under Retain and are kept, {first:?} first: delete them in the bucket itself, or the rest with ignoreRecursiveError=true"
    )]
    HiddenKeys {
        /// The mount.
        mount: String,
        /// The path.
        path: String,
        /// How many were seen.
        keys: u64,
        /// The first of them.
        first: String,
    },
    /// Names keep appearing below the directory while it is deleted (X6).
    #[error("{path}: names keep appearing below it while they are deleted; delete it again when nobody writes there")]
    Refilled {
        /// The mount.
        mount: String,
        /// The path.
        path: String,
    },
    /// The name is a file and a directory, and the order says `recursive`.
    #[error("{path}: this is a file and a directory: delete the file without recursive, or the directory as {path}/")]
    FileAndDirectory {
        /// The mount.
        mount: String,
        /// The path.
        path: String,
    },
    /// Some of a directory is not deleted (X6).
    #[error("{path}: {deleted} object(s) deleted, {failed} not{}; first: {first}", perhaps(*.unclear))]
    Incomplete {
        /// The mount.
        mount: String,
        /// The path.
        path: String,
        /// Objects that are gone.
        deleted: u64,
        /// Names that are not; more may be below that were not tried.
        failed: u64,
        /// How many of these may be gone all the same, or go yet.
        unclear: u64,
        /// Why the first was not.
        first: Box<FilerError>,
        /// The first of them.
        failures: Arc<[Failure]>,
    },
    /// The delete was not begun, or stopped before its end.
    #[error("{path}: {why}; nothing further is deleted")]
    Interrupted {
        /// The mount.
        mount: String,
        /// The path.
        path: String,
        /// Why.
        why: &'static str,
    },
    /// The store failed where the answer depends on it.
    #[error("{path}: {source}")]
    Store {
        /// The mount.
        mount: String,
        /// The path.
        path: String,
        /// What the store said.
        source: StoreError,
    },
    /// The task that was asking ended without an answer.
    #[error("{path}: the question ended without an answer; ask again")]
    Lost {
        /// The mount.
        mount: String,
        /// The path.
        path: String,
    },
}

impl FilerError {
    /// Every reason a delete may fail for.
    pub const DELETE_REASONS: [&'static str; 19] = [
        "BrokeOff",
        "BucketNotFound",
        "Changed",
        "CredentialsMissing",
        "Denied",
        "FileAndDirectory",
        "HiddenKeys",
        "Interrupted",
        "Lost",
        "NotEmpty",
        "NotReady",
        "NotSupported",
        "Refilled",
        "Rejected",
        "Store",
        "Throttled",
        "TimedOut",
        "Unavailable",
        "UnnameableKeys",
    ];

    /// The reason's name.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "NotFound",
            Self::NotReady { .. } => "NotReady",
            Self::Remote { source, .. } => source.kind.as_str(),
            Self::Changed { .. } => "Changed",
            Self::Conflict { .. } => "Conflict",
            Self::DeleteDenied { .. } => "DeleteDenied",
            Self::NotEmpty { .. } => "NotEmpty",
            Self::MountRoot { .. } => "MountRoot",
            Self::HoldsMount { .. } => "HoldsMount",
            Self::Unnameable { .. } => "UnnameableKeys",
            Self::HiddenKeys { .. } => "HiddenKeys",
            Self::Refilled { .. } => "Refilled",
            Self::FileAndDirectory { .. } => "FileAndDirectory",
            Self::Incomplete { first, .. } => first.reason(),
            Self::Interrupted { .. } => "Interrupted",
            Self::Store { .. } => "Store",
            Self::Lost { .. } => "Lost",
        }
    }

    /// The path it is about.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::NotFound { path, .. }
            | Self::NotReady { path }
            | Self::Remote { path, .. }
            | Self::Changed { path, .. }
            | Self::Conflict { path, .. }
            | Self::DeleteDenied { path, .. }
            | Self::NotEmpty { path, .. }
            | Self::MountRoot { path, .. }
            | Self::HoldsMount { path, .. }
            | Self::Unnameable { path, .. }
            | Self::HiddenKeys { path, .. }
            | Self::Refilled { path, .. }
            | Self::FileAndDirectory { path, .. }
            | Self::Incomplete { path, .. }
            | Self::Interrupted { path, .. }
            | Self::Store { path, .. }
            | Self::Lost { path, .. } => path,
        }
    }

    /// The mount it is about, if there is one.
    #[must_use]
    pub fn mount(&self) -> Option<&str> {
        match self {
            Self::NotFound { mount, .. } => mount.as_deref(),
            Self::NotReady { .. } | Self::HoldsMount { .. } => None,
            Self::Remote { mount, .. }
            | Self::Changed { mount, .. }
            | Self::Conflict { mount, .. }
            | Self::DeleteDenied { mount, .. }
            | Self::NotEmpty { mount, .. }
            | Self::MountRoot { mount, .. }
            | Self::Unnameable { mount, .. }
            | Self::HiddenKeys { mount, .. }
            | Self::Refilled { mount, .. }
            | Self::FileAndDirectory { mount, .. }
            | Self::Incomplete { mount, .. }
            | Self::Interrupted { mount, .. }
            | Self::Store { mount, .. }
            | Self::Lost { mount, .. } => Some(mount),
        }
    }

    /// How long to wait before trying again, in seconds, where that may help.
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::NotReady { .. } => Some(2),
            Self::Lost { .. } => Some(1),
            Self::Remote { retry_after, .. } => *retry_after,
            Self::Incomplete { first, .. } => first.retry_after(),
            _ => None,
        }
    }

    pub(super) fn not_found(mount: &Mount, rel: &RelPath) -> Self {
        let (mount, path) = place(mount, rel);
        Self::NotFound { mount: Some(mount), path }
    }

    pub(super) fn remote(mount: &Mount, rel: &RelPath, source: RemoteError) -> Self {
        let retry_after = source.kind.is_transient().then_some(if source.kind == ErrorKind::Throttled { 5 } else { 2 });
        let (mount, path) = place(mount, rel);
        Self::Remote { mount, path, retry_after, source }
    }

    pub(super) fn store(mount: &Mount, rel: &RelPath, source: StoreError) -> Self {
        let (mount, path) = place(mount, rel);
        Self::Store { mount, path, source }
    }

    pub(super) fn lost(mount: &Mount, rel: &RelPath) -> Self {
        let (mount, path) = place(mount, rel);
        Self::Lost { mount, path }
    }

    pub(super) fn changed(mount: &Mount, rel: &RelPath) -> Self {
        let (mount, path) = place(mount, rel);
        Self::Changed { mount, path }
    }

    pub(super) fn conflict(mount: &Mount, rel: &RelPath) -> Self {
        let (mount, path) = place(mount, rel);
        Self::Conflict { mount, path }
    }

    pub(super) fn delete_denied(mount: &Mount, rel: &RelPath) -> Self {
        let (mount, path) = place(mount, rel);
        Self::DeleteDenied { mount, path }
    }

    pub(super) fn interrupted(mount: &Mount, rel: &RelPath, why: &'static str) -> Self {
        let (mount, path) = place(mount, rel);
        Self::Interrupted { mount, path, why }
    }
}

fn perhaps(unclear: u64) -> String {
    if unclear == 0 { String::new() } else { format!(", {unclear} of them perhaps: the remote has not said") }
}

const fn outside(mount: &Option<String>) -> &'static str {
    if mount.is_none() { ": no mount covers this path" } else { "" }
}

fn place(mount: &Mount, rel: &RelPath) -> (String, String) {
    (mount.name.clone(), mount.path.join(rel).to_string())
}
