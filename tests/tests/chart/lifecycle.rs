//! Install, upgrade from an older version, roll back, uninstall, install again: what changes, what is kept, what is left.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use remotemount_tests::control_plane::Controllers;
use remotemount_tests::operator::NAMESPACE;
use serde_json::{Value, json};

use crate::running::Replica;
use crate::stage::{Cluster, RELEASE, at, chart};

const MOUNT: &str = "apiVersion: remotemount.dev/v1alpha1\nkind: RemoteMount\nmetadata: {name: photos, namespace: default}\nspec:\n  path: /photos\n  remote: {s3: {bucket: photos}}\n";

/// The chart as an older version of it, whose CRD did not know `spec.suspend` yet, packaged.
async fn older(cluster: &Cluster, folder: &Path) -> Result<String> {
    let copy = folder.join("remotemount");
    let copied = tokio::process::Command::new("cp").args(["-r", &chart()]).arg(&copy).status().await?;
    assert!(copied.success());
    let crd_file = copy.join("files/remotemounts.yaml");
    let mut crd: Value = serde_saphyr::from_str(&std::fs::read_to_string(&crd_file)?)?;
    let spec =
        crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties").context("a schema")?;
    assert!(spec.as_object_mut().context("properties")?.remove("suspend").is_some());
    std::fs::write(crd_file, crd.to_string())?;
    let (from, to) = (copy.to_str().context("a path")?, folder.to_str().context("a path")?);
    let package = ["package", from, "-d", to, "--version", "0.0.9", "--app-version", "0.0.9"];
    cluster.helm.run(&package).await?.success()?;
    Ok(folder.join("remotemount-0.0.9.tgz").to_str().context("a path")?.to_owned())
}

/// Whether the CRD knows `spec.suspend`.
async fn knows_suspend(cluster: &Cluster) -> Result<bool> {
    let crd = cluster.get(&["crd", "remotemounts.remotemount.dev"]).await?;
    let known =
        crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties").context("a schema")?;
    Ok(known.get("suspend").is_some())
}

async fn image(cluster: &Cluster) -> Result<Value> {
    let deployment = cluster.get(&["-n", NAMESPACE, "deployment", "remotemount-operator"]).await?;
    Ok(deployment["spec"]["template"]["spec"]["containers"][0]["image"].clone())
}

async fn ca_bundle(cluster: &Cluster) -> Result<Value> {
    let webhook = cluster.get(&["mutatingwebhookconfiguration", "remotemount"]).await?;
    Ok(webhook["webhooks"][0]["clientConfig"]["caBundle"].clone())
}

