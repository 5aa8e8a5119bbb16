//! The remote conformance suite: the S3 adapter against three S3 implementations.
//!
//! SeaweedFS, moto and rclone differ in which keys they keep, in the order they list, and in whether
//! they heed `If-Match`. The adapter must give one answer on all of them; what a server cannot hold is
//! left out for it by name, never skipped in silence.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, TryStreamExt as _};
use remotemount_crds::manifest;
use remotemount_sidecar::entry::{ETag, Pointer};
use remotemount_sidecar::metrics::Metrics;
use remotemount_sidecar::remote::connect::Connector;
use remotemount_sidecar::remote::credentials::Secrets;
use remotemount_sidecar::remote::{ConditionalDelete, ErrorKind, ListRequest, Remote};
use remotemount_tests::bucket::Bucket;
use remotemount_tests::manifest::Manifest;
use remotemount_tests::proxy::Proxy;
use remotemount_tests::proxy::count::Operation;
use remotemount_tests::proxy::faults::{Action, Rule};
use remotemount_tests::s3_server::{ACCESS_KEY, Kind, S3Server, SECRET_KEY};

struct Stage {
    kind: Kind,
    _server: S3Server,
    directories: [tempfile::TempDir; 2],
    proxy: Proxy,
    bucket: Bucket,
}

async fn stage(kind: Kind) -> Result<Stage> {
    let directories = [tempfile::tempdir()?, tempfile::tempdir()?];
    let server = S3Server::start(kind, directories[0].path()).await?;
    let secret = directories[1].path().join("s3-creds");
    std::fs::create_dir(&secret)?;
    std::fs::write(secret.join("AWS_ACCESS_KEY_ID"), ACCESS_KEY)?;
    std::fs::write(secret.join("AWS_SECRET_ACCESS_KEY"), format!("{SECRET_KEY}\n"))?;
    let proxy = Proxy::start(&server.endpoint()).await?;
    let bucket = Bucket::create(&server.endpoint(), "conformance").await?;
    Ok(Stage { kind, _server: server, directories, proxy, bucket })
}

impl Stage {
    async fn remote(&self, bucket: &str) -> Result<Arc<dyn Remote>> {
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let secrets = Arc::new(Secrets::new(self.directories[1].path().to_owned()));
        let yaml = Manifest::new("m", "/m", bucket, &self.proxy.endpoint(), "").timeout_seconds(2).to_yaml();
        let mount = manifest::parse(yaml.as_bytes())?.remove(0);
        Ok(Connector::new(secrets, metrics).connect("m", &mount.spec).await.remote)
    }
}

async fn suite(kind: Kind, keys: &[&str]) -> Result<()> {
    let stage = stage(kind).await?;
    let remote = stage.remote("conformance").await?;
    exact_keys(&stage, &*remote, keys).await.context("exact keys")?;
    paging(&stage, &*remote).await.context("paging")?;
    reading(&stage, &*remote).await.context("reading")?;
    deleting(&stage, &*remote, keys).await.context("deleting")?;
    failing(&stage, &*remote).await.context("failing")?;
    Ok(())
}

async fn exact_keys(stage: &Stage, remote: &dyn Remote, keys: &[&str]) -> Result<()> {
    assert_eq!(remote.stat("nothing/here").await?, None);
    for key in keys {
        stage.bucket.put(key, key.to_string(), Some("text/x-key")).await?;
    }
    let page = remote.list(&ListRequest { limit: 1000, ..ListRequest::default() }).await?;
    let mut listed: Vec<&str> = page.objects.iter().map(|(key, _)| key.as_str()).collect();
    let mut wanted = keys.to_vec();
    listed.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(listed, wanted, "listed byte for byte");
    for (key, pointer) in &page.objects {
        let stat = remote.stat(key).await?.with_context(|| format!("{key:?} was listed"))?;
        assert_eq!(stat.pointer, *pointer, "{key:?}: HEAD and LIST say the same");
        assert_eq!(stat.description.content_type.as_deref(), Some("text/x-key"), "{key:?}");
        let body = remote.read(key, None, pointer).await?.bytes;
        assert_eq!(collect(body).await?, key.as_bytes(), "{key:?}");
    }
    for key in keys {
        stage.bucket.delete(key).await?;
    }
    Ok(())
}

