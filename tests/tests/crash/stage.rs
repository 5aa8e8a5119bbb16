//! What the rounds of one crash point stand on: a bucket, a sidecar that can be stopped, and a client.
//!
//! Owns the server that all points share as long as one of them runs. Whatever is asked here is asked
//! at the door as a client asks it, and never repeated in silence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use remotemount_sidecar::events::Event;
use remotemount_sidecar::store::Store as _;
use remotemount_sidecar::store::redb::RedbStore;
use remotemount_tests::bucket::Bucket;
use remotemount_tests::manifest::Manifest;
use remotemount_tests::proxy::Proxy;
use remotemount_tests::s3_server::{Kind, S3Server};
use remotemount_tests::sidecar::Sidecar;
use serde_json::Value;
use tokio::sync::Mutex;

const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_');
/// Looks at `/status` until nothing is open; ten milliseconds apart.
const LOOKS: usize = 1000;
/// More events than any point makes.
const ALL: usize = 100_000;

type Server = (S3Server, tempfile::TempDir);
/// Objects by key: their ETags.
pub type Truth = BTreeMap<String, String>;

/// The server of that kind, while someone needs it.
async fn server(kind: Kind) -> Result<Arc<Server>> {
    static WEED: Mutex<Weak<Server>> = Mutex::const_new(Weak::new());
    static RCLONE: Mutex<Weak<Server>> = Mutex::const_new(Weak::new());
    let mut shared = if kind == Kind::Weed { WEED.lock().await } else { RCLONE.lock().await };
    if let Some(server) = shared.upgrade() {
        return Ok(server);
    }
    let folder = tempfile::tempdir()?;
    let server = Arc::new((S3Server::start(kind, folder.path()).await?, folder));
    *shared = Arc::downgrade(&server);
    Ok(server)
}

pub struct Stage {
    pub bucket: Bucket,
    pub sidecar: Sidecar,
    client: reqwest::Client,
    logged: usize,
    _server: Arc<Server>,
}

/// Connections of a process that was killed are of no use to the next.
fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap()
}

impl Stage {
    /// Mounts a bucket of that name at `/m`; deletes go through.
    pub async fn new(kind: Kind, name: &str) -> Result<Self> {
        let server = server(kind).await?;
        let endpoint = server.0.endpoint();
        Self::mounting(server, name, &endpoint).await
    }

    /// The same, with a proxy before the server.
    pub async fn behind_proxy(kind: Kind, name: &str) -> Result<(Self, Proxy)> {
        let server = server(kind).await?;
        let proxy = Proxy::start(&server.0.endpoint()).await?;
        Ok((Self::mounting(server, name, &proxy.endpoint()).await?, proxy))
    }

    async fn mounting(server: Arc<Server>, name: &str, endpoint: &str) -> Result<Self> {
        let bucket = Bucket::create(&server.0.endpoint(), name).await?;
        let manifest = Manifest::new("m", "/m", name, endpoint, "").delete_policy("Propagate");
        let sidecar = Sidecar::builder().crash_points().mount(&manifest).start().await?;
        Ok(Self { bucket, sidecar, client: client(), logged: 0, _server: server })
    }

    pub async fn restart(&mut self) -> Result<()> {
        self.logged = self.sidecar.log().len();
        self.client = client();
        self.sidecar.restart().await
    }

    /// What it has logged since the last restart.
    pub fn log_of_this_run(&self) -> String {
        self.sidecar.log().get(self.logged..).unwrap_or_default().to_owned()
    }

    fn request(&self, method: reqwest::Method, key: &str, query: &str) -> reqwest::RequestBuilder {
        let path = utf8_percent_encode(key, PATH);
        self.client.request(method, self.sidecar.http_url(&format!("/m/{path}{query}")))
    }

    /// The status of a HEAD, and the ETag that came with it.
    pub async fn head(&self, key: &str) -> Result<(u16, Option<String>)> {
        let answer =
            self.request(reqwest::Method::HEAD, key, "").send().await.with_context(|| format!("HEAD {key}"))?;
        let etag = answer.headers().get("etag").and_then(|etag| etag.to_str().ok()).map(opaque);
        Ok((answer.status().as_u16(), etag))
    }

    /// The names in a directory, a directory's with a slash; none when there is no such directory.
    pub async fn names(&self, directory: &str) -> Result<Option<Vec<String>>> {
        let request = self.request(reqwest::Method::GET, &format!("{directory}/"), "");
        let answer = request.header("accept", "application/json").send().await?;
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let listing: Value = answer.error_for_status()?.json().await?;
        ensure!(listing["ShouldDisplayLoadMore"] == false, "{directory} is whole");
        let entries = listing["Entries"].as_array().context("a listing has entries")?;
        Ok(Some(entries.iter().map(name).collect()))
    }

    /// What the bucket has below a directory.
    pub async fn truth(&self, directory: &str) -> Result<Truth> {
        let list = self.bucket.client.list_objects_v2().bucket(&self.bucket.name).prefix(format!("{directory}/"));
        let page = list.send().await?;
        ensure!(page.is_truncated() != Some(true), "{directory} is one page");
        let objects = page.contents.unwrap_or_default().into_iter();
        Ok(objects.filter_map(|object| Some((object.key?, opaque(&object.e_tag?)))).collect())
    }

    /// What the server itself lists below a directory with a slash: names that hold something, or did a moment ago.
    pub async fn prefixes(&self, directory: &str) -> Result<BTreeSet<String>> {
        let below = format!("{directory}/");
        let list = self.bucket.client.list_objects_v2().bucket(&self.bucket.name).prefix(&below).delimiter("/");
        let page = list.send().await?;
        let markers = page.contents().iter().filter_map(|object| object.key()).filter(|key| key.ends_with('/'));
        let prefixes = page.common_prefixes().iter().filter_map(|prefix| prefix.prefix()).chain(markers);
        Ok(prefixes.map(|key| key.strip_prefix(&below).unwrap_or_default().to_owned()).collect())
    }

    /// A DELETE, not sent yet.
    pub fn delete(&self, path: &str, query: &str) -> reqwest::RequestBuilder {
        self.request(reqwest::Method::DELETE, path, query)
    }

    /// Waits until no delete is open.
    pub async fn settled(&self) -> Result<()> {
        let mut open = Value::Null;
        for _ in 0..LOOKS {
            let status: Value = self.client.get(self.sidecar.admin_url("/status")).send().await?.json().await?;
            open = status["mounts"][0]["deletes"]["openIntents"].clone();
            if open == 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::bail!("after {LOOKS} looks {open} deletes are still open")
    }

    /// All events of all rounds, from the store itself; nothing may be open there either.
    pub async fn stop_and_read_events(&mut self) -> Result<Vec<Event>> {
        self.sidecar.terminate(Duration::from_secs(60)).await?;
        let opened = RedbStore::open(self.sidecar.state_dir())?;
        ensure!(opened.set_aside.is_none(), "the store was damaged");
        ensure!(opened.store.intents()?.is_empty(), "an intent is left");
        let page = opened.store.events(0, ALL)?;
        ensure!(page.dropped == 0 && page.events.len() < ALL, "all events are there");
        Ok(page.events)
    }
}

/// An ETag without its quotes, which not every server puts into listings.
fn opaque(etag: &str) -> String {
    etag.trim_matches('"').to_owned()
}

fn name(entry: &Value) -> String {
    let path = entry["FullPath"].as_str().unwrap_or_default();
    let directory = entry["Mode"].as_u64().unwrap_or_default() >> 31 == 1;
    format!("{}{}", path.rsplit('/').next().unwrap_or_default(), if directory { "/" } else { "" })
}
