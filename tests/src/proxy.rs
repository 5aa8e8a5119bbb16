//! An HTTP/1.1 reverse proxy in front of an S3 server: it counts requests and breaks them on demand.
//!
//! Forwards the raw path, query, Host header and body as they came, so that signatures still hold,
//! streams both ways and keeps connections alive on both sides. Owns the listening socket, what it
//! has seen ([`count`]) and the rules that break requests ([`faults`]). Header names reach the other
//! side in lower case; `Connection` and `Keep-Alive` are each side's own affair.
//!
//! Never retries a request that may have reached the server, never caches, never answers for the
//! server unless a rule says so: a server that cannot be reached looks like a cut connection.

mod connection;
pub mod count;
pub mod faults;
mod shaped_body;

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use connection::{Handle, Line};
use count::{Ledger, Operation, Seen};
use faults::{Action, Faults, Rule};
use shaped_body::{Plan, Stop, shape};

type AnswerBody = UnsyncBoxBody<Bytes, hyper::Error>;

/// A running proxy; it stops, cutting its connections, when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// What all connections of one proxy have in common.
#[derive(Debug)]
struct Shared {
    upstream: Authority,
    client: Client<HttpConnector, Incoming>,
    ledger: Ledger,
    faults: Faults,
    pace: Mutex<Pace>,
    connections: AtomicUsize,
    in_flight: AtomicUsize,
    peak_in_flight: AtomicUsize,
}

#[derive(Debug, Default, Clone, Copy)]
struct Pace {
    latency: Duration,
    bandwidth: Option<u64>,
}

impl Proxy {
    /// Listens on a free port of loopback and forwards to `upstream` (`http://host:port`).
    pub async fn start(upstream: &str) -> Result<Proxy> {
        let uri: Uri = upstream.parse().context("reading the upstream endpoint")?;
        if uri.scheme() != Some(&Scheme::HTTP) {
            bail!("the upstream is plain http: {upstream}");
        }
        let upstream = uri.authority().cloned().context("the upstream has no host")?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            // Sooner than the servers give up on an idle connection.
            .pool_idle_timeout(Duration::from_secs(10))
            .build(connector);
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listening")?;
        let address = listener.local_addr().context("asking for the own port")?;
        let shared = Arc::new(Shared {
            upstream,
            client,
            ledger: Ledger::default(),
            faults: Faults::default(),
            pace: Mutex::default(),
            connections: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            peak_in_flight: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Proxy { address, shared, accepting })
    }

    /// What clients are told: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The same as `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// All requests since the start or the last [`Proxy::reset`], in order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.ledger.all()
    }

    /// How many requests of one operation there were.
    pub fn count(&self, operation: Operation) -> usize {
        self.shared.ledger.count(|seen| seen.operation == operation)
    }

    /// How many requests of one operation named this key (for a List: this prefix).
    pub fn count_key(&self, operation: Operation, key: &str) -> usize {
        self.shared.ledger.count(|seen| seen.operation == operation && seen.key == key)
    }

    /// How many requests there were.
    pub fn total(&self) -> usize {
        self.shared.ledger.count(|_| true)
    }

    /// Waits until nothing is under way and nothing new comes: a lookup answers before its LIST does.
    pub async fn quiet(&self) {
        loop {
            let before = self.total();
            tokio::time::sleep(std::time::Duration::from_millis(60)).await;
            if self.total() == before && self.in_flight() == 0 {
                return;
            }
        }
    }

    /// Forgets all requests seen so far and the peak; the rules stay.
    pub fn reset(&self) {
        self.shared.ledger.clear();
        self.shared.peak_in_flight.store(self.in_flight(), Ordering::SeqCst);
    }

    /// How many requests are not wholly answered yet.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::SeqCst)
    }

    /// The most requests that were in flight at once since the last [`Proxy::reset`].
    pub fn peak_in_flight(&self) -> usize {
        self.shared.peak_in_flight.load(Ordering::SeqCst)
    }

    /// How many connections clients have opened since the start.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Adds a rule; of the rules that match a request the one added first acts.
    pub fn inject(&self, rule: Rule) {
        self.shared.faults.add(rule);
    }

    /// Removes all rules; a fault under way goes on.
    pub fn clear(&self) {
        self.shared.faults.clear();
    }

    /// Waits this long before each request is forwarded.
    pub fn set_latency(&self, latency: Duration) {
        self.shared.pace().latency = latency;
    }

    /// Bytes of response body per second and connection; takes effect at once.
    pub fn set_bandwidth(&self, bandwidth: Option<u64>) {
        self.shared.pace().bandwidth = bandwidth;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bandwidth(&self) -> Option<u64> {
        self.pace().bandwidth
    }
}

/// Counts one request as in flight for as long as it lives.
#[derive(Debug)]
struct InFlight(Arc<Shared>);