async fn paging(stage: &Stage, remote: &dyn Remote) -> Result<()> {
    let names: Vec<String> = (0..25).map(|n| format!("p/d/f{n:02}")).collect();
    stage.bucket.put_many(names.iter().map(|name| (name.clone(), "x"))).await?;
    stage.bucket.put("p/sub/one", "x", None).await?;
    stage.bucket.put("p/zz", "x", None).await?;
    let mut request = ListRequest { prefix: "p/d/".to_owned(), directories: true, limit: 10, ..ListRequest::default() };
    let (mut seen, mut pages) = (Vec::new(), 0);
    loop {
        let page = remote.list(&request).await?;
        seen.extend(page.objects.into_iter().map(|(key, _)| key));
        pages += 1;
        request.token = page.next;
        if request.token.is_none() {
            break;
        }
    }
    assert_eq!((seen, pages), (names, 3));
    let request = ListRequest { prefix: "p/".to_owned(), directories: true, limit: 1000, ..ListRequest::default() };
    let page = remote.list(&request).await?;
    assert_eq!(page.prefixes, ["p/d/", "p/sub/"]);
    assert_eq!(page.objects.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["p/zz"]);
    // One key tells that a directory is there; a name that only begins alike is another.
    for (prefix, there) in [("p/sub/", true), ("p/su/", false), ("p/zz/", false)] {
        let page = remote.list(&ListRequest { prefix: prefix.to_owned(), limit: 1, ..ListRequest::default() }).await?;
        assert_eq!(!page.objects.is_empty() || !page.prefixes.is_empty(), there, "{prefix}");
    }
    Ok(())
}

async fn reading(stage: &Stage, remote: &dyn Remote) -> Result<()> {
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    stage.bucket.put("read", content.clone(), None).await?;
    let version = remote.stat("read").await?.context("it is there")?.pointer;
    assert!(collect(remote.read("read", None, &version).await?.bytes).await? == content);
    for range in [0..1, 10..20, 2_999_999..3_000_000, 1_000_000..2_500_000] {
        let body = remote.read("read", Some(range.clone()), &version).await?.bytes;
        let (start, end) = (usize::try_from(range.start)?, usize::try_from(range.end)?);
        assert!(collect(body).await? == content[start..end], "{range:?}");
    }
    // Another version, whether the server heeds If-Match or not.
    stage.bucket.put("read", "other", None).await?;
    let other = Pointer { etag: ETag::from_header("\"0000\""), ..version.clone() };
    for (stale, range) in [(&version, None), (&version, Some(0..2)), (&other, None), (&version, Some(100..200))] {
        let error = remote.read("read", range.clone(), stale).await.err().context("it must not be read")?;
        assert_eq!(error.kind, ErrorKind::Changed, "{range:?}: {error}");
    }
    let heeds = !matches!(stage.kind, Kind::Rclone);
    assert_eq!(remote.capabilities().conditional_read, heeds, "what the server did with If-Match is known by now");
    stage.bucket.delete("read").await?;
    assert_eq!(remote.read("read", None, &version).await.err().map(|error| error.kind), Some(ErrorKind::Changed));
    Ok(())
}

/// One by one and in bulk: the version that was asked for goes, another stays, and what is gone is no error.
async fn deleting(stage: &Stage, remote: &dyn Remote, keys: &[&str]) -> Result<()> {
    let version = |key: &'static str| async move { remote.stat(key).await?.map(|s| s.pointer).context(key) };
    stage.bucket.put("del", "first", None).await?;
    let first = version("del").await?;
    stage.bucket.put("del", "second", None).await?;
    assert_eq!(remote.capabilities().conditional_delete, ConditionalDelete::Unknown, "nothing was deleted yet");
    for _ in 0..2 {
        let error = remote.delete("del", Some(&first)).await.err().context("another version stays")?;
        assert_eq!(error.kind, ErrorKind::Changed, "{error}");
    }
    assert_eq!(stage.bucket.get("del").await?, "second");
    for body in ["second", "third"] {
        stage.bucket.put("del", body, None).await?;
        remote.delete("del", Some(&version("del").await?)).await?;
        assert!(stage.bucket.head("del").await?.is_none(), "{body}: deleted");
    }
    let native = stage.kind != Kind::Rclone;
    let wanted = if native { ConditionalDelete::Native } else { ConditionalDelete::Emulated };
    assert_eq!(remote.capabilities().conditional_delete, wanted);
    stage.bucket.put("del", "fourth", None).await?;
    assert_eq!(remote.delete("del", Some(&first)).await.err().map(|e| e.kind), Some(ErrorKind::Changed));
    let fourth = version("del").await?;
    stage.proxy.reset();
    remote.delete("del", Some(&fourth)).await?;
    let requests = (stage.proxy.count(Operation::Head), stage.proxy.count(Operation::Delete));
    assert_eq!(requests, (usize::from(!native), 1), "one request where the server heeds the condition");
    match remote.delete("del", Some(&fourth)).await {
        Ok(()) => {}
        // Some servers say that of what is not there; the filer asks again then.
        Err(error) => assert_eq!(error.kind, ErrorKind::Changed, "{error}"),
    }
    assert!(remote.stat("del").await?.is_none());
    remote.delete("nothing/here", None).await?;
    bulk(stage, remote, keys).await
}

