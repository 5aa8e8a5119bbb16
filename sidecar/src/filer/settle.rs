//! Settle: what became of deletes that were begun and not finished (X8).
//!
//! The remote is asked, and it alone decides: gone → the delete is finished here, with its event; still
//! there → the intent is dropped, and what is known is asked for again before it is shown, because the
//! request may be carried out yet. Gone is what a listing has not; HEAD's 404 may be of anything. An
//! object that may not be asked for at all is doubted, and its intent dropped: waiting would not help.
//! While the remote cannot be asked the intent stays, and the store does not answer for what it is
//! about; of a batch, what can be told is settled, and the rest stays. Lookups settle what they run into;
//! the rest is settled in the background, from the start of the process on. Nothing is ever deleted
//! remotely here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::crash;
use crate::entry::{Millis, Pointer};
use crate::filer::intents::{Held, Intents};
use crate::filer::{Filer, FilerError};
use crate::mounts::Mount;
use crate::path::RelPath;
use crate::remote::{ListRequest, RemoteError};
use crate::store::{Change, DirectoryDeletion, Doomed, DoomedObject, Extent, FileDeletion, Intent, MountId};

/// Between attempts to settle what the remote could not be asked of.
const AGAIN: Duration = Duration::from_secs(5);
/// Questions under way at once.
const QUESTIONS: usize = 16;
/// After so many that cannot be settled the others of the mount wait for the next time.
const PATIENCE: usize = 3;

/// What became of an object.
pub enum Fate {
    /// It is not there, as of then.
    Gone(Millis),
    /// It is there, in this version.
    There(Pointer),
    /// The remote will not say, however long one waits: neither HEAD nor a listing is allowed.
    Untold(RemoteError),
}

