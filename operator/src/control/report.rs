//! From what each sidecar says to what holds of a mount: pure, and the same whatever came first.
//!
//! The pods that were injected say how many sidecars there are to be; a pod that never reported counts
//! in `total` and nowhere else. `ready`, `outdated` and `unreported` are apart and add up to `total`;
//! `failing` counts those that report an error, whatever generation they serve. Samples and messages
//! are chosen by pod name and counts, never by time of arrival, so that a status does not change
//! while nothing does.

use std::collections::BTreeMap;

use remotemount_crds::condition::Reason;

use crate::control::row::{DeleteFailure, Remote, Report, Row, Trouble};

/// At most so many failing sidecars are named.
pub const SAMPLES: usize = 10;

/// The mount that is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'w> {
    /// `metadata.namespace`
    pub namespace: &'w str,
    /// `metadata.name`
    pub name: &'w str,
    /// `metadata.uid`
    pub uid: &'w str,
    /// `metadata.generation`
    pub generation: i64,
}

/// A pod that was injected with the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InjectedPod<'p> {
    /// Its name.
    pub name: &'p str,
    /// Its uid.
    pub uid: &'p str,
}

/// What holds of a mount, over all its sidecars.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountReport {
    /// Pods that were injected with it.
    pub total: usize,
    /// Sidecars that serve the wanted generation.
    pub ready: usize,
    /// Sidecars that serve an older one.
    pub outdated: usize,
    /// Pods whose sidecar is not connected, or says nothing of this mount.
    pub unreported: usize,
    /// Sidecars that report an error.
    pub failing: usize,
    /// The first of them, by pod name.
    pub samples: Vec<Failing>,
    /// Sidecars that serve the mount and do not propagate deletes any more, with none under way (X9).
    pub withdrawn: usize,
    /// Sidecars that serve old entries because the remote cannot be asked.
    pub stale: usize,
    /// What they know of the remote.
    pub remote: RemoteReport,
    /// What is open or failed of deletes.
    pub deletes: DeletesReport,
}

/// A sidecar that reports an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Its pod.
    pub pod: String,
    /// Why.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// Since when, in milliseconds since 1970; 0 when that is not known.
    pub since_millis: u64,
}

/// What sidecars know of a remote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteReport {
    /// Sidecars that reach it.
    pub reachable: usize,
    /// Sidecars that do not.
    pub unreachable: usize,
    /// Sidecars that have not asked it yet.
    pub unknown: usize,
    /// The reason that most of those give that do not reach it; of two as frequent, the one that a user has to mend.
    pub trouble: Option<Failing>,
}

/// What is open or failed of deletes, over all sidecars.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletesReport {
    /// Deletes that have begun and are not finished.
    pub open_intents: u64,
    /// When the oldest of them began, in milliseconds since 1970.
    pub oldest_intent_millis: Option<u64>,
    /// Sidecars whose last delete failed, however long ago.
    pub failing: usize,
    /// How the delete of the first of them failed, by pod name, and its pod.
    pub last_failure: Option<(String, DeleteFailure)>,
    /// When the last of them failed, in milliseconds since 1970.
    pub last_failure_millis: Option<u64>,
}

