//! The filer: lookup, list, read and delete over mounts, the store and remotes.
//!
//! Every door calls these verbs and maps their errors; no door has policy of its own. The filer asks
//! the remote once however many wait ([`flight`]), persists what it learns, and serves it until its
//! time is over. What the remote could not be asked for is an error with its kind, never "not found"
//! (L6). It owns the flights, the walks, the deletes under way and the remembered absences; entries live
//! in the store.

pub mod delete;
mod error;
pub mod flight;
pub mod intents;
pub mod list;
pub mod lookup;
pub mod negative;
pub mod read;
pub mod settle;
pub mod walk;

use std::sync::Arc;
use std::time::Duration;

use remotemount_crds::DeletePolicy;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::entry::{Halves, Node};
use crate::events::Events;
use crate::filer::delete::{DeleteAnswer, Order};
use crate::filer::flight::Flights;
use crate::filer::intents::Intents;
use crate::filer::lookup::{Answer, FlightKey};
use crate::filer::negative::Negatives;
use crate::filer::walk::Walks;
use crate::metrics::Metrics;
use crate::mounts::{Mount, MountTable, Mounts};
use crate::path::{FilerPath, RelPath};
use crate::store::{Change, MountId, Store, StoreError, Writer};

pub use error::FilerError;

/// How long persisting an answer may take (L4).
const PERSIST: Duration = Duration::from_secs(30);

/// The filer. A handle: clones share everything.
#[derive(Clone)]
pub struct Filer(Arc<Shared>);

struct Shared {
    mounts: Arc<Mounts>,
    store: Arc<dyn Store>,
    writer: Writer,
    metrics: Metrics,
    flights: Arc<Flights<FlightKey, Answer>>,
    walks: Arc<Walks>,
    negatives: Negatives,
    deletes: Arc<Flights<(MountId, RelPath, Order, u8), DeleteAnswer>>,
    intents: Arc<Intents>,
    events: Events,
    tasks: TaskTracker,
    /// Ends walks that wait for someone to list further, and sweeps between two pages.
    stop: CancellationToken,
}

/// Which half of a name is wanted, and how well known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Want {
    /// Whatever it is; a file before a directory.
    Any,
    /// As `Any`, and a file with its description.
    Described,
    /// The directory.
    Directory,
}

/// A name that exists.
#[derive(Clone)]
pub struct Found {
    /// The mount it belongs to; `None` above every mount.
    pub mount: Option<Arc<Mount>>,
    /// Its path.
    pub path: FilerPath,
    /// Its path below the mount.
    pub rel: RelPath,
    /// What is known of it.
    pub node: Node,
    /// Whether it is past its time and served because the remote cannot be asked (L7).
    pub stale: bool,
}

impl Filer {
    /// A filer over `mounts`, remembering in `store` by `writer`; it takes over the deletes that are not finished.
    ///
    /// # Errors
    /// When the store does not tell which these are: serving without knowing could show what is gone.
    pub fn new(
        mounts: Arc<Mounts>,
        store: Arc<dyn Store>,
        writer: Writer,
        metrics: Metrics,
    ) -> Result<Self, StoreError> {
        let intents = Arc::new(Intents::new(store.intents()?));
        let events = Events::new(Arc::clone(&store), writer.newest(), store.signature()?);
        Ok(Self(Arc::new(Shared {
            mounts,
            store,
            writer,
            metrics,
            flights: Arc::default(),
            walks: Arc::default(),
            negatives: Negatives::default(),
            deletes: Arc::default(),
            intents,
            events,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })))
    }

    /// What changes, from now on and for a while back.
    #[must_use]
    pub fn events(&self) -> Events {
        self.0.events.clone()
    }

    /// Waits until what is being committed is durable: whatever happened before now is an event then, if it is one.
    pub async fn told(&self) {
        self.0.writer.purge().await;
    }

    /// The deletes that have begun and are not finished.
    #[must_use]
    pub fn intents(&self) -> Arc<Intents> {
        Arc::clone(&self.0.intents)
    }

    /// How many entries are known, over all mounts.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn entries(&self) -> Result<u64, StoreError> {
        self.0.store.entries()
    }

    /// Which halves of the name are hidden for good (X1).
    ///
    /// # Errors
    /// When the store cannot be read, and the mount hides what is deleted: it must not come back meanwhile.
    fn hidden(&self, mount: &Mount, rel: &RelPath) -> Result<Halves, FilerError> {
        match self.0.store.hidden(mount.id, rel) {
            Err(error) if mount.delete_policy == DeletePolicy::Retain => Err(FilerError::store(mount, rel, error)),
            other => Ok(self.stored(mount, rel, other)),
        }
    }

    /// Waits until every flight and walk has landed and is persisted; new ones are still let in.
    pub async fn land(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Persists what was learnt, under a deadline of its own and not the caller's (L4).
    async fn persist(&self, mount: &Mount, rel: &RelPath, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let outcome = tokio::time::timeout(PERSIST, self.0.writer.commit(changes)).await;
        let problem = match outcome {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not done within {} s", PERSIST.as_secs()),
        };
        self.0.metrics.persist_failures.inc();
        tracing::warn!(mount = mount.name, path = %mount.path.join(rel), problem, "answer not persisted; it will be asked again");
    }

    /// The table in force, for one operation (M3).
    fn table(&self, path: &FilerPath) -> Result<Arc<MountTable>, FilerError> {
        let table = self.0.mounts.load();
        if table.number == 0 { Err(FilerError::NotReady { path: path.to_string() }) } else { Ok(table) }
    }

    /// What the store says, or nothing when it fails: the remote can still answer.
    fn stored<T: Default>(&self, mount: &Mount, rel: &RelPath, read: Result<T, StoreError>) -> T {
        read.unwrap_or_else(|error| {
            self.0.metrics.store_failures.inc();
            tracing::warn!(mount = mount.name, path = %mount.path.join(rel), %error, "store not read; the remote is asked");
            T::default()
        })
    }
}
