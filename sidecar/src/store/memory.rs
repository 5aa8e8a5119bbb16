//! The store as a plain map: the model that the conformance suite holds the redb store to.
//!
//! Written for being obviously right, in another shape than the real one: a map by generation, path
//! and kind, scanned whole where the real store seeks. It forgets everything with the process.

mod deletion;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::entry::{Directory, Entry, File, Halves, Listing, Millis};
use crate::events::{Event, EventPage, Origin};
use crate::path::{FilerPath, RelPath};
use crate::store::{
    Applied, Change, Child, Cursor, Doomed, EVENTS_KEPT, Identity, Intent, IntentId, MountId, Store, StoreError,
    TOMBSTONE_MILLIS, Tombstone,
};

/// The store as a plain map.
#[derive(Default)]
pub struct MemoryStore(Mutex<State>);

#[derive(Default)]
struct State {
    files: BTreeMap<(MountId, RelPath), File>,
    directories: BTreeMap<(MountId, RelPath), Directory>,
    listings: BTreeMap<(MountId, RelPath), Listing>,
    intents: BTreeMap<(MountId, IntentId), Intent>,
    /// By path and whether as a directory.
    tombstones: BTreeMap<(MountId, RelPath, bool), Tombstone>,
    hidden: BTreeSet<(MountId, RelPath, bool)>,
    events: Vec<Event>,
    dropped: u64,
    mounts: BTreeMap<String, (MountId, String)>,
    last: u32,
}

impl MemoryStore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn file(&self, mount: MountId, path: &RelPath) -> Result<Option<File>, StoreError> {
        Ok(self.state().files.get(&(mount, path.clone())).cloned())
    }

    fn directory(&self, mount: MountId, path: &RelPath) -> Result<Option<Directory>, StoreError> {
        Ok(self.state().directories.get(&(mount, path.clone())).copied())
    }

    fn children(
        &self,
        mount: MountId,
        directory: &RelPath,
        after: &Cursor,
        limit: usize,
    ) -> Result<Vec<Child>, StoreError> {
        let mut children = self.state().children(mount, directory);
        children.retain(|child| child.cursor() > *after);
        children.truncate(limit);
        Ok(children)
    }

    fn listing(&self, mount: MountId, directory: &RelPath) -> Result<Option<Listing>, StoreError> {
        Ok(self.state().listings.get(&(mount, directory.clone())).copied())
    }

    fn unnameable(&self, mount: MountId) -> Result<u64, StoreError> {
        let state = self.state();
        Ok(state.listings.iter().filter(|((id, _), _)| *id == mount).map(|(_, listing)| listing.unnameable).sum())
    }

    fn entries(&self) -> Result<u64, StoreError> {
        let state = self.state();
        Ok((state.files.len() + state.directories.len()) as u64)
    }

    fn apply(&self, changes: &[Change]) -> Result<Applied, StoreError> {
        let mut state = self.state();
        let mut applied = Applied::default();
        let before = state.events.len();
        for change in changes {
            if state.live(change.mount()) {
                applied.removed += state.apply(change);
            } else {
                applied.retired.insert(change.mount());
            }
        }
        applied.events = (state.events.len() - before) as u64;
        Ok(applied)
    }

    fn adopt(&self, mounts: &[Identity]) -> Result<Vec<MountId>, StoreError> {
        let mut state = self.state();
        let mut ids = Vec::new();
        for mount in mounts {
            let id = match state.mounts.get(&mount.path) {
                Some((id, remote)) if *remote == mount.remote => *id,
                _ => {
                    state.last += 1;
                    MountId(state.last)
                }
            };
            state.mounts.insert(mount.path.clone(), (id, mount.remote.clone()));
            ids.push(id);
        }
        state.mounts.retain(|path, _| mounts.iter().any(|mount| mount.path == *path));
        Ok(ids)
    }

    fn purge(&self, _limit: usize, now: Millis) -> Result<bool, StoreError> {
        let mut state = self.state();
        let live: Vec<MountId> = state.mounts.values().map(|(id, _)| *id).collect();
        state.files.retain(|(id, _), _| live.contains(id));
        state.directories.retain(|(id, _), _| live.contains(id));
        state.listings.retain(|(id, _), _| live.contains(id));
        state.intents.retain(|(id, _), _| live.contains(id));
        state.hidden.retain(|(id, _, _)| live.contains(id));
        state.tombstones.retain(|(id, _, _), t| live.contains(id) && t.until.0 + TOMBSTONE_MILLIS >= now.0);
        let beyond = state.events.len().saturating_sub(usize::try_from(EVENTS_KEPT).unwrap_or(usize::MAX));
        let last = state.events.drain(..beyond).next_back().map(|event| event.at);
        state.dropped = last.unwrap_or(state.dropped);
        Ok(false)
    }

    fn intents(&self) -> Result<Vec<(MountId, IntentId, Intent)>, StoreError> {
        let state = self.state();
        let mut intents: Vec<_> = state.intents.iter().map(|((m, id), intent)| (*m, *id, intent.clone())).collect();
        intents.sort_by_key(|(_, id, _)| *id);
        Ok(intents)
    }

    fn hidden(&self, mount: MountId, path: &RelPath) -> Result<Halves, StoreError> {
        Ok(self.state().hidden(mount, path))
    }

    fn buried(&self, mount: MountId, path: &RelPath, asked: Millis) -> Result<Halves, StoreError> {
        Ok(self.state().buried(mount, path, asked))
    }

    fn events(&self, after: u64, limit: usize) -> Result<EventPage, StoreError> {
        let state = self.state();
        let events = state.events.iter().filter(|event| event.at > after).take(limit).cloned().collect();
        Ok(EventPage { events, dropped: state.dropped })
    }

    fn last_event(&self) -> Result<u64, StoreError> {
        Ok(self.state().events.last().map_or(0, |event| event.at))
    }

    fn signature(&self) -> Result<i32, StoreError> {
        Ok(1)
    }
}

