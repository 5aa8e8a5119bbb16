//! What the operator learns of a sidecar: generation, remote, deletes, problems; nothing has to be asked
//! of the bucket by a workload first.

use std::time::Duration;

use remotemount_crds::condition::Reason;
use remotemount_tests::bucket::Bucket;
use remotemount_tests::manifest::{Manifest, PLAIN_SECRET};
use remotemount_tests::proxy::Proxy;
use remotemount_tests::proxy::count::Operation;

use crate::stage::{Operator, cluster, delete, get, link_is, published, s3, status};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_sidecar_tells_whether_its_remote_answers() {
    let (_, client, web) = cluster("idle").await;
    let operator = Operator::start(client).await;
    let endpoint = s3().await;
    Bucket::create(&endpoint, "idle-bucket").await.unwrap();
    let table = [
        ("good", Manifest::new("m", "/m", "idle-bucket", &endpoint, ""), None),
        ("no bucket", Manifest::new("m", "/m", "idle-nowhere", &endpoint, ""), Some(Reason::BucketNotFound)),
        (
            "credentials that nobody knows",
            Manifest::new("m", "/m", "idle-bucket", &endpoint, "").secret("s3-wrong"),
            Some(Reason::AccessDenied),
        ),
        (
            "no Secret",
            Manifest::new("m", "/m", "idle-bucket", &endpoint, "").secret("s3-missing"),
            Some(Reason::CredentialsMissing),
        ),
        (
            "nobody there",
            Manifest::new("m", "/m", "idle-bucket", "http://127.0.0.1:1", "").timeout_seconds(2),
            Some(Reason::Unavailable),
        ),
    ];
    for (name, manifest, reason) in table {
        let sidecar = operator.sidecar(&web, &published(&manifest, 1));
        let sidecar = sidecar.credentials("s3-wrong", "AKWRONG", "wrong").start().await.unwrap();
        let is = |said: Option<Reason>| said == reason;
        let report = operator
            .until(("idle", 1), &[&web], |report| {
                let trouble = report.remote.trouble.as_ref().map(|trouble| trouble.reason);
                report.ready == 1 && report.remote.unknown == 0 && is(trouble)
            })
            .await;
        assert_eq!(report.failing, usize::from(reason.is_some()), "{name}: {report:#?}");
        if let Some(sample) = report.samples.first() {
            assert_eq!((sample.pod.as_str(), Some(sample.reason)), ("web-0", reason), "{name}");
            assert!(!sample.message.is_empty() && sample.since_millis > 0, "{name}: {sample:?}");
        }
        drop(sidecar);
        operator.registry.gone(&web.uid);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_is_told() {
    let (_, client, web) = cluster("told").await;
    let operator = Operator::start(client).await;
    let bucket = Bucket::create(&s3().await, "told-bucket").await.unwrap();
    bucket.put("kept", "body", None).await.unwrap();
    bucket.deny_delete("kept").await.unwrap();
    let proxy = Proxy::start(&s3().await).await.unwrap();
    let manifest = Manifest::new("m", "/m", "told-bucket", &proxy.endpoint(), "");
    let manifest = manifest.delete_policy("Propagate").secret(PLAIN_SECRET);
    let sidecar = operator.sidecar(&web, &published(&manifest, 4)).start().await.unwrap();
    operator.until(("told", 5), &[&web], |report| report.outdated == 1).await;
    operator.until(("told", 4), &[&web], |report| report.ready == 1 && report.remote.reachable == 1).await;

    assert_eq!(delete(&sidecar, "/m/kept").await, 403);
    let report = operator.until(("told", 4), &[&web], |report| report.deletes.failing == 1).await;
    let (pod, failure) = report.deletes.last_failure.unwrap();
    assert_eq!((pod.as_str(), &*failure.reason), ("web-0", "Denied"));
    assert_eq!(get(&sidecar, "/m/kept").await, (200, "body".to_owned()));

    // A file that is bad is a problem of the manifest, and what is in force is served on.
    sidecar.write_manifest("m", &published(&manifest, 5).replace("told-bucket", "no/bucket")).unwrap();
    let report = operator.until(("told", 5), &[&web], |report| report.failing == 1).await;
    assert_eq!((report.samples[0].reason, report.outdated), (Reason::Invalid, 1), "{report:#?}");
    sidecar.write_manifest("m", &published(&manifest, 5)).unwrap();
    operator.until(("told", 5), &[&web], |report| report.ready == 1 && report.failing == 0).await;
    assert_eq!(status(&sidecar).await["mounts"][0]["source"], "file");
    assert_eq!(proxy.count(Operation::Delete), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_ends_says_so_and_its_pod_counts_until_it_is_gone() {
    let (_, client, web) = cluster("ends").await;
    let operator = Operator::start(client).await;
    let manifest = Manifest::new("m", "/m", "ends-bucket", &s3().await, "");
    let mut sidecar = operator.sidecar(&web, &published(&manifest, 1)).start().await.unwrap();
    link_is(&sidecar, "connected", None).await;
    operator.until(("ends", 1), &[&web], |report| report.ready == 1).await;
    sidecar.terminate(Duration::from_secs(30)).await.unwrap();
    let report = operator.summary("ends", 1, &[&web]);
    assert_eq!((report.total, report.ready), (1, 1), "a restart does not flap");
    operator.registry.gone(&web.uid);
    assert_eq!(operator.summary("ends", 1, &[&web]).unreported, 1);
    assert_eq!(operator.summary("ends", 1, &[]).total, 0);
}
