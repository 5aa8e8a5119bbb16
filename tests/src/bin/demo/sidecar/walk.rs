//! The reading steps of the demo, in the order in which a workload would meet them.
//!
//! Stats, absences, listings, reads, odd names, and what `/status` says at the end. Each step goes
//! through the sidecar's real door over HTTP and checks what came back against what was put into the
//! bucket; what it should cost at the remote stands beside it. Owns what the deleting steps share
//! with these: how a path is written, and how an answer is looked at.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::try_join_all;
use remotemount_tests::proxy::Proxy;
use remotemount_tests::sidecar::Sidecar;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::visit::{Cost, LOOKUP, NOTHING, Visit, escape};
use crate::example::Example;
use crate::fill::{self, Contents};
use crate::screen;

/// Callers at once in the step that shows they share one question.
const CALLERS: usize = 200;
/// How late the remote answers in that step, so that all come before it does.
const LATE: Duration = Duration::from_millis(500);
/// What a page of a listing costs.
pub const ONE_LIST: Cost = Cost { list: 1, ..NOTHING };
/// What a read costs.
pub const ONE_GET: Cost = Cost { get: 1, ..NOTHING };

/// What all steps need to know.
pub struct Walk<'w> {
    /// The steps so far.
    pub visit: Visit<'w>,
    /// The sidecar.
    pub sidecar: &'w Sidecar,
    /// What is mounted.
    pub example: &'w Example,
    proxy: &'w Proxy,
}

