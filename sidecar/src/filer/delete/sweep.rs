//! Sweep: empties a directory on the remote, page by page, and only then takes it away here (X6).
//!
//! The remote says what is below; what this filer knows of it decides nothing but which version may go.
//! Pages are listed one after another, their keys deleted in bulk requests of which a few are under way
//! at once, so memory is bounded however large the directory is. The first failure stops further pages,
//! unless the order says otherwise; every failure is counted and the first are told by name. Keys that
//! no path can name are left alone and told of. At the end one more listing shows that nothing is left.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::clock;
use crate::crash;
use crate::filer::FilerError;
use crate::filer::delete::batch::Batched;
use crate::filer::delete::{DeleteAnswer, Deleted, Deletion, Failure, NAMED_FAILURES};
use crate::filer::intents::Begun;
use crate::path::RelPath;
use crate::remote::ListPage;
use crate::store::{Change, DirectoryDeletion, Doomed, DoomedObject, Extent};

/// Bulk requests under way at once.
const BATCHES: usize = 4;
/// Keys that keep coming while they are deleted: so many times the directory is gone through.
const PASSES: usize = 3;

/// How a sweep is going.
#[derive(Default)]
struct Tally {
    deleted: u64,
    failed: u64,
    failures: Vec<Failure>,
    /// Keys that no path can name.
    unnameable: u64,
}

impl Deletion {
    /// Deletes everything below the directory, and the directory; `first` is the beginning of what lies there.
    pub(super) async fn sweep(&self, first: ListPage) -> DeleteAnswer {
        let (begun, since) = self.begin(self.rel.clone(), Doomed::Directory).await?;
        crash::point("directory-intent-durable");
        let mut tally = Tally::default();
        let mut page = first;
        for _ in 0..PASSES {
            self.pass(page, &mut tally).await;
            if tally.failed > 0 || tally.unnameable > 0 {
                return self.incomplete(begun, tally).await;
            }
            let asked = clock::now();
            let left = match self.mount.remote.list(&self.below(None)).await {
                Ok(left) => left,
                Err(error) => {
                    tally.fail(self.path(), FilerError::remote(&self.mount, &self.rel, error));
                    return self.incomplete(begun, tally).await;
                }
            };
            if left.objects.is_empty() && left.next.is_none() {
                crash::point("directory-found-empty");
                let origin = self.origin();
                let deletion = DirectoryDeletion { since, at: asked, extent: Extent::Whole, hide: false, origin };
                let gone = Change::DeleteDirectory(self.mount.id, self.rel.clone(), deletion);
                self.commit(vec![gone, Change::Settled(self.mount.id, begun.id)]).await?;
                crash::point("local-delete-durable");
                begun.close();
                return Ok(Deleted { count: tally.deleted });
            }
            page = left;
        }
        tally.fail(self.path(), FilerError::NotEmpty { mount: self.mount.name.clone(), path: self.path() });
        self.incomplete(begun, tally).await
    }

    /// Goes once through all pages.
    async fn pass(&self, first: ListPage, tally: &mut Tally) {
        let this = Arc::new(Self {
            filer: self.filer.clone(),
            mount: Arc::clone(&self.mount),
            rel: self.rel.clone(),
            order: self.order.clone(),
        });
        let mut batches = JoinSet::new();
        let mut next = Some(first);
        while let Some(page) = next {
            // A failure while the page was on its way stops it.
            while let Some(done) = batches.try_join_next() {
                tally.take(self, done);
            }
            if let Err(error) = self.allowed() {
                tally.fail(self.path(), error);
                break;
            }
            if !tally.may_go_on(&self.order) {
                break;
            }
            let token = page.next.clone();
            let objects = self.doomed(page, tally).await;
            if !tally.may_go_on(&self.order) {
                break;
            }
            if !objects.is_empty() {
                let this = Arc::clone(&this);
                batches.spawn(async move { this.batch(objects).await });
            }
            if batches.len() >= BATCHES
                && let Some(done) = batches.join_next().await
            {
                tally.take(self, done);
            }
            let Some(token) = token else { break };
            next = match self.mount.remote.list(&self.below(Some(token))).await {
                Ok(page) => Some(page),
                Err(error) => {
                    tally.fail(self.path(), FilerError::remote(&self.mount, &self.rel, error));
                    None
                }
            };
        }
        while let Some(done) = batches.join_next().await {
            tally.take(self, done);
        }
    }

