//! What each change does to the tables, inside one write transaction.
//!
//! The rules are those of [`Change`]; the memory store is the model they are held to. Here is what is
//! learnt of the remote; [`super::deletion`] has what is deleted. Nothing here commits, and nothing
//! decides which changes belong together. Events are gathered, in order, for [`super::log`] to write; a
//! directory that goes with much below it has them written in portions ([`super::sweep`]).

use std::collections::BTreeMap;

use ::redb::{Error, ReadableTable as _, Table, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::entry::{Directory, Entry, File, Listing, Millis};
use crate::events::{Event, Origin};
use crate::path::{FilerPath, RelPath};
use crate::store::redb::deletion::{buried, hidden};
use crate::store::redb::log;
use crate::store::{Change, Child, Doomed, Intent, MountId, layout};

/// A table of bytes by bytes.
pub type Bytes<'t> = Table<'t, &'static [u8], &'static [u8]>;

/// The tables of one write transaction.
pub struct Tables<'t> {
    /// Names.
    pub entries: Bytes<'t>,
    /// Complete listings.
    pub listings: Bytes<'t>,
    /// Deletes that have begun.
    pub intents: Bytes<'t>,
    /// Until when answers bring no name back, by half.
    pub tombstones: Bytes<'t>,
    /// Halves of names that are hidden for good.
    pub hidden: Bytes<'t>,
    /// The mounts in force and where they are.
    pub mounts: Vec<(MountId, FilerPath)>,
    /// What has happened and is not in the log yet, without its time.
    pub events: Vec<Event>,
    /// How many events are in the log by now.
    pub told: u64,
    /// Whose tables they are.
    pub transaction: &'t WriteTransaction,
    /// What deletes are at work on: the name, or with `true` all below it, too; read when first needed.
    pub at_work: Option<Vec<(MountId, RelPath, bool)>>,
}

