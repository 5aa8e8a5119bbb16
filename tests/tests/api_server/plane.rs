//! The control plane itself: admission and RBAC are those of a cluster, the audit log tells all,
//! it survives an outage, and nothing of it is left behind.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams};
use remotemount_tests::control_plane::{ControlPlane, Controllers};
use serde_json::json;

fn config_map(name: &str) -> ConfigMap {
    ConfigMap { metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }, ..ConfigMap::default() }
}

/// Asks until it holds; the limit is there so that a failure ends, and is far from what it takes.
async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: still not so");
}

#[tokio::test]
async fn pod_security_is_enforced() {
    let plane = ControlPlane::shared().await.unwrap();
    plane.create_namespace("restricted", &[("pod-security.kubernetes.io/enforce", "restricted")]).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(plane.client().await.unwrap(), "restricted");
    let pod = |security: serde_json::Value| {
        let container = json!({"name": "app", "image": "app", "securityContext": security});
        let pod = json!({"metadata": {"name": "app"}, "spec": {"containers": [container]}});
        serde_json::from_value::<Pod>(pod).unwrap()
    };
    let refused = pods.create(&PostParams::default(), &pod(json!({"privileged": true}))).await.unwrap_err();
    assert!(refused.to_string().contains("violates PodSecurity \"restricted:latest\""), "{refused}");
    let security = json!({
        "runAsNonRoot": true, "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    });
    pods.create(&PostParams::default(), &pod(security)).await.unwrap();
}

#[tokio::test]
async fn an_account_may_do_what_rbac_says_and_the_audit_log_has_it() {
    let plane = ControlPlane::shared().await.unwrap();
    plane.create_namespace("audited", &[]).await.unwrap();
    plane.create_account("audited", "reader").await.unwrap();
    for arguments in [
        ["create", "role", "reader", "--verb=list,create", "--resource=configmaps"],
        ["create", "rolebinding", "reader", "--role=reader", "--serviceaccount=audited:reader"],
    ] {
        plane.kubectl(&[&["-n", "audited"], &arguments[..]].concat()).await.unwrap().success().unwrap();
    }
    let kubeconfig = plane.kubeconfig_of("audited", "reader").await.unwrap();
    let client = plane.client_of(&kubeconfig).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "audited");
    maps.list(&ListParams::default()).await.unwrap();
    maps.create(&PostParams::default(), &config_map("one")).await.unwrap();
    maps.delete("one", &DeleteParams::default()).await.unwrap_err();
    let said = plane.kubectl_as(&kubeconfig, &["get", "secrets", "-n", "audited"], "").await.unwrap();
    assert!(said.failure().unwrap().contains("secrets is forbidden"));

    let requests = plane.requests().unwrap();
    let told: Vec<(&str, &str, &str, u16)> = requests
        .iter()
        .filter(|request| request.user == "system:serviceaccount:audited:reader" && request.namespace == "audited")
        .map(|request| (request.verb.as_str(), request.resource.as_str(), request.name.as_str(), request.code))
        .collect();
    let wanted = [
        ("list", "configmaps", "", 200),
        ("create", "configmaps", "one", 201),
        ("delete", "configmaps", "one", 403),
        ("list", "secrets", "", 403),
    ];
    assert_eq!(told, wanted);
    let kinds = |request: &&remotemount_tests::control_plane::audit::Request| {
        request.user.ends_with(":audited:reader") && request.is_write() && !request.is_forbidden()
    };
    assert_eq!(requests.iter().filter(kinds).count(), 1);
}

#[tokio::test]
async fn it_has_controllers_and_survives_an_outage_and_leaves_nothing() {
    let plane = ControlPlane::start(Controllers::All).await.unwrap();
    plane.create_namespace("apps", &[]).await.unwrap();
    let client = plane.client().await.unwrap();
    plane
        .kubectl(&["create", "deployment", "web", "--image=web", "--replicas=2", "-n", "apps"])
        .await
        .unwrap()
        .success()
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), "apps");
    let count = async || pods.list(&ListParams::default()).await.map(|list| list.items.len()).unwrap_or(usize::MAX);
    eventually("the Deployment has its pods", async || count().await == 2).await;

    plane.stop_api_server().await.unwrap();
    pods.list(&ListParams::default()).await.unwrap_err();
    plane.restart_api_server().await.unwrap();
    assert_eq!(count().await, 2, "the old client, the old port and the old data serve on");

    plane.kubectl(&["delete", "deployment", "web", "-n", "apps"]).await.unwrap().success().unwrap();
    eventually("what it owned is collected", async || count().await == 0).await;

    let folder = plane.folder().to_path_buf();
    assert!(folder.join("etcd").is_dir());
    drop(plane);
    assert!(!folder.exists(), "{} is left", folder.display());
    let left = processes_that_name(&folder);
    assert!(left.is_empty(), "{left:?}");
}

/// The command lines of processes that have the folder in their arguments.
fn processes_that_name(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).filter(|line| line.contains(folder)).collect()
}
