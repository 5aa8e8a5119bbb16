//! From `kubectl apply` to a read through the sidecar, through edits, to `kubectl delete`.

use std::time::{Duration, Instant};

use anyhow::Result;
use remotemount_tests::proxy::count::Operation;

use crate::stage::{Cluster, client, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_inject_read_edit_delete() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let stage = cluster.stage("lifecycle").await?;
    stage.bucket.put("a.txt", "content", None).await?;
    stage.apply(&stage.mount("m", "")).await?;
    let object = stage.wait("m", "Ready", "True/NoSidecars").await?;
    assert_eq!(object["status"]["remoteURI"], format!("s3://lifecycle/?endpoint={}", stage.proxy.endpoint()));
    assert_eq!(object["status"]["observedGeneration"], 1);

    // Injected, run, ready, read.
    let node = stage.node("web").await?;
    stage.kubectl(&["wait", "--for=condition=Ready", "rmt/m", "--timeout=30s"]).await?;
    let object = stage.wait("m", "Ready", "True/Available").await?;
    assert_eq!(object["status"]["sidecars"]["summary"], "1/1");
    for condition in
        ["Accepted/Valid", "ConfigPublished/Published", "RemoteReachable/Reachable", "SidecarsReady/Available"]
    {
        let (name, reason) = condition.split_once('/').unwrap();
        assert_eq!(stage.condition("m", name).await?, format!("True/{reason}"));
    }
    let table = stage.kubectl(&["get", "rmt"]).await?;
    assert!(table.contains("True") && table.contains("/m") && table.contains("1/1"), "{table}");
    assert_eq!(client().get(node.http_url("/m/a.txt")).send().await?.text().await?, "content");
    assert_eq!(client().delete(node.http_url("/m/a.txt")).send().await?.status(), 403, "Deny is the default");

    // An edit is in force by the link, without the file.
    let edited = Instant::now();
    stage.apply(&stage.mount("m", "  deletePolicy: Propagate\n")).await?;
    let policy = async || -> Result<bool> {
        let status: serde_json::Value = client().get(node.admin_url("/status")).send().await?.json().await?;
        Ok(status["mounts"][0]["deletes"]["policy"] == "Propagate")
    };
    until("the edit is in force", policy).await?;
    println!("an edit was in force by the link after {:?}", edited.elapsed());
    stage.wait("m", "Ready", "True/Available").await?;
    assert_eq!(client().delete(node.http_url("/m/a.txt")).send().await?.status(), 204);
    assert!(stage.bucket.head("a.txt").await?.is_none());

    // Deleting the RemoteMount deletes nothing in the bucket (X9).
    stage.bucket.put("kept.txt", "content", None).await?;
    let before = (stage.proxy.count(Operation::Delete), stage.proxy.count(Operation::DeleteMany));
    let deleted = Instant::now();
    stage.kubectl(&["delete", "rmt", "m", "--timeout=30s"]).await?;
    println!("kubectl delete took {:?} with a sidecar connected", deleted.elapsed());
    assert_eq!(client().delete(node.http_url("/m/kept.txt")).send().await?.status(), 403, "propagation has stopped");
    assert_eq!(client().get(node.http_url("/m/kept.txt")).send().await?.text().await?, "content", "reads go on");
    node.sync(&cluster.plane).await?;
    until("the mount goes with its file", async || {
        Ok(client().get(node.http_url("/m/kept.txt")).send().await?.status() == 404)
    })
    .await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!((stage.proxy.count(Operation::Delete), stage.proxy.count(Operation::DeleteMany)), before);
    assert!(stage.bucket.head("kept.txt").await?.is_some());
    let left =
        stage.kubectl(&["get", "configmaps", "-l", "app.kubernetes.io/managed-by=remotemount", "-o", "name"]).await?;
    assert_eq!(left, "", "no configuration is left");
    Ok(())
}
