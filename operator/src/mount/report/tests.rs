use remotemount_crds::manifest;

use super::*;
use crate::control::report::{DeletesReport, RemoteReport};
use crate::control::row::DeleteFailure;

const NOW: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn mount() -> RemoteMount {
    let text = "apiVersion: remotemount.dev/v1alpha1\nkind: RemoteMount\nmetadata: {name: a, namespace: ns, generation: 3}\nspec: {path: /a, remote: {s3: {bucket: bucket, prefix: p}}, credentials: {secretRef: {name: s3-creds}}}\n";
    manifest::parse(text.as_bytes()).unwrap().remove(0)
}

fn trouble(reason: Reason) -> Failing {
    Failing { pod: "pod-1".to_owned(), reason, message: "it said so".to_owned(), since_millis: 5_000 }
}

/// Two sidecars that serve, and reach the remote.
fn well() -> MountReport {
    let remote = RemoteReport { reachable: 2, ..RemoteReport::default() };
    MountReport { total: 2, ready: 2, remote, ..MountReport::default() }
}

fn troubled(reason: Reason) -> MountReport {
    let remote = RemoteReport { reachable: 1, unreachable: 1, unknown: 0, trouble: Some(trouble(reason)) };
    MountReport { failing: 1, samples: vec![trouble(reason)], remote, ..well() }
}

fn told(facts: &Facts) -> RemoteMountStatus {
    status(&mount(), facts, now())
}

fn of(status: &RemoteMountStatus, condition: ConditionType) -> Option<(String, String)> {
    let found = status.conditions.iter().find(|found| found.type_ == condition.as_str())?;
    Some((found.status.clone(), found.reason.clone()))
}

fn as_told(status: &str, reason: Reason) -> Option<(String, String)> {
    Some((status.to_owned(), reason.to_string()))
}

/// Ready's status and reason, and which of Stalled and Reconciling is there.
fn sum(report: MountReport) -> (String, String, Vec<ConditionType>) {
    let status = told(&Facts::Published(Box::new(report)));
    let (ready, reason) = of(&status, ConditionType::Ready).unwrap();
    let passing = [ConditionType::Stalled, ConditionType::Reconciling];
    (ready, reason, passing.into_iter().filter(|condition| of(&status, *condition).is_some()).collect())
}

#[test]
fn ready_sums_up_and_says_who_has_to_act() {
    use ConditionType::{Reconciling, Stalled};
    let outdated = MountReport { ready: 1, outdated: 1, ..well() };
    let missing = MountReport { ready: 1, unreported: 1, ..well() };
    let refusing = MountReport { failing: 1, samples: vec![trouble(Reason::Invalid)], ..well() };
    let unasked = MountReport { remote: RemoteReport { unknown: 2, ..RemoteReport::default() }, ..well() };
    let rows = [
        (well(), "True", Reason::Available, vec![]),
        (MountReport::default(), "True", Reason::NoSidecars, vec![]),
        (troubled(Reason::BucketNotFound), "False", Reason::BucketNotFound, vec![Stalled]),
        (troubled(Reason::AccessDenied), "False", Reason::AccessDenied, vec![Stalled]),
        (troubled(Reason::CredentialsMissing), "False", Reason::CredentialsMissing, vec![Stalled]),
        (troubled(Reason::CertificateUntrusted), "False", Reason::CertificateUntrusted, vec![Stalled]),
        (troubled(Reason::Unavailable), "False", Reason::Unavailable, vec![Reconciling]),
        (troubled(Reason::Throttled), "False", Reason::Throttled, vec![Reconciling]),
        (outdated, "False", Reason::SidecarsOutdated, vec![Reconciling]),
        (missing, "False", Reason::SidecarsNotReady, vec![Reconciling]),
        (refusing, "False", Reason::Invalid, vec![Stalled]),
        (unasked, "False", Reason::Progressing, vec![Reconciling]),
    ];
    for (report, ready, reason, passing) in rows {
        assert_eq!(sum(report.clone()), (ready.to_owned(), reason.to_string(), passing), "{report:?}");
    }
}

#[test]
fn what_the_user_has_to_change_is_named_with_what_to_do() {
    let status = told(&Facts::Published(Box::new(troubled(Reason::AccessDenied))));
    let ready = status.conditions.iter().find(|found| found.type_ == "Ready").unwrap();
    for part in ["pod-1", "it said so", "the Secret s3-creds"] {
        assert!(ready.message.contains(part), "{part}: {}", ready.message);
    }
    assert_eq!(status.remote_uri.as_deref(), Some("s3://bucket/p/"));
    assert_eq!(status.sidecars.unwrap().summary, "2/2");
    assert_eq!(status.failing[0].since.0.as_second(), 5);
    assert_eq!(status.failing[0].reason, "AccessDenied");
}

