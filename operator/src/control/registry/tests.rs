//! What the registry keeps over reconnects, silence, pods that go, and publications.

use std::sync::Arc;
use std::time::Duration;

use remotemount_crds::control::{Hello, Manifests, MountRef, MountStatus, Status, mount_manifest::State};
use tokio::time::{Instant, timeout};

use super::{Attached, GRACE, Registry};
use crate::control::authenticate::PodIdentity;
use crate::control::changes::MountKey;
use crate::control::outbox::Published;
use crate::control::report::{InjectedPod, MountReport, Wanted};

fn pod(namespace: &str, uid: &str) -> Arc<PodIdentity> {
    Arc::new(PodIdentity { namespace: namespace.to_owned(), name: format!("pod-{uid}"), uid: uid.to_owned() })
}

fn status(generation: i64) -> Status {
    let mount = MountStatus { name: "m".to_owned(), uid: "u".to_owned(), generation, ..MountStatus::default() };
    Status { mounts: vec![mount], ..Status::default() }
}

fn hello(generation: i64) -> Hello {
    let mount = MountRef { name: "m".to_owned(), uid: "u".to_owned(), generation };
    Hello { mounts: vec![mount], ..Hello::default() }
}

fn summary(registry: &Registry, namespace: &str) -> MountReport {
    let wanted = Wanted { namespace, name: "m", uid: "u", generation: 2 };
    let pods = ["1", "2"].map(|uid| InjectedPod { name: uid, uid });
    registry.summary(&wanted, pods)
}

fn connect(registry: &Registry, uid: &str, generation: i64) -> Attached {
    let attached = registry.attach(pod("ns", uid), &hello(generation));
    registry.report(&attached, status(generation));
    attached
}

fn manifest(generation: i64) -> Published {
    Published::Manifest { uid: "u".into(), generation, yaml: "text".into() }
}

async fn changed(registry: &Registry) -> Option<Vec<MountKey>> {
    let taken = timeout(Duration::from_millis(1), registry.changes().take()).await;
    taken.ok().map(|keys| keys.into_iter().collect())
}

async fn down(attached: &Attached) -> Option<Manifests> {
    timeout(Duration::from_millis(1), attached.outbox.next()).await.ok()
}

#[tokio::test]
async fn silence_within_the_grace_changes_nothing() {
    let registry = Registry::default();
    let first = connect(&registry, "1", 2);
    assert_eq!(changed(&registry).await, Some(vec![MountKey::new("ns", "m")]));
    assert_eq!((summary(&registry, "ns").ready, summary(&registry, "ns").unreported), (1, 1));
    let now = Instant::now();
    registry.detach(&first, now);
    registry.sweep(now + GRACE / 2);
    assert_eq!((summary(&registry, "ns").ready, registry.connected()), (1, 0));
    assert_eq!(changed(&registry).await, None, "nobody sees the reconnect");

    let second = connect(&registry, "1", 2);
    assert_eq!(changed(&registry).await, None);
    registry.detach(&first, Instant::now());
    assert_eq!(registry.connected(), 1, "the end of the older stream is not the newer one's");

    registry.detach(&second, now);
    registry.sweep(now + GRACE);
    assert_eq!(summary(&registry, "ns").unreported, 2);
    assert_eq!(changed(&registry).await, Some(vec![MountKey::new("ns", "m")]));
    registry.sweep(now + GRACE);
    assert_eq!(changed(&registry).await, None, "told once");
    let _third = connect(&registry, "1", 2);
    assert_eq!(summary(&registry, "ns").ready, 1);
    assert!(changed(&registry).await.is_some());
}

#[tokio::test]
async fn a_newer_stream_replaces_the_older_and_what_that_says_is_lost() {
    let registry = Registry::default();
    let older = connect(&registry, "1", 1);
    let newer = connect(&registry, "1", 2);
    assert!(older.end.is_cancelled() && !newer.end.is_cancelled());
    registry.report(&older, status(1));
    assert_eq!((summary(&registry, "ns").ready, registry.connected()), (1, 1));
}

#[tokio::test]
async fn only_what_differs_is_news() {
    let registry = Registry::default();
    let attached = connect(&registry, "1", 2);
    assert!(changed(&registry).await.is_some());
    for _ in 0..3 {
        registry.report(&attached, status(2));
    }
    assert_eq!(changed(&registry).await, None, "heartbeats are no news");
    registry.report(&attached, Status::default());
    assert_eq!(changed(&registry).await, Some(vec![MountKey::new("ns", "m")]), "a mount that went away is");
}

#[tokio::test]
async fn a_report_reaches_mounts_of_its_own_namespace_only() {
    let registry = Registry::default();
    let stranger = registry.attach(pod("other", "1"), &hello(2));
    registry.report(&stranger, status(2));
    assert_eq!(changed(&registry).await, Some(vec![MountKey::new("other", "m")]));
    assert_eq!(summary(&registry, "ns").ready, 0);
    assert_eq!(summary(&registry, "other").ready, 1);
    registry.publish(MountKey::new("ns", "m"), manifest(3));
    assert!(down(&stranger).await.is_none(), "nor do manifests of another namespace reach it");
}

