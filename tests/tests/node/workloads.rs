//! Workloads that carry the label and nothing else of ours: a Deployment that reads, a Job that ends, the chart's own
//! tests.

use anyhow::{Context as _, Result};
use remotemount_tests::node::pods::container_status;
use serde_json::json;

use crate::installed::{Installed, spec};

#[tokio::test]
#[ignore = "needs a node: make test-node"]
async fn a_deployment_with_the_label_reads_its_bucket() -> Result<()> {
    let stage = Installed::shared().await?.stage("deployment").await?;
    stage.bucket.put("a/one.txt", "the first", Some("text/plain")).await?;
    stage.bucket.put("a/two.bin", vec![7_u8; 3 << 20], None).await?;
    stage.mount("photos", "").await?;
    let template = json!({"metadata": {"labels": {"app": "web", "remotemount.dev/inject": "true"}}, "spec": spec(&["sleep", "1000"])});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    });
    stage.apply(&deployment.to_string()).await?;
    stage.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]).await?;
    let pods = stage.pods("web").await?;
    assert_eq!(pods.len(), 2);
    for pod in &pods {
        let sidecar = container_status(pod, "remotemount").context("no sidecar")?;
        assert_eq!((sidecar.ready, sidecar.restart_count), (true, 0), "{sidecar:?}");
        let name = pod.metadata.name.as_deref().context("a name")?;
        assert_eq!(stage.read(name, "/photos/a/one.txt").await?, "the first");
        assert_eq!(stage.sh(name, "curl -sSf \"$REMOTEMOUNT_URL/photos/a/two.bin\" | wc -c").await?.trim(), "3145728");
        // An unmodified client of the mount's listing: rclone reads the page for people.
        let listed = stage.sh(name, "rclone lsf -R --http-url \"$REMOTEMOUNT_URL/photos/\" :http: 2>&1").await?;
        let mut listed: Vec<&str> = listed.lines().filter(|line| !line.contains("NOTICE")).collect();
        listed.sort_unstable();
        assert_eq!(listed, ["a/", "a/one.txt", "a/two.bin"]);
    }
    let object = stage.until("photos", "not 2/2", |object| object["status"]["sidecars"]["summary"] == "2/2").await?;
    stage.kubectl(&["wait", "--for=condition=Ready", "rmt/photos", "--timeout=60s"]).await?;
    let columns = stage.kubectl(&["get", "rmt", "photos"]).await?;
    assert!(
        columns.lines().nth(1).is_some_and(|line| line.contains("True") && line.contains("2/2")),
        "{columns}\n{object:#}"
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs a node: make test-node"]
async fn a_job_that_reads_completes_and_its_sidecar_ends_well() -> Result<()> {
    let stage = Installed::shared().await?.stage("job").await?;
    stage.bucket.put("input.txt", "to be counted", None).await?;
    stage.mount("photos", "").await?;
    let command = "curl -sSf \"$REMOTEMOUNT_URL/photos/input.txt\" | wc -c";
    let mut pod = spec(&["sh", "-c", command]);
    pod["restartPolicy"] = json!("Never");
    let template = json!({"metadata": {"labels": {"app": "count", "remotemount.dev/inject": "true"}}, "spec": pod});
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "count"}, "spec": {"backoffLimit": 0, "template": template}});
    stage.apply(&job.to_string()).await?;
    stage.kubectl(&["wait", "--for=condition=Complete", "job/count", "--timeout=120s"]).await?;
    let pods = stage.pods("count").await?;
    let name = pods[0].metadata.name.clone().context("a name")?;
    let node = stage.installed.node;
    assert_eq!(node.log(&stage.namespace, &name, "app").await?.trim(), "13");
    let ended = |pod: &_| {
        let state = container_status(pod, "remotemount").and_then(|status| status.state.clone());
        state.is_some_and(|state| state.terminated.is_some())
    };
    let pod = node.wait_for_pod(&stage.namespace, &name, ended).await?;
    assert_eq!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded"));
    let state = container_status(&pod, "remotemount").and_then(|status| status.state.clone()?.terminated);
    let state = state.context("it has not ended")?;
    assert_eq!(state.exit_code, 0, "{state:?}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs a node: make test-node"]
async fn the_charts_own_tests_pass() -> Result<()> {
    let installed = Installed::shared().await?;
    let said = installed.helm(&["test", "remotemount", "--timeout", "2m"]).await?;
    let ended = said.lines().filter_map(|line| line.strip_prefix("Phase:")).map(str::trim);
    assert_eq!(ended.filter(|phase| *phase == "Succeeded").count(), 3, "a pod, a mount and a job: {said}");
    Ok(())
}
