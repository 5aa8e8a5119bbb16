//! Open intents in memory: which paths a delete is at work on, or has left undecided (X8).
//!
//! The store keeps them; this is what lookups and listings ask, on every request, at the price of one
//! comparison while there is none. An intent is *under way* while its delete runs, and *left* when the
//! process began with it or its request got no clear answer; what is left waits to be settled. The lock
//! is never held across an await.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::entry::Millis;
use crate::path::RelPath;
use crate::store::{Doomed, Intent, IntentId, MountId};

/// Every delete that has begun and is not finished.
pub struct Intents {
    next: AtomicU64,
    count: AtomicUsize,
    open: Mutex<Open>,
    /// Told when something is left.
    news: Notify,
}

#[derive(Default)]
struct Open {
    by_id: BTreeMap<IntentId, Held>,
    /// By each name that it is about: of a batch, those of its objects.
    by_name: HashMap<(MountId, RelPath), Vec<IntentId>>,
    /// By the directories that those names are in.
    by_parent: HashMap<(MountId, RelPath), Vec<IntentId>>,
}

/// One open intent.
#[derive(Clone)]
pub struct Held {
    /// Its number.
    pub id: IntentId,
    /// Its mount.
    pub mount: MountId,
    /// What it is about.
    pub intent: Arc<Intent>,
    /// Whether its delete still runs.
    pub under_way: bool,
}

/// A delete under way; dropped before it is closed, its intent is left to be settled.
pub struct Begun {
    /// Its number.
    pub id: IntentId,
    intents: Arc<Intents>,
}

impl Intents {
    /// The intents that a store was found with.
    #[must_use]
    pub fn new(found: Vec<(MountId, IntentId, Intent)>) -> Self {
        let mut open = Open::default();
        for (mount, id, intent) in found {
            open.insert(Held { id, mount, intent: Arc::new(intent), under_way: false });
        }
        let next = open.by_id.last_key_value().map_or(1, |(id, _)| id.0 + 1);
        let count = open.by_id.len();
        Self { next: AtomicU64::new(next), count: AtomicUsize::new(count), open: Mutex::new(open), news: Notify::new() }
    }

    /// Registers a delete that is about to begin.
    pub fn begin(self: &Arc<Self>, mount: MountId, intent: Intent) -> Begun {
        let id = IntentId(self.next.fetch_add(1, Ordering::Relaxed));
        let mut open = self.open();
        open.insert(Held { id, mount, intent: Arc::new(intent), under_way: true });
        self.count.store(open.by_id.len(), Ordering::Relaxed);
        Begun { id, intents: Arc::clone(self) }
    }

    /// Takes up one that was left, as it is now; `None` when someone else has it, or it is closed.
    pub fn take_up(self: &Arc<Self>, id: IntentId) -> Option<(Begun, Arc<Intent>)> {
        let mut open = self.open();
        let held = open.by_id.get_mut(&id).filter(|held| !held.under_way)?;
        held.under_way = true;
        let intent = Arc::clone(&held.intent);
        Some((Begun { id, intents: Arc::clone(self) }, intent))
    }

    /// Whether the store must not answer for the name, because a delete of it or of a directory above is open.
    #[must_use]
    pub fn covers(&self, mount: MountId, path: &RelPath) -> bool {
        self.count.load(Ordering::Relaxed) > 0 && !self.covering(mount, path).is_empty()
    }

