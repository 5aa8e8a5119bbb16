//! The filer: lookup, list and read over mounts, the store and remotes.
//!
//! Every door calls these verbs and maps their errors; no door has policy of its own. The filer asks
//! the remote once however many wait ([`flight`]), persists what it learns, and serves it until its
//! time is over. What the remote could not be asked for is an error with its kind, never "not found"
//! (L6). It owns the flights, the walks and the remembered absences; entries live in the store.

pub mod flight;
pub mod list;
pub mod lookup;
pub mod negative;
pub mod read;
pub mod walk;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::entry::Node;
use crate::filer::flight::Flights;
use crate::filer::lookup::{Answer, FlightKey};
use crate::filer::negative::Negatives;
use crate::filer::walk::Walks;
use crate::metrics::Metrics;
use crate::mounts::{Mount, MountTable, Mounts};
use crate::path::{FilerPath, RelPath};
use crate::remote::{ErrorKind, RemoteError};
use crate::store::{Change, Store, StoreError, Writer};

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
    tasks: TaskTracker,
    /// Ends walks that wait for someone to list further.
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

/// Why the filer could not do it. Each names the path; a door maps it in its table.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilerError {
    /// Nothing has this name.
    #[error("{path}: not found")]
    NotFound {
        /// The mount, if the path is below one.
        mount: Option<String>,
        /// The path.
        path: String,
    },
    /// No mount table is in force yet.
    #[error("{path}: no mount table is in force yet; /status on the admin port says why")]
    NotReady {
        /// The path.
        path: String,
    },
    /// The remote could not be asked, or refused.
    #[error("{path}: {source}")]
    Remote {
        /// The mount.
        mount: String,
        /// The path.
        path: String,
        /// How long to wait before trying again, in seconds, where that may help.
        retry_after: Option<u64>,
        /// What the remote said.
        source: RemoteError,
    },
    /// The object is another version than the one that was being read (R1).
    #[error("{path}: the object changed while it was read; ask again for its new version")]
    Changed {
        /// The mount.
        mount: String,
        /// The path.
        path: String,
    },
    /// The store failed where the answer depends on it.
    #[error("{path}: {source}")]
    Store {
        /// The mount.
        mount: String,
        /// The path.
        path: String,
        /// What the store said.
        source: StoreError,
    },
    /// The task that was asking ended without an answer.
    #[error("{path}: the lookup ended without an answer; ask again")]
    Lost {
        /// The mount.
        mount: String,
        /// The path.
        path: String,
    },
}

impl Filer {
    /// A filer over `mounts`, remembering in `store` by `writer`.
    #[must_use]
    pub fn new(mounts: Arc<Mounts>, store: Arc<dyn Store>, writer: Writer, metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            mounts,
            store,
            writer,
            metrics,
            flights: Arc::default(),
            walks: Arc::default(),
            negatives: Negatives::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }))
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

impl FilerError {
    fn not_found(mount: &Mount, rel: &RelPath) -> Self {
        Self::NotFound { mount: Some(mount.name.clone()), path: mount.path.join(rel).to_string() }
    }

    fn remote(mount: &Mount, rel: &RelPath, source: RemoteError) -> Self {
        let retry_after = source.kind.is_transient().then_some(if source.kind == ErrorKind::Throttled { 5 } else { 2 });
        Self::Remote { mount: mount.name.clone(), path: mount.path.join(rel).to_string(), retry_after, source }
    }

    fn store(mount: &Mount, rel: &RelPath, source: StoreError) -> Self {
        Self::Store { mount: mount.name.clone(), path: mount.path.join(rel).to_string(), source }
    }

    fn lost(mount: &Mount, rel: &RelPath) -> Self {
        Self::Lost { mount: mount.name.clone(), path: mount.path.join(rel).to_string() }
    }

    fn changed(mount: &Mount, rel: &RelPath) -> Self {
        Self::Changed { mount: mount.name.clone(), path: mount.path.join(rel).to_string() }
    }
}
