//! One sidecar's stream: authenticated, greeted, listened to, told of newer manifests, and ended in time.
//!
//! Owns the life of a stream: the first message is a Hello within [`HELLO`]; then what comes up goes into
//! the registry, at most ten messages a second (the rest waits in the sidecar, by HTTP/2's flow control),
//! and what the registry has for it goes down. It ends before its token expires, when a newer stream of
//! the pod replaces it, when the pod is gone, or when the operator stops. Which pod it is comes from the
//! token alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::stream::{self, BoxStream, StreamExt as _};
use http::header::AUTHORIZATION;
use remotemount_crds::control::control_server::Control;
use remotemount_crds::control::operator_message::Message as Down;
use remotemount_crds::control::sidecar_message::Message as Up;
use remotemount_crds::control::{Hello, OperatorMessage, PROTOCOL, SidecarMessage, Welcome};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use crate::control::authenticate::{AuthenticateError, Authenticator, Refusal, Verified};
use crate::control::metrics::ControlMetrics;
use crate::control::registry::{Attached, Registry};
use crate::control::token;

/// The first message comes within this.
const HELLO: Duration = Duration::from_secs(10);
/// Between two messages of one sidecar.
const REST: Duration = Duration::from_millis(100);
/// A sidecar that takes nothing for so long is let go.
const TAKEN: Duration = Duration::from_secs(30);
/// Messages that wait to be sent on one stream.
const WAITING: usize = 2;

/// What streams stand on. A handle: clones share everything.
#[derive(Clone)]
pub struct Streams {
    /// Where what sidecars say is kept.
    pub registry: Arc<Registry>,
    /// Says whose a token is.
    pub authenticator: Arc<Authenticator>,
    /// What is counted.
    pub metrics: ControlMetrics,
    /// The streams that are open.
    pub tasks: TaskTracker,
    /// Ends them.
    pub stop: CancellationToken,
}

/// How many streams a connection has; put into each request by the one that accepts.
#[derive(Clone, Debug, Default)]
pub struct OpenStreams(Arc<AtomicUsize>);

/// One of a connection's streams, until it is dropped.
struct Open(OpenStreams, ControlMetrics);

type Outgoing = mpsc::Sender<Result<OperatorMessage, Status>>;

impl OpenStreams {
    /// Whether the connection has none.
    #[must_use]
    pub fn none(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    fn begin(self, metrics: ControlMetrics) -> Open {
        self.0.fetch_add(1, Ordering::Relaxed);
        metrics.streams.inc();
        Open(self, metrics)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
        self.1.streams.dec();
    }
}

#[tonic::async_trait]
impl Control for Streams {
    type ConnectStream = BoxStream<'static, Result<OperatorMessage, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<SidecarMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        if self.stop.is_cancelled() {
            return Err(stopping());
        }
        let bearer = request.metadata().get(AUTHORIZATION.as_str()).and_then(|value| value.to_str().ok());
        let token = bearer.and_then(|value| value.split_once(' '));
        let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        let verified = self.authenticator.authenticate(token).await.map_err(|error| refused(&error))?;
        let open = request.extensions().get::<OpenStreams>().cloned().unwrap_or_default();
        let open = open.begin(self.metrics.clone());
        let (down, waiting) = mpsc::channel(WAITING);
        let streams = self.clone();
        self.tasks.spawn(async move {
            let pod = Arc::clone(&verified.pod);
            let end = streams.run(verified, request.into_inner(), &down).await;
            drop(open);
            if let Err(status) = end {
                tracing::debug!(namespace = pod.namespace, pod = pod.name, code = ?status.code(), reason = status.message(), "control stream ends");
                // A sidecar that takes nothing is not told; its connection ends all the same.
                let _ = timeout(Duration::from_secs(1), down.send(Err(status))).await;
            }
        });
        let messages = stream::unfold(waiting, |mut waiting| async move { Some((waiting.recv().await?, waiting)) });
        Ok(Response::new(messages.boxed()))
    }
}