impl State {
    fn live(&self, mount: MountId) -> bool {
        self.mounts.values().any(|(id, _)| *id == mount)
    }

    fn listed_without(&self, mount: MountId, path: &RelPath, asked: Millis) -> bool {
        let parent = path.split().and_then(|(parent, _)| RelPath::parse(parent).ok()).unwrap_or_default();
        self.listings.get(&(mount, parent)).is_some_and(|listing| !listing.asked.gives_way_to(asked))
    }

    fn children(&self, mount: MountId, directory: &RelPath) -> Vec<Child> {
        let name_in = |path: &RelPath| {
            path.split().and_then(|(parent, name)| (parent == directory.as_str()).then(|| name.to_owned()))
        };
        let files = self
            .files
            .iter()
            .filter(|((id, _), _)| *id == mount)
            .filter_map(|((_, path), file)| Some(Child { name: name_in(path)?, entry: Entry::File(file.clone()) }));
        let directories = self
            .directories
            .iter()
            .filter(|((id, _), _)| *id == mount)
            .filter_map(|((_, path), dir)| Some(Child { name: name_in(path)?, entry: Entry::Directory(*dir) }));
        let mut children: Vec<Child> = files.chain(directories).collect();
        children.sort_by_key(Child::cursor);
        children
    }

    fn is_at_work(&self, mount: MountId, path: &RelPath) -> bool {
        self.intents.iter().any(|((id, _), intent)| {
            let below = !matches!(intent.doomed, Doomed::File(_)) && inside(path, &intent.path);
            *id == mount && (intent.path == *path || below)
        })
    }

    fn tell(&mut self, mount: MountId, path: &RelPath, old: Option<Entry>, new: Option<Entry>, origin: Origin) {
        let at = self.mounts.iter().find(|(_, (id, _))| *id == mount).and_then(|(at, _)| FilerPath::parse(at).ok());
        if let Some(at) = at {
            let last = self.events.last().map_or(0, |event| event.at);
            let path = at.join(path).to_string();
            self.events.push(Event { at: crate::clock::nanos().max(last + 1), path, old, new, origin });
        }
    }