impl<'w> Walk<'w> {
    /// The beginning.
    pub fn new(sidecar: &'w Sidecar, proxy: &'w Proxy, example: &'w Example) -> Result<Walk<'w>> {
        Ok(Walk { visit: Visit::new(proxy)?, sidecar, example, proxy })
    }

    /// Takes the steps that read.
    pub async fn read(&mut self, contents: &Contents) {
        self.visit.heading(&format!("Reading, with F={}", self.sidecar.http_url("")));
        self.stats().await;
        self.absences().await;
        self.directories().await;
        self.reads(contents).await;
        self.odd_names(contents).await;
        self.status().await;
    }

    async fn stats(&mut self) {
        let (path, client) = (self.path(&fill::picture(2021, 4, 42)), self.visit.client.clone());
        let size = fill::text(&fill::picture(2021, 4, 42)).len() as u64;
        let (url, command) = (self.url(&path), format!("curl -I $F{path}"));
        self.visit.step("A file that nobody has asked for", &command, LOOKUP, stat(&client, &url, size)).await;
        self.visit.step("The same again", &command, NOTHING, stat(&client, &url, size)).await;

        let (path, size) = (self.path(&fill::picture(2022, 7, 7)), fill::text(&fill::picture(2022, 7, 7)).len() as u64);
        let (url, command) = (self.url(&path), format!("seq {CALLERS} | xargs -P{CALLERS} -I- curl -sI $F{path}"));
        let status = self.sidecar.admin_url("/status");
        let work = async {
            let before = misses(&client, &status).await?;
            let answers = try_join_all((0..CALLERS).map(|_| stat(&client, &url, size))).await?;
            let waited = misses(&client, &status).await? - before;
            // Else it was not one question that they shared, but its answer.
            ensure!(waited == CALLERS as u64, "only {waited} of {CALLERS} came before the remote had answered");
            Ok(format!("{} times {}", answers.len(), answers.first().context("no answer")?))
        };
        self.proxy.set_latency(LATE);
        let title =
            format!("{CALLERS} callers at once for another, while the remote answers {} late", screen::time(LATE));
        self.visit.step(&title, &command, LOOKUP, work).await;
        self.proxy.set_latency(Duration::ZERO);
    }

    async fn absences(&mut self) {
        let (path, client) = (self.path("2021/album-04/nothing-here.txt"), self.visit.client.clone());
        let (url, command) = (self.url(&path), format!("curl -I $F{path}"));
        self.visit.step("A name that does not exist", &command, LOOKUP, absent(&client, &url)).await;
        self.visit.step("The same again", &command, NOTHING, absent(&client, &url)).await;
    }

    async fn directories(&mut self) {
        let (path, client) = (self.path("2023/album-05"), self.visit.client.clone());
        let url = self.url(&format!("{path}?metadata=true"));
        let command = format!("curl \"$F{path}?metadata=true\"");
        let work = async {
            let entry: serde_json::Value = json(&client, &url).await?;
            let mode = entry["Mode"].as_u64().context("no Mode")?;
            // Go's file mode: the topmost of its 32 bits says directory.
            ensure!(mode >> 31 == 1, "not a directory: mode {mode:o}");
            Ok("200, a directory".to_owned())
        };
        self.visit.step("A directory that was never listed", &command, LOOKUP, work).await;

        let path = self.path("2019/album-00/");
        let (url, command) = (self.url(&path), format!("curl -H \"Accept: application/json\" $F{path}"));
        let pictures = fill::pictures();
        self.visit.step("A listing", &command, ONE_LIST, list(&client, &url, pictures)).await;
        self.visit.step("The same again", &command, NOTHING, list(&client, &url, pictures)).await;
    }

    async fn reads(&mut self, contents: &Contents) {
        let (path, client) = (self.path(fill::LARGE), self.visit.client.clone());
        let (url, size) = (self.url(&path), contents.large.len());
        let command = format!("curl -I $F{path}");
        self.visit.step("The file of 64 MiB", &command, LOOKUP, stat(&client, &url, size as u64)).await;

        // From the middle, across no boundary that anything here would have.
        let (first, last) = (size / 2 - 7, size / 2 + 8);
        let command = format!("curl -r {first}-{last} $F{path}");
        let work = async {
            let answer = client.get(&url).header("Range", format!("bytes={first}-{last}")).send().await?;
            ensure!(answer.status() == 206, "{}", answer.status());
            let bytes = answer.bytes().await?;
            ensure!(contents.large.get(first..=last) == Some(&*bytes), "other bytes than were put: {bytes:?}");
            Ok(format!("206, {} bytes, those that were put", bytes.len()))
        };
        self.visit.step("16 bytes from its middle", &command, ONE_GET, work).await;
        self.visit.note(&format!("the GET asked the remote for {}", self.visit.ranges().join(", ")));

        let command = format!("curl -s $F{path} | sha256sum");
        let put = sha256(contents.large.clone()).await;
        let work = async {
            let answer = client.get(&url).send().await?.error_for_status()?;
            let got = sha256(answer.bytes().await?).await?;
            let put = put?;
            ensure!(got == put, "SHA-256 {got}; what was put has {put}");
            Ok(format!("200, SHA-256 {}…, as it was put", got.get(..16).unwrap_or(&got)))
        };
        self.visit.step("All of it", &command, ONE_GET, work).await;
    }

    async fn odd_names(&mut self, contents: &Contents) {
        let client = self.visit.client.clone();
        for (key, content) in contents.odd {
            let path = self.path(key);
            let url = self.url(&path);
            // There is nothing to get of an empty object.
            let expected = Cost { get: usize::from(!content.is_empty()), ..LOOKUP };
            let work = async {
                let got = client.get(&url).send().await?.error_for_status()?.text().await?;
                ensure!(got == content, "{got:?}; what was put is {content:?}");
                Ok(format!("200, {content:?}"))
            };
            self.visit.step(key, &format!("curl $F{path}"), expected, work).await;
        }
    }

    async fn status(&mut self) {
        let (client, url) = (self.visit.client.clone(), self.sidecar.admin_url("/status"));
        let mut facts = BTreeMap::new();
        let work = async {
            let status: serde_json::Value = json(&client, &url).await?;
            let mount = status["mounts"].get(0).context("no mount in it")?;
            for name in ["lookupsHit", "lookupsNegativeHit", "lookupsMiss", "listingsHit", "listingsWalk", "readBytes"]
            {
                facts.insert(name, mount["counters"][name].to_string());
            }
            facts.insert("entries kept", status["store"]["entries"].to_string());
            facts.insert("remote reachable", mount["health"]["reachable"].to_string());
            Ok("200; in it:".to_owned())
        };
        self.visit.step("What the sidecar says of itself", &format!("curl {url}"), NOTHING, work).await;
        for (name, value) in facts {
            self.visit.note(&format!("{name:<20} {value:>9}"));
        }
        if let Ok(kib) = self.sidecar.rss_kib() {
            self.visit.note(&format!("{:<20} {:>9.1} MiB resident", "memory", kib as f64 / 1024.0));
        }
    }

    /// The escaped path of a key below the mount.
    pub fn path(&self, key: &str) -> String {
        escape(&format!("{}/{key}", self.example.path))
    }

    /// Where an escaped path is asked for.
    pub fn url(&self, path: &str) -> String {
        self.sidecar.http_url(path)
    }
}

async fn stat(client: &reqwest::Client, url: &str, size: u64) -> Result<String> {
    let answer = client.head(url).send().await?;
    ensure!(answer.status() == 200, "{}", answer.status());
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let length = header("content-length").context("no Content-Length")?;
    ensure!(length.parse() == Ok(size), "Content-Length {length}; what was put has {size}");
    Ok(format!("200, {length} bytes, ETag {}", shorten(header("etag").context("no ETag")?)))
}

/// Lookups so far that asked the remote, or waited for one that did.
async fn misses(client: &reqwest::Client, status: &str) -> Result<u64> {
    let status: serde_json::Value = json(client, status).await?;
    status["mounts"][0]["counters"]["lookupsMiss"].as_u64().context("no lookupsMiss in /status")
}

/// What a name that is not there answers.
pub async fn absent(client: &reqwest::Client, url: &str) -> Result<String> {
    match client.head(url).send().await?.status().as_u16() {
        404 => Ok("404".to_owned()),
        other => bail!("{other}"),
    }
}

/// A listing that should have so many entries.
pub async fn list(client: &reqwest::Client, url: &str, wanted: usize) -> Result<String> {
    let listing: serde_json::Value = json(client, url).await?;
    let entries = listing["Entries"].as_array().context("no Entries")?;
    ensure!(entries.len() == wanted, "{} entries; there should be {wanted}", entries.len());
    Ok(format!("200, {} entries", entries.len()))
}

/// A page of JSON.
pub async fn json(client: &reqwest::Client, url: &str) -> Result<serde_json::Value> {
    Ok(client.get(url).header("Accept", "application/json").send().await?.error_for_status()?.json().await?)
}

/// As the shell's tool computes it.
async fn sha256(bytes: bytes::Bytes) -> Result<String> {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("starting sha256sum")?;
    let mut stdin = child.stdin.take().context("sha256sum takes no input")?;
    stdin.write_all(&bytes).await.context("writing to sha256sum")?;
    drop(stdin);
    let output = child.wait_with_output().await.context("waiting for sha256sum")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.split_whitespace().next().map(str::to_owned).context("sha256sum said nothing")
}

/// Long ETags by their beginning.
fn shorten(etag: &str) -> String {
    let head: String = etag.chars().take(9).collect();
    if head.len() < etag.len() { format!("{head}…") } else { head }
}
