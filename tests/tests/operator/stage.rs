//! What every scenario stands on: a cluster with an operator, a bucket behind a proxy, a namespace.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use remotemount_tests::bucket::Bucket;
use remotemount_tests::control_plane::{ControlPlane, Controllers};
use remotemount_tests::operator::{self, Operator};
use remotemount_tests::proxy::Proxy;
use remotemount_tests::s3_server::{ACCESS_KEY, Kind, S3Server, SECRET_KEY};
use remotemount_tests::stand_in::StandIn;
use serde_json::Value;
use tokio::sync::{Mutex, OnceCell};

/// A wait that is over long before, unless something is wrong.
const LIMIT: Duration = Duration::from_secs(60);

/// A control plane with an operator on it.
pub struct Cluster {
    pub plane: ControlPlane,
    pub operator: Mutex<Operator>,
}

/// A namespace of a cluster, and a bucket behind a proxy.
pub struct Stage<'c> {
    pub cluster: &'c Cluster,
    pub namespace: String,
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
        self.plane.create_namespace(name, &[("pod-security.kubernetes.io/enforce", "restricted")]).await?;
        let secret = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: s3-creds}}\nstringData: {{AWS_ACCESS_KEY_ID: {ACCESS_KEY}, AWS_SECRET_ACCESS_KEY: {SECRET_KEY}}}\n"
        );
        let stage = Stage {
            cluster: self,
            namespace: name.to_owned(),
            bucket: Bucket::create(&endpoint, name).await?,
            proxy: Proxy::start(&endpoint).await?,
        };
        stage.apply(&secret).await?;
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
        format!(
            "apiVersion: remotemount.dev/v1alpha1\nkind: RemoteMount\nmetadata: {{name: {name}}}\nspec:\n  path: /{name}\n  remote: {{timeoutSeconds: 3, s3: {{bucket: {bucket}, endpoint: '{}'}}}}\n  credentials: {{secretRef: {{name: s3-creds}}}}\n{more}",
            self.proxy.endpoint()
        )
    }

    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.plane.kubectl(&[&["-n", &self.namespace], arguments].concat()).await?.success()
    }

    pub async fn apply(&self, yaml: &str) -> Result<()> {
        let said = self.cluster.plane.kubectl_with(&["-n", &self.namespace, "apply", "-f", "-"], yaml).await?;
        said.success().map(drop)
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

    pub async fn get(&self, mount: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.kubectl(&["get", "rmt", mount, "-o", "json"]).await?)?)
    }

    /// A condition, as `status/reason`; empty when it is not there.
    pub async fn condition(&self, mount: &str, condition: &str) -> Result<String> {
        let object = self.get(mount).await?;
        Ok(condition_of(&object, condition))
    }

    /// Until the condition is as `wanted`.
    pub async fn wait(&self, mount: &str, condition: &str, wanted: &str) -> Result<Value> {
        let wait = async {
            loop {
                let object = self.get(mount).await?;
                if condition_of(&object, condition) == wanted {
                    return anyhow::Ok(object);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        match tokio::time::timeout(LIMIT, wait).await {
            Ok(object) => object,
            Err(_) => {
                let log = self.cluster.operator.lock().await.log();
                let tail: Vec<_> = log.lines().rev().take(30).collect();
                bail!("{mount}: {condition} is not {wanted}: {}\n{}", self.get(mount).await?["status"], tail.join("\n"))
            }
        }
    }

    /// The reasons of the events of a mount, oldest first.
    pub async fn events(&self, mount: &str) -> Result<Vec<String>> {
        let list: Value = serde_json::from_str(&self.kubectl(&["get", "events.events.k8s.io", "-o", "json"]).await?)?;
        let mut events: Vec<(String, String)> = Vec::new();
        for event in list["items"].as_array().context("a list")? {
            if event["regarding"]["name"] == mount {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                events.push((text(&event["eventTime"]), text(&event["reason"])));
            }
        }
        events.sort();
        Ok(events.into_iter().map(|(_, reason)| reason).collect())
    }
}

fn condition_of(object: &Value, condition: &str) -> String {
    let all = object["status"]["conditions"].as_array().into_iter().flatten();
    let found = all.into_iter().find(|found| found["type"] == condition);
    found.map_or_else(String::new, |found| {
        format!("{}/{}", found["status"].as_str().unwrap_or_default(), found["reason"].as_str().unwrap_or_default())
    })
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
