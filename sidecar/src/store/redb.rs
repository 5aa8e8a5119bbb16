//! The store in one redb file.
//!
//! Owns the file. Readers use one snapshot, replaced after each commit, so a read takes no lock and
//! begins no transaction. A file that redb cannot open is set aside under another name and a new one
//! begun: most of it is a cache, and what is not (hidden names) could not be read anyway. A file that
//! another process holds, or a disk that fails, is an error instead: nothing is renamed then. Damage
//! found while running leaves a mark, so that the next start sets the file aside. After a disk error
//! (full, most often) redb refuses to go on; the file is then closed and opened again until it works.

mod deletion;
mod generations;
mod log;
mod purge;
mod sweep;
mod tables;

use std::fs;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::redb::{
    Database, ReadOnlyTable, ReadableDatabase as _, ReadableTable, ReadableTableMetadata as _, TableDefinition,
};
use arc_swap::ArcSwapOption;
use serde::de::DeserializeOwned;

use crate::crash;
use crate::entry::{Directory, File, Halves, Listing, Millis};
use crate::events::EventPage;
use crate::path::RelPath;
use crate::store::redb::tables::{Tables, child};
use crate::store::{Applied, Change, Child, Cursor, Identity, Intent, IntentId, MountId, Store, StoreError, layout};

type BytesTable = TableDefinition<'static, &'static [u8], &'static [u8]>;

const ENTRIES: BytesTable = TableDefinition::new("entries");
const LISTINGS: BytesTable = TableDefinition::new("listings");
const INTENTS: BytesTable = TableDefinition::new("intents");
const TOMBSTONES: BytesTable = TableDefinition::new("tombstones");
const HIDDEN: BytesTable = TableDefinition::new("hidden");

/// redb's own page cache; the kernel's serves what does not fit, so it stays small.
const CACHE_BYTES: usize = 8 << 20;

/// The store in one redb file.
pub struct RedbStore {
    file: PathBuf,
    damage_mark: PathBuf,
    database: Mutex<Handle>,
    /// Set when damage was found while running: a restart sets the file aside.
    damaged: AtomicBool,
    /// None while the file is closed after a disk error.
    snapshot: ArcSwapOption<Snapshot>,
}

/// The open file, held by whoever writes.
struct Handle {
    open: Option<Database>,
    failed: Option<Instant>,
}

/// After a disk error, how long before the file is opened again.
const REOPEN: Duration = Duration::from_secs(1);

/// What was opened.
pub struct Opened {
    /// The store.
    pub store: RedbStore,
    /// Where a damaged file was put, if there was one.
    pub set_aside: Option<PathBuf>,
}

type ReadBytes = ReadOnlyTable<&'static [u8], &'static [u8]>;

