//! Deletes by the app, on a node: by the mount's policy they reach the bucket, or are refused.

use anyhow::Result;

use crate::installed::{Installed, Stage};

/// The status of a DELETE, and what the door says to it.
async fn delete(stage: &Stage, path: &str) -> Result<String> {
    stage.sh("web", &format!("curl -sS -m 20 -X DELETE -w '%{{http_code}}' \"$REMOTEMOUNT_URL{path}\"")).await
}

#[tokio::test]
#[ignore = "needs a node: make test-node"]
async fn a_delete_by_the_app_reaches_the_bucket_or_is_refused() -> Result<()> {
    let stage = Installed::shared().await?.stage("deletes").await?;
    for key in ["one", "two", "tree/a", "tree/b/c"] {
        stage.bucket.put(key, "x", None).await?;
    }
    // Deny is what a mount does that says nothing.
    stage.mount("photos", "").await?;
    stage.pod("web", &["sleep", "1000"]).await?;
    stage.installed.node.wait_ready_pod(&stage.namespace, "web").await?;
    let answer = delete(&stage, "/photos/one").await?;
    assert!(answer.ends_with("403") && answer.contains("deletePolicy"), "{answer}");
    assert_eq!(stage.bucket.keys("").await?.len(), 4);

    stage.mount("photos", "  deletePolicy: Propagate\n").await?;
    // Ready, and not merely none that is outdated: a sidecar that the operator has not heard of yet counts as neither.
    let seen = stage
        .until("photos", "not served", |object| {
            object["status"]["observedGeneration"] == 2 && object["status"]["sidecars"]["ready"] == 1
        })
        .await?;
    for (path, status) in [("/photos/one", "204"), ("/photos/tree", "409"), ("/photos/tree?recursive=true", "204")] {
        let answer = delete(&stage, path).await?;
        assert!(answer.ends_with(status), "{path}: {answer} after {:#}", seen["status"]);
    }
    assert_eq!(stage.bucket.keys("").await?, ["two"]);
    stage.wait("photos", "DeletesHealthy", "True/NoPendingDeletes").await?;
    // Taking the mount away deletes nothing more.
    stage.kubectl(&["delete", "rmt", "photos", "--timeout=60s"]).await?;
    assert_eq!(stage.bucket.keys("").await?, ["two"]);
    Ok(())
}