impl InFlight {
    fn new(shared: &Arc<Shared>) -> InFlight {
        let now = shared.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        shared.peak_in_flight.fetch_max(now, Ordering::SeqCst);
        InFlight(Arc::clone(shared))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // The set ends all connections when this task is aborted.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A client that gave up before it was accepted is its own affair.
                let Ok((stream, _)) = accepted else { continue };
                let _ = stream.set_nodelay(true);
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let handle = Arc::new(Handle::default());
                let line = Line::new(stream, Arc::clone(&handle));
                connections.spawn(serve(line, handle, Arc::clone(&shared)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one connection until it ends or a rule cuts it; leaving drops the socket.
async fn serve(line: Line, handle: Arc<Handle>, shared: Arc<Shared>) {
    let service = service_fn(|request| {
        let (handle, shared) = (Arc::clone(&handle), Arc::clone(&shared));
        async move { Ok::<_, Infallible>(answer(request, &handle, &shared).await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(line), service);
    tokio::select! {
        // Clients leave as they like, and a broken body ends here too: nothing to report.
        _ = connection => {}
        () = handle.cut() => {}
    }
}

async fn answer(request: Request<Incoming>, handle: &Arc<Handle>, shared: &Arc<Shared>) -> Response<AnswerBody> {
    let in_flight = InFlight::new(shared);
    let seen = Seen::of(&request);
    let (operation, key, conditional) = (seen.operation, seen.key.clone(), seen.if_match.is_some());
    let ticket = shared.ledger.record(seen);
    let mut plan = Plan::default();
    let mut stripped = None;
    let mut replaced = None;
    let mut lost = false;
    match shared.faults.take(operation, &key, conditional) {
        None => {}
        Some(Action::Status(status, code)) => {
            let refusal = refuse(request.method(), status, code.as_deref());
            shared.ledger.answered(ticket, refusal.status().as_u16());
            return refusal;
        }
        Some(Action::Reset) => return handle.reset().await,
        Some(Action::LoseAnswer) => lost = true,
        Some(Action::Hang(time)) => {
            tokio::time::sleep(time).await;
            return handle.close().await;
        }
        Some(Action::Delay(time)) => tokio::time::sleep(time).await,
        Some(Action::BreakBodyAfter(bytes)) => plan.stop = Some((bytes, Stop::Break)),
        Some(Action::PauseBodyAfter(bytes, go_on)) => {
            plan.stop = Some((bytes, Stop::Pause(go_on)));
        }
        Some(Action::StripHeader(name)) => stripped = Some(name),
        Some(Action::ReplaceBody(body)) => replaced = Some(body),
        Some(Action::Later(time)) => {
            let shared = Arc::clone(shared);
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                // Nobody waits for the answer.
                let _ = forward(request, &shared).await;
            });
            return handle.reset().await;
        }
    }
    let latency = shared.pace().latency;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let Ok(mut response) = forward(request, shared).await else {
        return handle.close().await;
    };
    if lost {
        // To its end: a server may begin to answer before it is done.
        let _ = response.into_body().collect().await;
        return handle.reset().await;
    }
    shared.ledger.answered(ticket, response.status().as_u16());
    if let Some(body) = replaced {
        let status = response.status();
        // To its end: a server may begin to answer before it is done.
        let _ = response.into_body().collect().await;
        return xml(status, body);
    }
    if let Some(name) = stripped {
        response.headers_mut().remove(name.as_str());
    }
    response.map(|body| {
        if body.is_end_stream() { empty() } else { shape(body, plan, Arc::clone(handle), in_flight).boxed_unsync() }
    })
}

async fn forward(request: Request<Incoming>, shared: &Shared) -> Result<Response<Incoming>> {
    let (mut head, body) = request.into_parts();
    let target = head.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(shared.upstream.clone());
    uri.path_and_query = Some(target);
    head.uri = Uri::from_parts(uri).context("making the upstream URI")?;
    head.version = Version::HTTP_11;
    strip_connection_headers(&mut head.headers);
    // Without one the client library would name the upstream: not what the client sent.
    if !head.headers.contains_key(HOST) {
        bail!("a request without Host");
    }
    let mut response = shared.client.request(Request::from_parts(head, body)).await.context("asking the upstream")?;
    // An HTTP/1.0 answer is framed anew: this side's connection stays.
    *response.version_mut() = Version::HTTP_11;
    strip_connection_headers(response.headers_mut());
    Ok(response)
}

fn strip_connection_headers(headers: &mut http::HeaderMap) {
    headers.remove(CONNECTION);
    headers.remove(HeaderName::from_static("keep-alive"));
}

/// An answer of the proxy's own, worded as S3 words its errors.
fn refuse(method: &Method, status: u16, code: Option<&str>) -> Response<AnswerBody> {
    let body = match code {
        Some(code) if method != Method::HEAD => format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
             <Message>A fault the test asked for.</Message><RequestId>0</RequestId></Error>"
        ),
        _ => String::new(),
    };
    xml(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body)
}

fn xml(status: StatusCode, body: String) -> Response<AnswerBody> {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    if !body.is_empty() {
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, body.len().into());
        headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/xml"));
        *response.body_mut() =
            http_body_util::Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
    }
    response
}

fn empty() -> AnswerBody {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}

impl Handle {
    /// Ends the connection with an RST; never returns, because its caller goes with it.
    async fn reset<T>(&self) -> T {
        self.ask_for_reset();
        pending().await
    }

    /// Ends the connection with a FIN; never returns, because its caller goes with it.
    async fn close<T>(&self) -> T {
        self.ask_for_close();
        pending().await
    }
}
