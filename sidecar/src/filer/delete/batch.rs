//! Batch: up to a thousand objects of a sweep, in one request (X6, X8).
//!
//! One intent holds them all, durable before the request. What the answer says is deleted goes locally
//! in the transaction that ends the intent; what failed keeps its entry. Where the answer is not clear,
//! each object is asked for.

use futures_util::stream::{self, StreamExt as _};

use crate::clock;
use crate::crash;
use crate::entry::Millis;
use crate::filer::FilerError;
use crate::filer::delete::Deletion;
use crate::filer::settle::Fate;
use crate::path::RelPath;
use crate::remote::{ErrorKind, RemoteError};
use crate::store::{Change, Doomed, DoomedObject, FileDeletion, Intent};

/// Questions under way at once, where each object is asked for.
const QUESTIONS: usize = 16;

/// How a batch ended.
#[derive(Default)]
pub struct Batched {
    /// Objects that are gone.
    pub deleted: u64,
    /// Those that are not, and why.
    pub failures: Vec<(RelPath, FilerError)>,
    /// How many of these may be gone all the same, or go yet.
    pub unclear: u64,
    /// Whether it could not be done at all, or not be told what came of it.
    pub stuck: bool,
}

impl Deletion {
    /// Deletes objects that were there at `seen`.
    pub(super) async fn batch(&self, objects: Vec<DoomedObject>, seen: Millis) -> Batched {
        let (begun, since, intent) = match self.begin(self.rel.clone(), Doomed::Batch(objects.clone()), seen).await {
            Ok(begun) => begun,
            Err(error) => return Batched::none(objects, &error),
        };
        crash::point("batch-intent-durable");
        if let Err(error) = self.allowed() {
            self.give_up(begun, Vec::new()).await;
            return Batched::none(objects, &error);
        }
        let keys: Vec<_> = objects.iter().map(|object| (self.key(object), object.pointer.clone())).collect();
        let answer = self.mount.remote.delete_many(&keys).await;
        crash::point("batch-answered");
        let failed = match answer {
            Ok(failed) => failed,
            Err(error) => (0..objects.len()).map(|at| (at, error.clone())).collect(),
        };
        let fates = self.fates(&objects, failed).await;
        let unclear = objects.iter().zip(&fates).filter(|(_, fate)| matches!(fate, End::Unclear(_)));
        let unclear: Vec<DoomedObject> = unclear.map(|(object, _)| object.clone()).collect();
        // What is still unclear keeps an intent of its own, in the transaction that ends the rest.
        let open = unclear.len() as u64;
        let rest = (open > 0).then_some(Intent { doomed: Doomed::Batch(unclear), ..intent });
        let change = match &rest {
            Some(rest) => Change::Intend(self.mount.id, begun.id, rest.clone()),
            None => Change::Settled(self.mount.id, begun.id),
        };
        let outcome = self.finish(&objects, fates, since, change).await;
        crash::point("batch-deleted-locally");
        match outcome {
            Ok(batched) => {
                // Only now: until the store knows what is gone, all of it is open.
                match rest {
                    Some(rest) => begun.narrow(rest),
                    None => begun.close(),
                }
                Batched { unclear: open, stuck: open > 0, ..batched }
            }
            Err(error) => Batched { unclear: objects.len() as u64, ..Batched::none(objects, &error) },
        }
    }

    fn key(&self, object: &DoomedObject) -> String {
        if object.marker { self.mount.prefix.below(&object.path) } else { self.mount.prefix.key(&object.path) }
    }

    /// What became of each object: where the answer leaves it open, the remote is asked.
    async fn fates(&self, objects: &[DoomedObject], failed: Vec<(usize, RemoteError)>) -> Vec<End> {
        let now = clock::now();
        let mut fates: Vec<End> = objects.iter().map(|_| End::Gone(now)).collect();
        let mut open = Vec::new();
        for (at, error) in failed {
            let asks = (error.kind.is_ambiguous() || error.kind == ErrorKind::Changed) && !objects[at].marker;
            if asks {
                open.push((at, error.clone()));
            }
            fates[at] = if error.kind.is_ambiguous() { End::Unclear(error) } else { End::There(error) };
        }
        let asked: Vec<_> = open
            .into_iter()
            .map(|(at, error)| async move { (at, self.filer.fate(&self.mount, &objects[at].path).await, error) })
            .collect();
        let mut asked = stream::iter(asked).buffer_unordered(QUESTIONS);
        while let Some((at, fate, error)) = asked.next().await {
            fates[at] = match fate {
                Ok(Fate::Gone(asked)) if error.kind == ErrorKind::Changed => End::Vanished(asked),
                Ok(Fate::Gone(asked)) => End::Gone(asked),
                Ok(Fate::There(_) | Fate::Untold(_)) => End::There(error),
                // A remote that does not answer is not asked a thousand times.
                Err(_) => break,
            };
        }
        fates
    }

    /// Takes away what is gone, and ends or narrows the intent.
    async fn finish(
        &self,
        objects: &[DoomedObject],
        fates: Vec<End>,
        since: Millis,
        intent: Change,
    ) -> Result<Batched, FilerError> {
        let origin = self.origin();
        let mut batched = Batched::default();
        let mut changes = Vec::with_capacity(objects.len() + 1);
        for (object, fate) in objects.iter().zip(fates) {
            match fate {
                End::Gone(at) => {
                    batched.deleted += 1;
                    if !object.marker {
                        let pointer = Some(object.pointer.clone());
                        let deletion = FileDeletion { since, at, pointer, hide: false, origin: origin.clone() };
                        changes.push(Change::DeleteFile(self.mount.id, object.path.clone(), deletion));
                    }
                }
                End::Vanished(at) => {
                    // Told of as what was known of it, if anything was.
                    let deletion = FileDeletion { since, at, pointer: None, hide: false, origin: origin.clone() };
                    changes.push(Change::DeleteFile(self.mount.id, object.path.clone(), deletion));
                }
                End::There(error) if error.kind == ErrorKind::Changed => {
                    changes.push(Change::Doubt(self.mount.id, object.path.clone()));
                    batched.failures.push((object.path.clone(), FilerError::conflict(&self.mount, &object.path)));
                }
                End::There(error) | End::Unclear(error) => {
                    // The request may be carried out yet: what is known is asked for again before it is shown.
                    if error.kind.is_ambiguous() {
                        changes.push(Change::Doubt(self.mount.id, object.path.clone()));
                    }
                    let failure = FilerError::remote(&self.mount, &object.path, error);
                    batched.failures.push((object.path.clone(), failure));
                }
            }
        }
        changes.push(intent);
        self.mount.metrics.deletes.objects.inc_by(batched.deleted);
        self.commit_done(changes).await?;
        Ok(batched)
    }
}

/// What became of one object.
enum End {
    /// It is gone by this delete, as of then.
    Gone(Millis),
    /// It is gone, as of then, and not by this delete.
    Vanished(Millis),
    /// It is there.
    There(RemoteError),
    /// The remote has not said.
    Unclear(RemoteError),
}

impl Batched {
    /// Nothing of it is known to be done.
    fn none(objects: Vec<DoomedObject>, error: &FilerError) -> Self {
        let failures = objects.into_iter().map(|object| (object.path, error.clone())).collect();
        Self { failures, stuck: true, ..Self::default() }
    }
}
