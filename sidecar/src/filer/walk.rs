//! Walks: one remote listing of one directory, shared by everyone who lists it.
//!
//! A walk goes through the remote's pages by their tokens, puts each into the store, and says how far
//! it is. It is driven by demand: nobody waiting, no page asked; abandoned for a minute, it ends. Only
//! a walk from the first page to the last is a complete listing, and only then do names that it did
//! not confirm vanish (D1). A page that fails ends it with that error, so that no reader ever takes
//! half a directory for a whole one (D2).
//!
//! A remote that lists keys out of order (some do) cannot be followed page by page; its walks tell
//! nothing until they are complete.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock;
use crate::entry::{Directory, File, Listing, Millis};
use crate::filer::lookup::put_directory;
use crate::filer::{Filer, PERSIST};
use crate::mounts::Mount;
use crate::path::{Child, RelPath, child_of};
use crate::remote::{ListPage, ListRequest, RemoteError};
use crate::store::{Change, Cursor, MountId, StoreError};

/// Keys a page; what S3 gives at most.
const PAGE: u16 = 1000;
/// Who begins a listing joins a walk that began up to so many seconds ago, however short listings are good for.
const MINGLE: u64 = 5;
/// A walk that nobody waits for ends after this.
const ABANDONED: Duration = Duration::from_secs(60);

/// Which directory, and from which name on.
type WalkKey = (MountId, RelPath, String);

/// Walks under way.
#[derive(Default)]
pub struct Walks(Mutex<HashMap<WalkKey, Arc<Walk>>>);

/// One walk, seen by those who wait for it.
pub struct Walk {
    /// When it began; what it confirms is as of then or later.
    pub asked: Millis,
    /// Whether it began at the first page: then, once complete, the store is what the remote is.
    pub whole: bool,
    demand: watch::Sender<u64>,
    progress: watch::Receiver<Progress>,
}

/// How far a walk is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Pages done.
    pub pages: u64,
    /// Up to here the store has what the remote has.
    pub covered: Option<Cursor>,
    /// How it ended.
    pub end: Option<End>,
}

/// How a walk ended.
#[derive(Clone, Debug)]
pub enum End {
    /// Every page is in the store; the directory exists or does not.
    Complete {
        /// Whether anything is there, its marker included.
        exists: bool,
    },
    /// The remote failed.
    Remote(RemoteError),
    /// The store failed.
    Store(StoreError),
    /// Keys came out of order after pages had been told of; ask again.
    OutOfOrder,
    /// Nobody waited for a long time.
    Abandoned,
}

impl Walk {
    /// How far it is now.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Asks for a page after `seen` and waits until there is news.
    pub async fn further(&self, seen: u64) -> Progress {
        self.demand.send_if_modified(|demand| {
            let more = *demand <= seen;
            *demand = (*demand).max(seen + 1);
            more
        });
        let mut progress = self.progress.clone();
        match progress.wait_for(|progress| progress.pages > seen || progress.end.is_some()).await {
            Ok(news) => news.clone(),
            // The task is gone without an end: it panicked. Its waiters must not wait for ever.
            Err(_) => Progress { end: Some(End::Abandoned), ..self.progress() },
        }
    }
}

impl Walks {
    fn open(&self) -> MutexGuard<'_, HashMap<WalkKey, Arc<Walk>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Filer {
    /// The walk of the whole directory, if one is under way and has come as far as `place`.
    pub(super) fn walk_under_way(&self, mount: &Mount, directory: &RelPath, place: &Cursor) -> Option<Arc<Walk>> {
        let walk = self.0.walks.open().get(&(mount.id, directory.clone(), String::new())).cloned()?;
        let reached = walk.progress().covered.is_some_and(|covered| covered >= *place);
        (*place != Cursor::start() && reached).then_some(walk)
    }

