//! The HTTPS door that the API server asks about new pods.
//!
//! It carries bytes: TLS with the certificate of the moment, bounds on size, time and number, an orderly
//! end. What the answer is [`review`] says, from the mounts that the operator's own watch has seen; only who
//! would be refused waits for the cluster, some seconds at most. A dry run is as any other. Every replica
//! serves, leader or not.
//!
//! Invariant: it answers every review that it can read, with a denial where it has no answer; only what
//! is no review gets an HTTP error.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use remotemount_crds::names::WEBHOOK_PATH;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub mod metrics;
pub mod review;

use metrics::{InjectionMetrics, Outcome};
use review::Reviewer;

/// The largest review, in bytes: an object may have 1.5 MiB, and JSON says it more widely.
const MAX_BODY: usize = 4 << 20;
/// How long a handshake, the head of a request, or its body may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at once; the API server keeps a few open.
const CONNECTIONS: usize = 512;

/// The protocols that the door speaks, for [`crate::certificates::Certificates::server_config`].
pub const PROTOCOLS: [&str; 2] = ["h2", "http/1.1"];

/// The door.
pub struct Webhook {
    /// What answers.
    pub reviewer: Reviewer,
    /// What is counted.
    pub metrics: InjectionMetrics,
}

impl Webhook {
    /// Serves `listener` until `stop`, and then for at most `drain` what is under way.
    pub async fn serve(self, listener: TcpListener, tls: Arc<ServerConfig>, stop: CancellationToken, drain: Duration) {
        let webhook = Arc::new(self);
        let acceptor = TlsAcceptor::from(tls);
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&listener, &places) => accepted,
            };
            let Some((stream, place)) = accepted else { continue };
            let (webhook, acceptor, watcher) = (Arc::clone(&webhook), acceptor.clone(), graceful.watcher());
            tokio::spawn(async move {
                let _place = place;
                let stream = match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "no TLS with a client of the webhook");
                        if is_distrust(&error) {
                            webhook.metrics.count(Outcome::Failed, "tls");
                        }
                        return;
                    }
                    // Who connects and says nothing asks for no review.
                    Err(_) => return,
                };
                let service = service_fn(move |request| {
                    let webhook = Arc::clone(&webhook);
                    async move { Ok::<_, Infallible>(webhook.answer(request).await) }
                });
                let mut server = auto::Builder::new(TokioExecutor::new());
                server.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
                server.http2().timer(TokioTimer::new()).keep_alive_interval(PATIENCE * 3).max_concurrent_streams(250);
                let connection = server.serve_connection(TokioIo::new(stream), service).into_owned();
                if let Err(error) = watcher.watch(connection).await {
                    tracing::debug!(%error, "a connection of the webhook ended early");
                }
            });
        }
        drop(listener);
        if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
            tracing::warn!("the webhook's last connections were not waited for");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() != WEBHOOK_PATH {
            return text(StatusCode::NOT_FOUND, format!("reviews are answered at {WEBHOOK_PATH}\n"));
        }
        if request.method() != Method::POST {
            return text(StatusCode::METHOD_NOT_ALLOWED, "reviews are posted\n".to_owned());
        }
        let body = Limited::new(request.into_body(), MAX_BODY).collect();
        let (status, problem) = match tokio::time::timeout(PATIENCE, body).await {
            Ok(Ok(body)) => match self.reviewer.answer(&body.to_bytes()).await {
                Ok(verdict) => {
                    self.metrics.count(verdict.outcome, verdict.reason);
                    return json(verdict.body);
                }
                Err(problem) => (StatusCode::BAD_REQUEST, problem.to_string()),
            },
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("a review may have {MAX_BODY} bytes"))
            }
            Ok(Err(error)) => (StatusCode::BAD_REQUEST, format!("the body broke off: {error}")),
            Err(_) => (StatusCode::REQUEST_TIMEOUT, "the body took too long".to_owned()),
        };
        self.metrics.count(Outcome::Failed, "malformed");
        tracing::warn!(%status, problem, "no review could be read");
        text(status, format!("{problem}\n"))
    }
}

/// Whether a client of TLS turned away, most often because the caBundle is another's; not who looks whether the port is open.
fn is_distrust(error: &std::io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(error, Some(rustls::Error::AlertReceived(_) | rustls::Error::PeerIncompatible(_)))
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::warn!(%error, "a connection of the webhook was not accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = typed(body.into(), "text/plain; charset=utf-8");
    *response.status_mut() = status;
    response
}

fn json(body: Vec<u8>) -> Response<Full<Bytes>> {
    typed(body.into(), "application/json")
}

fn typed(body: Bytes, content_type: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
