//! List: a directory's children, page by page, resumed by name (D1, D2).
//!
//! A complete listing that is fresh comes from the store alone. Else a [`super::walk`] brings the
//! remote's pages in, and this side reads behind it what is already confirmed, so the first page is
//! there before the last is asked for. The order is the remote's own: a file by `name`, a directory
//! by `name/`. Names that lead to nested mounts are always there.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::clock;
use crate::entry::{Directory, Entry, Listing, Millis};
use crate::filer::walk::{End, Progress, Walk};
use crate::filer::{Filer, FilerError};
use crate::mounts::Mount;
use crate::path::{FilerPath, RelPath};
use crate::remote::RemoteError;
use crate::store::{Child, Cursor};

/// Children read from the store at a time.
const BATCH: usize = 1024;

/// What part of a directory to list.
pub struct Selection<'s> {
    /// Begin after this place.
    pub after: Cursor,
    /// Stop after so many children.
    pub limit: usize,
    /// Only names for which this holds.
    pub keep: &'s (dyn Fn(&str) -> bool + Send + Sync),
}

/// A part of a directory.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// The mount that the directory belongs to; `None` above every mount.
    pub mount: Option<String>,
    /// The children, in order.
    pub children: Vec<Child>,
    /// Whether there are more.
    pub more: bool,
    /// Whether this is an old listing, served because the remote cannot be asked.
    pub stale: bool,
    /// Keys directly in the directory that no path can name; known once the listing is complete.
    pub unnameable: u64,
}

enum Source {
    /// The store has it all.
    Store,
    /// The store has what this walk has confirmed.
    Walk(Arc<Walk>),
}

impl Filer {
    /// Children of the directory `path`.
    ///
    /// # Errors
    /// [`FilerError::NotFound`] when there is no such directory; any other when the listing would be
    /// shorter than the directory is (D2).
    pub async fn list(&self, path: &FilerPath, selection: &Selection<'_>) -> Result<Listed, FilerError> {
        let table = self.table(path)?;
        let names = table.children(path);
        let Some((mount, rel)) = table.resolve(path) else {
            if !table.leads_to_mount(path) {
                return Err(FilerError::NotFound { mount: None, path: path.to_string() });
            }
            let mut listed = Listed::default();
            overlay(&names, selection, &mut listed);
            return Ok(listed);
        };
        if names.is_empty() && self.hidden(mount, &rel)?.directory {
            return Err(FilerError::not_found(mount, &rel));
        }
        self.settle_what_concerns(mount, &rel).await?;
        let outcome = match self.list_remote(mount, &rel, selection, &names).await {
            // The first to find the remote out of order pays with a second walk; later ones know.
            Err(Ended::OutOfOrder) => self.list_remote(mount, &rel, selection, &names).await,
            other => other,
        };
        let mut listed = match outcome {
            Ok(listed) => listed,
            // The remote has nothing there, but the way to a nested mount leads through it (M1).
            Err(Ended::NotFound) if !names.is_empty() => Listed::default(),
            Err(ended) => self.after_failure(mount, &rel, selection, &names, ended)?,
        };
        overlay(&names, selection, &mut listed);
        listed.mount = Some(mount.name.clone());
        Ok(listed)
    }

