//! Aggregation as tables, and that the order of arrival does not matter.

use proptest::prelude::*;
use remotemount_crds::condition::Reason;

use super::{InjectedPod, MountReport, SAMPLES, Wanted};
use crate::control::row::{DeleteFailure, Remote, Report, Row, Trouble};

const WANTED: Wanted<'static> = Wanted { namespace: "ns", name: "m", uid: "u", generation: 3 };

fn row(uid: &str, generation: i64) -> Row {
    Row { name: "m".into(), uid: uid.into(), generation, remote: Remote::Reachable, ..Row::default() }
}

fn unreachable(reason: Reason, since_millis: u64) -> Row {
    let trouble = Trouble { reason, message: format!("{reason} it is").into(), since_millis };
    Row { remote: Remote::Unreachable(Box::new(trouble)), ..row("u", 3) }
}

fn with(row: Row) -> Option<Report> {
    Some(Report { rows: [row].into(), ..Report::default() })
}

fn refused(mount: &str) -> Option<Report> {
    let problems = [(mount.into(), "spec.path is wrong".into())].into();
    Some(Report { problems, ..with(row("u", 2)).unwrap() })
}

/// Sums up reports of the pods `p0`, `p1`, …
fn sum(reports: &[Option<Report>]) -> MountReport {
    let names: Vec<String> = (0..reports.len()).map(|at| format!("p{at}")).collect();
    let pods = names.iter().zip(reports);
    MountReport::sum(&WANTED, pods.map(|(name, report)| (InjectedPod { name, uid: name }, report.as_ref())))
}

#[test]
fn every_sidecar_counts_once() {
    // (what the sidecar says, ready, outdated, unreported, failing)
    let table: [(&str, Option<Report>, [usize; 4]); 11] = [
        ("serves the generation", with(row("u", 3)), [1, 0, 0, 0]),
        ("is ahead of the operator", with(row("u", 4)), [1, 0, 0, 0]),
        ("serves an older one", with(row("u", 2)), [0, 1, 0, 0]),
        ("serves an earlier mount of that name", with(row("v", 3)), [0, 1, 0, 0]),
        ("has a manifest without generation", with(row("", 0)), [0, 1, 0, 0]),
        ("does not have it", Some(Report::default()), [0, 0, 1, 0]),
        ("has another mount", with(Row { name: "x".into(), ..row("u", 3) }), [0, 0, 1, 0]),
        ("is not connected", None, [0, 0, 1, 0]),
        ("does not reach the remote", with(unreachable(Reason::AccessDenied, 1)), [1, 0, 0, 1]),
        ("refuses the manifest", refused("m"), [0, 1, 0, 1]),
        ("refuses another mount's manifest", refused("x"), [0, 1, 0, 0]),
    ];
    for (name, report, [ready, outdated, unreported, failing]) in &table {
        let sum = sum(std::slice::from_ref(report));
        let wanted = (1, *ready, *outdated, *unreported, *failing, *failing);
        let is = (sum.total, sum.ready, sum.outdated, sum.unreported, sum.failing, sum.samples.len());
        assert_eq!(is, wanted, "a sidecar that {name}");
    }
    let all: Vec<_> = table.iter().map(|(_, report, _)| report.clone()).collect();
    let sum = sum(&all);
    assert_eq!(sum.total, sum.ready + sum.outdated + sum.unreported);
}

