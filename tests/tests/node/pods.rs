//! The node itself, before anything of RemoteMount's is on it: pods run, with what a sidecar will need.

use anyhow::Result;
use remotemount_tests::node::pods::container_status;
use remotemount_tests::node::{Node, WORKLOAD};
use serde_json::{Value, json};

/// A pod as an injected one is: a native sidecar that serves, and an app that asks it.
fn pod(name: &str, app: &[&str]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": template(app),
    })
}

fn template(app: &[&str]) -> Value {
    let serve = "echo served > /tmp/index.html; exec httpd -f -p 8080 -h /tmp";
    json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "initContainers": [{
            "name": "sidecar",
            "image": WORKLOAD,
            "restartPolicy": "Always",
            "command": ["sh", "-c", serve],
            "startupProbe": {"exec": {"command": ["curl", "-sf", "http://127.0.0.1:8080/"]}, "periodSeconds": 1},
        }],
        "containers": [{"name": "app", "image": WORKLOAD, "command": app}],
    })
}

async fn namespace(node: &Node, name: &str) -> Result<()> {
    node.plane().create_namespace(name, &[]).await
}

async fn apply(node: &Node, namespace: &str, object: &Value) -> Result<()> {
    node.plane().kubectl_with(&["apply", "-n", namespace, "-f", "-"], &object.to_string()).await?.success()?;
    Ok(())
}

#[tokio::test]
#[ignore = "needs a node: make test-node"]
async fn a_pod_with_a_native_sidecar_runs() -> Result<()> {
    let node = Node::shared().await?;
    namespace(node, "pods").await?;
    apply(node, "pods", &pod("web", &["sh", "-c", "echo hello; curl -s http://127.0.0.1:8080/; sleep 1000"])).await?;
    let pod = node.wait_ready_pod("pods", "web").await?;
    let sidecar = container_status(&pod, "sidecar").expect("the sidecar has a status");
    assert_eq!(sidecar.started, Some(true));
    assert_eq!(sidecar.restart_count, 0);
    node.wait_for_log("pods", "web", "app", "hello\nserved").await?;
    assert_eq!(node.exec("pods", "web", "app", &["id", "-u"]).await?, "65534\n");

    // As the kernel would kill it: kubelet starts it again, and the app stays as it is.
    node.signal("pods", "web", "sidecar", "SIGKILL").await?;
    let restarted =
        |pod: &_| container_status(pod, "sidecar").is_some_and(|status| status.restart_count == 1 && status.ready);
    let pod = node.wait_for_pod("pods", "web", restarted).await?;
    assert_eq!(container_status(&pod, "app").expect("the app has a status").restart_count, 0);
    Ok(())
}

#[tokio::test]
#[ignore = "needs a node: make test-node"]
async fn a_service_is_found_by_its_address_and_by_its_name() -> Result<()> {
    let node = Node::shared().await?;
    namespace(node, "services").await?;
    apply(node, "services", &pod("server", &["sleep", "1000"])).await?;
    apply(node, "services", &pod("client", &["sleep", "1000"])).await?;
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "shop"},
        "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    apply(node, "services", &service).await?;
    node.wait_ready_pod("services", "server").await?;
    node.wait_ready_pod("services", "client").await?;
    let address = ["get", "service", "-n", "services", "shop", "-o", "jsonpath={.spec.clusterIP}"];
    let address = node.plane().kubectl(&address).await?.success()?;
    for host in [address.as_str(), "shop", "shop.services", "shop.services.svc", "shop.services.svc.cluster.local"] {
        let url = format!("http://{host}/");
        let answer = node.exec_until("services", "client", "app", &["curl", "-sS", "-m", "5", &url]).await?;
        assert_eq!(answer, "served\n", "{host}");
    }
    let absent = node.exec("services", "client", "app", &["nslookup", "absent.services.svc.cluster.local"]).await;
    assert!(absent.expect_err("there is no such Service").to_string().contains("NXDOMAIN"));
    Ok(())
}

#[tokio::test]
#[ignore = "needs a node: make test-node"]
async fn a_job_ends_though_its_sidecar_would_not() -> Result<()> {
    let node = Node::shared().await?;
    namespace(node, "jobs").await?;
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "count"},
        "spec": {"backoffLimit": 0, "template": {"spec": template(&["curl", "-sSf", "http://127.0.0.1:8080/"])}},
    });
    apply(node, "jobs", &job).await?;
    let wait = ["wait", "-n", "jobs", "--for=condition=Complete", "--timeout=90s", "job/count"];
    node.plane().kubectl(&wait).await?.success()?;
    Ok(())
}

#[tokio::test]
#[ignore = "needs a node: make test-node"]
async fn a_pod_speaks_to_the_api_server_by_name_with_its_own_token() -> Result<()> {
    let node = Node::shared().await?;
    namespace(node, "tokens").await?;
    apply(node, "tokens", &pod("web", &["sleep", "1000"])).await?;
    node.wait_ready_pod("tokens", "web").await?;
    let ask = "cd /var/run/secrets/kubernetes.io/serviceaccount && \
        curl -sS -m 5 --cacert ca.crt -H \"Authorization: Bearer $(cat token)\" \
        https://kubernetes.default.svc/apis/authentication.k8s.io/v1/selfsubjectreviews \
        -H 'Content-Type: application/json' -d '{\"apiVersion\":\"authentication.k8s.io/v1\",\"kind\":\"SelfSubjectReview\"}'";
    let said = node.exec_until("tokens", "web", "app", &["sh", "-c", ask]).await?;
    let review: Value = serde_json::from_str(&said)?;
    assert_eq!(review["status"]["userInfo"]["username"], "system:serviceaccount:tokens:default", "{said}");
    Ok(())
}
