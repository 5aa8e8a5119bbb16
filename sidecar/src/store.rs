//! The store: what the filer remembers across restarts, behind one trait.
//!
//! Entries and listings are a cache of the remote, so losing them loses nothing and a damaged file may
//! be set aside. Intents, tombstones and hidden names are not: they say what must not come back.
//! Reads run inline (microseconds). Every change goes through one [`Writer`], which commits whatever
//! waits in one durable transaction. A change names the mount it belongs to, and one whose mount has
//! been retired meanwhile is dropped inside the transaction: an operation begun under an older
//! generation of a mount never writes into a newer one (M3).
//!
//! Children of a directory are ordered as the remote orders their keys: a file by `name`, a directory
//! by `name/`. So a listing merges with the remote's in one pass and resumes where it stopped.

pub mod intents;
pub mod layout;
pub mod memory;
pub mod redb;
pub mod writer;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::entry::{Directory, Entry, File, Halves, Listing, Millis, Pointer};
use crate::events::{EventPage, Origin};
use crate::path::RelPath;

pub use intents::{Doomed, DoomedObject, Intent, IntentId, Tombstone};
pub use writer::Writer;

/// A tombstone outlives every answer that may still be on its way; that is this long, in milliseconds.
pub const TOMBSTONE_MILLIS: u64 = 900_000;
/// So many events are kept; older ones go.
pub const EVENTS_KEPT: u64 = 100_000;

/// One generation of one mount: entries are kept under it and it is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MountId(pub u32);

/// A place in a directory's order: after the child whose ordering name this is; empty for the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(String);

/// One child of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Its name, one segment.
    pub name: String,
    /// What it is.
    pub entry: Entry,
}

/// One change, applied whole or not at all.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Keep a file, by the rules of [`File::merge`]. A name that a complete listing, asked for later, did not have, or that was deleted later, or is hidden, stays away (L8).
    PutFile(MountId, RelPath, File),
    /// Keep a directory, by the rules of [`Directory::merge`] and the same exception.
    PutDirectory(MountId, RelPath, Directory),
    /// The name is no remote file as of `asked`. A later answer and a local-only file stay.
    FileGone(MountId, RelPath, Millis),
    /// The name is no remote directory as of `asked`: it and everything remote below it goes, except later answers, local-only files and the directories that hold them.
    DirectoryGone(MountId, RelPath, Millis),
    /// A walk of the directory that began at `listing.asked` is complete: remote children it did not confirm are gone.
    Listed(MountId, RelPath, Listing),
    /// What is known of the file is not to be served without asking again.
    Doubt(MountId, RelPath),
    /// A delete has begun.
    Intend(MountId, IntentId, Intent),
    /// A delete is finished, one way or the other.
    Settled(MountId, IntentId),
    /// The file is deleted.
    DeleteFile(MountId, RelPath, FileDeletion),
    /// The directory and what is below it are deleted.
    DeleteDirectory(MountId, RelPath, DirectoryDeletion),
    /// Whether the directory and those below it are still there is not known as of then: ask again.
    Age(MountId, RelPath, Millis),
}

/// How a file was deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct FileDeletion {
    /// When the delete began: one that finished since has had the event already.
    pub since: Millis,
    /// Answers to questions asked up to then do not bring it back; a later row stays.
    pub at: Millis,
    /// The object that was deleted, for the event where nothing else is known of it.
    pub pointer: Option<Pointer>,
    /// The object is still there: hide the name for good (X1, Retain).
    pub hide: bool,
    /// Who asked.
    pub origin: Origin,
}

/// How a directory was deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct DirectoryDeletion {
    /// When the delete began: one that finished since has had the event already.
    pub since: Millis,
    /// Answers to questions asked up to then bring nothing back; later rows stay.
    pub at: Millis,
    /// What of it goes.
    pub extent: Extent,
    /// What it held is still there: hide the name for good (X1, Retain).
    pub hide: bool,
    /// Who asked.
    pub origin: Origin,
}

/// How much of a directory goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The directory, which was there even if no row says so, and everything below it.
    Whole,
    /// The same, and the directory is told of only if a row says so.
    Known,
    /// Only files below it that exist nowhere else; the directory stays.
    LocalOnly,
}

/// What a commit did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Entries taken away because the remote no longer has them.
    pub removed: u64,
    /// Mounts that were retired: their changes were dropped (M3).
    pub retired: BTreeSet<MountId>,
    /// Events made, over the whole commit.
    pub events: u64,
}

/// A mount as the store knows it: the generation stays while the identity does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The mount's path.
    pub path: String,
    /// What makes it the same mount: the remote's URI.
    pub remote: String,
}

