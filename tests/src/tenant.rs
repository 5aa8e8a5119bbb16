//! A user's namespace: what a user does there by kubectl, and what a RemoteMount tells them.
//!
//! Owns how conditions and events are read and waited for. It goes to the API server by kubectl alone, as
//! its user would, and knows neither operator nor sidecar.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::control_plane::ControlPlane;
use crate::s3_server::{ACCESS_KEY, SECRET_KEY};

/// A wait that is over long before, unless something is wrong.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The label of a namespace that takes pods of the strictest Pod Security alone.
pub const RESTRICTED: (&str, &str) = ("pod-security.kubernetes.io/enforce", "restricted");

/// A namespace of a cluster.
#[derive(Debug)]
pub struct Tenant<'p> {
    plane: &'p ControlPlane,
    /// Its name.
    pub namespace: String,
}

impl<'p> Tenant<'p> {
    /// Makes the namespace, with those labels.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn create(plane: &'p ControlPlane, namespace: &str, labels: &[(&str, &str)]) -> Result<Self> {
        plane.create_namespace(namespace, labels).await?;
        Ok(Self { plane, namespace: namespace.to_owned() })
    }

    /// kubectl in the namespace; what it printed.
    ///
    /// # Errors
    /// It fails.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.plane.kubectl(&[&["-n", &self.namespace], arguments].concat()).await?.success()
    }

    /// Applies manifests.
    ///
    /// # Errors
    /// One of them is refused.
    pub async fn apply(&self, yaml: &str) -> Result<()> {
        let said = self.plane.kubectl_with(&["-n", &self.namespace, "apply", "-f", "-"], yaml).await?;
        said.success().map(drop)
    }

    /// Writes a Secret of that name with an access key and what is said to be its secret.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn secret(&self, name: &str, secret_key: &str) -> Result<()> {
        let data = format!("{{AWS_ACCESS_KEY_ID: {ACCESS_KEY}, AWS_SECRET_ACCESS_KEY: {secret_key}}}");
        self.apply(&format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {data}\n")).await
    }

    /// The Secret `s3-creds`, which the mounts of [`manifest`] name.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn credentials(&self) -> Result<()> {
        self.secret("s3-creds", SECRET_KEY).await
    }

    /// A RemoteMount as it is.
    ///
    /// # Errors
    /// There is none.
    pub async fn get(&self, mount: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.kubectl(&["get", "rmt", mount, "-o", "json"]).await?)?)
    }

    /// A condition, as `status/reason`; empty when it is not there.
    ///
    /// # Errors
    /// There is no such mount.
    pub async fn condition(&self, mount: &str, condition: &str) -> Result<String> {
        Ok(condition_of(&self.get(mount).await?, condition))
    }

    /// Until the condition is as `wanted`.
    ///
    /// # Errors
    /// It is not within a minute; the status is in the error.
    pub async fn wait(&self, mount: &str, condition: &str, wanted: &str) -> Result<Value> {
        self.until(mount, &format!("{condition} is not {wanted}"), |object| condition_of(object, condition) == wanted)
            .await
    }

    /// Until it holds of the RemoteMount; `not` says what to complain of.
    ///
    /// # Errors
    /// It does not within a minute; the status is in the error.
    pub async fn until(&self, mount: &str, not: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let object = self.get(mount).await?;
            if holds(&object) {
                return Ok(object);
            }
            if Instant::now() >= deadline {
                bail!("{mount}: {not}: {:#}", object["status"]);
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// The reasons of the events of a mount, oldest first.
    ///
    /// # Errors
    /// They cannot be listed.
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

/// A mount of a bucket at `/<name>`, with the Secret `s3-creds`; `more` is further spec, each line indented by two.
#[must_use]
pub fn manifest(name: &str, bucket: &str, endpoint: &str, more: &str) -> String {
    format!(
        "apiVersion: remotemount.dev/v1alpha1\nkind: RemoteMount\nmetadata: {{name: {name}}}\nspec:\n  path: /{name}\n  remote: {{timeoutSeconds: 3, s3: {{bucket: {bucket}, endpoint: '{endpoint}'}}}}\n  credentials: {{secretRef: {{name: s3-creds}}}}\n{more}"
    )
}

/// A condition of a RemoteMount, as `status/reason`; empty when it is not there.
#[must_use]
pub fn condition_of(object: &Value, condition: &str) -> String {
    let all = object["status"]["conditions"].as_array().into_iter().flatten();
    let found = all.into_iter().find(|found| found["type"] == condition);
    found.map_or_else(String::new, |found| {
        format!("{}/{}", found["status"].as_str().unwrap_or_default(), found["reason"].as_str().unwrap_or_default())
    })
}
