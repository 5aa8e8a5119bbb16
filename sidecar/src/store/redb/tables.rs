//! What each change does to the tables, inside one write transaction.
//!
//! The rules are those of [`Change`]; the memory store is the model they are held to. Nothing here
//! commits, and nothing decides which changes belong together.

use ::redb::{Error, ReadableTable as _, Table};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::entry::{Directory, Entry, File, Listing, Millis};
use crate::path::RelPath;
use crate::store::{Change, Child, MountId, layout};

/// The two tables of one write transaction.
pub struct Tables<'t> {
    /// Names.
    pub entries: Table<'t, &'static [u8], &'static [u8]>,
    /// Complete listings.
    pub listings: Table<'t, &'static [u8], &'static [u8]>,
}

impl Tables<'_> {
    /// Applies one change; answers how many entries it took away.
    pub fn apply(&mut self, change: &Change) -> Result<u64, Error> {
        match change {
            Change::PutFile(mount, path, file) => {
                if let Some(key) = layout::file_key(*mount, path) {
                    let old = self.get(&key)?;
                    if old.is_some() || file.pointer.is_none() || !self.listed_without(*mount, path, file.asked)? {
                        self.put(&key, &File::merge(old, file.clone()))?;
                    }
                }
                Ok(0)
            }
            Change::PutDirectory(mount, path, directory) => {
                if let Some(key) = layout::directory_key(*mount, path) {
                    let old = self.get(&key)?;
                    if old.is_some() || !self.listed_without(*mount, path, directory.asked)? {
                        self.put(&key, &Directory::merge(old, *directory))?;
                    }
                }
                Ok(0)
            }
            Change::FileGone(mount, path, asked) => {
                let Some(key) = layout::file_key(*mount, path) else { return Ok(0) };
                let gone = self
                    .get::<File>(&key)?
                    .is_some_and(|file| file.pointer.is_some() && file.asked.gives_way_to(*asked));
                if gone {
                    self.entries.remove(key.as_slice())?;
                }
                Ok(u64::from(gone))
            }
            Change::DirectoryGone(mount, path, asked) => self.directory_gone(*mount, path, *asked),
            Change::Listed(mount, directory, listing) => self.listed(*mount, directory, listing),
            Change::Doubt(mount, path) => {
                if let Some(key) = layout::file_key(*mount, path)
                    && let Some(file) = self.get::<File>(&key)?
                {
                    self.put(&key, &File { doubted: true, ..file })?;
                }
                Ok(0)
            }
        }
    }

    /// Whether a complete listing of the parent, asked for after `asked`, did not have the name.
    fn listed_without(&self, mount: MountId, path: &RelPath, asked: Millis) -> Result<bool, Error> {
        let Some((parent, _)) = path.split() else { return Ok(false) };
        let Ok(parent) = RelPath::parse(parent) else { return Ok(false) };
        let row = self.listings.get(layout::listing_key(mount, &parent).as_slice())?;
        let listing: Option<Listing> = row.and_then(|row| layout::decode(row.value()));
        Ok(listing.is_some_and(|listing| !listing.asked.gives_way_to(asked)))
    }

    fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, Error> {
        Ok(self.entries.get(key)?.and_then(|value| layout::decode(value.value())))
    }

    fn put(&mut self, key: &[u8], value: &impl Serialize) -> Result<(), Error> {
        let bytes = layout::encode(value).map_err(|error| Error::Corrupted(error.to_string()))?;
        self.entries.insert(key, bytes.as_slice())?;
        Ok(())
    }

    fn listed(&mut self, mount: MountId, directory: &RelPath, listing: &Listing) -> Result<u64, Error> {
        let prefix = layout::children_prefix(mount, directory).len();
        let range = layout::children(mount, directory);
        let mut vanished = Vec::new();
        for row in self.entries.range(range.start.as_slice()..range.end.as_slice())? {
            let (key, value) = row?;
            if let Some(child) = child(&key.value()[prefix..], value.value())
                && child.confirmed().is_some_and(|asked| asked < listing.asked)
            {
                vanished.push(child);
            }
        }
        let before = Millis(listing.asked.0.saturating_sub(1));
        let mut removed = 0;
        for child in vanished {
            let path = directory.child(&child.name);
            removed += match child.entry {
                Entry::File(_) => self.apply(&Change::FileGone(mount, path, before))?,
                Entry::Directory(_) => self.directory_gone(mount, &path, before)?,
            };
        }
        let bytes = layout::encode(listing).map_err(|error| Error::Corrupted(error.to_string()))?;
        self.listings.insert(layout::listing_key(mount, directory).as_slice(), bytes.as_slice())?;
        Ok(removed)
    }

    fn directory_gone(&mut self, mount: MountId, path: &RelPath, asked: Millis) -> Result<u64, Error> {
        let ranges = [layout::children(mount, path), layout::deeper(mount, path)];
        // Files that stay keep the directories above them; there are few, or none.
        let mut stay = Vec::new();
        for range in &ranges {
            for row in self.entries.range(range.start.as_slice()..range.end.as_slice())? {
                let (key, value) = row?;
                if let Some((path, directory)) = layout::path_of(key.value())
                    && !gone(directory, value.value(), asked)
                {
                    stay.push((path, directory));
                }
            }
        }
        let holds =
            |candidate: &RelPath| stay.iter().any(|(path, _)| path.ancestors().any(|above| above == *candidate));
        let mut removed = 0;
        let mut drop_row = |key: &[u8], value: &[u8]| {
            let Some((path, directory)) = layout::path_of(key) else { return true };
            let drop = gone(directory, value, asked) && !(directory && holds(&path));
            removed += u64::from(drop);
            drop
        };
        for range in &ranges {
            self.entries.retain_in(range.start.as_slice()..range.end.as_slice(), |key, value| !drop_row(key, value))?;
        }
        if let Some(key) = layout::directory_key(mount, path) {
            let drop = self.entries.get(key.as_slice())?.is_some_and(|value| drop_row(&key, value.value()));
            if drop {
                self.entries.remove(key.as_slice())?;
            }
        }
        self.listings.remove(layout::listing_key(mount, path).as_slice())?;
        let below = layout::deeper(mount, path);
        self.listings.retain_in(below.start.as_slice()..below.end.as_slice(), |_, _| false)?;
        Ok(removed)
    }
}

