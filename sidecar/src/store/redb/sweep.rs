//! Sweep: a directory goes with what is below it, in one transaction, however much that is.
//!
//! Only names are gathered, to be told of in order, children before their directories (E1): rows are
//! read again as they are taken away, and events are written in portions. Memory grows with the names
//! alone, beside the database's own cache. What goes is the caller's to say.

use std::collections::{BTreeMap, HashSet};

use ::redb::{Error, ReadableTable as _};

use crate::entry::{Entry, File};
use crate::events::Origin;
use crate::path::RelPath;
use crate::store::redb::tables::Tables;
use crate::store::{MountId, layout};

/// So many events are gathered before they are written.
const PORTION: usize = 1000;

/// What went.
pub struct Swept {
    /// How many names.
    pub names: u64,
    /// Whether the directory's own row was among them.
    pub itself: bool,
}

impl Tables<'_> {
    /// Takes away the directory and what is below it, except what `goes` does not hold for and the directories that hold
    /// such, and tells of it. `doomed` is told of beside it: files that other deletes are taking away, as they know them.
    pub fn sweep(
        &mut self,
        mount: MountId,
        path: &RelPath,
        goes: impl Fn(&RelPath, &Entry) -> bool,
        mut doomed: BTreeMap<RelPath, Entry>,
        origin: &Origin,
    ) -> Result<Swept, Error> {
        let mut names = self.names_that_go(mount, path, &goes)?;
        let own = layout::directory_key(mount, path).filter(|_| !path.is_root());
        let itself = own.is_some() && names.iter().any(|name| is_of_directory(name, path));
        let known = |tables: &Self, path: &RelPath| -> Result<bool, Error> {
            let Some(key) = layout::file_key(mount, path) else { return Ok(false) };
            Ok(tables.get::<File>(&key)?.is_some_and(|file| goes(path, &Entry::File(file))))
        };
        for path in doomed.keys().cloned().collect::<Vec<_>>() {
            if known(self, &path)? {
                doomed.remove(&path);
            } else {
                names.push(path.to_string());
            }
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        let count = names.len() as u64;
        for name in names {
            let directory = name.strip_suffix('/');
            let Ok(path) = RelPath::parse(directory.unwrap_or(&name)) else { continue };
            let entry = match doomed.remove(&path).filter(|_| directory.is_none()) {
                Some(entry) => Some(entry),
                None if directory.is_some() => self.take(layout::directory_key(mount, &path))?,
                None => self.take(layout::file_key(mount, &path))?,
            };
            if entry.is_some() {
                self.tell(mount, &path, entry, None, origin.clone());
            }
            if self.events.len() >= PORTION {
                self.flush()?;
            }
        }
        self.forget_listings(mount, path)?;
        Ok(Swept { names: count, itself })
    }

    /// The names that go, in no order; those of directories end in `/`. Rows that nobody can read go at once, untold.
    fn names_that_go(
        &mut self,
        mount: MountId,
        path: &RelPath,
        goes: &impl Fn(&RelPath, &Entry) -> bool,
    ) -> Result<Vec<String>, Error> {
        let ranges = [layout::children(mount, path), layout::deeper(mount, path)];
        // The directories above what stays.
        let mut held = HashSet::new();
        let mut unreadable = Vec::new();
        for range in &ranges {
            for row in self.entries.range(range.start.as_slice()..range.end.as_slice())? {
                let (key, value) = row?;
                match layout::row_of(key.value(), value.value()) {
                    Some((path, entry)) if !goes(&path, &entry) => held.extend(path.ancestors()),
                    Some(_) => {}
                    None => unreadable.push(key.value().to_vec()),
                }
            }
        }
        let mut names = Vec::new();
        let mut judge = |key: &[u8], value: &[u8]| {
            let Some((path, entry)) = layout::row_of(key, value) else { return };
            match entry {
                Entry::Directory(_) if held.contains(&path) || !goes(&path, &entry) => {}
                Entry::Directory(_) => names.push(format!("{path}/")),
                Entry::File(_) if goes(&path, &entry) => names.push(path.to_string()),
                Entry::File(_) => {}
            }
        };
        for range in &ranges {
            for row in self.entries.range(range.start.as_slice()..range.end.as_slice())? {
                let (key, value) = row?;
                judge(key.value(), value.value());
            }
        }
        if let Some(key) = layout::directory_key(mount, path).filter(|_| !path.is_root()) {
            match self.entries.get(key.as_slice())? {
                Some(value) if layout::row_of(&key, value.value()).is_none() => unreadable.push(key),
                Some(value) => judge(&key, value.value()),
                None => {}
            }
        }
        for key in unreadable {
            self.entries.remove(key.as_slice())?;
        }
        Ok(names)
    }

    /// Takes a row away; answers what it was.
    fn take(&mut self, key: Option<Vec<u8>>) -> Result<Option<Entry>, Error> {
        let Some(key) = key else { return Ok(None) };
        let row = self.entries.remove(key.as_slice())?;
        Ok(row.and_then(|value| Some(layout::row_of(&key, value.value())?.1)))
    }
}

fn is_of_directory(name: &str, path: &RelPath) -> bool {
    name.strip_suffix('/') == Some(path.as_str())
}
