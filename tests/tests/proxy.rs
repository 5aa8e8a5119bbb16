//! The proxy forwards byte for byte, counts what it sees and breaks requests as told.
//!
//! Most tests stand it before a small upstream that echoes what reached it, because what must be
//! compared is the raw request; two sign requests and send them through it to rclone, which checks
//! signatures and does what it is told.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use remotemount_tests::bucket::Bucket;
use remotemount_tests::proxy::Proxy;
use remotemount_tests::proxy::count::Operation;
use remotemount_tests::proxy::faults::{Action, Rule};
use remotemount_tests::s3_server::{Kind, S3Server};
use remotemount_tests::wire::raw;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

const SIZE: usize = 1 << 20;

/// Answers with the request's target and Host as headers, and the request's body or, without one,
/// with `SIZE` bytes.
async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let target = request.uri().to_string();
    let host = request.headers().get("host").cloned();
    let host = host.context("no Host")?;
    let body = request.into_body().collect().await?.to_bytes();
    let body = if body.is_empty() { (0..SIZE).map(|n| (n % 251) as u8).collect() } else { body };
    let response = Response::builder().header("x-target", target).header("x-host", host).header("etag", "\"e\"");
    Ok(response.body(Full::new(body))?)
}

/// A proxy before an upstream that echoes, and the proxy's address.
async fn echoing() -> Result<(Proxy, String)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let upstream = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(echo));
            tokio::spawn(connection);
        }
    });
    let proxy = Proxy::start(&upstream).await?;
    let address = proxy.address();
    Ok((proxy, address))
}

#[tokio::test]
async fn targets_and_host_arrive_as_sent() -> Result<()> {
    let (proxy, at) = echoing().await?;
    for target in [
        "/b/a//b",
        "/b//lead",
        "/b/x/../y",
        "/b/%2e%2E/%c3%bc?a=%20+&a&=;",
        "/b/trail//?",
        "/b?list-type=2&prefix=p%2F&delimiter=%2F",
    ] {
        let answer = raw(&at, "GET", target, &[("Host", "some.where:99")]).await?;
        assert_eq!(answer.header("x-target"), Some(target));
        assert_eq!(answer.header("x-host"), Some("some.where:99"));
        assert!(answer.complete);
        assert_eq!(answer.body.len(), SIZE);
    }
    assert_eq!(proxy.count_key(Operation::Get, "x/../y"), 1);
    assert_eq!(proxy.count_key(Operation::List, "p/"), 1);
    assert_eq!(proxy.total(), 6);
    let head = raw(&at, "HEAD", "/b/k", &[("Range", "bytes=0-1"), ("If-Match", "\"e\"")]).await?;
    assert_eq!(head.header("content-length"), Some("1048576"));
    let seen = proxy.seen().pop().unwrap();
    assert_eq!(seen.operation, Operation::Head);
    assert_eq!(seen.range.as_deref(), Some("bytes=0-1"));
    assert_eq!(seen.if_match.as_deref(), Some("\"e\""));
    assert_eq!(seen.status, Some(200));
    proxy.reset();
    assert_eq!((proxy.total(), proxy.in_flight()), (0, 0));
    Ok(())
}

#[tokio::test]
async fn connections_stay_and_bodies_go_up() -> Result<()> {
    let (proxy, at) = echoing().await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    for n in 0..5_u8 {
        let body = vec![n; 3 << 20];
        let put = client.put(format!("http://{at}/b/k")).body(body.clone());
        assert_eq!(put.send().await?.bytes().await?, body);
    }
    assert_eq!(proxy.connections(), 1);
    assert_eq!(proxy.count(Operation::Put), 5);
    Ok(())
}

