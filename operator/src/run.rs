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
//! lease is given back. A replica that loses the lease ends with an error at once, and is started anew by
//! whoever runs it. A sidecar finds no listener on a replica that does not lead, and comes again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use arc_swap::ArcSwapOption;
use futures_util::FutureExt as _;
use kube::{Client, Config};
use prometheus_client::registry::Registry as MetricsRegistry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::args::RunArgs;
use crate::certificates::publish::Publisher;
use crate::certificates::{Certificates, directory, secret};
use crate::cluster::{Cluster, Scope};
use crate::control::Control;
use crate::control::metrics::ControlMetrics;
use crate::control::registry::Registry;
use crate::lasting::Lasting;
use crate::leader::{Leader, Tenure};
use crate::metrics::{self, Metrics};
use crate::mount::build::Control as ControlConfig;
use crate::mount::{Context, prune};
use crate::webhook::review::{Mounts, Reviewer};
use crate::webhook::{PROTOCOLS, Webhook};

/// How long reconciles may take to finish at the end.
const LANDING: Duration = Duration::from_secs(10);
/// How long the webhook is still asked after readiness has gone.
const STRAGGLERS: Duration = Duration::from_secs(3);
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
    let config = Config::infer().await.context("no access to a cluster: set KUBECONFIG, or run in a pod")?;
    let client = Client::try_from(config.clone()).context("no client of the cluster")?;
    let stop = CancellationToken::new();
    let tasks = Lasting::new(stop.clone());
    let webhook_listener = listen("--webhook", args.webhook).await?;
    let admin_listener = listen("--admin", args.admin).await?;

    let mut registry = MetricsRegistry::default();
    let (metrics, injections, control_metrics) = metrics::register(&mut registry);
    let certificates = certificates(&client, &args, &tasks, &stop).await?;
    let sidecars = Arc::new(Registry::default());
    let cluster = Cluster::watch(&client, scope(&args), Arc::clone(&sidecars), &metrics, &tasks);

    // What is known stays known while the process ends; whether it is ready to be asked does not.
    let (ready, known) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let admin = Admin { registry, metrics: metrics.clone(), cluster: cluster.clone(), ready: Arc::clone(&ready) };
    let admin_stop = CancellationToken::new();
    let admin = tokio::spawn(admin.serve(admin_listener, admin_stop.clone()));
    let webhook = Webhook {
        reviewer: Reviewer { mounts: mounts(&cluster, &known), settings: args.sidecar.clone() },
        metrics: injections,
    };
    let drain = Duration::from_secs(args.drain_seconds);
    let tls = certificates.server_config(&PROTOCOLS)?;
    let webhook_stop = CancellationToken::new();
    tasks.spawn_through(webhook.serve(webhook_listener, tls, webhook_stop.clone(), drain));

    let identity = identity();
    // What leads writes with a client of its own, and only while the lease is good.
    let tenure = Tenure::default();
    let leading = Leading {
        args: args.clone(),
        client: tenure.within(config.clone()).context("no client of the cluster")?,
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
        known.store(true, Ordering::Relaxed);
        ready.store(true, Ordering::Relaxed);
        tracing::info!(mounts = cluster.all_mounts().len(), pods = cluster.pod_uids().len(), "the cluster is known");
        if let Some(leader) = candidate(&config, &args.operator_namespace, &identity, &tenure, &stop).await {
            leader.hold(|| tasks.spawn_through(leading.lead()), &stop).await;
        }
    });
    let why = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        // At once: another replica may write by now, so nothing of this one is waited for.
        () = &mut election => bail!("this replica does not lead any more"),
        () = tasks.ended() => Some("a task that lasts as long as the process ended by itself; what it said is above"),
    };
    tracing::info!("stopping: requests under way may end");
    ready.store(false, Ordering::Relaxed);
    stop.cancel();
    // The API server asks here until it has heard that this replica is not ready: a refused connection refuses a pod.
    tokio::time::sleep(STRAGGLERS.min(drain)).await;
    webhook_stop.cancel();
    if tokio::time::timeout(LANDING, tasks.wait()).await.is_err() {
        tracing::warn!("reconciles under way were given up");
    }
    if let Some(why) = why {
        bail!(why);
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
                return;
            }
        };
        let tls = match certificates.server_config(&["h2"]) {
            Ok(tls) => tls,
            Err(error) => {
                tracing::error!(%error, "sidecars cannot connect");
                return;
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
            prune::run(client.clone(), cluster.clone(), stop.clone()),
            stop.run_until_cancelled(cluster.follow_sidecars(&sidecars)),
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
    tasks: &Lasting,
    stop: &CancellationToken,
) -> anyhow::Result<Certificates> {
    if let Some(directory) = &args.tls_dir {
        let (certificates, keeper) = directory::Keeper::start(directory)?;
        tasks.spawn_through(keeper.run(stop.clone()));
        return Ok(certificates);
    }
    let now = jiff::Timestamp::now();
    let started = secret::Keeper::start(client.clone(), &args.operator_namespace, args.server_names(), now).await;
    let (certificates, keeper) = started.context("the operator's own certificates")?;
    tasks.spawn_through(keeper.run(stop.clone()));
    Ok(certificates)
}

/// Takes part in the election as soon as the Lease can be had.
async fn candidate(
    config: &Config,
    namespace: &str,
    identity: &str,
    tenure: &Tenure,
    stop: &CancellationToken,
) -> Option<Leader> {
    loop {
        match stop.run_until_cancelled(Leader::new(config, namespace, identity, tenure)).await? {
            Ok(leader) => return Some(leader),
            Err(error) => tracing::warn!(%error, namespace, "the lease cannot be had; it is tried again"),
        }
        stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await?;
    }
}

/// The mounts, for the webhook; none before all are known.
fn mounts(cluster: &Cluster, known: &Arc<AtomicBool>) -> Mounts {
    let (cluster, known) = (cluster.clone(), Arc::clone(known));
    let asked = cluster.clone();
    Mounts {
        watched: Arc::new(move |namespace| known.load(Ordering::Relaxed).then(|| cluster.mounts(namespace))),
        asked: Arc::new(move |namespace| {
            let (cluster, namespace) = (asked.clone(), namespace.to_owned());
            async move { cluster.ask_for_mounts(&namespace).await }.boxed()
        }),
    }
}

fn scope(args: &RunArgs) -> Scope {
    let names = args.namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty());
    let names: BTreeSet<String> = names.map(str::to_owned).collect();
    if names.is_empty() { Scope::All } else { Scope::Namespaces(names) }
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
