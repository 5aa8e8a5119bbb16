//! Outages: no operator, an operator that comes back, no API server. The sidecar serves all the time.

use remotemount_tests::bucket::Bucket;
use remotemount_tests::control_plane::{ControlPlane, Controllers};
use remotemount_tests::manifest::Manifest;

use crate::stage::{Operator, cluster, get, link_is, pod, published, s3};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_starts_and_serves_without_an_operator_and_tells_all_to_the_next() {
    let (_, client, web) = cluster("outage").await;
    let mut operator = Operator::start(client).await;
    operator.stop().await;
    let bucket = Bucket::create(&s3().await, "outage-bucket").await.unwrap();
    bucket.put("a", "body", None).await.unwrap();
    let manifest = published(&Manifest::new("m", "/m", "outage-bucket", &s3().await, ""), 1);
    // Ready, though nobody answers there.
    let sidecar = operator.sidecar(&web, &manifest).start().await.unwrap();
    link_is(&sidecar, "waiting", Some("Unreachable")).await;
    assert_eq!(get(&sidecar, "/m/a").await, (200, "body".to_owned()));
    for round in 0..2 {
        operator.resume();
        let report = operator.until(("outage", 1), &[&web], |report| report.ready == 1).await;
        assert_eq!((report.remote.reachable, report.unreported), (1, 0), "round {round}: all of it is said again");
        link_is(&sidecar, "connected", None).await;
        operator.stop().await;
        assert_eq!(get(&sidecar, "/m/a").await, (200, "body".to_owned()), "round {round}");
    }
    let log = sidecar.log();
    let lines = log.lines().filter(|line| line.contains("no control link")).count();
    assert!(lines < 12, "{lines} lines of one trouble:\n{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_api_server_sidecars_are_told_to_come_again() {
    let plane = ControlPlane::start(Controllers::None).await.unwrap();
    plane.create_namespace("headless", &[]).await.unwrap();
    let client = plane.client().await.unwrap();
    let web = pod(&plane, &client, "headless", "web-0").await;
    let operator = Operator::start(client).await;
    plane.stop_api_server().await.unwrap();
    let manifest = published(&Manifest::new("m", "/m", "headless-bucket", &s3().await, ""), 1);
    let sidecar = operator.sidecar(&web, &manifest).start().await.unwrap();
    link_is(&sidecar, "waiting", Some("Unavailable")).await;
    assert!(operator.metrics.review_failures.get() > 0);
    plane.restart_api_server().await.unwrap();
    link_is(&sidecar, "connected", None).await;
    // Streams that are open outlive the API server.
    plane.stop_api_server().await.unwrap();
    operator.until(("headless", 1), &[&web], |report| report.ready == 1).await;
}
