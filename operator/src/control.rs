//! The control link's server: sidecars connect here, say how they are, and are told of newer manifests.
//!
//! ```text
//!  TLS ─► accept ─► stream ─► authenticate (TokenReview: which pod is it?)
//!                     │  Status up                  ▲ manifests down
//!                     ▼                             │
//!                  registry ─► changes, report ─► reconcile ─► publish
//! ```
//!
//! Owns the listener, the streams and the [`registry`] of sidecars. Writes nothing to the cluster and
//! knows nothing of what a status looks like: [`report`] gives counts, whoever reconciles makes
//! conditions of them. A sidecar speaks for its own pod only: namespace, name and uid come from the
//! token, never from what it says, so no report reaches a mount of another namespace. With no operator
//! here sidecars serve on, and say everything again once there is one.

pub mod accept;
pub mod authenticate;
pub mod changes;
pub mod metrics;
pub mod outbox;
pub mod registry;
pub mod report;
pub mod row;
pub mod stream;
pub mod token;

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::control::authenticate::Authenticator;
use crate::control::metrics::ControlMetrics;
use crate::control::registry::Registry;
use crate::control::stream::Streams;

/// How often the registry looks for sidecars that have been silent too long.
const SWEEP: Duration = Duration::from_secs(1);

/// The control link's server.
pub struct Control {
    registry: Arc<Registry>,
    authenticator: Arc<Authenticator>,
    metrics: ControlMetrics,
}

impl Control {
    /// A server that keeps what sidecars say in `registry`; tokens are reviewed by `client`'s API server.
    #[must_use]
    pub fn new(registry: Arc<Registry>, client: kube::Client, metrics: ControlMetrics) -> Self {
        let authenticator = Arc::new(Authenticator::new(client, metrics.clone()));
        Self { registry, authenticator, metrics }
    }

    /// Serves `listener` by `tls` until `stop`, then tells every sidecar to come back later and returns.
    ///
    /// HTTP/2 is offered whatever `tls` offers; its certificates may be swapped while this runs.
    pub async fn serve(self, listener: TcpListener, tls: Arc<ServerConfig>, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let streams = Streams {
            registry: Arc::clone(&self.registry),
            authenticator: self.authenticator,
            metrics: self.metrics.clone(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        tokio::join!(accept::serve(listener, tls, streams, self.metrics, stop.clone()), sweep(&self.registry, &stop));
        tasks.close();
        tasks.wait().await;
    }
}

async fn sweep(registry: &Registry, stop: &CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SWEEP) => registry.sweep(tokio::time::Instant::now()),
        }
    }
}