    fn stays_away(&self, mount: MountId, path: &RelPath, directory: bool, asked: Millis) -> bool {
        let half = |halves: Halves| if directory { halves.directory } else { halves.file };
        self.listed_without(mount, path, asked)
            || half(self.buried(mount, path, asked))
            || half(self.hidden(mount, path))
    }

    fn apply(&mut self, change: &Change) -> u64 {
        match change.clone() {
            Change::PutFile(mount, path, file) if !path.is_root() => {
                let old = self.files.get(&(mount, path.clone())).cloned();
                if old.is_none() && file.pointer.is_some() && self.stays_away(mount, &path, false, file.asked) {
                    return 0;
                }
                let new = File::merge(old.clone(), file);
                self.files.insert((mount, path.clone()), new.clone());
                if let Some(old) = old.filter(|old| new.replaces(old)) {
                    self.tell(mount, &path, Some(Entry::File(old)), Some(Entry::File(new)), Origin::remote());
                }
                0
            }
            Change::PutDirectory(mount, path, directory) if !path.is_root() => {
                let old = self.directories.remove(&(mount, path.clone()));
                if old.is_some() || !self.stays_away(mount, &path, true, directory.asked) {
                    self.directories.insert((mount, path), Directory::merge(old, directory));
                }
                0
            }
            Change::PutFile(..) | Change::PutDirectory(..) => 0,
            Change::FileGone(mount, path, asked) => {
                let key = (mount, path);
                let gone = !self.is_at_work(mount, &key.1)
                    && self.files.get(&key).is_some_and(|f| f.pointer.is_some() && f.asked.gives_way_to(asked));
                if gone && let Some(old) = self.files.remove(&key) {
                    self.tell(mount, &key.1, Some(Entry::File(old)), None, Origin::remote());
                }
                u64::from(gone)
            }
            Change::DirectoryGone(mount, path, asked) => self.directory_gone(mount, &path, asked),
            Change::Listed(mount, directory, listing) => {
                let before = Millis(listing.asked.0.saturating_sub(1));
                let mut removed = 0;
                for child in self.children(mount, &directory) {
                    if child.confirmed().is_some_and(|asked| asked < listing.asked) {
                        let path = directory.child(&child.name);
                        removed += match child.entry {
                            Entry::File(_) => self.apply(&Change::FileGone(mount, path, before)),
                            Entry::Directory(_) => self.directory_gone(mount, &path, before),
                        };
                    }
                }
                // A directory that was deleted since is none, however empty its listing.
                if !self.buried(mount, &directory, listing.asked).directory {
                    self.listings.insert((mount, directory), listing);
                }
                removed
            }
            Change::Doubt(mount, path) => {
                if let Some(file) = self.files.get_mut(&(mount, path)) {
                    file.doubted = true;
                }
                0
            }
            change => self.delete(change),
        }
    }

    fn directory_gone(&mut self, mount: MountId, path: &RelPath, asked: Millis) -> u64 {
        let goes = |state: &Self, path: &RelPath, entry: &Entry| match entry {
            _ if state.is_at_work(mount, path) => false,
            Entry::Directory(directory) => directory.asked.gives_way_to(asked),
            Entry::File(file) => file.pointer.is_some() && file.asked.gives_way_to(asked),
        };
        let removed = self.sweep(mount, path, &goes);
        let count = removed.len() as u64;
        for (path, entry) in removed {
            self.tell(mount, &path, Some(entry), None, Origin::remote());
        }
        count
    }
}

/// Whether `path` lies below `directory`, at any depth.
fn inside(path: &RelPath, directory: &RelPath) -> bool {
    !path.is_root() && (directory.is_root() || path.ancestors().any(|above| above == *directory))
}