#[tokio::test]
async fn signed_requests_hold_through_the_proxy() -> Result<()> {
    let dir = tempfile::TempDir::new()?;
    let server = S3Server::start(Kind::Rclone, dir.path()).await?;
    let proxy = Proxy::start(&server.endpoint()).await?;
    let bucket = Bucket::create(&proxy.endpoint(), "through").await?;
    let body = Bytes::from(vec![9_u8; 5 << 20]);
    bucket.put("a b/ü+c", body.clone(), None).await?;
    assert_eq!(bucket.get("a b/ü+c").await?, body);
    assert_eq!(bucket.keys("a b/").await?, ["a b/ü+c"]);
    assert_eq!(proxy.count_key(Operation::Put, "a b/ü+c"), 1);
    assert_eq!(proxy.count_key(Operation::Get, "a b/ü+c"), 1);
    assert_eq!(proxy.count_key(Operation::List, "a b/"), 1);
    proxy.inject(Rule::new(Action::error(503, "SlowDown")).times(1));
    assert_eq!(bucket.get("a b/ü+c").await?, body);
    assert_eq!(proxy.count(Operation::Get), 3);
    Ok(())
}

#[tokio::test]
async fn status_with_skip_and_times() -> Result<()> {
    let (proxy, at) = echoing().await?;
    let rule = Rule::new(Action::error(503, "SlowDown"));
    proxy.inject(rule.operation(Operation::Get).key("k").nth(1).times(2));
    proxy.inject(Rule::new(Action::Status(500, None)).prefix("dir/"));
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(raw(&at, "GET", "/b/k", &[]).await?.status);
    }
    assert_eq!(statuses, [200, 503, 503, 200]);
    assert_eq!(raw(&at, "GET", "/b/other", &[]).await?.status, 200);
    let head = raw(&at, "HEAD", "/b/dir/x", &[]).await?;
    assert_eq!((head.status, head.body.len()), (500, 0));
    proxy.clear();
    assert_eq!(raw(&at, "HEAD", "/b/dir/x", &[]).await?.status, 200);
    proxy.inject(Rule::new(Action::error(404, "NoSuchKey")));
    let answer = raw(&at, "GET", "/b/k", &[]).await?;
    assert!(answer.text().contains("<Code>NoSuchKey</Code>"));
    assert_eq!(proxy.seen().pop().unwrap().status, Some(404));
    Ok(())
}

