//! Values that cannot be meant are refused, and the message says which and why.

use anyhow::Result;
use remotemount_tests::control_plane::Controllers;
use remotemount_tests::helm::Helm;
use remotemount_tests::operator::NAMESPACE;
use serde_json::{Value, json};

use crate::stage::{Cluster, RELEASE, chart, refused};

/// Values, and what the message names.
fn rows() -> Vec<(Value, Vec<&'static str>)> {
    vec![
        // Slips of the pen, at each level.
        (json!({"replicas": 2}), vec!["additional properties 'replicas' not allowed"]),
        (json!({"webhook": {"FailurePolicy": "Fail"}}), vec!["'/webhook'", "'FailurePolicy'"]),
        (json!({"webhook": {"certManager": {"enable": true}}}), vec!["'/webhook/certManager'", "'enable'"]),
        (json!({"webhook": {"certManager": {"issuerRef": {"nam": "x"}}}}), vec!["'nam'"]),
        (
            json!({"webhook": {"certManager": {"enabled": true, "issuerRef": {"kind": "ClusterIssuer"}}}}),
            vec!["'/webhook/certManager/issuerRef'", "'name'"],
        ),
        (json!({"resources": {"limit": {"memory": "1Gi"}}}), vec!["'/resources'", "'limit'"]),
        (json!({"affinity": {"nodeAffinty": {}}}), vec!["'nodeAffinty'"]),
        (json!({"tolerations": [{"keys": "a"}]}), vec!["'/tolerations/0'", "'keys'"]),
        (json!({"securityContext": {"capabilities": {"drops": ["ALL"]}}}), vec!["'drops'"]),
        (json!({"extraVolumes": [{"name": "a", "configmap": {"name": "b"}}]}), vec!["'configmap'"]),
        (json!({"tests": {"remote": {"s3": {"buckets": "b"}}}}), vec!["'/tests/remote/s3'"]),
        // Of the wrong kind.
        (json!({"replicaCount": "two"}), vec!["'/replicaCount'", "want integer"]),
        (json!({"replicaCount": -1}), vec!["'/replicaCount'", "minimum"]),
        (json!({"watchNamespaces": "one"}), vec!["'/watchNamespaces'", "want array"]),
        (json!({"watchNamespaces": ["one", "one"]}), vec!["'/watchNamespaces'"]),
        (json!({"watchNamespaces": ["One"]}), vec!["'/watchNamespaces/0'"]),
        (json!({"commonLabels": {"a": 1}}), vec!["'/commonLabels/a'", "want string"]),
        (json!({"crds": {"keep": "yes"}}), vec!["'/crds/keep'", "want boolean"]),
        // Out of range.
        (json!({"webhook": {"timeoutSeconds": 31}}), vec!["'/webhook/timeoutSeconds'", "30"]),
        (json!({"webhook": {"failurePolicy": "fail"}}), vec!["'/webhook/failurePolicy'", "'Fail'", "'Ignore'"]),
        (json!({"image": {"pullPolicy": "always"}}), vec!["'/image/pullPolicy'", "'Always'"]),
        (json!({"image": {"digest": "0123"}}), vec!["'/image/digest'", "sha256"]),
        (json!({"global": {"imageRegistry": "https://registry.example.com"}}), vec!["'/global/imageRegistry'"]),
        (json!({"control": {"port": 70000}}), vec!["'/control/port'", "65,535"]),
        (json!({"webhook": {"caBundle": "-----BEGIN CERTIFICATE-----"}}), vec!["'/webhook/caBundle'"]),
        (json!({"logging": {"format": "xml"}}), vec!["'/logging/format'"]),
        (json!({"pdb": {"minAvailable": "half"}}), vec!["'/pdb/minAvailable'"]),
        (json!({"networkPolicy": {"apiServerPorts": []}}), vec!["'/networkPolicy/apiServerPorts'"]),
        (json!({"metrics": {"serviceMonitor": {"interval": "often"}}}), vec!["'/metrics/serviceMonitor/interval'"]),
        (json!({"listenAddress": "localhost"}), vec!["'/listenAddress'"]),
        // What does not go together.
        (
            json!({"webhook": {"existingSecret": "a", "certManager": {"enabled": true}}}),
            vec!["webhook.existingSecret and webhook.certManager.enabled: choose one"],
        ),
        (json!({"webhook": {"caBundle": "QQ=="}}), vec!["webhook.caBundle is for webhook.existingSecret alone"]),
        (
            json!({"webhook": {"certManager": {"issuerRef": {"name": "x"}}}}),
            vec!["webhook.certManager.issuerRef has no effect without webhook.certManager.enabled"],
        ),
        (
            json!({"metrics": {"podMonitor": {"enabled": true}}}),
            vec!["metrics.podMonitor.enabled needs sidecar.metrics.enabled"],
        ),
        (json!({"metrics": {"port": 9443}}), vec!["webhook.port, control.port and metrics.port must differ"]),
        (json!({"control": {"port": 443}}), vec!["control.port cannot be 443"]),
        (json!({"serviceAccount": {"create": false}}), vec!["name one that is there in serviceAccount.name"]),
        (json!({"tests": {"namespace": NAMESPACE}}), vec!["tests.namespace is the release's own"]),
        (
            json!({"watchNamespaces": ["one"], "tests": {"namespace": "two"}}),
            vec!["tests.namespace must be one of watchNamespaces", "two is not"],
        ),
        (json!({"watchNamespaces": [NAMESPACE]}), vec!["tests.namespace must be one of watchNamespaces"]),
        (json!({"pdb": {"maxUnavailable": 0}}), vec!["pdb.maxUnavailable: at least 1"]),
        (json!({"pdb": {"maxUnavailable": ""}}), vec!["pdb.maxUnavailable: at least 1"]),
        (json!({"pdb": {"minAvailable": 2}}), vec!["pdb.minAvailable must be less than replicaCount"]),
        (json!({"pdb": {"minAvailable": "100%"}}), vec!["pdb.minAvailable must be less than replicaCount"]),
        (json!({"sidecar": {"user": 2_147_483_648_u32}}), vec!["'/sidecar/user'", "maximum"]),
        (json!({"sidecar": {"metrics": {"port": 80}}}), vec!["'/sidecar/metrics/port'", "minimum"]),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_values_are_refused_by_name() -> Result<()> {
    let helm = Helm::new(None)?;
    for (values, told) in rows() {
        let complaint = refused(&helm, &values).await?;
        for word in told {
            assert!(complaint.contains(word), "{values}: {word:?} is not in {complaint}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_kubernetes_is_refused() -> Result<()> {
    let helm = Helm::new(None)?;
    let with = async |version: &str| helm.run(&["template", RELEASE, &chart(), "--kube-version", version]).await;
    let complaint = with("1.29.9").await?.failure()?;
    assert!(complaint.contains(">=1.30.0-0") && complaint.contains("1.29.9"), "{complaint}");
    // As providers write theirs.
    for version in ["1.30.0", "v1.30.4-gke.1348000", "1.31.1-eks-a737599"] {
        with(version).await?.success()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_operator_is_refused_and_told_of_the_first() -> Result<()> {
    let cluster = Cluster::start(Controllers::None).await?;
    cluster.release("install", &chart(), &[]).await?;
    cluster.plane.create_namespace("elsewhere", &[]).await?;
    for (release, namespace) in [("second", "elsewhere"), ("remotemount", "elsewhere"), ("second", NAMESPACE)] {
        let install = ["install", release, &chart(), "-n", namespace, "--set", "watchNamespaces={default}"];
        let complaint = cluster.helm.run(&install).await?.failure()?;
        let told = format!("release {RELEASE} of namespace {NAMESPACE} is an operator of this cluster already");
        assert!(complaint.contains(&told), "{complaint}");
    }
    // Nothing of it is there.
    let releases = cluster.helm.run(&["list", "-A", "-q"]).await?.success()?;
    assert_eq!(releases.trim(), RELEASE);
    // The one that is there may be changed as often as one likes.
    cluster.release("upgrade", &chart(), &["--set", "watchNamespaces={default}"]).await?;
    Ok(())
}
