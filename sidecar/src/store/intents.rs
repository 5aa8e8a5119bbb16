//! Intents: durable notes that a delete has begun and is not finished (X8).
//!
//! An intent is kept before the remote is asked, and goes in the transaction that deletes locally. One
//! that is found at start, or whose request got no clear answer, is settled by asking the remote. Pure:
//! these are the words that the store keeps and the filer's `delete` room acts on.

use serde::{Deserialize, Serialize};

use crate::entry::{Millis, Pointer};
use crate::events::Origin;
use crate::path::RelPath;

/// Which intent of a mount; rises for the life of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntentId(pub u64);

/// A delete that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The path that is deleted; of a batch, the directory above.
    pub path: RelPath,
    /// What of it.
    pub doomed: Doomed,
    /// When it began.
    pub begun: Millis,
    /// When what is doomed was last seen: a delete that has finished since has told of it.
    pub since: Millis,
    /// Who asked.
    pub origin: Origin,
}

impl Intent {
    /// The files that it is about; those of a directory are in its batches.
    pub fn files(&self) -> impl Iterator<Item = (&RelPath, &Pointer)> {
        let (one, many) = match &self.doomed {
            Doomed::File(pointer) => (Some((&self.path, pointer)), &[][..]),
            Doomed::Batch(objects) => (None, objects.as_slice()),
            Doomed::Directory => (None, &[][..]),
        };
        let of_batch = many.iter().filter(|object| !object.marker).map(|object| (&object.path, &object.pointer));
        one.into_iter().chain(of_batch)
    }
}

/// What a delete leaves behind of one half of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Answers to questions asked up to then bring nothing back.
    pub until: Millis,
    /// The version whose end was last told of, of a file.
    pub told: Option<Pointer>,
}

/// What a delete is about to take away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Doomed {
    /// One file, in the version that was shown.
    File(Pointer),
    /// The name as a directory; it stays open until all below it is done with.
    Directory,
    /// Some of the objects below the directory, sent in one request.
    Batch(Vec<DoomedObject>),
}

/// One object of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoomedObject {
    /// Its path below the mount.
    pub path: RelPath,
    /// Whether it is the marker of the directory `path` rather than a file.
    pub marker: bool,
    /// Its version.
    pub pointer: Pointer,
}
