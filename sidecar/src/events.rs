//! Events: what changed, in order, kept for a while (E1).
//!
//! The store writes an event in the transaction that makes its change, so there is one for each change
//! that is durable, and none for another. Learning of a name is no change: it was there before. The log
//! is bounded; whoever asks for events that are no longer kept is told so ([`EventsError::Gap`]) and
//! must look for itself. This room follows the log; it writes nothing.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::entry::Entry;
use crate::store::{Store, StoreError};

/// One change of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in nanoseconds since 1970; rises strictly from event to event of one store.
    pub at: u64,
    /// The absolute path.
    pub path: String,
    /// What the name was; none if nothing was known of it.
    pub old: Option<Entry>,
    /// What the name is; none once it is gone.
    pub new: Option<Entry>,
    /// Where the change came from.
    pub origin: Origin,
}

/// Where a change came from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// What made it.
    pub cause: Cause,
    /// Whether it was replicated from another cluster (X7).
    pub from_other_cluster: bool,
    /// Which filers it has passed through, the own one included.
    pub signatures: Vec<i32>,
}

/// What made a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// Someone asked for it at a door.
    Door,
    /// The remote was found to be different.
    Remote,
}

/// Some events, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventPage {
    /// The events.
    pub events: Vec<Event>,
    /// Events up to this time are no longer kept; 0 when all are.
    pub dropped: u64,
}

/// Why events cannot be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventsError {
    /// Some of those asked for are no longer kept.
    #[error(
        "events up to {oldest} ns since 1970 are no longer kept: look at the present state, then follow from there"
    )]
    Gap {
        /// What is kept begins after this time.
        oldest: u64,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The log, followed. A handle: clones follow on their own.
#[derive(Clone)]
pub struct Events {
    store: Arc<dyn Store>,
    newest: watch::Receiver<u64>,
    signature: i32,
}

impl Origin {
    /// A change that the remote made.
    #[must_use]
    pub const fn remote() -> Self {
        Self { cause: Cause::Remote, from_other_cluster: false, signatures: Vec::new() }
    }
}

impl Events {
    /// Follows the log of `store`, whose writer tells of news by `newest`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, newest: watch::Receiver<u64>, signature: i32) -> Self {
        Self { store, newest, signature }
    }

    /// What marks this filer's own events.
    #[must_use]
    pub const fn signature(&self) -> i32 {
        self.signature
    }

    /// Up to `limit` events after the time `after`; 0 for the first that is kept.
    ///
    /// # Errors
    /// [`EventsError::Gap`] when there were others in between.
    pub fn after(&self, after: u64, limit: usize) -> Result<Vec<Event>, EventsError> {
        let page = self.store.events(after, limit)?;
        if after > 0 && after < page.dropped { Err(EventsError::Gap { oldest: page.dropped }) } else { Ok(page.events) }
    }

    /// Waits until there is an event after the time `after`; for ever once the store is closed.
    pub async fn newer_than(&mut self, after: u64) {
        if self.newest.wait_for(|newest| *newest > after).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