    async fn list_remote(
        &self,
        mount: &Arc<Mount>,
        rel: &RelPath,
        selection: &Selection<'_>,
        nested: &BTreeSet<String>,
    ) -> Result<Listed, Ended> {
        let listing = self.stored(mount, rel, self.0.store.listing(mount.id, rel));
        // While a delete is under way there, the remote says what is left (X8).
        let decided = self.0.intents.concerning(mount.id, rel).is_empty();
        let fresh = |listing: &Listing| decided && listing.asked.fresh(mount.freshness.listing, clock::now());
        if let Some(listing) = listing.filter(fresh) {
            mount.metrics.listing_hit.inc();
            let listed = self.collect(mount, rel, selection, nested, &Source::Store).await?;
            // Retired meanwhile, its rows may be half gone: that is no listing (D2, M3).
            if self.stored(mount, rel, self.0.store.listing(mount.id, rel)).is_none() {
                return Err(Ended::Lost);
            }
            return Ok(Listed { unnameable: listing.unnameable, ..listed });
        }
        let now = clock::now();
        if decided && !rel.is_root() && self.0.negatives.absent(mount.id, rel, now) {
            mount.metrics.negative_hit.inc();
            return Err(Ended::NotFound);
        }
        mount.metrics.listing_walk.inc();
        let walk = match self.walk_under_way(mount, rel, &selection.after) {
            Some(walk) => walk,
            None => self.walk(mount, rel, &resume(mount, selection)),
        };
        let listed = self.collect(mount, rel, selection, nested, &Source::Walk(walk)).await?;
        mount.set_failed(None);
        let listing = self.stored(mount, rel, self.0.store.listing(mount.id, rel));
        Ok(Listed { unnameable: listing.map_or(0, |listing| listing.unnameable), ..listed })
    }

    /// Reads children from the store as far as the source vouches for them.
    async fn collect(
        &self,
        mount: &Mount,
        rel: &RelPath,
        selection: &Selection<'_>,
        nested: &BTreeSet<String>,
        source: &Source,
    ) -> Result<Listed, Ended> {
        let mut listed = Listed::default();
        let mut cursor = selection.after.clone();
        let mut progress = match source {
            Source::Store => Progress { end: Some(End::Complete { exists: true }), ..Progress::default() },
            Source::Walk(walk) => walk.progress(),
        };
        loop {
            let complete = match &progress.end {
                Some(End::Complete { exists: false }) => return Err(Ended::NotFound),
                Some(End::Complete { exists: true }) => true,
                Some(end) => return Err(Ended::from(end)),
                None => false,
            };
            let bound = if complete { None } else { Some(progress.covered.clone().unwrap_or_default()) };
            // Behind a walk only what it confirmed counts; after a whole one, what vanished is gone from the store,
            // unless a delete is at work on it.
            let undecided = || !self.0.intents.concerning(mount.id, rel).is_empty();
            let since = match source {
                Source::Walk(walk) if !(complete && walk.whole) || undecided() => walk.asked,
                _ => Millis(0),
            };
            loop {
                let batch = self.0.store.children(mount.id, rel, &cursor, BATCH).map_err(Ended::Store)?;
                let mut more = batch.len() == BATCH;
                for child in batch {
                    let place = child.cursor();
                    if bound.as_ref().is_some_and(|bound| place > *bound) {
                        more = false;
                        break;
                    }
                    cursor = place;
                    if !self.confirmed(mount, rel, &child, since)
                        || nested.contains(&child.name)
                        || !(selection.keep)(&child.name)
                    {
                        continue;
                    }
                    if listed.children.len() == selection.limit {
                        return Ok(Listed { more: true, ..listed });
                    }
                    listed.children.push(child);
                }
                if !more {
                    break;
                }
            }
            match source {
                Source::Walk(walk) if !complete => progress = walk.further(progress.pages).await,
                _ => return Ok(listed),
            }
        }
    }

    /// Whether a row counts: local-only, or told of since `since` and not found absent later (L8).
    fn confirmed(&self, mount: &Mount, rel: &RelPath, child: &Child, since: Millis) -> bool {
        child.confirmed().is_none_or(|asked| {
            asked >= since && !self.0.negatives.absent_since(mount.id, &rel.child(&child.name), asked)
        })
    }

