//! Read: R1 to R3, as far as there is no block cache.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures_util::StreamExt as _;
use remotemount_tests::proxy::count::Operation;
use remotemount_tests::proxy::faults::{Action, Rule};
use remotemount_tests::s3_server::Kind;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::stage::Stage;

const MIB: usize = 1 << 20;

/// `len` bytes that tell where they are and which version they are of.
fn pattern(version: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add((at >> 8) as u8).wrapping_add(version)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_bytes_are_of_one_version() -> Result<()> {
    let stage = Stage::with(Kind::Weed, "r1-version", |m| m.ttl_seconds(1).timeout_seconds(15)).await?;
    let (one, two) = (pattern(1, 64 * MIB), pattern(2, 64 * MIB));
    stage.bucket.put("big", one.clone(), None).await?;
    // The stream breaks off after 8 MiB, and the object is another by then.
    let held = Arc::new(Notify::new());
    stage.proxy.inject(
        Rule::new(Action::PauseBodyAfter(8 * MIB as u64, Arc::clone(&held))).operation(Operation::Get).times(1),
    );
    let mut stream = stage.get("/m/big").await?.bytes_stream();
    let (mut read, mut failed) = (Vec::new(), false);
    while read.len() < 7 * MIB {
        read.extend_from_slice(&stream.next().await.unwrap()?);
    }
    stage.bucket.put("big", two.clone(), None).await?;
    while let Some(item) = stream.next().await {
        match item {
            Ok(bytes) => read.extend_from_slice(&bytes),
            Err(_) => failed = true,
        }
    }
    held.notify_one();
    let asked: Vec<_> = stage.proxy.seen().into_iter().map(|s| (s.operation, s.range, s.status)).collect();
    assert!(failed, "{asked:?}: the reader sees an error, after {} bytes", read.len());
    assert!(read.len() < one.len() && read == one[..read.len()], "and never mixed bytes");
    // The read put the entry in doubt: the new version is served at once, whole.
    let answer = stage.get("/m/big").await?;
    assert_eq!(answer.headers()["etag"].to_str()?.trim_matches('"'), stage.bucket.etag("big").await?.trim_matches('"'));
    assert!(answer.bytes().await? == two, "the new version, byte for byte");
    let gets = stage.proxy.seen().into_iter().filter(|seen| seen.operation == Operation::Get);
    assert!(gets.into_iter().all(|seen| seen.if_match.is_some()), "If-Match on every request");
    Ok(())
}

/// An entry that is old news when the read begins: asked for again before a byte is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_a_stale_entry_is_not_read() -> Result<()> {
    for kind in [Kind::Weed, Kind::Moto] {
        let stage = Stage::with(kind, "r1-stale", |m| m).await?;
        stage.bucket.put("k", "version one", None).await?;
        assert_eq!(stage.head("/m/k").await?.headers()["content-length"], "11");
        stage.bucket.put("k", "two", None).await?;
        let answer = stage.get("/m/k").await?;
        assert_eq!((answer.status().as_u16(), answer.headers()["content-length"].to_str()?), (200, "3"));
        assert_eq!(answer.text().await?, "two");
        stage.bucket.delete("k").await?;
        assert_eq!(stage.get("/m/k").await?.status(), 404);
    }
    Ok(())
}

