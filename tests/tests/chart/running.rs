//! The operator with what the chart gives it: the arguments of its Deployment, its ServiceAccount, its roles.
//!
//! Only what a node would do is done here: addresses are on loopback, and a Secret's volume is a folder.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use remotemount_tests::control_plane::Controllers;
use remotemount_tests::operator::NAMESPACE;
use remotemount_tests::process::{Process, free_port};
use remotemount_tests::sidecar::binary_beside;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stage::{Cluster, chart, id, items, object, objects, render};

const LIMIT: Duration = Duration::from_secs(60);
const MOUNT: &str = "apiVersion: remotemount.dev/v1alpha1\nkind: RemoteMount\nmetadata: {name: m}\nspec:\n  path: /m\n  remote: {s3: {bucket: data}}\n";
const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: app, labels: {remotemount.dev/inject: 'true'}}\nspec:\n  containers: [{name: app, image: app}]\n";

/// A replica of the operator that the chart has installed.
pub struct Replica {
    process: Process,
    user: String,
    admin: String,
    // Declared last: the process is gone before its folder goes.
    _folder: TempDir,
}

impl Replica {
    /// Starts one, which the API server reaches by no address: pods are not asked about.
    pub async fn start(cluster: &Cluster, more: &[String]) -> Result<Self> {
        Self::launch(cluster, more, false).await
    }

    /// Starts one that the API server asks about pods.
    pub async fn start_reachable(cluster: &Cluster, more: &[String]) -> Result<Self> {
        Self::launch(cluster, more, true).await
    }

