//! How this sidecar is, as the operator is told: all of it, from the same sources as `/status`.
//!
//! Level-based: two reports are equal while nothing has changed, so there are times since when and no
//! ages. Texts are cut; none holds a secret, because none of the sources does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use remotemount_crds::condition::Reason;
use remotemount_crds::control::{
    DeleteFailure, Deletes, MAX_MOUNTS, MAX_PROBLEMS, MountRef, MountStatus, Problem, Reachability, Remote, Source,
    Status, cut,
};
use tokio::time::Instant;

use crate::filer::intents::Intents;
use crate::mounts::source::Origin;
use crate::mounts::watch::Problems;
use crate::mounts::{Mount, Mounts};
use crate::remote::observe::Health;

/// So long after an old entry was served, the mount is said to serve them.
const STALE: Duration = Duration::from_secs(30);

/// Says how this sidecar is.
pub struct Reporter {
    mounts: Arc<Mounts>,
    intents: Arc<Intents>,
    problems: Problems,
    draining: Arc<AtomicBool>,
    /// By mount: how many old entries were served, and when that was last seen to rise.
    stale: BTreeMap<String, (u64, Option<Instant>)>,
}

impl Reporter {
    /// Reports on `mounts`, their deletes, and what is wrong with manifests.
    #[must_use]
    pub const fn new(
        mounts: Arc<Mounts>,
        intents: Arc<Intents>,
        problems: Problems,
        draining: Arc<AtomicBool>,
    ) -> Self {
        Self { mounts, intents, problems, draining, stale: BTreeMap::new() }
    }

    /// The mounts in force.
    #[must_use]
    pub fn mounts(&self) -> Vec<MountRef> {
        let of = |mount: &Arc<Mount>| MountRef {
            name: mount.name.clone(),
            uid: mount.uid.clone().unwrap_or_default(),
            generation: mount.manifest_generation.unwrap_or_default(),
        };
        self.mounts.load().iter().take(MAX_MOUNTS).map(of).collect()
    }

    /// How it is `now`.
    pub fn status(&mut self, now: Instant) -> Status {
        let table = self.mounts.load();
        self.stale.retain(|name, _| table.iter().any(|mount| mount.name == *name));
        let mut mounts: Vec<_> = table.iter().take(MAX_MOUNTS).map(|mount| self.of(mount, now)).collect();
        mounts.sort_by(|a, b| a.name.cmp(&b.name));
        let problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        let problems = problems.iter().take(MAX_PROBLEMS).map(|problem| Problem {
            mount: problem.mount.clone().unwrap_or_default(),
            message: cut(&problem.message).to_owned(),
        });
        Status { mounts, problems: problems.collect(), draining: self.draining.load(Ordering::Relaxed) }
    }

    fn of(&mut self, mount: &Mount, now: Instant) -> MountStatus {
        let source = match mount.origin() {
            Origin::File => Source::File,
            Origin::Link => Source::Link,
        };
        MountStatus {
            name: mount.name.clone(),
            uid: mount.uid.clone().unwrap_or_default(),
            generation: mount.manifest_generation.unwrap_or_default(),
            source: source.into(),
            withdrawn: mount.withdrawn,
            remote: Some(remote(mount.health.get())),
            serving_stale: self.serves_stale(mount, now),
            deletes: Some(self.deletes(mount)),
        }
    }

    fn deletes(&self, mount: &Mount) -> Deletes {
        let (open_intents, left, oldest) = self.intents.summary(mount.id);
        let last_failure = mount.delete_failure().map(|(at, reason, message)| DeleteFailure {
            at_millis: at.0,
            reason: reason.to_owned(),
            message: cut(&message).to_owned(),
        });
        Deletes {
            open_intents,
            under_way: open_intents.saturating_sub(left),
            oldest_intent_millis: oldest.map_or(0, |oldest| oldest.0),
            last_failure,
        }
    }

    fn serves_stale(&mut self, mount: &Mount, now: Instant) -> bool {
        let served = mount.metrics.stale.get();
        // What was served before the first look is long ago, as far as anyone knows.
        let (before, risen) = self.stale.entry(mount.name.clone()).or_insert((served, None));
        if served > *before {
            (*before, *risen) = (served, Some(now));
        }
        risen.is_some_and(|risen| now.duration_since(risen) < STALE)
    }
}

fn remote(health: Health) -> Remote {
    let reachability = match health.reachable {
        None => Reachability::Unspecified,
        Some(true) => Reachability::Reachable,
        Some(false) => Reachability::Unreachable,
    };
    Remote {
        reachability: reachability.into(),
        reason: health.reason.map_or_else(String::new, |kind| reason(kind).to_string()),
        message: health.message.map_or_else(String::new, |message| cut(&message).to_owned()),
        since_millis: health.since_millis.unwrap_or_default(),
    }
}

/// The reason of a condition that a kind of remote error is.
fn reason(kind: &str) -> Reason {
    match kind {
        // To a user it is the same: no answer.
        "BrokeOff" => Reason::Unavailable,
        "Denied" => Reason::AccessDenied,
        kind => Reason::ALL.iter().copied().find(|reason| reason.as_str() == kind).unwrap_or(Reason::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::ErrorKind;

    #[test]
    fn every_kind_that_makes_a_remote_unreachable_has_a_reason() {
        for kind in ErrorKind::ALL.into_iter().filter(|kind| *kind != ErrorKind::Changed) {
            assert_ne!(reason(kind.as_str()), Reason::Unknown, "{}", kind.as_str());
        }
    }
}
