//! What every scenario stands on: a cluster with an operator, a bucket behind a proxy, a namespace.

use std::ops::Deref;
use std::time::Duration;

use anyhow::{Context as _, Result};
use remotemount_tests::bucket::Bucket;
use remotemount_tests::control_plane::{ControlPlane, Controllers};
use remotemount_tests::operator::{self, Operator};
use remotemount_tests::proxy::Proxy;
use remotemount_tests::s3_server::{Kind, S3Server};
use remotemount_tests::stand_in::StandIn;
use remotemount_tests::tenant::{self, LIMIT, RESTRICTED, Tenant};
use serde_json::Value;
use tokio::sync::{Mutex, OnceCell};

/// A control plane with an operator on it.
pub struct Cluster {
    pub plane: ControlPlane,
    pub operator: Mutex<Operator>,
}

/// A namespace of a cluster, and a bucket behind a proxy.
pub struct Stage<'c> {
    pub cluster: &'c Cluster,
    tenant: Tenant<'c>,
    pub bucket: Bucket,
    pub proxy: Proxy,
}

impl Cluster {
    /// One of the caller's own.
    pub async fn start(controllers: Controllers, arguments: &[&str]) -> Result<Self> {
        let plane = ControlPlane::start(controllers).await?;
        plane.install_crd().await?;
        operator::install(&plane).await?;
        let operator = Mutex::new(Operator::start(&plane, arguments).await?);
        Ok(Self { plane, operator })
    }

    /// The one that most scenarios share.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        SHARED.get_or_try_init(|| Self::start(Controllers::None, &["--log", "info,remotemount_operator=debug"])).await
    }

    /// A namespace that enforces the strictest Pod Security, with the Secret `s3-creds`, and a bucket of that name.
    pub async fn stage(&self, name: &str) -> Result<Stage<'_>> {
        static SERVER: OnceCell<(S3Server, tempfile::TempDir)> = OnceCell::const_new();
        let server = SERVER
            .get_or_try_init(|| async {
                let folder = tempfile::tempdir()?;
                anyhow::Ok((S3Server::start(Kind::Weed, folder.path()).await?, folder))
            })
            .await?;
        let endpoint = server.0.endpoint();
        let stage = Stage {
            cluster: self,
            tenant: Tenant::create(&self.plane, name, &[RESTRICTED]).await?,
            bucket: Bucket::create(&endpoint, name).await?,
            proxy: Proxy::start(&endpoint).await?,
        };
        stage.credentials().await?;
        Ok(stage)
    }
}

impl Stage<'_> {
    /// A mount of the bucket at `/m`; `more` is further spec, each line indented by two.
    pub fn mount(&self, name: &str, more: &str) -> String {
        self.mount_of(name, &self.namespace, more)
    }

    /// A mount of the bucket `bucket` at `/<name>`.
    pub fn mount_of(&self, name: &str, bucket: &str, more: &str) -> String {
        tenant::manifest(name, bucket, &self.proxy.endpoint(), more)
    }

    /// A pod that asks for its mounts, in the way that the strictest Pod Security takes.
    pub async fn pod(&self, name: &str) -> Result<()> {
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{remotemount.dev/inject: 'true'}}}}\nspec:\n  securityContext: {{runAsNonRoot: true, runAsUser: 1000, seccompProfile: {{type: RuntimeDefault}}}}\n  containers:\n  - {{name: app, image: app, securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}}}\n"
        );
        self.apply(&pod).await
    }

    /// A pod, and its sidecar as a process.
    pub async fn node(&self, pod: &str) -> Result<StandIn> {
        self.pod(pod).await?;
        StandIn::run(&self.cluster.plane, &self.namespace, pod).await
    }

    /// Until the condition is as `wanted`.
    pub async fn wait(&self, mount: &str, condition: &str, wanted: &str) -> Result<Value> {
        match self.tenant.wait(mount, condition, wanted).await {
            Ok(object) => Ok(object),
            Err(error) => {
                let log = self.cluster.operator.lock().await.log();
                let tail: Vec<_> = log.lines().rev().take(30).collect();
                Err(error.context(tail.join("\n")))
            }
        }
    }
}

impl<'c> Deref for Stage<'c> {
    type Target = Tenant<'c>;

    fn deref(&self) -> &Tenant<'c> {
        &self.tenant
    }
}

/// Until it holds.
pub async fn until(what: &str, holds: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let wait = async {
        while !holds().await? {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(LIMIT, wait).await.with_context(|| format!("{what}: not so after {LIMIT:?}"))?
}

/// A client that never waits for ever.
pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap()
}