#[test]
fn the_trouble_is_what_most_say_and_then_what_a_user_has_to_mend() {
    let table: [(&[Reason], Option<Reason>); 4] = [
        (&[], None),
        (&[Reason::Unavailable, Reason::Unavailable, Reason::AccessDenied], Some(Reason::Unavailable)),
        (&[Reason::Unavailable, Reason::AccessDenied], Some(Reason::AccessDenied)),
        (&[Reason::TimedOut, Reason::BucketNotFound, Reason::AccessDenied], Some(Reason::BucketNotFound)),
    ];
    for (reasons, wanted) in table {
        let mut reports: Vec<_> = reasons.iter().map(|reason| with(unreachable(*reason, 5))).collect();
        reports.push(with(row("u", 3)));
        let remote = sum(&reports).remote;
        assert_eq!(remote.trouble.map(|trouble| trouble.reason), wanted, "{reasons:?}");
        assert_eq!((remote.reachable, remote.unreachable), (1, reasons.len()));
    }
    let trouble =
        sum(&[with(unreachable(Reason::AccessDenied, 9)), with(unreachable(Reason::AccessDenied, 4))]).remote.trouble;
    let trouble = trouble.unwrap();
    assert_eq!((trouble.pod.as_str(), trouble.since_millis), ("p0", 4), "the first pod by name, the oldest time");
}

#[test]
fn samples_are_few_and_in_order_of_pod_names() {
    let sum = sum(&vec![with(unreachable(Reason::AccessDenied, 1)); 30]);
    assert_eq!((sum.failing, sum.samples.len()), (30, SAMPLES));
    assert!(sum.samples.is_sorted_by_key(|sample| &sample.pod));
}

#[test]
fn deletes_are_added_up_and_a_withdrawal_waits_for_those_under_way() {
    let deleting = |open_intents, deletes_under_way, oldest_intent_millis, failed: Option<u64>| {
        let failure = |at_millis| DeleteFailure { at_millis, reason: "Denied".into(), message: "no".into() };
        let delete_failure = failed.map(failure).map(Box::new);
        let open = Row { open_intents, deletes_under_way, oldest_intent_millis, ..row("u", 3) };
        with(Row { withdrawn: true, delete_failure, ..open })
    };
    let sum = sum(&[deleting(2, 1, 70, None), deleting(1, 0, 50, Some(8)), deleting(0, 0, 0, Some(9))]);
    assert_eq!((sum.deletes.open_intents, sum.deletes.oldest_intent_millis), (3, Some(50)));
    assert_eq!((sum.deletes.failing, sum.deletes.last_failure.unwrap().0.as_str()), (2, "p1"));
    assert_eq!(sum.withdrawn, 2);
}

fn any_report() -> impl Strategy<Value = Option<Report>> {
    let reason = prop::sample::select(Reason::ALL.to_vec());
    let remote = prop_oneof![
        Just(row("u", 3)),
        Just(row("u", 2)),
        Just(Row { stale: true, ..row("u", 3) }),
        (reason, 0..5u64).prop_map(|(reason, since)| unreachable(reason, since)),
    ];
    let failure = (0..3u64).prop_map(|at_millis| DeleteFailure { at_millis, reason: "r".into(), message: "m".into() });
    let row = (remote, prop::option::of(failure), 0..3u64, 0..4u64).prop_map(|(row, failure, open, oldest)| Row {
        delete_failure: failure.map(Box::new),
        open_intents: open,
        oldest_intent_millis: oldest,
        ..row
    });
    prop_oneof![Just(None), Just(Some(Report::default())), Just(refused("m")), row.prop_map(with)]
}

proptest! {
    /// Pods may come in any order: the sum is the same, to the last message.
    #[test]
    fn order_does_not_matter(
        (sorted, shuffled) in prop::collection::vec(any_report(), 0..25)
            .prop_map(|reports| reports.into_iter().enumerate().collect::<Vec<_>>())
            .prop_flat_map(|reports| (Just(reports.clone()), Just(reports).prop_shuffle())),
    ) {
        let sum = |reports: &[(usize, Option<Report>)]| {
            let names: Vec<_> = reports.iter().map(|(at, _)| format!("p{at}")).collect();
            let pods = names.iter().zip(reports);
            MountReport::sum(&WANTED, pods.map(|(name, (_, said))| (InjectedPod { name, uid: name }, said.as_ref())))
        };
        let report = sum(&sorted);
        prop_assert_eq!(&report, &sum(&shuffled));
        prop_assert_eq!(report.total, report.ready + report.outdated + report.unreported);
        prop_assert!(report.failing >= report.samples.len() && report.samples.len() <= SAMPLES);
    }
}
