//! Report: from what is known of a mount to its status. Pure; the clock is handed in.
//!
//! Conditions are level-based: the same facts give the same status, but for transition times, so that
//! an unchanged status is not written. `Stalled` is there when the user has to change something and
//! `Reconciling` while work goes on by itself (kstatus), so whoever waits comes to an end. Messages hold
//! no counters of time and no secrets. A delete that fails makes `DeletesHealthy` false and leaves
//! `Ready` alone: reading goes on as asked.

use std::fmt::Write as _;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use remotemount_crds::condition::{ConditionType, Observation, Reason, merge};
use remotemount_crds::control::FAILURE_COUNTS_MILLIS;
use remotemount_crds::status::{FailingSidecar, SidecarCounts};
use remotemount_crds::{RemoteMount, RemoteMountStatus};

use crate::control::report::{Failing, MountReport};
use crate::mount::validate::Refusal;

/// A delete that has waited this long for the remote is told of, in milliseconds.
const PENDING: u64 = 60_000;

/// What is known of a mount.
#[derive(Clone, Debug)]
pub enum Facts {
    /// The user asked the operator to stop.
    Suspended,
    /// The user has to change the mount.
    Refused(Refusal),
    /// Its configuration could not be published.
    Unpublished(String),
    /// Its configuration stands; this is what its sidecars say.
    Published(Box<MountReport>),
}

/// The status of `mount` as of `now`.
#[must_use]
pub fn status(mount: &RemoteMount, facts: &Facts, now: Timestamp) -> RemoteMountStatus {
    let old = mount.status.clone().unwrap_or_default();
    let generation = mount.metadata.generation.unwrap_or_default();
    let mut conditions = old.conditions.clone();
    let seen = match facts {
        Facts::Suspended => vec![suspended()],
        Facts::Refused(refusal) => refused(refusal),
        Facts::Unpublished(why) => unpublished(why),
        Facts::Published(report) => published(mount, report, now),
    };
    let passing = [ConditionType::Reconciling, ConditionType::Stalled].map(ConditionType::as_str);
    let told = |condition: &Condition| seen.iter().any(|seen| seen.condition.as_str() == condition.type_);
    conditions.retain(|condition| told(condition) || !passing.contains(&condition.type_.as_str()));
    for observation in &seen {
        merge(&mut conditions, observation, generation, &time(now));
    }
    let (sidecars, failing) = match facts {
        Facts::Published(report) => (Some(counts(report)), failing(report, &old, now)),
        Facts::Refused(_) => (None, Vec::new()),
        Facts::Suspended | Facts::Unpublished(_) => (old.sidecars, old.failing),
    };
    let known = mount.spec.unreadable.is_none();
    let remote_uri = if known { Some(mount.spec.remote.uri()) } else { old.remote_uri };
    RemoteMountStatus { observed_generation: Some(generation), conditions, remote_uri, sidecars, failing }
}

/// Whether what is told of deletes may turn at a time after `now`, though nothing else happens.
#[must_use]
pub fn ages(facts: &Facts, now: Timestamp) -> bool {
    let Facts::Published(report) = facts else { return false };
    report.deletes.oldest_intent_millis.is_some() || fails(report, millis(now))
}

/// Whether a delete has failed not long before `now`. A sidecar's clock may be ahead.
fn fails(report: &MountReport, now: u64) -> bool {
    report.deletes.last_failure_millis.is_some_and(|at| now.saturating_sub(at) < FAILURE_COUNTS_MILLIS)
}

fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or_default()
}

/// Whether fewer sidecars are heard from than the status of this same generation has counted.
///
/// After a change of the leader that says nothing of the sidecars: they come back one by one.
#[must_use]
pub fn fewer_are_heard_from(mount: &RemoteMount, facts: &Facts) -> bool {
    let Facts::Published(report) = facts else { return false };
    let Some(old) = &mount.status else { return false };
    let heard = old.sidecars.as_ref().map_or(0, |counts| counts.ready + counts.outdated);
    let now = counts(report);
    report.unreported > 0 && old.observed_generation == mount.metadata.generation && now.ready + now.outdated < heard
}

fn say(condition: ConditionType, status: Option<bool>, reason: Reason, message: impl Into<String>) -> Observation {
    Observation { condition, status, reason, message: message.into() }
}

fn suspended() -> Observation {
    let message = "spec.suspend is true: the operator leaves the mount as it is; pods that have it serve it";
    say(ConditionType::Ready, Some(false), Reason::Suspended, message)
}

