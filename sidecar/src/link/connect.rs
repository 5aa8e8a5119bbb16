//! From an endpoint to a connection: TCP, TLS, HTTP/2, each failing in its own way.
//!
//! By hand rather than by a channel that hides the steps, because a person must tell "nobody answers"
//! from "its certificate is not trusted". The peer is asked for a sign of life, so that one that died
//! without a word is noticed. A connection ends with its last stream, once nobody holds it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::codegen::Service;

use crate::link::error::LinkError;
use crate::link::settings::{Endpoint, Target};

/// Each step is done within this.
const STEP: Duration = Duration::from_secs(10);
/// The operator is asked for a sign of life this often.
const ALIVE: Duration = Duration::from_secs(10);
/// How long that sign may take.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that requests can be sent on.
#[derive(Clone, Debug)]
pub struct Connection {
    requests: SendRequest<Body>,
}

/// Connects to the operator.
///
/// # Errors
/// Which step failed, and why.
pub async fn connect(target: &Target) -> Result<Connection, LinkError> {
    let endpoint = &target.endpoint;
    let socket = timeout(STEP, TcpStream::connect((endpoint.host.as_str(), endpoint.port))).await;
    let socket = socket.unwrap_or_else(|_| Err(late())).map_err(|source| unreachable(endpoint, source))?;
    // Messages are small; waiting to fill a packet only delays them.
    let _ = socket.set_nodelay(true);
    let tls = tls(target)?.connect(endpoint.name.clone(), socket);
    let tls = timeout(STEP, tls).await.unwrap_or_else(|_| Err(late())).map_err(|error| tls_error(endpoint, error))?;
    let handshake = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(ALIVE)
        .keep_alive_timeout(ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(tls));
    let broken = |problem: String| LinkError::Handshake { endpoint: endpoint.to_string(), problem };
    let handshake = timeout(STEP, handshake).await.map_err(|_| broken(late().to_string()))?;
    let (requests, driver) = handshake.map_err(|error| broken(error.to_string()))?;
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "control connection ended early");
        }
    });
    Ok(Connection { requests })
}

fn tls(target: &Target) -> Result<TlsConnector, LinkError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let unusable = |error: rustls::Error| LinkError::Handshake {
        endpoint: target.endpoint.to_string(),
        problem: error.to_string(),
    };
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(unusable)?.with_root_certificates(target.roots.clone());
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", STEP.as_secs()))
}

fn unreachable(endpoint: &Endpoint, source: io::Error) -> LinkError {
    LinkError::Unreachable { endpoint: endpoint.to_string(), source }
}

fn tls_error(endpoint: &Endpoint, error: io::Error) -> LinkError {
    let (endpoint, problem) = (endpoint.to_string(), error.to_string());
    match error.into_inner().and_then(|inner| inner.downcast::<rustls::Error>().ok()) {
        Some(source) if matches!(*source, rustls::Error::InvalidCertificate(_)) => {
            LinkError::Untrusted { endpoint, source: *source }
        }
        _ => LinkError::Handshake { endpoint, problem },
    }
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.requests.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.requests.send_request(request))
    }
}