struct Snapshot {
    entries: ReadBytes,
    listings: ReadBytes,
    intents: ReadBytes,
    tombstones: ReadBytes,
    hidden: ReadBytes,
    log: log::Snapshot,
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
        if set_aside.is_some() {
            // What the old log held is gone: who followed it must not take the new one for its continuation.
            store.transact(|transaction| log::begin_at(transaction, crate::clock::nanos()))?;
        }
        Ok(Opened { store, set_aside })
    }

    fn open_file(file: &Path, mark: &Path) -> Result<Self, StoreError> {
        let (database, snapshot) = guarded(|| open_database(file)).map_err(|error| classify(&error))?;
        Ok(Self {
            file: file.to_owned(),
            damage_mark: mark.to_owned(),
            damaged: AtomicBool::new(false),
            database: Mutex::new(Handle { open: Some(database), failed: None }),
            snapshot: ArcSwapOption::from_pointee(snapshot),
        })
    }

    fn fail(&self, error: ::redb::Error) -> StoreError {
        let error = classify(&error);
        if matches!(error, StoreError::Damaged(_)) {
            self.damaged.store(true, Ordering::Relaxed);
            // Best effort: without the mark, the next start finds the damage by itself or again later.
            let _ = fs::write(&self.damage_mark, error.to_string());
        }
        error
    }

    fn snapshot(&self) -> Result<Arc<Snapshot>, StoreError> {
        self.snapshot.load_full().ok_or_else(|| StoreError::Io("closed until it can be opened again".into()))
    }

    fn read<T: DeserializeOwned>(
        &self,
        table: impl Fn(&Snapshot) -> &ReadBytes,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        let snapshot = self.snapshot()?;
        let value = table(&snapshot).get(key).map_err(|error| self.fail(error.into()))?;
        Ok(value.and_then(|value| layout::decode(value.value())))
    }

    fn transact<T>(
        &self,
        work: impl Fn(&::redb::WriteTransaction) -> Result<T, ::redb::Error>,
    ) -> Result<T, StoreError> {
        let mut handle = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match handle.open.take() {
            Some(database) => database,
            None => self.reopen(&mut handle)?,
        };
        let attempt = || -> Result<T, ::redb::Error> {
            let transaction = database.begin_write()?;
            let answer = work(&transaction)?;
            transaction.commit()?;
            self.snapshot.store(Some(Arc::new(Snapshot::take(&database)?)));
            Ok(answer)
        };
        match guarded(attempt).map_err(|error| self.fail(error)) {
            Err(error @ StoreError::Io(_)) => {
                self.close(database);
                handle.failed = Some(Instant::now());
                Err(error)
            }
            other => {
                handle.open = Some(database);
                other
            }
        }
    }

    /// Closes the file: redb goes on only after every reader has let go of it.
    fn close(&self, database: Database) {
        let last = self.snapshot.swap(None);
        while last.as_ref().is_some_and(|snapshot| Arc::strong_count(snapshot) > 1) {
            std::thread::sleep(Duration::from_millis(1)); // a read takes microseconds
        }
        drop(last);
        drop(database);
    }

    fn reopen(&self, handle: &mut Handle) -> Result<Database, StoreError> {
        if handle.failed.is_some_and(|failed| failed.elapsed() < REOPEN) {
            return Err(StoreError::Io("closed until it can be opened again".into()));
        }
        handle.failed = Some(Instant::now());
        let (database, snapshot) = guarded(|| open_database(&self.file)).map_err(|error| self.fail(error))?;
        self.snapshot.store(Some(Arc::new(snapshot)));
        tracing::info!(file = %self.file.display(), "the store is open again");
        Ok(database)
    }
}

/// A damaged file may trip an assertion inside redb; that is damage too, and not the writer's end.
fn guarded<T>(work: impl FnOnce() -> Result<T, ::redb::Error>) -> Result<T, ::redb::Error> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(::redb::Error::Corrupted("redb gave up on the file".to_owned())))
}

