//! Five hundred sidecars of one mount on the link, simulated by their streams: all flip at once, and the
//! operator's picture settles; the news of it stays one entry a mount.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use remotemount_crds::control::OperatorMessage;
use remotemount_operator::control::changes::MountKey;
use remotemount_operator::control::report::SAMPLES;
use remotemount_tests::crowd::Member;
use remotemount_tests::process;
use tokio::sync::watch;
use tonic::Streaming;

use crate::stage::{Operator, TestPod, UID, cluster, holds, pod};

const CROWD: usize = 500;

/// This process: both ends are in it.
fn rss_kib() -> u64 {
    process::rss_kib(std::process::id()).unwrap()
}

/// The stream of that pod's sidecar.
async fn join(operator: &Operator, pod: &TestPod, states: watch::Receiver<bool>) -> Streaming<OperatorMessage> {
    let token = operator.file(&format!("{}.token", pod.uid));
    fs::write(&token, &pod.token).unwrap();
    let endpoint = format!("https://{}", operator.address);
    let member = Member { endpoint: &endpoint, ca: &operator.file("ca.crt"), token: &token, mount: ("m", UID) };
    member.join(states).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_flips_at_once_settles_as_one_piece_of_news() {
    let (plane, client, first) = cluster("crowd").await;
    let made = stream::iter(1..CROWD).map(|at| {
        let client = client.clone();
        async move { pod(plane, &client, "crowd", &format!("web-{at}")).await }
    });
    let mut pods: Vec<TestPod> = made.buffer_unordered(16).collect().await;
    pods.push(first);
    let operator = Arc::new(Operator::start(client).await);
    let (flip, states) = watch::channel(true);
    let before = rss_kib();
    let joining = stream::iter(&pods).map(|pod| join(&operator, pod, states.clone()));
    let streams: Vec<Streaming<OperatorMessage>> = joining.buffer_unordered(32).collect().await;
    let all: Vec<&TestPod> = pods.iter().collect();
    operator.until(("crowd", 1), &all, |report| report.remote.reachable == CROWD).await;
    println!(
        "{CROWD} streams, both ends in this process: {} KiB before, {} KiB after; {} token reviews",
        before,
        rss_kib(),
        operator.metrics.reviews.get()
    );
    assert_eq!(operator.registry.changes().take().await.into_iter().collect::<Vec<_>>(), [MountKey::new("crowd", "m")]);

    // Whoever reconciles takes the news as it may write: once in two seconds. It is one mount, each time.
    for (round, reachable) in [false, true, false].into_iter().enumerate() {
        let begun = Instant::now();
        flip.send(reachable).unwrap();
        let settled = holds(async || {
            let remote = operator.summary("crowd", 1, &all).remote;
            (if reachable { remote.reachable } else { remote.unreachable }) == CROWD
        });
        assert!(settled.await, "round {round}");
        let settled = begun.elapsed();
        let news = operator.registry.changes().take().await;
        assert_eq!(news.len(), 1, "round {round}");
        println!("round {round}: settled in {} ms", settled.as_millis());
    }
    let report = operator.summary("crowd", 1, &all);
    assert_eq!((report.total, report.failing, report.samples.len()), (CROWD, CROWD, SAMPLES));
    let quiet = tokio::time::timeout(Duration::from_millis(500), operator.registry.changes().take()).await;
    assert!(quiet.is_err(), "no news while nothing changes: {quiet:?}");
    drop((streams, flip, states));
    assert!(holds(async || operator.registry.connected() == 0).await, "streams that end are noticed");
    println!("all gone: {} KiB", rss_kib());
}
