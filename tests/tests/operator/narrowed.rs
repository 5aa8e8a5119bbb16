//! `--namespaces`: what is outside is not looked after, and the operator has no rights there.

use anyhow::Result;
use remotemount_tests::control_plane::{ControlPlane, Controllers};
use remotemount_tests::operator::{self, ACCOUNT, NAMESPACE, Operator};
use tokio::sync::Mutex;

use crate::stage::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_roles_in_its_namespaces_alone() -> Result<()> {
    let plane = ControlPlane::start(Controllers::None).await?;
    plane.install_crd().await?;
    operator::install(&plane).await?;
    plane.kubectl(&["delete", "clusterrolebinding", "remotemount-operator-namespaced"]).await?.success()?;
    let operator = Mutex::new(Operator::start_unready(&plane, &["--namespaces", "one, two"]).await?);
    let cluster = Cluster { plane, operator };
    let (one, two, three) = (cluster.stage("one").await?, cluster.stage("two").await?, cluster.stage("three").await?);
    let account = format!("--serviceaccount={NAMESPACE}:{ACCOUNT}");
    for stage in [&one, &two] {
        let role = "--clusterrole=remotemount-operator-namespaced";
        stage.kubectl(&["create", "rolebinding", "remotemount-operator", role, &account]).await?;
    }
    cluster.operator.lock().await.wait_ready().await?;
    for stage in [&one, &two] {
        stage.apply(&stage.mount("m", "")).await?;
        stage.wait("m", "Ready", "True/NoSidecars").await?;
    }
    // News of sidecars reaches the mounts of each namespace.
    let _nodes = (one.node("web").await?, two.node("web").await?);
    for stage in [&one, &two] {
        stage.wait("m", "Ready", "True/Available").await?;
    }
    three.apply(&three.mount("m", "")).await?;
    let refused = three.pod("web").await.unwrap_err().to_string();
    assert!(refused.contains("three"), "{refused}");
    assert_eq!(three.condition("m", "Ready").await?, "", "nobody looks after it");
    for stage in [&one, &two] {
        stage.kubectl(&["delete", "rmt", "m", "--timeout=30s"]).await?;
    }
    let own = format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}");
    let requests = cluster.plane.requests()?;
    let outside = requests.iter().filter(|request| request.user == own && request.namespace == "three");
    assert_eq!(outside.count(), 0, "nothing is asked of the other namespace");
    Ok(())
}
