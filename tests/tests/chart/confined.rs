//! What RBAC cannot say of the operator's rights, and its policy does.

use std::time::Duration;

use anyhow::{Context as _, Result};
use remotemount_tests::control_plane::Controllers;

use crate::stage::{Cluster, chart};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_writes_its_own_config_maps_and_no_other() -> Result<()> {
    let cluster = Cluster::start(Controllers::None).await?;
    cluster.release("install", &chart(), &[]).await?;
    let operator = "--as=system:serviceaccount:remotemount-system:remotemount-operator";
    let plane = &cluster.plane;
    let write = async |who: &str, name: &str| {
        let data = "data: {mapRoles: mine}";
        let object =
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: kube-system}}\n{data}\n");
        let apply = ["apply", "--server-side", "--force-conflicts", who, "-f", "-"];
        plane.kubectl_with(&apply, &object).await?.success()
    };
    let delete = async |who: &str, name: &str| {
        plane.kubectl(&["delete", "configmap", name, "-n", "kube-system", "--wait=false", who]).await?.success()
    };
    // It says nothing to others.
    let other = "--field-manager=other";
    write(other, "coredns").await?;
    // A policy takes some moments to be in force.
    let in_force = async {
        while write(operator, "coredns").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), in_force).await.context("the policy is not in force")?;
    for name in ["coredns", "aws-auth", "remotemount", "remotemount-controls"] {
        let refused = write(operator, name).await.unwrap_err().to_string();
        assert!(refused.contains("and no other"), "{name}: {refused}");
    }
    let refused = delete(operator, "coredns").await.unwrap_err().to_string();
    assert!(refused.contains("and no other"), "{refused}");
    for name in ["remotemount-control", "remotemount-mount-photos"] {
        write(operator, name).await?;
        write(operator, name).await?;
        delete(operator, name).await?;
    }
    write(other, "coredns").await?;
    plane.kubectl(&["delete", "configmap", "coredns", "-n", "kube-system"]).await?.success()?;
    Ok(())
}
