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
use std::future::Future;
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
use tokio::task::JoinHandle;
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
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the system gives no threads")?;
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
    let leading = Leading { args: args.clone(), client: client.clone(), cluster: cluster.clone(), sidecars, certificates, metrics, control_metrics, identity: identity.clone(), stop: stop.clone() };
    let election = async {
        cluster.ready().await;
        ready.store(true, Ordering::Relaxed);
        tracing::info!(mounts = cluster.all_mounts().len(), pods = cluster.pod_uids().len(), "the cluster is known");
        let leader = elected(&client, &args.operator_namespace, &identity, &stop).await;
        if let Some(leader) = leader {
            leader.hold(|| drop(tasks.spawn(leading.lead())), &stop).await;
        }
    };
    let lost = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = election => true,
    };
    tracing::info!("stopping: requests under way may end");
    ready.store(false, Ordering::Relaxed);
    stop.cancel();
    let _ = webhook.await;
    tasks.close();
    if tokio::time::timeout(LANDING, tasks.wait()).await.is_err() {
        tracing::warn!("reconciles under way were given up");
    }
    admin_stop.cancel();
    let _ = admin.await;
    if lost {
        bail!("another replica leads now");
    }
    tracing::info!("stopped");
    Ok(())
}