impl Tables<'_> {
    /// Applies one change; answers how many entries it took away because the remote no longer has them.
    pub fn apply(&mut self, change: &Change) -> Result<u64, Error> {
        match change {
            Change::PutFile(mount, path, file) => {
                if let Some(key) = layout::file_key(*mount, path) {
                    self.put_file(&key, *mount, path, file.clone())?;
                }
            }
            Change::PutDirectory(mount, path, directory) => {
                if let Some(key) = layout::directory_key(*mount, path) {
                    let old = self.get(&key)?;
                    if old.is_some() || !self.stays_away(*mount, path, true, directory.asked)? {
                        self.put(&key, &Directory::merge(old, *directory))?;
                    }
                }
            }
            Change::FileGone(mount, path, asked) => return self.file_gone(*mount, path, *asked),
            Change::DirectoryGone(mount, path, asked) => return self.directory_gone(*mount, path, *asked),
            Change::Listed(mount, directory, listing) => return self.listed(*mount, directory, listing),
            Change::Doubt(mount, path) => {
                if let Some(key) = layout::file_key(*mount, path)
                    && let Some(file) = self.get::<File>(&key)?
                {
                    self.put(&key, &File { doubted: true, ..file })?;
                }
            }
            Change::Intend(mount, id, intent) => {
                self.at_work = None;
                let bytes = encode(intent)?;
                self.intents.insert(layout::intent_key(*mount, *id).as_slice(), bytes.as_slice())?;
            }
            Change::Settled(mount, id) => {
                self.at_work = None;
                self.intents.remove(layout::intent_key(*mount, *id).as_slice())?;
            }
            Change::DeleteFile(mount, path, deletion) => self.delete_file(*mount, path, deletion)?,
            Change::DeleteDirectory(mount, path, deletion) => self.delete_directory(*mount, path, deletion)?,
            Change::Age(mount, path, at) => self.age(*mount, path, *at)?,
        }
        Ok(0)
    }

    fn put_file(&mut self, key: &[u8], mount: MountId, path: &RelPath, file: File) -> Result<(), Error> {
        let old: Option<File> = self.get(key)?;
        if old.is_none() && file.pointer.is_some() && self.stays_away(mount, path, false, file.asked)? {
            return Ok(());
        }
        let new = File::merge(old.clone(), file);
        self.put(key, &new)?;
        if let Some(old) = old.filter(|old| new.replaces(old)) {
            self.tell(mount, path, Some(Entry::File(old)), Some(Entry::File(new)), Origin::remote());
        }
        Ok(())
    }

    fn file_gone(&mut self, mount: MountId, path: &RelPath, asked: Millis) -> Result<u64, Error> {
        let Some(key) = layout::file_key(mount, path) else { return Ok(0) };
        let Some(file) = self.get::<File>(&key)? else { return Ok(0) };
        if file.pointer.is_none() || !file.asked.gives_way_to(asked) || self.is_at_work(mount, path)? {
            return Ok(0);
        }
        self.entries.remove(key.as_slice())?;
        self.tell(mount, path, Some(Entry::File(file)), None, Origin::remote());
        Ok(1)
    }

    fn directory_gone(&mut self, mount: MountId, path: &RelPath, asked: Millis) -> Result<u64, Error> {
        // A delete tells of what it takes away; it must not be told of twice.
        self.is_at_work(mount, path)?;
        let at_work = self.at_work.take().unwrap_or_default();
        let goes = |path: &RelPath, entry: &Entry| goes(entry, asked) && !concerns(&at_work, mount, path);
        let swept = self.sweep(mount, path, goes, BTreeMap::new(), &Origin::remote())?;
        self.at_work = Some(at_work);
        Ok(swept.names)
    }

    /// Whether a delete is at work on the name: it alone says what becomes of it.
    fn is_at_work(&mut self, mount: MountId, path: &RelPath) -> Result<bool, Error> {
        if self.at_work.is_none() {
            let mut open = Vec::new();
            for row in self.intents.iter()? {
                let (key, value) = row?;
                if let (Some((mount, _)), Some(intent)) =
                    (layout::intent_of(key.value()), layout::decode::<Intent>(value.value()))
                {
                    open.push((mount, intent.path, !matches!(intent.doomed, Doomed::File(_))));
                }
            }
            self.at_work = Some(open);
        }
        Ok(self.at_work.as_ref().is_some_and(|open| concerns(open, mount, path)))
    }

    /// Whether nothing of the name may be kept that was asked for at `asked` (L8).
    fn stays_away(&self, mount: MountId, path: &RelPath, directory: bool, asked: Millis) -> Result<bool, Error> {
        Ok(self.listed_without(mount, path, asked)?
            || half(directory, buried(&self.tombstones, mount, path, asked)?)
            || half(directory, hidden(&self.hidden, mount, path)?))
    }

    /// Whether a complete listing of the parent, asked for after `asked`, did not have the name.
    fn listed_without(&self, mount: MountId, path: &RelPath, asked: Millis) -> Result<bool, Error> {
        let Some((parent, _)) = path.split() else { return Ok(false) };
        let Ok(parent) = RelPath::parse(parent) else { return Ok(false) };
        let row = self.listings.get(layout::listing_key(mount, &parent).as_slice())?;
        let listing: Option<Listing> = row.and_then(|row| layout::decode(row.value()));
        Ok(listing.is_some_and(|listing| !listing.asked.gives_way_to(asked)))
    }

    /// A row of the entries.
    pub fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, Error> {
        Ok(self.entries.get(key)?.and_then(|value| layout::decode(value.value())))
    }

    /// Writes a row of the entries.
    pub fn put(&mut self, key: &[u8], value: &impl Serialize) -> Result<(), Error> {
        self.entries.insert(key, encode(value)?.as_slice())?;
        Ok(())
    }

    /// Gathers an event.
    pub fn tell(&mut self, mount: MountId, path: &RelPath, old: Option<Entry>, new: Option<Entry>, origin: Origin) {
        if let Some((_, at)) = self.mounts.iter().find(|(id, _)| *id == mount) {
            self.events.push(Event { at: 0, path: at.join(path).to_string(), old, new, origin });
        }
    }

    /// Writes the events so far into the log.
    pub fn flush(&mut self) -> Result<(), Error> {
        let events = std::mem::take(&mut self.events);
        self.told += events.len() as u64;
        log::append(self.transaction, events, crate::clock::nanos())
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
                Entry::File(_) => self.file_gone(mount, &path, before)?,
                Entry::Directory(_) => self.directory_gone(mount, &path, before)?,
            };
        }
        // A directory that was deleted since is none, however empty its listing.
        if !buried(&self.tombstones, mount, directory, listing.asked)?.directory {
            self.listings.insert(layout::listing_key(mount, directory).as_slice(), encode(listing)?.as_slice())?;
        }
        Ok(removed)
    }

    /// No listing at or below the directory is complete any longer.
    pub fn forget_listings(&mut self, mount: MountId, path: &RelPath) -> Result<(), Error> {
        if path.is_root() {
            let range = layout::generation(mount);
            return Ok(self.listings.retain_in(range.start.as_slice()..range.end.as_slice(), |_, _| false)?);
        }
        self.listings.remove(layout::listing_key(mount, path).as_slice())?;
        let below = layout::deeper(mount, path);
        Ok(self.listings.retain_in(below.start.as_slice()..below.end.as_slice(), |_, _| false)?)
    }
}

/// A value as bytes.
pub fn encode(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    layout::encode(value).map_err(|error| Error::Corrupted(error.to_string()))
}

const fn half(directory: bool, halves: crate::entry::Halves) -> bool {
    if directory { halves.directory } else { halves.file }
}

/// Whether a remote that has nothing as of `asked` takes this row away.
fn goes(entry: &Entry, asked: Millis) -> bool {
    match entry {
        Entry::Directory(directory) => directory.asked.gives_way_to(asked),
        Entry::File(file) => file.pointer.is_some() && file.asked.gives_way_to(asked),
    }
}

/// Whether one of the deletes is at work on the name.
fn concerns(at_work: &[(MountId, RelPath, bool)], mount: MountId, path: &RelPath) -> bool {
    at_work.iter().any(|(id, doomed, below)| {
        *id == mount && (doomed == path || (*below && (doomed.is_root() || path.ancestors().any(|a| a == *doomed))))
    })
}

/// A row as a child of its directory; none when it cannot be read.
pub fn child(name: &[u8], value: &[u8]) -> Option<Child> {
    let name = std::str::from_utf8(name).ok()?;
    Some(match name.strip_suffix('/') {
        Some(name) => Child { name: name.to_owned(), entry: Entry::Directory(layout::decode(value)?) },
        None => Child { name: name.to_owned(), entry: Entry::File(layout::decode(value)?) },
    })
}
