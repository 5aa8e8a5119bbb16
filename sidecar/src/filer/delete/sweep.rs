//! Sweep: empties a directory on the remote, page by page, and only then takes it away here (X6).
//!
//! The remote says what is below; what this filer knows of it decides nothing but which version may go.
//! Pages are listed one after another, their keys deleted in bulk requests of which a few are under way
//! at once, so memory is bounded however large the directory is. The first failure stops further pages,
//! unless the order says otherwise; every failure is counted and the first are told by name. Keys that
//! no path can name, or that were hidden to be kept, are left alone and told of. At the end one more
//! listing shows that nothing is left.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::clock;
use crate::crash;
use crate::entry::Millis;
use crate::filer::FilerError;
use crate::filer::delete::page::Tally;
use crate::filer::delete::{DeleteAnswer, Deleted, Deletion};
use crate::filer::intents::Begun;
use crate::remote::ListPage;
use crate::store::{Change, DirectoryDeletion, Doomed, Extent};

/// Bulk requests under way at once.
const BATCHES: usize = 4;
/// Keys that keep coming while they are deleted: so many times the directory is gone through.
const PASSES: usize = 3;

impl Deletion {
    /// Deletes everything below the directory, and the directory; `first` is what was there at `asked`, the
    /// beginning of it.
    pub(super) async fn sweep(&self, first: ListPage, asked: Millis) -> DeleteAnswer {
        let (begun, since, _) = self.begin(self.rel.clone(), Doomed::Directory, asked).await?;
        crash::point("directory-intent-durable");
        let mut tally = Tally::default();
        let mut page = (first, asked);
        for _ in 0..PASSES {
            self.pass(page, &mut tally).await;
            if !tally.clean() {
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
                self.commit_done(vec![gone, Change::Settled(self.mount.id, begun.id)]).await?;
                crash::point("local-delete-durable");
                begun.close();
                return Ok(Deleted { count: tally.deleted });
            }
            // What has come since the order found the directory empty was not meant by it.
            if !self.order.recursive {
                let error = FilerError::NotEmpty { mount: self.mount.name.clone(), path: self.path() };
                tally.fail(self.path(), error);
                return self.incomplete(begun, tally).await;
            }
            page = (left, asked);
        }
        tally.fail(self.path(), FilerError::Refilled { mount: self.mount.name.clone(), path: self.path() });
        self.incomplete(begun, tally).await
    }

    /// Goes once through all pages.
    async fn pass(&self, first: (ListPage, Millis), tally: &mut Tally) {
        let this = Arc::new(Self {
            filer: self.filer.clone(),
            mount: Arc::clone(&self.mount),
            rel: self.rel.clone(),
            order: self.order.clone(),
        });
        let mut batches = JoinSet::new();
        let mut next = Some(first);
        while let Some((page, asked)) = next {
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
                batches.spawn(async move { this.batch(objects, asked).await });
            }
            if batches.len() >= BATCHES
                && let Some(done) = batches.join_next().await
            {
                tally.take(self, done);
            }
            let Some(token) = token else { break };
            let asked = clock::now();
            next = match self.mount.remote.list(&self.below(Some(token))).await {
                Ok(page) => Some((page, asked)),
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

    /// Not everything went: what is left of the directory is asked for again when someone wants it.
    async fn incomplete(&self, begun: Begun, tally: Tally) -> DeleteAnswer {
        let mut changes = Vec::new();
        if self.order.ignore_recursive_error {
            changes.push(Change::DeleteDirectory(self.mount.id, self.rel.clone(), self.local_files()));
        }
        changes.push(Change::Age(self.mount.id, self.rel.clone(), clock::now()));
        self.give_up(begun, changes).await;
        Err(self.incomplete_error(tally))
    }
}