    /// The open intents that are about the name or a directory above it. A batch is about its objects alone: what else is
    /// there is the business of the intent of its directory.
    #[must_use]
    pub fn covering(&self, mount: MountId, path: &RelPath) -> Vec<Held> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let open = self.open();
        let mut covering = open.at(mount, path);
        for above in path.ancestors().chain([RelPath::default()]) {
            let found = open.at(mount, &above).into_iter();
            covering.extend(found.filter(|held| above != *path && matches!(held.intent.doomed, Doomed::Directory)));
        }
        covering
    }

    /// The open intents that a listing of the directory runs into: those that cover it, and those of its children.
    #[must_use]
    pub fn concerning(&self, mount: MountId, directory: &RelPath) -> Vec<Held> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let mut concerning = self.covering(mount, directory);
        let open = self.open();
        let children = open.by_parent.get(&(mount, directory.clone())).into_iter().flatten();
        concerning.extend(children.filter_map(|id| open.by_id.get(id)).cloned());
        concerning
    }

    /// Those that wait to be settled, batches before the directory they are of.
    #[must_use]
    pub fn left(&self) -> Vec<Held> {
        let mut left: Vec<Held> = self.open().by_id.values().filter(|held| !held.under_way).cloned().collect();
        left.sort_by_key(|held| (matches!(held.intent.doomed, Doomed::Directory), held.id));
        left
    }

    /// How many are open for a mount, how many of these are left, and when the oldest began.
    #[must_use]
    pub fn summary(&self, mount: MountId) -> (u64, u64, Option<Millis>) {
        let open = self.open();
        let own = || open.by_id.values().filter(|held| held.mount == mount);
        let left = own().filter(|held| !held.under_way).count() as u64;
        (own().count() as u64, left, own().map(|held| held.intent.begun).min())
    }

    /// How many objects of a mount wait to be settled; a directory counts as one.
    #[must_use]
    pub fn unsettled(&self, mount: MountId) -> usize {
        let open = self.open();
        let left = open.by_id.values().filter(|held| held.mount == mount && !held.under_way);
        left.map(|held| if let Doomed::Batch(objects) = &held.intent.doomed { objects.len() } else { 1 }).sum()
    }

    /// Waits until something is left.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// The names that it is about.
    fn names(&self) -> BTreeSet<&RelPath> {
        match &self.intent.doomed {
            Doomed::Batch(objects) => objects.iter().map(|object| &object.path).collect(),
            Doomed::File(_) | Doomed::Directory => BTreeSet::from([&self.intent.path]),
        }
    }

    /// The directories that hold these names.
    fn parents(&self) -> BTreeSet<RelPath> {
        let parent = |name: &&RelPath| name.split().and_then(|(parent, _)| RelPath::parse(parent).ok());
        self.names().iter().filter_map(parent).collect()
    }
}

impl Open {
    fn insert(&mut self, held: Held) {
        for name in held.names() {
            self.by_name.entry((held.mount, name.clone())).or_default().push(held.id);
        }
        for parent in held.parents() {
            self.by_parent.entry((held.mount, parent)).or_default().push(held.id);
        }
        self.by_id.insert(held.id, held);
    }

    fn remove(&mut self, id: IntentId) -> Option<Held> {
        let held = self.by_id.remove(&id)?;
        for name in held.names() {
            forget(&mut self.by_name, (held.mount, name.clone()), id);
        }
        for parent in held.parents() {
            forget(&mut self.by_parent, (held.mount, parent), id);
        }
        Some(held)
    }

    fn at(&self, mount: MountId, path: &RelPath) -> Vec<Held> {
        let ids = self.by_name.get(&(mount, path.clone()));
        ids.into_iter().flatten().filter_map(|id| self.by_id.get(id)).cloned().collect()
    }
}

fn forget(index: &mut HashMap<(MountId, RelPath), Vec<IntentId>>, key: (MountId, RelPath), id: IntentId) {
    if let Entry::Occupied(mut ids) = index.entry(key) {
        ids.get_mut().retain(|other| *other != id);
        if ids.get().is_empty() {
            ids.remove();
        }
    }
}

impl Begun {
    /// Only that is still open of it, and the store knows.
    pub fn narrow(&self, intent: Intent) {
        let mut open = self.intents.open();
        if let Some(held) = open.remove(self.id) {
            open.insert(Held { intent: Arc::new(intent), ..held });
        }
    }

