//! The store as a plain map: the model that the conformance suite holds the redb store to.
//!
//! Written for being obviously right, in another shape than the real one: a map by generation, path
//! and kind, scanned whole where the real store seeks. It forgets everything with the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::entry::{Directory, Entry, File, Listing, Millis};
use crate::path::RelPath;
use crate::store::{Applied, Change, Child, Cursor, Identity, MountId, Store, StoreError};

/// The store as a plain map.
#[derive(Default)]
pub struct MemoryStore(Mutex<State>);

#[derive(Default)]
struct State {
    files: BTreeMap<(MountId, RelPath), File>,
    directories: BTreeMap<(MountId, RelPath), Directory>,
    listings: BTreeMap<(MountId, RelPath), Listing>,
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
        for change in changes {
            if state.live(change.mount()) {
                applied.removed += state.apply(change);
            } else {
                applied.dropped += 1;
            }
        }
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

    fn purge(&self, _limit: usize) -> Result<bool, StoreError> {
        let mut state = self.state();
        let live: Vec<MountId> = state.mounts.values().map(|(id, _)| *id).collect();
        state.files.retain(|(id, _), _| live.contains(id));
        state.directories.retain(|(id, _), _| live.contains(id));
        state.listings.retain(|(id, _), _| live.contains(id));
        Ok(false)
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

    fn apply(&mut self, change: &Change) -> u64 {
        match change.clone() {
            Change::PutFile(mount, path, file) if !path.is_root() => {
                let old = self.files.remove(&(mount, path.clone()));
                if old.is_some() || file.pointer.is_none() || !self.listed_without(mount, &path, file.asked) {
                    self.files.insert((mount, path), File::merge(old, file));
                }
                0
            }
            Change::PutDirectory(mount, path, directory) if !path.is_root() => {
                let old = self.directories.remove(&(mount, path.clone()));
                if old.is_some() || !self.listed_without(mount, &path, directory.asked) {
                    self.directories.insert((mount, path), Directory::merge(old, directory));
                }
                0
            }
            Change::PutFile(..) | Change::PutDirectory(..) => 0,
            Change::FileGone(mount, path, asked) => {
                let key = (mount, path);
                let gone =
                    self.files.get(&key).is_some_and(|file| file.pointer.is_some() && file.asked.gives_way_to(asked));
                if gone {
                    self.files.remove(&key);
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
                self.listings.insert((mount, directory), listing);
                removed
            }
            Change::Doubt(mount, path) => {
                if let Some(file) = self.files.get_mut(&(mount, path)) {
                    file.doubted = true;
                }
                0
            }
        }
    }

    fn directory_gone(&mut self, mount: MountId, path: &RelPath, asked: Millis) -> u64 {
        let inside = |candidate: &RelPath| candidate.ancestors().any(|above| above == *path);
        let before = self.files.len() + self.directories.len();
        self.files.retain(|(id, candidate), file| {
            *id != mount || !inside(candidate) || file.pointer.is_none() || !file.asked.gives_way_to(asked)
        });
        let files: Vec<RelPath> = self
            .files
            .keys()
            .filter(|(id, candidate)| *id == mount && inside(candidate))
            .map(|(_, p)| p.clone())
            .collect();
        let later: Vec<RelPath> = self
            .directories
            .iter()
            .filter(|((id, candidate), directory)| {
                *id == mount && inside(candidate) && !directory.asked.gives_way_to(asked)
            })
            .map(|((_, p), _)| p.clone())
            .collect();
        self.directories.retain(|(id, candidate), directory| {
            let holds = files.iter().chain(&later).any(|kept| kept.ancestors().any(|above| above == *candidate));
            *id != mount || !(candidate == path || inside(candidate)) || !directory.asked.gives_way_to(asked) || holds
        });
        self.listings.retain(|(id, candidate), _| *id != mount || !(candidate == path || inside(candidate)));
        (before - self.files.len() - self.directories.len()) as u64
    }
}
