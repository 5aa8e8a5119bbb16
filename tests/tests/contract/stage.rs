//! What every scenario stands on: a bucket, a proxy before it, a sidecar before that, and a client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use remotemount_sidecar::doors::grpc::proto::DeleteEntryRequest;
use remotemount_tests::bucket::Bucket;
use remotemount_tests::manifest::Manifest;
use remotemount_tests::proxy::Proxy;
use remotemount_tests::proxy::count::Operation;
use remotemount_tests::s3_server::{Kind, S3Server};
use remotemount_tests::sidecar::Sidecar;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::grpc;

static WEED: OnceCell<(S3Server, tempfile::TempDir)> = OnceCell::const_new();
static MOTO: OnceCell<(S3Server, tempfile::TempDir)> = OnceCell::const_new();
static RCLONE: OnceCell<(S3Server, tempfile::TempDir)> = OnceCell::const_new();

async fn start(kind: Kind) -> Result<(S3Server, tempfile::TempDir)> {
    let directory = tempfile::tempdir()?;
    Ok((S3Server::start(kind, directory.path()).await?, directory))
}

/// The endpoint of the shared server of that kind.
pub async fn server(kind: Kind) -> Result<String> {
    let cell = match kind {
        Kind::Weed => &WEED,
        Kind::Moto => &MOTO,
        Kind::Rclone => &RCLONE,
    };
    Ok(cell.get_or_try_init(|| start(kind)).await?.0.endpoint())
}

/// The shared weed's own filer, as its clients want it.
pub async fn filer_client_address() -> Result<String> {
    WEED.get_or_try_init(|| start(Kind::Weed)).await?.0.filer_client_address()
}

/// A bucket on the shared server.
pub async fn bucket(kind: Kind, name: &str) -> Result<Bucket> {
    Bucket::create(&server(kind).await?, name).await
}

/// Where a delete is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Http,
    Grpc,
}

impl Door {
    pub const ALL: [Self; 2] = [Self::Http, Self::Grpc];

    /// A name of its own, so that doors do not meet in a bucket.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
        }
    }
}

/// How a delete is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Recursive,
    IgnoreErrors,
    FromOtherCluster,
}

/// What a door said of a delete.
#[derive(Debug)]
pub struct Verdict {
    pub done: bool,
    /// As the HTTP door has it.
    pub status: u16,
    /// Why not.
    pub told: String,
}

pub struct Stage {
    pub bucket: Bucket,
    pub proxy: Proxy,
    pub sidecar: Sidecar,
    pub client: reqwest::Client,
}

/// A client that keeps enough connections for a crowd and never waits for ever.
pub fn client() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60));
    builder.redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

impl Stage {
    /// Mounts the bucket `name` at `/m`, as `configure` makes the manifest.
    pub async fn with(kind: Kind, name: &str, configure: impl FnOnce(Manifest) -> Manifest) -> Result<Self> {
        let bucket = bucket(kind, name).await?;
        let proxy = Proxy::start(&server(kind).await?).await?;
        let manifest = configure(Manifest::new("m", "/m", name, &proxy.endpoint(), ""));
        let sidecar = Sidecar::builder().mount(&manifest).start().await?;
        let stage = Self { bucket, proxy, sidecar, client: client() };
        stage.settle().await?;
        Ok(stage)
    }

    pub async fn new(name: &str) -> Result<Self> {
        Self::with(Kind::Weed, name, |manifest| manifest).await
    }