/// Why the store could not do it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the file.
    #[error("the store is in use by another process: give each sidecar its own --state directory")]
    InUse,
    /// The file is damaged; it is set aside at the next start.
    #[error("the store is damaged: {0}")]
    Damaged(Arc<str>),
    /// The disk would not take or give it.
    #[error("the store's disk failed: {0}")]
    Io(Arc<str>),
    /// It was not written in time; it may yet be.
    #[error("the store took too long")]
    TimedOut,
    /// The sidecar is stopping.
    #[error("the store is closed")]
    Closed,
}

/// Entries, listings and mount generations; see the module's header.
pub trait Store: Send + Sync + 'static {
    /// The name as a file.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn file(&self, mount: MountId, path: &RelPath) -> Result<Option<File>, StoreError>;

    /// The name as a directory. A mount's own directory is never kept.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn directory(&self, mount: MountId, path: &RelPath) -> Result<Option<Directory>, StoreError>;

    /// Up to `limit` children after `after`, in the store's order.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn children(
        &self,
        mount: MountId,
        directory: &RelPath,
        after: &Cursor,
        limit: usize,
    ) -> Result<Vec<Child>, StoreError>;

    /// The last complete listing of the directory.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn listing(&self, mount: MountId, directory: &RelPath) -> Result<Option<Listing>, StoreError>;

    /// Keys that no path can name, over all complete listings of the mount.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn unnameable(&self, mount: MountId) -> Result<u64, StoreError>;

    /// How many entries there are, over all mounts.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn entries(&self) -> Result<u64, StoreError>;

    /// Applies all changes in one durable transaction.
    ///
    /// # Errors
    /// When nothing was applied.
    fn apply(&self, changes: &[Change]) -> Result<Applied, StoreError>;

    /// Makes `mounts` the live ones and answers their generations, in order. A path whose remote is
    /// the same keeps its generation; every other one gets a number never used before.
    ///
    /// # Errors
    /// When nothing was changed.
    fn adopt(&self, mounts: &[Identity]) -> Result<Vec<MountId>, StoreError>;

    /// Frees up to `limit` rows of each kind: of retired mounts, tombstones that are over at `now`, events beyond
    /// [`EVENTS_KEPT`]. Answers whether there may be more.
    ///
    /// # Errors
    /// When nothing was changed.
    fn purge(&self, limit: usize, now: Millis) -> Result<bool, StoreError>;

    /// Every delete that has begun and is not finished, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn intents(&self) -> Result<Vec<(MountId, IntentId, Intent)>, StoreError>;

    /// Which halves of the name are hidden for good, by itself or with a directory above it (X1).
    ///
    /// # Errors
    /// When the store cannot be read.
    fn hidden(&self, mount: MountId, path: &RelPath) -> Result<Halves, StoreError>;

    /// Which halves of the name were deleted since `asked`: an answer to that question is old news (L8).
    ///
    /// # Errors
    /// When the store cannot be read.
    fn buried(&self, mount: MountId, path: &RelPath, asked: Millis) -> Result<Halves, StoreError>;

    /// Up to `limit` events after the time `after`, in order.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn events(&self, after: u64, limit: usize) -> Result<EventPage, StoreError>;

    /// The time of the last event; 0 without one.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn last_event(&self) -> Result<u64, StoreError>;

    /// A number that marks this store's own events: chosen once, never 0.
    ///
    /// # Errors
    /// When it can neither be read nor chosen.
    fn signature(&self) -> Result<i32, StoreError>;
}

impl Cursor {
    /// The place before every child.
    #[must_use]
    pub const fn start() -> Self {
        Self(String::new())
    }

    /// The place after the file `name`.
    #[must_use]
    pub fn after_file(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The place after the directory `name`.
    #[must_use]
    pub fn after_directory(name: &str) -> Self {
        Self(format!("{name}/"))
    }

    /// The ordering name, as bytes compare.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Child {
    /// The place after this child.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        match self.entry {
            Entry::File(_) => Cursor::after_file(&self.name),
            Entry::Directory(_) => Cursor::after_directory(&self.name),
        }
    }

    /// When the question was asked that this is the answer to; `None` for what is local-only.
    #[must_use]
    pub const fn confirmed(&self) -> Option<Millis> {
        match &self.entry {
            Entry::File(File { pointer: None, .. }) => None,
            Entry::File(file) => Some(file.asked),
            Entry::Directory(directory) => Some(directory.asked),
        }
    }
}

impl Change {
    /// The mount it belongs to.
    #[must_use]
    pub const fn mount(&self) -> MountId {
        match self {
            Self::PutFile(mount, ..)
            | Self::PutDirectory(mount, ..)
            | Self::FileGone(mount, ..)
            | Self::DirectoryGone(mount, ..)
            | Self::Listed(mount, ..)
            | Self::Doubt(mount, ..)
            | Self::Intend(mount, ..)
            | Self::Settled(mount, ..)
            | Self::DeleteFile(mount, ..)
            | Self::DeleteDirectory(mount, ..)
            | Self::Age(mount, ..) => *mount,
        }
    }
}
