//! Figures of deletes: a tree of 10,000 objects, and single files that are known.
//!
//! Trees go at a remote 5 ms away, through the same proxy for both sides, which take turns at being
//! first and get trees of their own. SeaweedFS's filer deletes of a tree only what it knows, so it is
//! told of all of it first (`remote.meta.sync`), and that is not counted; what it leaves of a tree that
//! it was not told of is a figure of its own. A tree counts as deleted when the bucket itself has
//! nothing of it: what is left is said in the row.
//!
//! Single deletes go one after another, in turns with the remote's own, at 20 ms.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use remotemount_tests::bucket::Bucket;

use crate::table::{Figure, Rounds, Target};
use crate::{ROUNDS, Stage, say};

const OBJECTS: usize = 10_000;
const DIRECTORIES: usize = 100;
const NEAR: Duration = Duration::from_millis(5);
/// How long SeaweedFS's filer may take for a tree before it is given up.
const PATIENCE: Duration = Duration::from_secs(180);
/// When its rounds have taken that long together, there are no more.
const ENOUGH: Duration = Duration::from_secs(120);

const FAR: Duration = Duration::from_millis(20);
const FILES: usize = 50;
/// Deleted first and not counted: connections open, and it is found out what the server heeds.
const UNCOUNTED: usize = 5;

/// What came of a tree.
struct Outcome {
    seconds: f64,
    requests: usize,
    /// Objects that the bucket still has.
    left: usize,
    given_up: bool,
}

/// Deletes of whole trees: the time, the requests, and what is left of a tree that nobody has listed.
pub async fn trees(stage: &Stage) -> Result<Vec<Figure>> {
    let (mut ours, mut theirs) = (Rounds::new(), Rounds::new());
    let (mut our_requests, mut their_requests) = (Rounds::new(), Rounds::new());
    let (mut their_left, mut their_unlisted, mut given_up) = (0, None, false);
    let mut spent = 0.0;
    for round in 0..ROUNDS {
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                say(&format!("delete of {OBJECTS} objects, ours, round {} of {ROUNDS}", round + 1));
                let top = format!("tree/ours/{round}");
                fill_tree(stage, &top).await?;
                let outcome = tree(stage, &top, &stage.sidecar.http_url(&format!("/data/{top}"))).await?;
                ensure!(outcome.left == 0 && !outcome.given_up, "the sidecar left {} objects", outcome.left);
                ours.add(outcome.seconds);
                our_requests.add(outcome.requests as f64);
            } else if spent < ENOUGH.as_secs_f64() && !given_up {
                say(&format!("delete of {OBJECTS} objects, SeaweedFS, round {} of at most {ROUNDS}", round + 1));
                let top = format!("tree/seaweed/{round}");
                fill_tree(stage, &top).await?;
                let url = stage.seaweed.url(&top);
                if their_unlisted.is_none() {
                    let outcome = tree(stage, &top, &url).await?;
                    if outcome.left < OBJECTS {
                        fill_tree(stage, &top).await?;
                    }
                    their_unlisted = Some(outcome);
                }
                stage.seaweed.learn(&top).await?;
                let outcome = tree(stage, &top, &url).await?;
                theirs.add(outcome.seconds);
                their_requests.add(outcome.requests as f64);
                their_left = their_left.max(outcome.left);
                given_up = outcome.given_up;
                spent += outcome.seconds;
            }
        }
    }
    let name = "delete of 10,000 objects at 5 ms, SeaweedFS";
    let mut time = Figure::times_less(name, "s", &ours, &theirs, Target::RatioAtLeast(10.0))?;
    time.at_least = given_up;
    if given_up {
        time.theirs = format!("{}, gave up", time.theirs);
    }
    if their_left > 0 {
        time.theirs = format!("{}; left {their_left} objects", time.theirs);
    }
    let requests = Figure::times_less("requests for it", "requests", &our_requests, &their_requests, Target::None)?;
    let unlisted = their_unlisted.context("a figure without rounds")?;
    let nobody = Figure {
        name: "objects left of a tree not listed before".to_owned(),
        ours: "0 objects".to_owned(),
        theirs: format!("{} objects, after {:.2} s", unlisted.left, unlisted.seconds),
        value: 0.0,
        target: Target::Exactly(0.0),
        at_least: false,
    };
    Ok(vec![time, requests, nobody])
}

/// Deletes of single files that are known.
pub async fn files(stage: &Stage) -> Result<Figure> {
    say(&format!("delete of {FILES} known files, one after another"));
    let far = Bucket::open(&stage.proxy.endpoint(), &stage.bucket.name);
    let name = |side: &str, n: usize| format!("single/{side}/{n:03}");
    let all = ["ours", "remote"].into_iter().flat_map(|side| (0..FILES + UNCOUNTED).map(move |n| name(side, n)));
    stage.bucket.put_many(all.map(|key| (key, "x"))).await?;
    let url = |n: usize| stage.sidecar.http_url(&format!("/data/{}", name("ours", n)));
    for n in 0..FILES + UNCOUNTED {
        let answer = stage.client.head(url(n)).send().await?;
        ensure!(answer.status() == 200, "{}: {}", url(n), answer.status());
    }
    stage.proxy.quiet().await;
    stage.proxy.set_latency(FAR);
    let (mut ours, mut remote) = (Rounds::new(), Rounds::new());
    for n in 0..FILES + UNCOUNTED {
        for turn in 0..2 {
            let begun = Instant::now();
            let rounds = if (n + turn) % 2 == 0 {
                let answer = stage.client.delete(url(n)).send().await?;
                ensure!(answer.status() == 204, "{}: {}", url(n), answer.status());
                &mut ours
            } else {
                Box::pin(far.delete(&name("remote", n))).await?;
                &mut remote
            };
            if n >= UNCOUNTED {
                rounds.add(begun.elapsed().as_secs_f64() * 1000.0);
            }
        }
    }
    stage.proxy.set_latency(Duration::ZERO);
    let left = stage.bucket.keys("single/").await?.len();
    ensure!(left == 0, "{left} files are still in the bucket");
    Figure::ratio("delete of a known file at 20 ms, remote's own", "ms", &ours, &remote, Target::RatioAtMost(1.2))
}

/// Puts a tree, whatever is there of it.
async fn fill_tree(stage: &Stage, top: &str) -> Result<()> {
    let keys = (0..OBJECTS).map(|n| format!("{top}/{:02}/{n:05}", n % DIRECTORIES));
    stage.bucket.put_many(keys.map(|key| (key, "x"))).await?;
    Ok(())
}

/// Deletes a tree over HTTP, and sees what the bucket has left of it.
async fn tree(stage: &Stage, top: &str, url: &str) -> Result<Outcome> {
    stage.proxy.quiet().await;
    stage.proxy.reset();
    stage.proxy.set_latency(NEAR);
    let begun = Instant::now();
    let request = stage.client.delete(format!("{url}?recursive=true")).timeout(PATIENCE).send().await;
    let seconds = begun.elapsed().as_secs_f64();
    let requests = stage.proxy.total();
    stage.proxy.set_latency(Duration::ZERO);
    let given_up = match request {
        Ok(answer) => {
            let status = answer.status();
            ensure!(status == 204, "{url}: {status}: {}", answer.text().await.unwrap_or_default());
            false
        }
        Err(error) if error.is_timeout() => true,
        Err(error) => return Err(error).with_context(|| format!("deleting {url}")),
    };
    let left = stage.bucket.keys(&format!("{top}/")).await?.len();
    Ok(Outcome { seconds, requests, left, given_up })
}
