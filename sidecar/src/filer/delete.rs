//! Delete: remote first, then local, losing no error and bringing nothing back (X1–X8).
//!
//! ```text
//! policy → what is there → intent, durable → remote → rows, intent and event in one transaction
//! ```
//!
//! What is deleted is the version that was shown: the delete is conditional on its ETag. An intent
//! whose request got no clear answer stays open until [`super::settle`] has asked the remote; until then
//! the store does not answer for the path. Concurrent deletes of one path are one. The task belongs to
//! no caller, so a client that hangs up stops nothing. `file` deletes one object, `directory` decides
//! about directories, `sweep` and `batch` empty one that is on the remote.

mod batch;
mod directory;
mod file;
mod page;
mod sweep;

use std::sync::Arc;

use remotemount_crds::DeletePolicy;

use crate::clock;
use crate::crash;
use crate::entry::{File, Millis, Node, Pointer};
use crate::events::{Cause, Origin};
use crate::filer::flight::Publisher;
use crate::filer::intents::Begun;
use crate::filer::lookup::Question;
use crate::filer::{Filer, FilerError, PERSIST};
use crate::metrics::DeleteResult;
use crate::mounts::Mount;
use crate::path::{FilerPath, MAX_KEY_BYTES, RelPath};
use crate::remote::{ListPage, ListRequest};
use crate::store::{Applied, Change, Doomed, Intent, StoreError};

/// So many objects of one mount may wait for the remote to say what became of them.
const UNSETTLED: usize = 10_000;
/// Failures that are told by name.
pub const NAMED_FAILURES: usize = 10;

/// How to delete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Order {
    /// The directory is meant, whatever file has the name.
    pub directory: bool,
    /// With everything below it.
    pub recursive: bool,
    /// One failure does not stop the rest; it is told of all the same.
    pub ignore_recursive_error: bool,
    /// Only this version of a file.
    pub only: Option<Pointer>,
    /// Only while the name is no file.
    pub no_file: bool,
    /// Only if it was not modified after this, in seconds since 1970.
    pub unless_modified_after: Option<i64>,
    /// It was deleted elsewhere already: only what is known of it goes (X7).
    pub from_other_cluster: bool,
    /// Filers that the order has passed through.
    pub signatures: Vec<i32>,
}

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Objects, or, where the remote is not touched, names.
    pub count: u64,
}

/// One name that could not be deleted, and why.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its path.
    pub path: String,
    /// Why.
    pub error: FilerError,
}

/// What a delete is: the answer to everyone who asked for it.
pub type DeleteAnswer = Result<Deleted, FilerError>;

/// One delete, under way.
struct Deletion {
    filer: Filer,
    mount: Arc<Mount>,
    rel: RelPath,
    order: Order,
}

/// What there is to delete.
enum There {
    Nothing,
    /// A file, as of then.
    File(File, Millis),
    /// The first page of what lies below it, as of then.
    Directory(ListPage, Millis),
}

impl Filer {
    /// Deletes `path`; a name that is not there is no error.
    ///
    /// # Errors
    /// Whatever was not deleted, and why: nothing is ever counted as deleted that may still be there.
    pub async fn delete(&self, path: &FilerPath, order: Order) -> DeleteAnswer {
        let table = self.table(path)?;
        if let Some(inner) = table.children(path).first() {
            return Err(FilerError::HoldsMount { path: path.to_string(), inner: path.child(inner) });
        }
        let Some((mount, rel)) = table.resolve(path) else {
            return Err(FilerError::NotFound { mount: None, path: path.to_string() });
        };
        // What comes back after it has passed through here is done already (E1).
        if order.from_other_cluster && order.signatures.contains(&self.0.events.signature()) {
            return Ok(Deleted::default());
        }
        let answer = self.delete_below(mount, rel, order).await;
        match &answer {
            Ok(deleted) => {
                tracing::debug!(mount = mount.name, %path, objects = deleted.count, "deleted");
                mount.metrics.deletes.ended(DeleteResult::Ok, "");
                mount.delete_succeeded(clock::now());
            }
            Err(error) => {
                let result = result_of(error);
                mount.metrics.deletes.ended(result, error.reason());
                if result == DeleteResult::Failed && !keeps_what_it_must(error) {
                    mount.delete_failed((clock::now(), error.reason(), error.to_string()));
                }
                tracing::warn!(mount = mount.name, %path, reason = error.reason(), %error, "not deleted");
            }
        }
        answer
    }

    async fn delete_below(&self, mount: &Arc<Mount>, rel: RelPath, order: Order) -> DeleteAnswer {
        if mount.delete_policy == DeletePolicy::Deny && !order.from_other_cluster {
            return Err(FilerError::delete_denied(mount, &rel));
        }
        if mount.prefix.key(&rel).len() > MAX_KEY_BYTES {
            return Ok(Deleted::default());
        }
        let key = (mount.id, rel.clone(), order.clone(), mount.delete_policy as u8);
        let deletion = Deletion { filer: self.clone(), mount: Arc::clone(mount), rel: rel.clone(), order };
        let start = |publisher: Publisher<DeleteAnswer>| async move {
            publisher.publish(Box::pin(deletion.run()).await);
        };
        // What one delete came to says nothing of the next.
        let answer = self.0.deletes.join(&self.0.tasks, key, |_| false, start);
        answer.await.unwrap_or_else(|| Err(FilerError::lost(mount, &rel)))
    }
}