    async fn launch(cluster: &Cluster, more: &[String], reachable: bool) -> Result<Self> {
        let deployment = cluster.get(&["-n", NAMESPACE, "deployment", "remotemount-operator"]).await?;
        let pod = &deployment["spec"]["template"]["spec"];
        let account = pod["serviceAccountName"].as_str().context("a ServiceAccount")?;
        let folder = TempDir::with_prefix("remotemount-replica-")?;
        let local = |port: u16| format!("127.0.0.1:{port}");
        let (webhook, control, admin) = (local(free_port()?), local(free_port()?), local(free_port()?));
        let mut arguments = Vec::new();
        for argument in pod["containers"][0]["args"].as_array().context("arguments")? {
            let argument = argument.as_str().context("a word")?;
            let (flag, _) = argument.split_once('=').unwrap_or((argument, ""));
            arguments.push(match flag {
                "--webhook" => format!("{flag}={webhook}"),
                "--control" => format!("{flag}={control}"),
                "--admin" => format!("{flag}={admin}"),
                "--tls-dir" => format!("{flag}={}", tls(cluster, pod, &folder).await?),
                _ => argument.to_owned(),
            });
        }
        arguments.push(format!("--control-url=https://{control}"));
        if reachable {
            arguments.push(format!("--webhook-url=https://{webhook}/inject"));
        }
        arguments.extend(more.iter().cloned());
        let mut command = Command::new(binary_beside("remotemount-operator")?);
        command.args(arguments).env("KUBECONFIG", cluster.plane.kubeconfig_of(NAMESPACE, account).await?);
        let process = Process::spawn(&command, &folder.path().join("operator.log"))?;
        let user = format!("system:serviceaccount:{NAMESPACE}:{account}");
        let mut replica = Self { process, user, admin, _folder: folder };
        replica.wait_ready().await?;
        Ok(replica)
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?;
        let url = format!("http://{}/readyz", self.admin);
        let ready = async {
            loop {
                if let Some(status) = self.process.try_wait()? {
                    bail!("the operator ended with {status}:\n{}", self.process.log_tail());
                }
                if client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        match tokio::time::timeout(LIMIT, ready).await {
            Ok(ready) => ready,
            Err(_) => bail!("the operator is not ready:\n{}", self.process.log_tail()),
        }
    }

    /// Where `/metrics`, `/healthz` and `/readyz` are.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// Until the operator has looked after the mount.
    pub async fn wait_for_mount(&mut self, cluster: &Cluster, namespace: &str, name: &str) -> Result<()> {
        let mount = format!("rmt/{name}");
        let ready = ["wait", "-n", namespace, "--for=condition=Ready", &mount, "--timeout=60s"];
        let waited = cluster.plane.kubectl(&ready).await?.success();
        waited.map(drop).with_context(|| self.process.log_tail())
    }

    /// Until an object is gone.
    pub async fn until_gone(&mut self, cluster: &Cluster, namespace: &str, kind: &str, name: &str) -> Result<()> {
        let gone = async {
            while cluster.plane.kubectl(&["get", "-n", namespace, kind, name]).await?.status.success() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(LIMIT, gone).await.with_context(|| format!("{kind} {name} is still there"))?
    }

    /// Ends it as a kubelet does.
    pub async fn end(&mut self) -> Result<()> {
        let status = self.process.terminate(LIMIT).await?;
        anyhow::ensure!(status.success(), "it ended with {status}:\n{}", self.process.log_tail());
        Ok(())
    }

    /// That the chart's roles were enough so far.
    pub fn assert_allowed(&self, cluster: &Cluster) -> Result<()> {
        let requests = cluster.plane.requests()?;
        let own = requests.iter().filter(|request| request.user == self.user);
        let refused: Vec<_> = own.clone().filter(|request| request.is_forbidden()).collect();
        assert!(refused.is_empty(), "{refused:#?}");
        assert!(own.count() > 5, "it asked as {}", self.user);
        Ok(())
    }
}

/// The volume of the Secret with the certificate, as a folder.
async fn tls(cluster: &Cluster, pod: &Value, folder: &TempDir) -> Result<String> {
    let volumes = pod["volumes"].as_array().context("volumes")?;
    let volume = volumes.iter().find(|volume| volume["name"] == "tls").context("a volume tls")?;
    let secret = volume["secret"]["secretName"].as_str().context("a Secret")?;
    let secret = cluster.get(&["-n", NAMESPACE, "secret", secret]).await?;
    let directory = folder.path().join("tls");
    std::fs::create_dir(&directory)?;
    for (name, content) in secret["data"].as_object().context("data")? {
        let content = data_encoding::BASE64.decode(content.as_str().context("base64")?.as_bytes())?;
        std::fs::write(directory.join(name), content)?;
    }
    Ok(directory.to_str().context("a path")?.to_owned())
}

async fn apply(cluster: &Cluster, namespace: &str, yaml: &str) -> Result<String> {
    cluster.plane.kubectl_with(&["apply", "-n", namespace, "-f", "-"], yaml).await?.success()
}

async fn sidecars(cluster: &Cluster, namespace: &str) -> Result<usize> {
    let pod = cluster.get(&["-n", namespace, "pod", "app"]).await?;
    Ok(pod["spec"]["initContainers"].as_array().map_or(0, Vec::len))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_runs_with_the_rights_and_arguments_of_the_chart() -> Result<()> {
    let cluster = Cluster::start(Controllers::None).await?;
    let extra = [
        "--set",
        "extraArgs={--drain-seconds=3}",
        "--set",
        "image.tag=edge,sidecar.image.registry=r.example.com,sidecar.metrics.enabled=true",
    ];
    cluster.release("install", &chart(), &extra).await?;
    let mut replica = Replica::start_reachable(&cluster, &[]).await?;
    apply(&cluster, "default", MOUNT).await?;
    replica.wait_for_mount(&cluster, "default", "m").await?;
    apply(&cluster, "default", POD).await?;
    let pod = cluster.get(&["-n", "default", "pod", "app"]).await?;
    assert_eq!(pod["spec"]["initContainers"][0]["image"], "r.example.com/remotemount-sidecar:0.1.0");
    // A PodMonitor finds the port that a sidecar has.
    let monitored = json!({"sidecar": {"metrics": {"enabled": true}}, "metrics": {"podMonitor": {"enabled": true}}});
    let rendered = objects(&render(&cluster.helm, &monitored).await?);
    let monitor = object(&rendered, "PodMonitor", "remotemount-sidecars");
    assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["port"], pod["spec"]["initContainers"][0]["ports"][0]["name"]);
    // Nothing in its own namespace asks it, whatever its label.
    let own = POD.replace("name: app, labels", "name: own, labels");
    let said =
        cluster.plane.kubectl_with(&["create", "--dry-run=server", "-n", NAMESPACE, "-f", "-", "-o", "json"], &own);
    let said = said.await?;
    // The namespace enforces the restricted level; that is who refuses it.
    assert!(said.failure()?.contains("violates PodSecurity"));
    replica.assert_allowed(&cluster)?;
    replica.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_named_namespaces_it_has_rights_there_alone() -> Result<()> {
    let cluster = Cluster::start(Controllers::None).await?;
    for namespace in ["one", "two", "three"] {
        cluster.plane.create_namespace(namespace, &[]).await?;
    }
    cluster.release("install", &chart(), &["--set", "watchNamespaces={one,two}"]).await?;
    let mut replica = Replica::start_reachable(&cluster, &[]).await?;
    for namespace in ["one", "two"] {
        apply(&cluster, namespace, MOUNT).await?;
        replica.wait_for_mount(&cluster, namespace, "m").await?;
        apply(&cluster, namespace, POD).await?;
        assert_eq!(sidecars(&cluster, namespace).await?, 1);
    }
    // Elsewhere nobody is asked, and a mount is nobody's.
    apply(&cluster, "three", MOUNT).await?;
    apply(&cluster, "three", POD).await?;
    assert_eq!(sidecars(&cluster, "three").await?, 0);
    assert!(cluster.get(&["-n", "three", "rmt", "m"]).await?["status"].is_null());
    let account = format!("--as={}", replica.user);
    let may = cluster.plane.kubectl(&["auth", "can-i", "list", "configmaps", "-n", "three", &account]).await?;
    assert_eq!(may.stdout.trim(), "no");
    replica.assert_allowed(&cluster)?;

    // One namespace fewer, and then all of them.
    replica.end().await?;
    cluster
        .plane
        .kubectl(&["patch", "mutatingwebhookconfiguration", "remotemount", "--type=json", "-p", &by_service()])
        .await?
        .success()?;
    cluster.release("upgrade", &chart(), &["--set", "watchNamespaces={one}"]).await?;
    let roles = cluster.get(&["-A", "role"]).await?;
    let roles: Vec<String> = items(&roles).iter().map(id).collect();
    assert_eq!(roles.iter().filter(|role| role.starts_with("Role two/")).count(), 0, "{roles:?}");
    cluster.release("upgrade", &chart(), &["--reset-values"]).await?;
    let mut replica = Replica::start(&cluster, &[]).await?;
    replica.wait_for_mount(&cluster, "three", "m").await?;
    replica.assert_allowed(&cluster)?;
    replica.end().await
}

/// Whoever renders and applies, without Helm, applies the hooks too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_that_are_applied_like_the_rest_do_no_harm() -> Result<()> {
    let cluster = Cluster::start(Controllers::None).await?;
    cluster.plane.install_crd().await?;
    let file = cluster.plane.folder().join("rendered.yaml");
    let rendered = render(&cluster.helm, &json!({"tests": {"enabled": false}})).await?;
    assert!(objects(&rendered).iter().any(|object| object["metadata"]["name"] == "remotemount-ca"), "{rendered}");
    std::fs::write(&file, rendered)?;
    let file = file.to_str().context("a path")?;
    cluster.plane.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", file]).await?.success()?;
    let mut first = Replica::start(&cluster, &[]).await?;
    let second = Replica::start(&cluster, &[]).await?;
    apply(&cluster, "default", MOUNT).await?;
    first.wait_for_mount(&cluster, "default", "m").await?;
    let written = cluster.get(&["-n", NAMESPACE, "secret", "remotemount-ca"]).await?["data"].clone();
    assert!(written.is_object(), "{written}");
    // And once more, as one does who keeps it all in git.
    cluster.plane.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", file]).await?.success()?;
    let standing = cluster.get(&["-n", NAMESPACE, "secret", "remotemount-ca"]).await?["data"].clone();
    assert_eq!(standing, written);
    second.assert_allowed(&cluster)?;
    first.end().await
}

/// The webhook's address as the chart has it, in place of the URL that an operator outside the cluster has written.
fn by_service() -> String {
    let client = "/webhooks/0/clientConfig";
    let service = json!({"namespace": NAMESPACE, "name": "remotemount-operator", "path": "/inject", "port": 443});
    json!([{"op": "remove", "path": format!("{client}/url")}, {"op": "add", "path": format!("{client}/service"), "value": service}]).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_secret_of_ones_own_it_serves_that() -> Result<()> {
    let cluster = Cluster::start(Controllers::None).await?;
    let folder = tempfile::tempdir()?;
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(authority, rcgen::KeyPair::generate()?)?;
    let key = rcgen::KeyPair::generate()?;
    let names = ["127.0.0.1".to_owned(), format!("remotemount-operator.{NAMESPACE}.svc")];
    let leaf = rcgen::CertificateParams::new(names)?.signed_by(&key, &authority)?;
    let files = [("tls.crt", leaf.pem()), ("tls.key", key.serialize_pem()), ("ca.crt", authority.as_ref().pem())];
    for (name, content) in &files {
        std::fs::write(folder.path().join(name), content)?;
    }
    let from = format!("--from-file={}", folder.path().display());
    cluster.plane.kubectl(&["create", "secret", "generic", "own-tls", "-n", NAMESPACE, &from]).await?.success()?;
    cluster.release("install", &chart(), &["--set", "webhook.existingSecret=own-tls"]).await?;
    let mut replica = Replica::start_reachable(&cluster, &[]).await?;
    apply(&cluster, "default", MOUNT).await?;
    replica.wait_for_mount(&cluster, "default", "m").await?;
    // The API server trusts it, by the bundle that the operator published of ca.crt.
    apply(&cluster, "default", POD).await?;
    assert_eq!(sidecars(&cluster, "default").await?, 1);
    let webhook = cluster.get(&["mutatingwebhookconfiguration", "remotemount"]).await?;
    let bundle = webhook["webhooks"][0]["clientConfig"]["caBundle"].as_str().context("a bundle")?;
    assert_eq!(data_encoding::BASE64.decode(bundle.as_bytes())?, files[2].1.as_bytes());
    let secrets = cluster.get(&["-n", NAMESPACE, "secret"]).await?;
    let secrets: Vec<String> = items(&secrets).iter().map(id).collect();
    assert!(!secrets.iter().any(|secret| secret.ends_with("/remotemount-ca")), "{secrets:?}");
    replica.assert_allowed(&cluster)?;
    replica.end().await?;

    // Uninstalling leaves the user's Secret alone.
    cluster
        .plane
        .kubectl(&["patch", "mutatingwebhookconfiguration", "remotemount", "--type=json", "-p", &by_service()])
        .await?
        .success()?;
    cluster.helm.run(&["uninstall", "remotemount", "-n", NAMESPACE]).await?.success()?;
    cluster.plane.kubectl(&["get", "secret", "own-tls", "-n", NAMESPACE]).await?.success()?;
    Ok(())
}
