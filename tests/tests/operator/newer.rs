//! A RemoteMount with a value that this version does not know: it waits, and nobody waits with it.

use anyhow::Result;
use remotemount_tests::control_plane::Controllers;
use remotemount_tests::operator::Operator;

use crate::stage::{Cluster, Stage, until};

/// What a newer version's CRD allows.
const LETS_MORE_IN: &str = r#"[{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/deletePolicy/enum/-", "value": "Archive"}]"#;

async fn named(stage: &Stage<'_>, pod: &str, mount: &str) -> Result<()> {
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}, labels: {{remotemount.dev/inject: 'true'}}, annotations: {{remotemount.dev/mounts: {mount}}}}}\nspec:\n  securityContext: {{runAsNonRoot: true, runAsUser: 1000, seccompProfile: {{type: RuntimeDefault}}}}\n  containers:\n  - {{name: app, image: app, securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}}}\n"
    );
    stage.apply(&pod).await
}

async fn archive(stage: &Stage<'_>, mount: &str) -> Result<()> {
    until("the API server takes what a newer version knows", async || {
        Ok(stage.apply(&stage.mount(mount, "  deletePolicy: Archive\n")).await.is_ok())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_of_a_newer_version_stops_its_own_mount_alone() -> Result<()> {
    let cluster = Cluster::start(Controllers::None, &[]).await?;
    let stage = cluster.stage("newer").await?;
    for name in ["odd", "gone"] {
        stage.apply(&stage.mount(name, "  deletePolicy: Propagate\n")).await?;
        stage.wait(name, "Ready", "True/NoSidecars").await?;
    }
    let crd = "remotemounts.remotemount.dev";
    stage.kubectl(&["patch", "crd", crd, "--type=json", "-p", LETS_MORE_IN]).await?;
    archive(&stage, "odd").await?;
    archive(&stage, "gone").await?;
    archive(&stage, "born-odd").await?;

    // A replica that begins now becomes ready, and whichever leads acts on the others.
    let mut second = Operator::start(&cluster.plane, &[]).await?;
    cluster.operator.lock().await.kill()?;
    stage.apply(&stage.mount("good", "")).await?;
    stage.wait("good", "Ready", "True/NoSidecars").await?;
    for name in ["odd", "gone", "born-odd"] {
        let object = stage.wait(name, "Accepted", "False/Invalid").await?;
        assert_eq!(stage.condition(name, "Stalled").await?, "True/Invalid");
        assert_eq!(object["status"]["observedGeneration"], object["metadata"]["generation"]);
        let conditions = object["status"]["conditions"].to_string();
        assert!(conditions.contains("spec.deletePolicy") && conditions.contains("Archive"), "{conditions}");
    }
    let maps = stage.kubectl(&["get", "configmaps", "-o", "yaml"]).await?;
    assert!(maps.contains("remotemount.odd") || maps.contains("odd"), "what stood goes on standing: {maps}");

    // Who asks for it by name is told; who asks for all gets the others.
    let refused = named(&stage, "asks", "odd").await.expect_err("it cannot be had").to_string();
    assert!(refused.contains("RemoteMount odd cannot be had") && refused.contains("spec.deletePolicy"), "{refused}");
    named(&stage, "other", "good").await?;
    stage.pod("all").await?;
    let pod = stage.kubectl(&["get", "pod", "all", "-o", "yaml"]).await?;
    assert!(pod.contains("remotemount.dev/injected: good\n"), "{pod}");

    // It goes on once it is corrected, or goes.
    stage.apply(&stage.mount("odd", "  deletePolicy: Propagate\n")).await?;
    stage.wait("odd", "Accepted", "True/Valid").await?;
    assert_eq!(stage.condition("odd", "Stalled").await?, "");
    stage.kubectl(&["delete", "rmt", "gone", "born-odd", "--timeout=30s"]).await?;
    assert!(second.terminate(std::time::Duration::from_secs(20)).await?.success());
    Ok(())
}
