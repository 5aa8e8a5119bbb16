//! What the scenarios stand on: the chart installed by Helm on a node, from the images of `make images`, and an S3
//! server that pods reach; and for each scenario a user's namespace with a bucket.

use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use remotemount_tests::bucket::Bucket;
use remotemount_tests::helm::{self, Helm};
use remotemount_tests::node::{ADDRESS, Node, WORKLOAD};
use remotemount_tests::operator::NAMESPACE;
use remotemount_tests::s3_server::{Kind, S3Server};
use remotemount_tests::tenant::{self, RESTRICTED, Tenant};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// The release.
const RELEASE: &str = "remotemount";

/// A node with RemoteMount on it.
pub struct Installed {
    pub node: &'static Node,
    pub helm: Helm,
    server: S3Server,
    _folder: tempfile::TempDir,
}

/// A user's namespace there, and a bucket of its name.
pub struct Stage {
    pub installed: &'static Installed,
    tenant: Tenant<'static>,
    pub bucket: Bucket,
}

impl Installed {
    /// The one that the scenarios share.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Installed> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    async fn start() -> Result<Self> {
        let node = Node::shared().await?;
        for program in ["operator", "sidecar"] {
            let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../dist/{program}.tar"));
            node.import(&archive).await.with_context(|| format!("{}: run make images", archive.display()))?;
        }
        let folder = tempfile::tempdir()?;
        let server = S3Server::start_at(ADDRESS, Kind::Weed, folder.path()).await?;
        node.plane().create_namespace(NAMESPACE, &[RESTRICTED]).await?;
        let helm = Helm::new(Some(node.plane().kubeconfig()))?;
        let installed = Self { node, helm, server, _folder: folder };
        let chart = helm::chart();
        let chart = chart.to_str().context("the chart's path is not text")?;
        installed.helm(&["install", RELEASE, chart, "--wait", "--timeout", "3m"]).await?;
        installed.routed().await?;
        Ok(installed)
    }

    /// Until the webhook's Service leads somewhere: kube-proxy hears of ready pods after Helm may have.
    async fn routed(&self) -> Result<()> {
        let metadata = json!({
            "name": "nobody",
            "labels": {"remotemount.dev/inject": "true"},
            "annotations": {"remotemount.dev/mounts": "nowhere"},
        });
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec(&["true"])}).to_string();
        let deadline = Instant::now() + tenant::LIMIT;
        loop {
            let asked = ["create", "-n", "default", "--dry-run=server", "-f", "-"];
            let said = self.node.plane().kubectl_with(&asked, &pod).await?.stderr;
            if said.contains("no RemoteMount nowhere") {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the webhook does not answer: {said}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Runs Helm in the operator's namespace.
    pub async fn helm(&self, arguments: &[&str]) -> Result<String> {
        let said = self.helm.run(&[arguments, &["-n", NAMESPACE]].concat()).await?;
        match said.success() {
            Ok(text) => Ok(text),
            Err(error) => {
                let pods = self.node.plane().kubectl(&["describe", "pods", "-n", NAMESPACE]).await?.stdout;
                Err(error.context(pods))
            }
        }
    }

    /// A namespace with the Secret `s3-creds` and a bucket of the same name, for pods of the strictest Pod Security alone.
    pub async fn stage(&'static self, name: &str) -> Result<Stage> {
        let tenant = Tenant::create(self.node.plane(), name, &[RESTRICTED]).await?;
        tenant.credentials().await?;
        let bucket = Bucket::create(&self.server.endpoint(), name).await?;
        Ok(Stage { installed: self, tenant, bucket })
    }
}

impl Deref for Stage {
    type Target = Tenant<'static>;

    fn deref(&self) -> &Tenant<'static> {
        &self.tenant
    }
}

impl Stage {
    /// A mount of the bucket at `/<name>`; `more` is further spec, each line indented by two.
    pub async fn mount(&self, name: &str, more: &str) -> Result<()> {
        self.apply(&tenant::manifest(name, &self.namespace, &self.installed.server.endpoint(), more)).await
    }

    /// A pod with nothing of ours but the label.
    pub async fn pod(&self, name: &str, command: &[&str]) -> Result<()> {
        let metadata = json!({"name": name, "labels": {"app": name, "remotemount.dev/inject": "true"}});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec(command)});
        self.apply(&pod.to_string()).await
    }

    /// The pods of an app, in order of their names.
    pub async fn pods(&self, app: &str) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.installed.node.plane().client().await?, &self.namespace);
        let mut found = pods.list(&ListParams::default().labels(&format!("app={app}"))).await?.items;
        found.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
        Ok(found)
    }

    /// Runs a shell command in the app's container.
    pub async fn sh(&self, pod: &str, command: &str) -> Result<String> {
        self.installed.node.exec(&self.namespace, pod, "app", &["sh", "-c", command]).await
    }

    /// What the app reads of its mounts by HTTP, at a path.
    pub async fn read(&self, pod: &str, path: &str) -> Result<String> {
        self.sh(pod, &format!("curl -sSf -m 20 \"$REMOTEMOUNT_URL{path}\"")).await
    }
}

/// A pod's spec that runs at the strictest level, as its owner would write it: nothing of ours is in it.
pub fn spec(command: &[&str]) -> Value {
    json!({
        "terminationGracePeriodSeconds": 2,
        "automountServiceAccountToken": false,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "app",
            "image": WORKLOAD,
            "command": command,
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        }],
    })
}
