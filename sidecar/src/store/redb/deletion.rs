//! What deletes do to the tables, and what they leave there: tombstones and hidden names.
//!
//! A tombstone says until when answers are old news; it is short-lived, and exact: one for each deleted
//! name, one for a whole directory once nothing is left below it. A hidden name (X1, `Retain`) has no
//! end. Both are kept by half, because a name may be a file and a directory.

use std::collections::BTreeMap;

use ::redb::{Error, ReadableTable, ReadableTableMetadata};

use crate::entry::{Directory, Entry, File, Halves, Millis, Pointer};
use crate::path::RelPath;
use crate::store::redb::tables::{Tables, encode};
use crate::store::{DirectoryDeletion, Extent, FileDeletion, Intent, MountId, Tombstone, layout};

impl Tables<'_> {
    /// Takes a file away, and what must not bring it back.
    pub fn delete_file(&mut self, mount: MountId, path: &RelPath, deletion: &FileDeletion) -> Result<(), Error> {
        let Some(key) = layout::file_key(mount, path) else { return Ok(()) };
        let known: Option<File> = self.get(&key)?;
        let was_known = known.is_some();
        let row = known.filter(|row| deletion.hide || row.pointer.is_none() || row.asked.gives_way_to(deletion.at));
        if row.is_some() {
            self.entries.remove(key.as_slice())?;
        }
        // Another delete of the same version, or of a directory above, may have finished since this one began; it has
        // told of it; and where a later answer stays, the object was replaced, which has been told.
        let before = tombstone(&self.tombstones, &key)?;
        let same = |told: &Pointer| deletion.pointer.as_ref().is_some_and(|pointer| told.same_version(pointer));
        let told = was_known
            || above(&self.tombstones, mount, path, deletion.since)?
            || before.as_ref().is_some_and(|t| t.until >= deletion.since && t.told.as_ref().is_some_and(same));
        let unknown = || deletion.pointer.clone().map(|pointer| File::of(pointer, deletion.since));
        let old = row.or_else(|| if told { None } else { unknown() });
        let told = old.as_ref().and_then(|old| old.pointer.clone()).or(before.and_then(|before| before.told));
        if let Some(old) = old {
            self.tell(mount, path, Some(Entry::File(old)), None, deletion.origin.clone());
        }
        self.bury(&key, Tombstone { until: deletion.at, told }, deletion.hide)?;
        self.age_what_may_be_empty(mount, path, deletion.at)
    }

    /// Takes a directory away, with all or some of what is below it.
    pub fn delete_directory(
        &mut self,
        mount: MountId,
        path: &RelPath,
        deletion: &DirectoryDeletion,
    ) -> Result<(), Error> {
        let local_only = deletion.extent == Extent::LocalOnly;
        let goes = |_: &RelPath, entry: &Entry| match entry {
            Entry::File(File { pointer: None, .. }) => true,
            _ if deletion.hide => true,
            Entry::File(file) => !local_only && file.asked.gives_way_to(deletion.at),
            Entry::Directory(directory) => !local_only && directory.asked.gives_way_to(deletion.at),
        };
        let doomed = if local_only { BTreeMap::new() } else { self.doomed_below(mount, path, deletion.at)? };
        let told = buried(&self.tombstones, mount, path, deletion.since)?.directory;
        let told = self.sweep(mount, path, goes, doomed, &deletion.origin)?.itself || told;
        if deletion.extent == Extent::Whole && !told && !path.is_root() {
            let unknown = Entry::Directory(Directory::seen(deletion.at));
            self.tell(mount, path, Some(unknown), None, deletion.origin.clone());
        }
        if local_only {
            return Ok(());
        }
        // One tombstone now stands for those of what was below.
        for range in [layout::children(mount, path), layout::deeper(mount, path)] {
            let range = range.start.as_slice()..range.end.as_slice();
            self.tombstones
                .retain_in(range.clone(), |_, value| layout::decode(value).is_none_or(|at: Millis| at > deletion.at))?;
            if deletion.hide {
                self.hidden.retain_in(range, |_, _| false)?;
            }
        }
        let tombstone = Tombstone { until: deletion.at, told: None };
        self.bury(&layout::half_key(mount, path, true), tombstone, deletion.hide)?;
        self.age_what_may_be_empty(mount, path, deletion.at)
    }

    /// What open deletes are about to take away below the directory, as they know it. With the directory it is gone, and
    /// told of before; they find that out by its tombstone.
    fn doomed_below(&self, mount: MountId, path: &RelPath, at: Millis) -> Result<BTreeMap<RelPath, Entry>, Error> {
        let mut doomed = BTreeMap::new();
        for row in self.intents.iter()? {
            let (key, value) = row?;
            let intent = layout::decode(value.value()).filter(|intent: &Intent| intent.since <= at);
            let (Some((id, _)), Some(intent)) = (layout::intent_of(key.value()), intent) else { continue };
            for (file, pointer) in intent.files().filter(|_| id == mount) {
                let below = path.is_root() || file.ancestors().any(|above| above == *path);
                if below && !buried(&self.tombstones, mount, file, intent.since)?.file {
                    let entry = || Entry::File(File::of(pointer.clone(), intent.since));
                    doomed.entry(file.clone()).or_insert_with(entry);
                }
            }
        }
        Ok(doomed)
    }

    /// Makes the directories at and below `path` be asked for again.
    pub fn age(&mut self, mount: MountId, path: &RelPath, at: Millis) -> Result<(), Error> {
        let mut keys = Vec::new();
        for range in [layout::children(mount, path), layout::deeper(mount, path)] {
            for row in self.entries.range(range.start.as_slice()..range.end.as_slice())? {
                let (key, _) = row?;
                if layout::path_of(key.value()).is_some_and(|(_, directory)| directory) {
                    keys.push(key.value().to_vec());
                }
            }
        }
        keys.extend(layout::directory_key(mount, path));
        for key in keys {
            self.age_row(&key, at)?;
        }
        self.forget_listings(mount, path)
    }

    fn age_row(&mut self, key: &[u8], at: Millis) -> Result<(), Error> {
        match self.get::<Directory>(key)? {
            Some(directory) => self.put(key, &directory.aged(at)),
            None => Ok(()),
        }
    }

    /// Object stores have no empty directories: one that may have held nothing else is asked for again, and so
    /// are the listing that shows it and every directory that holds only such a one.
    fn age_what_may_be_empty(&mut self, mount: MountId, path: &RelPath, at: Millis) -> Result<(), Error> {
        let mut emptied: Option<Vec<u8>> = None;
        for above in path.ancestors().chain([RelPath::default()]) {
            let range = layout::children(mount, &above);
            let mut holds = false;
            for row in self.entries.range(range.start.as_slice()..range.end.as_slice())?.take(2) {
                holds |= emptied.as_deref() != Some(row?.0.value());
            }
            if holds && emptied.is_none() {
                return Ok(());
            }
            self.listings.remove(layout::listing_key(mount, &above).as_slice())?;
            let Some(key) = layout::directory_key(mount, &above).filter(|_| !holds) else { return Ok(()) };
            self.age_row(&key, at)?;
            emptied = Some(key);
        }
        Ok(())
    }

    fn bury(&mut self, key: &[u8], tombstone: Tombstone, hide: bool) -> Result<(), Error> {
        if hide {
            self.hidden.insert(key, [].as_slice())?;
        }
        let before = self::tombstone(&self.tombstones, key)?;
        let until = before.map_or(tombstone.until, |before| before.until.max(tombstone.until));
        self.tombstones.insert(key, encode(&Tombstone { until, ..tombstone })?.as_slice())?;
        Ok(())
    }
}

