//! What is to go down to one sidecar: the newest of each mount, however slowly it reads.
//!
//! Level-based: a mount that changes ten times while the sidecar's connection is slow goes down once,
//! as it is last. So what waits is bounded by the sidecar's mounts. Texts are shared between sidecars.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use remotemount_crds::control::mount_manifest::State;
use remotemount_crds::control::{Manifest, Manifests, MountManifest, Removed};
use tokio::sync::Notify;

/// How a mount is to be, as sidecars are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// Served as this manifest says.
    Manifest {
        /// `metadata.uid`
        uid: Arc<str>,
        /// `metadata.generation`
        generation: i64,
        /// The manifest, as it stands in the mount's ConfigMap.
        yaml: Arc<str>,
    },
    /// Being deleted: propagation stops (X9).
    Removed {
        /// `metadata.uid`
        uid: Arc<str>,
    },
}

/// What waits to go down to one sidecar.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Mutex<BTreeMap<String, Published>>,
    news: Notify,
}

/// Texts that one message holds at most, in bytes, unless one text alone is larger.
const BATCH_BYTES: usize = 1 << 20;

impl Published {
    /// The `metadata.uid` it speaks of.
    #[must_use]
    pub fn uid(&self) -> &str {
        match self {
            Self::Manifest { uid, .. } | Self::Removed { uid } => uid,
        }
    }

    /// Whether it is news to a sidecar that has `uid` in `generation`, withdrawn or not.
    #[must_use]
    pub fn is_news(&self, uid: &str, generation: i64, withdrawn: bool) -> bool {
        uid == self.uid()
            && match self {
                Self::Manifest { generation: newest, .. } => *newest > generation,
                Self::Removed { .. } => !withdrawn,
            }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Manifest { yaml, .. } => yaml.len(),
            Self::Removed { .. } => 0,
        }
    }

    fn into_message(self, name: String) -> MountManifest {
        let uid = self.uid().to_owned();
        let state = match self {
            Self::Manifest { generation, yaml, .. } => {
                State::Manifest(Manifest { generation, yaml: yaml.as_ref().to_owned() })
            }
            Self::Removed { .. } => State::Removed(Removed {}),
        };
        MountManifest { name, uid, state: Some(state) }
    }
}

impl Outbox {
    /// Has `published` go down for the mount `name`, instead of what waits of it.
    pub fn put(&self, name: &str, published: Published) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), published);
        self.news.notify_one();
    }

    /// Waits for something to send and takes one message of it. Dropped while it waits, it has taken nothing.
    pub async fn next(&self) -> Manifests {
        loop {
            let batch = self.batch();
            if !batch.mounts.is_empty() {
                return batch;
            }
            self.news.notified().await;
        }
    }

    fn batch(&self) -> Manifests {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut mounts, mut bytes) = (Vec::new(), 0);
        while let Some(first) = waiting.first_entry() {
            bytes += first.get().bytes();
            if bytes > BATCH_BYTES && !mounts.is_empty() {
                break;
            }
            let (name, published) = first.remove_entry();
            mounts.push(published.into_message(name));
        }
        Manifests { mounts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(generation: i64, bytes: usize) -> Published {
        Published::Manifest { uid: "u".into(), generation, yaml: "x".repeat(bytes).into() }
    }

    #[tokio::test]
    async fn the_newest_of_each_mount_goes_in_messages_of_bounded_size() {
        let outbox = Outbox::default();
        for generation in 1..=5 {
            outbox.put("a", manifest(generation, 10));
        }
        outbox.put("b", manifest(1, BATCH_BYTES));
        outbox.put("c", Published::Removed { uid: "u".into() });
        let sent = |batch: Manifests| batch.mounts.into_iter().map(|mount| mount.name).collect::<Vec<_>>();
        let first = outbox.next().await;
        let Some(State::Manifest(newest)) = &first.mounts[0].state else { panic!("a manifest") };
        assert_eq!(newest.generation, 5);
        assert_eq!(sent(first), ["a"]);
        assert_eq!(sent(outbox.next().await), ["b", "c"]);
        assert!(outbox.batch().mounts.is_empty());
    }

    #[test]
    fn what_is_news() {
        assert!(manifest(3, 0).is_news("u", 2, false));
        assert!(!manifest(3, 0).is_news("u", 3, false), "the same generation");
        assert!(!manifest(3, 0).is_news("other", 1, false), "another mount of that name");
        let removed = Published::Removed { uid: "u".into() };
        assert!(removed.is_news("u", 9, false) && !removed.is_news("u", 9, true) && !removed.is_news("v", 1, false));
    }
}
