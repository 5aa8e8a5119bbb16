//! `run`: puts the rooms together, and takes them apart in order.
//!
//! ```text
//!  every replica            the one that leads
//!  certificates             publisher of the webhook's CA
//!  watches (cluster)        reconcile (mount)
//!  webhook, admin           control link
//! ```
//!
//! Up: certificates, watches, then the webhook once the watches have been heard in full; the rest with the
//! lease. Down, on SIGTERM or SIGINT: readiness goes, requests under way may end, reconciles finish, the
//! lease is given back. A replica that loses the lease ends with an error, and is started anew by whoever
//! runs it. A sidecar finds no listener on a replica that does not lead, and comes again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use arc_swap::ArcSwapOption;
use kube::Client;
use prometheus_client::registry::Registry as MetricsRegistry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::Admin;
use crate::args::RunArgs;
use crate::certificates::publish::Publisher;
use crate::certificates::{Certificates, directory, secret};
use crate::cluster::{Cluster, Scope};
use crate::control::Control;
use crate::control::metrics::ControlMetrics;
use crate::control::registry::Registry;
use crate::leader::Leader;
use crate::metrics::Metrics;
use crate::mount::Context;
use crate::mount::build::Control as ControlConfig;
use crate::webhook::metrics::InjectionMetrics;
use crate::webhook::review::{Mounts, Reviewer};
use crate::webhook::{PROTOCOLS, Webhook};

/// How long reconciles may take to finish at the end.
const LANDING: Duration = Duration::from_secs(10);
/// How often sidecars of pods that went unnoticed are looked for.
const TIDY: Duration = Duration::from_secs(30);

/// Runs the operator until it is told to stop.
///
/// # Errors
/// When it cannot start, or does not lead any more.
pub fn run(args: RunArgs) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the system gives no threads")?;
    let outcome = runtime.block_on(serve(args));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve(args: RunArgs) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
    let client = Client::try_default().await.context("no access to a cluster: set KUBECONFIG, or run in a pod")?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let webhook_listener = listen("--webhook", args.webhook).await?;
    let admin_listener = listen("--admin", args.admin).await?;

    let mut registry = MetricsRegistry::default();
    let metrics = Metrics::register(&mut registry);
    let injections = InjectionMetrics::register(&mut registry);
    let control_metrics = ControlMetrics::register(&mut registry);
    let certificates = certificates(&client, &args, &tasks, &stop).await?;
    let sidecars = Arc::new(Registry::default());
    let cluster = Cluster::watch(&client, scope(&args), Arc::clone(&sidecars), stop.clone());

    let ready = Arc::new(AtomicBool::new(false));
    let admin = Admin { registry, metrics: metrics.clone(), cluster: cluster.clone(), ready: Arc::clone(&ready) };
    let admin_stop = CancellationToken::new();
    let admin = tokio::spawn(admin.serve(admin_listener, admin_stop.clone()));
    let webhook = Webhook {
        reviewer: Reviewer { mounts: known(&cluster, &ready), settings: args.sidecar.clone() },
        metrics: injections,
    };
    let drain = Duration::from_secs(args.drain_seconds);
    let tls = certificates.server_config(&PROTOCOLS)?;
    let webhook = tasks.spawn(webhook.serve(webhook_listener, tls, stop.clone(), drain));

    let identity = identity();
    let leading = Leading {
        args: args.clone(),
        client: client.clone(),
        cluster: cluster.clone(),
        sidecars,
        certificates,
        metrics,
        control_metrics,
        identity: identity.clone(),
        stop: stop.clone(),
    };
    let mut election = Box::pin(async {
        if stop.run_until_cancelled(cluster.ready()).await.is_none() {
            return;
        }
        ready.store(true, Ordering::Relaxed);
        tracing::info!(mounts = cluster.all_mounts().len(), pods = cluster.pod_uids().len(), "the cluster is known");
        if let Some(leader) = candidate(&client, &args.operator_namespace, &identity, &stop).await {
            leader.hold(|| drop(tasks.spawn(leading.lead())), &stop).await;
        }
    });
    let lost = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = &mut election => true,
    };
    tracing::info!("stopping: requests under way may end");
    ready.store(false, Ordering::Relaxed);
    stop.cancel();
    let _ = webhook.await;
    tasks.close();
    if tokio::time::timeout(LANDING, tasks.wait()).await.is_err() {
        tracing::warn!("reconciles under way were given up");
    }
    if lost {
        bail!("another replica leads now");
    }
    // Gives the lease back, once nothing of this replica writes any more.
    election.await;
    admin_stop.cancel();
    let _ = admin.await;
    tracing::info!("stopped");
    Ok(())
}