    /// What of a page is to be deleted: everything that a path can name, in the version that was shown, if any was.
    async fn doomed(&self, page: ListPage, tally: &mut Tally) -> Vec<DoomedObject> {
        let mut objects = Vec::with_capacity(page.objects.len());
        let mut newer = Vec::new();
        let asked = clock::now();
        for (key, pointer) in page.objects {
            let (name, marker) = match key.strip_suffix('/') {
                Some(name) if pointer.size == 0 => (name, true),
                _ => (key.as_str(), false),
            };
            // The marker of the mount's own directory is the prefix itself.
            let path = if marker && key == self.mount.prefix.as_str() {
                Some(RelPath::default())
            } else {
                self.mount.prefix.path(name)
            };
            let Some(path) = path else {
                tally.unnameable += 1;
                continue;
            };
            let shown = if marker { None } else { self.filer.0.store.file(self.mount.id, &path).ok().flatten() };
            let shown = shown.and_then(|file| file.pointer);
            if shown.is_some_and(|shown| !shown.same_version(&pointer)) {
                tally.fail(self.path_of(&path), FilerError::conflict(&self.mount, &path));
                newer.push(Change::PutFile(self.mount.id, path, crate::entry::File::of(pointer, asked)));
                continue;
            }
            objects.push(DoomedObject { path, marker, pointer });
        }
        if !newer.is_empty() {
            self.filer.persist(&self.mount, &self.rel, newer).await;
        }
        objects
    }

    /// Not everything went: what is left of the directory is asked for again when someone wants it.
    async fn incomplete(&self, begun: Begun, tally: Tally) -> DeleteAnswer {
        let mut changes = Vec::new();
        if self.order.ignore_recursive_error {
            changes.push(Change::DeleteDirectory(self.mount.id, self.rel.clone(), self.local_files()));
        }
        changes.push(Change::Age(self.mount.id, self.rel.clone()));
        self.give_up(begun, changes).await;
        let unnameable =
            || FilerError::Unnameable { mount: self.mount.name.clone(), path: self.path(), keys: tally.unnameable };
        let first = match tally.failures.first() {
            Some(failure) => failure.error.clone(),
            None => unnameable(),
        };
        let mut failures = tally.failures;
        if tally.unnameable > 0 && failures.len() < NAMED_FAILURES {
            failures.push(Failure { path: self.path(), error: unnameable() });
        }
        Err(FilerError::Incomplete {
            mount: self.mount.name.clone(),
            path: self.path(),
            deleted: tally.deleted,
            failed: tally.failed + tally.unnameable,
            first: Box::new(first),
            failures: failures.into(),
        })
    }
}

impl Tally {
    fn fail(&mut self, path: String, error: FilerError) {
        self.failed += 1;
        if self.failures.len() < NAMED_FAILURES {
            self.failures.push(Failure { path, error });
        }
    }

    fn may_go_on(&self, order: &crate::filer::delete::Order) -> bool {
        (self.failed == 0 && self.unnameable == 0) || order.ignore_recursive_error
    }

    fn take(&mut self, deletion: &Deletion, done: Result<Batched, tokio::task::JoinError>) {
        match done {
            Ok(batched) => {
                self.deleted += batched.deleted;
                for (path, error) in batched.failures {
                    self.fail(deletion.path_of(&path), error);
                }
            }
            // It panicked; its intent is left to be settled.
            Err(_) => self.fail(deletion.path(), FilerError::lost(&deletion.mount, &deletion.rel)),
        }
    }
}
