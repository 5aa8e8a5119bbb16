//! Retry: asks again while that may help and the mount's time is not up.
//!
//! Up to three attempts within one budget, with a growing pause and jitter between them. An attempt
//! that hangs is given up after half the budget, because a new connection often answers. What cannot
//! be helped by asking again (denied, changed, rejected) is passed on at once. The stream of a read
//! is not watched here: the reader resumes it, since only it knows how far it came.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio::time::{Instant, sleep, timeout};

use crate::entry::Pointer;
use crate::remote::observe::HealthRecord;
use crate::remote::{Body, Capabilities, ErrorKind, ListPage, ListRequest, Operation, Remote, RemoteError, Stat};

const ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Asks `inner` again while that may help.
pub struct Retry<R> {
    inner: R,
    budget: Duration,
    health: Arc<HealthRecord>,
}

impl<R: Remote> Retry<R> {
    /// Gives each question `budget`, all attempts and pauses included; one that takes longer shows in `health`.
    pub const fn new(inner: R, budget: Duration, health: Arc<HealthRecord>) -> Self {
        Self { inner, budget, health }
    }

    async fn run<T, F>(&self, operation: Operation, key: &str, attempt: impl Fn() -> F) -> Result<T, RemoteError>
    where
        F: Future<Output = Result<T, RemoteError>>,
    {
        let deadline = Instant::now() + self.budget;
        let timed_out = || {
            let message = format!("no answer within {} s", self.budget.as_secs_f32());
            RemoteError::new(ErrorKind::TimedOut, operation, key, message)
        };
        let mut last = None;
        for number in 0..ATTEMPTS {
            let left = deadline.saturating_duration_since(Instant::now());
            let patience = if number == 0 { self.budget / 2 } else { left };
            let error = match timeout(patience, attempt()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => {
                    let error = timed_out();
                    self.health.record(Some(&error));
                    error
                }
            };
            let pause = pause(number);
            if !error.kind.is_transient() || Instant::now() + pause >= deadline {
                return Err(error);
            }
            last = Some(error);
            if number + 1 < ATTEMPTS {
                sleep(pause).await;
            }
        }
        Err(last.unwrap_or_else(timed_out))
    }
}

#[async_trait]
impl<R: Remote> Remote for Retry<R> {
    async fn stat(&self, key: &str) -> Result<Option<Stat>, RemoteError> {
        self.run(Operation::Stat, key, || self.inner.stat(key)).await
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, RemoteError> {
        self.run(Operation::List, &request.prefix, || self.inner.list(request)).await
    }

    async fn read(&self, key: &str, range: Option<Range<u64>>, version: &Pointer) -> Result<Body, RemoteError> {
        self.run(Operation::Read, key, || self.inner.read(key, range.clone(), version)).await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

/// The pause after attempt `number`: doubling, with jitter so that many sidecars do not ask in step.
fn pause(number: u32) -> Duration {
    // The clock's low digits are jitter enough; no generator is worth a dependency here.
    let noise = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.subsec_nanos() % 1000);
    FIRST_PAUSE * 2u32.pow(number) * (500 + noise) / 1000
}