    /// A remote that cannot be asked: the last complete listing, marked stale, while it is good for that.
    fn after_failure(
        &self,
        mount: &Arc<Mount>,
        rel: &RelPath,
        selection: &Selection<'_>,
        nested: &BTreeSet<String>,
        ended: Ended,
    ) -> Result<Listed, FilerError> {
        let error = match ended {
            Ended::NotFound => return Err(FilerError::not_found(mount, rel)),
            Ended::Store(error) => return Err(FilerError::store(mount, rel, error)),
            Ended::OutOfOrder | Ended::Lost => return Err(FilerError::lost(mount, rel)),
            Ended::Remote(error) => error,
        };
        mount.metrics.listing_error.inc();
        let now = clock::now();
        let good = mount.freshness.listing.saturating_add(mount.freshness.stale_if_error);
        let listing = self.stored(mount, rel, self.0.store.listing(mount.id, rel));
        let decided = self.0.intents.concerning(mount.id, rel).is_empty();
        let good = |listing: &Listing| decided && error.kind.is_transient() && listing.asked.fresh(good, now);
        let Some(listing) = listing.filter(good) else {
            return Err(FilerError::remote(mount, rel, error));
        };
        mount.set_failed(Some(now));
        mount.metrics.stale.inc();
        tracing::warn!(mount = mount.name, path = %mount.path.join(rel), %error, "old listing served: the remote cannot be asked");
        let mut listed = Listed { stale: true, unnameable: listing.unnameable, ..Listed::default() };
        let mut cursor = selection.after.clone();
        loop {
            let batch = self.0.store.children(mount.id, rel, &cursor, BATCH);
            let batch = batch.map_err(|error| FilerError::store(mount, rel, error))?;
            let Some(last) = batch.last() else { return Ok(listed) };
            cursor = last.cursor();
            for child in batch {
                if nested.contains(&child.name) || !(selection.keep)(&child.name) {
                    continue;
                }
                if listed.children.len() == selection.limit {
                    listed.more = true;
                    return Ok(listed);
                }
                listed.children.push(child);
            }
        }
    }

    /// The place that a bare name stands for, as a client gives it to resume (`lastFileName`).
    ///
    /// A trailing slash says directory. Without one it is the file of that name, unless only a
    /// directory is known: a client that repeats a name may see an entry twice, never miss one.
    #[must_use]
    pub fn cursor(&self, path: &FilerPath, name: &str) -> Cursor {
        if let Some(name) = name.strip_suffix('/') {
            return Cursor::after_directory(name);
        }
        let table = self.0.mounts.load();
        let nested = table.children(path).contains(name);
        let only_directory = table.resolve(path).is_some_and(|(mount, rel)| {
            let child = rel.child(name);
            let file = self.stored(mount, &child, self.0.store.file(mount.id, &child));
            let directory = self.stored(mount, &child, self.0.store.directory(mount.id, &child));
            file.is_none() && directory.is_some()
        });
        if nested || only_directory { Cursor::after_directory(name) } else { Cursor::after_file(name) }
    }
}

/// Why a listing did not come to its end.
enum Ended {
    NotFound,
    Remote(RemoteError),
    Store(crate::store::StoreError),
    OutOfOrder,
    Lost,
}

impl From<&End> for Ended {
    fn from(end: &End) -> Self {
        match end {
            End::Remote(error) => Self::Remote(error.clone()),
            End::Store(error) => Self::Store(error.clone()),
            End::OutOfOrder => Self::OutOfOrder,
            End::Complete { .. } | End::Abandoned => Self::Lost,
        }
    }
}

/// Where the remote is asked to begin, as a name; empty for the first page.
///
/// One character before the place itself, because servers differ in what "after `a`" means for the
/// keys below `a/`; what comes before the place is left out by name.
fn resume(mount: &Mount, selection: &Selection<'_>) -> String {
    if !mount.ordered() || !mount.remote.capabilities().start_after {
        return String::new();
    }
    let mut name = selection.after.as_str().trim_end_matches('/').to_owned();
    name.pop();
    name
}

/// Puts the names of nested mounts where they belong.
fn overlay(names: &BTreeSet<String>, selection: &Selection<'_>, listed: &mut Listed) {
    let directory = Entry::Directory(Directory::seen(Millis(0)));
    let end = listed.children.last().map(Child::cursor).filter(|_| listed.more);
    for name in names.iter().filter(|name| (selection.keep)(name)) {
        let child = Child { name: name.clone(), entry: directory.clone() };
        let place = child.cursor();
        if place > selection.after && end.as_ref().is_none_or(|end| place <= *end) {
            listed.children.push(child);
        }
    }
    listed.children.sort_by_key(Child::cursor);
    if listed.children.len() > selection.limit {
        listed.children.truncate(selection.limit);
        listed.more = true;
    }
}
