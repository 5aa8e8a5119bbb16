//! Figures of the sidecar alone: misses that share one question, memory, time to ready.
//!
//! Memory and start are those of a sidecar with one mount and an empty store, started for this. The
//! misses come over a thousand connections while the remote answers two seconds late. The sidecar's
//! own count of misses must show that all of them came before the answer: one remote HEAD says
//! nothing if the callers came one after another. (ab does that: it waits for its first answer.)

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::try_join_all;
use remotemount_tests::proxy::Proxy;
use remotemount_tests::proxy::count::Operation;
use remotemount_tests::sidecar::Sidecar;
use remotemount_tests::wire;

use crate::table::{Figure, Rounds, Target};
use crate::{Stage, mount, say};

const MISSED: &str = "missed/by-all";
const CALLERS: usize = 1000;
const LATE: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(10);
const STARTS: usize = 10;

/// Puts the object of the misses.
pub async fn fill(stage: &Stage) -> Result<()> {
    stage.bucket.put(MISSED, "here", None).await?;
    Ok(())
}

/// A thousand callers at once for one name that is not known.
pub async fn misses(stage: &Stage) -> Result<Figure> {
    say("1,000 concurrent misses of one name");
    let before = misses_so_far(stage).await?;
    stage.proxy.reset();
    stage.proxy.set_latency(LATE);
    let url = stage.sidecar.http_url(&format!("/data/{MISSED}"));
    let ask = || async {
        let answer = stage.client.head(&url).send().await;
        let answer = answer.context("1,000 connections need as many open files: ulimit -n 4096")?;
        ensure!(answer.status() == 200, "{url}: {}", answer.status());
        Ok(())
    };
    try_join_all((0..CALLERS).map(|_| ask())).await?;
    stage.proxy.set_latency(Duration::ZERO);
    let waited = misses_so_far(stage).await? - before;
    ensure!(waited == CALLERS as u64, "only {waited} of {CALLERS} callers came before the remote's answer");
    let heads = stage.proxy.count_key(Operation::Head, MISSED);
    Ok(Figure {
        name: "remote HEADs of 1,000 callers at once".to_owned(),
        ours: format!("{heads} ({waited} misses)"),
        theirs: "–".to_owned(),
        value: heads as f64,
        target: Target::Exactly(1.0),
        at_least: false,
    })
}

/// Idle memory, and the time from start to ready.
pub async fn starts(proxy: &Proxy) -> Result<Vec<Figure>> {
    say("idle memory, start to ready");
    let mut memory = Rounds::new();
    let sidecar = Sidecar::builder().mount(&mount("data", &proxy.endpoint())).start().await?;
    tokio::time::sleep(IDLE).await;
    memory.add(sidecar.rss_kib()? as f64 / 1024.0);
    drop(sidecar);
    let mut times = Rounds::new();
    for _ in 0..STARTS {
        times.add(start(proxy).await?.as_secs_f64() * 1000.0);
    }
    Ok(vec![
        Figure::alone("idle memory (VmRSS)", "MiB", &memory, Target::AtMost(25.0, "MiB"))?,
        Figure::alone("start to ready", "ms", &times, Target::AtMost(100.0, "ms"))?,
    ])
}

async fn start(proxy: &Proxy) -> Result<Duration> {
    let begun = Instant::now();
    let mut sidecar = Sidecar::builder().mount(&mount("data", &proxy.endpoint())).start_unready()?;
    let admin = sidecar.admin_addr();
    while begun.elapsed() < Duration::from_secs(10) {
        if wire::raw(&admin, "GET", "/readyz", &[]).await.is_ok_and(|answer| answer.status == 200) {
            return Ok(begun.elapsed());
        }
        if let Some(status) = sidecar.process().try_wait()? {
            bail!("the sidecar ended with {status}:\n{}", sidecar.log());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bail!("the sidecar is not ready after 10 s:\n{}", sidecar.log())
}

/// Lookups of the mount at `/data` that asked the remote or waited for one that did.
async fn misses_so_far(stage: &Stage) -> Result<u64> {
    let answer = wire::raw(&stage.sidecar.admin_addr(), "GET", "/status", &[]).await?;
    let status: serde_json::Value = serde_json::from_slice(&answer.body).context("reading /status")?;
    let mounts = status["mounts"].as_array().context("no mounts in /status")?;
    let mount = mounts.iter().find(|mount| mount["path"] == "/data").context("no mount at /data in /status")?;
    mount["counters"]["lookupsMiss"].as_u64().context("no lookupsMiss in /status")
}