#[test]
fn a_refused_mount_is_stalled_and_knows_nothing_else() {
    let refusal = Refusal { reason: Reason::PathConflict, message: "another has it".to_owned() };
    let status = told(&Facts::Refused(refusal));
    assert_eq!(of(&status, ConditionType::Accepted), as_told("False", Reason::PathConflict));
    assert_eq!(of(&status, ConditionType::Stalled), as_told("True", Reason::PathConflict));
    assert_eq!(of(&status, ConditionType::RemoteReachable), as_told("Unknown", Reason::Unknown));
    assert_eq!(status.sidecars, None);
}

#[test]
fn deletes_that_wait_or_fail_leave_ready_alone() {
    let oldest = |age: i64| MountReport {
        deletes: DeletesReport {
            open_intents: 1,
            oldest_intent_millis: Some(u64::try_from((NOW - age) * 1000).unwrap()),
            ..DeletesReport::default()
        },
        ..well()
    };
    let failing = |age: i64| {
        let at_millis = u64::try_from((NOW - age) * 1000).unwrap();
        let failure = DeleteFailure { at_millis, reason: "Denied".into(), message: "no".into() };
        let deletes = DeletesReport {
            failing: 1,
            last_failure: Some(("pod-1".to_owned(), failure)),
            last_failure_millis: Some(at_millis),
            ..DeletesReport::default()
        };
        MountReport { deletes, ..well() }
    };
    let rows = [
        (oldest(10), "True", Reason::NoPendingDeletes, true),
        (oldest(90), "False", Reason::DeletesPending, true),
        (failing(-5), "False", Reason::DeletesFailing, true),
        (failing(10), "False", Reason::DeletesFailing, true),
        (failing(599), "False", Reason::DeletesFailing, true),
        (failing(600), "True", Reason::NoPendingDeletes, false),
    ];
    for (report, holds, reason, turns) in rows {
        let facts = Facts::Published(Box::new(report));
        let status = told(&facts);
        assert_eq!(of(&status, ConditionType::DeletesHealthy), as_told(holds, reason));
        assert_eq!(of(&status, ConditionType::Ready), as_told("True", Reason::Available));
        assert_eq!(ages(&facts, Timestamp::from_second(NOW).unwrap()), turns);
    }
}

#[test]
fn the_same_facts_give_the_same_status_whenever() {
    let every = [
        Facts::Suspended,
        Facts::Unpublished("the API server is away".to_owned()),
        Facts::Refused(Refusal { reason: Reason::Invalid, message: "m".to_owned() }),
        Facts::Published(Box::new(troubled(Reason::Unavailable))),
        Facts::Published(Box::new(MountReport {
            samples: vec![Failing { since_millis: 0, ..trouble(Reason::Invalid) }],
            ..well()
        })),
    ];
    for facts in every {
        let mut mount = mount();
        let first = status(&mount, &facts, now());
        mount.status = Some(first.clone());
        let later = Timestamp::from_second(NOW + 3600).unwrap();
        assert_eq!(status(&mount, &facts, later), first, "{facts:?}");
        let read: RemoteMountStatus = serde_json::from_value(serde_json::to_value(&first).unwrap()).unwrap();
        assert_eq!(read, first, "what is read back is what was written");
    }
}

#[test]
fn conditions_that_pass_go_and_every_condition_knows_its_generation() {
    let mut mount = mount();
    mount.status = Some(status(&mount, &Facts::Published(Box::new(troubled(Reason::AccessDenied))), now()));
    mount.metadata.generation = Some(4);
    let status = status(&mount, &Facts::Published(Box::new(well())), now());
    assert_eq!(of(&status, ConditionType::Stalled), None);
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(4)), "{status:?}");
    assert_eq!(status.observed_generation, Some(4));
}

#[test]
fn sidecars_that_were_counted_may_be_waited_for() {
    let mut mount = mount();
    let facts = |report: MountReport| Facts::Published(Box::new(report));
    let missing = facts(MountReport { ready: 1, unreported: 1, ..well() });
    assert!(!fewer_are_heard_from(&mount, &missing), "nothing was said of it yet");
    mount.status = Some(status(&mount, &facts(well()), now()));
    assert!(fewer_are_heard_from(&mount, &missing));
    assert!(!fewer_are_heard_from(&mount, &facts(well())), "all are back");
    assert!(!fewer_are_heard_from(&mount, &facts(MountReport { total: 1, ready: 1, ..well() })), "a pod is gone");
    assert!(!fewer_are_heard_from(&mount, &facts(MountReport { total: 3, unreported: 1, ..well() })), "a pod is new");
    mount.metadata.generation = Some(4);
    assert!(!fewer_are_heard_from(&mount, &missing), "an edit is told of at once");
}

#[test]
fn a_remote_that_is_away_is_told_of_with_how_many_serve_what_they_knew() {
    let message = |report: MountReport| {
        let status = told(&Facts::Published(Box::new(report)));
        let found = status.conditions.iter().find(|found| found.type_ == ConditionType::RemoteReachable.as_str());
        found.unwrap().message.clone()
    };
    let away = troubled(Reason::Unavailable);
    assert!(!message(away.clone()).contains("meanwhile"));
    assert!(message(MountReport { stale: 1, ..away }).ends_with("; 1 serve what they knew meanwhile"));
}
