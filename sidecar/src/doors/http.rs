//! The HTTP door: the SeaweedFS filer's forms.
//!
//! GET and HEAD of files with ranges and conditions (RFC 9110), directories as JSON or as a page,
//! `?metadata=true`, DELETE. A path is taken from the request byte for byte: percent-decoded once, never
//! resolved, so what names one key never reaches another (M2). [`super::connections`] accepts and
//! drains.

pub mod conditional;
pub mod delete;
pub mod directory;
pub mod error;
pub mod file;
pub mod metadata;
pub mod page;
pub mod range;
pub mod request;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::header::{ALLOW, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::doors::connections;
use crate::doors::http::error::Refusal;
use crate::doors::http::request::Asked;
use crate::filer::{Filer, FilerError, Want};
use crate::metrics::{HttpMetrics, Metrics};

/// What a response carries: bytes at hand, or bytes as they come.
pub type Body = Either<Full<Bytes>, StreamBody<BoxStream<'static, Result<Frame<Bytes>, FilerError>>>>;

/// What the door answers.
pub type Answer = Response<Body>;

/// A client that has not sent its headers by then is let go.
const HEADERS: Duration = Duration::from_secs(30);
/// What `Allow` says: writes are not served.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, DELETE, OPTIONS");

/// The HTTP door.
#[derive(Clone)]
pub struct HttpDoor {
    filer: Filer,
    metrics: Arc<HttpMetrics>,
}

impl HttpDoor {
    /// A door to `filer`.
    #[must_use]
    pub fn new(filer: Filer, metrics: &Metrics) -> Self {
        Self { filer, metrics: Arc::new(metrics.http()) }
    }

    /// Serves `listener` until `stop`, then finishes what is under way, for at most `drain`.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken, drain: Duration) {
        let mut server = hyper::server::conn::http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEADERS);
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

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let head = request.method() == Method::HEAD;
        let answer = match self.route(request).await {
            Ok(answer) => answer,
            Err(refusal) => refusal.answer(head),
        };
        self.metrics.count(answer.status().as_u16());
        answer
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Answer, Refusal> {
        if request.method() == Method::OPTIONS {
            let mut answer = empty(StatusCode::NO_CONTENT);
            answer.headers_mut().insert(ALLOW, METHODS);
            return Ok(answer);
        }
        if request.method() == Method::DELETE {
            return delete::answer(&self.filer, Asked::read(request.into_parts().0)?).await;
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return Err(Refusal::method(request.method(), request.uri().path(), METHODS));
        }
        // A body is not read: nothing that is served here has one.
        let asked = Asked::read(request.into_parts().0)?;
        if asked.directory {
            if !asked.metadata && !asked.head {
                return directory::answer(&self.filer, &asked).await;
            }
            let found = self.filer.lookup(&asked.path, Want::Directory).await?;
            return if asked.metadata { metadata::answer(&found) } else { Ok(directory::head(&asked, &found)) };
        }
        // Most answers need what a listing does not tell (R3); a plain GET learns it from the read.
        let plain = !asked.head && !asked.metadata && !conditional::present(&asked.headers);
        let want = if plain { Want::Any } else { Want::Described };
        let mut found = self.filer.lookup(&asked.path, want).await?;
        if plain && found.node.file.as_ref().is_some_and(|file| file.size() == 0) {
            found = self.filer.lookup(&asked.path, Want::Described).await?; // nothing is read of it
        }
        if asked.metadata {
            return metadata::answer(&found);
        }
        if found.node.file.is_none() && asked.head {
            return Ok(directory::head(&asked, &found));
        }
        if found.node.file.is_none() {
            return directory::answer(&self.filer, &asked).await;
        }
        match file::answer(&self.filer, &asked, &found).await {
            // Nothing was sent yet: the entry was old news. Ask again, and answer with what is there now.
            Err(FilerError::Changed { .. }) => {
                let found = self.filer.lookup(&asked.path, want).await?;
                Ok(file::answer(&self.filer, &asked, &found).await?)
            }
            other => Ok(other?),
        }
    }
}

/// An answer without a body.
fn empty(status: StatusCode) -> Answer {
    full(status, Bytes::new())
}

/// An answer with its body at hand.
fn full(status: StatusCode, body: Bytes) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(body)));
    *answer.status_mut() = status;
    answer
}