impl Deletion {
    async fn run(&self) -> DeleteAnswer {
        crash::point("delete-begun");
        if self.order.from_other_cluster {
            return self.known_only().await;
        }
        self.filer.settle_what_covers(&self.mount, &self.rel).await?;
        let hidden = self.filer.hidden(&self.mount, &self.rel)?;
        if hidden.directory && (hidden.file || self.order.directory) {
            return Ok(Deleted::default());
        }
        let there = self.look(hidden.file || self.order.directory || self.rel.is_root()).await?;
        if let Some(only) = &self.order.only {
            let same = |file: &File| file.pointer.as_ref().is_some_and(|pointer| only.same_version(pointer));
            if !matches!(&there, There::File(file, _) if same(file)) {
                return Err(FilerError::conflict(&self.mount, &self.rel));
            }
        }
        if self.order.no_file && matches!(there, There::File(..)) {
            return Err(FilerError::conflict(&self.mount, &self.rel));
        }
        match there {
            There::Nothing => self.nothing_there().await,
            There::File(file, _) if self.modified_since(&file) => Ok(Deleted::default()),
            There::File(file, seen) => {
                self.only_a_file().await?;
                self.file(file, seen).await
            }
            There::Directory(..) if hidden.directory => Ok(Deleted::default()),
            There::Directory(page, asked) => self.directory(page, asked).await,
        }
    }

    /// A recursive order for a name that is a file and a directory is refused: repeated, it would mean the other.
    async fn only_a_file(&self) -> Result<(), FilerError> {
        if !self.order.recursive {
            return Ok(());
        }
        let request = ListRequest { limit: 1, ..self.below(None) };
        let page = self.mount.remote.list(&request).await;
        let page = page.map_err(|error| FilerError::remote(&self.mount, &self.rel, error))?;
        if page.objects.is_empty() && page.next.is_none() {
            return Ok(());
        }
        let (mount, path) = (self.mount.name.clone(), self.path());
        Err(FilerError::FileAndDirectory { mount, path })
    }

    /// What there is. A file that is known is not asked for again: the delete is conditional on what was shown.
    async fn look(&self, only_directory: bool) -> Result<There, FilerError> {
        let (mount, rel) = (&self.mount, &self.rel);
        if !only_directory && let Some(file) = self.shown().await? {
            let seen = file.asked;
            return Ok(There::File(file, seen));
        }
        let asked = clock::now();
        let key = mount.prefix.key(rel);
        let request = self.below(None);
        let (stat, page) = if only_directory {
            (Ok(None), mount.remote.list(&request).await)
        } else {
            tokio::join!(mount.remote.stat(&key), mount.remote.list(&request))
        };
        let told = |error| FilerError::remote(mount, rel, error);
        if let Some(stat) = stat.map_err(told)? {
            let file = File { description: Some(stat.description), ..File::of(stat.pointer, asked) };
            return Ok(There::File(file, asked));
        }
        let page = page.map_err(told)?;
        if !page.objects.is_empty() || page.next.is_some() || rel.is_root() {
            return Ok(There::Directory(page, asked));
        }
        // Someone may have been shown it while the remote was asked: then it is that which is to go.
        let shown = if only_directory { None } else { self.shown().await? };
        Ok(shown.map_or(There::Nothing, |file| There::File(file, clock::now())))
    }

    /// The file that was shown. What was shown a moment ago may not be kept yet, and it is that version that may go (X5).
    async fn shown(&self) -> Result<Option<File>, FilerError> {
        let (mount, rel) = (&self.mount, &self.rel);
        for question in [Question::Name, Question::File] {
            self.filer.0.flights.landed(&(mount.id, rel.clone(), question)).await;
        }
        self.filer.0.store.file(mount.id, rel).map_err(|error| FilerError::store(mount, rel, error))
    }

    /// The keys below the directory, page by page.
    fn below(&self, token: Option<String>) -> ListRequest {
        let limit = if self.order.recursive { 1000 } else { 2 };
        ListRequest { prefix: self.mount.prefix.below(&self.rel), token, limit, ..ListRequest::default() }
    }

    fn modified_since(&self, file: &File) -> bool {
        self.order.unless_modified_after.is_some_and(|limit| limit > 0 && file.modified() > limit)
    }

    fn origin(&self) -> Origin {
        let mut signatures = self.order.signatures.clone();
        let own = self.filer.0.events.signature();
        if !signatures.contains(&own) {
            signatures.push(own);
        }
        Origin { cause: Cause::Door, from_other_cluster: self.order.from_other_cluster, signatures }
    }

