//! Read: bytes of one version of one object, streamed as they come (R1, R2).
//!
//! Every request to the remote carries the ETag that the entry had when the read began, and every
//! answer is compared with it. A stream that breaks off or falls silent is taken up where it stopped,
//! in the same version; if that version is gone the reader gets an error, never other bytes. What
//! changed is put in doubt, so that the next lookup asks.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use crate::clock;
use crate::entry::{Description, File, Pointer};
use crate::filer::{Filer, FilerError, Found};
use crate::mounts::Mount;
use crate::path::RelPath;
use crate::remote::{ErrorKind, Operation, RemoteError};
use crate::store::Change;

/// How often a stream is taken up again without a byte in between.
const RESUMES: u32 = 3;

/// An opened read.
pub struct Reading {
    /// What goes with the object, where the read has told it.
    pub description: Option<Description>,
    /// Exactly the bytes of the range, or an error.
    pub bytes: BoxStream<'static, Result<Bytes, FilerError>>,
}

impl Filer {
    /// The bytes of `range` of the file `found`; the range lies within its size.
    ///
    /// # Errors
    /// [`FilerError::Changed`] when the remote has another version; else why it could not be read.
    pub async fn read(&self, found: &Found, range: Range<u64>) -> Result<Reading, FilerError> {
        let file = found.node.file.as_ref();
        let pointer = file.and_then(|file| file.pointer.clone());
        let (Some(mount), Some(pointer)) = (&found.mount, pointer) else {
            return Ok(Reading { description: None, bytes: stream::empty().boxed() });
        };
        if range.is_empty() {
            return Ok(Reading { description: None, bytes: stream::empty().boxed() });
        }
        let source = Source {
            filer: self.clone(),
            mount: Arc::clone(mount),
            rel: found.rel.clone(),
            key: mount.prefix.key(&found.rel),
            pointer,
        };
        let asked = clock::now();
        let body = source.open(range.clone()).await?;
        if let Some(file) = file.filter(|file| file.description.is_none()) {
            self.describe(&source, File { description: Some(body.stat.description.clone()), asked, ..file.clone() });
        }
        let state = State { at: range.start, end: range.end, resumes: 0, body: Some(body.bytes), source };
        let bytes = stream::unfold(Some(state), |state| async move {
            let mut state = state?;
            match state.next().await {
                Some(Ok(bytes)) => Some((Ok(bytes), Some(state))),
                Some(Err(error)) => Some((Err(error), None)),
                None => None,
            }
        });
        Ok(Reading { description: Some(body.stat.description), bytes: bytes.boxed() })
    }

    /// Keeps what a read told of a file that only a listing had told of (R3); nobody waits for it.
    fn describe(&self, source: &Source, file: File) {
        let change = Change::PutFile(source.mount.id, source.rel.clone(), file);
        let (filer, mount, rel) = (self.clone(), Arc::clone(&source.mount), source.rel.clone());
        self.0.tasks.spawn(async move { filer.persist(&mount, &rel, vec![change]).await });
    }
}

struct Source {
    filer: Filer,
    mount: Arc<Mount>,
    rel: RelPath,
    key: String,
    pointer: Pointer,
}

struct State {
    at: u64,
    end: u64,
    resumes: u32,
    body: Option<BoxStream<'static, Result<Bytes, RemoteError>>>,
    source: Source,
}

impl Source {
    async fn open(&self, range: Range<u64>) -> Result<crate::remote::Body, FilerError> {
        let whole = range == (0..self.pointer.size);
        match self.mount.remote.read(&self.key, (!whole).then_some(range), &self.pointer).await {
            Ok(body) => Ok(body),
            Err(error) if error.kind == ErrorKind::Changed => {
                let doubt = vec![Change::Doubt(self.mount.id, self.rel.clone())];
                self.filer.persist(&self.mount, &self.rel, doubt).await;
                Err(FilerError::changed(&self.mount, &self.rel))
            }
            Err(error) => Err(FilerError::remote(&self.mount, &self.rel, error)),
        }
    }
}

impl State {
    async fn next(&mut self) -> Option<Result<Bytes, FilerError>> {
        let silence = Duration::from_secs(self.source.mount.timeout_seconds);
        loop {
            if self.at >= self.end {
                return None;
            }
            let body = match &mut self.body {
                Some(body) => body,
                None => match self.source.open(self.at..self.end).await {
                    Ok(opened) => self.body.insert(opened.bytes),
                    Err(error) => return Some(Err(error)),
                },
            };
            let error = match tokio::time::timeout(silence, body.next()).await {
                Ok(Some(Ok(bytes))) => {
                    self.at += bytes.len() as u64;
                    self.resumes = 0;
                    self.source.mount.metrics.read_bytes.inc_by(bytes.len() as u64);
                    return Some(Ok(bytes));
                }
                Ok(None) => return None,
                Ok(Some(Err(error))) => error,
                Err(_) => {
                    let message = format!("silent for {} s", silence.as_secs());
                    RemoteError::new(ErrorKind::TimedOut, Operation::Read, &self.source.key, message)
                }
            };
            self.resumes += 1;
            if self.resumes > RESUMES || !error.kind.is_transient() {
                return Some(Err(FilerError::remote(&self.source.mount, &self.source.rel, error)));
            }
            tracing::debug!(key = self.source.key, at = self.at, %error, "taking the read up again");
            self.body = None;
        }
    }
}