fn open_database(file: &Path) -> Result<(Database, Snapshot), ::redb::Error> {
    let database = Database::builder().set_cache_size(CACHE_BYTES).create(file)?;
    let transaction = database.begin_write()?;
    for table in [ENTRIES, LISTINGS, INTENTS, TOMBSTONES, HIDDEN] {
        transaction.open_table(table)?;
    }
    generations::open(&transaction)?;
    log::open(&transaction)?;
    transaction.commit()?;
    let snapshot = Snapshot::take(&database)?;
    Ok((database, snapshot))
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
        let snapshot = self.snapshot()?;
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
        let snapshot = self.snapshot()?;
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
        if self.damaged.load(Ordering::Relaxed) {
            return Err(StoreError::Damaged("found while running; a restart sets the file aside".into()));
        }
        let snapshot = self.snapshot()?;
        snapshot.entries.len().map_err(|error| self.fail(error.into()))
    }

    fn apply(&self, changes: &[Change]) -> Result<Applied, StoreError> {
        self.transact(|transaction| {
            let mut tables = Tables {
                entries: transaction.open_table(ENTRIES)?,
                listings: transaction.open_table(LISTINGS)?,
                intents: transaction.open_table(INTENTS)?,
                tombstones: transaction.open_table(TOMBSTONES)?,
                hidden: transaction.open_table(HIDDEN)?,
                // Read inside the transaction: a mount retired before it began takes no change (M3).
                mounts: generations::live(transaction)?,
                events: Vec::new(),
                told: 0,
                transaction,
                at_work: None,
            };
            let mut applied = Applied::default();
            for change in changes {
                if tables.mounts.iter().any(|(id, _)| *id == change.mount()) {
                    applied.removed += tables.apply(change)?;
                } else {
                    applied.retired.insert(change.mount());
                }
            }
            tables.flush()?;
            applied.events = tables.told;
            if changes.iter().any(|change| matches!(change, Change::DeleteFile(..) | Change::DeleteDirectory(..))) {
                crash::point("local-delete-not-committed");
            }
            Ok(applied)
        })
    }

    fn adopt(&self, mounts: &[Identity]) -> Result<Vec<MountId>, StoreError> {
        self.transact(|transaction| generations::adopt(transaction, mounts))
    }

    fn purge(&self, limit: usize, now: Millis) -> Result<bool, StoreError> {
        self.transact(|transaction| {
            let live: Vec<MountId> = generations::live(transaction)?.into_iter().map(|(id, _)| id).collect();
            let mut more = log::prune(transaction, limit)?;
            for table in [ENTRIES, LISTINGS, INTENTS, TOMBSTONES, HIDDEN] {
                more |= purge::retired(&mut transaction.open_table(table)?, &live, limit)?;
            }
            purge::tombstones(&mut transaction.open_table(TOMBSTONES)?, now)?;
            Ok(more)
        })
    }

    fn intents(&self) -> Result<Vec<(MountId, IntentId, Intent)>, StoreError> {
        let snapshot = self.snapshot()?;
        let mut intents = Vec::new();
        for row in snapshot.intents.iter().map_err(|error| self.fail(error.into()))? {
            let (key, value) = row.map_err(|error| self.fail(error.into()))?;
            if let (Some((mount, id)), Some(intent)) = (layout::intent_of(key.value()), layout::decode(value.value())) {
                intents.push((mount, id, intent));
            }
        }
        intents.sort_by_key(|(_, id, _)| *id);
        Ok(intents)
    }

    fn hidden(&self, mount: MountId, path: &RelPath) -> Result<Halves, StoreError> {
        deletion::hidden(&self.snapshot()?.hidden, mount, path).map_err(|error| self.fail(error))
    }

    fn buried(&self, mount: MountId, path: &RelPath, asked: Millis) -> Result<Halves, StoreError> {
        deletion::buried(&self.snapshot()?.tombstones, mount, path, asked).map_err(|error| self.fail(error))
    }

    fn events(&self, after: u64, limit: usize) -> Result<EventPage, StoreError> {
        self.snapshot()?.log.read(after, limit).map_err(|error| self.fail(error))
    }

    fn last_event(&self) -> Result<u64, StoreError> {
        self.snapshot()?.log.last().map_err(|error| self.fail(error))
    }

    fn signature(&self) -> Result<i32, StoreError> {
        self.transact(log::signature)
    }
}

impl Snapshot {
    fn take(database: &Database) -> Result<Self, ::redb::Error> {
        let transaction = database.begin_read()?;
        Ok(Self {
            entries: transaction.open_table(ENTRIES)?,
            listings: transaction.open_table(LISTINGS)?,
            intents: transaction.open_table(INTENTS)?,
            tombstones: transaction.open_table(TOMBSTONES)?,
            hidden: transaction.open_table(HIDDEN)?,
            log: log::Snapshot::take(&transaction)?,
        })
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

fn classify(error: &::redb::Error) -> StoreError {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    match error {
        ::redb::Error::DatabaseAlreadyOpen | ::redb::Error::LockProtocolMismatch => StoreError::InUse,
        ::redb::Error::Io(io) if matches!(io.kind(), InvalidData | UnexpectedEof) => {
            StoreError::Damaged(error.to_string().into())
        }
        ::redb::Error::Io(_) | ::redb::Error::PreviousIo | ::redb::Error::DatabaseClosed => {
            StoreError::Io(error.to_string().into())
        }
        _ => StoreError::Damaged(error.to_string().into()),
    }
}
