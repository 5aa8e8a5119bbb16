//! Play: carries out the steps of a case, and holds every answer against the facts.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use proptest::prelude::*;
use remotemount_tests::bucket::Bucket;
use remotemount_tests::manifest::Manifest;
use remotemount_tests::proxy::Proxy;
use remotemount_tests::proxy::faults::{Action, Rule};
use remotemount_tests::s3_server::{Kind, S3Server};
use remotemount_tests::sidecar::Sidecar;
use serde_json::Value;

use crate::facts::Name;

const NAMES: [&str; 4] = ["a", "b", "d/x", "d/y"];
/// What a door may answer while the remote fails.
const FAILURES: [u16; 4] = [403, 502, 503, 504];

/// What happens.
#[derive(Clone, Debug)]
pub struct Case {
    /// Nothing is good for any time; otherwise everything for longer than a case takes.
    exact: bool,
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Another writer puts the name, with new content.
    Put(usize),
    /// Another writer removes it.
    Remove(usize),
    Lookup(usize),
    Read(usize),
    LookupDirectory,
    /// The top, or the directory in it.
    List(bool),
    Delete(usize),
    DeleteTree,
    /// The next requests to the remote fail.
    Fault(Fault, usize),
    Heal,
    /// Killed, and started again.
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Denied,
    SlowDown,
    Reset,
    LoseAnswer,
}

/// Cases.
pub fn case() -> impl Strategy<Value = Case> {
    let name = || 0..NAMES.len();
    let fault = prop_oneof![Just(Fault::Denied), Just(Fault::SlowDown), Just(Fault::Reset), Just(Fault::LoseAnswer)];
    let step = prop_oneof![
        6 => name().prop_map(Step::Put),
        2 => name().prop_map(Step::Remove),
        5 => name().prop_map(Step::Lookup),
        3 => name().prop_map(Step::Read),
        1 => Just(Step::LookupDirectory),
        4 => any::<bool>().prop_map(Step::List),
        5 => name().prop_map(Step::Delete),
        2 => Just(Step::DeleteTree),
        2 => (fault, 1..5_usize).prop_map(|(fault, times)| Step::Fault(fault, times)),
        2 => Just(Step::Heal),
        1 => Just(Step::Restart),
    ];
    (any::<bool>(), prop::collection::vec(step, 15..30)).prop_map(|(exact, steps)| Case { exact, steps })
}

/// All that the cases share.
pub struct Stage {
    _server: S3Server,
    _folder: tempfile::TempDir,
    bucket: Bucket,
    proxy: Proxy,
    sidecar: Sidecar,
    client: reqwest::Client,
    puts: u32,
}

/// One case under way.
struct Play<'s> {
    stage: &'s mut Stage,
    /// Its directory in the bucket, and in the mount.
    key: String,
    path: String,
    exact: bool,
    /// The remote may fail.
    failing: bool,
    names: BTreeMap<&'static str, Name>,
}

impl Stage {
    pub async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let server = S3Server::start(Kind::Moto, folder.path()).await?;
        let bucket = Bucket::create(&server.endpoint(), "model").await?;
        let proxy = Proxy::start(&server.endpoint()).await?;
        let mount = |name: &str, path: &str| {
            Manifest::new(name, path, "model", &proxy.endpoint(), "").delete_policy("Propagate").timeout_seconds(3)
        };
        let exact = mount("exact", "/exact").ttl_seconds(0).negative_ttl_seconds(0).listing_ttl_seconds(0);
        let kept = mount("kept", "/kept").ttl_seconds(300).negative_ttl_seconds(300).listing_ttl_seconds(300);
        let sidecar = Sidecar::builder().mount(&exact.stale_if_error_seconds(0)).mount(&kept).start().await?;
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build()?;
        Ok(Self { _server: server, _folder: folder, bucket, proxy, sidecar, client, puts: 0 })
    }

    /// Plays a case in the directory of its number.
    pub async fn play(&mut self, number: u32, case: &Case) -> Result<()> {
        let key = format!("c{number}");
        let path = format!("/{}/{key}", if case.exact { "exact" } else { "kept" });
        let names = NAMES.map(|name| (name, Name::default())).into();
        let mut play = Play { stage: self, key, path, exact: case.exact, failing: false, names };
        for (at, step) in case.steps.iter().enumerate() {
            play.step(*step).await.with_context(|| format!("step {at}, {step:?}"))?;
        }
        play.stage.proxy.clear();
        play.failing = false;
        // Once the remote is well, every name can be looked up, and nothing that was deleted is back.
        for name in NAMES {
            play.lookup(name).await.with_context(|| format!("{name} in the end"))?;
        }
        Ok(())
    }
}