impl Streams {
    /// The stream from its first message to its end; `Ok` when the sidecar is only to come again.
    async fn run(&self, verified: Verified, mut up: Streaming<SidecarMessage>, down: &Outgoing) -> Result<(), Status> {
        let hello = tokio::select! {
            () = self.stop.cancelled() => return Err(stopping()),
            hello = timeout(HELLO, greeting(&mut up)) => {
                hello.map_err(|_| Status::invalid_argument("no Hello came: send it first"))??
            }
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The clock's low digits are jitter enough.
        let jitter = f64::from(now.subsec_micros() % 1000) / 1000.0;
        let end = Instant::now() + token::lifetime(now.as_secs(), verified.expiry, jitter);
        let attached = self.registry.attach(verified.pod, &hello);
        let pod = &attached.pod;
        tracing::info!(namespace = pod.namespace, pod = pod.name, version = hello.version, "sidecar connected");
        let outcome = self.attached(&attached, &mut up, down, end).await;
        self.registry.detach(&attached, Instant::now());
        outcome
    }

    async fn attached(
        &self,
        attached: &Attached,
        up: &mut Streaming<SidecarMessage>,
        down: &Outgoing,
        end: Instant,
    ) -> Result<(), Status> {
        let welcome = Welcome {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            namespace: attached.pod.namespace.clone(),
            pod: attached.pod.name.clone(),
        };
        send(down, Down::Welcome(welcome)).await?;
        let mut rested = Instant::now();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return Err(stopping()),
                () = attached.end.cancelled() => {
                    return Err(Status::aborted("another stream of this pod has begun, or the pod is gone"));
                }
                () = sleep_until(end) => return Ok(()),
                manifests = attached.outbox.next() => {
                    let count = manifests.mounts.len() as u64;
                    send(down, Down::Manifests(manifests)).await?;
                    self.metrics.manifests.inc_by(count);
                }
                message = next(up, rested) => {
                    let Some(message) = message? else { return Ok(()) };
                    if let Some(Up::Status(status)) = message.message {
                        self.metrics.statuses.inc();
                        self.registry.report(attached, status);
                    }
                    rested = Instant::now() + REST;
                }
            }
        }
    }
}

/// The next message, not before `rested`; `None` when the sidecar has ended the stream.
async fn next(up: &mut Streaming<SidecarMessage>, rested: Instant) -> Result<Option<SidecarMessage>, Status> {
    sleep_until(rested).await;
    up.message().await
}

async fn greeting(up: &mut Streaming<SidecarMessage>) -> Result<Hello, Status> {
    match up.message().await?.and_then(|message| message.message) {
        Some(Up::Hello(hello)) => Ok(hello),
        _ => Err(Status::invalid_argument("the first message is no Hello: send it first")),
    }
}

async fn send(down: &Outgoing, message: Down) -> Result<(), Status> {
    let message = OperatorMessage { message: Some(message) };
    match timeout(TAKEN, down.send(Ok(message))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Status::cancelled("the sidecar has gone")),
        Err(_) => Err(Status::deadline_exceeded("the sidecar takes no messages")),
    }
}

fn stopping() -> Status {
    Status::unavailable("the operator stops: come again")
}

fn refused(error: &AuthenticateError) -> Status {
    match error {
        AuthenticateError::Refused(refusal @ (Refusal::Unbound | Refusal::NotServiceAccount)) => {
            Status::permission_denied(refusal.to_string())
        }
        AuthenticateError::Refused(refusal) => Status::unauthenticated(refusal.to_string()),
        // What the API server said of itself is for our log, not for sidecars.
        AuthenticateError::Unavailable(_) | AuthenticateError::TimedOut => {
            tracing::warn!(%error, "a sidecar's token could not be reviewed");
            Status::unavailable("the API server cannot be asked about the token just now: come again")
        }
    }
}