    /// The walk of a directory from `start` on (empty for the whole), begun if there is none.
    pub(super) fn walk(&self, mount: &Arc<Mount>, directory: &RelPath, start: &str) -> Arc<Walk> {
        let key = (mount.id, directory.clone(), start.to_owned());
        let mut open = self.0.walks.open();
        // A walk kept going by a slow reader may be old; who begins a listing then begins a walk.
        let good = mount.freshness.listing.max(MINGLE);
        if let Some(walk) = open.get(&key).filter(|walk| walk.asked.fresh(good, clock::now())) {
            return Arc::clone(walk);
        }
        let (demand, wanted) = watch::channel(0);
        let (say, progress) = watch::channel(Progress::default());
        let walk = Arc::new(Walk { asked: clock::now(), whole: start.is_empty(), demand, progress });
        open.insert(key.clone(), Arc::clone(&walk));
        let guard = Ended { filer: self.clone(), key, walk: Arc::downgrade(&walk) };
        let (filer, mount, asked) = (self.clone(), Arc::clone(mount), walk.asked);
        self.0.tasks.spawn(async move {
            let (_, directory, start) = &guard.key;
            let mut run = Run {
                filer: &filer,
                mount: &mount,
                directory,
                asked,
                told: None,
                unnameable: 0,
                exists: directory.is_root(),
                whole: start.is_empty(),
                published: false,
            };
            let end = run.pages(start, wanted, &say).await;
            // Out of the table before its end is told: who hears it and asks again gets a new walk.
            drop(guard);
            say.send_modify(|progress| progress.end = Some(end));
        });
        walk
    }
}

/// Takes the walk out of the table, however its task ends.
struct Ended {
    filer: Filer,
    key: WalkKey,
    walk: Weak<Walk>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        let mut open = self.filer.0.walks.open();
        if open.get(&self.key).is_some_and(|walk| std::ptr::eq(Arc::as_ptr(walk), self.walk.as_ptr())) {
            open.remove(&self.key);
        }
    }
}

struct Run<'r> {
    filer: &'r Filer,
    mount: &'r Mount,
    directory: &'r RelPath,
    asked: Millis,
    told: Option<Cursor>,
    unnameable: u64,
    exists: bool,
    whole: bool,
    /// Whether anyone was told of a page.
    published: bool,
}

