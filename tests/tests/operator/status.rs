//! Status: what each kind of trouble looks like, who has to act, and that nothing is written for nothing.

use anyhow::Result;
use remotemount_tests::proxy::faults::{Action, Rule};

use crate::stage::{Cluster, Stage, client, until};

async fn message(stage: &Stage<'_>, mount: &str, condition: &str) -> Result<String> {
    let object = stage.get(mount).await?;
    let all = object["status"]["conditions"].as_array().into_iter().flatten();
    let found = all.into_iter().find(|found| found["type"] == condition);
    Ok(found.and_then(|found| found["message"].as_str()).unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_bucket_is_stalled_and_says_what_to_do() -> Result<()> {
    let stage = Cluster::shared().await?.stage("wrong-bucket").await?;
    stage.apply(&stage.mount_of("m", "no-such-bucket", "")).await?;
    let _node = stage.node("web").await?;
    stage.kubectl(&["wait", "--for=condition=Stalled", "rmt/m", "--timeout=30s"]).await?;
    let object = stage.wait("m", "Stalled", "True/BucketNotFound").await?;
    assert_eq!(stage.condition("m", "Ready").await?, "False/BucketNotFound");
    assert_eq!(stage.condition("m", "RemoteReachable").await?, "False/BucketNotFound");
    let told = message(&stage, "m", "Stalled").await?;
    assert!(told.contains("create the bucket") && told.contains("web"), "{told}");
    assert_eq!(object["status"]["failing"][0]["pod"], "web");
    assert_eq!(object["status"]["failing"][0]["reason"], "BucketNotFound");
    assert_eq!(object["status"]["sidecars"]["failing"], 1);
    let wide = stage.kubectl(&["get", "rmt", "-o", "wide"]).await?;
    assert!(wide.contains("BucketNotFound") && wide.contains("Deny"), "{wide}");
    assert!(stage.events("m").await?.contains(&"BucketNotFound".to_owned()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_are_stalled_and_mended_by_the_secret_alone() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let stage = cluster.stage("wrong-secret").await?;
    let good = stage.kubectl(&["get", "secret", "s3-creds", "-o", "yaml"]).await?;
    let bad = "apiVersion: v1\nkind: Secret\nmetadata: {name: s3-creds}\nstringData: {AWS_ACCESS_KEY_ID: nobody, AWS_SECRET_ACCESS_KEY: nothing}\n";
    stage.apply(bad).await?;
    stage.apply(&stage.mount("m", "")).await?;
    let node = stage.node("web").await?;
    stage.wait("m", "Stalled", "True/AccessDenied").await?;
    let told = message(&stage, "m", "Ready").await?;
    assert!(told.contains("the Secret s3-creds"), "{told}");
    for secret in ["nothing", "nobody"] {
        assert!(!stage.get("m").await?.to_string().contains(secret), "no secret is told");
    }
    stage.kubectl(&["delete", "secret", "s3-creds"]).await?;
    let good = good.lines().filter(|line| !line.contains("resourceVersion:") && !line.contains("uid:"));
    stage.apply(&good.collect::<Vec<_>>().join("\n")).await?;
    node.sync(&cluster.plane).await?;
    stage.wait("m", "Ready", "True/Available").await?;
    assert_eq!(stage.condition("m", "Stalled").await?, "", "conditions that pass are gone");
    let events = stage.events("m").await?;
    assert_eq!(events.iter().filter(|reason| *reason == "AccessDenied").count(), 1, "{events:?}");
    assert!(events.contains(&"Reachable".to_owned()), "{events:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remote_that_is_down_is_no_matter_for_the_user() -> Result<()> {
    let stage = Cluster::shared().await?.stage("remote-down").await?;
    stage.apply(&stage.mount("m", "  metadata: {ttlSeconds: 0}\n")).await?;
    stage.bucket.put("a", "content", None).await?;
    let node = stage.node("web").await?;
    stage.wait("m", "Ready", "True/Available").await?;
    assert_eq!(client().get(node.http_url("/m/a")).send().await?.status(), 200);
    stage.proxy.inject(Rule::new(Action::error(500, "InternalError")));
    // A look that comes at the same moment as the one before shares its answer, and asks nothing.
    until("the sidecar knows", async || {
        assert_eq!(client().head(node.http_url("/m/a")).send().await?.status(), 200, "what is old is served");
        let status: serde_json::Value = client().get(node.admin_url("/status")).send().await?.json().await?;
        Ok(status["mounts"][0]["health"]["reachable"] == false)
    })
    .await?;
    stage.wait("m", "Ready", "False/Unavailable").await?;
    assert_eq!(stage.condition("m", "Reconciling").await?, "True/Unavailable");
    assert_eq!(stage.condition("m", "Stalled").await?, "");
    stage.proxy.clear();
    stage.wait("m", "Ready", "True/Available").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_older_mount_keeps_its_path() -> Result<()> {
    let stage = Cluster::shared().await?.stage("conflict").await?;
    stage.apply(&stage.mount("older", "")).await?;
    stage.wait("older", "Ready", "True/NoSidecars").await?;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await; // creation times are whole seconds
    let newer = stage.mount("newer", "").replace("path: /newer", "path: /older/");
    stage.apply(&newer).await?;
    stage.wait("newer", "Accepted", "False/PathConflict").await?;
    assert_eq!(stage.condition("newer", "Stalled").await?, "True/PathConflict");
    let told = message(&stage, "newer", "Ready").await?;
    assert!(told.contains("older") && told.contains("/older"), "{told}");
    let maps = stage.kubectl(&["get", "configmaps", "-o", "name"]).await?;
    assert!(!maps.contains("newer"), "nothing is published for it: {maps}");
    assert_eq!(stage.condition("older", "Ready").await?, "True/NoSidecars");
    assert!(!told.contains("as before this edit"), "nothing was published before: {told}");
    stage.kubectl(&["delete", "rmt", "older", "--timeout=30s"]).await?;
    stage.wait("newer", "Ready", "True/NoSidecars").await?;
    assert_eq!(stage.condition("newer", "Stalled").await?, "");
    // An edit that is refused changes nothing for those that serve, and says so.
    let little = "  deletePolicy: Deny\n  sidecar: {resources: {limits: {memory: 1Mi}}}\n";
    stage.apply(&stage.mount("newer", little).replace("path: /newer", "path: /older/")).await?;
    stage.wait("newer", "Accepted", "False/Invalid").await?;
    let told = message(&stage, "newer", "Accepted").await?;
    assert!(told.contains("at least 32Mi") && told.contains("as before this edit"), "{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_this_version_cannot_serve_says_so_and_suspension_leaves_things_be() -> Result<()> {
    let stage = Cluster::shared().await?.stage("unsupported").await?;
    stage
        .apply("apiVersion: remotemount.dev/v1alpha1\nkind: RemoteMount\nmetadata: {name: g}\nspec: {path: /g, remote: {gcs: {bucket: bucket}}}\n")
        .await?;
    stage.wait("g", "Stalled", "True/NotSupported").await?;
    stage.apply(&stage.mount("m", "")).await?;
    stage.wait("m", "Ready", "True/NoSidecars").await?;
    stage.apply(&stage.mount("m", "  suspend: true\n  deletePolicy: Propagate\n")).await?;
    stage.wait("m", "Ready", "False/Suspended").await?;
    let map = stage.kubectl(&["get", "configmap", "remotemount-mount-m", "-o", "yaml"]).await?;
    assert!(map.contains("deletePolicy: Deny"), "a mount that is suspended is left as it is: {map}");
    stage.apply(&stage.mount("m", "  suspend: false\n  deletePolicy: Propagate\n")).await?;
    stage.wait("m", "Ready", "True/NoSidecars").await?;
    let map = stage.kubectl(&["get", "configmap", "remotemount-mount-m", "-o", "yaml"]).await?;
    assert!(map.contains("deletePolicy: Propagate"), "{map}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_without_the_link_is_outdated_until_the_file_has_it() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let stage = cluster.stage("outdated").await?;
    stage.apply(&stage.mount("m", "")).await?;
    let node = stage.node("web").await?;
    stage.wait("m", "Ready", "True/Available").await?;
    // A second pod that has no process: not ready, and said to be.
    stage.pod("silent").await?;
    let object = stage.wait("m", "SidecarsReady", "False/SidecarsNotReady").await?;
    assert_eq!(object["status"]["sidecars"]["summary"], "1/2");
    stage.kubectl(&["delete", "pod", "silent", "--grace-period=0", "--force"]).await?;
    stage.wait("m", "Ready", "True/Available").await?;
    // What others write into our ConfigMap is put right again.
    stage
        .kubectl(&["patch", "configmap", "remotemount-mount-m", "-p", "{\"data\":{\"manifest.yaml\":\"nonsense\"}}"])
        .await?;
    until("the ConfigMap is as it was", async || {
        Ok(stage
            .kubectl(&["get", "configmap", "remotemount-mount-m", "-o", "yaml"])
            .await?
            .contains("kind: RemoteMount"))
    })
    .await?;
    stage.kubectl(&["delete", "configmap", "remotemount-control"]).await?;
    until("the control ConfigMap is back", async || {
        Ok(stage.kubectl(&["get", "configmaps", "-o", "name"]).await?.contains("remotemount-control"))
    })
    .await?;
    // A pod that is gone is counted no more.
    drop(node);
    stage.kubectl(&["delete", "pod", "web", "--grace-period=0", "--force"]).await?;
    let object = stage.wait("m", "Ready", "True/NoSidecars").await?;
    assert_eq!(object["status"]["sidecars"]["summary"], "0/0");
    Ok(())
}
