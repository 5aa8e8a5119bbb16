//! `spec.remote`: which bucket of which provider, with its CEL rules beside the fields.
//!
//! A provider's fields are what makes a bucket that bucket; credentials are the mount's, not the
//! remote's. Rules and their Rust twins are as in [`crate::remote_mount`].
//!
//! What makes the objects that a mount shows (provider, bucket, prefix) cannot be changed later: a
//! sidecar would show, and delete, other objects under the old names. How they are reached (endpoint,
//! region, addressing, certificates) can, since a server may move.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Exactly one provider, and what holds for each of them.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.s3) ? 1 : 0) + (has(self.gcs) ? 1 : 0) + (has(self.azure) ? 1 : 0) == 1").message("remote must name exactly one of s3, gcs and azure"))]
#[x_kube(validation = Rule::new("self.timeoutSeconds >= 1 && self.timeoutSeconds <= 300").message("timeoutSeconds must be from 1 to 300"))]
#[x_kube(validation = Rule::new("has(self.s3) == has(oldSelf.s3) && has(self.gcs) == has(oldSelf.gcs) && has(self.azure) == has(oldSelf.azure)").message("remote cannot change its provider: create another RemoteMount with the new one and delete this one"))]
pub struct Remote {
    /// Amazon S3, or a server that speaks its API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Remote>,
    /// Google Cloud Storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcs: Option<GcsRemote>,
    /// Azure Blob Storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureRemote>,
    /// How long one question to the remote may take, retries included, in seconds; for a read, how long it may stay silent.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: i64,
}

impl Remote {
    /// The remote as a URI without secrets: what makes it this remote and no other.
    #[must_use]
    pub fn uri(&self) -> String {
        let prefix = |prefix: &str| match prefix {
            "" => String::new(),
            whole if whole.ends_with('/') => whole.to_owned(),
            part => format!("{part}/"),
        };
        if let Some(s3) = &self.s3 {
            let endpoint =
                s3.endpoint.as_deref().map(|endpoint| format!("?endpoint={}", endpoint.trim_end_matches('/')));
            return format!("s3://{}/{}{}", s3.bucket, prefix(&s3.prefix), endpoint.unwrap_or_default());
        }
        if let Some(gcs) = &self.gcs {
            return format!("gs://{}/{}", gcs.bucket, prefix(&gcs.prefix));
        }
        self.azure.as_ref().map_or_else(String::new, |azure| {
            format!("azure://{}/{}/{}", azure.account, azure.container, prefix(&azure.prefix))
        })
    }
}

/// A bucket of Amazon S3, or of a server that speaks its API.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct S3Remote {
    /// The bucket's name. It cannot be changed later.
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9][A-Za-z0-9._-]+$')").message("bucket must be a bucket name: letters, digits, '.', '_' and '-', two or more, no path"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("bucket cannot be changed: create another RemoteMount with the new bucket and delete this one"))]
    #[schemars(length(max = 255))]
    pub bucket: String,
    /// Keys below this prefix are mounted; a missing trailing slash is added. All keys when empty. It cannot be changed later.
    #[serde(default)]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.contains('//') && !self.matches('(^|/)[.][.]?(/|$)') && !self.matches('[\\\\x00]')").message("prefix must not begin with '/' nor hold '//', '.' or '..' segments: no path could name its keys"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("prefix cannot be changed: create another RemoteMount with the new prefix and delete this one"))]
    #[schemars(length(max = 900))]
    pub prefix: String,
    /// The server, as `http://` or `https://` URL without a path. Amazon's for the region when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^https?://([^/?#@:\\\\[\\\\][:space:]]+|\\\\[[0-9A-Fa-f:.]+\\\\])(:[1-9][0-9]{0,4})?/?$') && !self.matches(':(6553[6-9]|655[4-9][0-9]|65[6-9][0-9][0-9]|6[6-9][0-9]{3}|[7-9][0-9]{4})/?$')").message("endpoint must be a URL such as https://s3.example.com:9000: a host, a port from 1 to 65535 if any, no path, query or user"))]
    #[schemars(length(max = 512))]
    pub endpoint: Option<String>,
    /// The region that requests are signed for. From the environment of the pod when left out, else `us-east-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9._-]*$')").message("region must be a name such as eu-central-1: letters, digits, '.', '_' and '-'"))]
    #[schemars(length(max = 64))]
    pub region: Option<String>,
    /// Where the bucket's name goes: into the path, or before the host. `Path` where an endpoint is given, else `VirtualHost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addressing: Option<Addressing>,
    /// Certificates to trust besides the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<ConfigMapKeySource>,
}

/// A bucket of Google Cloud Storage.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GcsRemote {
    /// The bucket's name. It cannot be changed later.
    #[x_kube(validation = Rule::new("self == oldSelf").message("bucket cannot be changed: create another RemoteMount with the new bucket and delete this one"))]
    #[schemars(length(min = 3, max = 222))]
    pub bucket: String,
    /// Keys below this prefix are mounted. It cannot be changed later.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("prefix cannot be changed: create another RemoteMount with the new prefix and delete this one"))]
    #[schemars(length(max = 900))]
    pub prefix: String,
}

/// A container of Azure Blob Storage.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AzureRemote {
    /// The storage account. It cannot be changed later.
    #[x_kube(validation = Rule::new("self == oldSelf").message("account cannot be changed: create another RemoteMount with the new account and delete this one"))]
    #[schemars(length(min = 3, max = 24))]
    pub account: String,
    /// The container. It cannot be changed later.
    #[x_kube(validation = Rule::new("self == oldSelf").message("container cannot be changed: create another RemoteMount with the new container and delete this one"))]
    #[schemars(length(min = 3, max = 63))]
    pub container: String,
    /// Keys below this prefix are mounted. It cannot be changed later.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("prefix cannot be changed: create another RemoteMount with the new prefix and delete this one"))]
    #[schemars(length(max = 900))]
    pub prefix: String,
}

/// How a request names its bucket.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// `https://host/bucket/key`
    Path,
    /// `https://bucket.host/key`
    VirtualHost,
}

/// A value that stands in a ConfigMap.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeySource {
    /// Which ConfigMap of the same namespace, and which of its keys.
    pub config_map_key_ref: ConfigMapKey,
}

/// One key of one ConfigMap.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKey {
    /// The ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its key.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

const fn timeout_seconds() -> i64 {
    10
}
