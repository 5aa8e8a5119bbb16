//! What the filer does when the store fails (L4), and what it never takes from the store (D1).
//!
//! The failing store is the memory store behind a switch; everything else is the real thing, the door
//! included, in this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use remotemount_crds::manifest;
use remotemount_sidecar::doors::http::HttpDoor;
use remotemount_sidecar::entry::{Directory, File, Halves, Listing, Millis};
use remotemount_sidecar::events::EventPage;
use remotemount_sidecar::filer::Filer;
use remotemount_sidecar::metrics::Metrics;
use remotemount_sidecar::mounts::Mounts;
use remotemount_sidecar::mounts::source::Sourced;
use remotemount_sidecar::path::RelPath;
use remotemount_sidecar::remote::connect::Connector;
use remotemount_sidecar::remote::credentials::Secrets;
use remotemount_sidecar::store::memory::MemoryStore;
use remotemount_sidecar::store::redb::RedbStore;
use remotemount_sidecar::store::{
    Applied, Change, Child, Cursor, Identity, Intent, IntentId, MountId, Store, StoreError, Writer,
};
use remotemount_tests::manifest::Manifest;
use remotemount_tests::proxy::Proxy;
use remotemount_tests::proxy::count::Operation;
use remotemount_tests::s3_server::{ACCESS_KEY, Kind, SECRET_KEY};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::stage::{Stage, bucket, client, server};

/// A store whose disk fails while the switch is on.
#[derive(Default)]
struct Failing {
    store: MemoryStore,
    broken: AtomicBool,
}

impl Failing {
    fn check(&self) -> Result<(), StoreError> {
        if self.broken.load(Ordering::SeqCst) { Err(StoreError::Io("no space left".into())) } else { Ok(()) }
    }
}

impl Store for Failing {
    fn file(&self, mount: MountId, path: &RelPath) -> Result<Option<File>, StoreError> {
        self.store.file(mount, path)
    }
    fn directory(&self, mount: MountId, path: &RelPath) -> Result<Option<Directory>, StoreError> {
        self.store.directory(mount, path)
    }
    fn children(&self, mount: MountId, dir: &RelPath, after: &Cursor, limit: usize) -> Result<Vec<Child>, StoreError> {
        self.store.children(mount, dir, after, limit)
    }
    fn listing(&self, mount: MountId, directory: &RelPath) -> Result<Option<Listing>, StoreError> {
        self.store.listing(mount, directory)
    }
    fn unnameable(&self, mount: MountId) -> Result<u64, StoreError> {
        self.store.unnameable(mount)
    }
    fn entries(&self) -> Result<u64, StoreError> {
        self.store.entries()
    }
    fn apply(&self, changes: &[Change]) -> Result<Applied, StoreError> {
        self.check().and_then(|()| self.store.apply(changes))
    }
    fn adopt(&self, mounts: &[Identity]) -> Result<Vec<MountId>, StoreError> {
        self.store.adopt(mounts)
    }
    fn purge(&self, limit: usize, now: Millis) -> Result<bool, StoreError> {
        self.store.purge(limit, now)
    }
    fn intents(&self) -> Result<Vec<(MountId, IntentId, Intent)>, StoreError> {
        self.store.intents()
    }
    fn hidden(&self, mount: MountId, path: &RelPath) -> Result<Halves, StoreError> {
        self.store.hidden(mount, path)
    }
    fn buried(&self, mount: MountId, path: &RelPath, asked: Millis) -> Result<Halves, StoreError> {
        self.store.buried(mount, path, asked)
    }
    fn events(&self, after: u64, limit: usize) -> Result<EventPage, StoreError> {
        self.store.events(after, limit)
    }
    fn last_event(&self) -> Result<u64, StoreError> {
        self.store.last_event()
    }
    fn signature(&self) -> Result<i32, StoreError> {
        self.store.signature()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l4_a_failing_store_still_answers() -> Result<()> {
    let contents = bucket(Kind::Weed, "l4-failing").await?;
    contents.put("a/k", "content", None).await?;
    let proxy = Proxy::start(&server(Kind::Weed).await?).await?;
    let credentials = tempfile::tempdir()?;
    std::fs::create_dir(credentials.path().join("s3-creds"))?;
    std::fs::write(credentials.path().join("s3-creds/AWS_ACCESS_KEY_ID"), ACCESS_KEY)?;
    std::fs::write(credentials.path().join("s3-creds/AWS_SECRET_ACCESS_KEY"), SECRET_KEY)?;

    let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
    let connector = Connector::new(Arc::new(Secrets::new(credentials.path().to_owned())), metrics.clone());
    let (store, mounts) = (Arc::new(Failing::default()), Arc::new(Mounts::default()));
    let manifests =
        manifest::parse(Manifest::new("m", "/m", &contents.name, &proxy.endpoint(), "").to_yaml().as_bytes())?;
    let manifests: Vec<Sourced> = manifests.into_iter().map(Sourced::from).collect();
    let shared: Arc<dyn Store> = Arc::clone(&store) as _;
    mounts.swap(&manifests, &shared, &connector, &metrics).await?;
    let (writer, _thread) = Writer::start(shared)?;
    let filer = Filer::new(mounts, Arc::clone(&store) as Arc<dyn Store>, writer, metrics.clone())?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/m/a/k", listener.local_addr()?);
    let door = HttpDoor::new(filer, &metrics);
    tokio::spawn(door.serve(listener, CancellationToken::new(), Duration::ZERO));

    store.broken.store(true, Ordering::SeqCst);
    for asked in 1..=3 {
        assert_eq!(client().head(&url).send().await?.status(), 200, "the caller has the answer");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(proxy.count_key(Operation::Head, "a/k"), asked, "and the next lookup asks again");
    }
    assert_eq!(metrics.persist_failures.get(), 3);
    store.broken.store(false, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(client().head(&url).send().await?.status(), 200);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(proxy.count_key(Operation::Head, "a/k"), 4, "persisted once the store is well");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_local_only_entries_stay() -> Result<()> {
    let mut stage = Stage::with(Kind::Weed, "d1-local", |m| m.listing_ttl_seconds(1).ttl_seconds(1)).await?;
    stage.bucket.put("d/remote", "x", None).await?;
    assert_eq!(stage.names("/m/d/").await?, ["remote"]);
    stage.sidecar.terminate(Duration::from_secs(10)).await?;
    {
        let store = RedbStore::open(stage.sidecar.state_dir())?.store;
        let local = |name: &str| RelPath::parse(name).unwrap();
        let put = |name| Change::PutFile(MountId(1), local(name), File::local(Millis(1)));
        store.apply(&[put("d/local"), put("d/zz/deep")])?;
        let deep = Directory::seen(Millis(1));
        store.apply(&[Change::PutDirectory(MountId(1), local("d/zz"), deep)])?;
    }
    stage.sidecar.restart().await?;
    stage.bucket.delete("d/remote").await?;
    stage.bucket.put("d/other", "x", None).await?;
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert_eq!(stage.names("/m/d/").await?, ["local", "other", "zz/"]);
    }
    // A local-only file is never asked for.
    stage.proxy.reset();
    assert_eq!(stage.head("/m/d/local").await?.status(), 200);
    assert_eq!(stage.proxy.total(), 0);
    Ok(())
}
