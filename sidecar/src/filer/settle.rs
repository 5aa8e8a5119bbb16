//! Settle: what became of deletes that were begun and not finished (X8).
//!
//! The remote is asked, and it alone decides: gone → the delete is finished here, with its event; still
//! there → the intent is dropped, and what is there is what is known. While the remote cannot be asked
//! the intent stays, and the store does not answer for the path. Lookups settle what they run into; the
//! rest is settled in the background, from the start of the process on. Nothing is ever deleted
//! remotely here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::crash;
use crate::entry::{File, Millis};
use crate::filer::intents::Held;
use crate::filer::{Filer, FilerError};
use crate::mounts::Mount;
use crate::path::RelPath;
use crate::remote::{ListRequest, RemoteError};
use crate::store::{Change, DirectoryDeletion, Doomed, DoomedObject, Extent, FileDeletion, Intent};

/// Between attempts to settle what the remote could not be asked of.
const AGAIN: Duration = Duration::from_secs(5);
/// Questions under way at once.
const QUESTIONS: usize = 16;

/// What became of an object.
pub enum Fate {
    /// It is not there, as of then.
    Gone(Millis),
    /// It is there, and this is it now.
    There(File),
}

impl Filer {
    /// Settles what is left, now and whenever something is, until `stop`.
    pub async fn settle(self, stop: CancellationToken) {
        loop {
            let left = self.settle_left().await;
            let again = async { if left > 0 { tokio::time::sleep(AGAIN).await } else { self.0.intents.news().await } };
            tokio::select! {
                () = stop.cancelled() => return,
                () = again => {}
            }
        }
    }

    /// Settles what can be settled; answers how much is left.
    async fn settle_left(&self) -> usize {
        let table = self.0.mounts.load();
        let mut left = 0;
        // A remote that does not answer is not asked again for each, and keeps no other mount waiting.
        let mut silent = BTreeSet::new();
        for held in self.0.intents.left() {
            match table.iter().find(|mount| mount.id == held.mount) {
                Some(mount) => {
                    if silent.contains(&mount.id) || self.settle_one(mount, &held).await.is_err() {
                        silent.insert(mount.id);
                        left += 1;
                    }
                }
                // Its mount is no more, and with it everything that was known of the path.
                None if table.number > 0 => {
                    if let Some(begun) = self.0.intents.take_up(held.id) {
                        begun.close();
                    }
                }
                None => left += 1,
            }
        }
        left
    }

    /// Settles what keeps the store from answering for the path.
    ///
    /// # Errors
    /// When the remote cannot be asked.
    pub(super) async fn settle_what_covers(&self, mount: &Arc<Mount>, rel: &RelPath) -> Result<(), FilerError> {
        self.settle_all(mount, rel, self.0.intents.covering(mount.id, rel)).await
    }

    /// Settles what keeps the store from answering for a listing of the directory.
    ///
    /// # Errors
    /// When the remote cannot be asked.
    pub(super) async fn settle_what_concerns(&self, mount: &Arc<Mount>, rel: &RelPath) -> Result<(), FilerError> {
        self.settle_all(mount, rel, self.0.intents.concerning(mount.id, rel)).await
    }

    async fn settle_all(&self, mount: &Arc<Mount>, rel: &RelPath, mut held: Vec<Held>) -> Result<(), FilerError> {
        held.sort_by_key(|held| (matches!(held.intent.doomed, Doomed::Directory), held.id));
        for held in held.iter().filter(|held| !held.under_way) {
            self.settle_one(mount, held).await.map_err(|error| match error {
                Unsettled::Remote(error) => FilerError::remote(mount, rel, error),
                Unsettled::Store(error) => FilerError::store(mount, rel, error),
            })?;
        }
        Ok(())
    }

    async fn settle_one(&self, mount: &Arc<Mount>, held: &Held) -> Result<(), Unsettled> {
        let Some(begun) = self.0.intents.take_up(held.id) else { return Ok(()) };
        let path = mount.path.join(&held.intent.path);
        let mut changes = match self.outcome(mount, &held.intent).await {
            Ok(changes) => changes,
            Err(error) => {
                tracing::debug!(mount = mount.name, %path, %error, "a delete cannot be settled yet");
                return Err(Unsettled::Remote(error));
            }
        };
        crash::point("settle-asked");
        let finished = changes.iter().any(|c| matches!(c, Change::DeleteFile(..) | Change::DeleteDirectory(..)));
        changes.push(Change::Settled(mount.id, held.id));
        self.commit(changes).await.map_err(Unsettled::Store)?;
        begun.close();
        mount.metrics.deletes.settled.inc();
        tracing::info!(mount = mount.name, %path, finished, "a delete that was not finished is settled");
        Ok(())
    }

    /// What the remote says became of it, as changes.
    async fn outcome(&self, mount: &Mount, intent: &Intent) -> Result<Vec<Change>, RemoteError> {
        let (id, path) = (mount.id, &intent.path);
        match &intent.doomed {
            Doomed::File(pointer) => {
                let object = DoomedObject { path: path.clone(), marker: false, pointer: pointer.clone() };
                Ok(vec![self.outcome_of(mount, intent, object).await?])
            }
            Doomed::Batch(objects) => {
                let files = objects.iter().filter(|object| !object.marker).cloned();
                let asked: Vec<_> = files.map(|object| self.outcome_of(mount, intent, object)).collect();
                // The first that cannot be told ends it: a remote that hangs must not be waited for a thousand times.
                stream::iter(asked).buffer_unordered(QUESTIONS).try_collect().await
            }
            Doomed::Directory => {
                let at = clock::now();
                let prefix = mount.prefix.below(path);
                let page = mount.remote.list(&ListRequest { prefix, limit: 1, ..ListRequest::default() }).await?;
                let gone = page.objects.is_empty() && page.next.is_none();
                // Directories below may have been emptied before the crash.
                Ok(vec![if gone {
                    let origin = intent.origin.clone();
                    let since = intent.since;
                    let deletion = DirectoryDeletion { since, at, extent: Extent::Whole, hide: false, origin };
                    Change::DeleteDirectory(id, path.clone(), deletion)
                } else {
                    Change::Age(id, path.clone(), at)
                }])
            }
        }
    }

    async fn outcome_of(&self, mount: &Mount, intent: &Intent, object: DoomedObject) -> Result<Change, RemoteError> {
        let path = object.path;
        Ok(match self.fate(mount, &path).await? {
            // Nobody was shown this version: what is known stays, to be asked for before it is shown, and binds deletes (X5).
            Fate::There(file) if file.replaces(&File::of(object.pointer.clone(), intent.since)) => {
                Change::Doubt(mount.id, path)
            }
            Fate::There(file) => Change::PutFile(mount.id, path, file),
            Fate::Gone(at) => {
                let (pointer, origin) = (Some(object.pointer), intent.origin.clone());
                let deletion = FileDeletion { since: intent.since, at, pointer, hide: false, origin };
                Change::DeleteFile(mount.id, path, deletion)
            }
        })
    }

    /// Asks the remote what became of an object.
    pub(super) async fn fate(&self, mount: &Mount, rel: &RelPath) -> Result<Fate, RemoteError> {
        let asked = clock::now();
        Ok(match mount.remote.stat(&mount.prefix.key(rel)).await? {
            None => Fate::Gone(asked),
            Some(stat) => Fate::There(File { description: Some(stat.description), ..File::of(stat.pointer, asked) }),
        })
    }
}

/// Why an intent stays open.
enum Unsettled {
    Remote(RemoteError),
    Store(crate::store::StoreError),
}
