//! Cold figures: names that no one has asked for, and a large object read for the first time.
//!
//! HEADs go one after another over a kept connection, to a remote that answers 20 ms late; each side
//! gets names of its own, so nothing any of them has kept can help. Large reads go straight at the
//! remote, without the proxy; both sides read the same object and take turns at being first. It is
//! read once before, from the remote alone: cold is the sidecar, not the remote's disk.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::StreamExt as _;

use remotemount_tests::bucket::Bucket;

use crate::table::{Figure, Rounds, Target};
use crate::{ROUNDS, Stage, say};

const LATENCY: Duration = Duration::from_millis(20);
/// Names of a side in a round.
const NAMES: usize = 50;
/// Asked first and not counted: connections open.
const UNCOUNTED: usize = 5;
const LARGE_BYTES: usize = 64 << 20;
/// Even, so that each side is first as often as the other.
const LARGE_ROUNDS: usize = 6;

/// A link as a pod has it: so long to the first byte, so many bytes a second and connection.
const LINK_LATENCY: Duration = Duration::from_millis(5);
const LINK_BYTES: u64 = 100_000_000;
const LINK_ROUNDS: usize = 4;

/// Who asks for a name.
#[derive(Debug, Clone, Copy)]
enum Side {
    Ours,
    Remote,
    Seaweed,
}

const SIDES: [Side; 3] = [Side::Ours, Side::Remote, Side::Seaweed];

fn name(round: usize, side: Side, n: usize) -> String {
    format!("cold/{round}/{side:?}/{n:03}")
}

fn linked(round: usize) -> String {
    format!("linked/{round}")
}

fn large(round: usize) -> String {
    format!("large/{round}")
}

/// Puts all names, and the large objects.
pub async fn fill(stage: &Stage) -> Result<()> {
    let names = (0..ROUNDS).flat_map(|round| {
        SIDES.into_iter().flat_map(move |side| (0..NAMES + UNCOUNTED).map(move |n| name(round, side, n)))
    });
    stage.bucket.put_many(names.map(|name| (name, "cold"))).await?;
    let bytes = bytes::Bytes::from(vec![0x5a; LARGE_BYTES]);
    for key in (0..LARGE_ROUNDS).map(large).chain((0..LINK_ROUNDS).map(linked)) {
        stage.bucket.put(&key, bytes.clone(), None).await?;
    }
    Ok(())
}

/// First HEADs with a remote 20 ms away.
pub async fn heads(stage: &Stage) -> Result<Vec<Figure>> {
    let far = aws_bucket(stage);
    stage.proxy.set_latency(LATENCY);
    let (mut ours, mut remote, mut seaweed) = (Rounds::new(), Rounds::new(), Rounds::new());
    for round in 0..ROUNDS {
        say(&format!("cold HEAD, round {} of {ROUNDS}", round + 1));
        for side in SIDES {
            let mut total = Duration::ZERO;
            for n in 0..NAMES + UNCOUNTED {
                let name = name(round, side, n);
                let begun = Instant::now();
                match side {
                    Side::Ours => head(&stage.client, &stage.sidecar.http_url(&format!("/data/{name}"))).await?,
                    Side::Seaweed => head(&stage.client, &stage.seaweed.url(&name)).await?,
                    Side::Remote => drop(far.head(&name).await?.with_context(|| format!("there is no {name}"))?),
                }
                if n >= UNCOUNTED {
                    total += begun.elapsed();
                }
            }
            let millis = total.as_secs_f64() * 1000.0 / NAMES as f64;
            match side {
                Side::Ours => ours.add(millis),
                Side::Remote => remote.add(millis),
                Side::Seaweed => seaweed.add(millis),
            }
        }
    }
    stage.proxy.set_latency(Duration::ZERO);
    Ok(vec![
        Figure::ratio("cold HEAD at 20 ms, remote's own", "ms", &ours, &remote, Target::RatioAtMost(1.1))?,
        Figure::ratio("cold HEAD at 20 ms, SeaweedFS", "ms", &ours, &seaweed, Target::None)?,
    ])
}