/// A stream that breaks off is taken up in the same version, and the reader does not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_a_broken_stream_is_taken_up() -> Result<()> {
    let stage = Stage::with(Kind::Weed, "r1-resume", |m| m.timeout_seconds(3)).await?;
    let content = pattern(3, 4 * MIB);
    stage.bucket.put("k", content.clone(), None).await?;
    for n in 1..=2 {
        stage.proxy.inject(Rule::new(Action::BreakBodyAfter(n * MIB as u64)).operation(Operation::Get).times(1));
    }
    assert!(stage.get("/m/k").await?.bytes().await? == content);
    let ranges: Vec<_> =
        stage.proxy.seen().into_iter().filter(|s| s.operation == Operation::Get).map(|s| s.range).collect();
    assert_eq!(ranges, [None, Some("bytes=1048576-4194303".to_owned()), Some("bytes=3145728-4194303".to_owned())]);
    // For ever broken, it is an error and not a shorter object.
    stage.proxy.inject(Rule::new(Action::BreakBodyAfter(0)).operation(Operation::Get));
    let answer = remotemount_tests::wire::raw(&stage.sidecar.http_addr(), "GET", "/m/k", &[]).await?;
    assert!(!answer.complete, "cut off, so that nobody takes it for the whole");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r2_a_cold_read_streams_at_once() -> Result<()> {
    let stage = Stage::new("r2-stream").await?;
    let content = pattern(4, 8 * MIB);
    stage.bucket.put("k", content.clone(), None).await?;
    let held = Arc::new(Notify::new());
    stage.proxy.inject(Rule::new(Action::PauseBodyAfter(MIB as u64, Arc::clone(&held))).operation(Operation::Get));
    let mut stream = stage.get("/m/k").await?.bytes_stream();
    let mut read = Vec::new();
    while read.len() < MIB / 2 {
        let bytes = timeout(Duration::from_secs(5), stream.next()).await?;
        read.extend_from_slice(&bytes.unwrap()?);
    }
    held.notify_one();
    while let Some(bytes) = stream.next().await {
        read.extend_from_slice(&bytes?);
    }
    assert!(read == content);
    // A range asks for what it needs and no more.
    stage.proxy.clear();
    stage.proxy.reset();
    let answer = stage.get_with("/m/k", &[("range", "bytes=5000000-5000009")]).await?;
    assert_eq!(answer.status(), 206);
    assert!(answer.bytes().await? == content[5_000_000..5_000_010]);
    let seen = stage.proxy.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].range.as_deref(), Some("bytes=5000000-5000009"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_metadata_is_the_same_however_it_was_learnt() -> Result<()> {
    const NAMES: [&str; 4] = ["etag", "content-length", "last-modified", "content-type"];
    let told = |answer: &reqwest::Response| NAMES.map(|name| answer.headers().get(name).cloned());
    let stage = Stage::new("r3-same").await?;
    stage.bucket.put("d/k.css", "body{}", Some("text/css")).await?;
    stage.bucket.put("d/zero", "", Some("text/x-zero")).await?;
    for key in ["k.css", "zero"] {
        let path = format!("/m/d/{key}");
        let looked_up = told(&stage.head(&path).await?);
        assert_eq!(told(&stage.get(&path).await?), looked_up, "{key}: HEAD and GET");
        assert!(looked_up.iter().all(Option::is_some), "{key}: {looked_up:?}");
    }
    // On another store, learnt by a listing: HEAD asks for what a listing does not tell; GET learns it by the way.
    let other = Stage::with(Kind::Weed, "r3-same", |m| m).await?;
    assert_eq!(other.names("/m/d/").await?.len(), 2);
    other.proxy.reset();
    assert_eq!(told(&other.get("/m/d/k.css").await?), told(&stage.get("/m/d/k.css").await?));
    assert_eq!(other.proxy.total(), 1, "the GET alone: {:?}", other.proxy.seen());
    sleep(Duration::from_millis(200)).await;
    other.proxy.reset();
    assert_eq!(told(&other.head("/m/d/k.css").await?), told(&stage.head("/m/d/k.css").await?));
    assert_eq!(other.proxy.total(), 0, "known by now: {:?}", other.proxy.seen());
    assert_eq!(told(&other.get("/m/d/zero").await?), told(&stage.head("/m/d/zero").await?));
    let entry: serde_json::Value = other.get("/m/d/zero?metadata=true").await?.json().await?;
    assert_eq!((&entry["Mime"], &entry["FileSize"]), (&"text/x-zero".into(), &0.into()));
    Ok(())
}
