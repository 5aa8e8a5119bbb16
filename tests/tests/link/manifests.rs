//! Manifests by the link: newer ones are served at once, bad ones change nothing, and a mount that is being
//! deleted deletes nothing any more (M3, X9).

use remotemount_operator::control::changes::MountKey;
use remotemount_operator::control::outbox::Published;
use remotemount_tests::bucket::Bucket;
use remotemount_tests::manifest::Manifest;
use remotemount_tests::proxy::Proxy;
use remotemount_tests::proxy::count::Operation;
use remotemount_tests::sidecar::Sidecar;
use serde_json::{Value, json};

use crate::stage::{Operator, UID, cluster, delete, get, holds, published, s3, status};

fn publish(operator: &Operator, namespace: &str, generation: i64, yaml: &str) {
    let published = Published::Manifest { uid: UID.into(), generation, yaml: yaml.into() };
    operator.registry.publish(MountKey::new(namespace, "m"), published);
}

/// Waits until the sidecar serves that generation from there.
async fn serves(sidecar: &Sidecar, generation: i64, source: &str) -> Value {
    let mut mount = Value::Null;
    let is = async || {
        mount = status(sidecar).await["mounts"][0].clone();
        mount["manifestGeneration"] == generation && mount["source"] == source
    };
    assert!(holds(is).await, "waiting for {generation} from {source}: {mount:#}\n{}", sidecar.log());
    mount
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_generation_is_served_by_the_link_before_the_file_has_it() {
    let (_, client, web) = cluster("newer").await;
    let operator = Operator::start(client).await;
    let bucket = Bucket::create(&s3().await, "newer-bucket").await.unwrap();
    bucket.put("a", "body", None).await.unwrap();
    let proxy = Proxy::start(&s3().await).await.unwrap();
    let manifest = Manifest::new("m", "/m", "newer-bucket", &proxy.endpoint(), "");
    let propagate = manifest.clone().delete_policy("Propagate");
    let sidecar = operator.sidecar(&web, &published(&manifest, 1)).start().await.unwrap();
    operator.until(("newer", 1), &[&web], |report| report.ready == 1 && report.remote.reachable == 1).await;
    assert_eq!((get(&sidecar, "/m/a").await.0, delete(&sidecar, "/m/a").await), (200, 403));
    let (asked, entries) = (proxy.total(), serves(&sidecar, 1, "file").await["generation"].clone());

    publish(&operator, "newer", 2, &published(&propagate, 2));
    let mount = serves(&sidecar, 2, "link").await;
    operator.until(("newer", 2), &[&web], |report| report.ready == 1 && report.remote.reachable == 1).await;
    assert_eq!(mount["generation"], entries, "what is known of the bucket stays");
    assert_eq!(proxy.total(), asked, "and nothing was asked of it");

    // An older one that comes late, and one that is bad, change nothing; the bad one is told of.
    publish(&operator, "newer", 3, &published(&manifest, 3).replace("newer-bucket", "no/bucket"));
    let report = operator.until(("newer", 3), &[&web], |report| report.failing == 1).await;
    assert_eq!(report.outdated, 1);
    let problem = status(&sidecar).await["manifestProblems"][0].clone();
    assert!(problem.as_str().is_some_and(|text| text.contains("by the control link")), "{problem}");
    serves(&sidecar, 2, "link").await;

    sidecar.write_manifest("m", &published(&propagate, 2)).unwrap();
    serves(&sidecar, 2, "file").await;
    assert_eq!(delete(&sidecar, "/m/a").await, 204);
    assert!(bucket.keys("").await.unwrap().is_empty());
    publish(&operator, "newer", 4, &published(&propagate, 4));
    operator.until(("newer", 4), &[&web], |report| report.ready == 1 && report.failing == 0).await;
    assert_eq!(status(&sidecar).await["manifestProblems"], json!([]), "a good one mends it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_prefix_by_the_link_is_another_mount() {
    let (_, client, web) = cluster("moved").await;
    let operator = Operator::start(client).await;
    let bucket = Bucket::create(&s3().await, "moved-bucket").await.unwrap();
    bucket.put("one/same", "first", None).await.unwrap();
    bucket.put("two/same", "second", None).await.unwrap();
    let manifest = |prefix| async move { Manifest::new("m", "/m", "moved-bucket", &s3().await, prefix) };
    let sidecar = operator.sidecar(&web, &published(&manifest("one").await, 1)).start().await.unwrap();
    operator.until(("moved", 1), &[&web], |report| report.ready == 1).await;
    assert_eq!(get(&sidecar, "/m/same").await, (200, "first".to_owned()));
    publish(&operator, "moved", 2, &published(&manifest("two").await, 2));
    serves(&sidecar, 2, "link").await;
    assert_eq!(get(&sidecar, "/m/same").await, (200, "second".to_owned()), "nothing of the first is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_that_is_being_deleted_reads_on_and_deletes_nothing() {
    let (_, client, web) = cluster("removed").await;
    let mut operator = Operator::start(client).await;
    let bucket = Bucket::create(&s3().await, "removed-bucket").await.unwrap();
    for key in ["a", "b", "d/c"] {
        bucket.put(key, "body", None).await.unwrap();
    }
    let proxy = Proxy::start(&s3().await).await.unwrap();
    let manifest = Manifest::new("m", "/m", "removed-bucket", &proxy.endpoint(), "").delete_policy("Propagate");
    let sidecar = operator.sidecar(&web, &published(&manifest, 1)).start().await.unwrap();
    operator.until(("removed", 1), &[&web], |report| report.ready == 1).await;
    assert_eq!(get(&sidecar, "/m/a").await.0, 200);

    let removed = || Published::Removed { uid: UID.into() };
    operator.registry.publish(MountKey::new("removed", "m"), removed());
    operator.until(("removed", 1), &[&web], |report| report.withdrawn == 1).await;
    for path in ["/m/a", "/m/b", "/m/d?recursive=true"] {
        assert_eq!(delete(&sidecar, path).await, 403, "{path}");
    }
    for path in ["/m/a", "/m/b", "/m/d/c"] {
        assert_eq!(get(&sidecar, path).await, (200, "body".to_owned()), "{path}");
    }
    // Neither the file nor a later text brings it back, nor another operator that has not heard of it.
    sidecar.write_manifest("m", &published(&manifest, 2)).unwrap();
    serves(&sidecar, 2, "file").await;
    assert_eq!(delete(&sidecar, "/m/a").await, 403);
    operator.stop().await;
    operator.resume();
    publish(&operator, "removed", 3, &published(&manifest, 3));
    let report = operator.until(("removed", 2), &[&web], |report| report.total == 1 && report.ready == 1).await;
    assert_eq!(report.withdrawn, 1);
    assert_eq!(delete(&sidecar, "/m/a").await, 403);
    sidecar.remove_manifest("m").unwrap();
    operator.until(("removed", 2), &[&web], |report| report.unreported == 1).await;
    assert_eq!(proxy.count(Operation::Delete) + proxy.count(Operation::DeleteMany), 0);
    assert_eq!(bucket.keys("").await.unwrap().len(), 3);
}

/// M3 keeps the last good table while a file is bad; what is forbidden by the link is forbidden all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_file_of_another_mount_keeps_nothing_deleting() {
    let (_, client, web) = cluster("beside").await;
    let operator = Operator::start(client).await;
    let bucket = Bucket::create(&s3().await, "beside-bucket").await.unwrap();
    bucket.put("a", "body", None).await.unwrap();
    bucket.put("b", "body", None).await.unwrap();
    let manifest = Manifest::new("m", "/m", "beside-bucket", &s3().await, "");
    let propagate = manifest.clone().delete_policy("Propagate");
    let sidecar = operator.sidecar(&web, &published(&propagate, 1)).start().await.unwrap();
    operator.until(("beside", 1), &[&web], |report| report.ready == 1).await;
    sidecar.write_manifest("other", "{:::").unwrap();
    let bad = || async { status(&sidecar).await["manifestProblems"].to_string().contains("other.yaml") };
    assert!(holds(bad).await);

    publish(&operator, "beside", 2, &published(&manifest, 2));
    serves(&sidecar, 2, "link").await;
    assert_eq!(delete(&sidecar, "/m/a").await, 403);
    publish(&operator, "beside", 3, &published(&propagate, 3));
    serves(&sidecar, 3, "link").await;
    assert_eq!(delete(&sidecar, "/m/a").await, 204);
    operator.registry.publish(MountKey::new("beside", "m"), Published::Removed { uid: UID.into() });
    operator.until(("beside", 3), &[&web], |report| report.withdrawn == 1).await;
    assert_eq!((delete(&sidecar, "/m/b").await, get(&sidecar, "/m/b").await.0), (403, 200));
    assert!(bad().await, "the bad file is told of all the while");
    sidecar.remove_manifest("other").unwrap();
    assert!(holds(async || status(&sidecar).await["manifestProblems"] == json!([])).await);
    assert_eq!(delete(&sidecar, "/m/b").await, 403);
}

/// A text that would take another mount's path is not taken, and loosens nothing; what it forbids holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_clashes_forbids_all_the_same() {
    let (_, client, web) = cluster("clashes").await;
    let operator = Operator::start(client).await;
    let bucket = Bucket::create(&s3().await, "clashes-bucket").await.unwrap();
    bucket.put("a", "body", None).await.unwrap();
    let (at, elsewhere) = (
        Manifest::new("m", "/m", "clashes-bucket", &s3().await, ""),
        Manifest::new("m", "/n", "clashes-bucket", &s3().await, ""),
    );
    let beside = Manifest::new("n", "/n", "clashes-bucket", &s3().await, "");
    let propagate = at.clone().delete_policy("Propagate");
    let sidecar = operator.sidecar(&web, &published(&propagate, 1)).mount(&beside).start().await.unwrap();
    operator.until(("clashes", 1), &[&web], |report| report.ready == 1).await;

    publish(&operator, "clashes", 2, &published(&elsewhere, 2));
    let told = || async { status(&sidecar).await["manifestProblems"].to_string().contains("not taken") };
    assert!(holds(told).await, "{}", sidecar.log());
    serves(&sidecar, 1, "file").await;
    assert_eq!((delete(&sidecar, "/m/a").await, get(&sidecar, "/m/a").await.0), (403, 200));
    operator.registry.publish(MountKey::new("clashes", "m"), Published::Removed { uid: UID.into() });
    operator.until(("clashes", 1), &[&web], |report| report.withdrawn == 1).await;
    assert_eq!(bucket.keys("").await.unwrap().len(), 1);
}

/// An operator is upgraded before the sidecars that are there: it writes fields that they do not know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_newer_operator_writes_is_served_and_told_of_once() {
    let (_, client, web) = cluster("skew").await;
    let operator = Operator::start(client).await;
    let bucket = Bucket::create(&s3().await, "skew-bucket").await.unwrap();
    bucket.put("a", "body", None).await.unwrap();
    let manifest = Manifest::new("m", "/m", "skew-bucket", &s3().await, "");
    let newer = |manifest: &Manifest, generation| {
        published(manifest, generation).replace("spec:", "spec:\n  tier: {class: Cold}")
    };
    let sidecar =
        operator.sidecar(&web, &newer(&manifest.clone().delete_policy("Propagate"), 1)).start().await.unwrap();
    operator.until(("skew", 1), &[&web], |report| report.ready == 1 && report.failing == 0).await;
    assert_eq!(get(&sidecar, "/m/a").await.0, 200);
    let told = || sidecar.log().lines().filter(|line| line.contains("spec.tier")).count();
    assert!(holds(async || told() == 1).await, "{}", sidecar.log());

    publish(&operator, "skew", 2, &newer(&manifest, 2));
    serves(&sidecar, 2, "link").await;
    assert_eq!((delete(&sidecar, "/m/a").await, told()), (403, 2));
    let beside = Manifest::new("n", "/n", "skew-bucket", &s3().await, "");
    sidecar.write_manifest("n", &beside.to_yaml()).unwrap();
    assert!(holds(async || get(&sidecar, "/n/a").await.0 == 200).await);
    assert_eq!(told(), 2, "not again for what stays as it is:\n{}", sidecar.log());
    sidecar.write_manifest("n", &beside.to_yaml().replace("spec:", "spec:\n  tier: {class: Cold}")).unwrap();
    let refused = async || status(&sidecar).await["manifestProblems"].to_string().contains("spec.tier: is no field");
    assert!(holds(refused).await, "a person's slip is one still");
}
