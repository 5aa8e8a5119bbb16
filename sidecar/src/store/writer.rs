//! The single writer: whatever waits is committed in one durable transaction.
//!
//! One thread owns all writing. Callers hand in their changes over a bounded channel and wait; the
//! thread takes everything that has gathered, applies it at once, and answers everyone. So a thousand
//! lookups cost a handful of disk syncs, and a slow disk slows writers, never readers. Between
//! commits it frees what is over in small portions: entries of retired mounts, tombstones, old events.
//!
//! Dropping every `Writer` ends the thread after what was handed in is on disk.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use crate::clock;
use crate::store::{Applied, Change, Store, StoreError};

/// Batches that may wait; beyond that, callers wait to hand in.
const WAITING: usize = 1024;
/// Changes that one transaction takes at most, so that the first caller does not wait for all others.
const PER_COMMIT: usize = 10_000;
/// Rows freed at a time.
const PER_PURGE: usize = 10_000;
/// What commits leave behind is freed this often.
const PURGE: Duration = Duration::from_secs(60);
/// After a disk error, how often it is tried to open the store again.
const REOPEN: Duration = Duration::from_millis(250);

struct Request {
    changes: Vec<Change>,
    answer: oneshot::Sender<Result<Applied, StoreError>>,
}

/// A handle to the single writer.
#[derive(Clone)]
pub struct Writer {
    requests: mpsc::Sender<Request>,
    newest: watch::Receiver<u64>,
}

/// The writer itself: what waits, and where it goes.
pub struct Committer {
    store: Arc<dyn Store>,
    queue: mpsc::Receiver<Request>,
    newest: watch::Sender<u64>,
    /// There may be something to free.
    garbage: bool,
    purged: Instant,
}

impl Writer {
    /// Starts the thread over `store`; joining the handle after the last `Writer` is gone waits for the last commit.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(store: Arc<dyn Store>) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (writer, committer) = Self::over(store);
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(move || committer.run())?;
        Ok((writer, thread))
    }

    /// A writer whose committer is driven by the caller: by a thread, or turn by turn.
    #[must_use]
    pub fn over(store: Arc<dyn Store>) -> (Self, Committer) {
        let (requests, queue) = mpsc::channel(WAITING);
        let (say, newest) = watch::channel(store.last_event().unwrap_or(0));
        (Self { requests, newest }, Committer { store, queue, newest: say, garbage: true, purged: Instant::now() })
    }

    /// Makes `changes` durable, all or none.
    ///
    /// # Errors
    /// When they were not made: the disk failed or the sidecar is stopping.
    pub async fn commit(&self, changes: Vec<Change>) -> Result<Applied, StoreError> {
        let (answer, done) = oneshot::channel();
        self.requests.send(Request { changes, answer }).await.map_err(|_| StoreError::Closed)?;
        done.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Asks for what is over to be freed; an empty commit wakes the thread.
    pub async fn purge(&self) {
        // A closing writer purges at the next start.
        let _ = self.commit(Vec::new()).await;
    }

    /// The time of the last event that is durable.
    #[must_use]
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.clone()
    }
}

impl Committer {
    /// Commits whatever comes until every [`Writer`] is gone.
    pub fn run(mut self) {
        loop {
            let first = if self.garbage {
                match self.queue.try_recv() {
                    Ok(request) => Some(request),
                    Err(mpsc::error::TryRecvError::Empty) => None,
                    Err(mpsc::error::TryRecvError::Disconnected) => return,
                }
            } else {
                match self.queue.blocking_recv() {
                    Some(request) => Some(request),
                    None => return,
                }
            };
            match first {
                Some(first) => self.take(first),
                None => match self.store.purge(PER_PURGE, clock::now()) {
                    // A disk that failed: readers wait for the store to be opened again, whether anyone writes or not.
                    Err(StoreError::Io(_)) => std::thread::sleep(REOPEN),
                    purged => self.garbage = purged.unwrap_or(false),
                },
            }
        }
    }

    /// Commits what waits, if anything does; answers whether it did.
    pub fn turn(&mut self) -> bool {
        match self.queue.try_recv() {
            Ok(first) => {
                self.take(first);
                true
            }
            Err(_) => false,
        }
    }

    fn take(&mut self, first: Request) {
        let mut changes = Vec::new();
        let mut waiting = Vec::new();
        let mut next = Some(first);
        while let Some(Request { changes: more, answer }) = next {
            self.garbage |= more.is_empty();
            waiting.push((more.len(), answer));
            changes.extend(more);
            next = if changes.len() < PER_COMMIT { self.queue.try_recv().ok() } else { None };
        }
        if changes.is_empty() {
            for (_, answer) in waiting {
                let _ = answer.send(Ok(Applied::default()));
            }
            return;
        }
        let (events, failed) = commit(&*self.store, &changes, waiting);
        self.garbage |= failed;
        if events > 0 {
            // A store that cannot be read now tells of it with the next event.
            let newest = self.store.last_event().unwrap_or(0);
            self.newest.send_if_modified(|known| std::mem::replace(known, newest.max(*known)) < newest);
        }
        if self.purged.elapsed() > PURGE {
            (self.purged, self.garbage) = (Instant::now(), true);
        }
    }
}

/// Commits all at once; when that fails, each batch alone, so that one that cannot be written fails only its own caller.
/// Answers how many events there were, and whether the store failed.
fn commit(
    store: &dyn Store,
    changes: &[Change],
    waiting: Vec<(usize, oneshot::Sender<Result<Applied, StoreError>>)>,
) -> (u64, bool) {
    let whole = store.apply(changes);
    let alone = waiting.len() == 1;
    let mut rest = changes;
    let mut events = whole.as_ref().map_or(0, |applied| applied.events);
    for (length, answer) in waiting {
        let (mine, others) = rest.split_at(length);
        rest = others;
        let outcome = match &whole {
            Ok(applied) => {
                // Several callers' changes went in one; a mount that is retired concerns its own only.
                let retired = applied.retired.iter().filter(|id| mine.iter().any(|change| change.mount() == **id));
                Ok(Applied { retired: retired.copied().collect(), ..applied.clone() })
            }
            Err(error) if alone || mine.is_empty() => Err(error.clone()),
            Err(_) => store.apply(mine),
        };
        if whole.is_err() {
            events += outcome.as_ref().map_or(0, |applied| applied.events);
        }
        // A caller that left does not matter: its changes are durable all the same.
        let _ = answer.send(outcome);
    }
    (events, whole.is_err())
}