/// What the replica that leads does beside the others.
struct Leading {
    args: RunArgs,
    client: Client,
    cluster: Cluster,
    sidecars: Arc<Registry>,
    certificates: Certificates,
    metrics: Metrics,
    control_metrics: ControlMetrics,
    identity: String,
    stop: CancellationToken,
}

impl Leading {
    /// Reconciles, takes sidecars in, and keeps the webhook's CA where the API server reads it; until the stop.
    async fn lead(self) {
        let Self { args, client, cluster, sidecars, certificates, metrics, stop, .. } = self;
        metrics.leads.set(1);
        let listener = match listen("--control", args.control).await {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "sidecars cannot connect");
                return stop.cancel();
            }
        };
        let tls = match certificates.server_config(&["h2"]) {
            Ok(tls) => tls,
            Err(error) => {
                tracing::error!(%error, "sidecars cannot connect");
                return stop.cancel();
            }
        };
        let control = Arc::new(ArcSwapOption::empty());
        let bundle = Bundled {
            certificates: certificates.clone(),
            endpoint: args.control_endpoint(),
            control: Arc::clone(&control),
            cluster: cluster.clone(),
        };
        bundle.publish();
        let context =
            Context::new(client.clone(), cluster.clone(), Arc::clone(&sidecars), control, self.identity, metrics);
        let server = Control::new(Arc::clone(&sidecars), client.clone(), self.control_metrics);
        tokio::join!(
            server.serve(listener, tls, stop.clone()),
            context.run(stop.clone()),
            Publisher { client, bundle: certificates.bundle(), url: args.webhook_url.clone() }.run(stop.clone()),
            bundle.follow(&stop),
            tidy(&cluster, &sidecars, &stop),
        );
    }
}

/// Keeps what namespaces are told of the control link as the certificates are.
struct Bundled {
    certificates: Certificates,
    endpoint: String,
    control: Arc<ArcSwapOption<ControlConfig>>,
    cluster: Cluster,
}

impl Bundled {
    fn publish(&self) {
        // Without a bundle someone else says whom to trust: the sidecar's own file stays as it is.
        let ca = self.certificates.bundle().borrow().clone();
        let control = ca.map(|ca| Arc::new(ControlConfig { endpoint: self.endpoint.clone(), ca: ca.to_string() }));
        self.control.store(control);
    }

    async fn follow(&self, stop: &CancellationToken) {
        let mut bundle = self.certificates.bundle();
        while let Some(Ok(())) = stop.run_until_cancelled(bundle.changed()).await {
            self.publish();
            self.cluster.trigger_all();
        }
    }
}

/// Sidecars of pods whose end went unnoticed, while the watch was away say, are let go.
async fn tidy(cluster: &Cluster, sidecars: &Registry, stop: &CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(TIDY)).await.is_some() {
        let there = cluster.pod_uids();
        sidecars.retain(|uid| there.contains(uid), tokio::time::Instant::now());
    }
}

async fn certificates(
    client: &Client,
    args: &RunArgs,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> anyhow::Result<Certificates> {
    if let Some(directory) = &args.tls_dir {
        let (certificates, keeper) = directory::Keeper::start(directory)?;
        tasks.spawn(keeper.run(stop.clone()));
        return Ok(certificates);
    }
    let now = jiff::Timestamp::now();
    let started = secret::Keeper::start(client.clone(), &args.operator_namespace, args.server_names(), now).await;
    let (certificates, keeper) = started.context("the operator's own certificates")?;
    tasks.spawn(keeper.run(stop.clone()));
    Ok(certificates)
}

/// Takes part in the election as soon as the Lease can be had.
async fn candidate(client: &Client, namespace: &str, identity: &str, stop: &CancellationToken) -> Option<Leader> {
    loop {
        match stop.run_until_cancelled(Leader::new(client.clone(), namespace, identity)).await? {
            Ok(leader) => return Some(leader),
            Err(error) => tracing::warn!(%error, namespace, "the lease cannot be had; it is tried again"),
        }
        stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await?;
    }
}

/// The mounts, for the webhook; none before all are known.
fn known(cluster: &Cluster, ready: &Arc<AtomicBool>) -> Mounts {
    let (cluster, ready) = (cluster.clone(), Arc::clone(ready));
    Arc::new(move |namespace| ready.load(Ordering::Relaxed).then(|| cluster.mounts(namespace)))
}

fn scope(args: &RunArgs) -> Scope {
    if args.namespaces.is_empty() {
        return Scope::All;
    }
    Scope::Namespaces(args.namespaces.iter().cloned().collect::<BTreeSet<_>>())
}

/// A name that no other replica has, and that tells a person which pod it is.
fn identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "operator".to_owned());
    let started = jiff::Timestamp::now().as_millisecond();
    format!("{host}-{}-{started:x}", std::process::id())
}

async fn listen(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{flag} {address}: cannot listen there"))
}
