//! Connections of the control link: accepted, TLS, HTTP/2, bounded, and let go when dead or idle.
//!
//! Owns the listener. Each limit is said here: connections at once, time for the handshake, streams and
//! frame sizes of a connection. A peer is asked for a sign of life every ten seconds and let go ten
//! seconds later; a connection without a stream, which nobody has shown a token for, lasts [`IDLE`].

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use remotemount_crds::control::control_server::ControlServer;
use remotemount_crds::control::{MAX_DOWN_BYTES, MAX_UP_BYTES};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::codegen::Service as _;

use crate::control::metrics::ControlMetrics;
use crate::control::stream::{OpenStreams, Streams};

/// Connections at once.
const CONNECTIONS: usize = 20_000;
/// The TLS handshake is done within this.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A connection without a stream lasts at most twice that.
const IDLE: Duration = Duration::from_secs(15);
/// A peer is asked for a sign of life this often.
const ALIVE: Duration = Duration::from_secs(10);
/// How long that sign may take.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections have this long to end after the stop.
const DRAIN: Duration = Duration::from_secs(3);
/// A sidecar has one stream; a second may begin before the first has ended.
const STREAMS: u32 = 4;
/// Room for a message on its way, so that a slow registry holds sidecars back and not our memory.
const WINDOW: u32 = 64 << 10;

/// Serves `listener` until `stop`, then lets connections end.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    streams: Streams,
    metrics: ControlMetrics,
    stop: CancellationToken,
) {
    let mut tls = Arc::unwrap_or_clone(tls);
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let service =
        ControlServer::new(streams).max_decoding_message_size(MAX_UP_BYTES).max_encoding_message_size(MAX_DOWN_BYTES);
    let (places, connections) = (Arc::new(Semaphore::new(CONNECTIONS)), TaskTracker::new());
    loop {
        let place = tokio::select! {
            () = stop.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let socket = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    // Out of file descriptors, most likely: wait for some to be free rather than spin.
                    tracing::warn!(%error, "control connection not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let (acceptor, service, metrics, stop) = (acceptor.clone(), service.clone(), metrics.clone(), stop.clone());
        connections.spawn(async move {
            let _place = place;
            let Some(socket) = handshake(&acceptor, socket, &metrics).await else { return };
            metrics.connections.inc();
            connection(socket, service, &metrics, &stop).await;
            metrics.connections.dec();
        });
    }
    drop(listener);
    connections.close();
    if timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::debug!("control connections were not done in time");
    }
}

async fn handshake(
    acceptor: &TlsAcceptor,
    socket: TcpStream,
    metrics: &ControlMetrics,
) -> Option<Box<TlsStream<TcpStream>>> {
    // Messages are small; waiting to fill a packet only delays them.
    let _ = socket.set_nodelay(true);
    match timeout(HANDSHAKE, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(error)) => {
            metrics.handshake_failed("Tls");
            tracing::debug!(%error, "TLS handshake of a control connection failed");
            None
        }
        Err(_) => {
            metrics.handshake_failed("TimedOut");
            None
        }
    }
}

async fn connection(
    socket: Box<TlsStream<TcpStream>>,
    service: ControlServer<Streams>,
    metrics: &ControlMetrics,
    stop: &CancellationToken,
) {
    let open = OpenStreams::default();
    let service = {
        let open = open.clone();
        service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(open.clone());
            let mut service = service.clone();
            async move { Ok::<_, Infallible>(service.call(request).await.unwrap_or_else(|never| match never {})) }
        })
    };
    let mut server = http2::Builder::new(TokioExecutor::new());
    server
        .timer(TokioTimer::new())
        .keep_alive_interval(ALIVE)
        .keep_alive_timeout(ALIVE_TIMEOUT)
        .max_concurrent_streams(STREAMS)
        .max_frame_size(16 << 10)
        .max_header_list_size(32 << 10)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(64 << 10);
    let mut connection = pin!(server.serve_connection(TokioIo::new(socket), service));
    let mut idle = 0;
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "control connection ended early");
                }
                return;
            }
            () = stop.cancelled() => break,
            () = tokio::time::sleep(IDLE) => {
                idle = if open.none() { idle + 1 } else { 0 };
                if idle == 2 {
                    metrics.handshake_failed("Idle");
                    break;
                }
            }
        }
    }
    connection.as_mut().graceful_shutdown();
    // Whatever it still waits for: a peer that does not go is cut.
    let _ = timeout(DRAIN, connection).await;
}