/// The first read of 64 MiB.
pub async fn reads(stage: &Stage) -> Result<Figure> {
    let (mut ours, mut remote) = (Rounds::new(), Rounds::new());
    for round in 0..LARGE_ROUNDS {
        say(&format!("cold 64 MiB GET, round {} of {LARGE_ROUNDS}", round + 1));
        let key = large(round);
        ensure_whole(from_remote(&stage.bucket, &key).await?)?;
        for turn in 0..2 {
            let begun = Instant::now();
            if (round + turn) % 2 == 0 {
                ensure_whole(through_sidecar(stage, &format!("/direct/{key}")).await?)?;
                ours.add(rate(begun));
            } else {
                ensure_whole(from_remote(&stage.bucket, &key).await?)?;
                remote.add(rate(begun));
            }
        }
    }
    Figure::ratio("cold 64 MiB GET, remote's own", "MB/s", &ours, &remote, Target::RatioAtLeast(0.95))
}

/// The same over a link: what the remote sends, not the cores that share it, is then the limit.
pub async fn reads_over_a_link(stage: &Stage) -> Result<Figure> {
    let far = aws_bucket(stage);
    stage.proxy.set_latency(LINK_LATENCY);
    stage.proxy.set_bandwidth(Some(LINK_BYTES));
    let (mut ours, mut remote) = (Rounds::new(), Rounds::new());
    for round in 0..LINK_ROUNDS {
        say(&format!("cold 64 MiB GET over a link, round {} of {LINK_ROUNDS}", round + 1));
        let key = linked(round);
        ensure_whole(from_remote(&stage.bucket, &key).await?)?;
        for turn in 0..2 {
            let begun = Instant::now();
            if (round + turn) % 2 == 0 {
                ensure_whole(through_sidecar(stage, &format!("/data/{key}")).await?)?;
                ours.add(rate(begun));
            } else {
                ensure_whole(from_remote(&far, &key).await?)?;
                remote.add(rate(begun));
            }
        }
    }
    stage.proxy.set_latency(Duration::ZERO);
    stage.proxy.set_bandwidth(None);
    Figure::ratio("the same, remote at 5 ms and 100 MB/s", "MB/s", &ours, &remote, Target::RatioAtLeast(0.95))
}

/// The bucket as the SDK reaches it through the proxy.
fn aws_bucket(stage: &Stage) -> Bucket {
    Bucket::open(&stage.proxy.endpoint(), &stage.bucket.name)
}

async fn head(client: &reqwest::Client, url: &str) -> Result<()> {
    let answer = client.head(url).send().await?;
    ensure!(answer.status() == 200, "{url}: {}", answer.status());
    Ok(())
}

async fn through_sidecar(stage: &Stage, path: &str) -> Result<usize> {
    let answer = stage.client.get(stage.sidecar.http_url(path)).send().await?;
    let mut stream = answer.error_for_status()?.bytes_stream();
    let mut total = 0;
    while let Some(bytes) = stream.next().await {
        total += bytes?.len();
    }
    Ok(total)
}

async fn from_remote(bucket: &Bucket, key: &str) -> Result<usize> {
    let answer = bucket.client.get_object().bucket(&bucket.name).key(key).send().await;
    let mut body = answer.with_context(|| format!("getting {key}"))?.body;
    let mut total = 0;
    while let Some(bytes) = body.next().await {
        total += bytes.with_context(|| format!("reading {key}"))?.len();
    }
    Ok(total)
}

fn ensure_whole(bytes: usize) -> Result<()> {
    ensure!(bytes == LARGE_BYTES, "{bytes} bytes came of {LARGE_BYTES}");
    Ok(())
}

/// Megabytes a second since `begun`.
fn rate(begun: Instant) -> f64 {
    LARGE_BYTES as f64 / 1e6 / begun.elapsed().as_secs_f64()
}