async fn bulk(stage: &Stage, remote: &dyn Remote, keys: &[&str]) -> Result<()> {
    let names: Vec<String> = (0..999).map(|n| format!("bulk/d{}/f{n:03}", n % 7)).collect();
    stage.bucket.put_many(names.iter().map(|name| (name.clone(), "x"))).await?;
    let page = remote.list(&ListRequest { prefix: "bulk/".to_owned(), limit: 1000, ..ListRequest::default() }).await?;
    assert_eq!(page.objects.len(), 999);
    let mut objects = page.objects;
    let missing = ("bulk/missing".to_owned(), objects[0].1.clone());
    objects.push(missing);
    stage.proxy.reset();
    assert!(remote.delete_many(&objects).await?.is_empty(), "all gone, and what was not there is no error");
    assert_eq!(stage.proxy.count(Operation::DeleteMany), 1);
    let page = remote.list(&ListRequest { prefix: "bulk/".to_owned(), limit: 10, ..ListRequest::default() }).await?;
    assert!(page.objects.is_empty(), "{:?}", page.objects);
    // Every key the server can hold; on a tree of files, a folder's marker cannot be deleted by its key.
    for key in keys {
        stage.bucket.put(key, "x", None).await?;
    }
    let page = remote.list(&ListRequest { limit: 1000, ..ListRequest::default() }).await?;
    let objects: Vec<_> = page.objects.into_iter().filter(|(key, _)| keys.contains(&key.as_str())).collect();
    assert_eq!(objects.len(), keys.len());
    let failures = remote.delete_many(&objects).await?;
    assert!(failures.is_empty(), "{failures:?}");
    for key in keys {
        assert!(stage.bucket.head(key).await?.is_none(), "{key:?} is gone");
    }
    // A server that knows no bulk requests.
    stage.bucket.put_many([("one/a", "x"), ("one/b", "x")]).await?;
    let page = remote.list(&ListRequest { prefix: "one/".to_owned(), limit: 10, ..ListRequest::default() }).await?;
    stage.proxy.inject(Rule::new(Action::error(501, "NotImplemented")).operation(Operation::DeleteMany));
    assert!(remote.delete_many(&page.objects).await?.is_empty());
    assert!(stage.bucket.keys("one/").await?.is_empty());
    assert!(!remote.capabilities().bulk_delete);
    stage.proxy.clear();
    singles(stage).await
}

/// A server that knows neither bulk requests nor conditions: what single deletes have learnt holds for many keys, too.
async fn singles(stage: &Stage) -> Result<()> {
    let remote = stage.remote("conformance").await?;
    stage.proxy.inject(Rule::new(Action::error(501, "NotImplemented")).operation(Operation::DeleteMany));
    stage.proxy.inject(Rule::new(Action::error(501, "NotImplemented")).operation(Operation::Delete).conditional());
    stage.bucket.put_many([("one/a", "x"), ("one/b", "x"), ("one/c", "x"), ("one/changed", "x")]).await?;
    let page = remote.list(&ListRequest { prefix: "one/".to_owned(), limit: 10, ..ListRequest::default() }).await?;
    stage.bucket.put("one/changed", "another version", None).await?;
    let failures = remote.delete_many(&page.objects).await?;
    let failures: Vec<_> = failures.iter().map(|(at, error)| (page.objects[*at].0.as_str(), error.kind)).collect();
    assert_eq!(failures, [("one/changed", ErrorKind::Changed)]);
    assert_eq!(stage.bucket.keys("one/").await?, ["one/changed"]);
    assert_eq!(remote.capabilities().conditional_delete, ConditionalDelete::Emulated);
    stage.bucket.delete("one/changed").await?;
    stage.proxy.clear();
    Ok(())
}

