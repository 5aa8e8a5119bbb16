//! What deletes do to the plain map: the model of [`crate::store::redb`]'s tombstones and hidden names.

use std::collections::BTreeMap;

use crate::entry::{Directory, Entry, File, Halves, Millis, Pointer};
use crate::path::RelPath;
use crate::store::memory::{State, inside};
use crate::store::{Change, DirectoryDeletion, Extent, FileDeletion, MountId, Tombstone};

impl State {
    pub(super) fn delete(&mut self, change: Change) -> u64 {
        match change {
            Change::Intend(mount, id, intent) => {
                self.intents.insert((mount, id), intent);
            }
            Change::Settled(mount, id) => {
                self.intents.remove(&(mount, id));
            }
            Change::DeleteFile(mount, path, deletion) => self.delete_file(mount, &path, deletion),
            Change::DeleteDirectory(mount, path, deletion) => self.delete_directory(mount, &path, deletion),
            Change::Age(mount, path, at) => {
                for ((id, candidate), directory) in &mut self.directories {
                    if *id == mount && (*candidate == path || inside(candidate, &path)) {
                        *directory = directory.aged(at);
                    }
                }
                self.forget_listings(mount, &path);
            }
            _ => {}
        }
        0
    }

    fn delete_file(&mut self, mount: MountId, path: &RelPath, deletion: FileDeletion) {
        if path.is_root() {
            return;
        }
        let key = (mount, path.clone());
        let goes = self
            .files
            .get(&key)
            .is_some_and(|r| deletion.hide || r.pointer.is_none() || r.asked.gives_way_to(deletion.at));
        let row = if goes { self.files.remove(&key) } else { None };
        let tomb = (mount, path.clone(), false);
        let before = self.tombstones.get(&tomb).cloned();
        let parent = path.split().and_then(|(parent, _)| RelPath::parse(parent).ok()).unwrap_or_default();
        let above = self.buried(mount, &parent, deletion.since).directory;
        let same = |told: &Pointer| deletion.pointer.as_ref().is_some_and(|pointer| told.same_version(pointer));
        let stays = self.files.contains_key(&key);
        let told = stays
            || above
            || before.as_ref().is_some_and(|t| t.until >= deletion.since && t.told.as_ref().is_some_and(same));
        let old = match (row, deletion.pointer) {
            (None, Some(pointer)) if !told => Some(File::of(pointer, deletion.since)),
            (row, _) => row,
        };
        let told = old.as_ref().and_then(|old| old.pointer.clone()).or(before.and_then(|before| before.told));
        if let Some(old) = old {
            self.tell(mount, path, Some(Entry::File(old)), None, deletion.origin);
        }
        self.bury(tomb, Tombstone { until: deletion.at, told }, deletion.hide);
        self.age_what_may_be_empty(mount, path, deletion.at);
    }

    fn delete_directory(&mut self, mount: MountId, path: &RelPath, deletion: DirectoryDeletion) {
        let local_only = deletion.extent == Extent::LocalOnly;
        let mut removed = self.sweep(mount, path, &|_, _, entry| match entry {
            Entry::File(File { pointer: None, .. }) => true,
            _ if deletion.hide => true,
            Entry::File(file) => !local_only && file.asked.gives_way_to(deletion.at),
            Entry::Directory(directory) => !local_only && directory.asked.gives_way_to(deletion.at),
        });
        if !local_only {
            let is_known = |path: &RelPath| removed.iter().any(|row| row.0 == *path && matches!(row.1, Entry::File(_)));
            let mut doomed = self.doomed_below(mount, path, deletion.at);
            doomed.retain(|path, _| !is_known(path));
            removed.extend(doomed);
            children_first(&mut removed);
        }
        let told = removed.iter().any(|(gone, entry)| gone == path && matches!(entry, Entry::Directory(_)));
        let told = told || self.buried(mount, path, deletion.since).directory;
        if deletion.extent == Extent::Whole && !told && !path.is_root() {
            removed.push((path.clone(), Entry::Directory(Directory::seen(deletion.at))));
        }
        for (path, entry) in removed {
            self.tell(mount, &path, Some(entry), None, deletion.origin.clone());
        }
        if local_only {
            return;
        }
        self.tombstones
            .retain(|(id, candidate, _), t| *id != mount || !inside(candidate, path) || t.until > deletion.at);
        if deletion.hide {
            self.hidden.retain(|(id, candidate, _)| *id != mount || !inside(candidate, path));
        }
        self.bury((mount, path.clone(), true), Tombstone { until: deletion.at, told: None }, deletion.hide);
        self.age_what_may_be_empty(mount, path, deletion.at);
    }