    /// What of the name only the store knows.
    fn stored(&self) -> Result<Node, FilerError> {
        let (store, mount) = (&self.filer.0.store, self.mount.id);
        let told = |error| FilerError::store(&self.mount, &self.rel, error);
        Ok(Node {
            file: store.file(mount, &self.rel).map_err(told)?,
            directory: store.directory(mount, &self.rel).map_err(told)?,
        })
    }

    /// Makes an intent durable; the remote is asked only after that (X8). It counts from when what is doomed was `seen`:
    /// another delete that has finished since has told of it.
    async fn begin(&self, path: RelPath, doomed: Doomed, seen: Millis) -> Result<(Begun, Millis, Intent), FilerError> {
        let intents = &self.filer.0.intents;
        if intents.unsettled(self.mount.id) >= UNSETTLED {
            let why = "too many earlier deletes got no clear answer; they are settled once the remote answers";
            return Err(FilerError::interrupted(&self.mount, &self.rel, why));
        }
        self.allowed()?;
        let since = seen;
        let intent = Intent { path, doomed, begun: clock::now(), since, origin: self.origin() };
        let begun = intents.begin(self.mount.id, intent.clone());
        let change = Change::Intend(self.mount.id, begun.id, intent.clone());
        match self.commit(vec![change]).await {
            Ok(()) => Ok((begun, since, intent)),
            // The mount is no more, and the intent with it.
            Err(error @ FilerError::Interrupted { .. }) => {
                begun.close();
                Err(error)
            }
            // It may be written all the same: settling finds the object there, and drops it.
            Err(error) => Err(error),
        }
    }

    /// Commits what this delete does locally. A mount that was retired meanwhile takes nothing (M3).
    async fn commit(&self, changes: Vec<Change>) -> Result<(), FilerError> {
        if self.commit_done(changes).await? { Ok(()) } else { Err(self.retired()) }
    }

    /// Commits what the remote has done already; answers whether the mount was still there to take it. Where it was
    /// not, what was known of the name went with the mount, and what is gone is gone all the same.
    async fn commit_done(&self, changes: Vec<Change>) -> Result<bool, FilerError> {
        match self.filer.commit(changes).await {
            Ok(applied) => Ok(applied.retired.is_empty()),
            Err(error) => Err(FilerError::store(&self.mount, &self.rel, error)),
        }
    }

    fn retired(&self) -> FilerError {
        FilerError::interrupted(&self.mount, &self.rel, "the mount was removed or became another one meanwhile")
    }

    /// Whether this delete may still go on: the mount is in force, with the policy it began under, and nobody stops us.
    fn allowed(&self) -> Result<(), FilerError> {
        let why = if self.filer.0.stop.is_cancelled() {
            "the sidecar is stopping"
        } else {
            let table = self.filer.0.mounts.load();
            match table.iter().find(|mount| mount.id == self.mount.id) {
                None => "the mount was removed or became another one meanwhile",
                Some(_) if !table.children(&self.mount.path.join(&self.rel)).is_empty() => {
                    "another mount was put below it meanwhile"
                }
                Some(now) if now.delete_policy != self.mount.delete_policy => "the mount's deletePolicy was changed",
                Some(_) => return Ok(()),
            }
        };
        Err(FilerError::interrupted(&self.mount, &self.rel, why))
    }
}

impl Filer {
    /// Commits what a delete does locally, within the time that persisting has.
    pub(super) async fn commit(&self, changes: Vec<Change>) -> Result<Applied, StoreError> {
        let outcome = tokio::time::timeout(PERSIST, self.0.writer.commit(changes)).await;
        outcome.unwrap_or(Err(StoreError::TimedOut))
    }
}

/// What a delete that failed counts as.
fn result_of(error: &FilerError) -> DeleteResult {
    match error {
        FilerError::DeleteDenied { .. } => DeleteResult::Denied,
        FilerError::Conflict { .. } => DeleteResult::Conflict,
        FilerError::NotEmpty { .. } | FilerError::MountRoot { .. } | FilerError::FileAndDirectory { .. } => {
            DeleteResult::Refused
        }
        FilerError::Incomplete { first, .. } if matches!(**first, FilerError::Conflict { .. }) => {
            DeleteResult::Conflict
        }
        _ => DeleteResult::Failed,
    }
}

/// Whether the filer did as it should in not deleting: that is for who asked to hear, and no trouble of the mount's.
fn keeps_what_it_must(error: &FilerError) -> bool {
    match error {
        FilerError::Unnameable { .. }
        | FilerError::HiddenKeys { .. }
        | FilerError::Refilled { .. }
        | FilerError::Interrupted { .. } => true,
        FilerError::Incomplete { first, failures, .. } => {
            keeps_what_it_must(first) && failures.iter().all(|failure| keeps_what_it_must(&failure.error))
        }
        _ => false,
    }
}
