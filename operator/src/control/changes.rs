//! Which mounts have news: a set that whoever reconciles takes, whole, when it gets to it.
//!
//! A set and no queue: thousands of sidecars that flip at once leave one entry a mount, however slow
//! the taker is. Nothing is lost between two takes, and nothing is kept after one. For one taker.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// A mount, by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MountKey {
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
}

/// The mounts that have news.
#[derive(Debug, Default)]
pub struct Changes {
    waiting: Mutex<BTreeSet<MountKey>>,
    news: Notify,
}

impl MountKey {
    /// The mount `name` of `namespace`.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl Changes {
    /// Notes news of mounts.
    pub fn note(&self, keys: impl IntoIterator<Item = MountKey>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let before = waiting.len();
        waiting.extend(keys);
        if waiting.len() > before {
            self.news.notify_one();
        }
    }

    /// Waits for news and takes all of it. Dropped while it waits, it has taken nothing.
    pub async fn take(&self) -> BTreeSet<MountKey> {
        loop {
            let taken = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.news.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn news_is_gathered_and_taken_once() {
        let changes = Changes::default();
        let key = |name: &str| MountKey::new("ns", name);
        for _ in 0..1000 {
            changes.note([key("a"), key("b")]);
        }
        assert_eq!(changes.take().await, BTreeSet::from([key("a"), key("b")]));
        let (next, ()) = tokio::join!(changes.take(), async {
            tokio::task::yield_now().await;
            changes.note([key("c")]);
        });
        assert_eq!(next, BTreeSet::from([key("c")]));
    }
}