fn refused(refusal: &Refusal) -> Vec<Observation> {
    let Refusal { reason, message } = refusal;
    let unknown = |condition| say(condition, None, Reason::Unknown, "the mount is not accepted");
    vec![
        say(ConditionType::Accepted, Some(false), *reason, message),
        say(ConditionType::ConfigPublished, Some(false), *reason, "the mount is not accepted"),
        unknown(ConditionType::RemoteReachable),
        unknown(ConditionType::SidecarsReady),
        unknown(ConditionType::DeletesHealthy),
        say(ConditionType::Ready, Some(false), *reason, message),
        say(ConditionType::Stalled, Some(true), *reason, message),
    ]
}

fn accepted() -> Observation {
    say(ConditionType::Accepted, Some(true), Reason::Valid, "the spec can be acted on")
}

fn unpublished(why: &str) -> Vec<Observation> {
    let message = format!("the configuration could not be published: {why}; it is tried again");
    vec![
        accepted(),
        say(ConditionType::ConfigPublished, Some(false), Reason::PublishFailed, message.clone()),
        say(ConditionType::Ready, Some(false), Reason::PublishFailed, message.clone()),
        say(ConditionType::Reconciling, Some(true), Reason::PublishFailed, message),
    ]
}

fn published(mount: &RemoteMount, report: &MountReport, now: Timestamp) -> Vec<Observation> {
    let standing = "pods that are injected from now on find the configuration, those there are get it";
    let mut seen = vec![
        accepted(),
        say(ConditionType::ConfigPublished, Some(true), Reason::Published, standing),
        remote(report),
        sidecars(report),
        deletes(report, now),
    ];
    let (ready, user) = ready(mount, report, &seen);
    match ready.status {
        Some(true) => {}
        _ if user => seen.push(Observation { condition: ConditionType::Stalled, status: Some(true), ..ready.clone() }),
        _ => seen.push(Observation { condition: ConditionType::Reconciling, status: Some(true), ..ready.clone() }),
    }
    seen.push(ready);
    seen
}

/// Whether sidecars reach the bucket. None asks it but they.
fn remote(report: &MountReport) -> Observation {
    let of = ConditionType::RemoteReachable;
    let remote = &report.remote;
    match &remote.trouble {
        Some(trouble) => {
            let all = remote.reachable + remote.unreachable;
            let mut message =
                format!("{} of {all} sidecars do not reach the remote: {}", remote.unreachable, told(trouble));
            if report.stale > 0 {
                let _ = write!(message, "; {} serve what they knew meanwhile", report.stale);
            }
            say(of, Some(false), trouble.reason, message)
        }
        None if remote.reachable > 0 => say(of, Some(true), Reason::Reachable, "sidecars reach the remote"),
        None if report.total == 0 => {
            say(of, None, Reason::NoSidecars, "no pod uses the mount, and only sidecars ask the remote")
        }
        None => say(of, None, Reason::Unknown, "no sidecar has asked the remote yet"),
    }
}

fn sidecars(report: &MountReport) -> Observation {
    let of = ConditionType::SidecarsReady;
    let MountReport { total, outdated, unreported, .. } = report;
    if let Some(sample) = report.samples.iter().find(|sample| sample.reason == Reason::Invalid) {
        let message = format!("the sidecar of {} refuses its manifests: {}", sample.pod, sample.message);
        return say(of, Some(false), Reason::Invalid, message);
    }
    match (total, unreported, outdated) {
        (0, ..) => say(of, Some(true), Reason::NoSidecars, "no pod uses the mount"),
        (_, 0, 0) => say(of, Some(true), Reason::Available, "every sidecar serves the current configuration"),
        (_, 0, _) => {
            let message = format!("{outdated} of {total} sidecars serve an older configuration");
            say(of, Some(false), Reason::SidecarsOutdated, message)
        }
        _ => {
            let message = format!(
                "{unreported} of {total} pods have no sidecar that reports this mount: look at their events, and at the log of their container {}",
                remotemount_crds::names::CONTAINER
            );
            say(of, Some(false), Reason::SidecarsNotReady, message)
        }
    }
}

fn deletes(report: &MountReport, now: Timestamp) -> Observation {
    let of = ConditionType::DeletesHealthy;
    let now = millis(now);
    if let Some((pod, failure)) = report.deletes.last_failure.as_ref().filter(|_| fails(report, now)) {
        // Without the path: with each other delete that fails, the status would be another.
        let message = format!(
            "deletes of {} sidecars fail, {pod}'s with {}: its log and its /status have more",
            report.deletes.failing, failure.reason
        );
        return say(of, Some(false), Reason::DeletesFailing, message);
    }
    match report.deletes.oldest_intent_millis {
        Some(oldest) if now.saturating_sub(oldest) >= PENDING => {
            let message = "deletes wait for the remote to say what became of them; they are settled once it answers";
            say(of, Some(false), Reason::DeletesPending, message)
        }
        _ => say(of, Some(true), Reason::NoPendingDeletes, "no delete waits or fails"),
    }
}