/// Whether a remote that has nothing as of `asked` takes this row away. A row that cannot be read goes too.
fn gone(directory: bool, value: &[u8], asked: Millis) -> bool {
    if directory {
        return layout::decode::<Directory>(value).is_none_or(|directory| directory.asked.gives_way_to(asked));
    }
    layout::decode::<File>(value).is_none_or(|file| file.pointer.is_some() && file.asked.gives_way_to(asked))
}

/// A row as a child of its directory; none when it cannot be read.
pub fn child(name: &[u8], value: &[u8]) -> Option<Child> {
    let name = std::str::from_utf8(name).ok()?;
    Some(match name.strip_suffix('/') {
        Some(name) => Child { name: name.to_owned(), entry: Entry::Directory(layout::decode(value)?) },
        None => Child { name: name.to_owned(), entry: Entry::File(layout::decode(value)?) },
    })
}

/// Frees up to `limit` rows of one generation that is not live; answers whether there may be more.
pub fn purge_table(
    table: &mut Table<'_, &'static [u8], &'static [u8]>,
    live: &[MountId],
    limit: usize,
) -> Result<bool, Error> {
    let mut from: Vec<u8> = Vec::new();
    loop {
        let first = table.range(from.as_slice()..)?.next().transpose()?.map(|(key, _)| key.value().to_vec());
        let Some(mount) = first.as_deref().and_then(layout::mount_of) else { return Ok(false) };
        let range = layout::generation(mount);
        if live.contains(&mount) {
            from = range.end;
            continue;
        }
        let mut left = limit;
        table.retain_in(range.start.as_slice()..range.end.as_slice(), |_, _| {
            let keep = left == 0;
            left = left.saturating_sub(1);
            keep
        })?;
        return Ok(true);
    }
}
