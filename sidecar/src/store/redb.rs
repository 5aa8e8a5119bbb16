//! The store in one redb file.
//!
//! Owns the file. Readers use one snapshot, replaced after each commit, so a read takes no lock and
//! begins no transaction. A file that redb cannot open is set aside under another name and a new one
//! begun: the metadata is a cache (DESIGN: "set aside and rebuilt, with an event"). A file that
//! another process holds, or a disk that fails, is an error instead: nothing is renamed then. Damage
//! found while running leaves a mark, so that the next start sets the file aside.

use std::fs;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use arc_swap::ArcSwap;
use redb::{
    Database, ReadOnlyTable, ReadableDatabase as _, ReadableTable, ReadableTableMetadata as _, Table, TableDefinition,
};
use serde::de::DeserializeOwned;

use crate::entry::{Directory, Entry, File, Listing, Millis};
use crate::path::RelPath;
use crate::store::{Applied, Change, Child, Cursor, Identity, MountId, Store, StoreError, layout};

const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
const LISTINGS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("listings");
/// Path → (generation, remote).
const MOUNTS: TableDefinition<'_, &str, (u32, &str)> = TableDefinition::new("mounts");
const COUNTERS: TableDefinition<'_, &str, u32> = TableDefinition::new("counters");
const NEXT_GENERATION: &str = "next generation";

/// redb's own page cache; the kernel's serves what does not fit, so it stays small.
const CACHE_BYTES: usize = 8 << 20;

/// The store in one redb file.
pub struct RedbStore {
    database: Database,
    snapshot: ArcSwap<Snapshot>,
    damage_mark: PathBuf,
}

/// What was opened.
pub struct Opened {
    /// The store.
    pub store: RedbStore,
    /// Where a damaged file was put, if there was one.
    pub set_aside: Option<PathBuf>,
}

struct Snapshot {
    entries: ReadOnlyTable<&'static [u8], &'static [u8]>,
    listings: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

impl RedbStore {
    /// Opens the store in `directory`, which is made if missing.
    ///
    /// # Errors
    /// When another process has it, or the disk fails.
    pub fn open(directory: &Path) -> Result<Opened, StoreError> {
        let failed = |error: std::io::Error| StoreError::Io(format!("{}: {error}", directory.display()).into());
        fs::create_dir_all(directory).map_err(failed)?;
        let file = directory.join("metadata.redb");
        let mark = directory.join("metadata.damaged");
        let mut set_aside = None;
        if mark.exists() {
            set_aside = Some(put_aside(&file).map_err(failed)?);
            fs::remove_file(&mark).map_err(failed)?;
        }
        let store = match Self::open_file(&file, &mark) {
            Err(StoreError::Damaged(_)) => {
                set_aside = Some(put_aside(&file).map_err(failed)?);
                Self::open_file(&file, &mark)?
            }
            other => other?,
        };
        Ok(Opened { store, set_aside })
    }

    fn open_file(file: &Path, mark: &Path) -> Result<Self, StoreError> {
        // A damaged file may trip an assertion inside redb; that is damage too, not our end.
        let attempt = catch_unwind(AssertUnwindSafe(|| -> Result<Self, redb::Error> {
            let database = Database::builder().set_cache_size(CACHE_BYTES).create(file)?;
            let transaction = database.begin_write()?;
            transaction.open_table(ENTRIES)?;
            transaction.open_table(LISTINGS)?;
            transaction.open_table(COUNTERS)?;
            transaction.open_table(MOUNTS)?;
            transaction.commit()?;
            let snapshot = Snapshot::take(&database)?;
            Ok(Self { database, snapshot: ArcSwap::from_pointee(snapshot), damage_mark: mark.to_owned() })
        }));
        match attempt {
            Ok(result) => result.map_err(|error| classify(&error)),
            Err(_) => Err(StoreError::Damaged("redb gave up on the file".into())),
        }
    }

    fn fail(&self, error: redb::Error) -> StoreError {
        let error = classify(&error);
        if matches!(error, StoreError::Damaged(_)) {
            // Best effort: without the mark, the next start finds the damage by itself or again later.
            let _ = fs::write(&self.damage_mark, error.to_string());
        }
        error
    }

    fn read<T: DeserializeOwned>(
        &self,
        table: impl Fn(&Snapshot) -> &ReadOnlyTable<&'static [u8], &'static [u8]>,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        let snapshot = self.snapshot.load();
        let value = table(&snapshot).get(key).map_err(|error| self.fail(error.into()))?;
        Ok(value.and_then(|value| layout::decode(value.value())))
    }