/// A table that is being written or read.
pub trait Rows: ReadableTable<&'static [u8], &'static [u8]> + ReadableTableMetadata {}

impl<T: ReadableTable<&'static [u8], &'static [u8]> + ReadableTableMetadata> Rows for T {}

fn tombstone(tombstones: &impl Rows, key: &[u8]) -> Result<Option<Tombstone>, Error> {
    Ok(tombstones.get(key)?.and_then(|value| layout::decode(value.value())))
}

fn outdates(tombstone: &[u8], asked: Millis) -> bool {
    layout::decode(tombstone).is_some_and(|tombstone: Tombstone| tombstone.until.outdates(asked))
}

/// Which halves of the name were deleted since `asked`.
pub fn buried(tombstones: &impl Rows, mount: MountId, path: &RelPath, asked: Millis) -> Result<Halves, Error> {
    covered(tombstones, mount, path, |value| outdates(value, asked))
}

/// Whether a directory above the name was deleted since `asked`.
fn above(tombstones: &impl Rows, mount: MountId, path: &RelPath, asked: Millis) -> Result<bool, Error> {
    let parent = path.split().and_then(|(parent, _)| RelPath::parse(parent).ok()).unwrap_or_default();
    Ok(buried(tombstones, mount, &parent, asked)?.directory)
}

/// Which halves of the name are hidden for good.
pub fn hidden(hidden: &impl Rows, mount: MountId, path: &RelPath) -> Result<Halves, Error> {
    covered(hidden, mount, path, |_| true)
}

fn covered(table: &impl Rows, mount: MountId, path: &RelPath, holds: impl Fn(&[u8]) -> bool) -> Result<Halves, Error> {
    if table.is_empty()? {
        return Ok(Halves::default());
    }
    let has = |path: &RelPath, directory: bool| -> Result<bool, Error> {
        let key = layout::half_key(mount, path, directory);
        Ok(table.get(key.as_slice())?.is_some_and(|value| holds(value.value())))
    };
    for above in path.ancestors().chain([RelPath::default()]) {
        if has(&above, true)? {
            return Ok(Halves { file: true, directory: true });
        }
    }
    Ok(Halves { file: !path.is_root() && has(path, false)?, directory: has(path, true)? })
}
