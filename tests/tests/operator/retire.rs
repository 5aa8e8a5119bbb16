//! `kubectl delete rmt` ends, whoever is there to hear of it, and never touches the bucket (X9).

use std::time::Instant;

use anyhow::Result;
use remotemount_tests::proxy::count::Operation;

use crate::stage::{Cluster, client, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_sidecars_and_with_one_that_hangs() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let stage = cluster.stage("retire").await?;
    stage.apply(&stage.mount("nobody", "")).await?;
    stage.wait("nobody", "Ready", "True/NoSidecars").await?;
    let began = Instant::now();
    stage.kubectl(&["delete", "rmt", "nobody", "--timeout=30s"]).await?;
    println!("kubectl delete took {:?} with no sidecar", began.elapsed());

    // Of several that go at once, none counts the others as staying.
    for name in ["one", "two", "three"] {
        stage.apply(&stage.mount(name, "")).await?;
        stage.wait(name, "Ready", "True/NoSidecars").await?;
    }
    stage.kubectl(&["delete", "rmt", "--all", "--timeout=30s"]).await?;
    let maps = stage.kubectl(&["get", "configmap", "-l", "app.kubernetes.io/managed-by=remotemount", "-o", "name"]);
    assert_eq!(maps.await?.trim(), "", "the control link's goes with the last");

    stage.bucket.put("a", "content", None).await?;
    stage.apply(&stage.mount("m", "  deletePolicy: Propagate\n")).await?;
    let mut node = stage.node("web").await?;
    stage.wait("m", "Ready", "True/Available").await?;
    assert_eq!(client().get(node.http_url("/m/a")).send().await?.status(), 200);
    node.signal("STOP")?;
    let began = Instant::now();
    stage.kubectl(&["delete", "rmt", "m", "--timeout=30s"]).await?;
    println!("kubectl delete took {:?} with a sidecar that hangs", began.elapsed());
    node.signal("CONT")?;
    // Made anew under the same name, it is another mount, and served as such.
    stage.apply(&stage.mount("m", "")).await?;
    until("the new one is served", async || {
        node.sync(&cluster.plane).await?;
        Ok(stage.condition("m", "Ready").await? == "True/Available")
    })
    .await?;
    assert_eq!(client().delete(node.http_url("/m/a")).send().await?.status(), 403, "the new one's policy");
    assert_eq!(stage.proxy.count(Operation::Delete) + stage.proxy.count(Operation::DeleteMany), 0);
    assert!(stage.bucket.head("a").await?.is_some());
    Ok(())
}
