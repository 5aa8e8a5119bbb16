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
use crate::store::{Change, Doomed, DoomedObject, FileDeletion, IntentId};

/// Questions under way at once, where each object is asked for.
const QUESTIONS: usize = 16;

/// How a batch ended.
#[derive(Default)]
pub struct Batched {
    /// Objects that are gone.
    pub deleted: u64,
    /// Those that are not, and why.
    pub failures: Vec<(RelPath, FilerError)>,
}

impl Deletion {
    pub(super) async fn batch(&self, objects: Vec<DoomedObject>) -> Batched {
        let (begun, since) = match self.begin(self.rel.clone(), Doomed::Batch(objects.clone())).await {
            Ok(begun) => begun,
            Err(error) => return Batched::none(objects, &error),
        };
        crash::point("batch-intent-durable");
        let keys: Vec<_> = objects.iter().map(|object| (self.key(object), object.pointer.clone())).collect();
        let answer = self.mount.remote.delete_many(&keys).await;
        crash::point("batch-answered");
        let failed = match answer {
            Ok(failed) => failed,
            Err(error) => (0..objects.len()).map(|at| (at, error.clone())).collect(),
        };
        let (fates, unclear) = self.fates(&objects, failed).await;
        let outcome = self.finish(&objects, fates, since, (!unclear).then_some(begun.id)).await;
        if !unclear && outcome.is_ok() {
            begun.close();
        }
        crash::point("batch-deleted-locally");
        outcome.unwrap_or_else(|error| Batched::none(objects, &error))
    }

    fn key(&self, object: &DoomedObject) -> String {
        if object.marker { self.mount.prefix.below(&object.path) } else { self.mount.prefix.key(&object.path) }
    }

    /// Which of the failures are none, because the object is gone; and whether some cannot be told.
    async fn fates(
        &self,
        objects: &[DoomedObject],
        failed: Vec<(usize, RemoteError)>,
    ) -> (Vec<Option<RemoteError>>, bool) {
        let mut fates: Vec<Option<RemoteError>> = vec![None; objects.len()];
        let mut unclear = false;
        let asked: Vec<_> = failed
            .into_iter()
            .map(|(at, error)| async move {
                let changed = error.kind == ErrorKind::Changed;
                if !(error.kind.is_ambiguous() || changed) || objects[at].marker {
                    return (at, Some(error), false);
                }
                match self.filer.fate(&self.mount, &objects[at].path).await {
                    Ok(Fate::Gone) => (at, None, false),
                    Ok(Fate::There(_)) => (at, Some(error), false),
                    Err(_) => (at, Some(error), !changed),
                }
            })
            .collect();
        let mut asked = stream::iter(asked).buffer_unordered(QUESTIONS);
        while let Some((at, fate, not_told)) = asked.next().await {
            fates[at] = fate;
            unclear |= not_told;
        }
        (fates, unclear)
    }

    /// Takes away what is gone; ends the intent, unless something of it is still unclear.
    async fn finish(
        &self,
        objects: &[DoomedObject],
        fates: Vec<Option<RemoteError>>,
        since: Millis,
        intent: Option<IntentId>,
    ) -> Result<Batched, FilerError> {
        let (at, origin) = (clock::now(), self.origin());
        let mut batched = Batched::default();
        let mut changes = Vec::with_capacity(objects.len() + 1);
        for (object, fate) in objects.iter().zip(fates) {
            match fate {
                None => {
                    batched.deleted += 1;
                    if !object.marker {
                        let pointer = Some(object.pointer.clone());
                        let deletion = FileDeletion { since, at, pointer, hide: false, origin: origin.clone() };
                        changes.push(Change::DeleteFile(self.mount.id, object.path.clone(), deletion));
                    }
                }
                Some(error) if error.kind == ErrorKind::Changed => {
                    changes.push(Change::Doubt(self.mount.id, object.path.clone()));
                    batched.failures.push((object.path.clone(), FilerError::conflict(&self.mount, &object.path)));
                }
                Some(error) => {
                    let failure = FilerError::remote(&self.mount, &object.path, error);
                    batched.failures.push((object.path.clone(), failure));
                }
            }
        }
        changes.extend(intent.map(|id| Change::Settled(self.mount.id, id)));
        self.mount.metrics.deletes.objects.inc_by(batched.deleted);
        self.commit(changes).await?;
        Ok(batched)
    }
}

impl Batched {
    /// Nothing of it is known to be done.
    fn none(objects: Vec<DoomedObject>, error: &FilerError) -> Self {
        Self { deleted: 0, failures: objects.into_iter().map(|object| (object.path, error.clone())).collect() }
    }
}