    fn transact<T>(&self, work: impl Fn(&redb::WriteTransaction) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let attempt = || -> Result<T, redb::Error> {
            let transaction = self.database.begin_write()?;
            let answer = work(&transaction)?;
            transaction.commit()?;
            self.snapshot.store(Snapshot::take(&self.database)?.into());
            Ok(answer)
        };
        attempt().map_err(|error| self.fail(error))
    }
}

impl Store for RedbStore {
    fn file(&self, mount: MountId, path: &RelPath) -> Result<Option<File>, StoreError> {
        layout::file_key(mount, path).map_or(Ok(None), |key| self.read(|snapshot| &snapshot.entries, &key))
    }

    fn directory(&self, mount: MountId, path: &RelPath) -> Result<Option<Directory>, StoreError> {
        layout::directory_key(mount, path).map_or(Ok(None), |key| self.read(|snapshot| &snapshot.entries, &key))
    }

    fn children(
        &self,
        mount: MountId,
        directory: &RelPath,
        after: &Cursor,
        limit: usize,
    ) -> Result<Vec<Child>, StoreError> {
        let prefix = layout::children_prefix(mount, directory);
        let Range { end, .. } = layout::children(mount, directory);
        let mut start = [prefix.as_slice(), after.as_str().as_bytes()].concat();
        if !after.as_str().is_empty() {
            start.push(0); // the smallest key after it: no name has a NUL
        }
        let snapshot = self.snapshot.load();
        let rows = snapshot.entries.range(start.as_slice()..end.as_slice()).map_err(|error| self.fail(error.into()))?;
        let mut children = Vec::new();
        for row in rows {
            if children.len() == limit {
                break;
            }
            let (key, value) = row.map_err(|error| self.fail(error.into()))?;
            children.extend(child(&key.value()[prefix.len()..], value.value()));
        }
        Ok(children)
    }

    fn listing(&self, mount: MountId, directory: &RelPath) -> Result<Option<Listing>, StoreError> {
        self.read(|snapshot| &snapshot.listings, &layout::listing_key(mount, directory))
    }

    fn unnameable(&self, mount: MountId) -> Result<u64, StoreError> {
        let Range { start, end } = layout::generation(mount);
        let snapshot = self.snapshot.load();
        let rows =
            snapshot.listings.range(start.as_slice()..end.as_slice()).map_err(|error| self.fail(error.into()))?;
        let mut total = 0;
        for row in rows {
            let (_, value) = row.map_err(|error| self.fail(error.into()))?;
            total += layout::decode::<Listing>(value.value()).map_or(0, |listing| listing.unnameable);
        }
        Ok(total)
    }

    fn entries(&self) -> Result<u64, StoreError> {
        self.snapshot.load().entries.len().map_err(|error| self.fail(error.into()))
    }

    fn apply(&self, changes: &[Change]) -> Result<Applied, StoreError> {
        self.transact(|transaction| {
            // Read inside the transaction: a mount retired before it began takes no change (M3).
            let live = live_mounts(&transaction.open_table(MOUNTS)?)?;
            let mut applied = Applied::default();
            let mut tables =
                Tables { entries: transaction.open_table(ENTRIES)?, listings: transaction.open_table(LISTINGS)? };
            for change in changes {
                if live.contains(&change.mount()) {
                    applied.removed += tables.apply(change)?;
                } else {
                    applied.dropped += 1;
                }
            }
            Ok(applied)
        })
    }

    fn adopt(&self, mounts: &[Identity]) -> Result<Vec<MountId>, StoreError> {
        self.transact(|transaction| {
            let mut table = transaction.open_table(MOUNTS)?;
            let mut counters = transaction.open_table(COUNTERS)?;
            let mut next = counters.get(NEXT_GENERATION)?.map_or(1, |value| value.value());
            let mut ids = Vec::with_capacity(mounts.len());
            for mount in mounts {
                let kept = table.get(mount.path.as_str())?.and_then(|row| {
                    let (id, remote) = row.value();
                    (remote == mount.remote).then_some(id)
                });
                let id = match kept {
                    Some(id) => id,
                    None => {
                        table.insert(mount.path.as_str(), (next, mount.remote.as_str()))?;
                        next += 1;
                        next - 1
                    }
                };
                ids.push(MountId(id));
            }
            counters.insert(NEXT_GENERATION, next)?;
            table.retain(|path, _| mounts.iter().any(|mount| mount.path == path))?;
            Ok(ids)
        })
    }

