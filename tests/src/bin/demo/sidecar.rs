//! The tour of one sidecar: a bucket of 5,000 objects, mounted lazily, read and deleted from.
//!
//! Starts a real S3 server (SeaweedFS) in a temporary folder, a proxy in front of it that counts
//! requests, and the real sidecar. Beside each step stands how long it took and what it cost at the
//! remote. Every number is measured, and a step that costs other than it should is told of. Needs no
//! cluster, and nothing of Kubernetes.

mod delete;
mod events;
mod visit;
mod walk;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use remotemount_tests::bucket::Bucket;
use remotemount_tests::manifest::SECRET;
use remotemount_tests::proxy::Proxy;
use remotemount_tests::s3_server::{Kind, PLAIN_ACCESS_KEY, PLAIN_SECRET_KEY, S3Server};
use remotemount_tests::sidecar::Sidecar;
use remotemount_tests::wire;
use tempfile::TempDir;

use crate::example::Example;
use crate::{fill, screen};
use walk::Walk;

/// Runs the tour; whether every step cost what it should.
pub async fn show(keep: bool) -> Result<bool> {
    let example = Example::read()?;
    println!("RemoteMount demo: a bucket, mounted lazily, read and deleted from over HTTP\n");

    println!("Starting");
    let folder = TempDir::with_prefix("remotemount-demo-").context("making a temporary folder")?;
    let begun = Instant::now();
    let server = S3Server::start(Kind::Weed, folder.path()).await?;
    screen::fact("S3 server", &format!("SeaweedFS at {} ({})", server.endpoint(), screen::time(begun.elapsed())));
    let proxy = Proxy::start(&server.endpoint()).await?;
    screen::fact("proxy", &format!("{}, in front of it, counting requests", proxy.endpoint()));

    println!("\nFilling the bucket {:?}", example.bucket);
    let bucket = Bucket::create(&server.endpoint(), &example.bucket).await?;
    let contents = fill::fill(&bucket).await?;

    println!("\nMounting");
    screen::fact("manifest", &example.shown_path);
    screen::fact("endpoint", &format!("{} in the file, {} here", example.endpoint, proxy.endpoint()));
    let yaml = example.at(&proxy.endpoint())?;
    screen::fact("credentials", "of a user who may read and write, and whom the bucket's policies bind");
    let begun = Instant::now();
    let sidecar = Sidecar::builder().manifest(&example.name, &yaml);
    let sidecar = sidecar.credentials(SECRET, PLAIN_ACCESS_KEY, PLAIN_SECRET_KEY).start().await?;
    screen::fact("sidecar", &format!("ready after {}, pid {}", screen::time(begun.elapsed()), sidecar.pid()));
    let probes = settled(&sidecar, &proxy).await?;
    screen::fact("asked so far", &format!("{probes}, to see whether the remote answers"));

    let mut walk = Walk::new(&sidecar, &proxy, &example)?;
    walk.read(&contents).await;
    let files = walk.delete(&bucket, &yaml).await;
    walk.events(folder.path(), files).await;
    let missed = walk.visit.missed();
    if missed == 0 {
        println!("\nEvery step cost the remote what it should.");
    } else {
        println!("\n{missed} of the steps above did not go as they should.");
    }
    if keep {
        stay(&sidecar, &example).await?;
    } else {
        println!("Nothing is left running. To look around in a browser: make demo-sidecar KEEP=1");
    }
    Ok(missed == 0)
}

/// Waits until the sidecar has heard from the remote once; what that cost. Later steps count their own.
async fn settled(sidecar: &Sidecar, proxy: &Proxy) -> Result<String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let answer = wire::raw(&sidecar.admin_addr(), "GET", "/status", &[]).await?;
        let status: serde_json::Value = serde_json::from_slice(&answer.body).context("reading /status")?;
        if status["mounts"][0]["health"]["reachable"] == true {
            let kinds: Vec<String> = proxy.seen().iter().map(|seen| format!("{:?}", seen.operation)).collect();
            return Ok(format!("{} ({})", kinds.len(), kinds.join(", ").to_uppercase()));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("the sidecar has not reached the remote:\n{}", sidecar.log())
}

/// Leaves all up until Ctrl-C.
async fn stay(sidecar: &Sidecar, example: &Example) -> Result<()> {
    println!("\nAll of it stays up until Ctrl-C");
    screen::fact("files", &sidecar.http_url(&format!("{}/", example.path)));
    screen::fact("status", &sidecar.admin_url("/status"));
    screen::fact("metrics", &sidecar.admin_url("/metrics"));
    std::future::pending::<Result<()>>().await
}