impl Play<'_> {
    fn name(&mut self, name: &'static str) -> &mut Name {
        self.names.entry(name).or_default()
    }

    fn url(&self, name: &str) -> String {
        self.stage.sidecar.http_url(&format!("{}/{name}", self.path))
    }

    async fn step(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Put(at) => {
                self.stage.puts += 1;
                let content = content(self.stage.puts);
                let etag = self.stage.bucket.put(&format!("{}/{}", self.key, NAMES[at]), content, None).await?;
                self.name(NAMES[at]).change(Some(etag));
                Ok(())
            }
            Step::Remove(at) => {
                self.stage.bucket.delete(&format!("{}/{}", self.key, NAMES[at])).await?;
                self.name(NAMES[at]).change(None);
                Ok(())
            }
            Step::Lookup(at) => self.lookup(NAMES[at]).await,
            Step::Read(at) => self.read(NAMES[at]).await,
            Step::LookupDirectory => self.lookup_directory().await,
            Step::List(top) => self.list(top).await,
            Step::Delete(at) => self.delete(NAMES[at], &[NAMES[at]]).await,
            Step::DeleteTree => self.delete("d?recursive=true", &["d/x", "d/y"]).await,
            Step::Fault(fault, times) => {
                let action = match fault {
                    Fault::Denied => Action::error(403, "AccessDenied"),
                    Fault::SlowDown => Action::error(503, "SlowDown"),
                    Fault::Reset => Action::Reset,
                    Fault::LoseAnswer => Action::LoseAnswer,
                };
                self.stage.proxy.inject(Rule::new(action).times(times));
                self.failing = true;
                Ok(())
            }
            Step::Heal => {
                self.stage.proxy.clear();
                self.failing = false;
                Ok(())
            }
            Step::Restart => {
                self.stage.sidecar.restart().await?;
                self.names.values_mut().for_each(Name::forgotten);
                Ok(())
            }
        }
    }

    /// Whether an answer is a failure; one that may not be is an error.
    fn failed(&self, status: u16, told: &str) -> Result<bool> {
        let failed = FAILURES.contains(&status);
        ensure!(!failed || self.failing, "{status} while the remote is well: {told}");
        Ok(failed)
    }

    async fn lookup(&mut self, name: &'static str) -> Result<()> {
        let answer = self.stage.client.head(self.url(name)).send().await?;
        let status = answer.status().as_u16();
        if self.failed(status, "")? {
            return Ok(());
        }
        let etag = answer.headers().get("etag").map(|etag| etag.to_str()).transpose()?;
        let state = match status {
            200 => Some(etag.context("a file without an ETag")?),
            404 => None,
            other => bail!("{other}"),
        };
        let exact = self.exact;
        self.name(name).looked_up(state, exact).map_err(anyhow::Error::msg)
    }

    async fn read(&mut self, name: &'static str) -> Result<()> {
        let answer = self.stage.client.get(self.url(name)).send().await?;
        let status = answer.status().as_u16();
        let etag = answer.headers().get("etag").map(|etag| etag.to_str().map(str::to_owned)).transpose()?;
        let body = match answer.bytes().await {
            Ok(body) => body,
            // Cut in the middle, and the remote would not go on.
            Err(_) if self.failing => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if self.failed(status, &String::from_utf8_lossy(&body))? {
            return Ok(());
        }
        let state = match status {
            200 => Some(etag.context("a file without an ETag")?),
            404 => None,
            other => bail!("{other}"),
        };
        if let Some(etag) = &state {
            let versions = (1..=self.stage.puts).map(content);
            let version = versions.into_iter().find(|content| content.as_bytes() == body);
            ensure!(version.is_some(), "{} bytes that were never put, as {etag}", body.len());
        }
        let exact = self.exact;
        self.name(name).looked_up(state.as_deref(), exact).map_err(anyhow::Error::msg)
    }

    async fn lookup_directory(&mut self) -> Result<()> {
        let status = self.stage.client.head(self.url("d/")).send().await?.status().as_u16();
        if self.failed(status, "")? {
            return Ok(());
        }
        ensure!(status == 200 || status == 404, "{status}");
        self.check_directory(status == 200)
    }

    fn check_directory(&mut self, there: bool) -> Result<()> {
        let below = || ["d/x", "d/y"].iter().filter_map(|name| self.names.get(name));
        if there {
            let may_be = below().any(|name| if self.exact { name.now().is_some() } else { name.may_be_there() });
            ensure!(may_be, "the directory is shown, and nothing is in it");
        } else if self.exact {
            ensure!(below().all(|name| name.now().is_none()), "the directory is not shown, and something is in it");
        }
        Ok(())
    }

    async fn list(&mut self, top: bool) -> Result<()> {
        let directory = if top { "" } else { "d/" };
        let request = self.stage.client.get(self.url(directory)).header("accept", "application/json");
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        if self.failed(status, &text)? {
            return Ok(());
        }
        let listing: Value = match status {
            200 => serde_json::from_str(&text)?,
            404 => Value::Null,
            other => bail!("{other}: {text}"),
        };
        let mut listed = BTreeMap::new();
        for entry in listing["Entries"].as_array().into_iter().flatten() {
            let path = entry["FullPath"].as_str().context("an entry without a path")?;
            let name = path.strip_prefix(&format!("{}/", self.path)).context("a path from elsewhere")?.to_owned();
            let etag = entry["Remote"]["remote_e_tag"].as_str().map(str::to_owned);
            ensure!(listed.insert((name.clone(), etag.is_none()), etag).is_none(), "{name} is listed twice");
        }
        let exact = self.exact;
        if top {
            self.check_directory(listed.contains_key(&("d".to_owned(), true)))?;
        }
        for name in NAMES.into_iter().filter(|name| name.starts_with("d/") != top) {
            let state = listed.remove(&(name.to_owned(), false)).flatten();
            let told = self.name(name).listed(state.as_deref(), exact);
            told.map_err(|wrong| anyhow::anyhow!("{name}: {wrong}"))?;
        }
        listed.remove(&("d".to_owned(), true));
        ensure!(listed.is_empty(), "{listed:?} never was");
        Ok(())
    }

    async fn delete(&mut self, path: &str, covered: &[&'static str]) -> Result<()> {
        let answer = self.stage.client.delete(self.url(path)).send().await?;
        let status = answer.status().as_u16();
        let told = answer.text().await?;
        let failed = self.failed(status, &told)?;
        ensure!(failed || status == 204 || status == 409, "{status}: {told}");
        let mut conflict = false;
        for name in covered {
            let there = self.stage.bucket.head(&format!("{}/{name}", self.key)).await?.is_some();
            let fact = self.name(name);
            ensure!(status != 204 || !there, "{name} is said to be deleted, and is there");
            conflict |= fact.conflicts();
            if status == 204 || (fact.now().is_some() && !there) {
                fact.deleted().map_err(|wrong| anyhow::anyhow!("{name}: {wrong}"))?;
            }
        }
        ensure!(status != 409 || conflict, "a conflict, and what is there is what was shown: {told}");
        Ok(())
    }
}

/// The content of the put of that number; no two are the same.
fn content(number: u32) -> String {
    format!("version {number} {}", "x".repeat(usize::try_from(number % 7).unwrap_or_default()))
}