/// What the remote says became of what an intent is about.
#[derive(Default)]
struct Outcome {
    changes: Vec<Change>,
    /// What could not be told, and why.
    open: Vec<DoomedObject>,
    error: Option<RemoteError>,
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
        let mut failures = BTreeMap::<MountId, usize>::new();
        for held in self.0.intents.left() {
            match table.iter().find(|mount| mount.id == held.mount) {
                Some(mount) => {
                    let failed = failures.entry(mount.id).or_default();
                    if *failed >= PATIENCE || self.settle_one(mount, &held, &held.intent.path).await.is_err() {
                        *failed += 1;
                        left += 1;
                    }
                }
                // Its mount is no more, and with it everything that was known of the path.
                None if table.number > 0 => {
                    if let Some((begun, _)) = self.0.intents.take_up(held.id) {
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
        self.settle_all(mount, rel, Intents::covering).await
    }

    /// Settles what keeps the store from answering for a listing of the directory.
    ///
    /// # Errors
    /// When the remote cannot be asked.
    pub(super) async fn settle_what_concerns(&self, mount: &Arc<Mount>, rel: &RelPath) -> Result<(), FilerError> {
        self.settle_all(mount, rel, Intents::concerning).await
    }

    async fn settle_all(
        &self,
        mount: &Arc<Mount>,
        rel: &RelPath,
        open: fn(&Intents, MountId, &RelPath) -> Vec<Held>,
    ) -> Result<(), FilerError> {
        let open = || open(&self.0.intents, mount.id, rel);
        let mut held = open();
        held.sort_by_key(|held| (matches!(held.intent.doomed, Doomed::Directory), held.id));
        for held in held.iter().filter(|held| !held.under_way) {
            let Err(error) = self.settle_one(mount, held, rel).await else { continue };
            // Of a batch, what is asked for here may be told all the same.
            if open().iter().any(|still| still.id == held.id) {
                return Err(match error {
                    Unsettled::Remote(error) => FilerError::remote(mount, rel, error),
                    Unsettled::Store(error) => FilerError::store(mount, rel, error),
                });
            }
        }
        Ok(())
    }

    /// Settles what can be settled of an intent, what is at or in `first` before the rest of it.
    async fn settle_one(&self, mount: &Arc<Mount>, held: &Held, first: &RelPath) -> Result<(), Unsettled> {
        let Some((begun, intent)) = self.0.intents.take_up(held.id) else { return Ok(()) };
        let path = mount.path.join(&intent.path);
        let outcome = self.outcome(mount, &intent, first).await;
        let Outcome { mut changes, open, error } =
            outcome.unwrap_or_else(|error| Outcome { error: Some(error), ..Outcome::default() });
        if let Some(error) = &error {
            tracing::debug!(mount = mount.name, %path, %error, told = changes.len(), "a delete cannot be settled yet");
        }
        if let Some(error) = error.clone().filter(|_| changes.is_empty()) {
            return Err(Unsettled::Remote(error));
        }
        crash::point("settle-asked");
        let finished = changes.iter().any(|c| matches!(c, Change::DeleteFile(..) | Change::DeleteDirectory(..)));
        let rest = error.is_some().then(|| Intent { doomed: Doomed::Batch(open), ..(*intent).clone() });
        changes.push(match &rest {
            Some(rest) => Change::Intend(mount.id, held.id, rest.clone()),
            None => Change::Settled(mount.id, held.id),
        });
        self.commit(changes).await.map_err(Unsettled::Store)?;
        match rest {
            Some(rest) => begun.narrow(rest),
            None => {
                mount.metrics.deletes.settled.inc();
                begun.close();
            }
        }
        if let Some(error) = error {
            return Err(Unsettled::Remote(error));
        }
        tracing::info!(mount = mount.name, %path, finished, "a delete that was not finished is settled");
        Ok(())
    }

    /// What the remote says became of it.
    async fn outcome(&self, mount: &Mount, intent: &Intent, first: &RelPath) -> Result<Outcome, RemoteError> {
        let (id, path) = (mount.id, &intent.path);
        let change = match &intent.doomed {
            Doomed::File(pointer) => {
                let object = DoomedObject { path: path.clone(), marker: false, pointer: pointer.clone() };
                self.outcome_of(mount, intent, &object).await?
            }
            Doomed::Batch(objects) => return Ok(self.outcome_of_batch(mount, intent, objects, first).await),
            Doomed::Directory => {
                let at = clock::now();
                let prefix = mount.prefix.below(path);
                let page = mount.remote.list(&ListRequest { prefix, limit: 1, ..ListRequest::default() }).await?;
                let gone = page.objects.is_empty() && page.next.is_none();
                // Directories below may have been emptied before the crash.
                if gone {
                    let origin = intent.origin.clone();
                    let since = intent.since;
                    let deletion = DirectoryDeletion { since, at, extent: Extent::Whole, hide: false, origin };
                    Change::DeleteDirectory(id, path.clone(), deletion)
                } else {
                    Change::Age(id, path.clone(), at)
                }
            }
        };
        Ok(Outcome { changes: vec![change], ..Outcome::default() })
    }

    /// The same of many objects: what can be told, and what cannot.
    async fn outcome_of_batch(
        &self,
        mount: &Mount,
        intent: &Intent,
        objects: &[DoomedObject],
        first: &RelPath,
    ) -> Outcome {
        let wanted = |path: &RelPath| path == first || path.split().is_some_and(|(parent, _)| parent == first.as_str());
        let mut files: Vec<_> = objects.iter().filter(|object| !object.marker).collect();
        files.sort_by_key(|object| !wanted(&object.path));
        let asked: Vec<_> =
            files.into_iter().map(|file| async move { (file, self.outcome_of(mount, intent, file).await) }).collect();
        let mut waiting = asked.into_iter();
        let mut under_way: FuturesUnordered<_> = waiting.by_ref().take(QUESTIONS).collect();
        let (mut outcome, mut done) = (Outcome::default(), Vec::new());
        while let Some((file, told)) = under_way.next().await {
            match told {
                Ok(change) => {
                    outcome.changes.push(change);
                    done.push(&file.path);
                }
                Err(error) => outcome.error = Some(error),
            }
            // After one that cannot be told no further is asked for: a remote that hangs must not be waited for a thousand times.
            if outcome.error.is_none() {
                under_way.extend(waiting.next());
            }
        }
        if outcome.error.is_some() {
            done.sort_unstable();
            let open = objects.iter().filter(|object| object.marker || done.binary_search(&&object.path).is_err());
            outcome.open = open.cloned().collect();
        }
        outcome
    }

    async fn outcome_of(&self, mount: &Mount, intent: &Intent, object: &DoomedObject) -> Result<Change, RemoteError> {
        let path = object.path.clone();
        Ok(match self.fate(mount, &path).await? {
            // The request may be carried out yet, and another version was shown to nobody: what is known stays, to be asked
            // for before it is shown, and binds deletes (X5).
            Fate::There(_) => Change::Doubt(mount.id, path),
            Fate::Untold(error) => {
                let path_told = mount.path.join(&path);
                tracing::warn!(mount = mount.name, path = %path_told, %error, "nobody can tell what became of a delete");
                Change::Doubt(mount.id, path)
            }
            Fate::Gone(at) => {
                let (pointer, origin) = (Some(object.pointer.clone()), intent.origin.clone());
                let deletion = FileDeletion { since: intent.since, at, pointer, hide: false, origin };
                Change::DeleteFile(mount.id, path, deletion)
            }
        })
    }

    /// Asks the remote what became of an object. That HEAD finds nothing, or is refused, is for a listing to confirm.
    pub(super) async fn fate(&self, mount: &Mount, rel: &RelPath) -> Result<Fate, RemoteError> {
        let asked = clock::now();
        let key = mount.prefix.key(rel);
        match mount.remote.stat(&key).await {
            Ok(Some(stat)) => return Ok(self.still_there(mount, rel, asked, stat.pointer)),
            Ok(None) => {}
            Err(error) if error.kind.is_refusal() => {}
            Err(error) => return Err(error),
        }
        let again = clock::now();
        match mount.remote.listed(&key).await {
            Ok(Some(pointer)) => Ok(self.still_there(mount, rel, again, pointer)),
            Ok(None) => Ok(Fate::Gone(asked)),
            Err(error) if error.kind.is_refusal() => Ok(Fate::Untold(error)),
            Err(error) => Err(error),
        }
    }
}

impl Filer {
    /// What is there is not absent, whoever found it so before.
    fn still_there(&self, mount: &Mount, rel: &RelPath, asked: Millis, pointer: Pointer) -> Fate {
        self.0.negatives.forget(mount.id, rel, asked);
        Fate::There(pointer)
    }
}

/// Why an intent stays open.
enum Unsettled {
    Remote(RemoteError),
    Store(crate::store::StoreError),
}