/// Which RemoteMount it is; one that is on its way out is none.
async fn mount_uid(cluster: &Cluster) -> Result<Value> {
    let metadata = cluster.get(&["-n", "default", "rmt", "photos"]).await?["metadata"].clone();
    assert!(metadata["deletionTimestamp"].is_null(), "{metadata}");
    Ok(metadata["uid"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_the_first_install_to_the_last_uninstall() -> Result<()> {
    let cluster = Cluster::start(Controllers::None).await?;
    let folder = tempfile::tempdir()?;
    let before = cluster.everything().await?;

    let older = older(&cluster, folder.path()).await?;
    cluster.release("install", &older, &[]).await?;
    assert!(!knows_suspend(&cluster).await?);
    assert_eq!(image(&cluster).await?, "remotemount-operator:0.0.9");
    cluster.plane.kubectl_with(&["apply", "-f", "-"], MOUNT).await?.success()?;
    let uid = mount_uid(&cluster).await?;
    let mut replica = Replica::start(&cluster, &[]).await?;
    replica.wait_for_mount(&cluster, "default", "photos").await?;
    let trusted = ca_bundle(&cluster).await?;
    assert!(trusted.is_string(), "the operator wrote its CA");

    let said = cluster.release("upgrade", &chart(), &[]).await?;
    assert!(said.contains("RemoteMount 0.1.0 is installed in namespace remotemount-system"), "{said}");
    assert!(knows_suspend(&cluster).await?, "the CRD is upgraded with the chart");
    assert_eq!(image(&cluster).await?, "remotemount-operator:0.1.0");
    assert_eq!(ca_bundle(&cluster).await?, trusted, "what the operator wrote stays");
    assert_eq!(mount_uid(&cluster).await?, uid);

    cluster.helm.run(&["rollback", RELEASE, "1", "-n", NAMESPACE]).await?.success()?;
    assert_eq!(image(&cluster).await?, "remotemount-operator:0.0.9");
    assert_eq!(ca_bundle(&cluster).await?, trusted);
    assert_eq!(mount_uid(&cluster).await?, uid);
    cluster.release("upgrade", &chart(), &["--set", "replicaCount=3"]).await?;
    assert!(knows_suspend(&cluster).await?);

    // Helm ends the Deployment; here that is this process. It has made a Secret and a Lease by now.
    replica.end().await?;
    let made = ["Secret remotemount-system/remotemount-ca", "Lease remotemount-system/remotemount-operator"];
    let there = cluster.everything().await?;
    assert!(made.iter().all(|made| there.iter().any(|there| there == made)), "{there:?}");
    cluster.helm.run(&["uninstall", RELEASE, "-n", NAMESPACE]).await?.success()?;
    let kept: Vec<String> = cluster.everything().await?.into_iter().filter(|object| !before.contains(object)).collect();
    // What a mount is, and what pods that run serve it by.
    let mount = [
        // Made by the API server, of the CRD.
        "APIService /v1alpha1.remotemount.dev",
        "ConfigMap default/remotemount-control",
        "ConfigMap default/remotemount-mount-photos",
        "CustomResourceDefinition /remotemounts.remotemount.dev",
        "RemoteMount default/photos",
    ];
    assert_eq!(kept, mount, "and nothing else of ours is left");
    assert_eq!(mount_uid(&cluster).await?, uid);

    // The CRD that was kept is taken over again, and what stands with it.
    cluster.release("install", &chart(), &[]).await?;
    assert_eq!(mount_uid(&cluster).await?, uid);
    let mut replica = Replica::start(&cluster, &[]).await?;
    replica.wait_for_mount(&cluster, "default", "photos").await?;
    // In the order that NOTES.txt gives.
    cluster.plane.kubectl(&["delete", "rmt", "--all", "-A", "--timeout=60s"]).await?.success()?;
    replica.until_gone(&cluster, "default", "configmap", "remotemount-control").await?;
    replica.end().await?;
    cluster.helm.run(&["uninstall", RELEASE, "-n", NAMESPACE]).await?.success()?;
    let kept: Vec<String> = cluster.everything().await?.into_iter().filter(|object| !before.contains(object)).collect();
    assert_eq!(
        kept,
        ["APIService /v1alpha1.remotemount.dev", "CustomResourceDefinition /remotemounts.remotemount.dev"]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crd_that_is_not_to_be_kept_goes() -> Result<()> {
    let cluster = Cluster::start(Controllers::None).await?;
    let before = cluster.everything().await?;
    cluster.release("install", &chart(), &["--set", "crds.keep=false"]).await?;
    cluster.helm.run(&["uninstall", RELEASE, "-n", NAMESPACE, "--wait", "--timeout", "60s"]).await?.success()?;
    let left: Vec<String> = cluster.everything().await?.into_iter().filter(|object| !before.contains(object)).collect();
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crd_of_someone_else_is_left_to_them() -> Result<()> {
    let cluster = Cluster::start(Controllers::None).await?;
    cluster.plane.install_crd().await?;
    let complaint = cluster.release("install", &chart(), &[]).await.unwrap_err().to_string();
    assert!(
        complaint.contains("remotemounts.remotemount.dev") && complaint.contains("invalid ownership metadata"),
        "{complaint}"
    );
    let _ = cluster.helm.run(&["uninstall", RELEASE, "-n", NAMESPACE]).await?;
    cluster.release("install", &chart(), &["--set", "crds.install=false"]).await?;
    let crd = cluster.get(&["crd", "remotemounts.remotemount.dev"]).await?;
    assert!(crd["metadata"]["labels"]["app.kubernetes.io/managed-by"].is_null(), "{}", crd["metadata"]);
    // To take it over later.
    cluster.release("upgrade", &chart(), &["--take-ownership", "--reset-values"]).await?;
    let crd = cluster.get(&["crd", "remotemounts.remotemount.dev"]).await?;
    assert_eq!(crd["metadata"]["labels"]["app.kubernetes.io/managed-by"], "Helm");
    assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    Ok(())
}

/// A pod of the test's Job, read through its sidecar as the Job's container reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_helm_test_does_holds() -> Result<()> {
    let cluster = Cluster::start(Controllers::None).await?;
    cluster.release("install", &chart(), &[]).await?;
    let mut replica = Replica::start_reachable(&cluster, &[]).await?;
    let rendered =
        crate::stage::objects(&crate::stage::render(&cluster.helm, &at("tests.enabled", json!(true))).await?);
    let mount = crate::stage::object(&rendered, "RemoteMount", "remotemount-test-mount");
    cluster.plane.kubectl_with(&["apply", "-f", "-"], &mount.to_string()).await?.success()?;
    replica.wait_for_mount(&cluster, "default", "remotemount-test-mount").await?;
    let job = crate::stage::object(&rendered, "Job", "remotemount-test-mount");
    let mut pod = job["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("reader");
    cluster.plane.kubectl_with(&["apply", "-n", "default", "-f", "-"], &pod.to_string()).await?.success()?;
    let node = remotemount_tests::stand_in::StandIn::run(&cluster.plane, "default", "reader").await?;
    let command = pod["spec"]["containers"][0]["command"].clone();
    let door = node.http_url("");
    let arguments = command.as_array().context("a command")?.iter().filter_map(Value::as_str).skip(1);
    // The one thing that differs: ports here are free ones.
    let arguments = arguments.map(|argument| argument.replace("127.0.0.1:8888", door.trim_start_matches("http://")));
    let arguments: Vec<String> = arguments.collect();
    assert!(
        arguments.iter().any(|argument| argument.ends_with("/remotemount-test-mount?metadata=true")),
        "{arguments:?}"
    );
    let sidecar = remotemount_tests::sidecar::binary_beside("remotemount-sidecar")?;
    let asked = tokio::process::Command::new(&sidecar).args(&arguments).output().await?;
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    // It can fail: a name that the mount does not cover.
    let wrong = arguments.iter().map(|argument| argument.replace("?metadata", "-not?metadata"));
    let asked = tokio::process::Command::new(&sidecar).args(wrong).output().await?;
    assert!(String::from_utf8_lossy(&asked.stderr).contains("404"), "{asked:?}");
    // And the other test's question.
    let ready = crate::stage::object(&rendered, "Pod", "remotemount-test-ready");
    let command = ready["spec"]["containers"][0]["command"].to_string();
    assert!(command.contains("--admin=[$(REMOTEMOUNT_OPERATOR_METRICS_SERVICE_HOST)]:8080"), "{command}");
    let (host, port) = replica.admin().split_once(':').context("an address")?;
    let admin = format!("--admin=[{host}]:{port}");
    let asked = tokio::process::Command::new(&sidecar).args(["probe", &admin, "--path=/readyz"]).output().await?;
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    drop(node);
    tokio::time::timeout(Duration::from_secs(60), replica.end()).await??;
    Ok(())
}
