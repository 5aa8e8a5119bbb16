//! Every sidecar that is connected, or was a moment ago, and what it last said.
//!
//! By pod uid: a newer stream of a pod replaces the older. A sidecar whose stream has ended is *silent*
//! and counts as before for [`GRACE`], so that a reconnect changes nothing; then it counts as not
//! connected. One that comes back as another process was restarted: that is news, however short it was away. It is forgotten when its pod is gone, which whoever watches pods says
//! ([`Registry::gone`], [`Registry::retain`]). What is published for a mount is kept as well, so that a sidecar
//! that comes later is told. The lock is never held across an await, and nothing here asks anybody.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use remotemount_crds::control::{Hello, Status};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::control::authenticate::PodIdentity;
use crate::control::changes::{Changes, MountKey};
use crate::control::outbox::{Outbox, Published};
use crate::control::report::{InjectedPod, MountReport, Wanted};
use crate::control::row::Report;

/// A sidecar counts as it was for so long after its stream has ended.
pub const GRACE: Duration = Duration::from_secs(20);
/// A sidecar whose pod nobody knows is let be for so long: whoever watches pods may be behind.
const UNKNOWN_POD: Duration = Duration::from_secs(60);
/// That a mount is removed is remembered for so long at least.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Every sidecar, and what is published for mounts.
#[derive(Debug, Default)]
pub struct Registry {
    inner: Mutex<Inner>,
    changes: Changes,
}

#[derive(Debug, Default)]
struct Inner {
    sidecars: HashMap<String, Sidecar>,
    published: BTreeMap<MountKey, (Published, Instant)>,
    streams: u64,
    /// Pods whose sidecar came back as another process, of each mount that it served; until somebody tells of it.
    restarted: BTreeMap<MountKey, BTreeSet<String>>,
}

#[derive(Debug)]
struct Sidecar {
    pod: Arc<PodIdentity>,
    start_id: String,
    stream: u64,
    since: Instant,
    silent: Option<Instant>,
    /// Whether its silence has lasted longer than the grace.
    lost: bool,
    report: Report,
    outbox: Arc<Outbox>,
    end: CancellationToken,
}

/// A stream's place in the registry.
#[derive(Debug)]
pub struct Attached {
    /// Which pod's it is.
    pub pod: Arc<PodIdentity>,
    /// What is to go down to it.
    pub outbox: Arc<Outbox>,
    /// The stream is to end: a newer one has replaced it, or its pod is gone.
    pub end: CancellationToken,
    stream: u64,
}

impl Registry {
    /// Which mounts have news.
    #[must_use]
    pub const fn changes(&self) -> &Changes {
        &self.changes
    }

    /// A stream of `pod` has begun with `hello`; an older one of that pod is to end.
    ///
    /// What the older one said counts until this one says something.
    #[must_use]
    pub fn attach(&self, pod: Arc<PodIdentity>, hello: &Hello) -> Attached {
        let mut inner = self.inner();
        inner.streams += 1;
        let (outbox, end, stream) = (Arc::new(Outbox::default()), CancellationToken::new(), inner.streams);
        let older = inner.sidecars.remove(&pod.uid);
        if let Some(older) = &older {
            older.end.cancel();
        }
        for mount in &hello.mounts {
            let published = inner.published.get(&MountKey::new(&*pod.namespace, &*mount.name));
            if let Some(news) = published.and_then(|(p, _)| p.news(&mount.uid, mount.generation, false)) {
                outbox.put(&mount.name, news);
            }
        }
        let lost = older.as_ref().is_some_and(|older| older.lost);
        let restarted = older.as_ref().filter(|older| older.start_id != hello.start_id);
        let restarted = restarted.map(Sidecar::keys).unwrap_or_default();
        for key in &restarted {
            inner.restarted.entry(key.clone()).or_default().insert(pod.name.clone());
        }
        let sidecar = Sidecar {
            pod: Arc::clone(&pod),
            start_id: hello.start_id.clone(),
            stream,
            since: Instant::now(),
            silent: None,
            lost: false,
            report: older.map(|older| older.report).unwrap_or_default(),
            outbox: Arc::clone(&outbox),
            end: end.clone(),
        };
        if lost {
            self.changes.note(sidecar.keys());
        }
        self.changes.note(restarted);
        inner.sidecars.insert(pod.uid.clone(), sidecar);
        Attached { pod, outbox, end, stream }
    }

    /// What a sidecar says now, in place of what it said before.
    pub fn report(&self, attached: &Attached, status: Status) {
        let report = Report::read(status);
        let mut inner = self.inner();
        let Inner { sidecars, published, .. } = &mut *inner;
        let Some(sidecar) = sidecars.get_mut(&attached.pod.uid).filter(|s| s.stream == attached.stream) else { return };
        for row in &report.rows {
            // What it has told before was answered before; only what is new to it may need an answer.
            if sidecar.report.row(&row.name).is_none_or(|before| before.uid != row.uid) {
                let published = published.get(&MountKey::new(&*sidecar.pod.namespace, &*row.name));
                if let Some(news) = published.and_then(|(p, _)| p.news(&row.uid, row.generation, row.withdrawn)) {
                    sidecar.outbox.put(&row.name, news);
                }
            }
        }
        let differences = report.differences(&sidecar.report);
        let keys: Vec<_> = differences.iter().map(|&name| MountKey::new(&*sidecar.pod.namespace, name)).collect();
        sidecar.report = report;
        drop(inner);
        self.changes.note(keys);
    }