#[tokio::test]
async fn reset() -> Result<()> {
    let (proxy, at) = echoing().await?;
    proxy.inject(Rule::new(Action::Reset).times(1));
    let mut stream = TcpStream::connect(&at).await?;
    stream.write_all(b"GET /b/k HTTP/1.1\r\nHost: h\r\n\r\n").await?;
    let error = stream.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(proxy.seen()[0].status, None);
    assert_eq!(raw(&at, "GET", "/b/k", &[]).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn lose_answer() -> Result<()> {
    let dir = tempfile::TempDir::new()?;
    let server = S3Server::start(Kind::Rclone, dir.path()).await?;
    let proxy = Proxy::start(&server.endpoint()).await?;
    let bucket = Bucket::create(&server.endpoint(), "lost").await?;
    bucket.put("k", "v", None).await?;
    proxy.inject(Rule::new(Action::LoseAnswer));
    let error = Bucket::open(&proxy.endpoint(), "lost").delete("k").await.unwrap_err();
    assert!(format!("{error:?}").contains("reset by peer"), "{error:?}");
    assert_eq!(bucket.head("k").await?, None, "the server did it");
    assert!(proxy.count_key(Operation::Delete, "k") > 0);
    assert!(proxy.seen().iter().all(|seen| seen.status.is_none()), "nobody was answered");
    assert_eq!(proxy.in_flight(), 0);
    proxy.clear();
    Bucket::open(&proxy.endpoint(), "lost").put("k", "again", None).await?;
    assert_eq!(bucket.get("k").await?, "again");
    Ok(())
}

#[tokio::test]
async fn hang_then_close() -> Result<()> {
    let (proxy, at) = echoing().await?;
    proxy.inject(Rule::new(Action::Hang(Duration::from_millis(200))));
    let start = Instant::now();
    let mut stream = TcpStream::connect(&at).await?;
    stream.write_all(b"GET /b/k HTTP/1.1\r\nHost: h\r\n\r\n").await?;
    assert_eq!(stream.read(&mut [0; 10]).await?, 0);
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(proxy.in_flight(), 0);
    Ok(())
}

#[tokio::test]
async fn delay_and_latency() -> Result<()> {
    const ONCE: Duration = Duration::from_secs(2);
    let (proxy, at) = echoing().await?;
    proxy.inject(Rule::new(Action::Delay(ONCE)).times(1));
    proxy.set_latency(Duration::from_millis(100));
    let start = Instant::now();
    assert_eq!(raw(&at, "GET", "/b/k", &[]).await?.status, 200);
    assert!(start.elapsed() >= ONCE + Duration::from_millis(100));
    let start = Instant::now();
    assert_eq!(raw(&at, "GET", "/b/k", &[]).await?.status, 200);
    assert!(start.elapsed() >= Duration::from_millis(100));
    assert!(start.elapsed() < ONCE, "delayed once alone");
    Ok(())
}

#[tokio::test]
async fn break_body_at_the_exact_byte() -> Result<()> {
    let (proxy, at) = echoing().await?;
    for bytes in [0, 1, 1000, 65_536, 777_777, SIZE - 1] {
        proxy.inject(Rule::new(Action::BreakBodyAfter(bytes as u64)).times(1));
        let answer = raw(&at, "GET", "/b/k", &[]).await?;
        assert_eq!(answer.header("content-length"), Some("1048576"));
        assert_eq!((answer.body.len(), answer.complete), (bytes, false));
    }
    proxy.inject(Rule::new(Action::BreakBodyAfter(SIZE as u64)).times(1));
    assert!(raw(&at, "GET", "/b/k", &[]).await?.complete);
    assert_eq!(proxy.in_flight(), 0);
    Ok(())
}

#[tokio::test]
async fn pause_body_until_notified() -> Result<()> {
    let (proxy, at) = echoing().await?;
    let go_on = Arc::new(Notify::new());
    proxy.inject(Rule::new(Action::PauseBodyAfter(5000, Arc::clone(&go_on))));
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut response = client.get(format!("http://{at}/b/k")).send().await?;
    let mut got = 0;
    while got < 5000 {
        got += response.chunk().await?.unwrap().len();
    }
    assert_eq!(got, 5000);
    let more = tokio::time::timeout(Duration::from_millis(200), response.chunk()).await;
    assert!(more.is_err());
    assert_eq!((proxy.in_flight(), proxy.peak_in_flight()), (1, 1));
    go_on.notify_one();
    assert_eq!(response.bytes().await?.len(), SIZE - 5000);
    Ok(())
}

#[tokio::test]
async fn strip_header() -> Result<()> {
    let (proxy, at) = echoing().await?;
    proxy.inject(Rule::new(Action::StripHeader("ETag".to_owned())).times(1));
    assert_eq!(raw(&at, "GET", "/b/k", &[]).await?.header("etag"), None);
    let answer = raw(&at, "GET", "/b/k", &[]).await?;
    assert_eq!(answer.header("etag"), Some("\"e\""));
    Ok(())
}

#[tokio::test]
async fn bandwidth() -> Result<()> {
    let (proxy, at) = echoing().await?;
    proxy.set_bandwidth(Some(2 << 20));
    let start = Instant::now();
    assert!(raw(&at, "GET", "/b/k", &[]).await?.complete);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(450), "{took:?}");
    assert!(took < Duration::from_millis(1500), "{took:?}");
    Ok(())
}

#[tokio::test]
async fn an_unreachable_upstream_is_a_closed_connection() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let upstream = format!("http://{}", listener.local_addr()?);
    drop(listener);
    let proxy = Proxy::start(&upstream).await?;
    assert!(raw(&proxy.address(), "GET", "/b/k", &[]).await.is_err());
    assert_eq!(proxy.seen()[0].status, None);
    Ok(())
}