    /// Takes away the directory and what is below it, children before their directories.
    pub(super) fn sweep(
        &mut self,
        mount: MountId,
        path: &RelPath,
        goes: &dyn Fn(&Self, &RelPath, &Entry) -> bool,
    ) -> Vec<(RelPath, Entry)> {
        let files = self.files.iter().filter(|((id, candidate), _)| *id == mount && inside(candidate, path));
        let (gone, mut stay): (Vec<_>, Vec<_>) = files
            .map(|((_, p), f)| (p.clone(), Entry::File(f.clone())))
            .partition(|(path, entry)| goes(self, path, entry));
        let directories = self
            .directories
            .iter()
            .filter(|((id, candidate), _)| *id == mount && (candidate == path || inside(candidate, path)))
            .map(|((_, p), d)| (p.clone(), Entry::Directory(*d)));
        let (candidates, kept): (Vec<_>, Vec<_>) = directories.partition(|(path, entry)| goes(self, path, entry));
        stay.extend(kept);
        let holds = |directory: &RelPath| stay.iter().any(|(kept, _)| inside(kept, directory));
        let mut removed = gone;
        removed.extend(candidates.into_iter().filter(|(directory, _)| !holds(directory)));
        for (path, entry) in &removed {
            match entry {
                Entry::File(_) => drop(self.files.remove(&(mount, path.clone()))),
                Entry::Directory(_) => drop(self.directories.remove(&(mount, path.clone()))),
            }
        }
        self.forget_listings(mount, path);
        children_first(&mut removed);
        removed
    }

    fn doomed_below(&self, mount: MountId, path: &RelPath, at: Millis) -> BTreeMap<RelPath, Entry> {
        let mut doomed = BTreeMap::new();
        for ((id, _), intent) in &self.intents {
            let files = intent.files().filter(|_| *id == mount && intent.since <= at);
            for (file, pointer) in files.filter(|(file, _)| inside(file, path)) {
                if !self.buried(mount, file, intent.since).file {
                    let entry = || Entry::File(File::of(pointer.clone(), intent.since));
                    doomed.entry(file.clone()).or_insert_with(entry);
                }
            }
        }
        doomed
    }

    fn forget_listings(&mut self, mount: MountId, path: &RelPath) {
        self.listings.retain(|(id, candidate), _| *id != mount || !(candidate == path || inside(candidate, path)));
    }

    fn age_what_may_be_empty(&mut self, mount: MountId, path: &RelPath, at: Millis) {
        let mut emptied = None;
        for above in path.ancestors().chain([RelPath::default()]) {
            let mut children = self.children(mount, &above).into_iter().map(|child| (above.child(&child.name), child));
            let holds =
                children.any(|(path, child)| matches!(child.entry, Entry::File(_)) || Some(&path) != emptied.as_ref());
            if holds && emptied.is_none() {
                return;
            }
            self.listings.remove(&(mount, above.clone()));
            if holds {
                return;
            }
            if let Some(directory) = self.directories.get_mut(&(mount, above.clone())) {
                *directory = directory.aged(at);
            }
            emptied = Some(above);
        }
    }

    fn bury(&mut self, key: (MountId, RelPath, bool), tombstone: Tombstone, hide: bool) {
        if hide {
            self.hidden.insert(key.clone());
        }
        let until = self.tombstones.get(&key).map_or(tombstone.until, |before| before.until.max(tombstone.until));
        self.tombstones.insert(key, Tombstone { until, ..tombstone });
    }

    pub(super) fn buried(&self, mount: MountId, path: &RelPath, asked: Millis) -> Halves {
        self.covered(path, |path, directory| {
            self.tombstones.get(&(mount, path.clone(), directory)).is_some_and(|t| t.until.outdates(asked))
        })
    }

    pub(super) fn hidden(&self, mount: MountId, path: &RelPath) -> Halves {
        self.covered(path, |path, directory| self.hidden.contains(&(mount, path.clone(), directory)))
    }

    fn covered(&self, path: &RelPath, has: impl Fn(&RelPath, bool) -> bool) -> Halves {
        let above = path.ancestors().chain([RelPath::default()]).any(|above| has(&above, true));
        Halves { file: above || (!path.is_root() && has(path, false)), directory: above || has(path, true) }
    }
}

fn children_first(removed: &mut [(RelPath, Entry)]) {
    removed.sort_by_key(|(path, entry)| match entry {
        Entry::File(_) => path.as_str().to_owned(),
        Entry::Directory(_) => format!("{path}/"),
    });
    removed.reverse();
}
