//! What `operator/deploy/rbac.yaml` grants is what the operator needs: nothing is refused, nothing is granted in vain.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;
use remotemount_operator::certificates::secret::Keeper;
use remotemount_tests::control_plane::Controllers;
use remotemount_tests::operator::{ACCOUNT, NAMESPACE, Operator};
use remotemount_tests::proxy::count::Operation;
use remotemount_tests::proxy::faults::{Action, Rule};

use crate::stage::{Cluster, client, until};

/// A right: API group, resource with its subresource, verb.
type Right = (String, String, String);

fn rights(rules: &[PolicyRule]) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for rule in rules {
        for (group, resource) in rule.api_groups.iter().flatten().zip(rule.resources.iter().flatten()) {
            let right = |verb: &String| (group.clone(), resource.clone(), verb.clone());
            rights.extend(rule.verbs.iter().map(right));
        }
    }
    rights
}

async fn granted(cluster: &Cluster) -> Result<BTreeSet<Right>> {
    let admin = cluster.plane.client().await?;
    let (cluster_roles, roles) = (Api::<ClusterRole>::all(admin.clone()), Api::<Role>::namespaced(admin, NAMESPACE));
    let mut granted = BTreeSet::new();
    for name in ["remotemount-operator", "remotemount-operator-namespaced"] {
        granted.extend(rights(&cluster_roles.get(name).await?.rules.context("rules")?));
    }
    granted.extend(rights(&roles.get("remotemount-operator").await?.rules.context("rules")?));
    Ok(granted)
}

/// Everything the operator ever does, once.
async fn everything(cluster: &Cluster) -> Result<()> {
    let stage = cluster.stage("everything").await?;
    stage.bucket.put("a", "content", None).await?;
    stage.apply(&stage.mount_of("m", "no-such-bucket", "")).await?;
    let node = stage.node("web").await?;
    stage.wait("m", "Stalled", "True/BucketNotFound").await?;
    until("an event is there", async || Ok(!stage.events("m").await?.is_empty())).await?;
    stage.kubectl(&["delete", "rmt", "m", "--timeout=30s"]).await?;
    drop(node);
    // The same trouble again is the same event once more.
    for key in ["b", "c"] {
        stage.bucket.put(key, "content", None).await?;
    }
    stage.apply(&stage.mount("p", "  deletePolicy: Propagate\n")).await?;
    let node = stage.node("worker").await?;
    stage.wait("p", "Ready", "True/Available").await?;
    for key in ["b", "c"] {
        let url = node.http_url(&format!("/p/{key}"));
        stage.proxy.inject(Rule::new(Action::error(403, "AccessDenied")).operation(Operation::Delete));
        assert_eq!(client().delete(&url).send().await?.status(), 403);
        stage.wait("p", "DeletesHealthy", "False/DeletesFailing").await?;
        stage.proxy.clear();
        assert_eq!(client().delete(&url).send().await?.status(), 204);
        stage.wait("p", "DeletesHealthy", "True/NoPendingDeletes").await?;
    }
    stage.kubectl(&["delete", "rmt", "p", "--timeout=30s"]).await?;
    // Somebody empties the webhook's CA; a replica is replaced; the API server comes back.
    cluster
        .plane
        .kubectl(&[
            "patch",
            "mutatingwebhookconfiguration",
            "remotemount",
            "--type=json",
            "-p",
            "[{\"op\":\"remove\",\"path\":\"/webhooks/0/clientConfig/caBundle\"}]",
        ])
        .await?
        .success()?;
    until("the CA is back", async || {
        let said = cluster.plane.kubectl(&["get", "mutatingwebhookconfiguration", "remotemount", "-o", "yaml"]).await?;
        Ok(said.success()?.contains("caBundle: "))
    })
    .await?;
    let mut second = Operator::start(&cluster.plane, &[]).await?;
    cluster.operator.lock().await.terminate(std::time::Duration::from_secs(30)).await?;
    until("the second leads", async || {
        let metrics = client().get(second.admin_url("/metrics")).send().await?.text().await?;
        Ok(metrics.lines().any(|line| line == "remotemount_operator_leads 1"))
    })
    .await?;
    // Years later the CA moves on.
    let kubeconfig = cluster.plane.kubeconfig_of(NAMESPACE, ACCOUNT).await?;
    let own = cluster.plane.client_of(&kubeconfig).await?;
    let now = Timestamp::now();
    let (_certificates, mut keeper) = Keeper::start(own, NAMESPACE, vec!["localhost".to_owned()], now).await?;
    keeper.read(now + SignedDuration::from_hours(24 * 365 * 20)).await?;
    second.terminate(std::time::Duration::from_secs(30)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_refused_and_nothing_granted_in_vain() -> Result<()> {
    let cluster = Cluster::start(Controllers::None, &[]).await?;
    Box::pin(everything(&cluster)).await?;
    let user = format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}");
    let requests: Vec<_> = cluster.plane.requests()?.into_iter().filter(|request| request.user == user).collect();
    let refused: Vec<_> = requests.iter().filter(|request| request.is_forbidden()).collect();
    assert!(refused.is_empty(), "refused: {refused:#?}");
    // Every account may ask what it may do; that is not the operator's to be granted.
    let used: BTreeSet<Right> = requests
        .iter()
        .filter(|request| !request.resource.is_empty() && request.code < 400)
        .flat_map(|request| {
            let slash = if request.subresource.is_empty() { "" } else { "/" };
            let resource = format!("{}{slash}{}", request.resource, request.subresource);
            let right = |verb: &str| (request.group.clone(), resource.clone(), verb.to_owned());
            // An apply that makes its object needs the right to create, too, and is told of as a patch.
            let made = (request.verb == "patch" && request.code == 201).then(|| right("create"));
            [Some(right(&request.verb)), made].into_iter().flatten().collect::<Vec<_>>()
        })
        .collect();
    let granted = granted(&cluster).await?;
    let vain: Vec<_> = granted.difference(&used).collect();
    assert!(vain.is_empty(), "granted and never used: {vain:#?}");
    let secrets = requests.iter().filter(|request| request.resource == "secrets" && request.namespace != NAMESPACE);
    assert_eq!(secrets.count(), 0, "no Secret is asked for outside the operator's namespace");
    Ok(())
}
