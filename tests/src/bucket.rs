//! A bucket the test fills, reads and empties.
//!
//! Owns the SDK client as the tests use it: static credentials, path style, plain HTTP, and no
//! checksums beyond those S3 demands, so that every server understands it. What a test does through
//! it is what some other writer does to the bucket; the sidecar is never asked.
//!
//! Never goes through the counting proxy unless its endpoint is the one given.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use aws_credential_types::Credentials;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::{Client, config};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::s3_server::{ACCESS_KEY, PLAIN_ACCESS_KEY, PLAIN_SECRET_KEY, SECRET_KEY};

/// How many objects [`Bucket::put_many`] sends at a time.
const IN_FLIGHT: usize = 32;

/// A bucket and the client to reach it with.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// The client, for what the methods do not cover.
    pub client: Client,
    /// The bucket's name.
    pub name: String,
}

/// A client of the server at `endpoint`, with the credentials of the test servers.
pub fn client(endpoint: &str) -> Client {
    Client::from_conf(configuration(endpoint).build())
}

/// The same client, which gives up at the first failure and after five seconds.
pub(crate) fn client_without_retries(endpoint: &str) -> Client {
    Client::from_conf(
        configuration(endpoint)
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().operation_timeout(Duration::from_secs(5)).build())
            .build(),
    )
}

fn configuration(endpoint: &str) -> config::Builder {
    config::Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(credentials(ACCESS_KEY, SECRET_KEY))
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
}

fn credentials(access: &str, secret: &str) -> Credentials {
    Credentials::new(access, secret, None, None, "remotemount-tests")
}

impl Bucket {
    /// Makes the bucket on the server at `endpoint`; one that is there already is taken as it is.
    pub async fn create(endpoint: &str, name: &str) -> Result<Bucket> {
        if name.len() < 3 {
            bail!("a bucket name has at least 3 characters: {name:?}");
        }
        let bucket = Bucket::open(endpoint, name);
        let created = bucket.client.create_bucket().bucket(name).send().await;
        if let Err(error) = created {
            let ours = error.as_service_error().is_some_and(|error| error.is_bucket_already_owned_by_you());
            if !ours {
                return Err(error).with_context(|| format!("making the bucket {name}"));
            }
        }
        Ok(bucket)
    }

    /// The bucket, without asking whether it is there.
    pub fn open(endpoint: &str, name: &str) -> Bucket {
        Bucket { client: client(endpoint), name: name.to_owned() }
    }

    /// The same bucket, used by someone whom its policies bind.
    pub fn plain(endpoint: &str, name: &str) -> Bucket {
        let credentials = credentials(PLAIN_ACCESS_KEY, PLAIN_SECRET_KEY);
        let client = Client::from_conf(configuration(endpoint).credentials_provider(credentials).build());
        Bucket { client, name: name.to_owned() }
    }

    /// Puts an object and returns its ETag as the server gave it, quotes and all.
    pub async fn put(&self, key: &str, body: impl Into<Bytes>, content_type: Option<&str>) -> Result<String> {
        let put = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(key)
            .body(ByteStream::from(body.into()))
            .set_content_type(content_type.map(str::to_owned))
            .send()
            .await
            .with_context(|| format!("putting {key:?}"))?;
        Ok(put.e_tag.unwrap_or_default())
    }

    /// Puts many objects, 32 at a time, and returns how many.
    pub async fn put_many<K, B>(&self, objects: impl IntoIterator<Item = (K, B)>) -> Result<usize>
    where
        K: Into<String>,
        B: Into<Bytes>,
    {
        stream::iter(objects)
            .map(|(key, body)| {
                let (key, body) = (key.into(), body.into());
                async move { self.put(&key, body, None).await }
            })
            .buffer_unordered(IN_FLIGHT)
            .try_fold(0, |count, _| async move { Ok(count + 1) })
            .await
    }

    /// Deletes an object; one that is not there is no error.
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.client
            .delete_object()
            .bucket(&self.name)
            .key(key)
            .send()
            .await
            .with_context(|| format!("deleting {key:?}"))?;
        Ok(())
    }

    /// Has the server refuse to delete this key (in which `*` and `?` stand for others), one by one and
    /// in bulk, by a bucket policy; the policy before is replaced. moto and weed obey, weed only
    /// towards the plain credentials.
    pub async fn deny_delete(&self, key: &str) -> Result<()> {
        let policy = serde_json::json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:DeleteObject",
            "Resource": format!("arn:aws:s3:::{}/{key}", self.name),
        }]});
        let put = self.client.put_bucket_policy().bucket(&self.name).policy(policy.to_string());
        put.send().await.with_context(|| format!("denying the deletion of {key:?}"))?;
        Ok(())
    }

    /// Takes back what [`Bucket::deny_delete`] has denied.
    pub async fn allow_deletes(&self) -> Result<()> {
        let deleted = self.client.delete_bucket_policy().bucket(&self.name).send().await;
        deleted.context("deleting the bucket policy")?;
        Ok(())
    }

    /// What the server says of an object; `None` if there is none.
    pub async fn head(&self, key: &str) -> Result<Option<HeadObjectOutput>> {
        let head = self.client.head_object().bucket(&self.name).key(key).send().await;
        match head {
            Ok(head) => Ok(Some(head)),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_not_found()) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("asking for {key:?}")),
        }
    }

    /// An object's ETag, quotes and all; an error if there is no such object.
    pub async fn etag(&self, key: &str) -> Result<String> {
        self.head(key)
            .await?
            .with_context(|| format!("there is no {key:?}"))?
            .e_tag
            .with_context(|| format!("{key:?} has no ETag"))
    }

    /// An object's bytes.
    pub async fn get(&self, key: &str) -> Result<Bytes> {
        let got = self
            .client
            .get_object()
            .bucket(&self.name)
            .key(key)
            .send()
            .await
            .with_context(|| format!("getting {key:?}"))?;
        let body = got.body.collect().await;
        Ok(body.with_context(|| format!("reading {key:?}"))?.into_bytes())
    }

    /// All keys under a prefix, in the server's order.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let mut pages = self.client.list_objects_v2().bucket(&self.name).prefix(prefix).into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.with_context(|| format!("listing {prefix:?}"))?;
            keys.extend(page.contents.into_iter().flatten().filter_map(|o| o.key));
        }
        Ok(keys)
    }
}