#[tokio::test]
async fn a_pod_that_is_gone_is_forgotten() {
    let registry = Registry::default();
    let (first, second) = (connect(&registry, "1", 2), connect(&registry, "2", 2));
    assert!(changed(&registry).await.is_some());
    registry.gone("1");
    assert!(first.end.is_cancelled());
    assert_eq!(changed(&registry).await, Some(vec![MountKey::new("ns", "m")]));
    let now = Instant::now();
    registry.retain(|_| false, now);
    assert!(!second.end.is_cancelled(), "the watch of pods may not know it yet");
    let now = now + Duration::from_secs(60);
    registry.retain(|uid| uid == "2", now);
    assert!(!second.end.is_cancelled());
    registry.retain(|_| false, now);
    assert!(second.end.is_cancelled());
    assert_eq!(registry.connected(), 0);
}

#[tokio::test]
async fn newer_manifests_go_down_once_to_who_has_the_mount() {
    let registry = Registry::default();
    registry.publish(MountKey::new("ns", "m"), manifest(2));
    let attached = connect(&registry, "1", 1);
    assert_eq!(down(&attached).await.unwrap().mounts.len(), 1, "on Hello");
    assert!(down(&attached).await.is_none(), "not again by its status");
    registry.publish(MountKey::new("ns", "m"), manifest(2));
    registry.publish(MountKey::new("ns", "other"), manifest(9));
    assert!(down(&attached).await.is_none(), "no news, or not its own");
    registry.publish(MountKey::new("ns", "m"), manifest(3));
    registry.publish(MountKey::new("ns", "m"), manifest(4));
    let sent = down(&attached).await.unwrap().mounts;
    assert!(matches!(&sent[0].state, Some(State::Manifest(newest)) if newest.generation == 4));
    let later = connect(&registry, "2", 4);
    assert!(down(&later).await.is_none(), "its file has it already");
    registry.publish(MountKey::new("ns", "m"), Published::Removed { uid: "u".into() });
    for attached in [&attached, &later] {
        assert!(matches!(down(attached).await.unwrap().mounts[0].state, Some(State::Removed(_))));
    }
    let again = connect(&registry, "2", 4);
    assert!(matches!(down(&again).await.unwrap().mounts[0].state, Some(State::Removed(_))), "remembered");
}

#[tokio::test]
async fn a_name_that_is_given_anew_withdraws_the_mount_that_had_it() {
    let registry = Registry::default();
    let key = || MountKey::new("ns", "m");
    let withdrawn = |sent: Manifests| {
        let [mount] = &sent.mounts[..] else { panic!("one mount: {sent:?}") };
        matches!(mount.state, Some(State::Removed(_))) && mount.uid == "u"
    };
    let there = connect(&registry, "1", 2);
    registry.publish(key(), Published::Removed { uid: "u".into() });
    assert!(withdrawn(down(&there).await.unwrap()));
    let next = Published::Manifest { uid: "next".into(), generation: 1, yaml: "text".into() };
    registry.publish(key(), next);
    assert!(withdrawn(down(&there).await.unwrap()), "it has not said yet that it knows");
    // One that was away all the while, with the older file still.
    let away = registry.attach(pod("ns", "2"), &hello(2));
    assert!(withdrawn(down(&away).await.unwrap()));
    let mut said = status(2);
    said.mounts[0].withdrawn = true;
    registry.report(&away, said);
    assert!(down(&away).await.is_none(), "not told again");
    // The file of the next one comes.
    let mut said = status(1);
    said.mounts[0].uid = "next".to_owned();
    registry.report(&away, said);
    assert!(down(&away).await.is_none(), "which has not gone");
}

#[tokio::test]
async fn a_sidecar_that_comes_back_as_another_process_was_restarted() {
    let registry = Registry::default();
    registry.publish(MountKey::new("ns", "m"), manifest(2));
    let begin = |id: &str| {
        let attached = registry.attach(pod("ns", "1"), &Hello { start_id: id.to_owned(), ..hello(2) });
        registry.report(&attached, status(2));
    };
    let key = MountKey::new("ns", "m");
    begin("one");
    begin("one");
    assert!(registry.take_restarted(&key).is_empty(), "a reconnect");
    let _ = changed(&registry).await;
    begin("two");
    assert_eq!(changed(&registry).await, Some(vec![key.clone()]), "it is news, though nothing else has changed");
    assert_eq!(registry.take_restarted(&key).into_iter().collect::<Vec<_>>(), ["pod-1"]);
    assert!(registry.take_restarted(&key).is_empty(), "told once");
    begin("three");
    registry.publish(MountKey::new("ns", "other"), manifest(2));
    registry.sweep(Instant::now());
    assert_eq!(registry.take_restarted(&key).len(), 1, "kept while the mount is there");
}