async fn failing(stage: &Stage, remote: &dyn Remote) -> Result<()> {
    absent(stage).await?;
    let missing = stage.remote("no-such-bucket-here").await?;
    let error = missing.list(&ListRequest { limit: 1, ..ListRequest::default() }).await.err().context("no bucket")?;
    assert_eq!(error.kind, ErrorKind::BucketNotFound, "{error}");
    let cases = [
        (Action::error(403, "AccessDenied"), ErrorKind::Denied),
        (Action::error(503, "SlowDown"), ErrorKind::Throttled),
        (Action::error(500, "InternalError"), ErrorKind::Unavailable),
        (Action::error(400, "InvalidRequest"), ErrorKind::Rejected),
        (Action::Hang(std::time::Duration::from_secs(30)), ErrorKind::TimedOut),
    ];
    for (action, kind) in cases {
        let name = format!("{action:?}");
        stage.proxy.inject(Rule::new(action));
        let error = remote.list(&ListRequest { limit: 1, ..ListRequest::default() }).await.err().context("it fails")?;
        assert_eq!(error.kind, kind, "{name}: {error}");
        stage.proxy.clear();
    }
    Ok(())
}

/// HEAD says that there is no such key: for a delete that counts only where a LIST says so, too.
async fn absent(stage: &Stage) -> Result<()> {
    let remote = stage.remote("conformance").await?;
    let neighbours = ["ab/k-", "ab/k0", "ab/kk", "ab/kk/x"];
    for key in neighbours.iter().filter(|key| stage.kind == Kind::Moto || !key.ends_with("/x")) {
        stage.bucket.put(key, "x", None).await?;
    }
    let page = remote.list(&ListRequest { prefix: "ab/k".to_owned(), limit: 1, ..ListRequest::default() }).await?;
    let (key, version) = page.objects.into_iter().next().context("a neighbour")?;
    assert_ne!(key, "ab/k");
    remote.delete("ab/k", Some(&version)).await?;
    // The key itself comes before its neighbours.
    stage.bucket.put("ab/k", "x", None).await?;
    let version = remote.stat("ab/k").await?.context("it is there")?.pointer;
    for (listing, kind) in [
        (Rule::new(Action::error(404, "NoSuchBucket")).operation(Operation::List), ErrorKind::BucketNotFound),
        (Rule::new(Action::error(403, "AccessDenied")).operation(Operation::List), ErrorKind::Denied),
        (Rule::new(Action::error(500, "InternalError")).operation(Operation::List), ErrorKind::Unavailable),
        (Rule::new(Action::Status(404, None)).operation(Operation::Head), ErrorKind::Unavailable),
    ] {
        stage.proxy.inject(Rule::new(Action::Status(404, None)).operation(Operation::Head));
        stage.proxy.inject(listing);
        let error = remote.delete("ab/k", Some(&version)).await.err().context("it is not known to be gone")?;
        assert_eq!(error.kind, kind, "{error}");
        stage.proxy.clear();
        assert!(stage.bucket.head("ab/k").await?.is_some());
    }
    Ok(())
}

async fn collect(
    body: futures_util::stream::BoxStream<'static, Result<bytes::Bytes, remotemount_sidecar::remote::RemoteError>>,
) -> Result<Vec<u8>> {
    Ok(body.map(|item| item.map(|bytes| bytes.to_vec())).try_concat().await?)
}

const COMMON: [&str; 8] = ["plain", "sp ace", "pl+us", "per%cent", "p%2Fq", "ünï☃", "q?x#y", "amp&<>"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_on_seaweedfs() -> Result<()> {
    let deep = ["a", "a/b", "deep/er/still", "ctl\u{1}x"];
    suite(Kind::Weed, &[COMMON.as_slice(), &deep].concat()).await
}

/// Keeps every key there can be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_on_moto() -> Result<()> {
    let long = "n".repeat(300);
    let odd = ["a", "a/b", "a//b", "/lead", "x/../y", "dir/", "ctl\u{1}x", " outer ", long.as_str()];
    suite(Kind::Moto, &[COMMON.as_slice(), &odd].concat()).await
}

/// A file tree: no `a` beside `a/b`. It ignores `If-Match`, so the adapter's own comparison is what holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_on_rclone() -> Result<()> {
    suite(Kind::Rclone, &[COMMON.as_slice(), &["deep/er/still"]].concat()).await
}
