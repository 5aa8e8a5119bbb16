//! The store conformance suite: every implementation of `Store` keeps the same rules.
//!
//! Named cases run on the memory and the redb store: `entries` is about what is known, `deletes` about
//! what a delete leaves, `events` about what is told of it. Then `model` drives both with the same
//! random changes and asserts that nothing a reader can see tells them apart; redb is reopened on the
//! way.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod deletes;
mod entries;
mod events;
mod model;

use std::path::Path;

use remotemount_sidecar::entry::{Directory, ETag, File, Millis, Pointer};
use remotemount_sidecar::events::{Cause, Event, Origin};
use remotemount_sidecar::path::RelPath;
use remotemount_sidecar::store::memory::MemoryStore;
use remotemount_sidecar::store::redb::RedbStore;
use remotemount_sidecar::store::{Change, DirectoryDeletion, Extent, FileDeletion, Identity, MountId, Store};

pub(crate) fn path(text: &str) -> RelPath {
    RelPath::parse(text).unwrap()
}

pub(crate) fn remote(size: u64, asked: u64) -> File {
    let pointer = Pointer { size, etag: ETag::from_header("\"e\""), modified: 1 };
    File { pointer: Some(pointer), description: None, asked: Millis(asked), doubted: false }
}

pub(crate) fn directory(asked: u64) -> Directory {
    Directory::seen(Millis(asked))
}

pub(crate) fn identity(path: &str, remote: &str) -> Identity {
    Identity { path: path.to_owned(), remote: remote.to_owned() }
}

pub(crate) fn each(case: impl Fn(&dyn Store)) {
    case(&MemoryStore::default());
    let state = tempfile::tempdir().unwrap();
    case(&RedbStore::open(state.path()).unwrap().store);
}

pub(crate) fn adopted(store: &dyn Store) -> MountId {
    store.adopt(&[identity("/m", "s3://a/")]).unwrap()[0]
}

pub(crate) fn open(state: &Path) -> RedbStore {
    RedbStore::open(state).unwrap().store
}

pub(crate) fn origin() -> Origin {
    Origin { cause: Cause::Door, from_other_cluster: false, signatures: vec![7] }
}

pub(crate) fn delete_file(m: MountId, name: &str, since: u64, at: u64) -> Change {
    let pointer = remote(1, 0).pointer;
    let deletion = FileDeletion { since: Millis(since), at: Millis(at), pointer, hide: false, origin: origin() };
    Change::DeleteFile(m, path(name), deletion)
}

pub(crate) fn delete_directory(m: MountId, name: &str, at: u64, extent: Extent, hide: bool) -> Change {
    Change::DeleteDirectory(
        m,
        path(name),
        DirectoryDeletion { since: Millis(at), at: Millis(at), extent, hide, origin: origin() },
    )
}

/// What happened, without its time.
pub(crate) fn told(store: &dyn Store) -> Vec<Event> {
    let events = store.events(0, 10_000).unwrap().events;
    assert!(events.is_sorted_by(|a, b| a.at < b.at), "times rise");
    events.into_iter().map(|event| Event { at: 0, ..event }).collect()
}

pub(crate) fn told_paths(store: &dyn Store) -> Vec<String> {
    told(store).into_iter().map(|event| event.path).collect()
}