    /// Waits for the probe that follows a mount, so that counts begin at zero.
    pub async fn settle(&self) -> Result<()> {
        for _ in 0..200 {
            if self.status().await?["mounts"][0]["health"]["reachable"] != Value::Null {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.proxy.reset();
        Ok(())
    }

    /// Deletes as `/status` has them, once none is open. A lookup settles what it runs into, but not what is being settled
    /// in the background at that moment, and does not wait for that.
    pub async fn settled(&self) -> Result<Value> {
        let begun = Instant::now();
        loop {
            let deletes = self.status().await?["mounts"][0]["deletes"].clone();
            if deletes["openIntents"] == 0 {
                return Ok(deletes);
            }
            ensure!(begun.elapsed() < Duration::from_secs(30), "not settled: {deletes}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn head(&self, path: &str) -> Result<reqwest::Response> {
        self.client.head(self.sidecar.http_url(path)).send().await.with_context(|| format!("HEAD {path}"))
    }

    pub async fn get(&self, path: &str) -> Result<reqwest::Response> {
        self.client.get(self.sidecar.http_url(path)).send().await.with_context(|| format!("GET {path}"))
    }

    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Result<reqwest::Response> {
        let mut request = self.client.get(self.sidecar.http_url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.with_context(|| format!("GET {path}"))
    }

    pub async fn list(&self, path_and_query: &str) -> Result<reqwest::Response> {
        self.get_with(path_and_query, &[("accept", "application/json")]).await
    }

    /// The names of a directory, which must be listable and whole.
    pub async fn names(&self, path: &str) -> Result<Vec<String>> {
        let listing: Value = self.list(path).await?.error_for_status()?.json().await?;
        assert_eq!(listing["ShouldDisplayLoadMore"], false, "{path} is whole");
        Ok(names(&listing))
    }

    pub async fn status(&self) -> Result<Value> {
        Ok(self.client.get(self.sidecar.admin_url("/status")).send().await?.json().await?)
    }

    /// Orders a delete at a door.
    pub async fn delete(&self, door: Door, path: &str, how: &[How]) -> Result<Verdict> {
        match door {
            Door::Http => self.delete_http(path, how).await,
            Door::Grpc => self.delete_grpc(path, how).await,
        }
    }

    async fn delete_grpc(&self, path: &str, how: &[How]) -> Result<Verdict> {
        let (directory, name) = path.trim_end_matches('/').rsplit_once('/').unwrap_or_default();
        let order = DeleteEntryRequest {
            directory: if directory.is_empty() { "/" } else { directory }.to_owned(),
            name: name.to_owned(),
            is_recursive: how.contains(&How::Recursive),
            ignore_recursive_error: how.contains(&How::IgnoreErrors),
            is_from_other_cluster: how.contains(&How::FromOtherCluster),
            ..Default::default()
        };
        let answer = grpc::client(self).await?.delete_entry(order).await?;
        let reason = answer.metadata().get("x-remotemount-reason").map_or("", |reason| reason.to_str().unwrap());
        let error = &answer.get_ref().error;
        assert_eq!(error.is_empty(), reason.is_empty(), "{path}: {error} {reason}");
        let status = match reason {
            "" => 204,
            "Denied" | "DeleteDenied" => 403,
            "NotFound" => 404,
            "Changed" | "Conflict" | "NotEmpty" | "MountRoot" | "HoldsMount" => 409,
            "UnnameableKeys" | "HiddenKeys" | "FileAndDirectory" | "Refilled" => 409,
            "Store" => 500,
            "NotSupported" => 501,
            "BrokeOff" | "Rejected" | "BucketNotFound" => 502,
            "NotReady" | "Lost" | "Interrupted" | "Throttled" | "Unavailable" | "CredentialsMissing" => 503,
            "TimedOut" => 504,
            other => anyhow::bail!("{other} is no reason"),
        };
        Ok(Verdict { done: error.is_empty(), status, told: format!("{error} {reason}").trim().to_owned() })
    }

    async fn delete_http(&self, path: &str, how: &[How]) -> Result<Verdict> {
        let mut query = Vec::new();
        for how in how {
            match how {
                How::Recursive => query.push("recursive=true"),
                How::IgnoreErrors => query.push("ignoreRecursiveError=true"),
                How::FromOtherCluster => anyhow::bail!("the HTTP door has no such parameter"),
            }
        }
        let url = format!("{}?{}", self.sidecar.http_url(path), query.join("&"));
        let answer = self.client.delete(url).send().await.with_context(|| format!("DELETE {path}"))?;
        let status = answer.status().as_u16();
        let told = answer.text().await?;
        assert_eq!(status == 204, told.is_empty(), "{path}: {status} {told}");
        Ok(Verdict { done: status == 204, status, told })
    }

    /// How often the remote was asked to delete something.
    pub fn deletes(&self) -> usize {
        self.proxy.count(Operation::Delete) + self.proxy.count(Operation::DeleteMany)
    }

    pub fn heads(&self, key: &str) -> usize {
        self.proxy.count_key(Operation::Head, key)
    }

    pub fn lists(&self, prefix: &str) -> usize {
        self.proxy.count_key(Operation::List, prefix)
    }
}

/// The last segment of every entry of a listing, a directory's with a slash.
pub fn names(listing: &Value) -> Vec<String> {
    let name = |entry: &Value| {
        let path = entry["FullPath"].as_str().unwrap_or_default();
        let directory = entry["Mode"].as_u64().unwrap_or_default() >> 31 == 1;
        format!("{}{}", path.rsplit('/').next().unwrap_or_default(), if directory { "/" } else { "" })
    };
    listing["Entries"].as_array().map(|entries| entries.iter().map(name).collect()).unwrap_or_default()
}

/// Runs `count` copies of a request at once and answers their statuses.
pub async fn crowd(stage: &Arc<Stage>, count: usize, path: &str) -> Vec<u16> {
    let url = stage.sidecar.http_url(path);
    let asks = (0..count).map(|_| {
        let (client, url) = (stage.client.clone(), url.clone());
        tokio::spawn(async move { client.head(url).send().await.map_or(0, |answer| answer.status().as_u16()) })
    });
    let asks: Vec<_> = asks.collect();
    let mut statuses = Vec::with_capacity(count);
    for ask in asks {
        statuses.push(ask.await.unwrap());
    }
    statuses
}
