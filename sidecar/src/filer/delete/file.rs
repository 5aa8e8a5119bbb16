//! One file: its object, then what is known of it (X2–X5, X8).

use crate::clock;
use crate::crash;
use crate::entry::{File, Millis, Pointer};
use crate::filer::FilerError;
use crate::filer::delete::{DeleteAnswer, Deleted, Deletion};
use crate::filer::intents::Begun;
use crate::filer::settle::Fate;
use crate::remote::{ErrorKind, RemoteError};
use crate::store::{Change, Doomed, FileDeletion};
use remotemount_crds::DeletePolicy;

impl Deletion {
    /// Deletes a file that was there at `seen`. Whether its bytes are cached, and how many it has, makes no difference (X2).
    pub(super) async fn file(&self, file: File, seen: Millis) -> DeleteAnswer {
        let Some(pointer) = file.pointer else { return self.file_here(None, false).await };
        if self.mount.delete_policy == DeletePolicy::Retain {
            return self.file_here(Some(pointer), true).await;
        }
        let (begun, since, _) = self.begin(self.rel.clone(), Doomed::File(pointer.clone()), seen).await?;
        crash::point("intent-durable");
        // Keeping it took its time; the policy may be another by now.
        if let Err(error) = self.allowed() {
            self.give_up(begun, Vec::new()).await;
            return Err(error);
        }
        let key = self.mount.prefix.key(&self.rel);
        let answer = self.mount.remote.delete(&key, Some(&pointer)).await;
        crash::point("remote-answered");
        match answer {
            Ok(()) => self.gone(begun, since, Some(pointer), clock::now()).await,
            Err(error) if error.kind == ErrorKind::Changed => self.changed(begun, since, error).await,
            Err(error) if error.kind.is_ambiguous() => self.unclear(begun, since, pointer, error).await,
            Err(error) => {
                self.give_up(begun, Vec::new()).await;
                Err(FilerError::remote(&self.mount, &self.rel, error))
            }
        }
    }

    /// The object is gone as of `at`: now what is known of it goes, with the intent, in one transaction.
    async fn gone(&self, begun: Begun, since: Millis, pointer: Option<Pointer>, at: Millis) -> DeleteAnswer {
        let deletion = FileDeletion { at, ..self.deletion(since, pointer, false) };
        let settled = Change::Settled(self.mount.id, begun.id);
        self.commit_done(vec![Change::DeleteFile(self.mount.id, self.rel.clone(), deletion), settled]).await?;
        crash::point("local-delete-durable");
        begun.close();
        self.mount.metrics.deletes.objects.inc();
        Ok(Deleted { count: 1 })
    }

    /// The remote refused because of the version: it has another one by now, or none.
    async fn changed(&self, begun: Begun, since: Millis, error: RemoteError) -> DeleteAnswer {
        match self.filer.fate(&self.mount, &self.rel).await {
            // Not by this delete; told of as what was known of it, if anything was.
            Ok(Fate::Gone(at)) => self.gone(begun, since, None, at).await,
            told => {
                tracing::debug!(%error, told = told.is_ok(), "refused because of the version");
                // Not the new version: it was shown to nobody, and what was shown binds the next delete, too.
                self.give_up(begun, vec![Change::Doubt(self.mount.id, self.rel.clone())]).await;
                Err(FilerError::conflict(&self.mount, &self.rel))
            }
        }
    }

    /// The request may have been carried out or not: the remote knows, now or later.
    async fn unclear(&self, begun: Begun, since: Millis, pointer: Pointer, error: RemoteError) -> DeleteAnswer {
        match self.filer.fate(&self.mount, &self.rel).await {
            Ok(Fate::Gone(at)) => self.gone(begun, since, Some(pointer), at).await,
            Ok(told @ (Fate::There(_) | Fate::Untold(_))) => {
                // The request may be carried out yet: what is known is asked for again before it is shown.
                self.give_up(begun, vec![Change::Doubt(self.mount.id, self.rel.clone())]).await;
                // Told of the failure alone, the caller would try again, and delete a version that was never shown (X5).
                let another = matches!(told, Fate::There(now) if !pointer.same_version(&now));
                Err(if another {
                    FilerError::conflict(&self.mount, &self.rel)
                } else {
                    FilerError::remote(&self.mount, &self.rel, error)
                })
            }
            // The intent is left, and settled when the remote answers again.
            Err(_) => Err(FilerError::remote(&self.mount, &self.rel, error)),
        }
    }

    /// Nothing was deleted: the intent goes, and what was learnt is kept. If that fails, the intent is left to be settled.
    pub(super) async fn give_up(&self, begun: Begun, mut changes: Vec<Change>) {
        changes.insert(0, Change::Settled(self.mount.id, begun.id));
        match self.commit(changes).await {
            Ok(()) => begun.close(),
            Err(error) => tracing::warn!(%error, "a delete that failed is still noted as open; it will be settled"),
        }
    }

    /// Deletes what is known of a file, and nothing else.
    pub(super) async fn file_here(&self, pointer: Option<Pointer>, hide: bool) -> DeleteAnswer {
        self.allowed()?;
        let deletion = self.deletion(clock::now(), pointer, hide);
        self.commit(vec![Change::DeleteFile(self.mount.id, self.rel.clone(), deletion)]).await?;
        crash::point("local-delete-durable");
        Ok(Deleted { count: 1 })
    }

    pub(super) fn deletion(&self, since: Millis, pointer: Option<Pointer>, hide: bool) -> FileDeletion {
        FileDeletion { since, at: clock::now(), pointer, hide, origin: self.origin() }
    }
}