impl MountReport {
    /// Sums up what is known of `pods`, each with what its sidecar says if it is connected. Pods may come in any
    /// order, each once.
    #[must_use]
    pub fn sum<'r>(wanted: &Wanted<'_>, pods: impl IntoIterator<Item = (InjectedPod<'r>, Option<&'r Report>)>) -> Self {
        let mut pods: Vec<_> = pods.into_iter().collect();
        pods.sort_by_key(|(pod, _)| (pod.name, pod.uid));
        let mut sum = Self { total: pods.len(), ..Self::default() };
        let mut troubles: BTreeMap<Reason, (usize, Failing)> = BTreeMap::new();
        for (pod, report) in pods {
            let row = report.and_then(|report| report.row(wanted.name));
            match row {
                Some(row) => sum.count(wanted, &pod, row),
                None => sum.unreported += 1,
            }
            // What an older configuration ran into says nothing of this one.
            if let Some(Remote::Unreachable(trouble)) = row.filter(|row| current(wanted, row)).map(|row| &row.remote) {
                let (count, first) = troubles.entry(trouble.reason).or_insert_with(|| (0, failing(&pod, trouble)));
                *count += 1;
                first.since_millis = first.since_millis.min(trouble.since_millis);
            }
            let failure = error(wanted, &pod, report, row);
            if let Some(failure) = failure {
                sum.failing += 1;
                if sum.samples.len() < SAMPLES {
                    sum.samples.push(failure);
                }
            }
        }
        let worst = troubles.into_iter().max_by_key(|(reason, (count, _))| (*count, weight(*reason), *reason));
        sum.remote.trouble = worst.map(|(_, (_, first))| first);
        sum
    }

    fn count(&mut self, wanted: &Wanted<'_>, pod: &InjectedPod<'_>, row: &Row) {
        let current = current(wanted, row);
        *(if current { &mut self.ready } else { &mut self.outdated }) += 1;
        self.withdrawn += usize::from(row.withdrawn && row.deletes_under_way == 0);
        self.stale += usize::from(row.stale);
        match row.remote {
            _ if !current => self.remote.unknown += 1,
            Remote::Unknown => self.remote.unknown += 1,
            Remote::Reachable => self.remote.reachable += 1,
            Remote::Unreachable(_) => self.remote.unreachable += 1,
        }
        let deletes = &mut self.deletes;
        deletes.open_intents = deletes.open_intents.saturating_add(row.open_intents);
        let oldest = Some(row.oldest_intent_millis).filter(|oldest| *oldest > 0);
        deletes.oldest_intent_millis = deletes.oldest_intent_millis.into_iter().chain(oldest).min();
        if let Some(failure) = &row.delete_failure {
            deletes.failing += 1;
            deletes.last_failure_millis = deletes.last_failure_millis.max(Some(failure.at_millis));
            // Of the first pod by name, so that it does not change with each that fails again.
            if deletes.last_failure.is_none() {
                deletes.last_failure = Some((pod.name.to_owned(), failure.as_ref().clone()));
            }
        }
    }
}

/// Whether the row is of the wanted configuration. A generation that the operator has not seen yet is no older one.
fn current(wanted: &Wanted<'_>, row: &Row) -> bool {
    row.uid.as_ref() == wanted.uid && row.generation >= wanted.generation
}

/// The error that a sidecar reports of the mount, if it does: its manifest before its remote.
fn error(wanted: &Wanted<'_>, pod: &InjectedPod<'_>, report: Option<&Report>, row: Option<&Row>) -> Option<Failing> {
    if let Some(problem) = report.and_then(|report| report.problem(wanted.name)) {
        let pod = pod.name.to_owned();
        return Some(Failing { pod, reason: Reason::Invalid, message: problem.to_owned(), since_millis: 0 });
    }
    match row.filter(|row| current(wanted, row)).map(|row| &row.remote) {
        Some(Remote::Unreachable(trouble)) => Some(failing(pod, trouble)),
        _ => None,
    }
}

fn failing(pod: &InjectedPod<'_>, trouble: &Trouble) -> Failing {
    Failing {
        pod: pod.name.to_owned(),
        reason: trouble.reason,
        message: trouble.message.to_string(),
        since_millis: trouble.since_millis,
    }
}

/// What a user has to mend weighs more than what may pass by itself.
const fn weight(reason: Reason) -> u8 {
    match reason {
        Reason::BucketNotFound => 6,
        Reason::CredentialsMissing => 5,
        Reason::AccessDenied => 4,
        Reason::CertificateUntrusted => 3,
        Reason::NotSupported | Reason::Rejected => 2,
        Reason::Unavailable | Reason::TimedOut | Reason::Throttled => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