    /// It is finished, and the store knows.
    pub fn close(self) {
        let mut open = self.intents.open();
        open.remove(self.id);
        self.intents.count.store(open.by_id.len(), Ordering::Relaxed);
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let left = self.intents.open().by_id.get_mut(&self.id).map(|held| held.under_way = false);
        if left.is_some() {
            self.intents.news.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Origin;

    fn intent(path: &str, doomed: Doomed) -> Intent {
        Intent {
            path: RelPath::parse(path).unwrap(),
            doomed,
            begun: Millis(1),
            since: Millis(1),
            origin: Origin::remote(),
        }
    }

    #[test]
    fn what_is_open_covers_what_is_below_a_directory_and_nothing_beside() {
        let intents = Arc::new(Intents::new(Vec::new()));
        let (m, other) = (MountId(1), MountId(2));
        let path = |text| RelPath::parse(text).unwrap();
        assert!(!intents.covers(m, &path("d")));
        let pointer = crate::entry::Pointer { size: 1, etag: None, modified: 1 };
        let file = intents.begin(m, intent("f", Doomed::File(pointer)));
        let directory = intents.begin(m, intent("d", Doomed::Directory));
        for (name, covered) in [("f", true), ("f/x", false), ("d", true), ("d/x/y", true), ("d-", false), ("", false)] {
            assert_eq!(intents.covers(m, &path(name)), covered, "{name:?}");
            assert!(!intents.covers(other, &path(name)));
        }
        assert_eq!(intents.concerning(m, &path("")).len(), 2, "a listing of the parent shows them");
        assert_eq!((intents.left().len(), intents.summary(m).0), (0, 2));
        drop(file);
        assert_eq!(intents.left().len(), 1, "given up, it waits to be settled");
        let (again, _) = intents.take_up(intents.left()[0].id).unwrap();
        assert!(intents.take_up(again.id).is_none(), "one at a time");
        again.close();
        directory.close();
        assert_eq!(intents.summary(m), (0, 0, None));
        assert!(!intents.covers(m, &path("f")));
    }
    #[test]
    fn a_batch_covers_its_objects_alone_and_counts_them() {
        let intents = Arc::new(Intents::new(Vec::new()));
        let m = MountId(1);
        let path = |text: &str| RelPath::parse(text).unwrap();
        let object = |text: &str| crate::store::DoomedObject {
            path: path(text),
            marker: text == "d/s",
            pointer: crate::entry::Pointer { size: 1, etag: None, modified: 1 },
        };
        let whole = intent("d", Doomed::Batch(["d/a", "d/s", "d/s/b"].map(object).to_vec()));
        let batch = intents.begin(m, whole.clone());
        for (name, covered) in
            [("d/a", true), ("d/s/b", true), ("d/s", true), ("d", false), ("d/x", false), ("", false)]
        {
            assert_eq!(intents.covers(m, &path(name)), covered, "{name:?}");
        }
        for (directory, concerned) in [("d", 1), ("d/s", 1), ("", 0), ("d/a", 1), ("e", 0)] {
            let held: BTreeSet<IntentId> = intents.concerning(m, &path(directory)).iter().map(|held| held.id).collect();
            assert_eq!(held.len(), concerned, "{directory:?}");
        }
        assert_eq!(intents.unsettled(m), 0, "it is under way");
        batch.narrow(Intent { doomed: Doomed::Batch(vec![object("d/s/b")]), ..whole });
        assert!(!intents.covers(m, &path("d/a")) && intents.covers(m, &path("d/s/b")));
        assert!(intents.concerning(m, &path("d")).is_empty());
        drop(batch);
        assert_eq!((intents.unsettled(m), intents.summary(m).1), (1, 1));
        intents.take_up(IntentId(1)).unwrap().0.close();
        let open = intents.open();
        assert!(open.by_name.is_empty() && open.by_parent.is_empty());
    }
}