    fn purge(&self, limit: usize) -> Result<bool, StoreError> {
        self.transact(|transaction| {
            let live = live_mounts(&transaction.open_table(MOUNTS)?)?;
            let entries = purge_table(&mut transaction.open_table(ENTRIES)?, &live, limit)?;
            let listings = purge_table(&mut transaction.open_table(LISTINGS)?, &live, limit)?;
            Ok(entries || listings)
        })
    }
}

impl Snapshot {
    fn take(database: &Database) -> Result<Self, redb::Error> {
        let transaction = database.begin_read()?;
        Ok(Self { entries: transaction.open_table(ENTRIES)?, listings: transaction.open_table(LISTINGS)? })
    }
}

/// The two tables of one write transaction.
struct Tables<'t> {
    entries: Table<'t, &'static [u8], &'static [u8]>,
    listings: Table<'t, &'static [u8], &'static [u8]>,
}

impl Tables<'_> {
    /// Applies one change; answers how many entries it took away.
    fn apply(&mut self, change: &Change) -> Result<u64, redb::Error> {
        match change {
            Change::PutFile(mount, path, file) => {
                if let Some(key) = layout::file_key(*mount, path) {
                    let old = self.get(&key)?;
                    self.put(&key, &File::merge(old, file.clone()))?;
                }
                Ok(0)
            }
            Change::PutDirectory(mount, path, directory) => {
                if let Some(key) = layout::directory_key(*mount, path) {
                    let old = self.get(&key)?;
                    self.put(&key, &Directory::merge(old, *directory))?;
                }
                Ok(0)
            }
            Change::FileGone(mount, path, asked) => {
                let Some(key) = layout::file_key(*mount, path) else { return Ok(0) };
                let gone = self.get::<File>(&key)?.is_some_and(|file| file.pointer.is_some() && file.asked <= *asked);
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
                    self.put(&key, &File { asked: Millis(0), ..file })?;
                }
                Ok(0)
            }
        }
    }

    fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, redb::Error> {
        Ok(self.entries.get(key)?.and_then(|value| layout::decode(value.value())))
    }

    fn put(&mut self, key: &[u8], value: &impl serde::Serialize) -> Result<(), redb::Error> {
        let bytes = layout::encode(value).map_err(|error| redb::Error::Corrupted(error.to_string()))?;
        self.entries.insert(key, bytes.as_slice())?;
        Ok(())
    }

    fn listed(&mut self, mount: MountId, directory: &RelPath, listing: &Listing) -> Result<u64, redb::Error> {
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
        let bytes = layout::encode(listing).map_err(|error| redb::Error::Corrupted(error.to_string()))?;
        self.listings.insert(layout::listing_key(mount, directory).as_slice(), bytes.as_slice())?;
        Ok(removed)
    }

    fn directory_gone(&mut self, mount: MountId, path: &RelPath, asked: Millis) -> Result<u64, redb::Error> {
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
        return layout::decode::<Directory>(value).is_none_or(|directory| directory.asked <= asked);
    }
    layout::decode::<File>(value).is_none_or(|file| file.pointer.is_some() && file.asked <= asked)
}

fn child(name: &[u8], value: &[u8]) -> Option<Child> {
    let name = std::str::from_utf8(name).ok()?;
    Some(match name.strip_suffix('/') {
        Some(name) => Child { name: name.to_owned(), entry: Entry::Directory(layout::decode(value)?) },
        None => Child { name: name.to_owned(), entry: Entry::File(layout::decode(value)?) },
    })
}

fn live_mounts(table: &impl ReadableTable<&'static str, (u32, &'static str)>) -> Result<Vec<MountId>, redb::Error> {
    table.iter()?.map(|row| Ok(MountId(row?.1.value().0))).collect()
}

fn purge_table(
    table: &mut Table<'_, &'static [u8], &'static [u8]>,
    live: &[MountId],
    limit: usize,
) -> Result<bool, redb::Error> {
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

fn put_aside(file: &Path) -> std::io::Result<PathBuf> {
    let stamp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |age| age.as_millis());
    let aside = file.with_file_name(format!("metadata.redb.damaged-{stamp}"));
    if file.exists() {
        fs::rename(file, &aside)?;
    }
    Ok(aside)
}

fn classify(error: &redb::Error) -> StoreError {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => StoreError::InUse,
        redb::Error::Io(io) if matches!(io.kind(), InvalidData | UnexpectedEof) => {
            StoreError::Damaged(error.to_string().into())
        }
        redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
            StoreError::Io(error.to_string().into())
        }
        _ => StoreError::Damaged(error.to_string().into()),
    }
}
