//! The single writer: whatever waits is committed in one durable transaction.
//!
//! One thread owns all writing. Callers hand in their changes over a bounded channel and wait; the
//! thread takes everything that has gathered, applies it at once, and answers everyone. So a thousand
//! lookups cost a handful of disk syncs, and a slow disk slows writers, never readers. Between
//! commits it frees entries of retired mounts in small portions.
//!
//! Dropping every `Writer` ends the thread after what was handed in is on disk.

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use crate::store::{Applied, Change, Store, StoreError};

/// Batches that may wait; beyond that, callers wait to hand in.
const WAITING: usize = 1024;
/// Changes that one transaction takes at most, so that the first caller does not wait for all others.
const PER_COMMIT: usize = 10_000;
/// Entries of retired mounts freed at a time.
const PER_PURGE: usize = 10_000;

struct Request {
    changes: Vec<Change>,
    answer: oneshot::Sender<Result<Applied, StoreError>>,
}

/// A handle to the single writer.
#[derive(Clone)]
pub struct Writer {
    requests: mpsc::Sender<Request>,
}

impl Writer {
    /// Starts the thread over `store`; joining the handle after the last `Writer` is gone waits for the last commit.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(store: Arc<dyn Store>) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (requests, queue) = mpsc::channel(WAITING);
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(move || run(&*store, queue))?;
        Ok((Self { requests }, thread))
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

    /// Asks for the entries of retired mounts to be freed; an empty commit wakes the thread.
    pub async fn purge(&self) {
        // A closing writer purges at the next start.
        let _ = self.commit(Vec::new()).await;
    }
}

fn run(store: &dyn Store, mut queue: mpsc::Receiver<Request>) {
    let mut garbage = true;
    loop {
        let first = if garbage {
            match queue.try_recv() {
                Ok(request) => Some(request),
                Err(mpsc::error::TryRecvError::Empty) => None,
                Err(mpsc::error::TryRecvError::Disconnected) => return,
            }
        } else {
            match queue.blocking_recv() {
                Some(request) => Some(request),
                None => return,
            }
        };
        let Some(first) = first else {
            garbage = store.purge(PER_PURGE).unwrap_or(false);
            continue;
        };
        garbage |= first.changes.is_empty();
        let mut changes = first.changes;
        let mut waiting = vec![(changes.len(), first.answer)];
        while changes.len() < PER_COMMIT
            && let Ok(request) = queue.try_recv()
        {
            garbage |= request.changes.is_empty();
            waiting.push((request.changes.len(), request.answer));
            changes.extend(request.changes);
        }
        if changes.is_empty() {
            for (_, answer) in waiting {
                let _ = answer.send(Ok(Applied::default()));
            }
            continue;
        }
        commit(store, &changes, waiting);
    }
}

/// Commits all at once; when that fails, each batch alone, so that one that cannot be written fails only its own caller.
fn commit(store: &dyn Store, changes: &[Change], waiting: Vec<(usize, oneshot::Sender<Result<Applied, StoreError>>)>) {
    let whole = store.apply(changes);
    let alone = waiting.len() == 1;
    let mut rest = changes;
    for (length, answer) in waiting {
        let (mine, others) = rest.split_at(length);
        rest = others;
        // A caller that left does not matter: its changes are durable all the same.
        let _ = answer.send(match &whole {
            Ok(applied) => Ok(*applied),
            Err(error) if alone || mine.is_empty() => Err(error.clone()),
            Err(_) => store.apply(mine),
        });
    }
}