/// The sum of it, and whether the user has to change something.
fn ready(mount: &RemoteMount, report: &MountReport, seen: &[Observation]) -> (Observation, bool) {
    let of = ConditionType::Ready;
    let find = |condition: ConditionType| seen.iter().find(|seen| seen.condition == condition);
    let failed = |condition: ConditionType| find(condition).filter(|seen| seen.status == Some(false));
    if let Some(trouble) = &report.remote.trouble {
        let message = format!("{} ({})", told(trouble), advice(mount, trouble.reason));
        return (say(of, Some(false), trouble.reason, message), for_the_user(trouble.reason));
    }
    if let Some(sidecars) = failed(ConditionType::SidecarsReady) {
        return (Observation { condition: of, ..sidecars.clone() }, sidecars.reason == Reason::Invalid);
    }
    if report.total == 0 {
        return (say(of, Some(true), Reason::NoSidecars, "published; no pod uses the mount yet"), false);
    }
    if report.remote.reachable == 0 {
        return (say(of, Some(false), Reason::Progressing, "no sidecar has asked the remote yet"), false);
    }
    (say(of, Some(true), Reason::Available, "published, served by every sidecar, and the remote answers"), false)
}

fn told(trouble: &Failing) -> String {
    format!("{}: {}", trouble.pod, trouble.message)
}

/// Whether trouble of that kind stays until someone changes something.
const fn for_the_user(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::BucketNotFound
            | Reason::AccessDenied
            | Reason::CredentialsMissing
            | Reason::CertificateUntrusted
            | Reason::NotSupported
            | Reason::Rejected
            | Reason::Invalid
    )
}

/// What to do about it.
fn advice(mount: &RemoteMount, reason: Reason) -> String {
    let secret = mount.spec.credentials.secret_ref.as_ref();
    let who =
        secret.map_or_else(|| "the pod's own identity".to_owned(), |secret| format!("the Secret {}", secret.name));
    match reason {
        Reason::BucketNotFound => {
            "create the bucket, or correct spec.remote.s3.endpoint; for another bucket make another RemoteMount"
                .to_owned()
        }
        Reason::AccessDenied => {
            if mount.spec.credentials.anonymous.is_some() {
                return "let everyone read and list the bucket, or name other credentials in spec.credentials"
                    .to_owned();
            }
            format!("give {who} the right to read and list the bucket, or correct spec.credentials")
        }
        Reason::CredentialsMissing => format!(
            "put what is missing into {who}, or correct spec.credentials; pods that were made before it was named have to be made anew"
        ),
        Reason::CertificateUntrusted => "use an endpoint whose certificate the sidecar trusts".to_owned(),
        Reason::Rejected => "check spec.remote: endpoint, region and addressing".to_owned(),
        Reason::NotSupported => "use a remote that this version serves".to_owned(),
        _ => "it is tried again; old metadata is served for staleIfErrorSeconds".to_owned(),
    }
}

fn counts(report: &MountReport) -> SidecarCounts {
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    SidecarCounts {
        total: count(report.total),
        ready: count(report.ready),
        outdated: count(report.outdated),
        failing: count(report.failing),
        summary: format!("{}/{}", report.ready, report.total),
    }
}

/// The samples; one whose time is not known keeps the time at which it was first told of.
fn failing(report: &MountReport, old: &RemoteMountStatus, now: Timestamp) -> Vec<FailingSidecar> {
    let since = |sample: &Failing| {
        let known = i64::try_from(sample.since_millis).ok().filter(|millis| *millis > 0);
        let known = known.and_then(|millis| Timestamp::from_second(millis / 1000).ok());
        let before = || {
            let same = |old: &&FailingSidecar| old.pod == sample.pod && old.reason == sample.reason.as_str();
            old.failing.iter().find(same).map(|old| old.since.clone())
        };
        known.map(time).or_else(before).unwrap_or_else(|| time(now))
    };
    let sample = |sample: &Failing| FailingSidecar {
        pod: sample.pod.clone(),
        reason: sample.reason.as_str().to_owned(),
        message: sample.message.clone(),
        since: since(sample),
    };
    report.samples.iter().map(sample).collect()
}

/// Without fractions, as the API keeps it: what is read back is what was written.
fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

#[cfg(test)]
mod tests;