impl Run<'_> {
    async fn pages(&mut self, start: &str, mut wanted: watch::Receiver<u64>, say: &watch::Sender<Progress>) -> End {
        let below = self.mount.prefix.below(self.directory);
        let mut request =
            ListRequest { prefix: below.clone(), directories: true, token: None, after: None, limit: PAGE };
        if !start.is_empty() {
            request.after = Some(format!("{below}{start}"));
        }
        let mut done = 0;
        loop {
            let demand = wanted.wait_for(|demand| *demand > done);
            tokio::select! {
                () = self.filer.0.stop.cancelled() => return End::Abandoned,
                waited = tokio::time::timeout(ABANDONED, demand) => if waited.is_err() {
                    return End::Abandoned;
                },
            }
            let asked = clock::now();
            let page = match self.mount.remote.list(&request).await {
                Ok(page) => page,
                Err(error) => return End::Remote(error),
            };
            request.token.clone_from(&page.next);
            if let Err(end) = self.take(page, &below, asked).await {
                return end;
            }
            done += 1;
            if request.token.is_none() {
                // Nothing after a place says nothing of the directory itself.
                return End::Complete { exists: self.exists || !start.is_empty() };
            }
            let covered = if self.mount.unordered() { None } else { self.told.clone() };
            self.published |= covered.is_some();
            say.send_modify(|progress| *progress = Progress { pages: done, covered, end: None });
        }
    }

    /// Puts one page into the store; with the last of a whole walk, what vanished goes.
    async fn take(&mut self, page: ListPage, below: &str, asked: Millis) -> Result<(), End> {
        let last = page.next.is_none();
        let (mut changes, cursors) = self.read(page, below, asked);
        self.order(&cursors)?;
        if self.exists && !self.directory.is_root() {
            let here = std::iter::once(self.directory.clone()).chain(self.directory.ancestors());
            changes.extend(here.map(|path| put_directory(self.mount.id, path, asked)));
            self.filer.0.negatives.forget(self.mount.id, self.directory, asked);
        }
        if last && self.whole {
            changes.push(if self.exists {
                let listing = Listing { asked: self.asked, unnameable: self.unnameable };
                Change::Listed(self.mount.id, self.directory.clone(), listing)
            } else {
                Change::DirectoryGone(self.mount.id, self.directory.clone(), self.asked)
            });
        }
        if changes.is_empty() {
            return Ok(());
        }
        let outcome = tokio::time::timeout(PERSIST, self.filer.0.writer.commit(changes)).await;
        let applied =
            outcome.unwrap_or_else(|_| Err(StoreError::Io("not written in time".into()))).map_err(End::Store)?;
        if !applied.retired.is_empty() {
            // The mount became another remote meanwhile; what was listed is not in the store (M3).
            return Err(End::Abandoned);
        }
        if applied.removed > 0 && last {
            let path = self.mount.path.join(self.directory);
            tracing::info!(event = "removed", mount = self.mount.name, %path, entries = applied.removed, "names vanished remotely");
            self.mount.metrics.removed.inc_by(applied.removed);
        }
        Ok(())
    }

    fn read(&mut self, page: ListPage, below: &str, asked: Millis) -> (Vec<Change>, Vec<Cursor>) {
        let mut changes = Vec::with_capacity(page.objects.len() + page.prefixes.len());
        let mut cursors = Vec::with_capacity(changes.capacity());
        for (key, pointer) in page.objects {
            self.exists = true;
            match child_of(below, &key) {
                Child::File(name) => {
                    cursors.push(Cursor::after_file(&name));
                    let path = self.directory.child(&name);
                    // A page may have been on its way while a lookup learnt that the name is gone (L8).
                    if !self.filer.0.negatives.absent_since(self.mount.id, &path, asked) {
                        let file = File { pointer: Some(pointer), description: None, asked, doubted: false };
                        changes.push(Change::PutFile(self.mount.id, path, file));
                    }
                }
                // The directory's own marker. With content, it is an object that no path can name.
                Child::Marker => self.unnameable += u64::from(pointer.size > 0),
                Child::Directory(_) | Child::Unnameable => self.unnameable += 1,
            }
        }
        for prefix in page.prefixes {
            self.exists = true;
            match child_of(below, &prefix) {
                Child::Directory(name) => {
                    cursors.push(Cursor::after_directory(&name));
                    let path = self.directory.child(&name);
                    if !self.filer.0.negatives.absent_since(self.mount.id, &path, asked) {
                        // A whole walk sees a file of the same name, too, and would put it.
                        let file_absent = self.whole.then_some(asked);
                        let directory = Directory { file_absent, ..Directory::seen(asked) };
                        changes.push(Change::PutDirectory(self.mount.id, path, directory));
                    }
                }
                _ => self.unnameable += 1,
            }
        }
        cursors.sort();
        (changes, cursors)
    }

    /// Holds the remote to its order, page after page.
    fn order(&mut self, cursors: &[Cursor]) -> Result<(), End> {
        let (Some(first), Some(last)) = (cursors.first(), cursors.last()) else { return Ok(()) };
        let back = self.told.as_ref().is_some_and(|told| first <= told);
        if self.told.is_some() && !back && self.whole {
            self.mount.set_order_seen();
        }
        // A remote known for it has told nobody of a page yet, unless another walk found out just now.
        if back && (self.published || !self.mount.unordered()) {
            self.mount.set_unordered();
            let path = self.mount.path.join(self.directory);
            tracing::warn!(mount = self.mount.name, %path, "the remote lists keys out of order: listings wait until they are complete");
            return Err(End::OutOfOrder);
        }
        self.told = self.told.take().max(Some(last.clone()));
        Ok(())
    }
}
