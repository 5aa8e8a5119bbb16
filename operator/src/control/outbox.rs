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

    /// What a sidecar is to be told that has `uid` in `generation`, withdrawn or not, of a mount of this name.
    ///
    /// One that has another uid than the manifest's has a mount that is no more: its removal was told to those who
    /// were there, and then forgotten when the name was given anew. Against a removal of another uid nothing is
    /// said: that uid may be the next, whose manifest is not published yet. A mount without a uid is not of our making.
    #[must_use]
    pub fn news(&self, uid: &str, generation: i64, withdrawn: bool) -> Option<Self> {
        match self {
            Self::Manifest { uid: own, generation: newest, .. } if uid == &**own => {
                (*newest > generation).then(|| self.clone())
            }
            Self::Manifest { .. } => (!withdrawn && !uid.is_empty()).then(|| Self::Removed { uid: uid.into() }),
            Self::Removed { uid: own } => (!withdrawn && uid == &**own).then(|| self.clone()),
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
        let removed = |uid: &str| Published::Removed { uid: uid.into() };
        assert_eq!(manifest(3, 0).news("u", 2, false), Some(manifest(3, 0)));
        assert_eq!(manifest(3, 0).news("u", 3, false), None, "the same generation");
        assert_eq!(manifest(3, 0).news("older", 9, false), Some(removed("older")), "the name was given anew");
        assert_eq!(manifest(3, 0).news("older", 9, true), None, "it knows");
        assert_eq!(manifest(3, 0).news("", 0, false), None, "a file of somebody's own");
        assert_eq!(removed("u").news("u", 9, false), Some(removed("u")));
        assert_eq!((removed("u").news("u", 9, true), removed("u").news("next", 1, false)), (None, None));
    }
}
