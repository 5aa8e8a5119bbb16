//! What goes wrong on a node: a sidecar that is killed, credentials that are wrong, an operator that is away.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use remotemount_tests::node::pods::container_status;
use remotemount_tests::operator::NAMESPACE;
use remotemount_tests::s3_server::SECRET_KEY;
use remotemount_tests::tenant::LIMIT;
use serde_json::{Value, json};

use crate::installed::{Installed, Stage, spec};

fn restarts(pod: &Pod, container: &str) -> Option<i32> {
    container_status(pod, container).map(|status| status.restart_count)
}

/// What a sidecar counts of a mount, from its `/status`.
async fn status(stage: &Stage, pod: &str) -> Result<Value> {
    Ok(serde_json::from_str(&stage.sh(pod, "curl -sSf http://127.0.0.1:9090/status").await?)?)
}

async fn counters(stage: &Stage, pod: &str) -> Result<Value> {
    Ok(status(stage, pod).await?["mounts"][0]["counters"].clone())
}

/// Waits for an event of the mount: it is written after the status that it tells of.
async fn event(stage: &Stage, mount: &str, reason: &str) -> Result<()> {
    let told = async {
        while !stage.events(mount).await?.contains(&reason.to_owned()) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(LIMIT, told).await.with_context(|| format!("no event {reason}"))?
}

#[tokio::test]
#[ignore = "needs a node: make test-node"]
async fn a_killed_sidecar_comes_back_with_what_it_knew() -> Result<()> {
    let stage = Installed::shared().await?.stage("killed").await?;
    stage.bucket.put("known.txt", "known", None).await?;
    stage.mount("photos", "").await?;
    stage.pod("web", &["sleep", "1000"]).await?;
    let node = stage.installed.node;
    node.wait_ready_pod(&stage.namespace, "web").await?;
    assert!(stage.read("web", "/photos/known.txt?metadata=true").await?.contains("known.txt"));
    stage.until("photos", "not 1/1", |object| object["status"]["sidecars"]["summary"] == "1/1").await?;
    // What was answered is kept a moment later.
    let kept = async {
        while status(&stage, "web").await?["store"]["entries"].as_u64() < Some(1) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(LIMIT, kept).await.context("nothing is kept")??;
    node.signal(&stage.namespace, "web", "remotemount", "SIGKILL").await?;
    let back = |pod: &Pod| {
        restarts(pod, "remotemount") == Some(1)
            && container_status(pod, "remotemount").is_some_and(|status| status.ready)
    };
    let pod = node.wait_for_pod(&stage.namespace, "web", back).await?;
    assert_eq!(restarts(&pod, "app"), Some(0), "the app goes on");
    // It was away for too short a time to turn a condition, and the mount tells of it all the same.
    event(&stage, "photos", "SidecarRestarted").await?;
    // The app's retry, and nobody asks the bucket for it: the state is on the emptyDir.
    assert!(stage.read("web", "/photos/known.txt?metadata=true").await?.contains("known.txt"));
    let counters = counters(&stage, "web").await?;
    assert_eq!((&counters["lookupsHit"], &counters["lookupsMiss"]), (&json!(1), &json!(0)), "{counters}");
    assert_eq!(stage.read("web", "/photos/known.txt").await?, "known");
    stage.until("photos", "not 1/1", |object| object["status"]["sidecars"]["summary"] == "1/1").await?;
    stage.wait("photos", "Ready", "True/Available").await?;
    Ok(())
}

#[tokio::test]
#[ignore = "needs a node: make test-node"]
async fn wrong_credentials_hold_nothing_up_and_are_mended_without_a_restart() -> Result<()> {
    let stage = Installed::shared().await?.stage("credentials").await?;
    stage.bucket.put("x.txt", "at last", None).await?;
    stage.secret("s3-creds", "a-wrong-one").await?;
    stage.mount("photos", "").await?;
    stage.pod("web", &["sleep", "1000"]).await?;
    let node = stage.installed.node;
    let pod = node.wait_ready_pod(&stage.namespace, "web").await?;
    assert!(stage.read("web", "/photos/x.txt").await.is_err());
    let object = stage.wait("photos", "RemoteReachable", "False/AccessDenied").await?;
    assert_eq!(object["status"]["failing"][0]["pod"], "web", "{object:#}");
    event(&stage, "photos", "AccessDenied").await?;
    stage.secret("s3-creds", SECRET_KEY).await?;
    stage.wait("photos", "Ready", "True/Available").await?;
    assert_eq!(stage.read("web", "/photos/x.txt").await?, "at last");
    let healed = stage.pods("web").await?.pop().context("the pod is gone")?;
    assert_eq!(healed.metadata.uid, pod.metadata.uid);
    assert_eq!((restarts(&healed, "remotemount"), restarts(&healed, "app")), (Some(0), Some(0)));
    Ok(())
}

#[tokio::test]
#[ignore = "needs a node: make test-node"]
async fn pods_start_and_read_while_no_operator_runs() -> Result<()> {
    let stage = Installed::shared().await?.stage("away").await?;
    stage.bucket.put("x.txt", "without an operator", None).await?;
    stage.mount("photos", "").await?;
    stage.wait("photos", "Ready", "True/NoSidecars").await?;
    // Admitted while it was there, and not yet started.
    let metadata = json!({"name": "later", "labels": {"app": "later", "remotemount.dev/inject": "true"}});
    let mut later = spec(&["sleep", "1000"]);
    later["schedulingGates"] = json!([{"name": "tests.remotemount.dev/later"}]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": later});
    stage.apply(&pod.to_string()).await?;
    stage.pod("running", &["sleep", "1000"]).await?;
    let node = stage.installed.node;
    node.wait_ready_pod(&stage.namespace, "running").await?;

    let plane = node.plane();
    let scale = async |replicas: &str| {
        let replicas = format!("--replicas={replicas}");
        plane.kubectl(&["scale", "-n", NAMESPACE, "deployment/remotemount-operator", &replicas]).await?.success()
    };
    scale("0").await?;
    let gone =
        ["wait", "-n", NAMESPACE, "--for=delete", "pod", "-l", "app.kubernetes.io/component=operator", "--timeout=90s"];
    // Whatever comes of it, the other tests need the operator back.
    let outcome = async {
        plane.kubectl(&gone).await?.success()?;
        without_operator(&stage).await
    };
    let outcome = outcome.await;
    scale("2").await?;
    let back = ["rollout", "status", "-n", NAMESPACE, "deployment/remotemount-operator", "--timeout=120s"];
    plane.kubectl(&back).await?.success()?;
    outcome?;
    stage.until("photos", "not 2/2", |object| object["status"]["sidecars"]["summary"] == "2/2").await?;
    Ok(())
}

async fn without_operator(stage: &Stage) -> Result<()> {
    let node = stage.installed.node;
    let open = "[{\"op\": \"remove\", \"path\": \"/spec/schedulingGates\"}]";
    stage.kubectl(&["patch", "pod", "later", "--type=json", "-p", open]).await?;
    node.wait_ready_pod(&stage.namespace, "later").await?;
    node.signal(&stage.namespace, "running", "remotemount", "SIGKILL").await?;
    let back = |pod: &Pod| {
        restarts(pod, "remotemount") == Some(1)
            && container_status(pod, "remotemount").is_some_and(|status| status.ready)
    };
    node.wait_for_pod(&stage.namespace, "running", back).await?;
    for pod in ["later", "running"] {
        assert_eq!(stage.read(pod, "/photos/x.txt").await?, "without an operator", "{pod}");
    }
    // A new pod with the label is refused, and says why; one without is not.
    let refused = stage.pod("new", &["sleep", "1000"]).await;
    let complaint = refused.err().context("it would start without its data")?.to_string();
    assert!(complaint.contains("failed calling webhook \"pods.remotemount.dev\""), "{complaint}");
    let plain =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "plain"}, "spec": spec(&["sleep", "1000"])});
    stage.apply(&plain.to_string()).await?;
    node.wait_ready_pod(&stage.namespace, "plain").await?;
    Ok(())
}
