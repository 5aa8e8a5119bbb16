//! Tenure: how long this replica may act as the leader, by its own steady clock.
//!
//! It counts from the moment before the last write of the lease that succeeded was begun: the API server
//! cannot have taken the lease for renewed earlier. [`Tenure::over`] comes [`MARGIN`] before another
//! replica may take it, whatever is under way, and from then on the leader's client sends no write any
//! more, even of a process that was stopped for a while and does not know yet what time it is.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tokio::sync::watch;
use tokio::time::Instant;
use tower::{BoxError, Layer, Service};

use super::DURATION;

/// A write that is sent may take so long until it is carried out.
const MARGIN: Duration = Duration::from_secs(1);
/// So long after it began to renew the lease, a replica may send writes.
const GOOD: Duration = Duration::from_secs(DURATION).saturating_sub(MARGIN);

/// How long this replica may lead.
#[derive(Clone, Debug)]
pub struct Tenure {
    renewed: Arc<watch::Sender<Option<Instant>>>,
}

/// The lease may be another's: nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("the lease has run out: nothing is written any more")]
struct Over;

impl Default for Tenure {
    fn default() -> Self {
        Self { renewed: Arc::new(watch::channel(None).0) }
    }
}

impl Tenure {
    /// A client whose writes renew the tenure: the lease's own.
    ///
    /// # Errors
    /// When none can be made.
    pub fn renewing(&self, config: Config) -> kube::Result<Client> {
        Ok(ClientBuilder::try_from(config)?.with_layer(&Within { tenure: self.clone(), renews: true }).build())
    }

    /// A client that writes only while the tenure lasts: the leader's.
    ///
    /// # Errors
    /// When none can be made.
    pub fn within(&self, config: Config) -> kube::Result<Client> {
        Ok(ClientBuilder::try_from(config)?.with_layer(&Within { tenure: self.clone(), renews: false }).build())
    }

    /// Returns once the tenure that has begun is over.
    pub async fn over(&self) {
        let mut renewed = self.renewed.subscribe();
        loop {
            let until = renewed.borrow_and_update().map(|renewed| renewed + GOOD);
            match until {
                Some(until) if until <= Instant::now() => return,
                Some(until) => {
                    let _ = tokio::time::timeout_at(until, renewed.changed()).await;
                }
                None => {
                    let _ = renewed.changed().await;
                }
            }
        }
    }

    fn lasts(&self) -> bool {
        self.renewed.borrow().is_some_and(|renewed| renewed.elapsed() < GOOD)
    }

    fn renew(&self, began: Instant) {
        self.renewed.send_modify(|renewed| *renewed = (*renewed).max(Some(began)));
    }
}

/// Puts the tenure between a client and its connection.
struct Within {
    tenure: Tenure,
    renews: bool,
}

struct Bound<S> {
    tenure: Tenure,
    renews: bool,
    inner: S,
}

impl<S> Layer<S> for Within {
    type Service = Bound<S>;

    fn layer(&self, inner: S) -> Bound<S> {
        Bound { tenure: self.tenure.clone(), renews: self.renews, inner }
    }
}

impl<S, B> Service<Request<Body>> for Bound<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let began = Instant::now();
        let writes = request.method() != Method::GET;
        if writes && !self.renews && !self.tenure.lasts() {
            return Box::pin(async { Err(Over.into()) });
        }
        let renews = (writes && self.renews).then(|| self.tenure.clone());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await.map_err(Into::into)?;
            if let Some(tenure) = renews.filter(|_| answer.status().is_success()) {
                tenure.renew(began);
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{Ready, ready};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::StatusCode;

    use super::*;

    /// Answers so, and counts what comes through.
    #[derive(Clone)]
    struct Server(StatusCode, Arc<AtomicUsize>);

    impl Service<Request<Body>> for Server {
        type Response = Response<()>;
        type Error = Infallible;
        type Future = Ready<Result<Response<()>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            self.1.fetch_add(1, Ordering::Relaxed);
            let mut answer = Response::new(());
            *answer.status_mut() = self.0;
            ready(Ok(answer))
        }
    }

    /// Sends a request through the layer; answers whether it went well, and whether it was sent at all.
    async fn send(tenure: &Tenure, renews: bool, method: Method, answer: StatusCode) -> (bool, bool) {
        let sent = Arc::default();
        let layer = Within { tenure: tenure.clone(), renews };
        let mut bound = layer.layer(Server(answer, Arc::clone(&sent)));
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method;
        let answered = bound.call(request).await;
        if let Err(error) = &answered {
            assert!(error.is::<Over>(), "{error}");
        }
        (answered.is_ok(), sent.load(Ordering::Relaxed) > 0)
    }

    #[tokio::test]
    async fn no_write_is_sent_before_the_lease_is_had_and_after_it_has_run_out() {
        let (tenure, ok) = (Tenure::default(), StatusCode::OK);
        for method in [Method::PUT, Method::POST, Method::PATCH, Method::DELETE] {
            assert_eq!(send(&tenure, false, method.clone(), ok).await, (false, false), "{method}");
        }
        assert_eq!(send(&tenure, false, Method::GET, ok).await, (true, true));
        // Only a write of the lease that succeeds is worth something.
        for (method, answer) in [(Method::PUT, StatusCode::CONFLICT), (Method::GET, ok)] {
            assert_eq!(send(&tenure, true, method.clone(), answer).await, (true, true), "{method}");
            assert!(!tenure.lasts(), "{method} {answer}");
        }
        assert_eq!(send(&tenure, true, Method::PUT, ok).await, (true, true));
        assert_eq!(send(&tenure, false, Method::PATCH, ok).await, (true, true));
        let ran_out = Tenure::default();
        ran_out.renew(Instant::now() - GOOD);
        assert_eq!(send(&ran_out, false, Method::PATCH, ok).await, (false, false));
        assert_eq!(send(&ran_out, true, Method::PUT, ok).await, (true, true), "the lease can be had again");
        assert_eq!(send(&ran_out, false, Method::PATCH, ok).await, (true, true));
    }

    #[test]
    fn it_counts_from_before_the_attempt_and_ends_before_another_may_lead() {
        let (tenure, start) = (Tenure::default(), Instant::now());
        assert!(!tenure.lasts(), "nothing is written before the lease is had");
        tenure.renew(start);
        assert!(tenure.lasts());
        tenure.renew(start - Duration::from_secs(3));
        assert_eq!(*tenure.renewed.borrow(), Some(start), "an answer that comes late renews nothing");
        let late = Tenure::default();
        late.renew(start - GOOD);
        assert!(!late.lasts() && GOOD < Duration::from_secs(DURATION));
    }

    #[tokio::test]
    async fn whoever_waits_for_its_end_is_told() {
        let tenure = Tenure::default();
        tenure.renew(Instant::now() - GOOD);
        tenure.over().await;
    }
}
