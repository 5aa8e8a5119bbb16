//! The gRPC door: the SeaweedFS filer's protocol, as far as a mounted bucket has an answer to it.
//!
//! Lookup, listing, delete, events, configuration, statistics and ping, wire-compatible with its 4.48;
//! the health service beside them. What `proto/filer.proto` does not declare answers `Unimplemented`. Plain HTTP/2
//! as its clients speak it, without TLS. A request is one verb of the filer; errors go through the one
//! table ([`error`]). Differences from the reference are said where they are: a directory that does
//! not exist is an error ([`list`]), an answer names no place in the log ([`proto`]).
//! [`super::connections`] accepts and drains.

pub mod delete;
pub mod entry;
pub mod error;
pub mod event;
pub mod health;
pub mod list;
pub mod proto;
pub mod request;
pub mod service;
pub mod subscribe;
pub mod tally;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::codegen::Service as _;
use tonic_health::pb::health_server::HealthServer;

use crate::doors::connections;
use crate::doors::grpc::health::Readiness;
use crate::doors::grpc::proto::seaweed_filer_server::SeaweedFilerServer;
use crate::doors::grpc::service::Service;
use crate::doors::grpc::tally::{Tally, Watched};
use crate::filer::Filer;
use crate::metrics::{GrpcMetrics, Metrics};
use crate::mounts::Mounts;

/// The service's name on the wire.
pub const SERVICE: &str = "filer_pb.SeaweedFiler";
/// The metadata key that says: old, because the remote cannot be asked (L7, D2).
const STALE: &str = "x-remotemount-stale";
/// A connection is asked for a sign of life this often, and let go without one.
const ALIVE: Duration = Duration::from_secs(60);
/// How long that sign may take.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// The gRPC door.
#[derive(Clone)]
pub struct GrpcDoor {
    filer: SeaweedFilerServer<Service>,
    health: HealthServer<Readiness>,
    metrics: GrpcMetrics,
    stop: CancellationToken,
}

/// What the door stands on.
pub struct Parts {
    /// The filer.
    pub filer: Filer,
    /// The table in force.
    pub mounts: Arc<Mounts>,
    /// The addresses by which clients may mean this filer.
    pub own: Vec<String>,
    /// Ends the door.
    pub stop: CancellationToken,
}

impl GrpcDoor {
    /// A door over `parts`.
    #[must_use]
    pub fn new(parts: Parts, metrics: &Metrics) -> Self {
        let Parts { filer, mounts, own, stop } = parts;
        let health = Readiness { mounts: Arc::clone(&mounts), stop: stop.clone() };
        Self {
            filer: SeaweedFilerServer::new(Service { filer, mounts, own, stop: stop.clone() }),
            health: HealthServer::new(health),
            metrics: metrics.grpc(),
            stop,
        }
    }

    /// Serves `listener` until the stop, then finishes what is under way, for at most `drain`.
    pub async fn serve(self, listener: TcpListener, drain: Duration) {
        let mut server = http2::Builder::new(TokioExecutor::new());
        server.timer(TokioTimer::new()).keep_alive_interval(ALIVE).keep_alive_timeout(ALIVE_TIMEOUT);
        let stop = self.stop.clone();
        connections::serve(listener, stop, drain, move |socket| {
            let door = self.clone();
            let service = service_fn(move |request| {
                let door = door.clone();
                async move { Ok::<_, Infallible>(door.answer(request).await) }
            });
            server.serve_connection(socket, service)
        })
        .await;
    }

    async fn answer(mut self, request: Request<Incoming>) -> Response<Watched> {
        let path = request.uri().path();
        let tally = Tally::begin(&self.metrics, path);
        let answer = if path.starts_with("/grpc.health.v1.Health/") {
            self.health.call(request).await
        } else {
            // Answers `Unimplemented` to whatever it does not know.
            self.filer.call(request).await
        };
        match answer {
            Ok(answer) => tally.watch(answer),
            Err(never) => match never {},
        }
    }
}
