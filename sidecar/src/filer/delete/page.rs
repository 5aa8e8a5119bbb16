//! One page of a sweep: which of its keys may go, and the tally of what came of them (X1, X5, X6).
//!
//! A key goes if a path can name it, if it was not hidden by a delete that was to keep it, and if it is
//! the version that was shown, where one was. Everything else stays, and is counted.

use tokio::task::JoinError;

use crate::filer::FilerError;
use crate::filer::delete::batch::Batched;
use crate::filer::delete::{Deletion, Failure, NAMED_FAILURES, Order};
use crate::filer::lookup::Question;
use crate::path::RelPath;
use crate::remote::ListPage;
use crate::store::{Change, DoomedObject};

/// After so many batches in a row that could not be done, or not be told of, a sweep ends whatever its order says.
const STUCK: usize = 3;

/// How a sweep is going.
#[derive(Default)]
pub struct Tally {
    /// Objects that are gone.
    pub deleted: u64,
    failed: u64,
    failures: Vec<Failure>,
    /// How many of these may be gone all the same.
    unclear: u64,
    /// Batches in a row that could not be done, or not be told what came of them.
    stuck: usize,
    /// Keys that no path can name, and the first of them.
    unnameable: (u64, String),
    /// Keys that an earlier delete has hidden and was to keep, and the first of them.
    hidden: (u64, String),
}

impl Deletion {
    /// What of a page is to be deleted.
    pub(super) async fn doomed(&self, page: ListPage, tally: &mut Tally) -> Vec<DoomedObject> {
        let mut objects = Vec::with_capacity(page.objects.len());
        let mut doubt = Vec::new();
        for (key, pointer) in page.objects {
            let Some((path, marker)) = self.name(&key, pointer.size) else {
                Tally::keep(&mut tally.unnameable, &key);
                continue;
            };
            match self.verdict(&path, marker, &pointer).await {
                Ok(Verdict::Goes) => objects.push(DoomedObject { path, marker, pointer }),
                Ok(Verdict::Hidden) => Tally::keep(&mut tally.hidden, &key),
                Ok(Verdict::Changed) => {
                    tally.fail(self.path_of(&path), FilerError::conflict(&self.mount, &path));
                    // Not the new version: it was shown to nobody, and what was shown binds the next delete, too.
                    doubt.push(Change::Doubt(self.mount.id, path));
                }
                Err(error) => tally.fail(self.path_of(&path), error),
            }
        }
        if !doubt.is_empty() {
            self.filer.persist(&self.mount, &self.rel, doubt).await;
        }
        objects
    }

    /// The path of a key, and whether the key is that directory's marker; none if no path can name it.
    fn name(&self, key: &str, size: u64) -> Option<(RelPath, bool)> {
        let prefix = &self.mount.prefix;
        if key == prefix.as_str() {
            // The mount's own marker; with content, an object that no path names.
            return (size == 0 && !key.is_empty()).then(|| (RelPath::default(), true));
        }
        let (name, marker) = match key.strip_suffix('/') {
            Some(name) if size == 0 => (name, true),
            _ => (key, false),
        };
        prefix.path(name).filter(|path| !path.is_root()).map(|path| (path, marker))
    }

    async fn verdict(
        &self,
        path: &RelPath,
        marker: bool,
        pointer: &crate::entry::Pointer,
    ) -> Result<Verdict, FilerError> {
        let (mount, filer) = (&self.mount, &self.filer.0);
        let told = |error| FilerError::store(mount, path, error);
        let hidden = filer.store.hidden(mount.id, path).map_err(told)?;
        if (marker && hidden.directory) || (!marker && hidden.file) {
            return Ok(Verdict::Hidden);
        }
        if marker {
            return Ok(Verdict::Goes);
        }
        // What was shown a moment ago may not be kept yet, and it is that version that may go (X5).
        for question in [Question::Name, Question::File] {
            filer.flights.landed(&(mount.id, path.clone(), question)).await;
        }
        let shown = filer.store.file(mount.id, path).map_err(told)?.and_then(|file| file.pointer);
        Ok(if shown.is_none_or(|shown| shown.same_version(pointer)) { Verdict::Goes } else { Verdict::Changed })
    }

    /// The error of a sweep that left something.
    pub(super) fn incomplete_error(&self, tally: Tally) -> FilerError {
        let (mount, path) = (|| self.mount.name.clone(), || self.path());
        let mut kept = Vec::new();
        if let (keys @ 1.., first) = tally.unnameable.clone() {
            kept.push(FilerError::Unnameable { mount: mount(), path: path(), keys, first });
        }
        if let (keys @ 1.., first) = tally.hidden.clone() {
            kept.push(FilerError::HiddenKeys { mount: mount(), path: path(), keys, first });
        }
        let mut failures = tally.failures;
        failures.truncate(NAMED_FAILURES - kept.len());
        failures.extend(kept.into_iter().map(|error| Failure { path: path(), error }));
        let first = failures.first().map_or_else(|| FilerError::lost(&self.mount, &self.rel), |f| f.error.clone());
        FilerError::Incomplete {
            mount: mount(),
            path: path(),
            deleted: tally.deleted,
            failed: tally.failed + tally.unnameable.0 + tally.hidden.0,
            unclear: tally.unclear,
            first: Box::new(first),
            failures: failures.into(),
        }
    }
}

enum Verdict {
    Goes,
    Hidden,
    Changed,
}

impl Tally {
    /// Counts a failure; the first are kept by name.
    pub fn fail(&mut self, path: String, error: FilerError) {
        self.failed += 1;
        if self.failures.len() < NAMED_FAILURES {
            self.failures.push(Failure { path, error });
        }
    }

    /// Counts a key that is left alone; the first is kept.
    fn keep(kept: &mut (u64, String), key: &str) {
        if kept.0 == 0 {
            kept.1 = key.to_owned();
        }
        kept.0 += 1;
    }

    /// Whether nothing has stayed.
    pub const fn clean(&self) -> bool {
        self.failed == 0 && self.unnameable.0 == 0 && self.hidden.0 == 0
    }

    /// Whether the order goes on in spite of what has stayed; not at a remote that does not say what it does.
    pub const fn may_go_on(&self, order: &Order) -> bool {
        self.clean() || (order.ignore_recursive_error && self.stuck < STUCK)
    }

    /// Counts what came of a batch.
    pub fn take(&mut self, deletion: &Deletion, done: Result<Batched, JoinError>) {
        match done {
            Ok(batched) => {
                self.deleted += batched.deleted;
                self.unclear += batched.unclear;
                self.stuck = if batched.stuck { self.stuck + 1 } else { 0 };
                for (path, error) in batched.failures {
                    self.fail(deletion.path_of(&path), error);
                }
            }
            // It panicked; its intent is left to be settled.
            Err(_) => self.fail(deletion.path(), FilerError::lost(&deletion.mount, &deletion.rel)),
        }
    }
}
