//! The health service, for probes that speak gRPC.
//!
//! It says what `/readyz` says: serving from the first good mount table until the drain begins. Keeps
//! nothing; each answer is as of now. Who watches is told of changes until the stop, and the stream
//! then ends so that no watcher holds up the drain.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::doors::grpc::{SERVICE, error};
use crate::mounts::Mounts;

/// How often a watcher's answer is looked at again.
const LOOK: Duration = Duration::from_millis(500);

/// Whether the sidecar is ready.
#[derive(Clone)]
pub struct Readiness {
    /// The table in force.
    pub mounts: Arc<Mounts>,
    /// Set when the drain begins.
    pub stop: CancellationToken,
}

impl Readiness {
    fn of(&self, service: &str) -> ServingStatus {
        if !service.is_empty() && service != SERVICE {
            ServingStatus::ServiceUnknown
        } else if self.mounts.load().number > 0 && !self.stop.is_cancelled() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        }
    }
}

#[tonic::async_trait]
impl Health for Readiness {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match self.of(&service) {
            ServingStatus::ServiceUnknown => {
                Err(error::refusal(Code::NotFound, "NotFound", format!("no service {service:?} is served here")))
            }
            status => Ok(Response::new(HealthCheckResponse { status: status.into() })),
        }
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (readiness, service) = (self.clone(), request.into_inner().service);
        let changes = stream::unfold((readiness, service, None), |(readiness, service, last)| async move {
            loop {
                let stopped = readiness.stop.is_cancelled();
                let status = readiness.of(&service);
                if Some(status) != last {
                    let answer = HealthCheckResponse { status: status.into() };
                    return Some((Ok(answer), (readiness, service, Some(status))));
                }
                if stopped {
                    return None;
                }
                tokio::select! {
                    () = readiness.stop.cancelled() => {}
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        });
        Ok(Response::new(changes.boxed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_table_it_does_not_serve_and_watchers_are_let_go() {
        let readiness = Readiness { mounts: Arc::default(), stop: CancellationToken::new() };
        let ask = |service: &str| Request::new(HealthCheckRequest { service: service.to_owned() });
        for service in ["", SERVICE] {
            let answer = readiness.check(ask(service)).await.unwrap().into_inner();
            assert_eq!(answer.status(), ServingStatus::NotServing);
        }
        assert_eq!(readiness.check(ask("other")).await.unwrap_err().code(), Code::NotFound);
        let mut watched = readiness.watch(ask("other")).await.unwrap().into_inner();
        assert_eq!(watched.next().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
        readiness.stop.cancel();
        assert!(watched.next().await.is_none());
    }
}