    /// The stream has ended; the sidecar is silent from `now` on, unless a newer stream has replaced it.
    pub fn detach(&self, attached: &Attached, now: Instant) {
        let mut inner = self.inner();
        if let Some(sidecar) = inner.sidecars.get_mut(&attached.pod.uid).filter(|s| s.stream == attached.stream) {
            sidecar.silent = Some(now);
        }
    }

    /// The pod is gone: its sidecar no longer counts, and its stream ends.
    pub fn gone(&self, pod_uid: &str) {
        let removed = self.inner().sidecars.remove(pod_uid);
        self.forget(removed);
    }

    /// Only pods whose uid `exists` says are there still: sidecars of others are forgotten, but for those
    /// that came a moment before `now`.
    pub fn retain(&self, exists: impl Fn(&str) -> bool, now: Instant) {
        let mut inner = self.inner();
        let gone = |sidecar: &Sidecar| now.duration_since(sidecar.since) >= UNKNOWN_POD || sidecar.silent.is_some();
        let removed: Vec<_> = inner.sidecars.extract_if(|uid, sidecar| !exists(uid) && gone(sidecar)).collect();
        drop(inner);
        self.forget(removed.into_iter().map(|(_, sidecar)| sidecar));
    }

    fn forget(&self, removed: impl IntoIterator<Item = Sidecar>) {
        for sidecar in removed {
            sidecar.end.cancel();
            self.changes.note(sidecar.keys());
        }
    }

    /// Looks for sidecars that have been silent for longer than [`GRACE`], and forgets what is no longer of use.
    pub fn sweep(&self, now: Instant) {
        let mut inner = self.inner();
        let silent = |sidecar: &Sidecar| sidecar.silent.is_some_and(|since| now.duration_since(since) >= GRACE);
        let mut keys = Vec::new();
        for sidecar in inner.sidecars.values_mut().filter(|sidecar| !sidecar.lost && silent(sidecar)) {
            sidecar.lost = true;
            keys.extend(sidecar.keys());
        }
        inner.published.retain(|_, (published, at)| {
            !matches!(published, Published::Removed { .. }) || now.saturating_duration_since(*at) < REMEMBERED
        });
        let Inner { restarted, published, .. } = &mut *inner;
        restarted.retain(|key, _| published.contains_key(key));
        drop(inner);
        self.changes.note(keys);
    }

    /// Pods of the mount whose sidecar was restarted since this was asked last, in order of their names.
    #[must_use]
    pub fn take_restarted(&self, key: &MountKey) -> BTreeSet<String> {
        self.inner().restarted.remove(key).unwrap_or_default()
    }

    /// How a mount is to be from now on: goes down to the sidecars of its namespace that have it, and to those
    /// that come later.
    ///
    /// Pushes of one text, again and again, cost nothing. A removal is remembered for an hour, or until a mount of
    /// that name is published anew: whoever still has the older uid is then told by that ([`Published::news`]).
    pub fn publish(&self, key: MountKey, published: Published) {
        let mut inner = self.inner();
        if inner.published.get(&key).is_some_and(|(before, _)| *before == published) {
            return;
        }
        for sidecar in inner.sidecars.values().filter(|sidecar| sidecar.pod.namespace == key.namespace) {
            if let Some(row) = sidecar.report.row(&key.name)
                && let Some(news) = published.news(&row.uid, row.generation, row.withdrawn)
            {
                sidecar.outbox.put(&key.name, news);
            }
        }
        inner.published.insert(key, (published, Instant::now()));
    }

    /// What holds of the mount, over the pods that were injected with it, each named once.
    #[must_use]
    pub fn summary<'p>(&self, wanted: &Wanted<'_>, pods: impl IntoIterator<Item = InjectedPod<'p>>) -> MountReport {
        let inner = self.inner();
        let pods: HashSet<InjectedPod<'p>> = pods.into_iter().collect();
        let heard = pods.into_iter().map(|pod| {
            let sidecar = inner.sidecars.get(pod.uid);
            let own = sidecar.filter(|sidecar| !sidecar.lost && sidecar.pod.namespace == wanted.namespace);
            (pod, own.map(|sidecar| &sidecar.report))
        });
        MountReport::sum(wanted, heard)
    }

    /// How many sidecars have a stream now.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.inner().sidecars.values().filter(|sidecar| sidecar.silent.is_none()).count()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sidecar {
    /// The mounts that it tells of.
    fn keys(&self) -> Vec<MountKey> {
        self.report.rows.iter().map(|row| MountKey::new(&*self.pod.namespace, &*row.name)).collect()
    }
}

#[cfg(test)]
mod tests;
