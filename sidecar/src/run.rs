//! `run`: puts the rooms together, and takes them apart in order.
//!
//! Up: store, writer, mount table, then the doors; ready when the first table is in force. Down, on
//! SIGTERM, SIGINT or SIGHUP: readiness goes, the doors let requests under way end, flights land and are
//! persisted, the writer commits what is left. No decision about entries or requests is made here.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, bail};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, Expected, Shown};
use crate::args::RunArgs;
use crate::doors::grpc::{GrpcDoor, Parts};
use crate::doors::http::HttpDoor;
use crate::filer::Filer;
use crate::link::Link;
use crate::link::report::Reporter;
use crate::link::settings::Settings;
use crate::link::state::LinkState;
use crate::metrics::Metrics;
use crate::mounts::newest::Newest;
use crate::mounts::watch::Watch;
use crate::mounts::{Mounts, source};
use crate::remote::connect::Connector;
use crate::remote::credentials::Secrets;
use crate::store::redb::RedbStore;
use crate::store::{Store, Writer};

/// Threads that serve requests; a sidecar shares its node with the workload.
const THREADS: usize = 4;
/// How long flights may take to land at the end.
const LANDING: Duration = Duration::from_secs(5);

/// Serves until told to stop.
///
/// # Errors
/// When it cannot start: the store, an address or the directory of manifests is not to be had.
pub fn run(args: RunArgs) -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .context("the system gives no threads")?;
    let outcome = runtime.block_on(serve(args));
    // Connections that were cut may still hold on; the process does not wait for them.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve(args: RunArgs) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be caught")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
    if !args.mounts.is_dir() {
        bail!("--mounts {}: no such directory; name the one that holds the RemoteMounts", args.mounts.display());
    }
    let link = args
        .control
        .as_ref()
        .map(|control| Settings::new(control, args.control_ca.clone(), args.control_token.clone()));
    let link = link.transpose()?;
    let mut doors = vec![("--http", args.http), ("--grpc", args.grpc), ("--admin", args.admin)];
    doors.extend(args.metrics.map(|metrics| ("--metrics", metrics)));
    apart(&doors)?;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let store = open_store(&args.state, &metrics)?;
    let (writer, writing) = Writer::start(Arc::clone(&store)).context("the system gives no thread for the store")?;

    let (mounts, problems) = (Arc::new(Mounts::default()), Arc::new(Mutex::default()));
    let (stop, draining) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
    let admin_listener = listen("--admin", args.admin).await?;
    let http_listener = listen("--http", args.http).await?;
    let grpc_listener = listen("--grpc", args.grpc).await?;
    let metrics_listener = match args.metrics {
        Some(address) => Some(listen("--metrics", address).await?),
        None => None,
    };
    let filer = Filer::new(Arc::clone(&mounts), Arc::clone(&store), writer.clone(), metrics.clone())?;
    let (newest, link_state) = (Arc::new(Newest::default()), Arc::new(LinkState::new(metrics.link())));
    let admin = Arc::new(Admin {
        registry,
        intents: filer.intents(),
        metrics: metrics.clone(),
        mounts: Arc::clone(&mounts),
        store: Arc::clone(&store),
        problems: Arc::clone(&problems),
        link: Arc::clone(&link_state),
        draining: Arc::clone(&draining),
        expected: Expected::new(args.expect.clone()),
    });
    tokio::spawn(Arc::clone(&admin).tell_of_absent());
    let admin_stop = CancellationToken::new();
    let ended = CancellationToken::new();
    if let Some(listener) = metrics_listener {
        lasting(&ended, Arc::clone(&admin).serve(listener, Shown::Metrics, admin_stop.clone()));
    }
    // The store's thread: what it says ends with it, and without it nothing can be deleted.
    let mut newest_event = writer.newest();
    lasting(&ended, async move { while newest_event.changed().await.is_ok() {} });
    let admin = lasting(&ended, admin.serve(admin_listener, Shown::All, admin_stop.clone()));
    let reporter = Reporter::new(Arc::clone(&mounts), filer.intents(), Arc::clone(&problems), Arc::clone(&draining));

    let secrets = Arc::new(Secrets::new(args.credentials.clone()));
    let watch = Watch {
        directory: args.mounts.clone(),
        mounts: Arc::clone(&mounts),
        store: Arc::clone(&store),
        writer,
        connector: Connector::new(Arc::clone(&secrets), metrics.clone()),
        secrets,
        metrics: metrics.clone(),
        newest: Arc::clone(&newest),
        good: Mutex::default(),
        problems,
        stop: stop.clone(),
    };
    let seen = source::fingerprint(&args.mounts);
    let done = watch.reload().await;
    let watch = lasting(&ended, watch.run(seen, done));

    // It tells of the drain, and ends after it.
    let link = link.map(|settings| Link { settings, reporter, newest, state: link_state, stop: admin_stop.clone() });
    let link = link.map(|link| lasting(&ended, link.run()));
    let settling = lasting(&ended, filer.clone().settle(stop.clone()));
    let drain = Duration::from_secs(args.drain_seconds);
    let http = HttpDoor::new(filer.clone(), &metrics);
    let http = lasting(&ended, http.serve(http_listener, stop.clone(), drain));
    // The protocol's own way to say both ports of a filer is `host:http.grpc`.
    let own = vec![args.grpc.to_string(), format!("{}.{}", args.http, args.grpc.port())];
    let grpc = GrpcDoor::new(Parts { filer: filer.clone(), mounts, own, stop: stop.clone() }, &metrics);
    let grpc = lasting(&ended, grpc.serve(grpc_listener, drain));
    tracing::info!(http = %args.http, grpc = %args.grpc, admin = %args.admin, "serving");

    let told = tokio::select! {
        _ = terminate.recv() => true,
        _ = interrupt.recv() => true,
        _ = hangup.recv() => true,
        () = ended.cancelled() => false,
    };
    tracing::info!(seconds = args.drain_seconds, "stopping: requests under way may end");
    draining.store(true, Ordering::Relaxed);
    stop.cancel();
    // A task that panicked has said so already; the rest is taken down all the same.
    let _ = http.await;
    let _ = grpc.await;
    let _ = watch.await;
    // A question it is just asking is not waited for: it will be asked again at the next start.
    settling.abort();
    let _ = settling.await;
    if tokio::time::timeout(LANDING, filer.land()).await.is_err() {
        tracing::warn!("lookups under way were given up");
    }
    drop(filer);
    admin_stop.cancel();
    let _ = admin.await;
    if let Some(link) = link {
        let _ = link.await;
    }
    let committed = tokio::task::spawn_blocking(move || writing.join());
    if tokio::time::timeout(LANDING, committed).await.is_err() {
        tracing::warn!("the store's last commit was not waited for");
    }
    if !told {
        bail!("a task that lasts as long as the process ended by itself; what it said is above");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Runs a task that ends only when it is told to. One that ends by itself, by a panic or otherwise, ends the process:
/// a sidecar that serves on without heeding its manifests would delete by a policy that is in force no more.
fn lasting(ended: &CancellationToken, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let guard = ended.clone().drop_guard();
    tokio::spawn(async move {
        task.await;
        drop(guard);
    })
}

fn open_store(state: &Path, metrics: &Metrics) -> anyhow::Result<Arc<dyn Store>> {
    let opened = RedbStore::open(state).with_context(|| format!("--state {}", state.display()))?;
    if let Some(aside) = opened.set_aside {
        metrics.store_rebuilt.inc();
        tracing::warn!(event = "store-rebuilt", file = %aside.display(), "the store was damaged and is set aside; metadata is asked for again");
    }
    Ok(Arc::new(opened.store))
}

/// Two flags with one address: said here, because the system would blame the second alone.
fn apart(flags: &[(&str, SocketAddr)]) -> anyhow::Result<()> {
    for (at, (flag, address)) in flags.iter().enumerate() {
        if let Some((other, _)) = flags[..at].iter().find(|(_, other)| other == address) {
            bail!("{other} and {flag} are both {address}: give one of them another port");
        }
    }
    Ok(())
}

async fn listen(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{flag} {address}: cannot listen there"))
}
